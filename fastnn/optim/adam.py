"""Adam and AdamW."""

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
    check_positive,
    clips_to_unit,
    shared_numbers,
    step_function,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastnn.optim._base import Params, Shared

__all__ = ["Adam", "AdamW", "adam_step"]


def _numbers(
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    bias_correction1: float = 1.0,
    bias_correction2: float = 1.0,
    l1: float = 0.0,
    clip_value: float | None = None,
) -> tuple[float, ...]:
    """In the order of csrc/kernels/optimizers.hpp."""
    shared = shared_numbers(lr, weight_decay, l1, clip_value, decoupled)
    check_betas(beta1, beta2)
    check_positive("eps", eps)
    check_correction("bias_correction1", bias_correction1)
    check_correction("bias_correction2", bias_correction2)
    corrected, root_scale = lr / bias_correction1, 1.0 / math.sqrt(bias_correction2)
    own = corrected, beta1, 1.0 - beta1, beta2, 1.0 - beta2, eps, root_scale
    return shared + own


@step_function
def adam_step(
    params: Sequence[NDArray[Any]],
    grads: Sequence[NDArray[Any]],
    exp_avgs: Sequence[NDArray[Any]],
    exp_avg_sqs: Sequence[NDArray[Any]],
    max_exp_avg_sqs: Sequence[NDArray[Any]] | None = None,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    bias_correction1: float = 1.0,
    bias_correction2: float = 1.0,
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_form: str = "scale",
    nonfinite: str = "allow",
) -> float | None:
    """Adam, or AdamW with ``decoupled=True``, or AMSGrad with `max_exp_avg_sqs`, on all tensors, in place.

    ::

        g = clip(grad) + l1 * sign(param)                            (+ weight_decay * param unless decoupled)
        param = param * (1 - lr * weight_decay)                      (only if decoupled, before all else)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        u = max(u, v) with AMSGrad, else v
        param = param - lr / bias_correction1 * m / (sqrt(u) / sqrt(bias_correction2) + eps)

    Moments below the smallest normal number become 0.  Formula: D. P. Kingma, J. Ba: Adam (ICLR 2015); I. Loshchilov,
    F. Hutter: Decoupled weight decay regularization (ICLR 2019); S. J. Reddi, S. Kale, S. Kumar: On the convergence of
    Adam and beyond (ICLR 2018), in the form of `torch.optim.Adam`.

    Parameters
    ----------
    {arrays}
    exp_avgs, exp_avg_sqs : sequences of arrays like `params`
        The moments m and v.
    max_exp_avg_sqs : sequence of arrays like `params`, optional
        The largest v so far: AMSGrad.
    lr : float
    beta1, beta2 : float, default 0.9 and 0.999
        In [0, 1).
    eps : float, default 1e-8
    decoupled : bool, default False
        Shrink the parameters by ``lr * weight_decay`` instead of adding to the gradient.
    bias_correction1, bias_correction2 : float, default 1
        ``1 - beta ** step``, kept by the caller as running products.
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
        bias_correction2=bias_correction2,
        l1=l1,
        clip_value=clip_value,
    )
    states = (exp_avgs, exp_avg_sqs, max_exp_avg_sqs)
    unit = clips_to_unit(clip_form)
    norm: float | None = _core.optimizer_step(
        "adam", params, grads, states, (numbers,), None, clip_norm, unit, nonfinite
    )
    return norm


class Adam(Optimizer):
    """Adam, as `torch.optim.Adam`: weight decay is added to the gradient.

    ::

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        u = max(u, v) with amsgrad, else v
        param = param - lr / (1 - beta1 ** t) * m / (sqrt(u) / sqrt(1 - beta2 ** t) + eps)

    D. P. Kingma, J. Ba: Adam (ICLR 2015); AMSGrad: S. J. Reddi, S. Kale, S. Kumar (ICLR 2018).  The powers of the betas
    are running products, part of the state.

    Parameters
    ----------
    params, lr, weight_decay, and what all optimizers share
        See `Optimizer`; `lr` is 1e-3 by default.
    betas : pair of float, default (0.9, 0.999)
    eps : float, default 1e-8
    amsgrad : bool, default False

    Examples
    --------
    >>> opt = Adam(net.parameters(), lr=1e-3)
    >>> opt.step()
    """

    _rule = "adam"
    _slots: tuple[str, ...] = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    _products: tuple[str, ...] = ("beta1_product", "beta2_product")
    _numbers = staticmethod(_numbers)
    _decoupled = False

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(params, lr, weight_decay, **shared)
        check_betas(*betas, name="betas")
        check_positive("eps", eps)
        self.beta1, self.beta2 = betas
        self.eps = eps
        self._states = [self._zeros(), self._zeros(), self._zeros() if amsgrad else None]

    def _advanced(self, clock: Clock) -> Clock:
        product1, product2 = clock.products
        return Clock(clock.steps + 1, (product1 * self.beta1, product2 * self.beta2))

    def _options(self, clock: Clock) -> dict[str, Any]:
        return {
            "beta1": self.beta1,
            "beta2": self.beta2,
            "eps": self.eps,
            "decoupled": self._decoupled,
            "bias_correction1": 1.0 - clock.products[0],
            "bias_correction2": 1.0 - clock.products[1],
        }

    def _formula(self) -> list[str]:
        largest = self._states[2] is not None
        return [
            "m = beta1 * m + (1 - beta1) * g",
            "v = beta2 * v + (1 - beta2) * g * g",
            *(["u = max(u, v)"] if largest else []),
            "param = param - lr / (1 - beta1 ** t) * m / "
            f"(sqrt({'u' if largest else 'v'}) / sqrt(1 - beta2 ** t) + eps)",
        ]


class AdamW(Adam):
    """Adam with decoupled weight decay, as `torch.optim.AdamW`.

    ::

        param = param * (1 - lr * weight_decay)

    and then the step of `Adam` by the gradient alone.  I. Loshchilov, F. Hutter: Decoupled weight decay regularization
    (ICLR 2019).  Parameters are those of `Adam`, with weight_decay = 0.01 by default.
    """

    _decoupled = True

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **shared)
