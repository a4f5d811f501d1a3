"""Softmax and its logarithm as layers."""

from __future__ import annotations

from typing import Any, ClassVar

from numpy.typing import NDArray

from fastnn import _backend
from fastnn._checks import check_index
from fastnn.layers.module import Module

__all__ = ["LogSoftmax", "Softmax"]


class Softmax(Module):
    """exp(x) / sum(exp(x)) along an axis: `fastnn.functional.softmax` as a layer.

    Before a cross-entropy it is not needed: `CrossEntropyLoss` takes logits.

    Parameters
    ----------
    axis : int, default -1
    dim : int, optional
        PyTorch's name of `axis`.

    Notes
    -----
    Kept for backward: the output.
    """

    _fresh_dx = True
    _op: ClassVar[str] = "softmax"

    def __init__(self, axis: int | None = None, *, dim: int | None = None) -> None:
        if axis is not None and dim is not None:
            raise TypeError(f"dim: expected None beside axis, its other name, got {dim!r}")
        given = dim if axis is None else axis
        self.axis = check_index("axis", -1 if given is None else given)

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        y = getattr(_backend.ops, self._op)(x, self.axis)
        return y, y if training else None

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        backward = getattr(_backend.ops, f"{self._op}_backward")
        return backward(dy, saved, self.axis, out=dy if reuse else None)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.axis == -1 else f'axis={self.axis}'})"


class LogSoftmax(Softmax):
    """x - log(sum(exp(x))) along an axis: `fastnn.functional.log_softmax` as a layer, for `NLLLoss`.

    Parameters
    ----------
    axis : int, default -1
    dim : int, optional
        PyTorch's name of `axis`.

    Notes
    -----
    Kept for backward: the output.
    """

    _op: ClassVar[str] = "log_softmax"
