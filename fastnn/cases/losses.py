"""Losses, which give their gradient in the forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from fastnn.cases.base import Array, Case, Inputs, Outputs, Work, normal, size_of


@dataclass(frozen=True, kw_only=True)
class CrossEntropyCase(Case):
    family: ClassVar[str] = "loss"

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        rows, classes = shape
        return {"logits": normal(rng, shape, dtype, 0.0, 3.0), "labels": rng.integers(0, classes, rows)}

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        loss, dlogits = F.softmax_cross_entropy(inputs["logits"], inputs["labels"], out=out)
        return {"loss": loss, "dlogits": dlogits}, None

    def work(self, shape: Any, direction: str) -> Work:
        return Work(exp=size_of(shape))


def rows() -> Iterator[Case]:
    yield CrossEntropyCase(
        name="softmax_cross_entropy/rows",
        ops=("softmax_cross_entropy",),
        shapes=(
            (0, 3),
            (1, 1),
            (3, 10),
            (15, 16),
            (17, 3),
            (33, 64),
            (5, 257),
            (3, 1023),
            (4, 1025),
            (1025, 2),
            (4097, 1),
            (2400, 20),
        ),
        bench=((128, 10), (6554, 10), (1049, 1000), (8192, 1000), (2048, 32000)),
        tolerance="reduction",
        gradients={"dlogits": "logits"},
        in_place="logits",
    )
