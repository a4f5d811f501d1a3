"""How many threads a call uses, where that number comes from, and that it is really used."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import _core

openmp = pytest.mark.skipif(not _core.config()["openmp"], reason="a serial build has one thread")


def rectified(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.float32(0))


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(1 << 20, dtype=np.float32)


@openmp
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_team_has_the_size_that_was_set(forced_regions: None, x: np.ndarray, n: int) -> None:
    fastnn.set_num_threads(n)
    assert fastnn.get_num_threads() == n
    y = F.relu(x)
    assert _core._last_team() == n
    np.testing.assert_array_equal(y, rectified(x))


@openmp
def test_short_calls_are_serial() -> None:
    with fastnn.threads(7):
        F.relu(np.ones(16, np.float32))
        assert _core._last_team() == 1


@openmp
def test_threads_restores_the_setting_before() -> None:
    automatic = fastnn.get_num_threads()
    with fastnn.threads(5):
        assert (fastnn.get_num_threads(), _core.thread_source()) == (5, "set_num_threads")
        with pytest.raises(RuntimeError, match="inside"), fastnn.threads(3):
            assert fastnn.get_num_threads() == 3
            raise RuntimeError("inside")
        assert fastnn.get_num_threads() == 5
        with fastnn.threads(None):
            assert fastnn.get_num_threads() == automatic
    assert fastnn.get_num_threads() == automatic
    assert _core.explicit_num_threads() == 0


@pytest.mark.parametrize("n", [0, -1, 4097])
def test_number_out_of_range(n: int) -> None:
    with pytest.raises(ValueError, match=f"n: expected 1 to 4096 threads, got {n}"):
        fastnn.set_num_threads(n)


@pytest.mark.parametrize("n", [1.5, "2", True])
def test_number_of_wrong_type(n: object) -> None:
    with pytest.raises(TypeError, match="n: expected an integer or None, got"):
        fastnn.set_num_threads(n)  # type: ignore[arg-type]


@openmp
def test_python_threads_at_once(forced_regions: None, x: np.ndarray) -> None:
    """Only one of them has a team at a time, the others go on alone; all get the right answer."""
    fastnn.set_num_threads(3)
    expected = rectified(x)
    wrong = []

    def work() -> None:
        for _ in range(20):
            if not np.array_equal(F.relu(x), expected):
                wrong.append(threading.get_ident())

    workers = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert not any(worker.is_alive() for worker in workers)
    assert wrong == []


REPORT = "import fastnn; from fastnn import _core; print(fastnn.get_num_threads(), _core.thread_source(), sep='|')"


@openmp
@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"FASTNN_NUM_THREADS": "5"}, "5|FASTNN_NUM_THREADS"),
        ({"OMP_NUM_THREADS": "1"}, "1|OMP_NUM_THREADS"),
        ({"OMP_NUM_THREADS": "1", "FASTNN_NUM_THREADS": "2"}, "2|FASTNN_NUM_THREADS"),
    ],
)
def test_environment(run_python, env: dict[str, str], expected: str) -> None:
    assert run_python(REPORT, env=env).stdout.strip() == expected


@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5", "99999"])
def test_environment_refused(run_python, value: str) -> None:
    done = run_python("import fastnn", env={"FASTNN_NUM_THREADS": value}, status=1)
    assert f"ImportError: FASTNN_NUM_THREADS: expected an integer from 1 to 4096, got '{value}'" in done.stderr


@openmp
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the platform has no CPU affinity")
def test_affinity_set_after_the_import_counts(run_python) -> None:
    cpus = os.sched_getaffinity(0)
    if len(cpus) < 2:
        pytest.skip("only one CPU to begin with")
    script = f"import os, fastnn; os.sched_setaffinity(0, [{min(cpus)}])\n" + REPORT
    assert run_python(script).stdout.strip() == "1|CPU affinity"


COLD = """
import time
import numpy as np
import fastnn, fastnn.functional as F
from fastnn import _core

x = np.ones({elements}, np.float32)
y = np.empty_like(x)
fastnn.set_num_threads(2)

def cold_call():
    time.sleep(0.05)
    F.relu(x, out=y)
    return _core._last_team()
"""


@openmp
def test_long_call_from_cold_uses_the_team(run_python) -> None:
    """Nobody waits for a thread that comes late, so now and then the caller is done before."""
    script = COLD.format(elements=16 << 20) + "print(any(cold_call() == 2 for _ in range(50)))"
    assert run_python(script).stdout.strip() == "True"


@openmp
def test_cost_of_waking_is_learnt(run_python) -> None:
    script = (
        COLD.format(elements=16 << 20)
        + """
before = _core._waking_ns()
for _ in range(20):
    cold_call()
print(before, _core._waking_ns())
"""
    )
    before, after = map(float, run_python(script).stdout.split())
    assert 0 < after < 1e7 and after != before


SHORT_CALLS = (
    COLD.format(elements=400_000)
    + """
print(cold_call())
teams = set()
for _ in range(2000):
    F.relu(x, out=y)
    teams.add(_core._last_team())
print(2 in teams)
"""
)


@openmp
def test_short_calls_in_a_row_heat_the_team_up(run_python) -> None:
    """One alone is not worth a wake-up, a row of them is."""
    first, heated = run_python(SHORT_CALLS).stdout.split()
    assert (first, heated) == ("1", "True")


@openmp
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads /proc")
def test_there_is_one_team_for_all_threads(run_python) -> None:
    script = """
import os, threading, time
import numpy as np
import fastnn, fastnn.functional as F
from fastnn import _core
fastnn.set_num_threads(3)
_core._set_grain(0)
x = np.ones(1 << 16, np.float32)
count = lambda: len(os.listdir("/proc/self/task"))
before = count()
for _ in range(5):
    thread = threading.Thread(target=F.relu, args=(x,))
    thread.start()
    thread.join()
deadline = time.monotonic() + 10
while count() - before > 2 and time.monotonic() < deadline:  # a thread that was joined may take a moment to be gone
    time.sleep(0.01)
print(count() - before)
"""
    assert run_python(script).stdout.strip() == "2"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("files", "cpus", "memory"),
    [
        ({"proc/self/cgroup": "0::/\n"}, 0.0, 0.0),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
                "sys/fs/cgroup/a/b/memory.max": "1000000\n",
                "sys/fs/cgroup/a/memory.max": "max\n",
            },
            1.5,
            1e6,
        ),
        (  # a container that sees the host's path but only its own part of the tree
            {"proc/self/cgroup": "0::/docker/1234\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"},
            0.5,
            0.0,
        ),
        (
            {
                "proc/self/cgroup": "5:memory:/job\n3:cpu,cpuacct:/job\n1:name=systemd:/\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000\n",
            },
            4.0,
            2e6,
        ),
    ],
    ids=["none", "v2", "v2-container", "v1"],
)
def test_cgroup_limits(tmp_path: Path, files: dict[str, str], cpus: float, memory: float) -> None:
    for name, text in files.items():
        write(tmp_path / name, text)
    assert _core._cgroup_limits(str(tmp_path)) == {"cpus": cpus, "memory": memory}


def test_show_config_says_it_all(capsys: pytest.CaptureFixture[str]) -> None:
    fastnn.show_config()
    shown = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert shown["fastnn"] == fastnn.__version__
    assert shown["threads"] == f"{fastnn.get_num_threads()} (from: {_core.thread_source()})"
    assert {"ISA", "CPU", "cgroup", "OpenMP", "array", "compiler"} <= shown.keys()
    assert fastnn.get_isa() in shown["ISA"]
