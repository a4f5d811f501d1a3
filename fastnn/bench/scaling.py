"""Curves: time against size, against threads, and against the number of tensors of an optimizer step.

One case stands for a family and kind of arithmetic; a point of a curve is a row of it, measured with less effort.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from fastnn.bench.case_rows import CaseRow
from fastnn.bench.ceilings import Ceilings
from fastnn.bench.harness import Row
from fastnn.bench.lineup import Bench
from fastnn.bench.rows import heads
from fastnn.cases import Case, OptimizerCase

__all__ = ["Curve", "Point", "curves"]

SIZES = tuple(1 << k for k in range(10, 27, 2))
"""Elements: 1K to 64M."""

THREADED = 1 << 20
"""Elements of the curves over threads, and of all tensors together of those over tensors."""

TENSORS = (1, 10, 100, 1000)

COLUMNS = 1024
"""Most columns of a matrix: below `COLUMNS` squared it is about square."""

PIXELS = 16
"""Height and width of images."""

ARRAYS = 8
"""Arrays that fastnn and a peer may hold at once; what would take more than half of the memory is left out."""


@dataclass(frozen=True)
class Point:
    """A place on a curve."""

    curve: Curve
    at: int
    row: CaseRow
    threads: int

    @property
    def id(self) -> str:
        """For the progress display."""
        return f"{self.curve.name} over {self.curve.over}: {self.at}"

    def measure(self, bench: Bench) -> None:
        """Measure, and add it to the curve."""
        settings = bench.settings.lighter(self.threads)
        if self.threads == bench.settings.threads:
            row = self.row.measure(replace(bench, settings=settings), briefly=True)
        else:
            try:
                other = Bench(settings, Ceilings(settings), bench.lineup.with_threads(self.threads))
                row = self.row.measure(other, briefly=True)
            finally:
                bench.lineup.with_threads(bench.settings.threads)
        self.curve.points.append(_point(self.at, row))


@dataclass
class Curve:
    """Time of one op against one thing.

    Parameters
    ----------
    name, family : str
        "relu", "activation".
    over : {"elements", "threads", "tensors"}
    isa : str
    points : list of dict
        As ``bench.json`` has them.
    """

    name: str
    family: str
    over: str
    isa: str
    points: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As ``bench.json`` has it."""
        return dict(vars(self))


def _point(at: int, row: Row) -> dict[str, Any]:
    peers = {label: timing.value for label, timing in row.peers.items()}
    return {"at": at, "seconds": row.value, "floor": row.floor, "roof": row.roof, "peers": peers}


def shape_of(case: Case, n: int) -> Any:
    """A shape of `n` elements, a power of two, of as many dimensions as the case's own."""
    dimensions = len(case.bench[0])
    if isinstance(case, OptimizerCase):
        return ((n,),)
    if dimensions == 1:
        return (n,)
    columns = min(COLUMNS, 1 << int(math.log2(n)) // 2)
    if dimensions == 4:  # images of a size for windows
        channels = max(1, min(columns, n // PIXELS**2))
        return (n // (channels * PIXELS**2), channels, PIXELS, PIXELS)
    return (n // columns, columns) + (1,) * (dimensions - 2)


def _fits(n: int) -> bool:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return ARRAYS * 4 * n < memory / 2


def _teams(most: int) -> list[int]:
    """1, 2, 4, ... and all threads."""
    return sorted({1 << k for k in range(most.bit_length()) if 1 << k < most} | {most})


def curves(bench: Bench, *, only: str = "") -> Iterator[Point]:
    """Every point of every curve, in the order to measure them.

    Parameters
    ----------
    bench : Bench
    only : str
        Curves of this family only.
    """
    settings = bench.settings
    largest = 1 << 16 if settings.quick else math.inf
    for case in heads().values():
        if only not in ("", case.family):
            continue
        curve = Curve(case.ops[0], case.family, "elements", settings.isa)
        for n in SIZES:
            if n <= largest and _fits(n):
                yield Point(curve, n, CaseRow(case, shape_of(case, n), "forward"), settings.threads)
    if settings.quick:
        return
    for case in heads().values():
        if only in ("", case.family):
            curve = Curve(case.ops[0], case.family, "threads", settings.isa)
            for threads in _teams(settings.threads):
                yield Point(curve, threads, CaseRow(case, shape_of(case, THREADED), "forward"), threads)
    for case in heads().values():
        if isinstance(case, OptimizerCase) and only in ("", case.family):
            curve = Curve(case.ops[0], case.family, "tensors", settings.isa)
            for count in TENSORS:
                shape = ((THREADED // count,),) * count
                yield Point(curve, count, CaseRow(case, shape, "forward"), settings.threads)
