"""Lion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fastnn import _core
from fastnn.optim._base import Clock, Optimizer, Rate
from fastnn.optim._shared import check_betas, clips_to_unit, shared_numbers, step_function

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastnn.optim._base import Params, Shared

__all__ = ["Lion", "lion_step"]


def _numbers(
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    clip_value: float | None = None,
) -> tuple[float, ...]:
    """In the order of csrc/kernels/optimizers.hpp."""
    shared = shared_numbers(lr, weight_decay, l1, clip_value, decoupled=True)
    check_betas(beta1, beta2)
    return (*shared, lr, beta1, 1.0 - beta1, beta2, 1.0 - beta2)


@step_function
def lion_step(
    params: Sequence[NDArray[Any]],
    grads: Sequence[NDArray[Any]],
    exp_avgs: Sequence[NDArray[Any]],
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_form: str = "scale",
    nonfinite: str = "allow",
) -> float | None:
    """Lion, a step by the sign of the momentum, on all tensors, in place.

    ::

        g = clip(grad) + l1 * sign(param)
        param = param * (1 - lr * weight_decay)                      (before all else)
        param = param - lr * sign(beta1 * m + (1 - beta1) * g)
        m = beta2 * m + (1 - beta2) * g

    Moments below the smallest normal number become 0.  Formula: X. Chen et al.: Symbolic discovery of optimization
    algorithms (NeurIPS 2023); weight decay is decoupled.

    Parameters
    ----------
    {arrays}
    exp_avgs : sequence of arrays like `params`
        The momentum m.
    lr : float
    beta1, beta2 : float, default 0.9 and 0.99
        In [0, 1).
    {shared}
    """
    numbers = _numbers(
        lr=lr,
        beta1=beta1,
        beta2=beta2,
        weight_decay=weight_decay,
        l1=l1,
        clip_value=clip_value,
    )
    states = (exp_avgs,)
    unit = clips_to_unit(clip_form)
    norm: float | None = _core.optimizer_step(
        "lion", params, grads, states, (numbers,), None, clip_norm, unit, nonfinite
    )
    return norm


class Lion(Optimizer):
    """A step by the sign of the momentum, with decoupled weight decay.

    ::

        param = param * (1 - lr * weight_decay)
        param = param - lr * sign(beta1 * m + (1 - beta1) * g)
        m = beta2 * m + (1 - beta2) * g

    X. Chen et al.: Symbolic discovery of optimization algorithms (NeurIPS 2023).

    Parameters
    ----------
    params, lr, weight_decay, and what all optimizers share
        See `Optimizer`; `lr` is 1e-4 by default, 3 to 10 times less than for Adam.
    betas : pair of float, default (0.9, 0.99)
    """

    _rule = "lion"
    _slots = ("exp_avg",)
    _numbers = staticmethod(_numbers)
    _decoupled = True

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(params, lr, weight_decay, **shared)
        check_betas(*betas, name="betas")
        self.beta1, self.beta2 = betas
        self._states = [self._zeros()]

    def _options(self, clock: Clock) -> dict[str, Any]:
        return {"beta1": self.beta1, "beta2": self.beta2}

    def _formula(self) -> list[str]:
        return ["param = param - lr * sign(beta1 * m + (1 - beta1) * g)", "m = beta2 * m + (1 - beta2) * g"]
