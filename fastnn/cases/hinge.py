"""The multi-class hinge loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from fastnn.cases.base import Array, Case, Inputs, Outputs, normal


@dataclass(frozen=True, kw_only=True)
class HingeCase(Case):
    family: ClassVar[str] = "loss"
    params: Mapping[str, Any] = field(default_factory=dict)
    weighted: bool = False

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        rows, classes = shape
        inputs = {"x": normal(rng, shape, dtype), "labels": rng.integers(0, classes, rows)}
        if self.weighted:
            inputs["weight"] = np.asarray(0.5 + rng.random(classes), dtype)
        return inputs

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        weight = {"weight": inputs["weight"]} if self.weighted else {}
        loss, dx = getattr(F, self.ops[0])(inputs["x"], inputs["labels"], **weight, **self.params, out=out)
        if self.params.get("reduction") != "none":
            return {"loss": loss, "dx": dx}, None
        return {"losses": loss, "dx": dx, "loss": math.fsum(loss.ravel())}, None


def rows() -> Iterator[Case]:
    def case(
        label: str, bench: tuple[Any, ...] = (), weighted: bool = False, op: str = "hinge_loss", **params: Any
    ) -> Case:
        return HingeCase(
            name=f"{op}/{label}",
            ops=(op,),
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
            bench=bench,
            tolerance="reduction",
            gradients={"dx": "x"},
            in_place="x",
            params=params,
            weighted=weighted,
        )

    yield case("plain", bench=((128, 10), (6554, 10), (1049, 1000), (8192, 1000)))
    yield case("squared", p=2, margin=0.5, reduction="sum")
    yield case("torch", weighted=True, over_classes="mean", reduction="none")
    yield case("weight", weighted=True, op="multi_margin_loss", p=2)
