"""Callbacks of `fit`: plain objects with the methods that they need."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from fastnn._checks import check_number, check_size, check_word

if TYPE_CHECKING:
    from fastnn.train.run import Run

__all__ = ["EarlyStopping", "Progress"]

SECONDS_BETWEEN = 0.1
"""From one time a bar is drawn to the next."""


class EarlyStopping:
    """Ends a run that has stopped to improve, and puts the best state of the network back.

    Each run begins afresh; one that is resumed after its end goes on if `patience` is larger now.

    Parameters
    ----------
    quantity : str, default "val_loss"
        A column of `Run.history`.
    patience : int, default 5
        Epochs without improvement that are put up with; the next one ends the run.
    min_delta : float, default 0
        Change that counts as an improvement, beyond this.
    mode : {"min", "max"}, default "min"
        Whether a smaller or a larger number is better.
    restore_best : bool, default True
        At the end of the run, however it ends, bring the network into the state it had after its best epoch.

    Attributes
    ----------
    best : float
        The best number so far.
    best_epoch : int
        Its epoch, counted from 1; 0 before the first.

    Examples
    --------
    >>> fit(net, loss_fn, opt, x, y, epochs=100, validation=val, callbacks=[EarlyStopping(patience=10)])
    """

    def __init__(
        self,
        quantity: str = "val_loss",
        *,
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str = "min",
        restore_best: bool = True,
    ) -> None:
        check_size("patience", patience, 0)
        check_number("min_delta", min_delta)
        check_word("mode", mode, "min", "max")
        self.quantity, self.patience, self.min_delta, self.mode = quantity, patience, min_delta, mode
        self.restore_best = restore_best
        self._reset()

    def _reset(self) -> None:
        self.best = math.inf if self.mode == "min" else -math.inf
        self.best_epoch = 0
        self._bad_epochs = 0
        self._state: dict[str, NDArray[Any]] = {}

    def on_begin(self, run: Run) -> None:
        """Forget an earlier run; end one that was resumed after its end."""
        if run.step == 0:
            self._reset()
        self._stop_if_due(run)

    def on_epoch_end(self, run: Run) -> None:
        """Compare, and stop the run if it is time."""
        if self.quantity not in run.history:
            raise ValueError(f"quantity: expected one of {', '.join(run.history)}, got {self.quantity!r}")
        value = run.history[self.quantity][-1]
        sign = 1 if self.mode == "min" else -1
        if sign * value < sign * self.best - self.min_delta:
            self.best, self.best_epoch, self._bad_epochs = value, run.epoch, 0
            self._state = run.net.state_dict() if self.restore_best else {}
            return
        self._bad_epochs += 1
        self._stop_if_due(run)

    def _stop_if_due(self, run: Run) -> None:
        if self._bad_epochs > self.patience:
            best = f"{self.quantity} was best, {self.best:.4f}, in epoch {self.best_epoch}"
            run.stop(f"stopped after epoch {run.epoch}: {best}")

    def on_end(self, run: Run) -> None:
        """Put the best state back."""
        if self._state:
            run.net.load_state_dict(self._state)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """The best number and its epoch, epochs since, and the best state of the network."""
        return {
            "best": np.array(self.best, np.float64),
            "best_epoch": np.array(self.best_epoch, np.int64),
            "bad_epochs": np.array(self._bad_epochs, np.int64),
        } | {f"net.{name}": array for name, array in self._state.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        if missing := {"best", "best_epoch", "bad_epochs"} - set(state):
            raise ValueError(f"state: expected {', '.join(sorted(missing))}, got {', '.join(state) or 'nothing'}")
        self.best, self.best_epoch = float(state["best"]), int(state["best_epoch"])
        self._bad_epochs = int(state["bad_epochs"])
        self._state = {name[4:]: np.asarray(array) for name, array in state.items() if name.startswith("net.")}


class Progress:
    """What is being trained, how well, how fast, and how long it will take.

    On a terminal, a bar that is rewritten; elsewhere, and when an epoch is complete, a plain line for each epoch.

    Parameters
    ----------
    stream : text file, optional
        Default: stdout.
    label : str, optional
        Starts each line.
    """

    def __init__(self, stream: TextIO | None = None, label: str = "") -> None:
        self._stream = stream
        self._label = f"{label}  " if label else ""
        self._width = 0
        self._live = False
        self._shown = 0.0
        self._start = (0.0, 0)

    def on_begin(self, run: Run) -> None:
        self._stream = sys.stdout if self._stream is None else self._stream
        self._live = self._stream.isatty()
        self._start = time.perf_counter(), run.step

    def on_step_end(self, run: Run) -> None:
        now = time.perf_counter()
        if self._live and now - self._shown >= SECONDS_BETWEEN:
            self._shown = now
            line = self._line(run, run.epoch + 1, run.means)
            columns = shutil.get_terminal_size().columns - 1  # a line that wraps could not be rewritten
            done = run.step / run.steps_per_epoch - run.epoch
            self._write((line + _bar(done, min(20, columns - len(line) - 4)))[:columns], "")

    def on_epoch_end(self, run: Run) -> None:
        self._write(self._line(run, run.epoch, {name: values[-1] for name, values in run.history.items()}), "\n")
        self._start = time.perf_counter(), run.step

    def on_message(self, run: Run, text: str) -> None:
        self._write(self._label + text, "\n")

    def on_end(self, run: Run) -> None:
        if self._live and self._width:
            self._write("", "")

    def _line(self, run: Run, epoch: int, values: Mapping[str, float]) -> str:
        start, first_step = self._start
        rate = (run.step - first_step) / max(time.perf_counter() - start, 1e-9)
        left = run.epochs * run.steps_per_epoch - run.step
        pieces = [f"epoch {epoch:{len(str(run.epochs))}d}/{run.epochs}"]
        pieces += [f"{name} {value:.4f}" for name, value in values.items()]
        pieces += [f"{rate * run.samples / run.steps_per_epoch:,.0f} samples/s"]
        if rate and left:
            pieces.append(f"ETA {_clock(left / rate)}")
        return self._label + "  ".join(pieces)

    def _write(self, line: str, end: str) -> None:
        """A line in the place of the one that is being rewritten, if there is one."""
        start = "\r" if self._live else ""
        print(start + line.ljust(self._width), end=end, flush=True, file=self._stream)
        self._width = 0 if end else len(line)


def _bar(done: float, width: int) -> str:
    """How much is done; nothing where there is no room."""
    filled = round(width * done)
    return f"  [{'#' * filled}{'.' * (width - filled)}]" if width > 0 else ""


def _clock(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
