"""What every optimizer is: arrays with names, their gradients, the state, and what rules share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from fastnn import _backend, _core
from fastnn._checks import check_number
from fastnn._core import empty
from fastnn._state import check_state
from fastnn.optim._shared import check_not_negative, check_positive, clips_to_unit
from fastnn.optim.average import EMA, EqualAverage

if TYPE_CHECKING:
    from fastnn.layers.module import Parameter

__all__ = ["Clock", "Optimizer", "Params", "Rate", "Shared", "StepRecord", "TensorRecord"]

Array: TypeAlias = NDArray[Any]
Rate: TypeAlias = "float | Callable[[int], float]"
Params: TypeAlias = "Iterable[Parameter] | Iterable[Array] | Mapping[str, Array]"


class Shared(TypedDict, total=False):
    """What all optimizers take by keyword; described in `Optimizer`."""

    l1: float
    decay: str
    clip_norm: float | None
    clip_value: float | None
    clip_form: str
    nonfinite: str
    max_norm: float | None
    max_norm_of: str
    average: EMA | EqualAverage | None
    groups: Mapping[str, Mapping[str, Any]] | None


class Clock(NamedTuple):
    """Steps that some arrays have taken, and the running products that go with them."""

    steps: int
    products: tuple[float, ...]


class TensorRecord(NamedTuple):
    """What a step saw of one array: ``||update|| / ||w||``, ``||g||`` before clipping, the largest ``|w|`` after it."""

    update_ratio: float
    grad_norm: float
    max_abs: float


@dataclass(frozen=True)
class StepRecord:
    """What a step saw, as a by-product of its pass.

    Attributes
    ----------
    grad_norm : float
        Norm of all gradients together, before clipping.
    penalty : float
        ``sum(weight_decay / 2 * w ** 2 + l1 * abs(w))`` before the step, over the arrays it updates: what
        regularisation adds to the loss that its gradients belong to.  Decoupled decay is no penalty.
    tensors : dict from names to `TensorRecord`
        Of every array that was updated.  A max-norm constraint comes after.
    """

    grad_norm: float
    penalty: float
    tensors: dict[str, TensorRecord]


class _Options(NamedTuple):
    """What a group sets for an array; None: as the optimizer has it."""

    lr: Rate | None = None
    weight_decay: float | None = None
    l1: float | None = None
    max_norm: float | None = None  # 0: none


class Optimizer:
    """Base of all optimizers: one native call updates every array, reading and writing each byte once.

    Before the rule ::

        factor = min(1, clip_norm / (||grad|| + 1e-6)), or 1 / ||grad|| above clip_norm with clip_form="unit"
        g = clip(grad * factor, -clip_value, clip_value)
        g = g + weight_decay * param + l1 * sign(param)

    (decoupled decay shrinks the parameter instead), after it the max-norm constraint and the average.  `formula` prints
    what a given optimizer does.

    Parameters
    ----------
    params : iterable of Parameter, or of arrays, or mapping from names to arrays
        ``net.parameters()``, or arrays that `step` updates in place: all float32 or all float64.
    lr : float or callable
        A learning rate, or a schedule (`fastnn.schedules`): the number of steps taken -> learning rate.
    weight_decay : float, default 0 unless stated
        Penalty ``weight_decay / 2 * param ** 2``; decoupled from the gradient in `AdamW` and `Lion`.
    l1 : float, default 0
        Penalty ``l1 * abs(param)``; together with `weight_decay`, an elastic net.
    decay : {"all", "weights"}, default "all"
        What `weight_decay`, `l1` and `max_norm` apply to.  "weights" exempts biases and norm parameters
        (`Parameter.decay`); of plain arrays, those with fewer than two axes.
    clip_norm : float, optional
        Scale the gradients down to this norm, taken over all of them together, as `torch.nn.utils.clip_grad_norm_`.
    clip_value : float, optional
        Keep every element within +-clip_value, as `torch.nn.utils.clip_grad_value_`, after `clip_norm`.
    clip_form : {"scale", "unit"}, default "scale"
        "unit": gradients whose norm is larger than `clip_norm` are divided by their norm.
    nonfinite : {"allow", "error", "skip"}, default "allow"
        Of gradients whose norm is not finite: "error" raises and names the first bad parameter, "skip" goes on without
        a step (`step_count` stays); nothing is written then.  Both read the gradients once more.
    max_norm : float, optional
        After each step, scale rows of weights (arrays with at least two axes) down to this norm.
    max_norm_of : {"rows", "columns"}, default "rows"
        "rows": ``w[i]``, the weights into one unit of `Linear`, or one filter; "columns": ``w[..., j]``, the same where
        weights are (inputs, outputs).
    average : EMA or EqualAverage, optional
        Average of the weights, kept in the same pass; see `averaged`.
    groups : mapping from patterns to options, optional
        ``{"*.bias": dict(weight_decay=0), "head.*": dict(lr=1e-3)}``: for arrays whose name fits the pattern
        (`fnmatch`), `lr` (a number or schedule), `weight_decay`, `l1` and `max_norm` (0: none).  Later ones win.

    Attributes
    ----------
    lr : float or callable
        May be set between steps, as may the other numbers that an optimizer takes; they are checked at the next step.
    step_count : int
        Steps taken.
    """

    _rule: ClassVar[str]
    _slots: tuple[str, ...] = ()  # names of the state arrays, in the order of the rule
    _products: tuple[str, ...] = ()  # names of the running products
    _numbers: Callable[..., tuple[float, ...]]
    _decoupled: bool = False
    _states: Sequence[list[Array] | None]

    def __init__(
        self,
        params: Params,
        lr: Rate,
        weight_decay: float = 0.0,
        *,
        l1: float = 0.0,
        decay: str = "all",
        clip_norm: float | None = None,
        clip_value: float | None = None,
        clip_form: str = "scale",
        nonfinite: str = "allow",
        max_norm: float | None = None,
        max_norm_of: str = "rows",
        average: EMA | EqualAverage | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._parameters, self._arrays, self._names, self._has_names = _named(params)
        self.lr = lr
        self.weight_decay = weight_decay
        self.l1 = l1
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.clip_form = clip_form
        self.nonfinite = nonfinite
        self.max_norm = max_norm
        self.max_norm_of = max_norm_of
        self.average = average
        self.step_count = 0
        self._check()
        self._tensor_options = self._options_of_all(decay, groups or {})
        self._group_rates = {pattern: given["lr"] for pattern, given in (groups or {}).items() if "lr" in given}
        self._clocks = [Clock(0, (1.0,) * len(self._products))]  # the first is that of the optimizer
        self._clock_of = [0] * len(self._arrays)
        self._frozen: set[int] = set()
        self._averages = [array.copy() for array in self._arrays] if average is not None else None
        self._average_count = 0
        self._swapped = False
        self._regroup()

    def _check(self) -> None:
        if not callable(self.lr):
            check_not_negative("lr", self.lr)
        check_not_negative("weight_decay", self.weight_decay)
        check_not_negative("l1", self.l1)
        unit = clips_to_unit(self.clip_form)
        if self.clip_norm is not None:
            check_number("clip_norm", self.clip_norm)
        if self.clip_norm is not None and not (self.clip_norm > 0 or (unit and self.clip_norm == 0)):
            raise ValueError(f"clip_norm: expected None or a number > 0, got {self.clip_norm}")
        for name in ("clip_value", "max_norm"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        if self.nonfinite not in ("allow", "error", "skip"):
            raise ValueError(f"nonfinite: expected 'allow', 'error' or 'skip', got {self.nonfinite!r}")
        if not (self.average is None or isinstance(self.average, (EMA, EqualAverage))):
            raise TypeError(f"average: expected EMA(...), EqualAverage(...) or None, got {self.average!r}")
        if self.max_norm_of not in ("rows", "columns"):
            raise ValueError(f"max_norm_of: expected 'rows' or 'columns', got {self.max_norm_of!r}")

    # ------------------------------------------------------------------------------------------- what rules define

    def _advanced(self, clock: Clock) -> Clock:
        """The clock of the next step."""
        return Clock(clock.steps + 1, ())

    def _options(self, clock: Clock) -> dict[str, Any]:
        """Arguments of the rule's step, but for those that all rules share."""
        return {}

    def _rate(self, lr: float, clock: Clock) -> float:
        """The learning rate of the rule's step."""
        return lr

    def _begin(self) -> Sequence[list[Array] | None]:
        """The state arrays of the next step."""
        return self._states

    def _end(self) -> None:
        """Called after a step."""

    def _formula(self) -> list[str]:
        """Lines of the rule, from g to param."""
        raise NotImplementedError(f"{type(self).__name__} does not define _formula")

    # ---------------------------------------------------------------------------------------------------- the step

    def step(self, grads: Sequence[Array] | None = None, *, stats: bool = False) -> Any:
        """Update all arrays in place.

        Parameters
        ----------
        grads : sequence of arrays, optional
            One for each array, not changed.  Default: the `grad` of each Parameter.  What is frozen needs none.
        stats : bool, default False
            Return a `StepRecord`: norms of gradients and relative size of updates, from the same pass.

        Returns
        -------
        float, StepRecord or None
            The norm of all gradients together before clipping, if `clip_norm` is set, else None; with `stats`, the
            record, or None where nonfinite="skip" has skipped the step.

        Raises
        ------
        TypeError, ValueError
            For missing gradients, a list of another length, arrays of another dtype or shape, gradients that are not
            finite with nonfinite="error"; nothing has changed then.
        """
        if grads is None:
            if not self._parameters:
                raise TypeError("grads: expected one array for each array of this optimizer, got None")
            grads = [parameter.grad for parameter in self._parameters]  # type: ignore[misc]
        elif len(grads) != len(self._arrays):
            raise ValueError(f"grads: expected {len(self._arrays)} arrays, got {len(grads)}")
        if self._swapped:
            raise RuntimeError("step: expected the weights themselves, got their average; leave averaged() first")
        arrays, states = self._arrays, self._begin()
        clocks = list(map(self._advanced, self._clocks))
        options = self._group_options(clocks)
        unit = clips_to_unit(self.clip_form)
        averages, weight = self._averages_due()
        if self._active is not None:
            grads, arrays = self._live(grads), self._live(arrays)
            states = [each and self._live(each) for each in states]
            averages = averages and self._live(averages)
        run, numbers = _implementation(self._numbers, options)
        try:
            norm = run(
                self._rule,
                arrays,
                grads,
                states,
                numbers,
                self._group_of,
                self.clip_norm,
                unit,
                self.nonfinite,
                averages,
                weight,
                self._max_norms(),
                self.max_norm_of == "columns",
                stats,
            )
        except (TypeError, ValueError) as error:
            raise self._explained(error, grads) from None
        rows: list[tuple[float, ...]] = []
        if stats:
            norm, rows = norm
        if self.nonfinite == "skip" and not math.isfinite(norm):
            return None if stats or self.clip_norm is None else norm
        for index in self._live_clocks:
            self._clocks[index] = clocks[index]
        self.step_count += 1
        self._average_count += averages is not None
        self._end()
        if stats:
            return self._record(norm, rows, options)
        return None if self.clip_norm is None else norm

    def _live(self, arrays: Sequence[Array]) -> list[Array]:
        """Those that are not frozen, of one for each array."""
        return [arrays[i] for i in self._active or ()]

    def _rate_now(self, rate: Rate) -> float:
        if not callable(rate):
            return rate
        value = rate(self.step_count)
        check_number("lr", value)
        return float(value)

    def _group_options(self, clocks: Sequence[Clock]) -> list[dict[str, Any]]:
        """Arguments of the step of each group of arrays, at these clocks."""
        of_groups = []
        for group, number in self._groups:
            clock = clocks[number]
            options = self._options(clock)
            rate = self._rate_now(self.lr if group.lr is None else group.lr)
            options["lr"] = self._rate(rate, clock)
            options["weight_decay"] = self.weight_decay if group.weight_decay is None else group.weight_decay
            options["l1"] = self.l1 if group.l1 is None else group.l1
            options["clip_value"] = self.clip_value
            of_groups.append(options)
        return of_groups

    def _max_norms(self) -> list[float] | None:
        """Largest norm for each live array, 0 for none; None if there is none at all."""
        if self.max_norm is None and not self._some_max_norm:
            return None
        own = self.max_norm or 0.0
        limits = [own if options.max_norm is None else options.max_norm for options in self._tensor_options]
        return limits if self._active is None else [limits[i] for i in self._active]

    def _averages_due(self) -> tuple[list[Array] | None, float]:
        if self.average is None or self.step_count < self.average.start:
            return None, 1.0
        return self._averages, self.average.weight(self._average_count)

    def _record(self, norm: float | None, rows: list[tuple[float, ...]], options: list[dict[str, Any]]) -> StepRecord:
        tensors, squares_of_grads, penalty = {}, 0.0, 0.0
        group_of = self._group_of or [0] * len(rows)
        live = range(len(self._arrays)) if self._active is None else self._active
        for index, group, (grad, squares, absolute, update, largest) in zip(live, group_of, rows, strict=True):
            ratio = math.sqrt(update / squares) if squares else math.inf if update else 0.0
            tensors[self._names[index]] = TensorRecord(ratio, math.sqrt(grad), largest)
            squares_of_grads += grad
            decay = 0.0 if self._decoupled else options[group]["weight_decay"]
            penalty += 0.5 * decay * squares + options[group]["l1"] * absolute
        return StepRecord(math.sqrt(squares_of_grads) if norm is None else norm, penalty, tensors)

    def _explained(self, error: Exception, grads: Sequence[Any]) -> Exception:
        """The error with the names of arrays instead of their numbers, or what is behind it: a missing gradient."""
        live = range(len(self._arrays)) if self._active is None else self._active
        missing = [self._names[i] for i, grad in zip(live, grads, strict=True) if grad is None]
        if missing and self._parameters:
            return ValueError(f"grads: expected backward before step, got no gradient of {', '.join(missing)}")

        def name(match: re.Match[str]) -> str:
            index = live[int(match[2])]
            return f"{match[1]}[{self._names[index]!r}]" if self._has_names else f"{match[1]}[{index}]"

        return type(error)(re.sub(r"\b([a-z]\w*)\[(\d+)\]", name, str(error)))

    def _zeros(self) -> list[Array]:
        """Arrays of a state: zeros like the trained arrays."""
        zeros = [empty(array.shape, array.dtype) for array in self._arrays]
        for array in zeros:
            array.fill(0)
        return zeros

    # --------------------------------------------------------------------------------------------- groups of arrays

    def _matching(self, pattern: str) -> list[int]:
        found = [i for i, name in enumerate(self._names) if fnmatchcase(name, pattern)]
        if not found:
            raise ValueError(f"{pattern!r}: expected a pattern that fits one of {', '.join(self._names)}")
        return found

    def _options_of_all(self, decay: str, groups: Mapping[str, Mapping[str, Any]]) -> list[_Options]:
        if decay not in ("all", "weights"):
            raise ValueError(f"decay: expected 'all' or 'weights', got {decay!r}")
        exempt = _Options(weight_decay=0.0, l1=0.0, max_norm=0.0)
        weights = [parameter.decay for parameter in self._parameters] or [array.ndim >= 2 for array in self._arrays]
        options = [_Options() if decay == "all" or weight else exempt for weight in weights]
        for pattern, given in groups.items():
            if unknown := set(given) - set(_Options._fields):
                raise TypeError(f"groups[{pattern!r}]: expected {', '.join(_Options._fields)}, got {min(unknown)!r}")
            for name, value in given.items():
                if not (name == "lr" and callable(value)):
                    check_not_negative(f"groups[{pattern!r}]: {name}", value)
            for index in self._matching(pattern):
                options[index] = options[index]._replace(**given)
        self._some_max_norm = any(each.max_norm for each in options)
        return options

    def _regroup(self) -> None:
        """Put arrays of equal options together; what is frozen, or was for some steps, has a clock of its own."""
        everything = range(len(self._arrays))
        self._active = [i for i in everything if i not in self._frozen] if self._frozen else None
        main = self._clocks[0]
        clocks: dict[tuple[Clock, bool], int] = {(main, False): 0}
        old = [self._clocks[index] for index in self._clock_of]
        self._clock_of = [clocks.setdefault((old[i], i in self._frozen), len(clocks)) for i in everything]
        self._clocks = [clock for clock, _ in clocks]
        self._live_clocks = [index for index, (_, frozen) in enumerate(clocks) if not frozen]
        groups: dict[tuple[_Options, int], int] = {}
        group_of = []
        for i in everything if self._active is None else self._active:
            key = self._tensor_options[i]._replace(max_norm=None), self._clock_of[i]
            group_of.append(groups.setdefault(key, len(groups)))
        self._groups = list(groups)
        self._group_of = group_of if len(groups) > 1 else None

    def freeze(self, pattern: str = "*") -> None:
        """Leave the arrays whose names fit `pattern` alone, with their state and count of steps, until `unfreeze`.

        Their gradients are not read, may be missing, and do not count in the norm.

        Parameters
        ----------
        pattern : str, default "*"
            As in `fnmatch`; plain arrays are named "0", "1" ... unless they came in a mapping.
        """
        self._frozen.update(self._matching(pattern))
        self._regroup()

    def unfreeze(self, pattern: str = "*") -> None:
        """Update the arrays whose names fit `pattern` again; bias corrections go on where they stopped.

        Parameters
        ----------
        pattern : str, default "*"
        """
        self._frozen.difference_update(self._matching(pattern))
        self._regroup()

    # ------------------------------------------------------------------------------------------ what can be asked

    @property
    def current_lr(self) -> float:
        """The learning rate of the next step, before options of groups."""
        return self._rate_now(self.lr)

    def penalty(self) -> float:
        """``sum(weight_decay / 2 * w ** 2 + l1 * abs(w))``: what regularisation adds to the loss.

        It reads the weights; `step` with ``stats=True`` gives it as a by-product.  Decoupled decay is no penalty.
        """
        total = 0.0
        for array, options in zip(self._arrays, self._tensor_options, strict=True):
            decay = self.weight_decay if options.weight_decay is None else options.weight_decay
            l1 = self.l1 if options.l1 is None else options.l1
            if (decay and not self._decoupled) or l1:
                ((squares, absolute),) = _core.weight_sums([array])
                total += (0.0 if self._decoupled else 0.5 * decay * squares) + l1 * absolute
        return total

    def formula(self) -> str:
        """The formula that a step executes, and its numbers."""
        given = self._tensor_options
        decays = self.weight_decay or any(each.weight_decay for each in given)
        sparse = self.l1 or any(each.l1 for each in given)
        lines = []
        if self.clip_norm is not None and self.clip_form == "scale":
            lines.append("grad = grad * min(1, clip_norm / (||all grads|| + 1e-6))")
        elif self.clip_norm is not None:
            lines.append("grad = grad / ||all grads||" + (" where that is > clip_norm" if self.clip_norm else ""))
        if decays and self._decoupled:
            lines.append("param = param * (1 - lr * weight_decay)")
        g = "grad" if self.clip_value is None else "clip(grad, -clip_value, clip_value)"
        if decays and not self._decoupled:
            g += " + weight_decay * param"
        lines.append(f"g = {g}" + (" + l1 * sign(param)" if sparse else ""))
        lines += self._formula()
        if self.max_norm is not None or self._some_max_norm:
            each = self.max_norm_of.removesuffix("s")
            lines.append(f"{each} = {each} * min(1, max_norm / ||{each}||)")
        if self.average is not None:
            weight = "(1 - decay)" if isinstance(self.average, EMA) else "1 / (steps averaged)"
            lines.append(f"average = average + {weight} * (param - average)")
        text = "\n".join(lines)
        values = {name: value for name, value in vars(self).items() if name[0] != "_"} | (
            vars(self.average) if self.average else {}
        )
        named = [
            f"{name} = {getattr(value, '__name__', value)}"
            for name, value in values.items()
            if re.search(rf"\b{name}\b", text) and name != "average"
        ]
        return f"{text}\nwith {', '.join(named)}"

    def summary(self) -> str:
        """A table of what applies to which array."""
        rows: list[tuple[str, ...]] = [("name", "shape", "lr", "weight_decay", "l1", "max_norm", "steps", "")]
        own_limit = self.max_norm or 0.0
        for i, (name, array, options) in enumerate(zip(self._names, self._arrays, self._tensor_options, strict=True)):
            rate = self._rate_now(self.lr if options.lr is None else options.lr)
            decay = self.weight_decay if options.weight_decay is None else options.weight_decay
            limit = own_limit if options.max_norm is None else options.max_norm
            numbers = (rate, decay, self.l1 if options.l1 is None else options.l1)
            rows.append(
                (
                    name,
                    "x".join(map(str, array.shape)) or "()",
                    *(f"{number:g}" for number in numbers),
                    f"{limit:g}" if limit and array.ndim >= 2 else "-",
                    str(self._clocks[self._clock_of[i]].steps),
                    "frozen" if i in self._frozen else "",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
        return "\n".join([f"{type(self).__name__}, {self.step_count} steps", *table])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averages in the place of the weights inside the ``with`` block, for inference.

        Running statistics of batch norm belong to the weights that they were taken with: to use the averages, call
        `fastnn.recalibrate` inside the block, and keep the network's `state_dict` there.

        Raises
        ------
        RuntimeError
            If no average is kept, or none has begun.
        """
        if self._averages is None or self._average_count == 0:
            raise RuntimeError("averaged: expected average=EMA(...) or EqualAverage(...) and a step in it, got none")
        if self._swapped:
            raise RuntimeError("averaged: expected to be entered once, got it again")
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for array, average in zip(self._arrays, self._averages or [], strict=True):
            kept = array.copy()
            array[...] = average
            average[...] = kept
        self._swapped = not self._swapped

    # ----------------------------------------------------------------------------------------------------- state

    def _state(self, apart: Iterable[str]) -> dict[str, Array]:
        """All that changes; arrays named in `apart` have clocks of their own."""
        state: dict[str, Array] = {"step_count": np.array(self.step_count, np.int64)}
        if not callable(self.lr):
            state["lr"] = np.array(self.lr, np.float64)
        for prefix, schedule in self._schedules_with_state().items():
            state |= {f"{prefix}.{name}": value for name, value in schedule.state_dict().items()}
        state |= _arrays_of(self._products, self._clocks[0].products)
        for name in apart:
            clock = self._clocks[self._clock_of[self._names.index(name)]]
            state[f"steps.{name}"] = np.array(clock.steps, np.int64)
            state |= _arrays_of([f"{product}.{name}" for product in self._products], clock.products)
        for slot, arrays in self._kinds().items():
            state |= {f"{slot}.{name}": array for name, array in zip(self._names, arrays, strict=True)}
        if self._averages is not None:
            state["average_count"] = np.array(self._average_count, np.int64)
        return state

    def _schedules_with_state(self) -> dict[str, Any]:
        rates = {"lr": self.lr} | {f"group_lr.{pattern}": rate for pattern, rate in self._group_rates.items()}
        return {prefix: rate for prefix, rate in rates.items() if hasattr(rate, "state_dict")}

    def _kinds(self) -> dict[str, list[Array]]:
        """Arrays of the state: for each kind, one per trained array."""
        kinds = {slot: arrays for slot, arrays in zip(self._slots, self._states, strict=True) if arrays is not None}
        return kinds if self._averages is None else kinds | {"average": self._averages}

    def state_dict(self) -> dict[str, Array]:
        """Copies of all arrays that make up the state, by name; ``np.savez(file, **opt.state_dict())`` stores them.

        ``step_count``, ``lr`` (of a schedule only what it remembers), running products of betas, moments such as
        ``exp_avg.0.weight``, averages, and the counts of arrays that were frozen for a while (``steps.0.weight``).
        What the optimizer was made with is not part of it, nor what is frozen.
        """
        if self._swapped:
            raise RuntimeError("state_dict: expected the weights themselves, got their average; leave averaged() first")
        apart = [name for i, name in enumerate(self._names) if self._clocks[self._clock_of[i]] != self._clocks[0]]
        return {name: array.copy() for name, array in self._state(apart).items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, as given by `state_dict` or read by `numpy.load`; a number as `lr` is set, too.

        Raises
        ------
        ValueError
            Naming every missing or unexpected name and every wrong shape or dtype; nothing has changed then.
        """
        apart = [name for name in self._names if f"steps.{name}" in state]
        given = check_state(self._state(apart), state)
        for name in ("step_count", "lr"):
            if name in given:
                check_not_negative(name, given[name].item())
        self.step_count = int(given["step_count"])
        if not callable(self.lr):
            self.lr = float(given["lr"])
        for prefix, schedule in self._schedules_with_state().items():
            schedule.load_state_dict({name: given[f"{prefix}.{name}"] for name in schedule.state_dict()})

        def clock(steps: str, of: str) -> Clock:
            return Clock(int(given[steps]), tuple(float(given[product + of]) for product in self._products))

        self._clocks = [clock("step_count", ""), *(clock(f"steps.{name}", f".{name}") for name in apart)]
        self._clock_of = [apart.index(name) + 1 if name in apart else 0 for name in self._names]
        for slot, arrays in self._kinds().items():
            for name, array in zip(self._names, arrays, strict=True):
                array[...] = given[f"{slot}.{name}"]
        if self._averages is not None:
            self._average_count = int(given["average_count"])
        self._regroup()


def _implementation(
    numbers: Callable[..., tuple[float, ...]], options: list[dict[str, Any]]
) -> tuple[Callable[..., Any], list[Any]]:
    """The function that runs a step, and the options of the groups as it takes them."""
    if _backend.is_reference():
        from fastnn.reference.optim import optimizer_step

        return optimizer_step, options
    return _core.optimizer_step, [numbers(**each) for each in options]


def _arrays_of(names: Iterable[str], values: Iterable[float]) -> dict[str, Array]:
    return {name: np.array(value, np.float64) for name, value in zip(names, values, strict=True)}


def _named(params: Params) -> tuple[list[Parameter], list[Array], list[str], bool]:
    """Parameters if there are, arrays, names, and whether these are more than numbers."""
    from fastnn.layers.module import Parameter  # layers need functional, and functional the steps of this package

    items: list[Any] = list(params.values() if isinstance(params, Mapping) else params)
    if not items:
        raise ValueError("params: expected at least one Parameter or array, got none")
    parameters: list[Parameter] = [item for item in items if isinstance(item, Parameter)]
    if parameters and len(parameters) < len(items):
        raise TypeError("params: expected only Parameters or only arrays, got both")
    arrays: list[Array] = [item.data if isinstance(item, Parameter) else item for item in items]
    _check_arrays(arrays)
    names = list(params) if isinstance(params, Mapping) else [parameter.name for parameter in parameters]
    unique = bool(names) and all(names) and len(set(names)) == len(names)
    return parameters, arrays, names if unique else [str(index) for index in range(len(items))], unique


def _check_arrays(arrays: Sequence[Any]) -> None:
    for index, array in enumerate(arrays):
        if not isinstance(array, np.ndarray):
            raise TypeError(f"params[{index}]: expected a Parameter or a numpy array, got {type(array).__name__}")
        if array.dtype not in (np.float32, np.float64):
            raise TypeError(f"params[{index}]: expected float32 or float64, got {array.dtype}")
        if array.dtype != arrays[0].dtype:
            raise TypeError(f"params[{index}]: expected {arrays[0].dtype}, the dtype of params[0], got {array.dtype}")
        if not array.flags.c_contiguous or not array.flags.writeable:
            raise ValueError(f"params[{index}]: expected a C-contiguous, writeable array, as it is updated in place")
    spans = sorted(
        (array.__array_interface__["data"][0], array.nbytes, i) for i, array in enumerate(arrays) if array.size
    )
    for (start, nbytes, i), (following, _, j) in pairwise(spans):
        if start + nbytes > following:
            raise ValueError(f"params[{max(i, j)}]: expected memory of its own, got that of params[{min(i, j)}]")
