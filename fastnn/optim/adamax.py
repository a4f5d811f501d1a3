"""Adamax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fastnn import _core
from fastnn.optim._base import Clock, Optimizer, Rate
from fastnn.optim._shared import (
    check_betas,
    check_correction,
    check_positive,
    clips_to_unit,
    shared_numbers,
    step_function,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastnn.optim._base import Params, Shared

__all__ = ["Adamax", "adamax_step"]


def _numbers(
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    bias_correction1: float = 1.0,
    l1: float = 0.0,
    clip_value: float | None = None,
) -> tuple[float, ...]:
    """In the order of csrc/kernels/optimizers.hpp."""
    shared = shared_numbers(lr, weight_decay, l1, clip_value)
    check_betas(beta1, beta2)
    check_positive("eps", eps)
    check_correction("bias_correction1", bias_correction1)
    return (*shared, lr / bias_correction1, beta1, 1.0 - beta1, beta2, eps)


@step_function
def adamax_step(
    params: Sequence[NDArray[Any]],
    grads: Sequence[NDArray[Any]],
    exp_avgs: Sequence[NDArray[Any]],
    exp_infs: Sequence[NDArray[Any]],
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    bias_correction1: float = 1.0,
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_form: str = "scale",
    nonfinite: str = "allow",
) -> float | None:
    """Adamax, Adam with the infinity norm, on all tensors, in place.

    ::

        g = clip(grad) + weight_decay * param + l1 * sign(param)
        m = beta1 * m + (1 - beta1) * g
        u = max(beta2 * u, |g| + eps)
        param = param - lr / bias_correction1 * m / u

    Moments below the smallest normal number become 0.  Formula: D. P. Kingma, J. Ba: Adam (ICLR 2015), section 7.1, in
    the form of `torch.optim.Adamax`.

    Parameters
    ----------
    {arrays}
    exp_avgs, exp_infs : sequences of arrays like `params`
        The moments m and u.
    lr : float
    beta1, beta2 : float, default 0.9 and 0.999
        In [0, 1).
    eps : float, default 1e-8
    bias_correction1 : float, default 1
        ``1 - beta1 ** step``, kept by the caller as a running product.
    {shared}
    """
    numbers = _numbers(
        lr=lr,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        weight_decay=weight_decay,
        bias_correction1=bias_correction1,
        l1=l1,
        clip_value=clip_value,
    )
    states = (exp_avgs, exp_infs)
    unit = clips_to_unit(clip_form)
    norm: float | None = _core.optimizer_step(
        "adamax", params, grads, states, (numbers,), None, clip_norm, unit, nonfinite
    )
    return norm


class Adamax(Optimizer):
    """Adam with the infinity norm, as `torch.optim.Adamax`.

    ::

        m = beta1 * m + (1 - beta1) * g
        u = max(beta2 * u, |g| + eps)
        param = param - lr / (1 - beta1 ** t) * m / u

    D. P. Kingma, J. Ba: Adam (ICLR 2015), section 7.1.  The power of beta1 is a running product, part of the state.

    Parameters
    ----------
    params, lr, weight_decay, and what all optimizers share
        See `Optimizer`; `lr` is 2e-3 by default.
    betas : pair of float, default (0.9, 0.999)
    eps : float, default 1e-8
    """

    _rule = "adamax"
    _slots = ("exp_avg", "exp_inf")
    _products = ("beta1_product",)
    _numbers = staticmethod(_numbers)

    def __init__(
        self,
        params: Params,
        lr: Rate = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(params, lr, weight_decay, **shared)
        check_betas(*betas, name="betas")
        check_positive("eps", eps)
        self.beta1, self.beta2 = betas
        self.eps = eps
        self._states = [self._zeros(), self._zeros()]

    def _advanced(self, clock: Clock) -> Clock:
        return Clock(clock.steps + 1, (clock.products[0] * self.beta1,))

    def _options(self, clock: Clock) -> dict[str, Any]:
        correction = 1.0 - clock.products[0]
        return {"beta1": self.beta1, "beta2": self.beta2, "eps": self.eps, "bias_correction1": correction}

    def _formula(self) -> list[str]:
        return [
            "m = beta1 * m + (1 - beta1) * g",
            "u = max(beta2 * u, |g| + eps)",
            "param = param - lr / (1 - beta1 ** t) * m / u",
        ]
