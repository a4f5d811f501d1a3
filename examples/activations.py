"""Every activation: its curve and its slope, and what a small network learns with it on handwritten digits.

Run it with: python examples/activations.py [--out activations.png]
"""

import argparse

import numpy as np

import fastnn as fnn
import fastnn.functional as F
from fastnn.data import load_digits

EPOCHS, BATCH, HIDDEN, DEPTH, LR = 15, 32, 32, 3, 2e-3

LAYERS = {
    "sigmoid": fnn.Sigmoid,
    "tanh": fnn.Tanh,
    "softsign": fnn.Softsign,
    "hardtanh": fnn.Hardtanh,
    "relu": fnn.ReLU,
    "relu6": fnn.ReLU6,
    "leaky_relu": fnn.LeakyReLU,
    "elu": fnn.ELU,
    "selu": fnn.SELU,
    "celu": fnn.CELU,
    "softplus": fnn.Softplus,
    "gelu": fnn.GELU,
    "silu": fnn.SiLU,
    "mish": fnn.Mish,
    "hardswish": fnn.Hardswish,
}


def train(layer, epochs):
    """Test accuracy after each epoch."""
    digits, rng = load_digits(), np.random.default_rng(0)
    x, x_test = (images.reshape(-1, 64).astype(np.float32) / 16 for images in (digits.train_images, digits.test_images))
    fnn.manual_seed(0)
    layers, width = [], 64
    for _ in range(DEPTH):
        layers += [fnn.Linear(width, HIDDEN), layer()]
        width = HIDDEN
    net, loss_fn = fnn.Sequential(*layers, fnn.Linear(width, 10)), fnn.CrossEntropyLoss()
    opt = fnn.optim.Adam(net.parameters(), lr=LR)
    accuracies = []
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for batch in np.split(order, range(BATCH, len(order), BATCH)):
            loss_fn(net(x[batch]), digits.train_labels[batch])
            net.backward(loss_fn.backward(), need_dx=False)
            opt.step()
        accuracies.append(float((net.predict(x_test).argmax(axis=1) == digits.test_labels).mean()))
    return accuracies


def draw(accuracies, path):
    """Curve and slope of each, and the accuracy of its network after every epoch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = 5
    figure, axes = pyplot.subplots(2 * -(-len(accuracies) // columns), columns, figsize=(13, 13), layout="constrained")
    x = np.linspace(-4, 4, 401, dtype=np.float32)
    for index, (name, values) in enumerate(accuracies.items()):
        row, column = divmod(index, columns)
        curve, learning = axes[2 * row, column], axes[2 * row + 1, column]
        curve.axhline(0, color="0.8", lw=0.8)
        curve.axvline(0, color="0.8", lw=0.8)
        curve.plot(x, getattr(F, name)(x), lw=2, label="value")
        curve.plot(x, slope(name, x), lw=1.2, label="slope")
        curve.set(title=name, ylim=(-1.6, 3), xlim=(-4, 4))
        learning.plot(range(1, len(values) + 1), values, marker=".", color="C2")
        learning.set(ylim=(0, 1), xlabel="epoch")
        learning.annotate(f"{values[-1]:.3f}", (0.95, 0.1), xycoords="axes fraction", ha="right")
        if column == 0:
            learning.set_ylabel("test accuracy")
    axes[0, 0].legend(loc="upper left", frameon=False)
    figure.savefig(path, dpi=80)


def slope(name, x):
    """The derivative at x: the backward pass of a gradient of ones."""
    layer = LAYERS[name]()
    _, saved = layer.forward(x)
    return layer.backward(np.ones_like(x), saved)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="activations.png", help="the picture")
    parser.add_argument("--quick", action="store_true", help="one epoch")
    options = parser.parse_args(argv)
    accuracies = {}
    for name, layer in LAYERS.items():
        accuracies[name] = train(layer, 1 if options.quick else EPOCHS)
        print(
            f"{name:11} test accuracy {accuracies[name][0]:.4f} after an epoch, {accuracies[name][-1]:.4f} at the end"
        )
    draw(accuracies, options.out)


if __name__ == "__main__":
    main()
