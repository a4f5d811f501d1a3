"""Every example runs, in its short form."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
APART = {"numpy_loop", "numba_loop", "estimators"}  # no pictures: see test_readme, test_cython, test_sklearn
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem not in APART)


@pytest.mark.parametrize("name", NAMES)
def test_example_prints_and_draws(name, tmp_path):
    pytest.importorskip("matplotlib")
    if "fastnn-kernels[sklearn]" in (EXAMPLES / f"{name}.py").read_text(encoding="utf-8"):
        pytest.importorskip("sklearn", "1.7")
    picture = tmp_path / "picture.png"
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), "--quick", "--out", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d\.\d", done.stdout)
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


@pytest.mark.parametrize(("name", "module"), [("ray_workers", "ray"), ("dask_workers", "distributed")])
def test_workers_learn_what_one_process_learns(name, module, tmp_path):
    pytest.importorskip(module)
    command = [sys.executable, "-W", "error", str(EXAMPLES / "workers" / f"{name}.py"), "--quick", "--workers", "2"]
    quiet = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}  # nothing leaves this machine
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=quiet, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    differences = re.findall(r"differ (?:from those of one process )?by (\S+)", done.stdout)
    assert len(differences) == 3 and all(float(difference) < 1e-4 for difference in differences), done.stdout
