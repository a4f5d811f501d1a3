"""Softmax over a tree of classes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from fastnn._tree import huffman
from fastnn.cases.base import Array, Case, Inputs, Outputs, normal


@dataclass(frozen=True, kw_only=True)
class HierarchicalSoftmaxCase(Case):
    """Shapes are (samples, classes); frequencies follow Zipf's law."""

    family: ClassVar[str] = "loss"
    features: int
    reduction: str

    def out_shape(self, shape: Any, direction: str) -> Any:
        """Shape of what `out` receives."""
        return (shape[0], self.features)

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        samples, classes = shape
        counts = 1 / np.arange(1.0, classes + 1)
        tree = huffman(counts)
        return {
            "x": normal(rng, (samples, self.features), dtype),
            "weight": normal(rng, (classes - 1, self.features), dtype, 0.0, self.features**-0.5),
            "bias": normal(rng, classes - 1, dtype),
            "path_nodes": tree.path_nodes,
            "path_codes": tree.path_codes,
            "path_offsets": tree.path_offsets,
            "labels": rng.choice(classes, samples, p=counts / counts.sum()),
        }

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        loss, dx, nodes, *rows = F.hierarchical_softmax(*inputs.values(), self.reduction, out=out)
        outputs = {"loss": loss, "dx": dx}
        for name, values in zip(("weight", "bias"), rows, strict=True):  # dense, to be compared
            outputs[f"d{name}"] = np.zeros_like(inputs[name])
            outputs[f"d{name}"][nodes] = values
        if self.reduction == "none":
            outputs |= {"losses": loss, "loss": math.fsum(loss)}
        return outputs, None

    def terms(self, shape: Any, output: str) -> int:
        return max(shape[0], 1) if output in ("dweight", "dbias") else 1


def rows() -> Iterator[Case]:
    def case(features: int, reduction: str, bench: tuple[Any, ...] = ()) -> Case:
        return HierarchicalSoftmaxCase(
            name=f"hierarchical_softmax/{features}",
            ops=("hierarchical_softmax",),
            shapes=((0, 3), (1, 2), (17, 16), (33, 64), (5, 257), (129, 37), (1, 1025), (400, 70)),
            bench=bench,
            tolerance="reduction",
            gradients={"dx": "x", "dweight": "weight", "dbias": "bias"},
            features=features,
            reduction=reduction,
        )

    yield case(37, "none")
    yield case(128, "mean", bench=((128, 1000), (128, 10000), (2048, 10000)))
