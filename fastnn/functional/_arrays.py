"""Array helpers that several families share."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn._checks import check_array

Array: TypeAlias = NDArray[Any]


def check_like(name: str, array: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array that no kernel will check, checked."""
    array = check_array(name, array)
    if array.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    return array


def check_gradient(dy: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Check `dy` against the forward pass where the kernel has no saved array to compare it with."""
    check_like("dy", dy, shape, dtype)
