"""Random state: a seed and a position, and nothing else.

fastnn's random bits are a pure function of (seed, stream position, flat element index), so masks never have
to be stored: backward draws them again.  A `Generator` only counts which stream comes next.  It is
independent of NumPy's random state.  The bits themselves are defined by `fastnn.reference.random_bits`.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

import fastnn._core as _core
from fastnn._checks import check_number

__all__ = ["Generator", "default_generator", "effective_p", "keep_threshold", "manual_seed"]

_RESOLUTION = 1 << 16  # random bits are compared 16 at a time


def keep_threshold(p: float) -> int:
    """Number of the 65536 possible random values that keep an element.

    Parameters
    ----------
    p : float
        Probability to drop an element, in [0, 1].

    Returns
    -------
    int
        65536 for p = 0, 0 for p = 1, else ``round((1 - p) * 65536)`` within [1, 65535].

    Raises
    ------
    ValueError
        If `p` is outside [0, 1] or NaN.
    """
    check_number("p", p)
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p: expected a probability in [0, 1], got {p}")
    if p == 0.0:
        return _RESOLUTION
    if p == 1.0:
        return 0
    return min(max(round((1.0 - p) * _RESOLUTION), 1), _RESOLUTION - 1)


def effective_p(p: float) -> float:
    """Drop probability really used for `p`: a multiple of 1/65536, exact in expectation.

    Kept elements are multiplied by ``1 / (1 - effective_p(p))``.
    """
    return 1.0 - keep_threshold(p) / _RESOLUTION


def _uint64(value: Any, name: str) -> int:
    number = operator.index(value)
    if not 0 <= number < 1 << 64:
        raise ValueError(f"{name}: expected an integer in [0, 2**64), got {number}")
    return number


class Generator(_core.GeneratorState):
    """Source of random streams: each `draw` hands out the next stream position of one seed.

    Threads may share a generator: no position is handed out twice.  Which thread gets which is a matter of timing, so
    give each a generator of its own, with its own seed, where results are to be repeated.

    Parameters
    ----------
    seed : int
        In [0, 2**64).
    position : int, default 0
        First stream position to hand out, in [0, 2**64).

    Examples
    --------
    >>> rng = Generator(7)
    >>> rng.draw()
    (7, 0)
    >>> rng.draw()
    (7, 1)
    """

    __slots__ = ()

    def __init__(self, seed: int, position: int = 0) -> None:
        self.seed = _uint64(seed, "seed")
        self.position = _uint64(position, "position")

    def draw(self, n: int = 1) -> tuple[int, int]:
        """Reserve `n` consecutive stream positions; return the seed and the first of them."""
        return self.seed, self._reserve(n)

    def normal(
        self, shape: int | tuple[int, ...], dtype: DTypeLike = np.float32, *, mean: float = 0.0, std: float = 1.0
    ) -> NDArray[Any]:
        """Normally distributed numbers: the same on every machine, for any number of threads.

        One position is drawn.  Of 32 random bits each: |z| is at most 6.66, and float32 and float64 have the same
        numbers but for rounding.

        Parameters
        ----------
        shape : int or tuple of int
        dtype : float32 or float64, default float32
        mean : float, default 0
        std : float, default 1

        Returns
        -------
        array, mean + std * z
            See `fastnn.reference.standard_normal` for z.
        """
        return self._fill(shape, dtype, True, std, mean)

    def uniform(
        self, shape: int | tuple[int, ...], dtype: DTypeLike = np.float32, *, low: float = 0.0, high: float = 1.0
    ) -> NDArray[Any]:
        """Uniformly distributed numbers: the same on every machine, for any number of threads.

        One position is drawn.

        Parameters
        ----------
        shape : int or tuple of int
        dtype : float32 or float64, default float32
        low : float, default 0
        high : float, default 1

        Returns
        -------
        array, low + (high - low) * u
            Each u is a multiple of 2**-24 with 0 <= u < 1.
        """
        return self._fill(shape, dtype, False, high - low, low)

    def _fill(
        self, shape: int | tuple[int, ...], dtype: DTypeLike, normal: bool, scale: float, shift: float
    ) -> NDArray[Any]:
        out = _core.empty((shape,) if isinstance(shape, int) else shape, dtype)
        _core.random_fill(out, *self.draw(), normal, scale, shift)
        return out

    @staticmethod
    def effective_p(p: float) -> float:
        """Drop probability really used for `p`; see `fastnn.random.effective_p`."""
        return effective_p(p)

    def state_dict(self) -> dict[str, NDArray[np.uint64]]:
        """State as zero-dimensional uint64 arrays ``seed`` and ``position``, ready for `numpy.savez`."""
        return {"seed": np.array(self.seed, np.uint64), "position": np.array(self.position, np.uint64)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where the generator that gave `state` (arrays or plain integers) stood."""
        if set(state) != {"seed", "position"}:
            raise ValueError(f"state: expected the keys 'seed' and 'position', got {sorted(state)}")
        seed, position = _uint64(state["seed"], "seed"), _uint64(state["position"], "position")
        self.seed, self.position = seed, position

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.seed, self.position)

    def __repr__(self) -> str:
        return f"Generator(seed={self.seed}, position={self.position})"


default_generator = Generator(0)
"""The generator of every op that is not given one (``rng=None``)."""
_core.set_default_generator(default_generator)


def manual_seed(seed: int) -> Generator:
    """Restart the default generator at position 0 of `seed` and return it."""
    default_generator.load_state_dict({"seed": seed, "position": 0})
    return default_generator
