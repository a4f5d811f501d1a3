"""Writes optim_rules.npz: twenty steps of every other rule and switch, by torch, or by formula where torch has none.

Parameters after steps 1, 2, 5, 10 and 20 are kept.  Start and gradients are those of optim.npz.  Run once, with torch
2.13.0, and commit the result: python tests/golden/make_optim_rules.py
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

HERE = Path(__file__).parent
GOLDEN = np.load(HERE / "optim.npz")
START = [GOLDEN[f"start.{i}"] for i in range(2)]
GRADS = [GOLDEN[f"grads.{i}"] for i in range(2)]
KEPT = (0, 1, 4, 9, 19)
STEPS = 20


BY_TORCH: dict[str, tuple[Any, dict[str, Any]]] = {
    "nesterov_dampened_decay": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "amsgrad": (torch.optim.Adam, {"lr": 0.02, "betas": (0.8, 0.95), "amsgrad": True, "weight_decay": 0.1}),
    "amsgradw": (torch.optim.AdamW, {"lr": 0.02, "betas": (0.8, 0.95), "amsgrad": True, "weight_decay": 0.1}),
    "adamax": (torch.optim.Adamax, {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
    "nadam": (torch.optim.NAdam, {"lr": 0.02, "betas": (0.8, 0.95), "weight_decay": 0.1}),
    "nadam_decoupled": (
        torch.optim.NAdam,
        {"lr": 0.02, "momentum_decay": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ),
    "radam": (torch.optim.RAdam, {"lr": 0.02, "weight_decay": 0.1}),
    "radam_short": (torch.optim.RAdam, {"lr": 0.02, "betas": (0.5, 0.9)}),
    "radam_decoupled": (torch.optim.RAdam, {"lr": 0.02, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    "adagrad": (torch.optim.Adagrad, {"lr": 0.1}),
    "adagrad_switches": (
        torch.optim.Adagrad,
        {"lr": 0.1, "lr_decay": 0.2, "initial_accumulator_value": 0.1, "eps": 1e-3, "weight_decay": 0.1},
    ),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.02}),
    "rmsprop_momentum": (torch.optim.RMSprop, {"lr": 0.02, "alpha": 0.9, "momentum": 0.8, "weight_decay": 0.1}),
    "rmsprop_centered": (torch.optim.RMSprop, {"lr": 0.02, "alpha": 0.9, "eps": 1e-3, "centered": True}),
    "rmsprop_all": (
        torch.optim.RMSprop,
        {"lr": 0.02, "alpha": 0.9, "momentum": 0.8, "centered": True, "weight_decay": 0.1},
    ),
    "adadelta": (torch.optim.Adadelta, {"lr": 1.0, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1}),
    "clip_value": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "clip_both": (torch.optim.Adam, {"lr": 0.02}),
    "ema": (torch.optim.SGD, {"lr": 0.1}),
    "equal_average": (torch.optim.SGD, {"lr": 0.1}),
}


def torch_trace(name: str, kind: Any, options: dict[str, Any]) -> list[list[np.ndarray]]:
    module = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(array)) for array in START])
    params = list(module)
    optimizer = kind(params, **options)
    averages = {"ema": get_ema_multi_avg_fn(0.7), "equal_average": get_swa_multi_avg_fn()}
    averaged = AveragedModel(module, multi_avg_fn=averages[name]) if name in averages else None
    trace: list[list[np.ndarray]] = [[] for _ in params]
    for step in range(STEPS):
        for param, grads in zip(params, GRADS, strict=True):
            param.grad = torch.tensor(grads[step])
        if name == "clip_both":
            torch.nn.utils.clip_grad_norm_(params, 3.0)
        if name.startswith("clip"):
            torch.nn.utils.clip_grad_value_(params, 0.7)
        optimizer.step()
        if averaged is not None and (name == "ema" or step >= 5):
            averaged.update_parameters(module)
        shown = params if averaged is None or averaged.n_averaged == 0 else list(averaged.module)
        for values, param in zip(trace, shown, strict=True):
            values.append(param.detach().numpy().copy())
    return trace


# ------------------------------------------------------------------ what torch does not have, as the papers write it

Step = Callable[[np.ndarray, np.ndarray, dict[str, Any], int], np.ndarray]


def lr_inside(w: np.ndarray, g: np.ndarray, s: dict[str, Any], t: int) -> np.ndarray:
    s["v"] = 0.9 * s.get("v", 0) - rate(t) * g
    return w + s["v"]


def lr_inside_nesterov(w: np.ndarray, g: np.ndarray, s: dict[str, Any], t: int) -> np.ndarray:
    before = s.get("v", 0 * w)
    s["v"] = 0.9 * before - rate(t) * g
    return w + (1 + 0.9) * s["v"] - 0.9 * before  # Sutskever's parameters, seen from the look-ahead point


def rate(t: int) -> float:
    """A rate that changes, as only then the two forms of momentum differ."""
    return 0.05 * 0.9**t


def rmsprop_inside(w: np.ndarray, g: np.ndarray, s: dict[str, Any], t: int) -> np.ndarray:
    s["v"] = 0.9 * s.get("v", 0) + 0.1 * g**2
    return w - 0.02 * g / np.sqrt(s["v"] + 1e-2)


def rmsprop_inside_centered(w: np.ndarray, g: np.ndarray, s: dict[str, Any], t: int) -> np.ndarray:
    s["v"] = 0.9 * s.get("v", 0) + 0.1 * g**2
    s["a"] = 0.9 * s.get("a", 0) + 0.1 * g
    s["b"] = 0.8 * s.get("b", 0) + g / np.sqrt(s["v"] - s["a"] ** 2 + 1e-2)
    return w - 0.02 * s["b"]


def lion(w: np.ndarray, g: np.ndarray, s: dict[str, Any], t: int) -> np.ndarray:
    m = s.get("m", 0 * w)
    update = np.sign(0.9 * m + 0.1 * g)
    s["m"] = 0.99 * m + 0.01 * g
    return w - 0.02 * (update + 0.1 * w)


def elastic_net(w: np.ndarray, g: np.ndarray, s: dict[str, Any], t: int) -> np.ndarray:
    return w - 0.1 * (g + 0.05 * w + 0.3 * np.sign(w))


def max_norm(axis: int) -> Step:
    def step(w: np.ndarray, g: np.ndarray, s: dict[str, Any], t: int) -> np.ndarray:
        w = w - 0.1 * g
        if w.ndim < 2:
            return w
        norm = np.sqrt((w**2).sum(axis, keepdims=True))
        return w * np.minimum(1, 0.9 / norm)

    return step


def plain(w: np.ndarray, g: np.ndarray, s: dict[str, Any], t: int) -> np.ndarray:
    return w - 0.1 * g


def unit_above(threshold: float) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    def clip(grads: list[np.ndarray]) -> list[np.ndarray]:
        norm = np.sqrt(sum((g**2).sum() for g in grads))
        return [g / norm for g in grads] if norm > threshold else grads

    return clip


BY_FORMULA: dict[str, tuple[Step, Callable[[list[np.ndarray]], list[np.ndarray]] | None]] = {
    "lr_inside": (lr_inside, None),
    "lr_inside_nesterov": (lr_inside_nesterov, None),
    "rmsprop_inside": (rmsprop_inside, None),
    "rmsprop_inside_centered": (rmsprop_inside_centered, None),
    "lion": (lion, None),
    "elastic_net": (elastic_net, None),
    "max_norm_rows": (max_norm(1), None),
    "max_norm_columns": (max_norm(0), None),
    "unit_above": (plain, unit_above(4.0)),
    "normalised": (plain, unit_above(0.0)),
}


def formula_trace(step: Step, clip: Callable[[list[np.ndarray]], list[np.ndarray]] | None) -> list[list[np.ndarray]]:
    params, states = copy.deepcopy(START), [{} for _ in START]
    trace: list[list[np.ndarray]] = [[] for _ in params]
    for t in range(STEPS):
        grads = [g[t] for g in GRADS]
        grads = clip(grads) if clip else grads
        params = [step(w, g, s, t) for w, g, s in zip(params, grads, states, strict=True)]
        for values, param in zip(trace, params, strict=True):
            values.append(param)
    return trace


if __name__ == "__main__":
    if torch.__version__.split("+")[0] != "2.13.0":
        raise SystemExit(f"expected torch 2.13.0, got {torch.__version__}")
    torch.set_default_dtype(torch.float64)  # of NAdam's running product
    traces = {name: torch_trace(name, *given) for name, given in BY_TORCH.items()}
    traces |= {name: formula_trace(*given) for name, given in BY_FORMULA.items()}
    kept = {
        name: np.concatenate([np.array(p)[list(KEPT)].reshape(len(KEPT), -1) for p in traces[name]], 1)
        for name in traces
    }
    np.savez_compressed(HERE / "optim_rules.npz", **kept)
