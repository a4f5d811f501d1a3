"""Loss that explodes, and where it began."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn._convert import as_array
from fastnn.layers.module import Module
from fastnn.layers.watch import watch

if TYPE_CHECKING:
    from fastnn.train.run import Run

__all__ = ["Explosion", "Guard", "output_scales"]


class Explosion(FloatingPointError):
    """The loss is not finite, or far above the first one.

    Attributes
    ----------
    run : Run
        As it was then; the step has not been taken.
    layer : str
        The first layer whose output went bad; empty if none did.
    """

    def __init__(self, message: str, run: Run, layer: str) -> None:
        super().__init__(message)
        self.run = run
        self.layer = layer


def output_scales(net: Module, x: NDArray[Any]) -> dict[str, float]:
    """Root mean square of each layer's output in a training pass; the state of `net` is put back.

    Parameters
    ----------
    net : Module
    x : array, a batch

    Returns
    -------
    dict of str to float
        By layer, such as ``"1 BatchNorm1d"``, in the order they run; as far as the pass gets, if batch norm refuses
        what is not finite.
    """
    scales: dict[str, float] = {}

    def see(name: str, layer: Module, y: NDArray[Any]) -> None:
        scales[name] = math.sqrt(np.mean(np.square(y, dtype=np.float64)))

    state = net.state_dict()
    try:
        with watch(net, see), np.errstate(all="ignore"), suppress(ValueError):
            net._forward(as_array("x", x), True)
    finally:
        net.load_state_dict(state)
    return scales


class Guard:
    """Stops a run whose loss explodes: a callback, which sees the first batch for the sizes of outputs that are usual.

    Parameters
    ----------
    factor : float or None
        How many times the first loss is too much; None: nothing is.
    """

    def __init__(self, factor: float | None) -> None:
        self._factor = math.inf if factor is None else factor
        self._active = factor is not None
        self._first_scales: dict[str, float] = {}

    def on_step_begin(self, run: Run) -> None:
        if self._active and not self._first_scales:
            self._first_scales = output_scales(run.net, run.x)

    @contextmanager
    def forward(self, run: Run) -> Iterator[None]:
        """Around the forward pass and the loss of a step.

        Raises
        ------
        Explosion
            If the loss is too much or not finite, or if batch norm has refused what is not finite.
        """
        try:
            yield
        except ValueError as error:
            layer, where = self._where(run) if self._active else ("", "")
            if not where:
                raise
            raise Explosion(f"step {run.step}: {where}", run, layer) from error
        if run.step == 0:
            run.first_loss = run.loss
        too_much = run.loss > self._factor * run.first_loss > 0
        if self._active and (too_much or not math.isfinite(run.loss)):
            layer, where = self._where(run)
            hint = " (explosion=None goes on)" if math.isfinite(run.loss) else ""
            text = f"step {run.step}: loss {run.loss:.4g} after {run.first_loss:.4g} at first{hint}; "
            raise Explosion(text + (where or "the outputs of all layers are as large as at first"), run, layer)

    def _where(self, run: Run) -> tuple[str, str]:
        """The first layer whose output went bad, and in words how; both empty if none did."""
        for what, array in (("batch itself is", run.x), ("targets of the batch are", run.y)):
            if not np.isfinite(array).all():
                return "", f"the {what} not finite"
        scales = output_scales(run.net, run.x)
        for name, scale in scales.items():
            if not math.isfinite(scale):
                return name, f"the first layer whose output is not finite is {name}"
        for name, scale in scales.items():
            first = self._first_scales.get(name, math.inf)
            if scale > self._factor * first:
                large = f"root mean square {scale:.3g}, on the first batch {first:.3g}"
                return name, f"the first layer whose output went bad is {name}: {large}"
        return "", ""
