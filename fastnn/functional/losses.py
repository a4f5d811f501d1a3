"""Losses with their gradients."""

from __future__ import annotations

from typing import Any

from fastnn.functional._arrays import Array
from fastnn.functional._builtin import builtin

__all__ = ["nll_loss", "softmax_cross_entropy"]


@builtin
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
    """Cross-entropy of softmax(logits), and its gradient, in one pass; `torch.nn.functional.cross_entropy`.

    With p = softmax(logits) along axis 1, a row's loss is -sum_j q_j log p_j and its gradient p sum_j q_j - q, where

    - q = weight[label] at the label, else 0: the loss is -weight[label] log p[label];
    - with smoothing s, q = (1 - s) times that, plus s / C weight;
    - with probabilities t, q = ((1 - s) t + s / C) weight.

    The mean divides the sum of the losses by the sum of weight[label] over the rows that are not ignored, of
    probabilities by the number of rows.  The largest logit of each row is subtracted first, so large logits do not
    overflow.

    Parameters
    ----------
    logits : (N, C) array, float32 or float64; or (N, C, ...)
    labels : (N,) or (N, ...) array of any integer type, or array like `logits`
        0 <= label < C, or `ignore_index`; or the probabilities of all classes.
    weight : (C,) array of the type of `logits`, optional
        What each class counts.  Default: 1.
    ignore_index : int, default -100
        Label of rows that do not count: their loss and gradient are exactly 0, whatever the logits.
    reduction : {"mean", "sum", "none"}, default "mean"
        With "none" the loss is an array, and the gradient that of its sum.
    label_smoothing : float, default 0.0
        Share of the target that is spread over all classes, in [0, 1].
    out : array like `logits`, optional
        C-contiguous; receives the gradient.  May be `logits`.

    Returns
    -------
    loss : float; array of the type of `logits`, one per row, with reduction "none"
        The mean is NaN where no row counts.
    dlogits : array like `logits`

    Raises
    ------
    TypeError
        For logits that are not float32 or float64, or labels that are neither integers nor of their type.
    ValueError
        For wrong shapes, a label out of range, wrong numbers, or an unsuitable `out`.
    """


@builtin
def nll_loss(
    log_probs: Array,
    labels: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    *,
    out: Array | None = None,
) -> tuple[Any, Array]:
    """Negative log likelihood, and its gradient; `torch.nn.functional.nll_loss`.

    A row's loss is -weight[label] log_probs[label].  The mean divides their sum by the sum of weight[label] over the
    rows that are not ignored.  After `log_softmax` this is `softmax_cross_entropy`, which costs less.

    Parameters
    ----------
    log_probs : (N, C) array, float32 or float64; or (N, C, ...)
        Logarithms of probabilities.
    labels : (N,) or (N, ...) array of any integer type
        0 <= label < C, or `ignore_index`.
    weight : (C,) array of the type of `log_probs`, optional
        What each class counts.  Default: 1.
    ignore_index : int, default -100
        Label of rows that do not count: their loss and gradient are 0.
    reduction : {"mean", "sum", "none"}, default "mean"
        With "none" the loss is an array, and the gradient that of its sum.
    out : array like `log_probs`, optional
        C-contiguous; receives the gradient.  May be `log_probs`.

    Returns
    -------
    loss : float; array of the type of `log_probs`, one per row, with reduction "none"
        The mean is NaN where no row counts.
    dlog_probs : array like `log_probs`

    Raises
    ------
    TypeError
        For log_probs that are not float32 or float64, or labels that are not integers.
    ValueError
        For wrong shapes, a label out of range, a wrong reduction, or an unsuitable `out`.
    """
