"""The oracle: every op of `fastnn.functional` in plain NumPy, with the same name, signature and defaults.

Written to be read beside the formulas, and to be right rather than fast.  It is generic over float32, float64
and numpy.longdouble: tests run it in a type wider than the kernel's.  Sums and statistics are formed in
float64 or wider. Random masks are the kernels' masks bit for bit.  It checks no arguments;
`fastnn.functional` does.

`Saved` objects of this module are its own: hand them only to the backward functions here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn import random
from fastnn._checks import check_saved

__all__ = [
    "Saved",
    "adam_step",
    "batch_norm",
    "batch_norm_backward",
    "bias_act",
    "bias_act_backward",
    "channel_sum",
    "dropout",
    "dropout_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "random_bits",
    "relu",
    "relu_backward",
    "sgd_step",
    "softmax_cross_entropy",
    "threefry4x32",
]

Array: TypeAlias = NDArray[Any]


class Saved:
    """What a forward pass keeps for its backward pass, as attributes.

    Attributes
    ----------
    nbytes : int
        Bytes of all arrays held.
    """

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    @property
    def nbytes(self) -> int:
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))


def _wide(x: Array) -> np.dtype[Any]:
    """Type of sums and statistics: at least float64."""
    return np.result_type(x.dtype, np.float64)


def _into(out: Array | None, y: Array) -> Array:
    if out is None:
        return y
    out[...] = y
    return out


def _per_channel(values: Array, x: Array, channel_axis: int) -> Array:
    """View of (C,) `values` that broadcasts along the channel axis of `x`."""
    shape = [1] * x.ndim
    shape[channel_axis] = x.shape[channel_axis]
    return values.reshape(shape)


def _other_axes(x: Array, channel_axis: int) -> tuple[int, ...]:
    return tuple(axis for axis in range(x.ndim) if axis != channel_axis % x.ndim)


# ---------------------------------------------------------------------------------------------- random bits


_ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))


def threefry4x32(counter: Sequence[Any], key: Sequence[int], rounds: int = 13) -> tuple[NDArray[np.uint32], ...]:
    """Threefry-4x32: four random 32-bit words from a 128-bit counter and a 128-bit key.

    J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011).

    Parameters
    ----------
    counter : four integers or uint32 arrays that broadcast together
    key : four integers in [0, 2**32)
    rounds : int, default 13

    Returns
    -------
    tuple of four uint32 arrays of the broadcast shape
    """
    k = [np.uint32(word) for word in key]
    k.append(np.bitwise_xor.reduce(np.array([0x1BD11BDA, *k], np.uint32)))
    # at least 1-D, because NumPy warns of wrap-around in scalars only
    words = np.broadcast_arrays(*(np.atleast_1d(np.asarray(word, np.uint32)) for word in counter))
    x = [word + k[i] for i, word in enumerate(words)]
    for r in range(rounds):
        pairs = ((0, 1), (2, 3)) if r % 2 == 0 else ((0, 3), (2, 1))
        for (a, b), rotation in zip(pairs, _ROTATIONS[r % 8], strict=True):
            x[a] = x[a] + x[b]
            x[b] = (x[b] << np.uint32(rotation) | x[b] >> np.uint32(32 - rotation)) ^ x[a]
        if r % 4 == 3:
            injection = (r + 1) // 4
            for i in range(4):
                x[i] = x[i] + k[(injection + i) % 5]
            x[3] = x[3] + np.uint32(injection)
    shape = np.broadcast_shapes(*(np.shape(word) for word in counter))
    return tuple(word.reshape(shape) for word in x)


def random_bits(seed: int, position: int, first: int, size: int) -> NDArray[np.uint16]:
    """16 random bits for each of the elements ``first, ..., first + size - 1`` of one stream.

    Elements come in tiles of 128 = 4 words x 2 halves x 16 lanes.  Lane l of tile t encrypts the counter
    (b mod 2**32, b // 2**32, 0, 0), b = 16 t + l, under the key (seed, position), low words first; element
    ``128 t + 32 j + 16 h + l`` takes half h (low half first) of word j.

    Returns
    -------
    uint16 array of shape (size,)
    """
    tiles = np.arange(first // 128, -(-(first + size) // 128), dtype=np.uint64)
    block = tiles[:, np.newaxis] * np.uint64(16) + np.arange(16, dtype=np.uint64)
    low = np.uint64(0xFFFF_FFFF)
    words = threefry4x32(
        (block & low, block >> np.uint64(32), 0, 0),
        (seed & 0xFFFF_FFFF, seed >> 32, position & 0xFFFF_FFFF, position >> 32),
    )
    halves = [half for word in words for half in (word & np.uint32(0xFFFF), word >> np.uint32(16))]
    bits = np.stack(halves, axis=1).astype(np.uint16)  # (tiles, 8 halves, 16 lanes)
    start = first % 128
    return bits.reshape(-1)[start : start + size]


def _draw_mask(
    shape: tuple[int, ...], p: float, rng: random.Generator | None, first: int
) -> tuple[NDArray[np.bool_], float]:
    """Which elements dropout keeps, and the factor that keeps their expectation."""
    threshold = random.keep_threshold(p)
    if threshold == 65536:
        return np.ones(shape, np.bool_), 1.0
    seed, position = (random.default_generator if rng is None else rng).draw()
    if threshold == 0:
        return np.zeros(shape, np.bool_), 0.0
    keep = random_bits(seed, position, first, math.prod(shape)) < threshold
    return keep.reshape(shape), 65536 / threshold


# ---------------------------------------------------------------------------------------------- activations


def relu(x: Array, *, out: Array | None = None) -> Array:
    """y = 0 where x <= 0, else x.  So NaN stays NaN and -0 becomes +0.

    Parameters
    ----------
    x : array of any shape
    out : array like `x`, optional
        Receives the result; may be `x`.

    Returns
    -------
    array like `x`
    """
    return _into(out, np.where(x <= 0, x.dtype.type(0), x))


def relu_backward(dy: Array, x: Array, *, output: bool = False, out: Array | None = None) -> Array:
    """dx = 0 where x <= 0, else dy.

    Parameters
    ----------
    dy : array, gradient of the output
    x : array like `dy`
        Input of `relu`, or its output with ``output=True``: the signs agree.
    output : bool, default False
    out : array like `dy`, optional
        Receives the result; may be `dy` or `x`.

    Returns
    -------
    array like `dy`
    """
    return _into(out, np.where(x <= 0, dy.dtype.type(0), dy))


def leaky_relu(x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    """y = x where x > 0, else x * negative_slope.

    Parameters
    ----------
    x : array of any shape
    negative_slope : float, default 0.01
    out : array like `x`, optional
        Receives the result; may be `x`.

    Returns
    -------
    array like `x`
    """
    return _into(out, np.where(x > 0, x, x * x.dtype.type(negative_slope)))


def leaky_relu_backward(
    dy: Array, x: Array, negative_slope: float = 0.01, *, output: bool = False, out: Array | None = None
) -> Array:
    """dx = dy where x > 0, else dy * negative_slope.

    Parameters
    ----------
    dy : array, gradient of the output
    x : array like `dy`
        Input of `leaky_relu`, or its output with ``output=True``: for a positive slope the signs agree.
    negative_slope : float, default 0.01
    output : bool, default False
    out : array like `dy`, optional
        Receives the result; may be `dy` or `x`.

    Returns
    -------
    array like `dy`
    """
    return _into(out, np.where(x > 0, dy, dy * dy.dtype.type(negative_slope)))


# ----------------------------------------------------------------------- epilogue: residual, activation,
# dropout


def _activate(v: Array, activation: Any) -> Array:
    if activation is None:
        return v
    name, params = (activation, {}) if isinstance(activation, str) else (activation.name, activation.params)
    return globals()[name](v, **params)  # type: ignore[no-any-return]


def _activate_backward(dy: Array, v: Array, activation: Any) -> Array:
    if activation is None:
        return dy
    name, params = (activation, {}) if isinstance(activation, str) else (activation.name, activation.params)
    return globals()[name + "_backward"](dy, v, **params)  # type: ignore[no-any-return]


def _epilogue(
    v: Array, residual: Array | None, activation: Any, p: float, rng: random.Generator | None, first: int
) -> tuple[Array, Saved]:
    """y = dropout(activation(v + residual)), and the sum and the mask for backward."""
    if residual is not None:
        v = v + residual
    keep, scale = _draw_mask(v.shape, p, rng, first)
    y = _mask(_activate(v, activation), keep, scale)
    return y, Saved(v=v, activation=activation, keep=keep, scale=scale)


def _epilogue_backward(dy: Array, saved: Saved) -> Array:
    """Gradient of v + residual, so of v and of the residual."""
    return _activate_backward(_mask(dy, saved.keep, saved.scale), saved.v, saved.activation)


def _mask(x: Array, keep: NDArray[np.bool_], scale: float) -> Array:
    """Select, never multiply: what is dropped is 0 even where x is infinite or NaN."""
    y: Array = np.where(keep, x * x.dtype.type(scale), x.dtype.type(0))
    return y


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
        v = v + _per_channel(bias, x, channel_axis)
    y, saved = _epilogue(v, residual, activation, dropout if training else 0.0, rng, first)
    vars(saved).update(has_bias=bias is not None, has_residual=residual is not None, channel_axis=channel_axis)
    return _into(out, y), saved if training else None


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
    dx = _into(out, _epilogue_backward(dy, saved))
    dbias = channel_sum(dx, channel_axis=saved.channel_axis) if saved.has_bias else None
    return (dx, dbias, dx) if saved.has_residual else (dx, dbias)


# ---------------------------------------------------------------------------------------------- batch norm


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
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, Saved | None]:
    """Batch normalisation, then residual, activation and dropout.

    With z = x + pre_bias and mean and (biased) variance of z over all axes but the channel axis::

        y = dropout(activation((z - mean) / sqrt(var + eps) * weight + bias + residual))
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var  = (1 - momentum) * running_var  + momentum * var * n / (n - 1)

    S. Ioffe, C. Szegedy: Batch normalization (ICML 2015); conventions of `torch.nn.functional.batch_norm`.

    Parameters
    ----------
    x : array of at least two dimensions, C channels along `channel_axis`
    running_mean, running_var : (C,) arrays, optional
        Updated in place in training; used instead of the statistics of `x` otherwise.
    weight, bias : (C,) arrays, optional
    training : bool, default False
    momentum : float, default 0.1
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
    first : int, default 0
        Flat index of the first element of `x` in the random stream.
    out : array like `x`, optional
        Receives the result.

    Returns
    -------
    y : array like `x`
    saved : Saved, or None without training

    Raises
    ------
    ValueError
        In training, with fewer than two values per channel, or with ``nonfinite="error"`` on statistics that
        are not finite.
    """

    def channels(values: Array) -> Array:
        return _per_channel(values, x, channel_axis)

    z = x if pre_bias is None else x + channels(pre_bias)
    if training:
        axes, n = _other_axes(x, channel_axis), x.size // max(x.shape[channel_axis], 1)
        if x.size and n < 2:
            raise ValueError(f"x: expected at least two values per channel in training, got {n}")
        mean = z.mean(axes, dtype=_wide(x))
        var = np.square(z - channels(mean)).mean(axes)
        finite = bool(np.isfinite(mean).all() and np.isfinite(var).all())
        if nonfinite == "error" and not finite:
            raise ValueError("x: expected finite batch statistics, got infinity or NaN")
        if running_mean is not None and running_var is not None and (finite or nonfinite == "allow"):
            running_mean[...] = (1 - momentum) * running_mean + momentum * mean
            running_var[...] = (1 - momentum) * running_var + momentum * var * (n / (n - 1))
    else:
        assert running_mean is not None and running_var is not None
        mean, var = running_mean.astype(_wide(x)), running_var.astype(_wide(x))

    invstd = 1 / np.sqrt(var + eps)
    v = (z - channels(mean)) * channels(invstd)
    if weight is not None:
        v = v * channels(weight)
    if bias is not None:
        v = v + channels(bias)
    y, saved = _epilogue(v.astype(x.dtype), residual, activation, dropout if training else 0.0, rng, first)
    vars(saved).update(
        z=z,
        mean=mean,
        invstd=invstd,
        weight=None if weight is None else weight.copy(),
        channel_axis=channel_axis,
        has_residual=residual is not None,
        has_pre_bias=pre_bias is not None,
    )
    return _into(out, y), saved if training else None


def batch_norm_backward(dy: Array, saved: Saved, *, out: Array | None = None) -> tuple[Array, ...]:
    """Gradients of `batch_norm` in training.

    With g the gradient before residual, activation and dropout, zhat = (z - mean) * invstd, and means over
    all axes but the channel axis::

        dbias   = sum(g)
        dweight = sum(g * zhat)
        dx      = weight * invstd * (g - mean(g) - zhat * mean(g * zhat))

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
    axes = _other_axes(dy, saved.channel_axis)

    def channels(values: Array) -> Array:
        return _per_channel(values, dy, saved.channel_axis)

    g = _epilogue_backward(dy, saved)
    zhat = (saved.z - channels(saved.mean)) * channels(saved.invstd)
    dweight, dbias = (g * zhat).sum(axes), g.sum(axes, dtype=zhat.dtype)
    n = max(dy.size // max(dy.shape[saved.channel_axis], 1), 1)
    dx = (g - channels(dbias) / n - zhat * channels(dweight) / n) * channels(saved.invstd)
    if saved.weight is not None:
        dx = dx * channels(saved.weight)
    gradients = [_into(out, dx.astype(dy.dtype)), dweight.astype(dy.dtype), dbias.astype(dy.dtype)]
    if saved.has_residual:
        gradients.append(g)
    if saved.has_pre_bias:
        gradients.append(channel_sum(gradients[0], channel_axis=saved.channel_axis))
    return tuple(gradients)


# ---------------------------------------------------------------------------------------------- dropout, sums


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
    keep, scale = _draw_mask(x.shape, p if training else 0.0, rng, first)
    y = _into(out, _mask(x, keep, scale))
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
    return _into(out, _mask(dy, saved.keep, saved.scale))


def channel_sum(x: Array, *, channel_axis: int = -1, out: Array | None = None) -> Array:
    """Sum over all axes but the channel axis: the gradient of a bias.

    Parameters
    ----------
    x : array with C channels along `channel_axis`
    channel_axis : int, default -1
    out : (C,) array, optional
        Receives the result.

    Returns
    -------
    (C,) array of the type of `x`
    """
    return _into(out, x.sum(_other_axes(x, channel_axis), dtype=_wide(x)).astype(x.dtype))


# ---------------------------------------------------------------------------------------------- losses


def softmax_cross_entropy(logits: Array, labels: Array, *, out: Array | None = None) -> tuple[float, Array]:
    """Mean over the rows of -log(softmax(logits)[label]), and its gradient (softmax - onehot) / N.

    Parameters
    ----------
    logits : (N, C) array
    labels : (N,) integer array, 0 <= label < C
    out : array like `logits`, optional
        Receives the gradient; may be `logits`.

    Returns
    -------
    loss : float
        NaN for N = 0.
    dlogits : array like `logits`
    """
    rows = np.arange(len(logits))
    shifted = logits.astype(_wide(logits))
    shifted = shifted - shifted.max(axis=1, keepdims=True, initial=-np.inf)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    losses = np.log(sums)[:, 0] - shifted[rows, labels]
    dlogits = exps / sums
    dlogits[rows, labels] -= 1
    dlogits = dlogits / max(len(logits), 1)
    loss = losses.mean().item() if len(logits) else math.nan
    return loss, _into(out, dlogits.astype(logits.dtype))


# ---------------------------------------------------------------------------------------------- optimizers


def _clip_factor(grads: Sequence[Array], clip_norm: float | None) -> tuple[float | None, float]:
    """Norm of all gradients together, and the factor that brings it down to `clip_norm`."""
    if clip_norm is None:
        return None, 1.0
    norm = math.sqrt(sum(np.square(g.astype(_wide(g))).sum().item() for g in grads))
    return norm, float(np.minimum(1.0, clip_norm / (norm + 1e-6)))  # np.minimum: NaN stays NaN


def _flush(moment: Array) -> Array:
    """Denormals to zero, as they would slow down every later step."""
    return np.where(np.abs(moment) < np.finfo(moment.dtype).tiny, moment.dtype.type(0), moment)


def sgd_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    momentum_buffers: Sequence[Array] | None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    first_step: bool = False,
    clip_norm: float | None = None,
) -> float | None:
    """Stochastic gradient descent, in place, in the form of `torch.optim.SGD`.

    ::

        g   = grad * clip + weight_decay * param
        buf = g at the first step, else momentum * buf + (1 - dampening) * g
        d   = g + momentum * buf with nesterov, else buf             (g without momentum)
        param = param - lr * d

    where clip = min(1, clip_norm / (norm + 1e-6)), norm being the 2-norm of all gradients together.

    Parameters
    ----------
    params, grads : sequences of arrays, equal shapes pairwise
    momentum_buffers : sequence of arrays like `params`, or None without momentum
    lr : float
    momentum, dampening, weight_decay : float, default 0
    nesterov : bool, default False
    first_step : bool, default False
        Start the momentum buffers from the gradient; their content is not read.
    clip_norm : float, optional

    Returns
    -------
    float or None
        The norm before clipping, if `clip_norm` is given.
    """
    norm, clip = _clip_factor(grads, clip_norm)
    for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
        g = grad * clip + weight_decay * param
        if momentum_buffers is not None and momentum != 0:
            buf = momentum_buffers[i]
            buf[...] = _flush(g if first_step else momentum * buf + (1 - dampening) * g)
            g = g + momentum * buf if nesterov else buf
        param -= lr * g
    return norm


def adam_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    exp_avgs: Sequence[Array],
    exp_avg_sqs: Sequence[Array],
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    bias_correction1: float = 1.0,
    bias_correction2: float = 1.0,
    clip_norm: float | None = None,
) -> float | None:
    """Adam, or AdamW with ``decoupled=True``, in place.

    ::

        g = grad * clip                                              (+ weight_decay * param unless decoupled)
        param = param * (1 - lr * weight_decay)                      (only if decoupled)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        param = param - lr / bias_correction1 * m / (sqrt(v) / sqrt(bias_correction2) + eps)

    Moments below the smallest normal number become 0.  clip is as in `sgd_step`.

    D. P. Kingma, J. Ba: Adam (ICLR 2015); I. Loshchilov, F. Hutter: Decoupled weight decay regularization
    (ICLR 2019).

    Parameters
    ----------
    params, grads, exp_avgs, exp_avg_sqs : sequences of arrays, equal shapes at each index
    lr : float
    beta1, beta2 : float, default 0.9 and 0.999
    eps : float, default 1e-8
    weight_decay : float, default 0
    decoupled : bool, default False
    bias_correction1, bias_correction2 : float, default 1
        ``1 - beta ** step``, kept by the caller as running products.
    clip_norm : float, optional

    Returns
    -------
    float or None
        The norm before clipping, if `clip_norm` is given.
    """
    norm, clip = _clip_factor(grads, clip_norm)
    for param, grad, m, v in zip(params, grads, exp_avgs, exp_avg_sqs, strict=True):
        g = grad * clip
        if decoupled:
            param *= 1 - lr * weight_decay
        else:
            g = g + weight_decay * param
        m[...] = _flush(beta1 * m + (1 - beta1) * g)
        v[...] = _flush(beta2 * v + (1 - beta2) * (g * g))
        param -= (lr / bias_correction1) * (m / (np.sqrt(v) * (1 / math.sqrt(bias_correction2)) + eps))
    return norm
