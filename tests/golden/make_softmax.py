"""Writes softmax.npz: values and gradients of torch 2.13 in float64, of softmax along each axis of `x` (the gradients
are those of the sum with `dy`) and of the losses of classes with all their options (`CASES`).

    python tests/golden/make_softmax.py
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

OPTIONS = product(("labels", "probabilities"), (False, True), (-100, 1), (0.0, 0.3), ("mean", "none"))
# function, targets, weighted, ignored, smoothing, reduction
CASES = [
    (name, *options)
    for name, options in product(("cross_entropy", "nll_loss"), OPTIONS)
    if not (options[0] == "probabilities" and options[2] >= 0)
    if not (name == "nll_loss" and (options[0] == "probabilities" or options[3] > 0))
]


def key(*case: object) -> str:
    return "/".join(map(str, case))


def main() -> None:
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(0, 3, (5, 4, 3)), "dy": rng.standard_normal((5, 4, 3)), "weight": rng.uniform(0.5, 2, 4)}
    arrays["labels"] = rng.integers(0, 4, (5, 3))
    probabilities = rng.random((5, 4, 3))
    arrays["probabilities"] = probabilities / probabilities.sum(1, keepdims=True)
    given = {name: torch.from_numpy(array) for name, array in arrays.items()}

    def add(name: str, outcome: torch.Tensor, x: torch.Tensor, dy: torch.Tensor) -> None:
        (gradient,) = torch.autograd.grad(outcome, x, dy)
        arrays[name], arrays[f"d{name}"] = outcome.detach().numpy(), gradient.numpy()

    for name, axis in product(("softmax", "log_softmax"), (0, 1, 2)):
        x = given["x"].clone().requires_grad_()
        add(key(name, axis), getattr(F, name)(x, axis), x, given["dy"])
    for case in CASES:
        name, targets, weighted, ignored, smoothing, reduction = case
        x = given["x"].clone().requires_grad_()
        options = {"label_smoothing": smoothing} if name == "cross_entropy" else {}
        loss = getattr(F, name)(
            x,
            given[targets],
            given["weight"] if weighted else None,
            ignore_index=ignored,
            reduction=reduction,
            **options,
        )
        add(key(*case), loss, x, torch.ones_like(loss))
    np.savez_compressed(Path(__file__).with_name("softmax.npz"), **arrays)


if __name__ == "__main__":
    main()
