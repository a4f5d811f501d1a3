"""From coarse to fine: a random search for the learning rate, the L2 penalty and the dropout of a small network.

Many points and one epoch tell what does not learn at all; fewer points around the best one and five epochs tell more;
the last stage trains for long.  Rate and penalty act as factors, so they are drawn on a logarithmic scale, dropout on
its own.  A best point at the edge of its range may not be the best: the next stage looks on both sides of
it, and the last one says so.

Run it with: python examples/search.py [--out search.png]

It needs scikit-learn and SciPy: pip install 'fastnn-kernels[sklearn]'
"""

import argparse
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


def notes(each):
    """What there is to say about best values at an edge of the range that was searched."""
    best, lines = named(each.best_params_), []
    for name, (low, high) in ((name, spread.support()) for name, spread in named(each.param_distributions).items()):
        if side := edge(name, best[name], low, high):
            lines.append(f"{name} {best[name]:.3g} is at the {side} edge of {low:.3g} ... {high:.3g}: look beyond")
    return lines


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
        best = named(each.best_params_)
        ranges = {name: narrowed(name, best[name], *ends) for name, ends in ranges.items()}
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="search.png", help="the picture")
    parser.add_argument("--quick", action="store_true", help="few points, few epochs")
    options = parser.parse_args(argv)
    stages = [(4, 1), (3, 2)] if options.quick else STAGES
    (x, labels), (x_test, labels_test) = digits()
    found = search(x, labels, stages)
    for (points, epochs), each in zip(stages, found, strict=True):
        best = ", ".join(f"{name} {value:.3g}" for name, value in named(each.best_params_).items())
        print(f"{points} points, {epochs:2d} epochs: accuracy {each.best_score_:.4f} at {best}")
        print(*(f"    {note}\n" for note in notes(each)), sep="", end="")
    print(f"test accuracy {found[-1].score(x_test, labels_test):.4f}")
    draw(found, stages, options.out)


def named(parameters):
    """Without the name of the step of the pipeline."""
    return {name.rpartition("__")[2]: value for name, value in parameters.items()}


def draw(found, stages, path):
    """Every point of every stage, the range that the stage had, and dotted that of the stage before."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    across, *upwards = COARSE
    figure, axes = pyplot.subplots(len(upwards), len(found), figsize=(13, 7.5), layout="constrained", squeeze=False)
    scores = np.concatenate([each.cv_results_["mean_test_score"] for each in found])
    colours = {"vmin": 0.1, "vmax": scores.max(), "cmap": "viridis"}
    ranges = [named(each.param_distributions) for each in found]
    for column, (each, (points, epochs)) in enumerate(zip(found, stages, strict=True)):
        tried = [named(parameters) for parameters in each.cv_results_["params"]]
        best = named(each.best_params_)
        for row, name in enumerate(upwards):
            ax = axes[row, column]
            ax.set_xscale("log")
            ax.set_yscale("log" if LOGARITHMIC[name] else "linear")
            for spans, style in (
                (ranges[max(column - 1, 0)], {"ls": ":", "ec": "0.6"}),
                (ranges[column], {"ec": "0.2"}),
            ):
                (left, right), (low, high) = (spans[one].support() for one in (across, name))
                ax.add_patch(pyplot.Rectangle((left, low), right - left, high - low, fill=False, **style))
            dots = ax.scatter(
                *([point[one] for point in tried] for one in (across, name)),
                c=each.cv_results_["mean_test_score"],
                s=45,
                ec="w",
                lw=0.5,
                **colours,
            )
            ax.plot(best[across], best[name], "*", ms=19, mfc="none", mec="crimson", mew=1.5)
            ax.autoscale_view()
            if column == 0:
                ax.set_ylabel(name)
        axes[0, column].set_title(f"{points} points, {epochs} epoch{'s' if epochs > 1 else ''}: {each.best_score_:.3f}")
        axes[-1, column].set_xlabel(across)
    figure.colorbar(dots, ax=axes, label="accuracy in cross-validation")
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
