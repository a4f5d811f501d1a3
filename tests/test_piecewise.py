"""PReLU and maxout: torch's values, what is equal or not a number, where the channels are, and the layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
import fastnn.functional as F
from fastnn import _core, reference

GOLDEN = np.load(Path(__file__).with_name("golden") / "piecewise.npz")
NAMESPACES = pytest.mark.parametrize("namespace", [F, reference], ids=["functional", "reference"])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)


def random(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@NAMESPACES
@pytest.mark.parametrize("name", ["one", "each"])
def test_prelu_of_torch(name: str, namespace: Any) -> None:
    x, dy, weight = GOLDEN["x"], GOLDEN["dy"], GOLDEN[f"{name}.weight"]
    dx, dweight = namespace.prelu_backward(dy, x, weight)
    np.testing.assert_array_equal(namespace.prelu(x, weight), GOLDEN[f"{name}.y"])
    np.testing.assert_array_equal(dx, GOLDEN[f"{name}.dx"])
    np.testing.assert_allclose(dweight, GOLDEN[f"{name}.dweight"], rtol=1e-14)
    assert np.isnan(dweight[0])


@NAMESPACES
def test_maxout_of_torch(namespace: Any) -> None:
    y, saved = namespace.maxout(GOLDEN["x"], 3)
    np.testing.assert_array_equal(y, GOLDEN["maxout.y"])
    np.testing.assert_array_equal(namespace.maxout_backward(GOLDEN["dy"][:, :4].copy(), saved), GOLDEN["maxout.dx"])


@DTYPES
@pytest.mark.parametrize("inner", [1, 3, 40])
@pytest.mark.parametrize("pieces", [1, 2, 3, 4, 7, 256])
def test_maxout_of_equals_and_nan(pieces: int, inner: int, dtype: Any) -> None:
    """The first of equals is taken, and NaN before all others."""
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 1.0, -1.0], dtype)
    x = np.random.default_rng(pieces).choice(values, (11, 5 * pieces, inner))
    y, saved = F.maxout(x, pieces)
    want, wide = reference.maxout(x, pieces)
    assert np.array_equal(y, want, equal_nan=True)
    assert np.array_equal(np.signbit(y) & (y == 0), np.signbit(want) & (want == 0))
    dy = random(*y.shape, dtype=dtype)
    assert np.array_equal(F.maxout_backward(dy, saved), reference.maxout_backward(dy, wide))
    assert saved.nbytes == y.size


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_maxout_along_any_axis(axis: int) -> None:
    x = random(6, 12, 18)
    y, saved = F.maxout(x, 3, axis)
    moved = np.moveaxis(x, axis, -1)
    assert np.array_equal(np.moveaxis(y, axis, -1), moved.reshape(*moved.shape[:-1], -1, 3).max(-1))
    assert np.array_equal(F.maxout_backward(y, saved), np.where(np.repeat(y, 3, axis) == x, x, np.float32(0)))


def test_channels_are_consecutive() -> None:
    y, saved = F.maxout(np.array([[1.0, 2.0, 4.0, 3.0]]), 2)
    assert y.tolist() == [[2, 4]] and F.maxout_backward(y, saved).tolist() == [[0, 2, 4, 0]]


def test_large_places_come_from_the_allocator() -> None:
    x = random(64, 4096)
    fnn.empty_cache()
    before = _core.cache_stats()["in_use"]
    y, saved = F.maxout(x, 2)
    assert _core.cache_stats()["in_use"] - before >= y.nbytes + y.size
    del y, saved
    assert _core.cache_stats()["in_use"] == before


def test_one_slope_takes_any_shape() -> None:
    weight = np.array([0.5])
    for shape in ((), (0,), (4,), (2, 3)):
        x = np.full(shape, -2.0)
        dx, dweight = F.prelu_backward(np.ones(shape), x, weight)
        assert np.array_equal(F.prelu(x, weight), x / 2) and np.array_equal(dx, np.full(shape, 0.5))
        assert dweight.tolist() == [x.sum()]


def test_planes_without_elements_leave_no_gradient() -> None:
    x = np.ones((2, 3, 0))
    dx, dweight = F.prelu_backward(x, x, np.ones(3))
    assert dx.shape == x.shape and dweight.tolist() == [0, 0, 0]


@pytest.mark.parametrize("channel_axis", [1, -1])
def test_prelu_may_work_in_place_of_its_input(channel_axis: int) -> None:
    x, dy = random(40, 17, 33), random(40, 17, 33, seed=1)
    weight = random((17, 33)[channel_axis == -1])
    want = F.prelu_backward(dy, x, weight, channel_axis=channel_axis)
    target = x.copy()
    dx, dweight = F.prelu_backward(dy, target, weight, channel_axis=channel_axis, out=target)
    assert dx is target and np.array_equal(dx, want[0]) and np.array_equal(dweight, want[1])


# ---------------------------------------------------------------------------------------------------------- layers


def test_prelu_layer() -> None:
    layer = fnn.PReLU(3, 0.1, dtype=np.float64)
    assert repr(layer) == "PReLU(3)" and not layer.weight.decay and layer.weight.data.tolist() == [0.1] * 3
    x, dy = random(5, 3, dtype=np.float64), random(5, 3, dtype=np.float64, seed=1)
    y = layer(x)
    dx = layer.backward(dy)
    assert np.array_equal(y, np.where(x > 0, x, 0.1 * x)) and np.array_equal(dx, np.where(x > 0, dy, 0.1 * dy))
    np.testing.assert_allclose(layer.weight.grad, (dy * np.minimum(x, 0)).sum(0))
    assert fnn.PReLU().weight.data.tolist() == [0.25] and repr(fnn.PReLU(2, channel_axis=-1)) == (
        "PReLU(2, channel_axis=-1)"
    )


def test_maxout_layer() -> None:
    layer = fnn.Maxout(2)
    y, saved = layer.forward(random(5, 6))
    assert y.shape == (5, 3) and layer.backward(y, saved).shape == (5, 6)
    assert repr(layer) == "Maxout(2)" and repr(fnn.Maxout(3, -1)) == "Maxout(3, axis=-1)"


def test_both_learn_in_a_network() -> None:
    fnn.manual_seed(0)
    net = fnn.Sequential(fnn.Linear(6, 16), fnn.PReLU(16), fnn.Linear(16, 12), fnn.Maxout(3), fnn.Linear(4, 3))
    x, labels = random(48, 6), np.arange(48) % 3
    loss_fn, optimizer = fnn.CrossEntropyLoss(), fnn.optim.SGD(net.parameters(), 0.3)
    losses = []
    for _ in range(30):
        losses.append(loss_fn(net(x), labels))
        net.backward(loss_fn.backward(), need_dx=False)
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    assert (net[1].weight.data != 0.25).all()
    assert "PReLU(16)" in str(net.summary((2, 6)))
    with fnn.use_reference():
        expected = net.predict(x)
    np.testing.assert_allclose(net.predict(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fnn.PReLU(0), ValueError, "num_parameters: expected at least 1, got 0"),
        (lambda: fnn.PReLU(1.5), TypeError, "num_parameters: expected an integer"),
        (lambda: fnn.PReLU(1, "x"), TypeError, "init: expected a number"),
        (lambda: fnn.PReLU(4)(random(5, 3)), ValueError, r"weight: expected shape \(3,\), got \(4,\)"),
        (lambda: fnn.PReLU(4)(random(5)), ValueError, "channel_axis: expected"),
        (lambda: fnn.Maxout(0), ValueError, "pieces: expected 1 to 256, got 0"),
        (lambda: fnn.Maxout(2)(random(5, 3)), ValueError, "x: expected a multiple of pieces = 2 .*, got 3"),
    ],
)
def test_what_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
