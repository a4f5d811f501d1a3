"""Every example runs, in its short form."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("name", ["activations", "batch_norm", "fine_tuning", "optimizers", "regularisation"])
def test_example_prints_and_draws(name, tmp_path):
    picture = tmp_path / "picture.png"
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), "--quick", "--out", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"0\.\d{4}", done.stdout)
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000
