"""RAdam."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fastnn import _core
from fastnn.optim._base import Clock, Optimizer, Rate
from fastnn.optim._shared import (
    check_betas,
    check_correction,
    check_not_negative,
    check_positive,
    clips_to_unit,
    shared_numbers,
    step_function,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastnn.optim._base import Params, Shared

__all__ = ["RAdam", "radam_step"]


def _numbers(
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    bias_correction1: float = 1.0,
    rectification: float | None,
    l1: float = 0.0,
    clip_value: float | None = None,
) -> tuple[float, ...]:
    """In the order of csrc/kernels/optimizers.hpp."""
    shared = shared_numbers(lr, weight_decay, l1, clip_value, decoupled)
    check_betas(beta1, beta2)
    check_positive("eps", eps)
    check_correction("bias_correction1", bias_correction1)
    size, least, root = lr / bias_correction1, 1.0, 0.0
    if rectification is not None:
        check_not_negative("rectification", rectification)
        size, least, root = size * rectification, eps, 1.0
    return (*shared, size, beta1, 1.0 - beta1, beta2, 1.0 - beta2, least, root)


@step_function
def radam_step(
    params: Sequence[NDArray[Any]],
    grads: Sequence[NDArray[Any]],
    exp_avgs: Sequence[NDArray[Any]],
    exp_avg_sqs: Sequence[NDArray[Any]],
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    bias_correction1: float = 1.0,
    rectification: float | None,
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_form: str = "scale",
    nonfinite: str = "allow",
) -> float | None:
    """RAdam, Adam with rectified variance, on all tensors, in place.

    ::

        g = clip(grad) + l1 * sign(param)                            (+ weight_decay * param unless decoupled)
        param = param * (1 - lr * weight_decay)                      (only if decoupled, before all else)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        param = param - lr / bias_correction1 * m * rectification / (sqrt(v) + eps)
        param = param - lr / bias_correction1 * m                    (without rectification)

    Moments below the smallest normal number become 0.  Formula: L. Liu et al.: On the variance of the adaptive learning
    rate and beyond (ICLR 2020), in the form of `torch.optim.RAdam`.

    Parameters
    ----------
    {arrays}
    exp_avgs, exp_avg_sqs : sequences of arrays like `params`
        The moments m and v.
    lr : float
    beta1, beta2 : float, default 0.9 and 0.999
        In [0, 1).
    eps : float, default 1e-8
    decoupled : bool, default False
        Shrink the parameters by ``lr * weight_decay`` instead of adding to the gradient.
    bias_correction1 : float, default 1
        ``1 - beta1 ** step``, kept by the caller as a running product.
    rectification : float or None
        The paper's r times ``sqrt(1 - beta2 ** step)``; None where it is not defined, in the first steps.
    {shared}
    """
    numbers = _numbers(
        lr=lr,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        weight_decay=weight_decay,
        decoupled=decoupled,
        bias_correction1=bias_correction1,
        rectification=rectification,
        l1=l1,
        clip_value=clip_value,
    )
    states = (exp_avgs, exp_avg_sqs)
    unit = clips_to_unit(clip_form)
    norm: float | None = _core.optimizer_step(
        "radam", params, grads, states, (numbers,), None, clip_norm, unit, nonfinite
    )
    return norm


class RAdam(Optimizer):
    """Adam with rectified variance, as `torch.optim.RAdam`.

    ::

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        rho_inf = 2 / (1 - beta2) - 1,  rho = rho_inf - 2 * t * beta2 ** t / (1 - beta2 ** t)
        r = sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
        param = param - lr / (1 - beta1 ** t) * m * r * sqrt(1 - beta2 ** t) / (sqrt(v) + eps)    where rho > 5
        param = param - lr / (1 - beta1 ** t) * m                                                 elsewhere

    L. Liu et al.: On the variance of the adaptive learning rate and beyond (ICLR 2020).  Powers are running products,
    part of the state.

    Parameters
    ----------
    params, lr, weight_decay, and what all optimizers share
        See `Optimizer`; `lr` is 1e-3 by default.
    betas : pair of float, default (0.9, 0.999)
    eps : float, default 1e-8
    decoupled_weight_decay : bool, default False
        ``param = param * (1 - lr * weight_decay)``, as in `AdamW`.
    """

    _rule = "radam"
    _slots = ("exp_avg", "exp_avg_sq")
    _products = ("beta1_product", "beta2_product")
    _numbers = staticmethod(_numbers)

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(params, lr, weight_decay, **shared)
        check_betas(*betas, name="betas")
        check_positive("eps", eps)
        self.beta1, self.beta2 = betas
        self.eps = eps
        self._decoupled = decoupled_weight_decay
        self._states = [self._zeros(), self._zeros()]

    def _advanced(self, clock: Clock) -> Clock:
        product1, product2 = clock.products
        return Clock(clock.steps + 1, (product1 * self.beta1, product2 * self.beta2))

    def _options(self, clock: Clock) -> dict[str, Any]:
        product1, product2 = clock.products
        return {
            "beta1": self.beta1,
            "beta2": self.beta2,
            "eps": self.eps,
            "decoupled": self._decoupled,
            "bias_correction1": 1.0 - product1,
            "rectification": _rectification(self.beta2, clock.steps, product2),
        }

    def _formula(self) -> list[str]:
        return [
            "m = beta1 * m + (1 - beta1) * g",
            "v = beta2 * v + (1 - beta2) * g * g",
            "rho_inf = 2 / (1 - beta2) - 1,  rho = rho_inf - 2 * t * beta2 ** t / (1 - beta2 ** t)",
            "r = sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))",
            "param = param - lr / (1 - beta1 ** t) * m * r * sqrt(1 - beta2 ** t) / (sqrt(v) + eps)  where rho > 5",
            "param = param - lr / (1 - beta1 ** t) * m  elsewhere",
        ]


def _rectification(beta2: float, steps: int, product2: float) -> float | None:
    most = 2.0 / (1.0 - beta2) - 1.0
    rho = most - 2.0 * steps * product2 / (1.0 - product2)
    if rho <= 5.0:
        return None
    rectified = math.sqrt((rho - 4.0) * (rho - 2.0) * most / ((most - 4.0) * (most - 2.0) * rho))
    return rectified * math.sqrt(1.0 - product2)
