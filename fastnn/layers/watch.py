"""Looking at what layers give, while a network runs as it does anyway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from numpy.typing import NDArray

from fastnn.layers.module import Module
from fastnn.layers.sequential import Sequential

__all__ = ["See", "layer_name", "watch"]

See: TypeAlias = Callable[[str, Module, NDArray[Any]], None]


def layer_name(path: str, layer: Module) -> str:
    """How reports call a layer: ``"1 BatchNorm1d"``, or its class alone where it is the whole network."""
    return f"{path} {type(layer).__name__}".strip()


@contextmanager
def watch(net: Module, see: See) -> Iterator[None]:
    """Show the output of each layer to `see`, inside the ``with`` block.

    Layers run one by one inside: what `Sequential` would fuse is taken apart, and the bits are the same.  A forward
    pass and its backward pass both belong inside the block, or both outside.

    Parameters
    ----------
    net : Module
        Layers of your own are seen as all others are, if they run by ``_forward``.
    see : callable
        ``see(name, layer, y)`` after each layer that has no layers within, in the order they run.  The name is the path
        and the class, such as ``"1 BatchNorm1d"``.  `y` may be written to once the call is over, so it is not to be
        kept; nor is it to be changed.

    Examples
    --------
    >>> with fastnn.layers.watch(net, lambda name, layer, y: print(name, y.std())):
    ...     net.predict(x)
    """
    taken_apart = [(module, module._steps) for module in net.modules() if isinstance(module, Sequential)]
    watched: dict[Module, Any] = {}
    try:
        for module, _ in taken_apart:
            module._steps = list(module.layers)
        for path, layer in net._named_modules():
            if layer not in watched and not any(layer._children()):
                watched[layer] = vars(layer).get("_forward")  # of a watch around this one
                vars(layer)["_forward"] = _shown(layer_name(path.rstrip("."), layer), layer, see)
        yield
    finally:
        for layer, before in watched.items():
            if before is None:
                vars(layer).pop("_forward", None)
            else:
                vars(layer)["_forward"] = before
        for module, steps in taken_apart:
            module._steps = steps


def _shown(name: str, layer: Module, see: See) -> Callable[[NDArray[Any], bool], tuple[NDArray[Any], Any]]:
    """The forward pass of `layer` as its class defines it, which then shows its output."""
    forward = layer._forward

    def shown(x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        y, saved = forward(x, training)
        see(name, layer, y)
        return y, saved

    return shown
