"""Initial values of weights, under the names of `torch.nn.init`.

Every function takes what is to be filled, an array or a `Parameter`, or the shape of a new array, and returns the
array.  Random ones take `rng`: a seed or a `numpy.random.Generator`, which make the values repeat, or a
`fastnn.Generator`, of which one position is drawn; without, that of `fastnn.manual_seed`::

    w = init.kaiming_normal((256, 784), rng=0)
    init.xavier_uniform(layer.weight, rng=np.random.default_rng(0))
    net.init("kaiming_normal", bias=0.01, rng=0)
    layer = Linear(784, 256, weight_init=partial(init.normal, std=0.01), bias_init=0)

A weight is (n_out, n_in) or (n_out, n_in, kh, kw), as layers have it.  Of an array for ``x @ w``, which is (n_in,
n_out), say ``out_axis=-1``.  A window of kh x kw pixels multiplies both numbers: fan_in = n_in * kh * kw.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn import random
from fastnn._checks import check_dtype, check_index, check_number, check_size

if TYPE_CHECKING:
    from fastnn.layers.module import Parameter

__all__ = [
    "calculate_gain",
    "constant",
    "fan_in_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "orthogonal",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Array: TypeAlias = NDArray[Any]
Target: TypeAlias = "Array | Parameter | int | tuple[int, ...]"
Rng: TypeAlias = "int | np.random.Generator | random.Generator | None"
Init: TypeAlias = "str | float | Callable[..., Any]"

_BY_NAME = tuple(name for name in __all__ if name != "calculate_gain")


def numpy_generator(rng: Rng) -> np.random.Generator:
    """The generator of NumPy that `rng` stands for; its global state is never touched."""
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is None or isinstance(rng, random.Generator):
        return np.random.Generator(np.random.PCG64((random.default_generator if rng is None else rng).draw()))
    if (seed := check_index("rng", rng)) < 0:
        raise ValueError(f"rng: expected a seed of at least 0, got {seed}")
    return np.random.default_rng(seed)


def _initializer(argument: str, init: Init) -> Callable[..., Any]:
    """The function that fills an array as ``init(array, rng=generator)``, of its name, a number or itself."""
    if callable(init):
        return init
    if isinstance(init, str):
        if init not in _BY_NAME:
            raise ValueError(f"{argument}: expected one of {', '.join(map(repr, _BY_NAME))}, got {init!r}")
        function: Callable[..., Any] = globals()[init]
        return function
    check_number(argument, init)
    return partial(constant, val=init)


def fill(
    weight: Parameter,
    bias: Parameter | None,
    weight_init: Init | None,
    bias_init: Init | None,
    rng: np.random.Generator,
) -> None:
    """Start a product and its bias; None: as torch does, `fan_in_uniform` with the fan_in of the weight for both."""
    fills_weight = _initializer("weight_init", "fan_in_uniform" if weight_init is None else weight_init)
    if bias_init is None:
        fills_bias: Callable[..., Any] = partial(fan_in_uniform, fan_in=_fans(weight.data, 0)[0])
    else:
        fills_bias = _initializer("bias_init", bias_init)
    fills_weight(weight.data, rng=rng)
    if bias is not None:
        fills_bias(bias.data, rng=rng)


# ------------------------------------------------------------------------------------------------------- what is filled


def _target(target: Target, dtype: DTypeLike) -> Array:
    if isinstance(target, (int, np.integer, tuple, list)):
        return np.empty(target, check_dtype(dtype))
    array = target if isinstance(target, np.ndarray) else getattr(target, "data", None)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"target: expected an array, a Parameter or a shape, got {target!r}")
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"target: expected float32 or float64, got {array.dtype}")
    if not array.flags.writeable:
        raise ValueError("target: expected an array that can be written, got a read-only one")
    return array


def _fans(array: Array, out_axis: int) -> tuple[int, int]:
    """Inputs of one output, and outputs of one input."""
    if array.ndim < 2:
        raise ValueError(f"target: expected a weight with at least 2 axes, got shape {array.shape}")
    if out_axis not in (0, -1):
        raise ValueError(f"out_axis: expected 0 or -1, got {out_axis!r}")
    n_out, n_in = (array.shape[0], array.shape[1]) if out_axis == 0 else (array.shape[-1], array.shape[-2])
    window = array.size // (n_out * n_in) if n_out * n_in else 1
    return n_in * window, n_out * window


def _scaled(
    target: Target, gain: float, mode: str, distribution: str, rng: Rng, out_axis: int, dtype: DTypeLike
) -> Array:
    """Values of mean 0 and standard deviation gain / sqrt(fan): what all schemes come down to."""
    check_number("gain", gain)
    array = _target(target, dtype)
    fan_in, fan_out = _fans(array, out_axis)
    fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    if mode not in fans:
        raise ValueError(f"mode: expected 'fan_in', 'fan_out' or 'fan_avg', got {mode!r}")
    std = gain / math.sqrt(max(fans[mode], 1))
    if distribution == "normal":
        return normal(array, 0.0, std, rng=rng)
    return uniform(array, -math.sqrt(3) * std, math.sqrt(3) * std, rng=rng)


# ------------------------------------------------------------------------------------------------------ plain fillings


def constant(target: Target, val: float = 0.0, *, rng: Rng = None, dtype: DTypeLike = np.float32) -> Array:
    """All values the same; units that start alike stay alike, so this is for biases.

    A small positive bias, 0.01, lets each ReLU pass something at first.

    Parameters
    ----------
    target : array, Parameter or shape
        Filled in place; of a shape, a new array is made.
    val : float, default 0
    rng : ignored
    dtype : float32 or float64, default float32
        Of a new array.

    Returns
    -------
    array

    Raises
    ------
    TypeError, ValueError
        For what is neither a writeable float array nor a shape.
    """
    check_number("val", val)
    array = _target(target, dtype)
    array[...] = val
    return array


def zeros(target: Target, *, rng: Rng = None, dtype: DTypeLike = np.float32) -> Array:
    """All values 0: `constant`.

    Parameters
    ----------
    target, rng, dtype : as in `constant`

    Returns
    -------
    array
    """
    return constant(target, 0.0, dtype=dtype)


def normal(
    target: Target, mean: float = 0.0, std: float = 1.0, *, rng: Rng = None, dtype: DTypeLike = np.float32
) -> Array:
    """Normally distributed values, whatever the number of inputs: with a small `std` the signal of a deep network
    vanishes, with a large one tanh saturates.

    Parameters
    ----------
    target : array, Parameter or shape
        Filled in place; of a shape, a new array is made.
    mean : float, default 0
    std : float, default 1
        At least 0.
    rng : int, numpy.random.Generator or fastnn.Generator, optional
    dtype : float32 or float64, default float32
        Of a new array.

    Returns
    -------
    array

    Raises
    ------
    TypeError, ValueError
        For what is neither a writeable float array nor a shape, or a negative `std`.
    """
    check_number("mean", mean)
    check_number("std", std)
    if not std >= 0:
        raise ValueError(f"std: expected a number of at least 0, got {std}")
    array = _target(target, dtype)
    array[...] = numpy_generator(rng).normal(mean, std, array.shape)
    return array


def uniform(target: Target, a: float = 0.0, b: float = 1.0, *, rng: Rng = None, dtype: DTypeLike = np.float32) -> Array:
    """Uniformly distributed values in [a, b).

    Parameters
    ----------
    target : array, Parameter or shape
        Filled in place; of a shape, a new array is made.
    a : float, default 0
    b : float, default 1
        At least `a`.
    rng : int, numpy.random.Generator or fastnn.Generator, optional
    dtype : float32 or float64, default float32
        Of a new array.

    Returns
    -------
    array

    Raises
    ------
    TypeError, ValueError
        For what is neither a writeable float array nor a shape, or b < a.
    """
    check_number("a", a)
    check_number("b", b)
    if not b >= a:
        raise ValueError(f"b: expected a number of at least a = {a}, got {b}")
    array = _target(target, dtype)
    array[...] = numpy_generator(rng).uniform(a, b, array.shape)
    return array


# ------------------------------------------------------------------------------------- scaled by the number of inputs


def fan_in_uniform(
    target: Target, *, fan_in: int | None = None, rng: Rng = None, out_axis: int = 0, dtype: DTypeLike = np.float32
) -> Array:
    """Uniform within 1 / sqrt(fan_in) of 0: where `Linear`, `Conv2d` and their biases start, as in torch.

    The standard deviation is 1 / sqrt(3 fan_in), that of ``kaiming_uniform(a=sqrt(5))``.

    Parameters
    ----------
    target : array, Parameter or shape
        Filled in place; of a shape, a new array is made.
    fan_in : int, optional
        Inputs of one output.  Default: taken from the shape; a bias does not know it.
    rng : int, numpy.random.Generator or fastnn.Generator, optional
    out_axis : {0, -1}, default 0
        Axis of the outputs.
    dtype : float32 or float64, default float32
        Of a new array.

    Returns
    -------
    array

    Raises
    ------
    TypeError, ValueError
        For what is neither a writeable float array nor a shape, a bias without `fan_in`, or one that is no number of
        inputs.
    """
    array = _target(target, dtype)
    fan_in = _fans(array, out_axis)[0] if fan_in is None else check_size("fan_in", fan_in, 0)
    bound = 1 / math.sqrt(max(fan_in, 1))
    return uniform(array, -bound, bound, rng=rng)


def lecun_normal(
    target: Target, gain: float = 1.0, *, rng: Rng = None, out_axis: int = 0, dtype: DTypeLike = np.float32
) -> Array:
    """Normal with standard deviation gain / sqrt(fan_in): the calibrated variance, for inputs of variance 1 and
    outputs of the same.

    Y. LeCun et al.: Efficient backprop (1998).  This is what ``rng.standard_normal((n_in, n_out)) / sqrt(n_in)`` gives,
    often called Xavier's; `selu` is made for it.

    Parameters
    ----------
    target : array, Parameter or shape
        Filled in place; of a shape, a new array is made.
    gain : float, default 1
        See `calculate_gain`.
    rng : int, numpy.random.Generator or fastnn.Generator, optional
    out_axis : {0, -1}, default 0
        Axis of the outputs.
    dtype : float32 or float64, default float32
        Of a new array.

    Returns
    -------
    array

    Raises
    ------
    TypeError, ValueError
        For what is neither a writeable float array nor a shape, or a shape with fewer than 2 axes.
    """
    return _scaled(target, gain, "fan_in", "normal", rng, out_axis, dtype)


def lecun_uniform(
    target: Target, gain: float = 1.0, *, rng: Rng = None, out_axis: int = 0, dtype: DTypeLike = np.float32
) -> Array:
    """Uniform within gain * sqrt(3 / fan_in) of 0: the variance of `lecun_normal`.

    Parameters
    ----------
    target, gain, rng, out_axis, dtype : as in `lecun_normal`

    Returns
    -------
    array
    """
    return _scaled(target, gain, "fan_in", "uniform", rng, out_axis, dtype)


def xavier_normal(
    target: Target,
    gain: float = 1.0,
    *,
    mode: str = "fan_avg",
    rng: Rng = None,
    out_axis: int = 0,
    dtype: DTypeLike = np.float32,
) -> Array:
    """Normal with standard deviation gain * sqrt(2 / (fan_in + fan_out)): forward signals and gradients both keep
    their variance, nearly.  For tanh.

    X. Glorot, Y. Bengio: Understanding the difficulty of training deep feedforward neural networks (AISTATS 2010), as
    `torch.nn.init.xavier_normal_`.  With ``mode="fan_in"`` gain / sqrt(fan_in), the form without fan_out.

    Parameters
    ----------
    target : array, Parameter or shape
        Filled in place; of a shape, a new array is made.
    gain : float, default 1
        See `calculate_gain`.
    mode : {"fan_avg", "fan_in", "fan_out"}, default "fan_avg"
        Whose number divides the variance.
    rng : int, numpy.random.Generator or fastnn.Generator, optional
    out_axis : {0, -1}, default 0
        Axis of the outputs.
    dtype : float32 or float64, default float32
        Of a new array.

    Returns
    -------
    array

    Raises
    ------
    TypeError, ValueError
        For what is neither a writeable float array nor a shape, a shape with fewer than 2 axes, or another `mode`.
    """
    return _scaled(target, gain, mode, "normal", rng, out_axis, dtype)


def xavier_uniform(
    target: Target,
    gain: float = 1.0,
    *,
    mode: str = "fan_avg",
    rng: Rng = None,
    out_axis: int = 0,
    dtype: DTypeLike = np.float32,
) -> Array:
    """Uniform within gain * sqrt(6 / (fan_in + fan_out)) of 0: the variance of `xavier_normal`.

    Parameters
    ----------
    target, gain, mode, rng, out_axis, dtype : as in `xavier_normal`

    Returns
    -------
    array
    """
    return _scaled(target, gain, mode, "uniform", rng, out_axis, dtype)


def kaiming_normal(
    target: Target,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    rng: Rng = None,
    out_axis: int = 0,
    dtype: DTypeLike = np.float32,
) -> Array:
    """Normal with standard deviation gain / sqrt(fan_in), which for ReLU is sqrt(2 / fan_in): it makes up for the half
    that ReLU takes away.

    K. He et al.: Delving deep into rectifiers (ICCV 2015), also called He's or MSRA; as
    `torch.nn.init.kaiming_normal_`.

    Parameters
    ----------
    target : array, Parameter or shape
        Filled in place; of a shape, a new array is made.
    a : float, default 0
        Slope below 0 of the rectifier that follows.
    mode : {"fan_in", "fan_out", "fan_avg"}, default "fan_in"
        "fan_out" keeps the variance of gradients.
    nonlinearity : str, default "leaky_relu"
        What follows: gain is ``calculate_gain(nonlinearity, a)``.
    rng : int, numpy.random.Generator or fastnn.Generator, optional
    out_axis : {0, -1}, default 0
        Axis of the outputs.
    dtype : float32 or float64, default float32
        Of a new array.

    Returns
    -------
    array

    Raises
    ------
    TypeError, ValueError
        For what is neither a writeable float array nor a shape, a shape with fewer than 2 axes, another `mode` or an
        unknown `nonlinearity`.
    """
    return _scaled(target, calculate_gain(nonlinearity, a), mode, "normal", rng, out_axis, dtype)


def kaiming_uniform(
    target: Target,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    rng: Rng = None,
    out_axis: int = 0,
    dtype: DTypeLike = np.float32,
) -> Array:
    """Uniform within gain * sqrt(3 / fan_in) of 0: the variance of `kaiming_normal`.

    Parameters
    ----------
    target, a, mode, nonlinearity, rng, out_axis, dtype : as in `kaiming_normal`

    Returns
    -------
    array
    """
    return _scaled(target, calculate_gain(nonlinearity, a), mode, "uniform", rng, out_axis, dtype)


def orthogonal(
    target: Target, gain: float = 1.0, *, rng: Rng = None, out_axis: int = 0, dtype: DTypeLike = np.float32
) -> Array:
    """Rows, or columns if they are fewer, that are orthogonal and of length `gain`, uniformly distributed.

    A. Saxe et al.: Exact solutions to the nonlinear dynamics of learning in deep linear neural networks (ICLR 2014),
    as `torch.nn.init.orthogonal_`: the factor Q of a normal matrix, with the signs of the diagonal of R.

    Parameters
    ----------
    target : array, Parameter or shape
        Filled in place; of a shape, a new array is made.  Windows of `Conv2d` count as rows of all their numbers.
    gain : float, default 1
    rng : int, numpy.random.Generator or fastnn.Generator, optional
    out_axis : {0, -1}, default 0
        Axis of the outputs.
    dtype : float32 or float64, default float32
        Of a new array.

    Returns
    -------
    array

    Raises
    ------
    TypeError, ValueError
        For what is neither a writeable float array nor a shape, or a shape with fewer than 2 axes.
    """
    check_number("gain", gain)
    array = _target(target, dtype)
    _fans(array, out_axis)
    rows = array.shape[out_axis]
    columns = array.size // rows if rows else 0
    matrix = numpy_generator(rng).standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(matrix)
    q *= gain * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    if rows < columns:
        q = q.T  # (rows, columns)
    array[...] = q.reshape(array.shape) if out_axis == 0 else q.T.reshape(array.shape)
    return array


# ---------------------------------------------------------------------------------------------------------------- gain

_TORCH_GAINS: dict[str, float] = {
    "linear": 1.0,
    "conv2d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "selu": 3 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """What weights are to be multiplied by for an activation that makes the signal smaller.

    As `torch.nn.init.calculate_gain` for the names that it knows: "linear", "conv2d" and "sigmoid" 1, "tanh" 5 / 3,
    "relu" sqrt(2), "leaky_relu" sqrt(2 / (1 + slope**2)), "selu" 3 / 4.  For every other activation f of fastnn,
    1 / sqrt(E[f(z)**2]) with z normal: the next product then has variance 1 again.

    Parameters
    ----------
    nonlinearity : str
        Name of an activation, such as "gelu"; "linear" or "conv2d" for none.
    param : float, optional
        Slope below 0 of "leaky_relu", default 0.01.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        For an unknown name.
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        check_number("param", slope)
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity in _TORCH_GAINS:
        return _TORCH_GAINS[nonlinearity]
    from fastnn import functional

    names = functional.activations.ACTIVATIONS
    if nonlinearity not in names:
        raise ValueError(f"nonlinearity: expected one of {', '.join({**_TORCH_GAINS, **names})}, got {nonlinearity!r}")
    z = np.linspace(-12, 12, 24001)
    y = getattr(functional, nonlinearity)(z)
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return float(1 / math.sqrt((y * y * density).sum() * (z[1] - z[0])))
