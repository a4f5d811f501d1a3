"""The table that `Sequential.summary` shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn._convert import as_array
from fastnn.layers.chain import Chain
from fastnn.layers.module import Module, Saved

__all__ = ["Row", "Summary", "summarize"]


@dataclass(frozen=True)
class Row:
    """One layer.

    Attributes
    ----------
    layer : str
    shape : tuple
        Of the output.
    parameters : int
        Trained numbers.
    runs_as : str
        The fused operations, on the first of the layers that they replace; ``"|"`` on the others; else empty.
    nbytes : int
        Kept for backward by the layer, or on the first row by all fused ones; what rows above keep is not counted.
    """

    layer: str
    shape: tuple[int, ...]
    parameters: int
    runs_as: str
    nbytes: int


@dataclass(frozen=True, repr=False)
class Summary:
    """What `Sequential.summary` returns; prints as a table.

    Attributes
    ----------
    rows : tuple of Row
    parameters : int
        Trained numbers of all layers.
    nbytes : int
        Bytes kept for backward, the input of the network included.
    """

    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def nbytes(self) -> int:
        return sum(row.nbytes for row in self.rows)

    def __str__(self) -> str:
        cells = [("", "layer", "output", "parameters", "kept bytes", "runs as")]
        for index, row in enumerate(self.rows):
            kept = "" if row.runs_as == "|" else f"{row.nbytes:,}"
            cells.append((str(index), row.layer, str(row.shape), f"{row.parameters:,}", kept, row.runs_as))
        cells.append(("", "total", "", f"{self.parameters:,}", f"{self.nbytes:,}", ""))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(w) if i in (0, 3, 4) else cell.ljust(w)
                for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in cells
        ]
        return "\n".join(line.rstrip() for line in lines)

    __repr__ = __str__


def summarize(net: Module, steps: Sequence[Module | Chain], x: NDArray[Any] | tuple[int, ...]) -> Summary:
    """Run one training pass of `steps`, the steps of `net`, and describe it; the state of `net` is put back."""
    x = as_array("x", x)
    if not isinstance(x, np.ndarray):
        dtype = next((parameter.data.dtype for _, parameter in net.named_parameters()), np.dtype(np.float32))
        x = np.zeros(x, dtype)
    state = net.state_dict()
    modes = [(module, module.training) for module in net.modules()]
    rows: list[Row] = []
    saved: list[Any] = []
    try:
        for module, _ in modes:
            module.training = True
        for step in steps:
            before = Saved(saved).nbytes
            x, kept = step._forward(x, True)
            saved.append(kept)
            layers = step.layers if isinstance(step, Chain) else (step,)
            for index, layer in enumerate(layers):
                rows.append(
                    Row(
                        layer=repr(layer),
                        shape=x.shape,
                        parameters=sum(parameter.data.size for _, parameter in layer.named_parameters()),
                        runs_as="|" if index else str(step) if isinstance(step, Chain) else "",
                        nbytes=0 if index else Saved(saved).nbytes - before,
                    )
                )
    finally:
        for module, mode in modes:
            module.training = mode
        net.load_state_dict(state)
    return Summary(tuple(rows))
