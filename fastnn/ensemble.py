"""Ensembles: networks that err in different ways, and the mean of what they predict.

Members come from several trainings (other initial weights, other hyperparameters), from one training (snapshots at the
ends of the cycles of `fastnn.schedules.cosine_restarts`), or are one network with averaged weights
(``average=EMA(0.99)`` of any optimizer, `average_states`), which costs no more than a single one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import random
from fastnn._convert import as_array
from fastnn._state import check_state
from fastnn.layers.module import Module

__all__ = ["Ensemble", "average_states"]

Array: TypeAlias = NDArray[Any]
State: TypeAlias = Mapping[str, Any]


class Ensemble:
    """The weighted mean of the predictions of its members: sum(weights[m] * members[m](x)) / sum(weights).

    L. K. Hansen, P. Salamon: Neural network ensembles (1990).  It is called like a member, so ensembles may be nested.

    Parameters
    ----------
    members : sequence of networks, estimators and callables
        An estimator predicts by `predict_proba` if it has that, a network (`fastnn.Module`) and any other estimator by
        `predict`, everything else by being called.
    weights : sequence of numbers of at least 0, optional
        One for each member.  Default: all the same.
    output : callable, optional
        Applied to what a network predicts, before the mean is taken: ``fastnn.functional.softmax`` where networks give
        logits, since probabilities are to be averaged.  Default: nothing.

    Attributes
    ----------
    members : list
    weights : (M,) float64 array
        With the sum 1.

    Raises
    ------
    TypeError
        For a member that does not predict.
    ValueError
        Without members, for weights that do not fit, and for classifiers with different classes.

    Examples
    --------
    >>> ensemble = Ensemble([train(seed) for seed in range(5)], output=fastnn.functional.softmax)
    >>> labels = ensemble.predict(x).argmax(axis=1)
    """

    def __init__(
        self,
        members: Sequence[Any],
        weights: ArrayLike | None = None,
        *,
        output: Callable[[Array], Array] | None = None,
    ) -> None:
        self.members = list(members)
        if not self.members:
            raise ValueError("members: expected at least one, got none")
        self.weights = _shares("weights", weights, len(self.members))
        self.output = output
        self._functions = [_function(member, index) for index, member in enumerate(self.members)]
        classes = [member.classes_ for member in self.members if hasattr(member, "classes_")]
        for other in classes[1:]:
            if not np.array_equal(other, classes[0]):
                raise ValueError(f"members: expected the same classes in all, got {classes[0]} and {other}")

    @classmethod
    def of_states(
        cls, net: Module, states: Iterable[State], weights: ArrayLike | None = None, **options: Any
    ) -> Ensemble:
        """An ensemble of copies of one network in different states, such as snapshots of its training.

        Parameters
        ----------
        net : Module
            Copied for each state, and left alone.
        states : iterable of mappings from names to arrays
            As `Module.state_dict` gives them; files of `numpy.savez` will do.
        weights, output
            As of `Ensemble`.

        Returns
        -------
        Ensemble

        Examples
        --------
        >>> ensemble = Ensemble.of_states(net, snapshots, output=fastnn.functional.softmax)
        """
        members, generator = [], random.default_generator.state_dict()
        for state in states:
            member = copy.deepcopy(net)
            for parameter in member.parameters():
                parameter.grad = None
            member.load_state_dict(state)
            members.append(member)
        random.default_generator.load_state_dict(generator)  # dropout that draws from it has loaded it as well
        return cls(members, weights, **options)

    def each(self, x: Any) -> Iterator[Array]:
        """Predictions of the members, one after the other.

        Parameters
        ----------
        x : array

        Returns
        -------
        iterator of arrays
        """
        for member, function in zip(self.members, self._functions, strict=True):
            y = function(x)
            yield self.output(y) if self.output is not None and isinstance(member, Module) else y

    def predict(self, x: Any) -> Array:
        """The mean of the members' predictions.

        One prediction is held at a time.

        Parameters
        ----------
        x : array

        Returns
        -------
        array like what a member predicts

        Raises
        ------
        ValueError
            If two members predict arrays of different shapes.
        """
        pairs = zip(self.weights.tolist(), self.each(x), strict=True)
        share, y = next(pairs)
        mean: Array = share * np.asarray(y)
        for share, y in pairs:
            if np.shape(y) != mean.shape:
                raise ValueError(f"members: expected predictions of shape {mean.shape} from all, got {np.shape(y)}")
            mean += share * y
        return mean

    __call__ = predict

    def __len__(self) -> int:
        return len(self.members)

    def __repr__(self) -> str:
        return f"Ensemble of {len(self)} members"


def _function(member: Any, index: int) -> Callable[[Any], Any]:
    """What a member predicts with."""
    for name in ("predict_proba", "predict", "__call__"):
        if callable(function := getattr(member, name, None)):
            return function  # type: ignore[no-any-return]
    raise TypeError(f"members[{index}]: expected predict_proba, predict or a callable, got {type(member).__name__}")


def _shares(name: str, weights: ArrayLike | None, count: int) -> NDArray[np.float64]:
    """`count` weights, divided by their sum."""
    given = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    if given.shape != (count,):
        raise ValueError(f"{name}: expected {count} numbers, got shape {given.shape}")
    if not (np.isfinite(given).all() and (given >= 0).all() and given.any()):
        raise ValueError(f"{name}: expected finite numbers of at least 0, and one above, got {given.tolist()}")
    shares: NDArray[np.float64] = given / given.sum()
    return shares


def _readable(name: str, value: Any) -> Array:
    array = np.asarray(as_array(name, value))
    if array.dtype.kind not in "iu" and array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: expected float32, float64 or integers, got {array.dtype}")
    return array


def average_states(states: Iterable[State], weights: ArrayLike | None = None) -> dict[str, Array]:
    """One state with the mean of the weights of several: sum(weights[m] * states[m]) / sum(weights).

    For states of one training, which lie in one valley of the loss: P. Izmailov et al.: Averaging weights leads to
    wider optima and better generalization (UAI 2018).  Optimizers keep such averages themselves
    (``average=EqualAverage()``).  The mean of running statistics of batch norm is not the statistics of the mean
    network: `fastnn.recalibrate` makes them right.

    Parameters
    ----------
    states : iterable of mappings from names to arrays
        As `Module.state_dict` gives them, with the same names and shapes.
    weights : sequence of numbers of at least 0, optional
        One for each state.  Default: all the same.

    Returns
    -------
    dict from names to arrays
        Of the types of the first state; means are taken in float64.  Integers (counts, positions of generators) are
        those of the last state.

    Raises
    ------
    TypeError
        For what is neither integers nor float32 or float64 in native byte order.
    ValueError
        Without states, for weights that do not fit, and for states that do not go together, naming every difference.

    Examples
    --------
    >>> net.load_state_dict(average_states(snapshots[-5:]))
    >>> fastnn.recalibrate(net, batches)
    """
    given = [{name: _readable(name, state[name]) for name in state} for state in states]
    if not given:
        raise ValueError("states: expected at least one, got none")
    shares = _shares("weights", weights, len(given)).tolist()
    for state in given[1:]:
        check_state(given[0], state)
    mean = {}
    for name, first in given[0].items():
        arrays = [state[name] for state in given]
        if first.dtype.kind == "f":
            total = sum(share * array.astype(np.float64) for share, array in zip(shares, arrays, strict=True))
            mean[name] = np.asarray(total, first.dtype)
        else:
            mean[name] = arrays[-1].copy()
    return mean
