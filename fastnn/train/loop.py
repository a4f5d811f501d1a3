"""The loop that most people write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn._checks import check_array, check_number, check_size
from fastnn._convert import as_array
from fastnn.layers.module import _NOTHING, Module
from fastnn.losses import Loss
from fastnn.optim import Optimizer
from fastnn.random import default_generator
from fastnn.train.callbacks import Progress
from fastnn.train.checkpoint import load_checkpoint, save_checkpoint
from fastnn.train.explosion import Guard
from fastnn.train.run import EVENTS, Run

__all__ = ["Transform", "accuracy", "evaluate", "fit"]

Metric: TypeAlias = Callable[[NDArray[Any], NDArray[Any]], float]
Transform: TypeAlias = "Callable[[NDArray[Any], np.random.Generator], NDArray[Any]]"  # does not load numpy.random


def accuracy(output: NDArray[Any], labels: NDArray[Any]) -> float:
    """Share of samples whose largest output is that of their label.

    Parameters
    ----------
    output : (N, C) array
    labels : (N,) array of integers

    Returns
    -------
    float
    """
    return float(np.count_nonzero(output.argmax(axis=1) == labels) / len(labels))


def _metrics_for(y: NDArray[Any], metrics: Mapping[str, Metric] | None) -> dict[str, Metric]:
    if metrics is None:
        return {"accuracy": accuracy} if y.ndim == 1 and y.dtype.kind in "iu" else {}
    return dict(metrics)


def evaluate(
    net: Module,
    loss_fn: Loss,
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    metrics: Mapping[str, Metric] | None = None,
    batch_size: int = 1000,
) -> dict[str, float]:
    """Loss and metrics of data, in inference; nothing is changed.

    Parameters
    ----------
    net : Module
    loss_fn : Loss
        With reduction "mean".
    x, y : arrays
        Inputs and targets, as many of each.
    metrics : mapping of str to callable, optional
        As in `fit`.
    batch_size : int, default 1000

    Returns
    -------
    dict of str to float
        ``"loss"`` and the metrics: means over batches, weighted by their sizes.

    Raises
    ------
    TypeError, ValueError
        For what are not arrays, or not as many targets as inputs.
    """
    x, y = as_array("x", x), as_array("y", y)
    _check_data("y", x, y)
    check_size("batch_size", batch_size)
    chosen = _metrics_for(y, metrics)
    sums = dict.fromkeys(("loss", *chosen), 0.0)
    for start in range(0, len(x), batch_size):
        target = y[start : start + batch_size]
        output = net.predict(x[start : start + batch_size])
        sums["loss"] += len(target) * float(loss_fn.forward(output, target)[0])
        for name, metric in chosen.items():
            sums[name] += len(target) * float(metric(output, target))
    return {name: total / len(x) for name, total in sums.items()}


def fit(
    net: Module,
    loss_fn: Loss,
    opt: Optimizer,
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    epochs: int,
    batch_size: int = 64,
    validation: tuple[NDArray[Any], NDArray[Any]] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    transform: Transform | None = None,
    seed: int = 0,
    drop_last: bool = False,
    callbacks: Iterable[Any] = (),
    checkpoint: str | Path | None = None,
    checkpoint_steps: int | None = None,
    resume: bool = False,
    explosion: float | None = 3.0,
    progress: bool | Progress = True,
) -> Run:
    """Train a network: batches, validation, progress, checkpoints, and what callbacks add.

    Batches are a fresh permutation of the data in each epoch.  What is random here follows from `seed` and the counts
    of epochs and steps alone, so the same call gives the same bits, and so does a run that was killed and resumed.  A
    schedule with a memory (`fastnn.schedules.ReduceOnPlateau`) as ``opt.lr`` is told the validation loss after each
    epoch, without validation data the training loss.

    Parameters
    ----------
    net : Module
        In training mode; parts of it may be in eval mode.
    loss_fn : Loss
        With reduction "mean".
    opt : Optimizer
        Of the parameters of `net`.
    x, y : arrays
        Inputs and targets, samples along the first axis, of the types that `net` and `loss_fn` take.
    epochs : int
        In all: those before a resumption count.
    batch_size : int, default 64
        The last batch of an epoch may be smaller.
    validation : pair of arrays, optional
        Inputs and targets to look at after each epoch.
    metrics : mapping of str to callable, optional
        ``metric(output, target) -> float``, a mean over the samples.  Default: `accuracy` where `y` are integers.
    transform : callable, optional
        ``transform(x, rng) -> x`` makes of a batch what is trained on (augmentation).  It gets a copy of the samples,
        which it may overwrite, and a `numpy.random.Generator` of this step's own.
    seed : int, default 0
        Of the shuffling and of `transform`; dropout has its own generators.
    drop_last : bool, default False
        Leave out the last batch of an epoch if it is smaller.
    callbacks : iterable of objects, optional
        Whatever methods of these names they have are called, with the `Run`, in the order of the objects:
        ``on_begin``, ``on_step_begin``, ``on_step_end``, ``on_epoch_end``, ``on_end`` (also after an exception), and
        ``on_message`` (with a text as well).  ``run.stop(reason)`` ends the run.  Those with `state_dict` and
        `load_state_dict` are part of checkpoints.  A run that is resumed after it was stopped goes on, unless it is
        stopped again.
    checkpoint : path, optional
        Where to keep the state of everything, after each epoch: see `save_checkpoint`.
    checkpoint_steps : int, optional
        Store it also after each so many steps.
    resume : bool, default False
        Continue from the file `checkpoint`, if it is there.  All else must be as it was, but `epochs`; what was frozen
        and modes of layers are no part of a state.
    explosion : float or None, default 3.0
        Stop when the loss of a batch is so many times the first one, or not finite.  None: never.
    progress : bool or Progress, default True
        Show a line; a `Progress` says where.

    Returns
    -------
    Run
        ``run.history["val_accuracy"]`` and its like.

    Raises
    ------
    Explosion
        Naming the first layer whose output went bad; the weights are those before the step.
    TypeError, ValueError
        For data that are not arrays or do not go together, numbers out of range, objects without a method for `fit`,
        a network in eval mode, and a checkpoint that does not fit.
    FileNotFoundError
        Without the directory of `checkpoint`.

    Examples
    --------
    >>> run = fit(net, CrossEntropyLoss(), opt, x, labels, epochs=20, validation=(x_val, labels_val))
    """
    x, y = as_array("x", x), as_array("y", y)
    callbacks = list(callbacks)
    samples, steps_per_epoch = _check(net, loss_fn, x, y, epochs, batch_size, validation, drop_last)
    _check_options(callbacks, checkpoint, checkpoint_steps, explosion, seed)
    measured = _metrics_for(y, metrics)
    guard = Guard(explosion)
    shown = [Progress() if progress is True else progress] if progress else []
    run = Run(
        net,
        loss_fn,
        opt,
        epochs=epochs,
        batch_size=batch_size,
        samples=samples,
        steps_per_epoch=steps_per_epoch,
        callbacks=[*shown, guard, *callbacks],
    )
    parts: dict[str, Any] = {"run": run, "net": net, "opt": opt, "rng": default_generator}
    parts |= {f"callback{i}": each for i, each in enumerate(callbacks) if hasattr(each, "state_dict")}
    if checkpoint is not None and resume and Path(checkpoint).exists():
        load_checkpoint(checkpoint, **parts)

    before, start = run.seconds, time.perf_counter()
    try:
        run.call("on_begin")
        while run.goes_on():
            order = np.random.default_rng((seed, 0, run.epoch)).permutation(len(x))[:samples]
            for first in range((run.step - run.epoch * steps_per_epoch) * batch_size, samples, batch_size):
                batch = order[first : first + batch_size]
                run.x, run.y, run.stats = x[batch], y[batch], False
                if transform is not None:
                    run.x = transform(run.x, np.random.default_rng((seed, 1, run.step)))
                run.call("on_step_begin")
                with guard.forward(run):
                    run.output = net(run.x)
                    run.loss = float(loss_fn(run.output, run.y))
                net.backward(loss_fn.backward(), need_dx=False)
                record = opt.step(stats=run.stats)
                run.record = record if run.stats else None
                run.step += 1
                run.add({"loss": run.loss} | {name: f(run.output, run.y) for name, f in measured.items()}, len(batch))
                run.call("on_step_end")
                run.seconds = before + time.perf_counter() - start
                if checkpoint is not None and checkpoint_steps and run.step % checkpoint_steps == 0:
                    save_checkpoint(checkpoint, **parts)
                if run.stopped:
                    break
            else:
                run.end_epoch(evaluate(net, loss_fn, *validation, metrics=measured) if validation is not None else {})
                if hasattr(opt.lr, "update"):
                    opt.lr.update(run.history["val_loss" if validation is not None else "loss"][-1])
                run.call("on_epoch_end")
                run.seconds = before + time.perf_counter() - start
                if checkpoint is not None:
                    save_checkpoint(checkpoint, **parts)
    finally:
        net._pending = _NOTHING  # of a step that was not completed
        run.end()
    return run


def _check(
    net: Module,
    loss_fn: Loss,
    x: NDArray[Any],
    y: NDArray[Any],
    epochs: int,
    batch_size: int,
    validation: tuple[NDArray[Any], NDArray[Any]] | None,
    drop_last: bool,
) -> tuple[int, int]:
    """Samples that an epoch trains on, and the number of its steps."""
    check_size("epochs", epochs)
    check_size("batch_size", batch_size)
    if not net.training:
        raise ValueError("net: expected training mode, got eval mode; net.train() sets it")
    if not isinstance(loss_fn, Loss):
        raise TypeError(f"loss_fn: expected a Loss, got {type(loss_fn).__name__}")
    if loss_fn.reduction != "mean":
        raise ValueError(f"loss_fn: expected reduction 'mean', got {loss_fn.reduction!r}")
    _check_data("y", x, y)
    if validation is not None:
        if not isinstance(validation, (tuple, list)) or len(validation) != 2:
            raise TypeError(f"validation: expected a pair of arrays, got {type(validation).__name__}")
        _check_data("validation", *validation)
    samples = len(x) - len(x) % batch_size if drop_last else len(x)
    if not samples:
        raise ValueError(f"batch_size: expected at most {len(x)} with drop_last, got {batch_size}")
    return samples, -(-samples // batch_size)


def _check_data(name: str, inputs: NDArray[Any], targets: NDArray[Any]) -> None:
    """`name` is that of the targets."""
    for label, given in (("x" if name == "y" else name, inputs), (name, targets)):
        if not check_array(label, given).ndim:
            raise ValueError(f"{label}: expected samples along the first axis, got shape ()")
    if len(inputs) != len(targets):
        raise ValueError(f"{name}: expected as many targets as inputs, got {len(targets)} for {len(inputs)}")
    if not len(inputs):
        raise ValueError(f"{name}: expected at least one sample, got none")


def _check_options(
    callbacks: list[Any],
    checkpoint: str | Path | None,
    checkpoint_steps: int | None,
    explosion: float | None,
    seed: int,
) -> None:
    """What would otherwise be noticed after the first epoch, or never."""
    check_size("seed", seed, 0)
    for index, each in enumerate(callbacks):
        if not any(hasattr(each, event) for event in EVENTS):
            methods = ", ".join(EVENTS)
            raise TypeError(f"callbacks[{index}]: expected one of the methods {methods}, got {type(each).__name__}")
    if checkpoint is not None and not Path(checkpoint).parent.is_dir():
        raise FileNotFoundError(f"checkpoint: expected a file in a directory that is there, got {checkpoint}")
    if checkpoint_steps is not None:
        check_size("checkpoint_steps", checkpoint_steps)
    if explosion is not None:
        check_number("explosion", explosion)
        if not explosion > 1:
            raise ValueError(f"explosion: expected a number > 1 or None, got {explosion}")
