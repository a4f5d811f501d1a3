"""Array helpers that several families share."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn._checks import check_array

Array: TypeAlias = NDArray[Any]


def check_gradient(dy: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Check `dy` against the forward pass where the kernel has no saved array to compare it with."""
    check_array("dy", dy)
    if dy.dtype != dtype:
        raise TypeError(f"dy: expected dtype {dtype}, got {dy.dtype}")
    if dy.shape != shape:
        raise ValueError(f"dy: expected shape {shape}, got {dy.shape}")
