"""Options, fixtures and the closing table of ``pytest bench/``. The rows themselves are in `fastnn.bench`.

With pytest-benchmark (extra ``bench``) its table and its JSON show the rows as well.
"""

from __future__ import annotations

import os
import shlex

import pytest

if "OMP_WAIT_POLICY" not in os.environ:  # before libgomp is loaded; see fastnn.cli
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from fastnn.bench import compare, report, rows, run, table
from fastnn.bench.ceilings import Ceilings
from fastnn.bench.harness import Settings
from fastnn.bench.lineup import Bench, Lineup

RESULTS = pytest.StashKey[run.Results]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastnn")
    for name, keywords in run.OPTIONS.items():
        group.addoption(name, **keywords)
    group.addoption("--untimed", action="store_true", help="check the answers of every row and time nothing")


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.hasplugin("benchmark"):
        config.addinivalue_line("markers", "benchmark: settings of pytest-benchmark, which is not installed")


def asked_for(config: pytest.Config) -> list[rows.RowSpec]:
    """The rows that the options name, before pytest leaves any out."""
    option = config.getoption
    return rows.all_rows(only=option("--only"), quick=option("--quick"), everything=option("--all"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "spec" in metafunc.fixturenames:
        specs = asked_for(metafunc.config)
        metafunc.parametrize("spec", specs, ids=[spec.id for spec in specs])


@pytest.fixture(scope="session")
def timed(pytestconfig: pytest.Config) -> bool:
    """Whether to take times; pytest-benchmark's own switch, where it is installed, counts too."""
    return not (pytestconfig.getoption("--untimed") or pytestconfig.getoption("benchmark_disable", False))


@pytest.fixture(scope="session")
def results(pytestconfig: pytest.Config, timed: bool) -> run.Results:
    """Peers and ceilings of the session, and what it has measured so far."""
    option = pytestconfig.getoption
    try:
        if option("--out"):
            run.prepare_output(option("--out"))
        threads = run.choose_threads(option("--threads"))
        (level, *_) = levels = run.choose_levels(option("--isa"))[:1]  # another one takes another process
        settings = Settings.of(threads, level, option("--quick"))
        bench = Bench(settings, Ceilings(settings), Lineup(run.choose_peers(option("--peers")), threads))
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    found = run.Results(bench, levels, shlex.join(["pytest", *pytestconfig.invocation_params.args]))
    if timed:
        found.measure_ceilings()
        pytestconfig.stash[RESULTS] = found
    return found


@pytest.fixture(scope="session")
def old(pytestconfig: pytest.Config) -> report.Report | None:
    """The run given by ``--compare``."""
    path = pytestconfig.getoption("--compare")
    try:
        return report.load(path) if path else None
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    results = config.stash.get(RESULTS, None)
    if results is None or not results.rows:
        return
    content = results.as_report(complete=len(results.rows) == len(asked_for(config)))
    terminalreporter.section("fastnn benchmark")
    terminalreporter.write_line(table.text(content))
    if config.getoption("--out"):
        run.write(content, config.getoption("--out"))
    path = config.getoption("--compare")
    if path:
        terminalreporter.write_line(table.comparison_text(compare.compare(report.load(path), content)))
