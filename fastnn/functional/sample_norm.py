"""Normalisation within each sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastnn import random
from fastnn._core import Saved
from fastnn.functional._arrays import Array
from fastnn.functional._builtin import builtin
from fastnn.functional.activations import ActivationSpec

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


_PARTS = {
    "tail": """
    residual : array like `x`, optional
        Kept by reference for backward.
    activation : str such as "relu", or spec from `fastnn.act`, optional
    dropout : float, default 0
        Probability to drop.
    rng : fastnn.random.Generator, optional
        One position is drawn when dropout applies.  Default: the generator of `fastnn.manual_seed`.""",
    "results": """
    first : int, default 0
        Flat index of the first element of `x` in the random stream, for shards of a larger array.
    out : array like `x`, optional
        C-contiguous; receives y.  Memory apart from all inputs.

    Returns
    -------
    y : array like `x`
    saved : Saved

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or of different types.""",
    "given": """
    saved : Saved
    out : array like `dy`, optional
        C-contiguous; receives dx.  May be `dy`.

    Returns
    -------
    dx : array like `dy`""",
    "residual": """
    dresidual : array like `dy`
        Only if there was a residual.  `dy` itself if there was neither activation nor dropout, unless `out`
        overlaps it.

    Raises
    ------
    TypeError, ValueError
        For a `dy` that is not like the output, or an unsuitable `out`.""",
}
"""What the docstrings here share."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _documented(declaration: _Function) -> _Function:
    """Fills the shared parts into a docstring."""
    for name, part in _PARTS.items():
        declaration.__doc__ = (declaration.__doc__ or "").replace(f"{{{name}}}", part.strip())
    return declaration


@builtin
@_documented
def layer_norm(
    x: Array,
    normalized_shape: int | tuple[int, ...],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    *,
    residual: Array | None = None,
    activation: str | ActivationSpec | None = None,
    dropout: float = 0.0,
    rng: random.Generator | None = None,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, Saved]:
    """Layer normalisation, then residual, activation and dropout.

    With mean and (biased) variance over the last dimensions, `normalized_shape`::

        y = dropout(activation((x - mean) / sqrt(var + eps) * weight + bias + residual))

    Statistics do not cancel: differences from the mean of a row of up to 4096 elements in the type of `x`, more of
    them merged in float64.  Formula: J. L. Ba, J. R. Kiros, G. E. Hinton: Layer normalization (2016); names, order
    and defaults: `torch.nn.functional.layer_norm`.

    Parameters
    ----------
    x : array, float32 or float64
        Kept by reference for backward: leave it unchanged until then.
    normalized_shape : int or tuple of int
        The last dimensions of `x`.
    weight, bias : arrays of shape `normalized_shape`, optional
        Default: 1 and 0.
    eps : float, default 1e-5
    {tail}
    {results}
    ValueError
        For a `normalized_shape` that is not that of the last dimensions of `x`, other wrong shapes, eps <= 0,
        `dropout` outside [0, 1], a read-only or overlapping `out`.
    """


@builtin
@_documented
def layer_norm_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> tuple[Array, ...]:
    """Gradients of `layer_norm`.

    With g the gradient before residual, activation and dropout, and xhat = (x - mean) / sqrt(var + eps)::

        dbias   = sum(g),  dweight = sum(g * xhat)                                over all but the last dimensions
        dx      = (w - mean(w) - xhat * mean(w * xhat)) / sqrt(var + eps)         with w = g * weight

    Parameters
    ----------
    dy : array like the output of `layer_norm`
    {given}
    dweight, dbias : arrays of the normalized shape
        Also where weight or bias were None.
    {residual}
    """


@builtin
@_documented
def rms_norm(
    x: Array,
    normalized_shape: int | tuple[int, ...],
    weight: Array | None = None,
    eps: float | None = None,
    *,
    residual: Array | None = None,
    activation: str | ActivationSpec | None = None,
    dropout: float = 0.0,
    rng: random.Generator | None = None,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, Saved]:
    """Normalisation by the root of the mean square, then residual, activation and dropout.

    With the mean over the last dimensions, `normalized_shape`, taken in float64::

        y = dropout(activation(x / sqrt(mean(x**2) + eps) * weight + residual))

    Formula: B. Zhang, R. Sennrich: Root mean square layer normalization (NeurIPS 2019); names, order and defaults:
    `torch.nn.functional.rms_norm`.

    Parameters
    ----------
    x : array, float32 or float64
        Kept by reference for backward: leave it unchanged until then.
    normalized_shape : int or tuple of int
        The last dimensions of `x`.
    weight : array of shape `normalized_shape`, optional
        Default: 1.
    eps : float, optional
        Default: the machine epsilon of the type of `x`.
    {tail}
    {results}
    ValueError
        For a `normalized_shape` that is not that of the last dimensions of `x`, other wrong shapes, eps <= 0,
        `dropout` outside [0, 1], a read-only or overlapping `out`.
    """


@builtin
@_documented
def rms_norm_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> tuple[Array, ...]:
    """Gradients of `rms_norm`.

    With g the gradient before residual, activation and dropout, and xhat = x / sqrt(mean(x**2) + eps)::

        dweight = sum(g * xhat)                                          over all but the last dimensions
        dx      = (w - xhat * mean(w * xhat)) / sqrt(mean(x**2) + eps)   with w = g * weight

    Parameters
    ----------
    dy : array like the output of `rms_norm`
    {given}
    dweight : array of the normalized shape
        Also where weight was None.
    {residual}
    """


@builtin
@_documented
def group_norm(
    x: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    *,
    residual: Array | None = None,
    activation: str | ActivationSpec | None = None,
    dropout: float = 0.0,
    rng: random.Generator | None = None,
    channel_axis: int = 1,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, Saved]:
    """Group normalisation, then residual, activation and dropout.

    With mean and (biased) variance over each of `num_groups` groups of consecutive channels of each sample::

        y = dropout(activation((x - mean) / sqrt(var + eps) * weight + bias + residual))

    Statistics are those of `batch_norm`, of one sample.  Formula: Y. Wu, K. He: Group normalization (ECCV 2018);
    names, order and defaults: `torch.nn.functional.group_norm`.

    Parameters
    ----------
    x : array, float32 or float64, at least 2-D
        C channels along `channel_axis`, samples along the first.  Kept by reference for backward: leave it unchanged
        until then.
    num_groups : int
        Divides C.
    weight, bias : (C,) arrays, optional
        Default: 1 and 0.
    eps : float, default 1e-5
    {tail}
    channel_axis : int, default 1
        1 for (N, C, *spatial), -1 for (N, *spatial, C).
    {results}
    ValueError
        For a `num_groups` that does not divide C, wrong shapes, eps <= 0, `dropout` outside [0, 1], a read-only or
        overlapping `out`.
    """


@builtin
@_documented
def group_norm_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> tuple[Array, ...]:
    """Gradients of `group_norm`.

    With g the gradient before residual, activation and dropout, xhat = (x - mean) / sqrt(var + eps), and means over
    a group of a sample::

        dbias   = sum(g),  dweight = sum(g * xhat)                          over all axes but the channel axis
        dx      = (w - mean(w) - xhat * mean(w * xhat)) / sqrt(var + eps)   with w = g * weight

    Parameters
    ----------
    dy : array like the output of `group_norm`
    {given}
    dweight, dbias : (C,) arrays
        Also where weight or bias were None.
    {residual}
    """


@builtin
@_documented
def instance_norm(
    x: Array,
    *,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    residual: Array | None = None,
    activation: str | ActivationSpec | None = None,
    dropout: float = 0.0,
    rng: random.Generator | None = None,
    channel_axis: int = 1,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, Saved]:
    """Instance normalisation, then residual, activation and dropout.

    With mean and (biased) variance over each channel of each sample::

        y = dropout(activation((x - mean) / sqrt(var + eps) * weight + bias + residual))

    It is `group_norm` with a group for each channel.  Formula: D. Ulyanov, A. Vedaldi, V. Lempitsky: Instance
    normalization (2016); names and defaults: `torch.nn.functional.instance_norm` with ``use_input_stats=True``, without
    its running statistics, which come second there; so all but `x` goes by name.

    Parameters
    ----------
    x : array, float32 or float64, at least 2-D
        C channels along `channel_axis`, samples along the first.  Kept by reference for backward: leave it unchanged
        until then.
    weight, bias : (C,) arrays, optional
        Default: 1 and 0.
    eps : float, default 1e-5
    {tail}
    channel_axis : int, default 1
        1 for (N, C, *spatial), -1 for (N, *spatial, C).
    {results}
    ValueError
        For wrong shapes, eps <= 0, `dropout` outside [0, 1], a read-only or overlapping `out`.
    """


@builtin
@_documented
def instance_norm_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> tuple[Array, ...]:
    """Gradients of `instance_norm`: those of `group_norm` with a group for each channel.

    Parameters
    ----------
    dy : array like the output of `instance_norm`
    {given}
    dweight, dbias : (C,) arrays
        Also where weight or bias were None.
    {residual}
    """
