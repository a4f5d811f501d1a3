"""From coarse to fine: a random search for the learning rate, the L2 penalty and the dropout of a small network.

Many points and one epoch tell what does not learn at all; fewer points around the best one and five epochs tell more;
the last stage trains for long.  Rate and penalty act as factors, so they are drawn on a logarithmic scale, dropout on
its own.  A best point at the edge of its range may not be the best: the next stage looks on both sides of it.

Needs scikit-learn and SciPy: pip install 'fastnn-kernels[sklearn]'
Run it with: python examples/search.py
"""

import math
import warnings

import numpy as np
from scipy.stats import loguniform, uniform
from sklearn.model_selection import RandomizedSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from fastnn.data import load_digits
from fastnn.sklearn import MLPClassifier

LOGARITHMIC = {"learning_rate_init": True, "alpha": True, "dropout": False}
COARSE = {"learning_rate_init": (1e-6, 10.0), "alpha": (1e-5, 1e3), "dropout": (0.0, 0.9)}
STAGES = [(40, 1), (20, 5), (10, 30)]  # points, epochs
LIMITS = {"dropout": (0.0, 0.95)}  # beyond them there is nothing
EDGE = 0.1  # share of a range, at either end


def digits():
    """Rows and labels, for training and for the test."""
    data = load_digits()
    rows = (images.reshape(-1, 64).astype(np.float32) for images in (data.train_images, data.test_images))
    return (*zip(rows, (data.train_labels, data.test_labels), strict=True),)


def distribution(name, low, high):
    return loguniform(low, high) if LOGARITHMIC[name] else uniform(low, high - low)


def edge(name, value, low, high):
    """At which end of the range `value` is, "lower" or "upper", if there is something beyond it; else None."""
    least, most = LIMITS.get(name, (0.0, math.inf))
    scale = math.log if LOGARITHMIC[name] else float
    place = (scale(value) - scale(low)) / (scale(high) - scale(low))
    if place < EDGE and low > least:
        return "lower"
    return "upper" if place > 1 - EDGE and high < most else None


def narrowed(name, value, low, high):
    """A third of the range, around `value`; it leaves the old range where `value` is near its end."""
    if LOGARITHMIC[name]:
        factor = (high / low) ** (1 / 6)
        return value / factor, value * factor
    half, (least, most) = (high - low) / 6, LIMITS[name]
    return max(value - half, least), min(value + half, most)


def search(x, labels, stages=STAGES, ranges=COARSE, hidden=(128,), folds=3, seed=0):
    """The searches of all stages; the last one's `best_estimator_` is fitted on all of `x`."""
    found, ranges = [], dict(ranges)
    for points, epochs in stages:
        network = MLPClassifier(
            hidden, batch_norm=True, batch_size=64, max_iter=epochs, n_iter_no_change=math.inf, random_state=seed
        )
        each = RandomizedSearchCV(
            make_pipeline(MinMaxScaler(), network),
            {f"mlpclassifier__{name}": distribution(name, *ends) for name, ends in ranges.items()},
            n_iter=points,
            cv=StratifiedKFold(folds, shuffle=True, random_state=seed),
            random_state=seed + len(found),
            error_score=0.0,  # a rate that is far too large ends in NaN
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # so does an overflow on the way
            each.fit(x, labels)
        found.append(each)
        best = {name: each.best_params_[f"mlpclassifier__{name}"] for name in ranges}
        for name, (low, high) in ranges.items():
            if side := edge(name, best[name], low, high):
                place = f"at the {side} edge of {low:.3g} ... {high:.3g}"
                warnings.warn(
                    f"{name}: the best value, {best[name]:.3g}, is {place}; there may be better ones beyond",
                    stacklevel=2,
                )
        ranges = {name: narrowed(name, best[name], *ends) for name, ends in ranges.items()}
    return found


if __name__ == "__main__":
    (x, labels), (x_test, labels_test) = digits()
    found = search(x, labels)
    for (points, epochs), each in zip(STAGES, found, strict=True):
        best = {name.rpartition("__")[2]: f"{value:.3g}" for name, value in each.best_params_.items()}
        print(f"{points} points, {epochs:2d} epochs: accuracy {each.best_score_:.4f} at {best}")
    print(f"test accuracy {found[-1].score(x_test, labels_test):.4f}")
