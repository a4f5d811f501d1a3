"""Options, fixtures and the closing table of ``pytest bench/``. The rows themselves are in `fastnn.bench`."""

from __future__ import annotations

import pytest

from fastnn.bench import rows, run
from fastnn.bench.ceilings import Ceilings
from fastnn.bench.harness import Row, Settings

RESULTS = pytest.StashKey[list[Row]]()
CEILINGS = pytest.StashKey[Ceilings]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastnn")
    for name, keywords in run.OPTIONS.items():
        group.addoption(name, **keywords)
    group.addoption("--untimed", action="store_true", help="check the answers of every row and time nothing")


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
    option = pytestconfig.getoption
    try:
        return run.choose_settings(option("--threads"), option("--isa"), option("--quick"))
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="session")
def ceilings(settings: Settings, pytestconfig: pytest.Config) -> Ceilings:
    pytestconfig.stash[CEILINGS] = Ceilings(settings)
    return pytestconfig.stash[CEILINGS]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    results = config.stash[RESULTS]
    if results:
        terminalreporter.section("fastnn benchmark")
        terminalreporter.write_line(run.report(results, config.stash[CEILINGS], config.getoption("--out")))
