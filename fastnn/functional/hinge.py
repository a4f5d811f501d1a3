"""The multi-class hinge loss with its gradient."""

from __future__ import annotations

from typing import Any

from fastnn.functional._arrays import Array
from fastnn.functional._builtin import builtin

__all__ = ["hinge_loss", "multi_margin_loss"]


@builtin
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
    """Multi-class hinge loss of support vector machines, and its gradient, in one pass.

    A row's loss is the sum over the wrong classes j of max(0, scores[j] - scores[label] + margin)**p (Weston and
    Watkins, 1999): C - 1 where all scores are equal.  ``over_classes="mean"`` divides it by C and gives
    `torch.nn.functional.multi_margin_loss`.

    Parameters
    ----------
    scores : (N, C) array, float32 or float64
    labels : (N,) array of any integer type
        0 <= label < C.
    p : {1, 2}, default 1
        2: the squared hinge loss.
    margin : float, default 1.0
        Finite.
    weight : (C,) array of the type of `scores`, optional
        What a row counts, by its label.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is over the rows, whatever their weights.
    over_classes : {"sum", "mean"}, default "sum"
        What becomes of the terms of one row.
    out : array like `scores`, optional
        C-contiguous; receives the gradient.  May be `scores`.

    Returns
    -------
    loss : float; (N,) array with reduction "none"
        NaN for the mean of no rows.
    dscores : array like `scores`
        Gradient of the loss; with reduction "none" of the sum of the losses.

    Raises
    ------
    TypeError
        For scores that are not float32 or float64, or labels that are not integers.
    ValueError
        For wrong shapes, a label out of range, another `p`, `reduction` or `over_classes`, a `margin` that is not
        finite, or an unsuitable `out`.
    """


@builtin
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
    """Multi-class hinge loss over the number of classes, and its gradient; `torch.nn.functional.multi_margin_loss`.

    `hinge_loss` with ``over_classes="mean"``.

    Parameters
    ----------
    scores : (N, C) array, float32 or float64
    labels : (N,) array of any integer type
        0 <= label < C.
    p : {1, 2}, default 1
        2: the squared hinge loss.
    margin : float, default 1.0
        Finite.
    weight : (C,) array of the type of `scores`, optional
        What a row counts, by its label.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is over the rows, whatever their weights.
    out : array like `scores`, optional
        C-contiguous; receives the gradient.  May be `scores`.

    Returns
    -------
    loss : float; (N,) array with reduction "none"
        NaN for the mean of no rows.
    dscores : array like `scores`
        Gradient of the loss; with reduction "none" of the sum of the losses.

    Raises
    ------
    TypeError
        For scores that are not float32 or float64, or labels that are not integers.
    ValueError
        For wrong shapes, a label out of range, another `p` or `reduction`, a `margin` that is not finite, or an
        unsuitable `out`.
    """
