"""Dropout, and the change of shape between images and vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import _backend, random
from fastnn._checks import check_array
from fastnn.functional._arrays import check_gradient
from fastnn.layers.module import Module

__all__ = ["Dropout", "Flatten"]


class Dropout(Module):
    """Sets elements to zero with probability `p` in training, and scales the others by 1 / (1 - p).

    Parameters
    ----------
    p : float, default 0.5
        Probability to drop, in [0, 1].
    rng : Generator, optional
        One position is drawn at each forward pass in training.  Default: `fastnn.random.default_generator`, whose
        position is then part of the state of this layer: loading a state sets it.

    Notes
    -----
    Kept for backward: a few numbers, from which the mask is drawn again.  See `fastnn.functional.dropout`.
    """

    _fresh_dx = True

    def __init__(self, p: float = 0.5, *, rng: random.Generator | None = None) -> None:
        random.keep_threshold(p)  # refuses what is not a probability
        self.p = p
        self.rng = rng

    def rate(self, training: bool) -> float:
        """Probability to drop in this pass."""
        return self.p if training and self.training else 0.0

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        if not (training and self.training):
            return x, None
        y, saved = _backend.ops.dropout(x, self.p, True, rng=self.rng)
        return y, saved

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        return dy if saved is None else _backend.ops.dropout_backward(dy, saved, out=dy if reuse else None)

    def _generator(self) -> random.Generator:
        return random.default_generator if self.rng is None else self.rng

    def _state(self) -> dict[str, NDArray[Any]]:
        return {"rng": np.array([self._generator().seed, self._generator().position], np.uint64)}

    def _load(self, state: dict[str, NDArray[Any]]) -> None:
        seed, position = state["rng"].tolist()
        self._generator().load_state_dict({"seed": seed, "position": position})

    def __repr__(self) -> str:
        return f"Dropout({self.p:g})"


class Flatten(Module):
    """(N, ...) to (N, product of the other dimensions), without a copy where the memory layout allows."""

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        check_array("x", x)
        if not x.ndim:
            raise ValueError(f"x: expected shape (N, ...), got {x.shape}")
        return x.reshape(x.shape[0], math.prod(x.shape[1:])), (x.shape, x.dtype)

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        shape, dtype = saved
        check_gradient(dy, (shape[0], math.prod(shape[1:])), dtype)
        return dy.reshape(shape)

    def __repr__(self) -> str:
        return "Flatten()"
