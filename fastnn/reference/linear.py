"""What follows a matrix product: bias, residual, activation, dropout."""

from __future__ import annotations

from typing import Any

from fastnn import random
from fastnn._checks import check_saved
from fastnn.reference.base import Array, Saved, into, per_channel
from fastnn.reference.epilogue import epilogue, epilogue_backward
from fastnn.reference.reductions import channel_sum

__all__ = ["bias_act", "bias_act_backward"]


def bias_act(
    x: Array,
    bias: Array | None = None,
    *,
    residual: Array | None = None,
    activation: Any = None,
    dropout: float = 0.0,
    rng: random.Generator | None = None,
    training: bool = True,
    channel_axis: int = -1,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, Saved | None]:
    """y = dropout(activation(x + bias + residual)): what follows a matrix product.

    Parameters
    ----------
    x : array with C channels along `channel_axis`
    bias : (C,) array, optional
    residual : array like `x`, optional
    activation : str or activation spec, optional
    dropout : float, default 0
        Probability to drop.  Applied in training only.
    rng : Generator, optional
        One position is drawn when dropout applies.  Default: `fastnn.random.default_generator`.
    training : bool, default True
    channel_axis : int, default -1
    first : int, default 0
        Flat index of the first element of `x` in the random stream, for shards of a larger array.
    out : array like `x`, optional
        Receives the result; may be `x`.

    Returns
    -------
    y : array like `x`
    saved : Saved, or None without training
    """
    v = x.copy()
    if bias is not None:
        v = v + per_channel(bias, x, channel_axis)
    y, saved = epilogue(v, residual, activation, dropout if training else 0.0, rng, first)
    vars(saved).update(has_bias=bias is not None, has_residual=residual is not None, channel_axis=channel_axis)
    return into(out, y), saved if training else None


def bias_act_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> tuple[Array | None, ...]:
    """Gradients of `bias_act`.

    Parameters
    ----------
    dy : array, gradient of the output
    saved : Saved, from `bias_act`
    out : array like `dy`, optional
        Receives dx; may be `dy`.

    Returns
    -------
    dx : array like `dy`
    dbias : (C,) array, or None without a bias
    dresidual : the array dx; only if there was a residual
    """
    check_saved(saved, Saved)
    dx = into(out, epilogue_backward(dy, saved))
    dbias = channel_sum(dx, channel_axis=saved.channel_axis) if saved.has_bias else None
    return (dx, dbias, dx) if saved.has_residual else (dx, dbias)
