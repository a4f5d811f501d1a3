"""Which instruction-set level runs, and how a wrong one is refused."""

from __future__ import annotations

import platform
from collections.abc import Iterator

import numpy as np
import pytest

import fastnn
import fastnn.functional as F

X86 = platform.machine() in ("x86_64", "AMD64")


@pytest.fixture(autouse=True)
def keep_level() -> Iterator[None]:
    before = fastnn.get_isa()
    yield
    fastnn.set_isa(before)


def test_levels_are_best_first() -> None:
    order = ["v4", "v3", "baseline"] if X86 else ["baseline"]
    available = fastnn.available_isas()
    assert available == [level for level in order if level in available]
    assert available[-1] == "baseline"


@pytest.mark.skipif(not X86, reason="other processors have one level")
def test_levels_are_those_of_the_cpu() -> None:
    with open("/proc/cpuinfo") as file:
        flags = next(line for line in file if line.startswith("flags")).split()
    assert ("v3" in fastnn.available_isas()) == {"avx2", "bmi1", "bmi2", "fma", "f16c", "movbe"}.issubset(flags)
    assert ("v4" in fastnn.available_isas()) == {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}.issubset(
        flags
    )


@pytest.mark.parametrize("level", fastnn.available_isas())
def test_each_level_runs(level: str) -> None:
    fastnn.set_isa(level)
    assert fastnn.get_isa() == level
    x = np.linspace(-1, 1, 1001, dtype=np.float32)
    np.testing.assert_array_equal(F.relu(x), np.where(x > 0, x, np.float32(0)))


@pytest.mark.parametrize("level", ["sse9", "", "V3"])
def test_unknown_level(level: str) -> None:
    before = fastnn.get_isa()
    with pytest.raises(ValueError, match=f"isa: expected one of .*baseline, got '{level}'"):
        fastnn.set_isa(level)
    assert fastnn.get_isa() == before


@pytest.mark.skipif(not X86 or "v4" in fastnn.available_isas(), reason="this CPU has every level")
def test_level_the_cpu_lacks(run_python) -> None:
    with pytest.raises(ValueError, match="got 'v4', which this CPU does not support"):
        fastnn.set_isa("v4")
    done = run_python("import fastnn", env={"FASTNN_ISA": "v4"}, status=1)
    assert "ImportError: FASTNN_ISA: expected one of" in done.stderr
    assert "got 'v4', which this CPU does not support" in done.stderr


@pytest.mark.parametrize("level", fastnn.available_isas())
def test_level_from_the_environment(run_python, level: str) -> None:
    assert run_python("import fastnn; print(fastnn.get_isa())", env={"FASTNN_ISA": level}).stdout.strip() == level


def test_unknown_level_from_the_environment(run_python) -> None:
    done = run_python("import fastnn", env={"FASTNN_ISA": "avx9"}, status=1)
    assert "ImportError: FASTNN_ISA: expected one of" in done.stderr
    assert "got 'avx9'" in done.stderr


def test_the_best_level_is_the_default(run_python) -> None:
    shown = run_python("import fastnn; print(fastnn.get_isa(), fastnn.available_isas()[0])").stdout.split()
    assert shown[0] == shown[1]
