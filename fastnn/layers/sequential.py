"""Layers one after the other, fused where possible."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from fastnn.layers.chain import Chain, find_chains
from fastnn.layers.module import Module, Saved
from fastnn.layers.summary import Summary, summarize

__all__ = ["Sequential"]


class Sequential(Module):
    """Layers one after the other.

    Neighbours of the form Linear, norm, activation, dropout (each optional, in this order) run as one operation
    after the matrix product, with the same bits as one by one.  `summary` shows what was fused.

    Parameters
    ----------
    *layers : Module
        Different objects, unless they have no parameters.
    fuse : bool, default True
        False runs every layer by itself: slower, and for comparison only.

    Examples
    --------
    >>> net = Sequential(Linear(64, 128), BatchNorm1d(128), ReLU(), Dropout(0.2), Linear(128, 10))
    >>> y = net(x)
    >>> net.backward(dy, need_dx=False)
    """

    def __init__(self, *layers: Module, fuse: bool = True) -> None:
        owners: dict[int, int] = {}
        for index, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise TypeError(f"layers[{index}]: expected a Module, got {type(layer).__name__}")
            for _, parameter in layer.named_parameters():
                if owners.setdefault(id(parameter), index) != index:
                    raise ValueError(
                        f"layers[{index}]: expected parameters of its own, "
                        f"got those of layers[{owners[id(parameter)]}], whose gradients backward would overwrite"
                    )
        self.layers = layers
        self.fuse = fuse
        self._steps: list[Module | Chain] = find_chains(layers) if fuse else list(layers)

    def _children(self) -> Iterator[tuple[str, Module]]:
        for index, layer in enumerate(self.layers):
            yield str(index), layer

    def _forward(self, x: NDArray[Any], training: bool) -> tuple[NDArray[Any], Any]:
        saved = []
        for step in self._steps:
            x, kept = step._forward(x, training)
            if training:
                saved.append(kept)
        return x, Saved(saved) if training else None

    def _backward(self, dy: NDArray[Any], saved: Any, *, accumulate: bool, need_dx: bool, reuse: bool) -> Any:
        # Without dx, the layers before the first parameter have nothing to do.
        first = 0 if need_dx else self._first_with_parameters()
        for index in range(len(self._steps) - 1, first - 1, -1):
            step = self._steps[index]
            dx = step._backward(dy, saved[index], accumulate=accumulate, need_dx=need_dx or index > first, reuse=reuse)
            # Only what a layer has just made, and what could be overwritten before, may be overwritten by the next.
            reuse = reuse if dx is dy else step._fresh_dx
            dy = dx
        return dy

    def _first_with_parameters(self) -> int:
        for index, step in enumerate(self._steps):
            for layer in step.layers if isinstance(step, Chain) else (step,):
                for _ in layer.named_parameters():
                    return index
        return len(self._steps)

    def summary(self, x: NDArray[Any] | tuple[int, ...]) -> Summary:
        """Layers, output shapes, parameters, what was fused, and the bytes kept for backward in training.

        Runs a forward pass and puts running statistics and random positions back.

        Parameters
        ----------
        x : array, or its shape with the batch size first

        Returns
        -------
        Summary
            A table when printed.
        """
        return summarize(self, self._steps, x)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Module:
        return self.layers[index]

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"
