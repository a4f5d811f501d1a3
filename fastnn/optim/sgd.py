"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fastnn import _core
from fastnn._checks import check_number
from fastnn.optim._base import Clock, Optimizer, Rate
from fastnn.optim._shared import check_not_negative, clips_to_unit, shared_numbers, step_function

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastnn.optim._base import Params, Shared

__all__ = ["SGD", "NormalizedSGD", "sgd_step"]

FORMS = ("torch", "lr_inside")


def _numbers(
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    first_step: bool = False,
    form: str = "torch",
    l1: float = 0.0,
    clip_value: float | None = None,
) -> tuple[float, ...]:
    """In the order of csrc/kernels/optimizers.hpp."""
    shared = shared_numbers(lr, weight_decay, l1, clip_value)
    if momentum == 0.0 == dampening and not nesterov:
        own = lr, 0.0, 1.0, 1.0, 0.0, 0.0
        return shared + own
    _check(momentum, dampening, nesterov, form)
    if form == "torch":
        return (*shared, lr, momentum, 1.0 - dampening, 1.0, nesterov, first_step)
    return (*shared, -1.0, momentum, -lr, -lr, nesterov, 0.0)


def _check(momentum: float, dampening: float, nesterov: bool, form: str) -> None:
    check_not_negative("momentum", momentum)
    check_number("dampening", dampening)
    if dampening != dampening:
        raise ValueError(f"dampening: expected a number, got {dampening}")
    if nesterov and (momentum == 0.0 or dampening != 0.0):
        raise ValueError(f"nesterov: expected momentum > 0 and dampening 0, got {momentum} and {dampening}")
    if form not in FORMS:
        raise ValueError(f"form: expected 'torch' or 'lr_inside', got {form!r}")
    if form == "lr_inside" and dampening != 0.0:
        raise ValueError(f"dampening: expected 0 with form='lr_inside', got {dampening}")


@step_function
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
    form: str = "torch",
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_form: str = "scale",
    nonfinite: str = "allow",
) -> float | None:
    """Stochastic gradient descent on all tensors, in place.

    ::

        g   = clip(grad) + weight_decay * param + l1 * sign(param)
        buf = g at the first step, else momentum * buf + (1 - dampening) * g
        d   = g + momentum * buf with nesterov, else buf             (g without momentum)
        param = param - lr * d

    which is the form of `torch.optim.SGD`, or, with ``form="lr_inside"``, that of Keras and of I. Sutskever et al.: On
    the importance of initialization and momentum in deep learning (ICML 2013) ::

        buf = momentum * buf - lr * g
        param = param + buf, with nesterov param + (momentum * buf - lr * g)

    They differ where `lr` changes.  Buffers below the smallest normal number become 0.

    Parameters
    ----------
    {arrays}
    momentum_buffers : sequence of arrays like `params`, or None
        Required with momentum, not used without.
    lr : float
    momentum, dampening : float, default 0
    nesterov : bool, default False
        Needs momentum > 0 and dampening 0.
    first_step : bool, default False
        Start the momentum buffers from the gradient; their content is not read (``form="torch"`` alone).
    form : {"torch", "lr_inside"}, default "torch"
    {shared}
    """
    if momentum != 0.0 and momentum_buffers is None:
        raise ValueError("momentum_buffers: expected a sequence of arrays with momentum, got None")
    numbers = _numbers(
        lr=lr,
        momentum=momentum,
        dampening=dampening,
        weight_decay=weight_decay,
        nesterov=nesterov,
        first_step=first_step,
        form=form,
        l1=l1,
        clip_value=clip_value,
    )
    states = (momentum_buffers if momentum != 0.0 else None,)
    unit = clips_to_unit(clip_form)
    norm: float | None = _core.optimizer_step(
        "sgd", params, grads, states, (numbers,), None, clip_norm, unit, nonfinite
    )
    return norm


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as `torch.optim.SGD`.

    ::

        buf = g at the first step, else momentum * buf + (1 - dampening) * g
        d   = g + momentum * buf with nesterov, else buf             (g without momentum)
        param = param - lr * d

    With ``form="lr_inside"``, as Keras has it (I. Sutskever et al., ICML 2013) ::

        buf = momentum * buf - lr * g
        param = param + buf, with nesterov param + (momentum * buf - lr * g)

    The buffers are made here, or, if momentum is 0 here and set later, at the next step, which is their first.

    Parameters
    ----------
    params, lr, weight_decay, and what all optimizers share
        See `Optimizer`; `lr` is 1e-3 by default.
    momentum, dampening : float, default 0
    nesterov : bool, default False
        Needs momentum > 0 and dampening 0.
    form : {"torch", "lr_inside"}, default "torch"

    Examples
    --------
    >>> opt = SGD([W, b], lr=0.1, momentum=0.9)
    >>> opt.step([dW, db])
    """

    _rule = "sgd"
    _slots = ("momentum_buffer",)
    _numbers = staticmethod(_numbers)

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        form: str = "torch",
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(params, lr, weight_decay, **shared)
        _check(momentum, dampening, nesterov, form)
        self.momentum = momentum
        self.dampening = dampening
        self.nesterov = nesterov
        self.form = form
        self._states = [self._zeros() if momentum != 0 else None]
        self._fresh = False  # buffers that no step has used, while other steps came before

    def _begin(self) -> Sequence[list[NDArray[Any]] | None]:
        if self.momentum == 0:
            return (None,)
        if self._states[0] is None:
            self._states = [self._zeros()]
            self._fresh = True
        return self._states

    def _end(self) -> None:
        self._fresh = False

    def _options(self, clock: Clock) -> dict[str, Any]:
        return {
            "momentum": self.momentum,
            "dampening": self.dampening,
            "nesterov": self.nesterov,
            "first_step": self._fresh or clock.steps == 1,
            "form": self.form,
        }

    def _formula(self) -> list[str]:
        if self.momentum == 0:
            return ["param = param - lr * g"]
        if self.form == "lr_inside":
            step = "(momentum * buf - lr * g)" if self.nesterov else "buf"
            return ["buf = momentum * buf - lr * g", f"param = param + {step}"]
        gain = "(1 - dampening) * g" if self.dampening else "g"
        step = "(g + momentum * buf)" if self.nesterov else "buf"
        return [f"buf = g at the first step, else momentum * buf + {gain}", f"param = param - lr * {step}"]


class NormalizedSGD(SGD):
    """Gradient descent along the direction of the gradient alone, ``param = param - lr * g / ||g||``.

    The norm is that of all gradients together, taken before penalties are added: this is `SGD` with ``clip_norm=0`` and
    ``clip_form="unit"``, and `step` returns the norm.  Where the gradient is 0, nothing moves.

    Parameters
    ----------
    params, lr, momentum, dampening, weight_decay, nesterov, and what all optimizers share
        As in `SGD`; `lr` is 1e-2 by default.
    """

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-2,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        for name in ("clip_norm", "clip_form"):
            if name in shared:
                raise TypeError(f"{name}: expected none, as the gradient is normalised")
        shared |= {"clip_norm": 0.0, "clip_form": "unit"}
        super().__init__(params, lr, momentum, dampening, weight_decay, nesterov, **shared)
