"""What a library that differentiates has to know of an operation: which arguments have gradients, and where these come
from.

The backward functions of `fastnn.functional` take what was saved, the inputs, the output or a size, and losses bring
their gradient with them; `Call` hides which one it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import fastnn.functional as F
from fastnn.functional.activations import ACTIVATIONS
from fastnn.functional.convolution import Conv2dSaved

__all__ = ["OPS", "Call", "Op"]

Array: TypeAlias = NDArray[Any]

_TAIL = ("residual", "pre_bias")
"""Arguments that have a gradient only where they are given; the others have one, or None, in any case."""


def _saves(call: Call, operands: dict[str, Array]) -> Any:
    y, call.kept = call.op.function(**operands, **call.options)
    return y


def _through_saved(call: Call, dy: Array) -> Any:
    return dy if call.kept is None else call.op.gradient(dy, call.kept)  # noise, and dropout that is off


def _keeps_inputs(call: Call, operands: dict[str, Array]) -> Any:
    call.kept = tuple(operands.values())
    return call.op.function(**operands, **call.options)


def _through_inputs(call: Call, dy: Array) -> Any:
    return call.op.gradient(dy, *call.kept, **call.options)


def _keeps_output(call: Call, operands: dict[str, Array]) -> Any:
    y = call.op.function(**operands, **call.options)
    call.kept = (y,)
    return y


def _keeps_size(call: Call, operands: dict[str, Array]) -> Any:
    y = call.op.function(**operands, **call.options)
    size = operands["x"].shape
    call.kept = (size[2:] if call.options.get("channel_axis", 1) in (1, -3) else size[1:3],)
    return y


def _keeps_nothing(call: Call, operands: dict[str, Array]) -> Any:
    return call.op.function(**operands, **call.options)


def _through_loss(call: Call, dloss: Any) -> Any:
    factor = np.asarray(dloss, call.kept.dtype)
    if 0 < factor.ndim < call.kept.ndim:  # one loss for all classes, which lie along axis 1
        factor = np.expand_dims(factor, 1)
    return call.kept * factor


@dataclass(frozen=True)
class Op:
    """A function of `fastnn.functional` and its gradient.

    Attributes
    ----------
    name : str
    inputs : tuple of str
        Arguments with a gradient, in the order in which the backward function returns them.
    forward : function of a `Call` and of its operands as arrays
        Gives the value, and sets what the call keeps.
    backward : function of a `Call` and of the gradient of its value
    """

    name: str
    inputs: tuple[str, ...]
    forward: Callable[..., Any]
    backward: Callable[..., Any]

    @cached_property
    def function(self) -> Callable[..., Any]:
        return getattr(F, self.name)  # type: ignore[no-any-return]

    @cached_property
    def gradient(self) -> Callable[..., Any]:
        return getattr(F, f"{self.name}_backward", F.dropout_backward)  # that of all forms of dropout

    @cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.function)


class Call:
    """One call of an operation: its value now, its gradients later.

    Parameters
    ----------
    name : str
        A key of `OPS`.
    args, kwargs
        Arguments of the function.  In inference (``training=False``) batch norm is differentiated with its running
        statistics as constants, as in torch.

    Attributes
    ----------
    operands : dict
        The arguments that are differentiated and are given, for `forward` to take as arrays.
    options : dict
        The others.
    """

    kept: Any = None

    def __init__(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self.op = OPS[name]
        self.options = self.op.signature.bind(*args, **kwargs).arguments
        if self.options.get("out") is not None:
            raise TypeError(f"{name}: expected no out where gradients are recorded, got one")
        given = {each: self.options.pop(each, None) for each in self.op.inputs}
        self.operands = {each: value for each, value in given.items() if value is not None}
        self.names = list(self.operands)
        if name in _INFERENCE and not self.options.get("training", name == "bias_act"):
            self.options |= _INFERENCE[name]

    def forward(self, *arrays: Array) -> Any:
        """The value, with `arrays` as the operands, which are not needed any more."""
        del self.operands
        return self.op.forward(self, dict(zip(self.names, arrays, strict=True)))

    def reads(self, array: Any) -> bool:
        """Whether `backward` will read this array, which has to stay as it is until then."""
        if isinstance(self.kept, Conv2dSaved):
            return True
        kept = getattr(self.kept, "arrays", self.kept)
        return any(array is each for each in (kept if isinstance(kept, tuple) else (kept,)))

    def backward(self, dy: Any) -> list[Array | None]:
        """Gradients of the operands; None where the function has none."""
        found = self.op.backward(self, dy)
        inputs = self.op.inputs
        order = [name for name in inputs if name not in _TAIL]
        order += [name for name in inputs if name in _TAIL and name in self.names]
        by_name = dict(zip(order, found if isinstance(found, tuple) else (found,), strict=True))
        return [by_name[name] for name in self.names]


_INFERENCE: dict[str, dict[str, Any]] = {
    "batch_norm": {"training": True, "frozen": True, "dropout": 0.0},
    "bias_act": {"training": True, "dropout": 0.0},
}
"""Arguments of a training pass that gives what inference gives, and keeps what its gradient needs."""


_NORM = ("x", "weight", "bias", "residual")

_PRODUCERS = {
    "bias_act": ("x", "bias", "residual"),
    "batch_norm": (*_NORM, "pre_bias"),
    **dict.fromkeys(("layer_norm", "group_norm", "instance_norm"), _NORM),
    "rms_norm": ("x", "weight", "residual"),
    "conv2d": ("x", "weight", "bias"),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"), ("x",)),
    **dict.fromkeys(("maxout", "max_pool2d"), ("x",)),
}

_LOSSES = {
    "softmax_cross_entropy": "logits",
    "nll_loss": "log_probs",
    "hinge_loss": "scores",
    "multi_margin_loss": "scores",
    **dict.fromkeys(("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"), "input"),
    "binary_cross_entropy_with_logits": "input",
}

OPS: dict[str, Op] = {
    **{name: Op(name, inputs, _saves, _through_saved) for name, inputs in _PRODUCERS.items()},
    **{name: Op(name, ("x",), _keeps_inputs, _through_inputs) for name in ACTIVATIONS},
    "prelu": Op("prelu", ("x", "weight"), _keeps_inputs, _through_inputs),
    **{name: Op(name, ("x",), _keeps_output, _through_inputs) for name in ("softmax", "log_softmax")},
    **{name: Op(name, ("x",), _keeps_size, _through_inputs) for name in ("avg_pool2d", "global_avg_pool2d")},
    "gaussian_noise": Op("gaussian_noise", ("x",), _keeps_nothing, _through_saved),
    **{name: Op(name, (of,), _saves, _through_loss) for name, of in _LOSSES.items()},
}
"""Operations by name."""
