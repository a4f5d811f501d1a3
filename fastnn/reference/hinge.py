"""The multi-class hinge loss with its gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.reference.base import Array, into, wide

__all__ = ["hinge_loss", "multi_margin_loss"]


def hinge_loss(
    scores: Array,
    labels: Array,
    p: int = 1,
    margin: float = 1.0,
    weight: Array | None = None,
    reduction: str = "mean",
    *,
    over_classes: str = "sum",
    out: Array | None = None,
) -> tuple[Any, Array]:
    """Sum over the wrong classes j of max(0, scores[j] - scores[label] + margin)**p for each row, and its gradient.

    Parameters
    ----------
    scores : (N, C) array
    labels : (N,) integer array, 0 <= label < C
    p : {1, 2}, default 1
    margin : float, default 1.0
    weight : (C,) array, optional
        What a row counts, by its label.
    reduction : {"mean", "sum", "none"}, default "mean"
    over_classes : {"sum", "mean"}, default "sum"
    out : array like `scores`, optional
        Receives the gradient; may be `scores`.

    Returns
    -------
    loss : float; (N,) array with reduction "none"
    dscores : array like `scores`
    """
    count, classes = scores.shape
    rows = np.arange(count)
    x = scores.astype(wide(scores))
    excess = np.maximum(x - x[rows, labels][:, None] + margin, 0)
    excess[rows, labels] = 0
    slopes = np.sign(excess) if p == 1 else 2 * excess
    slopes[rows, labels] = -slopes.sum(axis=1)
    share = np.ones(count, x.dtype) if weight is None else weight[labels].astype(x.dtype)
    if over_classes == "mean":
        share = share / max(classes, 1)
    losses, slopes = (excess**p).sum(axis=1) * share, slopes * share[:, None]
    dscores = into(out, (slopes / (max(count, 1) if reduction == "mean" else 1)).astype(scores.dtype))
    if reduction == "none":
        return losses.astype(scores.dtype), dscores
    if reduction == "sum":
        return losses.sum().item(), dscores
    return losses.mean().item() if count else math.nan, dscores


def multi_margin_loss(
    scores: Array,
    labels: Array,
    p: int = 1,
    margin: float = 1.0,
    weight: Array | None = None,
    reduction: str = "mean",
    *,
    out: Array | None = None,
) -> tuple[Any, Array]:
    """`hinge_loss` divided by the number of classes, and its gradient.

    Parameters
    ----------
    scores, labels, p, margin, weight, reduction, out : as in `hinge_loss`

    Returns
    -------
    loss : float; (N,) array with reduction "none"
    dscores : array like `scores`
    """
    return hinge_loss(scores, labels, p, margin, weight, reduction, over_classes="mean", out=out)
