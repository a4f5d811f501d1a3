"""Babysitting: a learning rate from `lr_range`, a training with `fit`, and a `Monitor` that watches it.

Run it with: python examples/training.py [--out training.png] [--report report.html] [--data DIR] [--epochs N]
"""

import argparse
import math

import numpy as np

import fastnn as fnn
from fastnn.data import load_digits, load_idx
from fastnn.monitor import Monitor
from fastnn.schedules import cosine, warmup
from fastnn.train import EarlyStopping, evaluate, fit, lr_range

HIDDEN, BATCH = 256, 64


def network(inputs, classes):
    return fnn.Sequential(
        fnn.Flatten(),
        *(fnn.Linear(inputs, HIDDEN), fnn.BatchNorm1d(HIDDEN), fnn.ReLU(), fnn.Dropout(0.3)),
        *(fnn.Linear(HIDDEN, HIDDEN), fnn.BatchNorm1d(HIDDEN), fnn.ReLU(), fnn.Dropout(0.3)),
        fnn.Linear(HIDDEN, classes),
    )


def noisy(images, rng):
    """The images, with noise: never the same ones twice."""
    return images + 0.1 * rng.standard_normal(images.shape, np.float32)


def train(data=None, epochs=20, report="report.html", checkpoint=None, progress=True):
    """What `lr_range` has found, the monitor, and the accuracy on the test images."""
    dataset = load_digits() if data is None else load_idx(data)
    scale = dataset.train_images.max()
    x, x_test = (np.asarray(images / scale, np.float32) for images in (dataset.train_images, dataset.test_images))
    y = dataset.train_labels
    held_out = len(x) // 10
    fnn.manual_seed(0)
    net, loss_fn = network(math.prod(x.shape[1:]), int(y.max()) + 1), fnn.CrossEntropyLoss()
    opt = fnn.optim.AdamW(net.parameters(), weight_decay=0.01, decay="weights")
    found = lr_range(net, loss_fn, opt, x[held_out:], y[held_out:], batch_size=BATCH, transform=noisy)
    print(f"learning rate: loss lowest at {found.suggestion * 10:.2g}, a tenth of it is {found.suggestion:.2g}")
    steps = epochs * math.ceil((len(x) - held_out) / BATCH)
    opt.lr = warmup(cosine(found.suggestion, steps - steps // 20), max(1, steps // 20))
    monitor = Monitor(report=report, every=max(1, steps // 100), title=dataset.name)
    run = fit(
        net,
        loss_fn,
        opt,
        x[held_out:],
        y[held_out:],
        epochs=epochs,
        batch_size=BATCH,
        validation=(x[:held_out], y[:held_out]),
        transform=noisy,
        callbacks=[EarlyStopping("val_accuracy", mode="max"), monitor],
        checkpoint=checkpoint,
        resume=True,
        progress=progress,
    )
    test = evaluate(net, loss_fn, x_test, dataset.test_labels)
    print(f"test accuracy {test['accuracy']:.4f} after {run.epoch} epochs, {run.seconds:.1f} s")
    return found, monitor, test["accuracy"]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="training.png", help="the picture")
    parser.add_argument("--quick", action="store_true", help="two epochs")
    parser.add_argument("--report", metavar="FILE", default="report.html", help="the monitor's page")
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="four IDX files instead of the packaged digits, such as /usr/share/datasets/fashion-mnist, where Debian's "
        "dataset-fashion-mnist puts them",
    )
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="store the state in it, and continue from it if it is there"
    )
    options = parser.parse_args(argv)
    epochs = 2 if options.quick else options.epochs
    found, monitor, _ = train(options.data, epochs, options.report, options.checkpoint)
    draw(found, monitor, options.out)


def draw(found, monitor, path):
    """What to look at; the monitor's report has all this and more."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7.5), layout="constrained")
    (rates, losses, accuracies), (ratios, spreads, weights) = axes
    rates.plot(found.rates, found.losses)
    rates.axvline(found.suggestion, color="C3", ls="--", label=f"suggestion: {found.suggestion:.2g}")
    rates.set(xscale="log", xlabel="learning rate", ylabel="loss", title="Range test", ylim=(0, None))
    losses.plot(monitor.losses, color="0.8", lw=0.8, label="batches")
    for ax, name in ((losses, "loss"), (accuracies, "accuracy")):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            ax.plot(monitor.epochs[key].steps, monitor.epochs[key].values, marker=".", label=label)
        ax.set(xlabel="step", title=name.capitalize())
    losses.set(ylim=(0, None))
    ratios.axhspan(1e-4, 1e-2, color="0.94")
    ratios.axhline(1e-3, color="0.5", ls="--", lw=1)
    for name, trace in monitor.records["ratio"].items():
        ratios.plot(trace.steps, trace.values, label=name)
    ratios.set(yscale="log", ylim=(1e-5, None), xlabel="step", title="Size of a step / size of the weight")
    for name, trace in monitor.records["std"].items():
        spreads.plot(trace.steps, trace.values, label=name)
    spreads.set(xlabel="step", title="Standard deviation of outputs", ylim=(0, None))
    for ax in (rates, losses, accuracies, ratios, spreads):
        ax.legend(frameon=False, fontsize=8)
    rows, columns = 6, 8
    first = next(weight.data for weight in monitor.net.parameters())[: rows * columns]
    side, limit = math.isqrt(first.shape[1]), np.abs(first).max()
    tiles = np.pad(first.reshape(rows, columns, side, side), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    picture = tiles.transpose(0, 2, 1, 3).reshape(rows * (side + 1), columns * (side + 1))
    weights.imshow(picture, cmap="RdBu", vmin=-limit, vmax=limit)
    weights.set(title="Weights of the first layer", xticks=[], yticks=[])
    weights.spines[:].set_visible(False)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
