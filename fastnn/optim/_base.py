"""What every optimizer is: the list of arrays, their gradients, and the state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn._checks import check_number
from fastnn._core import empty
from fastnn._state import check_state

if TYPE_CHECKING:
    from fastnn.layers.module import Parameter

__all__ = ["Optimizer", "check_not_negative"]


class Optimizer:
    """Base of all optimizers: the list of arrays, their gradients, and the state.

    Attributes
    ----------
    lr : float
        May be set between steps, as may the other numbers that an optimizer takes; they are checked at the next step.
    step_count : int
        Steps taken.
    """

    def __init__(
        self, params: Iterable[Parameter] | Iterable[NDArray[Any]], lr: float, clip_norm: float | None
    ) -> None:
        from fastnn.layers.module import Parameter  # layers need functional, and functional the steps of this package

        items: list[Any] = list(params)
        if not items:
            raise ValueError("params: expected at least one Parameter or array, got none")
        self._parameters: list[Parameter] = [item for item in items if isinstance(item, Parameter)]
        if self._parameters and len(self._parameters) < len(items):
            raise TypeError("params: expected only Parameters or only arrays, got both")
        self._arrays: list[NDArray[Any]] = [item.data if isinstance(item, Parameter) else item for item in items]
        _check_arrays(self._arrays)
        names = [parameter.name for parameter in self._parameters]
        unique = bool(names) and all(names) and len(set(names)) == len(names)
        self._names = names if unique else [str(index) for index in range(len(items))]
        self.lr = lr
        self.clip_norm = clip_norm
        self.step_count = 0
        check_not_negative("lr", lr)
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"clip_norm: expected None or a number > 0, got {clip_norm}")

    def step(self, grads: Sequence[NDArray[Any]] | None = None) -> float | None:
        """Update all arrays in place.

        Parameters
        ----------
        grads : sequence of arrays, optional
            One for each array, not changed.  Default: the `grad` of each Parameter.

        Returns
        -------
        float or None
            The norm of all gradients together before clipping, if `clip_norm` is set.

        Raises
        ------
        TypeError, ValueError
            For missing gradients, a list of another length, arrays of another dtype or shape; nothing has changed then.
        """
        if grads is None:
            if not self._parameters:
                raise TypeError("grads: expected one array for each array of this optimizer, got None")
            grads = [parameter.grad for parameter in self._parameters]  # type: ignore[misc]
        elif len(grads) != len(self._arrays):
            raise ValueError(f"grads: expected {len(self._arrays)} arrays, got {len(grads)}")
        try:
            norm = self._update(grads)
        except TypeError:
            self._explain_missing(grads)
            raise
        self.step_count += 1
        return norm

    def _update(self, grads: Sequence[NDArray[Any]]) -> float | None:
        """One step; changes nothing of the state unless it succeeds."""
        raise NotImplementedError(f"{type(self).__name__} does not define _update")

    def _explain_missing(self, grads: Sequence[Any]) -> None:
        """Say which Parameters have no gradient, if that is why a step has failed."""
        missing = [name for name, grad in zip(self._names, grads, strict=True) if grad is None]
        if missing:
            raise ValueError(f"grads: expected backward before step, got no gradient of {', '.join(missing)}") from None

    def _zeros(self) -> list[NDArray[Any]]:
        """Arrays of a state: zeros like the trained arrays."""
        zeros = [empty(array.shape, array.dtype) for array in self._arrays]
        for array in zeros:
            array.fill(0)
        return zeros

    # ----------------------------------------------------------------------------------------------------- state

    def _scalars(self) -> dict[str, float]:
        """Numbers of the state beside `lr` and `step_count`, by the attribute that holds them."""
        return {}

    def _slots(self) -> dict[str, list[NDArray[Any]]]:
        """Arrays of the state: for each kind, one per trained array."""
        return {}

    def _state(self) -> dict[str, NDArray[Any]]:
        state: dict[str, NDArray[Any]] = {
            "step_count": np.array(self.step_count, np.int64),
            "lr": np.array(self.lr, np.float64),
        }
        state |= {name: np.array(value, np.float64) for name, value in self._scalars().items()}
        for kind, arrays in self._slots().items():
            state |= {f"{kind}.{name}": array for name, array in zip(self._names, arrays, strict=True)}
        return state

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of all arrays that make up the state, by name; ``np.savez(file, **opt.state_dict())`` stores them.

        ``step_count``, ``lr``, running products of betas, and moments such as ``exp_avg.0.weight``.
        """
        return {name: array.copy() for name, array in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, as given by `state_dict` or read by `numpy.load`; `lr` is set, too.

        Raises
        ------
        ValueError
            Naming every missing or unexpected name and every wrong shape or dtype; nothing has changed then.
        """
        given = check_state(self._state(), state)
        self.step_count = int(given["step_count"])
        self.lr = float(given["lr"])
        for name in self._scalars():
            setattr(self, name, float(given[name]))
        for kind, arrays in self._slots().items():
            for name, array in zip(self._names, arrays, strict=True):
                array[...] = given[f"{kind}.{name}"]


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


def check_not_negative(name: str, value: float) -> None:
    """ValueError for a negative number or NaN."""
    if type(value) is float and value >= 0.0:
        return
    check_number(name, value)
    if not value >= 0:
        raise ValueError(f"{name}: expected a number >= 0, got {value}")
