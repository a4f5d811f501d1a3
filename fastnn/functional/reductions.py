"""Sums."""

from __future__ import annotations

from fastnn.functional._arrays import Array
from fastnn.functional._builtin import builtin

__all__ = ["channel_sum"]


@builtin
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
