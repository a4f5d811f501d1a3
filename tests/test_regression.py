"""Regression by classification."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn as fnn

Y = np.random.default_rng(0).lognormal(0, 1, 1000)


def test_quantile_bins_have_as_many_targets_each() -> None:
    bins = fnn.RegressionBins(10).fit(Y)
    labels = bins.encode(Y)
    assert bins.n_classes == 10 and np.bincount(labels).tolist() == [100] * 10
    for k in range(10):
        assert bins.centers[k] == pytest.approx(Y[labels == k].mean())


def test_uniform_bins_have_the_same_width() -> None:
    bins = fnn.RegressionBins(8, strategy="uniform").fit(np.array([0.0, 0.5, 1.0, 8.0]))
    assert bins.edges.tolist() == list(range(9))
    assert bins.centers.tolist() == [0.25, 1.0, 2.5, 3.5, 4.5, 5.5, 6.5, 8.0]
    assert bins.encode([-5, 0, 0.99, 1, 7.5, 8, 100]).tolist() == [0, 0, 0, 1, 7, 7, 7]


def test_certain_predictions_come_back_as_the_mean_of_their_bin() -> None:
    bins = fnn.RegressionBins(50).fit(Y)
    labels = bins.encode(Y)
    decoded = bins.decode(np.eye(50)[labels])
    assert decoded.shape == Y.shape
    assert decoded.mean() == pytest.approx(Y.mean())  # as the centers are means
    assert np.abs(decoded - Y).mean() < 0.1
    assert bins.decode(np.full((1, 50), 1 / 50)) == pytest.approx(Y.mean(), rel=1e-2)


def test_equal_quantiles_make_fewer_bins() -> None:
    bins = fnn.RegressionBins(4).fit([0, 0, 0, 0, 0, 0, 1, 2])
    assert bins.n_classes == 2 and bins.encode([0, 2]).tolist() == [0, 1]
    stars = fnn.RegressionBins(5, "uniform").fit(np.arange(1, 6))
    assert stars.encode(np.arange(1, 6)).tolist() == [0, 1, 2, 3, 4]
    assert stars.decode(np.eye(5)).tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("strategy", ["quantile", "uniform"])
@pytest.mark.parametrize(
    "y",
    [
        [0] * 90 + list(range(1, 11)),
        [-1] * 5 + [0] * 90 + list(range(1, 6)),
        list(range(10)) + [10] * 90,
        [0] * 99 + [1],
        [0] + [1] * 99,
        [0, 1],
        [1.0, np.nextafter(1.0, 2)],
        [-1e-323, 5e-324],
        [1.0, 8e307, 1.7e308, 1.7e308],
    ],
)
@pytest.mark.parametrize("n_bins", [2, 3, 10])
def test_targets_of_which_most_are_equal(strategy: str, y: list[float], n_bins: int) -> None:
    bins = fnn.RegressionBins(n_bins, strategy).fit(y)
    labels = bins.encode(y)
    assert 2 <= bins.n_classes <= n_bins and len(np.unique(labels)) >= 2
    assert (np.diff(bins.edges) >= 0).all() and np.isfinite(bins.centers).all()
    values, counts = np.unique(y, return_counts=True)
    if strategy == "quantile" and counts.max() >= 90:  # the value that is there most often is alone in its bin
        often = values[counts.argmax()]
        alone = bins.encode([often])[0]
        assert n_bins == 2 or set(np.array(y)[labels == alone]) == {often}


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match=r"n_bins: expected an integer, got 4\.0"):
        fnn.RegressionBins(4.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"y: expected targets whose range is finite, got -1e[+]308 to 1e[+]308"):
        fnn.RegressionBins(4).fit([-1e308, 1e308])
    with pytest.raises(ValueError, match="n_bins: expected at least 2"):
        fnn.RegressionBins(1)
    with pytest.raises(ValueError, match="strategy: expected"):
        fnn.RegressionBins(4, "kmeans")
    bins = fnn.RegressionBins(4)
    with pytest.raises(RuntimeError, match="fit"):
        bins.encode(Y)
    for bad in (np.full(3, 1.0), [], [1.0, np.nan], np.ones((2, 2))):
        with pytest.raises(ValueError, match="y: expected"):
            bins.fit(bad)
    with pytest.raises(ValueError, match=r"probabilities: expected shape \(N, 4\), got \(2, 3\)"):
        bins.fit(Y).decode(np.ones((2, 3)))
