"""Windows over images in NumPy as it is usually written: views of all windows, and a loop over the taps backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.bench.peers.common import Array

Pair = tuple[int, int]


def _windows(
    x: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1), fill: float = 0
) -> Array:
    """(N, C, oh, ow, kh, kw)."""
    if any(padding):
        x = np.pad(x, ((0, 0), (0, 0), *((pad, pad) for pad in padding)), constant_values=fill)
    extent = tuple((kernel - 1) * gap + 1 for kernel, gap in zip(kernel_size, dilation, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(x, extent, (2, 3))
    return windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def _add_windows(windows: Array, size: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1)) -> Array:
    n, c, oh, ow, kh, kw = windows.shape
    x = np.zeros((n, c, size[0] + 2 * padding[0], size[1] + 2 * padding[1]), windows.dtype)
    for i in range(kh):
        for j in range(kw):
            top, left = i * dilation[0], j * dilation[1]
            rows = slice(top, top + oh * stride[0] - stride[0] + 1, stride[0])
            columns = slice(left, left + ow * stride[1] - stride[1] + 1, stride[1])
            x[:, :, rows, columns] += windows[..., i, j]
    return x[:, :, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]


class NumpyWindows:
    """Operations of a peer; channels last are moved to the front and back, which copies nothing."""

    def im2col(
        self, x: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, *, channel_axis: int, out: None
    ) -> Array:
        windows = _windows(np.moveaxis(x, channel_axis, 1), kernel_size, stride, padding, dilation)
        n, c, oh, ow, kh, kw = windows.shape
        if channel_axis == 1:
            columns: Array = windows.transpose(1, 4, 5, 0, 2, 3).reshape(c * kh * kw, n * oh * ow)
        else:
            columns = windows.transpose(0, 2, 3, 4, 5, 1).reshape(n * oh * ow, kh * kw * c)
        return columns

    def col2im(
        self,
        columns: Array,
        input_size: Pair,
        kernel_size: Pair,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        *,
        channel_axis: int,
        out: None,
    ) -> Array:
        each = zip(input_size, kernel_size, stride, padding, dilation, strict=True)
        places = tuple((n + 2 * pad - gap * (kernel - 1) - 1) // step + 1 for n, kernel, step, pad, gap in each)
        if channel_axis == 1:
            c = len(columns) // (kernel_size[0] * kernel_size[1])
            windows = columns.reshape(c, *kernel_size, -1, *places).transpose(3, 0, 4, 5, 1, 2)
        else:
            c = columns.shape[1] // (kernel_size[0] * kernel_size[1])
            windows = columns.reshape(-1, *places, *kernel_size, c).transpose(0, 5, 1, 2, 3, 4)
        return np.moveaxis(_add_windows(windows, input_size, stride, padding, dilation), 1, channel_axis)

    def max_pool2d(
        self, x: Array, kernel_size: Pair, stride: Pair, padding: Pair, *, channel_axis: int, out: None
    ) -> tuple[Array, Any]:
        images = np.moveaxis(x, channel_axis, 1)
        windows = _windows(images, kernel_size, stride, padding, fill=-np.inf)
        y = windows.max((4, 5))
        return np.moveaxis(y, 1, channel_axis), (windows, y, images.shape[2:], stride, padding, channel_axis)

    def max_pool2d_backward(self, dy: Array, saved: Any, *, out: None) -> Array:
        windows, y, size, stride, padding, channel_axis = saved
        gradients = (windows == y[..., None, None]) * np.moveaxis(dy, channel_axis, 1)[..., None, None]
        return np.moveaxis(_add_windows(gradients, size, stride, padding), 1, channel_axis)

    def avg_pool2d(
        self,
        x: Array,
        kernel_size: Pair,
        stride: Pair,
        padding: Pair,
        *,
        count_include_pad: bool,
        channel_axis: int,
        out: None,
    ) -> Array:
        windows = _windows(np.moveaxis(x, channel_axis, 1), kernel_size, stride, padding)
        return np.moveaxis(windows.mean((4, 5)), 1, channel_axis)

    def avg_pool2d_backward(
        self,
        dy: Array,
        input_size: Pair,
        kernel_size: Pair,
        stride: Pair,
        padding: Pair,
        *,
        count_include_pad: bool,
        channel_axis: int,
        out: None,
    ) -> Array:
        shares = np.moveaxis(dy, channel_axis, 1) / np.float32(kernel_size[0] * kernel_size[1])
        windows = np.broadcast_to(shares[..., None, None], (*shares.shape, *kernel_size))
        return np.moveaxis(_add_windows(windows, input_size, stride, padding), 1, channel_axis)

    def global_avg_pool2d(self, x: Array, *, channel_axis: int, out: None) -> Array:
        means: Array = x.mean((2, 3) if channel_axis == 1 else (1, 2))
        return means

    def global_avg_pool2d_backward(self, dy: Array, input_size: Pair, *, channel_axis: int, out: None) -> Array:
        share = np.expand_dims(dy / np.float32(input_size[0] * input_size[1]), (2, 3) if channel_axis == 1 else (1, 2))
        (n, c), (h, w) = dy.shape, input_size
        dx: Array = np.broadcast_to(share, (n, c, h, w) if channel_axis == 1 else (n, h, w, c)).copy()
        return dx
