"""What the page, the plots and README's performance section share: numbers as people read them, and means over rows.

A report is the content of ``bench.json``. It may be partial, and a measurement that failed is None or NaN there, so
every number goes through `number`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastnn._page import number as number

Report = Mapping[str, Any]
ReportRow = Mapping[str, Any]

MISSING = "-"

BEST = "best peer of each row"
"""Key of the speed-up over whichever peer is fastest, row by row."""


def _significant(value: float) -> str:
    """Three digits, without an exponent."""
    digits = max(0, 2 - math.floor(math.log10(value))) if value else 0
    return f"{value:.{min(digits, 2)}f}"


def seconds(value: Any) -> str:
    """A time in the unit that suits it."""
    known = number(value)
    if known is None or known <= 0:
        return MISSING
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if known * factor >= 0.9995:
            return f"{_significant(known * factor)} {unit}"
    return f"{_significant(known * 1e9)} ns"


def size(value: Any) -> str:
    """Bytes in the unit that suits them."""
    known = number(value)
    if known is None:
        return MISSING
    for shift, unit in ((30, "GB"), (20, "MB"), (10, "KB")):
        if known >= 1 << shift:
            return f"{known / (1 << shift):.3g} {unit}"
    return f"{known:.0f} B"


def count(value: Any) -> str:
    """A count as a label on an axis: 64K, 16M."""
    known = number(value)
    if known is None:
        return MISSING
    for shift, unit in ((20, "M"), (10, "K")):
        if known >= 1 << shift:
            return f"{known / (1 << shift):.3g}{unit}"
    return f"{known:.3g}"


def times(value: Any) -> str:
    """A ratio."""
    known = number(value)
    return MISSING if known is None else f"{_significant(known)} x"


def measured(row: ReportRow, value: Any) -> str:
    """A value in the row's own unit."""
    return {"s": seconds, "x": times, "B": size}.get(row.get("unit", "s"), times)(value)


def geomean(values: Iterable[Any]) -> float | None:
    """Geometric mean of the positive numbers among `values`, None where there are none."""
    logs = [math.log(known) for known in map(number, values) if known is not None and known > 0]
    return math.exp(sum(logs) / len(logs)) if logs else None


def levels(report: Report) -> list[str]:
    """ISA levels of the measured rows, those asked for first."""
    asked = report.get("settings", {}).get("isa", [])
    found = dict.fromkeys(row["isa"] for row in report["rows"] if row["isa"])
    return [isa for isa in asked if isa in found] + [isa for isa in found if isa not in asked]


def families(rows: Iterable[ReportRow]) -> dict[str, list[ReportRow]]:
    """Rows by group, in order of appearance."""
    grouped: dict[str, list[ReportRow]] = {}
    for row in rows:
        grouped.setdefault(row["group"], []).append(row)
    return grouped


def speedups(rows: Sequence[ReportRow]) -> dict[str, tuple[float, int]]:
    """Geometric mean of peer time over fastnn time, and the number of rows it is over, for each peer and `BEST`."""
    ratios: dict[str, list[Any]] = {BEST: [row.get("speedup") for row in rows]}
    for row in rows:
        for label, peer in row["peers"].items():
            ratios.setdefault(label, []).append(peer.get("ratio"))
    found = {}
    for label, values in ratios.items():
        known = [value for value in map(number, values) if value is not None and value > 0]
        mean = geomean(known)
        if mean is not None:
            found[label] = (mean, len(known))
    return found


def slower(row: ReportRow) -> bool:
    """Whether a peer is faster, by more than noise."""
    speedup = number(row.get("speedup"))
    return speedup is not None and speedup < 1 and not row.get("tie")


def over_limit(row: ReportRow) -> float | None:
    """Measured over promised: above 1 the row misses its bound. None without a bound."""
    bound = row.get("bound")
    if not bound:
        return None
    value = number(row.get({"roof": "over_roof", "floor": "over_floor"}.get(bound["of"], "value")))
    limit = number(bound["limit"])
    return value / limit if value is not None and limit else None


def limit(row: ReportRow) -> str:
    """The promised limit, in words."""
    bound = row.get("bound")
    if not bound:
        return ""
    if bound["of"] == "value":
        return measured(row, bound["limit"])
    return f"{bound['limit']:g} x {bound['of']}"
