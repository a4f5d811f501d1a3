"""Threads, ISA level, memory, and the compiled extension.

Everything else imports ``_core`` after this module has run: it says what to do where the extension is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "__version__",
    "available_isas",
    "empty_cache",
    "get_isa",
    "get_num_threads",
    "set_isa",
    "set_num_threads",
    "show_config",
    "threads",
]

_HERE = Path(__file__).resolve().parent

try:
    import fastnn._core as _core  # not `from . import`, which hides that the module is missing
except ModuleNotFoundError as error:
    if error.name != f"{__package__}._core":
        raise
    raise ImportError(
        f"fastnn's compiled extension (_core) is not in {_HERE}. Install the package with `pip install .` in the "
        "source tree, and run Python outside that tree, which hides the installed package."
    ) from error

__version__: str = _core.__version__


def set_num_threads(n: int | None) -> None:
    """Set how many threads one call may use, in the whole process.

    Parameters
    ----------
    n : int or None
        At least 1; may exceed the number of cores. None goes back to the automatic number: the smallest of
        OpenMP's (which ``OMP_NUM_THREADS`` and threadpoolctl change), the CPU affinity and the cgroup's quota.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is smaller than 1 or larger than 4096.

    Notes
    -----
    Results have the same bits for any number. Short calls, calls in a forked process and calls made while
    another thread is inside fastnn use one thread whatever is set here.
    """
    if n is None:
        _core.set_num_threads(0)
        return
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"n: expected an integer or None, got {type(n).__name__}")
    if not 1 <= n <= 4096:
        raise ValueError(f"n: expected 1 to 4096 threads, got {n}")
    _core.set_num_threads(n)


def get_num_threads() -> int:
    """Return how many threads a large enough call on the calling thread would use now."""
    return _core.get_num_threads()


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Use `n` threads inside a ``with`` block, for the whole process, and go back to the setting before.

    Parameters
    ----------
    n : int or None
        As for `set_num_threads`.
    """
    before = _core.explicit_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        _core.set_num_threads(before)


def set_isa(name: str) -> None:
    """Choose the instruction-set level of the kernels, for tests and measurements: results do not change.

    Parameters
    ----------
    name : str
        One of `available_isas`: ``"baseline"``, and on x86-64 ``"v3"`` (AVX2) and ``"v4"`` (AVX-512).

    Raises
    ------
    ValueError
        If the level is unknown or this CPU does not have it.
    """
    _core.set_isa(name)


def get_isa() -> str:
    """Return the instruction-set level in use. ``FASTNN_ISA`` sets it at import; the default is the best one."""
    return _core.get_isa()


def available_isas() -> list[str]:
    """Return the instruction-set levels that this build has and this CPU supports, best first."""
    return _core.available_isas()


def empty_cache() -> None:
    """Give the memory of dead arrays, which fastnn keeps for the next ones, back to the system.

    What is kept is bounded by the largest amount that was in use at once and by 1/8 of the memory limit, or
    by ``FASTNN_CACHE_LIMIT`` (bytes, or with K, M, G; 0 keeps nothing).
    """
    _core.empty_cache()


def _bytes_text(n: float) -> str:
    return f"{n / 2**20:.0f} MiB" if n >= 2**20 else f"{n / 2**10:.0f} KiB"


def show_config() -> None:
    """Print version, ISA level, threads and where their number comes from, OpenMP, caches and compiler."""
    c = _core.config()
    cache = _core.cache_stats()
    quota = f"{c['cpu_quota']:g} CPUs" if c["cpu_quota"] else "none"
    openmp = c["openmp_runtime"] if c["openmp"] else "none: built serial, one thread"
    rows = {
        "fastnn": c["version"],
        "ISA level": f"{c['isa']} (available: {', '.join(c['available_isas'])})",
        "threads": f"{c['threads']} (from: {c['threads_source']})",
        "CPU affinity": f"{c['affinity_cpus']} CPUs" if c["affinity_cpus"] else "unknown",
        "cgroup CPU quota": quota,
        "OpenMP runtime": openmp,
        "caches": f"L2 {_bytes_text(c['l2_bytes'])}, last level {_bytes_text(c['llc_bytes'])}",
        "array cache": f"{_bytes_text(cache['idle'])} idle, {_bytes_text(cache['in_use'])} in use, "
        f"keeps at most {_bytes_text(cache['limit'])}",
        "compiler": c["compiler"],
    }
    for name, value in rows.items():
        print(f"{name:<18}{value}")
