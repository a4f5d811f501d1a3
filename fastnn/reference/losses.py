"""Losses with their gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.reference.base import Array, into, wide
from fastnn.reference.softmax import log_softmax

__all__ = ["nll_loss", "softmax_cross_entropy"]


def _one_hot(labels: Array, counts: Array, x: Array) -> Array:
    """Like `x`, with the classes along axis 1: 1 at the label of each row that counts, else 0."""
    hot = (labels[..., None] == np.arange(x.shape[1])) & counts[..., None]
    return np.asarray(np.moveaxis(hot, -1, 1), wide(x))


def _class_weight(weight: Array | None, x: Array) -> Array:
    """What broadcasts along axis 1 of `x`."""
    values = np.ones(x.shape[1], wide(x)) if weight is None else weight.astype(wide(x))
    return values.reshape(-1, *[1] * (x.ndim - 2))


def _reduced(
    losses: Array, gradient: Array, divisor: Any, reduction: str, dtype: np.dtype[Any], out: Array | None
) -> tuple[Any, Array]:
    loss: Any = losses.astype(dtype)
    if reduction != "none":
        loss = losses.sum().item()
    if reduction == "mean":
        loss = loss / divisor if divisor else math.nan
        gradient = gradient / (divisor or 1)
    return loss, into(out, gradient.astype(dtype))


def softmax_cross_entropy(
    logits: Array,
    labels: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    out: Array | None = None,
) -> tuple[Any, Array]:
    """Cross-entropy of softmax(logits), and its gradient.

    Parameters
    ----------
    logits : (N, C) or (N, C, ...) array
    labels : (N,) or (N, ...) integer array, 0 <= label < C or `ignore_index`; or probabilities like `logits`
    weight : (C,) array, optional
    ignore_index : int, default -100
    reduction : {"mean", "sum", "none"}, default "mean"
    label_smoothing : float, default 0.0
    out : array like `logits`, optional
        Receives the gradient; may be `logits`.

    Returns
    -------
    loss : float, or with reduction "none" an array like labels
        The mean is NaN where no row counts.
    dlogits : array like `logits`
    """
    dense = labels.dtype.kind == "f"
    counts = np.ones((len(logits), *logits.shape[2:]), bool) if dense else labels != ignore_index
    target = labels.astype(wide(logits)) if dense else _one_hot(labels, counts, logits)
    w = _class_weight(weight, logits)
    q = w * ((1 - label_smoothing) * target + label_smoothing / max(logits.shape[1], 1))
    log_p = log_softmax(logits.astype(wide(logits)), 1)
    terms = -q * log_p
    if not (dense or label_smoothing):
        terms = np.where(target == 1, terms, 0)  # other classes take no part, not even with 0 * inf
    losses = np.where(counts, terms.sum(axis=1), 0)
    gradient = np.where(counts[:, None], np.exp(log_p) * q.sum(axis=1, keepdims=True) - q, 0)
    divisor = counts.sum() if dense else (w * target).sum()
    return _reduced(losses, gradient, divisor, reduction, logits.dtype, out)


def nll_loss(
    log_probs: Array,
    labels: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    *,
    out: Array | None = None,
) -> tuple[Any, Array]:
    """-weight[label] log_probs[label], and its gradient.

    Parameters
    ----------
    log_probs : (N, C) or (N, C, ...) array
    labels : (N,) or (N, ...) integer array, 0 <= label < C or `ignore_index`
    weight : (C,) array, optional
    ignore_index : int, default -100
    reduction : {"mean", "sum", "none"}, default "mean"
    out : array like `log_probs`, optional
        Receives the gradient; may be `log_probs`.

    Returns
    -------
    loss : float, or with reduction "none" an array like labels
        The mean is NaN where no row counts.
    dlog_probs : array like `log_probs`
    """
    w = _class_weight(weight, log_probs)
    target = _one_hot(labels, labels != ignore_index, log_probs)
    losses = np.where(target == 1, -w * log_probs, 0).sum(axis=1)
    gradient = np.where(target == 1, -w, 0)
    return _reduced(losses, gradient, (w * target).sum(), reduction, log_probs.dtype, out)
