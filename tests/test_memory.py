"""The caching allocator: aligned, reused only when dead, bounded, thread-safe."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import _core

LARGE = 1 << 20  # elements of float32


def address(a: np.ndarray) -> int:
    return a.__array_interface__["data"][0]


@pytest.fixture(autouse=True)
def empty() -> None:
    fastnn.empty_cache()


@pytest.mark.parametrize("n", [16384, 16385, 100_003, LARGE, 3 * LARGE + 1])
def test_large_arrays_are_aligned_and_ordinary(n: int) -> None:
    a = _core.empty((n,), "float32")
    assert address(a) % 64 == 0
    assert a.flags.c_contiguous
    assert a.flags.writeable
    assert not a.flags.owndata
    assert _core.cache_stats()["in_use"] >= 4 * n
    a[:] = 1.0
    assert a.sum() == n


def test_small_arrays_are_numpys_own() -> None:
    before = _core.cache_stats()["in_use"]
    a = _core.empty((128, 127), "float32")
    assert a.flags.owndata
    assert _core.cache_stats()["in_use"] == before


@pytest.mark.parametrize("dtype", [np.float32, np.dtype(np.float64), "float32"])
def test_empty_takes_any_name_of_a_float_dtype(dtype: object) -> None:
    a = _core.empty((2, 3), dtype)
    assert (a.shape, a.dtype) == ((2, 3), np.dtype(dtype))


def test_empty_refuses_other_dtypes() -> None:
    with pytest.raises(TypeError, match="dtype: expected float32 or float64, got int64"):
        _core.empty((2, 3), np.int64)
    with pytest.raises(ValueError, match="shape: expected no negative sizes, got -1"):
        _core.empty((2, -1), np.float32)


def test_results_come_from_it() -> None:
    x = np.ones(LARGE, np.float32)
    before = _core.cache_stats()["in_use"]
    y = F.relu(x)
    assert _core.cache_stats()["in_use"] - before >= y.nbytes
    assert address(y) % 64 == 0


def test_a_dead_array_is_reused_also_for_a_slightly_smaller_one() -> None:
    a = _core.empty((LARGE,), "float32")
    where = address(a)
    del a
    b = _core.empty((LARGE - 3000,), "float32")
    assert address(b) == where


def test_a_view_keeps_the_memory() -> None:
    a = _core.empty((LARGE,), "float32")
    a[:] = 7.0
    view = a[10:20].reshape(2, 5)
    where = address(a)
    del a
    others = [_core.empty((LARGE,), "float32") for _ in range(3)]
    assert where not in [address(b) for b in others]
    for b in others:
        b[:] = 0.0
    assert (view == 7.0).all()


def test_results_in_hand_are_never_rewritten() -> None:
    x = np.random.default_rng(0).standard_normal(LARGE, dtype=np.float32)
    y = F.relu(x)
    kept = y.copy()
    for _ in range(5):
        F.relu(-x)
    np.testing.assert_array_equal(y, kept)


def test_idle_bytes_are_bounded_by_the_peak() -> None:
    for n in range(1, 40):
        a = _core.empty((n * 100_000,), "float32")
        del a
        stats = _core.cache_stats()
        assert 0 < stats["idle"] <= stats["peak"]
    fastnn.empty_cache()
    stats = _core.cache_stats()
    assert stats["idle"] == 0
    assert stats["peak"] == stats["in_use"]


def test_default_limit_is_an_eighth_of_the_memory() -> None:
    with open("/proc/meminfo") as file:
        total = 1024 * int(file.readline().split()[1])
    assert 0 < _core.cache_stats()["limit"] <= total / 8 * 1.01


LIMITED = """
from fastnn import _core
for n in (1, 5, 9, 2, 7):
    blocks = [_core.empty((n * 100_000,), "float32") for _ in range(4)]
    del blocks
    stats = _core.cache_stats()
    assert stats["idle"] <= stats["limit"]
print(stats["limit"], stats["idle"], stats["in_use"])
"""


@pytest.mark.parametrize(
    ("text", "limit"), [("0", 0), ("3000000", 3_000_000), ("512K", 512 << 10), ("1.5M", 3 << 19), ("2G", 2 << 30)]
)
def test_limit_from_the_environment(run_python, text: str, limit: int) -> None:
    shown, idle, in_use = map(int, run_python(LIMITED, env={"FASTNN_CACHE_LIMIT": text}).stdout.split())
    assert shown == limit
    assert idle <= limit
    assert (idle > 0) == (limit > 0)
    assert in_use == 0


@pytest.mark.parametrize("text", ["much", "-1", "1Q", "1MB", "nan"])
def test_limit_refused(run_python, text: str) -> None:
    done = run_python("import fastnn", env={"FASTNN_CACHE_LIMIT": text}, status=1)
    assert f"ImportError: FASTNN_CACHE_LIMIT: expected bytes such as 500000000, 512M or 2G, got '{text}'" in done.stderr


@pytest.mark.parametrize("shape", [(1 << 62, 4), (1 << 50,)])
def test_too_large_is_a_memory_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(MemoryError):
        _core.empty(shape, "float64")
    assert _core.cache_stats()["in_use"] >= 0


def test_threads_at_once() -> None:
    """Each writes its own mark and finds it again: no block is ever handed out twice."""
    before = _core.cache_stats()["in_use"]
    wrong = []

    def work(mark: int) -> None:
        rng = np.random.default_rng(mark)
        held: list[np.ndarray] = []
        for _ in range(200):
            a = _core.empty((int(rng.integers(16384, 200_000)),), "float32")
            a[:] = mark
            held.append(a)
            if len(held) > 4:
                old = held.pop(int(rng.integers(len(held))))
                if not (old == mark).all():
                    wrong.append(mark)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert not any(worker.is_alive() for worker in workers)
    assert wrong == []
    assert _core.cache_stats()["in_use"] == before
