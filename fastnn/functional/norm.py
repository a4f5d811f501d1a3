"""Normalisation over the batch."""

from __future__ import annotations

import numpy as np

import fastnn._core as _core
from fastnn import random
from fastnn._checks import check_index, check_number, check_saved
from fastnn.functional._arrays import Array, copied, total_nbytes
from fastnn.functional._epilogue import Tail, give_back, spec_of, tail, training_dropout
from fastnn.functional.activations import ActivationSpec

__all__ = ["BatchNormSaved", "batch_norm", "batch_norm_backward"]

_NONFINITE = {"error": 0, "skip": 1, "allow": 2}


class BatchNormSaved:
    """What `batch_norm` keeps for `batch_norm_backward`: its input by reference, and channel statistics."""

    __slots__ = ("bias", "channel_axis", "invstd", "mean", "pre_bias", "residual", "tail", "weight", "x")

    bias: Array | None
    channel_axis: int
    invstd: Array
    mean: Array
    pre_bias: Array | None
    residual: Array | None
    tail: Tail
    weight: Array | None
    x: Array

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays held, references included."""
        return total_nbytes(self.x, self.mean, self.invstd, self.weight, self.bias, self.pre_bias, self.residual)


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
    activation: str | ActivationSpec | None = None,
    dropout: float = 0.0,
    rng: random.Generator | None = None,
    channel_axis: int = 1,
    nonfinite: str = "error",
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, BatchNormSaved | None]:
    """Batch normalisation, then residual, activation and dropout.

    With z = x + pre_bias, and mean and (biased) variance of z over all axes but the channel axis::

        y = dropout(activation((z - mean) / sqrt(var + eps) * weight + bias + residual))
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var  = (1 - momentum) * running_var  + momentum * var * n / (n - 1)

    Statistics take one pass that does not cancel: sums of some 1000 differences from a value near the mean in the
    type of `x`, merged in float64; so the squared deviations must be finite in the type of `x`.
    Formula: S. Ioffe, C. Szegedy: Batch normalization (ICML 2015); names, order and defaults:
    `torch.nn.functional.batch_norm`.

    Parameters
    ----------
    x : array, float32 or float64, at least 2-D
        C channels along `channel_axis`.  Kept by reference for backward: leave it unchanged until then.
    running_mean, running_var : (C,) arrays, float32 or float64, optional
        Both or none.  Updated in place in training; required, and used instead of the batch, otherwise.
    weight, bias : (C,) arrays, optional
        Default: 1 and 0.
    training : bool, default False
    momentum : float, default 0.1
        Weight of the new statistics, in [0, 1].
    eps : float, default 1e-5
    pre_bias : (C,) array, optional
        Bias of the preceding matrix product, added on the fly.
    residual : array like `x`, optional
        Kept by reference for backward.
    activation : str such as "relu", or spec from `fastnn.act`, optional
    dropout : float, default 0
        Probability to drop.  Applied in training only.
    rng : fastnn.random.Generator, optional
        One position is drawn when dropout applies.  Default: the generator of `fastnn.manual_seed`.
    channel_axis : int, default 1
        1 for (N, C) and (N, C, *spatial), -1 for (N, *spatial, C).
    nonfinite : {"error", "skip", "allow"}
        On batch statistics that are not finite: raise, leave the running statistics alone, or go on.
    first : int, default 0
        Flat index of the first element of `x` in the random stream, for shards of a larger array.
    out : array like `x`, optional
        C-contiguous; receives y.  May be `x` or `residual` in inference only.

    Returns
    -------
    y : array like `x`
    saved : BatchNormSaved, or None without training

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or of different types (running statistics may differ from
        `x`).
    ValueError
        For wrong shapes, eps <= 0, `momentum` or `dropout` outside [0, 1], fewer than two values per channel
        in training, missing running statistics in inference, a read-only or overlapping `out`; and, with
        ``nonfinite="error"``, for statistics that are not finite: the running statistics are then unchanged
        and `out` is unspecified.
    """
    check_number("eps", eps)
    check_number("momentum", momentum)
    if type(channel_axis) is not int:
        channel_axis = check_index("channel_axis", channel_axis)
    if not eps > 0.0:
        raise ValueError(f"eps: expected a number > 0, got {eps}")
    spec = spec_of(activation)
    dropout = training_dropout("dropout", dropout, training)
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("running_mean, running_var: expected arrays in inference, got None")
        act, p0, p1, *_ = tail(x, spec, 0.0, None, first)
        return (
            _core.batch_norm_infer(
                x,
                running_mean,
                running_var,
                weight,
                bias,
                pre_bias,
                residual,
                out,
                eps,
                channel_axis,
                act,
                p0,
                p1,
            ),
            None,
        )
    if not 0.0 <= momentum <= 1.0:
        raise ValueError(f"momentum: expected a number in [0, 1], got {momentum}")
    if (running_mean is None) != (running_var is None):
        raise ValueError("running_mean, running_var: expected both or none")
    if nonfinite not in _NONFINITE:
        raise ValueError(f"nonfinite: expected 'error', 'skip' or 'allow', got {nonfinite!r}")
    parameters = tail(x, spec, dropout, rng, first)
    try:
        y, mean, invstd = _core.batch_norm_train(
            x,
            weight,
            bias,
            pre_bias,
            residual,
            out,
            running_mean,
            running_var,
            momentum,
            eps,
            _NONFINITE[nonfinite],
            channel_axis,
            *parameters,
        )
    except BaseException:
        give_back(parameters, rng)
        raise
    saved = BatchNormSaved()
    saved.x, saved.residual = x, residual
    saved.mean, saved.invstd = mean, invstd
    saved.weight, saved.bias, saved.pre_bias = copied(weight), copied(bias), copied(pre_bias)
    saved.channel_axis, saved.tail = channel_axis, parameters
    return y, saved


def batch_norm_backward(dy: Array, saved: BatchNormSaved, *, out: Array | None = None) -> tuple[Array, ...]:
    """Gradients of `batch_norm` in training.

    With g the gradient before residual, activation and dropout, zhat = (z - mean) / sqrt(var + eps), and
    means over all axes but the channel axis::

        dbias   = sum(g)
        dweight = sum(g * zhat)
        dx      = weight / sqrt(var + eps) * (g - mean(g) - zhat * mean(g * zhat))

    Parameters
    ----------
    dy : array like the output of `batch_norm`
    saved : BatchNormSaved
    out : array like `dy`, optional
        C-contiguous; receives dx.  May be `dy`.

    Returns
    -------
    dx : array like `dy`
    dweight, dbias : (C,) arrays
        Also where weight or bias were None.
    dresidual : array like `dy`
        Only if there was a residual.  `dy` itself if there was neither activation nor dropout, unless `out`
        overlaps it.
    dpre_bias : (C,) array
        The channel sums of dx.  Only if there was a pre_bias.

    Raises
    ------
    TypeError, ValueError
        For a `dy` that is not like the output, or an unsuitable `out`.
    """
    check_saved(saved, BatchNormSaved)
    residual = saved.residual
    if residual is not None and out is not None and np.may_share_memory(out, residual):
        raise ValueError("out: expected memory apart from the kept residual, got memory that overlaps it")
    parameters = saved.tail
    passes_dy = (
        residual is not None
        and parameters[0] < 0
        and parameters[3] < 0
        and (out is None or not np.may_share_memory(out, dy))
    )
    dx, dweight, dbias, dresidual, dpre_bias = _core.batch_norm_backward(
        dy,
        saved.x,
        saved.mean,
        saved.invstd,
        saved.weight,
        saved.bias,
        saved.pre_bias,
        None if passes_dy else residual,
        out,
        saved.channel_axis,
        *parameters,
    )
    if passes_dy:
        dresidual = dy
    gradients = (dx, dweight, dbias, dresidual, dpre_bias)
    return tuple(gradient for gradient in gradients if gradient is not None)
