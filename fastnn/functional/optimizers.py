"""Optimizer updates: one native call for all tensors, in place."""

from __future__ import annotations

from collections.abc import Sequence

import fastnn._core as _core
from fastnn.functional._arrays import Array

__all__ = ["adam_step", "sgd_step"]


def _nonnegative(name: str, value: float) -> None:
    if not value >= 0.0:
        raise ValueError(f"{name}: expected a number >= 0, got {value}")


def _clip(clip_norm: float | None) -> float:
    if clip_norm is None:
        return -1.0
    if not clip_norm > 0.0:
        raise ValueError(f"clip_norm: expected None or a number > 0, got {clip_norm}")
    return clip_norm


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
    """Stochastic gradient descent on all tensors, in place.

    ::

        g   = grad * clip + weight_decay * param
        buf = g at the first step, else momentum * buf + (1 - dampening) * g
        d   = g + momentum * buf with nesterov, else buf             (g without momentum)
        param = param - lr * d

    where clip = min(1, clip_norm / (norm + 1e-6)), norm being the 2-norm of all gradients together.  Buffers
    below the smallest normal number become 0.  The form is that of `torch.optim.SGD`.

    Parameters
    ----------
    params : sequence of arrays, float32 or float64, C-contiguous, not overlapping
    grads : sequence of arrays like `params`; may be read-only or strided, and are not changed
    momentum_buffers : sequence of arrays like `params`, or None
        Required with momentum, not used without.
    lr : float
    momentum, dampening, weight_decay : float, default 0
    nesterov : bool, default False
        Needs momentum > 0 and dampening 0.
    first_step : bool, default False
        Start the momentum buffers from the gradient; their content is not read.
    clip_norm : float, optional

    Returns
    -------
    float or None
        The norm before clipping, if `clip_norm` is given.

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or of different types at one index.
    ValueError
        For lists of different lengths, wrong shapes, read-only or overlapping arrays, and scalars out of
        range.
    """
    _nonnegative("lr", lr)
    _nonnegative("momentum", momentum)
    _nonnegative("weight_decay", weight_decay)
    if nesterov and (momentum == 0.0 or dampening != 0.0):
        raise ValueError(f"nesterov: expected momentum > 0 and dampening 0, got {momentum} and {dampening}")
    if momentum != 0.0 and momentum_buffers is None:
        raise ValueError("momentum_buffers: expected a sequence of arrays with momentum, got None")
    norm = _core.sgd(
        params,
        grads,
        momentum_buffers if momentum != 0.0 else None,
        lr,
        momentum,
        dampening,
        weight_decay,
        nesterov,
        first_step,
        _clip(clip_norm),
    )
    return None if clip_norm is None else norm


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
        For arrays that are not float32 or float64, or of different types at one index.
    ValueError
        For lists of different lengths, wrong shapes, read-only or overlapping arrays, and scalars out of
        range.
    """
    _nonnegative("lr", lr)
    _nonnegative("weight_decay", weight_decay)
    if not (0.0 <= beta1 < 1.0 and 0.0 <= beta2 < 1.0):
        raise ValueError(f"beta1, beta2: expected numbers in [0, 1), got {beta1} and {beta2}")
    if not eps > 0.0:
        raise ValueError(f"eps: expected a number > 0, got {eps}")
    if not (0.0 < bias_correction1 <= 1.0 and 0.0 < bias_correction2 <= 1.0):
        raise ValueError(
            "bias_correction1, bias_correction2: expected numbers in (0, 1], "
            f"got {bias_correction1} and {bias_correction2}"
        )
    norm = _core.adam(
        params,
        grads,
        exp_avgs,
        exp_avg_sqs,
        lr,
        beta1,
        beta2,
        eps,
        weight_decay,
        decoupled,
        bias_correction1,
        bias_correction2,
        _clip(clip_norm),
    )
    return None if clip_norm is None else norm
