"""Preprocessing: what each form makes of the images, and at which learning rates a network learns from that.

Run it with: python examples/preprocessing.py [--out preprocessing.png]

It needs scikit-learn: pip install 'fastnn-kernels[sklearn]'
"""

import argparse

import numpy as np

import fastnn as fnn
from fastnn import preprocessing
from fastnn.data import load_digits

EPOCHS, BATCH, HIDDEN, SEEDS = 5, 32, 64, 3
RATES = 3e-4 * 10 ** (np.arange(10) / 2)

WAYS = {
    "0 ... 16, as they are": None,
    "mean image": preprocessing.mean_image(),
    "[-1, 1]": preprocessing.min_max(),
    "standardised": preprocessing.standardise(),
    "PCA, 20": preprocessing.pca(20),
    "whitening, 20": preprocessing.whitening(20),
}


def prepared(way):
    """Training and test images; what there is to be learned is learned of the training images."""
    digits = load_digits()
    images = digits.train_images.astype(np.float32), digits.test_images.astype(np.float32)
    if way is not None:
        way.fit(images[0])
        images = (way.transform(each) for each in images)
    return [each.reshape(len(each), -1) for each in images]


def train(x, x_test, lr, epochs, seed):
    """Test accuracy after plain gradient descent."""
    digits, rng, generator = load_digits(), np.random.default_rng(seed), fnn.Generator(seed)
    net = fnn.Sequential(
        fnn.Linear(x.shape[1], HIDDEN, rng=generator), fnn.Tanh(), fnn.Linear(HIDDEN, 10, rng=generator)
    )
    loss_fn, opt = fnn.CrossEntropyLoss(), fnn.optim.SGD(net.parameters(), lr=lr)
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for batch in np.split(order, range(BATCH, len(order), BATCH)):
            loss_fn(net(x[batch]), digits.train_labels[batch])
            net.backward(loss_fn.backward(), need_dx=False)
            opt.step()
    return float((net.predict(x_test).argmax(axis=1) == digits.test_labels).mean())


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="preprocessing.png", help="the picture")
    parser.add_argument("--quick", action="store_true", help="one epoch, one seed")
    options = parser.parse_args(argv)
    epochs, seeds = (1, 1) if options.quick else (EPOCHS, SEEDS)
    print("                         means of features   their deviations    best test accuracy   rates above 0.9")
    accuracies = {}
    for name, way in WAYS.items():
        x, x_test = prepared(way)
        found = [[train(x, x_test, lr, epochs, seed) for seed in range(seeds)] for lr in RATES]
        accuracies[name] = np.mean(found, axis=1)
        means, stds = np.abs(x.mean(axis=0)), x.std(axis=0)
        print(
            f"{name:24}{means.min():8.2f} ...{means.max():6.2f}{stds.min():8.2f} ...{stds.max():6.2f}"
            f"{accuracies[name].max():15.4f}{(accuracies[name] > 0.9).sum():17d} of {len(RATES)}"
        )
    draw(accuracies, options.out)


def draw(accuracies, path):
    """Images, how two of their features are related, and the accuracy over the learning rate."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    digits = load_digits()
    figure = pyplot.figure(figsize=(13, 8.5), layout="constrained")
    above, below = figure.subfigures(2, 1)
    axes = above.subplots(2, len(WAYS))
    for (picture, cloud), (name, way) in zip(axes.T, WAYS.items(), strict=True):
        x, _ = prepared(way)
        rows = x.shape[1] < 64  # no pixels any more: back to images
        seen = (way.inverse_transform(x[:6]) if rows else x[:6]).reshape(2, 3, 8, 8)
        tiles = np.pad(seen, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
        picture.imshow(tiles.transpose(0, 2, 1, 3).reshape(18, 27), cmap="gray_r")
        picture.set_title(name, fontsize=10)
        picture.set(xticks=[], yticks=[])
        picture.spines[:].set_visible(False)
        first, second = (0, 7) if rows else (28, 36)
        spread = x.std() / 8 * np.random.default_rng(0).uniform(-0.5, 0.5, (2, len(x)))
        points = x[:, [first, second]].T + spread * (not rows)
        cloud.scatter(*points, c=digits.train_labels, cmap="tab10", s=4, lw=0)
        cloud.axhline(0, color="0.6", lw=0.8)
        cloud.axvline(0, color="0.6", lw=0.8)
        cloud.set_aspect("equal", adjustable="datalim")
        cloud.set_xlabel("first component" if rows else "a pixel", fontsize=9)
        cloud.set_ylabel("eighth component" if rows else "the one below", fontsize=9)
        cloud.tick_params(labelsize=8)
    ax = below.subplots()
    for name, values in accuracies.items():
        ax.plot(RATES, values, marker=".", label=name)
    ax.set(xscale="log", xlabel="learning rate", ylabel="test accuracy")
    ax.legend(frameon=False, loc="lower center")
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
