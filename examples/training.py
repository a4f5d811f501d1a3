"""Training with `fit`, watched by a `Monitor` that leaves a report.

Run it with: python examples/training.py [--data DIR] [--epochs N] [--checkpoint FILE]
"""

import argparse
import math

import numpy as np

import fastnn as fnn
from fastnn.data import load_digits, load_idx
from fastnn.monitor import Monitor
from fastnn.schedules import cosine, warmup
from fastnn.train import EarlyStopping, evaluate, fit

HIDDEN, BATCH, LR = 256, 64, 2e-3


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
    """Accuracy on the test images."""
    dataset = load_digits() if data is None else load_idx(data)
    scale = dataset.train_images.max()
    x, x_test = (np.asarray(images / scale, np.float32) for images in (dataset.train_images, dataset.test_images))
    y = dataset.train_labels
    held_out = len(x) // 10
    fnn.manual_seed(0)
    net, loss_fn = network(math.prod(x.shape[1:]), int(y.max()) + 1), fnn.CrossEntropyLoss()
    steps = epochs * math.ceil((len(x) - held_out) / BATCH)
    rate = warmup(cosine(LR, steps - steps // 20), max(1, steps // 20))
    monitor = Monitor(report=report, every=max(1, steps // 100), title=dataset.name)
    run = fit(
        net,
        loss_fn,
        fnn.optim.AdamW(net.parameters(), rate, weight_decay=0.01, decay="weights"),
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
    return test["accuracy"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="four IDX files instead of the packaged digits, such as /usr/share/datasets/fashion-mnist, where Debian's "
        "dataset-fashion-mnist puts them",
    )
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--report", metavar="FILE", default="report.html")
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="store the state in it, and continue from it if it is there"
    )
    train(**vars(parser.parse_args()))
