"""Eight Python threads at once: every kernel on shared inputs, the shared generator, the process-wide switches."""

from __future__ import annotations

import copy
import gc
import sysconfig
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import _backend, _core, reference
from fastnn.cases import CASES, Case

THREADS = 8
DTYPES = (np.float32, np.float64)
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

Inputs = dict[str, Any]


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(THREADS) as threads:
        yield threads


def at_once(pool: ThreadPoolExecutor, work: Callable[[int], Any]) -> list[Any]:
    """work(0) to work(7), begun together; what they return."""
    start = threading.Barrier(THREADS)

    def begin(number: int) -> Any:
        start.wait(timeout=60)
        return work(number)

    return list(pool.map(begin, range(THREADS)))


def private(value: Any) -> Any:
    if isinstance(value, list):
        return [private(item) for item in value]
    return copy.copy(value)


def content(value: Any) -> Any:
    """Something to compare: the bytes of arrays, in which all NaNs are the same."""
    if isinstance(value, (list, tuple)):
        return [content(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic, float)):
        array = np.array(value)
        if array.dtype.kind == "f":
            array[np.isnan(array)] = np.nan
        return array.tobytes()
    return repr(value)


def results(case: Case, inputs: Inputs, out: np.ndarray | None = None) -> dict[str, Any]:
    outputs, saved = case.forward(F, inputs, out=out)
    outputs = {name: content(value) for name, value in outputs.items()}  # now: backward may write into them
    gradients = case.backward(F, inputs, saved) or {}
    return outputs | {name: content(value) for name, value in gradients.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_threads_share_inputs(case: Case, pool: ThreadPoolExecutor, forced_regions: None) -> None:
    """One of them at a time has a team, the others go on alone; the arrays that are only read are the same ones."""
    fastnn.set_num_threads(3)
    shape, dtype = case.shapes[-1], DTYPES[sum(case.name.encode()) % 2]
    shared = case.inputs(shape, dtype)
    trial = {name: private(value) for name, value in shared.items()}
    expected = results(case, trial)
    written = {name for name, value in trial.items() if content(value) != content(shared[name])}
    assert written != set(shared)

    def work(number: int) -> list[dict[str, Any]]:
        found = []
        for attempt in range(2):
            mine = {name: private(value) if name in written else value for name, value in shared.items()}
            new = attempt == 1 and case.family != "optimizer"
            out = np.empty(case.out_shape(shape, "forward"), dtype) if new else None
            found.append(results(case, mine, out))
        return found

    for number, found in enumerate(at_once(pool, work)):
        assert found == [expected, expected], f"thread {number}"


def test_no_position_is_drawn_twice(pool: ThreadPoolExecutor) -> None:
    rng, x = fastnn.Generator(3), np.ones(16, np.float32)

    def draw(number: int) -> list[int]:
        drawn = []
        for _ in range(500):
            drawn.append(rng.draw()[1])
            F.dropout(x, 0.5, rng=rng)
            with pytest.raises(ValueError):
                F.bias_act(np.ones((4, 3)), np.ones(2), dropout=0.5, rng=rng)
        return drawn

    drawn = [position for positions in at_once(pool, draw) for position in positions]
    assert len(set(drawn)) == len(drawn) == 500 * THREADS
    assert rng.position == 2 * len(drawn)


def test_the_reference_is_in_use_until_the_last_block_ends(pool: ThreadPoolExecutor) -> None:
    inside = threading.Barrier(THREADS)

    def work(number: int) -> bool:
        with fastnn.use_reference():
            inside.wait(timeout=60)
            seen = _backend.ops is reference
            for _ in range(100):
                with fastnn.use_reference():
                    seen &= _backend.ops is reference
        return seen

    assert all(at_once(pool, work))
    assert _backend.ops is F


def test_arrays_of_the_cache_belong_to_one_thread(pool: ThreadPoolExecutor) -> None:
    """Blocks go from thread to thread, but never to two at a time."""

    def work(number: int) -> bool:
        whole = True
        for k in range(100):
            y = _core.empty((40_000 + 1000 * (k % 3),), np.float32)
            y.fill(number)
            whole &= bool((y == number).all())
        return whole

    gc.collect()  # what earlier tests have left
    in_use = _core.cache_stats()["in_use"]
    assert all(at_once(pool, work))
    assert _core.cache_stats()["in_use"] == in_use


def test_settings_may_change_meanwhile(pool: ThreadPoolExecutor, forced_regions: None) -> None:
    """Levels, numbers of threads and cache sizes are seen by the next call, and change no bit of this one."""
    x = np.random.default_rng(0).standard_normal((400, 96), dtype=np.float32)
    expected = F.softmax(x).tobytes()
    levels = fastnn.available_isas()
    isa = fastnn.get_isa()

    def work(number: int) -> bool:
        same = True
        for k in range(60):
            if number == 0:
                fastnn.set_isa(levels[k % len(levels)])
                fastnn.set_num_threads(1 + k % 4)
                _core._set_cache_bytes(1 << 10 + k % 12, 1 << 10 + k % 14)
                fastnn.empty_cache()
            same &= F.softmax(x).tobytes() == expected
        return same

    try:
        assert all(at_once(pool, work))
    finally:
        fastnn.set_isa(isa)
        _core._set_cache_bytes(0, 0)


@pytest.mark.skipif(not FREE_THREADED, reason="this interpreter always has a GIL")
def test_the_gil_stays_off(run_python) -> None:
    script = "import sys, fastnn.functional, fastnn.layers\nassert not sys._is_gil_enabled()"
    run_python(script, env={"PYTHON_GIL": None})
