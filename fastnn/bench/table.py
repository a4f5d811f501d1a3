"""Results as a text table and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np

import fastnn._core as _core
from fastnn.bench.ceilings import Ceilings
from fastnn.bench.harness import Row


def _seconds(value: float) -> str:
    if not value or math.isnan(value):
        return "-"
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def _value(row: Row) -> str:
    if row.unit == "s":
        return _seconds(row.value)
    return f"{row.value:.2f} x" if row.unit == "x" else f"{row.value / 1e6:.2f} MB"


def _ratio(value: float) -> str:
    return "-" if math.isnan(value) or math.isinf(value) else f"{value:.2f}"


def _limit(row: Row) -> str:
    if row.bound is None:
        return ""
    if row.bound.of != "value":
        return f"{row.bound.limit:g} {row.bound.of}"
    return _value(dataclasses.replace(row, value=row.bound.limit))


def _format(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in (header, *lines)) for i in range(len(header))]

    def text(line: Sequence[str]) -> str:
        first, *rest = (
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join([first, *rest]).rstrip()

    return "\n".join([text(header), text(["-" * w for w in widths]), *map(text, lines)])


def rows_text(rows: Sequence[Row]) -> str:
    """One line per row, ordered by ISA level and then as measured.

    Noisy: the spread is too wide to support the ratio.
    """
    peers = list(dict.fromkeys(name for row in rows for name in row.peers))
    header = ["row", "time", "GB/s", "floor", "roof", "/floor", "/roof", *peers]
    header += ["after matmul", "spread", "bound", ""]
    blocks = []
    for isa in dict.fromkeys(row.isa for row in rows):
        lines = []
        for row in (row for row in rows if row.isa == isa):
            verdict = " ".join(filter(None, [row.verdict, "(noisy)" if row.noisy else ""]))
            lines.append(
                [
                    row.name,
                    _value(row),
                    f"{row.gbps:.1f}" if row.bytes else "-",
                    _seconds(row.floor),
                    _seconds(row.roof),
                    _ratio(row.ratio("floor")),
                    _ratio(row.ratio("roof")),
                    *(_seconds(row.peers.get(name, 0.0)) for name in peers),
                    _seconds(row.after_matmul),
                    f"{row.spread:.0%}",
                    _limit(row),
                    verdict,
                ]
            )
        title = f"{isa}, {max(row.threads for row in rows)} threads" if isa else "beyond the case table"
        blocks.append(f"{title}\n{_format(header, lines)}")
    return "\n\n".join(blocks)


def ceilings_text(ceilings: Ceilings) -> str:
    """Bandwidths per working set, and the other limits of the machine."""
    lines = [
        [f"{nbytes >> 10} KB", f"{speeds['copy']:.1f}", f"{speeds['read']:.1f}"]
        for nbytes, speeds in ceilings.table().items()
    ]
    region = ceilings.region
    levels = ceilings.settings.isa
    costs = _format(
        ["ns per element and thread", *levels],
        [
            [operation, *(f"{1e9 * ceilings.cost(operation, isa, np.float32):.3f}" for isa in levels)]
            for operation in ("div", "sqrt", "exp", "random_bits")
        ],
    )
    bandwidths = _format(["working set", "copy GB/s", "read GB/s"], lines)
    regions = f"parallel region: {_seconds(region['hot'])} hot, {_seconds(region['cold'])} after other work"
    return f"{bandwidths}\n\n{costs}\n\n{regions}"


def machine() -> dict[str, Any]:
    """Machine and versions, for the head of the table and the JSON file."""
    return {"machine": platform.platform(), "numpy": np.__version__, "fastnn": _core.config()}


def as_json(rows: Sequence[Row], ceilings: Ceilings) -> str:
    """Everything measured, as JSON."""
    content = {
        "machine": machine(),
        "ceilings": {str(nbytes): speeds for nbytes, speeds in ceilings.table().items()},
        "region": ceilings.region,
        "rows": [
            {**dataclasses.asdict(row), "verdict": row.verdict, "noisy": row.noisy, "gbps": row.gbps} for row in rows
        ],
    }
    return json.dumps(content, indent=1, default=str)
