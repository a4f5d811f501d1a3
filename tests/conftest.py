"""What several test files need: a fresh interpreter, forced parallel regions, the kernel objects."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fastnn
from fastnn import _core

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def forced_regions() -> Iterator[None]:
    """Every call opens a parallel region, however small; the settings are as before afterwards."""
    _core._set_grain(0)
    yield
    _core._set_grain(-1)
    fastnn.set_num_threads(None)


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script in a fresh interpreter outside the source tree. Environment values of None remove a variable.

    A hang fails the test; so does an exit status other than `status`.
    """

    def run(
        script: str, env: dict[str, str | None] | None = None, timeout: float = 60, status: int = 0
    ) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "script.py"
        path.write_text(script)
        variables = {k: v for k, v in os.environ.items() if not k.startswith("FASTNN_") and k != "OMP_NUM_THREADS"}
        for key, value in (env or {}).items():
            if value is None:
                variables.pop(key, None)
            else:
                variables[key] = value
        done = subprocess.run(
            [sys.executable, str(path)],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == status, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def find_tool(name: str) -> str | None:
    """A program on the PATH or beside this interpreter (a virtual environment need not be activated)."""
    return shutil.which(name) or shutil.which(name, path=sysconfig.get_path("scripts"))


@pytest.fixture(scope="session")
def cmake() -> Callable[..., None]:
    """Run cmake, showing its output when it fails. Skips where nothing can be compiled."""
    if not any(find_tool(compiler) for compiler in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        pytest.skip("no C++ compiler")
    program = find_tool("cmake")
    assert program is not None, "cmake comes with fastnn-kernels[test]"

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900
        )
        assert done.returncode == 0, done.stdout

    return run


@pytest.fixture(scope="session")
def kernel_build(cmake: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build directory with kernels.cpp compiled for every ISA level, by the project's own CMake rules."""
    build = tmp_path_factory.mktemp("kernels")
    arguments = ["-S", str(ROOT), "-B", str(build), "-DFASTNN_KERNELS_ONLY=ON"]
    ninja = find_tool("ninja")
    if ninja is not None:
        arguments += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    cmake(*arguments)
    cmake("--build", str(build), "--parallel", "2")
    return build
