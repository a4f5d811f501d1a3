"""The epilogue (residual, activation, dropout) as kernels take it."""

from __future__ import annotations

from typing import Any, TypeAlias

from fastnn import random
from fastnn._checks import check_index, check_number
from fastnn.functional.activations import ActivationSpec, resolve

Tail: TypeAlias = tuple[int, float, float, int, int, int, int]
"""act, p0, p1, threshold, seed, position, first; -1 for no activation, no dropout."""


def tail(x: Any, spec: ActivationSpec | None, dropout: float, rng: random.Generator | None, first: int) -> Tail:
    """Kernel parameters of an epilogue on `x`; draws a stream position if there is dropout."""
    if type(first) is not int or first != 0:
        first = check_index("first", first)
        if first < 0 or first + getattr(x, "size", 0) >= 1 << 63:
            raise ValueError(f"first: expected an index >= 0, with first + x.size < 2**63, got {first}")
    threshold, seed, position = -1, 0, 0
    if dropout != 0.0:
        threshold = random.keep_threshold(dropout)
        seed, position = (random.default_generator if rng is None else rng).draw()
    if spec is None:
        return -1, 0.0, 0.0, threshold, seed, position, first
    return spec.id, spec.p0, spec.p1, threshold, seed, position, first


def give_back(parameters: Tail, rng: random.Generator | None) -> None:
    """Undo the draw of a call that was refused, unless somebody else has drawn since."""
    if parameters[3] >= 0:
        generator = random.default_generator if rng is None else rng
        if generator.position == (parameters[5] + 1) & 0xFFFF_FFFF_FFFF_FFFF:
            generator.position = parameters[5]


def training_dropout(name: str, p: float, training: bool) -> float:
    """Dropout probability in effect; an invalid one is an error in inference, too."""
    check_number(name, p)
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{name}: expected a probability in [0, 1], got {p}")
    return p if training else 0.0


def spec_of(activation: str | ActivationSpec | None) -> ActivationSpec | None:
    return None if activation is None else resolve(activation)
