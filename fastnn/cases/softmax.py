"""Softmax and its logarithm, along any axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from fastnn.cases.base import Array, Case, Inputs, Outputs, Work, normal, size_of

# Around 16 lanes, tiles of 64 lines, rows of 128, pieces of 4096; planes shorter than 16 and longer.
SHAPES: dict[str, tuple[int, tuple[Any, ...], tuple[Any, ...]]] = {
    "rows": (
        -1,
        (
            (0, 3),
            (3, 0),
            (1, 1),
            (7,),
            (15, 16),
            (17, 3),
            (65, 33),
            (5, 127),
            (3, 128),
            (2, 3, 257),
            (3, 1025),
            (2, 9001),
            (1800, 33),
        ),
        ((128, 10), (6554, 10), (1024, 1024), (8192, 1000), (2048, 8192)),
    ),
    "planes": (
        1,
        (
            (0, 3, 4),
            (1, 1, 1),
            (2, 17, 15),
            (65, 5, 2),
            (3, 16, 4, 4),
            (2, 33, 17),
            (1, 130, 65),
            (1, 4100, 3),
            (2, 300, 16),
            (8, 21, 10, 12),
        ),
        ((16, 10, 8), (8, 21, 64, 64), (16, 64, 128, 128)),
    ),
    "columns": (0, ((3, 1), (5, 3, 7), (1000, 3), (40, 16), (9000, 2), (64, 900)), ((256, 256), (1000, 8192))),
}


@dataclass(frozen=True, kw_only=True)
class SoftmaxCase(Case):
    family: ClassVar[str] = "softmax"
    axis: int

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        return {"x": normal(rng, shape, dtype, 0.0, 3.0), "dy": normal(rng, shape, dtype)}

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        y = getattr(F, self.ops[0])(inputs["x"], self.axis, out=out)
        return {"y": y}, y

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs:
        return {"dx": getattr(F, self.ops[1])(inputs["dy"], saved, self.axis, out=out)}

    def work(self, shape: Any, direction: str) -> Work:
        return Work(exp=0 if (self.ops[0], direction) == ("softmax", "backward") else size_of(shape))

    def terms(self, shape: Any, output: str) -> int:
        return max(shape[self.axis], 1) if output == "dx" else 1


def rows() -> Iterator[Case]:
    for name in ("softmax", "log_softmax"):
        for label, (axis, shapes, bench) in SHAPES.items():
            yield SoftmaxCase(
                name=f"{name}/{label}",
                ops=(name, f"{name}_backward"),
                shapes=shapes,
                bench=bench,
                gradients={"dx": "x"},
                in_place="x",
                in_place_backward=("dy",),
                axis=axis,
            )
