"""Training over MPI: the same scripts on one process and on several."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
import fastnn.functional as F
from fastnn import Generator, reference
from fastnn.distributed import DataParallel, World
from fastnn.distributed.norm import merge

HERE = Path(__file__).parent
WORKER = HERE / "mpi" / "worker.py"
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
MPIEXEC = MPIEXEC and os.path.realpath(MPIEXEC)  # what it starts is beside the program, not beside a link to it
needs_mpi = pytest.mark.skipif(
    not (MPIEXEC and find_spec("mpi4py")), reason="needs mpi4py and mpiexec: pip install 'fastnn-kernels[mpi]'"
)


def run(ranks, script, *arguments, options=(), timeout=100):
    command = [sys.executable, str(script), *map(str, arguments)]
    if ranks > 1:
        command = [MPIEXEC, *options, "-n", str(ranks), *command]
    environment = os.environ | {"FASTNN_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if MPIEXEC:  # the library of the wheel is beside its mpiexec, wherever this interpreter is
        environment["LD_LIBRARY_PATH"] = f"{Path(MPIEXEC).parents[1] / 'lib'}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, env=environment, stdin=subprocess.DEVNULL
    )


def results(ranks, name, directory):
    done = run(ranks, WORKER, name, directory)
    assert done.returncode == 0, done.stderr[-3000:]
    found = []
    for rank in range(ranks):
        with np.load(directory / f"{name}-{ranks}-{rank}.npz") as file:
            found.append(dict(file))
    return found


def compared(ranks, name, directory):
    """Pairs of an array of one process, and of several: put together, or what each of them has of the whole."""
    (alone,) = results(1, name, directory)
    shares = results(ranks, name, directory)
    assert all(share.keys() == alone.keys() for share in shares) and alone
    for key, expected in alone.items():
        if "whole" in key:
            for share in shares:
                yield key, expected, share[key]
        else:
            yield key, expected, np.concatenate([share[key] for share in shares])


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_batch_norm_has_the_bits_of_one_process(ranks, tmp_path):
    for key, expected, got in compared(ranks, "norms", tmp_path):
        np.testing.assert_array_equal(got, expected, err_msg=key)


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 3])
def test_masks_are_those_of_the_whole_batch(ranks, tmp_path):
    for key, expected, got in compared(ranks, "masks", tmp_path):
        np.testing.assert_array_equal(got, expected, err_msg=key)


@needs_mpi
def test_uneven_shares_count_by_their_samples(tmp_path):
    for key, expected, got in compared(2, "uneven", tmp_path):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9, err_msg=key)


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_training_is_that_of_one_process(ranks, tmp_path):
    """But for the order of sums in BLAS and MPI."""
    for key, expected, got in compared(ranks, "training", tmp_path):
        if key.endswith("loss"):
            assert np.isfinite(got)  # of the last batch: its mean is compared below
        tolerance = 1e-9 if "float64" in key else 2e-3
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance, err_msg=key)


@needs_mpi
def test_parameters_that_are_not_trained_or_not_reached(tmp_path):
    for key, expected, got in compared(2, "partly_trained", tmp_path):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6, err_msg=key)


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_losses_that_are_no_means_over_samples(ranks, tmp_path):
    for key, expected, got in compared(ranks, "weighted", tmp_path):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15, err_msg=key)


@needs_mpi
def test_norms_belong_to_the_processes_of_their_network(tmp_path):
    results(4, "groups", tmp_path)


@needs_mpi
def test_the_benchmark_runs():
    done = run(1, HERE.parent / "bench" / "distributed.py", "--ranks", 1, 2, "--steps", 2, "--mpiexec", MPIEXEC)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ranks", "1", "2"]


@pytest.mark.parametrize(
    "net, options, error",
    [
        (
            fnn.Linear(2, 2),
            {"parameters": fnn.Linear(2, 2).parameters()},
            "ValueError: parameters: expected parameters of net",
        ),
        (fnn.Linear(2, 2), {"parameters": ["weight"]}, "TypeError: parameters: expected parameters of net, got str"),
        (fnn.Linear(2, 2), {"among": 3}, "TypeError: among: expected a World, got int"),
        (fnn.Linear(2, 2), {"reduction": "none"}, "ValueError: reduction: expected 'mean' or 'sum'"),
        (DataParallel(fnn.Linear(2, 2)), {}, "ValueError: net: expected a network without a DataParallel in it"),
    ],
)
def test_networks_that_cannot_be_shared_out(net, options, error):
    with pytest.raises((TypeError, ValueError)) as found:
        DataParallel(net, **options)
    assert f"{found.typename}: {found.value}".startswith(error)


def test_a_communicator_is_one_of_mpi4py():
    with pytest.raises(TypeError, match="comm: expected a communicator of mpi4py, got int"):
        World(3)


@needs_mpi
def test_another_mpiexec_is_noticed(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="2 processes were started, but each is alone"):
        World()


@needs_mpi
def test_differences_between_processes_are_errors_in_all_of_them(tmp_path):
    results(2, "refusals", tmp_path)


@needs_mpi
def test_all_processes_have_the_same_gradients_and_send_little_more(tmp_path):
    shares = results(4, "digest", tmp_path)
    for share in shares:
        np.testing.assert_array_equal(share["whole"], shares[0]["whole"])
    gradients = 4 * (20 * 64 + 64 + 64 * 32 + 32 + 32 * 4 + 4)
    for share in shares:  # one leaf of each norm, twice, and what is compared in each step
        assert gradients < share["sent"] <= gradients + 2 * 8 * (2 * 96 + 2) + 16 + 4 * 24


@needs_mpi
@pytest.mark.parametrize(
    "name, options, message",
    [
        ("killed", (), r"signal 9|KILLED BY SIGNAL"),
        ("killed", ("-disable-auto-cleanup",), r"signal 9|waited 5 s|another process has failed"),  # a race
        ("asleep", (), "TimeoutError: rank 0 of 2: waited 5 s for the others"),
        ("raises", (), "OSError: no data here"),
        ("fails_first", (), "OSError: no data here"),
        ("caught", (), "gave up"),
    ],
)
def test_when_one_process_stops_the_others_do(name, options, message, tmp_path):
    done = run(2, WORKER, name, tmp_path, options=options, timeout=60)
    assert done.returncode != 0
    assert re.search(message, done.stdout + done.stderr), done.stdout + done.stderr


@needs_mpi
def test_the_example_runs_on_two_processes_and_continues(tmp_path):
    pytest.importorskip("matplotlib")
    picture, checkpoint = tmp_path / "picture.png", tmp_path / "run.npz"
    for _ in range(2):
        example = HERE.parent / "examples" / "distributed.py"
        done = run(2, example, "--quick", "--out", picture, "--checkpoint", checkpoint)
        assert done.returncode == 0, done.stderr
    assert "2 process(es)" in done.stdout and done.stdout.count("epoch") == 2
    assert picture.read_bytes().startswith(b"\x89PNG") and checkpoint.exists()


def test_without_mpi_one_process_trains_alone(tmp_path):
    code = "import sys; sys.modules['mpi4py'] = None; sys.argv.insert(1, 'training'); "
    code += f"exec(open({str(WORKER)!r}).read())"
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "training-1-0.npz").exists()


def test_several_processes_without_mpi_are_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(ImportError, match=r"fastnn-kernels\[mpi\]"):
        World()


def test_importing_fastnn_does_not_import_it(tmp_path):
    code = "import sys, fastnn; print(any('mpi4py' in m or 'distributed' in m for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_timeouts_are_positive(timeout):
    with pytest.raises(ValueError, match="timeout: expected seconds > 0"):
        World(timeout=timeout)


@pytest.mark.parametrize("leaves", [1, 2, 3, 5, 6, 7, 13])
def test_merged_parts_are_the_moments_of_all(leaves):
    x = np.random.default_rng(leaves).standard_normal((leaves, 9, 4)) + 1e3
    parts = np.stack((x.mean(1), ((x - x.mean(1, keepdims=True)) ** 2).sum(1)), axis=1)
    merged, count = merge(parts, np.full(leaves, 9.0), True)
    whole = x.reshape(-1, 4)
    np.testing.assert_allclose(merged[0], (whole.mean(0), whole.var(0) * len(whole)), rtol=1e-9)
    assert count.tolist() == [9 * leaves]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(128, 9), (8, 3, 30, 30)])
def test_across_makes_shards_one_batch(shape, dtype):
    """Two threads for two processes."""
    rng = np.random.default_rng(3)
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    options = {"training": True, "activation": "relu", "dropout": 0.3}
    y, saved = F.batch_norm(x, rng=Generator(1), **options)
    whole = (y, *F.batch_norm_backward(dy, saved))
    for ops in (F, reference):
        met, told = threading.Barrier(2, timeout=60), {}

        def shard(rank, ops=ops, met=met, told=told):
            def across(parts, counts, moments):
                told[rank, moments] = parts, counts
                met.wait()
                both = [told[0, moments], told[1, moments]]
                merged, n = merge(*map(np.concatenate, zip(*both, strict=True)), moments)
                return merged[0], float(n[0])

            mine = slice(rank * len(x) // 2, (rank + 1) * len(x) // 2)
            first = rank * x.size // 2
            y, saved = ops.batch_norm(x[mine], rng=Generator(1), across=across, first=first, **options)
            return (y, *ops.batch_norm_backward(dy[mine], saved))

        with ThreadPoolExecutor(2) as pool:
            left, right = pool.map(shard, (0, 1))
        found = [np.concatenate(pair) for pair in zip(left[:2], right[:2], strict=True)] + list(left[2:])
        for got, other in zip(left[2:], right[2:], strict=True):
            np.testing.assert_array_equal(got, other)
        for got, expected in zip(found, whole, strict=True):
            if ops is F:
                np.testing.assert_array_equal(got, expected)
            else:
                np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "answer, kind, message",
    [
        ((np.ones((2, 3)),), ValueError, "across: expected to return two values"),
        ((np.ones((2, 4)), 8.0), ValueError, "what across returns: expected shape"),
        ((np.ones((2, 3), np.float32), 8.0), TypeError, "what across returns: expected float64"),
    ],
)
def test_what_across_returns_is_checked(answer, kind, message):
    x, running = np.ones((4, 3), np.float32), np.zeros((2, 3))
    with pytest.raises(kind, match=message):
        F.batch_norm(x, *running, training=True, across=lambda *_: answer)
    assert not running.any()


def test_errors_of_across_are_raised():
    def fail(*_):
        raise ConnectionError("gone")

    x = np.ones((4096, 3), np.float32)  # so large that the kernels run without the GIL
    with pytest.raises(ConnectionError, match="gone"):
        F.batch_norm(x, training=True, across=fail)


class Recorder(World):
    """A world that records what it is told to do."""

    rank, size = 0, 2

    def __init__(self):
        self.events = []

    def gather(self, row):
        return np.array([row, row])

    def check_same(self, what, value):
        pass

    def broadcast(self, **parts):
        pass

    def progress(self):
        self.events.append("layer")

    def start_sum(self, array):
        self.events.append("start")
        return len(self.events)

    def wait(self, request):
        self.events.append("wait")


def test_sums_start_while_backward_goes_on():
    net = fnn.Sequential(*(fnn.Linear(8, 8, bias=False) for _ in range(4)))
    recorder = Recorder()
    model = DataParallel(net, among=recorder, bucket_bytes=2 * 8 * 8 * 4)
    y = model(np.ones((4, 8), np.float32))
    model.backward(np.ones_like(y))
    assert recorder.events == ["layer", "start", "layer", "layer", "start", "layer", "wait", "wait"]
    large = DataParallel(net, among=Recorder(), bucket_bytes=1)  # each gradient by itself
    y = large(np.ones((4, 8), np.float32))
    large.backward(np.ones_like(y))
    assert large.among.events == ["start", "layer"] * 4 + ["wait"] * 4


def test_a_second_gradient_in_one_pass_is_refused():
    net = Twice(fnn.Linear(3, 3))
    model = DataParallel(net, among=Recorder())
    y = model(np.ones((4, 3), np.float32))
    with pytest.raises(RuntimeError, match="expected one gradient in a backward pass"):
        model.backward(y)
    assert net.layer.weight._take is None


class Twice(fnn.Module):
    def __init__(self, layer):
        self.layer = layer

    def _forward(self, x, training):
        y, first = self.layer._forward(x, training)
        z, second = self.layer._forward(y, training)
        return z, (first, second)

    def _backward(self, dy, saved, **how):
        for kept in reversed(saved):
            dy = self.layer._backward(dy, kept, **how)
        return dy


def test_waiting_has_an_end():
    class Never:
        def Test(self):
            return False

    alone, start = World(timeout=0.05), time.monotonic()
    with pytest.raises(TimeoutError, match=r"waited 0\.05 s"):
        alone.wait(Never())
    assert time.monotonic() - start >= 0.05
