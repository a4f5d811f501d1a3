"""The README's example runs, and its commands are the promised ones."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_example_trains_a_network(run_python):
    (example,) = re.findall(r"<!-- example:.*?-->\n```python\n(.*?)```", README, re.DOTALL)
    assert len(example.strip().splitlines()) <= 17
    label, _, accuracy = run_python(example).stdout.strip().rpartition(" ")
    assert label == "test accuracy"
    assert float(accuracy) >= 0.95


def test_no_figure_is_left_to_fill_in():
    assert "<FIGURE" not in README


def test_commands():
    assert "    pip install . && fastnn demo\n" in README
    assert "    pip install '.[test]' && pytest\n" in README
    assert "pip install fastnn" not in README


def test_numpy_loop_reaches_its_accuracy(run_python):
    lines = run_python((ROOT / "examples" / "numpy_loop.py").read_text()).stdout.splitlines()
    assert len(lines) == 15
    assert float(lines[-1].split()[-1]) >= 0.96
