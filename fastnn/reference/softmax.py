"""Softmax and its logarithm."""

from __future__ import annotations

import numpy as np

from fastnn.reference.base import Array, into, wide

__all__ = ["log_softmax", "log_softmax_backward", "softmax", "softmax_backward"]


def _shifted(x: Array, axis: int) -> Array:
    """`x` minus its largest element along the axis, in the type of sums: NaN where that is infinite."""
    wider: Array = x.astype(wide(x))
    shifted: Array = wider - wider.max(axis, keepdims=True, initial=-np.inf)
    return shifted


def softmax(x: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """y = exp(x - m) / sum(exp(x - m)) along the axis, m = max(x).

    Parameters
    ----------
    x : array
    axis : int, default -1
    out : array like `x`, optional
        Receives the result; may be `x`.

    Returns
    -------
    array like `x`
        NaN along the whole axis where an element is NaN or inf, or all are -inf.
    """
    exps = np.exp(_shifted(x, axis))
    return into(out, (exps / exps.sum(axis, keepdims=True)).astype(x.dtype))


def softmax_backward(dy: Array, y: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """dx = (dy - sum(dy * y)) * y, the sum being along the axis.

    Parameters
    ----------
    dy : array, gradient of the output
    y : array like `dy`, output of `softmax`
    axis : int, default -1
    out : array like `dy`, optional
        Receives the result; may be `dy` or `y`.

    Returns
    -------
    array like `dy`
    """
    g, p = dy.astype(wide(dy)), y.astype(wide(y))
    return into(out, ((g - (g * p).sum(axis, keepdims=True)) * p).astype(dy.dtype))


def log_softmax(x: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """y = x - m - log(sum(exp(x - m))) along the axis, m = max(x).

    Parameters
    ----------
    x : array
    axis : int, default -1
    out : array like `x`, optional
        Receives the result; may be `x`.

    Returns
    -------
    array like `x`
        NaN along the whole axis where an element is NaN or inf, or all are -inf.
    """
    shifted = _shifted(x, axis)
    with np.errstate(divide="ignore"):  # the sum of nothing is 0
        log_sum = np.log(np.exp(shifted).sum(axis, keepdims=True))
    return into(out, (shifted - log_sum).astype(x.dtype))


def log_softmax_backward(dy: Array, y: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """dx = dy - exp(y) * sum(dy), the sum being along the axis.

    Parameters
    ----------
    dy : array, gradient of the output
    y : array like `dy`, output of `log_softmax`
    axis : int, default -1
    out : array like `dy`, optional
        Receives the result; may be `dy` or `y`.

    Returns
    -------
    array like `dy`
    """
    g, p = dy.astype(wide(dy)), np.exp(y.astype(wide(y)))
    return into(out, (g - p * g.sum(axis, keepdims=True)).astype(dy.dtype))
