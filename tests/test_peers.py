"""What the benchmark measures beside fastnn: every answer is right, what is absent says why."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastnn.bench import checks, steps
from fastnn.bench.case_rows import elements
from fastnn.bench.peers import PEERS, Cython, Numba, NumpyIdiomatic, Peer, base, cython_peer, select
from fastnn.cases import CASES, BatchNormCase, BiasActCase, Case, OptimizerCase, by_name

LIBRARIES = ("numba", "torch", "jax", "thinc", "sklearn", "Cython")
HAND_WRITTEN = tuple(peer for peer in PEERS if peer.name in ("numpy", "numba", "cython"))

# No multiple of a vector, and large enough for loops that leave small arrays to one thread.
ODD: dict[str, Any] = {"2d": (333, 67), "rows": (333, 67), "nchw": (5, 19, 17, 15), "nhwc": (5, 17, 15, 19)}
ODD |= {
    "activation": (20011,),
    "dropout": (20011,),
    "noise": (20011,),
    "loss": (771, 33),
    "softmax": (37, 19, 17),
    "optimizer": ((20011,), (333, 67), (3,)),
}
ODD |= {"flat": (20011,), "units": (333, 60), "planes": (5, 30, 17, 15)}

# Of the hand-written peers. An operation that is not here may have no counterpart in them.
EVERYWHERE = {"relu", "leaky_relu", "bias_act", "batch_norm", "dropout"}
EVERYWHERE |= {f"{name}_backward" for name in EVERYWHERE}
EVERYWHERE |= {"channel_sum", "softmax_cross_entropy", "sgd_step", "adam_step"}

FUSED = ("plain", "relu+dropout", "residual+leaky_relu", "relu,inference")


def _sampled(case: Case) -> bool:
    """One of each operation, and of the fused tails those that differ in kind: compiling takes its time."""
    return bool(case.bench) and (case.name.count("/") < 2 or case.name.rpartition("/")[2] in FUSED)


# numba takes seconds to compile each kind of batch norm.
SAMPLES = [
    pytest.param(
        peer,
        case,
        id=f"{peer.label}-{case.name}",
        marks=[pytest.mark.slow] if peer is Numba and case.family == "norm" else [],
    )
    for peer in HAND_WRITTEN
    for case in CASES
    if _sampled(case)
]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The Cython loops are compiled by these tests, and leave nothing behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@cache
def _made(peer: type[Peer]) -> Peer:
    reason = peer.missing()
    if reason:
        pytest.skip(reason)
    return peer(2)


def _taken(peer: Peer, case: Case) -> bool:
    """Whether the peer's operation has all arguments of the case: steps have more than everybody needs."""
    return not isinstance(case, OptimizerCase) or base.takes(getattr(peer, case.ops[0]), case)


def _odd(case: Case) -> Any:
    layout = getattr(case, "layout", None)
    return ODD[layout.label if layout else case.family]


@pytest.mark.parametrize(("peer", "case"), SAMPLES)
def test_loops_agree_with_the_reference(peer: type[Peer], case: Case) -> None:
    made = _made(peer)
    for shape in (min(case.bench, key=elements), _odd(case)):
        for direction in ("forward", "backward")[: len(case.ops)]:
            found = checks.check_peer(made, case, shape, direction)
            assert found or not EVERYWHERE.issuperset(base.needed(case)) or not _taken(made, case), case.name


@pytest.mark.parametrize("peer", HAND_WRITTEN, ids=lambda peer: peer.label)
def test_no_operation_gets_lost(peer: type[Peer]) -> None:
    assert [name for name in sorted(EVERYWHERE) if not hasattr(peer, name)] == []


@pytest.mark.parametrize("peer", [peer for peer in PEERS if hasattr(peer, "draw_mask")], ids=lambda peer: peer.label)
def test_masks_keep_their_share(peer: type[Peer]) -> None:
    p, shape = 0.3, (333, 67)
    masks = [_made(peer).draw_mask(None, shape, p, np.float32).copy() for _ in range(2)]  # type: ignore[attr-defined]
    assert np.any(masks[0] != masks[1])
    for mask in masks:
        assert mask.dtype == np.bool_ and mask.shape == shape
        assert abs(mask.mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / mask.size)


@pytest.mark.parametrize(
    "network", [network for network in steps.NETWORKS if not network.convolutions], ids=lambda network: network.name
)
@pytest.mark.parametrize("peer", HAND_WRITTEN, ids=lambda peer: peer.label)
def test_training_steps_agree_with_the_reference(peer: type[Peer], network: steps.Network) -> None:
    batch = network.batches[0]
    job = _made(peer).train_step(network, batch)
    assert job is not None
    steps.check(peer.label, job, network, batch)
    first = job.call()
    for _ in range(20):
        last = job.call()
    assert last < first  # it learns the batch


@pytest.mark.parametrize("peer", HAND_WRITTEN, ids=lambda peer: peer.label)
def test_a_job_runs_again_and_again(peer: type[Peer]) -> None:
    made = _made(peer)
    for case in (by_name("relu/input"), by_name("adam_step/adam"), by_name("batch_norm/2d/relu+dropout")):
        shape = min(case.bench, key=elements)
        inputs = case.inputs(shape, np.float32)
        job = made.job(case, inputs, "forward")
        assert job is not None
        outputs = job.outputs()
        before = [p.copy() for p in inputs.get("params", [])]
        job.call()
        job.call()
        if isinstance(case, OptimizerCase):
            assert all(np.all(p != old) for p, old in zip(inputs["params"], before, strict=True))
        assert set(outputs) >= set(case.forward(made, inputs)[0])


@pytest.mark.parametrize(
    "name", ["relu/input", "leaky_relu/input", "dropout/p=0.5", "channel_sum/rows", "bias_act/rows/relu"]
)
@pytest.mark.parametrize("peer", [peer for peer in HAND_WRITTEN if peer is not NumpyIdiomatic], ids=lambda p: p.label)
def test_the_timed_call_gives_the_outputs_again(peer: type[Peer], name: str) -> None:
    case = by_name(name)
    for direction in ("forward", "backward")[: len(case.ops)]:
        job = _made(peer).job(case, case.inputs(min(case.bench, key=elements), np.float32), direction)
        assert job is not None
        buffers = job.outputs()
        made = [key for key in buffers if (key in case.gradients) == (direction == "backward")]
        first = {key: buffers[key].copy() for key in made}
        for key in made:
            buffers[key].fill(np.nan)
        job.call()
        for key in made:
            if direction == "forward" and name.startswith("dropout"):  # another mask
                assert np.all(np.isfinite(buffers[key])) and np.any(buffers[key] != first[key])
            else:
                assert np.array_equal(buffers[key], first[key])


def _unknown() -> Iterator[tuple[Case, Any]]:
    """Cases of an activation and of an optimizer that only fastnn has, and their shapes."""
    yield replace(by_name("relu/input"), ops=("unknown", "unknown_backward")), (8,)
    for name in ("bias_act/rows/relu", "batch_norm/2d/relu", "batch_norm/nhwc/relu+dropout"):
        case = by_name(name)
        assert isinstance(case, (BiasActCase, BatchNormCase))
        shape = (2, 3, 3, 4) if "nhwc" in name else (8, 4)
        yield replace(case, epilogue=replace(case.epilogue, activation="unknown")), shape
    yield replace(by_name("adam_step/adam"), ops=("unknown_step",)), ((8,),)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.label)
def test_what_only_fastnn_has_is_no_job(peer: type[Peer]) -> None:
    made = _made(peer)
    for case, shape in _unknown():
        for direction in ("forward", "backward")[: len(case.ops)]:
            assert made.job(case, case.inputs(shape, np.float32), direction) is None, case.name
    network: Any = replace(steps.NETWORKS[0], activation="unknown")
    assert made.train_step(network, network.batches[0]) is None


# ------------------------------------------------------------------------------------------------- absence


def test_listing_peers_imports_no_library(run_python: Callable[..., Any]) -> None:
    done = run_python(
        "import sys\n"
        "from fastnn.bench.peers import PEERS\n"
        "assert len({peer.label for peer in PEERS}) == len(PEERS)\n"
        "for peer in PEERS:\n"
        "    if peer.name != 'cython': peer.missing()\n"
        f"print([name for name in {LIBRARIES} if name in sys.modules])\n"
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.label)
def test_what_is_not_installed_says_so(peer: type[Peer], monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == peer.library else find_spec(name))
    assert peer.missing() == f"{peer.distribution} is not installed"


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.label)
def test_what_runs_has_a_version_and_a_cap(peer: type[Peer]) -> None:
    if peer.missing():
        pytest.skip(peer.missing())
    assert peer.version().split()[1][0].isdigit()
    assert peer.cap is None or all(isinstance(value, str) for value in peer.cap.values())


def test_select() -> None:
    assert select() == PEERS
    assert [peer.name for peer in select(["cython", "numpy"])] == ["numpy", "numpy", "cython"]
    assert select([]) == ()
    with pytest.raises(ValueError, match="got 'nympy'"):
        select(["nympy"])


# ------------------------------------------------------------------------------------------- AVX2 at most


def test_numba_is_held_to_avx2(run_python: Callable[..., Any]) -> None:
    if Numba.missing():
        pytest.skip(Numba.missing())
    code = (
        "import numpy as np\n"
        "from fastnn.bench.peers import Numba\n"
        "peer = Numba(1)\n"
        "peer.relu(np.ones(64, np.float32))\n"
        "(code,) = peer.loops(64).activate.inspect_asm().values()\n"
        "print('zmm' in code, 'ymm' in code)\n"
    )
    assert run_python(code, env=dict(Numba.cap)).stdout.split() == ["False", "True"]


def test_numpy_knows_the_names_that_hold_it(run_python: Callable[..., Any]) -> None:
    code = "import warnings; warnings.simplefilter('error'); import numpy; print('imported')"
    assert run_python(code, env=dict(NumpyIdiomatic.cap)).stdout.strip() == "imported"


# ----------------------------------------------------------------------------------------- building Cython


@pytest.fixture
def clean_builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache directory, and a source that is translated in no time."""
    if importlib.util.find_spec("Cython") is None:
        pytest.skip("Cython is not installed")
    source = tmp_path / "cython_loops.pyx"
    source.write_text("answer = 42\n")
    monkeypatch.setattr(cython_peer, "SOURCE", source)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cython_peer.build.cache_clear()
    cython_peer._compiler_version.cache_clear()
    yield tmp_path / "fastnn"
    cython_peer.build.cache_clear()
    cython_peer._compiler_version.cache_clear()


def _fake_compiler(directory: Path, script: str) -> str:
    path = directory / "fake-cc"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return str(path)


COMPILES = 'while [ "$1" != "-o" ]; do shift; done; echo compiled > "$2"\n'


def test_a_build_is_kept_until_something_changes(
    clean_builds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "CC", _fake_compiler(tmp_path, f'[ "$1" = --version ] && exit 0\necho x >> {tmp_path}/runs\n{COMPILES}')
    )
    first = cython_peer.build(clean_builds)
    assert first.read_text() == "compiled\n"
    cython_peer.build.cache_clear()
    assert cython_peer.build(clean_builds) == first
    assert (tmp_path / "runs").read_text() == "x\nx\n"  # compiled and linked once
    cython_peer.build.cache_clear()
    monkeypatch.setenv("FASTNN_BENCH_MARCH", "x86-64-v3")
    assert cython_peer.build(clean_builds) != first
    assert sorted(path.parent for path in clean_builds.rglob("*.so")) == sorted(clean_builds.iterdir())  # no scratch


def test_a_build_that_loses_the_race_takes_the_winners(
    clean_builds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_loops = cython_peer._compile

    def lose(compiler: str, flags: tuple[str, ...], scratch: Path, result: Path) -> None:
        compile_loops(compiler, flags, scratch, result)
        winner = clean_builds / f"cython_loops-{cython_peer._key(compiler, flags)}"
        winner.mkdir()
        (winner / result.name).write_text("winner")

    monkeypatch.setenv("CC", _fake_compiler(tmp_path, f'[ "$1" = --version ] && exit 0\n{COMPILES}'))
    monkeypatch.setattr(cython_peer, "_compile", lose)
    assert cython_peer.build(clean_builds).read_text() == "winner"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'loops.c:1: error: too many loops' >&2\nexit 1\n", "do not compile: loops.c:1: error: too many loops"),
        ("exit 3\n", "do not compile: exit status 3"),
    ],
)
def test_a_failing_compiler_makes_it_absent(
    clean_builds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    monkeypatch.setenv("CC", _fake_compiler(tmp_path, script))
    assert reason in Cython.missing()
    assert not clean_builds.exists() or not list(clean_builds.iterdir())


def test_without_a_compiler_it_is_absent(clean_builds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    assert Cython.missing() == "no C compiler (no-such-compiler)"


def test_the_loops_leave_the_floating_point_mode_alone(run_python: Callable[..., Any]) -> None:
    if Cython.missing():
        pytest.skip(Cython.missing())
    code = (
        "import numpy as np\n"
        "from fastnn.bench.peers import Cython\n"
        "Cython(1)\n"
        "print(np.float32(1e-39) * np.float32(1) != 0)\n"
    )
    assert run_python(code).stdout.strip() == "True"
