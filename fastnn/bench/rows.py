"""The rows: every benchmark shape of the case table in both directions, and what the table cannot hold.

A row has an `id`, a `group`, ``check()`` (answers only, untimed) and ``measure()`` (one `Row` per ISA level).
"""

from __future__ import annotations

import importlib.util
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

import fastnn
import fastnn.functional as F
from fastnn import reference
from fastnn.bench import roof
from fastnn.bench.ceilings import Ceilings
from fastnn.bench.harness import Bound, Contender, Row, Settings, interleave
from fastnn.bench.peers import PEERS
from fastnn.cases import CASES, BatchNormCase, BiasActCase, Case, OptimizerCase

LARGE = 1 << 20
"""Elements from which the roof is promised."""

QUICK = 1 << 16
"""Largest row of a quick run."""


class RowSpec(Protocol):
    """What a runner needs of a row."""

    @property
    def id(self) -> str: ...

    @property
    def group(self) -> str: ...

    def check(self) -> None: ...

    def measure(self, settings: Settings, ceilings: Ceilings) -> list[Row]: ...


# --------------------------------------------------------------------------------------------- the case table


def _matches(got: Any, want: Any) -> bool:
    """Equal to about float32 accuracy, relative to the largest magnitude.

    One element in ten thousand may differ: rounding can move a value across the kink of an activation.
    """
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        return False
    if want.size == 0:
        return True
    wrong = np.abs(got - want) > 1e-4 * max(float(np.max(np.abs(want))), 1e-30)
    return bool(np.count_nonzero(wrong) <= want.size // 10_000)


def _shape_name(shape: Any) -> str:
    if all(isinstance(n, int) for n in shape):
        return "x".join(map(str, shape))
    return f"{len(shape)} tensors of {sum(math.prod(s) for s in shape)}"


def elements(shape: Any) -> int:
    """Elements of a shape, or of several."""
    return math.prod(shape) if all(isinstance(n, int) for n in shape) else sum(math.prod(s) for s in shape)


BLAS_SPIN_SECONDS = 0.05  # after a matrix product, until its threads sleep


@dataclass(frozen=True)
class CaseRow:
    """A case of the table at one shape, in one direction."""

    case: Case
    shape: Any
    direction: Literal["forward", "backward"]

    @property
    def id(self) -> str:
        """Unique name."""
        return f"{self.case.name} {self.direction} {_shape_name(self.shape)}"

    @property
    def group(self) -> str:
        """Kernel family."""
        return str(self.case.family)

    def _run(self, namespace: Any, shape: Any) -> dict[str, Any]:
        inputs = self.case.inputs(shape, np.float32)
        outputs, saved = self.case.forward(namespace, inputs)
        if self.direction == "backward":
            return self.case.backward(namespace, inputs, saved) or {}
        return outputs

    def _compare(self, who: str, namespace: Any) -> None:
        shape = min(self.case.bench, key=elements)
        got, want = self._run(namespace, shape), self._run(reference, shape)
        for name, expected in want.items():
            if expected is not None and not _matches(got[name], expected):
                raise AssertionError(f"{self.id}: {name} of {who} differs from the reference")

    def check(self) -> None:
        """Compare fastnn and the peers with the reference, at the case's smallest benchmark shape."""
        self._compare("fastnn", F)
        for peer in self._peers():
            peer.draw_mask = _reference_mask
            self._compare(peer.label, peer)

    def _peers(self) -> list[Any]:
        found = [peer() for peer in PEERS if not peer.missing]
        tail = self.case.epilogue.name if isinstance(self.case, (BiasActCase, BatchNormCase)) else ""
        return [peer for peer in found if all(hasattr(peer, op) for op in (*self.case.ops, tail) if op)]

    def _call(self, namespace: Any, inputs: dict[str, Any]) -> tuple[Callable[[], Any], roof.Traffic, int]:
        """The timed call, its traffic and the bytes kept for backward."""
        case = self.case
        outputs, saved = case.forward(namespace, inputs)
        kept = _saved_bytes(saved)
        if self.direction == "backward":
            gradients = case.backward(namespace, inputs, saved)
            traffic = roof.Traffic(inputs["dy"].nbytes + kept, roof.nbytes(gradients))
            return lambda: case.backward(namespace, inputs, saved), traffic, kept
        read = {name: value for name, value in inputs.items() if name != "dy"}
        traffic = roof.Traffic(roof.nbytes(read), roof.nbytes(outputs))
        if isinstance(case, OptimizerCase):  # its forward is two steps; from the third on they are all alike
            return lambda: case.step(namespace, inputs, 3), traffic, kept
        return lambda: case.forward(namespace, inputs), traffic, kept

    def _reread(self, traffic: roof.Traffic, inputs: dict[str, Any], ceilings: Ceilings) -> int:
        case = self.case
        if not isinstance(case, BatchNormCase) or not case.training:
            return 0
        reduced = inputs["x"].nbytes if self.direction == "forward" else traffic.read
        return roof.reread(self.shape, case.layout.channel_axis, reduced, ceilings.l2, ceilings.llc)

    def _bound(self, traffic: roof.Traffic, ceilings: Ceilings) -> Bound | None:
        if self.case.family == "dropout":
            if traffic.total > ceilings.llc:
                return Bound("floor", 1.5)
            return Bound("floor", 2.5) if elements(self.shape) >= LARGE else None
        return Bound("roof", 1.5) if elements(self.shape) >= LARGE else None

    def measure(self, settings: Settings, ceilings: Ceilings) -> list[Row]:
        """Time fastnn at every ISA level, the peers and the floor's copy, all taking turns."""
        self.check()
        inputs = _inputs(self.case, self.shape)
        call, traffic, kept = self._call(F, inputs)
        reread = self._reread(traffic, inputs, ceilings)
        matmul = _matmul(192)
        hot_levels, cold_levels = (
            [Contender(isa, call, enter=partial(fastnn.set_isa, isa), before=before) for isa in settings.isa]
            for before in (None, matmul)
        )
        copy = Contender("copy", ceilings.copy(traffic.total), self_timed=True)
        read = [Contender("read", ceilings.read(reread), self_timed=True)] if reread else []
        peers = [Contender(peer.label, self._call(peer, inputs)[0]) for peer in self._peers()]
        isa_before = fastnn.get_isa()
        try:
            judged = [*hot_levels, copy, *read]
            interleave([*judged, *peers], settings, len(judged))
            # Apart, and with a pause after them: BLAS threads spin for a while and would share a core with the others.
            interleave(cold_levels, settings)
            time.sleep(BLAS_SPIN_SECONDS)
        finally:
            fastnn.set_isa(isa_before)
        floor = copy.median
        work = self.case.work(self.shape, self.direction)
        rows = []
        for hot, cold in zip(hot_levels, cold_levels, strict=True):
            needed = sum(
                count * ceilings.cost(operation, hot.name, np.float32)
                for operation, count in vars(work).items()
                if count
            )
            rows.append(
                Row(
                    group=self.group,
                    name=self.id,
                    value=hot.median,
                    spread=max(hot.spread, copy.spread),
                    isa=hot.name,
                    threads=settings.threads,
                    bytes=traffic.total,
                    floor=floor,
                    roof=roof.roof_seconds(floor, read[0].median if read else 0.0, needed / settings.threads),
                    peers={peer.name: peer.median for peer in peers},
                    after_matmul=cold.median,
                    kept=kept,
                    bound=self._bound(traffic, ceilings),
                )
            )
        return rows


_newest: dict[Any, dict[str, Any]] = {}


def _inputs(case: Case, shape: Any) -> dict[str, Any]:
    """Float32 inputs; those made last are used again, as forward and backward rows follow each other."""
    if (case.name, shape) not in _newest:
        _newest.clear()
        _newest[case.name, shape] = case.inputs(shape, np.float32)
    return _newest[case.name, shape]


def _reference_mask(rng: Any, shape: tuple[int, ...], p: float, dtype: Any) -> Any:
    return reference.dropout(np.ones(shape, dtype), p, rng=rng)[0] != 0


def _saved_bytes(saved: Any) -> int:
    if saved is None:
        return 0
    return roof.nbytes(saved) or int(getattr(saved, "nbytes", 0))


def _matmul(n: int) -> Callable[[], Any]:
    a, b = np.random.default_rng(0).standard_normal((2, n, n)).astype(np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


# -------------------------------------------------------------------------------------- beyond the case table


@dataclass(frozen=True)
class CallRow:
    """Time of one small call, Python included."""

    name: str
    make: Callable[[], Callable[[], Any]]
    bound: Bound | None = None
    group: str = "overhead"

    @property
    def id(self) -> str:
        """Unique name."""
        return f"{self.group}: {self.name}"

    def check(self) -> None:
        """One call."""
        self.make()()

    def measure(self, settings: Settings, ceilings: Ceilings) -> list[Row]:
        """Median of timeit samples."""
        call = self.make()
        samples = timeit.repeat(call, number=2000, repeat=3 if settings.quick else 31)
        middle = statistics.median(samples) / 2000
        return [
            Row(
                self.group,
                self.name,
                middle,
                _quartile_spread(samples),
                threads=settings.threads,
                bound=self.bound,
            )
        ]


def _quartile_spread(samples: list[float]) -> float:
    low, middle, high = statistics.quantiles(samples, n=4)
    return (high - low) / middle


def _relu16() -> Callable[[], Any]:
    x = np.random.default_rng(0).standard_normal(16).astype(np.float32)
    y = np.empty_like(x)
    relu = F.relu
    return lambda: relu(x, out=y)


def _bias_act16() -> Callable[[], Any]:
    x, bias = np.random.default_rng(0).standard_normal((2, 16)).astype(np.float32)
    x = x.reshape(1, 16)
    y = np.empty_like(x)
    return lambda: F.bias_act(x, bias, activation="relu", out=y)


def _adam_small() -> Callable[[], Any]:
    rng = np.random.default_rng(0)
    shapes = ((784, 32), (32,), (32, 10), (10,))
    params = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    grads = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    optimizer = fastnn.optim.Adam(params, lr=1e-3)
    return lambda: optimizer.step(grads)


_BESIDE_BLAS = """
import json, sys, time
before, after, threads, blocks, calls = json.loads(sys.argv[1])
import numpy as np
for name in before: __import__(name)
import fastnn
import fastnn.functional as F
for name in after: __import__(name)
fastnn.set_num_threads(threads)
rng = np.random.default_rng(0)
a, b = rng.standard_normal((2, 512, 512)).astype(np.float32)
c = np.empty_like(a)
x = rng.standard_normal(1_000_000).astype(np.float32)
y = np.empty_like(x)
def product(): np.matmul(a, b, out=c)
def kernel(): F.relu(x, out=y)
def both(): product(); kernel()
times = {f.__name__: [] for f in (product, kernel, both)}
for block in range(blocks + 1):
    for f in (product, kernel, both):
        f()
        start = time.perf_counter()
        for _ in range(calls): f()
        if block: times[f.__name__].append((time.perf_counter() - start) / calls)
print(json.dumps(times))
"""


@dataclass(frozen=True)
class BesideBlasRow:
    """A 512x512 matrix product alternating with relu on a million floats, over the sum of both alone."""

    imported: str = ""
    when: Literal["before", "after", ""] = ""
    group: str = "threads"

    @property
    def id(self) -> str:
        """Unique name."""
        other = f", {self.imported} imported {self.when}" if self.imported else ""
        return f"matmul 512 + relu 1M, alternating / alone{other}"

    def _times(self, threads: int, blocks: int, calls: int) -> dict[str, list[float]]:
        names = [self.imported] if self.imported else []
        arguments = [names * (self.when == "before"), names * (self.when == "after"), threads, blocks, calls]
        return dict(json.loads(_python(_BESIDE_BLAS, json.dumps(arguments))))

    def check(self) -> None:
        """One block."""
        assert set(self._times(2, 1, 1)) == {"product", "kernel", "both"}

    def measure(self, settings: Settings, ceilings: Ceilings) -> list[Row]:
        """Ratio of medians, in a process of its own."""
        times = self._times(settings.threads, *((3, 5) if settings.quick else (15, 30)))
        ratios = [
            both / (p + k) for p, k, both in zip(*(times[name] for name in ("product", "kernel", "both")), strict=True)
        ]
        return [
            Row(
                self.group,
                self.id,
                statistics.median(ratios),
                _quartile_spread(ratios),
                unit="x",
                threads=settings.threads,
                bound=Bound("value", 1.3),
            )
        ]


def _python(code: str, *arguments: str) -> str:
    # Elsewhere: in a checkout, the current directory would hide the installed package.
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tempfile.gettempdir(),
    )
    if done.returncode:
        raise RuntimeError(f"benchmark process failed:\n{done.stderr}")
    return done.stdout


@dataclass(frozen=True)
class ImportRow:
    """Import time of fastnn once NumPy is there."""

    group: str = "footprint"
    id: str = "import fastnn, beyond numpy"

    def _seconds(self) -> float:
        code = "import numpy, time; t = time.perf_counter(); import fastnn; print(time.perf_counter() - t)"
        return float(_python(code))

    def check(self) -> None:
        """It imports."""
        assert self._seconds() > 0

    def measure(self, settings: Settings, ceilings: Ceilings) -> list[Row]:
        """Median over fresh processes."""
        samples = [self._seconds() for _ in range(3 if settings.quick else 15)]
        middle = statistics.median(samples)
        return [Row(self.group, self.id, middle, _quartile_spread(samples), bound=Bound("value", 30e-3))]


@dataclass(frozen=True)
class WheelRow:
    """Size of a built wheel."""

    path: Path
    group: str = "footprint"

    @property
    def id(self) -> str:
        """Unique name."""
        return f"wheel {self.path.name}"

    def check(self) -> None:
        """It is there."""
        assert self.path.stat().st_size > 0

    def measure(self, settings: Settings, ceilings: Ceilings) -> list[Row]:
        """Bytes on disk."""
        return [Row(self.group, self.id, float(self.path.stat().st_size), unit="B", bound=Bound("value", 2e6))]


def _beyond_the_table() -> Iterator[RowSpec]:
    yield CallRow("relu(x, out=y), 16 elements", _relu16, Bound("value", 250e-9))
    yield CallRow("bias_act(x, bias, activation='relu', out=y), 1x16", _bias_act16)
    yield CallRow("Adam.step, 784-32-10", _adam_small, Bound("value", 6e-6))
    yield BesideBlasRow()
    for name in ("torch", "sklearn.ensemble"):
        if importlib.util.find_spec(name.partition(".")[0]):
            yield BesideBlasRow(name, "before")
            yield BesideBlasRow(name, "after")
    yield ImportRow()
    for path in sorted(Path("dist").glob("fastnn*.whl")):
        yield WheelRow(path)


def _usual(case: Case) -> bool:
    """Whether a default run includes the case: of the fused tails none, relu, and relu with dropout."""
    if not isinstance(case, (BiasActCase, BatchNormCase)):
        return True
    tail = case.epilogue
    if tail.residual or tail.activation not in (None, "relu") or (tail.dropout and not case.training):
        return False
    return tail.activation == "relu" or not tail.dropout


def all_rows(*, only: str = "", quick: bool = False, everything: bool = False) -> list[RowSpec]:
    """Every row, in the order of the case table.

    Parameters
    ----------
    only : str
        Keep the rows of this group or, if there is no such group, those with this in their name.
    quick : bool
        Leave out everything above `QUICK` elements.
    everything : bool
        Include the other fused tails (other activations, residual, dropout alone).
    """
    rows: list[RowSpec] = []
    for case in CASES:
        if not everything and not _usual(case):
            continue
        for shape in case.bench:
            if quick and elements(shape) > QUICK:
                continue
            rows.append(CaseRow(case, shape, "forward"))
            if len(case.ops) == 2:
                rows.append(CaseRow(case, shape, "backward"))
    rows.extend(_beyond_the_table())
    if any(only == row.group for row in rows):
        return [row for row in rows if only == row.group]
    return [row for row in rows if only in row.id]
