"""Softmax and the losses of classes against torch (golden/make_softmax.py); layers; labels that are ignored."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
import fastnn.functional as F
from fastnn import reference

GOLDEN = np.load(Path(__file__).parent / "golden" / "softmax.npz")
LOSSES = [key for key in GOLDEN.files if key.startswith(("cross_entropy", "nll_loss"))]
NAMESPACES = pytest.mark.parametrize("namespace", [F, reference], ids=["kernels", "reference"])


@NAMESPACES
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax_is_that_of_torch(namespace: Any, name: str, axis: int) -> None:
    for given in (axis, axis - 3):
        y = getattr(namespace, name)(GOLDEN["x"], given)
        dx = getattr(namespace, f"{name}_backward")(GOLDEN["dy"], y, axis=given)
        np.testing.assert_allclose(y, GOLDEN[f"{name}/{axis}"], rtol=1e-14, atol=1e-15)
        np.testing.assert_allclose(dx, GOLDEN[f"d{name}/{axis}"], rtol=1e-13, atol=1e-15)


@NAMESPACES
@pytest.mark.parametrize("case", LOSSES)
def test_losses_are_those_of_torch(namespace: Any, case: str) -> None:
    name, targets, weighted, ignored, smoothing, reduction = case.split("/")
    options: dict[str, Any] = {"label_smoothing": float(smoothing)} if name == "cross_entropy" else {}
    loss, gradient = getattr(namespace, {"cross_entropy": "softmax_cross_entropy"}.get(name, name))(
        GOLDEN["x"],
        GOLDEN[targets],
        GOLDEN["weight"] if weighted == "True" else None,
        int(ignored),
        reduction=reduction,
        **options,
    )
    np.testing.assert_allclose(loss, GOLDEN[case], rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(gradient, GOLDEN[f"d{case}"], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_axis_gives_the_same_bits(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    for shape in ((5, 3, 40), (70, 7, 2), (2, 130, 17), (1, 4100, 3)):
        x, dy = rng.normal(0, 3, (2, *shape)).astype(dtype)
        for name in ("softmax", "log_softmax"):
            y = getattr(F, name)(x, 1)
            dx = getattr(F, f"{name}_backward")(dy, y, 1)
            last = [np.ascontiguousarray(np.moveaxis(array, 1, -1)) for array in (x, dy, y)]
            assert np.array_equal(np.moveaxis(y, 1, -1), getattr(F, name)(last[0]))
            assert np.array_equal(np.moveaxis(dx, 1, -1), getattr(F, f"{name}_backward")(last[1], last[2]))


@pytest.mark.parametrize("shape", [(40, 10), (6, 200), (3, 5, 20), (20, 5, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ignored_rows_are_exactly_zero_whatever_their_logits(shape: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal(shape).astype(dtype)
    labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    ignored = rng.random(labels.shape) < 0.3
    labels[ignored] = 255
    broken = np.where(ignored[:, None], dtype(np.nan), logits)
    for name, options in product(("softmax_cross_entropy", "nll_loss"), ({}, {"label_smoothing": 0.1})):
        if options and name == "nll_loss":
            continue
        loss, gradient = getattr(F, name)(broken, labels, None, 255, reduction="none", **options)
        want = getattr(F, name)(logits, labels, None, 255, reduction="none", **options)
        assert np.array_equal(loss, want[0]) and np.array_equal(gradient, want[1])
        assert (loss[ignored] == 0).all() and (np.moveaxis(gradient, 1, -1)[ignored] == 0).all()
        mean, _ = getattr(F, name)(broken, labels, None, 255, **options)
        assert mean == pytest.approx(loss[~ignored].mean(dtype=np.float64), rel=1e-6)


def test_all_rows_ignored() -> None:
    logits, labels = np.ones((3, 4)), np.full(3, -100)
    for f in (F.softmax_cross_entropy, F.nll_loss, reference.softmax_cross_entropy, reference.nll_loss):
        loss, gradient = f(logits, labels)
        assert np.isnan(loss) and (gradient == 0).all()  # as torch
        assert f(logits, labels, reduction="sum")[0] == 0


def test_a_label_that_is_ignored_may_be_a_class() -> None:
    logits = np.random.default_rng(0).standard_normal((6, 3))
    labels = np.array([0, 1, 2, 0, 1, 2])
    loss, gradient = F.softmax_cross_entropy(logits, labels, ignore_index=1)
    want, rest = F.softmax_cross_entropy(logits[labels != 1], labels[labels != 1])
    assert loss == pytest.approx(want) and (gradient[labels == 1] == 0).all()
    np.testing.assert_allclose(gradient[labels != 1], rest)


def test_one_hot_probabilities_are_labels() -> None:
    rng = np.random.default_rng(0)
    logits, labels, weight = rng.standard_normal((9, 5)), rng.integers(0, 5, 9), rng.uniform(1, 2, 5)
    for reduction in ("sum", "none"):
        a = F.softmax_cross_entropy(logits, labels, weight, label_smoothing=0.2, reduction=reduction)
        b = F.softmax_cross_entropy(logits, np.eye(5)[labels], weight, label_smoothing=0.2, reduction=reduction)
        np.testing.assert_allclose(a[0], b[0], rtol=1e-13)
        np.testing.assert_allclose(a[1], b[1], rtol=1e-13, atol=1e-15)


def test_layers_in_a_network() -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    net, loss_fn = fnn.Sequential(fnn.LogSoftmax()), fnn.NLLLoss()
    loss = loss_fn(net(x), labels)
    want, dx = F.softmax_cross_entropy(x, labels)
    assert loss == pytest.approx(want)
    np.testing.assert_allclose(net.backward(loss_fn.backward()), dx, atol=1e-15)
    layer = fnn.Softmax(axis=0)
    assert repr(layer) == "Softmax(axis=0)" and repr(fnn.LogSoftmax()) == "LogSoftmax()"
    y, saved = layer.forward(x)
    assert saved is y and np.array_equal(y, F.softmax(x, 0)) and np.array_equal(layer.predict(x), y)
    np.testing.assert_array_equal(layer.backward(x, saved), F.softmax_backward(x, y, 0))
