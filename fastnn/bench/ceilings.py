"""What this machine can do, measured in the same run as the rows it is compared with.

Bandwidths count bytes read plus bytes written. All data is random: zeros can be faster than memory.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastnn
import fastnn._core as _core
import fastnn.functional as F
from fastnn.bench.harness import Contender, Settings, interleave

GRID = tuple(1 << k for k in range(13, 29))
"""Working sets of the ceiling table: 8 KB to 256 MB."""

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


class Ceilings:
    """Bandwidths, arithmetic costs and parallel-region costs of this machine.

    Parameters
    ----------
    settings : Settings
        Threads and effort.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.l2, self.llc = _core._cache_bytes()
        self._src = random_bytes(0)
        self._dst = random_bytes(0)
        self._best: dict[tuple[str, int], Callable[[], float]] = {}
        self._costs: dict[tuple[str, str, str], float] = {}
        self.seen: dict[tuple[str, int], float] = {}

    def _buffers(self, nbytes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        if self._src.size < nbytes:
            size = 1 << (nbytes - 1).bit_length()  # rows come in every size; grow seldom
            self._src, self._dst = random_bytes(size), random_bytes(size)
        return self._src[:nbytes], self._dst[:nbytes]

    def _repeats(self, nbytes: int) -> int:
        return max(1, int(3e-4 * 2e10 / nbytes))  # about 0.3 ms at 20 GB/s

    def _fastest(self, kind: str, nbytes: int, options: list[Callable[[], float]]) -> Callable[[], float]:
        """The option that is fastest at this working set; decided once, by medians."""
        if (kind, nbytes) not in self._best:
            medians = []
            for option in options:
                option()
                medians.append(
                    statistics.median(option() for _ in range(3 if self.settings.quick or nbytes > self.llc else 7))
                )
            self._best[kind, nbytes] = options[medians.index(min(medians))]
            self.seen[kind, nbytes] = min(medians)
        return self._best[kind, nbytes]

    def _teams(self) -> list[int]:
        return sorted({1, self.settings.threads})

    def copy(self, nbytes: int) -> Callable[[], float]:
        """A sampler of seconds per copy, plain or cache-bypassing, of `nbytes` (read + written)."""
        half = max(_ALIGN, nbytes // 2)
        repeats = self._repeats(nbytes)

        def option(streaming: bool, threads: int) -> Callable[[], float]:
            def sample() -> float:
                src, dst = self._buffers(half)
                seconds: float = _core._bench_copy(dst, src, streaming, repeats, threads)
                return seconds

            return sample

        return self._fastest("copy", nbytes, [option(s, t) for s in (False, True) for t in self._teams()])

    def read(self, nbytes: int) -> Callable[[], float]:
        """A sampler of seconds per pass that only reads `nbytes`."""
        size = max(_ALIGN, nbytes)
        repeats = self._repeats(nbytes)

        def option(threads: int) -> Callable[[], float]:
            def sample() -> float:
                src, _ = self._buffers(size)
                seconds: float = _core._bench_read(src, repeats, threads)
                return seconds

            return sample

        return self._fastest("read", nbytes, [option(t) for t in self._teams()])

    def cost(self, operation: str, isa: str, dtype: Any) -> float:
        """Seconds per element on one thread, data in L1, of a "div", "sqrt", "exp" or "random_bits".

        Division and square root are plain loops of the benchmark's own. Random bits are what dropout takes
        beyond relu, and exp is what the softmax takes beyond relu: slopes over the size, so that calls do not
        count.
        """
        key = (operation, isa, np.dtype(dtype).name)
        if key not in self._costs:
            if operation in ("div", "sqrt"):
                name = "divide" if operation == "div" else "sqrt"
                double = np.dtype(dtype) == np.float64
                samples = [_core._bench_arithmetic(name, isa, double, 200) for _ in range(9)]
                self._costs[key] = statistics.median(samples)
            else:
                self._costs[key] = self._slope(operation, isa, np.dtype(dtype))
        return self._costs[key]

    def _slope(self, operation: str, isa: str, dtype: np.dtype[Any]) -> float:
        small, large = 256, 1024
        rng = fastnn.random.Generator(0)
        data = np.random.default_rng(2).standard_normal((large // 64, 64)).astype(dtype)
        labels = np.zeros(large // 64, np.int64)
        out = np.empty_like(data)

        def call(rows: int, which: str) -> Callable[[], Any]:
            x, y, t = data[:rows], out[:rows], labels[:rows]
            if which == "random_bits":
                return lambda: F.dropout(x, 0.5, rng=rng, out=y)
            if which == "exp":
                return lambda: F.softmax_cross_entropy(x, t, out=y)
            return lambda: F.relu(x, out=y)

        contenders = [
            Contender(f"{which} {n}", call(n // 64, which)) for which in (operation, "relu") for n in (small, large)
        ]
        with fastnn.threads(1):
            level = fastnn.get_isa()
            fastnn.set_isa(isa)
            try:
                interleave(contenders, self.settings)
            finally:
                fastnn.set_isa(level)
        low, high, copy_low, copy_high = (c.median for c in contenders)
        return max(0.0, (high - low) - (copy_high - copy_low)) / (large - small)

    @cached_property
    def region(self) -> dict[str, float]:
        """Seconds of an empty parallel region, back to back ("hot") and after 200 us of work ("cold")."""
        samples = 9
        return {
            "hot": statistics.median(_core._bench_region(50, 0.0) for _ in range(samples)),
            "cold": statistics.median(_core._bench_region(3, 2e-4) for _ in range(samples)),
        }

    def table(self) -> dict[int, dict[str, float]]:
        """Copy and read bandwidth in GB/s for every working set of `GRID`."""
        result = {}
        for nbytes in GRID[:8] if self.settings.quick else GRID:
            self.copy(nbytes), self.read(nbytes)
            result[nbytes] = {kind: nbytes / self.seen[kind, nbytes] / 1e9 for kind in ("copy", "read")}
        return result
