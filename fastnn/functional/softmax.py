"""Softmax and its logarithm."""

from __future__ import annotations

from fastnn.functional._arrays import Array
from fastnn.functional._builtin import builtin

__all__ = ["log_softmax", "log_softmax_backward", "softmax", "softmax_backward"]


@builtin
def softmax(x: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """y = exp(x) / sum(exp(x)) along the axis, as `torch.nn.functional.softmax`.

    The largest element is subtracted first, so large ones do not overflow.  NaN along the whole axis where an
    element is NaN or inf, or all are -inf.

    Parameters
    ----------
    x : array, float32 or float64, at least one dimension
    axis : int, default -1
        Called ``dim`` in PyTorch.
    out : array like `x`, optional
        C-contiguous; receives the result.  May be `x`.

    Returns
    -------
    array like `x`

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64.
    ValueError
        For an `axis` that `x` does not have, or an unsuitable `out`.
    """


@builtin
def softmax_backward(dy: Array, y: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """dx = (dy - sum(dy * y)) * y, the sum being along the axis.

    Parameters
    ----------
    dy : array, float32 or float64
        Gradient of the output.
    y : array like `dy`
        Output of `softmax`.
    axis : int, default -1
        That of `softmax`.
    out : array like `dy`, optional
        C-contiguous; receives the result.  May be `dy` or `y`.

    Returns
    -------
    array like `dy`

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or of different types.
    ValueError
        For different shapes, an `axis` that `y` does not have, or an unsuitable `out`.
    """


@builtin
def log_softmax(x: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """y = x - log(sum(exp(x))) along the axis, as `torch.nn.functional.log_softmax`.

    The largest element is subtracted first, so large ones do not overflow.  NaN along the whole axis where an
    element is NaN or inf, or all are -inf.

    Parameters
    ----------
    x : array, float32 or float64, at least one dimension
    axis : int, default -1
        Called ``dim`` in PyTorch.
    out : array like `x`, optional
        C-contiguous; receives the result.  May be `x`.

    Returns
    -------
    array like `x`

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64.
    ValueError
        For an `axis` that `x` does not have, or an unsuitable `out`.
    """


@builtin
def log_softmax_backward(dy: Array, y: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """dx = dy - exp(y) * sum(dy), the sum being along the axis.

    Parameters
    ----------
    dy : array, float32 or float64
        Gradient of the output.
    y : array like `dy`
        Output of `log_softmax`: never positive.
    axis : int, default -1
        That of `log_softmax`.
    out : array like `dy`, optional
        C-contiguous; receives the result.  May be `dy` or `y`.

    Returns
    -------
    array like `dy`

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or of different types.
    ValueError
        For different shapes, an `axis` that `y` does not have, or an unsuitable `out`.
    """
