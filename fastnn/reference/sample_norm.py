"""Normalisation within each sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import random
from fastnn._checks import check_saved
from fastnn.reference.base import Array, Saved, into, other_axes, per_channel, wide
from fastnn.reference.epilogue import epilogue, epilogue_backward

__all__ = [
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "rms_norm",
    "rms_norm_backward",
]

Form = tuple[Callable[[Array], Array], Callable[[Array], Array]]
"""Array -> (parts, elements of a part), and back."""


def _rows(x: Array, normalized_shape: int | tuple[int, ...]) -> tuple[Form, Form]:
    """The rows that are normalised; and the parameters as rows that fit `x`."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    length = math.prod(shape)
    rows = math.prod(x.shape[: x.ndim - len(shape)])
    parts = (lambda a: a.reshape(rows, length), lambda a: a.reshape(x.shape))
    parameters = (lambda p: p, lambda a: a.reshape(rows, *shape).sum(0))
    return parts, parameters


def _groups(x: Array, num_groups: int, channel_axis: int) -> tuple[Form, Form]:
    """The groups of channels of each sample; and the parameters as arrays that fit `x`."""
    shape = np.moveaxis(x, channel_axis, 1).shape
    size = math.prod(shape[1:]) // num_groups
    parts = (
        lambda a: np.moveaxis(a, channel_axis, 1).reshape(len(x) * num_groups, size),
        lambda a: np.moveaxis(a.reshape(shape), 1, channel_axis),
    )
    parameters = (lambda p: per_channel(p, x, channel_axis), lambda a: a.sum(other_axes(x, channel_axis)))
    return parts, parameters


def _norm(
    x: Array, forms: tuple[Form, Form], weight: Array | None, bias: Array | None, eps: float, centred: bool, tail: Any
) -> tuple[Array, Saved]:
    (split, join), (fit, _) = forms
    z = split(x).astype(wide(x))
    if centred:
        z = z - z.mean(1, keepdims=True)
    invstd = 1 / np.sqrt(np.square(z).mean(1, keepdims=True) + eps)
    xhat = join(z * invstd)
    v = xhat
    if weight is not None:
        v = v * fit(weight)
    if bias is not None:
        v = v + fit(bias)
    residual, activation, dropout, rng, first, out = tail
    y, saved = epilogue(v.astype(x.dtype), residual, activation, dropout, rng, first)
    vars(saved).update(
        xhat=xhat,
        invstd=invstd,
        weight=None if weight is None else weight.copy(),
        forms=forms,
        centred=centred,
        has_residual=residual is not None,
    )
    return into(out, y), saved


def _norm_backward(dy: Array, saved: Saved, out: Array | None) -> tuple[Array, ...]:
    check_saved(saved, Saved)
    (split, join), (fit, gather) = saved.forms
    g = epilogue_backward(dy, saved)
    dweight, dbias = gather(g * saved.xhat), gather(g.astype(saved.xhat.dtype))
    w = split(g if saved.weight is None else g * fit(saved.weight)).astype(saved.xhat.dtype)
    xhat = split(saved.xhat)
    mean = w.mean(1, keepdims=True) if saved.centred else 0
    dx = join((w - mean - xhat * (w * xhat).mean(1, keepdims=True)) * saved.invstd)
    gradients = [into(out, dx.astype(dy.dtype)), dweight.astype(dy.dtype)]
    if saved.centred:
        gradients.append(dbias.astype(dy.dtype))
    if saved.has_residual:
        gradients.append(g)
    return tuple(gradients)


def layer_norm(
    x: Array,
    normalized_shape: int | tuple[int, ...],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    *,
    residual: Array | None = None,
    activation: Any = None,
    dropout: float = 0.0,
    rng: random.Generator | None = None,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, Saved]:
    """Layer normalisation, then residual, activation and dropout.

    With mean and (biased) variance over the last dimensions, `normalized_shape`::

        y = dropout(activation((x - mean) / sqrt(var + eps) * weight + bias + residual))

    J. L. Ba, J. R. Kiros, G. E. Hinton: Layer normalization (2016).

    Parameters
    ----------
    x : array
    normalized_shape : int or tuple of int
        The last dimensions of `x`.
    weight, bias : arrays of shape `normalized_shape`, optional
    eps : float, default 1e-5
    residual : array like `x`, optional
    activation : str or activation spec, optional
    dropout : float, default 0
        Probability to drop.
    rng : Generator, optional
    first : int, default 0
        Flat index of the first element of `x` in the random stream.
    out : array like `x`, optional
        Receives the result.

    Returns
    -------
    y : array like `x`
    saved : Saved
    """
    tail = residual, activation, dropout, rng, first, out
    return _norm(x, _rows(x, normalized_shape), weight, bias, eps, True, tail)


def layer_norm_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> tuple[Array, ...]:
    """Gradients of `layer_norm`.

    With g the gradient before residual, activation and dropout, and xhat = (x - mean) / sqrt(var + eps)::

        dbias   = sum(g),  dweight = sum(g * xhat)                                over all but the last dimensions
        dx      = (w - mean(w) - xhat * mean(w * xhat)) / sqrt(var + eps)         with w = g * weight

    Parameters
    ----------
    dy : array, gradient of the output
    saved : Saved, from `layer_norm`
    out : array like `dy`, optional
        Receives dx; may be `dy`.

    Returns
    -------
    dx : array like `dy`
    dweight, dbias : arrays of the normalized shape
    dresidual : array like `dy`; only if there was a residual
    """
    return _norm_backward(dy, saved, out)


def rms_norm(
    x: Array,
    normalized_shape: int | tuple[int, ...],
    weight: Array | None = None,
    eps: float | None = None,
    *,
    residual: Array | None = None,
    activation: Any = None,
    dropout: float = 0.0,
    rng: random.Generator | None = None,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, Saved]:
    """Normalisation by the root of the mean square, then residual, activation and dropout.

    With the mean over the last dimensions, `normalized_shape`::

        y = dropout(activation(x / sqrt(mean(x**2) + eps) * weight + residual))

    B. Zhang, R. Sennrich: Root mean square layer normalization (NeurIPS 2019).

    Parameters
    ----------
    x : array
    normalized_shape : int or tuple of int
        The last dimensions of `x`.
    weight : array of shape `normalized_shape`, optional
    eps : float, optional
        Default: the machine epsilon of the type of `x`.
    residual : array like `x`, optional
    activation : str or activation spec, optional
    dropout : float, default 0
        Probability to drop.
    rng : Generator, optional
    first : int, default 0
        Flat index of the first element of `x` in the random stream.
    out : array like `x`, optional
        Receives the result.

    Returns
    -------
    y : array like `x`
    saved : Saved
    """
    tail = residual, activation, dropout, rng, first, out
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    return _norm(x, _rows(x, normalized_shape), weight, None, eps, False, tail)


def rms_norm_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> tuple[Array, ...]:
    """Gradients of `rms_norm`.

    With g the gradient before residual, activation and dropout, and xhat = x / sqrt(mean(x**2) + eps)::

        dweight = sum(g * xhat)                                          over all but the last dimensions
        dx      = (w - xhat * mean(w * xhat)) / sqrt(mean(x**2) + eps)   with w = g * weight

    Parameters
    ----------
    dy : array, gradient of the output
    saved : Saved, from `rms_norm`
    out : array like `dy`, optional
        Receives dx; may be `dy`.

    Returns
    -------
    dx : array like `dy`
    dweight : array of the normalized shape
    dresidual : array like `dy`; only if there was a residual
    """
    return _norm_backward(dy, saved, out)


def group_norm(
    x: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    *,
    residual: Array | None = None,
    activation: Any = None,
    dropout: float = 0.0,
    rng: random.Generator | None = None,
    channel_axis: int = 1,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, Saved]:
    """Group normalisation, then residual, activation and dropout.

    With mean and (biased) variance over each of `num_groups` groups of consecutive channels of each sample::

        y = dropout(activation((x - mean) / sqrt(var + eps) * weight + bias + residual))

    Y. Wu, K. He: Group normalization (ECCV 2018).

    Parameters
    ----------
    x : array of at least two dimensions: samples first, C channels along `channel_axis`
    num_groups : int
        Divides C.
    weight, bias : (C,) arrays, optional
    eps : float, default 1e-5
    residual : array like `x`, optional
    activation : str or activation spec, optional
    dropout : float, default 0
        Probability to drop.
    rng : Generator, optional
    channel_axis : int, default 1
    first : int, default 0
        Flat index of the first element of `x` in the random stream.
    out : array like `x`, optional
        Receives the result.

    Returns
    -------
    y : array like `x`
    saved : Saved
    """
    tail = residual, activation, dropout, rng, first, out
    return _norm(x, _groups(x, num_groups, channel_axis), weight, bias, eps, True, tail)


def group_norm_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> tuple[Array, ...]:
    """Gradients of `group_norm`.

    With g the gradient before residual, activation and dropout, xhat = (x - mean) / sqrt(var + eps), and means over
    a group of a sample::

        dbias   = sum(g),  dweight = sum(g * xhat)                          over all axes but the channel axis
        dx      = (w - mean(w) - xhat * mean(w * xhat)) / sqrt(var + eps)   with w = g * weight

    Parameters
    ----------
    dy : array, gradient of the output
    saved : Saved, from `group_norm`
    out : array like `dy`, optional
        Receives dx; may be `dy`.

    Returns
    -------
    dx : array like `dy`
    dweight, dbias : (C,) arrays
    dresidual : array like `dy`; only if there was a residual
    """
    return _norm_backward(dy, saved, out)


def instance_norm(
    x: Array,
    *,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    residual: Array | None = None,
    activation: Any = None,
    dropout: float = 0.0,
    rng: random.Generator | None = None,
    channel_axis: int = 1,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, Saved]:
    """Instance normalisation, then residual, activation and dropout: `group_norm` with a group for each channel.

    D. Ulyanov, A. Vedaldi, V. Lempitsky: Instance normalization (2016).

    Parameters
    ----------
    x : array of at least two dimensions: samples first, C channels along `channel_axis`
    weight, bias : (C,) arrays, optional
    eps : float, default 1e-5
    residual : array like `x`, optional
    activation : str or activation spec, optional
    dropout : float, default 0
        Probability to drop.
    rng : Generator, optional
    channel_axis : int, default 1
    first : int, default 0
        Flat index of the first element of `x` in the random stream.
    out : array like `x`, optional
        Receives the result.

    Returns
    -------
    y : array like `x`
    saved : Saved
    """
    tail = residual, activation, dropout, rng, first, out
    groups = max(x.shape[channel_axis], 1)
    return _norm(x, _groups(x, groups, channel_axis), weight, bias, eps, True, tail)


def instance_norm_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> tuple[Array, ...]:
    """Gradients of `instance_norm`: those of `group_norm` with a group for each channel.

    Parameters
    ----------
    dy : array, gradient of the output
    saved : Saved, from `instance_norm`
    out : array like `dy`, optional
        Receives dx; may be `dy`.

    Returns
    -------
    dx : array like `dy`
    dweight, dbias : (C,) arrays
    dresidual : array like `dy`; only if there was a residual
    """
    return _norm_backward(dy, saved, out)
