"""Batch norm: networks that train from almost any initial weights and at rates that would blow up without it.

Run it with: python examples/batch_norm.py [--out batch_norm.png]
"""

import argparse

import numpy as np

import fastnn as fnn
from fastnn.data import load_digits

EPOCHS, BATCH, HIDDEN, DEPTH = 5, 64, 64, 5
SCALES = tuple(2.0**k for k in range(-8, 5, 2))
"""Of the initial weights, in units of sqrt(2 / inputs)."""
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)

digits = load_digits()
x, x_test = (images.reshape(-1, 64).astype(np.float32) / 16 for images in (digits.train_images, digits.test_images))


def network(scale, norm):
    """A deep network of ReLU layers."""
    rng, generator = np.random.default_rng(1), fnn.Generator(0)
    layers, width = [], 64
    for _ in range(DEPTH):
        linear = fnn.Linear(width, HIDDEN, rng=generator)
        linear.weight.data[...] = rng.normal(0, scale * np.sqrt(2 / width), linear.weight.data.shape)
        layers += [linear, *([fnn.BatchNorm1d(HIDDEN)] if norm else []), fnn.ReLU()]
        width = HIDDEN
    return fnn.Sequential(*layers, fnn.Linear(width, 10, rng=generator))


@np.errstate(over="ignore", invalid="ignore")  # some blow up: that is the point
def train(net, lr, epochs):
    rng, loss_fn = np.random.default_rng(0), fnn.CrossEntropyLoss()
    opt = fnn.optim.SGD(net.parameters(), lr, momentum=0.9)
    for _ in range(epochs):
        for batch in rng.permutation(len(x))[: len(x) // BATCH * BATCH].reshape(-1, BATCH):
            if not np.isfinite(loss_fn(net(x[batch]), digits.train_labels[batch])):
                return net
            net.backward(loss_fn.backward(), need_dx=False)
            opt.step()
    return net


@np.errstate(over="ignore", invalid="ignore")
def accuracy(net):
    return float((net.predict(x_test).argmax(axis=1) == digits.test_labels).mean())


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="batch_norm.png", help="the picture")
    parser.add_argument("--quick", action="store_true", help="one epoch, one rate")
    options = parser.parse_args(argv)
    rates, epochs = (RATES[1:2], 1) if options.quick else (RATES, EPOCHS)
    found = {
        norm: np.array([[accuracy(train(network(scale, norm), lr, epochs)) for scale in SCALES] for lr in rates])
        for norm in (False, True)
    }
    for norm, table in found.items():
        print(f"{'with' if norm else 'without'} batch norm: test accuracy over initial scale (columns) and rate (rows)")
        print(" " * 8 + "".join(f"{scale:8.3g}" for scale in SCALES))
        for lr, row in zip(rates, table, strict=True):
            print(f"{lr:8g}" + "".join(f"{value:8.3f}" for value in row))
    print(f"trained to 0.9 or better: {(found[False] > 0.9).mean():.0%} without, {(found[True] > 0.9).mean():.0%} with")
    running, exact = test_time(epochs)
    print(f"test accuracy by running averages {running:.4f}, by the statistics of the training set {exact:.4f}")
    draw(found, rates, options.out)


def test_time(epochs):
    """The two ways to normalise when training is over."""
    net = train(network(1.0, True), 0.03, epochs)
    running = accuracy(net)
    fnn.recalibrate(net, np.split(x, range(256, len(x), 256)))
    return running, accuracy(net)


def draw(found, rates, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.6), layout="constrained", sharey=True)
    for ax, (norm, table) in zip(axes, found.items(), strict=True):
        image = ax.imshow(table, vmin=0.1, vmax=1, origin="lower", aspect="auto", cmap="viridis")
        ax.set_xticks(range(len(SCALES)), [f"{scale:.3g}" for scale in SCALES])
        ax.set_yticks(range(len(rates)), [f"{lr:g}" for lr in rates])
        ax.set(title=f"{'with' if norm else 'without'} batch norm", xlabel="initial weights / sqrt(2 / inputs)")
        for (i, j), value in np.ndenumerate(table):
            ax.text(j, i, f"{value:.2f}", ha="center", va="center", color="w" if value < 0.6 else "k", fontsize=9)
    axes[0].set_ylabel("learning rate")
    figure.colorbar(image, ax=axes, label="test accuracy")
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
