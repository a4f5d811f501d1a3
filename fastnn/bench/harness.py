"""Fair timing: contenders take turns, medians and spreads are kept, every row is judged by its own noise."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Literal

#: A row is called noisy above this: interquartile range over median of its time or of its floor.
WIDE = 0.2

SAMPLE_SECONDS = 1e-3
"""Aimed-at length of one sample; calls shorter than this are repeated inside it."""

LONG_CALL = 2e-2
"""Seconds from which on a call is its own warm-up: caches and sleeping threads no longer matter to it."""


@dataclass(frozen=True)
class Settings:
    """What a run was asked for.

    Parameters
    ----------
    threads : int
        Threads for fastnn and for the ceilings.
    isa : tuple of str
        ISA levels to measure, best first.
    quick : bool
        Small shapes and few rounds: a smoke test, not a measurement.
    """

    threads: int
    isa: tuple[str, ...]
    quick: bool = False

    @property
    def rounds(self) -> int:
        """Rounds in which every contender takes one sample."""
        return 3 if self.quick else 15

    @property
    def budget(self) -> float:
        """Seconds one contender may take in one row, once it has its three samples."""
        return 0.01 if self.quick else 0.12


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
    value : float
        The median: seconds, or `unit`.
    spread : float
        Interquartile range over median, the wider of the row and its floor.
    unit : str
        "s", "x" (a ratio) or "B".
    isa : str
        Level measured; empty where it does not matter.
    threads : int
        Threads allowed.
    bytes, floor, roof : int, float, float
        Bytes that must move, and the two limits in seconds; zero where there are none.
    peers : dict of str to float
        Medians of the peers that have this operation, in seconds.
    after_matmul : float
        Median of single calls, each right after a matrix product; zero where not measured.
    kept : int
        Bytes kept for backward.
    bound : Bound or None
        What was promised.
    """

    group: str
    name: str
    value: float
    spread: float = 0.0
    unit: str = "s"
    isa: str = ""
    threads: int = 1
    bytes: int = 0
    floor: float = 0.0
    roof: float = 0.0
    peers: dict[str, float] = field(default_factory=dict)
    after_matmul: float = 0.0
    kept: int = 0
    bound: Bound | None = None

    @property
    def gbps(self) -> float:
        """Necessary bytes over time, in GB/s."""
        return self.bytes / self.value / 1e9 if self.unit == "s" else 0.0

    def ratio(self, of: Literal["roof", "floor", "value"]) -> float:
        """Value over roof or floor (or the value itself)."""
        base = {"roof": self.roof, "floor": self.floor, "value": 1.0}[of]
        return self.value / base if base else math.nan

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


@dataclass
class Contender:
    """One thing to time.

    Parameters
    ----------
    name : str
        Key of the result.
    call : callable
        What is timed; or, with `self_timed`, a callable that returns seconds per call itself.
    enter : callable, optional
        Untimed, before each sample (selects an ISA level).
    before : callable, optional
        Untimed, before every single call, which is then timed alone.
    """

    name: str
    call: Callable[[], Any]
    enter: Callable[[], None] | None = None
    before: Callable[[], Any] | None = None
    self_timed: bool = False
    samples: list[float] = field(default_factory=list)
    inner: int = 1
    warm: bool = True
    rounds: int = 0

    def sample(self) -> float:
        """One sample in seconds per call."""
        if self.enter is not None:
            self.enter()
        if self.self_timed:
            return float(self.call())
        call = self.call
        if self.before is not None:
            self.before()
        elif self.warm:
            call()  # the others have had the caches meanwhile, and the team is asleep
        start = time.perf_counter()
        for _ in repeat(None, self.inner):
            call()
        return (time.perf_counter() - start) / self.inner

    def prepare(self, settings: Settings) -> None:
        """Choose how often to repeat the call in a sample and how many samples to take."""
        seconds = max(self.sample(), 1e-9)
        if seconds < SAMPLE_SECONDS:  # the first of short calls is mostly warming up
            seconds = max(self.sample(), 1e-9)
        if not self.self_timed and self.before is None:
            self.warm = seconds < LONG_CALL
            self.inner = max(2 if self.warm else 1, math.ceil(SAMPLE_SECONDS / seconds))
        per_sample = max(seconds * (self.inner + self.warm), SAMPLE_SECONDS)
        self.rounds = max(3, min(settings.rounds, int(settings.budget / per_sample)))

    @property
    def median(self) -> float:
        """Median sample in seconds."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Interquartile range over median."""
        return spread(self.samples)


def spread(samples: Sequence[float]) -> float:
    """Interquartile range over median; the full range below four samples."""
    middle = statistics.median(samples)
    if len(samples) < 4:
        return (max(samples) - min(samples)) / middle
    low, _, high = statistics.quantiles(samples, n=4)
    return (high - low) / middle


def interleave(contenders: Sequence[Contender], settings: Settings, judged: int | None = None) -> None:
    """Let the contenders take turns; if one of the first `judged` turned out noisy, once more as often."""
    for contender in contenders:
        contender.prepare(settings)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(1 if settings.quick else 2):
            for index in range(max(c.rounds for c in contenders)):
                for contender in contenders:
                    if index < contender.rounds:
                        contender.samples.append(contender.sample())
            if all(c.spread <= WIDE for c in contenders[:judged]):
                break
    finally:
        if was_enabled:
            gc.enable()
