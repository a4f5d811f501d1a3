"""Norms within each sample, which have no running statistics: inference computes what training does."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn import _backend
from fastnn._checks import check_array, check_dtype, check_index, check_number, check_size
from fastnn.layers.module import Parameter
from fastnn.layers.norm import Norm

__all__ = ["GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "LayerNorm", "RMSNorm"]


class SampleNorm(Norm):
    """Base of these norms."""

    _options: dict[str, Any]
    """Arguments of `op` beside the arrays."""

    def __init__(self, shape: tuple[int, ...], eps: float | None, affine: bool, bias: bool, dtype: DTypeLike) -> None:
        dtype = check_dtype(dtype)
        if eps is not None:
            check_number("eps", eps)
            if not eps > 0:
                raise ValueError(f"eps: expected a number > 0, got {eps}")
        self.eps = eps
        self.weight = Parameter(np.ones(shape, dtype), "weight", decay=False) if affine else None
        self.bias = Parameter(np.zeros(shape, dtype), "bias", decay=False) if affine and bias else None

    def normalise(
        self, x: NDArray[Any], training: bool, *, own: bool = False, **extra: Any
    ) -> tuple[NDArray[Any], Any]:
        check_array("x", x)
        arguments = {**self._options, "eps": self.eps, **extra}
        for name in ("weight", "bias"):
            parameter = getattr(self, name)
            if parameter is not None:
                arguments[name] = parameter.data
        y, kept = getattr(_backend.ops, self.op)(x, **arguments)
        return y, kept if training else None

    def normalise_backward(
        self, dy: NDArray[Any], kept: Any, accumulate: bool, reuse: bool
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        backward = getattr(_backend.ops, f"{self.op}_backward")
        dx, *gradients = backward(dy, kept, out=dy if reuse else None)
        for parameter, gradient in zip((self.weight, self.bias), gradients, strict=False):
            if parameter is not None:
                parameter.set_grad(gradient, accumulate)
        return dx, None


def _shape(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    given = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    try:
        shape = tuple(map(operator.index, given))
    except TypeError:
        raise TypeError(
            f"normalized_shape: expected an integer or a tuple of integers, got {normalized_shape!r}"
        ) from None
    if not shape or min(shape) < 1:
        raise ValueError(f"normalized_shape: expected positive integers, got {normalized_shape!r}")
    return shape


class RowNorm(SampleNorm):
    """Base of `LayerNorm` and `RMSNorm`."""

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float | None, affine: bool, bias: bool, dtype: DTypeLike
    ) -> None:
        self.normalized_shape = _shape(normalized_shape)
        self._options = {"normalized_shape": self.normalized_shape}
        super().__init__(self.normalized_shape, eps, affine, bias, dtype)

    def __repr__(self) -> str:
        shape = self.normalized_shape
        return f"{type(self).__name__}({shape[0] if len(shape) == 1 else shape})"


class LayerNorm(RowNorm):
    """Layer normalisation over the last dimensions, as `torch.nn.LayerNorm`.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The last dimensions of the input.
    eps : float, default 1e-5
    elementwise_affine : bool, default True
        Whether to scale by `weight`, and shift by `bias`.
    bias : bool, default True
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight, bias : Parameter of shape `normalized_shape`, or None

    Notes
    -----
    Kept for backward: x and two numbers per row.  See `fastnn.functional.layer_norm`.
    """

    op = "layer_norm"

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(normalized_shape, eps, elementwise_affine, bias, dtype)


class RMSNorm(RowNorm):
    """Normalisation by the root of the mean square over the last dimensions, as `torch.nn.RMSNorm`.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The last dimensions of the input.
    eps : float, optional
        Default: the machine epsilon of the type of the input.
    elementwise_affine : bool, default True
        Whether to scale by `weight`.
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight : Parameter of shape `normalized_shape`, or None

    Notes
    -----
    Kept for backward: x and a number per row.  See `fastnn.functional.rms_norm`.
    """

    op = "rms_norm"

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(normalized_shape, eps, elementwise_affine, False, dtype)


class ChannelNorm(SampleNorm):
    """Base of `GroupNorm` and the instance norms."""

    _ndim = 0
    """Dimensions of the input; 0: any number."""

    def __init__(self, channels: int, channel_axis: int, eps: float, affine: bool, dtype: DTypeLike) -> None:
        self._channels = channels
        self.channel_axis = check_index("channel_axis", channel_axis)
        self._options = {"channel_axis": self.channel_axis}
        super().__init__((channels,), eps, affine, True, dtype)

    def normalise(
        self, x: NDArray[Any], training: bool, *, own: bool = False, **extra: Any
    ) -> tuple[NDArray[Any], Any]:
        check_array("x", x)
        axis = self.channel_axis
        if self._ndim not in (0, x.ndim) or not -x.ndim <= axis < x.ndim or x.shape[axis] != self._channels:
            dimensions = f"{self._ndim} dimensions, " if self._ndim else ""
            raise ValueError(f"x: expected {dimensions}{self._channels} channels along axis {axis}, got {x.shape}")
        return super().normalise(x, training, own=own, **extra)

    def _repr(self, *numbers: int) -> str:
        axis = "" if self.channel_axis == 1 else f", channel_axis={self.channel_axis}"
        return f"{type(self).__name__}({', '.join(map(str, numbers))}{axis})"


class GroupNorm(ChannelNorm):
    """Group normalisation over groups of consecutive channels of each sample, as `torch.nn.GroupNorm`.

    Parameters
    ----------
    num_groups : int
        Divides `num_channels`.
    num_channels : int
        Number of channels C.
    eps : float, default 1e-5
    affine : bool, default True
        Whether to scale by `weight` and shift by `bias`.
    channel_axis : int, default 1
        -1 for inputs (N, *spatial, C).
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight, bias : Parameter (C,), or None

    Notes
    -----
    Kept for backward: x and two numbers per group of each sample.  See `fastnn.functional.group_norm`.
    """

    op = "group_norm"

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        channel_axis: int = 1,
        dtype: DTypeLike = np.float32,
    ) -> None:
        num_channels, num_groups = check_size("num_channels", num_channels, 0), check_size("num_groups", num_groups)
        if num_channels % num_groups:
            raise ValueError(f"num_groups: expected a divisor of num_channels, {num_channels}, got {num_groups}")
        self.num_groups = num_groups
        self.num_channels = num_channels
        super().__init__(num_channels, channel_axis, eps, affine, dtype)
        self._options["num_groups"] = num_groups

    def __repr__(self) -> str:
        return self._repr(self.num_groups, self.num_channels)


class InstanceNorm(ChannelNorm):
    """Base of `InstanceNorm1d` and its like, which differ in the inputs that they accept."""

    op = "instance_norm"

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        *,
        affine: bool = False,
        channel_axis: int = 1,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.num_features = num_features = check_size("num_features", num_features, 0)
        super().__init__(num_features, channel_axis, eps, affine, dtype)

    def __repr__(self) -> str:
        return self._repr(self.num_features)


_DOCUMENTATION = """Instance normalisation over each channel of each sample of {shape}, as `torch.nn.{name}`.

    Parameters
    ----------
    num_features : int
        Number of channels C.
    eps : float, default 1e-5
    affine : bool, default False
        Whether to scale by `weight` and shift by `bias`.
    channel_axis : int, default 1
        -1 for channels last.
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight, bias : Parameter (C,), or None

    Notes
    -----
    There are no running statistics: inference normalises by the statistics of its input, as torch does by default.
    Kept for backward: x and two numbers per channel of each sample.  See `fastnn.functional.instance_norm`.
    """


class InstanceNorm1d(InstanceNorm):
    __doc__ = _DOCUMENTATION.format(shape="(N, C, L)", name="InstanceNorm1d")
    _ndim = 3


class InstanceNorm2d(InstanceNorm):
    __doc__ = _DOCUMENTATION.format(shape="(N, C, H, W)", name="InstanceNorm2d")
    _ndim = 4


class InstanceNorm3d(InstanceNorm):
    __doc__ = _DOCUMENTATION.format(shape="(N, C, D, H, W)", name="InstanceNorm3d")
    _ndim = 5
