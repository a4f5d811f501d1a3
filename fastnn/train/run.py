"""The state of a training run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fastnn.layers.module import Module
    from fastnn.losses import Loss
    from fastnn.optim import Optimizer
    from fastnn.optim._base import StepRecord

__all__ = ["EVENTS", "Run"]

EVENTS = ("on_begin", "on_step_begin", "on_step_end", "on_epoch_end", "on_message", "on_end")


class Run:
    """A training run: what `fit` keeps, hands to its callbacks, and returns.

    Attributes
    ----------
    net, loss_fn, opt
        What `fit` was given.
    epochs, batch_size, samples, steps_per_epoch : int
    epoch, step : int
        Epochs that are complete, steps that have been taken.
    x, y : array
        The batch at hand, x behind `transform`.
    output : array
        What the network gave for it.
    loss, first_loss : float
        Loss of the batch at hand, and of the first.
    stats : bool
        Whether this step is to make a record; set by callbacks in ``on_step_begin``, False again before each step.
    record : StepRecord or None
        Of the last step, where `stats` asked for it.
    means : dict of str to float
        Loss and metrics of the epoch so far.
    history : dict of str to list of float
        One number per complete epoch: ``"loss"`` and the metrics, each a mean over the batches as they were trained
        on (so with dropout, and of weights that changed meanwhile), and ``"val_loss"`` and so on, if there is
        validation data.
    seconds : float
        Time spent, validation included, earlier parts of a resumed run as well.
    stopped : str
        Why the run ended before its last epoch; empty if it did not.
    """

    def __init__(
        self,
        net: Module,
        loss_fn: Loss,
        opt: Optimizer,
        *,
        epochs: int,
        batch_size: int,
        samples: int,
        steps_per_epoch: int,
        callbacks: Iterable[Any] = (),
    ) -> None:
        self.net, self.loss_fn, self.opt = net, loss_fn, opt
        self.epochs, self.batch_size, self.samples, self.steps_per_epoch = epochs, batch_size, samples, steps_per_epoch
        self.epoch = self.step = 0
        self.x: Any = None
        self.y: Any = None
        self.output: Any = None
        self.loss = self.first_loss = float("nan")
        self.stats = False
        self.record: StepRecord | None = None
        self.history: dict[str, list[float]] = {}
        self.seconds = 0.0
        self.stopped = ""
        self._sums: dict[str, float] = {}
        self._seen = 0
        self._methods: dict[str, list[Callable[..., Any]]] = {
            event: [getattr(each, event) for each in callbacks if hasattr(each, event)] for event in EVENTS
        }

    @property
    def means(self) -> dict[str, float]:
        return {name: total / self._seen for name, total in self._sums.items()}

    def goes_on(self) -> bool:
        """Whether there are epochs left, and nobody has stopped it."""
        return self.epoch < self.epochs and not self.stopped

    def add(self, values: Mapping[str, float], count: int) -> None:
        """Let a batch of so many samples take part in the means of the epoch."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + count * value
        self._seen += count

    def end_epoch(self, validation: Mapping[str, float]) -> None:
        """Close the epoch: its means and those of the validation data go to `history`."""
        for name, value in (self.means | {f"val_{name}": value for name, value in validation.items()}).items():
            self.history.setdefault(name, []).append(value)
        self._sums, self._seen = {}, 0
        self.epoch += 1

    def call(self, event: str, *arguments: Any) -> None:
        """Call the method of this name of each callback that has it, in their order."""
        for method in self._methods[event]:
            method(self, *arguments)

    def end(self) -> None:
        """Call ``on_end`` of each callback that has it, in their order, also of those behind one that raises."""
        errors = []
        for method in self._methods["on_end"]:
            try:
                method(self)
            except BaseException as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def stop(self, reason: str) -> None:
        """End the run behind this step or epoch, for a reason that is shown."""
        self.stopped = reason
        self.say(reason)

    def say(self, text: str) -> None:
        """Show a line of text wherever the progress is shown."""
        self.call("on_message", text)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What continues the run: counts, the first loss, means and history; not that it was stopped."""
        state = {
            "samples": np.array(self.samples, np.int64),
            "batch_size": np.array(self.batch_size, np.int64),
            "epoch": np.array(self.epoch, np.int64),
            "step": np.array(self.step, np.int64),
            "first_loss": np.array(self.first_loss, np.float64),
            "seconds": np.array(self.seconds, np.float64),
            "seen": np.array(self._seen, np.int64),
        }
        state |= {f"sums.{name}": np.array(total, np.float64) for name, total in self._sums.items()}
        return state | {f"history.{name}": np.array(values, np.float64) for name, values in self.history.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`.

        Raises
        ------
        ValueError
            If it is not the state of a run with as many samples, in batches of the same size.
        """
        missing = [name for name in self.state_dict() if "." not in name and name not in state]
        if missing:
            raise ValueError(f"state: expected {', '.join(missing)}, got {', '.join(state) or 'nothing'}")
        samples, batch_size = int(state["samples"]), int(state["batch_size"])
        if (samples, batch_size) != (self.samples, self.batch_size):
            raise ValueError(
                f"state: expected a run on {self.samples} samples in batches of {self.batch_size}, "
                f"got one on {samples} in batches of {batch_size}"
            )
        self.epoch, self.step, self._seen = int(state["epoch"]), int(state["step"]), int(state["seen"])
        self.first_loss, self.seconds = float(state["first_loss"]), float(state["seconds"])
        self._sums = {name[5:]: float(value) for name, value in state.items() if name.startswith("sums.")}
        self.history = {name[8:]: list(map(float, v)) for name, v in state.items() if name.startswith("history.")}
