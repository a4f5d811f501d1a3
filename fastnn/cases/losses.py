"""Losses, which give their gradient in the forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from fastnn.cases.base import Array, Case, Inputs, Outputs, Work, normal, size_of


@dataclass(frozen=True, kw_only=True)
class ClassLossCase(Case):
    """A loss of classes along axis 1, the first argument of which is called `name_of_input`."""

    family: ClassVar[str] = "loss"
    name_of_input: ClassVar[str]
    weighted: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def labels(self, rng: np.random.Generator, shape: Any, dtype: DTypeLike) -> Array:
        return rng.integers(0, shape[1], (shape[0], *shape[2:]))

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        inputs = {self.name_of_input: normal(rng, shape, dtype, 0.0, 3.0), "labels": self.labels(rng, shape, dtype)}
        if self.weighted:
            inputs["weight"] = rng.uniform(0.5, 2, shape[1]).astype(dtype)
        if "ignore_index" in self.options:
            inputs["labels"].reshape(-1)[3::4] = self.options["ignore_index"]
        return inputs

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        options = {**self.options, "weight": inputs["weight"]} if self.weighted else self.options
        loss, gradient = getattr(F, self.ops[0])(inputs[self.name_of_input], inputs["labels"], **options, out=out)
        return {"loss": loss, f"d{self.name_of_input}": gradient}, None


@dataclass(frozen=True, kw_only=True)
class CrossEntropyCase(ClassLossCase):
    name_of_input: ClassVar[str] = "logits"
    probabilities: bool = False

    def labels(self, rng: np.random.Generator, shape: Any, dtype: DTypeLike) -> Array:
        if not self.probabilities:
            return super().labels(rng, shape, dtype)
        t = rng.random(shape)
        return np.asarray(t / t.sum(1, keepdims=True), dtype)

    def work(self, shape: Any, direction: str) -> Work:
        return Work(exp=size_of(shape))


@dataclass(frozen=True, kw_only=True)
class NLLCase(ClassLossCase):
    name_of_input: ClassVar[str] = "log_probs"


# As rows of the plain loss, which see every path; of the options a few of each path.
SHAPES: tuple[Any, ...] = ((0, 3), (1, 1), (17, 3), (5, 257), (130, 16), (1, 4100), (1025, 7))
PLANES: tuple[Any, ...] = ((0, 3, 2), (1, 1, 1), (3, 4, 5), (65, 3, 2), (2, 300, 17), (8, 21, 10, 12))


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
    ignored = {"ignore_index": -100}
    for label, shapes, weighted, probabilities, options in (
        ("weight,ignored", SHAPES, True, False, {"ignore_index": 1}),
        ("smoothing,none", SHAPES, True, False, {**ignored, "label_smoothing": 0.25, "reduction": "none"}),
        ("probabilities", SHAPES, False, True, {}),
        ("probabilities,weight,smoothing,sum", SHAPES, True, True, {"label_smoothing": 0.25, "reduction": "sum"}),
        ("planes", PLANES, False, False, ignored),
        ("planes,probabilities", PLANES, True, True, {}),
    ):
        yield CrossEntropyCase(
            name=f"softmax_cross_entropy/{label}",
            ops=("softmax_cross_entropy",),
            shapes=shapes,
            tolerance="reduction",
            gradients={"dlogits": "logits"},
            in_place="logits",
            weighted=weighted,
            probabilities=probabilities,
            options=options,
        )
    for label, shapes, bench, weighted, options in (
        ("rows", SHAPES, ((128, 10), (6554, 10), (8192, 1000)), False, {}),
        ("weight,ignored", SHAPES, (), True, {"ignore_index": 1}),
        ("planes,none", PLANES, (), True, {**ignored, "reduction": "none"}),
    ):
        yield NLLCase(
            name=f"nll_loss/{label}",
            ops=("nll_loss",),
            shapes=shapes,
            bench=bench,
            tolerance="reduction",
            gradients={"dlog_probs": "log_probs"},
            in_place="log_probs",
            weighted=weighted,
            options=options,
        )
