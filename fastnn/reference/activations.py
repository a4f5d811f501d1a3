"""Elementwise activations."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from fastnn.reference.base import Array, into

__all__ = [
    "celu",
    "celu_backward",
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "gelu_tanh",
    "gelu_tanh_backward",
    "hardsigmoid",
    "hardsigmoid_backward",
    "hardswish",
    "hardswish_backward",
    "hardtanh",
    "hardtanh_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "logsigmoid",
    "logsigmoid_backward",
    "mish",
    "mish_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "selu",
    "selu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softplus",
    "softplus_backward",
    "softsign",
    "softsign_backward",
    "tanh",
    "tanh_backward",
    "threshold",
    "threshold_backward",
]

_WIDEST = np.longdouble
_PI = _WIDEST("3.14159265358979323846264338327950288")


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
    return into(out, np.where(x <= 0, x.dtype.type(0), x))


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
    return into(out, np.where(x <= 0, dy.dtype.type(0), dy))


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
    return into(out, np.where(x > 0, x, x * x.dtype.type(negative_slope)))


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
    return into(out, np.where(x > 0, dy, dy * dy.dtype.type(negative_slope)))


_Function = TypeVar("_Function", bound=Callable[..., Any])


def _elementwise(function: _Function) -> _Function:
    """Adds to the docstring of an activation or its gradient what is the same for all."""
    parameters = inspect.signature(function).parameters
    own = "".join(
        f"    {p.name} : {type(p.default).__name__}, default {p.default!r}\n"
        for p in parameters.values()
        if type(p.default) in (float, str)
    )
    if "dy" in parameters:
        first, places = "dy", "`dy` or `x`"
        arrays = "    dy : array, gradient of the output\n    x : array like `dy`, the input\n"
    else:
        first, places = "x", "`x`"
        arrays = "    x : array of any shape\n"
    if "output" in parameters:
        own += "    output : bool, default False\n        `x` is the output of the forward op.\n"
    function.__doc__ = (
        f"{function.__doc__}\n\n    Parameters\n    ----------\n{arrays}{own}"
        f"    out : array like `{first}`, optional\n        Receives the result; may be {places}.\n\n"
        f"    Returns\n    -------\n    array like `{first}`\n    "
    )
    return function


def _finite(x: Array) -> Array:
    """`x` without infinities: the functions below, or their slopes, have reached their limits long before."""
    return np.clip(x, -20000, 20000)


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    y: Array = np.where(x < 0, e, 1) / (1 + e)
    return y


def _log1p_exp(x: Array) -> Array:
    y: Array = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return y


@_elementwise
def sigmoid(x: Array, *, out: Array | None = None) -> Array:
    """y = 1 / (1 + exp(-x))."""
    return into(out, _sigmoid(x))


@_elementwise
def sigmoid_backward(dy: Array, x: Array, *, output: bool = False, out: Array | None = None) -> Array:
    """dx = dy * y * (1 - y)."""
    y = x if output else _sigmoid(x)
    return into(out, dy * ((1 - y) * y))


@_elementwise
def tanh(x: Array, *, out: Array | None = None) -> Array:
    """y = tanh(x)."""
    return into(out, np.tanh(x))


@_elementwise
def tanh_backward(dy: Array, x: Array, *, output: bool = False, out: Array | None = None) -> Array:
    """dx = dy * (1 - y * y)."""
    y = x if output else np.tanh(x)
    return into(out, dy * (1 - y * y))


def _elu(x: Array, alpha: float, scale: float, width: float) -> Array:
    """scale * (x where x >= 0, else alpha * (exp(x / width) - 1))."""
    number = x.dtype.type
    below = number(scale) * number(alpha) * np.expm1(np.where(x < 0, x, 0) / number(width))
    y: Array = np.where(x < 0, below, number(scale) * x)
    return y


def _elu_backward(dy: Array, x: Array, alpha: float, scale: float, width: float) -> Array:
    """On the left, 0 included, the slope is scale * alpha / width * exp(x / width); NaN stays."""
    number = x.dtype.type
    below = number(scale) * number(alpha / width) * np.exp(np.where(x > 0, 0, x) / number(width))
    dx: Array = dy * np.where(x > 0, number(scale), below)
    return dx


@_elementwise
def elu(x: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    """y = x where x >= 0, else alpha * (exp(x) - 1).

    D.-A. Clevert, T. Unterthiner, S. Hochreiter: Fast and accurate deep network learning by exponential linear
    units (ICLR 2016).
    """
    return into(out, _elu(x, alpha, 1.0, 1.0))


@_elementwise
def elu_backward(dy: Array, x: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    """dx = dy where x > 0, else dy * alpha * exp(x)."""
    return into(out, _elu_backward(dy, x, alpha, 1.0, 1.0))


_SELU = {"scale": 1.0507009873554804934193349852946, "alpha": 1.6732632423543772848170429916717}


@_elementwise
def selu(x: Array, *, out: Array | None = None) -> Array:
    """y = scale * elu(x, alpha), with scale 1.0507... and alpha 1.6732...

    G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter: Self-normalizing neural networks (NeurIPS 2017).
    """
    return into(out, _elu(x, **_SELU, width=1.0))


@_elementwise
def selu_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """dx = dy * scale where x > 0, else dy * scale * alpha * exp(x)."""
    return into(out, _elu_backward(dy, x, **_SELU, width=1.0))


@_elementwise
def celu(x: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    """y = x where x >= 0, else alpha * (exp(x / alpha) - 1).

    J. T. Barron: Continuously differentiable exponential linear units (arXiv:1704.07483).
    """
    return into(out, _elu(x, alpha, 1.0, alpha))


@_elementwise
def celu_backward(dy: Array, x: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    """dx = dy where x > 0, else dy * exp(x / alpha)."""
    return into(out, _elu_backward(dy, x, alpha, 1.0, alpha))


def _density(x: Array) -> Array:
    """Of the normal distribution."""
    y: Array = np.exp(x * x / -2) / np.sqrt(2 * _PI).astype(x.dtype)
    return y


def _distribution(x: Array) -> Array:
    """Phi, the normal distribution: its power series between -3 and 3, beyond them Laplace's continued fraction.

    M. Abramowitz, I. A. Stegun: Handbook of mathematical functions, 26.2.11 and 26.2.14.
    """
    near = np.clip(x, -3, 3)
    term = series = near
    for n in range(3, 101, 2):
        term = term * near * near / n
        series = series + term
    far = np.maximum(np.abs(x), 3)
    fraction = far
    for n in range(90, 0, -1):
        fraction = far + n / fraction
    tail = _density(far) / fraction
    inner = x.dtype.type(0.5) + _density(near) * series
    y: Array = np.where(np.abs(x) <= 3, inner, np.where(x < 0, tail, 1 - tail))
    return np.where(np.isnan(x), x, y)


@_elementwise
def gelu(x: Array, *, approximate: str = "none", out: Array | None = None) -> Array:
    """y = x * Phi(x) = x * (1 + erf(x / sqrt(2))) / 2, Phi being the normal distribution.

    D. Hendrycks, K. Gimpel: Gaussian error linear units (arXiv:1606.08415).
    """
    if approximate == "tanh":
        return gelu_tanh(x, out=out)
    return into(out, np.where(x > 20000, x, _finite(x) * _distribution(_finite(x))))


@_elementwise
def gelu_backward(dy: Array, x: Array, *, approximate: str = "none", out: Array | None = None) -> Array:
    """dx = dy * (Phi(x) + x * phi(x)), phi being the density of the normal distribution Phi."""
    if approximate == "tanh":
        return gelu_tanh_backward(dy, x, out=out)
    x = _finite(x)
    return into(out, dy * (_distribution(x) + x * _density(x)))


def _gelu_tanh_slopes(x: Array) -> tuple[Array, Array]:
    """z = 2 * sqrt(2 / pi) * (x + 0.044715 * x**3), of which gelu_tanh is x * sigmoid(z), and dz / dx."""
    c = np.sqrt(8 / _PI).astype(x.dtype)
    cubic = x.dtype.type(_WIDEST("0.044715"))
    return c * (x + cubic * x * x * x), c * (1 + 3 * cubic * x * x)


@_elementwise
def gelu_tanh(x: Array, *, out: Array | None = None) -> Array:
    """y = x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2.

    D. Hendrycks, K. Gimpel: Gaussian error linear units (arXiv:1606.08415), its fast form.
    """
    t = _finite(x)
    return into(out, np.where(x > 20000, x, t * _sigmoid(_gelu_tanh_slopes(t)[0])))


@_elementwise
def gelu_tanh_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """dx = dy * (s + x * s * (1 - s) * dz / dx), with s = sigmoid(z) as in `gelu_tanh`."""
    x = _finite(x)
    z, slope = _gelu_tanh_slopes(x)
    return into(out, dy * (_sigmoid(z) * (1 + x * _sigmoid(-z) * slope)))


@_elementwise
def silu(x: Array, *, out: Array | None = None) -> Array:
    """y = x / (1 + exp(-x)), also called swish.

    P. Ramachandran, B. Zoph, Q. V. Le: Searching for activation functions (arXiv:1710.05941).
    """
    return into(out, np.where(x > 20000, x, _finite(x) * _sigmoid(x)))


@_elementwise
def silu_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """dx = dy * s * (1 + x * (1 - s)), with s = sigmoid(x)."""
    x = _finite(x)
    return into(out, dy * (_sigmoid(x) * (1 + x * _sigmoid(-x))))


def _mish_gate(x: Array) -> Array:
    """tanh(log(1 + e^x)) = n / (n + 2) with n = e^x (e^x + 2)."""
    e = np.exp(-np.abs(x))
    y: Array = np.where(x < 0, e * (e + 2) / (e * (e + 2) + 2), (1 + 2 * e) / (1 + 2 * e + 2 * e * e))
    return y


@_elementwise
def mish(x: Array, *, out: Array | None = None) -> Array:
    """y = x * tanh(log(1 + exp(x))).

    D. Misra: Mish: a self regularized non-monotonic activation function (BMVC 2020).
    """
    return into(out, np.where(x > 20000, x, _finite(x) * _mish_gate(x)))


@_elementwise
def mish_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """dx = dy * (t + x * (1 - t * t) * sigmoid(x)), with t = tanh(log(1 + exp(x)))."""
    x = _finite(x)
    t = _mish_gate(x)
    return into(out, dy * (t + x * (1 - t * t) * _sigmoid(x)))


@_elementwise
def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0, *, out: Array | None = None) -> Array:
    """y = log(1 + exp(beta * x)) / beta, or x where beta * x > threshold."""
    z = x * x.dtype.type(beta)
    return into(out, np.where(z > x.dtype.type(threshold), x, _log1p_exp(z) / x.dtype.type(beta)))


@_elementwise
def softplus_backward(
    dy: Array, x: Array, beta: float = 1.0, threshold: float = 20.0, *, out: Array | None = None
) -> Array:
    """dx = dy * sigmoid(beta * x), or dy where beta * x > threshold."""
    z = x * x.dtype.type(beta)
    return into(out, np.where(z > x.dtype.type(threshold), dy, dy * _sigmoid(z)))


@_elementwise
def softsign(x: Array, *, out: Array | None = None) -> Array:
    """y = x / (1 + abs(x))."""
    t = np.clip(x, -1e30, 1e30)
    return into(out, t / (1 + np.abs(t)))


@_elementwise
def softsign_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """dx = dy / (1 + abs(x))**2."""
    slope = 1 / (1 + np.abs(x))
    return into(out, dy * (slope * slope))


@_elementwise
def hardtanh(x: Array, min_val: float = -1.0, max_val: float = 1.0, *, out: Array | None = None) -> Array:
    """y = min_val where x < min_val, max_val where x > max_val, else x."""
    low, high = x.dtype.type(min_val), x.dtype.type(max_val)
    at_least = np.where(x < low, low, x)
    return into(out, np.where(at_least > high, high, at_least))


@_elementwise
def hardtanh_backward(
    dy: Array, x: Array, min_val: float = -1.0, max_val: float = 1.0, *, output: bool = False, out: Array | None = None
) -> Array:
    """dx = 0 where x <= min_val or x >= max_val, else dy.  From the output for min_val <= max_val."""
    outside = (x <= x.dtype.type(min_val)) | (x >= x.dtype.type(max_val))
    return into(out, np.where(outside, dy.dtype.type(0), dy))


@_elementwise
def relu6(x: Array, *, out: Array | None = None) -> Array:
    """y = 0 where x < 0, 6 where x > 6, else x.

    A. Krizhevsky: Convolutional deep belief networks on CIFAR-10 (2010).
    """
    return hardtanh(x, 0.0, 6.0, out=out)


@_elementwise
def relu6_backward(dy: Array, x: Array, *, output: bool = False, out: Array | None = None) -> Array:
    """dx = 0 where x <= 0 or x >= 6, else dy."""
    return hardtanh_backward(dy, x, 0.0, 6.0, out=out)


@_elementwise
def hardsigmoid(x: Array, *, out: Array | None = None) -> Array:
    """y = 0 where x <= -3, 1 where x >= 3, else (x + 3) / 6.

    M. Courbariaux, Y. Bengio, J.-P. David: BinaryConnect (NeurIPS 2015); the slope is that of PyTorch.
    """
    return into(out, hardtanh(x + 3, 0.0, 6.0) / 6)


@_elementwise
def hardsigmoid_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """dx = 0 where x <= -3 or x >= 3, else dy / 6."""
    return into(out, np.where((x <= -3) | (x >= 3), dy.dtype.type(0), dy / 6))


@_elementwise
def hardswish(x: Array, *, out: Array | None = None) -> Array:
    """y = 0 where x <= -3, x where x >= 3, else x * (x + 3) / 6.

    A. Howard et al.: Searching for MobileNetV3 (ICCV 2019).
    """
    t = np.clip(x, -3, 3)
    return into(out, np.where(x <= -3, x.dtype.type(0), np.where(x >= 3, x, t * ((t + 3) / 6))))


@_elementwise
def hardswish_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """dx = 0 where x <= -3, dy where x >= 3, else dy * (x / 3 + 1 / 2)."""
    inside = dy * (np.clip(x, -3, 3) / 3 + x.dtype.type(0.5))
    return into(out, np.where(x <= -3, dy.dtype.type(0), np.where(x >= 3, dy, inside)))


@_elementwise
def logsigmoid(x: Array, *, out: Array | None = None) -> Array:
    """y = log(sigmoid(x)) = -log(1 + exp(-x))."""
    return into(out, -_log1p_exp(-x))


@_elementwise
def logsigmoid_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """dx = dy * sigmoid(-x)."""
    return into(out, dy * _sigmoid(-x))


@_elementwise
def threshold(x: Array, threshold: float = 0.0, value: float = 0.0, *, out: Array | None = None) -> Array:
    """y = value where x <= threshold, else x.  (PyTorch has no defaults here.)"""
    return into(out, np.where(x <= x.dtype.type(threshold), x.dtype.type(value), x))


@_elementwise
def threshold_backward(
    dy: Array, x: Array, threshold: float = 0.0, value: float = 0.0, *, out: Array | None = None
) -> Array:
    """dx = 0 where x <= threshold, else dy."""
    return into(out, np.where(x <= x.dtype.type(threshold), dy.dtype.type(0), dy))
