"""Writes piecewise.npz: values and gradients of torch 2.13 in float64, of `prelu` and of `max` over pieces.

python tests/golden/make_piecewise.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

SHAPE, PIECES = (3, 12, 5), 3


def main() -> None:
    rng = np.random.default_rng(0)
    golden = {"x": rng.standard_normal(SHAPE).round(1), "dy": rng.standard_normal(SHAPE)}  # with zeros and equals
    golden["x"].flat[:3] = 0.0, -0.0, np.nan
    for name, slopes in (("one", 1), ("each", SHAPE[1])):
        golden[f"{name}.weight"] = rng.standard_normal(slopes)
        x, weight = (torch.tensor(golden[key], requires_grad=True) for key in ("x", f"{name}.weight"))
        y = torch.nn.functional.prelu(x, weight)
        y.backward(torch.tensor(golden["dy"]))
        assert x.grad is not None and weight.grad is not None
        golden |= {
            f"{name}.y": y.detach().numpy(),
            f"{name}.dx": x.grad.numpy(),
            f"{name}.dweight": weight.grad.numpy(),
        }
    x = torch.tensor(golden["x"], requires_grad=True)
    y = x.unflatten(1, (-1, PIECES)).max(2).values
    y.backward(torch.tensor(golden["dy"][:, : SHAPE[1] // PIECES]))
    assert x.grad is not None
    golden |= {"maxout.y": y.detach().numpy(), "maxout.dx": x.grad.numpy()}
    np.savez_compressed(Path(__file__).with_name("piecewise.npz"), **golden)


if __name__ == "__main__":
    main()
