"""A forked child never hangs in fastnn: it runs serial, with the right results.

Each test is a script in its own interpreter with a time limit, because the failure is a deadlock.
"""

from __future__ import annotations

import pytest

from fastnn import _core

pytestmark = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="the platform has no fork")

COMMON = """
import multiprocessing, os, sys, threading, time
import numpy as np
import fastnn, fastnn.functional as F
from fastnn import _core

OPENMP = _core.config()["openmp"]
fastnn.set_num_threads(3)
_core._set_grain(0)
X = np.random.default_rng(0).standard_normal(300_000).astype(np.float32)
EXPECTED = np.where(X > 0, X, np.float32(0))

def region():
    assert np.array_equal(F.relu(X), EXPECTED)
    return _core._last_team()

def child(body):
    try:
        body()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)

def wait(pid, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "hang"

def serial_child():
    for _ in range(3):
        assert region() == 1
    assert fastnn.get_num_threads() == 1

def parent_region():
    assert region() == (3 if OPENMP else 1)

def fork_and_check(body=serial_child):
    pid = os.fork()
    if pid == 0:
        child(body)
    assert wait(pid) == 0
"""

SCRIPTS = {
    "main thread": """
parent_region()
fork_and_check()
parent_region()  # the parent keeps its team
""",
    "exit through the interpreter": """
parent_region()
pid = os.fork()
if pid == 0:
    serial_child()
    sys.exit(0)
assert wait(pid) == 0
""",
    "nested": """
parent_region()
fork_and_check(lambda: (serial_child(), fork_and_check(lambda: (serial_child(), fork_and_check()))))
""",
    "another thread": """
parent_region()
failed = []
def work():
    try:
        parent_region()
        fork_and_check()
    except BaseException as error:
        failed.append(error)
thread = threading.Thread(target=work)
thread.start()
thread.join()
assert not failed, failed
parent_region()
""",
    "a child of another thread, which ends there": """
failed = []
def work():
    try:
        parent_region()
        if (pid := os.fork()) == 0:
            serial_child()
            return  # the thread ends, and with it the child, whose main thread it now is
        assert wait(pid) == 0
    except BaseException as error:
        failed.append(error)
parent = os.getpid()
thread = threading.Thread(target=work)
thread.start()
thread.join()
if os.getpid() != parent:
    sys.exit(0)
assert not failed, failed
""",
    "while other threads are inside": """
stop = threading.Event()
def work():
    while not stop.is_set():
        F.relu(X)
workers = [threading.Thread(target=work, daemon=True) for _ in range(2)]
for worker in workers:
    worker.start()
for _ in range(30):
    fork_and_check()
stop.set()
for worker in workers:
    worker.join()
""",
    "arrays across": """
a = F.relu(X)
def body():
    assert np.array_equal(a, EXPECTED)
    fastnn.empty_cache()
    b = [F.relu(X) for _ in range(3)]
    assert all(np.array_equal(y, EXPECTED) for y in b)
fork_and_check(body)
assert np.array_equal(a, EXPECTED)
""",
    "fork pool": """
def job(i):
    return region()
if __name__ == "__main__":
    parent_region()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(job, range(8)).get(timeout=30) == [1] * 8
    parent_region()
""",
    "spawn pool": """
def job(i):
    return region()
if __name__ == "__main__":
    parent_region()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map_async(job, range(2)).get(timeout=50) == [3 if OPENMP else 1] * 2
""",
    "forkserver pool": """
def job(i):
    return region()
if __name__ == "__main__":
    parent_region()
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        assert pool.map_async(job, range(2)).get(timeout=50) == [3 if OPENMP else 1] * 2
""",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_fork(run_python, name: str) -> None:
    if name == "a child of another thread, which ends there" and "libomp" in str(_core.config()["openmp_runtime"]):
        pytest.skip("libomp crashes while such a child exits: see docs/portability.md")
    run_python(COMMON + SCRIPTS[name] + "\nprint('done')", timeout=120)


@pytest.mark.skipif(not _core.config()["openmp"], reason="a serial build has nothing to say")
def test_forked_child_says_why(run_python) -> None:
    script = (
        COMMON
        + """
pid = os.fork()
if pid == 0:
    child(lambda: print(_core.thread_source(), flush=True))
assert wait(pid) == 0
"""
    )
    assert run_python(script).stdout.strip() == "forked process"
