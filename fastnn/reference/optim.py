"""Steps of the optimizers, in place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastnn.reference.base import Array, wide

__all__ = ["adam_step", "sgd_step"]


def clip_factor(grads: Sequence[Array], clip_norm: float | None) -> tuple[float | None, float]:
    """Norm of all gradients together, and the factor that brings it down to `clip_norm`."""
    if clip_norm is None:
        return None, 1.0
    norm = math.sqrt(sum(np.square(g.astype(wide(g))).sum().item() for g in grads))
    return norm, float(np.minimum(1.0, clip_norm / (norm + 1e-6)))  # np.minimum: NaN stays NaN


def flush(moment: Array) -> Array:
    """Denormals to zero, as they would slow down every later step."""
    return np.where(np.abs(moment) < np.finfo(moment.dtype).tiny, moment.dtype.type(0), moment)


def sgd_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    momentum_buffers: Sequence[Array] | None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    first_step: bool = False,
    clip_norm: float | None = None,
) -> float | None:
    """Stochastic gradient descent, in place, in the form of `torch.optim.SGD`.

    ::

        g   = grad * clip + weight_decay * param
        buf = g at the first step, else momentum * buf + (1 - dampening) * g
        d   = g + momentum * buf with nesterov, else buf             (g without momentum)
        param = param - lr * d

    where clip = min(1, clip_norm / (norm + 1e-6)), norm being the 2-norm of all gradients together.

    Parameters
    ----------
    params, grads : sequences of arrays, equal shapes pairwise
    momentum_buffers : sequence of arrays like `params`, or None without momentum
    lr : float
    momentum, dampening, weight_decay : float, default 0
    nesterov : bool, default False
    first_step : bool, default False
        Start the momentum buffers from the gradient; their content is not read.
    clip_norm : float, optional

    Returns
    -------
    float or None
        The norm before clipping, if `clip_norm` is given.
    """
    norm, clip = clip_factor(grads, clip_norm)
    for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
        g = grad * clip + weight_decay * param
        if momentum_buffers is not None and momentum != 0:
            buf = momentum_buffers[i]
            buf[...] = flush(g if first_step else momentum * buf + (1 - dampening) * g)
            g = g + momentum * buf if nesterov else buf
        param -= lr * g
    return norm


def adam_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    exp_avgs: Sequence[Array],
    exp_avg_sqs: Sequence[Array],
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
    """Adam, or AdamW with ``decoupled=True``, in place.

    ::

        g = grad * clip                                              (+ weight_decay * param unless decoupled)
        param = param * (1 - lr * weight_decay)                      (only if decoupled)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        param = param - lr / bias_correction1 * m / (sqrt(v) / sqrt(bias_correction2) + eps)

    Moments below the smallest normal number become 0.  clip is as in `sgd_step`.

    D. P. Kingma, J. Ba: Adam (ICLR 2015); I. Loshchilov, F. Hutter: Decoupled weight decay regularization
    (ICLR 2019).

    Parameters
    ----------
    params, grads, exp_avgs, exp_avg_sqs : sequences of arrays, equal shapes at each index
    lr : float
    beta1, beta2 : float, default 0.9 and 0.999
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
    """
    norm, clip = clip_factor(grads, clip_norm)
    for param, grad, m, v in zip(params, grads, exp_avgs, exp_avg_sqs, strict=True):
        g = grad * clip
        if decoupled:
            param *= 1 - lr * weight_decay
        else:
            g = g + weight_decay * param
        m[...] = flush(beta1 * m + (1 - beta1) * g)
        v[...] = flush(beta2 * v + (1 - beta2) * (g * g))
        param -= (lr / bias_correction1) * (m / (np.sqrt(v) * (1 / math.sqrt(bias_correction2)) + eps))
    return norm
