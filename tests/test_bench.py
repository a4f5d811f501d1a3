"""The benchmark as a test: its answers, its arithmetic and its face, with no conclusion from any time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn.bench import roof, rows, table
from fastnn.bench.ceilings import Ceilings
from fastnn.bench.harness import Bound, Contender, Row, Settings, interleave, spread
from fastnn.bench.peers import PEERS

ROOT = Path(__file__).parents[1]
QUICK = Settings(threads=2, isa=(fastnn.available_isas()[0],), quick=True)

ANSWERS = {
    (row.case.name, row.direction): row for row in rows.all_rows(everything=True) if isinstance(row, rows.CaseRow)
}


@pytest.mark.parametrize("row", ANSWERS.values(), ids=lambda row: f"{row.case.name} {row.direction}")
def test_fastnn_and_peers_agree_with_the_reference(row: rows.CaseRow) -> None:
    row.check()


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.label)
def test_a_wrong_answer_is_noticed(peer: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "relu", lambda self, x, out=None: np.abs(x))
    row = next(row for row in ANSWERS.values() if row.case.ops[0] == "relu" and row.direction == "forward")
    with pytest.raises(AssertionError, match="differs from the reference"):
        row.check()


def test_contenders_take_turns() -> None:
    order: list[str] = []
    contenders = [Contender(name, lambda name=name: order.append(name) or 1e-3, self_timed=True) for name in ("a", "b")]
    interleave(contenders, QUICK)
    rounds = order[2:]  # one sample each to prepare
    assert rounds[:6] == ["a", "b"] * 3
    assert all(contender.median == 1e-3 and contender.spread == 0 for contender in contenders)


def test_before_runs_ahead_of_every_call() -> None:
    order: list[str] = []
    contender = Contender("x", lambda: order.append("call"), before=lambda: order.append("before"))
    interleave([contender], QUICK)
    assert len(contender.samples) == 3
    assert order == ["before", "call"] * (len(order) // 2)


def test_spread() -> None:
    assert spread([1.0, 1.0, 1.0, 1.0, 1.0]) == 0
    assert spread([1.0, 2.0, 3.0]) == 1
    assert Row("g", "n", 1.0, spread=0.5).noisy and not Row("g", "n", 1.0, spread=0.1).noisy


def test_verdicts() -> None:
    row = Row("g", "n", value=3.0, floor=1.0, roof=2.0, bound=Bound("roof", 1.5))
    assert row.verdict == "met"
    assert Row("g", "n", value=3.1, floor=1.0, roof=2.0, bound=Bound("roof", 1.5)).verdict == "missed"
    assert Row("g", "n", value=3.0, floor=1.0, roof=2.0, bound=Bound("floor", 2.5)).verdict == "missed"
    assert Row("g", "n", value=3.0, bound=Bound("value", 3.0)).verdict == "met"
    assert Row("g", "n", value=3.0).verdict == ""
    assert Row("g", "n", value=2.0, bytes=4_000_000_000).gbps == 2.0


def test_bytes_of_distinct_arrays() -> None:
    a, b = np.zeros(10, np.float32), np.zeros(3)
    assert roof.nbytes({"x": a, "y": [b, a], "rng": object(), "p": 0.5}) == 64
    assert roof.nbytes(None) == 0


@pytest.mark.parametrize(
    ("shape", "channel_axis", "mb", "twice"),
    [
        ((16384, 1024), 1, 64, True),  # rows, more than the last-level cache
        ((16384, 1024), 1, 16, False),  # rows, but in cache
        ((32, 56, 56, 64), -1, 64, True),
        ((32, 64, 56, 56), 1, 64, False),  # 1 MB per channel stays in L2
        ((32, 4, 512, 512), 1, 128, True),  # 32 MB per channel do not
    ],
)
def test_what_must_be_read_twice(shape: tuple[int, ...], channel_axis: int, mb: int, twice: bool) -> None:
    forced = roof.reread(shape, channel_axis, mb << 20, l2=2 << 20, llc=32 << 20)
    assert forced == (mb << 20 if twice else 0)


def test_roof_is_the_larger_limit() -> None:
    assert roof.roof_seconds(1.0, 0.5, 0.2) == 1.5
    assert roof.roof_seconds(1.0, 0.5, 4.0) == 4.0


def test_ceilings_are_positive() -> None:
    ceilings = Ceilings(QUICK)
    assert 0 < ceilings.l2 <= ceilings.llc
    isa = QUICK.isa[0]
    for operation in ("div", "sqrt"):
        assert 0 < ceilings.cost(operation, isa, np.float32) < 1e-6
    before = fastnn.get_isa(), fastnn.get_num_threads()
    for operation in ("exp", "random_bits"):
        assert 0 <= ceilings.cost(operation, isa, np.float32) < 1e-6
    assert (fastnn.get_isa(), fastnn.get_num_threads()) == before
    assert ceilings.copy(1 << 16)() > 0
    assert ceilings.read(1 << 16)() > 0
    assert set(ceilings.region) == {"hot", "cold"}


def test_ids_are_unique_and_only_filters() -> None:
    everything = [row.id for row in rows.all_rows(everything=True)]
    assert len(set(everything)) == len(everything)
    assert {row.group for row in rows.all_rows(only="dropout")} >= {"dropout"}
    assert 0 < len(rows.all_rows(quick=True)) < len(rows.all_rows()) < len(everything)


def test_quick_run_prints_the_table_and_writes_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", str(ROOT / "bench"), "-q", "-p", "no:cacheprovider"]
    command += ["--quick", "--only", "dropout/p=0.5", "--threads", "2", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("floor", "roof", "numpy in place", "after matmul", "parallel region", "dropout/p=0.5 backward"):
        assert word in done.stdout
    content = json.loads((tmp_path / "bench.json").read_text())
    assert {row["group"] for row in content["rows"]} == {"dropout"}
    assert all(row["value"] > 0 and row["floor"] > 0 and row["peers"] for row in content["rows"])


def test_check_fails_on_a_miss(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", str(ROOT / "bench"), "-q", "-p", "no:cacheprovider"]
    code = (
        "import sys, pytest, fastnn.bench.rows as rows; from fastnn.bench.harness import Bound;"
        "rows.CaseRow._bound = lambda *args: Bound('floor', {limit});"
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    options = [*command[3:], "--quick", "--only", "dropout/p=0.5 backward 1024", "--check"]
    for limit, expected in (("0.0", 1), ("1e12", 0)):
        done = subprocess.run(
            [sys.executable, "-c", code.format(limit=limit), *options],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == expected, done.stdout + done.stderr


def test_table_shows_every_row() -> None:
    measured = [
        Row("norm", "first", 2e-6, isa="v3", floor=1e-6, roof=1e-6, bytes=1000, bound=Bound("roof", 1.5)),
        Row("threads", "second", 1.2, unit="x", bound=Bound("value", 1.3), spread=0.4),
        Row("footprint", "third", 1.5e6, unit="B", bound=Bound("value", 2e6)),
    ]
    text = table.rows_text(measured)
    assert "first" in text and "missed" in text and "2.00" in text
    assert "1.20 x" in text and "met (noisy)" in text and "1.50 MB" in text
