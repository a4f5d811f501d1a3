"""What augmentation buys: handwritten digits, with and without shifted, turned and noisy copies in training.

Run it with: python examples/augmentation.py

It needs scipy: pip install 'fastnn-kernels[sklearn]'
"""

import argparse

import numpy as np

import fastnn as fnn
from fastnn.augmentation import Compose, Noise, Rotate, Shift, Sometimes
from fastnn.data import load_digits

BATCH, LR = 32, 3e-3
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


def train(images, transform=None, steps=1500, seed=0):
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


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, nargs="+", default=[100, 300, 1437])
    options = parser.parse_args(arguments)
    print(f"test accuracy, mean of {options.seeds}" + "".join(f"{n:8d} images" for n in options.images))
    for name, transform in TRANSFORMS.items():
        accuracies = [
            np.mean([train(images, transform, options.steps, seed) for seed in range(options.seeds)])
            for images in options.images
        ]
        print(f"{name:26}" + "".join(f"{accuracy:15.4f}" for accuracy in accuracies))


if __name__ == "__main__":
    main()
