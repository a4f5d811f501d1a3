"""Sums."""

from __future__ import annotations

from fastnn.reference.base import Array, into, other_axes, wide

__all__ = ["channel_sum"]


def channel_sum(x: Array, *, channel_axis: int = -1, out: Array | None = None) -> Array:
    """Sum over all axes but the channel axis: the gradient of a bias.

    Parameters
    ----------
    x : array with C channels along `channel_axis`
    channel_axis : int, default -1
    out : (C,) array, optional
        Receives the result.

    Returns
    -------
    (C,) array of the type of `x`
    """
    return into(out, x.sum(other_axes(x, channel_axis), dtype=wide(x)).astype(x.dtype))
