"""Loops compiled by numba."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from fastnn.bench.peers.base import Plan, prepared
from fastnn.bench.peers.common import NUMPY_CAP, Array
from fastnn.bench.peers.compiled import CompiledLoops, tail_of

SMALL = 1 << 14
"""Elements below which numba's users do without threads: starting them costs more."""


class Numba(CompiledLoops):
    """``njit(parallel=True, fastmath=True)``; small arrays without threads."""

    name = "numba"
    label = "numba"
    library = distribution = "numba"
    cap = NUMPY_CAP | {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2,+f16c"}

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        numba = import_module("numba")
        loops = import_module("fastnn.bench.peers.numba_loops")
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        self._serial, self._parallel = loops.SERIAL, loops.PARALLEL if threads > 1 else loops.SERIAL

    def loops(self, elements: int) -> Any:
        return self._serial if elements < SMALL else self._parallel

    def _elementwise(self, loop: str, role: str, *arrays: Array) -> Plan:
        result = self._buffer(role, arrays[0].shape)
        return partial(getattr(self.loops(result.size), loop), *arrays, result), result

    @prepared
    def sigmoid(self, x: Array, *, out: None = None) -> Plan:
        return self._elementwise("sigmoid", "y", x)

    @prepared
    def sigmoid_backward(self, dy: Array, x: Array, *, output: bool = False, out: None = None) -> Plan:
        if not output:
            raise NotImplementedError("from the input")
        return self._elementwise("sigmoid_backward", "dx", dy, x)

    @prepared
    def tanh(self, x: Array, *, out: None = None) -> Plan:
        return self._elementwise("tanh", "y", x)

    @prepared
    def tanh_backward(self, dy: Array, x: Array, *, output: bool = False, out: None = None) -> Plan:
        if not output:
            raise NotImplementedError("from the input")
        return self._elementwise("tanh_backward", "dx", dy, x)

    @prepared
    def gelu(self, x: Array, *, out: None = None) -> Plan:
        return self._elementwise("gelu", "y", x)

    @prepared
    def gelu_backward(self, dy: Array, x: Array, *, out: None = None) -> Plan:
        return self._elementwise("gelu_backward", "dx", dy, x)

    @prepared
    def silu(self, x: Array, *, out: None = None) -> Plan:
        return self._elementwise("silu", "y", x)

    @prepared
    def silu_backward(self, dy: Array, x: Array, *, out: None = None) -> Plan:
        return self._elementwise("silu_backward", "dx", dy, x)

    def _row_norm(
        self, x: Array, weight: Any, bias: Any, centred: bool, eps: float, residual: Any, activation: Any, p: float
    ) -> Plan:
        tail, y = tail_of(activation, p), self._buffer("y", x.shape)
        mean, invstd = (self._buffer(role, (len(x),)) for role in ("mean", "invstd"))
        loop = partial(self.loops(x.size).row_norm, x, weight, bias, centred, eps, residual, *tail)
        result = y, (x, y, weight, centred, mean, invstd, tail, residual is not None)
        return lambda: loop(self._next_key(), y, mean, invstd), result

    def _row_norm_backward(self, dy: Array, saved: Any) -> Plan:
        x, y, weight, centred, mean, invstd, tail, has_residual = saved
        dx = self._buffer("dx", dy.shape)
        dweight, dbias = (self._buffer(role, dy.shape[1:]) for role in ("dweight", "dbias"))
        plain = tail == (1.0, None, 1.0)
        dresidual = self._buffer("dresidual", dy.shape) if has_residual and not plain else None
        arrays = dy, x, None if plain else y, weight, centred, mean, invstd, tail[0], tail[2], dx, dweight, dbias
        gradients = (dx, dweight, dbias) if centred else (dx, dweight)
        call = partial(self.loops(dy.size).row_norm_backward, *arrays, dresidual)
        return call, (*gradients, dy if dresidual is None else dresidual) if has_residual else gradients

    @prepared
    def layer_norm(
        self, x: Array, normalized_shape: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *,
        residual: Any = None, activation: Any = None, dropout: float = 0.0, rng: Any = None, out: None = None,
    ) -> Plan:  # fmt: skip
        return self._row_norm(x, weight, bias, True, eps, residual, activation, dropout)

    @prepared
    def layer_norm_backward(self, dy: Array, saved: Any, *, out: None = None) -> Plan:
        return self._row_norm_backward(dy, saved)

    @prepared
    def rms_norm(
        self, x: Array, normalized_shape: int, weight: Any = None, eps: float | None = None, *,
        residual: Any = None, activation: Any = None, dropout: float = 0.0, rng: Any = None, out: None = None,
    ) -> Plan:  # fmt: skip
        eps = float(np.finfo(x.dtype).eps) if eps is None else eps
        return self._row_norm(x, weight, None, False, eps, residual, activation, dropout)

    @prepared
    def rms_norm_backward(self, dy: Array, saved: Any, *, out: None = None) -> Plan:
        return self._row_norm_backward(dy, saved)
