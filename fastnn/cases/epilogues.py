"""The tails of producers: residual, activation, dropout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from fastnn.cases.activations import ACTIVATION_ROWS
from fastnn.cases.base import Inputs, Work, size_of
from fastnn.functional.activations import ACTIVATIONS, ActivationSpec, resolve


@dataclass(frozen=True)
class Epilogue:
    """residual -> activation -> dropout, as arguments."""

    activation: str | ActivationSpec | None = None
    residual: bool = False
    dropout: float = 0.0

    @property
    def name(self) -> str:
        """Name of the activation, empty without one."""
        return self.activation.name if isinstance(self.activation, ActivationSpec) else self.activation or ""

    @property
    def label(self) -> str:
        parts = [
            "residual" if self.residual else "",
            self.name,
            "dropout" if self.dropout else "",
        ]
        return "+".join(filter(None, parts)) or "plain"

    def arguments(self, inputs: Inputs) -> dict[str, Any]:
        return {
            "residual": inputs.get("residual"),
            "activation": self.activation,
            "dropout": self.dropout,
            "rng": inputs["rng"],
        }

    @property
    def compiled(self) -> bool:
        """Whether loops have the activation compiled in; the others are applied to blocks, all in the same way."""
        return self.name in ("", "relu", "leaky_relu")

    @property
    def keeps_input(self) -> bool:
        """Whether `bias_act` keeps its input for backward."""
        if not self.activation:
            return False
        spec = resolve(self.activation)
        return not (spec.from_output and (spec.sign_only or not self.dropout))

    def work(self, shape: tuple[int, ...], training: bool) -> Work:
        cost = ACTIVATION_ROWS[self.name][1] if self.name else Work()
        return cost.times(size_of(shape), random_bits=bool(self.dropout and training))


def _epilogues() -> Iterator[Epilogue]:
    activations = [ACTIVATIONS[name](**params) if params else name for name, (_, _, params) in ACTIVATION_ROWS.items()]
    for dropout, residual, activation in product((0.0, 0.3), (False, True), (None, *activations)):
        epilogue = Epilogue(activation, residual, dropout)
        if epilogue.compiled or (residual and dropout) or not (residual or dropout or epilogue.keeps_input):
            yield epilogue


EPILOGUES = tuple(_epilogues())
