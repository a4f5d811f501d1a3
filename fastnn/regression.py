"""Regression by classification."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn._checks import check_size, check_word
from fastnn._convert import as_array

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
        Set by `fit`, ascending.  A number at which quantiles coincide, as zero where most targets are 0, has a bin of
        its own, so there may be fewer bins, B, than asked for, but at least two.  The last two edges are equal where
        that number is the largest.
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
        self.n_bins = check_size("n_bins", n_bins, 2)
        self.strategy = check_word("strategy", strategy, "quantile", "uniform")
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
            For targets that are not finite, or all the same, or whose range float64 does not hold.
        """
        targets = self._numbers(y)
        if not targets.size or targets.min() == targets.max():
            raise ValueError("y: expected at least two different targets, got fewer")
        low, high = targets.min(), targets.max()
        with np.errstate(over="ignore"):
            width = high - low
        if not np.isfinite(width):
            raise ValueError(f"y: expected targets whose range is finite, got {low} to {high}")
        shares = np.linspace(0, 1, self.n_bins + 1)
        wanted = np.quantile(targets, shares) if self.strategy == "quantile" else low + width * shares
        edges, counts = np.unique(wanted[1:-1], return_counts=True)
        # The number itself is an edge, and so is the next target; at the low end nothing lies below.
        after = np.searchsorted(values := np.unique(targets), edges[(counts > 1) | (edges == low)], side="right")
        inner = np.union1d(edges[edges > low], values[after[after < values.size]])
        if self.strategy == "quantile":  # one edge between two targets is enough
            inner = inner[np.unique(np.searchsorted(values, inner), return_index=True)[1]]
        self.edges = np.concatenate([[low], inner, [high]])
        self.centers = self.edges[:-1] / 2 + self.edges[1:] / 2
        labels = self.encode(targets)
        counts = np.bincount(labels, minlength=self.n_classes)
        means = np.bincount(labels, targets / counts[labels], self.n_classes)
        np.copyto(self.centers, means, where=counts > 0)
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
        probabilities = as_array("probabilities", probabilities)
        if np.ndim(probabilities) != 2 or np.shape(probabilities)[1] != self.n_classes:
            raise ValueError(f"probabilities: expected shape (N, {self.n_classes}), got {np.shape(probabilities)}")
        expected: NDArray[Any] = probabilities @ self.centers
        return expected

    def _numbers(self, y: ArrayLike) -> NDArray[np.float64]:
        targets = np.asarray(as_array("y", y), np.float64)
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
