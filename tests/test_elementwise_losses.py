"""Losses of regression, of attributes and of support vector machines: against torch (golden/make_losses.py), at special
values, and as objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
import fastnn.functional as F
from fastnn import reference

GOLDEN = np.load(Path(__file__).with_name("golden") / "losses.npz")
NAN, INF = np.nan, np.inf
REGRESSION: dict[str, dict[str, float]] = {
    "mse_loss": {},
    "l1_loss": {},
    "smooth_l1_loss": {"beta": 0.75},
    "huber_loss": {"delta": 1.25},
}
POS_WEIGHT = np.array([0.0, 0.5, 1.0, 3.0])
HINGE: dict[str, dict[str, Any]] = {
    "p1": {"p": 1},
    "p2": {"p": 2, "margin": 0.5},
    "weight": {"weight": np.array([0.5, 1.0, 2.0, 0.0, 1.5])},
}
NAMESPACES = pytest.mark.parametrize("namespace", [F, reference], ids=["functional", "reference"])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)


def assert_golden(got: tuple[Any, Any], name: str) -> None:
    np.testing.assert_allclose(got[0], GOLDEN[f"{name}.loss"], rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(got[1], GOLDEN[f"{name}.dx"], rtol=1e-13, atol=4e-15)


@NAMESPACES
@pytest.mark.parametrize("name", REGRESSION)
def test_regression_losses_of_torch(name: str, namespace: Any) -> None:
    loss_of = getattr(namespace, name)
    assert_golden(loss_of(GOLDEN["x"], GOLDEN["target"], "none", **REGRESSION[name]), name)


@NAMESPACES
@pytest.mark.filterwarnings("ignore:.*(invalid value|overflow).*:RuntimeWarning")
@pytest.mark.parametrize("name", REGRESSION)
def test_regression_losses_of_torch_at_special_values(name: str, namespace: Any) -> None:
    x, target = GOLDEN["special"]
    loss, dx = getattr(namespace, name)(x, target, "none", **REGRESSION[name])
    np.testing.assert_allclose(loss, GOLDEN[f"{name}.special.loss"], rtol=1e-15)
    wanted = GOLDEN[f"{name}.special.dx"].copy()
    if name == "l1_loss":  # torch gives 0 where the loss is NaN
        wanted[np.isnan(loss)] = NAN
    np.testing.assert_allclose(dx, wanted, rtol=1e-15)


@DTYPES
@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (5, 1), (1, 7), (7,), (3, 1, 1), (3, 1, 7), (3, 5, 1), (3, 5, 7)])
def test_weights_broadcast(shape: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    x, target, out = (rng.standard_normal((3, 5, 7)).astype(dtype) for _ in range(3))
    given = np.asarray(0.5 + rng.random(shape), dtype)
    whole = np.broadcast_to(given, x.shape).copy()
    for name in ("weight", "pos_weight"):
        for reduction in ("mean", "none"):
            got = F.binary_cross_entropy_with_logits(x, target, reduction=reduction, **{name: given})
            want = F.binary_cross_entropy_with_logits(x, target, reduction=reduction, **{name: whole})
            assert np.array_equal(got[0], want[0]) and np.array_equal(got[1], want[1])
        with pytest.raises(ValueError, match="out: expected memory of its own"):
            part = np.broadcast_to(out[..., :1], x.shape)  # a copy of what `out` writes
            F.binary_cross_entropy_with_logits(x, target, out=out, **{name: part})


@pytest.mark.parametrize("shape", [(2,), (5, 7, 1), (3, 5, 2), (1, 3, 5, 7), (0,), (1, 1, 1, 1)])
def test_weights_that_do_not_broadcast(shape: tuple[int, ...]) -> None:
    x = np.zeros((3, 5, 7))
    with pytest.raises(ValueError, match=r"pos_weight: expected a shape that broadcasts to \(3, 5, 7\), got \("):
        F.binary_cross_entropy_with_logits(x, x, pos_weight=np.ones(shape))


@NAMESPACES
def test_binary_cross_entropy_of_torch(namespace: Any) -> None:
    loss_of, arguments = namespace.binary_cross_entropy_with_logits, (GOLDEN["logits"], GOLDEN["labels"])
    assert_golden(loss_of(*arguments, reduction="none"), "bce")
    assert_golden(loss_of(*arguments, reduction="none", pos_weight=POS_WEIGHT), "bce_weighted")


@NAMESPACES
@pytest.mark.parametrize("name", HINGE)
def test_multi_margin_loss_of_torch(name: str, namespace: Any) -> None:
    scores, labels = GOLDEN["scores"], GOLDEN["classes"]
    got = namespace.hinge_loss(scores, labels, **HINGE[name], reduction="none", over_classes="mean")
    assert_golden(got, f"hinge_{name}")
    loss, dscores = namespace.hinge_loss(scores, labels, **HINGE[name], reduction="none")
    np.testing.assert_allclose(loss, 5 * got[0], rtol=1e-14)
    np.testing.assert_allclose(dscores, 5 * got[1], rtol=1e-14)


@NAMESPACES
@DTYPES
@pytest.mark.filterwarnings("ignore:.*(invalid value|overflow).*:RuntimeWarning")
def test_binary_cross_entropy_far_out(dtype: Any, namespace: Any) -> None:
    """The limits, where right answers cost nothing, and no loss of digits before."""
    x = np.array([INF, -INF, INF, -INF, NAN, 1e30, -1e30, 40, -40], dtype)
    target = np.array([1, 0, 0, 1, 1, 1, 1, 1, 0], dtype)
    loss, dx = namespace.binary_cross_entropy_with_logits(x, target, reduction="none")
    tail = np.exp(-40.0)
    np.testing.assert_allclose(loss, np.array([0, 0, INF, INF, NAN, 0, 1e30, tail, tail], dtype), rtol=1e-6)
    np.testing.assert_allclose(dx, np.array([0, 0, 1, -1, NAN, 0, -1, -tail, tail], dtype), rtol=1e-6)


@NAMESPACES
def test_nan_goes_through_the_hinge(namespace: Any) -> None:
    scores = np.zeros((3, 40))
    scores[1, 7] = NAN
    for columns in (10, 40):
        for p in (1, 2):
            loss, dscores = namespace.hinge_loss(scores[:, :columns].copy(), np.zeros(3, int), p, reduction="none")
            assert np.isnan(loss).tolist() == [False, True, False]
            assert np.isnan(dscores[1, [0, 7]]).all() and np.isfinite(dscores[[0, 2]]).all()


def test_scores_of_a_new_network_cost_one_per_wrong_class() -> None:
    for classes in (10, 100):
        scores, labels = np.zeros((7, classes), np.float32), np.arange(7)
        assert F.hinge_loss(scores, labels)[0] == classes - 1
        assert F.hinge_loss(scores, labels, over_classes="mean")[0] == pytest.approx((classes - 1) / classes)


@pytest.mark.parametrize("name", [*REGRESSION, "binary_cross_entropy_with_logits"])
def test_reductions_agree(name: str) -> None:
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(2, 70, 65)).astype(np.float32)
    losses, gradient = getattr(F, name)(x, target, reduction="none")
    total, summed = getattr(F, name)(x, target, reduction="sum")
    mean, averaged = getattr(F, name)(x, target)
    assert losses.shape == x.shape and total == pytest.approx(losses.sum(dtype=float), rel=1e-12)
    assert mean == total / x.size
    assert np.array_equal(gradient, summed)
    np.testing.assert_allclose(averaged * x.size, gradient, rtol=1e-6)


def test_losses_of_nothing() -> None:
    empty = np.zeros((0, 4), np.float32)
    for loss_of in (F.mse_loss, F.binary_cross_entropy_with_logits):
        assert np.isnan(loss_of(empty, empty)[0]) and loss_of(empty, empty, reduction="sum")[0] == 0
        assert loss_of(empty, empty, reduction="none")[0].shape == (0, 4)
    assert np.isnan(F.hinge_loss(empty, np.zeros(0, int))[0])


def test_gradient_in_place_of_the_target() -> None:
    x, target = np.random.default_rng(0).normal(size=(2, 5000))
    want = F.huber_loss(x, target)[1]
    assert F.huber_loss(x, target, out=target)[1] is target
    assert np.array_equal(target, want)


def test_no_beta_is_l1() -> None:
    x, target = GOLDEN["x"], GOLDEN["target"]
    for got, want in zip(F.smooth_l1_loss(x, target, beta=0.0), F.l1_loss(x, target), strict=True):
        assert np.array_equal(got, want)


LOSSES: list[tuple[Any, Any]] = [
    (fnn.MSELoss("sum"), lambda x, t: F.mse_loss(x, t, "sum")),
    (fnn.L1Loss(), F.l1_loss),
    (fnn.SmoothL1Loss(beta=0.5), lambda x, t: F.smooth_l1_loss(x, t, beta=0.5)),
    (fnn.HuberLoss("none", 2.0), lambda x, t: F.huber_loss(x, t, "none", 2.0)),
    (
        fnn.BCEWithLogitsLoss(pos_weight=POS_WEIGHT),
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, pos_weight=POS_WEIGHT),
    ),
]


@pytest.mark.parametrize(("loss_fn", "function"), LOSSES, ids=lambda value: type(value).__name__)
def test_objects_are_the_functions_in_two_calls(loss_fn: Any, function: Any) -> None:
    x, target = GOLDEN["logits"], GOLDEN["labels"]
    for got, want in zip(loss_fn.forward(x, target), function(x, target), strict=True):
        assert np.array_equal(got, want)
    assert np.array_equal(loss_fn(x, target), function(x, target)[0])
    assert np.array_equal(loss_fn.backward(), function(x, target)[1])
    with pytest.raises(RuntimeError, match="loss_fn"):
        loss_fn.backward()


def test_hinge_object() -> None:
    weight = np.array([0.5, 1.0, 2.0, 0.0, 1.5])
    loss_fn = fnn.HingeLoss(2, 0.5, weight, "sum", over_classes="mean")
    loss = loss_fn(GOLDEN["scores"], GOLDEN["classes"])
    want = F.hinge_loss(GOLDEN["scores"], GOLDEN["classes"], 2, 0.5, weight, "sum", over_classes="mean")
    assert loss == want[0] and np.array_equal(loss_fn.backward(), want[1])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: fnn.MSELoss("average"), "reduction: expected .*'sum'"),
        (lambda: fnn.SmoothL1Loss(beta=-1.0), "beta: expected"),
        (lambda: fnn.HuberLoss(delta=0.0), "delta: expected"),
        (lambda: fnn.HingeLoss(p=3), "p: expected 1 or 2"),
        (lambda: fnn.HingeLoss(over_classes="max"), "over_classes: expected 'sum'"),
    ],
)
def test_objects_refuse_bad_arguments(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()
