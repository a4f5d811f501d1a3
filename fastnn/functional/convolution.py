"""Convolution: matrix products, which NumPy does, of the columns that `im2col` makes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fastnn._checks import check_array, check_image_axis, check_pair, check_saved
from fastnn._core import empty
from fastnn.functional._arrays import Array, check_like
from fastnn.functional.linear import bias_act
from fastnn.functional.reductions import channel_sum
from fastnn.functional.windows import Pair, col2im, im2col

__all__ = ["conv2d", "conv2d_backward"]

COLUMN_BYTES = 4 << 20
"""Of the columns of the samples that are taken together: they are to stay in the cache."""


def _check_out(out: Any, shape: tuple[int, ...], inputs: dict[str, Array]) -> Array:
    """`out`, if results can be written into it."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out: expected a numpy array, got {type(out).__name__}")
    check_like("out", out, shape, next(iter(inputs.values())).dtype)
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise ValueError("out: expected a writeable C-contiguous array, got another one")
    for name, array in inputs.items():
        if np.may_share_memory(out, array):
            raise ValueError(f"out: expected memory of its own, apart from {name}, got memory that overlaps it")
    return out


@dataclass(frozen=True)
class _Convolution:
    """A weight on images of one shape, and the matrices that this comes down to.

    Those of some samples are, with L output pixels for each of n samples and K = C * kh * kw, (K, n * L) of columns
    and (O, n * L) of outputs where channels come first, else (n * L, K) and (n * L, O).
    """

    weight: Array
    samples: int
    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    last: bool

    @cached_property
    def places(self) -> tuple[int, ...]:
        """Height and width of the outputs."""
        each = zip(self.size, self.weight.shape[2:], self.stride, self.padding, self.dilation, strict=True)
        return tuple((n + 2 * pad - gap * (kernel - 1) - 1) // step + 1 for n, kernel, step, pad, gap in each)

    @cached_property
    def taps(self) -> int:
        return math.prod(self.weight.shape[1:])

    @cached_property
    def plain(self) -> bool:
        """Whether the images are their columns."""
        steps = (*self.weight.shape[2:], *self.stride)
        return self.last and steps == (1, 1, 1, 1) and self.padding == (0, 0)

    def shape(self, channels: int, size: tuple[int, ...]) -> tuple[int, ...]:
        """Of images."""
        return (self.samples, *size, channels) if self.last else (self.samples, channels, *size)

    def chunks(self, itemsize: int) -> Iterator[slice]:
        """Samples that are taken together."""
        step = max(1, COLUMN_BYTES // max(1, self.taps * math.prod(self.places) * itemsize))
        if self.plain:
            step = max(1, self.samples)
        return (slice(i, i + step) for i in range(0, self.samples, step))

    def _options(self) -> dict[str, Any]:
        steps = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        return {**steps, "channel_axis": -1 if self.last else 1}

    def columns(self, x: Array) -> Array:
        if self.plain:
            return x.reshape(-1, self.taps)
        return im2col(x, self.weight.shape[2:], **self._options())

    def images(self, columns: Array, out: Array) -> None:
        col2im(columns, self.size, self.weight.shape[2:], **self._options(), out=out)

    def matrix(self) -> Array:
        """The weight as (O, K), in the order of the columns."""
        weight = self.weight.transpose(0, 2, 3, 1) if self.last else self.weight
        return weight.reshape(len(weight), self.taps)

    def like_weight(self, matrix: Array) -> Array:
        """Undoes `matrix`."""
        if not self.last:
            return matrix.reshape(self.weight.shape)
        outputs, channels, *kernel = self.weight.shape
        return np.ascontiguousarray(matrix.reshape(outputs, *kernel, channels).transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class Conv2dSaved:
    """What `conv2d` keeps: its input and the weight, by reference.

    Attributes
    ----------
    nbytes : int
        Of the input; the weight is there anyway.
    """

    x: Array
    convolution: _Convolution
    has_bias: bool

    @property
    def nbytes(self) -> int:
        return self.x.nbytes


def _convolution(
    x: Array, weight: Array, stride: Pair, padding: Pair, dilation: Pair, channel_axis: int
) -> _Convolution:
    for name, array in (("x", x), ("weight", weight)):
        if array.dtype not in (np.float32, np.float64) or array.dtype != x.dtype:
            raise TypeError(f"{name}: expected {'float32 or float64' if name == 'x' else x.dtype}, got {array.dtype}")
    check_image_axis(channel_axis)
    if x.ndim != 4:
        raise ValueError(f"x: expected 4 dimensions, got {x.ndim}")
    channels = x.shape[channel_axis]
    if weight.ndim != 4 or weight.shape[1] != channels or not weight.size:
        raise ValueError(f"weight: expected shape (O, {channels}, kh, kw), got {weight.shape}")
    last = channel_axis in (-1, 3)
    size = x.shape[1:3] if last else x.shape[2:]
    steps = check_pair("stride", stride, 1), check_pair("padding", padding, 0), check_pair("dilation", dilation, 1)
    convolution = _Convolution(weight, len(x), size, *steps, last)
    if min(*size, *convolution.places) < 1:
        raise ValueError(
            f"x: expected images that hold a window of {weight.shape[2:]} pixels with their padding, got {size} pixels"
        )
    return convolution


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    *,
    channel_axis: int = 1,
    out: Array | None = None,
) -> tuple[Array, Conv2dSaved]:
    """Cross-correlation of images with a weight, as `torch.nn.functional.conv2d`.

    Matrix products of the columns of `im2col`, some samples at a time, so that these stay in the cache.  The products
    are those of NumPy's BLAS: their last bits are its own.

    Parameters
    ----------
    x : array, float32 or float64
        (N, C, H, W), or (N, H, W, C).  Kept by reference for backward: leave it unchanged until then.
    weight : (O, C, kh, kw) array of the type of `x`
        In this order in both layouts.  Kept by reference for backward.
    bias : (O,) array of the type of `x`, optional
    stride, padding, dilation : int or pair, default 1, 0, 1
    channel_axis : int, default 1
        1 for (N, C, H, W), -1 for (N, H, W, C).
    out : array of the type of `x`, optional
        C-contiguous; receives y.

    Returns
    -------
    y : (N, O, oh, ow) array, or (N, oh, ow, O)
        With ``oh = (H + 2 * padding - dilation * (kh - 1) - 1) // stride + 1``.
    saved : Conv2dSaved

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or of different types.
    ValueError
        For wrong shapes, sizes out of range, a window that is larger than the padded image, or an unsuitable `out`.
    """
    x, weight = check_array("x", x), check_array("weight", weight)
    convolution = _convolution(x, weight, stride, padding, dilation, channel_axis)
    outputs = len(weight)
    shape, inputs = convolution.shape(outputs, convolution.places), {"x": x, "weight": weight}
    if bias is not None:
        inputs["bias"] = bias = check_like("bias", bias, (outputs,), x.dtype)
    y = empty(shape, x.dtype) if out is None else _check_out(out, shape, inputs)
    matrix = convolution.matrix()
    for chunk in convolution.chunks(x.itemsize):
        part = y[chunk]
        columns = convolution.columns(x[chunk])
        if convolution.last:
            np.matmul(columns, matrix.T, out=part.reshape(-1, outputs))
        else:  # sample by sample, as the outputs lie
            columns = columns.reshape(convolution.taps, len(part), -1).transpose(1, 0, 2)
            np.matmul(matrix, columns, out=part.reshape(len(part), outputs, -1))
        del columns  # its memory is the next one's
    if bias is not None:
        bias_act(y, bias, training=False, channel_axis=channel_axis, out=y)
    return y, Conv2dSaved(x, convolution, bias is not None)


def conv2d_backward(
    dy: Array, saved: Conv2dSaved, *, need_dx: bool = True, out: Array | None = None
) -> tuple[Array | None, Array, Array | None]:
    """Gradients of `conv2d`.

    Parameters
    ----------
    dy : array like the output of `conv2d`
    saved : Conv2dSaved
    need_dx : bool, default True
        If False, dx is None: nobody needs the gradient of the data.
    out : array like the input of `conv2d`, optional
        C-contiguous; receives dx.

    Returns
    -------
    dx : array like the input of `conv2d`, or None
    dweight : array like the weight
    dbias : (O,) array, or None if there was no bias

    Raises
    ------
    TypeError, ValueError
        For a `dy` that is not like the output, or an unsuitable `out`.
    """
    check_saved(saved, Conv2dSaved)
    x, convolution = saved.x, saved.convolution
    weight, taps = convolution.weight, convolution.taps
    outputs = len(weight)
    dy = check_like("dy", dy, convolution.shape(outputs, convolution.places), x.dtype)
    dx = None
    if need_dx:
        dx = empty(x.shape, x.dtype) if out is None else _check_out(out, x.shape, {"dy": dy, "x": x, "weight": weight})
    matrix = convolution.matrix()
    dmatrix = empty((outputs, taps), x.dtype)
    dmatrix[...] = 0
    for chunk in convolution.chunks(x.itemsize):
        columns = convolution.columns(x[chunk])
        if convolution.last:
            dz = dy[chunk].reshape(-1, outputs)
            dmatrix += dz.T @ columns
        else:
            dz = np.moveaxis(dy[chunk], 0, 1).reshape(outputs, -1)
            dmatrix += dz @ columns.T
        if dx is not None:
            left, right = (dz, matrix) if convolution.last else (matrix.T, dz)
            if convolution.plain:
                np.matmul(left, right, out=dx[chunk].reshape(-1, taps))
            else:
                convolution.images(np.matmul(left, right, out=columns), dx[chunk])
        del columns
    dbias = channel_sum(dy, channel_axis=-1 if convolution.last else 1) if saved.has_bias else None
    return dx, convolution.like_weight(dmatrix), dbias
