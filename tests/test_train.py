"""`fit` and its pieces: the same bits again, also after being killed; stopping; what is shown; explosions."""

import contextlib
import importlib.util
import io
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from fastnn.monitor import Monitor
from fastnn.schedules import ReduceOnPlateau, cosine
from fastnn.train import (
    EarlyStopping,
    Explosion,
    Progress,
    accuracy,
    evaluate,
    fit,
    load_checkpoint,
    lr_range,
    output_scales,
    save_checkpoint,
)

ROOT = Path(__file__).resolve().parents[1]
X = np.random.default_rng(0).standard_normal((90, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)


def build(seed=0):
    fnn.manual_seed(seed)
    return fnn.Sequential(fnn.Linear(6, 16), fnn.BatchNorm1d(16), fnn.ReLU(), fnn.Dropout(0.2), fnn.Linear(16, 3))


def sgd(net, lr=0.1):
    return fnn.optim.SGD(net.parameters(), lr, momentum=0.9)


def train(net, opt, **options):
    settings = {"epochs": 3, "batch_size": 16, "progress": False} | options
    return fit(net, fnn.CrossEntropyLoss(), opt, X, Y, **settings)


def same_bits(one, other):
    assert list(one) == list(other)
    return all(one[name].tobytes() == other[name].tobytes() for name in one)


class Recorder:
    def __init__(self):
        self.events, self.batches = [], []

    def on_begin(self, run):
        self.events.append("begin")

    def on_step_begin(self, run):
        self.events.append("step begin")
        self.batches.append((run.x.copy(), run.y.copy()))

    def on_step_end(self, run):
        self.events.append("step end")

    def on_epoch_end(self, run):
        self.events.append("epoch end")

    def on_end(self, run):
        self.events.append("end")


def test_it_is_the_loop_that_one_would_write():
    net, seen = build(), Recorder()
    run = train(net, sgd(net), epochs=2, callbacks=[seen])
    by_hand, loss_fn = build(), fnn.CrossEntropyLoss()
    opt, losses = sgd(by_hand), []
    for x, y in seen.batches:
        losses.append(loss_fn(by_hand(x), y))
        by_hand.backward(loss_fn.backward(), need_dx=False)
        opt.step()
    assert same_bits(net.state_dict(), by_hand.state_dict())
    sizes = [len(x) for x, _ in seen.batches]
    assert sizes == 2 * [16, 16, 16, 16, 16, 10]
    assert run.history["loss"] == pytest.approx([np.average(losses[i : i + 6], weights=sizes[:6]) for i in (0, 6)])
    assert seen.events == ["begin", *2 * [*6 * ["step begin", "step end"], "epoch end"], "end"]


def test_batches_are_all_the_data_in_another_order_each_epoch():
    net, seen = build(), Recorder()
    train(net, sgd(net), epochs=2, callbacks=[seen])
    first, second = (np.concatenate([x for x, _ in seen.batches[i : i + 6]]) for i in (0, 6))
    assert not np.array_equal(first, second)
    for epoch in (first, second):
        assert np.array_equal(np.sort(epoch[:, 0]), np.sort(X[:, 0]))
    other, dropped = Recorder(), Recorder()
    train(net, sgd(net), epochs=1, callbacks=[other], seed=1)
    train(net, sgd(net), epochs=1, callbacks=[dropped], drop_last=True)
    assert not np.array_equal(other.batches[0][0], seen.batches[0][0])
    assert [len(x) for x, _ in dropped.batches] == 5 * [16]


def test_transform_sees_each_batch_and_a_generator_of_its_own():
    drawn = []

    def transform(x, rng):
        drawn.append(rng.integers(1 << 62))
        x += 1  # a copy, so the data stay
        return x

    before, seen = X.copy(), Recorder()
    net = build()
    train(net, sgd(net), epochs=2, transform=transform, callbacks=[seen])
    assert np.array_equal(X, before)
    assert len(set(drawn)) == 12
    assert np.concatenate([x for x, _ in seen.batches]).mean() == pytest.approx(X.mean() + 1, abs=1e-5)


def test_validation_and_metrics():
    net = build()
    run = train(net, sgd(net), validation=(X, Y), metrics={"hits": accuracy, "largest": lambda out, y: out.max()})
    assert list(run.history) == ["loss", "hits", "largest", "val_loss", "val_hits", "val_largest"]
    found = evaluate(net, fnn.CrossEntropyLoss(), X, Y, batch_size=32)
    assert run.history["val_loss"][-1] == pytest.approx(found["loss"], rel=1e-6)
    assert found["loss"] == pytest.approx(fnn.CrossEntropyLoss()(net.predict(X), Y), rel=1e-6)
    assert found["accuracy"] == (net.predict(X).argmax(1) == Y).mean() > 0.6


def test_plateaus_are_told():
    net = build()
    opt = fnn.optim.SGD(net.parameters(), ReduceOnPlateau(1e-9, patience=0, threshold=0.5))
    train(net, opt, validation=(X, Y))
    assert opt.lr.scale == pytest.approx(0.01)


class Die:
    """Kills the process, without a chance to tidy up, behind a step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, run):
        if run.step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def resumable(path, callbacks=(), **options):
    """Everything that has a state: dropout, schedule with a memory, moments, averages, early stopping, noise."""
    net = build(3)
    opt = fnn.optim.Adam(net.parameters(), ReduceOnPlateau(0.02, patience=0), average=fnn.optim.EMA(0.9))
    options = {"epochs": 4, "checkpoint": path, "checkpoint_steps": 4} | options
    run = train(
        net,
        opt,
        validation=(X[:30], Y[:30]),
        transform=lambda x, rng: x + 0.1 * rng.standard_normal(x.shape, np.float32),
        callbacks=[EarlyStopping("val_loss", patience=1), *callbacks],
        **options,
    )
    return net, opt, run


@pytest.mark.parametrize("step", [6, 15, 18])
def test_a_killed_run_goes_on_bit_for_bit_in_a_new_process(step, tmp_path):
    script = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import test_train as t\n"
    died = subprocess.run(
        [sys.executable, "-c", script + f"t.resumable({str(tmp_path / 'a.npz')!r}, [t.Die({step})])"], cwd=tmp_path
    )
    assert died.returncode == -signal.SIGKILL
    with np.load(tmp_path / "a.npz") as file:
        assert file["run/step"] == max(step // 4 * 4 if step % 4 else step - 4, (step - 1) // 6 * 6)
    fnn.manual_seed(99)
    net, opt, run = resumable(tmp_path / "a.npz", resume=True)
    expected_net, expected_opt, expected = resumable(tmp_path / "b.npz")
    assert run.step == expected.step
    assert run.history == expected.history
    assert run.stopped == expected.stopped
    assert same_bits(net.state_dict(), expected_net.state_dict())
    assert same_bits(opt.state_dict(), expected_opt.state_dict())


def test_resuming_what_is_complete_trains_no_more_and_more_epochs_go_on(tmp_path):
    def run(name, epochs, **options):
        net = build()
        opt = fnn.optim.SGD(net.parameters(), cosine(0.1, 30))
        return net, train(net, opt, epochs=epochs, checkpoint=tmp_path / name, **options)

    run("a", 2)
    assert run("a", 2, resume=True)[1].step == 12
    long, expected = run("a", 4, resume=True), run("b", 4)
    assert long[1].history == expected[1].history
    assert same_bits(long[0].state_dict(), expected[0].state_dict())


def test_a_write_that_is_interrupted_leaves_the_last_file(tmp_path, monkeypatch):
    net = build()
    save_checkpoint(tmp_path / "c.npz", net=net)
    before = (tmp_path / "c.npz").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda file: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_checkpoint(tmp_path / "c.npz", net=build(1))
    assert (tmp_path / "c.npz").read_bytes() == before


def test_checkpoints_of_other_things_are_refused(tmp_path):
    net = build()
    save_checkpoint(tmp_path / "c.npz", net=net, opt=sgd(net))
    with pytest.raises(ValueError, match=r"expected the parts net, got net, opt"):
        load_checkpoint(tmp_path / "c.npz", net=net)
    with pytest.raises(ValueError, match=r"(?s)c.npz, net: .*0.weight: expected float32 of shape \(2, 6\)"):
        load_checkpoint(tmp_path / "c.npz", net=fnn.Sequential(fnn.Linear(6, 2)), opt=sgd(net))
    train(net, sgd(net), checkpoint=tmp_path / "r.npz")
    message = "expected a run on 90 samples in batches of 30, got one on 90 in batches of 16"
    with pytest.raises(ValueError, match=message):
        train(net, sgd(net), checkpoint=tmp_path / "r.npz", resume=True, batch_size=30)
    with pytest.raises(ValueError, match="expected the parts run, net, opt, rng, callback0, got run, net, opt, rng"):
        train(net, sgd(net), checkpoint=tmp_path / "r.npz", resume=True, callbacks=[EarlyStopping()])


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: b"text", lambda whole: whole[: len(whole) // 2]])
def test_files_that_are_no_checkpoints_are_refused(damage, tmp_path):
    net, path = build(), tmp_path / "c.npz"
    save_checkpoint(path, net=net)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"c.npz: expected a checkpoint, got another file or a part of one"):
        load_checkpoint(path, net=net)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "none.npz", net=net)


class Stop:
    def __init__(self, step, error=None):
        self.step, self.error = step, error

    def on_step_end(self, run):
        if run.step == self.step:
            if self.error is not None:
                raise self.error
            run.stop("enough")


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), ZeroDivisionError()])
def test_a_run_that_was_stopped_or_broken_off_goes_on(error, tmp_path):
    """With all that may be part of it: frozen statistics, averages, early stopping, a monitor."""

    def run(name, *callbacks, **options):
        net = build()
        net[1].freeze()
        opt = fnn.optim.Adam(net.parameters(), 0.02, average=fnn.optim.EMA(0.9))
        monitor, stopping = Monitor(every=4), EarlyStopping("loss", patience=9)
        path = tmp_path / name
        options = {"checkpoint": path, "checkpoint_steps": 1, "callbacks": [stopping, monitor, *callbacks]} | options
        with contextlib.suppress(KeyboardInterrupt, ZeroDivisionError):
            train(net, opt, **options)
        return net, opt, monitor, stopping

    broken = run("a.npz", Stop(10, error))
    assert len(broken[2].losses) == 10
    broken[0].backward(fnn.CrossEntropyLoss().forward(broken[0](X), Y)[1])  # no pass waits in it
    for one, other in zip(run("a.npz", resume=True), run("b.npz"), strict=True):
        assert same_bits(one.state_dict(), other.state_dict())


def test_every_callback_hears_of_the_end():
    class Broken:
        def on_end(self, run):
            raise OSError("the disk is full")

    net, seen = build(), Recorder()
    with pytest.raises(OSError, match="the disk is full") as error:
        train(net, sgd(net), callbacks=[Broken(), seen, Stop(3, KeyError("first"))])
    assert isinstance(error.value.__context__, KeyError)
    assert seen.events[-2:] == ["step end", "end"]


def test_early_stopping_puts_the_best_weights_back():
    states = []

    class Spoil:
        """Validation that gets worse from the second epoch on."""

        def on_epoch_end(self, run):
            states.append(run.net.state_dict())
            run.history["val_loss"][-1] = [0.5, 0.4, 0.6, 0.41, 0.7, 0.8][run.epoch - 1]

    net = build()
    stopping = EarlyStopping(patience=2)
    run = train(net, sgd(net), epochs=6, validation=(X, Y), callbacks=[Spoil(), stopping])
    assert (run.epoch, stopping.best, stopping.best_epoch) == (5, 0.4, 2)
    assert run.stopped == "stopped after epoch 5: val_loss was best, 0.4000, in epoch 2"
    assert same_bits(net.state_dict(), states[1])
    net = build()
    run = train(net, sgd(net), epochs=2, validation=(X, Y), callbacks=[stopping])  # which begins afresh
    assert (stopping.best, stopping.best_epoch) == (min(run.history["val_loss"]), 2)
    net = build()
    train(net, sgd(net), epochs=6, callbacks=[EarlyStopping("accuracy", mode="max", restore_best=False)])
    with pytest.raises(ValueError, match="quantity: expected one of loss, accuracy, got 'val_loss'"):
        train(net, sgd(net), callbacks=[EarlyStopping()])


def test_patience_may_grow(tmp_path):
    def run(patience, **options):
        net = build()
        stopping = EarlyStopping("loss", patience=patience, min_delta=9.0)  # nothing but the first epoch is enough
        return train(net, sgd(net), epochs=4, callbacks=[stopping], checkpoint=tmp_path / "c.npz", **options)

    first, same, longer = run(0), run(0, resume=True), run(1, resume=True)
    assert [each.epoch for each in (first, same, longer)] == [2, 2, 3]
    assert same.stopped == first.stopped != ""


def test_stopping_within_an_epoch():
    net = build()
    run = train(net, sgd(net), callbacks=[Stop(8)])
    assert (run.step, run.epoch, run.stopped, len(run.history["loss"])) == (8, 1, "enough", 1)


def test_explosion_names_the_layer_and_leaves_the_weights():
    net = fnn.Sequential(fnn.Linear(6, 8), fnn.ReLU(), fnn.Linear(8, 3))
    seen = Recorder()
    with pytest.raises(Explosion, match=r"loss .* at first.*went bad is 0 Linear: root mean square") as error:
        train(net, fnn.optim.SGD(net.parameters(), 100.0), callbacks=[seen])
    assert error.value.layer == "0 Linear"
    assert seen.events[-1] == "end"
    train(net, sgd(net, 1e-6), epochs=1, explosion=None)  # the network is as usable as before


@pytest.mark.parametrize("norm", [False, True])
def test_explosion_names_the_first_layer_that_is_not_finite(norm):
    class Poison:
        def on_step_begin(self, run):
            if run.step == 3:
                run.net[2].weight.data[0, 0] = np.inf

    layers = [fnn.Linear(6, 8), fnn.Sigmoid(), fnn.Linear(8, 3)]
    net = fnn.Sequential(*layers, *([fnn.BatchNorm1d(3)] if norm else []))
    with pytest.raises(Explosion, match=r"step 3: .*first layer whose output is not finite is 2 Linear") as error:
        train(net, sgd(net), callbacks=[Poison()])
    assert error.value.layer == "2 Linear"
    assert error.value.run.step == 3


def test_a_bad_batch_is_told_from_a_bad_layer():
    net = build()
    with pytest.raises(Explosion, match="the batch itself is not finite"), np.errstate(all="ignore"):
        fit(net, fnn.CrossEntropyLoss(), sgd(net), np.full_like(X, np.nan), Y, epochs=1, progress=False)


def test_bad_targets_are_told_from_bad_layers():
    net = build()
    with pytest.raises(Explosion, match="the targets of the batch are not finite"):
        fit(net, fnn.MSELoss(), sgd(net), X, np.full((90, 3), np.nan, np.float32), epochs=1, progress=False)


def test_a_transform_may_make_what_the_network_takes():
    net, pixels = build(), (20 * X).clip(0, 255).astype(np.uint8)

    def transform(x, rng):
        return x.astype(np.float32) / 255

    run = fit(net, fnn.CrossEntropyLoss(), sgd(net), pixels, Y, epochs=2, transform=transform, progress=False)
    assert run.step == 4


def test_errors_of_ones_own_are_not_called_explosions():
    net = build()
    with pytest.raises(ValueError, match="label"):
        fit(net, fnn.CrossEntropyLoss(), sgd(net), X, Y + 7, epochs=1, progress=False)


def test_output_scales_change_nothing():
    net = build()
    before, position = net.state_dict(), fnn.random.default_generator.position
    scales = output_scales(net, X)
    assert list(scales) == ["0 Linear", "1 BatchNorm1d", "2 ReLU", "3 Dropout", "4 Linear"]
    assert scales["1 BatchNorm1d"] == pytest.approx(1, abs=1e-3)
    assert same_bits(net.state_dict(), before)
    assert fnn.random.default_generator.position == position


def test_rate_finder_finds_a_rate_that_works_and_puts_everything_back():
    net = build()
    opt = fnn.optim.Adam(net.parameters(), 1e-3)
    before = net.state_dict(), opt.state_dict(), fnn.random.default_generator.state_dict()
    found = lr_range(net, fnn.CrossEntropyLoss(), opt, X, Y, low=1e-5, high=10, steps=80, batch_size=16)
    after = net.state_dict(), opt.state_dict(), fnn.random.default_generator.state_dict()
    assert all(same_bits(one, other) for one, other in zip(before, after, strict=True))
    assert len(found.rates) == len(found.losses) <= 80
    assert found.rates[0] == pytest.approx(1e-5)
    assert np.diff(np.log(found.rates)) == pytest.approx(math.log(1e6) / 79)
    opt.lr = found.suggestion
    assert train(net, opt, epochs=8).history["accuracy"][-1] > 0.7


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_a_plain_line_for_each_epoch():
    stream, net = io.StringIO(), build()
    train(net, sgd(net), validation=(X, Y), progress=Progress(stream, "small"))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert "\r" not in stream.getvalue()
    assert lines[0].startswith("small  epoch 1/3  loss ")
    for word in ("accuracy 0.", "val_accuracy 0.", "samples/s", "ETA 0:"):
        assert word in lines[0]
    assert "ETA" not in lines[2]


@pytest.mark.parametrize("columns", [120, 80, 30])
def test_progress_is_a_bar_on_a_terminal(columns, monkeypatch):
    monkeypatch.setattr("fastnn.train.callbacks.SECONDS_BETWEEN", 0.0)
    monkeypatch.setenv("COLUMNS", str(columns))
    stream, net = Terminal(), build()
    train(net, sgd(net), epochs=2, progress=Progress(stream))
    text = stream.getvalue()
    assert text.count("\n") == 2
    rewritten = [line for line in text.split("\r") if line and not line.endswith("\n")]
    assert len(rewritten) == 12
    assert max(map(len, rewritten)) < columns
    assert all(line.startswith("epoch ") for line in rewritten)
    if columns == 120:
        assert re.fullmatch(r"epoch 1/2  loss .*  accuracy .* samples/s  ETA 0:0\d  \[#{10}\.{10}\] *", rewritten[2])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs: expected at least 1, got 0"),
        (
            *({"batch_size": 100, "drop_last": True}, ValueError),
            "batch_size: expected at most 90 with drop_last, got 100",
        ),
        ({"validation": (X, Y[:5])}, ValueError, "validation: expected as many targets as inputs, got 5 for 90"),
        ({"validation": X}, TypeError, "validation: expected a pair of arrays, got ndarray"),
        ({"validation": (X, Y.tolist())}, TypeError, "validation: expected a numpy array, got list"),
        ({"seed": -1}, ValueError, "seed: expected at least 0, got -1"),
        ({"callbacks": [EarlyStopping(), print]}, TypeError, r"callbacks\[1\]: expected one of the methods on_begin, "),
        ({"checkpoint": "/no/such/c.npz"}, FileNotFoundError, "checkpoint: expected a file in a directory that is"),
        ({"checkpoint_steps": 0}, ValueError, "checkpoint_steps: expected at least 1, got 0"),
        ({"explosion": 1}, ValueError, "explosion: expected a number > 1 or None, got 1"),
    ],
)
def test_bad_arguments(options, error, message):
    net = build()
    before = net.state_dict()
    with pytest.raises(error, match=message):
        train(net, sgd(net), **options)
    assert same_bits(net.state_dict(), before)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ((X.tolist(), Y), TypeError, "x: expected a numpy array, got list"),
        ((X, Y.tolist()), TypeError, "y: expected a numpy array, got list"),
        ((X, Y[:5]), ValueError, "y: expected as many targets as inputs, got 5 for 90"),
        ((np.ones(()), Y), ValueError, "x: expected samples along the first axis"),
        ((X[:0], Y[:0]), ValueError, "y: expected at least one sample, got none"),
    ],
)
def test_bad_data(data, error, message):
    net = build()
    with pytest.raises(error, match=message):
        fit(net, fnn.CrossEntropyLoss(), sgd(net), *data, epochs=1)
    with pytest.raises(error, match=message):
        evaluate(net, fnn.CrossEntropyLoss(), *data)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"patience": -1}, ValueError, "patience: expected at least 0, got -1"),
        ({"min_delta": "1"}, TypeError, "min_delta: expected a number, got '1'"),
        ({"mode": "least"}, ValueError, "mode: expected 'min' or 'max', got 'least'"),
    ],
)
def test_bad_arguments_of_early_stopping(options, error, message):
    with pytest.raises(error, match=message):
        EarlyStopping(**options)


def test_modes_and_reductions_are_checked():
    net = build()
    with pytest.raises(ValueError, match="loss_fn: expected reduction 'mean', got 'sum'"):
        fit(net, fnn.CrossEntropyLoss(reduction="sum"), sgd(net), X, Y, epochs=1)
    with pytest.raises(TypeError, match="loss_fn: expected a Loss, got function"):
        fit(net, lambda y, target: 0.0, sgd(net), X, Y, epochs=1)
    with pytest.raises(ValueError, match="net: expected training mode"):
        train(net.eval(), sgd(net))


def test_the_example_learns_the_digits(tmp_path):
    pytest.importorskip("matplotlib")
    spec = importlib.util.spec_from_file_location("training_example", ROOT / "examples" / "training.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    found, _, accuracy = example.train(epochs=5, report=tmp_path / "r.html", progress=False)
    assert 1e-4 < found.suggestion < 0.1
    assert accuracy > 0.9
    assert (tmp_path / "r.html").stat().st_size > 100_000
