"""Helpers that several peers share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SELU_LIMIT = -1.7580993408473766

_BEFORE_GROUPS = "AVX512F AVX512CD AVX512_KNL AVX512_KNM AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"
_GROUPS = "X86_V4 AVX512_ICL AVX512_SPR"

# NumPy 2.4 gathered the features of AVX-512 in groups, and warns of a name that it does not dispatch on.
NUMPY_CAP = {
    "NPY_DISABLE_CPU_FEATURES": _GROUPS if np.lib.NumpyVersion(np.__version__) >= "2.4.0" else _BEFORE_GROUPS,
    "OPENBLAS_CORETYPE": "Haswell",
}
"""Environment that holds NumPy and its OpenBLAS to AVX2."""


def slope(activation: Any) -> float | None:
    """Slope left of zero of an `activation=` argument: 0 for relu; None for no activation."""
    if activation is None:
        return None
    name = activation if isinstance(activation, str) else activation.name
    if name == "relu":
        return 0.0
    if name == "leaky_relu":
        return 0.01 if isinstance(activation, str) else float(activation.params["negative_slope"])
    raise NotImplementedError(name)


def per_channel(values: Array, ndim: int, channel_axis: int) -> Array:
    """A (C,) array shaped to broadcast along `channel_axis`."""
    shape = [1] * ndim
    shape[channel_axis] = values.size
    return values.reshape(shape)


def other_axes(ndim: int, channel_axis: int) -> tuple[int, ...]:
    """Every axis but the channel axis."""
    return tuple(axis for axis in range(ndim) if axis != channel_axis % ndim)
