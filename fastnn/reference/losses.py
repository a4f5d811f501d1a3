"""Losses with their gradients."""

from __future__ import annotations

import math

import numpy as np

from fastnn.reference.base import Array, into, wide

__all__ = ["softmax_cross_entropy"]


def softmax_cross_entropy(logits: Array, labels: Array, *, out: Array | None = None) -> tuple[float, Array]:
    """Mean over the rows of -log(softmax(logits)[label]), and its gradient (softmax - onehot) / N.

    Parameters
    ----------
    logits : (N, C) array
    labels : (N,) integer array, 0 <= label < C
    out : array like `logits`, optional
        Receives the gradient; may be `logits`.

    Returns
    -------
    loss : float
        NaN for N = 0.
    dlogits : array like `logits`
    """
    rows = np.arange(len(logits))
    shifted = logits.astype(wide(logits))
    shifted = shifted - shifted.max(axis=1, keepdims=True, initial=-np.inf)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    losses = np.log(sums)[:, 0] - shifted[rows, labels]
    dlogits = exps / sums
    dlogits[rows, labels] -= 1
    dlogits = dlogits / max(len(logits), 1)
    loss = losses.mean().item() if len(logits) else math.nan
    return loss, into(out, dlogits.astype(logits.dtype))
