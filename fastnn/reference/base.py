"""What the families of the reference share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Saved", "into", "other_axes", "per_channel", "wide"]


Array: TypeAlias = NDArray[Any]


class Saved:
    """What a forward pass keeps for its backward pass, as attributes.

    Attributes
    ----------
    nbytes : int
        Bytes of all arrays held.
    """

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    @property
    def nbytes(self) -> int:
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))


def wide(x: Array) -> np.dtype[Any]:
    """Type of sums and statistics: at least float64."""
    return np.result_type(x.dtype, np.float64)


def into(out: Array | None, y: Array) -> Array:
    if out is None:
        return y
    out[...] = y
    return out


def per_channel(values: Array, x: Array, channel_axis: int) -> Array:
    """View of (C,) `values` that broadcasts along the channel axis of `x`."""
    shape = [1] * x.ndim
    shape[channel_axis] = x.shape[channel_axis]
    return values.reshape(shape)


def other_axes(x: Array, channel_axis: int) -> tuple[int, ...]:
    return tuple(axis for axis in range(x.ndim) if axis != channel_axis % x.ndim)
