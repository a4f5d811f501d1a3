"""Batch norm, ReLU and dropout inside torch: the fused module of fastnn beside three of torch's, forward and backward;
and dropout alone.

    python bench/torch_modules.py [--threads N]

Both run under torch's autograd, in training, float32, on the same threads; times are medians of interleaved runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import fastnn
from fastnn.interop.torch import nn

SHAPES = [(32, 128), (128, 512), (1024, 1024), (8192, 1024), (8, 64, 28, 28), (32, 64, 56, 56)]


def step(net: Any, x: Any, dy: Any) -> Callable[[], None]:
    def run() -> None:
        x.grad = None
        net.zero_grad()
        net(x).backward(dy)

    return run


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
    print(f"{'modules':18} {'shape':14} {'torch':>10} {'fastnn':>10}  torch / fastnn, {options.threads} threads")
    for shape in SHAPES:
        x, dy = torch.randn(shape, requires_grad=True), torch.randn(shape)
        for name, nets in contenders(shape).items():
            theirs, ours = medians([step(net, x, dy) for net in nets], options.seconds)
            size = "x".join(map(str, shape))
            print(f"{name:18} {size:14} {theirs * 1e6:8.0f}us {ours * 1e6:8.0f}us  {theirs / ours:.2f}")


if __name__ == "__main__":
    main()
