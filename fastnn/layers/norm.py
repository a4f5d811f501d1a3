"""Batch normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn import _backend
from fastnn._checks import check_array, check_dtype, check_index, check_number
from fastnn.layers.module import Module, Parameter

__all__ = ["BatchNorm", "BatchNorm1d", "BatchNorm2d"]


class BatchNorm(Module):
    """Base of `BatchNorm1d` and `BatchNorm2d`, which differ in the inputs that they accept."""

    _fresh_dx = True
    _ndims: tuple[int, ...]
    _shapes: str

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        *,
        channel_axis: int = 1,
        nonfinite: str = "error",
        dtype: DTypeLike = np.float32,
    ) -> None:
        dtype = check_dtype(dtype)
        check_number("eps", eps)
        check_number("momentum", momentum)
        channel_axis = check_index("channel_axis", channel_axis)
        if not eps > 0:
            raise ValueError(f"eps: expected a number > 0, got {eps}")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum: expected a number in [0, 1], got {momentum}")
        ndim = max(self._ndims)
        if not -ndim <= channel_axis < ndim:
            raise ValueError(f"channel_axis: expected an axis in [{-ndim}, {ndim - 1}], got {channel_axis}")
        if nonfinite not in ("error", "skip", "allow"):
            raise ValueError(f"nonfinite: expected 'error', 'skip' or 'allow', got {nonfinite!r}")
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.channel_axis = channel_axis
        self.nonfinite = nonfinite
        self.weight = Parameter(np.ones(num_features, dtype), "weight", decay=False) if affine else None
        self.bias = Parameter(np.zeros(num_features, dtype), "bias", decay=False) if affine else None
        self.running_mean = np.zeros(num_features, dtype)
        self.running_var = np.ones(num_features, dtype)

    def normalise(self, x: NDArray[Any], training: bool, **extra: Any) -> tuple[NDArray[Any], Any]:
        """`batch_norm` with the arrays of this layer; `extra` is the fused bias, activation and dropout."""
        check_array("x", x)
        axis = self.channel_axis
        if x.ndim not in self._ndims or not -x.ndim <= axis < x.ndim or x.shape[axis] != self.num_features:
            raise ValueError(
                f"x: expected shape {self._shapes} with {self.num_features} channels along axis {self.channel_axis}, "
                f"got {x.shape}"
            )
        if training and not self.training:
            raise RuntimeError(
                f"{type(self).__name__}: expected training mode in a training pass, got eval mode, which keeps nothing "
                "for backward; call train() on it, or predict(x) for inference"
            )
        y, kept = _backend.ops.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            None if self.weight is None else self.weight.data,
            None if self.bias is None else self.bias.data,
            training,
            self.momentum,
            self.eps,
            channel_axis=self.channel_axis,
            nonfinite=self.nonfinite,
            **extra,
        )
        return y, kept

    def normalise_backward(
        self, dy: NDArray[Any], kept: Any, accumulate: bool, reuse: bool
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Gradients of x and of the fused bias, if there was one; sets those of weight and bias."""
        dx, dweight, dbias, *dpre_bias = _backend.ops.batch_norm_backward(dy, kept, out=dy if reuse else None)
        if self.weight is not None and self.bias is not None:
            self.weight.set_grad(dweight, accumulate)
            self.bias.set_grad(dbias, accumulate)
        return dx, dpre_bias[0] if dpre_bias else None

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        return self.normalise(x, training)

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        return self.normalise_backward(dy, saved, accumulate, reuse)[0]

    def _state(self) -> dict[str, NDArray[Any]]:
        return super()._state() | {"running_mean": self.running_mean, "running_var": self.running_var}

    def __repr__(self) -> str:
        axis = "" if self.channel_axis == 1 else f", channel_axis={self.channel_axis}"
        return f"{type(self).__name__}({self.num_features}{axis})"


_DOCUMENTATION = """Batch normalisation over {over}, as `torch.nn.{name}`.

    Parameters
    ----------
    num_features : int
        Number of channels C.
    eps : float, default 1e-5
    momentum : float, default 0.1
        Weight of the new batch in the running statistics.
    affine : bool, default True
        Whether to scale by `weight` and shift by `bias`.
    channel_axis : int, default 1
        {axis}
    nonfinite : {{"error", "skip", "allow"}}
        On batch statistics that are not finite: raise, leave the running statistics alone, or go on as torch does.
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight, bias : Parameter (C,), or None
    running_mean, running_var : (C,) arrays

    Notes
    -----
    The running variance uses n / (n - 1), as in torch.  Kept for backward: x and two numbers per channel.
    See `fastnn.functional.batch_norm`.
    """


class BatchNorm1d(BatchNorm):
    __doc__ = _DOCUMENTATION.format(over="(N, C) or (N, C, L)", name="BatchNorm1d", axis="-1 for inputs (N, L, C).")
    _ndims = (2, 3)
    _shapes = "(N, C) or (N, C, L)"


class BatchNorm2d(BatchNorm):
    __doc__ = _DOCUMENTATION.format(over="(N, C, H, W)", name="BatchNorm2d", axis="-1 for inputs (N, H, W, C).")
    _ndims = (4,)
    _shapes = "of four dimensions"
