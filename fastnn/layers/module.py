"""What every layer is: parameters, forward and backward, training mode, state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from fastnn import _core
from fastnn._convert import as_array
from fastnn._state import check_state
from fastnn.init import Init, Rng, numpy_generator

__all__ = ["Module", "Parameter", "Saved"]

M = TypeVar("M", bound="Module")


class Parameter:
    """A trained array and its gradient.

    Attributes
    ----------
    data : array
        The values.  Optimizers and `load_state_dict` write into it, and so can you: ``parameter.data[...] = values``.
        It stays the same array, because optimizers hold it.
    grad : array or None
        Set by `Module.backward`, to an array that is never written again: it may be kept.
    name : str
        Path within the network, such as ``"0.weight"``; set by `Module.parameters`.
    decay : bool
        Whether weight decay makes sense for it: yes for weights, no for biases and norm parameters.
    """

    __slots__ = ("_data", "_take", "decay", "grad", "name")

    def __init__(self, data: NDArray[Any], name: str = "", decay: bool = True) -> None:
        self._data = data
        self._take: Callable[[Parameter, NDArray[Any], bool], None] | None = None  # gets what `set_grad` is given
        self.grad: NDArray[Any] | None = None
        self.name = name
        self.decay = decay

    @property
    def data(self) -> NDArray[Any]:
        return self._data

    @data.setter
    def data(self, values: NDArray[Any]) -> None:  # parameter.data += values ends here
        if values is not self._data:
            raise AttributeError("data: expected to stay the same array; write parameter.data[...] = values")

    def set_grad(self, grad: NDArray[Any], accumulate: bool) -> None:
        """Make `grad`, a fresh array, the gradient; with `accumulate`, add the present gradient to it first."""
        if self._take is not None:
            return self._take(self, grad, accumulate)
        if accumulate and self.grad is not None:
            np.add(self.grad, grad, out=grad)
        self.grad = grad

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, shape={self.data.shape}, dtype={self.data.dtype})"


def kept_arrays(saved: Any) -> Iterator[NDArray[Any]]:
    """Every array inside what a forward pass has kept."""
    if isinstance(saved, np.ndarray):
        yield saved
    elif isinstance(saved, (tuple, list)):
        for part in saved:
            yield from kept_arrays(part)
    elif isinstance(saved, _core.Saved):
        yield from saved.arrays
    elif hasattr(saved, "nbytes"):  # what a function of fastnn.reference has kept
        yield from kept_arrays(list(vars(saved).values()))


def _own_nbytes(saved: Any) -> int:
    """Bytes of the small arrays that functions of `fastnn.functional` have copied."""
    if isinstance(saved, (tuple, list)):
        return sum(map(_own_nbytes, saved))
    return saved.own_nbytes if isinstance(saved, _core.Saved) else 0


class Saved(tuple[Any, ...]):
    """What a forward pass keeps for its backward pass; may be used more than once.

    Attributes
    ----------
    nbytes : int
        Bytes of all arrays kept, the input and the layers' outputs included; an array kept twice counts once.
    """

    @property
    def nbytes(self) -> int:
        distinct = {(a.__array_interface__["data"][0], a.nbytes): a.nbytes for a in kept_arrays(self)}
        return sum(distinct.values()) + _own_nbytes(self)


class _Nothing:
    """Marks that no forward pass waits for its backward pass."""

    def __reduce__(self) -> str:
        return "_NOTHING"  # stays the one object, copied or pickled

    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()


class Module:
    """Base of all layers.

    There are two ways to train.  The pure pair keeps nothing inside the module, so that several forward passes may
    be open at once::

        y, saved = net.forward(x)
        dx = net.backward(dy, saved)

    The short form keeps `saved` inside for exactly one backward pass::

        y = net(x)
        net.backward(dy)

    ``net.predict(x)`` is inference: it keeps nothing and leaves the mode alone.

    A layer of your own is a subclass with `Parameter` and `Module` objects as attributes that defines

    - ``_forward(x, training) -> (y, saved)``; `saved` is anything that ``_backward`` needs,
    - ``_backward(dy, saved, *, accumulate, need_dx, reuse) -> dx``, which hands each gradient to
      `Parameter.set_grad`, may return None if not `need_dx`, and may overwrite `dy` only if `reuse`.

    Attributes
    ----------
    training : bool
        Mode, set by `train` and `eval`; True at first.
    """

    training = True
    _pending: Any = _NOTHING
    _fresh_dx = False  # whether the dx of _backward is an array that nobody else holds, or dy itself

    # ------------------------------------------------------------------------------------- forward and backward

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        raise NotImplementedError(f"{type(self).__name__} does not define _forward")

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define _backward")

    def forward(self, x: NDArray[Any]) -> tuple[NDArray[Any], Any]:
        """Output, and what `backward` needs.

        Parameters
        ----------
        x : array

        Returns
        -------
        y : array
        saved
            To be passed to `backward`; None in eval mode.
        """
        y, saved = self._forward(as_array("x", x), self.training)
        return y, saved if self.training else None

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Output; in training mode, what `backward` needs is kept inside.

        Raises
        ------
        RuntimeError
            In training mode, if the last call still waits for its `backward`.
        """
        if not self.training:
            return self._forward(as_array("x", x), False)[0]
        if self._pending is not _NOTHING:
            raise RuntimeError(
                "expected backward(dy) before the next training call, which would overwrite what it needs; "
                "use y, saved = net.forward(x) to hold several passes open, or net.predict(x) for inference "
                "(net.train() forgets the open pass)"
            )
        y, self._pending = self._forward(as_array("x", x), True)
        return y

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        """Output in eval mode, whatever the mode is; nothing is kept."""
        return self._forward(as_array("x", x), False)[0]

    def mc_predict(self, x: NDArray[Any], samples: int = 100) -> tuple[NDArray[Any], NDArray[Any]]:
        """Mean and standard deviation of outputs with dropout on, whatever the mode is.

        Monte-Carlo dropout: each pass with a mask of its own is a sample of an approximate posterior over networks;
        the mean is the prediction, and the spread says how sure it is of it (of what the data have taught, not of the
        noise in them).  Y. Gal, Z. Ghahramani: Dropout as a Bayesian approximation (ICML 2016).

        Everything but dropout and noise is as in inference: batch norm uses its running statistics and leaves them
        alone.  Layers of your own run as in training.  Nothing changes but the positions of the dropout layers'
        generators; setting those (`load_state_dict`) repeats the answer.  Means are kept in float64, samples are not;
        a pass needs the memory of a training pass.  Without layers of either kind the standard deviation is 0.

        Parameters
        ----------
        x : array
        samples : int, default 100

        Returns
        -------
        mean, std : arrays like the output
            ``std`` divides by `samples`, as `numpy.std` does.  Outputs are averaged as they are: a network whose
            probabilities are to be averaged ends in a softmax.
        """
        from fastnn.layers.monte_carlo import mc_predict

        return mc_predict(self, x, samples)

    @overload
    def backward(
        self, dy: NDArray[Any], saved: Any = ..., *, accumulate: bool = ..., need_dx: Literal[True] = ...
    ) -> NDArray[Any]: ...

    @overload
    def backward(
        self, dy: NDArray[Any], saved: Any = ..., *, accumulate: bool = ..., need_dx: bool
    ) -> NDArray[Any] | None: ...

    def backward(
        self, dy: NDArray[Any], saved: Any = _NOTHING, *, accumulate: bool = False, need_dx: bool = True
    ) -> NDArray[Any] | None:
        """Gradient of the input; the gradients of the parameters go to their `grad`.

        Parameters
        ----------
        dy : array, gradient of the output
        saved : optional
            From `forward`.  Default: what the last call ``net(x)`` kept, which is used up, unless `dy` is refused.
        accumulate : bool, default False
            Add to the gradients of the parameters instead of replacing them.
        need_dx : bool, default True
            False if the gradient of the input is of no use, as in a training loop: saves a matrix product.

        Returns
        -------
        dx : array, gradient of the input; None if not `need_dx`

        Raises
        ------
        RuntimeError
            If nothing was kept: no training call came before, or the pass ran in eval mode.
        """
        dy = as_array("dy", dy)
        if saved is _NOTHING:
            if self._pending is _NOTHING:
                raise RuntimeError(
                    "backward: expected a call net(x) in training mode before each backward(dy), got none"
                )
            saved, self._pending = self._pending, _NOTHING
            try:
                dx: NDArray[Any] = self._backward(dy, saved, accumulate=accumulate, need_dx=need_dx, reuse=False)
            except (TypeError, ValueError):  # a dy that is refused does not use it up
                self._pending = saved
                raise
            return dx if need_dx else None
        if saved is None:
            raise RuntimeError(
                "backward: expected saved of a forward pass in training mode, got None: it ran in eval mode"
            )
        dx = self._backward(dy, saved, accumulate=accumulate, need_dx=need_dx, reuse=False)
        return dx if need_dx else None

    # ------------------------------------------------------------------------------------------------- structure

    def _children(self) -> Iterator[tuple[str, Module]]:
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def modules(self) -> Iterator[Module]:
        """This module and all modules within."""
        yield self
        for _, child in self._children():
            yield from child.modules()

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """All parameters with their paths, such as ``"0.weight"``, in the order of the layers."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield prefix + name, value
        for name, child in self._children():
            yield from child.named_parameters(f"{prefix}{name}.")

    def parameters(self) -> list[Parameter]:
        """All parameters, for an optimizer; each gets its path within this module as its name."""
        parameters = []
        for name, parameter in self.named_parameters():
            parameter.name = name
            parameters.append(parameter)
        return parameters

    def train(self: M, mode: bool = True) -> M:
        """Set the mode of this module and all within; forget a pass that waits for `backward`. Returns the module."""
        for module in self.modules():
            module.training = mode
            module._pending = _NOTHING
        return self

    def eval(self: M) -> M:
        """Set eval mode, as ``train(False)``: running statistics are used, dropout is off."""
        return self.train(False)

    def init(self: M, weight: Init | None = None, bias: Init | None = None, *, rng: Rng = None) -> M:
        """Start again: draw the weights and biases of all matrix products and convolutions within anew.

        Norms and other layers are left as they are.

        Parameters
        ----------
        weight, bias : str, number or function, optional
            Names of `fastnn.init` such as "kaiming_normal", a value for all, or ``function(array, rng=generator)``.
            Default: as layers start.
        rng : int, numpy.random.Generator or fastnn.Generator, optional
            One generator serves all layers, in their order.  Default: one position of
            `fastnn.random.default_generator`.

        Returns
        -------
        Module
            This one.

        Raises
        ------
        TypeError, ValueError
            For an unknown name, or what is none of the three.

        Examples
        --------
        >>> net = Sequential(Linear(784, 256), ReLU(), Linear(256, 10)).init("kaiming_normal", bias=0.01, rng=0)
        """
        generator = numpy_generator(rng)
        for module in self.modules():
            module._init(weight, bias, generator)
        return self

    def _init(self, weight: Init | None, bias: Init | None, rng: np.random.Generator) -> None:
        """Draw what `init` is about; nothing, unless a subclass has it."""

    # ----------------------------------------------------------------------------------------------------- state

    def _state(self) -> dict[str, NDArray[Any]]:
        """Arrays of this module alone: its parameters, and what else a subclass adds."""
        return {name: value.data for name, value in vars(self).items() if isinstance(value, Parameter)}

    def _load(self, state: dict[str, NDArray[Any]]) -> None:
        """Take over `state`, which has the names, shapes and dtypes of `_state`."""
        for name, array in self._state().items():
            array[...] = state[name]

    def _named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, child in self._children():
            yield from child._named_modules(f"{prefix}{name}.")

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of all arrays that make up the state, by path; ``np.savez(file, **net.state_dict())`` stores them.

        Parameters, running statistics, and the seed and position of each dropout layer's generator.
        """
        return {
            prefix + name: array.copy()
            for prefix, module in self._named_modules()
            for name, array in module._state().items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, as given by `state_dict` or read by `numpy.load`.

        Raises
        ------
        ValueError
            Naming every missing or unexpected name and every wrong shape or dtype; nothing has changed then.
        """
        modules = list(self._named_modules())
        given = check_state({prefix + n: a for prefix, m in modules for n, a in m._state().items()}, state)
        for prefix, module in modules:
            module._load({name: given[prefix + name] for name in module._state()})
