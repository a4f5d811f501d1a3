"""Norms in float32 where the mean is 1e5 times the standard deviation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn.functional as F
from fastnn import reference

SHAPES = [
    ((256, 64), 1),
    ((33, 7), 1),
    ((5000, 3), 1),
    ((8, 16, 14, 14), 1),
    ((3, 2, 5, 5), 1),
    ((40, 3, 4, 4), 1),
    ((2, 32, 56, 56), 1),  # large planes, many channels: channel by channel
    ((4, 3, 200, 200), 1),  # planes of several pieces, few channels
    ((8, 14, 14, 16), -1),
    ((2, 9, 9, 257), -1),
    ((6, 3, 500), 1),
]


def inputs(shape: tuple[int, ...]) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.normal(1e4, 0.1, shape).astype(np.float32), rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape, axis", SHAPES)
def test_large_mean(shape: tuple[int, ...], axis: int) -> None:
    x, dy = inputs(shape)
    channels = shape[axis]
    weight, bias = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    running = np.zeros(channels), np.ones(channels)
    wide_running = np.zeros(channels), np.ones(channels)
    y, saved = F.batch_norm(x, *running, weight, bias, True, channel_axis=axis)
    want, wide = reference.batch_norm(
        x.astype(np.float64), *wide_running, weight.astype(float), bias.astype(float), True, channel_axis=axis
    )
    assert np.abs(y - want).max() < 1e-5
    for got, true in zip(running, wide_running, strict=True):
        np.testing.assert_allclose(got, true, rtol=1e-9)
    gradients = F.batch_norm_backward(dy, saved)
    assert wide is not None
    for name, got, true in zip(
        ("dx", "dweight", "dbias"), gradients, reference.batch_norm_backward(dy.astype(float), wide), strict=True
    ):
        assert np.abs(got - true).max() < 1e-5 * np.abs(true).max(), name


@pytest.mark.parametrize("shape, axis", SHAPES)
def test_large_mean_in_inference(shape: tuple[int, ...], axis: int) -> None:
    x, _ = inputs(shape)
    other = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    mean, var = x.mean(other, dtype=np.float64), x.var(other, dtype=np.float64)
    y, _ = F.batch_norm(x, mean, var, channel_axis=axis)
    want, _ = reference.batch_norm(x.astype(np.float64), mean, var, channel_axis=axis)
    assert np.abs(y - want).max() < 1e-5


SAMPLE_NORMS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    *(("layer_norm", shape, {"normalized_shape": shape[-1]}) for shape in ((64, 5), (33, 768), (5, 4099), (3, 20000))),
    ("layer_norm", (9, 30, 40), {"normalized_shape": (30, 40)}),
    ("group_norm", (3, 12, 7, 9), {"num_groups": 4}),
    ("group_norm", (3, 12, 3, 3), {"num_groups": 4}),
    ("group_norm", (2, 4, 70, 90), {"num_groups": 2}),
    ("group_norm", (3, 7, 9, 12), {"num_groups": 4, "channel_axis": -1}),
    ("instance_norm", (2, 3, 50, 60), {}),
    ("instance_norm", (2, 50, 60, 3), {"channel_axis": -1}),
]


@pytest.mark.parametrize("op, shape, options", SAMPLE_NORMS)
def test_large_mean_within_samples(op: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    x, dy = inputs(shape)
    y, saved = getattr(F, op)(x, **options)
    want, wide = getattr(reference, op)(x.astype(np.float64), **options)
    assert np.abs(y - want).max() < 1e-5
    gradients = getattr(F, f"{op}_backward")(dy, saved)
    true = getattr(reference, f"{op}_backward")(dy.astype(float), wide)
    for name, got, right in zip(("dx", "dweight", "dbias"), gradients, true, strict=True):
        assert np.abs(got - right).max() < 1e-5 * np.abs(right).max(), name


def test_loss_of_large_logits() -> None:
    logits = np.array([[1e4, 0, -1e4], [-1e30, -1e30, -1e30]], np.float32)
    loss, dlogits = F.softmax_cross_entropy(logits, np.array([1, 0]))
    assert loss == pytest.approx((1e4 + np.log(3)) / 2, rel=1e-6)
    np.testing.assert_allclose(dlogits, [[0.5, -0.5, 0], [-1 / 3, 1 / 6, 1 / 6]], rtol=1e-6)


def test_long_sums() -> None:
    """Equal terms round the same way each time, but at most 1024 of them in a row: 16384 elements in 16 lanes."""
    x = np.full((1, 1, 3_000_000), 0.1, np.float32)
    want = 3_000_000 * float(np.float32(0.1))
    assert F.channel_sum(x, channel_axis=1)[0] == pytest.approx(want, rel=2e-5)
    assert F.channel_sum(x.reshape(-1, 1))[0] == pytest.approx(want, rel=1e-6)
