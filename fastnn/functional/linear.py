"""What follows a matrix product: bias, residual, activation, dropout in one pass."""

from __future__ import annotations

from fastnn import random
from fastnn._core import Saved
from fastnn.functional._arrays import Array
from fastnn.functional._builtin import builtin
from fastnn.functional.activations import ActivationSpec

__all__ = ["bias_act", "bias_act_backward"]


@builtin
def bias_act(
    x: Array,
    bias: Array | None = None,
    *,
    residual: Array | None = None,
    activation: str | ActivationSpec | None = None,
    dropout: float = 0.0,
    rng: random.Generator | None = None,
    training: bool = True,
    channel_axis: int = -1,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, Saved | None]:
    """y = dropout(activation(x + bias + residual)): what follows a matrix product, in one pass.

    One array at most is kept for backward.  With relu, leaky_relu (positive slope), or any activation whose
    output determines its gradient if there is no dropout, it is the output, so the op works in place:
    ``out=x``.  Otherwise the inputs are kept, which must then outlive the step unchanged.  Without activation
    none is kept.

    Parameters
    ----------
    x : array, float32 or float64
        C channels along `channel_axis`.
    bias : (C,) array, optional
    residual : array like `x`, optional
    activation : str such as "relu", or spec from `fastnn.act`, optional
    dropout : float, default 0
        Probability to drop; kept elements are scaled by ``1 / (1 - fastnn.random.effective_p(dropout))``.
        Applied in training only.
    rng : fastnn.random.Generator, optional
        One position is drawn when dropout applies.  Default: the generator of `fastnn.manual_seed`.
    training : bool, default True
        If False, nothing is kept.
    channel_axis : int, default -1
    first : int, default 0
        Flat index of the first element of `x` in the random stream, for shards of a larger array.
    out : array like `x`, optional
        C-contiguous; receives y.  May be `x` unless the inputs are kept.

    Returns
    -------
    y : array like `x`
    saved : Saved, or None without training

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or of different types.
    ValueError
        For wrong shapes, `dropout` outside [0, 1], an unknown activation, a read-only or overlapping `out`.
    """


@builtin
def bias_act_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> tuple[Array | None, ...]:
    """Gradients of `bias_act`, in one pass.

    Parameters
    ----------
    dy : array like the output of `bias_act`
    saved : Saved
    out : array like `dy`, optional
        C-contiguous; receives dx.  May be `dy` or the output of `bias_act`, not a kept input.

    Returns
    -------
    dx : array like `dy`
        `dy` itself if there was neither activation nor dropout and `out` is None.
    dbias : (C,) array, or None if there was no bias
    dresidual : array
        The same object as dx.  Only if there was a residual.

    Raises
    ------
    TypeError, ValueError
        For a `dy` that is not like the output, or an unsuitable `out`.
    """
