"""The matrix product, which NumPy does, and its bias."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn import _backend, init, random
from fastnn._checks import check_array, check_size
from fastnn.functional._arrays import check_gradient
from fastnn.layers.module import Parameter
from fastnn.layers.product import Product

__all__ = ["Linear", "WeightNorm"]


def _matrix(x: NDArray[Any], columns: int) -> NDArray[Any]:
    """Leading axes as one: a layer makes one product of matrices, not one for each leading index."""
    return x if x.ndim == 2 else x.reshape(-1, columns)


class Linear(Product):
    """y = x @ weight.T + bias, as `torch.nn.Linear`.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool, default True
    dtype : float32 or float64, default float32
    weight_init, bias_init : str, number or function, optional
        Names of `fastnn.init` such as "kaiming_normal", a value for all, or ``function(array, rng=generator)``.
        Default: uniform within 1 / sqrt(in_features) of zero, as in torch (Kaiming's with a = sqrt(5)).
    rng : Generator, optional
        One position is drawn for the initial values.  Default: `fastnn.random.default_generator`.

    Attributes
    ----------
    weight : Parameter (out_features, in_features)
    bias : Parameter (out_features,), or None

    Notes
    -----
    x has the dtype of the weight and the shape (..., in_features); y has the shape (..., out_features).
    Kept for backward: x.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        weight_init: init.Init | None = None,
        bias_init: init.Init | None = None,
        rng: random.Generator | None = None,
    ) -> None:
        self.in_features = check_size("in_features", in_features)
        self.out_features = check_size("out_features", out_features)
        self._draw((self.out_features, self.in_features), bias, dtype, rng, weight_init, bias_init)

    def product(self, x: NDArray[Any]) -> tuple[NDArray[Any], Any]:
        return self._product(x, self.weight.data), x

    def product_backward(self, dz: NDArray[Any], kept: Any, accumulate: bool, need_dx: bool) -> Any:
        if not accumulate:
            self.weight.grad = None  # so that its memory is there for the new one, if nobody else holds it
        dweight, dx = self._product_backward(dz, kept, self.weight.data, need_dx)
        self.weight.set_grad(dweight, accumulate)
        return dx

    def _product(self, x: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
        """x @ weight.T as a new array."""
        x = check_array("x", x)
        if x.dtype != weight.dtype:
            raise TypeError(f"x: expected {weight.dtype}, the dtype of weight, got {x.dtype}")
        if not x.ndim or x.shape[-1] != self.in_features:
            raise ValueError(f"x: expected shape (..., {self.in_features}), got {x.shape}")
        rows = _matrix(x, self.in_features)
        z = _backend.empty((len(rows), self.out_features), x.dtype)
        rows.dot(weight.T, out=z)
        return z if x.ndim == 2 else z.reshape(*x.shape[:-1], self.out_features)

    def _product_backward(
        self, dz: NDArray[Any], x: NDArray[Any], weight: NDArray[Any], need_dx: bool
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Gradients of weight and, if needed, of x."""
        if self.bias is None:  # else the kernels have checked it
            check_gradient(dz, (*x.shape[:-1], self.out_features), x.dtype)
        dz2 = _matrix(dz, self.out_features)
        dweight = _backend.empty(weight.shape, weight.dtype)
        dz2.T.dot(_matrix(x, self.in_features), out=dweight)
        if not need_dx:
            return dweight, None
        dx = _backend.empty(x.shape, x.dtype)
        dz2.dot(weight, out=_matrix(dx, self.in_features))
        return dweight, dx

    def __repr__(self) -> str:
        return f"Linear({self.in_features}, {self.out_features}{'' if self.bias else ', bias=False'})"


def _row_sums(x: NDArray[Any]) -> NDArray[Any]:
    """(rows, 1), added on the fixed tree."""
    sums: NDArray[Any] = _backend.ops.channel_sum(x, channel_axis=0)
    return sums[:, None]


class WeightNorm(Linear):
    """`Linear` whose weight is a length and a direction for each output: w = g * v / ||v||.

    As ``torch.nn.utils.parametrizations.weight_norm(linear, dim=0)``; T. Salimans, D. P. Kingma: Weight normalization
    (2016).  With dw the gradient of w, row by row::

        dg = sum(dw * v) / ||v||
        dv = g / ||v|| * (dw - dg * v / ||v||)

    Parameters
    ----------
    layer : Linear
        Gives the initial values, w being its weight, and its bias; not to be used itself any more.

    Attributes
    ----------
    weight_g : Parameter (out_features, 1)
    weight_v : Parameter (out_features, in_features)
        Not decayed: its length does not matter.
    bias : Parameter (out_features,), or None

    Notes
    -----
    In `Sequential` it is fused as `Linear` is.  Kept for backward: x.

    Examples
    --------
    >>> net = Sequential(WeightNorm(Linear(64, 128)), ReLU(), WeightNorm(Linear(128, 10)))
    """

    def __init__(self, layer: Linear) -> None:
        if type(layer) is not Linear:
            raise TypeError(f"layer: expected Linear, got {type(layer).__name__}")
        v = layer.weight.data.copy()
        self.in_features = layer.in_features
        self.out_features = layer.out_features
        self.weight_g = Parameter(np.empty((len(v), 1), v.dtype), "weight_g")
        self.weight_v = Parameter(v, "weight_v", decay=False)
        self.bias = layer.bias
        self._set_length("layer")

    def _set_length(self, argument: str) -> None:
        """Make v the weight itself."""
        g = self._norms()
        if not g.all():
            raise ValueError(f"{argument}: expected a weight without rows of zeros, which have no direction")
        self.weight_g.data[...] = g

    def _init(self, weight: init.Init | None, bias: init.Init | None, rng: np.random.Generator) -> None:
        init.fill(self.weight_v, self.bias, weight, bias, rng)
        self._set_length("weight")

    def effective_weight(self) -> NDArray[Any]:
        """g * v / ||v|| as a new array."""
        weight: NDArray[Any] = self.weight_v.data * (self.weight_g.data / self._norms())
        return weight

    def initialise(self, x: NDArray[Any]) -> None:
        """Set g and bias such that each output has variance 1 and mean 0 over a first batch.

        Parameters
        ----------
        x : array, input of this layer

        Raises
        ------
        ValueError
            If an output is the same for all of `x`.
        """
        z = _matrix(self._product(x, self.weight_v.data / self._norms()), self.out_features)
        mean, std = z.mean(0, dtype=np.float64), z.std(0, dtype=np.float64)
        if not (std > 0).all():
            raise ValueError(f"x: expected outputs that vary over the batch, got the same ones from {len(z)} rows")
        self.weight_g.data[...] = 1 / std[:, None]
        if self.bias is not None:
            self.bias.data[...] = -mean / std

    def product(self, x: NDArray[Any]) -> tuple[NDArray[Any], Any]:
        return self._product(x, self.effective_weight()), x

    def product_backward(self, dz: NDArray[Any], kept: Any, accumulate: bool, need_dx: bool) -> Any:
        norms, v = self._norms(), self.weight_v.data
        scale = self.weight_g.data / norms
        dw, dx = self._product_backward(dz, kept, v * scale, need_dx)
        dg = _row_sums(dw * v) / norms
        dw -= v * (dg / norms)
        dw *= scale
        self.weight_g.set_grad(dg, accumulate)
        self.weight_v.set_grad(dw, accumulate)
        return dx

    def _norms(self) -> NDArray[Any]:
        norms: NDArray[Any] = np.sqrt(_row_sums(np.square(self.weight_v.data)))
        return norms

    def __repr__(self) -> str:
        return f"WeightNorm({super().__repr__()})"
