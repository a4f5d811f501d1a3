"""Writes sample_norm.npz: inputs, outputs and gradients of torch 2.13's norms within samples, in float64, in the order
of `LAYERS`.

    python tests/golden/make_sample_norm.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

# class, its arguments, shape of the input
LAYERS = [
    ("LayerNorm", (7,), {}, (5, 7)),
    ("LayerNorm", ((3, 7),), {"bias": False}, (5, 3, 7)),
    ("LayerNorm", (7,), {"elementwise_affine": False, "eps": 0.1}, (2, 3, 7)),
    ("RMSNorm", (7,), {}, (5, 7)),
    ("RMSNorm", ((3, 7),), {"eps": 1e-3}, (5, 3, 7)),
    ("GroupNorm", (2, 6), {}, (3, 6, 4, 5)),
    ("GroupNorm", (3, 6), {"affine": False}, (3, 6)),
    ("InstanceNorm1d", (6,), {"affine": True}, (3, 6, 9)),
    ("InstanceNorm2d", (6,), {}, (3, 6, 4, 5)),
    ("InstanceNorm3d", (6,), {"affine": True}, (3, 6, 4, 2, 3)),
]


def main() -> None:
    rng = np.random.default_rng(0)
    golden = {"layers": np.array([repr(layer) for layer in LAYERS])}
    for number, (name, arguments, options, shape) in enumerate(LAYERS):
        layer = getattr(torch.nn, name)(*arguments, **options, dtype=torch.float64)
        x, dy = (torch.from_numpy(rng.standard_normal(shape)) for _ in range(2))
        for parameter in layer.parameters():
            parameter.data.copy_(torch.from_numpy(rng.standard_normal(parameter.shape)))
        y = layer(x.requires_grad_())
        y.backward(dy)
        assert x.grad is not None
        arrays = {"x": x.detach(), "dy": dy, "y": y.detach(), "dx": x.grad}
        for key, parameter in layer.named_parameters():
            arrays |= {key: parameter.detach(), f"d{key}": parameter.grad}
        golden |= {f"{number}.{key}": array.numpy() for key, array in arrays.items()}
    np.savez_compressed(Path(__file__).with_name("sample_norm.npz"), **golden)


if __name__ == "__main__":
    main()
