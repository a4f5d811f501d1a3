"""Piecewise linear activations that have gradients of their own."""

from __future__ import annotations

import numpy as np

from fastnn._checks import check_saved
from fastnn.reference.base import Array, Saved, into, other_axes, per_channel, wide

__all__ = ["maxout", "maxout_backward", "prelu", "prelu_backward"]


def _slopes(weight: Array, x: Array, channel_axis: int) -> Array:
    """`weight` in a shape that broadcasts against `x`."""
    return weight if weight.shape == (1,) else per_channel(weight, x, channel_axis)


def prelu(x: Array, weight: Array, *, channel_axis: int = 1, out: Array | None = None) -> Array:
    """y = x where x > 0, else x * weight.

    K. He, X. Zhang, S. Ren, J. Sun: Delving deep into rectifiers (ICCV 2015).

    Parameters
    ----------
    x : array of any shape
    weight : (1,) or (C,) array
        One slope for all elements, or one for each channel along `channel_axis`.
    channel_axis : int, default 1
        Not looked at where there is one slope.
    out : array like `x`, optional
        Receives the result; may be `x`.

    Returns
    -------
    array like `x`
    """
    return into(out, np.where(x > 0, x, x * _slopes(weight, x, channel_axis)).reshape(x.shape))


def prelu_backward(
    dy: Array, x: Array, weight: Array, *, channel_axis: int = 1, out: Array | None = None
) -> tuple[Array, Array]:
    """dx = dy where x > 0, else dy * weight; dweight = sum of dy * x over the elements where x is not positive.

    Parameters
    ----------
    dy : array, gradient of the output
    x : array like `dy`, the input
    weight : (1,) or (C,) array
    channel_axis : int, default 1
    out : array like `dy`, optional
        Receives dx; may be `dy` or `x`.

    Returns
    -------
    dx : array like `dy`
    dweight : array like `weight`
    """
    axes = None if weight.shape == (1,) else other_axes(x, channel_axis)
    products = np.where(x > 0, x.dtype.type(0), dy * x)
    dweight = products.sum(axes, dtype=wide(x)).astype(x.dtype).reshape(weight.shape)
    dx = np.where(x > 0, dy, dy * _slopes(weight, x, channel_axis)).reshape(x.shape)
    return into(out, dx), dweight


def maxout(x: Array, pieces: int, axis: int = 1, *, out: Array | None = None) -> tuple[Array, Saved]:
    """y = the largest of each `pieces` consecutive channels, the first of equals; NaN counts as larger than any number.

    I. J. Goodfellow et al.: Maxout networks (ICML 2013).

    Parameters
    ----------
    x : array with ``C * pieces`` channels along `axis`
    pieces : int
    axis : int, default 1
    out : array with C channels along `axis`, optional
        Receives y.

    Returns
    -------
    y : array with C channels along `axis`
    saved : Saved
    """
    axis %= x.ndim
    units = x.reshape(*x.shape[:axis], x.shape[axis] // pieces, pieces, *x.shape[axis + 1 :])
    places = np.expand_dims(units.argmax(axis + 1), axis + 1)
    y = np.take_along_axis(units, places, axis + 1).squeeze(axis + 1)
    return into(out, y), Saved(places=places.astype(np.uint8), pieces=pieces, axis=axis)


def maxout_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> Array:
    """dx = dy for the channel that was taken, 0 for the others of its unit.

    Parameters
    ----------
    dy : array, gradient of the output
    saved : Saved, from `maxout`
    out : array like the input of `maxout`, optional
        Receives dx.

    Returns
    -------
    array like the input of `maxout`
    """
    check_saved(saved, Saved)
    piece = np.arange(saved.pieces).reshape(-1, *[1] * (dy.ndim - saved.axis - 1))
    dx = np.where(saved.places == piece, np.expand_dims(dy, saved.axis + 1), dy.dtype.type(0))
    channels = dy.shape[saved.axis] * saved.pieces
    return into(out, dx.reshape(*dy.shape[: saved.axis], channels, *dy.shape[saved.axis + 1 :]))
