"""One test per row of `fastnn.bench.rows`: answers are checked, then times are taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fastnn.bench import compare, report, run
from fastnn.bench.harness import Row
from fastnn.bench.rows import RowSpec


class Replay:
    """A clock that replays the samples of a row, so that pytest-benchmark shows what was measured beside the peers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.samples: Iterator[float] = iter(())

    def advance(self) -> None:
        self.now += next(self.samples)


REPLAY = Replay()


def measured_time() -> float:
    """The timer of pytest-benchmark; a function, because it reports the name."""
    return REPLAY.now


def publish(benchmark: Any, row: Row) -> None:
    """Show a row in pytest-benchmark's table and in its JSON."""
    REPLAY.samples = iter(row.samples)
    benchmark.group = row.group
    benchmark.extra_info.update(row.as_json())
    benchmark.pedantic(REPLAY.advance, rounds=len(row.samples))


@pytest.mark.filterwarnings("default")  # peers are foreign libraries
@pytest.mark.benchmark(timer=measured_time)
def test_row(
    spec: RowSpec,
    timed: bool,
    results: run.Results,
    old: report.Report | None,
    request: pytest.FixtureRequest,
) -> None:
    if not timed:
        spec.check(results.bench.lineup)
        return
    row = results.measure(spec)
    if row.unit == "s" and request.config.pluginmanager.hasplugin("benchmark"):
        publish(request.getfixturevalue("benchmark"), row)
    assert not row.errors
    if request.config.getoption("--check"):
        measured = row.as_json()
        assert not report.missed([measured])
        slower = compare.compare(old, {**old, "rows": [measured]}).slower if old else ()
        assert not slower
