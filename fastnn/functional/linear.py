"""What follows a matrix product: bias, residual, activation, dropout in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn._core as _core
from fastnn import random
from fastnn._checks import check_index, check_saved
from fastnn.functional._arrays import Array, check_gradient, copied, total_nbytes
from fastnn.functional._epilogue import Tail, give_back, spec_of, tail, training_dropout
from fastnn.functional.activations import ActivationSpec

__all__ = ["BiasActSaved", "bias_act", "bias_act_backward"]


class BiasActSaved:
    """What `bias_act` keeps for `bias_act_backward`.

    Attributes
    ----------
    kept : array or None
        The output where it determines the gradient, else the input; None without an activation.  By
        reference.
    """

    __slots__ = (
        "bias",
        "channel_axis",
        "dtype",
        "has_bias",
        "has_residual",
        "kept",
        "kept_is_output",
        "residual",
        "shape",
        "tail",
    )

    bias: Array | None
    channel_axis: int
    dtype: np.dtype[Any]
    has_bias: bool
    has_residual: bool
    kept: Array | None
    kept_is_output: bool
    residual: Array | None
    shape: tuple[int, ...]
    tail: Tail

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays held, references included."""
        return total_nbytes(self.kept, self.bias, self.residual)


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
) -> tuple[Array, BiasActSaved | None]:
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
    saved : BiasActSaved, or None without training

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or of different types.
    ValueError
        For wrong shapes, `dropout` outside [0, 1], an unknown activation, a read-only or overlapping `out`.
    """
    spec = spec_of(activation)
    dropout = training_dropout("dropout", dropout, training)
    keeps_output = spec is not None and spec.from_output and (dropout == 0.0 or spec.sign_only)
    keeps_input = training and spec is not None and not keeps_output
    if keeps_input and out is not None:
        for name, array in (("x", x), ("residual", residual)):
            if array is not None and np.may_share_memory(out, array):
                raise ValueError(f"out: expected memory apart from {name}, which backward of {spec} needs")
    if type(channel_axis) is not int:
        channel_axis = check_index("channel_axis", channel_axis)
    parameters = tail(x, spec, dropout, rng, first)
    try:
        y = _core.bias_act(x, bias, residual, out, channel_axis, *parameters)
    except BaseException:
        give_back(parameters, rng)
        raise
    if not training:
        return y, None
    saved = BiasActSaved()
    saved.kept = x if keeps_input else y if keeps_output else None
    saved.kept_is_output = keeps_output
    saved.bias = copied(bias) if keeps_input else None
    saved.residual = residual if keeps_input else None
    saved.has_bias, saved.has_residual = bias is not None, residual is not None
    saved.shape, saved.dtype, saved.channel_axis, saved.tail = y.shape, y.dtype, channel_axis, parameters
    return y, saved


def bias_act_backward(dy: Array, saved: BiasActSaved, *, out: Array | None = None) -> tuple[Array | None, ...]:
    """Gradients of `bias_act`, in one pass.

    Parameters
    ----------
    dy : array like the output of `bias_act`
    saved : BiasActSaved
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
    check_saved(saved, BiasActSaved)
    kept = saved.kept
    if kept is None:
        check_gradient(dy, saved.shape, saved.dtype)
    elif out is not None and not saved.kept_is_output:
        for name, array in (("x", kept), ("residual", saved.residual)):
            if array is not None and np.may_share_memory(out, array):
                raise ValueError(f"out: expected memory apart from the kept {name}, got memory that overlaps it")
    if out is None and kept is None and saved.tail[3] < 0:
        dx: Array = dy
        dbias = _core.channel_sum(dy, None, saved.channel_axis) if saved.has_bias else None
    else:
        dx, dbias = _core.bias_act_backward(
            dy,
            kept,
            saved.kept_is_output,
            saved.bias,
            saved.residual,
            out,
            saved.has_bias,
            saved.channel_axis,
            *saved.tail,
        )
    return (dx, dbias, dx) if saved.has_residual else (dx, dbias)
