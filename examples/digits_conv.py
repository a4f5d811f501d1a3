"""A small convolutional network for handwritten digits.

Run it with: python examples/digits_conv.py [--layout nhwc]
"""

import argparse
import math
import time

import numpy as np

import fastnn as fnn
from fastnn.data import load_digits

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
    net, loss_fn = network(axis), fnn.CrossEntropyLoss()
    opt = fnn.optim.Adam(net.parameters(), lr=LR)
    rng = np.random.default_rng(0)
    steps, step = epochs * math.ceil(len(x_train) / BATCH), 0
    for epoch in range(epochs):
        order = rng.permutation(len(x_train))
        for batch in np.split(order, range(BATCH, len(order), BATCH)):
            opt.lr = LR * (1 + math.cos(math.pi * step / steps)) / 2
            step += 1
            loss = loss_fn(net(x_train[batch]), digits.train_labels[batch])
            net.backward(loss_fn.backward(), need_dx=False)
            opt.step()
        accuracy = float((net.predict(x_test).argmax(axis=1) == digits.test_labels).mean())
        if verbose:
            print(f"epoch {epoch + 1:2d}  loss {loss:.4f}  test accuracy {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layout", choices=("nchw", "nhwc"), default="nchw")
    start = time.perf_counter()
    accuracy = train(parser.parse_args().layout)
    print(f"test accuracy {accuracy:.4f} after {time.perf_counter() - start:.1f} s")
