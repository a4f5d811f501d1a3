"""Options, fixtures and the closing table of ``pytest bench/``. The rows themselves are in `fastnn.bench`."""

from __future__ import annotations

from pathlib import Path

import pytest

import fastnn
from fastnn.bench import rows, table
from fastnn.bench.ceilings import Ceilings
from fastnn.bench.harness import Row, Settings

RESULTS = pytest.StashKey[list[Row]]()
CEILINGS = pytest.StashKey[Ceilings]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastnn")
    group.addoption("--only", default="", metavar="GROUP", help="rows of this group, or else with this in their name")
    group.addoption("--quick", action="store_true", help="small shapes, few rounds: a smoke test")
    group.addoption(
        "--all", action="store_true", help="the other fused tails as well: leaky_relu, residual, dropout alone"
    )
    group.addoption("--untimed", action="store_true", help="check the answers of every row and time nothing")
    group.addoption("--check", action="store_true", help="fail the rows that miss their bound")
    group.addoption("--threads", type=int, metavar="N", help="threads of fastnn (default: fastnn's own choice)")
    group.addoption("--isa", metavar="LEVEL", help="measure this level only (default: v4 and v3, where available)")
    group.addoption("--out", type=Path, metavar="DIR", help="write bench.json and bench.txt there")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "spec" in metafunc.fixturenames:
        option = metafunc.config.getoption
        specs = rows.all_rows(only=option("--only"), quick=option("--quick"), everything=option("--all"))
        metafunc.parametrize("spec", specs, ids=[spec.id for spec in specs])


@pytest.fixture(scope="session")
def results(pytestconfig: pytest.Config) -> list[Row]:
    return pytestconfig.stash[RESULTS]


@pytest.fixture(scope="session")
def timed(pytestconfig: pytest.Config) -> bool:
    """Whether to take times; pytest-benchmark's own switch, where it is installed, counts too."""
    return not (pytestconfig.getoption("--untimed") or pytestconfig.getoption("benchmark_disable", False))


@pytest.fixture(scope="session")
def settings(pytestconfig: pytest.Config) -> Settings:
    available = fastnn.available_isas()
    asked = pytestconfig.getoption("--isa")
    if asked is not None and asked not in available:
        raise pytest.UsageError(f"--isa: expected one of {', '.join(available)}, got {asked}")
    usual = [isa for isa in available if isa in ("v4", "v3")] or available[:1]
    threads = pytestconfig.getoption("--threads")
    if threads is not None:
        fastnn.set_num_threads(threads)
    return Settings(
        threads=fastnn.get_num_threads(),
        isa=(asked,) if asked else tuple(usual),
        quick=pytestconfig.getoption("--quick"),
    )


@pytest.fixture(scope="session")
def ceilings(settings: Settings, pytestconfig: pytest.Config) -> Ceilings:
    pytestconfig.stash[CEILINGS] = Ceilings(settings)
    return pytestconfig.stash[CEILINGS]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    results = config.stash[RESULTS]
    if not results:
        return
    ceilings = config.stash[CEILINGS]
    missed = sum(row.verdict == "missed" for row in results)
    bound = sum(row.bound is not None for row in results)
    text = f"{table.ceilings_text(ceilings)}\n\n{table.rows_text(results)}\n\n{bound - missed} of {bound} bounds met\n"
    terminalreporter.section("fastnn benchmark")
    terminalreporter.write_line(text)
    directory = config.getoption("--out")
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "bench.txt").write_text(text)
        (directory / "bench.json").write_text(table.as_json(results, ceilings))
