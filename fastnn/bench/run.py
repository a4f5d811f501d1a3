"""``fastnn bench``, and what it shares with ``pytest bench/``: options, settings and the closing report."""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import fastnn
from fastnn.bench import compare, peers, report, rows, scaling, table
from fastnn.bench.ceilings import Ceilings
from fastnn.bench.harness import Row, Settings, blas_is_held
from fastnn.bench.lineup import Bench, Lineup, needs_cap
from fastnn.bench.progress import Progress

__all__ = ["OPTIONS", "Results", "choose_levels", "choose_peers", "choose_threads", "main", "prepare_output", "write"]

INTERRUPTED = 130
"""Exit status after Ctrl-C."""

PATIENCE = 3.0
"""Seconds that a process has to end after it was told to."""

_NAMES = ", ".join(dict.fromkeys(peer.name for peer in peers.PEERS))

OPTIONS: dict[str, dict[str, Any]] = {
    "--only": {"default": "", "metavar": "GROUP", "help": "rows of this group, or else with this in their name"},
    "--peers": {
        "metavar": "NAMES",
        "help": f"what to measure beside fastnn, separated by commas: {_NAMES} (default: all there are)",
    },
    "--quick": {"action": "store_true", "help": "small shapes, few rounds: a smoke test"},
    "--all": {
        "action": "store_true",
        "help": "the other fused tails and shapes as well: leaky_relu, residual alone, dropout alone, tanh of 16M",
    },
    "--check": {"action": "store_true", "help": "fail if a row misses its bound or, with --compare, became slower"},
    "--compare": {"type": Path, "metavar": "OLD.json", "help": "show which rows differ from an earlier bench.json"},
    "--threads": {
        "type": int,
        "metavar": "N",
        "help": "threads of fastnn, of the peers that can be told, and of BLAS where threadpoolctl is installed "
        "(default: fastnn's own choice)",
    },
    "--isa": {"metavar": "LEVEL", "help": "measure this level only (default: v4 and v3, where available)"},
    "--out": {
        "type": Path,
        "metavar": "DIR",
        "help": "write bench.json, bench.txt and report.html there, with scaling curves",
    },
}
"""Options of both faces, as `argparse.ArgumentParser.add_argument` takes them."""


# --------------------------------------------------------------------------------------------- what was asked for


def choose_levels(isa: str | None) -> tuple[str, ...]:
    """ISA levels to measure, best first.

    Raises
    ------
    ValueError
        For a level that is not available.
    """
    available = fastnn.available_isas()
    if isa is not None:
        if isa not in available:
            raise ValueError(f"--isa: expected one of {', '.join(available)}, got {isa}")
        return (isa,)
    return tuple(level for level in available if level in ("v4", "v3")) or (available[0],)


def choose_peers(names: str | None) -> list[str] | None:
    """Names of the peers to measure; None for all.

    Raises
    ------
    ValueError
        For a name that is not one.
    """
    if names is None:
        return None
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    peers.select(chosen)
    return chosen


def choose_threads(threads: int | None) -> int:
    """Threads to use: fastnn's own choice by default.

    Raises
    ------
    ValueError
        For a number out of range.
    """
    with fastnn.threads(threads):
        return fastnn.get_num_threads()


# ----------------------------------------------------------------------------------------------------- what was found


class Results:
    """What has been measured so far.

    Parameters
    ----------
    bench : Bench
    levels : sequence of str
        ISA levels asked for.
    command : str
        How the run was started.
    """

    def __init__(self, bench: Bench, levels: Sequence[str], command: str) -> None:
        self.bench = bench
        self.levels = levels
        self.command = command
        self.started = datetime.datetime.now(datetime.timezone.utc)
        self.ceilings: dict[str, Any] = {"bandwidth": [], "cost_ns": {}, "region": {}, "call": None}
        self.rows: list[Row] = []
        self.curves: list[scaling.Curve] = []
        self.errors: list[str] = []
        self.others: list[report.Report] = []

    def measure_ceilings(self) -> None:
        """Once, ahead of the rows."""
        self.ceilings = self.bench.ceilings.as_json()

    def measure(self, spec: rows.RowSpec) -> Row:
        """Measure a row and keep it."""
        row = spec.measure(self.bench)
        self.rows.append(row)
        self.errors += [f"{row.name}: {error}" for error in row.errors]
        return row

    def attempt(self, spec: rows.RowSpec) -> None:
        """The same, where an error must not end the run; it is kept."""
        try:
            self.measure(spec)
        except Exception as error:
            self.errors.append(f"{spec.id}: {type(error).__name__}: {error}")

    def extend(self, point: scaling.Point, bench: Bench) -> None:
        """Measure a point of a curve; an error must not end the run."""
        if point.curve not in self.curves:
            self.curves.append(point.curve)
        try:
            point.measure(bench)
        except Exception as error:
            self.errors.append(f"{point.id}: {type(error).__name__}: {error}")

    def as_report(self, complete: bool) -> report.Report:
        """The content of ``bench.json``."""
        settings = self.bench.settings
        content = report.assemble(
            command=self.command,
            started=self.started,
            settings={
                "threads": settings.threads,
                "isa": list(self.levels),
                "quick": settings.quick,
                "blas_held": blas_is_held(),
            },
            peers=self.bench.lineup.as_json(settings.isa),
            ceilings=self.ceilings,
            rows=[row.as_json() for row in self.rows],
            curves=[curve.as_json() for curve in self.curves],
            errors=self.errors,
            complete=complete,
        )
        for other in self.others:
            content = report.merge(content, other)
        return content


def prepare_output(directory: Path) -> None:
    """Make the directory and write into it, before hours go into what will be written there.

    Raises
    ------
    ValueError
        If that fails.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise ValueError(f"--out: cannot write to {directory}: {error}") from error


def write(content: report.Report, directory: Path) -> None:
    """Write ``bench.json``, ``bench.txt``, ``report.html`` and the plots."""
    from fastnn.bench import page  # with matplotlib, where there is one

    report.save(content, directory / "bench.json")
    (directory / "bench.txt").write_text(table.text(content), encoding="utf-8")
    page.write(content, directory)


# ------------------------------------------------------------------------------------------------------- the command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastnn bench",
        description="Time every kernel beside what you would use instead, and against what the memory and the "
        "arithmetic of this machine allow. Answers are checked first. Ctrl-C ends early with a valid report.",
    )
    for name, keywords in OPTIONS.items():
        parser.add_argument(name, **keywords)
    # Of the process that measures a level to which peers have to be held: they are, by its environment.
    parser.add_argument("--capped", action="store_true", help=argparse.SUPPRESS)
    return parser


Task = tuple[str, Callable[[], None]]


class Run:
    """One run of the command.

    Parameters
    ----------
    options : argparse.Namespace
    command : str
        How it was started.

    Raises
    ------
    ValueError
        For options that do not go together with this machine.
    """

    def __init__(self, options: argparse.Namespace, command: str) -> None:
        self.options = options
        names = choose_peers(options.peers)
        levels = choose_levels(options.isa)
        threads = choose_threads(options.threads)
        self.specs = rows.all_rows(only=options.only, quick=options.quick, everything=options.all)
        if not self.specs:
            raise ValueError(f"--only: expected a group or a part of a row's name, got {options.only}")
        self.old = report.load(options.compare) if options.compare else None
        if options.out:
            prepare_output(options.out)
        self.here = [level for level in levels if options.capped or not needs_cap(level)]
        self.elsewhere = [level for level in levels if level not in self.here]
        settings = Settings.of(threads, (self.here or self.elsewhere)[0], options.quick)
        self.results = Results(
            Bench(settings, Ceilings(settings), Lineup(names, threads, options.capped)), levels, command
        )

    def tasks(self) -> Iterator[Task]:
        """Everything to do, in order."""
        results, options = self.results, self.options
        yield "bandwidths, costs of arithmetic and of threads", results.measure_ceilings
        for spec in self.specs:
            # Rows that belong to no level are measured once, in the process that was started first.
            if self.here if spec.levelled else not options.capped:
                yield spec.id, partial(results.attempt, spec)
        if options.out and self.here:
            bench = results.bench
            if options.quick:  # libraries that compile take a second for each shape
                bench = replace(bench, lineup=bench.lineup.nobody())
            for point in scaling.curves(bench, only=options.only):
                yield point.id, partial(results.extend, point, bench)
        for level in self.elsewhere:
            yield f"{level}, in a process whose libraries are held to it", partial(self._measure, level)

    def execute(self) -> bool:
        """Do it; False if Ctrl-C came in between."""
        tasks = list(self.tasks())
        try:
            with closing(Progress(len(tasks))) as progress:
                for name, task in tasks:
                    progress.step(name)
                    task()
        except KeyboardInterrupt:
            return False
        return True

    def _measure(self, level: str) -> None:
        """Measure a level in a process whose environment holds the peers to it; Ctrl-C ends that one first."""
        with tempfile.TemporaryDirectory() as directory:
            # A session of its own: Ctrl-C comes here, and is passed on once.
            process = subprocess.Popen(
                [sys.executable, "-c", _CHILD, *self._arguments(level, directory)],
                env=_capped_environment(),
                cwd=directory,  # in a checkout, the current directory would hide the installed package
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                process.wait()
            except KeyboardInterrupt:
                _interrupt(process)
                raise
            finally:
                path = Path(directory) / "bench.json"
                if path.exists():
                    self.results.others.append(report.load(path))
                else:
                    self.results.errors.append(f"{level}: its process ended with status {process.poll()}, no report")

    def _arguments(self, level: str, directory: str) -> list[str]:
        options = self.options
        arguments = [
            "--capped",
            "--isa",
            level,
            "--out",
            directory,
            "--threads",
            str(self.results.bench.settings.threads),
        ]
        arguments += ["--only", options.only] if options.only else []
        arguments += ["--peers", options.peers] if options.peers is not None else []
        return arguments + ["--quick"] * options.quick + ["--all"] * options.all


_CHILD = "import sys; from fastnn.bench import run; sys.exit(run.main(sys.argv[1:]))"


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """Pass Ctrl-C on and wait for the report; after another Ctrl-C, wait no longer than `PATIENCE`."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait()
    except KeyboardInterrupt:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _capped_environment() -> dict[str, str]:
    environment = dict(os.environ)
    for peer in peers.PEERS:
        environment |= peer.cap or {}
    return environment


def main(argv: Sequence[str]) -> int:
    """Run ``fastnn bench`` with the arguments `argv`; return the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        run = Run(options, shlex.join(["fastnn", "bench", *argv]))
    except ValueError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("interrupted before anything was measured", file=sys.stderr)
        return INTERRUPTED
    complete = run.execute()
    content = run.results.as_report(complete)
    print(table.text(content), flush=True)
    if options.out:
        write(content, options.out)
    failures = [f"missed: {line}" for line in report.missed(content["rows"])]
    if run.old is not None:
        comparison = compare.compare(run.old, content)
        print(table.comparison_text(comparison))
        failures += [f"slower: {change.new['name']} ({change.new['isa']})" for change in comparison.slower]
    if not complete:
        return INTERRUPTED
    for line in failures if options.check else []:
        print(line, file=sys.stderr)
    for line in content["errors"]:
        print(f"error: {line}", file=sys.stderr)
    return 1 if content["errors"] or (options.check and failures) else 0
