"""The command line."""

import subprocess
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

import fastnn
from fastnn import cli
from fastnn.bench.harness import Bound


def test_info_prints_the_configuration(capsys):
    assert cli.main(["info"]) == 0
    shown = capsys.readouterr().out
    fastnn.show_config()
    assert shown.splitlines()[:3] == capsys.readouterr().out.splitlines()[:3]
    assert fastnn.__version__ in shown


def test_demo_passes_its_options_on(monkeypatch):
    calls = []
    monkeypatch.setattr("fastnn.demo.run", lambda *arguments: calls.append(arguments) or 1)
    assert cli.main(["demo"]) == 1
    assert cli.main(["demo", "--data", "dir", "--epochs", "3", "--seed", "9"]) == 1
    assert calls == [(None, None, 0), ("dir", 3, 9)]


def test_bench_prints_the_table_and_checks_its_bounds(tmp_path, monkeypatch, capsys):
    limits = iter((1e12, 0.0))
    monkeypatch.setattr("fastnn.bench.rows.CaseRow._bound", lambda *_: Bound("floor", next(limits)))
    arguments = ["bench", "--quick", "--only", "relu6/output backward 1024", "--isa", fastnn.get_isa(), "--check"]
    arguments += ["--peers", "numpy"]
    assert cli.main([*arguments, "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text == (tmp_path / "bench.txt").read_text() + "\n"
    for word in ("working set", "parallel region", "NumPy in place", "relu6/output backward 1024", "1 of 1 bounds"):
        assert word in text
    assert cli.main(arguments) == 1
    assert "missed: relu6/output backward 1024" in capsys.readouterr().err


def test_demo_reports_missing_files(tmp_path, capsys):
    assert cli.main(["demo", "--data", str(tmp_path)]) == 2
    assert "train-images-idx3-ubyte" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["demo", "--epochs", "0"],
        ["demo", "--seed", "-1"],
        ["info", "--fast"],
        ["bench", "--isa", "z80"],
        ["bench", "--only", "no such row"],
        ["bench", "--threads", "0"],
    ],
)
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(arguments)
    assert error.value.code == 2
    assert "usage: fastnn" in capsys.readouterr().err


def test_the_console_script_is_installed(tmp_path):
    try:
        distribution("fastnn-kernels")
    except PackageNotFoundError:
        pytest.skip("fastnn runs from a build tree")
    script = Path(sysconfig.get_path("scripts")) / "fastnn"
    done = subprocess.run([script, "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout == f"fastnn {fastnn.__version__}\n"
