"""Pooling."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastnn import _backend
from fastnn._checks import check_array, check_image_axis, check_pair
from fastnn.functional.windows import Pair
from fastnn.layers.module import Module

__all__ = ["AvgPool2d", "GlobalAvgPool2d", "MaxPool2d"]


def _size(shape: tuple[int, ...], channel_axis: int) -> tuple[int, ...]:
    """Height and width of images."""
    return shape[2:] if channel_axis in (1, -3) else shape[1:3]


class _Pool(Module):
    """Windows of one size."""

    _fresh_dx = True

    def __init__(
        self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, *, channel_axis: int = 1
    ) -> None:
        kernel = check_pair("kernel_size", kernel_size, 1)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        check_pair("stride", self.stride, 1)
        if any(2 * pad > size for pad, size in zip(check_pair("padding", padding, 0), kernel, strict=True)):
            raise ValueError(f"padding: expected at most half of kernel_size {kernel_size}, got {padding}")
        self.padding = padding
        self.channel_axis = check_image_axis(channel_axis)

    def __repr__(self) -> str:
        rest = f", padding={self.padding}" if self.padding != 0 else ""
        rest += ", channel_axis=-1" if self.channel_axis == -1 else ""
        return f"{type(self).__name__}({self.kernel_size}, {self.stride}{rest})"


class MaxPool2d(_Pool):
    """The maximum of each window, as `torch.nn.MaxPool2d`.

    Parameters
    ----------
    kernel_size : int or (kh, kw)
    stride : int or pair, optional
        Default: `kernel_size`.
    padding : int or pair, default 0
    channel_axis : int, default 1
        1 for images (N, C, H, W), -1 for (N, H, W, C).

    Notes
    -----
    Kept for backward: one byte for each output.  See `fastnn.functional.max_pool2d`.
    """

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        y, saved = _backend.ops.max_pool2d(
            x, self.kernel_size, self.stride, self.padding, channel_axis=self.channel_axis
        )
        return y, saved if training else None

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        return _backend.ops.max_pool2d_backward(dy, saved)


class AvgPool2d(_Pool):
    """The mean of each window, as `torch.nn.AvgPool2d`.

    Parameters
    ----------
    kernel_size : int or (kh, kw)
    stride : int or pair, optional
        Default: `kernel_size`.
    padding : int or pair, default 0
    count_include_pad : bool, default True
        Whether the padding counts.
    channel_axis : int, default 1
        1 for images (N, C, H, W), -1 for (N, H, W, C).

    Notes
    -----
    Kept for backward: the size of the images.  See `fastnn.functional.avg_pool2d`.
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        *,
        count_include_pad: bool = True,
        channel_axis: int = 1,
    ) -> None:
        super().__init__(kernel_size, stride, padding, channel_axis=channel_axis)
        self.count_include_pad = count_include_pad

    def _options(self) -> dict[str, Any]:
        return {"count_include_pad": self.count_include_pad, "channel_axis": self.channel_axis}

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        y = _backend.ops.avg_pool2d(x, self.kernel_size, self.stride, self.padding, **self._options())
        return y, _size(x.shape, self.channel_axis)

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        steps = self.kernel_size, self.stride, self.padding
        return _backend.ops.avg_pool2d_backward(dy, saved, *steps, **self._options())


class GlobalAvgPool2d(Module):
    """The mean of each channel of each image: (N, C), as `torch.nn.AdaptiveAvgPool2d` to one pixel and `Flatten`.

    Parameters
    ----------
    channel_axis : int, default 1
        1 for images (N, C, H, W), -1 for (N, H, W, C).

    Notes
    -----
    Kept for backward: the size of the images.  See `fastnn.functional.global_avg_pool2d`.
    """

    _fresh_dx = True

    def __init__(self, *, channel_axis: int = 1) -> None:
        self.channel_axis = check_image_axis(channel_axis)

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        check_array("x", x)
        y = _backend.ops.global_avg_pool2d(x, channel_axis=self.channel_axis)
        return y, _size(x.shape, self.channel_axis)

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        return _backend.ops.global_avg_pool2d_backward(dy, saved, channel_axis=self.channel_axis)

    def __repr__(self) -> str:
        return f"GlobalAvgPool2d({'channel_axis=-1' if self.channel_axis == -1 else ''})"
