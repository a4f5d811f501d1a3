"""Dropout."""

from __future__ import annotations

from fastnn import random
from fastnn._checks import check_saved
from fastnn.reference.base import Array, Saved, into
from fastnn.reference.epilogue import mask
from fastnn.reference.random import draw_mask

__all__ = ["dropout", "dropout_backward"]


def dropout(
    x: Array,
    p: float = 0.5,
    training: bool = True,
    *,
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
    keep, scale = draw_mask(x.shape, p if training else 0.0, rng, first)
    y = into(out, mask(x, keep, scale))
    return y, Saved(keep=keep, scale=scale) if training else None


def dropout_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> Array:
    """dx = dy / (1 - p) where the element was kept, 0 elsewhere.

    Parameters
    ----------
    dy : array, gradient of the output
    saved : Saved, from `dropout`
    out : array like `dy`, optional
        Receives the result; may be `dy`.

    Returns
    -------
    array like `dy`
    """
    check_saved(saved, Saved)
    return into(out, mask(dy, saved.keep, saved.scale))
