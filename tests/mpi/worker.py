"""What test_distributed runs on one process and under mpiexec: worker.py SCENARIO DIRECTORY."""

import hashlib
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

import fastnn as fnn
from fastnn.distributed import DataParallel, SyncBatchNorm, World, load_checkpoint, save_checkpoint, world

if sys.argv[1] == "fails_first" and os.environ.get("PMI_RANK") == "1":
    raise OSError("no data here")  # before anything of fastnn.distributed is used

SCENARIOS = {}
OUT = Path(sys.argv[2])


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


def store(**arrays):
    np.savez(OUT / f"{sys.argv[1]}-{world().size}-{world().rank}.npz", **arrays)


def data(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * 3 + 100).astype(dtype), rng.standard_normal(shape).astype(dtype)


SHAPES = {
    "rows": ((256, 70), 1),
    "leaves_of_one": ((4 * 3 * 32, 5), 1),  # three leaves in each share
    "planes": ((24, 6, 20, 20), 1),
    "long_planes": ((4, 3, 80, 80), 1),
    "last": ((16, 10, 12, 7), -1),
}


@scenario
def norms():
    results = {}
    for name, (shape, axis) in SHAPES.items():
        for dtype in (np.float32, np.float64):
            x, dy = data(shape, dtype)
            mine = world().share(len(x))
            layer = SyncBatchNorm(shape[axis], channel_axis=axis, dtype=dtype)
            y, saved = layer.forward(x[mine])
            dx = layer.backward(dy[mine], saved)
            key = f"{name}-{np.dtype(dtype).name}"
            results |= {f"{key}-y": y, f"{key}-dx": dx}
            for part in ("running_mean", "running_var"):
                results[f"{key}-whole-{part}"] = getattr(layer, part)
            results[f"{key}-whole-dweight"], results[f"{key}-whole-dbias"] = layer.weight.grad, layer.bias.grad
    store(**results)


@scenario
def uneven():
    x, dy = data((131, 7), np.float64)
    starts = [0, 37, 131] if world().size == 2 else [0, 131]
    mine = slice(starts[world().rank], starts[world().rank + 1])
    layer = SyncBatchNorm(7, dtype=np.float64)
    model = DataParallel(fnn.Sequential(fnn.Linear(7, 7, dtype=np.float64), layer))
    y = model(x[mine])
    dx = model.backward(dy[mine] * len(x) / len(y))  # of the mean over the share
    store(y=y, dx=dx, **{f"whole-{p.name}": p.grad for p in model.parameters()})


@scenario
def masks():
    layers = {
        "dropout": fnn.Dropout(0.4),
        "dropout2d": fnn.Dropout2d(0.4),
        "alpha": fnn.AlphaDropout(0.3),
        "noise": fnn.GaussianNoise(0.5),
    }
    fnn.manual_seed(5)
    x = data((24, 6, 5, 5), np.float32)[0]
    results = {}
    for name, layer in layers.items():
        model = DataParallel(layer)
        results[name] = model(x[world().share(len(x))])
        model.train()
    store(**results)


def network(dtype=np.float32):
    rng = fnn.Generator(world().rank)  # other weights in each process, until they are broadcast
    return fnn.Sequential(
        *(fnn.Linear(20, 64, rng=rng, dtype=dtype), SyncBatchNorm(64, dtype=dtype), fnn.ReLU(), fnn.Dropout(0.25)),
        *(fnn.Linear(64, 32, rng=rng, dtype=dtype), SyncBatchNorm(32, dtype=dtype), fnn.ReLU()),
        fnn.Linear(32, 4, rng=rng, dtype=dtype),
    )


def batches(count, dtype=np.float32, size=128):
    rng = np.random.default_rng(7)
    for _ in range(count):
        x = rng.standard_normal((size, 20)).astype(dtype)
        yield x, (x[:, :4] @ np.ones((4, 4), dtype) + x[:, 4:8]).argmax(1)


def step(model, loss_fn, x, y, accumulate=False):
    mine = world().share(len(x))
    loss = float(loss_fn(model(x[mine]), y[mine]))
    model.backward(loss_fn.backward(), need_dx=False, accumulate=accumulate)
    return loss


@scenario
def training():
    results = {}
    for dtype in (np.float32, np.float64):
        fnn.manual_seed(world().rank)
        model, loss_fn = DataParallel(network(dtype), bucket_bytes=4096), fnn.CrossEntropyLoss()
        opt = fnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for k, (x, y) in enumerate(batches(6, dtype)):
            loss = step(model, loss_fn, x, y)
            step(model, loss_fn, x, y, accumulate=True)
            opt.step()
            if k == 2:
                save_checkpoint(OUT / "state.npz", model=model, opt=opt)
                after = model.state_dict()
        loss = world().mean({"loss": loss}, len(x) // world().size)["loss"]
        name = np.dtype(dtype).name
        results |= {f"{name}-whole-{k}": v for k, v in model.state_dict().items()} | {f"{name}-whole-loss": loss}
        fresh = DataParallel(network(dtype))
        load_checkpoint(OUT / "state.npz", model=fresh, opt=fnn.optim.SGD(fresh.parameters(), lr=1, momentum=0.9))
        for key, value in fresh.state_dict().items():
            np.testing.assert_array_equal(value, after[key])
    store(**results)


@scenario
def partly_trained():
    """Frozen parameters, layers without any, an empty parameter, one that backward does not reach."""
    net = fnn.Sequential(fnn.Linear(20, 8, rng=fnn.Generator(1)), fnn.ReLU(), fnn.Linear(8, 4, rng=fnn.Generator(2)))
    net.empty = fnn.Parameter(np.zeros((0, 3), np.float32))
    trained = net[2].parameters()
    model, loss_fn = DataParallel(net, parameters=trained), fnn.CrossEntropyLoss()
    (x, y) = next(iter(batches(1)))
    step(model, loss_fn, x, y)
    assert net.empty.grad is None
    own = net[0].weight.grad
    assert own is not None
    whole = {f"whole-{p.name}": p.grad for p in trained}
    model = DataParallel(Holding(net))
    step(model, loss_fn, x, y)
    if world().size > 1:
        assert model.net.empty.grad.shape == (0, 3) and not model.net.unused.grad.any()
    store(own=own[:0], **whole)


class Holding(fnn.Module):
    def __init__(self, net):
        self.inner = net
        self.empty = fnn.Parameter(np.zeros((0, 3), np.float32))
        self.unused = fnn.Parameter(np.ones(3))

    def _forward(self, x, training):
        return self.inner._forward(x, training)

    def _backward(self, dy, saved, **how):
        return self.inner._backward(dy, saved, **how)


@scenario
def refusals():
    def refused(kind, text, call):
        try:
            call()
        except kind as error:
            assert text in str(error), error
        else:
            raise AssertionError(f"expected: {text}")

    rank = world().rank
    refused(ValueError, "parameters: expected the same", lambda: DataParallel(fnn.Linear(3 + rank, 2)))
    model = DataParallel(network())
    refused(ValueError, "x, positions of", lambda: model(np.zeros((32, 20 + rank), np.float32)))
    refused(ValueError, "at least one sample in every process", lambda: model(np.zeros((32 * rank, 20), np.float32)))
    refused(ValueError, "metrics: expected the same", lambda: world().mean({f"loss{rank}": 1.0}, 1))
    refused(ValueError, "channels in them", lambda: SyncBatchNorm(3 + rank)(np.ones((4, 3 + rank), np.float32)))
    missing = (FileNotFoundError, RuntimeError)
    refused(missing[rank > 0], "absent.npz", lambda: load_checkpoint(OUT / "absent.npz", model=model))
    bad = np.full((4, 3), np.nan, np.float32) if rank else np.ones((4, 3), np.float32)
    refused(ValueError, "finite batch statistics", lambda: SyncBatchNorm(3)(bad))
    fnn.random.default_generator.draw() if rank else None
    refused(ValueError, "positions of generators", lambda: model(np.zeros((32, 20), np.float32)))

    class SetsByItself(Holding):
        def _backward(self, dy, saved, **how):
            self.unused.grad = np.ones(3)
            return super()._backward(dy, saved, **how)

    wrong = DataParallel(SetsByItself(fnn.Linear(20, 4)))
    wrong(np.ones((4, 20), np.float32))
    refused(RuntimeError, "through Parameter.set_grad", lambda: wrong.backward(np.ones((4, 4), np.float32)))
    store(fine=np.ones(1))


@scenario
def weighted():
    """A loss that is no mean over samples: classes have weights, and labels go by class, so shares differ in them."""
    classes, (x, _) = np.array([1.0, 10.0, 100.0, 5.0]), next(iter(batches(1, np.float64)))
    y = np.sort(np.arange(len(x)) % 4)
    mine, loss_fn = world().share(len(x)), fnn.CrossEntropyLoss(weight=classes, reduction="sum")
    model = DataParallel(fnn.Linear(20, 4, rng=fnn.Generator(3), dtype=np.float64), reduction="sum")
    loss_fn(model(x[mine]), y[mine])
    model.backward(loss_fn.backward() / classes[y].sum(), need_dx=False)
    store(**{f"whole-{p.name}": p.grad for p in model.parameters()})


@scenario
def groups():
    """Two worlds of half the processes each: norms without a world of their own get that of their network."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    half = World(comm.Split(comm.rank // 2, comm.rank))
    norm = SyncBatchNorm(1)
    DataParallel(norm, among=half)(np.full((32, 1), comm.rank, np.float32))
    assert abs(float(norm.running_mean[0]) * 10 - (comm.rank // 2 * 2 + 0.5)) < 1e-6, norm.running_mean
    store(fine=np.ones(1))


def one_dies(end):
    slow = World(timeout=5)
    model, loss_fn = DataParallel(network(), among=slow), fnn.CrossEntropyLoss()
    for k, (x, y) in enumerate(batches(1000)):
        if k == 3 and world().rank == 1:
            end()
        step(model, loss_fn, x, y)


@scenario
def killed():
    one_dies(lambda: os.kill(os.getpid(), signal.SIGKILL))


@scenario
def asleep():
    one_dies(lambda: time.sleep(120))


@scenario
def fails_first():
    world().barrier()


@scenario
def raises():
    def fail():
        raise OSError("no data here")

    one_dies(fail)


@scenario
def caught():
    """Gives up, and then ends as if nothing had been."""
    try:
        one_dies(lambda: time.sleep(120))
    except TimeoutError:
        print("gave up", flush=True)
        sys.exit(0)


@scenario
def digest():
    """The same in all processes, and how many bytes they sent."""
    model, loss_fn = DataParallel(network()), fnn.CrossEntropyLoss()
    before = world().sent
    for x, y in batches(1):
        step(model, loss_fn, x, y)
    bits = hashlib.sha256(b"".join(p.grad.tobytes() for p in model.parameters())).digest()
    store(whole=np.frombuffer(bits, np.uint8), sent=np.array(world().sent - before))


SCENARIOS[sys.argv[1]]()
