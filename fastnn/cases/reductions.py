"""Sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from fastnn.cases.base import LAYOUTS, ROWS, Array, Case, Inputs, Layout, Outputs, normal


@dataclass(frozen=True, kw_only=True)
class ChannelSumCase(Case):
    family: ClassVar[str] = "reduction"
    layout: Layout

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        return {"x": normal(np.random.default_rng(seed), shape, dtype)}

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        return {"sums": F.channel_sum(inputs["x"], channel_axis=self.layout.channel_axis, out=out)}, None

    def out_shape(self, shape: Any, direction: str) -> Any:
        """Shape of what `out` receives."""
        return (self.layout.channels(shape),)

    def terms(self, shape: Any, output: str) -> int:
        return max(self.layout.terms(shape), 1)


def rows() -> Iterator[Case]:
    for layout in (ROWS, *LAYOUTS[1:]):
        yield ChannelSumCase(
            name=f"channel_sum/{layout.label}",
            ops=("channel_sum",),
            shapes=layout.shapes,
            bench=layout.bench,
            tolerance="reduction",
            layout=layout,
        )
