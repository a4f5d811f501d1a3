"""Adagrad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fastnn import _core
from fastnn.optim._base import Clock, Optimizer, Rate
from fastnn.optim._shared import check_not_negative, clips_to_unit, shared_numbers, step_function

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastnn.optim._base import Params, Shared

__all__ = ["Adagrad", "adagrad_step"]


def _numbers(
    *,
    lr: float,
    weight_decay: float = 0.0,
    eps: float = 1e-10,
    l1: float = 0.0,
    clip_value: float | None = None,
) -> tuple[float, ...]:
    """In the order of csrc/kernels/optimizers.hpp."""
    check_not_negative("eps", eps)
    return (*shared_numbers(lr, weight_decay, l1, clip_value), lr, eps)


@step_function
def adagrad_step(
    params: Sequence[NDArray[Any]],
    grads: Sequence[NDArray[Any]],
    sums: Sequence[NDArray[Any]],
    *,
    lr: float,
    weight_decay: float = 0.0,
    eps: float = 1e-10,
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_form: str = "scale",
    nonfinite: str = "allow",
) -> float | None:
    """Adagrad on all tensors, in place.

    ::

        g = clip(grad) + weight_decay * param + l1 * sign(param)
        sum = sum + g * g
        param = param - lr * g / (sqrt(sum) + eps)

    Sums below the smallest normal number become 0.  Formula: J. Duchi, E. Hazan, Y. Singer: Adaptive
    subgradient methods (JMLR 2011), in the form of `torch.optim.Adagrad`.

    Parameters
    ----------
    {arrays}
    sums : sequence of arrays like `params`
        Sums of squares of the gradients.
    lr : float
    eps : float, default 1e-10
    {shared}
    """
    numbers = _numbers(
        lr=lr,
        weight_decay=weight_decay,
        eps=eps,
        l1=l1,
        clip_value=clip_value,
    )
    states = (sums,)
    unit = clips_to_unit(clip_form)
    norm: float | None = _core.optimizer_step(
        "adagrad", params, grads, states, (numbers,), None, clip_norm, unit, nonfinite
    )
    return norm


class Adagrad(Optimizer):
    """Adagrad, as `torch.optim.Adagrad`.

    ::

        sum = sum + g * g, beginning at initial_accumulator_value
        param = param - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(sum) + eps)

    J. Duchi, E. Hazan, Y. Singer: Adaptive subgradient methods (JMLR 2011).  (Keras begins at 0.1.)

    Parameters
    ----------
    params, lr, weight_decay, and what all optimizers share
        See `Optimizer`; `lr` is 1e-2 by default.
    lr_decay : float, default 0
    initial_accumulator_value : float, default 0
    eps : float, default 1e-10
    """

    _rule = "adagrad"
    _slots = ("sum",)
    _numbers = staticmethod(_numbers)

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(params, lr, weight_decay, **shared)
        check_not_negative("lr_decay", lr_decay)
        check_not_negative("initial_accumulator_value", initial_accumulator_value)
        check_not_negative("eps", eps)
        self.lr_decay = lr_decay
        self.eps = eps
        sums = self._zeros()
        for array in sums:
            array.fill(initial_accumulator_value)
        self._states = [sums]

    def _options(self, clock: Clock) -> dict[str, Any]:
        return {"eps": self.eps}

    def _rate(self, lr: float, clock: Clock) -> float:
        check_not_negative("lr_decay", self.lr_decay)
        return lr / (1.0 + (clock.steps - 1) * self.lr_decay)

    def _formula(self) -> list[str]:
        rate = "lr / (1 + (t - 1) * lr_decay)" if self.lr_decay else "lr"
        return ["sum = sum + g * g", f"param = param - {rate} * g / (sqrt(sum) + eps)"]
