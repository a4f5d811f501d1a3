"""Averages of the weights, kept by the pass that updates them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EMA", "EqualAverage"]


@dataclass(frozen=True)
class EMA:
    """Exponential moving average, ``a = a + (1 - decay) * (param - a)``, beginning with the first parameters seen.

    B. T. Polyak, A. B. Juditsky: Acceleration of stochastic approximation by averaging (1992); the decay instead of
    equal weights as in `torch.optim.swa_utils.get_ema_multi_avg_fn`.

    Parameters
    ----------
    decay : float, default 0.999
        In [0, 1).
    start : int, default 0
        Steps after which it begins.

    Examples
    --------
    >>> opt = Adam(net.parameters(), average=EMA(0.99))
    >>> with opt.averaged():
    ...     y = net.predict(x)
    """

    decay: float = 0.999
    start: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay: expected a number in [0, 1), got {self.decay}")
        _check_start(self.start)

    def weight(self, count: int) -> float:
        """Weight of new parameters, if so many are in the average."""
        return 1.0 - self.decay if count > 0 else 1.0


@dataclass(frozen=True)
class EqualAverage:
    """Mean of the weights after every step from `start` on, ``a = a + (param - a) / (count + 1)``.

    P. Izmailov et al.: Averaging weights leads to wider optima and better generalization (UAI 2018).

    Parameters
    ----------
    start : int, default 0
        Steps after which it begins.
    """

    start: int = 0

    def __post_init__(self) -> None:
        _check_start(self.start)

    def weight(self, count: int) -> float:
        """Weight of new parameters, if so many are in the average."""
        return 1.0 / (count + 1)


def _check_start(start: int) -> None:
    if start < 0:
        raise ValueError(f"start: expected a number of steps >= 0, got {start}")
