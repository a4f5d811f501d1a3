"""The shared tail of every producer: residual, activation, dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import random
from fastnn.reference import activations
from fastnn.reference.base import Array, Saved
from fastnn.reference.random import draw_mask

__all__ = ["epilogue", "epilogue_backward", "mask"]


def activate(v: Array, activation: Any) -> Array:
    if activation is None:
        return v
    name, params = (activation, {}) if isinstance(activation, str) else (activation.name, activation.params)
    return getattr(activations, name)(v, **params)  # type: ignore[no-any-return]


def activate_backward(dy: Array, v: Array, activation: Any) -> Array:
    if activation is None:
        return dy
    name, params = (activation, {}) if isinstance(activation, str) else (activation.name, activation.params)
    return getattr(activations, f"{name}_backward")(dy, v, **params)  # type: ignore[no-any-return]


def epilogue(
    v: Array, residual: Array | None, activation: Any, p: float, rng: random.Generator | None, first: int
) -> tuple[Array, Saved]:
    """y = dropout(activation(v + residual)), and the sum and the mask for backward."""
    if residual is not None:
        v = v + residual
    keep, scale = draw_mask(v.shape, p, rng, first)
    y = mask(activate(v, activation), keep, scale)
    return y, Saved(v=v, activation=activation, keep=keep, scale=scale)


def epilogue_backward(dy: Array, saved: Saved) -> Array:
    """Gradient of v + residual, so of v and of the residual."""
    return activate_backward(mask(dy, saved.keep, saved.scale), saved.v, saved.activation)


def mask(x: Array, keep: NDArray[np.bool_], scale: float) -> Array:
    """Select, never multiply: what is dropped is 0 even where x is infinite or NaN."""
    y: Array = np.where(keep, x * x.dtype.type(scale), x.dtype.type(0))
    return y
