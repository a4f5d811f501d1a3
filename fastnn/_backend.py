"""Where layers, losses and optimizers find their operations: the kernels, or for a while the NumPy reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastnn import functional
from fastnn._core import empty

__all__ = ["empty", "ops", "use_reference"]

ops: Any = functional
"""The module in use. Read it at each call (``_backend.ops.relu``): `use_reference` replaces it."""


@contextmanager
def use_reference() -> Iterator[None]:
    """Run layers, losses and optimizers on `fastnn.reference` inside the ``with`` block.

    A whole training can so be repeated on plain NumPy: to check a result, or to see what the kernels gain.
    The switch holds for the whole process, not for one thread.  What a forward pass has kept belongs to the
    implementation that ran it, so do not start a step inside the block and end it outside.

    Examples
    --------
    >>> with fastnn.use_reference():
    ...     y = net.predict(x)
    """
    global ops
    from fastnn import reference

    previous, ops = ops, reference
    try:
        yield
    finally:
        ops = previous
