"""RMSprop."""

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

__all__ = ["RMSprop", "rmsprop_step"]


def _numbers(
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    eps_inside_sqrt: bool = False,
    l1: float = 0.0,
    clip_value: float | None = None,
) -> tuple[float, ...]:
    """In the order of csrc/kernels/optimizers.hpp."""
    shared = shared_numbers(lr, weight_decay, l1, clip_value)
    _check(alpha, eps, momentum)
    outside, inside = (0.0, eps) if eps_inside_sqrt else (eps, 0.0)
    return (*shared, lr, alpha, 1.0 - alpha, outside, inside, momentum)


def _check(alpha: float, eps: float, momentum: float) -> None:
    check_number("alpha", alpha)
    if not 0.0 <= alpha < 1.0:
        raise ValueError(f"alpha: expected a number in [0, 1), got {alpha}")
    check_not_negative("eps", eps)
    check_not_negative("momentum", momentum)


@step_function
def rmsprop_step(
    params: Sequence[NDArray[Any]],
    grads: Sequence[NDArray[Any]],
    square_avgs: Sequence[NDArray[Any]],
    grad_avgs: Sequence[NDArray[Any]] | None = None,
    momentum_buffers: Sequence[NDArray[Any]] | None = None,
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    eps_inside_sqrt: bool = False,
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_form: str = "scale",
    nonfinite: str = "allow",
) -> float | None:
    """RMSprop on all tensors, in place.

    ::

        g = clip(grad) + weight_decay * param + l1 * sign(param)
        v = alpha * v + (1 - alpha) * g * g
        a = alpha * a + (1 - alpha) * g                              (with `grad_avgs`)
        w = max(v - a * a, 0) with `grad_avgs`, else v
        d = g / (sqrt(w) + eps), or g / sqrt(w + eps) with eps_inside_sqrt
        b = momentum * b + d                                         (with `momentum_buffers`)
        param = param - lr * b with `momentum_buffers`, else param - lr * d

    Averages below the smallest normal number become 0.  Formula: T. Tieleman, G. Hinton: Lecture 6.5, Coursera (2012);
    centered: A. Graves: Generating sequences with recurrent neural networks (2013).  The form is that of
    `torch.optim.RMSprop`; Keras and TensorFlow have eps inside the root.

    Parameters
    ----------
    {arrays}
    square_avgs : sequence of arrays like `params`
        The average v.
    grad_avgs : sequence of arrays like `params`, optional
        The average a: centered.
    momentum_buffers : sequence of arrays like `params`, optional
        The momentum b.
    lr : float
    alpha : float, default 0.99
        In [0, 1).
    eps : float, default 1e-8
    momentum : float, default 0
    eps_inside_sqrt : bool, default False
    {shared}
    """
    numbers = _numbers(
        lr=lr,
        alpha=alpha,
        eps=eps,
        weight_decay=weight_decay,
        momentum=momentum,
        eps_inside_sqrt=eps_inside_sqrt,
        l1=l1,
        clip_value=clip_value,
    )
    states = (square_avgs, grad_avgs, momentum_buffers)
    unit = clips_to_unit(clip_form)
    norm: float | None = _core.optimizer_step(
        "rmsprop", params, grads, states, (numbers,), None, clip_norm, unit, nonfinite
    )
    return norm


class RMSprop(Optimizer):
    """RMSprop, as `torch.optim.RMSprop`.

    ::

        v = alpha * v + (1 - alpha) * g * g
        a = alpha * a + (1 - alpha) * g                              (centered)
        w = max(v - a * a, 0) if centered, else v
        d = g / (sqrt(w) + eps), or g / sqrt(w + eps) with eps_inside_sqrt
        b = momentum * b + d                                         (with momentum)
        param = param - lr * b with momentum, else param - lr * d

    T. Tieleman, G. Hinton: Lecture 6.5, Coursera (2012); centered: A. Graves (2013).  Keras and TensorFlow have eps
    inside the root.

    Parameters
    ----------
    params, lr, weight_decay, and what all optimizers share
        See `Optimizer`; `lr` is 1e-2 by default.
    alpha : float, default 0.99
    eps : float, default 1e-8
    momentum : float, default 0
        Whether it is 0 is decided here, where the buffers are made.
    centered : bool, default False
        Divide by the standard deviation of the gradient rather than by the root of its mean square.
    eps_inside_sqrt : bool, default False
    """

    _rule = "rmsprop"
    _slots = ("square_avg", "grad_avg", "momentum_buffer")
    _numbers = staticmethod(_numbers)

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        eps_inside_sqrt: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(params, lr, weight_decay, **shared)
        _check(alpha, eps, momentum)
        self.alpha = alpha
        self.eps = eps
        self.momentum = momentum
        self.eps_inside_sqrt = eps_inside_sqrt
        self._states = [self._zeros(), self._zeros() if centered else None, self._zeros() if momentum else None]

    def _options(self, clock: Clock) -> dict[str, Any]:
        return {
            "alpha": self.alpha,
            "eps": self.eps,
            "momentum": self.momentum,
            "eps_inside_sqrt": self.eps_inside_sqrt,
        }

    def _formula(self) -> list[str]:
        centered, momentum = self._states[1] is not None, self._states[2] is not None
        w = "max(v - a * a, 0)" if centered else "v"
        return [
            "v = alpha * v + (1 - alpha) * g * g",
            *(["a = alpha * a + (1 - alpha) * g"] if centered else []),
            f"d = g / sqrt({w} + eps)" if self.eps_inside_sqrt else f"d = g / (sqrt({w}) + eps)",
            *(["b = momentum * b + d"] if momentum else []),
            f"param = param - lr * {'b' if momentum else 'd'}",
        ]
