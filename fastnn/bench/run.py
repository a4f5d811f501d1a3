"""``fastnn bench``, and what it shares with ``pytest bench/``: options, settings and the closing report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastnn
from fastnn.bench import rows, table
from fastnn.bench.ceilings import Ceilings
from fastnn.bench.harness import Row, Settings

__all__ = ["OPTIONS", "choose_settings", "main", "missed", "report"]

OPTIONS: dict[str, dict[str, Any]] = {
    "--only": {"default": "", "metavar": "GROUP", "help": "rows of this group, or else with this in their name"},
    "--quick": {"action": "store_true", "help": "small shapes, few rounds: a smoke test"},
    "--all": {
        "action": "store_true",
        "help": "the other fused tails as well: leaky_relu, residual, dropout alone",
    },
    "--check": {"action": "store_true", "help": "fail if a row misses its bound"},
    "--threads": {"type": int, "metavar": "N", "help": "threads of fastnn (default: fastnn's own choice)"},
    "--isa": {"metavar": "LEVEL", "help": "measure this level only (default: v4 and v3, where available)"},
    "--out": {"type": Path, "metavar": "DIR", "help": "write bench.json and bench.txt there"},
}
"""Options of both faces, as `argparse.ArgumentParser.add_argument` takes them."""


def choose_settings(threads: int | None, isa: str | None, quick: bool) -> Settings:
    """Settings of a run; sets the number of threads.

    Raises
    ------
    ValueError
        For a level that is not available, or a number of threads out of range.
    """
    available = fastnn.available_isas()
    if isa is not None and isa not in available:
        raise ValueError(f"--isa: expected one of {', '.join(available)}, got {isa}")
    usual = [level for level in available if level in ("v4", "v3")] or available[:1]
    if threads is not None:
        fastnn.set_num_threads(threads)
    return Settings(threads=fastnn.get_num_threads(), isa=(isa,) if isa else tuple(usual), quick=quick)


def missed(measured: Sequence[Row]) -> list[str]:
    """A line for each row that misses its bound."""
    return [
        f"{row.name} ({row.isa}): {row.ratio(row.bound.of):.3g}, bound {row.bound.limit:g}, of {row.bound.of}"
        for row in measured
        if row.bound is not None and row.verdict == "missed"
    ]


def report(measured: Sequence[Row], ceilings: Ceilings, directory: Path | None = None) -> str:
    """The closing text; with a `directory`, also written there, and as JSON."""
    bound = sum(row.bound is not None for row in measured)
    met = f"{bound - len(missed(measured))} of {bound} bounds met"
    text = f"{table.ceilings_text(ceilings)}\n\n{table.rows_text(measured)}\n\n{met}\n"
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "bench.txt").write_text(text)
        (directory / "bench.json").write_text(table.as_json(measured, ceilings))
    return text


def main(argv: Sequence[str]) -> int:
    """Run ``fastnn bench`` with the arguments `argv`; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="fastnn bench",
        description="Time every kernel beside NumPy, and against what the memory and the arithmetic of this machine "
        "allow. Answers are checked first.",
    )
    for name, keywords in OPTIONS.items():
        parser.add_argument(name, **keywords)
    options = parser.parse_args(argv)
    specs = rows.all_rows(only=options.only, quick=options.quick, everything=options.all)
    if not specs:
        parser.error(f"--only: expected a group or a part of a row's name, got {options.only}")
    try:
        settings = choose_settings(options.threads, options.isa, options.quick)
    except ValueError as error:
        parser.error(str(error))
    ceilings = Ceilings(settings)
    measured: list[Row] = []
    for number, spec in enumerate(specs, start=1):
        print(f"{number}/{len(specs)} {spec.id}", file=sys.stderr, flush=True)
        measured += spec.measure(settings, ceilings)
    print(report(measured, ceilings, options.out))
    failures = missed(measured) if options.check else []
    for line in failures:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if failures else 0
