"""Helpers that the NumPy peers share."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


def slope(activation: Any) -> float | None:
    """Slope left of zero of an `activation=` argument: 0 for relu; None for no activation."""
    if activation is None:
        return None
    name = activation if isinstance(activation, str) else activation.name
    if name == "relu":
        return 0.0
    if name == "leaky_relu":
        return 0.01 if isinstance(activation, str) else float(activation.params["negative_slope"])
    raise NotImplementedError(name)


def per_channel(values: Array, ndim: int, channel_axis: int) -> Array:
    """A (C,) array shaped to broadcast along `channel_axis`."""
    shape = [1] * ndim
    shape[channel_axis] = values.size
    return values.reshape(shape)


def other_axes(ndim: int, channel_axis: int) -> tuple[int, ...]:
    """Every axis but the channel axis."""
    return tuple(axis for axis in range(ndim) if axis != channel_axis % ndim)
