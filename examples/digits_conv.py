"""A small convolutional network for handwritten digits.

Run it with: python examples/digits_conv.py [--layout nhwc]
"""

import argparse
import math
import time

import numpy as np

import fastnn as fnn
from fastnn.data import load_digits
from fastnn.schedules import cosine
from fastnn.train import fit

EPOCHS, BATCH, LR = 10, 32, 3e-3


def network(axis):
    rng = fnn.Generator(0)
    options = {"channel_axis": axis}
    return fnn.Sequential(
        fnn.Conv2d(1, 16, 3, padding=1, rng=rng, **options),
        fnn.BatchNorm2d(16, **options),
        fnn.ReLU(),
        fnn.Conv2d(16, 32, 3, padding=1, rng=rng, **options),
        fnn.BatchNorm2d(32, **options),
        fnn.ReLU(),
        fnn.MaxPool2d(2, **options),
        fnn.Conv2d(32, 64, 3, padding=1, rng=rng, **options),
        fnn.BatchNorm2d(64, **options),
        fnn.ReLU(),
        fnn.Dropout(0.3, rng=rng),
        fnn.GlobalAvgPool2d(**options),
        fnn.Linear(64, 10, rng=rng),
    )


def train(layout="nchw", epochs=EPOCHS, verbose=True):
    """Accuracy on the test images."""
    axis = 1 if layout == "nchw" else -1
    digits = load_digits()
    x_train, x_test = (
        np.expand_dims(images.astype(np.float32) / 16, axis) for images in (digits.train_images, digits.test_images)
    )
    net = network(axis)
    opt = fnn.optim.Adam(net.parameters(), lr=cosine(LR, epochs * math.ceil(len(x_train) / BATCH)))
    run = fit(
        net,
        fnn.CrossEntropyLoss(),
        opt,
        x_train,
        digits.train_labels,
        epochs=epochs,
        batch_size=BATCH,
        validation=(x_test, digits.test_labels),
        progress=verbose,
    )
    return run.history["val_accuracy"][-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layout", choices=("nchw", "nhwc"), default="nchw")
    start = time.perf_counter()
    accuracy = train(parser.parse_args().layout)
    print(f"test accuracy {accuracy:.4f} after {time.perf_counter() - start:.1f} s")
