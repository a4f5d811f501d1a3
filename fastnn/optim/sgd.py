"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fastnn import _backend, _core
from fastnn._checks import check_number
from fastnn.optim._base import Optimizer, check_not_negative

if TYPE_CHECKING:
    from fastnn.layers.module import Parameter

__all__ = ["SGD", "sgd_step"]


def sgd_step(
    params: Sequence[NDArray[Any]],
    grads: Sequence[NDArray[Any]],
    momentum_buffers: Sequence[NDArray[Any]] | None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    first_step: bool = False,
    clip_norm: float | None = None,
) -> float | None:
    """Stochastic gradient descent on all tensors, in place.

    ::

        g   = grad * clip + weight_decay * param
        buf = g at the first step, else momentum * buf + (1 - dampening) * g
        d   = g + momentum * buf with nesterov, else buf             (g without momentum)
        param = param - lr * d

    where clip = min(1, clip_norm / (norm + 1e-6)), norm being the 2-norm of all gradients together.  Buffers
    below the smallest normal number become 0.  The form is that of `torch.optim.SGD`.

    Parameters
    ----------
    params : sequence of arrays, float32 or float64, C-contiguous, not overlapping
    grads : sequence of arrays like `params`; may be read-only or strided, and are not changed
    momentum_buffers : sequence of arrays like `params`, or None
        Required with momentum, not used without.
    lr : float
    momentum, dampening, weight_decay : float, default 0
    nesterov : bool, default False
        Needs momentum > 0 and dampening 0.
    first_step : bool, default False
        Start the momentum buffers from the gradient; their content is not read.
    clip_norm : float, optional

    Returns
    -------
    float or None
        The norm before clipping, if `clip_norm` is given.

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or of different types.
    ValueError
        For lists of different lengths, wrong shapes, read-only or overlapping arrays, and scalars out of
        range.
    """
    check_not_negative("lr", lr)
    check_not_negative("momentum", momentum)
    check_not_negative("weight_decay", weight_decay)
    _check_dampening(dampening)
    if nesterov and (momentum == 0.0 or dampening != 0.0):
        raise ValueError(f"nesterov: expected momentum > 0 and dampening 0, got {momentum} and {dampening}")
    if momentum != 0.0 and momentum_buffers is None:
        raise ValueError("momentum_buffers: expected a sequence of arrays with momentum, got None")
    # The order of csrc/kernels/optimizers.hpp.
    scalars = (lr, momentum, 1.0 - dampening, weight_decay, nesterov, first_step)
    states = (momentum_buffers if momentum != 0.0 else None,)
    return _core.optimizer_step("sgd", params, grads, states, scalars, clip_norm)


def _check_dampening(dampening: float) -> None:
    check_number("dampening", dampening)
    if dampening != dampening:
        raise ValueError(f"dampening: expected a number, got {dampening}")


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as `torch.optim.SGD`.

    ::

        g   = grad * clip + weight_decay * param
        buf = g at the first step, else momentum * buf + (1 - dampening) * g
        d   = g + momentum * buf with nesterov, else buf             (g without momentum)
        param = param - lr * d

    The buffers are made here, or, if momentum is 0 here and set later, at the next step, which is their first.

    Parameters
    ----------
    params : iterable of Parameter, or of arrays
        ``net.parameters()``, or arrays that `step` updates in place: all float32 or all float64.
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
        check_not_negative("momentum", momentum)
        check_not_negative("weight_decay", weight_decay)
        _check_dampening(dampening)
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError(f"nesterov: expected momentum > 0 and dampening 0, got {momentum} and {dampening}")
        self.momentum = momentum
        self.dampening = dampening
        self.weight_decay = weight_decay
        self.nesterov = nesterov
        self._momentum_buffers = self._zeros() if momentum != 0 else None

    def _update(self, grads: Sequence[NDArray[Any]]) -> float | None:
        buffers = self._momentum_buffers
        fresh = buffers is None and self.momentum != 0  # set since the optimizer was made
        if fresh:
            buffers = self._zeros()
        norm: float | None = _backend.ops.sgd_step(
            self._arrays,
            grads,
            buffers,
            lr=self.lr,
            momentum=self.momentum,
            dampening=self.dampening,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
            first_step=fresh or self.step_count == 0,
            clip_norm=self.clip_norm,
        )
        self._momentum_buffers = buffers
        return norm

    def _slots(self) -> dict[str, list[NDArray[Any]]]:
        return {} if self._momentum_buffers is None else {"momentum_buffer": self._momentum_buffers}
