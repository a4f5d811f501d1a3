"""Checks of arguments that several parts share."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

__all__ = ["check_array", "check_dtype", "check_index", "check_number", "check_saved"]


def check_number(name: str, value: Any) -> None:
    """TypeError for what is not a real number."""
    if type(value) is not float:
        try:
            math.isnan(value)
        except (TypeError, ValueError):
            raise TypeError(f"{name}: expected a number, got {value!r}") from None


def check_index(name: str, value: Any) -> int:
    """`value` as an int; TypeError for what is not an integer."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {value!r}") from None


def check_array(name: str, value: Any) -> None:
    """TypeError for what is not an array."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name}: expected a numpy array, got {type(value).__name__}")


def check_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """`dtype`, which is to be float32 or float64."""
    if (given := np.dtype(dtype)) not in (np.float32, np.float64):
        raise TypeError(f"dtype: expected float32 or float64, got {given}")
    return given


def check_saved(saved: Any, kind: type[Any]) -> None:
    """TypeError for what another function has kept, or the other implementation."""
    if not isinstance(saved, kind):
        raise TypeError(
            f"saved: expected {kind.__module__}.{kind.__name__}, got {type(saved).__module__}.{type(saved).__name__}; "
            "a backward pass runs on the implementation that ran its forward pass, inside use_reference or outside"
        )
