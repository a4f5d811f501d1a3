"""The epilogue (residual, activation, dropout) as kernels take it."""

from __future__ import annotations

from typing import TypeAlias

from fastnn import random
from fastnn.functional.activations import ActivationSpec, resolve

Tail: TypeAlias = tuple[int, float, float, int, int, int, int]
"""act, p0, p1, threshold, seed, position, first; -1 for no activation, no dropout."""


def tail(spec: ActivationSpec | None, dropout: float, rng: random.Generator | None, first: int) -> Tail:
    """Kernel parameters of an epilogue; draws a stream position if there is dropout."""
    if first < 0:
        raise ValueError(f"first: expected an index >= 0, got {first}")
    threshold, seed, position = -1, 0, 0
    if dropout != 0.0:
        threshold = random.keep_threshold(dropout)
        seed, position = (random.default_generator if rng is None else rng).draw()
    if spec is None:
        return -1, 0.0, 0.0, threshold, seed, position, first
    return spec.id, spec.p0, spec.p1, threshold, seed, position, first


def training_dropout(name: str, p: float, training: bool) -> float:
    """Dropout probability in effect; an invalid one is an error in inference, too."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{name}: expected a probability in [0, 1], got {p}")
    return p if training else 0.0


def spec_of(activation: str | ActivationSpec | None) -> ActivationSpec | None:
    return None if activation is None else resolve(activation)
