"""Layers that draw from a random stream: dropout in all its forms, and noise.  And the change of shape between images
and vectors."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastnn import _backend, random
from fastnn._checks import check_array, check_index, check_number
from fastnn.functional._arrays import check_gradient
from fastnn.layers.module import Module

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "Flatten", "GaussianNoise", "Stochastic"]


class Stochastic(Module):
    """Base of layers that are random in training.

    Attributes
    ----------
    rng : Generator or None
        One position is drawn at each forward pass in training.  None: `fastnn.random.default_generator`, whose
        position is then part of the state of this layer: loading a state sets it.
    """

    _fresh_dx = True
    _shard = (0, 1)  # samples of the batch before this process's share, and in it

    def __init__(self, rng: random.Generator | None) -> None:
        self.rng = rng

    def active(self, training: bool) -> bool:
        """Whether this pass is random."""
        return training and self.training

    def first(self, size: int) -> int:
        """Index in the random stream of the first of `size` decisions."""
        before, samples = self._shard
        return before * (size // samples)

    def _generator(self) -> random.Generator:
        return random.default_generator if self.rng is None else self.rng

    def _state(self) -> dict[str, NDArray[Any]]:
        return {"rng": np.array([self._generator().seed, self._generator().position], np.uint64)}

    def _load(self, state: dict[str, NDArray[Any]]) -> None:
        seed, position = state["rng"].tolist()
        self._generator().load_state_dict({"seed": seed, "position": position})


class DropoutBase(Stochastic):
    """Base of all dropout layers: `p` is the probability to drop."""

    _op: ClassVar[str]

    def __init__(self, p: float, rng: random.Generator | None) -> None:
        super().__init__(rng)
        random.keep_threshold(p)  # refuses what is not a probability
        self.p = p

    def _options(self) -> dict[str, Any]:
        """What the function takes besides `p` and `rng`."""
        return {}

    def _decisions(self, x: NDArray[Any]) -> int:
        """Of what is dropped or kept."""
        return x.size

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        if not self.active(training):
            return x, None
        first = self.first(self._decisions(x))
        y, saved = getattr(_backend.ops, self._op)(x, self.p, True, rng=self.rng, first=first, **self._options())
        return y, saved

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        return dy if saved is None else _backend.ops.dropout_backward(dy, saved, out=dy if reuse else None)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.p:g})"


class Dropout(DropoutBase):
    """Sets elements to zero with probability `p` in training, and scales the others by 1 / (1 - p).

    Parameters
    ----------
    p : float, default 0.5
        Probability to drop, in [0, 1].
    inverted : bool, default True
        If False, the original form: training leaves the others as they are, and inference scales by 1 - p.  Such a
        layer is not fused with its neighbours.
    rng : Generator, optional
        One position is drawn at each forward pass in training.  Default: `fastnn.random.default_generator`, whose
        position is then part of the state of this layer: loading a state sets it.

    Notes
    -----
    Kept for backward: a few numbers, from which the mask is drawn again.  See `fastnn.functional.dropout`.
    """

    _op = "dropout"

    def __init__(self, p: float = 0.5, *, inverted: bool = True, rng: random.Generator | None = None) -> None:
        super().__init__(p, rng)
        self._inverted = inverted

    @property
    def inverted(self) -> bool:
        """Whether training scales, not inference."""
        return self._inverted

    def rate(self, training: bool) -> float:
        """Probability to drop in this pass."""
        return self.p if self.active(training) else 0.0

    def _options(self) -> dict[str, Any]:
        return {"inverted": self._inverted}

    def _scaled(self, x: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Without training, y is the same function of x as dx is of dy."""
        if self._inverted:
            return x
        y: NDArray[Any] = _backend.ops.dropout(x, self.p, False, inverted=False, out=out)[0]
        return y

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        return super()._forward(x, training) if self.active(training) else (self._scaled(x), None)

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        if saved is None:
            return self._scaled(dy, dy if reuse else None)
        return super()._backward(dy, saved, accumulate=accumulate, need_dx=need_dx, reuse=reuse)

    def __repr__(self) -> str:
        return f"Dropout({self.p:g}{'' if self._inverted else ', inverted=False'})"


class _ChannelDropout(DropoutBase):
    """Sets channels of each sample to zero with probability `p` in training, and scales the others by 1 / (1 - p).

    Parameters
    ----------
    p : float, default 0.5
        Probability to drop, in [0, 1].
    channel_axis : int, default 1
        -1 for arrays with the channels last.
    rng : Generator, optional
        One position is drawn at each forward pass in training.  Default: `fastnn.random.default_generator`, whose
        position is then part of the state of this layer: loading a state sets it.

    Notes
    -----
    Kept for backward: a few numbers, from which the mask is drawn again.  See `fastnn.functional.dropout1d`.
    """

    def __init__(self, p: float = 0.5, *, channel_axis: int = 1, rng: random.Generator | None = None) -> None:
        super().__init__(p, rng)
        self.channel_axis = check_index("channel_axis", channel_axis)

    def _options(self) -> dict[str, Any]:
        return {"channel_axis": self.channel_axis}

    def _decisions(self, x: NDArray[Any]) -> int:
        known = -x.ndim <= self.channel_axis < x.ndim  # else the function refuses it
        return x.shape[0] * x.shape[self.channel_axis] if known else 0


class Dropout1d(_ChannelDropout):
    __doc__ = _ChannelDropout.__doc__
    _op = "dropout1d"


class Dropout2d(_ChannelDropout):
    __doc__ = _ChannelDropout.__doc__
    _op = "dropout2d"


class Dropout3d(_ChannelDropout):
    __doc__ = _ChannelDropout.__doc__
    _op = "dropout3d"


class AlphaDropout(DropoutBase):
    """Dropout for SELU: elements become selu(-inf) with probability `p` in training, and mean and variance are kept.

    Parameters
    ----------
    p : float, default 0.5
        Probability to drop, in [0, 1].
    rng : Generator, optional
        One position is drawn at each forward pass in training.  Default: `fastnn.random.default_generator`, whose
        position is then part of the state of this layer: loading a state sets it.

    Notes
    -----
    Kept for backward: a few numbers, from which the mask is drawn again.  See `fastnn.functional.alpha_dropout`.
    """

    _op = "alpha_dropout"

    def __init__(self, p: float = 0.5, *, rng: random.Generator | None = None) -> None:
        super().__init__(p, rng)


class GaussianNoise(Stochastic):
    """Adds normally distributed numbers in training.

    Parameters
    ----------
    std : float, default 0.1
        Standard deviation.
    mean : float, default 0
    rng : Generator, optional
        One position is drawn at each forward pass in training.  Default: `fastnn.random.default_generator`, whose
        position is then part of the state of this layer: loading a state sets it.

    Notes
    -----
    Kept for backward: nothing.  See `fastnn.functional.gaussian_noise`.
    """

    def __init__(self, std: float = 0.1, *, mean: float = 0.0, rng: random.Generator | None = None) -> None:
        super().__init__(rng)
        check_number("std", std)
        check_number("mean", mean)
        if not 0.0 <= std < float("inf"):
            raise ValueError(f"std: expected a finite number >= 0, got {std}")
        self.std = std
        self.mean = mean

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        if not self.active(training):
            return x, None
        return _backend.ops.gaussian_noise(x, self.std, True, mean=self.mean, rng=self.rng, first=self.first(x.size)), (
            x.shape,
            x.dtype,
        )

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        if saved is not None:
            check_gradient(dy, *saved)
        return dy

    def __repr__(self) -> str:
        return f"GaussianNoise({self.std:g}{f', mean={self.mean:g}' if self.mean else ''})"


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
