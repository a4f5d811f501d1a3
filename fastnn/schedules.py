"""Learning-rate schedules: plain callables from the number of steps taken to the learning rate.

    opt = Adam(net.parameters(), lr=warmup(cosine(1e-3, steps=10_000), steps=500))

Any function of one integer is a schedule; these are the usual ones, and they compose.  `step` counts from 0: the first
step of an optimizer is taken at ``schedule(0)``.  They hold no state, so an optimizer that is resumed goes on with the
same rates from its count of steps alone; `ReduceOnPlateau`, which watches a metric, has a state, and optimizers store
it with theirs.

Lengths are in steps: with 100 batches an epoch, ``exponential(1e-2, 0.98, every=100)`` shrinks the rate every epoch.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import Any, ParamSpec, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn._checks import check_number
from fastnn._state import check_state

__all__ = [
    "ReduceOnPlateau",
    "Schedule",
    "constant",
    "cosine",
    "cosine_restarts",
    "exponential",
    "inverse_sqrt",
    "linear",
    "one_cycle",
    "polynomial",
    "scaled",
    "sequence",
    "step_decay",
    "warmup",
]

P = ParamSpec("P")
Schedule: TypeAlias = Callable[[int], float]


def _rate(name: str, value: float) -> float:
    check_number(name, value)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name}: expected a finite number >= 0, got {value}")
    return float(value)


def _steps(name: str, value: int) -> int:
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name}: expected an integer >= 1, got {value}")
    return int(value)


def _as_schedule(lr: float | Schedule) -> Schedule:
    return lr if callable(lr) else constant(lr)


class _Made:
    """A schedule that is shown, copied and pickled as the call that made it."""

    def __init__(self, call: partial[Schedule], schedule: Schedule) -> None:
        self.__name__ = call.func.__name__  # for `Optimizer.formula`
        self._call = call
        self._schedule = schedule

    def __call__(self, step: int) -> float:
        return self._schedule(step)

    def __reduce__(self) -> tuple[partial[Schedule], tuple[()]]:
        return self._call, ()

    def __repr__(self) -> str:
        arguments = [*map(repr, self._call.args), *(f"{name}={value!r}" for name, value in self._call.keywords.items())]
        return f"{self.__name__}({', '.join(arguments)})"


class _MadeOfMemory(_Made):
    """The same of schedules that have a state."""

    def __init__(self, call: partial[Schedule], schedule: Schedule) -> None:
        super().__init__(call, schedule)
        self._parts = {str(index): part for index, part in enumerate(_with_memory(call))}

    def update(self, metric: float) -> bool:
        """Tell all of them; whether one has lowered its rate."""
        lowered = [part.update(metric) for part in self._parts.values()]
        return any(lowered)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Their states, numbered."""
        return {f"{i}.{name}": value for i, part in self._parts.items() for name, value in part.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        for i, part in self._parts.items():
            part.load_state_dict({name: state[f"{i}.{name}"] for name in part.state_dict() if f"{i}.{name}" in state})


def _with_memory(call: partial[Schedule]) -> list[Any]:
    """The schedules with a state among the arguments, or in the pairs that are arguments."""
    arguments = [*call.args, *call.keywords.values()]
    arguments += [item for each in arguments if isinstance(each, tuple) for item in each]
    return [each for each in arguments if hasattr(each, "state_dict")]


def _schedule(make: Callable[P, Schedule]) -> Callable[P, Schedule]:
    @wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Schedule:
        call = partial(made, *args, **kwargs)
        return (_MadeOfMemory if _with_memory(call) else _Made)(call, make(*args, **kwargs))

    return made


@_schedule
def constant(lr: float) -> Schedule:
    """The same rate at every step."""
    rate = _rate("lr", lr)
    return lambda step: rate


@_schedule
def step_decay(lr: float, every: int | Sequence[int], factor: float = 0.1) -> Schedule:
    """``lr * factor ** k``, k being how often `every` steps have passed, or how many of the milestones `every`.

    As `torch.optim.lr_scheduler.StepLR` and `MultiStepLR`.
    """
    rate, gain = _rate("lr", lr), _rate("factor", factor)
    if isinstance(every, (int, np.integer)):
        length = _steps("every", every)
        return lambda step: rate * gain ** (step // length)
    milestones = sorted(every)
    return lambda step: rate * gain ** bisect.bisect_right(milestones, step)


@_schedule
def exponential(lr: float, factor: float = 0.98, every: int = 1) -> Schedule:
    """``lr * factor ** (step // every)``: with `every` steps per epoch, the rate shrinks by `factor` every epoch."""
    return step_decay(lr, _steps("every", every), factor)


@_schedule
def polynomial(lr: float, steps: int, end: float = 0.0, power: float = 1.0) -> Schedule:
    """From `lr` to `end` in so many steps, ``end + (lr - end) * (1 - step / steps) ** power``; `end` from then on."""
    rate, last, length, exponent = _rate("lr", lr), _rate("end", end), _steps("steps", steps), _rate("power", power)
    return lambda step: last + (rate - last) * (1 - step / length) ** exponent if step < length else last


@_schedule
def linear(lr: float, steps: int, end: float = 0.0) -> Schedule:
    """From `lr` to `end` along a line; `end` from then on."""
    return polynomial(lr, steps, end)


@_schedule
def cosine(lr: float, steps: int, end: float = 0.0) -> Schedule:
    """From `lr` to `end` along half a cosine; `end` from then on (I. Loshchilov, F. Hutter: SGDR, ICLR 2017)."""
    rate, last, length = _rate("lr", lr), _rate("end", end), _steps("steps", steps)
    return lambda step: _half_cosine(rate, last, step / length) if step < length else last


def _half_cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * part))


@_schedule
def cosine_restarts(lr: float, steps: int, factor: float = 1, end: float = 0.0) -> Schedule:
    """Half cosines one after the other, each `factor` times as long as the last (SGDR, warm restarts).

    As `torch.optim.lr_scheduler.CosineAnnealingWarmRestarts`.
    """
    rate, last, first = _rate("lr", lr), _rate("end", end), _steps("steps", steps)
    if not factor >= 1:
        raise ValueError(f"factor: expected a number >= 1, got {factor}")

    def schedule(step: int) -> float:
        at, length = float(step), float(first)
        if factor == 1:
            at = step % first
        else:
            while at >= length:
                at -= length
                length *= factor
        return _half_cosine(rate, last, at / length)

    return schedule


@_schedule
def inverse_sqrt(lr: float, steps: int = 1) -> Schedule:
    """``lr / sqrt(max(1, step / steps))``: constant at first, then falling with the root of the step.

    A. Vaswani et al.: Attention is all you need (2017), there behind a linear warm-up of the same length.
    """
    rate, length = _rate("lr", lr), _steps("steps", steps)
    return lambda step: rate / math.sqrt(max(1.0, step / length))


@_schedule
def one_cycle(
    lr: float, steps: int, warm: float = 0.3, start_factor: float = 1 / 25, end_factor: float = 1 / 25e4
) -> Schedule:
    """Up to `lr` and down again in so many steps, both along half a cosine.

    From ``lr * start_factor`` to `lr` in the share `warm` of the steps, then to ``lr * end_factor``, which stays.  L.
    N. Smith, N. Topin: Super-convergence (2018), with the numbers of `torch.optim.lr_scheduler.OneCycleLR`.
    """
    most, length = _rate("lr", lr), _steps("steps", steps)
    if not 0 < warm < 1:
        raise ValueError(f"warm: expected a number between 0 and 1, got {warm}")
    first, last = most * _rate("start_factor", start_factor), most * _rate("end_factor", end_factor)
    turn, end = warm * length - 1, length - 1

    def schedule(step: int) -> float:
        if step >= end:
            return last
        if step < turn:
            return _half_cosine(first, most, step / turn)
        return _half_cosine(most, last, (step - turn) / (end - turn))

    return schedule


@_schedule
def warmup(schedule: float | Schedule, steps: int, start_factor: float = 0.0) -> Schedule:
    """A linear warm-up in front of a schedule or a rate.

    For so many steps the rate goes from ``start_factor * schedule(0)`` towards ``schedule(0)``, growing from the first
    step on; then the schedule begins at its own step 0.
    """
    then, length, low = _as_schedule(schedule), _steps("steps", steps), _rate("start_factor", start_factor)

    def warmed(step: int) -> float:
        if step >= length:
            return then(step - length)
        return then(0) * (low + (1 - low) * (step + 1) / (length + 1))

    return warmed


@_schedule
def sequence(*parts: tuple[float | Schedule, int] | float | Schedule) -> Schedule:
    """Schedules one after the other, each from its own step 0: ``sequence((constant(0.1), 500), cosine(0.1, 2000))``.

    Every part but the last is a pair of a schedule (or rate) and its number of steps.
    """
    *first, last = parts
    schedules, starts = [], [0]
    for part in first:
        if not isinstance(part, tuple):
            raise TypeError(f"parts: expected a pair of schedule and steps before the last part, got {part!r}")
        schedules.append(_as_schedule(part[0]))
        starts.append(starts[-1] + _steps("steps", part[1]))
    if isinstance(last, tuple):
        last = last[0]
    schedules.append(_as_schedule(last))

    def schedule(step: int) -> float:
        index = bisect.bisect_right(starts, step) - 1
        return schedules[index](step - starts[index])

    return schedule


@_schedule
def scaled(schedule: float | Schedule, factor: float) -> Schedule:
    """A schedule or rate times `factor`: for a group of parameters that learns more slowly than the others."""
    then, gain = _as_schedule(schedule), _rate("factor", factor)
    return lambda step: gain * then(step)


class ReduceOnPlateau:
    """A rate that shrinks when a metric has stopped to improve, as `torch.optim.lr_scheduler.ReduceLROnPlateau`.

    A schedule with a memory: call `update` with the metric after each epoch.  An optimizer that has it as its `lr`,
    or as that of a group, stores its state with its own.

    Parameters
    ----------
    lr : float or schedule
        What is multiplied by the reductions so far.
    factor : float, default 0.1
    patience : int, default 10
        Updates without improvement that are put up with; the next one reduces.
    threshold : float, default 1e-4
        Relative change that counts as an improvement.
    cooldown : int, default 0
        Updates after a reduction that do not count.
    min_lr : float, default 0
    mode : {"min", "max"}, default "min"
        Whether a smaller or a larger metric is better.

    Examples
    --------
    >>> plateau = ReduceOnPlateau(1e-2, patience=3)
    >>> opt = SGD(net.parameters(), lr=plateau)
    >>> plateau.update(validation_loss)
    """

    def __init__(
        self,
        lr: float | Schedule,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        mode: str = "min",
    ) -> None:
        if not 0 <= factor < 1:
            raise ValueError(f"factor: expected a number in [0, 1), got {factor}")
        if mode not in ("min", "max"):
            raise ValueError(f"mode: expected 'min' or 'max', got {mode!r}")
        self._schedule = _as_schedule(lr)
        self._factor, self._threshold, self._min_lr = factor, _rate("threshold", threshold), _rate("min_lr", min_lr)
        self._patience, self._cooldown, self._mode = patience, cooldown, mode
        self.scale = 1.0
        self.best = math.inf if mode == "min" else -math.inf
        self.bad_updates = 0
        self.cooling = 0

    __name__ = "reduce_on_plateau"

    def __call__(self, step: int) -> float:
        """The rate of this step."""
        return max(self._schedule(step) * self.scale, self._min_lr)

    def update(self, metric: float) -> bool:
        """Take note of the metric; returns whether the rate was reduced."""
        value = float(metric)
        sign = 1 if self._mode == "min" else -1
        if sign * value < sign * self.best * (1 - sign * self._threshold):
            self.best, self.bad_updates = value, 0
        else:
            self.bad_updates += 1
        if self.cooling > 0:
            self.cooling -= 1
            self.bad_updates = 0
        if self.bad_updates <= self._patience:
            return False
        self.scale *= self._factor
        self.cooling, self.bad_updates = self._cooldown, 0
        return True

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What it remembers, by name."""
        return {
            "scale": np.array(self.scale, np.float64),
            "best": np.array(self.best, np.float64),
            "bad_updates": np.array(self.bad_updates, np.int64),
            "cooling": np.array(self.cooling, np.int64),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`; ValueError where it does not fit, and nothing has changed then."""
        given = check_state(self.state_dict(), state)
        self.scale, self.best = float(given["scale"]), float(given["best"])
        self.bad_updates, self.cooling = int(given["bad_updates"]), int(given["cooling"])
