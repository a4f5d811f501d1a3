"""Fusion: neighbouring layers that run as one operation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from fastnn import _backend
from fastnn.layers.activation import Activation
from fastnn.layers.dropout import Dropout
from fastnn.layers.module import Module, Saved
from fastnn.layers.norm import Norm
from fastnn.layers.product import Product

__all__ = ["Chain", "find_chains"]

_STAGES: tuple[type[Module], ...] = (Product, Norm, Activation, Dropout)


def _stage(layer: Module) -> int | None:
    """Place of `layer` in a chain; None if it is another kind of layer, or one that computes otherwise."""
    if isinstance(layer, Dropout) and not layer.inverted:
        return None
    for stage, base in enumerate(_STAGES):
        if isinstance(layer, base):
            same = type(layer)._forward is base._forward and type(layer)._backward is base._backward
            return stage if same else None
    return None


class Chain:
    """A product, norm, activation, dropout, each optional, in this order: one operation after the product.

    With a norm it is the norm's, and batch norm takes the bias of the product as its `pre_bias`; before other norms
    the bias is added by itself.  Without one it is `bias_act`, which works in place on the product.  The bits are
    those of the layers one by one.
    """

    _fresh_dx = True

    def __init__(self, layers: tuple[Module, ...]) -> None:
        self.layers = layers
        self.product = next((layer for layer in layers if isinstance(layer, Product)), None)
        self.norm = next((layer for layer in layers if isinstance(layer, Norm)), None)
        self.spec = next((layer.spec for layer in layers if isinstance(layer, Activation)), None)
        self.dropout = next((layer for layer in layers if isinstance(layer, Dropout)), None)

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        z, bias, axis, factors = x, None, -1, None
        if self.product is not None:
            z, factors = self.product.product(x)
            bias, axis = None if self.product.bias is None else self.product.bias.data, self.product.channel_axis
        rate, rng, first = 0.0, None, 0
        if self.dropout is not None:
            rate, rng, first = self.dropout.rate(training), self.dropout.rng, self.dropout.first(z.size)
        if self.norm is None:
            out = z if self.product is not None and not (training and self._keeps_input()) else None
            y, kept = _backend.ops.bias_act(
                z,
                bias,
                activation=self.spec,
                dropout=rate,
                rng=rng,
                training=training,
                channel_axis=axis,
                first=first,
                out=out,
            )
        else:
            epilogue: dict[str, Any] = {"activation": self.spec, "dropout": rate, "rng": rng, "first": first}
            if bias is not None and self.norm.takes_pre_bias(z.ndim, axis):
                epilogue["pre_bias"] = bias
            elif bias is not None:
                z = _backend.ops.bias_act(z, bias, training=False, channel_axis=axis, out=z)[0]
            y, kept = self.norm.normalise(z, training, own=self.product is not None, **epilogue)
        return y, Saved((factors, kept)) if training else None

    def _keeps_input(self) -> bool:
        """Whether `bias_act` in training keeps its input, which then must not be overwritten."""
        if self.spec is None:
            return False
        dropped = self.dropout is not None and self.dropout.rate(True) > 0.0
        return not (self.spec.from_output and (self.spec.sign_only or not dropped))

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        factors, kept = saved
        if self.norm is None:
            dx, dbias = _backend.ops.bias_act_backward(dy, kept, out=dy if reuse else None)
        else:
            dx, dbias = self.norm.normalise_backward(dy, kept, accumulate, reuse)
        if self.product is None:
            return dx
        if self.product.bias is not None:
            if dbias is None:  # the norm has not added it
                dbias = _backend.ops.channel_sum(dx, channel_axis=self.product.channel_axis)
            self.product.bias.set_grad(dbias, accumulate)
        return self.product.product_backward(dx, factors, accumulate, need_dx)

    def __str__(self) -> str:
        steps = [] if self.product is None else [self.product.operation]
        epilogue = [] if self.spec is None else [self.spec.name]
        if self.dropout is not None:
            epilogue.append("dropout")
        if self.product is not None and self.product.bias is not None:
            if self.norm is None:
                epilogue.insert(0, "bias")
            elif self.norm.takes_pre_bias(self.product.ndim, self.product.channel_axis):
                epilogue.insert(0, "pre_bias")
            else:
                steps.append("bias_act(bias)")
        steps.append(f"{'bias_act' if self.norm is None else self.norm.op}({', '.join(epilogue)})")
        return ", ".join(steps)


def find_chains(layers: Iterable[Module]) -> list[Module | Chain]:
    """Steps that compute what `layers` compute: chains as long as possible, and single layers."""
    groups: list[list[Module]] = []
    last: int | None = None
    for layer in layers:
        stage = _stage(layer)
        if last is not None and stage is not None and stage > last:
            groups[-1].append(layer)
        else:
            groups.append([layer])
        last = stage
    return [group[0] if len(group) == 1 else Chain(tuple(group)) for group in groups]
