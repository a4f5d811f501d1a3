"""Four ways to an ensemble: other initial weights, other hyperparameters, snapshots of one training, averaged weights.

The first two train a network for each member; snapshots at the ends of the cycles of a cyclic learning rate come out of
one training, and an average of the weights predicts at the price of one network.

Run it with: python examples/ensembles.py [--out ensembles.png]

It needs scikit-learn and SciPy: pip install 'fastnn-kernels[sklearn]'
"""

import argparse
import math
from functools import partial

from search import digits, search
from sklearn.preprocessing import MinMaxScaler

import fastnn.functional as F
from fastnn import recalibrate
from fastnn.ensemble import Ensemble
from fastnn.optim import EMA, Adam
from fastnn.schedules import cosine_restarts
from fastnn.sklearn import MLPClassifier

BATCH = 64


class Snapshots:
    """A callback that keeps the state of the network at the end of each cycle."""

    def __init__(self, every):
        self.every, self.states = every, []

    def on_epoch_end(self, estimator):
        if estimator.n_iter_ % self.every == 0:
            self.states.append(estimator.net_.state_dict())


class AveragedWeights:
    """A callback that keeps the state of the network with averaged weights, and their statistics in batch norm."""

    def __init__(self, x):
        self.x, self.state = x, None

    def on_fit_end(self, estimator):
        net = estimator.net_
        with estimator.optimizer_.averaged():
            recalibrate(net, [self.x])
            self.state = net.state_dict()
        recalibrate(net, [self.x])


def compare(members=5, epochs=20, stages=((20, 1), (10, 5), (5, 20)), hidden=(128,)):
    """{way: (accuracies of the members, of the ensemble)} on the test images."""
    (x, labels), (x_test, labels_test) = digits()
    scaler = MinMaxScaler().fit(x)
    x, x_test = scaler.transform(x), scaler.transform(x_test)

    def network(**options):
        given = {"batch_norm": True, "dropout": 0.2, "learning_rate_init": 3e-3, "batch_size": BATCH}
        return MLPClassifier(
            hidden, **{"max_iter": epochs, "n_iter_no_change": math.inf, "random_state": 0} | given | options
        )

    def accuracy(probabilities):
        return float((probabilities.argmax(axis=1) == labels_test).mean())

    def both(ensemble):
        return [accuracy(probabilities) for probabilities in ensemble.each(x_test)], accuracy(ensemble.predict(x_test))

    results = {}
    seeds = [network(random_state=seed).fit(x, labels) for seed in range(members)]
    results["initial weights"] = both(Ensemble(seeds))

    last = search(x, labels, stages=stages, hidden=hidden)[-1].cv_results_
    best = sorted(zip(last["rank_test_score"], range(len(last["params"])), last["params"], strict=True))[:members]
    chosen = [{name.rpartition("__")[2]: value for name, value in params.items()} for _, _, params in best]
    others = [network(**options).fit(x, labels) for options in chosen]
    results["hyperparameters"] = both(Ensemble(others))

    cycle = math.ceil(len(x) / BATCH) * epochs
    snapshots = Snapshots(every=epochs)
    rate = cosine_restarts(1e-2, cycle)
    one = network(learning_rate=rate, max_iter=members * epochs, callbacks=[snapshots]).fit(x, labels)
    results["snapshots"] = both(Ensemble.of_states(one.net_, snapshots.states, output=F.softmax))

    averaged = AveragedWeights(x)
    noisy = network(solver=partial(Adam, average=EMA(0.99)), learning_rate_init=1e-2, callbacks=[averaged])
    noisy.fit(x, labels)
    mean = Ensemble.of_states(noisy.net_, [averaged.state], output=F.softmax)
    results["averaged weights"] = [accuracy(noisy.predict_proba(x_test))], accuracy(mean.predict(x_test))
    return results


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="ensembles.png", help="the picture")
    parser.add_argument("--quick", action="store_true", help="two members, few epochs")
    options = parser.parse_args(argv)
    quick = {"members": 2, "epochs": 5, "stages": ((4, 1), (3, 2)), "hidden": (64,)}
    results = compare(**quick if options.quick else {})
    for way, (members, together) in results.items():
        print(f"{way:17s} single {sum(members) / len(members):.4f}  ensemble {together:.4f}")
    draw(results, options.out)


def draw(results, path):
    """Accuracy of each member and of all together."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(8, 3.8), layout="constrained")
    for row, (members, together) in enumerate(results.values()):
        mean = sum(members) / len(members)
        ax.annotate("", (together, row), (mean, row), arrowprops={"arrowstyle": "->", "color": "0.5"})
        ax.plot(members, [row] * len(members), "o", color="C0", ms=8, alpha=0.5, mew=0, label="a member")
        ax.plot(mean, row, "|", color="C0", ms=20, mew=2, label="their mean")
        ax.plot(together, row, "D", color="C1", ms=10, label="the ensemble")
    ax.set_yticks(range(len(results)), results)
    ax.set(xlabel="test accuracy", ylim=(len(results) - 0.5, -0.5))
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    handles = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
