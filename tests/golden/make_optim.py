"""Writes optim.npz: twenty steps of torch's optimizers, and batch_norm.npz: five steps of torch's batch norm.

Run once, with torch 2.13.0, and commit the result: python tests/golden/make_optim.py
"""

from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
SHAPES = ((5, 3), (4,))
STEPS = 20

OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.01}),
    "momentum": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}),
    "dampening": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}),
    "nesterov": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "adam": (torch.optim.Adam, {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
    "adamw": (torch.optim.AdamW, {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
    "clipped": (torch.optim.Adam, {"lr": 0.02}),
}
CLIP_NORM = 2.0


def optimizer_traces() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(20)
    start = [rng.standard_normal(shape) for shape in SHAPES]
    grads = [rng.standard_normal((STEPS, *shape)) for shape in SHAPES]
    arrays = {f"start.{i}": array for i, array in enumerate(start)}
    arrays |= {f"grads.{i}": array for i, array in enumerate(grads)}
    for name, (kind, options) in OPTIMIZERS.items():
        params = [torch.tensor(array, requires_grad=True) for array in start]
        optimizer = kind(params, **options)
        trace = [[] for _ in params]
        for step in range(STEPS):
            for param, grad in zip(params, grads, strict=True):
                param.grad = torch.tensor(grad[step])
            if name == "clipped":
                torch.nn.utils.clip_grad_norm_(params, CLIP_NORM)
            optimizer.step()
            for values, param in zip(trace, params, strict=True):
                values.append(param.detach().numpy().copy())
        arrays |= {f"{name}.{i}": np.array(values) for i, values in enumerate(trace)}
    return arrays


def batch_norm_trace() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(21)
    layer = torch.nn.BatchNorm2d(3, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(rng.standard_normal(3)))
        layer.bias.copy_(torch.tensor(rng.standard_normal(3)))
    x, dy = rng.normal(2, 3, (5, 4, 3, 2, 3)), rng.standard_normal((5, 4, 3, 2, 3))
    arrays = {"weight": layer.weight.detach().numpy().copy(), "bias": layer.bias.detach().numpy().copy()}
    arrays |= {"x": x, "dy": dy}
    trace = {name: [] for name in ("y", "dx", "dweight", "dbias", "running_mean", "running_var")}
    for step in range(len(x)):
        xt = torch.tensor(x[step], requires_grad=True)
        layer.zero_grad()
        y = layer(xt)
        y.backward(torch.tensor(dy[step]))
        values = (y.detach(), xt.grad, layer.weight.grad, layer.bias.grad, layer.running_mean, layer.running_var)
        for name, value in zip(trace, values, strict=True):
            trace[name].append(value.numpy().copy())
    arrays |= {name: np.array(values) for name, values in trace.items()}
    layer.eval()
    arrays["inference"] = layer(torch.tensor(x[0])).detach().numpy()
    return arrays


if __name__ == "__main__":
    if torch.__version__.split("+")[0] != "2.13.0":
        raise SystemExit(f"expected torch 2.13.0, got {torch.__version__}")
    np.savez_compressed(HERE / "optim.npz", **optimizer_traces())
    np.savez_compressed(HERE / "batch_norm.npz", **batch_norm_trace())
