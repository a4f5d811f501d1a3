"""Losses that are sums over elements, with their gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.reference.base import Array, into, wide

__all__ = ["binary_cross_entropy_with_logits", "huber_loss", "l1_loss", "mse_loss", "smooth_l1_loss"]


def _reduced(losses: Array, slopes: Array, reduction: str, input: Array, out: Array | None) -> tuple[Any, Array]:
    """The loss, and the gradient in the type of `input`."""
    count = losses.size if reduction == "mean" else 1
    dinput = into(out, np.asarray(slopes / max(count, 1), input.dtype))
    if reduction == "none":
        return np.asarray(losses, input.dtype), dinput
    return (losses.sum() / count).item() if count else math.nan, dinput


def _difference(input: Array, target: Array) -> Array:
    return np.asarray(input.astype(wide(input)) - target)


def mse_loss(input: Array, target: Array, reduction: str = "mean", *, out: Array | None = None) -> tuple[Any, Array]:
    """Squared error d * d of d = input - target, and its gradient 2 * d.

    Parameters
    ----------
    input : array
    target : array like `input`
    reduction : {"mean", "sum", "none"}, default "mean"
    out : array like `input`, optional
        Receives the gradient; may be `input` or `target`.

    Returns
    -------
    loss : float; array like `input` with reduction "none"
    dinput : array like `input`
    """
    d = _difference(input, target)
    return _reduced(d * d, 2 * d, reduction, input, out)


def l1_loss(input: Array, target: Array, reduction: str = "mean", *, out: Array | None = None) -> tuple[Any, Array]:
    """Absolute error abs(d) of d = input - target, and its gradient, the sign of d (0 where d = 0).

    Parameters
    ----------
    input : array
    target : array like `input`
    reduction : {"mean", "sum", "none"}, default "mean"
    out : array like `input`, optional
        Receives the gradient; may be `input` or `target`.

    Returns
    -------
    loss : float; array like `input` with reduction "none"
    dinput : array like `input`
    """
    d = _difference(input, target)
    return _reduced(np.abs(d), np.sign(d), reduction, input, out)


def smooth_l1_loss(
    input: Array, target: Array, reduction: str = "mean", beta: float = 1.0, *, out: Array | None = None
) -> tuple[Any, Array]:
    """d * d / (2 * beta) where abs(d) < beta, else abs(d) - beta / 2, of d = input - target; the gradient is d / beta,
    within -1 and 1.

    Parameters
    ----------
    input : array
    target : array like `input`
    reduction : {"mean", "sum", "none"}, default "mean"
    beta : float, default 1.0
        0 gives `l1_loss`.
    out : array like `input`, optional
        Receives the gradient; may be `input` or `target`.

    Returns
    -------
    loss : float; array like `input` with reduction "none"
    dinput : array like `input`
    """
    if beta == 0:
        return l1_loss(input, target, reduction, out=out)
    d = _difference(input, target)
    losses = np.where(np.abs(d) < beta, d * d / (2 * beta), np.abs(d) - beta / 2)
    return _reduced(losses, np.clip(d / beta, -1, 1), reduction, input, out)


def huber_loss(
    input: Array, target: Array, reduction: str = "mean", delta: float = 1.0, *, out: Array | None = None
) -> tuple[Any, Array]:
    """d * d / 2 where abs(d) < delta, else delta * (abs(d) - delta / 2), of d = input - target; the gradient is d,
    within -delta and delta.

    Parameters
    ----------
    input : array
    target : array like `input`
    reduction : {"mean", "sum", "none"}, default "mean"
    delta : float, default 1.0
    out : array like `input`, optional
        Receives the gradient; may be `input` or `target`.

    Returns
    -------
    loss : float; array like `input` with reduction "none"
    dinput : array like `input`
    """
    d = _difference(input, target)
    losses = np.where(np.abs(d) < delta, d * d / 2, delta * (np.abs(d) - delta / 2))
    return _reduced(losses, np.clip(d, -delta, delta), reduction, input, out)


def binary_cross_entropy_with_logits(
    input: Array,
    target: Array,
    weight: Array | None = None,
    reduction: str = "mean",
    pos_weight: Array | None = None,
    *,
    out: Array | None = None,
) -> tuple[Any, Array]:
    """-pos_weight * target * log(s) - (1 - target) * log(1 - s) with s = sigmoid(input), and its gradient
    (1 - target) * s - pos_weight * target * (1 - s).

    Where a term counts 0 times it is 0, even if its logarithm is infinite.

    Parameters
    ----------
    input : array
        Logits.
    target : array like `input`
    weight : array that broadcasts to `input`, optional
    reduction : {"mean", "sum", "none"}, default "mean"
    pos_weight : array that broadcasts to `input`, optional
    out : array like `input`, optional
        Receives the gradient; may be `input` or `target`.

    Returns
    -------
    loss : float; array like `input` with reduction "none"
    dinput : array like `input`
    """
    x, t = input.astype(wide(input)), target.astype(wide(input))
    no, yes = 1 - t, t if pos_weight is None else pos_weight * t
    softplus = np.logaddexp(0, x), np.logaddexp(0, -x)  # -log(1 - s), -log(s)
    losses = np.where(no == 0, 0, no * softplus[0]) + np.where(yes == 0, 0, yes * softplus[1])
    losses = np.where(np.isnan(x), x, losses)
    slopes = no * np.exp(-softplus[1]) - yes * np.exp(-softplus[0])
    if weight is not None:
        losses, slopes = losses * weight, slopes * weight
    return _reduced(losses, slopes, reduction, input, out)
