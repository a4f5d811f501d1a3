"""What all norms are, and batch normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn import _backend
from fastnn._checks import check_array, check_dtype, check_index, check_number, check_size, check_word
from fastnn.layers.module import Module, Parameter

__all__ = ["BatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "Norm"]

B = TypeVar("B", bound="BatchNorm")
Observer = Callable[[NDArray[Any], dict[str, Any]], NDArray[Any]]


class Norm(Module):
    """Base of all norms: with these methods they are links of a chain (`fastnn.layers.chain`)."""

    _fresh_dx = True
    op: str
    """The function of `fastnn.functional`."""

    def takes_pre_bias(self, ndim: int, axis: int) -> bool:
        """Whether `normalise` adds a bias along this of `ndim` axes on the fly, as ``pre_bias=``."""
        return False

    def normalise(
        self, x: NDArray[Any], training: bool, *, own: bool = False, **extra: Any
    ) -> tuple[NDArray[Any], Any]:
        """`op` with the arrays of this layer; `extra` is what is fused: bias, activation and dropout.

        With `own`, nobody else holds `x`: it may be overwritten where backward does not need it.
        """
        raise NotImplementedError

    def normalise_backward(
        self, dy: NDArray[Any], kept: Any, accumulate: bool, reuse: bool
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Gradients of x and of the fused bias, if there was one; sets those of weight and bias."""
        raise NotImplementedError

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        return self.normalise(x, training)

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        return self.normalise_backward(dy, saved, accumulate, reuse)[0]


class BatchNorm(Norm):
    """Base of `BatchNorm1d`, `BatchNorm2d` and `BatchNorm3d`, which differ in the inputs that they accept."""

    op = "batch_norm"
    _ndims: tuple[int, ...]
    _shapes: str
    _observer: Observer | None = None  # computes in place of an inference pass, for `recalibrate`

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        channel_axis: int = 1,
        nonfinite: str = "error",
        momentum_convention: str = "torch",
        running_ddof: int = 1,
        update_stats: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        dtype = check_dtype(dtype)
        num_features = check_size("num_features", num_features, 0)
        check_number("eps", eps)
        if momentum is not None:
            check_number("momentum", momentum)
        channel_axis = check_index("channel_axis", channel_axis)
        if not eps > 0:
            raise ValueError(f"eps: expected a number > 0, got {eps}")
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(f"momentum: expected a number in [0, 1], or None, got {momentum}")
        ndim = max(self._ndims)
        if not -ndim <= channel_axis < ndim:
            raise ValueError(f"channel_axis: expected an axis in [{-ndim}, {ndim - 1}], got {channel_axis}")
        check_word("nonfinite", nonfinite, "error", "skip", "allow")
        check_word("momentum_convention", momentum_convention, "torch", "keras")
        if check_index("running_ddof", running_ddof) not in (0, 1):
            raise ValueError(f"running_ddof: expected 0 or 1, got {running_ddof}")
        if momentum is None and nonfinite == "skip":
            raise ValueError("nonfinite: expected 'error' or 'allow' with momentum=None, got 'skip'")
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.channel_axis = channel_axis
        self.nonfinite = nonfinite
        self.momentum_convention = momentum_convention
        self.running_ddof = running_ddof
        self.update_stats = update_stats
        self.frozen = False
        self.weight = Parameter(np.ones(num_features, dtype), "weight", decay=False) if affine else None
        self.bias = Parameter(np.zeros(num_features, dtype), "bias", decay=False) if affine else None
        self.running_mean = np.zeros(num_features, dtype)
        self.running_var = np.ones(num_features, dtype)
        self.num_batches_tracked = np.zeros((), np.int64)

    def freeze(self: B) -> B:
        """Let the running statistics normalise in training, too, and leave them as they are. Returns the layer."""
        self.frozen = True
        return self

    def unfreeze(self: B) -> B:
        """Let batches normalise in training again. Returns the layer."""
        self.frozen = False
        return self

    def affine_arrays(self) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
        """The arrays of weight and bias, or None."""
        return None if self.weight is None else self.weight.data, None if self.bias is None else self.bias.data

    def takes_pre_bias(self, ndim: int, axis: int) -> bool:
        return (self.channel_axis - axis) % ndim == 0

    def normalise(
        self, x: NDArray[Any], training: bool, *, own: bool = False, **extra: Any
    ) -> tuple[NDArray[Any], Any]:
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
                "for backward; call train() on it (and freeze() to train with its running statistics), or predict(x) "
                "for inference"
            )
        if self._observer is not None:
            return self._observer(x, extra), None
        momentum, convention = self.momentum, self.momentum_convention
        if momentum is None:  # the mean of all batches: the k-th has the weight 1 / k
            momentum, convention = 1 / (float(self.num_batches_tracked) + 1), "torch"
        y, kept = _backend.ops.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            *self.affine_arrays(),
            training,
            momentum,
            self.eps,
            channel_axis=self.channel_axis,
            nonfinite=self.nonfinite,
            momentum_convention=convention,
            running_ddof=self.running_ddof,
            update_stats=self.update_stats,
            frozen=self.frozen,
            out=x if own and not training else None,
            **extra,
        )
        if self.momentum is None and training and self.update_stats and not self.frozen:
            self.num_batches_tracked += 1
        return y, kept

    def normalise_backward(
        self, dy: NDArray[Any], kept: Any, accumulate: bool, reuse: bool
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        dx, dweight, dbias, *dpre_bias = _backend.ops.batch_norm_backward(dy, kept, out=dy if reuse else None)
        if self.weight is not None and self.bias is not None:
            self.weight.set_grad(dweight, accumulate)
            self.bias.set_grad(dbias, accumulate)
        return dx, dpre_bias[0] if dpre_bias else None

    def _state(self) -> dict[str, NDArray[Any]]:
        state = super()._state() | {"running_mean": self.running_mean, "running_var": self.running_var}
        return state | {"num_batches_tracked": self.num_batches_tracked} if self.momentum is None else state

    def __repr__(self) -> str:
        axis = "" if self.channel_axis == 1 else f", channel_axis={self.channel_axis}"
        return f"{type(self).__name__}({self.num_features}{axis})"


_DOCUMENTATION = """Batch normalisation over {over}, as `torch.nn.{name}`.

    Parameters
    ----------
    num_features : int
        Number of channels C.
    eps : float, default 1e-5
    momentum : float or None, default 0.1
        Weight of the new batch in the running statistics; None: they are the mean over all batches.
    affine : bool, default True
        Whether to scale by `weight` and shift by `bias`.
    channel_axis : int, default 1
        {axis}
    nonfinite : {{"error", "skip", "allow"}}
        On batch statistics that are not finite: raise, leave the running statistics alone, or go on as torch does.
    momentum_convention : {{"torch", "keras"}}
        "keras": `momentum` is the weight of the old running statistics; Keras's default is then 0.99.
    running_ddof : int, default 1
        The running variance is over n - running_ddof values: 1 as in torch, 0 as in Keras.
    update_stats : bool, default True
        False leaves the running statistics alone in training; batches still normalise.  An attribute as well.
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight, bias : Parameter (C,), or None
    running_mean, running_var : (C,) arrays
    num_batches_tracked : array of an integer
        With ``momentum=None``, and then part of the state.
    frozen : bool
        Set by `freeze` and `unfreeze`.

    Notes
    -----
    Fine-tuning with small batches: ``layer.freeze()`` makes the running statistics normalise in training as in
    inference.  They are constants then; gradients reach x, weight and bias through the rest.  (Give an optimizer only
    the parameters that it is to change.)

    Kept for backward: x and two numbers per channel.  See `fastnn.functional.batch_norm`.
    """


class BatchNorm1d(BatchNorm):
    __doc__ = _DOCUMENTATION.format(over="(N, C) or (N, C, L)", name="BatchNorm1d", axis="-1 for inputs (N, L, C).")
    _ndims = (2, 3)
    _shapes = "(N, C) or (N, C, L)"


class BatchNorm2d(BatchNorm):
    __doc__ = _DOCUMENTATION.format(over="(N, C, H, W)", name="BatchNorm2d", axis="-1 for inputs (N, H, W, C).")
    _ndims = (4,)
    _shapes = "of four dimensions"


class BatchNorm3d(BatchNorm):
    __doc__ = _DOCUMENTATION.format(over="(N, C, D, H, W)", name="BatchNorm3d", axis="-1 for inputs (N, D, H, W, C).")
    _ndims = (5,)
    _shapes = "of five dimensions"
