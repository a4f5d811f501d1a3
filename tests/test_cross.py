"""The kernels of another processor give the bits of this one: compiled for AArch64, run by an emulator."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"  # Debian: g++-aarch64-linux-gnu, qemu-user


def hashes(compiler: str, kernels: Path, program: Path, *run_by: str) -> list[str]:
    source = ROOT / "tests" / "cross" / "kernel_bits.cpp"
    build = [compiler, "-std=c++17", "-O1", "-static", "-ffp-contract=off", str(source), str(kernels)]
    subprocess.run([*build, "-o", str(program)], check=True)
    return subprocess.run([*run_by, str(program)], capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="compared with x86-64")
@pytest.mark.skipif(not (shutil.which(COMPILER) and shutil.which(EMULATOR)), reason="no cross compiler or emulator")
def test_aarch64_gives_the_same_bits(cmake: Callable[..., None], kernel_build: Path, tmp_path: Path) -> None:
    build = tmp_path / "aarch64"
    cmake(
        *("-S", str(ROOT), "-B", str(build), "-DFASTNN_KERNELS_ONLY=ON", f"-DCMAKE_CXX_COMPILER={COMPILER}"),
        *("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"),
    )
    cmake("--build", str(build))
    (theirs,) = build.glob("CMakeFiles/kernels_baseline.dir/**/*.o")
    (ours,) = kernel_build.glob("CMakeFiles/kernels_baseline.dir/**/*.o")
    native = hashes("c++", ours, tmp_path / "native")
    assert len(native) > 100
    assert hashes(COMPILER, theirs, tmp_path / "foreign", EMULATOR) == native
