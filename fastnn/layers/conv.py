"""Convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn import _backend, init, random
from fastnn._checks import check_array, check_image_axis, check_pair, check_size
from fastnn.functional.windows import Pair
from fastnn.layers.product import Product

__all__ = ["Conv2d"]


class Conv2d(Product):
    """Cross-correlation of images with learned windows, as `torch.nn.Conv2d`.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or (kh, kw)
    stride, padding, dilation : int or pair, default 1, 0, 1
    bias : bool, default True
        By name, as `groups` comes before it in torch.
    channel_axis : int, default 1
        1 for images (N, C, H, W), -1 for (N, H, W, C).
    dtype : float32 or float64, default float32
    weight_init, bias_init : str, number or function, optional
        Names of `fastnn.init` such as "kaiming_normal", a value for all, or ``function(array, rng=generator)``.
        Default: uniform within 1 / sqrt(in_channels * kh * kw) of zero, as in torch.
    rng : Generator, optional
        One position is drawn for the initial values.  Default: `fastnn.random.default_generator`.

    Attributes
    ----------
    weight : Parameter (out_channels, in_channels, kh, kw)
        In this order in both layouts.
    bias : Parameter (out_channels,), or None

    Notes
    -----
    Kept for backward: x.  See `fastnn.functional.conv2d`.
    """

    ndim = 4
    operation = "conv2d"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        *,
        bias: bool = True,
        channel_axis: int = 1,
        dtype: DTypeLike = np.float32,
        weight_init: init.Init | None = None,
        bias_init: init.Init | None = None,
        rng: random.Generator | None = None,
    ) -> None:
        self.in_channels = check_size("in_channels", in_channels)
        self.out_channels = check_size("out_channels", out_channels)
        kernel = check_pair("kernel_size", kernel_size, 1)
        for name, steps, least in (("stride", stride, 1), ("padding", padding, 0), ("dilation", dilation, 1)):
            check_pair(name, steps, least)
        self.steps: dict[str, Pair] = {"stride": stride, "padding": padding, "dilation": dilation}
        self.channel_axis = check_image_axis(channel_axis)
        self._draw((self.out_channels, self.in_channels, *kernel), bias, dtype, rng, weight_init, bias_init)

    def product(self, x: NDArray[Any]) -> tuple[NDArray[Any], Any]:
        weight = self.weight.data
        check_array("x", x)
        if x.dtype != weight.dtype:
            raise TypeError(f"x: expected {weight.dtype}, the dtype of weight, got {x.dtype}")
        if x.ndim != 4 or x.shape[self.channel_axis] != self.in_channels:
            raise ValueError(
                f"x: expected 4 dimensions with {self.in_channels} channels along axis {self.channel_axis}, "
                f"got {x.shape}"
            )
        z, kept = _backend.ops.conv2d(x, weight, **self.steps, channel_axis=self.channel_axis)
        return z, kept

    def product_backward(self, dz: NDArray[Any], kept: Any, accumulate: bool, need_dx: bool) -> Any:
        if not accumulate:
            self.weight.grad = None  # so that its memory is there for the new one, if nobody else holds it
        dx, dweight, _ = _backend.ops.conv2d_backward(dz, kept, need_dx=need_dx)
        self.weight.set_grad(dweight, accumulate)
        return dx

    def __repr__(self) -> str:
        kernel = self.weight.data.shape[2:]
        steps = [f"{name}={value}" for name, value in self.steps.items() if value != (0 if name == "padding" else 1)]
        rest = [*steps, *["bias=False"] * (self.bias is None), *["channel_axis=-1"] * (self.channel_axis == -1)]
        return f"Conv2d({', '.join([str(self.in_channels), str(self.out_channels), str(kernel), *rest])})"
