"""Normalisation over the batch."""

from __future__ import annotations

from collections.abc import Callable

from fastnn import random
from fastnn._core import Saved
from fastnn.functional._arrays import Array
from fastnn.functional._builtin import builtin
from fastnn.functional.activations import ActivationSpec

__all__ = ["batch_norm", "batch_norm_backward"]


@builtin
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
    momentum_convention: str = "torch",
    running_ddof: int = 1,
    update_stats: bool = True,
    frozen: bool = False,
    first: int = 0,
    across: Callable[[Array, Array, bool], tuple[Array, float]] | None = None,
    out: Array | None = None,
) -> tuple[Array, Saved | None]:
    """Batch normalisation, then residual, activation and dropout.

    With z = x + pre_bias, and mean and (biased) variance of z over all axes but the channel axis::

        y = dropout(activation((z - mean) / sqrt(var + eps) * weight + bias + residual))
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var  = (1 - momentum) * running_var  + momentum * var * n / (n - running_ddof)

    Libraries differ in the last two lines: Keras weighs the old statistics with `momentum` and keeps the variance
    as it is (``momentum_convention="keras", running_ddof=0``); docs/numerics.md has a table.

    Statistics take one pass that does not cancel: sums of some 1000 differences from a value near the mean in the
    type of `x`, merged in float64; so the squared deviations must be finite in the type of `x`.
    Formula: S. Ioffe, C. Szegedy: Batch normalization (ICML 2015); names, order and defaults:
    `torch.nn.functional.batch_norm`.

    Parameters
    ----------
    x : array, float32 or float64, at least 2-D
        C channels along `channel_axis`.  Kept by reference for backward: leave it unchanged until then.
    running_mean, running_var : (C,) arrays, float32 or float64, optional
        Both or none.  Updated in place in training; required, and used instead of the batch, in inference and
        where `frozen`.
    weight, bias : (C,) arrays, optional
        Default: 1 and 0.
    training : bool, default False
    momentum : float, default 0.1
        Weight of the new statistics, or with the convention of Keras of the old ones, in [0, 1].
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
    momentum_convention : {"torch", "keras"}
        What `momentum` weighs: the new batch (torch), or the old running statistics (Keras, TensorFlow, Flax).
    running_ddof : int, default 1
        The running variance averages the batches' sums of squared deviations divided by n - running_ddof: 1 as
        in torch and Caffe, 0 as in Keras.
    update_stats : bool, default True
        False leaves the running statistics alone in training.
    frozen : bool, default False
        In training, let the running statistics normalise, as constants: they are not updated, and backward gives
        dx = g * weight / sqrt(var + eps).  For fine-tuning with batches that are too small or of another kind.
        Without effect in inference.
    first : int, default 0
        Flat index of the first element of `x` in the random stream, for shards of a larger array.
    across : callable, optional
        ``across(parts, counts, moments) -> (total, n)`` merges what is known of `x` with what is known of the other
        shards of a batch, of which `x` is one.  (L, 2, C) `parts` are of the L leaves of the reduction tree, (L,)
        `counts` the elements of a channel in each, `total` (2, C) and `n` for all shards; all in float64.  In the
        forward pass `moments` is True and parts are means and sums of squared deviations; in the backward pass they
        are sums, dweight and dbias become those of all shards.  `fastnn.distributed.SyncBatchNorm` is made of it.
    out : array like `x`, optional
        C-contiguous; receives y.  May be `x` or `residual` in inference only.

    Returns
    -------
    y : array like `x`
    saved : Saved, or None without training

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or of different types (running statistics may differ from
        `x`).
    ValueError
        For wrong shapes, eps <= 0, `momentum` or `dropout` outside [0, 1], fewer than two values per channel
        in training (unless frozen), missing running statistics in inference, unknown words, another
        `running_ddof` than 0 or 1, a read-only or overlapping `out`; and, with
        ``nonfinite="error"``, for statistics that are not finite: the running statistics are then unchanged
        and `out` is unspecified.
    """


@builtin
def batch_norm_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> tuple[Array, ...]:
    """Gradients of `batch_norm` in training.

    With g the gradient before residual, activation and dropout, zhat = (z - mean) / sqrt(var + eps), and
    means over all axes but the channel axis::

        dbias   = sum(g)
        dweight = sum(g * zhat)
        dx      = weight / sqrt(var + eps) * (g - mean(g) - zhat * mean(g * zhat))

    Frozen statistics are constants: dx = weight / sqrt(var + eps) * g, with zhat of the running statistics.

    Parameters
    ----------
    dy : array like the output of `batch_norm`
    saved : Saved
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
