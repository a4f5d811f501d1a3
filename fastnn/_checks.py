"""Checks of arguments that several parts share."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastnn._convert import as_array

__all__ = [
    "REDUCTIONS",
    "check_array",
    "check_dtype",
    "check_factor",
    "check_image_axis",
    "check_index",
    "check_number",
    "check_pair",
    "check_saved",
    "check_size",
    "check_word",
]


REDUCTIONS = ("mean", "sum", "none")
"""What may become of the losses of a batch."""


def check_factor(dloss: Any, dtype: DTypeLike, *shapes: tuple[int, ...]) -> np.ndarray[Any, np.dtype[Any]]:
    """`dloss` as an array of `dtype`; ValueError for what is neither a number nor of one of `shapes`."""
    factor = np.asarray(as_array("dloss", dloss), dtype)
    if factor.shape not in ((), *shapes):
        expected = "".join(f"shape {shape} or " for shape in shapes)
        raise ValueError(f"dloss: expected {expected}a number, got shape {factor.shape}")
    return factor


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


def check_size(name: str, value: Any, least: int = 1) -> int:
    """`value` as an int; ValueError for less than `least`."""
    if (size := check_index(name, value)) < least:
        raise ValueError(f"{name}: expected at least {least}, got {value}")
    return size


def check_pair(name: str, value: Any, least: int) -> tuple[int, int]:
    """Height and width, of an integer or a pair of them; ValueError for less than `least`."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    numbers = tuple(check_index(name, number) for number in pair)
    if len(numbers) != 2 or min(numbers) < least:
        raise ValueError(f"{name}: expected an integer >= {least} or a pair of them, got {value!r}")
    return numbers[0], numbers[1]


def check_image_axis(axis: Any) -> int:
    """The channel axis of images, -3, -1, 1 or 3."""
    if axis not in (1, -3, -1, 3):
        raise ValueError(f"channel_axis: expected 1 for (N, C, H, W) or -1 for (N, H, W, C), got {axis!r}")
    return check_index("channel_axis", axis)


def check_word(name: str, value: Any, *words: str) -> str:
    """`value`; ValueError for what is none of `words`."""
    if value not in words:
        expected = f"{', '.join(map(repr, words[:-1]))} or {words[-1]!r}"
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return str(value)


def check_array(name: str, value: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """`value` as a NumPy array; TypeError for what is not an array, of NumPy or of another library."""
    array = as_array(name, value)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: expected a numpy array, got {type(value).__name__}")
    return array


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
