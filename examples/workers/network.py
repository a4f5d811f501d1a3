"""A small network, its gradient on part of a batch, and its training by whoever computes the gradients.

Knows nothing of processes: ray_workers.py and dask_workers.py beside it bring them.
"""

import argparse
from time import perf_counter

import numpy as np

import fastnn as fnn
import fastnn.functional as F
from fastnn.data import load_digits

SEED, DROPOUT = 7, 0.3


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="ten steps")
    args = parser.parse_args()
    if args.quick:
        args.steps = 10
    return args


def data():
    digits = load_digits()
    return digits.train_images.reshape(-1, 64).astype(np.float32) / 16, digits.train_labels.astype(np.int64)


def initial_weights(hidden):
    rng = np.random.default_rng(SEED)
    W1 = rng.normal(0, (2 / 64) ** 0.5, (64, hidden)).astype(np.float32)
    W2 = rng.normal(0, (1 / hidden) ** 0.5, (hidden, 10)).astype(np.float32)
    return [W1, np.zeros(hidden, np.float32), W2, np.zeros(10, np.float32)]


def gradients(weights, x, labels, first, step):
    """Mean loss and gradients over rows `first`, `first + 1`, ... of the batch of this step.  Writes to no input."""
    W1, b1, W2, b2 = weights
    rng = fnn.Generator(SEED, position=step)  # every worker: the stream of this step ...
    product = x @ W1
    h, saved = F.bias_act(
        product, b1, activation="relu", dropout=DROPOUT, rng=rng, first=first * W1.shape[1], out=product
    )  # ... from its first row on: its part of the mask of the whole batch
    loss, dlogits = F.softmax_cross_entropy(h @ W2 + b2, labels)
    dproduct, db1 = F.bias_act_backward(dlogits @ W2.T, saved)
    return loss, [x.T @ dproduct, db1, h.T @ dlogits, F.channel_sum(dlogits)]


def shards(batch, workers):
    """The first row of each part, and its rows."""
    parts = np.array_split(batch, workers)
    return zip(np.cumsum([0, *map(len, parts)]), parts, strict=False)


def average(results, sizes):
    """Means over parts to means over the batch, always added in the order of the parts."""
    shares = [size / sum(sizes) for size in sizes]
    loss = sum(share * loss for share, (loss, _) in zip(shares, results, strict=True))
    parts = zip(*(grads for _, grads in results), strict=True)
    return loss, [sum(np.float32(s) * g for s, g in zip(shares, part, strict=True)) for part in parts]


def train(batch_gradients, args):
    """Weights after args.steps of Adam with ``batch_gradients(weights, batch, step)``, first gradients, ms a step."""
    weights, (x, _) = initial_weights(args.hidden), data()
    opt, rng, times, first_grads = fnn.optim.Adam(weights, lr=2e-3), np.random.default_rng(SEED), [], None
    for step in range(args.steps):
        batch = rng.choice(len(x), args.batch, replace=False)
        start = perf_counter()
        loss, grads = batch_gradients(weights, batch, step)
        opt.step(grads)
        times.append(perf_counter() - start)
        first_grads = first_grads or grads
    return {"weights": weights, "grads": first_grads, "loss": loss, "ms": 1e3 * float(np.median(times))}


def distance(these, those):
    """Largest difference, relative to the largest number of each array."""
    return max(abs(a - b).max() / abs(b).max() for a, b in zip(these, those, strict=True))


def accuracy(weights):
    digits = load_digits()
    W1, b1, W2, b2 = weights
    x = digits.test_images.reshape(-1, 64).astype(np.float32) / 16
    return np.mean((F.relu(x @ W1 + b1) @ W2 + b2).argmax(1) == digits.test_labels)


def report(name, batch_gradients, args):
    """Train with workers and without, and print how the two compare."""
    x, labels = data()

    def alone(weights, batch, step):
        return gradients(weights, x[batch], labels[batch], 0, step)

    def in_parts(weights, batch, step):
        parts = list(shards(batch, args.workers))
        results = [gradients(weights, x[rows], labels[rows], first, step) for first, rows in parts]
        return average(results, [len(rows) for _, rows in parts])

    theirs, whole, parts = (train(function, args) for function in (batch_gradients, alone, in_parts))
    size = sum(array.nbytes for array in whole["weights"])
    print(f"{args.workers} workers of {name}, batch {args.batch}, {args.hidden} hidden units, {args.steps} steps")
    print(f"test accuracy        {accuracy(theirs['weights']):.4f}, in one process {accuracy(whole['weights']):.4f}")
    print(f"first gradients      differ from those of one process by {distance(theirs['grads'], whole['grads']):.1e}")
    print(
        f"last weights         differ from those of one process by {distance(theirs['weights'], whole['weights']):.1e}"
    )
    print(f"same parts, no workers: last weights differ by {distance(theirs['weights'], parts['weights']):.1e}")
    print(f"a step               {theirs['ms']:.2f} ms, in one process {whole['ms']:.2f} ms")
    print(f"moved in a step      {2 * args.workers * size / 1e6:.2f} MB: weights out, gradients back, for each worker")
