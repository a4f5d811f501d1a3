"""Batch norm, ReLU and dropout inside torch: the fused module of fastnn beside three of torch's, forward and backward;
and dropout alone.

    python bench/torch_modules.py [--threads N]

Both run under torch's autograd, in training, float32, on the same threads; "kernels" are fastnn's functions alone,
called on NumPy arrays. Times are medians of interleaved runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import fastnn
import fastnn.functional as F
from fastnn.interop.torch import nn

SHAPES = [(32, 128), (128, 512), (1024, 1024), (8192, 1024), (8, 64, 28, 28), (32, 64, 56, 56)]


def step(net: Any, x: Any, dy: Any) -> Callable[[], None]:
    def run() -> None:
        x.grad = None
        net.zero_grad()
        net(x).backward(dy)

    return run


def kernels(name: str, shape: tuple[int, ...]) -> Callable[[], None]:
    """What the modules of fastnn call, without torch."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal(shape, np.float32), rng.standard_normal(shape, np.float32)
    weight, bias = np.ones(shape[1], np.float32), np.zeros(shape[1], np.float32)

    def norm() -> None:
        _, saved = F.batch_norm(x, None, None, weight, bias, training=True, activation="relu", dropout=0.2)
        F.batch_norm_backward(dy, saved)

    def dropout() -> None:
        _, saved = F.dropout(x, 0.2, True)
        F.dropout_backward(dy, saved)

    return dropout if name == "dropout" else norm


def medians(runs: list[Callable[[], None]], seconds: float) -> list[float]:
    """Of runs that take turns for so many seconds."""
    times: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for run, found in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


def contenders(shape: tuple[int, ...]) -> dict[str, list[Any]]:
    """Modules of torch and of fastnn that do the same."""
    kind = "BatchNorm1d" if len(shape) == 2 else "BatchNorm2d"
    plain = getattr(torch.nn, kind)(shape[1])
    return {
        "norm-relu-dropout": [
            torch.nn.Sequential(plain, torch.nn.ReLU(inplace=True), torch.nn.Dropout(0.2)),
            getattr(nn, kind)(shape[1], activation="relu", dropout=0.2),
        ],
        "dropout": [torch.nn.Dropout(0.2), nn.Dropout(0.2)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=fastnn.get_num_threads())
    parser.add_argument("--seconds", type=float, default=3.0, help="of each shape")
    options = parser.parse_args()
    fastnn.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    columns = f"{'torch':>10} {'fastnn':>10} {'kernels':>10}  torch / fastnn, torch / kernels"
    print(f"{'modules':18} {'shape':14} {columns}, {options.threads} threads")
    for shape in SHAPES:
        x, dy = torch.randn(shape, requires_grad=True), torch.randn(shape)
        for name, nets in contenders(shape).items():
            runs = [*(step(net, x, dy) for net in nets), kernels(name, shape)]
            theirs, ours, alone = medians(runs, options.seconds)
            times = " ".join(f"{seconds * 1e6:8.0f}us" for seconds in (theirs, ours, alone))
            size = "x".join(map(str, shape))
            print(f"{name:18} {size:14} {times}  {theirs / ours:.2f} {theirs / alone:.2f}")


if __name__ == "__main__":
    main()
