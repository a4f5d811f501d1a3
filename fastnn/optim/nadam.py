"""NAdam."""

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

__all__ = ["NAdam", "nadam_step"]


def _numbers(
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    mu: float,
    mu_next: float,
    mu_product: float,
    bias_correction2: float,
    l1: float = 0.0,
    clip_value: float | None = None,
) -> tuple[float, ...]:
    """In the order of csrc/kernels/optimizers.hpp."""
    shared = shared_numbers(lr, weight_decay, l1, clip_value, decoupled)
    check_betas(beta1, beta2)
    check_positive("eps", eps)
    check_correction("bias_correction2", bias_correction2)
    if not (0.0 < mu < 1.0 and 0.0 < mu_next < 1.0 and 0.0 < mu_product < 1.0):
        raise ValueError(f"mu, mu_next, mu_product: expected numbers in (0, 1), got {mu}, {mu_next} and {mu_product}")
    of_m, of_g = mu_next / (1.0 - mu_product * mu_next), (1.0 - mu) / (1.0 - mu_product)
    root = 1.0 / math.sqrt(bias_correction2)
    return (*shared, lr * of_m, beta1, 1.0 - beta1, beta2, 1.0 - beta2, eps, root, of_g / of_m)


@step_function
def nadam_step(
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
    mu: float,
    mu_next: float,
    mu_product: float,
    bias_correction2: float,
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_form: str = "scale",
    nonfinite: str = "allow",
) -> float | None:
    """NAdam, Adam with Nesterov momentum, on all tensors, in place.

    ::

        g = clip(grad) + l1 * sign(param)                            (+ weight_decay * param unless decoupled)
        param = param * (1 - lr * weight_decay)                      (only if decoupled, before all else)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        d = mu_next / (1 - mu_product * mu_next) * m + (1 - mu) / (1 - mu_product) * g
        param = param - lr * d / (sqrt(v) / sqrt(bias_correction2) + eps)

    Moments below the smallest normal number become 0.  Formula: T. Dozat: Incorporating Nesterov momentum into Adam
    (ICLR workshop 2016), in the form of `torch.optim.NAdam`.

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
    mu, mu_next : float
        Momentum of this step and of the next.
    mu_product : float
        Product of all up to this step, kept by the caller.
    bias_correction2 : float
        ``1 - beta2 ** step``, kept by the caller as a running product.
    {shared}
    """
    numbers = _numbers(
        lr=lr,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        weight_decay=weight_decay,
        decoupled=decoupled,
        mu=mu,
        mu_next=mu_next,
        mu_product=mu_product,
        bias_correction2=bias_correction2,
        l1=l1,
        clip_value=clip_value,
    )
    states = (exp_avgs, exp_avg_sqs)
    unit = clips_to_unit(clip_form)
    norm: float | None = _core.optimizer_step(
        "nadam", params, grads, states, (numbers,), None, clip_norm, unit, nonfinite
    )
    return norm


class NAdam(Optimizer):
    """Adam with Nesterov momentum, as `torch.optim.NAdam`.

    ::

        mu = beta1 * (1 - 0.96 ** (t * momentum_decay) / 2)          (mu_next: that of t + 1)
        m  = beta1 * m + (1 - beta1) * g
        v  = beta2 * v + (1 - beta2) * g * g
        d  = mu_next / (1 - mu_product * mu_next) * m + (1 - mu) / (1 - mu_product) * g
        param = param - lr * d / (sqrt(v) / sqrt(1 - beta2 ** t) + eps)

    T. Dozat: Incorporating Nesterov momentum into Adam (ICLR workshop 2016).  Powers are running products, part of the
    state.

    Parameters
    ----------
    params, lr, weight_decay, and what all optimizers share
        See `Optimizer`; `lr` is 2e-3 by default.
    betas : pair of float, default (0.9, 0.999)
        beta1 larger than 0.
    eps : float, default 1e-8
    momentum_decay : float, default 4e-3
    decoupled_weight_decay : bool, default False
        ``param = param * (1 - lr * weight_decay)``, as in `AdamW`.
    """

    _rule = "nadam"
    _slots = ("exp_avg", "exp_avg_sq")
    _products = ("beta2_product", "mu_product", "decay_product")
    _numbers = staticmethod(_numbers)

    def __init__(
        self,
        params: Params,
        lr: Rate = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(params, lr, weight_decay, **shared)
        check_betas(*betas, name="betas")
        check_positive("beta1", betas[0])
        check_positive("eps", eps)
        check_not_negative("momentum_decay", momentum_decay)
        self.beta1, self.beta2 = betas
        self.eps = eps
        self.momentum_decay = momentum_decay
        self._decoupled = decoupled_weight_decay
        self._states = [self._zeros(), self._zeros()]

    def _mu(self, decay_product: float) -> float:
        return self.beta1 * (1.0 - 0.5 * decay_product)

    def _advanced(self, clock: Clock) -> Clock:
        product2, mu_product, decay_product = clock.products
        decay_product *= 0.96**self.momentum_decay
        return Clock(clock.steps + 1, (product2 * self.beta2, mu_product * self._mu(decay_product), decay_product))

    def _options(self, clock: Clock) -> dict[str, Any]:
        product2, mu_product, decay_product = clock.products
        return {
            "beta1": self.beta1,
            "beta2": self.beta2,
            "eps": self.eps,
            "decoupled": self._decoupled,
            "mu": self._mu(decay_product),
            "mu_next": self._mu(decay_product * 0.96**self.momentum_decay),
            "mu_product": mu_product,
            "bias_correction2": 1.0 - product2,
        }

    def _formula(self) -> list[str]:
        return [
            "mu = beta1 * (1 - 0.96 ** (t * momentum_decay) / 2), mu_next that of t + 1, mu_product that of all so far",
            "m = beta1 * m + (1 - beta1) * g",
            "v = beta2 * v + (1 - beta2) * g * g",
            "d = mu_next / (1 - mu_product * mu_next) * m + (1 - mu) / (1 - mu_product) * g",
            "param = param - lr * d / (sqrt(v) / sqrt(1 - beta2 ** t) + eps)",
        ]
