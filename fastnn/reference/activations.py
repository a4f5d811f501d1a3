"""Elementwise activations."""

from __future__ import annotations

import numpy as np

from fastnn.reference.base import Array, into

__all__ = ["leaky_relu", "leaky_relu_backward", "relu", "relu_backward"]


def relu(x: Array, *, out: Array | None = None) -> Array:
    """y = 0 where x <= 0, else x.  So NaN stays NaN and -0 becomes +0.

    Parameters
    ----------
    x : array of any shape
    out : array like `x`, optional
        Receives the result; may be `x`.

    Returns
    -------
    array like `x`
    """
    return into(out, np.where(x <= 0, x.dtype.type(0), x))


def relu_backward(dy: Array, x: Array, *, output: bool = False, out: Array | None = None) -> Array:
    """dx = 0 where x <= 0, else dy.

    Parameters
    ----------
    dy : array, gradient of the output
    x : array like `dy`
        Input of `relu`, or its output with ``output=True``: the signs agree.
    output : bool, default False
    out : array like `dy`, optional
        Receives the result; may be `dy` or `x`.

    Returns
    -------
    array like `dy`
    """
    return into(out, np.where(x <= 0, dy.dtype.type(0), dy))


def leaky_relu(x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    """y = x where x > 0, else x * negative_slope.

    Parameters
    ----------
    x : array of any shape
    negative_slope : float, default 0.01
    out : array like `x`, optional
        Receives the result; may be `x`.

    Returns
    -------
    array like `x`
    """
    return into(out, np.where(x > 0, x, x * x.dtype.type(negative_slope)))


def leaky_relu_backward(
    dy: Array, x: Array, negative_slope: float = 0.01, *, output: bool = False, out: Array | None = None
) -> Array:
    """dx = dy where x > 0, else dy * negative_slope.

    Parameters
    ----------
    dy : array, gradient of the output
    x : array like `dy`
        Input of `leaky_relu`, or its output with ``output=True``: for a positive slope the signs agree.
    negative_slope : float, default 0.01
    output : bool, default False
    out : array like `dy`, optional
        Receives the result; may be `dy` or `x`.

    Returns
    -------
    array like `dy`
    """
    return into(out, np.where(x > 0, dy, dy * dy.dtype.type(negative_slope)))
