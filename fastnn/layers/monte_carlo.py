"""Dropout at inference, for an estimate of how sure a network is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn._checks import check_index
from fastnn._convert import as_array
from fastnn.layers.module import Module
from fastnn.layers.norm import BatchNorm

__all__ = ["mc_predict"]


def mc_predict(net: Module, x: NDArray[Any], samples: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """See `Module.mc_predict`."""
    if check_index("samples", samples) < 1:
        raise ValueError(f"samples: expected at least 1, got {samples}")
    x = as_array("x", x)
    with _stochastic(net):
        y = net._forward(x, True)[0]
        mean, m2 = y.astype(np.float64), np.zeros(y.shape)
        for count in range(2, samples + 1):
            y = net._forward(x, True)[0]
            delta = y - mean  # in float64; B. P. Welford (1962)
            mean += delta / count
            m2 += delta * (y - mean)
    return mean.astype(y.dtype), np.sqrt(m2 / samples).astype(y.dtype)


@contextmanager
def _stochastic(net: Module) -> Iterator[None]:
    """A training pass draws masks but normalises by the running statistics."""
    modules = list(dict.fromkeys(net.modules()))
    before = [(module, module.training) for module in modules]
    thawed = [module for module in modules if isinstance(module, BatchNorm) and not module.frozen]
    try:
        for module in modules:
            module.training = True
        for layer in thawed:
            layer.freeze()
        yield
    finally:
        for module, training in before:
            module.training = training
        for layer in thawed:
            layer.unfreeze()
