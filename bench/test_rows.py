"""One test per row of `fastnn.bench.rows`: answers are checked, then times are taken."""

from __future__ import annotations

import pytest

from fastnn.bench import run
from fastnn.bench.ceilings import Ceilings
from fastnn.bench.harness import Row, Settings
from fastnn.bench.rows import RowSpec


def test_row(
    spec: RowSpec,
    timed: bool,
    settings: Settings,
    results: list[Row],
    request: pytest.FixtureRequest,
) -> None:
    if not timed:
        spec.check()
        return
    ceilings: Ceilings = request.getfixturevalue("ceilings")
    rows = spec.measure(settings, ceilings)
    results.extend(rows)
    if request.config.getoption("--check"):
        assert not run.missed(rows)
