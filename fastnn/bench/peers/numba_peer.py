"""Loops compiled by numba."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fastnn.bench.peers.common import NUMPY_CAP
from fastnn.bench.peers.compiled import CompiledLoops

SMALL = 1 << 14
"""Elements below which numba's users do without threads: starting them costs more."""


class Numba(CompiledLoops):
    """``njit(parallel=True, fastmath=True)``; small arrays without threads."""

    name = "numba"
    label = "numba"
    library = distribution = "numba"
    cap = NUMPY_CAP | {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2,+f16c"}

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        numba = import_module("numba")
        loops = import_module("fastnn.bench.peers.numba_loops")
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        self._serial, self._parallel = loops.SERIAL, loops.PARALLEL if threads > 1 else loops.SERIAL

    def loops(self, elements: int) -> Any:
        return self._serial if elements < SMALL else self._parallel
