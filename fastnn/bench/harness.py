"""Fair timing: contenders take turns, medians and spreads are kept, every row is judged by its own noise."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any, Literal

import fastnn

#: A row is called noisy above this: interquartile range over median of its time or of its floor.
WIDE = 0.2

ENOUGH = 5
"""Samples from which quartiles say something."""

TIE, TIE_OF_FEW = 1.25, 1.1
"""Largest ratio of a tie, and of one between fewer than `ENOUGH` samples: noise must not turn a defeat into a tie."""

SAMPLE_SECONDS = 1e-3
"""Aimed-at length of one sample; calls shorter than this are repeated inside it."""

WARM_SECONDS = 5e-4
"""A contender runs untimed for so long before its sample, or at least once."""

LONG_CALL = 2e-2
"""Seconds from which on a call is its own warm-up: caches and sleeping threads no longer matter to it."""


@dataclass(frozen=True)
class Settings:
    """What a run was asked for.

    Parameters
    ----------
    threads : int
        Threads for fastnn, for the peers and for the ceilings.
    isa : str
        ISA level of fastnn.
    quick : bool
        Small shapes and few rounds: a smoke test, not a measurement.
    rounds : int
        Rounds in which every contender takes one sample.
    budget : float
        Seconds one contender may take in one row, once it has its three samples.
    """

    threads: int
    isa: str
    quick: bool = False
    rounds: int = 15
    budget: float = 0.06

    @classmethod
    def of(cls, threads: int, isa: str, quick: bool) -> Settings:
        """The effort that goes with `quick`."""
        return cls(threads, isa, True, rounds=3, budget=0.01) if quick else cls(threads, isa)

    def lighter(self, threads: int | None = None) -> Settings:
        """A third of the effort, for the points of a curve."""
        return replace(self, threads=threads or self.threads, rounds=max(3, self.rounds // 3), budget=self.budget / 3)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """fastnn at this level and number of threads, and BLAS at that number if it can be told."""
        level = fastnn.get_isa()
        fastnn.set_isa(self.isa)
        try:
            with fastnn.threads(self.threads), _blas_threads(self.threads):
                yield
        finally:
            fastnn.set_isa(level)


def blas_is_held() -> bool:
    """Whether the number of threads reaches BLAS."""
    return importlib.util.find_spec("threadpoolctl") is not None


def _blas_threads(threads: int) -> AbstractContextManager[Any]:
    if not blas_is_held():
        return nullcontext()
    limits: AbstractContextManager[Any] = importlib.import_module("threadpoolctl").threadpool_limits(threads, "blas")
    return limits


@dataclass(frozen=True)
class Timing:
    """Median and quartiles of so many samples."""

    value: float
    low: float
    high: float
    count: int = field(default=ENOUGH, compare=False)

    @classmethod
    def of(cls, samples: Sequence[float]) -> Timing:
        """Of three samples or fewer the extremes instead of the quartiles."""
        if len(samples) < 4:
            return cls(statistics.median(samples), min(samples), max(samples), len(samples))
        low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(middle, low, high, len(samples))

    @property
    def spread(self) -> float:
        """Interquartile range over median."""
        return (self.high - self.low) / self.value

    def overlaps(self, other: Timing) -> bool:
        """Whether the ranges between the quartiles meet."""
        return self.low <= other.high and other.low <= self.high

    def ties(self, other: Timing) -> bool:
        """Whether the two are equal as far as was measured: close to each other, and their ranges meet."""
        small, large = sorted((self.value, other.value))
        limit = TIE if min(self.count, other.count) >= ENOUGH else TIE_OF_FEW
        return self.overlaps(other) and large <= limit * small


@dataclass(frozen=True)
class Bound:
    """A promised limit: on the ratio to roof or floor, or on the value itself (in the row's unit)."""

    of: Literal["roof", "floor", "value"]
    limit: float


@dataclass(frozen=True)
class Row:
    """One measured row.

    Parameters
    ----------
    group, name : str
        Family, and what was measured.
    time : Timing
        In seconds, or `unit`.
    kind : {"case", "step", "overhead", "threads", "footprint"}
    unit : str
        "s", "x" (a ratio) or "B".
    case, direction, shape, elements
        Of a row of the case table.
    isa : str
        Level measured; empty where it does not matter.
    threads : int
        Threads allowed.
    bytes, floor, roof : int, float, float
        Bytes that must move, and the two limits in seconds; zero where there are none.
    floor_spread : float
        Interquartile range over median of the floor.
    peers : dict of str to Timing
        The peers that have this operation, in seconds, by label.
    lesser : frozenset of str
        Labels of the peers that do less work than fastnn: shown, but never the best.
    after_matmul : float
        Median of single calls, each right after a matrix product; zero where not measured.
    kept : int
        Bytes kept for backward.
    bound : Bound or None
        What was promised.
    notes : tuple of str
        What a reader of the row should know.
    errors : tuple of str
        Peers that are not in the row because their answer was wrong or they failed.
    samples : tuple of float
        Every sample behind `time`.
    """

    group: str
    name: str
    time: Timing
    kind: str = "case"
    unit: str = "s"
    case: str = ""
    direction: str = ""
    shape: Any = None
    elements: int = 0
    isa: str = ""
    threads: int = 1
    bytes: int = 0
    floor: float = 0.0
    roof: float = 0.0
    floor_spread: float = 0.0
    peers: dict[str, Timing] = field(default_factory=dict)
    lesser: frozenset[str] = frozenset()
    after_matmul: float = 0.0
    kept: int = 0
    bound: Bound | None = None
    notes: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    samples: tuple[float, ...] = ()

    @property
    def value(self) -> float:
        """The median."""
        return self.time.value

    @property
    def gbps(self) -> float:
        """Necessary bytes over time, in GB/s."""
        return self.bytes / self.value / 1e9 if self.unit == "s" else 0.0

    def ratio(self, of: Literal["roof", "floor", "value"]) -> float:
        """Value over roof or floor (or the value itself)."""
        base = {"roof": self.roof, "floor": self.floor, "value": 1.0}[of]
        return self.value / base if base else math.nan

    @property
    def spread(self) -> float:
        """That of the row or of its floor, whichever is wider."""
        return max(self.time.spread, self.floor_spread)

    @property
    def noisy(self) -> bool:
        """Whether the spread is too wide to lean on the ratio."""
        return self.spread > WIDE

    @property
    def verdict(self) -> Literal["met", "missed", ""]:
        """Whether the bound holds; empty without one."""
        if self.bound is None:
            return ""
        return "met" if self.ratio(self.bound.of) <= self.bound.limit else "missed"

    @property
    def best_peer(self) -> str | None:
        """Label of the fastest peer that does the same work."""
        equal = [label for label in self.peers if label not in self.lesser]
        return min(equal, key=lambda label: self.peers[label].value, default=None)

    @property
    def speedup(self) -> float | None:
        """Time of the fastest peer over fastnn's."""
        return self.peers[self.best_peer].value / self.value if self.best_peer else None

    @property
    def tie(self) -> bool:
        """Whether noise hides who is faster, fastnn or the fastest peer."""
        return self.best_peer is not None and self.time.ties(self.peers[self.best_peer])

    def remarks(self) -> list[str]:
        """Notes and errors, and peers whose spread is too wide for their ratio."""
        wide = [f"{label} {t.spread:.0%}" for label, t in self.peers.items() if t.spread > WIDE]
        return [*self.notes, *self.errors, *([f"wide spread: {', '.join(wide)}"] if wide else [])]

    def as_json(self) -> dict[str, Any]:
        """The row as ``bench.json`` has it."""
        peers = {
            label: {"value": t.value, "low": t.low, "high": t.high, "ratio": t.value / self.value}
            for label, t in self.peers.items()
        }
        same = ("group", "name", "kind", "case", "direction", "elements", "isa", "threads", "unit", "bytes", "floor")
        return {
            **{key: getattr(self, key) for key in (*same, "roof", "after_matmul", "kept", "noisy", "verdict", "tie")},
            **{key: getattr(self, key) for key in ("value", "spread", "gbps", "best_peer", "speedup")},
            "shape": self.shape,
            "low": self.time.low,
            "high": self.time.high,
            "over_floor": self.ratio("floor") if self.floor else None,
            "over_roof": self.ratio("roof") if self.roof else None,
            "peers": peers,
            "bound": {"of": self.bound.of, "limit": self.bound.limit} if self.bound else None,
            "notes": self.remarks(),
        }


@dataclass
class Contender:
    """One thing to time.

    Parameters
    ----------
    name : str
        Key of the result.
    call : callable
        What is timed; or, with `self_timed`, a callable that returns seconds per call itself.
    before : callable, optional
        Untimed, before every single call, which is then timed alone.
    """

    name: str
    call: Callable[[], Any]
    before: Callable[[], Any] | None = None
    self_timed: bool = False
    samples: list[float] = field(default_factory=list)
    inner: int = 1
    warm: bool = True
    rounds: int = 0

    def sample(self) -> float:
        """One sample in seconds per call."""
        if self.self_timed:
            return float(self.call())
        call = self.call
        if self.before is not None:
            self.before()
        elif self.warm:  # the others have had the caches meanwhile, the team is asleep, and theirs may still spin
            until = time.perf_counter() + WARM_SECONDS
            call()
            while time.perf_counter() < until:
                call()
        start = time.perf_counter()
        for _ in repeat(None, self.inner):
            call()
        return (time.perf_counter() - start) / self.inner

    def prepare(self, settings: Settings) -> None:
        """Choose how often to repeat the call in a sample and how many samples to take."""
        seconds = max(self.sample(), 1e-9)
        if seconds < SAMPLE_SECONDS:  # the first of short calls is mostly warming up
            seconds = max(self.sample(), 1e-9)
        self.warm = seconds < LONG_CALL and not self.self_timed and self.before is None
        if not self.self_timed and self.before is None:
            self.inner = max(2 if self.warm else 1, math.ceil(SAMPLE_SECONDS / seconds))
        per_sample = seconds * self.inner + (max(seconds, WARM_SECONDS) if self.warm else 0.0)
        self.rounds = max(3, min(settings.rounds, int(settings.budget / per_sample)))

    @property
    def timing(self) -> Timing:
        """Median and quartiles in seconds."""
        return Timing.of(self.samples)


def _order(contenders: Sequence[Contender], index: int) -> Sequence[Contender]:
    """Forwards, then backwards, then the same from the next on: nobody always follows the same neighbour."""
    start = index // 2 % len(contenders)
    turned = [*contenders[start:], *contenders[:start]]
    return turned[::-1] if index % 2 else turned


def interleave(contenders: Sequence[Contender], settings: Settings, judged: int | None = None) -> None:
    """Let the contenders take turns; if one of the first `judged` turned out noisy, once more as often."""
    for contender in contenders:
        contender.prepare(settings)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(1 if settings.quick else 2):
            for index in range(max(c.rounds for c in contenders)):
                for contender in _order(contenders, index):
                    if index < contender.rounds:
                        contender.samples.append(contender.sample())
            if all(c.timing.spread <= WIDE for c in contenders[:judged]):
                break
    finally:
        if was_enabled:
            gc.enable()
