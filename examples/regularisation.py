"""Regularisation: what penalties, a norm constraint, dropout and noise do to a network that sees few images.

Run it with: python examples/regularisation.py [--out regularisation.png]
"""

import argparse

import numpy as np

import fastnn as fnn
from fastnn.data import load_digits

IMAGES, EPOCHS, BATCH, HIDDEN, LR = 100, 200, 20, 256, 1e-3

digits = load_digits()
x, x_test = (images.reshape(-1, 64).astype(np.float32) / 16 for images in (digits.train_images, digits.test_images))

WAYS = {
    "none": {},
    "L2": {"weight_decay": 3e-3},
    "L1": {"l1": 1e-3},
    "elastic net": {"weight_decay": 2e-3, "l1": 5e-4},
    "max norm": {"max_norm": 1.5},
    "dropout": {"dropout": 0.5},
    "input noise": {"noise": 0.3},
    "dropout + max norm": {"dropout": 0.5, "max_norm": 1.5},
}


def train(seed, epochs, dropout=0.0, noise=0.0, **options):
    """The network, and its loss and accuracy on its own images and on those of the test."""
    rng, generator = np.random.default_rng(seed), fnn.Generator(seed)
    chosen = rng.permutation(len(x))[:IMAGES]
    images, labels = x[chosen], digits.train_labels[chosen]
    first = [fnn.GaussianNoise(noise, rng=generator)] if noise else []
    net = fnn.Sequential(
        *first,
        fnn.Linear(64, HIDDEN, rng=generator),
        fnn.ReLU(),
        fnn.Dropout(dropout, rng=generator),
        fnn.Linear(HIDDEN, 10, rng=generator),
    )
    loss_fn, opt = fnn.CrossEntropyLoss(), fnn.optim.Adam(net.parameters(), LR, decay="weights", **options)
    for _ in range(epochs):
        for batch in rng.permutation(IMAGES).reshape(-1, BATCH):
            loss_fn(net(images[batch]), labels[batch])
            net.backward(loss_fn.backward(), need_dx=False)
            opt.step()
    return net, judge(net, images, labels), judge(net, x_test, digits.test_labels)


def judge(net, images, labels):
    scores = net.predict(images)
    return fnn.CrossEntropyLoss()(scores, labels), float((scores.argmax(axis=1) == labels).mean())


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="regularisation.png", help="the picture")
    parser.add_argument("--quick", action="store_true", help="few epochs, one set of images")
    options = parser.parse_args(argv)
    seeds, epochs = (1, 5) if options.quick else (5, EPOCHS)
    print(f"{IMAGES} images, means of {seeds} such sets      train                test")
    weights, figures = {}, {}
    for name, way in WAYS.items():
        runs = [train(seed, epochs, **way) for seed in range(seeds)]
        weights[name] = next(each.data for each in runs[0][0].parameters() if each.data.ndim == 2)
        figures[name] = np.mean([[*own, *test] for _, own, test in runs], axis=0)
        loss, accuracy, test_loss, test_accuracy = figures[name]
        print(
            f"{name:19} loss {loss:.4f}  accuracy {accuracy:.3f}   loss {test_loss:.4f}  accuracy {test_accuracy:.4f}"
        )
    draw(weights, figures, options.out)


def draw(weights, figures, path):
    """Weights into the first units as images, and how all weights are distributed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(4, 4, figsize=(12, 12), layout="constrained")
    bins = np.linspace(-0.5, 0.5, 81)
    for index, (name, weight) in enumerate(weights.items()):
        row, column = 2 * (index // 4), index % 4
        tiles = np.pad(weight[:24].reshape(4, 6, 8, 8), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
        picture, histogram = axes[row, column], axes[row + 1, column]
        limit = np.abs(weight[:24]).max()
        picture.imshow(tiles.transpose(0, 2, 1, 3).reshape(36, 54), cmap="RdBu", vmin=-limit, vmax=limit)
        picture.set(title=f"{name}\ntest accuracy {figures[name][3]:.3f}", xticks=[], yticks=[])
        histogram.hist(weight.ravel(), bins, color="C0", log=True)
        histogram.set(xlabel="weight", ylim=(0.8, 2e4))
    figure.suptitle(f"Weights of the first layer, trained on {IMAGES} images")
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
