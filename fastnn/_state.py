"""Strict loading of states: flat mappings of name -> array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn._convert import as_array

__all__ = ["check_state"]


def check_state(expected: Mapping[str, NDArray[Any]], state: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Arrays of `state`, read once, if names, shapes and dtypes are those of `expected`.

    Raises
    ------
    ValueError
        Naming every mismatch.
    """
    given = {name: np.asarray(as_array(name, state[name])) for name in state}
    problems = [f"{name}: missing" for name in expected if name not in given]
    problems += [f"{name}: unexpected" for name in given if name not in expected]
    for name, array in expected.items():
        if name in given and (given[name].shape, given[name].dtype) != (array.shape, array.dtype):
            problems.append(
                f"{name}: expected {array.dtype} of shape {array.shape}, "
                f"got {given[name].dtype} of shape {given[name].shape}"
            )
    if problems:
        raise ValueError("state does not fit:\n  " + "\n  ".join(problems))
    return given
