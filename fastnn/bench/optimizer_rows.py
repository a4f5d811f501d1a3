"""Rows of what an optimizer does in its pass beside the rule: averages, constraints, penalties, clipping, statistics.

The rules themselves are rows of the case table, with peers.  No other library does these in the same pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastnn import use_reference
from fastnn.bench.harness import Bound, Contender, Row, Settings, Timing, interleave
from fastnn.bench.lineup import Bench, Lineup
from fastnn.cases import MODELS
from fastnn.optim import EMA, SGD, Adam, EqualAverage, Optimizer

__all__ = ["DenormalRow", "OptimizerRow", "optimizer_rows"]

SHAPES = {"ResNet-50": MODELS["ResNet-50"], "4096x4096": ((4096, 4096),)}
SMALL = MODELS["MLP 784-32-10"]
LIMIT = 1.25

Arrays = list[NDArray[np.float32]]


def _arrays(shapes: Sequence[tuple[int, ...]]) -> tuple[Arrays, Arrays]:
    rng = np.random.default_rng(0)
    params, grads = ([np.float32(0.01) * rng.standard_normal(s, np.float32) for s in shapes] for _ in range(2))
    return params, grads


@dataclass(frozen=True)
class OptimizerRow:
    """`Optimizer.step` with these options, on the tensors of a network, against a copy of as many bytes.

    Parameters
    ----------
    what : str
        The option, as the row's name has it.
    make : callable
        The optimizer of some arrays.
    streams : int
        Times that something of the parameters' size has to be read or written: parameters, gradients, states,
        averages once in each way, and what needs a norm once more.
    arguments : mapping
        Keywords of `step`.
    model : str
        What the tensors are those of.
    """

    what: str
    make: Callable[[Arrays], Optimizer]
    streams: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    model: str = "ResNet-50"
    group: str = "optimizer"

    levelled: ClassVar[bool] = True

    @property
    def id(self) -> str:
        """Unique name."""
        return f"{self.what}, {self.model}"

    def _three_steps(self) -> Arrays:
        params, grads = _arrays(SMALL)
        opt = self.make(params)
        for _ in range(3):
            opt.step(grads, **self.arguments)
        with opt.averaged() if opt.average else nullcontext():
            return [param.copy() for param in params]

    def check(self, lineup: Lineup) -> None:
        """Three steps on a small network, compared with those of the reference."""
        ours = self._three_steps()
        with use_reference():
            reference = self._three_steps()
        for mine, right in zip(ours, reference, strict=True):
            np.testing.assert_allclose(mine, right, rtol=1e-5, atol=1e-6, err_msg=self.id)

    def measure(self, bench: Bench) -> Row:
        """Time the step and the copy, taking turns."""
        settings = bench.settings
        with settings.applied():
            self.check(bench.lineup)
            params, grads = _arrays(SMALL if settings.quick else SHAPES[self.model])
            opt = self.make(params)
            nbytes = self.streams * sum(param.nbytes for param in params)
            ours = Contender("fastnn", lambda: opt.step(grads, **self.arguments))
            copy = Contender("copy", bench.ceilings.copy(nbytes), self_timed=True)
            interleave([ours, copy], settings, 2)
        return _row(self, settings, ours, copy.timing, nbytes, sum(param.size for param in params))


def _row(spec: Any, settings: Settings, ours: Contender, copy: Timing, nbytes: int, elements: int) -> Row:
    return Row(
        group=spec.group,
        name=spec.id,
        time=ours.timing,
        kind="option",
        elements=elements,
        isa=settings.isa,
        threads=settings.threads,
        bytes=nbytes,
        floor=copy.value,
        roof=copy.value,
        floor_spread=copy.spread,
        bound=Bound("floor", LIMIT),
        samples=tuple(ours.samples),
    )


@dataclass(frozen=True)
class DenormalRow:
    """A step of Adam whose moments would decay through denormal numbers, over one whose moments are normal."""

    group: str = "optimizer"
    id: str = "Adam with denormal moments / with normal ones, 1M"

    levelled: ClassVar[bool] = True

    def _steps(self, size: int) -> Iterator[tuple[str, Adam, Arrays]]:
        rng = np.random.default_rng(0)
        for name, scale in (("normal", 1.0), ("denormal", 1e-37)):
            param, grad = rng.standard_normal((2, size), np.float32)
            opt = Adam([param])
            opt.step([np.float32(scale) * grad])  # moments of 1e-38 and less, which decay while gradients are 0
            yield name, opt, [grad if name == "normal" else np.zeros_like(grad)]

    def check(self, lineup: Lineup) -> None:
        """No moment is a denormal number."""
        for name, opt, grads in self._steps(64):
            opt.step(grads)
            for moments in (array for key, array in opt.state_dict().items() if key.startswith("exp_avg")):
                assert np.all((moments == 0) | (abs(moments) >= np.finfo(np.float32).tiny)), name

    def measure(self, bench: Bench) -> Row:
        """Ratio of the two, taking turns."""
        settings = bench.settings
        with settings.applied():
            steps = self._steps(1 << (10 if settings.quick else 20))
            normal, denormal = (Contender(name, partial(opt.step, grads)) for name, opt, grads in steps)
            interleave([normal, denormal], settings, 2)
        base = normal.timing.value
        samples = [sample / base for sample in denormal.samples]
        return Row(
            group=self.group,
            name=self.id,
            time=Timing.of(samples),
            kind="option",
            unit="x",
            isa=settings.isa,
            threads=settings.threads,
            bound=Bound("value", 1.1),
            samples=tuple(samples),
        )


def optimizer_rows() -> Iterator[OptimizerRow | DenormalRow]:
    """All of them."""

    def momentum(**options: Any) -> Callable[[Arrays], Optimizer]:
        return lambda params: SGD(params, 1e-3, momentum=0.9, **options)

    options: Sequence[tuple[str, Callable[[Arrays], Optimizer], int, Mapping[str, Any]]] = (
        ("SGD, L1", lambda params: SGD(params, 1e-3, l1=1e-4), 3, {}),
        ("SGD, momentum, elastic net, clip_value", momentum(weight_decay=1e-4, l1=1e-4, clip_value=0.02), 5, {}),
        ("SGD, momentum, clip_norm", momentum(clip_norm=1.0), 6, {}),
        ("SGD, momentum, nonfinite='error'", momentum(nonfinite="error"), 6, {}),
        ("SGD, momentum, nonfinite='skip'", momentum(nonfinite="skip"), 6, {}),
        ("SGD, momentum, EMA", momentum(average=EMA()), 7, {}),
        ("SGD, momentum, EqualAverage", momentum(average=EqualAverage()), 7, {}),
        ("SGD, momentum, max_norm of rows", momentum(max_norm=3.0), 6, {}),
        ("SGD, momentum, stats=True", momentum(), 5, {"stats": True}),
        ("Adam, clip_norm, EMA", lambda params: Adam(params, clip_norm=1.0, average=EMA()), 10, {}),
    )
    for what, make, streams, arguments in options:
        yield OptimizerRow(what, make, streams, arguments)
    columns = momentum(max_norm=3.0, max_norm_of="columns")
    yield OptimizerRow("SGD, momentum, max_norm of columns", columns, 6, model="4096x4096")
    yield DenormalRow()
