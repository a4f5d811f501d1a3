"""The functions of Stanford's course CS231n, on the kernels: its assignments run with one import changed.

Instead of ``from cs231n.layers import *``, ``from cs231n.layer_utils import *`` and ``from cs231n import optim``::

    from fastnn.compat.cs231n import *
    from fastnn.compat import cs231n as optim

Conventions are the course's: weights are (inputs, outputs), a forward function returns ``(out, cache)``, its backward
function ``(dx, dw, db)`` from ``(dout, cache)``, update rules ``(next_w, config)`` from ``(w, dw, config)``, and
dropout's `p` is the probability to KEEP an element.  A cache is to be passed on, not looked into: kernels keep less
than the course's formulas do.  Layers compute in float32 if all arrays are, else in float64.

Two things are not the course's.  Dropout's random numbers are those of `fastnn.random`, so a mask is another one than
NumPy's, with the same distribution; a `seed` fixes it all the same.  And the state in `config` is updated in place.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn import functional as F
from fastnn.random import Generator

__all__ = [
    "adam",
    "affine_backward",
    "affine_forward",
    "affine_relu_backward",
    "affine_relu_forward",
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_forward",
    "conv_backward_fast",
    "conv_backward_naive",
    "conv_bn_relu_backward",
    "conv_bn_relu_forward",
    "conv_forward_fast",
    "conv_forward_naive",
    "conv_relu_backward",
    "conv_relu_forward",
    "conv_relu_pool_backward",
    "conv_relu_pool_forward",
    "dropout_backward",
    "dropout_forward",
    "layernorm_backward",
    "layernorm_forward",
    "max_pool_backward_fast",
    "max_pool_backward_naive",
    "max_pool_forward_fast",
    "max_pool_forward_naive",
    "relu_backward",
    "relu_forward",
    "rmsprop",
    "sgd",
    "sgd_momentum",
    "softmax_loss",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
    "spatial_groupnorm_backward",
    "spatial_groupnorm_forward",
    "svm_loss",
]

Array: TypeAlias = NDArray[Any]
Config: TypeAlias = dict[str, Any]


def _floats(*arrays: Any) -> tuple[Array, ...]:
    """The arrays in their common type: float32 or float64."""
    dtype = np.result_type(np.float32, *(np.asarray(array).dtype for array in arrays))
    return tuple(np.asarray(array, dtype) for array in arrays)


def _mode(param: Config) -> bool:
    """Whether `param` says to train."""
    mode = param["mode"]
    if mode not in ("train", "test"):
        raise ValueError(f"mode: expected 'train' or 'test', got {mode!r}")
    return bool(mode == "train")


# -------------------------------------------------------------------------------------------------- affine, activation


def affine_forward(x: Array, w: Array, b: Array) -> tuple[Array, Any]:
    """out = x.reshape(N, D) @ w + b.

    Parameters
    ----------
    x : (N, d_1, ..., d_k) array
        D = d_1 * ... * d_k.
    w : (D, M) array
    b : (M,) array

    Returns
    -------
    out : (N, M) array
    cache
    """
    x, w, b = _floats(x, w, b)
    z = x.reshape(len(x), -1) @ w
    return F.bias_act(z, b, training=False, out=z)[0], (x, w)


def affine_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients of `affine_forward`.

    Parameters
    ----------
    dout : (N, M) array
    cache : of the forward pass

    Returns
    -------
    dx, dw, db : arrays like x, w and b
    """
    x, w = cache
    dout = np.asarray(dout, x.dtype)
    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, F.channel_sum(dout, channel_axis=-1)


def relu_forward(x: Array) -> tuple[Array, Any]:
    """out = max(0, x).

    Parameters
    ----------
    x : array, any shape

    Returns
    -------
    out : array like `x`
    cache
    """
    (x,) = _floats(x)
    return F.relu(x), x


def relu_backward(dout: Array, cache: Any) -> Array:
    """Gradient of `relu_forward`.

    Parameters
    ----------
    dout : array like the output
    cache : of the forward pass

    Returns
    -------
    dx : array like `dout`
    """
    dx: Array = F.relu_backward(np.asarray(dout, cache.dtype), cache)
    return dx


def affine_relu_forward(x: Array, w: Array, b: Array) -> tuple[Array, Any]:
    """`affine_forward`, then `relu_forward`: bias and ReLU in one pass.

    Parameters
    ----------
    x, w, b : as in `affine_forward`

    Returns
    -------
    out : (N, M) array
    cache
    """
    x, w, b = _floats(x, w, b)
    z = x.reshape(len(x), -1) @ w
    out, saved = F.bias_act(z, b, activation="relu", out=z)
    return out, (x, w, saved)


def affine_relu_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients of `affine_relu_forward`.

    Parameters
    ----------
    dout : (N, M) array
    cache : of the forward pass

    Returns
    -------
    dx, dw, db : arrays like x, w and b
    """
    x, w, saved = cache
    dz, db = F.bias_act_backward(np.asarray(dout, x.dtype), saved)
    assert dz is not None and db is not None
    return (dz @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dz, db


# --------------------------------------------------------------------------------------------------------------- norms


def _batchnorm(x: Array, gamma: Array, beta: Array, bn_param: Config, **epilogue: Any) -> tuple[Array, Any]:
    training = _mode(bn_param)
    x, gamma, beta = _floats(x, gamma, beta)
    mean = np.array(bn_param.get("running_mean", np.zeros(len(gamma))), x.dtype)
    var = np.array(bn_param.get("running_var", np.zeros(len(gamma))), x.dtype)
    y, saved = F.batch_norm(
        x,
        mean,
        var,
        gamma,
        beta,
        training,
        bn_param.get("momentum", 0.9),
        bn_param.get("eps", 1e-5),
        momentum_convention="keras",
        running_ddof=0,
        nonfinite="allow",
        **epilogue,
    )
    bn_param["running_mean"], bn_param["running_var"] = mean, var
    return y, saved and (saved, x.dtype)


def batchnorm_forward(x: Array, gamma: Array, beta: Array, bn_param: Config) -> tuple[Array, Any]:
    """Batch normalisation of columns.

    Parameters
    ----------
    x : (N, D) array
    gamma, beta : (D,) arrays
    bn_param : dict
        ``mode`` "train" or "test"; ``eps``, default 1e-5; ``momentum``, default 0.9, what the OLD running statistics
        weigh; ``running_mean`` and ``running_var``, of the biased variance, which start at 0 and are replaced here.

    Returns
    -------
    out : (N, D) array
    cache
        None in mode "test".
    """
    return _batchnorm(x, gamma, beta, bn_param)


def batchnorm_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients of `batchnorm_forward`.

    Parameters
    ----------
    dout : (N, D) array
    cache : of the forward pass

    Returns
    -------
    dx : (N, D) array
    dgamma, dbeta : (D,) arrays
    """
    saved, dtype = cache
    dx, dgamma, dbeta = F.batch_norm_backward(np.asarray(dout, dtype), saved)
    return dx, dgamma, dbeta


def batchnorm_backward_alt(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """`batchnorm_backward`, which is simplified already.

    Parameters
    ----------
    dout, cache : as in `batchnorm_backward`

    Returns
    -------
    dx, dgamma, dbeta : arrays
    """
    return batchnorm_backward(dout, cache)


def spatial_batchnorm_forward(x: Array, gamma: Array, beta: Array, bn_param: Config) -> tuple[Array, Any]:
    """Batch normalisation of channels.

    Parameters
    ----------
    x : (N, C, H, W) array
    gamma, beta : (C,) arrays
    bn_param : dict
        As in `batchnorm_forward`.

    Returns
    -------
    out : (N, C, H, W) array
    cache
        None in mode "test".
    """
    return _batchnorm(x, gamma, beta, bn_param)


def spatial_batchnorm_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients of `spatial_batchnorm_forward`.

    Parameters
    ----------
    dout : (N, C, H, W) array
    cache : of the forward pass

    Returns
    -------
    dx : (N, C, H, W) array
    dgamma, dbeta : (C,) arrays
    """
    return batchnorm_backward(dout, cache)


def layernorm_forward(x: Array, gamma: Array, beta: Array, ln_param: Config) -> tuple[Array, Any]:
    """Layer normalisation of rows.

    Parameters
    ----------
    x : (N, D) array
    gamma, beta : (D,) arrays
    ln_param : dict
        ``eps``, default 1e-5.

    Returns
    -------
    out : (N, D) array
    cache
    """
    x, gamma, beta = _floats(x, gamma, beta)
    out, saved = F.layer_norm(x, x.shape[-1], gamma, beta, ln_param.get("eps", 1e-5))
    return out, (saved, x.dtype)


def layernorm_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients of `layernorm_forward`.

    Parameters
    ----------
    dout : (N, D) array
    cache : of the forward pass

    Returns
    -------
    dx : (N, D) array
    dgamma, dbeta : (D,) arrays
    """
    saved, dtype = cache
    dx, dgamma, dbeta = F.layer_norm_backward(np.asarray(dout, dtype), saved)
    return dx, dgamma, dbeta


def spatial_groupnorm_forward(x: Array, gamma: Array, beta: Array, G: int, gn_param: Config) -> tuple[Array, Any]:
    """Group normalisation.

    Parameters
    ----------
    x : (N, C, H, W) array
    gamma, beta : (1, C, 1, 1) or (C,) arrays
    G : int
        Number of groups, which divides C.
    gn_param : dict
        ``eps``, default 1e-5.

    Returns
    -------
    out : (N, C, H, W) array
    cache
    """
    x, gamma, beta = _floats(x, gamma, beta)
    out, saved = F.group_norm(x, G, gamma.ravel(), beta.ravel(), gn_param.get("eps", 1e-5))
    return out, (saved, x.dtype, gamma.shape)


def spatial_groupnorm_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients of `spatial_groupnorm_forward`.

    Parameters
    ----------
    dout : (N, C, H, W) array
    cache : of the forward pass

    Returns
    -------
    dx : (N, C, H, W) array
    dgamma, dbeta : arrays like gamma
    """
    saved, dtype, shape = cache
    dx, dgamma, dbeta = F.group_norm_backward(np.asarray(dout, dtype), saved)
    return dx, dgamma.reshape(shape), dbeta.reshape(shape)


# ------------------------------------------------------------------------------------------------------------- dropout


def dropout_forward(x: Array, dropout_param: Config) -> tuple[Array, Any]:
    """Inverted dropout.

    Parameters
    ----------
    x : array, any shape
    dropout_param : dict
        ``p``, the probability to KEEP an element; ``mode`` "train" or "test"; ``seed``, optional: the mask repeats.
        Without it, masks come from the generator of `fastnn.manual_seed`.

    Returns
    -------
    out : array like `x`
    cache
    """
    (x,) = _floats(x)
    seed, keep = dropout_param.get("seed"), dropout_param["p"]
    if not 0 <= keep <= 1:
        raise ValueError(f"p: expected a probability to keep an element, in [0, 1], got {keep}")
    rng = None if seed is None else Generator(seed)
    out, saved = F.dropout(x, 1 - keep, _mode(dropout_param), rng=rng)
    return out, (saved, x.dtype)


def dropout_backward(dout: Array, cache: Any) -> Array:
    """Gradient of `dropout_forward`.

    Parameters
    ----------
    dout : array like the output
    cache : of the forward pass

    Returns
    -------
    dx : array like `dout`
    """
    saved, dtype = cache
    dout = np.asarray(dout, dtype)
    return dout if saved is None else F.dropout_backward(dout, saved)


# -------------------------------------------------------------------------------------------------------------- images


def conv_forward_fast(x: Array, w: Array, b: Array, conv_param: Config) -> tuple[Array, Any]:
    """Convolution; `conv_forward_naive` is the same function.

    Parameters
    ----------
    x : (N, C, H, W) array
    w : (F, C, HH, WW) array
    b : (F,) array
    conv_param : dict
        ``stride`` and ``pad``.

    Returns
    -------
    out : (N, F, H', W') array, with H' = 1 + (H + 2 * pad - HH) // stride
    cache
    """
    x, w, b = _floats(x, w, b)
    out, saved = F.conv2d(x, w, b, conv_param["stride"], conv_param["pad"])
    return out, (saved, x.dtype)


def conv_backward_fast(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients of `conv_forward_fast`; `conv_backward_naive` is the same function.

    Parameters
    ----------
    dout : (N, F, H', W') array
    cache : of the forward pass

    Returns
    -------
    dx, dw, db : arrays like x, w and b
    """
    saved, dtype = cache
    dx, dw, db = F.conv2d_backward(np.asarray(dout, dtype), saved)
    assert dx is not None and db is not None
    return dx, dw, db


def max_pool_forward_fast(x: Array, pool_param: Config) -> tuple[Array, Any]:
    """Max pooling; `max_pool_forward_naive` is the same function.

    Parameters
    ----------
    x : (N, C, H, W) array
    pool_param : dict
        ``pool_height``, ``pool_width`` and ``stride``.

    Returns
    -------
    out : (N, C, H', W') array, with H' = 1 + (H - pool_height) // stride
    cache
    """
    (x,) = _floats(x)
    window = (pool_param["pool_height"], pool_param["pool_width"])
    out, saved = F.max_pool2d(x, window, pool_param["stride"])
    return out, (saved, x.dtype)


def max_pool_backward_fast(dout: Array, cache: Any) -> Array:
    """Gradient of `max_pool_forward_fast`; `max_pool_backward_naive` is the same function.

    Parameters
    ----------
    dout : (N, C, H', W') array
    cache : of the forward pass

    Returns
    -------
    dx : (N, C, H, W) array
    """
    saved, dtype = cache
    return F.max_pool2d_backward(np.asarray(dout, dtype), saved)


conv_forward_naive, conv_backward_naive = conv_forward_fast, conv_backward_fast
max_pool_forward_naive, max_pool_backward_naive = max_pool_forward_fast, max_pool_backward_fast


def conv_relu_forward(x: Array, w: Array, b: Array, conv_param: Config) -> tuple[Array, Any]:
    """`conv_forward_fast`, then `relu_forward`: bias and ReLU in one pass.

    Parameters
    ----------
    x, w, b, conv_param : as in `conv_forward_fast`

    Returns
    -------
    out : (N, F, H', W') array
    cache
    """
    x, w, b = _floats(x, w, b)
    z, saved = F.conv2d(x, w, None, conv_param["stride"], conv_param["pad"])
    out, kept = F.bias_act(z, b, activation="relu", channel_axis=1, out=z)
    return out, (saved, kept, x.dtype)


def conv_relu_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients of `conv_relu_forward`.

    Parameters
    ----------
    dout : (N, F, H', W') array
    cache : of the forward pass

    Returns
    -------
    dx, dw, db : arrays like x, w and b
    """
    saved, kept, dtype = cache
    dz, db = F.bias_act_backward(np.asarray(dout, dtype), kept)
    assert dz is not None and db is not None
    dx, dw, _ = F.conv2d_backward(dz, saved)
    assert dx is not None
    return dx, dw, db


def conv_bn_relu_forward(
    x: Array, w: Array, b: Array, gamma: Array, beta: Array, conv_param: Config, bn_param: Config
) -> tuple[Array, Any]:
    """`conv_forward_fast`, `spatial_batchnorm_forward`, then `relu_forward`: bias, norm and ReLU in one pass.

    Parameters
    ----------
    x, w, b, conv_param : as in `conv_forward_fast`
    gamma, beta, bn_param : as in `spatial_batchnorm_forward`

    Returns
    -------
    out : (N, F, H', W') array
    cache
    """
    x, w, b, gamma, beta = _floats(x, w, b, gamma, beta)
    z, saved = F.conv2d(x, w, None, conv_param["stride"], conv_param["pad"])
    out, kept = _batchnorm(z, gamma, beta, bn_param, pre_bias=b, activation="relu")
    return out, (saved, kept)


def conv_bn_relu_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array, Array, Array]:
    """Gradients of `conv_bn_relu_forward`.

    Parameters
    ----------
    dout : (N, F, H', W') array
    cache : of the forward pass

    Returns
    -------
    dx, dw, db, dgamma, dbeta : arrays like x, w, b, gamma and beta
    """
    saved, (kept, dtype) = cache
    dz, dgamma, dbeta, db = F.batch_norm_backward(np.asarray(dout, dtype), kept)
    dx, dw, _ = F.conv2d_backward(dz, saved)
    assert dx is not None
    return dx, dw, db, dgamma, dbeta


def conv_relu_pool_forward(x: Array, w: Array, b: Array, conv_param: Config, pool_param: Config) -> tuple[Array, Any]:
    """`conv_relu_forward`, then `max_pool_forward_fast`.

    Parameters
    ----------
    x, w, b, conv_param : as in `conv_forward_fast`
    pool_param : dict
        As in `max_pool_forward_fast`.

    Returns
    -------
    out : array
    cache
    """
    out, conv_cache = conv_relu_forward(x, w, b, conv_param)
    out, pool_cache = max_pool_forward_fast(out, pool_param)
    return out, (conv_cache, pool_cache)


def conv_relu_pool_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients of `conv_relu_pool_forward`.

    Parameters
    ----------
    dout : array like the output
    cache : of the forward pass

    Returns
    -------
    dx, dw, db : arrays like x, w and b
    """
    conv_cache, pool_cache = cache
    return conv_relu_backward(max_pool_backward_fast(dout, pool_cache), conv_cache)


# -------------------------------------------------------------------------------------------------------------- losses


def svm_loss(x: Array, y: Array) -> tuple[float, Array]:
    """Multi-class hinge loss with margin 1, the mean over the rows: C - 1 where all scores are equal.

    Parameters
    ----------
    x : (N, C) array of scores
    y : (N,) integer array of labels

    Returns
    -------
    loss : float
    dx : (N, C) array
    """
    (x,) = _floats(x)
    loss, dx = F.hinge_loss(x, np.asarray(y))
    return float(loss), dx


def softmax_loss(x: Array, y: Array) -> tuple[float, Array]:
    """Cross-entropy of softmax(x), the mean over the rows: ln(C) where all scores are equal.

    Parameters
    ----------
    x : (N, C) array of scores
    y : (N,) integer array of labels

    Returns
    -------
    loss : float
    dx : (N, C) array
    """
    (x,) = _floats(x)
    loss, dx = F.softmax_cross_entropy(x, np.asarray(y))
    return float(loss), dx


# -------------------------------------------------------------------------------------------------------- update rules


def _config(config: Config | None, **defaults: float) -> Config:
    config = {} if config is None else config
    for name, value in defaults.items():
        config.setdefault(name, value)
    return config


def _state(config: Config, name: str, w: Array) -> Array:
    """An array of the state, as kernels take it."""
    array = config.get(name)
    config[name] = np.zeros(w.shape, w.dtype) if array is None else np.ascontiguousarray(array, w.dtype)
    state: Array = config[name]
    return state


def _copies(w: Array, dw: Array) -> tuple[Array, Array]:
    (w,) = _floats(w)
    return np.array(w, order="C"), np.asarray(dw, w.dtype)


def sgd(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """w -= learning_rate * dw, in place, as in the course.

    Parameters
    ----------
    w : array, float32 or float64, C-contiguous
    dw : array like `w`
    config : dict, optional
        ``learning_rate``, default 1e-2.

    Returns
    -------
    w : array
        The same one.
    config : dict
    """
    config = _config(config, learning_rate=1e-2)
    F.sgd_step([w], [np.asarray(dw, w.dtype)], None, lr=config["learning_rate"])
    return w, config


def sgd_momentum(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """v = momentum * v - learning_rate * dw, next_w = w + v.

    Parameters
    ----------
    w, dw : arrays
    config : dict, optional
        ``learning_rate``, default 1e-2; ``momentum``, default 0.9; ``velocity``, which starts at 0.

    Returns
    -------
    next_w : array like `w`
    config : dict
    """
    config = _config(config, learning_rate=1e-2, momentum=0.9)
    w, dw = _copies(w, dw)
    F.sgd_step(
        [w],
        [dw],
        [_state(config, "velocity", w)],
        lr=config["learning_rate"],
        momentum=config["momentum"],
        form="lr_inside",
    )
    return w, config


def rmsprop(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """cache = decay_rate * cache + (1 - decay_rate) * dw**2, next_w = w - learning_rate * dw / (sqrt(cache) + epsilon).

    Parameters
    ----------
    w, dw : arrays
    config : dict, optional
        ``learning_rate``, default 1e-2; ``decay_rate``, default 0.99; ``epsilon``, default 1e-8; ``cache``, which
        starts at 0.

    Returns
    -------
    next_w : array like `w`
    config : dict
    """
    config = _config(config, learning_rate=1e-2, decay_rate=0.99, epsilon=1e-8)
    w, dw = _copies(w, dw)
    F.rmsprop_step(
        [w],
        [dw],
        [_state(config, "cache", w)],
        lr=config["learning_rate"],
        alpha=config["decay_rate"],
        eps=config["epsilon"],
    )
    return w, config


def adam(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Adam with bias correction: m and v average dw and dw**2, next_w = w - learning_rate * m' / (sqrt(v') + epsilon).

    Parameters
    ----------
    w, dw : arrays
    config : dict, optional
        ``learning_rate``, default 1e-3; ``beta1``, default 0.9; ``beta2``, default 0.999; ``epsilon``, default 1e-8;
        ``m`` and ``v``, which start at 0; ``t``, the number of steps taken.

    Returns
    -------
    next_w : array like `w`
    config : dict
    """
    config = _config(config, learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, t=0)
    w, dw = _copies(w, dw)
    config["t"] += 1
    F.adam_step(
        [w],
        [dw],
        [_state(config, "m", w)],
        [_state(config, "v", w)],
        lr=config["learning_rate"],
        beta1=config["beta1"],
        beta2=config["beta2"],
        eps=config["epsilon"],
        bias_correction1=1 - config["beta1"] ** config["t"],
        bias_correction2=1 - config["beta2"] ** config["t"],
    )
    return w, config
