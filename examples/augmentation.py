"""What augmentation buys: handwritten digits, with and without shifted, turned and noisy copies in training.

Run it with: python examples/augmentation.py [--out augmentation.png]

It needs SciPy: pip install 'fastnn-kernels[sklearn]'
"""

import argparse

import numpy as np

import fastnn as fnn
from fastnn.augmentation import Compose, Noise, Rotate, Shift, Sometimes
from fastnn.data import load_digits

IMAGES, SEEDS, STEPS, BATCH, LR = (100, 300, 1437), 3, 1500, 32, 3e-3
TRANSFORMS = {
    "none": None,
    "noise": Sometimes(0.5, Noise(0.1)),
    "rotation": Sometimes(0.5, Rotate(12)),
    "shift": Sometimes(0.5, Shift(0.7)),
    "all three": Sometimes(0.5, Compose(Rotate(12), Shift(0.7), Noise(0.1))),
}


def network(seed):
    rng = fnn.Generator(seed)
    return fnn.Sequential(
        fnn.Flatten(),
        fnn.Linear(64, 128, rng=rng),
        fnn.BatchNorm1d(128),
        fnn.ReLU(),
        fnn.Linear(128, 128, rng=rng),
        fnn.BatchNorm1d(128),
        fnn.ReLU(),
        fnn.Linear(128, 10, rng=rng),
    )


def train(images, transform=None, steps=STEPS, seed=0):
    """Accuracy on the test images, after training on so many images of the others."""
    digits = load_digits()
    x, x_test = (array.astype(np.float32) / 16 for array in (digits.train_images, digits.test_images))
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(x))[:images]
    x, labels = x[chosen], digits.train_labels[chosen]
    net, loss_fn = network(seed), fnn.CrossEntropyLoss()
    opt = fnn.optim.Adam(net.parameters(), lr=fnn.schedules.cosine(LR, steps))
    for _ in range(steps):
        batch = rng.integers(len(x), size=BATCH)
        shown = x[batch] if transform is None else transform(x[batch], rng)
        loss_fn(net(shown), labels[batch])
        net.backward(loss_fn.backward(), need_dx=False)
        opt.step()
    return float((net.predict(x_test).argmax(axis=1) == digits.test_labels).mean())


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="augmentation.png", help="the picture")
    parser.add_argument("--quick", action="store_true", help="few images and steps, one of each")
    options = parser.parse_args(argv)
    images, seeds, steps = ((300,), 1, 60) if options.quick else (IMAGES, SEEDS, STEPS)
    print(f"test accuracy, mean of {seeds}" + "".join(f"{n:8d} images" for n in images))
    accuracies = {}
    for name, transform in TRANSFORMS.items():
        accuracies[name] = [np.mean([train(n, transform, steps, seed) for seed in range(seeds)]) for n in images]
        print(f"{name:26}" + "".join(f"{accuracy:15.4f}" for accuracy in accuracies[name]))
    draw(images, accuracies, options.out)


def draw(images, accuracies, path):
    """One image as each transform may change it, and what that is worth."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    copies, shown = 8, load_digits().train_images[[3, 6]].astype(np.float32) / 16
    figure, (pictures, ax) = pyplot.subplots(
        1, 2, figsize=(13, 5.2), layout="constrained", gridspec_kw={"width_ratios": (1.5, 1)}
    )
    rows = []
    for transform in TRANSFORMS.values():
        always = getattr(transform, "transform", None)  # of a Sometimes
        row = np.repeat(shown, copies // 2, axis=0)
        rows.append(row if always is None else always(row, np.random.default_rng(3)))
    tiles = np.pad(np.array(rows), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    height, width = len(rows) * 9, copies * 9
    pictures.imshow(tiles.transpose(0, 2, 1, 3).reshape(height, width), cmap="gray_r", vmin=0, vmax=1)
    pictures.set_yticks(np.arange(len(rows)) * 9 + 3.5, TRANSFORMS)
    pictures.set(xticks=[], title="What the network is shown")
    pictures.tick_params(length=0)
    pictures.spines[:].set_visible(False)
    for name, values in accuracies.items():
        best = {"lw": 2.5, "color": "C3"} if name == "all three" else {"color": "0.2"} if name == "none" else {}
        ax.plot(images, values, marker="o", label=name, **best)
    ax.set_xscale("log")
    ax.set_xticks(images, [f"{n}" for n in images])
    ax.minorticks_off()
    ax.set(xlabel="images to learn from", ylabel="test accuracy", title="What it learns from that")
    ax.legend(frameon=False)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
