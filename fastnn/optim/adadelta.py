"""Adadelta."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fastnn import _core
from fastnn.optim._base import Clock, Optimizer, Rate
from fastnn.optim._shared import check_positive, clips_to_unit, shared_numbers, step_function

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastnn.optim._base import Params, Shared

__all__ = ["Adadelta", "adadelta_step"]


def _numbers(
    *,
    lr: float = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    clip_value: float | None = None,
) -> tuple[float, ...]:
    """In the order of csrc/kernels/optimizers.hpp."""
    shared = shared_numbers(lr, weight_decay, l1, clip_value)
    _check(rho, eps)
    return (*shared, lr, rho, 1.0 - rho, eps)


def _check(rho: float, eps: float) -> None:
    if not 0.0 <= rho < 1.0:
        raise ValueError(f"rho: expected a number in [0, 1), got {rho}")
    check_positive("eps", eps)


@step_function
def adadelta_step(
    params: Sequence[NDArray[Any]],
    grads: Sequence[NDArray[Any]],
    square_avgs: Sequence[NDArray[Any]],
    acc_deltas: Sequence[NDArray[Any]],
    *,
    lr: float = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_form: str = "scale",
    nonfinite: str = "allow",
) -> float | None:
    """Adadelta on all tensors, in place.

    ::

        g = clip(grad) + weight_decay * param + l1 * sign(param)
        v = rho * v + (1 - rho) * g * g
        d = sqrt(u + eps) / sqrt(v + eps) * g
        u = rho * u + (1 - rho) * d * d
        param = param - lr * d

    Averages below the smallest normal number become 0.  Formula: M. D. Zeiler: ADADELTA (2012), in the form of
    `torch.optim.Adadelta`.

    Parameters
    ----------
    {arrays}
    square_avgs, acc_deltas : sequences of arrays like `params`
        The averages v of squared gradients and u of squared steps.
    lr : float, default 1
    rho : float, default 0.9
        In [0, 1).
    eps : float, default 1e-6
    {shared}
    """
    numbers = _numbers(
        lr=lr,
        rho=rho,
        eps=eps,
        weight_decay=weight_decay,
        l1=l1,
        clip_value=clip_value,
    )
    states = (square_avgs, acc_deltas)
    unit = clips_to_unit(clip_form)
    norm: float | None = _core.optimizer_step(
        "adadelta", params, grads, states, (numbers,), None, clip_norm, unit, nonfinite
    )
    return norm


class Adadelta(Optimizer):
    """Adadelta, as `torch.optim.Adadelta`.

    ::

        v = rho * v + (1 - rho) * g * g
        d = sqrt(u + eps) / sqrt(v + eps) * g
        u = rho * u + (1 - rho) * d * d
        param = param - lr * d

    M. D. Zeiler: ADADELTA (2012).

    Parameters
    ----------
    params, lr, weight_decay, and what all optimizers share
        See `Optimizer`; `lr` is 1 by default.
    rho : float, default 0.9
    eps : float, default 1e-6
    """

    _rule = "adadelta"
    _slots = ("square_avg", "acc_delta")
    _numbers = staticmethod(_numbers)

    def __init__(
        self,
        params: Params,
        lr: Rate = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(params, lr, weight_decay, **shared)
        _check(rho, eps)
        self.rho = rho
        self.eps = eps
        self._states = [self._zeros(), self._zeros()]

    def _options(self, clock: Clock) -> dict[str, Any]:
        return {"rho": self.rho, "eps": self.eps}

    def _formula(self) -> list[str]:
        return [
            "v = rho * v + (1 - rho) * g * g",
            "d = sqrt(u + eps) / sqrt(v + eps) * g",
            "u = rho * u + (1 - rho) * d * d",
            "param = param - lr * d",
        ]
