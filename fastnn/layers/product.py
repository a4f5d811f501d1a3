"""What layers with a matrix product share: its weight, its bias, and what may follow it in a chain."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn import _backend, init, random
from fastnn._checks import check_dtype
from fastnn.layers.module import Module, Parameter, Saved

__all__ = ["Product"]


class Product(Module):
    """Base of layers whose bias is added to a product: a chain takes the product alone and adds the bias later.

    A subclass has ``product(x) -> (z, kept)``, z being a new array without the bias, and
    ``product_backward(dz, kept, accumulate, need_dx) -> dx``, which sets the gradient of `weight`.

    Attributes
    ----------
    weight : Parameter
        Outputs along the first axis.
    bias : Parameter (outputs,), or None
    ndim : int
        Axes of z, the fewest.
    channel_axis : int
        Of the outputs in z.
    operation : str
        What `Sequential.summary` calls the product.
    """

    _fresh_dx = True
    ndim = 2
    channel_axis = -1
    operation = "matmul"

    def _draw(
        self,
        shape: tuple[int, ...],
        bias: bool,
        dtype: DTypeLike,
        rng: random.Generator | None,
        weight_init: init.Init | None,
        bias_init: init.Init | None,
    ) -> None:
        """Make the parameters."""
        dtype = check_dtype(dtype)
        self.weight = Parameter(np.empty(shape, dtype), "weight")
        self.bias = Parameter(np.empty(shape[0], dtype), "bias", decay=False) if bias else None
        self._init(weight_init, bias_init, init.numpy_generator(rng))

    def _init(self, weight: init.Init | None, bias: init.Init | None, rng: np.random.Generator) -> None:
        init.fill(self.weight, self.bias, weight, bias, rng)

    def product(self, x: NDArray[Any]) -> tuple[NDArray[Any], Any]:
        """The product as a new array, and what its backward pass needs."""
        raise NotImplementedError

    def product_backward(self, dz: NDArray[Any], kept: Any, accumulate: bool, need_dx: bool) -> Any:
        """Gradient of x, if needed; sets the gradient of weight."""
        raise NotImplementedError

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        z, kept = self.product(x)
        kept_bias = None
        if self.bias is not None:
            bias, axis = self.bias.data, self.channel_axis
            z, kept_bias = _backend.ops.bias_act(z, bias, training=training, channel_axis=axis, out=z)
        return z, Saved((kept, kept_bias)) if training else None

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        kept, kept_bias = saved
        if self.bias is not None:
            dy, dbias = _backend.ops.bias_act_backward(dy, kept_bias)
            self.bias.set_grad(dbias, accumulate)
        return self.product_backward(dy, kept, accumulate, need_dx)
