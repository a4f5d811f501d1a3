"""Piecewise linear activations that have gradients of their own: PReLU learns its slope, maxout chooses a channel."""

from __future__ import annotations

from fastnn._core import Saved
from fastnn.functional._arrays import Array
from fastnn.functional._builtin import builtin

__all__ = ["maxout", "maxout_backward", "prelu", "prelu_backward"]


@builtin
def prelu(x: Array, weight: Array, *, channel_axis: int = 1, out: Array | None = None) -> Array:
    """y = x where x > 0, else x * weight: leaky ReLU with a learned slope.

    K. He, X. Zhang, S. Ren, J. Sun: Delving deep into rectifiers (ICCV 2015).

    Parameters
    ----------
    x : array, float32 or float64, any shape
    weight : (1,) or (C,) array of the type of `x`
        One slope for all elements, or one for each channel along `channel_axis`.
    channel_axis : int, default 1
        Not looked at where there is one slope.
    out : array like `x`, optional
        C-contiguous; receives the result.  May be `x`.

    Returns
    -------
    array like `x`

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or of different types.
    ValueError
        For a `weight` of another shape, or a read-only or overlapping `out`.
    """


@builtin
def prelu_backward(
    dy: Array, x: Array, weight: Array, *, channel_axis: int = 1, out: Array | None = None
) -> tuple[Array, Array]:
    """dx = dy where x > 0, else dy * weight; dweight = sum of dy * x over the elements where x is not positive.

    Parameters
    ----------
    dy : array, float32 or float64
        Gradient of the output.
    x : array like `dy`
        Input of `prelu`.
    weight : (1,) or (C,) array of the type of `dy`
        As in `prelu`.
    channel_axis : int, default 1
    out : array like `dy`, optional
        C-contiguous; receives dx.  May be `dy` or `x`.

    Returns
    -------
    dx : array like `dy`
    dweight : array like `weight`

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or of different types.
    ValueError
        For different shapes, or a read-only or overlapping `out`.
    """


@builtin
def maxout(x: Array, pieces: int, axis: int = 1, *, out: Array | None = None) -> tuple[Array, Saved]:
    """y = the largest of each `pieces` consecutive channels.

    Channels 0 to ``pieces - 1`` along `axis` form the first unit, and so on, as in Lasagne and Pylearn2.  NaN counts
    as larger than any number; of equal channels the first one is taken.  I. J. Goodfellow et al.: Maxout networks
    (ICML 2013).

    Parameters
    ----------
    x : array, float32 or float64
        ``C * pieces`` channels along `axis`.
    pieces : int
        1 to 256.
    axis : int, default 1
    out : array with C channels along `axis`, otherwise like `x`, optional
        C-contiguous; receives y.

    Returns
    -------
    y : array with C channels along `axis`
    saved : Saved
        Which channel was taken: a byte for each element of y.

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64.
    ValueError
        For `pieces` out of range or of which the channels are no multiple, an `axis` that `x` does not have, or an
        unsuitable `out`.
    """


@builtin
def maxout_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> Array:
    """dx = dy for the channel that was taken, 0 for the others of its unit.

    Parameters
    ----------
    dy : array like the output of `maxout`
    saved : Saved
    out : array like the input of `maxout`, optional
        C-contiguous; receives dx.

    Returns
    -------
    array like the input of `maxout`

    Raises
    ------
    TypeError, ValueError
        For a `dy` that is not like the output, or an unsuitable `out`.
    """
