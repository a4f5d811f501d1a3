"""Writes activations.npz: values and gradients of torch 2.13 in float64, at the points of `x` under the name of each
activation (the gradients are those of the sum).

    python tests/golden/make_activations.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

# name here: function of torch, and its arguments
ACTIVATIONS = {
    "relu": (F.relu, {}),
    "leaky_relu": (F.leaky_relu, {"negative_slope": 0.2}),
    "sigmoid": (torch.sigmoid, {}),
    "tanh": (torch.tanh, {}),
    "elu": (F.elu, {"alpha": 1.25}),
    "selu": (F.selu, {}),
    "celu": (F.celu, {"alpha": 0.75}),
    "gelu": (F.gelu, {"approximate": "none"}),
    "gelu_tanh": (F.gelu, {"approximate": "tanh"}),
    "silu": (F.silu, {}),
    "mish": (F.mish, {}),
    "softplus": (F.softplus, {"beta": 2.0, "threshold": 2.0}),
    "softsign": (F.softsign, {}),
    "hardtanh": (F.hardtanh, {"min_val": -0.75, "max_val": 1.25}),
    "relu6": (F.relu6, {}),
    "hardsigmoid": (F.hardsigmoid, {}),
    "hardswish": (F.hardswish, {}),
    "logsigmoid": (F.logsigmoid, {}),
    "threshold": (F.threshold, {"threshold": 0.25, "value": -0.5}),
}

# kinks, ends of linear pieces, and a stretch around them
KINKS = [0.0, -0.0, 0.25, -0.75, 1.25, 3.0, -3.0, 6.0, 1.0]


def main() -> None:
    points = np.concatenate([KINKS, np.linspace(-8, 8, 129), np.linspace(-40, 40, 41)])
    golden = {"x": points}
    for name, (function, arguments) in ACTIVATIONS.items():
        x = torch.tensor(points, requires_grad=True)
        y = function(x, **arguments)
        y.sum().backward()
        assert x.grad is not None
        golden[f"{name}.y"], golden[f"{name}.dx"] = y.detach().numpy(), x.grad.numpy()
    np.savez_compressed(Path(__file__).with_name("activations.npz"), **golden)


if __name__ == "__main__":
    main()
