"""Dropout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from fastnn import random
from fastnn.cases.base import FLAT, FLAT_BENCH, Array, Case, Inputs, Outputs, Work, normal, size_of


@dataclass(frozen=True, kw_only=True)
class DropoutCase(Case):
    family: ClassVar[str] = "dropout"
    p: float = 0.5
    first: int = 0

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        generator = random.Generator(seed + (5 << 40), position=3)
        return {"x": normal(rng, shape, dtype), "dy": normal(rng, shape, dtype), "rng": generator}

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        y, saved = F.dropout(inputs["x"], self.p, rng=inputs["rng"], first=self.first, out=out)
        return {"y": y}, saved

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs:
        return {"dx": F.dropout_backward(inputs["dy"], saved, out=out)}

    def work(self, shape: Any, direction: str) -> Work:
        return Work(random_bits=size_of(shape) if 0 < self.p < 1 else 0)


def rows() -> Iterator[Case]:
    for p, first in ((0.5, 0), (0.1, 0), (0.9, 77), (0.0, 0), (1.0, 0)):
        yield DropoutCase(
            name=f"dropout/p={p}" + (f",first={first}" if first else ""),
            ops=("dropout", "dropout_backward"),
            shapes=FLAT,
            bench=FLAT_BENCH if p == 0.5 else (),
            gradients={"dx": "x"},
            in_place="x",
            in_place_backward=("dy",),
            p=p,
            first=first,
        )
