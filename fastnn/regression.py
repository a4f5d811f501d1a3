"""Regression by classification."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["RegressionBins"]


class RegressionBins:
    """Makes classes of a number to be predicted, and a number of predicted probabilities.

    Squared error is hard to optimize: the output has to hit one number, and outliers give large gradients.  Classes of
    ranges of numbers, with softmax cross-entropy, avoid both, and give a distribution.

    Parameters
    ----------
    n_bins : int
        At least 2.
    strategy : {"quantile", "uniform"}, default "quantile"
        Bins of about as many targets each, or of the same width.

    Attributes
    ----------
    edges : (B + 1,) float64 array
        Set by `fit`.  Quantiles that are equal make one edge, so there may be fewer bins, B, than asked for.
    centers : (B,) float64 array
        The mean of the targets in each bin; the middle of a bin that has none.
    n_classes : int
        B.

    Examples
    --------
    >>> bins = RegressionBins(20).fit(y)
    >>> loss, dlogits = F.softmax_cross_entropy(net(x), bins.encode(y))
    >>> predicted = bins.decode(probabilities)
    """

    def __init__(self, n_bins: int, strategy: str = "quantile") -> None:
        if n_bins < 2:
            raise ValueError(f"n_bins: expected at least 2, got {n_bins}")
        if strategy not in ("quantile", "uniform"):
            raise ValueError(f"strategy: expected 'quantile' or 'uniform', got {strategy!r}")
        self.n_bins = n_bins
        self.strategy = strategy
        self.edges: NDArray[np.float64] = np.empty(0)
        self.centers: NDArray[np.float64] = np.empty(0)

    @property
    def n_classes(self) -> int:
        return len(self.centers)

    def fit(self, y: ArrayLike) -> RegressionBins:
        """Set edges and centers from training targets.

        Parameters
        ----------
        y : (N,) array_like

        Returns
        -------
        The object itself.

        Raises
        ------
        ValueError
            For targets that are not finite, or all the same.
        """
        targets = self._numbers(y)
        shares = np.linspace(0, 1, self.n_bins + 1)
        if not targets.size or targets.min() == targets.max():
            raise ValueError("y: expected at least two different targets, got fewer")
        if self.strategy == "quantile":
            self.edges = np.unique(np.quantile(targets, shares))
        else:
            self.edges = targets.min() + (targets.max() - targets.min()) * shares
            self.edges[-1] = targets.max()
        self.centers = (self.edges[:-1] + self.edges[1:]) / 2
        labels = self.encode(targets)
        counts = np.bincount(labels, minlength=self.n_classes)
        sums = np.bincount(labels, targets, self.n_classes)
        np.divide(sums, counts, out=self.centers, where=counts > 0)
        return self

    def encode(self, y: ArrayLike) -> NDArray[np.int64]:
        """The bin of each target, (N,).  A target on an edge belongs to the bin above, one beyond the outer edges to
        the bin next to it.

        Parameters
        ----------
        y : (N,) array_like
        """
        self._check_fitted()
        return np.searchsorted(self.edges[1:-1], self._numbers(y), side="right").astype(np.int64)

    def decode(self, probabilities: NDArray[Any]) -> NDArray[Any]:
        """The expected target of each row of probabilities, (N,).

        Parameters
        ----------
        probabilities : (N, B) array
        """
        self._check_fitted()
        if np.ndim(probabilities) != 2 or np.shape(probabilities)[1] != self.n_classes:
            raise ValueError(f"probabilities: expected shape (N, {self.n_classes}), got {np.shape(probabilities)}")
        expected: NDArray[Any] = probabilities @ self.centers
        return expected

    def _numbers(self, y: ArrayLike) -> NDArray[np.float64]:
        targets = np.asarray(y, np.float64)
        if targets.ndim != 1:
            raise ValueError(f"y: expected shape (N,), got {targets.shape}")
        if not np.isfinite(targets).all():
            raise ValueError("y: expected finite numbers, got others")
        return targets

    def _check_fitted(self) -> None:
        if not self.n_classes:
            raise RuntimeError("expected fit(y) before encode and decode")

    def __repr__(self) -> str:
        return f"RegressionBins({self.n_bins}, strategy={self.strategy!r})"
