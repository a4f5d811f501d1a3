"""PReLU and maxout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn import _backend
from fastnn._checks import check_dtype, check_index, check_number, check_size
from fastnn.layers.module import Module, Parameter

__all__ = ["Maxout", "PReLU"]


class PReLU(Module):
    """Leaky ReLU with a learned slope, as `torch.nn.PReLU`.

    Parameters
    ----------
    num_parameters : int, default 1
        1 slope for all elements, or one for each channel.
    init : float, default 0.25
    channel_axis : int, default 1
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight : Parameter (num_parameters,)
        Not for weight decay, which would push it to 0 and PReLU to ReLU (He et al. 2015).

    Notes
    -----
    Kept for backward: x.  See `fastnn.functional.prelu`.
    """

    _fresh_dx = True

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        *,
        channel_axis: int = 1,
        dtype: DTypeLike = np.float32,
    ) -> None:
        count = check_size("num_parameters", num_parameters)
        check_number("init", init)
        if not math.isfinite(init):
            raise ValueError(f"init: expected a finite number, got {init}")
        self.channel_axis = check_index("channel_axis", channel_axis)
        self.weight = Parameter(np.full(count, init, check_dtype(dtype)), "weight", decay=False)

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        return _backend.ops.prelu(x, self.weight.data, channel_axis=self.channel_axis), x if training else None

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        dx, dweight = _backend.ops.prelu_backward(
            dy, saved, self.weight.data, channel_axis=self.channel_axis, out=dy if reuse else None
        )
        self.weight.set_grad(dweight, accumulate)
        return dx

    def __repr__(self) -> str:
        axis = "" if self.channel_axis == 1 else f", channel_axis={self.channel_axis}"
        return f"PReLU({self.weight.data.size}{axis})"


class Maxout(Module):
    """The largest of each `pieces` consecutive channels; see `fastnn.functional.maxout`.

    ``Linear(n, C * pieces)`` before it makes a maxout layer of C units.

    Parameters
    ----------
    pieces : int
        1 to 256.
    axis : int, default 1
        Of the channels.

    Notes
    -----
    Kept for backward: a byte for each element of the output.
    """

    _fresh_dx = True

    def __init__(self, pieces: int, axis: int = 1) -> None:
        if not 1 <= (count := check_index("pieces", pieces)) <= 256:
            raise ValueError(f"pieces: expected 1 to 256, got {pieces}")
        self.pieces = count
        self.axis = check_index("axis", axis)

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        y, saved = _backend.ops.maxout(x, self.pieces, self.axis)
        return y, saved if training else None

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        return _backend.ops.maxout_backward(dy, saved)

    def __repr__(self) -> str:
        return f"Maxout({self.pieces}{'' if self.axis == 1 else f', axis={self.axis}'})"
