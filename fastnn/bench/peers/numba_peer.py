"""Loops compiled by numba."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from fastnn.bench.peers.base import Plan, prepared
from fastnn.bench.peers.common import NUMPY_CAP, Array
from fastnn.bench.peers.compiled import CompiledLoops

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

    def _loss(self, loop: str, x: Array, target: Array) -> Plan:
        dx = self._buffer("dx", x.shape)
        function = getattr(self.loops(x.size), loop)
        arrays = x.reshape(-1), target.reshape(-1), dx.reshape(-1)
        return lambda: (function(*arrays), dx), None

    @prepared
    def mse_loss(self, x: Array, target: Array, reduction: str, *, out: None = None) -> Plan:
        return self._loss("mse_loss", x, target)

    @prepared
    def binary_cross_entropy_with_logits(self, x: Array, target: Array, *, reduction: str, out: None = None) -> Plan:
        return self._loss("binary_cross_entropy_with_logits", x, target)

    @prepared
    def hinge_loss(self, scores: Array, labels: Array, *, out: None = None) -> Plan:
        dscores = self._buffer("dx", scores.shape)
        loop = self.loops(scores.size).hinge_loss
        return lambda: (loop(scores, labels, dscores), dscores), None

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
