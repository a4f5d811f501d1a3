"""Losses that are sums over elements."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from fastnn.cases.base import FLAT, FLAT_BENCH, Array, Case, Inputs, Outputs, Work, normal, size_of


@dataclass(frozen=True, kw_only=True)
class ElementwiseLossCase(Case):
    """`weights`: the arrays of those names, one entry per channel, or per element where `whole`."""

    family: ClassVar[str] = "loss"
    params: Mapping[str, Any] = field(default_factory=dict)
    binary: bool = False
    weights: tuple[str, ...] = ()
    whole: str = ""
    cost: Work = field(default_factory=Work)  # per element

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        inputs = {"x": normal(rng, shape, dtype, 0.0, 2.0), "target": normal(rng, shape, dtype)}
        if self.binary:
            share = rng.random(shape)  # a third each of no, yes and in between
            inputs["target"] = np.asarray(np.clip(3 * share - 1, 0, 1), dtype)
        for name in self.weights:
            inputs[name] = np.asarray(0.5 + rng.random(shape if name == self.whole else shape[-1]), dtype)
        return inputs

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        loss_of, arrays = getattr(F, self.ops[0]), {name: inputs[name] for name in self.weights}
        loss, dx = loss_of(inputs["x"], inputs["target"], **arrays, **self.params, out=out)
        if self.params["reduction"] != "none":
            return {"loss": loss, "dx": dx}, None
        return {"losses": loss, "dx": dx, "loss": math.fsum(loss.ravel())}, None

    def work(self, shape: Any, direction: str) -> Work:
        return self.cost.times(size_of(shape))


def rows() -> Iterator[Case]:
    def case(op: str, label: str, reduction: str, **options: Any) -> Case:
        params = {"reduction": reduction, **options.pop("params", {})}
        shapes = options.pop("shapes", FLAT)
        return ElementwiseLossCase(
            name=f"{op}/{label}",
            ops=(op,),
            shapes=shapes,
            tolerance="reduction",
            gradients={"dx": "x"},
            in_place="x",
            params=params,
            **options,
        )

    bce = "binary_cross_entropy_with_logits"
    matrices = (
        (0, 3),
        (1, 1),
        (31, 3),
        (32, 10),
        (33, 17),
        (7, 257),
        (65, 64),
        (5, 1025),
        (3, 4097),
        (1025, 1),
        (1800, 33),
    )
    yield case("mse_loss", "mean", "mean", bench=FLAT_BENCH)
    yield case("mse_loss", "sum", "sum")
    yield case("mse_loss", "none", "none")
    yield case("l1_loss", "mean", "mean", bench=FLAT_BENCH[::2])
    yield case("smooth_l1_loss", "sum", "sum", params={"beta": 0.75}, bench=FLAT_BENCH[::2], cost=Work(div=1))
    yield case("huber_loss", "sum", "sum", params={"delta": 1.25}, bench=FLAT_BENCH[::2])
    yield case(bce, "mean", "mean", binary=True, bench=FLAT_BENCH, cost=Work(exp=1, div=2))
    yield case(bce, "pos_weight", "sum", binary=True, weights=("pos_weight",), shapes=matrices)
    yield case(bce, "weight", "none", binary=True, weights=("weight", "pos_weight"), whole="weight", shapes=matrices)
