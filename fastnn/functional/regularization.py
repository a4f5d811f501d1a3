"""Dropout and noise."""

from __future__ import annotations

from fastnn import random
from fastnn._core import Saved
from fastnn.functional._arrays import Array
from fastnn.functional._builtin import builtin

__all__ = [
    "alpha_dropout",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "dropout_backward",
    "gaussian_noise",
]


@builtin
def dropout(
    x: Array,
    p: float = 0.5,
    training: bool = True,
    *,
    inverted: bool = True,
    rng: random.Generator | None = None,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, Saved | None]:
    """y = x * scale for a random share of the elements, 0 for the others, infinite and NaN ones included.

    The share dropped is ``fastnn.random.effective_p(p)``, `p` rounded to a multiple of 1/65536, and
    ``scale = 1 / (1 - effective_p(p))``, so that the expectation is exact.  Formula: N. Srivastava et al.:
    Dropout (JMLR 2014).

    Parameters
    ----------
    x : array, float32 or float64, any shape
    p : float, default 0.5
        Probability to drop.
    training : bool, default True
        If False, y is a copy of x.
    inverted : bool, default True
        If False, the original form: training leaves the elements kept as they are, and without training
        ``y = x * (1 - effective_p(p))``.  The masks are the same.
    rng : fastnn.random.Generator, optional
        One position is drawn in training with p > 0.  Default: the generator of `fastnn.manual_seed`.
    first : int, default 0
        Flat index of the first element of `x` in the random stream, for shards of a larger array.
    out : array like `x`, optional
        C-contiguous; receives y.  May be `x`.

    Returns
    -------
    y : array like `x`
    saved : Saved, or None without training

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64.
    ValueError
        For `p` outside [0, 1], or a read-only or overlapping `out`.
    """


@builtin
def dropout_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> Array:
    """dx = dy times what the elements kept were multiplied by, 0 for the others.

    Parameters
    ----------
    dy : array like the output
    saved : Saved
        From `dropout`, `dropout1d`, `dropout2d`, `dropout3d` or `alpha_dropout`.
    out : array like `dy`, optional
        C-contiguous; receives dx.  May be `dy`.

    Returns
    -------
    array like `dy`

    Raises
    ------
    TypeError, ValueError
        For a `dy` that is not like the output, or an unsuitable `out`.
    """


@builtin
def dropout1d(
    x: Array,
    p: float = 0.5,
    training: bool = True,
    *,
    rng: random.Generator | None = None,
    channel_axis: int = 1,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, Saved | None]:
    """y = x * scale for a random share of the channels of each sample, 0 for the others.

    One decision for every channel of a sample; share and scale are those of `dropout`, and so is the backward pass.
    Source: J. Tompson et al.: Efficient object localization using convolutional networks (CVPR 2015).

    Parameters
    ----------
    x : array (N, C, L), or (N, L, C) with ``channel_axis=-1``, float32 or float64
    p : float, default 0.5
        Probability to drop.
    training : bool, default True
        If False, y is a copy of x.
    rng : fastnn.random.Generator, optional
        One position is drawn in training with p > 0.  Default: the generator of `fastnn.manual_seed`.
    channel_axis : int, default 1
        Any axis but the first, along which the samples are.
    first : int, default 0
        Index of the first decision in the random stream, for shards of a larger batch: channel c of sample n takes
        decision ``first + n * C + c``, whatever the memory layout.
    out : array like `x`, optional
        C-contiguous; receives y.  May be `x`.

    Returns
    -------
    y : array like `x`
    saved : Saved, for `dropout_backward`, or None without training

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64.
    ValueError
        For another number of dimensions, `p` outside [0, 1], an impossible `channel_axis`, or a read-only or
        overlapping `out`.
    """


@builtin
def dropout2d(
    x: Array,
    p: float = 0.5,
    training: bool = True,
    *,
    rng: random.Generator | None = None,
    channel_axis: int = 1,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, Saved | None]:
    """`dropout1d` of images.

    Parameters
    ----------
    x : array (N, C, H, W), or (N, H, W, C) with ``channel_axis=-1``, float32 or float64
    p, training, rng, channel_axis, first, out : as in `dropout1d`

    Returns
    -------
    y : array like `x`
    saved : Saved, for `dropout_backward`, or None without training

    Raises
    ------
    TypeError, ValueError
        As `dropout1d`.
    """


@builtin
def dropout3d(
    x: Array,
    p: float = 0.5,
    training: bool = True,
    *,
    rng: random.Generator | None = None,
    channel_axis: int = 1,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, Saved | None]:
    """`dropout1d` of volumes.

    Parameters
    ----------
    x : array (N, C, D, H, W), or (N, D, H, W, C) with ``channel_axis=-1``, float32 or float64
    p, training, rng, channel_axis, first, out : as in `dropout1d`

    Returns
    -------
    y : array like `x`
    saved : Saved, for `dropout_backward`, or None without training

    Raises
    ------
    TypeError, ValueError
        As `dropout1d`.
    """


@builtin
def alpha_dropout(
    x: Array,
    p: float = 0.5,
    training: bool = False,
    *,
    rng: random.Generator | None = None,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, Saved | None]:
    """Dropout for SELU, which keeps mean 0 and variance 1: y = a * x + b, and a * limit + b where x is dropped.

    With p the share dropped, rounded as in `dropout`, and limit = selu(-inf) = -1.7580993408473766::

        a = ((1 - p) * (1 + p * limit**2)) ** -0.5
        b = -a * p * limit

    Formula: G. Klambauer et al.: Self-normalizing neural networks (NeurIPS 2017).  The backward pass is
    `dropout_backward`: dx = a * dy where x was kept.

    Parameters
    ----------
    x : array, float32 or float64, any shape
    p : float, default 0.5
        Probability to drop.  With p = 1 all of y is 0.
    training : bool, default False
        If False, as in PyTorch here unlike in `dropout`, y is a copy of x.
    rng : fastnn.random.Generator, optional
        One position is drawn in training with p > 0.  Default: the generator of `fastnn.manual_seed`.
    first : int, default 0
        Flat index of the first element of `x` in the random stream, for shards of a larger array.
    out : array like `x`, optional
        C-contiguous; receives y.  May be `x`.

    Returns
    -------
    y : array like `x`
    saved : Saved, for `dropout_backward`, or None without training

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64.
    ValueError
        For `p` outside [0, 1], or a read-only or overlapping `out`.
    """


@builtin
def gaussian_noise(
    x: Array,
    std: float = 0.1,
    training: bool = True,
    *,
    mean: float = 0.0,
    rng: random.Generator | None = None,
    first: int = 0,
    out: Array | None = None,
) -> Array:
    """y = x + (std * z + mean) with z normally distributed, each from 32 random bits.

    There is no backward function: the gradient of x is that of y.  float32 and float64 add the same noise but for
    rounding.  z is that of `fastnn.reference.standard_normal`, G. E. P. Box, M. E. Muller: A note on the generation of
    random normal deviates (1958); the largest z is 6.66.

    Parameters
    ----------
    x : array, float32 or float64, any shape
    std : float, default 0.1
        Standard deviation, finite and >= 0.
    training : bool, default True
        If False, y is a copy of x.
    mean : float, default 0
        Finite.
    rng : fastnn.random.Generator, optional
        One position is drawn in training.  Default: the generator of `fastnn.manual_seed`.
    first : int, default 0
        Flat index of the first element of `x` in the random stream, for shards of a larger array.
    out : array like `x`, optional
        C-contiguous; receives y.  May be `x`.

    Returns
    -------
    array like `x`

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64.
    ValueError
        For an impossible `std` or `mean`, or a read-only or overlapping `out`.
    """
