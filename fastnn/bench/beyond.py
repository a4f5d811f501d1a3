"""Rows that the case table cannot hold: call overhead, the neighbour BLAS, import time and size."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

import fastnn
import fastnn._core as _core
import fastnn.functional as F
from fastnn.bench.harness import Bound, Row, Timing
from fastnn.bench.lineup import Bench, Lineup

__all__ = ["BesideBlasRow", "CallRow", "CapsuleRow", "ImportRow", "WheelRow", "beyond_the_table"]


@dataclass(frozen=True)
class CallRow:
    """Time of one small call, Python included."""

    name: str
    make: Callable[[], Callable[[], Any]]
    bound: Bound | None = None
    group: str = "overhead"

    levelled: ClassVar[bool] = False

    @property
    def id(self) -> str:
        """Unique name."""
        return self.name

    def check(self, lineup: Lineup) -> None:
        """One call."""
        self.make()()

    def measure(self, bench: Bench) -> Row:
        """Median of timeit samples."""
        call = self.make()
        with bench.settings.applied():
            samples = timeit.repeat(call, number=2000, repeat=3 if bench.settings.quick else 31)
        return _row(self, bench, [sample / 2000 for sample in samples], "overhead", bound=self.bound)


@dataclass(frozen=True)
class CapsuleRow:
    """What a call through the C interface costs beyond its kernel."""

    group: str = "overhead"
    id: str = "activation_f32 from C, relu of 16 elements, beyond its kernel"

    levelled: ClassVar[bool] = False

    def check(self, lineup: Lineup) -> None:
        """One call."""
        assert all(seconds > 0 for seconds in _core._bench_capsule_call(16, 1))

    def measure(self, bench: Bench) -> Row:
        """Median difference of neighbouring samples."""
        with bench.settings.applied():
            pairs = [_core._bench_capsule_call(16, 100_000) for _ in range(3 if bench.settings.quick else 31)]
        samples = [max(whole - bare, 1e-12) for whole, bare in pairs]
        return _row(self, bench, samples, "overhead", bound=Bound("value", 30e-9))


def _row(spec: Any, bench: Bench, samples: list[float], kind: str, **values: Any) -> Row:
    timing = Timing.of(samples)
    return Row(spec.group, spec.id, timing, kind, threads=bench.settings.threads, samples=tuple(samples), **values)


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
import fastnn._core as _core
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

    levelled: ClassVar[bool] = False

    @property
    def id(self) -> str:
        """Unique name."""
        other = f", {self.imported} imported {self.when}" if self.imported else ""
        return f"matmul 512 + relu 1M, alternating / alone{other}"

    def _times(self, threads: int, blocks: int, calls: int) -> dict[str, list[float]]:
        names = [self.imported] if self.imported else []
        arguments = [names * (self.when == "before"), names * (self.when == "after"), threads, blocks, calls]
        return dict(json.loads(_python(_BESIDE_BLAS, json.dumps(arguments))))

    def check(self, lineup: Lineup) -> None:
        """One block."""
        assert set(self._times(2, 1, 1)) == {"product", "kernel", "both"}

    def measure(self, bench: Bench) -> Row:
        """Ratio of medians, in a process of its own."""
        blocks, calls = (3, 5) if bench.settings.quick else (15, 30)
        times = self._times(bench.settings.threads, blocks, calls)
        ratios = [
            both / (p + k) for p, k, both in zip(*(times[name] for name in ("product", "kernel", "both")), strict=True)
        ]
        return _row(self, bench, ratios, "threads", unit="x", bound=Bound("value", 1.3))


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
    levelled: ClassVar[bool] = False

    def _seconds(self) -> float:
        code = "import numpy, time; t = time.perf_counter(); import fastnn; print(time.perf_counter() - t)"
        return float(_python(code))

    def check(self, lineup: Lineup) -> None:
        """It imports."""
        assert self._seconds() > 0

    def measure(self, bench: Bench) -> Row:
        """Median over fresh processes."""
        samples = [self._seconds() for _ in range(3 if bench.settings.quick else 15)]
        return _row(self, bench, samples, "footprint", bound=Bound("value", 30e-3))


@dataclass(frozen=True)
class WheelRow:
    """Size of a built wheel."""

    path: Path
    group: str = "footprint"

    levelled: ClassVar[bool] = False

    @property
    def id(self) -> str:
        """Unique name."""
        return f"wheel {self.path.name}"

    def check(self, lineup: Lineup) -> None:
        """It is there."""
        assert self.path.stat().st_size > 0

    def measure(self, bench: Bench) -> Row:
        """Bytes on disk."""
        return _row(self, bench, [float(self.path.stat().st_size)], "footprint", unit="B", bound=Bound("value", 2e6))


def beyond_the_table(quick: bool) -> Iterator[CallRow | CapsuleRow | BesideBlasRow | ImportRow | WheelRow]:
    """All of them; a quick run imports no other library into a process of its own."""
    yield CallRow("relu(x, out=y), 16 elements", _relu16, Bound("value", 250e-9))
    yield CallRow("bias_act(x, bias, activation='relu', out=y), 1x16", _bias_act16)
    yield CallRow("Adam.step, 784-32-10", _adam_small, Bound("value", 6e-6))
    yield CapsuleRow()
    yield BesideBlasRow()
    for name in () if quick else ("torch", "sklearn.ensemble"):
        if importlib.util.find_spec(name.partition(".")[0]):
            yield BesideBlasRow(name, "before")
            yield BesideBlasRow(name, "after")
    yield ImportRow()
    for path in sorted(Path("dist").glob("fastnn*.whl")):
        yield WheelRow(path)
