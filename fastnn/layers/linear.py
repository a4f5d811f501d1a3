"""The matrix product, which NumPy does, and its bias."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn import _backend, random
from fastnn._checks import check_array
from fastnn.functional._arrays import check_gradient
from fastnn.layers.product import Product

__all__ = ["Linear"]


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
    rng : Generator, optional
        One position is drawn for the initial values, which are uniform within 1 / sqrt(in_features) of zero:
        Kaiming's with a = sqrt(5) for the weight, as in torch.  Default: `fastnn.random.default_generator`.

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
        rng: random.Generator | None = None,
    ) -> None:
        if in_features < 1 or out_features < 1:
            raise ValueError(f"in_features, out_features: expected at least 1, got {in_features}, {out_features}")
        self.in_features = in_features
        self.out_features = out_features
        self._draw((out_features, in_features), bias, dtype, rng)

    def product(self, x: NDArray[Any]) -> tuple[NDArray[Any], Any]:
        weight = self.weight.data
        check_array("x", x)
        if x.dtype != weight.dtype:
            raise TypeError(f"x: expected {weight.dtype}, the dtype of weight, got {x.dtype}")
        if not x.ndim or x.shape[-1] != self.in_features:
            raise ValueError(f"x: expected shape (..., {self.in_features}), got {x.shape}")
        z = _backend.empty((*x.shape[:-1], self.out_features), x.dtype)
        np.dot(_matrix(x, self.in_features), weight.T, out=_matrix(z, self.out_features))
        return z, x

    def product_backward(self, dz: NDArray[Any], kept: Any, accumulate: bool, need_dx: bool) -> Any:
        x: NDArray[Any] = kept
        weight = self.weight.data
        if self.bias is None:  # else the kernels have checked it
            check_gradient(dz, (*x.shape[:-1], self.out_features), x.dtype)
        dz2 = _matrix(dz, self.out_features)
        if not accumulate:
            self.weight.grad = None  # so that its memory is there for the new one, if nobody else holds it
        dweight = _backend.empty(weight.shape, weight.dtype)
        np.dot(dz2.T, _matrix(x, self.in_features), out=dweight)
        self.weight.set_grad(dweight, accumulate)
        if not need_dx:
            return None
        dx = _backend.empty(x.shape, x.dtype)
        np.dot(dz2, weight, out=_matrix(dx, self.in_features))
        return dx

    def __repr__(self) -> str:
        return f"Linear({self.in_features}, {self.out_features}{'' if self.bias else ', bias=False'})"
