"""Rows of the case table: one case at one shape in one direction, against its floor, its roof and the peers."""

from __future__ import annotations

import math
import statistics
import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

import fastnn.functional as F
from fastnn.bench import checks, roof
from fastnn.bench.calls import direct, planned
from fastnn.bench.ceilings import Ceilings
from fastnn.bench.harness import Bound, Contender, Row, interleave
from fastnn.bench.lineup import Bench, Entry, Lineup
from fastnn.bench.peers.base import Direction
from fastnn.cases import MODELS, BatchNormCase, Case, OptimizerCase

__all__ = ["LARGE", "CaseRow", "elements"]

LARGE = 1 << 20
"""Elements from which the roof is promised."""

OTHER_PATHS = 1 << 16
"""Elements from which kernels, fastnn's and others, may take other ways: threads, blocks, stores past the caches."""

BLAS_SPIN_SECONDS = 0.05
"""After a matrix product, until its threads sleep."""

MATMUL_SECONDS = 1e-4
"""Length of the matrix product after which a call is timed."""


def elements(shape: Any) -> int:
    """Elements of a shape, or of several."""
    return math.prod(shape) if _is_one(shape) else sum(math.prod(s) for s in shape)


def _is_one(shape: Any) -> bool:
    return all(isinstance(n, int) for n in shape)


def shape_name(shape: Any) -> str:
    """A shape as the rows show it; several shapes by the name of their network, where they have one."""
    if _is_one(shape):
        return "x".join(map(str, shape))
    names = [name for name, shapes in MODELS.items() if shapes == shape]
    if names:
        return names[0]
    count = f"{len(shape)} tensors" if len(shape) > 1 else "one tensor"
    return f"{count} of {elements(shape)}"


@dataclass(frozen=True)
class Prepared:
    """fastnn's side of a row, ready to be timed."""

    call: Callable[[], Any]
    traffic: roof.Traffic
    kept: int


@dataclass(frozen=True)
class CaseRow:
    """A case of the table at one shape, in one direction."""

    case: Case
    shape: Any
    direction: Direction

    levelled: ClassVar[bool] = True

    @property
    def id(self) -> str:
        """Unique name."""
        return f"{self.case.name} {self.direction} {shape_name(self.shape)}"

    @property
    def group(self) -> str:
        """Kernel family."""
        return str(self.case.family)

    @property
    def checked(self) -> list[Any]:
        """Shapes at which answers are checked: the smallest, and for a large row also the first that is large."""
        shapes = sorted(self.case.bench, key=elements)
        other = [shape for shape in shapes[1:] if OTHER_PATHS <= elements(shape) <= elements(self.shape)]
        return [shapes[0], *other[:1]]

    def _check_ours(self) -> None:
        for shape in self.checked:
            checks.check_ours(F, self.case, shape, self.direction)

    def _answers(self, entry: Entry) -> bool | str:
        """Whether the peer has the operation; or what is wrong with its answer at one of the shapes."""
        for shape in self.checked:
            answer = entry.answers(self.case, shape, self.direction)
            if answer is not True:
                return answer
        return True

    def check(self, lineup: Lineup) -> None:
        """Compare fastnn and the peers with the reference."""
        self._check_ours()
        for entry in lineup:
            answer = self._answers(entry)
            assert not isinstance(answer, str), f"{self.id}: {answer}"

    def prepare(self, inputs: dict[str, Any]) -> Prepared:
        """fastnn's call, what it must move, and what it keeps for backward."""
        case = self.case
        (outputs, saved), call = direct(F, lambda namespace: case.forward(namespace, inputs))
        kept = _saved_bytes(saved)
        if self.direction == "backward":
            gradients, call = direct(F, lambda namespace: case.backward(namespace, inputs, saved))
            return Prepared(call, roof.Traffic(inputs["dy"].nbytes + kept, roof.nbytes(gradients)), kept)
        if isinstance(case, OptimizerCase):  # its forward is two steps; from the third on they are all alike
            call = planned(F, lambda namespace: case.step(namespace, inputs, 3))
        read = {name: value for name, value in inputs.items() if name != "dy"}
        again = roof.nbytes(inputs["grads"]) if isinstance(case, OptimizerCase) and case.norm_pass else 0
        return Prepared(call, roof.Traffic(roof.nbytes(read) + again, roof.nbytes(outputs)), kept)

    def reread(self, traffic: roof.Traffic, inputs: dict[str, Any], ceilings: Ceilings) -> int:
        """Bytes that have to be read a second time."""
        case = self.case
        if not isinstance(case, BatchNormCase) or not case.training:
            return 0
        reduced = inputs["x"].nbytes if self.direction == "forward" else traffic.read
        return roof.reread(self.shape, case.layout.channel_axis, reduced, ceilings.l2, ceilings.llc)

    def work_seconds(self, ceilings: Ceilings, threads: int) -> float:
        """What the arithmetic costs that cannot be avoided."""
        work = self.case.work(self.shape, self.direction)
        seconds = [count * ceilings.cost(name) for name, count in vars(work).items() if count]
        return sum(seconds, 0.0) / threads

    def limit(self, bench: Bench) -> float:
        """The roof in seconds, measured by itself."""
        inputs = newest_inputs(self.case, self.shape)
        traffic = self.prepare(inputs).traffic
        copy, reread = bench.ceilings.copy(traffic.total), self.reread(traffic, inputs, bench.ceilings)
        floor = statistics.median(copy() for _ in range(bench.settings.rounds))
        again = bench.ceilings.read(reread)() if reread else 0.0
        return roof.roof_seconds(floor, again, self.work_seconds(bench.ceilings, bench.settings.threads))

    def _bound(self, traffic: roof.Traffic, ceilings: Ceilings) -> Bound | None:
        large = elements(self.shape) >= LARGE
        if self.case.family == "dropout":
            if traffic.total > ceilings.llc:
                return Bound("floor", 1.5)
            return Bound("floor", 2.5) if large else None
        if isinstance(self.case, OptimizerCase):
            return Bound("floor", 1.25) if large else None
        return Bound("roof", 1.5) if large else None

    def _peers(self, inputs: dict[str, Any], lineup: Lineup) -> tuple[list[Contender], list[str]]:
        """The peers to time, and what went wrong with the others."""
        contenders, errors = [], []
        for entry in lineup:
            answer = self._answers(entry)
            if isinstance(answer, str):
                errors.append(answer)
            elif answer and entry.instance is not None:
                try:
                    job = entry.instance.job(self.case, inputs, self.direction)
                except Exception as error:  # it had an answer for smaller shapes
                    errors.append(f"{entry.label}: {error}")
                    continue
                if job is not None:
                    contenders.append(Contender(entry.label, job.call))  # not the job: it holds on to outputs
        return contenders, errors

    def measure(self, bench: Bench, *, briefly: bool = False) -> Row:
        """Time fastnn, the peers and the floor's copy, all taking turns.

        Parameters
        ----------
        bench : Bench
        briefly : bool, default False
            Not after a matrix product as well.
        """
        settings, ceilings = bench.settings, bench.ceilings
        with settings.applied():
            self._check_ours()
            inputs = newest_inputs(self.case, self.shape)
            ours = self.prepare(inputs)
            reread = self.reread(ours.traffic, inputs, ceilings)
            hot, cold = Contender("fastnn", ours.call), Contender("cold", ours.call, before=matmul())
            copy = Contender("copy", ceilings.copy(ours.traffic.total), self_timed=True)
            read = [Contender("read", ceilings.read(reread), self_timed=True)] if reread else []
            peers, errors = self._peers(inputs, bench.lineup)
            judged = [hot, copy, *read]
            interleave([*judged, *peers], settings, len(judged))
            if not briefly:
                # Apart, and with a pause after: BLAS threads spin for a while and would share a core with the others.
                interleave([cold], settings)
                time.sleep(BLAS_SPIN_SECONDS)
        floor = copy.timing
        return Row(
            group=self.group,
            name=self.id,
            time=hot.timing,
            case=self.case.name,
            direction=self.direction,
            shape=list(self.shape) if _is_one(self.shape) else None,
            elements=elements(self.shape),
            isa=settings.isa,
            threads=settings.threads,
            bytes=ours.traffic.total,
            floor=floor.value,
            roof=roof.roof_seconds(
                floor.value, read[0].timing.value if read else 0.0, self.work_seconds(ceilings, settings.threads)
            ),
            floor_spread=floor.spread,
            peers={peer.name: peer.timing for peer in peers},
            after_matmul=0.0 if briefly else cold.timing.value,
            kept=ours.kept,
            bound=self._bound(ours.traffic, ceilings),
            errors=tuple(errors),
            samples=tuple(hot.samples),
        )


_newest: dict[Any, dict[str, Any]] = {}


def newest_inputs(case: Case, shape: Any) -> dict[str, Any]:
    """Float32 inputs; those made last are used again, as forward and backward rows follow each other."""
    if (case.name, shape) not in _newest:
        _newest.clear()
        _newest[case.name, shape] = case.inputs(shape, np.float32)
    return _newest[case.name, shape]


def _saved_bytes(saved: Any) -> int:
    if saved is None:
        return 0
    return roof.nbytes(saved) or int(getattr(saved, "nbytes", 0))


def product(m: int, k: int, n: int) -> Callable[[], Any]:
    """An (m, k) by (k, n) product of random float32 matrices into a buffer."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    out = np.empty((m, n), np.float32)
    return lambda: np.matmul(a, b, out=out)


@cache
def matmul() -> Callable[[], Any]:
    """A square matrix product that takes about `MATMUL_SECONDS` here."""
    best, nearest = None, math.inf
    for n in range(64, 513, 32):
        call = product(n, n, n)
        call()
        seconds = min(timeit.repeat(call, number=1, repeat=7))
        if abs(math.log(seconds / MATMUL_SECONDS)) < nearest:
            best, nearest = call, abs(math.log(seconds / MATMUL_SECONDS))
        if seconds > 2 * MATMUL_SECONDS:
            break
    time.sleep(BLAS_SPIN_SECONDS)
    assert best is not None
    return best
