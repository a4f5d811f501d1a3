"""Sums."""

from __future__ import annotations

import fastnn._core as _core
from fastnn.functional._arrays import Array

__all__ = ["channel_sum"]


def channel_sum(x: Array, *, channel_axis: int = -1, out: Array | None = None) -> Array:
    """Sum over all axes but the channel axis: the gradient of a bias.

    Parameters
    ----------
    x : array, float32 or float64
        C channels along `channel_axis`.
    channel_axis : int, default -1
    out : (C,) array of the type of `x`, optional
        Receives the result.

    Returns
    -------
    (C,) array

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64.
    ValueError
        For a `channel_axis` that `x` does not have, or an unsuitable `out`.
    """
    return _core.channel_sum(x, out, channel_axis)
