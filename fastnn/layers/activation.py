"""Activation layers: one class per activation of `fastnn.functional`, made from its declaration there."""

from __future__ import annotations

import inspect
from typing import Any

from numpy.typing import NDArray

from fastnn import _backend
from fastnn._aliases import add_aliases
from fastnn.act import ActivationSpec
from fastnn.functional import activations
from fastnn.layers.module import Module

__all__ = ["CLASSES", "Activation"]


class Activation(Module):
    """Base of all activation layers; ``Activation(fastnn.act.leaky_relu(0.1))`` is ``LeakyReLU(0.1)``.

    Kept for backward: the output where it determines the gradient, else the input.
    """

    _fresh_dx = True

    def __init__(self, spec: ActivationSpec) -> None:
        self.spec = spec

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        y = getattr(_backend.ops, self.spec.name)(x, **self.spec.params)
        if not training:
            return y, None
        return y, y if self.spec.from_output else x

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        options: dict[str, Any] = {"output": True} if self.spec.from_output else {}
        backward = getattr(_backend.ops, f"{self.spec.name}_backward")
        return backward(dy, saved, **self.spec.params, **options, out=dy if reuse else None)

    def __repr__(self) -> str:
        name = activations.ACTIVATIONS[self.spec.name].layer
        return f"{name}({', '.join(f'{value:g}' for value in self.spec.params.values())})"


def _make(entry: activations.Activation) -> type[Activation]:
    def __init__(self: Activation, *args: float, **kwargs: Any) -> None:
        Activation.__init__(self, entry(*args, **kwargs))

    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter("self", keyword)]
    parameters += [inspect.Parameter(name, keyword, default=value) for name, value in entry.defaults.items()]
    __init__.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    listed = ", ".join(f"{name}={value}" for name, value in entry.defaults.items())
    return type(
        entry.layer,
        (Activation,),
        {
            "__init__": __init__,
            "__module__": "fastnn.layers",
            "__doc__": f"``{entry.layer}({listed})``: `fastnn.functional.{entry.name}` as a layer.",
        },
    )


CLASSES: dict[str, type[Activation]] = {entry.layer: _make(entry) for entry in activations.ACTIVATIONS.values()}
"""All activation layers by class name."""

add_aliases(CLASSES)
