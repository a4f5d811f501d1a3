"""The monitor: looks at a training step now and then, and says what looks wrong."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn._checks import check_index
from fastnn.layers.activation import Activation
from fastnn.layers.dropout import Flatten, Stochastic
from fastnn.layers.module import Module, Parameter
from fastnn.layers.watch import watch

if TYPE_CHECKING:
    from fastnn.optim._base import StepRecord
    from fastnn.train.run import Run

__all__ = ["Monitor", "Trace", "Warned"]

BINS = 48
GRADIENT_RANGE = (-12.0, 2.0)
"""Of the histograms of gradients: powers of ten."""
RATIOS = (1e-4, 1e-3, 1e-2)
"""Update / weight: the least, the usual and the most that go without a warning."""

_SAMPLE = 1 << 12  # elements that a histogram is taken of
_SATURATED = math.sqrt(0.95)  # |tanh| above it: its slope is less than 5 % of its largest


@dataclass
class Trace:
    """A quantity over time: ``values[i]`` was seen in step ``steps[i]``, counted from 0."""

    steps: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)


class Warned(NamedTuple):
    """A warning: the step behind which it was given, what it is about, and the words."""

    step: int
    about: str
    text: str


class Monitor:
    """Watches a training: a callback of `fastnn.train.fit`, or called by a loop of your own.

    At each step it keeps the loss, and every so many steps what is in `records`.  A watched step runs the layers one by
    one and computes the same bits as any other; it takes some 0.5 to 3 ms longer.  Watched every 100 steps, training
    slows down by less than 3 % where steps take half a millisecond or more, by 6 % where they take 80 microseconds.

    Parameters
    ----------
    net : Module, optional
        What to watch.  Default: the network of `fit`.
    report : path, optional
        Where `fit` leaves the report at its end, however it ends; see `write`.  Needs matplotlib.
    every : int, default 100
        Steps from one that is watched to the next; the first step is watched.
    window : int, default 5
        Watched steps that a warning looks back on: a unit of ReLU is dead if it was active for no sample of them.
    gap : float, default 0.1
        Difference between training and validation accuracy that is worth a warning.
    flat_epochs : int, default 5
        Epochs without a training loss that is 1 % smaller that are worth a warning.
    image_shape : tuple of int, optional
        (height, width) or (channels, height, width) of what the first layer sees, to show its weights as images.
        Default: square images if the number of inputs is a square.
    title : str, default "Training"
        Of the report.

    Attributes
    ----------
    records : dict of str to dict of str to Trace
        For each layer, such as ``records["mean"]["1 BatchNorm1d"]``: ``"mean"``, ``"std"``, ``"zeros"`` (share of
        exact zeros), ``"saturated"`` (tanh and sigmoid: share of outputs at which the slope is less than 5 % of its
        largest), ``"active"`` (ReLU and ReLU6: for each unit, whether it was active for any sample) and
        ``"histogram"`` (least and largest, then 48 counts between, without exact zeros).  For each parameter, such as
        ``records["ratio"]["0.weight"]``: ``"ratio"`` (``||update|| / ||w||``), ``"gradient"`` (its norm) and
        ``"gradient_histogram"`` (48 counts of log10 of the absolute values, from -12 to 2, without zeros).  Histograms
        are taken of some 4000 elements.
    losses : list of float
        Of every step.
    epochs : dict of str to Trace
        What `epoch` was told, such as ``epochs["val_loss"]``, against the steps taken.
    warnings : list of Warned

    Examples
    --------
    >>> fit(net, loss_fn, opt, x, y, epochs=20, callbacks=[Monitor(report="report.html")])

    or ::

        monitor = Monitor(net)
        for batch in batches:
            stats = monitor.begin()
            loss = loss_fn(net(x[batch]), y[batch])
            net.backward(loss_fn.backward(), need_dx=False)
            monitor.end(loss, opt.step(stats=stats))
        monitor.write("report.html")
    """

    def __init__(
        self,
        net: Module | None = None,
        report: str | Path | None = None,
        *,
        every: int = 100,
        window: int = 5,
        gap: float = 0.1,
        flat_epochs: int = 5,
        image_shape: tuple[int, ...] | None = None,
        title: str = "Training",
    ) -> None:
        for name, value in (("every", every), ("window", window), ("flat_epochs", flat_epochs)):
            if check_index(name, value) < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        if report is not None and importlib.util.find_spec("matplotlib") is None:
            raise _no_matplotlib()
        if report is not None and not Path(report).parent.is_dir():
            raise FileNotFoundError(f"report: expected a file in a directory that is there, got {report}")
        self.net = net
        self.report = report
        self.every, self.window, self.gap, self.flat_epochs = every, window, gap, flat_epochs
        self.image_shape = image_shape
        self.title = title
        self.records: dict[str, dict[str, Trace]] = {}
        self.losses: list[float] = []
        self.epochs: dict[str, Trace] = {}
        self.warnings: list[Warned] = []
        self._watching: ExitStack | None = None
        self._channel_axis = 1

    # ----------------------------------------------------------------------------------------------- in any loop

    def begin(self) -> bool:
        """Before the forward pass of a step; returns whether it is watched and its optimizer step is to have `stats`.

        Raises
        ------
        ValueError
            If there is no network to watch.
        """
        if len(self.losses) % self.every:
            return False
        if self.net is None:
            raise ValueError("net: expected Monitor(net) outside fit, got None")
        self._leave()
        self._watching = ExitStack()
        self._watching.enter_context(watch(self.net, self._see))
        return True

    def end(self, loss: float, record: StepRecord | None = None) -> list[str]:
        """After the optimizer's step.

        Parameters
        ----------
        loss : float
        record : StepRecord, optional
            What ``opt.step(stats=True)`` has returned, where `begin` has asked for it.

        Returns
        -------
        list of str
            New warnings.
        """
        known = len(self.warnings)
        if self._watching is not None:
            self._leave()
            self._look_at_parameters(record)
            self._check_layers()
        self.losses.append(float(loss))
        return [warned.text for warned in self.warnings[known:]]

    def epoch(self, values: Mapping[str, float]) -> list[str]:
        """At the end of an epoch.

        Parameters
        ----------
        values : mapping of str to float
            ``"loss"``, ``"val_loss"``, ``"accuracy"``, ``"val_accuracy"``: those that are known, and others.

        Returns
        -------
        list of str
            New warnings.
        """
        known = len(self.warnings)
        for name, value in values.items():
            _append(self.epochs.setdefault(name, Trace()), len(self.losses), float(value))
        self._check_epochs()
        return [warned.text for warned in self.warnings[known:]]

    def write(self, path: str | Path) -> None:
        """Write the report: one HTML file with its pictures inside, for light and dark screens.

        Raises
        ------
        ImportError
            Without matplotlib: ``pip install 'fastnn-kernels[monitor]'``.
        """
        from fastnn.monitor import page

        try:
            content = page.render(self)
        except ModuleNotFoundError as error:
            raise _no_matplotlib() from error
        Path(path).write_text(content, encoding="utf-8")

    def dead(self, layer: str) -> NDArray[np.float64]:
        """Share of dead units of a ReLU layer at each watched step, over the window that ends there.

        Parameters
        ----------
        layer : str
            A key of ``records["active"]``.
        """
        active = np.array(self.records["active"][layer].values)
        spans = [active[max(0, end - self.window) : end] for end in range(1, len(active) + 1)]
        return np.array([1.0 - span.any(axis=0).mean() for span in spans])

    # ------------------------------------------------------------------------------------------ as a callback

    def on_begin(self, run: Run) -> None:
        if self.net is None:
            self.net = run.net
        if self.image_shape is not None:
            from fastnn.monitor import figures

            figures.first_weights(self)  # refuses images that are none before anything is trained

    def on_step_begin(self, run: Run) -> None:
        run.stats = self.begin() or run.stats

    def on_step_end(self, run: Run) -> None:
        for text in self.end(run.loss, run.record):
            run.say(text)

    def on_epoch_end(self, run: Run) -> None:
        for text in self.epoch({name: values[-1] for name, values in run.history.items()}):
            run.say(text)

    def on_end(self, run: Run) -> None:
        self._leave()
        if self.report is not None and self.losses:
            self.write(self.report)

    # ------------------------------------------------------------------------------------------------- looking

    def _leave(self) -> None:
        if self._watching is not None:
            self._watching.close()
            self._watching = None

    def _add(self, kind: str, name: str, value: Any) -> None:
        _append(self.records.setdefault(kind, {}).setdefault(name, Trace()), len(self.losses), value)

    def _see(self, name: str, layer: Module, y: NDArray[Any]) -> None:
        self._channel_axis = getattr(layer, "channel_axis", self._channel_axis)
        if isinstance(layer, (Stochastic, Flatten)) or not y.size:
            return
        some = _some(y)
        centred = y.astype(np.float64).ravel()
        mean = float(centred.mean())
        centred -= mean
        self._add("mean", name, mean)
        self._add("std", name, math.sqrt(centred @ centred / centred.size))
        known = some[some != 0]
        self._add("zeros", name, 1.0 - known.size / some.size)
        self._add("histogram", name, _histogram(known))
        activation = layer.spec.name if isinstance(layer, Activation) else ""
        if activation in ("tanh", "sigmoid"):
            tanh = some if activation == "tanh" else 2 * some - 1  # the same curve
            self._add("saturated", name, float(np.mean(np.abs(tanh) > _SATURATED)))
        elif activation in ("relu", "relu6"):
            axis = 1 if y.ndim == 2 else self._channel_axis % y.ndim
            self._add("active", name, y.max(axis=tuple(a for a in range(y.ndim) if a != axis)) > 0)

    def _look_at_parameters(self, record: StepRecord | None) -> None:
        for name, parameter in self._weights():
            tensor = None if record is None else record.tensors.get(name)
            if tensor is not None:
                self._add("ratio", name, tensor.update_ratio)
                self._add("gradient", name, tensor.grad_norm)
            if parameter.grad is not None:
                size = np.abs(_some(parameter.grad))
                size = size[(size > 0) & (size < np.inf)]
                self._add("gradient_histogram", name, _counts(np.log10(size), *GRADIENT_RANGE))

    def _weights(self) -> list[tuple[str, Parameter]]:
        """Matrices and filters: biases and norm parameters start at 0 or 1, so that their ratios say little."""
        if self.net is None:
            return []
        return [(name, each) for name, each in self.net.named_parameters() if each.data.ndim >= 2]

    # ------------------------------------------------------------------------------------------------ warnings

    def _warn(self, about: str, text: str) -> None:
        """Once about each thing."""
        if all(warned.about != about for warned in self.warnings):
            self.warnings.append(Warned(len(self.losses), about, text))

    def _check_layers(self) -> None:
        for name, trace in self.records.get("ratio", {}).items():
            if len(trace.values) < self.window:
                continue
            middle = float(np.median(trace.values))
            if not RATIOS[0] <= middle <= RATIOS[2]:
                rate = "small" if middle < RATIOS[0] else "large"
                self._warn(
                    f"ratio {name}",
                    f"{name}: a step changes it by {middle:.1e} of its size (median so far), usual is {RATIOS[1]:.0e}; "
                    f"the learning rate may be too {rate}",
                )
        for name, trace in self.records.get("active", {}).items():
            if len(trace.values) < self.window:
                continue
            dead = 1.0 - np.any(trace.values[-self.window :], axis=0).mean()
            if dead > 0.4:
                self._warn(
                    f"dead {name}",
                    f"{name}: {dead:.0%} of {len(trace.values[-1])} units are dead, active for no sample of the last "
                    f"{self.window} batches watched; a smaller learning rate or LeakyReLU may help",
                )
        for name, trace in self.records.get("saturated", {}).items():
            if len(trace.values) >= self.window and (share := float(np.median(trace.values[-self.window :]))) > 0.5:
                self._warn(
                    f"saturated {name}",
                    f"{name}: {share:.0%} of its outputs are where the slope is next to nothing; smaller initial "
                    "weights or batch norm before it may help",
                )

    def _check_epochs(self) -> None:
        for name, trace in self.epochs.items():
            training = self.epochs.get(name.removeprefix("val_"))
            if name == "val_accuracy" and training and (gap := training.values[-1] - trace.values[-1]) > self.gap:
                self._warn(
                    "gap",
                    f"training accuracy {training.values[-1]:.3f}, validation accuracy {trace.values[-1]:.3f}, "
                    f"{gap:.3f} apart: the network overfits; more regularisation or more data may help",
                )
        losses = self.epochs["loss"].values if "loss" in self.epochs else []
        if len(losses) > self.flat_epochs:
            earlier, later = min(losses[: -self.flat_epochs]), min(losses[-self.flat_epochs :])
            if later > earlier - 0.01 * abs(earlier):
                self._warn("flat", f"the training loss has been flat for {self.flat_epochs} epochs, at {later:.4g}")

    # --------------------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """All that was seen, for checkpoints."""
        state: dict[str, NDArray[Any]] = {
            "losses": np.array(self.losses, np.float64),
            "warnings.step": np.array([warned.step for warned in self.warnings], np.int64),
            "warnings.about": np.array([warned.about for warned in self.warnings], np.str_),
            "warnings.text": np.array([warned.text for warned in self.warnings], np.str_),
        }
        for kind, traces in {**self.records, "": self.epochs}.items():
            for name, trace in traces.items():
                state[f"{kind}|{name}|steps"] = np.array(trace.steps, np.int64)
                state[f"{kind}|{name}|values"] = np.array(trace.values)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        columns = [state[f"warnings.{name}"].tolist() for name in Warned._fields]
        self.warnings = [Warned(*each) for each in zip(*columns, strict=True)]
        self.losses = state["losses"].tolist()
        self.records, self.epochs = {}, {}
        for key in state:
            kind, *name = key.split("|")
            if name and name[-1] == "steps":
                values = state[f"{kind}|{name[0]}|values"]
                traces = self.records.setdefault(kind, {}) if kind else self.epochs
                traces[name[0]] = Trace(state[key].tolist(), values.tolist() if values.ndim == 1 else list(values))


def _no_matplotlib() -> ImportError:
    return ImportError("the report of a Monitor needs matplotlib: pip install 'fastnn-kernels[monitor]'")


def _append(trace: Trace, step: int, value: Any) -> None:
    trace.steps.append(step)
    trace.values.append(value)


def _some(array: NDArray[Any]) -> NDArray[Any]:
    """At most some 4000 elements: whole rows along the first axis, evenly spaced."""
    stride = max(1, min(len(array), array.size // _SAMPLE)) if array.ndim else 1
    return array[::stride].ravel()


def _histogram(values: NDArray[Any]) -> NDArray[np.float64]:
    """Least and largest, then counts between; of what is finite."""
    if not math.isfinite(values.sum(dtype=np.float64)):
        values = values[np.isfinite(values)]
    histogram = np.zeros(2 + BINS)
    if values.size:
        histogram[:2] = low, high = values.min(), values.max()
        histogram[2:] = _counts(values, float(low), float(high))
    return histogram


def _counts(values: NDArray[Any], low: float, high: float) -> NDArray[np.int64]:
    """How many values are in each of the bins; those outside belong to the outermost."""
    if not values.size or not high > low:
        return np.bincount([0] * values.size, minlength=BINS)
    places = ((values - low) * (BINS / (high - low))).clip(0, BINS - 1)
    return np.bincount(places.astype(np.intp), minlength=BINS)
