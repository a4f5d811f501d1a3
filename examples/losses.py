"""Losses: curves, and what networks learn with them: classes, attributes, a number.

Run it with: python examples/losses.py [--out losses.png]
"""

import argparse

import numpy as np

import fastnn as fnn
import fastnn.functional as F
from fastnn.data import load_digits

EPOCHS, BATCH, HIDDEN, LR = 20, 32, 64, 3e-3

digits = load_digits()
x, x_test = (images.reshape(-1, 64).astype(np.float32) / 16 for images in (digits.train_images, digits.test_images))
labels, labels_test = digits.train_labels, digits.test_labels
CLASS_LOSSES = {
    "softmax cross-entropy": fnn.CrossEntropyLoss(),
    "cross-entropy, labels smoothed": fnn.CrossEntropyLoss(label_smoothing=0.1),
    "hinge": fnn.HingeLoss(),
    "squared hinge": fnn.HingeLoss(p=2),
}
ATTRIBUTES = {
    "even": (0, 2, 4, 6, 8),
    "prime": (2, 3, 5, 7),
    "has a loop": (0, 6, 8, 9),
    "more than four": range(5, 10),
}


def train(outputs, targets, loss_fn, epochs, images=x):
    """A network with so many outputs, and the loss's own parameters trained with it."""
    rng, generator = np.random.default_rng(0), fnn.Generator(0)
    net = fnn.Sequential(
        fnn.Linear(images.shape[1], HIDDEN, rng=generator), fnn.ReLU(), fnn.Linear(HIDDEN, outputs, rng=generator)
    )
    own = loss_fn.parameters() if isinstance(loss_fn, fnn.HierarchicalSoftmax) else []
    opt = fnn.optim.Adam([*net.parameters(), *own], lr=LR)
    for _ in range(epochs):
        order = rng.permutation(len(images))
        for batch in np.split(order, range(BATCH, len(order), BATCH)):
            loss_fn(net(images[batch]), targets[batch])
            net.backward(loss_fn.backward(), need_dx=False)
            opt.step()
    return net


def classes(epochs):
    """Test accuracy by each loss of classes, and by a tree of them."""
    found = {}
    for name, loss_fn in CLASS_LOSSES.items():
        scores = train(10, labels, loss_fn, epochs).predict(x_test)
        found[name] = float((scores.argmax(axis=1) == labels_test).mean())
    tree = fnn.HierarchicalSoftmax(HIDDEN, 10, rng=fnn.Generator(1))
    net = train(HIDDEN, labels, tree, epochs)
    found["hierarchical softmax"] = float((tree.predict(net.predict(x_test)) == labels_test).mean())
    return found


def attributes(epochs):
    """Test accuracy for each of several attributes that an image may have at once."""
    table = np.array([[digit in having for having in ATTRIBUTES.values()] for digit in range(10)], np.float32)
    net = train(len(ATTRIBUTES), table[labels], fnn.BCEWithLogitsLoss(), epochs)
    right = (net.predict(x_test) > 0) == table[labels_test].astype(bool)
    return dict(zip(ATTRIBUTES, right.mean(axis=0).tolist(), strict=True))


def regressions(epochs, outliers=0.1):
    """How slanted images are, for the test: a tenth of the numbers to learn from is nonsense."""
    rng = np.random.default_rng(0)
    slants = [rng.uniform(-1, 1, len(images)).astype(np.float32) for images in (x, x_test)]
    slanted = [slanted_images(images, slant) for images, slant in zip((x, x_test), slants, strict=True)]
    taught = slants[0].copy()
    wrong = rng.random(len(taught)) < outliers
    taught[wrong] = rng.normal(0, 20, wrong.sum())
    found = {}
    for name, loss_fn in {"squared error": fnn.MSELoss(), "Huber": fnn.HuberLoss(delta=0.2)}.items():
        net = train(1, taught[:, None], loss_fn, epochs, slanted[0])
        found[name] = net.predict(slanted[1])[:, 0]
    bins = fnn.RegressionBins(20, "uniform").fit([-1, 1])  # nonsense falls into the outermost
    net = train(bins.n_classes, bins.encode(taught), fnn.CrossEntropyLoss(), epochs, slanted[0])
    found["by classification"] = bins.decode(F.softmax(net.predict(slanted[1])))
    return slants[1], found


def slanted_images(images, slants):
    """Rows of 8 x 8 pixels, sheared: a row of pixels moves by its distance from the middle."""
    out = np.zeros((len(images), 8, 8), np.float32)
    for row in range(8):
        place = np.arange(8) + slants[:, None] * (row - 3.5)
        left = np.floor(place).astype(int)
        for column, share in ((left, 1 - (place - left)), (left + 1, place - left)):
            inside = (column >= 0) & (column < 8)
            values = np.take_along_axis(images.reshape(-1, 8, 8)[:, row], column.clip(0, 7), axis=1)
            out[:, row] += np.where(inside, share * values, 0)
    return out.reshape(-1, 64)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="losses.png", help="the picture")
    parser.add_argument("--quick", action="store_true", help="one epoch")
    options = parser.parse_args(argv)
    epochs = 1 if options.quick else EPOCHS
    for name, accuracy in classes(epochs).items():
        print(f"classes     {name:32} test accuracy {accuracy:.4f}")
    for name, accuracy in attributes(epochs).items():
        print(f"attributes  {name:32} test accuracy {accuracy:.4f}")
    slants, predicted = regressions(epochs)
    for name, values in predicted.items():
        print(f"a number    {name:32} mean absolute error {np.abs(values - slants).mean():.4f}")
    draw(slants, predicted, options.out)


def draw(slants, predicted, path):
    """The losses as curves, and the numbers predicted."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(13, 8.5), layout="constrained")
    of_classes, of_attributes, of_numbers = axes[0]
    lead = np.linspace(-4, 4, 161)
    two = np.stack([lead, np.zeros_like(lead)], axis=1)
    for name, loss_fn in CLASS_LOSSES.items():
        losses = [loss_fn.forward(scores[None], np.array([0]))[0] for scores in two]
        of_classes.plot(lead, losses, label=name)
    of_classes.set(title="Two classes", xlabel="score of the label - score of the other", ylim=(-0.1, 5))
    for target in (1.0, 0.0):
        losses = [fnn.BCEWithLogitsLoss().forward(np.array([each]), np.array([target]))[0] for each in lead]
        of_attributes.plot(lead, losses, label=f"target {target:g}")
    of_attributes.set(title="An attribute: binary cross-entropy", xlabel="logit", ylim=(-0.1, 5))
    for name, loss_fn in {"MSE": fnn.MSELoss(), "L1": fnn.L1Loss(), "Huber, delta 1": fnn.HuberLoss()}.items():
        losses = [loss_fn.forward(np.array([each]), np.zeros(1))[0] for each in lead]
        of_numbers.plot(lead, losses, label=name)
    of_numbers.set(title="A number", xlabel="predicted - target", ylim=(-0.1, 5))
    for ax in axes[0]:
        ax.legend(frameon=False, fontsize=9)
        ax.set_ylabel("loss")
    for ax, (name, values) in zip(axes[1], predicted.items(), strict=True):
        ax.plot([-1, 1], [-1, 1], color="0.6", lw=1)
        ax.plot(slants, values, ".", ms=4, alpha=0.6)
        error = np.abs(values - slants).mean()
        ax.set(title=f"{name}: mean error {error:.2f}", xlabel="slant", ylabel="predicted", ylim=(-2, 2))
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
