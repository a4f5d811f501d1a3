"""Normalisation over the batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import random
from fastnn._checks import check_saved
from fastnn.reference.base import Array, Saved, into, other_axes, per_channel, wide
from fastnn.reference.epilogue import epilogue, epilogue_backward
from fastnn.reference.reductions import channel_sum

__all__ = ["batch_norm", "batch_norm_backward"]


def batch_norm(
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    pre_bias: Array | None = None,
    residual: Array | None = None,
    activation: Any = None,
    dropout: float = 0.0,
    rng: random.Generator | None = None,
    channel_axis: int = 1,
    nonfinite: str = "error",
    momentum_convention: str = "torch",
    running_ddof: int = 1,
    update_stats: bool = True,
    frozen: bool = False,
    first: int = 0,
    across: Callable[[Array, Array, bool], tuple[Array, float]] | None = None,
    out: Array | None = None,
) -> tuple[Array, Saved | None]:
    """Batch normalisation, then residual, activation and dropout.

    With z = x + pre_bias and mean and (biased) variance of z over all axes but the channel axis::

        y = dropout(activation((z - mean) / sqrt(var + eps) * weight + bias + residual))
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var  = (1 - momentum) * running_var  + momentum * var * n / (n - running_ddof)

    S. Ioffe, C. Szegedy: Batch normalization (ICML 2015); conventions of `torch.nn.functional.batch_norm`.

    Parameters
    ----------
    x : array of at least two dimensions, C channels along `channel_axis`
    running_mean, running_var : (C,) arrays, optional
        Updated in place in training; used instead of the statistics of `x` in inference and where frozen.
    weight, bias : (C,) arrays, optional
    training : bool, default False
    momentum : float, default 0.1
        In the formula; with the convention of Keras, 1 - momentum is.
    eps : float, default 1e-5
    pre_bias : (C,) array, optional
        Bias of the preceding matrix product.
    residual : array like `x`, optional
    activation : str or activation spec, optional
    dropout : float, default 0
        Probability to drop.  Applied in training only.
    rng : Generator, optional
    channel_axis : int, default 1
    nonfinite : {"error", "skip", "allow"}
        On statistics that are not finite: raise, leave the running statistics alone, or go on.
    momentum_convention : {"torch", "keras"}
    running_ddof : int, 0 or 1
    update_stats : bool, default True
        False leaves the running statistics alone in training.
    frozen : bool, default False
        In training, normalise with the running statistics, which are constants then.
    first : int, default 0
        Flat index of the first element of `x` in the random stream.
    across : callable, optional
        ``across(parts, counts, moments) -> (total, n)`` merges what is known of `x` with what is known of the other
        shards of a batch, of which `x` is one.  (L, 2, C) `parts` are of the L leaves of the reduction tree, (L,)
        `counts` the elements of a channel in each, `total` (2, C) and `n` for all shards; all in float64.  In the
        forward pass `moments` is True and parts are means and sums of squared deviations; in the backward pass they
        are sums, dweight and dbias become those of all shards.  `fastnn.distributed.SyncBatchNorm` is made of it.
    out : array like `x`, optional
        Receives the result.

    Returns
    -------
    y : array like `x`
    saved : Saved, or None without training

    Raises
    ------
    ValueError
        In training that is not frozen, with fewer than two values per channel, or with ``nonfinite="error"`` on
        statistics that are not finite.
    """

    def channels(values: Array) -> Array:
        return per_channel(values, x, channel_axis)

    z = x if pre_bias is None else x + channels(pre_bias)
    if training and not frozen:
        axes = other_axes(x, channel_axis)
        n: float = math.prod(x.shape[axis] for axis in axes)
        if n < (2 if across is None else 1):
            raise ValueError(f"x: expected at least two values per channel in training, got {n}")
        mean = z.mean(axes, dtype=wide(x))
        var = np.square(z - channels(mean)).mean(axes)
        if across is not None:
            (mean, deviations), n = across(np.stack((mean, var * n))[None], np.array([n], np.float64), True)
            var = deviations / n
        finite = bool(np.isfinite(mean).all() and np.isfinite(var).all())
        if nonfinite == "error" and not finite:
            raise ValueError("x: expected finite batch statistics, got infinity or NaN")
        update = update_stats and (finite or nonfinite == "allow")
        if running_mean is not None and running_var is not None and update:
            new = {"torch": momentum, "keras": 1 - momentum}[momentum_convention]
            running_mean[...] = (1 - new) * running_mean + new * mean
            running_var[...] = (1 - new) * running_var + new * var * (n / (n - running_ddof))
    else:
        assert running_mean is not None and running_var is not None
        mean, var = running_mean.astype(wide(x)), running_var.astype(wide(x))

    invstd = 1 / np.sqrt(var + eps)
    v = (z - channels(mean)) * channels(invstd)
    if weight is not None:
        v = v * channels(weight)
    if bias is not None:
        v = v + channels(bias)
    y, saved = epilogue(v.astype(x.dtype), residual, activation, dropout if training else 0.0, rng, first)
    vars(saved).update(
        z=z,
        mean=mean,
        invstd=invstd,
        weight=None if weight is None else weight.copy(),
        channel_axis=channel_axis,
        frozen=frozen,
        across=None if frozen else across,
        has_residual=residual is not None,
        has_pre_bias=pre_bias is not None,
    )
    return into(out, y), saved if training else None


def batch_norm_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> tuple[Array, ...]:
    """Gradients of `batch_norm` in training.

    With g the gradient before residual, activation and dropout, zhat = (z - mean) * invstd, and means over
    all axes but the channel axis::

        dbias   = sum(g)
        dweight = sum(g * zhat)
        dx      = weight * invstd * (g - mean(g) - zhat * mean(g * zhat))

    Frozen statistics are constants: dx = weight * invstd * g.

    Parameters
    ----------
    dy : array, gradient of the output
    saved : Saved, from `batch_norm`
    out : array like `dy`, optional
        Receives dx; may be `dy`.

    Returns
    -------
    dx : array like `dy`
    dweight, dbias : (C,) arrays
    dresidual : array like `dy`; only if there was a residual
    dpre_bias : (C,) array, the channel sums of dx; only if there was a pre_bias
    """
    check_saved(saved, Saved)
    axes = other_axes(dy, saved.channel_axis)

    def channels(values: Array) -> Array:
        return per_channel(values, dy, saved.channel_axis)

    g = epilogue_backward(dy, saved)
    zhat = (saved.z - channels(saved.mean)) * channels(saved.invstd)
    dweight, dbias = (g * zhat).sum(axes), g.sum(axes, dtype=zhat.dtype)
    dx = g.astype(zhat.dtype)
    n: float = max(dy.size // max(dy.shape[saved.channel_axis], 1), 1)
    if saved.across is not None:
        (dbias, dweight), n = saved.across(np.stack((dbias, dweight))[None], np.array([n], np.float64), False)
    if not saved.frozen:
        dx = dx - channels(dbias) / n - zhat * channels(dweight) / n
    dx = dx * channels(saved.invstd)
    if saved.weight is not None:
        dx = dx * channels(saved.weight)
    gradients = [into(out, dx.astype(dy.dtype)), dweight.astype(dy.dtype), dbias.astype(dy.dtype)]
    if saved.has_residual:
        gradients.append(g)
    if saved.has_pre_bias:
        gradients.append(channel_sum(gradients[0], channel_axis=saved.channel_axis))
    return tuple(gradients)
