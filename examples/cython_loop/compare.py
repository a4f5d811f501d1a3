"""Trains eight networks in Cython, then the same ones with Python calls: the same bits, sooner.

python compare.py
"""

from __future__ import annotations

import os
import time
from typing import Any

import ensemble
import numpy as np
from numpy.typing import NDArray

import fastnn as fnn
import fastnn.functional as F
from fastnn.data import load_digits

Array = NDArray[Any]

NETWORKS, HIDDEN, CLASSES, BATCH, EPOCHS, DROPOUT = 8, 64, 10, 64, 8, 0.2


def views(row: Array, inputs: int) -> list[Array]:
    """W1, gamma, beta, W2, b2 of a row of parameters."""
    shapes = [(inputs, HIDDEN), (HIDDEN,), (HIDDEN,), (HIDDEN, CLASSES), (CLASSES,)]
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(row, ends[:-1]), shapes, strict=True)]


def train_in_python(parameters: Array, running: Array, x: Array, labels: Array, lr: float, seed: int) -> list[float]:
    """One network of `ensemble.train`, call by call, with the same matrix products."""
    W1, gamma, beta, W2, b2 = views(parameters, x.shape[2])
    state = (running[:HIDDEN], running[HIDDEN:], gamma, beta)
    exp_avg, exp_avg_sq = np.zeros_like(parameters), np.zeros_like(parameters)
    product1 = product2 = 1.0
    rng = fnn.Generator(seed)
    losses = []
    for xb, yb in zip(x, labels, strict=True):
        z = ensemble.matmul(xb, W1)
        h, saved = F.batch_norm(z, *state, training=True, activation="relu", dropout=DROPOUT, rng=rng)
        logits, _ = F.bias_act(ensemble.matmul(h, W2), b2)
        loss, dlogits = F.softmax_cross_entropy(logits, yb)
        dz, dgamma, dbeta = F.batch_norm_backward(ensemble.matmul(dlogits, W2.T), saved)
        gradients = [ensemble.matmul(xb.T, dz), dgamma, dbeta, ensemble.matmul(h.T, dlogits), F.channel_sum(dlogits)]
        gradient = np.concatenate([part.ravel() for part in gradients])
        product1, product2 = product1 * 0.9, product2 * 0.999
        corrections = {"bias_correction1": 1 - product1, "bias_correction2": 1 - product2}
        F.adam_step([parameters], [gradient], [exp_avg], [exp_avg_sq], lr=lr, **corrections)
        losses.append(loss)
    return losses


def predict(parameters: Array, running: Array, x: Array) -> Array:
    """Logits in inference."""
    W1, gamma, beta, W2, b2 = views(parameters, x.shape[1])
    h, _ = F.batch_norm(x @ W1, running[:HIDDEN], running[HIDDEN:], gamma, beta, activation="relu")
    return h @ W2 + b2


def initial(rng: np.random.Generator, inputs: int) -> Array:
    """One network's row of parameters before training."""
    row = np.zeros(ensemble.parameter_count(inputs, HIDDEN, CLASSES), np.float32)
    W1, gamma, _, W2, _ = views(row, inputs)
    W1[...], W2[...] = rng.normal(0, inputs**-0.5, W1.shape), rng.normal(0, HIDDEN**-0.5, W2.shape)
    gamma[...] = 1
    return row


def main(networks: int = NETWORKS, epochs: int = EPOCHS) -> None:
    """Train both ways, compare, and print how good the networks are."""
    digits = load_digits()
    x, labels = digits.train_images.reshape(-1, 64).astype(np.float32) / 16, digits.train_labels.astype(np.int64)
    rng = np.random.default_rng(0)
    order = np.concatenate([rng.permutation(len(x))[: len(x) // BATCH * BATCH] for _ in range(epochs)])
    batches, batch_labels = x[order].reshape(-1, BATCH, 64), labels[order].reshape(-1, BATCH)
    rates, seeds = np.geomspace(1e-4, 3e-2, networks), np.arange(networks, dtype=np.uint64)

    parameters = np.stack([initial(rng, 64) for _ in range(networks)])
    running = np.repeat([[0.0] * HIDDEN + [1.0] * HIDDEN], networks, axis=0).astype(np.float32)
    expected, expected_running = parameters.copy(), running.copy()

    start = time.perf_counter()
    losses = ensemble.train(
        parameters, running, batches, batch_labels, rates, seeds, HIDDEN, CLASSES, DROPOUT, os.cpu_count() or 1
    )
    middle = time.perf_counter()
    expected_losses = [
        train_in_python(expected[i], expected_running[i], batches, batch_labels, rates[i], i) for i in range(networks)
    ]
    end = time.perf_counter()

    x_test = digits.test_images.reshape(-1, 64).astype(np.float32) / 16
    logits = [predict(parameters[i], running[i], x_test) for i in range(networks)]
    for rate, y in zip(rates, logits, strict=True):
        print(f"learning rate {rate:.1e}: test accuracy {(y.argmax(axis=1) == digits.test_labels).mean():.4f}")
    print(f"their mean: test accuracy {(np.mean(logits, axis=0).argmax(axis=1) == digits.test_labels).mean():.4f}")
    print(f"{middle - start:.2f} s in Cython, {end - middle:.2f} s with Python calls")
    pairs = ((losses, np.array(expected_losses)), (parameters, expected), (running, expected_running))
    print("same bits:", all(ours.tobytes() == theirs.tobytes() for ours, theirs in pairs))


if __name__ == "__main__":
    main()
