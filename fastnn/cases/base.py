"""What a case is, its tolerance, and the shapes that families share."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
Inputs = dict[str, Any]
Outputs = dict[str, Any]

TOLERANCES: dict[str, float] = {
    "exact": 0.0,  # selects among its inputs
    "ulp2": 2.0,  # of the result itself, however small
    "ulp4": 4.0,
    "slope": 12.0,  # of an activation, which may be a small difference, times a gradient of order 1
    "elementwise": 4.0,  # a few roundings per element
    "reduction": 32.0,  # sums over many elements; the error of a sum grows with the root of their number
}
"""Allowed error of each family in units of the type's epsilon, or in the last place (ulp); see `allowed_error`."""


def allowed_error(family: str, want: Array, terms: int, dtype: DTypeLike) -> Array:
    """Largest error of an output of `dtype` whose true value is `want`.

    Parameters
    ----------
    family : str
        Key of `TOLERANCES`.
    want : array
        The output in a wider type.  Inputs are of order 1, so errors scale with max(1, |want|), those of the families
        "ulp2" and "ulp4" with |want|.
    terms : int
        Number of elements summed into one element of the output.
    dtype : data type of the output under test
    """
    if family.startswith("ulp"):
        ulp: Array = np.spacing(np.abs(want).astype(dtype)).astype(want.dtype)
        return TOLERANCES[family] * ulp
    unit = TOLERANCES[family] * float(np.finfo(dtype).eps)
    scale = np.maximum(np.abs(want), 1)
    if family == "reduction" and scale.size:
        scale = np.full_like(scale, scale.max())
    return unit * math.sqrt(terms) * scale


@dataclass(frozen=True)
class Work:
    """Operations that can cost more than memory traffic, for the roof of the benchmark: counts per call."""

    random_bits: int = 0
    exp: int = 0
    div: int = 0
    sqrt: int = 0

    def times(self, n: int, random_bits: bool = False) -> Work:
        """That of `n` elements, if this is that of one."""
        return Work(n * (self.random_bits + random_bits), n * self.exp, n * self.div, n * self.sqrt)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to call one op.

    Attributes
    ----------
    name : str
        ``<op>/<variant>``.
    family : str
        Such as "activation" or "norm": group of the benchmark.
    ops : tuple of str
        The functions called: forward, then backward if there is one.
    shapes, bench : tuples of shapes
        For tests (around vector widths and borders of the reduction tree) and for the benchmark.  The shape
        of an optimizer case is a tuple of parameter shapes.
    tolerance : str
        Key of `TOLERANCES`.
    gradients : mapping from outputs of `backward` to the inputs that they are gradients of
        The function differentiated is sum(dy * y), or the loss.  A loss gives its gradient in `forward`.
    in_place : str or None
        Input that `out` may be in forward.
    in_place_backward : tuple of str
        Inputs ("dy", ...) that `out` may be in backward.
    """

    name: str
    ops: tuple[str, ...]
    shapes: tuple[Any, ...]
    bench: tuple[Any, ...] = ()
    tolerance: str = "elementwise"
    gradients: Mapping[str, str] = field(default_factory=dict)
    in_place: str | None = None
    in_place_backward: tuple[str, ...] = ()
    family: ClassVar[str]

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        """Fresh random inputs: a pure function of the arguments."""
        raise NotImplementedError

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        """Named outputs, and what `backward` needs."""
        raise NotImplementedError

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs | None:
        """Named gradients, or None where there is no backward op."""
        return None

    def out_shape(self, shape: Any, direction: str) -> Any:
        """Shape of what `out` receives in the "forward" or "backward" op."""
        return shape

    def work(self, shape: Any, direction: str) -> Work:
        """Operations of one call of the "forward" or "backward" op."""
        return Work()

    def tolerance_of(self, output: str) -> str:
        """Tolerance of the named output."""
        return self.tolerance

    def terms(self, shape: Any, output: str) -> int:
        """Number of elements summed into one element of the named output."""
        return 1


def as_type(inputs: Inputs, dtype: DTypeLike) -> Inputs:
    """Deep copy of `inputs` with every floating-point array in `dtype`."""

    def convert(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.astype(dtype) if value.dtype.kind == "f" else value.copy()
        if isinstance(value, list):
            return [convert(item) for item in value]
        return copy.copy(value)

    return {name: convert(value) for name, value in inputs.items()}


def normal(rng: np.random.Generator, shape: Any, dtype: DTypeLike, mean: float = 0.0, std: float = 1.0) -> Array:
    return np.asarray(mean + std * rng.standard_normal(shape), dtype)


def size_of(shape: tuple[int, ...]) -> int:
    return math.prod(shape)


@dataclass(frozen=True)
class Layout:
    """Place of the channels; test shapes are around 16 lanes, leaves of 32 rows or 1024 elements, pieces of 4096."""

    label: str
    channel_axis: int
    shapes: tuple[tuple[int, ...], ...]
    bench: tuple[tuple[int, ...], ...]

    def channels(self, shape: tuple[int, ...]) -> int:
        return shape[self.channel_axis]

    def terms(self, shape: tuple[int, ...]) -> int:
        return size_of(shape) // max(self.channels(shape), 1)


LAYOUTS = (
    Layout(
        "2d",
        1,
        ((4, 0), (2, 1), (31, 3), (32, 10), (33, 16), (65, 17), (97, 64), (70, 257), (1025, 1), (1800, 33)),
        ((16, 64), (256, 256), (4096, 256), (16384, 1024)),
    ),
    Layout(
        "nchw",
        1,
        (
            (3, 3, 1, 1),
            (2, 10, 3, 5),
            (65, 3, 4, 4),
            (5, 19, 4, 4),
            (3, 257, 1, 17),
            (1, 1, 31, 33),
            (2, 3, 32, 32),
            (1, 64, 25, 41),
            (1, 1, 63, 65),
            (1, 3, 64, 64),
            (2, 1, 17, 241),
            (2, 1, 5, 3277),
        ),
        ((4, 16, 4, 4), (3, 512, 7, 7), (21, 256, 14, 14), (84, 64, 56, 56)),
    ),
    Layout(
        "nhwc",
        -1,
        ((1, 4, 1, 3), (2, 4, 4, 1), (3, 3, 11, 10), (2, 4, 4, 257), (1, 5, 13, 64), (4, 16, 29, 33)),
        ((4, 4, 4, 16), (3, 7, 7, 512), (21, 14, 14, 256), (84, 56, 56, 64)),
    ),
    Layout("ncl", 1, ((5, 3, 1), (4, 10, 15), (4, 3, 16), (3, 64, 17), (9, 3, 2200)), ()),
)

# Bias follows a matrix product: rows of channels, or the product written by a convolution.
ROWS = Layout(
    "rows",
    -1,
    ((0, 3), (1, 1), (2, 0), (1, 16), (31, 3), (32, 10), (33, 17), (65, 64), (7, 257), (1025, 1), (1800, 33)),
    ((16, 64), (256, 256), (4096, 256), (65536, 256)),
)
BIAS_LAYOUTS = (ROWS, LAYOUTS[1])

FLAT = ((), (0,), (1,), (15,), (16,), (17,), (3, 5, 7), (127,), (129,), (1023,), (1025,), (4097,), (60001,))
FLAT_BENCH = ((1024,), (65536,), (1 << 20,), (1 << 24,))
