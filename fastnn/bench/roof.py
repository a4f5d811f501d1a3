"""Floor and roof of a row.

Floor: every input read once, every output written once, over the copy bandwidth of that working set.
Roof: the larger of the streams that layout and size force, and of the arithmetic that cannot be avoided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Iterable[Any]


def arrays(values: Any) -> Iterator[NDArray[Any]]:
    """Every array in a value: an array, or nested lists, tuples and dicts of them."""
    if isinstance(values, np.ndarray):
        yield values
    elif isinstance(values, dict):
        yield from arrays(list(values.values()))
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from arrays(value)


def nbytes(values: Any) -> int:
    """Bytes of the distinct arrays in a value (an array returned under two names is written once)."""
    return sum({id(a): a.nbytes for a in arrays(values)}.values())


@dataclass(frozen=True)
class Traffic:
    """Bytes a row must move.

    Parameters
    ----------
    read, written : int
        Every input once, every output once.
    """

    read: int
    written: int

    @property
    def total(self) -> int:
        """Bytes of the floor."""
        return self.read + self.written


def reread(shape: tuple[int, ...], channel_axis: int, nbytes: int, l2: int, llc: int) -> int:
    """Bytes a per-channel reduction followed by an elementwise pass must read twice.

    Parameters
    ----------
    shape, channel_axis
        Of the arrays reduced.
    nbytes : int
        Bytes reduced (all arrays together).
    l2, llc : int
        Cache sizes in bytes.

    Returns
    -------
    int
        `nbytes` where nothing can be kept: more than the last-level cache, and either rows that hold every
        channel (the first element can be written only after the last was read), or channels larger than L2.
        Else 0.
    """
    axis = channel_axis % len(shape)
    channels = shape[axis]
    inner = int(np.prod(shape[axis + 1 :]))
    if nbytes <= llc or channels == 0:
        return 0
    return nbytes if inner == 1 or nbytes / channels > l2 else 0


def roof_seconds(floor: float, reread_seconds: float, work_seconds: float) -> float:
    """The roof: forced streams or unavoidable arithmetic, whichever takes longer (they can overlap)."""
    return max(floor + reread_seconds, work_seconds)
