"""`prelu` and `maxout`: activations with gradients of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from fastnn.cases.base import FLAT, FLAT_BENCH, LAYOUTS, Array, Case, Inputs, Layout, Outputs, normal, size_of

_FLAT = Layout("flat", 1, FLAT, FLAT_BENCH)  # one slope: the channels do not matter

# Units side by side, and planes; the channels are multiples of 2, 3, 4, 5 and, in the last place, of 256.
_UNITS = Layout(
    "units",
    1,
    ((4, 0), (0, 60), (1, 60), (17, 60), (3, 1020), (2, 7680), (131, 960)),
    ((16, 120), (256, 480), (4096, 480), (16384, 1920)),
)
_PLANES = Layout(
    "planes",
    1,
    ((2, 60, 0), (1, 60, 1, 3), (2, 60, 4, 4), (1, 60, 17), (2, 120, 5, 7), (1, 60, 1025), (1, 240, 41, 31)),
    ((4, 12, 4, 4), (3, 480, 7, 7), (21, 240, 14, 14), (84, 60, 56, 56)),
)


@dataclass(frozen=True, kw_only=True)
class PreluCase(Case):
    """One slope with the flat layout, else one for each channel."""

    family: ClassVar[str] = "piecewise"
    layout: Layout

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        slopes = 1 if self.layout is _FLAT else self.layout.channels(shape)
        return {
            "x": normal(rng, shape, dtype),
            "dy": normal(rng, shape, dtype),
            "weight": normal(rng, slopes, dtype, 0.25, 0.25),
        }

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        y = F.prelu(inputs["x"], inputs["weight"], channel_axis=self.layout.channel_axis, out=out)
        return {"y": y}, inputs["x"]

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs:
        axis = self.layout.channel_axis
        dx, dweight = F.prelu_backward(inputs["dy"], saved, inputs["weight"], channel_axis=axis, out=out)
        return {"dx": dx, "dweight": dweight}

    def tolerance_of(self, output: str) -> str:
        """Tolerance of the named output."""
        return "reduction" if output == "dweight" else self.tolerance

    def terms(self, shape: Any, output: str) -> int:
        if output != "dweight":
            return 1
        return max(1, size_of(shape) if self.layout is _FLAT else self.layout.terms(shape))


@dataclass(frozen=True, kw_only=True)
class MaxoutCase(Case):
    family: ClassVar[str] = "piecewise"
    layout: Layout
    pieces: int

    def out_shape(self, shape: Any, direction: str) -> Any:
        """Shape of what `out` receives."""
        axis = self.layout.channel_axis
        return shape if direction == "backward" else (*shape[:axis], shape[axis] // self.pieces, *shape[axis + 1 :])

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        return {"x": normal(rng, shape, dtype), "dy": normal(rng, self.out_shape(shape, "forward"), dtype)}

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        y, saved = F.maxout(inputs["x"], self.pieces, self.layout.channel_axis, out=out)
        return {"y": y}, saved

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs:
        return {"dx": F.maxout_backward(inputs["dy"], saved, out=out)}


def rows() -> Iterator[Case]:
    for layout in (_FLAT, *LAYOUTS[:3]):
        yield PreluCase(
            name=f"prelu/{layout.label}",
            ops=("prelu", "prelu_backward"),
            shapes=layout.shapes,
            bench=layout.bench,
            gradients={"dx": "x", "dweight": "weight"},
            in_place_backward=("dy",),
            layout=layout,
        )
    for layout, pieces in ((_UNITS, 2), (_UNITS, 3), (_UNITS, 4), (_UNITS, 5), (_PLANES, 2), (_PLANES, 3)):
        yield MaxoutCase(
            name=f"maxout/{layout.label},{pieces}",
            ops=("maxout", "maxout_backward"),
            shapes=layout.shapes,
            bench=layout.bench if pieces in (2, 5) else (),
            tolerance="exact",
            gradients={"dx": "x"},
            layout=layout,
            pieces=pieces,
        )
    yield MaxoutCase(
        name="maxout/units,256",
        ops=("maxout", "maxout_backward"),
        shapes=((1, 256), (3, 256), (5, 768), (9, 7680)),
        tolerance="exact",
        gradients={"dx": "x"},
        layout=_UNITS,
        pieces=256,
    )
