"""Dropout and noise."""

from __future__ import annotations

import math

import numpy as np

from fastnn import random
from fastnn._checks import check_saved
from fastnn.reference.base import Array, Saved, into
from fastnn.reference.epilogue import mask
from fastnn.reference.random import draw_mask, standard_normal

__all__ = [
    "alpha_dropout",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "dropout_backward",
    "gaussian_noise",
]


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
    """y = x / (1 - p) for a random share 1 - p of the elements, 0 for the others.

    The share is rounded to `fastnn.random.effective_p`.

    N. Srivastava et al.: Dropout (JMLR 2014).

    Parameters
    ----------
    x : array of any shape
    p : float, default 0.5
        Probability to drop, in [0, 1].
    training : bool, default True
        If False, y is a copy of x.
    inverted : bool, default True
        If False, the original form: y = x for the elements kept in training, and y = x * (1 - p) without training.
    rng : Generator, optional
        One position is drawn in training with p > 0.  Default: `fastnn.random.default_generator`.
    first : int, default 0
        Flat index of the first element of `x` in the random stream, for shards of a larger array.
    out : array like `x`, optional
        Receives the result; may be `x`.

    Returns
    -------
    y : array like `x`
    saved : Saved, or None without training
    """
    if not training:
        return into(out, x * x.dtype.type(1 if inverted else 1 - random.effective_p(p))), None
    keep, scale = draw_mask(x.shape, p, rng, first)
    if not inverted:
        scale = 1.0
    return into(out, mask(x, keep, scale)), Saved(keep=keep, scale=scale)


def dropout_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> Array:
    """dx = dy times what the elements kept were multiplied by, 0 for the others.

    Parameters
    ----------
    dy : array, gradient of the output
    saved : Saved, from `dropout`, `dropout1d`, `dropout2d`, `dropout3d` or `alpha_dropout`
    out : array like `dy`, optional
        Receives the result; may be `dy`.

    Returns
    -------
    array like `dy`
    """
    check_saved(saved, Saved)
    return into(out, mask(dy, saved.keep, saved.scale))


def channel_dropout(
    x: Array, p: float, training: bool, rng: random.Generator | None, channel_axis: int, first: int, out: Array | None
) -> tuple[Array, Saved | None]:
    axis = channel_axis % x.ndim
    keep, scale = draw_mask((x.shape[0], x.shape[axis]), p if training else 0.0, rng, first)
    keep = keep.reshape([n if d in (0, axis) else 1 for d, n in enumerate(x.shape)])
    y = into(out, mask(x, keep, scale))
    return y, Saved(keep=keep, scale=scale) if training else None


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
    """Dropout of whole channels: y = x / (1 - p) for a random share 1 - p of the channels of each sample, else 0.

    J. Tompson et al.: Efficient object localization using convolutional networks (CVPR 2015).

    Parameters
    ----------
    x : array (N, C, L), or (N, L, C)
    p : float, default 0.5
        Probability to drop, in [0, 1].
    training : bool, default True
        If False, y is a copy of x.
    rng : Generator, optional
        One position is drawn in training with p > 0.  Default: `fastnn.random.default_generator`.
    channel_axis : int, default 1
    first : int, default 0
        Index of the first decision in the random stream: channel c of sample n takes decision ``first + n * C + c``.
    out : array like `x`, optional
        Receives the result; may be `x`.

    Returns
    -------
    y : array like `x`
    saved : Saved, for `dropout_backward`, or None without training
    """
    return channel_dropout(x, p, training, rng, channel_axis, first, out)


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
    x : array (N, C, H, W), or (N, H, W, C)
    p, training, rng, channel_axis, first, out : as in `dropout1d`

    Returns
    -------
    y : array like `x`
    saved : Saved, for `dropout_backward`, or None without training
    """
    return channel_dropout(x, p, training, rng, channel_axis, first, out)


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
    x : array (N, C, D, H, W), or (N, D, H, W, C)
    p, training, rng, channel_axis, first, out : as in `dropout1d`

    Returns
    -------
    y : array like `x`
    saved : Saved, for `dropout_backward`, or None without training
    """
    return channel_dropout(x, p, training, rng, channel_axis, first, out)


def alpha_factors(p: float) -> tuple[float, float, float]:
    """scale, shift and what a dropped element becomes, for 0 < effective p < 1."""
    limit = -1.7580993408473766  # selu(-inf)
    keep = 1 - random.effective_p(p)
    scale = 1 / math.sqrt(keep * (1 + limit**2 * (1 - keep)))
    shift = -scale * limit * (1 - keep)
    return scale, shift, scale * limit + shift


def alpha_dropout(
    x: Array,
    p: float = 0.5,
    training: bool = False,
    *,
    rng: random.Generator | None = None,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, Saved | None]:
    """Dropout for SELU: y = a * x + b for a random share q = 1 - p of the elements, a * limit + b for the others.

    With limit = selu(-inf) = -1.758..., ``a = (q (1 + p limit**2))**-0.5`` and ``b = -a p limit`` an input of mean 0
    and variance 1 keeps both.  q is rounded as in `dropout`.  With p = 1 all of y is 0.

    G. Klambauer et al.: Self-normalizing neural networks (NeurIPS 2017).

    Parameters
    ----------
    x : array of any shape
    p : float, default 0.5
        Probability to drop, in [0, 1].
    training : bool, default False
        If False, as in PyTorch here unlike in `dropout`, y is a copy of x.
    rng : Generator, optional
        One position is drawn in training with p > 0.  Default: `fastnn.random.default_generator`.
    first : int, default 0
        Flat index of the first element of `x` in the random stream, for shards of a larger array.
    out : array like `x`, optional
        Receives the result; may be `x`.

    Returns
    -------
    y : array like `x`
    saved : Saved, for `dropout_backward`, or None without training
    """
    if not training or random.keep_threshold(p) in (0, 65536):
        return dropout(x, p, training, rng=rng, first=first, out=out)
    keep, _ = draw_mask(x.shape, p, rng, first)
    scale, shift, dropped = map(x.dtype.type, alpha_factors(p))
    y = into(out, np.where(keep, x * scale + shift, dropped))
    return y, Saved(keep=keep, scale=scale)


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
    """y = x + (std * z + mean) with z normally distributed.  The gradient is that of y.

    Parameters
    ----------
    x : array of any shape
    std : float, default 0.1
    training : bool, default True
        If False, y is a copy of x.
    mean : float, default 0
    rng : Generator, optional
        One position is drawn in training.  Default: `fastnn.random.default_generator`.
    first : int, default 0
        Flat index of the first element of `x` in the random stream, for shards of a larger array.
    out : array like `x`, optional
        Receives the result; may be `x`.

    Returns
    -------
    y : array like `x`
        See `standard_normal` for z.
    """
    if not training:
        return into(out, x.copy())
    seed, position = (random.default_generator if rng is None else rng).draw()
    z = standard_normal(seed, position, first, x.size, x.dtype).reshape(x.shape)
    return into(out, x + (z * x.dtype.type(std) + x.dtype.type(mean)))
