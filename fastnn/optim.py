"""Optimizers: one native call per step for all tensors, in place, with the conventions of `torch.optim`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import _backend
from fastnn._state import check_state
from fastnn.layers.module import Parameter

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]


class Optimizer:
    """Base of all optimizers: the list of arrays, their gradients, and the state.

    Attributes
    ----------
    lr : float
        May be set between steps, as may the other numbers that an optimizer takes.
    step_count : int
        Steps taken.
    """

    def __init__(
        self, params: Iterable[Parameter] | Iterable[NDArray[Any]], lr: float, clip_norm: float | None
    ) -> None:
        items: list[Any] = list(params)
        if not items:
            raise ValueError("params: expected at least one Parameter or array, got none")
        self._parameters = [item for item in items if isinstance(item, Parameter)]
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
        _check_not_negative("lr", lr)
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
        raise NotImplementedError(f"{type(self).__name__} does not define step")

    def _gradients(self, grads: Sequence[NDArray[Any]] | None) -> Sequence[Any]:
        if grads is None:
            if not self._parameters:
                raise TypeError("grads: expected one array for each array of this optimizer, got None")
            return [parameter.grad for parameter in self._parameters]
        if len(grads) != len(self._arrays):
            raise ValueError(f"grads: expected {len(self._arrays)} arrays, got {len(grads)}")
        return grads

    def _explain_missing(self, grads: Sequence[Any]) -> None:
        """Say which Parameters have no gradient, if that is why a step has failed."""
        missing = [name for name, grad in zip(self._names, grads, strict=True) if grad is None]
        if missing:
            raise ValueError(f"grads: expected backward before step, got no gradient of {', '.join(missing)}") from None

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
        if not array.flags.c_contiguous or not array.flags.writeable:
            raise ValueError(f"params[{index}]: expected a C-contiguous, writeable array, as it is updated in place")
    spans = sorted(
        (array.__array_interface__["data"][0], array.nbytes, i) for i, array in enumerate(arrays) if array.size
    )
    for (start, nbytes, i), (following, _, j) in pairwise(spans):
        if start + nbytes > following:
            raise ValueError(f"params[{max(i, j)}]: expected memory of its own, got that of params[{min(i, j)}]")


def _check_not_negative(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name}: expected a number >= 0, got {value}")


def _zeros(arrays: Iterable[NDArray[Any]]) -> list[NDArray[Any]]:
    zeros = [_backend.empty(array.shape, array.dtype) for array in arrays]
    for array in zeros:
        array.fill(0)
    return zeros


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as `torch.optim.SGD`.

    ::

        g   = grad * clip + weight_decay * param
        buf = g at the first step, else momentum * buf + (1 - dampening) * g
        d   = g + momentum * buf with nesterov, else buf             (g without momentum)
        param = param - lr * d

    Parameters
    ----------
    params : iterable of Parameter, or of arrays
        ``net.parameters()``, or float32 or float64 arrays that `step` updates in place.
    lr : float, default 1e-3
    momentum, dampening, weight_decay : float, default 0
        To decay weights but no biases, use two optimizers, over the parameters with and without `Parameter.decay`.
    nesterov : bool, default False
        Needs momentum > 0 and dampening 0.
    clip_norm : float, optional
        Scale the gradients down to this norm, taken over all of them together, as `torch.nn.utils.clip_grad_norm_`.

    Examples
    --------
    >>> opt = SGD([W, b], lr=0.1, momentum=0.9)
    >>> opt.step([dW, db])
    """

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[NDArray[Any]],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(params, lr, clip_norm)
        _check_not_negative("momentum", momentum)
        _check_not_negative("weight_decay", weight_decay)
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError(f"nesterov: expected momentum > 0 and dampening 0, got {momentum} and {dampening}")
        self.momentum = momentum
        self.dampening = dampening
        self.weight_decay = weight_decay
        self.nesterov = nesterov
        self._momentum_buffers = _zeros(self._arrays) if momentum != 0 else None

    def step(self, grads: Sequence[NDArray[Any]] | None = None) -> float | None:
        given = self._gradients(grads)
        try:
            norm: float | None = _backend.ops.sgd_step(
                self._arrays,
                given,
                self._momentum_buffers,
                lr=self.lr,
                momentum=self.momentum,
                dampening=self.dampening,
                weight_decay=self.weight_decay,
                nesterov=self.nesterov,
                first_step=self.step_count == 0,
                clip_norm=self.clip_norm,
            )
        except TypeError:
            self._explain_missing(given)
            raise
        self.step_count += 1
        return norm

    def _slots(self) -> dict[str, list[NDArray[Any]]]:
        return {} if self._momentum_buffers is None else {"momentum_buffer": self._momentum_buffers}


class Adam(Optimizer):
    """Adam, as `torch.optim.Adam`: weight decay is added to the gradient.

    ::

        g = grad * clip + weight_decay * param
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        param = param - lr / (1 - beta1 ** t) * m / (sqrt(v) / sqrt(1 - beta2 ** t) + eps)

    D. P. Kingma, J. Ba: Adam (ICLR 2015).  The powers of the betas are running products, part of the state.

    Parameters
    ----------
    params : iterable of Parameter, or of arrays
        ``net.parameters()``, or float32 or float64 arrays that `step` updates in place.
    lr : float, default 1e-3
    betas : pair of float, default (0.9, 0.999)
    eps : float, default 1e-8
    weight_decay : float, default 0
        To decay weights but no biases, use two optimizers, over the parameters with and without `Parameter.decay`.
    clip_norm : float, optional
        Scale the gradients down to this norm, taken over all of them together, as `torch.nn.utils.clip_grad_norm_`.

    Examples
    --------
    >>> opt = Adam(net.parameters(), lr=1e-3)
    >>> opt.step()
    """

    _decoupled = False

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[NDArray[Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(params, lr, clip_norm)
        _check_not_negative("weight_decay", weight_decay)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas: expected two numbers in [0, 1), got {betas}")
        if not eps > 0:
            raise ValueError(f"eps: expected a number > 0, got {eps}")
        self.beta1, self.beta2 = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.beta1_product = 1.0
        self.beta2_product = 1.0
        self._exp_avgs = _zeros(self._arrays)
        self._exp_avg_sqs = _zeros(self._arrays)

    def step(self, grads: Sequence[NDArray[Any]] | None = None) -> float | None:
        given = self._gradients(grads)
        beta1, beta2 = self.beta1, self.beta2
        product1, product2 = self.beta1_product * beta1, self.beta2_product * beta2
        try:
            norm: float | None = _backend.ops.adam_step(
                self._arrays,
                given,
                self._exp_avgs,
                self._exp_avg_sqs,
                lr=self.lr,
                beta1=beta1,
                beta2=beta2,
                eps=self.eps,
                weight_decay=self.weight_decay,
                decoupled=self._decoupled,
                bias_correction1=1.0 - product1,
                bias_correction2=1.0 - product2,
                clip_norm=self.clip_norm,
            )
        except TypeError:
            self._explain_missing(given)
            raise
        self.beta1_product, self.beta2_product = product1, product2
        self.step_count += 1
        return norm

    def _scalars(self) -> dict[str, float]:
        return {"beta1_product": self.beta1_product, "beta2_product": self.beta2_product}

    def _slots(self) -> dict[str, list[NDArray[Any]]]:
        return {"exp_avg": self._exp_avgs, "exp_avg_sq": self._exp_avg_sqs}


class AdamW(Adam):
    """Adam with decoupled weight decay, as `torch.optim.AdamW`: each step scales the arrays by 1 - lr * weight_decay.

    I. Loshchilov, F. Hutter: Decoupled weight decay regularization (ICLR 2019).  Parameters are those of `Adam`, with
    weight_decay = 0.01 by default.
    """

    _decoupled = True

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[NDArray[Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, clip_norm=clip_norm)
