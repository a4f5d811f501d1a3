"""The benchmark as a test: its answers, its arithmetic and its faces, with no conclusion from any time."""

from __future__ import annotations

import copy
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import reference
from fastnn.bench import checks, compare, lineup, peers, report, roof, rows, run, scaling, steps, table
from fastnn.bench.calls import direct, planned
from fastnn.bench.case_rows import CaseRow, elements
from fastnn.bench.ceilings import COSTS, KINDS, Ceilings
from fastnn.bench.harness import Bound, Contender, Row, Settings, Timing, interleave
from fastnn.bench.lineup import Bench, Lineup
from fastnn.bench.peers import NamespacePeer, Peer
from fastnn.bench.peers.base import Job
from fastnn.bench.progress import Progress
from fastnn.bench.step_rows import StepRow
from fastnn.cases import CASES, MODELS, by_name

ROOT = Path(__file__).parents[1]
LEVEL = fastnn.available_isas()[0]
QUICK = Settings.of(2, LEVEL, True)
NUMPY = Lineup(["numpy"], 2)

ANSWERS = {(row.case.name, row.direction): row for row in rows.all_rows(everything=True) if isinstance(row, CaseRow)}


def timing(value: float, spread: float = 0.0) -> Timing:
    return Timing(value, value * (1 - spread / 2), value * (1 + spread / 2))


def case_row(name: str, direction: str = "forward") -> CaseRow:
    return ANSWERS[name, direction]


def bench(entries: Lineup = NUMPY) -> Bench:
    return Bench(QUICK, Ceilings(QUICK), entries)


# ------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("row", ANSWERS.values(), ids=lambda row: f"{row.case.name} {row.direction}")
def test_fastnn_and_numpy_agree_with_the_reference(row: CaseRow) -> None:
    row.check(NUMPY)


@pytest.mark.parametrize("network", steps.NETWORKS, ids=lambda network: network.name)
def test_training_steps_agree_with_the_reference(network: steps.Network) -> None:
    StepRow(network, network.batches[0]).check(NUMPY)


@pytest.mark.parametrize("spoil", ["W2", "b3", "gamma1", "loss"])
def test_a_wrong_training_step_is_noticed(spoil: str) -> None:
    network = replace(steps.NETWORKS[0], sizes=(20, 16, 16, 4), dropout=0.0)
    job = steps.fastnn_step(network, 8)
    steps.check("fastnn", job, network, 8)
    good = steps.fastnn_step(network, 8)
    wrong = steps.StepJob(
        good.call,
        lambda: good.loss() + (spoil == "loss"),
        lambda: {name: value + 1e-3 * (name == spoil) for name, value in good.parameters().items()},
    )
    with pytest.raises(AssertionError, match=spoil):
        steps.check("wrong", wrong, network, 8)


def test_resnet50_has_its_parameters() -> None:
    assert len(MODELS["ResNet-50"]) == 161
    assert elements(MODELS["ResNet-50"]) == 25_557_032


def test_direct_gives_the_call_of_a_case() -> None:
    case = by_name("relu/input")
    inputs = case.inputs((7,), np.float32)
    (outputs, _), call = direct(F, lambda namespace: case.forward(namespace, inputs))
    assert np.array_equal(call(), outputs["y"])


def test_planned_gives_a_step_without_taking_it() -> None:
    case = by_name("sgd_step/plain")
    inputs = case.inputs(((7,),), np.float32)
    before = inputs["params"][0].copy()
    call = planned(F, lambda namespace: case.step(namespace, inputs, 3))
    assert np.array_equal(inputs["params"][0], before)
    call()
    assert not np.array_equal(inputs["params"][0], before)


# --------------------------------------------------------------------------------------------------------- peers


class Plain(NamespacePeer):
    """A peer of the tests: NumPy's relu and dropout."""

    name, label = "plain", "plain"
    library = distribution = "numpy"
    cap: ClassVar[Any] = {"PLAIN": "no more"}

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def relu(self, x: Any, *, out: Any = None) -> Any:
        return np.maximum(x, 0)

    def relu_backward(self, dy: Any, x: Any, *, output: bool = False, out: Any = None) -> Any:
        return dy * (x > 0)


class Wrong(Plain):
    name, label = "wrong", "wrong"

    def relu(self, x: Any, *, out: Any = None) -> Any:
        return np.abs(x)


class Failing(Plain):
    name, label = "failing", "failing"

    def relu(self, x: Any, *, out: Any = None) -> Any:
        raise RuntimeError("no such luck")


class Absent(Plain):
    name, label = "absent", "absent"
    library, distribution = "no_such_module", "no-such-package"


class Broken(Plain):
    name, label = "broken", "broken"

    def __init__(self, threads: int) -> None:
        raise OSError("cannot be started")


class OwnMasks(Plain):
    """Draws its own masks, out of reach of the check; `keep` and `scale` can be wrong."""

    name, label = "own masks", "own masks"
    own_masks = True
    keep, scale = 0.5, 2.0

    def dropout(self, x: Any, p: float, training: bool, *, rng: Any = None, first: int = 0, out: Any = None) -> Any:
        mask = np.float32(self.scale) * (np.random.default_rng(5).random(x.shape) < self.keep)
        return x * mask, mask

    def dropout_backward(self, dy: Any, saved: Any, *, out: Any = None) -> Any:
        return dy * saved


@pytest.fixture
def only_these(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Call it with the peers that there are to be."""
    yield lambda *types: monkeypatch.setattr(peers, "PEERS", types)


def test_a_wrong_or_failing_peer_is_an_error_of_the_row_and_not_timed(only_these: Any) -> None:
    only_these(Plain, Wrong, Failing)
    row = case_row("relu/input")
    entries = Lineup(None, 2)
    with pytest.raises(AssertionError, match="wrong: y differs from the reference"):
        row.check(entries)
    measured = replace(row, shape=(64,)).measure(bench(entries))
    assert set(measured.peers) == {"plain"}
    assert measured.errors == ("wrong: y differs from the reference", "failing: RuntimeError: no such luck")
    assert set(measured.errors) <= set(measured.as_json()["notes"])


def test_answers_are_checked_where_large_arrays_take_other_ways(only_these: Any) -> None:
    class WrongIfLarge(Plain):
        def relu(self, x: Any, *, out: Any = None) -> Any:
            return np.abs(x) if x.size >= 1 << 16 else np.maximum(x, 0)

    only_these(WrongIfLarge)
    row, entries = case_row("relu/input"), Lineup(None, 2)
    smallest = min(row.case.bench, key=elements)
    assert replace(row, shape=smallest).checked == [smallest]
    replace(row, shape=smallest).check(entries)
    with pytest.raises(AssertionError, match="plain: y differs"):
        row.check(entries)


def test_a_peer_without_the_operation_is_no_error(only_these: Any) -> None:
    only_these(Plain)
    measured = case_row("adam_step/adam").measure(bench(Lineup(None, 2)))
    assert measured.peers == {} and measured.errors == () and measured.best_peer is None


def test_fastnn_itself_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F, "relu", lambda x, out=None: np.abs(x))
    with pytest.raises(AssertionError, match="fastnn: y differs"):
        case_row("relu/input").measure(bench())


@pytest.mark.parametrize(
    ("keep", "scale", "wrong"),
    [(0.5, 2.0, ""), (0.6, 2.0, "elements were kept"), (0.5, 1.0, "differs"), (0.0, 2.0, "elements were kept")],
)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_masks_of_compiled_peers_are_told_from_the_output(
    direction: Any, keep: float, scale: float, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OwnMasks, "keep", keep)
    monkeypatch.setattr(OwnMasks, "scale", scale)
    case = by_name("dropout/p=0.5")
    if wrong:
        with pytest.raises(AssertionError, match=wrong):
            checks.check_peer(OwnMasks(1), case, (5000,), direction)
    else:
        assert checks.check_peer(OwnMasks(1), case, (5000,), direction)


@pytest.mark.parametrize("name", ["bias_act/rows/relu+dropout", "batch_norm/2d/relu+dropout", "batch_norm/2d/plain"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_check_of_own_masks_accepts_the_reference_with_other_masks(name: str, direction: Any) -> None:
    class Reference(Peer):
        label = "reference"
        own_masks = True

        def __init__(self) -> None: ...

        def job(self, case: Any, inputs: Any, direction: Any) -> Job:
            inputs = {**inputs, "rng": fastnn.Generator(99)}
            outputs, saved = case.forward(reference, inputs)
            if direction == "backward":
                outputs |= case.backward(reference, inputs, saved)
            return Job(lambda: None, lambda: outputs)

    assert checks.check_peer(Reference(), by_name(name), (256, 64), direction)


def test_every_peer_is_in_the_report_with_the_reason_why_it_is_absent(only_these: Any) -> None:
    only_these(Plain, Absent, Broken, Wrong)
    entries = Lineup(["plain", "absent", "broken"], 2)
    found = {entry["label"]: entry for entry in entries.as_json(LEVEL)}
    assert {label: entry["state"] for label, entry in found.items()} == {
        "plain": "measured",
        "absent": "absent",
        "broken": "absent",
        "wrong": "not asked",
    }
    assert found["absent"]["reason"] == "no-such-package is not installed"
    assert found["broken"]["reason"] == "does not start: OSError: cannot be started"
    assert found["plain"]["version"] == f"numpy {np.__version__}"
    assert found["wrong"]["version"] == found["absent"]["version"] == ""
    assert [entry.label for entry in entries] == ["plain"]


def test_peers_nobody_asked_for_are_left_alone(only_these: Any) -> None:
    class Untouchable(Plain):
        name = label = "untouchable"

        @classmethod
        def missing(cls) -> str:
            raise AssertionError("looked at")

        version = missing

    only_these(Plain, Untouchable)
    assert Lineup(["plain"], 1).as_json(LEVEL)[1]["state"] == "not asked"


def test_unknown_peers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        run.main(["--peers", "numpy,nonsense"])
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert "'nonsense'" in message and "numpy" in message


def test_who_is_held_to_which_level(monkeypatch: pytest.MonkeyPatch) -> None:
    class Free(Plain):
        cap = None

    class Needless(Plain):
        cap: ClassVar[Any] = {}

    monkeypatch.setattr(fastnn, "available_isas", lambda: ["v4", "v3", "baseline"])
    assert [isa for isa in ("v4", "v3", "baseline") if lineup.needs_cap(isa)] == ["v3"]
    for capped in (False, True):
        entries = Lineup([], 1, capped)
        assert entries.holds(Plain, "v4") and entries.holds(Free, "v4")
        assert entries.holds(Plain, "v3") == capped
        assert entries.holds(Needless, "v3") and not entries.holds(Free, "v3")
        assert not entries.holds(Plain, "baseline")
    monkeypatch.setattr(fastnn, "available_isas", lambda: ["v3", "baseline"])
    assert Lineup([], 1).holds(Free, "v3") and not lineup.needs_cap("v3")


def test_other_numbers_of_threads_reach_the_peers(only_these: Any) -> None:
    only_these(Plain)
    (entry,) = Lineup(None, 2).with_threads(7)
    assert entry.instance is not None and vars(entry.instance)["threads"] == 7


# ------------------------------------------------------------------------------------------------------- harness


def test_contenders_take_turns() -> None:
    order: list[str] = []
    contenders = [Contender(name, lambda name=name: order.append(name) or 1e-3, self_timed=True) for name in ("a", "b")]
    interleave(contenders, QUICK)
    assert order[2:][:6] == ["a", "b", "b", "a", "b", "a"]  # after one sample each to prepare
    assert all(contender.timing == Timing(1e-3, 1e-3, 1e-3) for contender in contenders)


def test_before_runs_ahead_of_every_call() -> None:
    order: list[str] = []
    contender = Contender("x", lambda: order.append("call"), before=lambda: order.append("before"))
    interleave([contender], QUICK)
    assert len(contender.samples) == 3
    assert order == ["before", "call"] * (len(order) // 2)


def test_slow_contenders_get_three_samples() -> None:
    contender = Contender("slow", lambda: 10.0, self_timed=True)
    interleave([contender], Settings(2, LEVEL))
    assert len(contender.samples) == 3


def test_timings() -> None:
    assert Timing.of([3.0, 1.0, 2.0]) == Timing(2.0, 1.0, 3.0)
    assert Timing.of([1.0, 2.0, 3.0, 4.0, 5.0]) == Timing(3.0, 2.0, 4.0)
    assert Timing(2.0, 1.0, 3.0).spread == 1
    assert Timing(2.0, 1.0, 3.0).overlaps(Timing(4.0, 3.0, 5.0))
    assert not Timing(2.0, 1.0, 3.0).overlaps(Timing(4.0, 3.1, 5.0))


def test_ties_are_close_even_where_noise_is_wide() -> None:
    wide = Timing.of([1.0, 0.1, 0.2, 3.0, 9.0])
    assert wide.ties(Timing(1.2, 1.0, 2.0)) and Timing(1.2, 1.0, 2.0).ties(wide)
    assert not wide.ties(Timing(1.3, 1.0, 2.0)) and not Timing(1.3, 1.0, 2.0).ties(wide)
    few = Timing.of([1.0, 0.1, 9.0])
    assert few.ties(Timing(1.09, 1.0, 2.0)) and not few.ties(Timing(1.2, 1.0, 2.0))
    assert not Timing(1.0, 1.0, 1.0).ties(Timing(1.01, 1.01, 1.01))


def test_who_does_less_work_is_never_the_best_peer() -> None:
    row = Row("g", "n", timing(1.0), peers={"less": timing(0.5), "same": timing(2.0)}, lesser=frozenset({"less"}))
    assert (row.best_peer, row.speedup) == ("same", 2.0)
    alone = replace(row, peers={"less": timing(0.5)})
    assert alone.best_peer is None and not alone.tie and small_report([alone])["summary"][""]["rows"] == 0


def test_what_a_lesser_network_lacks() -> None:
    full, plain = steps.NETWORKS[:2]
    assert full.beyond(full.without_extras()) == ["batch norm", "dropout"]
    assert full.beyond(full.without_dropout()) == ["dropout"]
    assert replace(full, dropout=0.0).beyond(full.without_extras()) == ["batch norm"]
    assert plain.beyond(plain.without_extras()) == []


def test_settings_are_applied_and_taken_back() -> None:
    before = fastnn.get_isa(), fastnn.get_num_threads()
    with Settings(1, "baseline").applied():
        assert (fastnn.get_isa(), fastnn.get_num_threads()) == ("baseline", 1)
    assert (fastnn.get_isa(), fastnn.get_num_threads()) == before


def test_verdicts() -> None:
    row = Row("g", "n", timing(3.0), floor=1.0, roof=2.0, bound=Bound("roof", 1.5))
    assert row.verdict == "met"
    assert replace(row, time=timing(3.1)).verdict == "missed"
    assert replace(row, bound=Bound("floor", 2.5)).verdict == "missed"
    assert Row("g", "n", timing(3.0), bound=Bound("value", 3.0)).verdict == "met"
    assert Row("g", "n", timing(3.0)).verdict == ""
    assert Row("g", "n", timing(2.0), bytes=4_000_000_000).gbps == 2.0


def test_the_best_peer_and_ties() -> None:
    row = Row("g", "n", timing(1.0, 0.1), peers={"a": timing(3.0, 0.5), "b": timing(2.0, 0.1)})
    assert (row.best_peer, row.speedup, row.tie) == ("b", 2.0, False)
    assert replace(row, time=timing(2.1, 0.1)).tie
    assert not replace(row, time=timing(2.3, 0.1)).tie
    assert row.remarks() == ["wide spread: a 50%"]
    assert row.as_json()["peers"]["a"] == {"value": 3.0, "low": 2.25, "high": 3.75, "ratio": 3.0}
    assert not row.noisy and replace(row, floor_spread=0.3).noisy and replace(row, time=timing(1.0, 0.3)).noisy


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
    found = ceilings.as_json()
    assert {entry["threads"] for entry in found["bandwidth"]} == {1, 2}
    assert all(entry[kind] > 0 for entry in found["bandwidth"] for kind in KINDS)
    assert all(0 <= cost < 1e3 for cost in found["cost_ns"][LEVEL].values())
    assert found["cost_ns"][LEVEL]["div"] > 0 and found["call"] > 0 and set(found["region"]) == {"hot", "cold"}
    for nbytes in (64, 1000, 1 << 16):
        assert ceilings.copy(nbytes)() > 0 and ceilings.read(nbytes)() > 0


@pytest.mark.parametrize("operation", COSTS)
def test_costs_do_not_depend_on_the_kernels(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("relu", "dropout", "softmax_cross_entropy"):
        monkeypatch.delattr(F, name)
    assert Ceilings(QUICK).cost(operation) > 0


def test_unknown_arithmetic_is_refused() -> None:
    with pytest.raises(ValueError, match="random_bits"):
        fastnn._core._bench_arithmetic("cosine", LEVEL, 1)


def test_triad() -> None:
    a, b, c = np.random.default_rng(0).standard_normal((3, 1 << 12)).astype(np.float32)
    for streaming in (False, True):
        a[:] = 0
        assert fastnn._core._bench_triad(a, b, c, streaming, 1, 2) > 0
        assert np.allclose(a, b + np.float32(0.5) * c)
    with pytest.raises(ValueError, match="equal sizes"):
        fastnn._core._bench_triad(a, b[1:], c, False, 1, 1)


# ---------------------------------------------------------------------------------------------------- rows, curves


def test_every_case_with_benchmark_shapes_has_its_rows() -> None:
    everything = rows.all_rows(everything=True)
    assert len({row.id for row in everything}) == len(everything)
    found = {(row.case.name, row.shape, row.direction) for row in everything if isinstance(row, CaseRow)}
    directions = {1: ("forward",), 2: ("forward", "backward")}
    assert found == {
        (case.name, shape, direction)
        for case in CASES
        for shape in case.bench
        for direction in directions[len(case.ops)]
    }
    assert {row.group for row in everything} >= {case.family for case in CASES} | {"step", "overhead"}


def test_fewer_rows_on_request() -> None:
    everything = rows.all_rows(everything=True)
    assert {row.group for row in rows.all_rows(only="dropout")} == {"dropout"}
    assert 0 < len(rows.all_rows(quick=True)) < len(rows.all_rows()) < len(everything)
    assert [row.id for row in rows.all_rows(only="relu/input forward 1024")][:1] == ["relu/input forward 1024"]


def test_one_case_stands_for_each_kind_of_arithmetic() -> None:
    assert {case.family for case in rows.heads().values()} == {case.family for case in CASES}
    assert {"relu", "sigmoid", "batch_norm", "sgd_step", "adam_step"} <= rows.heads().keys()
    assert "leaky_relu" not in rows.heads()
    for case in rows.heads().values():
        for n in (1 << 10, 1 << 16, 1 << 26):
            assert elements(scaling.shape_of(case, n)) == n
            assert len(scaling.shape_of(case, n)) == len(case.bench[0]) or case.family == "optimizer"


def test_other_ops_have_a_small_row_and_one_of_a_million() -> None:
    measured = {row.id for row in rows.all_rows()}
    assert {f"relu/input forward {1 << k}" for k in (10, 16, 20, 24)} <= measured
    assert {f"leaky_relu/input forward {1 << k}" for k in (10, 20)} <= measured
    assert f"leaky_relu/input forward {1 << 24}" not in measured


def test_curves_run_over_size_threads_and_tensors() -> None:
    full = bench()
    full = replace(full, settings=replace(full.settings, quick=False))
    points = list(scaling.curves(full))
    over = {what: {point.at for point in points if point.curve.over == what} for what in ("threads", "tensors")}
    assert over == {"threads": {1, 2}, "tensors": set(scaling.TENSORS)}
    assert {case.family for case in CASES} == {point.curve.family for point in points}
    assert all(elements(point.row.shape) <= 1 << 16 for point in scaling.curves(bench()))


@pytest.mark.parametrize("over", ["threads", "tensors"])
def test_points_are_measured(over: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "THREADED", 1 << 12)
    full = bench()
    full = replace(full, settings=replace(full.settings, quick=False))
    points = [point for point in scaling.curves(full, only="optimizer") if point.curve.over == over][:2]
    for point in points:
        point.measure(bench())
    (curve,) = {id(point.curve): point.curve for point in points}.values()
    assert [entry["at"] for entry in curve.points] == [point.at for point in points]
    assert all(entry["seconds"] > 0 and entry["roof"] > 0 and entry["peers"] for entry in curve.points)


# ------------------------------------------------------------------------------------------------------ the command


def interrupt(step: str, *arguments: str, before: str = "pass") -> str:
    """Output of `fastnn bench` in a process of its own that gets a Ctrl-C at this step; `before` is run first."""
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # `pytest &` ignores it
    code += f"from fastnn.bench import run; {before}; sys.exit(run.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *arguments]
    elsewhere = tempfile.gettempdir()  # in a checkout, the current directory would hide the installed package
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=elsewhere) as process:
        assert process.stderr is not None
        while not (line := process.stderr.readline()).startswith(f"{step}/"):
            assert line, process.wait(60)
        process.send_signal(signal.SIGINT)
        shown, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    return shown


def test_quick_run_prints_the_table_and_writes_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--quick", "--only", "dropout", "--threads", "2", "--peers", "numpy", "--out", str(tmp_path / "new")]
    assert run.main(arguments) == 0
    shown = capsys.readouterr()
    text = (tmp_path / "new" / "bench.txt").read_text(encoding="utf-8")
    assert shown.out == text + "\n"
    for word in ("floor", "roof", "NumPy in place", "after matmul", "parallel region", "dropout/p=0.5 backward"):
        assert word in text
    assert "not asked" in text or len({peer.name for peer in peers.PEERS}) == 1
    assert "1/" in shown.err and "left]" in shown.err
    assert "<html" in (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    content = report.load(tmp_path / "new" / "bench.json")
    assert content["complete"] and content["errors"] == [] and content["settings"]["quick"]
    assert {row["group"] for row in content["rows"]} == {"dropout"}
    for row in content["rows"]:
        assert row["low"] <= row["value"] <= row["high"] and row["floor"] > 0 and row["over_roof"] > 0
        assert set(row["peers"]) == {"NumPy", "NumPy in place"} and row["best_peer"] in row["peers"]
        assert row["after_matmul"] > 0
    assert {curve["family"] for curve in content["curves"]} == {"dropout"}
    summary = content["summary"][LEVEL]
    assert summary["rows"] == sum(row["isa"] == LEVEL for row in content["rows"])
    assert summary["rows"] == summary["faster_than_every_peer"] + summary["ties"] + summary["slower"]
    assert set(summary["geomean"]) == {"NumPy", "NumPy in place"}
    assert {"bandwidth", "cost_ns", "region", "call"} == set(content["ceilings"])


def test_where_nothing_can_be_written_nothing_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as error:
        run.main(["--quick", "--peers", "numpy", "--out", str(tmp_path / "file")])
    assert error.value.code == 2
    shown = capsys.readouterr()
    assert "--out" in shown.err and "\n1/" not in shown.err


def test_interrupt_at_the_start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "Lineup", interrupted)
    assert run.main(["--quick", "--peers", "numpy"]) == 130
    assert capsys.readouterr().err == "interrupted before anything was measured\n"


@pytest.mark.parametrize("stubborn", [False, True])
def test_two_interrupts_end_the_other_process(stubborn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        done: ClassVar[list[str]] = []

        def send_signal(self, number: int) -> None:
            self.done.append("interrupt")

        def wait(self, timeout: float | None = None) -> None:
            if self.done == ["interrupt"]:
                raise KeyboardInterrupt
            if stubborn and self.done[-1] == "terminate":
                raise subprocess.TimeoutExpired("other", 1.0)

        def terminate(self) -> None:
            self.done.append("terminate")

        def kill(self) -> None:
            self.done.append("kill")

    process: Any = Process()
    process.done.clear()
    run._interrupt(process)
    assert process.done == ["interrupt", "terminate", "kill"][: 3 if stubborn else 2]


def test_a_level_below_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--quick", "--only", "relu/input forward 1024", "--isa", "baseline", "--peers", "numpy"]) == 0
    assert "baseline, " in capsys.readouterr().out


def test_wrong_answers_end_with_an_error(only_these: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only_these(Plain, Wrong, Absent)
    arguments = ["--quick", "--only", "relu/input forward 1024", "--out", str(tmp_path)]
    assert run.main(arguments) == 1
    shown = capsys.readouterr()
    line = "relu/input forward 1024: wrong: y differs from the reference"
    assert f"error: {line}" in shown.err and line in shown.out
    assert "no-such-package is not installed" in shown.out
    content = report.load(tmp_path / "bench.json")
    assert any(line == error for error in content["errors"])
    assert set(content["rows"][0]["peers"]) == {"plain"}


@pytest.mark.parametrize(("limit", "status"), [(0.0, 1), (1e12, 0)])
def test_check_fails_on_a_miss(
    limit: float, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(CaseRow, "_bound", lambda *_: Bound("floor", limit))
    arguments = ["--quick", "--only", "dropout/p=0.5 backward 1024", "--peers", "numpy"]
    assert run.main([*arguments, "--check"]) == status
    assert run.main(arguments) == 0
    assert ("missed: dropout/p=0.5 backward 1024" in capsys.readouterr().err) == bool(status)


def test_interrupt_leaves_a_valid_partial_report(tmp_path: Path) -> None:
    shown = interrupt("6", "--quick", "--peers", "numpy", "--out", str(tmp_path))
    content = report.load(tmp_path / "bench.json")
    assert not content["complete"] and len(content["rows"]) >= 4 and content["summary"]
    assert "INCOMPLETE" in shown and content["rows"][0]["name"] in shown
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_level_that_needs_a_cap_runs_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "needs_cap", lambda isa: isa == LEVEL)
    monkeypatch.setattr(run, "choose_levels", lambda isa: (LEVEL, "baseline"))
    assert run.main(["--quick", "--only", "relu/input forward 1024", "--peers", "numpy", "--out", str(tmp_path)]) == 0
    content = report.load(tmp_path / "bench.json")
    names = {(row["name"], row["isa"]) for row in content["rows"]}
    assert names >= {("relu/input forward 1024", "baseline"), ("relu/input forward 1024", LEVEL)}
    assert set(content["summary"]) == set(content["ceilings"]["cost_ns"]) == {LEVEL, "baseline"}
    assert all(set(peer["capped"]) == {LEVEL, "baseline"} for peer in content["peers"])
    assert f"{LEVEL}, 2" in capfd.readouterr().out or LEVEL == "baseline"


def test_the_environment_of_that_process(only_these: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    only_these(Plain, Absent)
    assert run._capped_environment() == {**os.environ, "PLAIN": "no more"}


@pytest.mark.skipif(LEVEL == "baseline", reason="has one level only")
def test_interrupt_ends_that_process_too_and_keeps_what_it_has(tmp_path: Path) -> None:
    before = "run.needs_cap = lambda isa: True"
    # Of the two processes, only the other one has so many steps.
    interrupt("6", "--quick", "--only", "norm", "--peers", "numpy", "--out", str(tmp_path), before=before)
    content = report.load(tmp_path / "bench.json")
    assert not content["complete"] and len(content["rows"]) >= 4


def test_nothing_heavy_is_imported_for_the_command() -> None:
    heavy = {"matplotlib", "tqdm", "torch", "jax", "numba", "thinc", "sklearn", "Cython"}
    code = f"import sys, fastnn.bench.run; print(sorted({heavy} & set(sys.modules)))"
    command = [sys.executable, "-c", code]
    elsewhere = tempfile.gettempdir()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=elsewhere)
    assert done.stdout.strip() == "[]"


def test_progress_in_lines() -> None:
    stream = io.StringIO()
    progress = Progress(2, stream)
    progress.step("first")
    progress.step("second")
    progress.close()
    first, second = stream.getvalue().splitlines()
    assert first == "1/2 [0:00] first" and second == "2/2 [0:00, 0:00 left] second"


@pytest.mark.skipif(not importlib.util.find_spec("tqdm"), reason="tqdm is not installed")
def test_progress_as_a_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = Progress(2, stream)
    progress.step("first")
    progress.step("second")
    progress.close()
    assert "1/2" in stream.getvalue() and "second" in stream.getvalue()


# -------------------------------------------------------------------------------------------------------- reports


def small_report(rows_: list[Row], complete: bool = True) -> report.Report:
    found = run.Results(bench(), [LEVEL], "fastnn bench")
    found.rows = rows_
    return found.as_report(complete)


def some_rows(slowdown: float = 1.0, spread: float = 0.02) -> list[Row]:
    usual = {"isa": LEVEL, "floor": 1e-6, "roof": 1e-6, "bytes": 1000}
    return [
        Row("norm", "first", timing(2e-6 * slowdown, spread), **usual, peers={"NumPy": timing(4e-6)}),
        Row("norm", "second", timing(3e-6, spread), **usual, peers={"NumPy": timing(1e-6)}, bound=Bound("roof", 1.5)),
        Row("norm", "third", timing(3e-6, spread), **usual, peers={"NumPy": timing(3e-6)}),
        Row("threads", "fourth", timing(1.2, 0.4), kind="threads", unit="x", bound=Bound("value", 1.3)),
        Row("footprint", "fifth", timing(1.5e6), kind="footprint", unit="B", bound=Bound("value", 2e6)),
    ]


def test_table_shows_every_row() -> None:
    text = table.text(small_report(some_rows()))
    for word in (
        "first",
        "missed",
        "NumPy 2.00",
        "NumPy 1.00 tie",
        "1.20",
        "met (noisy)",
        "1.43 MB",
        "beyond the case",
    ):
        assert word in text, word
    assert "second" in text.partition("bounds missed:")[2]


def test_summary_counts() -> None:
    summary = small_report(some_rows())["summary"]
    assert set(summary) == {LEVEL}
    counts = summary[LEVEL]
    assert (counts["rows"], counts["faster_than_every_peer"], counts["ties"], counts["slower"]) == (3, 1, 1, 1)
    assert counts["geomean_best_peer"] == pytest.approx((2 / 3) ** (1 / 3))
    assert (counts["bounds_met"], counts["bounds"]) == (2, 3)


def test_a_report_is_json_and_survives_saving(tmp_path: Path) -> None:
    content = small_report(some_rows())
    content["rows"][0]["over_roof"] = float("nan")
    report.save(content, tmp_path / "bench.json")
    again = report.load(tmp_path / "bench.json")
    assert again["rows"][0]["over_roof"] is None and again["rows"][1] == json.loads(json.dumps(content["rows"][1]))
    assert list(tmp_path.iterdir()) == [tmp_path / "bench.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"format": 99}', "{", '{"format": 1}'])
def test_what_is_no_report_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(SystemExit):
        run.main(["--quick", "--compare", str(path)])
    assert "old.json" in capsys.readouterr().err


def test_comparison_tells_regressions_from_noise() -> None:
    old = small_report(some_rows())
    assert compare.compare(old, small_report(some_rows())).same == 5
    (slower,) = compare.compare(old, small_report(some_rows(1.1))).slower
    assert slower.new["name"] == "first" and slower.ratio == pytest.approx(1.1)
    (faster,) = compare.compare(old, small_report(some_rows(0.9))).faster
    assert faster.ratio == pytest.approx(0.9)
    noisy = compare.compare(small_report(some_rows(spread=0.3)), small_report(some_rows(1.1, spread=0.3)))
    assert not noisy.slower and not noisy.faster and noisy.same == 5


def test_comparison_says_what_else_differs() -> None:
    old, new = small_report(some_rows()), small_report(some_rows()[1:], complete=False)
    old = copy.deepcopy(old)
    old["machine"]["cpu"] = "another"
    old["settings"]["threads"] = 64
    found = compare.compare(old, new)
    assert found.missing == (f"first ({LEVEL})",)
    text = table.comparison_text(found)
    for word in ("cpu: another then", "threads: 64 then, 2 now", "the new run is incomplete", "1 rows of the old run"):
        assert word in text


def test_compare_and_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--quick", "--only", "relu/input forward 1024", "--peers", "numpy"]
    assert run.main([*arguments, "--out", str(tmp_path)]) == 0
    content = report.load(tmp_path / "bench.json")
    for name, factor in (("faster", 1e-6), ("slower", 1e6)):
        doctored = copy.deepcopy(content)
        for row in doctored["rows"]:
            row.update({key: row[key] * factor for key in ("value", "low", "high")})
        report.save(doctored, tmp_path / f"{name}.json")
    capsys.readouterr()
    assert run.main([*arguments, "--compare", str(tmp_path / "faster.json"), "--check"]) == 1
    shown = capsys.readouterr()
    assert "slower than before" in shown.out and "slower: relu/input forward 1024" in shown.err
    assert run.main([*arguments, "--compare", str(tmp_path / "slower.json"), "--check"]) == 0
    assert "faster than before" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------------- pytest


def face(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", str(ROOT / "bench"), "-q", "-p", "no:cacheprovider"]
    command += ["--quick", "--peers", "numpy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)


def test_pytest_measures_the_same_rows(tmp_path: Path) -> None:
    done = face(tmp_path, "--only", "dropout", "--out", str(tmp_path / "out"), "-p", "no:benchmark")
    assert done.returncode == 0, done.stdout + done.stderr
    content = report.load(tmp_path / "out" / "bench.json")
    assert {row["name"] for row in content["rows"]} == {row.id for row in rows.all_rows(only="dropout", quick=True)}
    assert content["complete"] and "dropout/p=0.5 backward 1024" in done.stdout


def test_pytest_reports_are_incomplete_where_rows_were_left_out(tmp_path: Path) -> None:
    done = face(tmp_path, "--only", "relu/input", "-k", "forward", "--out", str(tmp_path / "out"), "-p", "no:benchmark")
    assert done.returncode == 0, done.stdout + done.stderr
    content = report.load(tmp_path / "out" / "bench.json")
    assert content["rows"] and not content["complete"]


def test_pytest_checks_answers_without_timing(tmp_path: Path) -> None:
    done = face(tmp_path, "--only", "activation", "--untimed")
    assert done.returncode == 0 and "working set" not in done.stdout, done.stdout


def test_pytest_fails_on_regressions(tmp_path: Path) -> None:
    only = ("--only", "relu/input forward 1024")
    assert face(tmp_path, *only, "--out", str(tmp_path)).returncode == 0
    content = report.load(tmp_path / "bench.json")
    for row in content["rows"]:
        row.update(value=1e-12, low=1e-12, high=1e-12)
    report.save(content, tmp_path / "old.json")
    compared = (*only, "--compare", str(tmp_path / "old.json"))
    assert face(tmp_path, *compared).returncode == 0
    done = face(tmp_path, *compared, "--check")
    assert done.returncode == 1 and "slower than before" in done.stdout


@pytest.mark.skipif(not importlib.util.find_spec("pytest_benchmark"), reason="pytest-benchmark is not installed")
def test_pytest_benchmark_shows_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "plugin.json"
    done = face(tmp_path, "--only", "relu/input forward 1024", "--out", str(tmp_path), f"--benchmark-json={path}")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = {entry["param"]: entry for entry in json.loads(path.read_text())["benchmarks"]}
    for row in report.load(tmp_path / "bench.json")["rows"]:
        assert shown[row["name"]]["stats"]["median"] == pytest.approx(row["value"], rel=1e-6)
        assert shown[row["name"]]["extra_info"]["best_peer"] == row["best_peer"]
