"""Loops written in Cython, compiled on first use."""

from __future__ import annotations

import functools
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from fastnn.bench.peers.common import NUMPY_CAP
from fastnn.bench.peers.compiled import CompiledLoops

SOURCE = Path(__file__).with_name("cython_loops.pyx")
COMPILE = ("-O3", "-ffast-math", "-fopenmp", "-fPIC", "-w")
LINK = ("-shared", "-fopenmp")  # not -ffast-math: it would switch the whole process to flush denormals
BUILD_SECONDS = 300


class BuildError(Exception):
    """Why the loops could not be compiled."""


class Cython(CompiledLoops):
    """Typed memoryviews and prange, by the C compiler with ``-O3 -march=native -ffast-math -fopenmp``."""

    name = "cython"
    label = "Cython"
    library = distribution = "Cython"
    cap = NUMPY_CAP | {"FASTNN_BENCH_MARCH": "x86-64-v3"}

    @classmethod
    def missing(cls) -> str:
        """Why it cannot run here. Compiles the loops where that has not been done before."""
        absent = super().missing()
        if absent:
            return absent
        try:
            build(cache_directory())
        except BuildError as error:
            return str(error)
        return ""

    @classmethod
    def version(cls) -> str:
        return f"{super().version()}, {_compiler_version(_compiler())}"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._loops = _load(build(cache_directory()))
        self._loops.set_threads(threads)

    def loops(self, elements: int) -> Any:
        return self._loops


def cache_directory() -> Path:
    """Where compiled loops are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastnn"


@functools.cache
def build(directory: Path) -> Path:
    """The compiled loops in `directory`, compiled now if they are not there.

    Raises
    ------
    BuildError
        If there is no compiler, or it fails.
    """
    compiler = _compiler()
    flags = (*COMPILE, f"-march={os.environ.get('FASTNN_BENCH_MARCH', 'native')}")
    result = (
        directory / f"cython_loops-{_key(compiler, flags)}" / f"cython_loops{sysconfig.get_config_var('EXT_SUFFIX')}"
    )
    if result.exists():
        return result
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            finished = Path(scratch) / "finished"
            finished.mkdir()
            _compile(compiler, flags, Path(scratch), finished / result.name)
            try:
                finished.rename(result.parent)
            except OSError:
                if not result.exists():  # else another process was faster
                    raise
    except OSError as error:
        raise BuildError(f"the Cython loops cannot be kept in {directory}: {error}") from error
    return result


def _compile(compiler: str, flags: tuple[str, ...], scratch: Path, result: Path) -> None:
    c_file, object_file = scratch / "cython_loops.c", scratch / "cython_loops.o"
    include = f"-I{sysconfig.get_path('include')}"
    for command in (
        [sys.executable, "-m", "cython", "-3", str(SOURCE), "-o", str(c_file)],
        [compiler, *flags, include, "-c", str(c_file), "-o", str(object_file)],
        [compiler, *LINK, str(object_file), "-o", str(result), "-lm"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False, cwd=scratch)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
            reason = next((line for line in lines if "error" in line.lower()), lines[-1])
            raise BuildError(f"the Cython loops do not compile: {reason}")


def _compiler() -> str:
    names = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise BuildError(f"no C compiler ({', '.join(names)})")


@functools.cache
def _compiler_version(compiler: str) -> str:
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=60, check=False)
    return (done.stdout.splitlines() or [compiler])[0]


def _key(compiler: str, flags: tuple[str, ...]) -> str:
    """Of everything that the machine code depends on."""
    cython = importlib.metadata.version("Cython")
    parts = [
        SOURCE.read_text(),
        cython,
        sys.version,
        compiler,
        _compiler_version(compiler),
        *flags,
        *LINK,
        _processor(),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """What ``-march=native`` depends on: a home directory may be shared by several machines."""
    try:
        with open("/proc/cpuinfo") as info:
            return "".join(sorted({line for line in info if line.startswith(("flags", "model name"))}))
    except OSError:
        return platform.processor()


def _load(path: Path) -> Any:
    loader = importlib.machinery.ExtensionFileLoader("cython_loops", str(path))
    spec = importlib.util.spec_from_file_location("cython_loops", path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
