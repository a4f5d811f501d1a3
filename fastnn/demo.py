"""``fastnn demo``: a small network on real images, trained by the kernels and again by the NumPy reference."""

from __future__ import annotations

import math
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn._backend import use_reference
from fastnn.data import Dataset, load_digits, load_idx
from fastnn.layers import BatchNorm1d, Dropout, Flatten, Linear, ReLU, Sequential
from fastnn.losses import CrossEntropyLoss
from fastnn.optim import SGD
from fastnn.random import Generator

__all__ = ["Recipe", "Result", "run", "train"]

COMPARED_LOSSES = 20
LOSS_TOLERANCE = 1e-4
ACCURACY_TOLERANCE = 0.01


class Recipe(NamedTuple):
    """How to train on a set of images.

    Attributes
    ----------
    hidden : tuple of int
        Sizes of the hidden layers.
    dropout : float
    batch_size : int
    epochs : int
    lr : float
        Reached after a tenth of the steps, from zero; then falls to zero along a cosine.
    reference_steps : int or None
        Steps that the reference runs; None for all.
    accuracy : float or None
        Test accuracy that is promised for these epochs and seed 0.
    """

    hidden: tuple[int, ...]
    dropout: float
    batch_size: int
    epochs: int
    lr: float
    reference_steps: int | None
    accuracy: float | None


DIGITS = Recipe((256, 256), 0.3, 64, 20, 0.1, reference_steps=None, accuracy=0.975)
MNIST = Recipe((512, 256), 0.3, 128, 10, 0.1, reference_steps=100, accuracy=0.87)


@dataclass
class Result:
    """What a training run gave.

    Attributes
    ----------
    losses : list of float
        One per step.
    seconds : list of float
        Time of each step.
    accuracy : float
        On the test images; NaN if the run stopped before its last epoch.
    """

    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    accuracy: float = math.nan


class Progress:
    """A line that is rewritten on a terminal; elsewhere, one line per epoch."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._live = sys.stdout.isatty()
        self._width = 0
        self._shown = 0.0

    def update(self, text: str) -> None:
        """Show `text` if there is a terminal and it is time."""
        now = time.perf_counter()
        if self._live and now - self._shown > 0.1:
            self._shown = now
            self._write(text, "")

    def finish(self, text: str) -> None:
        """Show `text` and keep it: the last line of a run or, without a terminal, of an epoch."""
        self._write(text, "\n")

    def epoch(self, text: str, last: bool) -> None:
        """Show the result of an epoch."""
        if last or not self._live:
            self.finish(text)
        else:
            self._write(text, "")

    def _write(self, text: str, end: str) -> None:
        line = f"{self._label:<10}{text}"
        start = "\r" if self._live else ""
        print(start + line.ljust(self._width), end=end, flush=True)
        self._width = len(line) if self._live else 0


def _bar(done: float) -> str:
    filled = round(20 * done)
    return f"[{'#' * filled}{'.' * (20 - filled)}]"


def build(shape: tuple[int, ...], classes: int, recipe: Recipe, rng: Generator) -> Sequential:
    """The network: linear, batch norm, ReLU and dropout for each hidden layer, and a linear layer."""
    sizes = (math.prod(shape), *recipe.hidden)
    layers: list[Any] = [Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [
            Linear(inputs, outputs, rng=rng),
            BatchNorm1d(outputs),
            ReLU(),
            Dropout(recipe.dropout, rng=rng),
        ]
    return Sequential(*layers, Linear(sizes[-1], classes, rng=rng))


def _as_inputs(images: NDArray[np.uint8], like: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels from 0 to 1, 1 being the largest of the training images, `like`.

    They are not centred: pixels that are always 0 stay 0.  As another constant they would act as biases, which batch
    norm cancels, so that their gradients would be nothing but rounding errors.
    """
    return np.asarray(images / like.max(), np.float32)


def _schedule(done: float) -> float:
    """Factor of the learning rate when a share `done` of the steps is done.

    The warm-up also keeps the two runs together: where a value is within rounding of ReLU's kink, they take
    different gradients, and a large step would follow.
    """
    return min(1.0, 10 * done) * (1 + math.cos(math.pi * done)) / 2


def _accuracy(net: Sequential, x: NDArray[Any], labels: NDArray[Any]) -> float:
    hits = sum(
        np.count_nonzero(net.predict(x[i : i + 1000]).argmax(axis=1) == labels[i : i + 1000])
        for i in range(0, len(x), 1000)
    )
    return hits / len(x)


def train(dataset: Dataset, recipe: Recipe, seed: int, label: str, max_steps: int | None = None) -> Result:
    """Train a network from scratch and show the progress.

    Everything random (initial values, batches, masks) comes from `seed`, so that two runs differ only in what
    computes them.

    Parameters
    ----------
    dataset : Dataset
    recipe : Recipe
    seed : int
    label : str
        Starts each line of the output.
    max_steps : int, optional
        Stop after so many steps.

    Returns
    -------
    Result
    """
    x, labels = _as_inputs(dataset.train_images, dataset.train_images), dataset.train_labels
    x_test = _as_inputs(dataset.test_images, dataset.train_images)
    net = build(x.shape[1:], int(labels.max()) + 1, recipe, Generator(seed))
    loss_fn, opt = CrossEntropyLoss(), SGD(net.parameters(), momentum=0.9, nesterov=True)
    shuffle = np.random.Generator(np.random.PCG64(seed))
    steps_per_epoch = len(x) // recipe.batch_size
    steps = recipe.epochs * steps_per_epoch
    result, progress = Result(), Progress(label)
    for epoch in range(recipe.epochs):
        order = shuffle.permutation(len(x))
        for batch in order[: steps_per_epoch * recipe.batch_size].reshape(steps_per_epoch, -1):
            done = len(result.losses)
            if done == max_steps:
                progress.finish(f"stopped after {done} of {steps} steps  {sum(result.seconds):.1f} s")
                return result
            start = time.perf_counter()
            opt.lr = recipe.lr * _schedule((done + 1) / steps)
            loss = loss_fn(net(x[batch]), labels[batch])
            net.backward(loss_fn.backward(), need_dx=False)
            opt.step()
            result.seconds.append(time.perf_counter() - start)
            result.losses.append(loss)
            progress.update(f"epoch {epoch + 1}/{recipe.epochs} {_bar((done + 1) / steps)}  loss {loss:.4f}")
        result.accuracy = _accuracy(net, x_test, dataset.test_labels)
        mean_loss = sum(result.losses[-steps_per_epoch:]) / steps_per_epoch
        progress.epoch(
            f"epoch {epoch + 1}/{recipe.epochs} {_bar((epoch + 1) / recipe.epochs)}  loss {mean_loss:.4f}  "
            f"test accuracy {result.accuracy:.4f}  {sum(result.seconds):.1f} s",
            last=epoch + 1 == recipe.epochs,
        )
    return result


def _report(kept: bool, text: str, promised: bool = True) -> bool:
    """Print a line of the comparison; return whether no promise is broken by it."""
    if not promised:
        print(f"note  {text}{'' if kept else ': more than usual'} (promised for the digits, default seed and epochs)")
        return True
    print(f"{'ok  ' if kept else 'FAIL'}  {text}")
    return kept


def _compare(fast: Result, slow: Result, accuracy: float | None, total: int, promised: bool = True) -> bool:
    """Print both results side by side; return whether every promise was kept.

    `accuracy` is the promised one, if any; `promised` says whether the runs are promised to agree.
    """
    steps = len(slow.losses)
    fast_time, slow_time = sum(fast.seconds[:steps]), sum(slow.seconds)
    compared = min(COMPARED_LOSSES, steps)
    difference = np.abs(np.subtract(fast.losses[:compared], slow.losses[:compared])).max()  # NaN if any is
    print(f"\ntime of {steps} training steps: fastnn {fast_time:.2f} s, reference {slow_time:.2f} s,", end=" ")
    print(f"ratio {slow_time / fast_time:.1f} (NumPy does the matrix products in both)")
    kept = True
    if accuracy is not None:
        kept &= _report(fast.accuracy >= accuracy, f"test accuracy {fast.accuracy:.4f}, at least {accuracy}")
    text = f"first {compared} losses differ by at most {difference:.1e}, allowed {LOSS_TOLERANCE:.0e}"
    kept &= _report(difference <= LOSS_TOLERANCE, text if promised else text.partition(",")[0], promised)
    if steps == total:
        gap = abs(fast.accuracy - slow.accuracy)
        text = f"test accuracy of the reference {slow.accuracy:.4f}: {100 * gap:.2f} points apart, allowed 1"
        kept &= _report(gap <= ACCURACY_TOLERANCE, text if promised else text.partition(",")[0], promised)
    return kept


def run(data: str | Path | None = None, epochs: int | None = None, seed: int = 0) -> int:
    """Train on the digits, or on the IDX files in `data`, and compare with the reference.

    Parameters
    ----------
    data : path, optional
        Directory for `fastnn.data.load_idx`.  Default: the packaged digits.
    epochs : int, optional
        Default: 20 for the digits, 10 for other sets.
    seed : int, default 0

    Returns
    -------
    int
        0 if every promise was kept, else 1.  The test accuracy is promised for the default epochs and seed, that
        both runs agree for the digits with these: elsewhere a value within rounding of ReLU's kink can take them
        apart, and the difference is only shown.
    """
    dataset = load_digits() if data is None else load_idx(data)
    recipe = DIGITS if data is None else MNIST
    known = data is None or dataset.train_images.shape == (60000, 28, 28)
    default = seed == 0 and epochs in (None, recipe.epochs)
    accuracy = recipe.accuracy if known and default else None
    if epochs is not None:
        recipe = recipe._replace(epochs=epochs)
    if len(dataset.train_images) < recipe.batch_size:
        raise ValueError(f"training images: expected at least {recipe.batch_size}, got {len(dataset.train_images)}")
    total = recipe.epochs * (len(dataset.train_images) // recipe.batch_size)

    height, width = dataset.train_images.shape[1:]
    counts = f"{len(dataset.train_images)} training and {len(dataset.test_images)} test images"
    print(f"{dataset.name}: {counts}, {height} x {width} pixels")
    net = build((height, width), int(dataset.train_labels.max()) + 1, recipe, Generator(seed))
    print(f"{net.summary((recipe.batch_size, height, width))}\n")

    results: list[Result] = []
    for label, context, limit in (
        ("fastnn", nullcontext(), None),
        ("reference", use_reference(), recipe.reference_steps),
    ):
        if limit is not None and limit < total:
            print(f"the reference, which is slow, runs the first {limit} of {total} steps only")
        with context:
            results.append(train(dataset, recipe, seed, label, limit))
    return 0 if _compare(results[0], results[1], accuracy, total, default and data is None) else 1
