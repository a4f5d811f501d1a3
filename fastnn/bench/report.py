"""What a run has found, as one dictionary: the content of ``bench.json``, which table, page and comparison read."""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastnn._core as _core
from fastnn.bench.digest import geomean, slower

__all__ = ["FORMAT", "assemble", "load", "machine", "merge", "missed", "save", "summarize"]

FORMAT = 1

Report = dict[str, Any]

_NEEDED = ("machine", "settings", "rows", "complete", "peers", "ceilings", "curves", "errors", "summary")
_NEEDED_OF_ROW = ("name", "isa", "unit", "value", "low", "high")

_ENVIRONMENT = ("OPENBLAS_", "OMP_", "GOMP_", "MKL_", "BLIS_", "FASTNN_", "NPY_", "KMP_")
"""Beginnings of the environment variables that change what is measured."""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _blas() -> str:
    try:
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    except (TypeError, KeyError):  # an older NumPy prints only
        return ""
    return f"{blas.get('name', '')} {blas.get('version', '')}".strip()


def machine() -> dict[str, Any]:
    """Machine and versions."""
    l2, llc = _core._cache_bytes()
    return {
        "cpu": _cpu(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "l2_bytes": l2,
        "llc_bytes": llc,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": _blas(),
        "fastnn": _core.config(),
    }


def assemble(
    *,
    command: str,
    started: datetime.datetime,
    settings: Mapping[str, Any],
    peers: Sequence[Mapping[str, Any]],
    ceilings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    curves: Sequence[Mapping[str, Any]],
    errors: Sequence[str],
    complete: bool,
) -> Report:
    """The whole report; the parts are as ``bench.json`` has them."""
    now = datetime.datetime.now(datetime.timezone.utc)
    environment = {name: value for name, value in os.environ.items() if name.startswith(_ENVIRONMENT)}
    return {
        "format": FORMAT,
        "complete": complete,
        "command": command,
        "started": started.isoformat(timespec="seconds"),
        "seconds": (now - started).total_seconds(),
        "machine": machine(),
        "settings": {**settings, "environment": environment},
        "peers": list(peers),
        "ceilings": dict(ceilings),
        "rows": list(rows),
        "curves": [curve for curve in curves if curve["points"]],
        "errors": list(errors),
        "summary": summarize(rows),
    }


def merge(report: Report, other: Report) -> Report:
    """`report` and what another process measured at another ISA level."""
    capped = {peer["label"]: peer["capped"] for peer in other["peers"]}
    rows = report["rows"] + other["rows"]
    return {
        **report,
        "complete": report["complete"] and other["complete"],
        "peers": [{**peer, "capped": peer["capped"] | capped.get(peer["label"], {})} for peer in report["peers"]],
        "ceilings": {
            **report["ceilings"],
            "cost_ns": report["ceilings"]["cost_ns"] | other["ceilings"]["cost_ns"],
        },
        "rows": rows,
        "curves": report["curves"] + other["curves"],
        "errors": report["errors"] + other["errors"],
        "summary": summarize(rows),
    }


def summarize(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per ISA level: who is faster how often, by how much in geometric mean, and the bounds met.

    Rows that belong to no level count with the first.
    """
    levels = list(dict.fromkeys(row["isa"] for row in rows if row["isa"])) or [""]
    return {
        level: _summary([row for row in rows if row["isa"] == level or (not row["isa"] and level == levels[0])])
        for level in levels
        if rows
    }


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    contested = [row for row in rows if row["best_peer"]]
    labels = dict.fromkeys(label for row in rows for label in row["peers"])
    ratios = {label: [row["peers"][label]["ratio"] for row in rows if label in row["peers"]] for label in labels}
    bound = [row for row in rows if row["bound"]]
    return {
        "rows": len(contested),
        "faster_than_every_peer": sum(row["speedup"] > 1 and not row["tie"] for row in contested),
        "ties": sum(row["tie"] for row in contested),
        "slower": sum(map(slower, contested)),
        "geomean_best_peer": geomean(row["speedup"] for row in contested),
        "geomean": {label: geomean(values) for label, values in ratios.items()},
        "bounds_met": sum(row["verdict"] == "met" for row in bound),
        "bounds": len(bound),
    }


def missed(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each row that misses its bound."""
    lines = []
    for row in rows:
        if row["verdict"] == "missed":
            of, limit = row["bound"]["of"], row["bound"]["limit"]
            value = row["value"] if of == "value" else row[f"over_{of}"]
            lines.append(f"{row['name']} ({row['isa']}): {value:.3g}, bound {limit:g}, of {of}")
    return lines


def save(report: Report, path: Path) -> None:
    """Write a report; the file is whole or not there, whatever happens meanwhile."""
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(_finite(report), indent=1, allow_nan=False))
    draft.replace(path)


def _finite(value: Any) -> Any:
    """The same without infinity and NaN, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def load(path: Path) -> Report:
    """Read a report.

    Raises
    ------
    ValueError
        If the file is not one.
    """
    try:
        report = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise ValueError(f"{path}: expected a bench.json of format {FORMAT}")
    missing = [key for key in _NEEDED if key not in report]
    missing += [
        f"rows[{i}]: {key}" for i, row in enumerate(report.get("rows", ())) for key in _NEEDED_OF_ROW if key not in row
    ]
    if missing:
        raise ValueError(f"{path}: not there: {', '.join(missing[:5])}")
    return report
