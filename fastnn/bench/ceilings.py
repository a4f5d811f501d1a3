"""What this machine can do, measured in the same run as the rows it is compared with.

Bandwidths count bytes read plus bytes written. All data is random: zeros can be faster than memory.
"""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastnn._core as _core
import fastnn.functional as F
from fastnn.bench.harness import Settings

GRID = tuple(1 << k for k in range(13, 29))
"""Working sets of the ceiling table: 8 KB to 256 MB."""

COSTS = ("div", "sqrt", "exp", "random_bits")
"""Arithmetic that can outlast the memory."""

_ALIGN = 64
_BLOCK = 1 << 24


def aligned_empty(nbytes: int) -> NDArray[np.uint8]:
    """Uninitialised bytes starting at a cache line."""
    raw = np.empty(nbytes + _ALIGN, np.uint8)
    start = -raw.ctypes.data % _ALIGN
    return raw[start : start + nbytes]


def random_bytes(nbytes: int) -> NDArray[np.uint8]:
    """Cache-line aligned random data; beyond 16 MB one random block is repeated."""
    out = aligned_empty(nbytes)
    block = np.random.Generator(np.random.SFC64(1)).integers(0, 256, min(nbytes, _BLOCK), dtype=np.uint8)
    for start in range(0, nbytes, _BLOCK):
        part = out[start : start + _BLOCK]
        part[...] = block[: part.size]
    return out


KINDS = ("copy", "copy_stream", "triad", "triad_stream", "read")
"""Streams measured: plain, and with stores that bypass the caches."""

_ARRAYS = {"copy": 2, "triad": 3, "read": 1}


class Ceilings:
    """Bandwidths, arithmetic costs and parallel-region costs of this machine.

    Parameters
    ----------
    settings : Settings
        Threads, ISA level and effort.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.l2, self.llc = _core._cache_bytes()
        self._memory = random_bytes(0)
        self._medians: dict[tuple[str, int, int], float] = {}
        self._costs: dict[tuple[str, str], float] = {}

    def _parts(self, count: int, nbytes: int) -> list[NDArray[np.uint8]]:
        """`count` arrays of `nbytes`, a multiple of the line, side by side, so that together they are the working set.

        Half a page apart: at equal offsets from a page, loads would wait for stores that they do not depend on.
        """
        stride = nbytes + 2048 + _ALIGN
        if self._memory.size < count * stride:
            self._memory = random_bytes(1 << (count * stride - 1).bit_length())  # rows come in every size: grow seldom
        return [self._memory[i * stride // _ALIGN * _ALIGN :][:nbytes] for i in range(count)]

    def _sampler(self, kind: str, nbytes: int, threads: int) -> Callable[[], float]:
        """A callable that gives seconds per pass over a working set of `nbytes`, all arrays together."""
        stream, _, tail = kind.partition("_")
        size = max(_ALIGN, nbytes // _ARRAYS[stream] // _ALIGN * _ALIGN)
        repeats = max(1, int(6e7 / nbytes))  # 0.3 ms from L1, 2 ms from memory: long beside the cost of a region
        scale = nbytes / (size * _ARRAYS[stream])  # whole lines were timed; nbytes is what is asked for

        def passes(count: int) -> float:
            first, *others = self._parts(_ARRAYS[stream], size)
            if stream == "copy":
                return _core._bench_copy(first, others[0], tail == "stream", count, threads)
            if stream == "triad":
                return _core._bench_triad(first, others[0], others[1], tail == "stream", count, threads)
            return _core._bench_read(first, count, threads)

        def sample() -> float:
            passes(1)  # the caches belonged to somebody else, as ahead of every contender's sample
            return passes(repeats) * scale

        return sample

    def _median(self, kind: str, nbytes: int, threads: int) -> float:
        """Median seconds; measured once."""
        key = (kind, nbytes, threads)
        if key not in self._medians:
            sample = self._sampler(*key)
            sample()
            samples = 3 if self.settings.quick or nbytes > self.llc else 7
            self._medians[key] = statistics.median(sample() for _ in range(samples))
        return self._medians[key]

    def _teams(self) -> list[int]:
        return sorted({1, self.settings.threads})

    def _fastest(self, kinds: tuple[str, ...], nbytes: int) -> Callable[[], float]:
        options = [(kind, nbytes, threads) for kind in kinds for threads in self._teams()]
        return self._sampler(*min(options, key=lambda option: self._median(*option)))

    def copy(self, nbytes: int) -> Callable[[], float]:
        """A sampler of seconds per copy of `nbytes` (read + written): plain or streaming, whichever is faster."""
        return self._fastest(("copy", "copy_stream"), nbytes)

    def read(self, nbytes: int) -> Callable[[], float]:
        """A sampler of seconds per pass that only reads `nbytes`."""
        return self._fastest(("read",), nbytes)

    def cost(self, operation: str) -> float:
        """Seconds per float32 element on one thread, data in L1, of a "div", "sqrt", "exp" or "random_bits".

        Bare loops of the benchmark's own: a slower kernel must not raise its own roof.
        """
        key = (operation, self.settings.isa)
        if key not in self._costs:
            name = "divide" if operation == "div" else operation
            samples = [_core._bench_arithmetic(name, self.settings.isa, 200) for _ in range(9)]
            self._costs[key] = statistics.median(samples)
        return self._costs[key]

    @cached_property
    def region(self) -> dict[str, float]:
        """Seconds of an empty parallel region, back to back ("hot") and after 200 us of work ("cold")."""
        samples = 9
        return {
            "hot": statistics.median(_core._bench_region(50, 0.0) for _ in range(samples)),
            "cold": statistics.median(_core._bench_region(3, 2e-4) for _ in range(samples)),
        }

    @cached_property
    def call(self) -> float:
        """Seconds of a call that has next to nothing to do: relu of 16 elements."""
        x = np.random.default_rng(0).standard_normal(16).astype(np.float32)
        y = np.empty_like(x)
        relu = F.relu
        return statistics.median(timeit.repeat(lambda: relu(x, out=y), number=2000, repeat=9)) / 2000

    def bandwidth(self) -> list[dict[str, float]]:
        """GB/s of every kind, working set of `GRID` and number of threads."""
        grid = GRID[:8] if self.settings.quick else GRID
        return [
            {
                "bytes": nbytes,
                "threads": threads,
                **{kind: nbytes / self._median(kind, nbytes, threads) / 1e9 for kind in KINDS},
            }
            for nbytes in grid
            for threads in self._teams()
        ]

    def as_json(self) -> dict[str, Any]:
        """All of it, as ``bench.json`` has it; measured now where it has not been."""
        with self.settings.applied():
            return {
                "bandwidth": self.bandwidth(),
                "cost_ns": {self.settings.isa: {name: 1e9 * self.cost(name) for name in COSTS}},
                "region": self.region,
                "call": self.call,
            }
