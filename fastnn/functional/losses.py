"""Losses with their gradients."""

from __future__ import annotations

from fastnn.functional._arrays import Array
from fastnn.functional._builtin import builtin

__all__ = ["softmax_cross_entropy"]


@builtin
def softmax_cross_entropy(logits: Array, labels: Array, *, out: Array | None = None) -> tuple[float, Array]:
    """Mean over the rows of -log(softmax(logits)[label]), and its gradient (softmax - onehot) / N, in one
    pass.

    The largest logit of each row is subtracted first, so large logits do not overflow.

    Parameters
    ----------
    logits : (N, C) array, float32 or float64
    labels : (N,) array of any integer type
        0 <= label < C.
    out : array like `logits`, optional
        C-contiguous; receives the gradient.  May be `logits`.

    Returns
    -------
    loss : float
        NaN for N = 0.
    dlogits : array like `logits`

    Raises
    ------
    TypeError
        For logits that are not float32 or float64, or labels that are not integers.
    ValueError
        For wrong shapes, a label out of range, or an unsuitable `out`.
    """
