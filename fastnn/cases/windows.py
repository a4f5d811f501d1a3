"""Windows over images: the columns of a convolution, convolution, and pooling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from fastnn.cases.base import Array, Case, Inputs, Layout, Outputs, normal

Pair = tuple[int, int]

# Of (N, C, H, W): ragged rows, planes of which a band holds only a part, and at the end work for many threads.
_SHAPES = ((0, 2, 5, 5), (1, 1, 3, 4), (2, 3, 7, 8), (1, 2, 16, 17), (3, 17, 9, 13), (1, 2, 191, 180), (9, 33, 11, 10))
_BENCH = ((4, 16, 8, 8), (32, 32, 28, 28), (84, 64, 56, 56))


def _layouts() -> Iterator[Layout]:
    yield Layout("nchw", 1, _SHAPES, _BENCH)
    last = tuple(tuple((n, h, w, c) for n, c, h, w in shapes) for shapes in (_SHAPES, _BENCH))
    yield Layout("nhwc", -1, *last)


@dataclass(frozen=True, kw_only=True)
class WindowCase(Case):
    """Base of the cases here; its parameters are those of a convolution."""

    family: ClassVar[str] = "window"
    layout: Layout
    kernel_size: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def channels(self, shape: Any) -> int:
        return int(shape[self.layout.channel_axis])

    def size(self, shape: Any) -> Pair:
        """Height and width."""
        h, w = shape[2:] if self.layout.channel_axis == 1 else shape[1:3]
        return h, w

    def places(self, shape: Any) -> Pair:
        """Height and width of what the windows give."""
        each = zip(self.size(shape), self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        h, w = ((n + 2 * pad - gap * (kernel - 1) - 1) // step + 1 for n, kernel, step, pad, gap in each)
        return h, w

    def images(self, shape: Any, channels: int) -> tuple[int, ...]:
        """Shape of an image for each sample, as large as the windows have places."""
        h, w = self.places(shape)
        return (shape[0], channels, h, w) if self.layout.channel_axis == 1 else (shape[0], h, w, channels)

    def output_shape(self, shape: Any) -> tuple[int, ...]:
        return self.images(shape, self.channels(shape))

    def out_shape(self, shape: Any, direction: str) -> Any:
        """Shape of what `out` receives."""
        return self.output_shape(shape) if direction == "forward" else shape

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        arrays = {"x": normal(rng, shape, dtype), "dy": normal(rng, self.output_shape(shape), dtype)}
        return {**arrays, "size": self.size(shape)}

    def options(self) -> dict[str, Any]:
        """Arguments that every op here has."""
        return {"channel_axis": self.layout.channel_axis}

    def terms(self, shape: Any, output: str) -> int:
        return self.kernel_size[0] * self.kernel_size[1]


@dataclass(frozen=True, kw_only=True)
class Im2colCase(WindowCase):
    def output_shape(self, shape: Any) -> tuple[int, ...]:
        h, w = self.places(shape)
        taps, places = self.channels(shape) * self.kernel_size[0] * self.kernel_size[1], shape[0] * h * w
        return (taps, places) if self.layout.channel_axis == 1 else (places, taps)

    def _steps(self) -> tuple[Pair, ...]:
        return self.kernel_size, self.stride, self.padding, self.dilation

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        return {"y": F.im2col(inputs["x"], *self._steps(), **self.options(), out=out)}, None

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs:
        size = inputs["size"]
        return {"dx": F.col2im(inputs["dy"], size, *self._steps(), **self.options(), out=out)}


@dataclass(frozen=True, kw_only=True)
class Conv2dCase(WindowCase):
    """Of whole numbers, whose products and sums are exact: the bits are then the same whatever the BLAS."""

    outputs: int = 9
    bias: bool = True

    def output_shape(self, shape: Any) -> tuple[int, ...]:
        return self.images(shape, self.outputs)

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        shapes: dict[str, Any] = {"x": shape, "dy": self.output_shape(shape)}
        shapes["weight"] = (self.outputs, self.channels(shape), *self.kernel_size)
        if self.bias:
            shapes["bias"] = (self.outputs,)
        return {name: rng.integers(-4, 5, each).astype(dtype) for name, each in shapes.items()}

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        steps = self.stride, self.padding, self.dilation
        y, saved = F.conv2d(inputs["x"], inputs["weight"], inputs.get("bias"), *steps, **self.options(), out=out)
        return {"y": y}, saved

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs:
        dx, dweight, dbias = F.conv2d_backward(inputs["dy"], saved, out=out)
        return {"dx": dx, "dweight": dweight} | ({"dbias": dbias} if self.bias else {})


@dataclass(frozen=True, kw_only=True)
class MaxPoolCase(WindowCase):
    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        y, saved = F.max_pool2d(inputs["x"], self.kernel_size, self.stride, self.padding, **self.options(), out=out)
        return {"y": y}, saved

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs:
        return {"dx": F.max_pool2d_backward(inputs["dy"], saved, out=out)}


@dataclass(frozen=True, kw_only=True)
class AvgPoolCase(WindowCase):
    count_include_pad: bool = True

    def options(self) -> dict[str, Any]:
        return {**super().options(), "count_include_pad": self.count_include_pad}

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        steps = self.kernel_size, self.stride, self.padding
        return {"y": F.avg_pool2d(inputs["x"], *steps, **self.options(), out=out)}, None

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs:
        steps = inputs["size"], self.kernel_size, self.stride, self.padding
        return {"dx": F.avg_pool2d_backward(inputs["dy"], *steps, **self.options(), out=out)}


@dataclass(frozen=True, kw_only=True)
class GlobalAvgPoolCase(WindowCase):
    def output_shape(self, shape: Any) -> tuple[int, ...]:
        return (shape[0], self.channels(shape))

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        return {"y": F.global_avg_pool2d(inputs["x"], **self.options(), out=out)}, None

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs:
        size = inputs["size"]
        return {"dx": F.global_avg_pool2d_backward(inputs["dy"], size, **self.options(), out=out)}

    def terms(self, shape: Any, output: str) -> int:
        h, w = self.size(shape)
        return h * w


_THREE: dict[str, Pair] = {"kernel_size": (3, 3), "padding": (1, 1)}
_TWO: dict[str, Pair] = {"kernel_size": (2, 2), "stride": (2, 2)}
_HALVED: dict[str, Pair] = _THREE | {"stride": (2, 2)}
_UNEVEN: dict[str, Pair] = {"kernel_size": (3, 2), "stride": (1, 3), "padding": (2, 1), "dilation": (2, 1)}
_WIDE: dict[str, Pair] = {"kernel_size": (17, 16), "stride": (3, 5), "padding": (8, 8)}

_VARIANTS: tuple[tuple[type[WindowCase], str, str, dict[str, Any]], ...] = (
    (Im2colCase, "im2col", "3x3", _THREE),
    (Im2colCase, "im2col", "3x3,stride=2", _HALVED),
    (Im2colCase, "im2col", "uneven", _UNEVEN),
    (Conv2dCase, "conv2d", "3x3", _THREE),
    (Conv2dCase, "conv2d", "1x1", {}),
    (Conv2dCase, "conv2d", "uneven,no_bias", _UNEVEN | {"bias": False}),
    (MaxPoolCase, "max_pool2d", "2x2", _TWO),
    (MaxPoolCase, "max_pool2d", "3x3,stride=2", _HALVED),
    (MaxPoolCase, "max_pool2d", "17x16", _WIDE),
    (AvgPoolCase, "avg_pool2d", "2x2", _TWO),
    (AvgPoolCase, "avg_pool2d", "3x3,stride=2", _HALVED),
    (AvgPoolCase, "avg_pool2d", "3x3,stride=2,inside", _HALVED | {"count_include_pad": False}),
    (GlobalAvgPoolCase, "global_avg_pool2d", "", {}),
)
_TIMED = ("3x3", "3x3,stride=2", "2x2", "")
_BACKWARD = {"im2col": "col2im"}


def rows() -> Iterator[Case]:
    for (kind, op, label, options), layout in product(_VARIANTS, _layouts()):
        bench = layout.bench if label in _TIMED and kind is not Conv2dCase else ()
        gradients = {"dx": "x"}
        if kind is Conv2dCase:
            gradients |= {"dweight": "weight"} | ({"dbias": "bias"} if options.get("bias", True) else {})
        yield kind(
            name=f"{op}/{layout.label}" + (f"/{label}" if label else ""),
            ops=(op, _BACKWARD.get(op, f"{op}_backward")),
            shapes=layout.shapes,
            # a column matrix has nine times the elements of the images
            bench=bench[:2] + tuple((n // 8, *rest) for n, *rest in bench[2:]) if kind is Im2colCase else bench,
            tolerance="reduction",
            gradients=gradients,
            layout=layout,
            **options,
        )
