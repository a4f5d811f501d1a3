"""Windows over images: the columns of a convolution, convolution, and pooling."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from fastnn._checks import check_saved
from fastnn.reference.base import Array, Saved, into, wide
from fastnn.reference.reductions import channel_sum

__all__ = [
    "avg_pool2d",
    "avg_pool2d_backward",
    "col2im",
    "conv2d",
    "conv2d_backward",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "im2col",
    "max_pool2d",
    "max_pool2d_backward",
]

Pair: TypeAlias = int | tuple[int, int]


def _pair(value: Pair) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _windows(x: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair = 1, fill: Any = 0) -> Array:
    """(N, C, oh, ow, kh, kw) view of the padded (N, C, H, W)."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = map(_pair, (kernel_size, stride, padding, dilation))
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)
    extent = ((kh - 1) * dh + 1, (kw - 1) * dw + 1)
    return np.lib.stride_tricks.sliding_window_view(padded, extent, (2, 3))[:, :, ::sh, ::sw, ::dh, ::dw]


def _add_windows(windows: Array, input_size: Pair, stride: Pair, padding: Pair, dilation: Pair = 1) -> Array:
    """Adjoint of `_windows`: (N, C, H, W)."""
    (h, w), (sh, sw), (ph, pw), (dh, dw) = map(_pair, (input_size, stride, padding, dilation))
    n, c, oh, ow, kh, kw = windows.shape
    padded = np.zeros((n, c, h + 2 * ph, w + 2 * pw), windows.dtype)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i * dh, i * dh + (oh - 1) * sh + 1, sh)
            columns = slice(j * dw, j * dw + (ow - 1) * sw + 1, sw)
            padded[:, :, rows, columns] += windows[..., i, j]
    return padded[:, :, ph : ph + h, pw : pw + w]


def im2col(
    x: Array,
    kernel_size: Pair,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    *,
    channel_axis: int = 1,
    out: Array | None = None,
) -> Array:
    """The pixels under each position of a window, as one matrix.

    Parameters
    ----------
    x : (N, C, H, W) array, or (N, H, W, C)
    kernel_size : int or (kh, kw)
    stride, padding, dilation : int or pair, default 1, 0, 1
    channel_axis : int, default 1
    out : array, optional
        Receives the result.

    Returns
    -------
    (C * kh * kw, N * oh * ow) array, or (N * oh * ow, kh * kw * C) with channels last
    """
    windows = _windows(np.moveaxis(x, channel_axis, 1), kernel_size, stride, padding, dilation)
    n, c, oh, ow, kh, kw = windows.shape
    if channel_axis in (1, -3):
        return into(out, windows.transpose(1, 4, 5, 0, 2, 3).reshape(c * kh * kw, n * oh * ow))
    return into(out, windows.transpose(0, 2, 3, 4, 5, 1).reshape(n * oh * ow, kh * kw * c))


def col2im(
    columns: Array,
    input_size: Pair,
    kernel_size: Pair,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    *,
    channel_axis: int = 1,
    out: Array | None = None,
) -> Array:
    """Adjoint of `im2col`: each pixel is the sum of what it has given to `columns`.

    Parameters
    ----------
    columns : array like the result of `im2col`
    input_size : (H, W)
    kernel_size : int or (kh, kw)
    stride, padding, dilation : int or pair, default 1, 0, 1
    channel_axis : int, default 1
    out : array, optional
        Receives the result.

    Returns
    -------
    (N, C, H, W) array, or (N, H, W, C)
    """
    (h, w), (kh, kw) = _pair(input_size), _pair(kernel_size)
    oh, ow = _windows(np.empty((1, 1, h, w)), kernel_size, stride, padding, dilation).shape[2:4]
    first = channel_axis in (1, -3)
    c, n = columns.shape[0 if first else 1] // (kh * kw), columns.shape[1 if first else 0] // (oh * ow)
    if first:
        windows = columns.reshape(c, kh, kw, n, oh, ow).transpose(3, 0, 4, 5, 1, 2)
    else:
        windows = columns.reshape(n, oh, ow, kh, kw, c).transpose(0, 5, 1, 2, 3, 4)
    x = _add_windows(windows, input_size, stride, padding, dilation)
    return into(out, np.ascontiguousarray(np.moveaxis(x, 1, channel_axis)))


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
) -> tuple[Array, Saved]:
    """Cross-correlation of images with a weight.

    Parameters
    ----------
    x : (N, C, H, W) array, or (N, H, W, C)
    weight : (O, C, kh, kw) array
    bias : (O,) array, optional
    stride, padding, dilation : int or pair, default 1, 0, 1
    channel_axis : int, default 1
    out : array, optional
        Receives the result.

    Returns
    -------
    y : (N, O, oh, ow) array, or (N, oh, ow, O)
    saved : Saved
    """
    windows = _windows(np.moveaxis(x, channel_axis, 1), weight.shape[2:], stride, padding, dilation)
    y = np.tensordot(windows, weight, axes=((1, 4, 5), (1, 2, 3)))  # (N, oh, ow, O)
    if bias is not None:
        y = y + bias
    saved = Saved(x=x, weight=weight, has_bias=bias is not None, steps=(stride, padding, dilation), axis=channel_axis)
    return into(out, np.ascontiguousarray(np.moveaxis(y, -1, channel_axis))), saved


def conv2d_backward(
    dy: Array, saved: Saved, *, need_dx: bool = True, out: Array | None = None
) -> tuple[Array | None, Array, Array | None]:
    """Gradients of `conv2d`.

    Parameters
    ----------
    dy : array, gradient of the output
    saved : Saved, from `conv2d`
    need_dx : bool, default True
    out : array, optional
        Receives dx.

    Returns
    -------
    dx : array like the input, or None
    dweight : array like the weight
    dbias : (O,) array, or None without a bias
    """
    check_saved(saved, Saved)
    x, weight = np.moveaxis(saved.x, saved.axis, 1), saved.weight
    dz = np.moveaxis(dy, saved.axis, 1)
    dweight = np.tensordot(dz, _windows(x, weight.shape[2:], *saved.steps), axes=((0, 2, 3), (0, 2, 3)))
    dbias = channel_sum(dy, channel_axis=saved.axis) if saved.has_bias else None
    dx = None
    if need_dx:
        windows = np.tensordot(dz, weight, axes=(1, 0)).transpose(0, 3, 1, 2, 4, 5)  # (N, C, oh, ow, kh, kw)
        dx = np.moveaxis(_add_windows(windows, x.shape[2:], *saved.steps), 1, saved.axis)
        dx = into(out, np.ascontiguousarray(dx))
    return dx, dweight, dbias


def max_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    *,
    channel_axis: int = 1,
    out: Array | None = None,
) -> tuple[Array, Saved]:
    """The maximum of each window; NaN is larger than everything.

    Parameters
    ----------
    x : (N, C, H, W) array, or (N, H, W, C)
    kernel_size : int or (kh, kw)
    stride : int or pair, optional
        Default: `kernel_size`.
    padding : int or pair, default 0
    channel_axis : int, default 1
    out : array, optional
        Receives the result.

    Returns
    -------
    y : (N, C, oh, ow) array, or (N, oh, ow, C)
    saved : Saved
    """
    stride = kernel_size if stride is None else stride
    images = np.moveaxis(x, channel_axis, 1)
    windows = _windows(images, kernel_size, stride, padding, fill=-np.inf)
    inside = _windows(np.ones_like(images, bool), kernel_size, stride, padding, fill=False)
    top = windows.max((4, 5))
    taps = math.prod(_pair(kernel_size))
    is_top = ((windows == top[..., None, None]) & inside).reshape(*top.shape, taps)
    last_nan = taps - 1 - np.isnan(windows).reshape(*top.shape, taps)[..., ::-1].argmax(-1)
    where = np.where(np.isnan(top), last_nan, is_top.argmax(-1))
    saved = Saved(where=where, kernel_size=kernel_size, shape=images.shape, steps=(stride, padding), axis=channel_axis)
    return into(out, np.ascontiguousarray(np.moveaxis(top, 1, channel_axis))), saved


def max_pool2d_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> Array:
    """Gradient of `max_pool2d`: each output's goes to its maximum, the first of equal ones, the last NaN.

    Parameters
    ----------
    dy : array, gradient of the output
    saved : Saved, from `max_pool2d`
    out : array, optional
        Receives the result.

    Returns
    -------
    array like the input
    """
    check_saved(saved, Saved)
    kh, kw = _pair(saved.kernel_size)
    chosen = saved.where[..., None] == np.arange(kh * kw)
    windows = np.where(chosen, np.moveaxis(dy, saved.axis, 1)[..., None], dy.dtype.type(0))
    dx = _add_windows(windows.reshape(*saved.where.shape, kh, kw), saved.shape[2:], *saved.steps)
    return into(out, np.ascontiguousarray(np.moveaxis(dx, 1, saved.axis)))


def _counts(input_size: Pair, kernel_size: Pair, stride: Pair, padding: Pair, count_include_pad: bool) -> Array:
    """(oh, ow): pixels of each window."""
    windows = _windows(np.ones((1, 1, *_pair(input_size))), kernel_size, stride, padding, fill=count_include_pad)
    counts: Array = windows.sum((0, 1, 4, 5))
    return counts


def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    *,
    count_include_pad: bool = True,
    channel_axis: int = 1,
    out: Array | None = None,
) -> Array:
    """The mean of each window.

    Parameters
    ----------
    x : (N, C, H, W) array, or (N, H, W, C)
    kernel_size : int or (kh, kw)
    stride : int or pair, optional
        Default: `kernel_size`.
    padding : int or pair, default 0
    count_include_pad : bool, default True
        Whether the padding counts.
    channel_axis : int, default 1
    out : array, optional
        Receives the result.

    Returns
    -------
    (N, C, oh, ow) array, or (N, oh, ow, C)
    """
    stride = kernel_size if stride is None else stride
    images = np.moveaxis(x, channel_axis, 1)
    sums = _windows(images, kernel_size, stride, padding).sum((4, 5), dtype=wide(x))
    y = sums / _counts(images.shape[2:], kernel_size, stride, padding, count_include_pad)
    return into(out, np.ascontiguousarray(np.moveaxis(y.astype(x.dtype), 1, channel_axis)))


def avg_pool2d_backward(
    dy: Array,
    input_size: Pair,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    *,
    count_include_pad: bool = True,
    channel_axis: int = 1,
    out: Array | None = None,
) -> Array:
    """Gradient of `avg_pool2d`.

    Parameters
    ----------
    dy : array, gradient of the output
    input_size : (H, W)
    kernel_size : int or (kh, kw)
    stride, padding : int or pair
    count_include_pad : bool, default True
    channel_axis : int, default 1
    out : array, optional
        Receives the result.

    Returns
    -------
    (N, C, H, W) array, or (N, H, W, C)
    """
    stride = kernel_size if stride is None else stride
    shares = np.moveaxis(dy, channel_axis, 1) / _counts(input_size, kernel_size, stride, padding, count_include_pad)
    windows = np.broadcast_to(shares[..., None, None], (*shares.shape, *_pair(kernel_size)))
    dx = _add_windows(windows, input_size, stride, padding).astype(dy.dtype)
    return into(out, np.ascontiguousarray(np.moveaxis(dx, 1, channel_axis)))


def global_avg_pool2d(x: Array, *, channel_axis: int = 1, out: Array | None = None) -> Array:
    """The mean of each channel of each image.

    Parameters
    ----------
    x : (N, C, H, W) array, or (N, H, W, C)
    channel_axis : int, default 1
    out : (N, C) array, optional
        Receives the result.

    Returns
    -------
    (N, C) array
    """
    return into(out, np.moveaxis(x, channel_axis, 1).mean((2, 3), dtype=wide(x)).astype(x.dtype))


def global_avg_pool2d_backward(
    dy: Array, input_size: Pair, *, channel_axis: int = 1, out: Array | None = None
) -> Array:
    """Gradient of `global_avg_pool2d`: dy / (H * W) in each pixel.

    Parameters
    ----------
    dy : (N, C) array
    input_size : (H, W)
    channel_axis : int, default 1
    out : array, optional
        Receives the result.

    Returns
    -------
    (N, C, H, W) array, or (N, H, W, C)
    """
    h, w = _pair(input_size)
    dx = np.broadcast_to((dy / dy.dtype.type(h * w))[..., None, None], (*dy.shape, h, w))
    return into(out, np.ascontiguousarray(np.moveaxis(dx, 1, channel_axis)))
