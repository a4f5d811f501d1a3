"""CrossEntropyLoss as an object; the values of the kernel are tested elsewhere."""

import math

import numpy as np
import pytest

import fastnn as fnn
import fastnn.functional as F
from fastnn import reference

LOGITS = np.random.default_rng(0).normal(0, 3, (7, 5)).astype(np.float32)
LABELS = np.array([0, 4, 2, 2, 1, 3, 0])


def test_is_the_function_in_two_calls():
    loss_fn = fnn.CrossEntropyLoss()
    loss, dlogits = F.softmax_cross_entropy(LOGITS, LABELS)
    assert loss_fn(LOGITS, LABELS) == loss
    np.testing.assert_array_equal(loss_fn.backward(), dlogits)


def test_uniform_logits_cost_log_of_classes():
    loss_fn = fnn.CrossEntropyLoss()
    assert loss_fn(np.zeros((3, 10)), np.array([1, 2, 3], np.uint8)) == pytest.approx(math.log(10))
    assert loss_fn.backward()[0, 1] == pytest.approx((0.1 - 1) / 3)


def test_logits_are_left_alone():
    logits = LOGITS.copy()
    loss_fn = fnn.CrossEntropyLoss()
    loss_fn(logits, LABELS)
    loss_fn.backward()
    np.testing.assert_array_equal(logits, LOGITS)


def test_backward_needs_a_loss_each_time():
    loss_fn = fnn.CrossEntropyLoss()
    with pytest.raises(RuntimeError, match="loss_fn"):
        loss_fn.backward()
    loss_fn(LOGITS, LABELS)
    loss_fn.backward()
    with pytest.raises(RuntimeError, match="loss_fn"):
        loss_fn.backward()


def test_a_failed_loss_leaves_no_gradient_of_an_older_one():
    loss_fn = fnn.CrossEntropyLoss()
    loss_fn(LOGITS, LABELS)
    with pytest.raises(ValueError, match="label"):
        loss_fn(LOGITS, LABELS + 1)
    with pytest.raises(RuntimeError):
        loss_fn.backward()


def test_runs_on_the_reference():
    loss_fn = fnn.CrossEntropyLoss()
    with fnn.use_reference():
        loss = loss_fn(LOGITS, LABELS)
    assert loss == reference.softmax_cross_entropy(LOGITS, LABELS)[0]
