"""The rules for code compiled per ISA level, read off the object files.

A weak symbol or an undefined one would let the linker take a function compiled for AVX-512 into the baseline
path, which then dies on an older CPU; a fused multiply-add changes bits between levels.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

FMA = re.compile(r"\t(vfn?m(add|sub)\w*|fn?m(add|sub)|fml[as]l?)\b")
SYMBOL = re.compile(r"^\s*(?:[0-9a-f]+\s+)?([A-Za-z])\s+(\S+)$")
ALLOWED_UNDEFINED = {"memcpy", "memset", "_GLOBAL_OFFSET_TABLE_"}


def tool(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def faults(obj: Path, exported: str, level: str) -> list[str]:
    """What is wrong with an object that should define `exported` and nothing else that others can see."""
    found = []
    symbols = [match.groups() for line in tool("nm", str(obj)).splitlines() if (match := SYMBOL.match(line))]
    undefined = {name for kind, name in symbols if kind == "U"}
    found += [f"undefined {name}" for name in sorted(undefined - ALLOWED_UNDEFINED)]
    found += [f"weak or unique {name}" for kind, name in symbols if kind in "WwVvu"]
    visible = {name for kind, name in symbols if kind.isupper() and kind not in "UWV"}
    if visible != {exported}:
        found.append(f"global symbols {sorted(visible)}")
    sections = tool("objdump", "-h", str(obj))
    found += [f"section {name}" for name in (".init_array", ".ctors") if name in sections]
    code = tool("objdump", "-d", "--no-show-raw-insn", str(obj))
    assert "<" in code, "nothing was disassembled"
    found += [f"fused {match.group(1)}" for match in FMA.finditer(code)][:3]
    if "x86-64" in code and level != "v4":
        too_wide = "%[yz]mm" if level == "baseline" else "%zmm"
        found += [f"register {name}" for name in re.findall(too_wide, code)[:1]]
    return found


@pytest.fixture(scope="session")
def objects(kernel_build: Path) -> dict[str, Path]:
    paths = kernel_build.glob("CMakeFiles/kernels_*.dir/**/*.o")
    return {re.search(r"kernels_(\w+)\.dir", str(path))[1]: path for path in paths}  # type: ignore[index]


def test_every_level_is_built(objects: dict[str, Path]) -> None:
    assert set(objects) in ({"baseline", "v3", "v4"}, {"baseline"})


def test_objects_keep_the_rules(objects: dict[str, Path]) -> None:
    wrong = {level: faults(path, f"fastnn_kernels_{level}", level) for level, path in objects.items()}
    assert wrong == {level: [] for level in objects}


BAD = """
#include <vector>
std::vector<float> at_start(3, 1.0f);
extern "C" double other(double);
inline __attribute__((noinline)) float twice(float x) { return x + x; }
extern "C" float fastnn_kernels_bad(float a, float b, float c) {
    at_start.push_back(twice(a));
    return static_cast<float>(other(a)) + __builtin_fmaf(a, b, c);
}
"""


def test_the_check_finds_each_fault(kernel_build: Path, tmp_path: Path) -> None:
    compiler = os.environ.get("CXX") or next(c for c in ("c++", "g++", "clang++") if shutil.which(c))
    source, obj = tmp_path / "bad.cpp", tmp_path / "bad.o"
    source.write_text(BAD)
    x86 = (kernel_build / "CMakeFiles" / "kernels_v3.dir").exists()
    flags = ["-march=x86-64-v3"] if x86 else []
    subprocess.run([compiler, "-std=c++17", "-O2", "-fPIC", *flags, "-c", str(source), "-o", str(obj)], check=True)
    text = "\n".join(faults(obj, "fastnn_kernels_bad", "baseline"))
    for fault in ("undefined other", "weak or unique _Z5twicef", "global symbols", "section .init_array", "fused "):
        assert fault in text
