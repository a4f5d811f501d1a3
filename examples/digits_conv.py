"""A small convolutional network for handwritten digits: its filters, and the digits that it takes for others.

Run it with: python examples/digits_conv.py [--out digits_conv.png] [--layout nhwc]
"""

import argparse
import math

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


def train(layout="nchw", epochs=EPOCHS, progress=True):
    """The network, the run, and its scores for the test images."""
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
        progress=progress,
    )
    return net, run, net.predict(x_test)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="digits_conv.png", help="the picture")
    parser.add_argument("--quick", action="store_true", help="one epoch")
    parser.add_argument("--layout", choices=("nchw", "nhwc"), default="nchw")
    options = parser.parse_args(argv)
    net, run, scores = train(options.layout, 1 if options.quick else EPOCHS)
    print(f"test accuracy {run.history['val_accuracy'][-1]:.4f} after {run.seconds:.1f} s")
    draw(net, run, scores, options.out)


def draw(net, run, scores, path):
    """Filters of the first layer, the way there, and the test images that the network is least right about."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    digits = load_digits()
    figure = pyplot.figure(figsize=(13, 4.6), layout="constrained")
    left, middle, right = figure.subfigures(1, 3, width_ratios=(1, 1.1, 1.1))
    filters = net[0].weight.data.reshape(16, 3, 3)
    limit = np.abs(filters).max()
    left.suptitle("Filters of the first layer")
    for ax, image in zip(left.subplots(4, 4).flat, filters, strict=True):
        ax.imshow(image, cmap="RdBu", vmin=-limit, vmax=limit)
        ax.set_axis_off()
    ax = middle.subplots()
    for name, label in (("accuracy", "training, with dropout"), ("val_accuracy", "test")):
        ax.plot(range(1, run.epoch + 1), run.history[name], marker=".", label=label)
    ax.set(xlabel="epoch", ylim=(None, 1))
    ax.legend(frameon=False)
    middle.suptitle("Accuracy")
    true = scores[np.arange(len(scores)), digits.test_labels]
    scores[np.arange(len(scores)), digits.test_labels] = -np.inf
    right.suptitle("Hardest test images: label, rival")
    for ax, index in zip(right.subplots(3, 5).flat, np.argsort(true - scores.max(axis=1)), strict=False):
        ax.imshow(digits.test_images[index], cmap="gray_r")
        rival = scores[index].argmax()
        wrong = scores[index, rival] > true[index]
        ax.set_title(f"{digits.test_labels[index]}, {rival}", color="C3" if wrong else "k", fontsize=10)
        ax.set_axis_off()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
