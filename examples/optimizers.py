"""Optimizers: the path of each through a curved valley, and its loss on handwritten digits.

Run it with: python examples/optimizers.py [--out optimizers.png]
"""

import argparse

import numpy as np

import fastnn as fnn
from fastnn.data import load_digits
from fastnn.optim import SGD, Adadelta, Adagrad, Adam, Lion, NAdam, NormalizedSGD, RMSprop
from fastnn.schedules import cosine, warmup

EPOCHS, BATCH, HIDDEN = 8, 32, 64

OPTIMIZERS = {
    "SGD": lambda params, lr: SGD(params, lr),
    "momentum": lambda params, lr: SGD(params, lr, momentum=0.9),
    "Nesterov": lambda params, lr: SGD(params, lr, momentum=0.9, nesterov=True),
    "normalised": lambda params, lr: NormalizedSGD(params, lr),
    "Adagrad": lambda params, lr: Adagrad(params, lr),
    "Adadelta": lambda params, lr: Adadelta(params, lr),
    "RMSprop": lambda params, lr: RMSprop(params, lr),
    "Adam": lambda params, lr: Adam(params, lr),
    "NAdam": lambda params, lr: NAdam(params, lr),
    "Lion": lambda params, lr: Lion(params, lr),
}

VALLEY_RATE = {
    "SGD": 2e-3,
    "momentum": 2e-3,
    "Nesterov": 2e-3,
    "normalised": 2e-2,
    "Adagrad": 0.4,
    "Adadelta": 30.0,
    "RMSprop": 3e-2,
    "Adam": 0.1,
    "NAdam": 0.1,
    "Lion": 3e-2,
}

DIGITS_RATE = {
    "SGD": 0.1,
    "momentum": 0.03,
    "Nesterov": 0.03,
    "normalised": 0.2,
    "Adagrad": 0.02,
    "Adadelta": 1.0,
    "RMSprop": 1e-3,
    "Adam": 3e-3,
    "NAdam": 3e-3,
    "Lion": 1e-3,
}


COLORS = ("k", "C1", "C2", "C3", "C4", "C5", "C6", "0.5", "y", "lime")


def valley(w):
    """H. H. Rosenbrock's valley, ``(1 - a)^2 + 10 (b - a^2)^2``, and its gradient."""
    a, b = w
    return (1 - a) ** 2 + 10 * (b - a * a) ** 2, np.array([2 * (a - 1) - 40 * a * (b - a * a), 20 * (b - a * a)])


def path_through_the_valley(name, steps):
    """Where plain arrays go: an optimizer needs no network."""
    w = np.array([-1.4, 1.2])
    opt = OPTIMIZERS[name]([w], VALLEY_RATE[name])
    points = [w.copy()]
    for _ in range(steps):
        opt.step([valley(w)[1]])
        points.append(w.copy())
    return np.array(points)


def losses_on_digits(name, epochs):
    """Training loss of every step, with a warm-up and a cosine to zero, and the test accuracy."""
    digits, rng = load_digits(), np.random.default_rng(0)
    x, x_test = (images.reshape(-1, 64).astype(np.float32) / 16 for images in (digits.train_images, digits.test_images))
    fnn.manual_seed(0)
    net = fnn.Sequential(
        fnn.Linear(64, HIDDEN), fnn.BatchNorm1d(HIDDEN), fnn.ReLU(), fnn.Linear(HIDDEN, HIDDEN), fnn.ReLU(),
        fnn.Linear(HIDDEN, 10),
    )  # fmt: skip
    steps = epochs * (len(x) // BATCH)
    opt = OPTIMIZERS[name](net.parameters(), warmup(cosine(DIGITS_RATE[name], steps), steps // 20))
    loss_fn, losses = fnn.CrossEntropyLoss(), []
    for _ in range(epochs):
        for batch in rng.permutation(len(x))[: len(x) // BATCH * BATCH].reshape(-1, BATCH):
            losses.append(float(loss_fn(net(x[batch]), digits.train_labels[batch])))
            net.backward(loss_fn.backward(), need_dx=False)
            opt.step()
    return losses, float((net.predict(x_test).argmax(axis=1) == digits.test_labels).mean())


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="optimizers.png", help="the picture")
    parser.add_argument("--quick", action="store_true", help="one epoch")
    options = parser.parse_args(argv)
    paths, losses = {}, {}
    for name in OPTIMIZERS:
        paths[name] = path_through_the_valley(name, 200)
        losses[name], accuracy = losses_on_digits(name, 1 if options.quick else EPOCHS)
        print(
            f"{name:12} valley: loss {valley(paths[name][-1])[0]:.4f} after 200 steps   "
            f"digits: loss {np.mean(losses[name][-20:]):.4f}, test accuracy {accuracy:.4f}"
        )
    print(Adam([np.zeros(1)], 1e-3).formula())
    draw(paths, losses, options.out)


def draw(paths, losses, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplot_mosaic(
        [[*list(paths)[:5]], [*list(paths)[5:]], ["losses"] * 5, ["losses"] * 5], figsize=(13, 10), layout="constrained"
    )
    a, b = np.meshgrid(np.linspace(-2, 2, 200), np.linspace(-1, 3, 200))
    height = (1 - a) ** 2 + 10 * (b - a * a) ** 2
    for index, (name, points) in enumerate(paths.items()):
        ax = axes[name]
        ax.contourf(a, b, np.log10(height + 1e-2), 20, cmap="Blues_r")
        ax.plot(*points.T, ".-", color=COLORS[index], ms=3, lw=1)
        ax.plot(1, 1, "*", color="gold", ms=12, mec="k", mew=0.5)
        ax.set(title=name, xlim=(-2, 2), ylim=(-1, 3), xticks=[], yticks=[])
        width = 20
        smooth = np.convolve(losses[name], np.ones(width) / width, "valid")
        axes["losses"].plot(range(width, len(losses[name]) + 1), smooth, color=COLORS[index], label=name)
    axes["losses"].set(yscale="log", xlabel="step", ylabel=f"training loss on the digits, mean of {width} steps")
    axes["losses"].legend(ncols=2, frameon=False)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
