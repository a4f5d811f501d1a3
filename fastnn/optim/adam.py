"""Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fastnn import _backend, _core
from fastnn.optim._base import Optimizer, check_not_negative

if TYPE_CHECKING:
    from fastnn.layers.module import Parameter

__all__ = ["Adam", "AdamW", "adam_step"]


def adam_step(
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
    bias_correction2: float = 1.0,
    clip_norm: float | None = None,
) -> float | None:
    """Adam, or AdamW with ``decoupled=True``, on all tensors, in place.

    ::

        g = grad * clip                                              (+ weight_decay * param unless decoupled)
        param = param * (1 - lr * weight_decay)                      (only if decoupled)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        param = param - lr / bias_correction1 * m / (sqrt(v) / sqrt(bias_correction2) + eps)

    where clip = min(1, clip_norm / (norm + 1e-6)), norm being the 2-norm of all gradients together.  Moments
    below the smallest normal number become 0.  Formula: D. P. Kingma, J. Ba: Adam (ICLR 2015); I. Loshchilov,
    F. Hutter: Decoupled weight decay regularization (ICLR 2019).

    Parameters
    ----------
    params : sequence of arrays, float32 or float64, C-contiguous, not overlapping
    grads : sequence of arrays like `params`; may be read-only or strided, and are not changed
    exp_avgs, exp_avg_sqs : sequences of arrays like `params`
        The moments m and v.
    lr : float
    beta1, beta2 : float, default 0.9 and 0.999
        In [0, 1).
    eps : float, default 1e-8
    weight_decay : float, default 0
    decoupled : bool, default False
    bias_correction1, bias_correction2 : float, default 1
        ``1 - beta ** step``, kept by the caller as running products.
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
    check_not_negative("weight_decay", weight_decay)
    if not (0.0 <= beta1 < 1.0 and 0.0 <= beta2 < 1.0):
        raise ValueError(f"beta1, beta2: expected numbers in [0, 1), got {beta1} and {beta2}")
    if not eps > 0.0:
        raise ValueError(f"eps: expected a number > 0, got {eps}")
    if not (0.0 < bias_correction1 <= 1.0 and 0.0 < bias_correction2 <= 1.0):
        raise ValueError(
            "bias_correction1, bias_correction2: expected numbers in (0, 1], "
            f"got {bias_correction1} and {bias_correction2}"
        )
    # The order of csrc/kernels/optimizers.hpp.
    scalars = (
        lr / bias_correction1,
        beta1,
        1.0 - beta1,
        beta2,
        1.0 - beta2,
        eps,
        0.0 if decoupled else weight_decay,
        1.0 - lr * weight_decay if decoupled else 1.0,
        1.0 / math.sqrt(bias_correction2),
    )
    return _core.optimizer_step("adam", params, grads, (exp_avgs, exp_avg_sqs), scalars, clip_norm)


class Adam(Optimizer):
    """Adam, as `torch.optim.Adam`: weight decay is added to the gradient.

    ::

        g = grad * clip + weight_decay * param
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        param = param - lr / (1 - beta1 ** t) * m / (sqrt(v) / sqrt(1 - beta2 ** t) + eps)

    D. P. Kingma, J. Ba: Adam (ICLR 2015).  The powers of the betas are running products, part of the state.

    Parameters
    ----------
    params : iterable of Parameter, or of arrays
        ``net.parameters()``, or arrays that `step` updates in place: all float32 or all float64.
    lr : float, default 1e-3
    betas : pair of float, default (0.9, 0.999)
    eps : float, default 1e-8
    weight_decay : float, default 0
        To decay weights but no biases, use two optimizers, over the parameters with and without `Parameter.decay`.
    clip_norm : float, optional
        Scale the gradients down to this norm, taken over all of them together, as `torch.nn.utils.clip_grad_norm_`.

    Examples
    --------
    >>> opt = Adam(net.parameters(), lr=1e-3)
    >>> opt.step()
    """

    _decoupled = False

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[NDArray[Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(params, lr, clip_norm)
        check_not_negative("weight_decay", weight_decay)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas: expected two numbers in [0, 1), got {betas}")
        if not eps > 0:
            raise ValueError(f"eps: expected a number > 0, got {eps}")
        self.beta1, self.beta2 = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.beta1_product = 1.0
        self.beta2_product = 1.0
        self._exp_avgs = self._zeros()
        self._exp_avg_sqs = self._zeros()

    def _update(self, grads: Sequence[NDArray[Any]]) -> float | None:
        product1, product2 = self.beta1_product * self.beta1, self.beta2_product * self.beta2
        norm: float | None = _backend.ops.adam_step(
            self._arrays,
            grads,
            self._exp_avgs,
            self._exp_avg_sqs,
            lr=self.lr,
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
            weight_decay=self.weight_decay,
            decoupled=self._decoupled,
            bias_correction1=1.0 - product1,
            bias_correction2=1.0 - product2,
            clip_norm=self.clip_norm,
        )
        self.beta1_product, self.beta2_product = product1, product2
        return norm

    def _scalars(self) -> dict[str, float]:
        return {"beta1_product": self.beta1_product, "beta2_product": self.beta2_product}

    def _slots(self) -> dict[str, list[NDArray[Any]]]:
        return {"exp_avg": self._exp_avgs, "exp_avg_sq": self._exp_avg_sqs}


class AdamW(Adam):
    """Adam with decoupled weight decay, as `torch.optim.AdamW`: each step scales the arrays by 1 - lr * weight_decay.

    I. Loshchilov, F. Hutter: Decoupled weight decay regularization (ICLR 2019).  Parameters are those of `Adam`, with
    weight_decay = 0.01 by default.
    """

    _decoupled = True

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[NDArray[Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, clip_norm=clip_norm)
