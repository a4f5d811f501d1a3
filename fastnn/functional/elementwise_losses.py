"""Losses that are sums over elements, with their gradients: of regression, and of attributes that are there or not."""

from __future__ import annotations

from typing import Any

from fastnn.functional._arrays import Array
from fastnn.functional._builtin import builtin

__all__ = ["binary_cross_entropy_with_logits", "huber_loss", "l1_loss", "mse_loss", "smooth_l1_loss"]


@builtin
def mse_loss(input: Array, target: Array, reduction: str = "mean", *, out: Array | None = None) -> tuple[Any, Array]:
    """Squared error d * d of d = input - target, and its gradient 2 * d, in one pass.

    With "sum" this is the squared L2 norm of the difference, the loss of least squares.  It is hard to optimize: the
    gradient grows with the error, so a few outliers rule the batch.  `huber_loss` bounds it; `fastnn.RegressionBins`
    makes a classification of the task.

    Parameters
    ----------
    input : array, float32 or float64, any shape
    target : array like `input`
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is over all elements.
    out : array like `input`, optional
        C-contiguous; receives the gradient.  May be `input` or `target`.

    Returns
    -------
    loss : float; array like `input` with reduction "none"
        NaN for the mean of no elements.
    dinput : array like `input`
        Gradient of the loss; with reduction "none" of the sum of the losses.

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or of different types.
    ValueError
        For different shapes, another `reduction`, or an unsuitable `out`.
    """


@builtin
def l1_loss(input: Array, target: Array, reduction: str = "mean", *, out: Array | None = None) -> tuple[Any, Array]:
    """Absolute error abs(d) of d = input - target, and its gradient, the sign of d (0 where d = 0), in one pass.

    Parameters
    ----------
    input : array, float32 or float64, any shape
    target : array like `input`
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is over all elements.
    out : array like `input`, optional
        C-contiguous; receives the gradient.  May be `input` or `target`.

    Returns
    -------
    loss : float; array like `input` with reduction "none"
        NaN for the mean of no elements.
    dinput : array like `input`
        Gradient of the loss; with reduction "none" of the sum of the losses.

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or of different types.
    ValueError
        For different shapes, another `reduction`, or an unsuitable `out`.
    """


@builtin
def smooth_l1_loss(
    input: Array, target: Array, reduction: str = "mean", beta: float = 1.0, *, out: Array | None = None
) -> tuple[Any, Array]:
    """d * d / (2 * beta) where abs(d) < beta, else abs(d) - beta / 2, of d = input - target; the gradient is d / beta,
    within -1 and 1.

    It is `huber_loss` of delta = beta, divided by beta, and `l1_loss` with beta = 0 (Girshick, Fast R-CNN, 2015).

    Parameters
    ----------
    input : array, float32 or float64, any shape
    target : array like `input`
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is over all elements.
    beta : float, default 1.0
        At least 0.
    out : array like `input`, optional
        C-contiguous; receives the gradient.  May be `input` or `target`.

    Returns
    -------
    loss : float; array like `input` with reduction "none"
        NaN for the mean of no elements.
    dinput : array like `input`
        Gradient of the loss; with reduction "none" of the sum of the losses.

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or of different types.
    ValueError
        For different shapes, another `reduction`, a negative `beta`, or an unsuitable `out`.
    """


@builtin
def huber_loss(
    input: Array, target: Array, reduction: str = "mean", delta: float = 1.0, *, out: Array | None = None
) -> tuple[Any, Array]:
    """d * d / 2 where abs(d) < delta, else delta * (abs(d) - delta / 2), of d = input - target; the gradient is d,
    within -delta and delta (Huber, 1964).

    Parameters
    ----------
    input : array, float32 or float64, any shape
    target : array like `input`
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is over all elements.
    delta : float, default 1.0
        Positive.
    out : array like `input`, optional
        C-contiguous; receives the gradient.  May be `input` or `target`.

    Returns
    -------
    loss : float; array like `input` with reduction "none"
        NaN for the mean of no elements.
    dinput : array like `input`
        Gradient of the loss; with reduction "none" of the sum of the losses.

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or of different types.
    ValueError
        For different shapes, another `reduction`, a `delta` that is not positive, or an unsuitable `out`.
    """


@builtin
def binary_cross_entropy_with_logits(
    input: Array,
    target: Array,
    weight: Array | None = None,
    reduction: str = "mean",
    pos_weight: Array | None = None,
    *,
    out: Array | None = None,
) -> tuple[Any, Array]:
    """Binary cross-entropy of logits, and its gradient, in one pass: one logistic regression per element, as for
    attributes of which several may be there.

    With s = sigmoid(x) the loss is -pos_weight * target * log(s) - (1 - target) * log(1 - s), computed from max(x, 0),
    max(-x, 0) and log1p(exp(-abs(x))), so that it neither overflows nor loses what is small.  The gradient is
    (1 - target) * s - pos_weight * target * (1 - s): s - target with `pos_weight` 1.

    Parameters
    ----------
    input : array, float32 or float64, any shape
        Logits x.
    target : array like `input`
        0 or 1, or probabilities.
    weight : array whose shape broadcasts to that of `input`, optional
        What each element counts; (C,): each channel of the last axis.  Other shapes are copied.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is over all elements, whatever their weights.
    pos_weight : array whose shape broadcasts to that of `input`, optional
        What the positive targets, (C,): of each channel, count: more than 1 for attributes that are rare.
    out : array like `input`, optional
        C-contiguous; receives the gradient.  May be `input` or `target`.

    Returns
    -------
    loss : float; array like `input` with reduction "none"
        NaN for the mean of no elements.
    dinput : array like `input`
        Gradient of the loss; with reduction "none" of the sum of the losses.

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or of different types.
    ValueError
        For shapes that do not go together, another `reduction`, or an unsuitable `out`.
    """
