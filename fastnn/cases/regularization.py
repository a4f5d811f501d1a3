"""Dropout and noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from fastnn import random
from fastnn.cases.base import FLAT, FLAT_BENCH, Array, Case, Inputs, Layout, Outputs, Work, normal, size_of
from fastnn.reference.regularization import alpha_factors


@dataclass(frozen=True, kw_only=True)
class RandomCase(Case):
    """What draws from a random stream and nothing else."""

    first: int = 0

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        generator = random.Generator(seed + (5 << 40), position=3)
        return {"x": normal(rng, shape, dtype), "dy": normal(rng, shape, dtype), "rng": generator}


@dataclass(frozen=True, kw_only=True)
class DropoutCase(RandomCase):
    """Any kind of dropout."""

    family: ClassVar[str] = "dropout"
    p: float = 0.5

    def options(self) -> dict[str, Any]:
        """What the function takes besides `p` and the stream."""
        return {}

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        op = getattr(F, self.ops[0])
        y, saved = op(inputs["x"], self.p, True, rng=inputs["rng"], first=self.first, out=out, **self.options())
        return {"y": y}, saved

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs | None:
        return {"dx": F.dropout_backward(inputs["dy"], saved, out=out)}

    def decisions(self, shape: Any) -> int:
        """Number of random decisions about an array of `shape`."""
        return size_of(shape)

    def factors(self) -> tuple[float, float, float]:
        """(a, b, c): y is a * x + b where x is kept, else c."""
        return 1 / (1 - self.p), 0.0, 0.0

    def work(self, shape: Any, direction: str) -> Work:
        return Work(random_bits=self.decisions(shape) if 0 < self.p < 1 else 0)


@dataclass(frozen=True, kw_only=True)
class ClassicDropoutCase(DropoutCase):
    """Dropout in its original form; without training it has no backward pass."""

    training: bool = True

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        y, saved = F.dropout(inputs["x"], self.p, self.training, inverted=False, rng=inputs["rng"], out=out)
        return {"y": y}, saved

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs | None:
        return super().backward(F, inputs, saved, out) if self.training else None


@dataclass(frozen=True, kw_only=True)
class ChannelDropoutCase(DropoutCase):
    family: ClassVar[str] = "noise"
    layout: Layout

    def options(self) -> dict[str, Any]:
        return {"channel_axis": self.layout.channel_axis}

    def decisions(self, shape: Any) -> int:
        return int(shape[0]) * self.layout.channels(shape)


@dataclass(frozen=True, kw_only=True)
class AlphaDropoutCase(DropoutCase):
    family: ClassVar[str] = "noise"

    def factors(self) -> tuple[float, float, float]:
        return alpha_factors(self.p) if self.p else (1.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class NoiseCase(RandomCase):
    family: ClassVar[str] = "noise"
    std: float = 0.1
    mean: float = 0.0

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        y = F.gaussian_noise(inputs["x"], self.std, mean=self.mean, rng=inputs["rng"], first=self.first, out=out)
        return {"y": y}, None

    def work(self, shape: Any, direction: str) -> Work:
        # A word costs what two masks do. A pair of elements shares a logarithm, with a division and about as much else
        # as exp has, a root, and the sine and cosine of one angle.
        n = size_of(shape)
        return Work(random_bits=2 * n, exp=n, div=n // 2, sqrt=n // 2)


_SHARED: dict[str, Any] = {"gradients": {"dx": "x"}, "in_place": "x", "in_place_backward": ("dy",)}

# Planes around vectors and blocks of 1024; samples whose channels end within a tile of 128 decisions; more channels
# than a block.
_SEQUENCES = ((0, 3, 4), (2, 0, 5), (3, 5, 1), (4, 3, 16), (2, 130, 17), (3, 1100, 2), (5, 7, 1025))
_IMAGES = ((1, 1, 1, 1), (3, 3, 4, 5), (2, 5, 0, 3), (7, 19, 3, 3), (2, 129, 7, 5), (3, 3, 33, 65))
_IMAGES_LAST = ((3, 4, 5, 1), (2, 1, 1, 3), (3, 7, 9, 3), (2, 5, 3, 129), (2, 3, 3, 1030), (3, 29, 31, 17))
_VOLUMES = ((2, 3, 1, 1, 1), (1, 2, 3, 4, 5), (3, 5, 2, 3, 4), (2, 17, 5, 7, 9))
_CHANNELS = (
    ("dropout1d", 0.3, 77, Layout("ncl", 1, _SEQUENCES, ())),
    ("dropout2d", 0.5, 0, Layout("nchw", 1, _IMAGES, ((4, 16, 4, 4), (21, 256, 14, 14), (84, 64, 56, 56)))),
    ("dropout2d", 0.5, 0, Layout("nhwc", -1, _IMAGES_LAST, ((4, 4, 4, 16), (84, 56, 56, 64)))),
    ("dropout3d", 0.2, 0, Layout("ncdhw", 1, _VOLUMES, ())),
    ("dropout3d", 0.2, 77, Layout("ndchw", 2, _VOLUMES, ())),
)


def rows() -> Iterator[Case]:
    for p, first in ((0.5, 0), (0.1, 0), (0.9, 77), (0.0, 0), (1.0, 0)):
        yield DropoutCase(
            name=f"dropout/p={p}" + (f",first={first}" if first else ""),
            ops=("dropout", "dropout_backward"),
            shapes=FLAT,
            bench=FLAT_BENCH if p == 0.5 else (),
            p=p,
            first=first,
            **_SHARED,
        )
    yield ClassicDropoutCase(name="dropout/classic", ops=("dropout", "dropout_backward"), shapes=FLAT, p=0.3, **_SHARED)
    yield ClassicDropoutCase(
        name="dropout/classic,inference", ops=("dropout",), shapes=FLAT, p=0.3, training=False, in_place="x"
    )
    for op, p, first, layout in _CHANNELS:
        yield ChannelDropoutCase(
            name=f"{op}/{layout.label}",
            ops=(op, "dropout_backward"),
            shapes=layout.shapes,
            bench=layout.bench,
            p=p,
            first=first,
            layout=layout,
            **_SHARED,
        )
    for p, first in ((0.5, 0), (0.1, 77), (0.0, 0), (1.0, 0)):
        yield AlphaDropoutCase(
            name=f"alpha_dropout/p={p}" + (f",first={first}" if first else ""),
            ops=("alpha_dropout", "dropout_backward"),
            shapes=FLAT,
            bench=FLAT_BENCH if p == 0.5 else (),
            p=p,
            first=first,
            **_SHARED,
        )
    for std, mean, first in ((0.1, 0.0, 0), (1.0, 2.0, 77)):
        yield NoiseCase(
            name=f"gaussian_noise/std={std}" + (f",mean={mean},first={first}" if first else ""),
            ops=("gaussian_noise",),
            shapes=FLAT,
            bench=FLAT_BENCH if std == 0.1 else (),
            std=std,
            mean=mean,
            first=first,
            in_place="x",
        )
