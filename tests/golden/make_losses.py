"""Writes losses.npz: losses of torch 2.13 in float64, one by one, and the gradients of their sum.

python tests/golden/make_losses.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

KINKS = [0.0, 0.75, -0.75, 1.25, -1.25]
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e300, -1e300, 1.0]
POS_WEIGHT = [0.0, 0.5, 1.0, 3.0]
CLASS_WEIGHT = [0.5, 1.0, 2.0, 0.0, 1.5]

# name here: function of torch, and its arguments
REGRESSION = {
    "mse_loss": (F.mse_loss, {}),
    "l1_loss": (F.l1_loss, {}),
    "smooth_l1_loss": (F.smooth_l1_loss, {"beta": 0.75}),
    "huber_loss": (F.huber_loss, {"delta": 1.25}),
}
HINGE = {"p1": {"p": 1}, "p2": {"p": 2, "margin": 0.5}, "weight": {"weight": torch.tensor(CLASS_WEIGHT).double()}}


def run(function, x, target, **arguments):
    variable = torch.tensor(x, requires_grad=True)
    losses = function(variable, torch.tensor(target), **arguments, reduction="none")
    losses.sum().backward()
    return losses.detach().numpy(), variable.grad.numpy()


def main() -> None:
    rng = np.random.default_rng(30)
    x = np.concatenate([np.add(KINKS, 0.5), rng.normal(0, 2, 200)])
    target = np.concatenate([np.full(len(KINKS), 0.5), rng.normal(0, 1, 200)])
    special = np.array([(a, b) for a in SPECIAL for b in SPECIAL]).T.copy()
    logits = rng.normal(0, 20, (50, 4))
    labels = np.clip(rng.uniform(-1, 2, logits.shape), 0, 1)
    scores, classes = rng.normal(0, 1, (40, 5)), rng.integers(0, 5, 40)
    golden = {"x": x, "target": target, "special": special, "logits": logits, "labels": labels}
    golden |= {"scores": scores, "classes": classes}
    for name, (function, arguments) in REGRESSION.items():
        golden[f"{name}.loss"], golden[f"{name}.dx"] = run(function, x, target, **arguments)
        golden[f"{name}.special.loss"], golden[f"{name}.special.dx"] = run(function, *special, **arguments)
    bce = F.binary_cross_entropy_with_logits
    golden["bce.loss"], golden["bce.dx"] = run(bce, logits, labels)
    pos_weight = torch.tensor(POS_WEIGHT).double()
    golden["bce_weighted.loss"], golden["bce_weighted.dx"] = run(bce, logits, labels, pos_weight=pos_weight)
    for name, arguments in HINGE.items():
        golden[f"hinge_{name}.loss"], golden[f"hinge_{name}.dx"] = run(
            F.multi_margin_loss, scores, classes, **arguments
        )
    np.savez_compressed(Path(__file__).with_name("losses.npz"), **golden)


if __name__ == "__main__":
    main()
