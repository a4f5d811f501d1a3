"""Checks before a training: gradients, the loss at the start, the penalty, a few samples learned by heart.

Run it with: python examples/checks.py [--out checks.png]
"""

import argparse

import numpy as np

import fastnn as fnn
import fastnn.functional as F
from fastnn.checks import gradcheck, sanity_report
from fastnn.data import load_digits

digits = load_digits()
x, labels = digits.train_images.reshape(-1, 64).astype(np.float32) / 16, digits.train_labels


def network(scale=1.0, dropout=0.2):
    """A sound one; with a large scale its first scores are too large."""
    rng = fnn.Generator(0)
    net = fnn.Sequential(
        fnn.Linear(64, 100, rng=rng),
        fnn.BatchNorm1d(100),
        fnn.ReLU(),
        fnn.Dropout(dropout),
        fnn.Linear(100, 10, rng=rng),
    )
    net[-1].weight.data *= scale
    return net


def wrong_silu(x):
    """The sum of x * sigmoid(x), and a gradient that forgets a factor."""
    gate = F.sigmoid(x)
    return F.silu(x).sum(), gate + x * gate  # should be gate + x * gate * (1 - gate)


def errors_over_steps():
    """Relative error of the difference quotient of tanh's derivative, by its step: one-sided and centred."""
    at, steps = np.linspace(0.1, 2, 20), 10.0 ** np.arange(-12, 0, 0.25)
    found = {}
    for dtype in (np.float64, np.float32):
        points = at.astype(dtype)
        right = 1 - np.tanh(points.astype(np.float64)) ** 2
        middle = F.tanh(points)
        for name in ("one-sided", "centred"):
            errors = []
            for step in steps:
                above, below = points + dtype(step), points - dtype(step)
                high, low = (above, below) if name == "centred" else (above, points)
                with np.errstate(all="ignore"):
                    quotient = (F.tanh(high) - (F.tanh(below) if name == "centred" else middle)) / (high - low)
                error = np.abs(quotient - right) / right
                errors.append(np.nan_to_num(error, nan=1.0).max())
            found[f"{name}, {np.dtype(dtype)}"] = np.array(errors)
    return steps, found


def by_heart(steps, samples=20):
    """Losses of 20 samples, over steps: with their labels, and for an optimizer that is given a wrong gradient."""
    few = np.random.default_rng(0).permutation(len(x))[:samples]
    found = {}
    for name, sign in {"sound": 1.0, "gradient negated": -1.0, "learning rate 1e-5": 1.0}.items():
        net, loss_fn = network(dropout=0), fnn.CrossEntropyLoss()
        opt = fnn.optim.Adam(net.parameters(), lr=1e-5 if name.startswith("learning") else 3e-3)
        found[name] = []
        for _ in range(steps):
            y, saved = net.forward(x[few])
            loss, dy = loss_fn.forward(y, labels[few])
            net.backward(sign * dy, saved, need_dx=False)
            opt.step()
            found[name].append(loss)
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="checks.png", help="the picture")
    parser.add_argument("--quick", action="store_true", help="few steps")
    options = parser.parse_args(argv)
    steps = 20 if options.quick else 200
    print("a sound network")
    sanity_report(network(), fnn.CrossEntropyLoss(), (x, labels))
    print("\nweights of the last layer 30 times as large")
    sanity_report(network(30.0), fnn.CrossEntropyLoss(), (x, labels))
    print("\na gradient with a mistake")
    print(gradcheck(wrong_silu, np.random.default_rng(0).normal(size=(4, 5))))
    draw(errors_over_steps(), by_heart(steps), options.out)


def draw(errors, losses, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (quotients, learned) = pyplot.subplots(1, 2, figsize=(13, 4.6), layout="constrained")
    steps, found = errors
    for name, values in found.items():
        style = {"color": "C0" if "64" in name else "C1", "ls": "-" if "centred" in name else "--"}
        quotients.plot(steps, values, label=name, **style)
    quotients.set(xscale="log", yscale="log", ylim=(1e-12, 2), xlabel="step", ylabel="relative error")
    quotients.set_title("Difference quotients of tanh")
    quotients.legend(frameon=False, fontsize=9)
    for name, values in losses.items():
        learned.plot(values, label=name)
    learned.axhline(np.log(10), color="0.6", lw=1, ls=":")
    learned.annotate(
        "ln 10: nothing known", (0.99, np.log(10)), xycoords=("axes fraction", "data"), ha="right", va="bottom"
    )
    learned.set(yscale="log", ylim=(1e-3, 100), xlabel="step", ylabel="loss", title="20 samples by heart")
    learned.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
