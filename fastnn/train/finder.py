"""A learning rate to begin with."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.layers.module import Module
from fastnn.losses import Loss
from fastnn.optim import Optimizer
from fastnn.random import default_generator
from fastnn.train.explosion import Explosion
from fastnn.train.loop import Transform, fit
from fastnn.train.run import Run

__all__ = ["RateRange", "lr_range"]


@dataclass(frozen=True)
class RateRange:
    """What `lr_range` has found.

    Attributes
    ----------
    rates, losses : (K,) float64 arrays
        Learning rate of each step, and the loss before it, smoothed.
    suggestion : float
        A tenth of the rate at which the loss was lowest: it still fell fast there, and training stays stable.
    """

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]

    @property
    def suggestion(self) -> float:
        return float(self.rates[self.losses.argmin()] / 10)


class _Sweep:
    """Follows the loss; ends the run after so many steps, or when the loss has left its minimum far behind."""

    def __init__(self, steps: int, smoothing: float) -> None:
        self._steps = steps
        self._smoothing = smoothing
        self._mean = 0.0
        self.losses: list[float] = []

    def on_step_end(self, run: Run) -> None:
        self._mean = self._smoothing * self._mean + (1 - self._smoothing) * run.loss
        self.losses.append(self._mean / (1 - self._smoothing**run.step))
        if run.step == self._steps or self.losses[-1] > 4 * min(self.losses):
            run.stop(f"{run.step} steps")


def lr_range(
    net: Module,
    loss_fn: Loss,
    opt: Optimizer,
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 100,
    batch_size: int = 64,
    smoothing: float = 0.9,
    transform: Transform | None = None,
    seed: int = 0,
) -> RateRange:
    """Learning-rate range test: train a few steps while the rate grows, and see where the loss falls.

    From `low` to `high` along an exponential, ``low * (high / low) ** (step / (steps - 1))``; it ends early when the
    smoothed loss is four times its minimum, or not finite.  The states of network, optimizer and default generator are
    put back.  L. N. Smith: Cyclical learning rates for training neural networks (WACV 2017).

    Parameters
    ----------
    net, loss_fn, opt, x, y, batch_size, transform, seed : as in `fit`
    low, high : float, default 1e-6 and 1
    steps : int, default 100
    smoothing : float, default 0.9
        Decay of the moving average of the losses, which is corrected for its start.

    Returns
    -------
    RateRange

    Examples
    --------
    >>> opt.lr = lr_range(net, loss_fn, opt, x, y).suggestion
    """
    if not (0 < low < high and steps > 1):
        raise ValueError(f"low, high, steps: expected 0 < low < high and steps > 1, got {low}, {high}, {steps}")
    states = [(each, each.state_dict()) for each in (net, opt, default_generator)]
    rate, first = opt.lr, opt.step_count
    sweep = _Sweep(steps, smoothing)

    def growing(step: int) -> float:
        return low * math.exp(math.log(high / low) * (step - first) / (steps - 1))

    try:
        opt.lr = growing
        with suppress(Explosion):
            fit(
                net,
                loss_fn,
                opt,
                x,
                y,
                epochs=steps,
                batch_size=batch_size,
                metrics={},
                transform=transform,
                seed=seed,
                callbacks=[sweep],
                explosion=math.inf,
                progress=False,
            )
    finally:
        opt.lr = rate
        for each, state in states:
            each.load_state_dict(state)
    if not sweep.losses:
        raise ValueError(f"low: expected a rate at which the loss is finite, got {low}")
    return RateRange(np.array([growing(first + k) for k in range(len(sweep.losses))]), np.array(sweep.losses))
