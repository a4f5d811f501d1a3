"""Dropout."""

from __future__ import annotations

from fastnn import random
from fastnn._core import Saved
from fastnn.functional._arrays import Array
from fastnn.functional._builtin import builtin

__all__ = ["dropout", "dropout_backward"]


@builtin
def dropout(
    x: Array,
    p: float = 0.5,
    training: bool = True,
    *,
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
    """dx = dy * scale where the element was kept, 0 elsewhere.

    Parameters
    ----------
    dy : array like the output of `dropout`
    saved : Saved
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
