"""Where layers, losses and optimizers find their operations: the kernels, or for a while the NumPy reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from fastnn._core import empty

__all__ = ["empty", "is_reference", "ops", "use_reference"]

ops: Any
"""The module in use. Read it at each call (``_backend.ops.relu``): `use_reference` replaces it."""

_lock = Lock()
_blocks = 0  # of use_reference, in all threads


def __getattr__(name: str) -> Any:
    """`ops`, at its first use: `fastnn.functional` takes its optimizer steps from classes that import this module."""
    if name != "ops":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fastnn import functional

    return globals().setdefault("ops", functional)


def is_reference() -> bool:
    """Whether `use_reference` is in force."""
    return _blocks > 0


@contextmanager
def use_reference() -> Iterator[None]:
    """Run layers, losses and optimizers on `fastnn.reference` inside the ``with`` block.

    A whole training can so be repeated on plain NumPy: to check a result, or to see what the kernels gain.
    The switch holds for the whole process, not for one thread, until no thread is inside a block.  What a forward pass
    has kept belongs to the implementation that ran it, so do not start a step inside the block and end it outside.

    Examples
    --------
    >>> with fastnn.use_reference():
    ...     y = net.predict(x)
    """
    global ops, _blocks
    from fastnn import functional, reference

    with _lock:
        _blocks += 1
        ops = reference
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if _blocks == 0:
                ops = functional
