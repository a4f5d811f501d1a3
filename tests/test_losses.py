"""Losses as objects; the values of the kernels are tested elsewhere."""

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


def test_options_reach_the_function():
    weight = np.arange(1, 6, dtype=np.float32)
    loss_fn = fnn.CrossEntropyLoss(weight, ignore_index=2, reduction="sum", label_smoothing=0.1)
    want, dlogits = F.softmax_cross_entropy(LOGITS, LABELS, weight, 2, "sum", 0.1)
    assert loss_fn(LOGITS, LABELS) == want
    np.testing.assert_array_equal(loss_fn.backward(), dlogits)
    loss_fn = fnn.NLLLoss(weight, 2, "none")
    want, dlogits = F.nll_loss(LOGITS, LABELS, weight, 2, "none")
    np.testing.assert_array_equal(loss_fn(LOGITS, LABELS), want)
    np.testing.assert_array_equal(loss_fn.backward(), dlogits)


def test_backward_is_multiplied_by_the_gradient_of_the_loss():
    loss_fn = fnn.CrossEntropyLoss(reduction="none")
    loss = loss_fn(LOGITS, LABELS)
    assert loss.shape == (7,)
    factor = np.arange(7, dtype=np.float32)
    with pytest.raises(ValueError, match=r"dloss: expected shape \(7,\)"):
        loss_fn.backward(factor[:5])
    dlogits = F.softmax_cross_entropy(LOGITS, LABELS, reduction="none")[1]
    np.testing.assert_array_equal(loss_fn.backward(factor), dlogits * factor[:, None])
    loss_fn(LOGITS, LABELS)
    np.testing.assert_array_equal(loss_fn.backward(2.0), dlogits * 2)


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="reduction"):
        fnn.NLLLoss(reduction="average")
    with pytest.raises(ValueError, match="label_smoothing"):
        fnn.CrossEntropyLoss(label_smoothing=1.5)


def test_a_loss_of_your_own():
    class Absolute(fnn.Loss):
        def _loss(self, input, target):
            return abs(input - target).sum(), np.sign(input - target)

    loss_fn = Absolute()
    assert loss_fn(np.array([1.0, 5.0]), np.array([2.0, 2.0])) == 4
    np.testing.assert_array_equal(loss_fn.backward(), [-1, 1])
    assert repr(loss_fn) == "Absolute()" and repr(fnn.NLLLoss(reduction="sum")) == "NLLLoss(reduction='sum')"
