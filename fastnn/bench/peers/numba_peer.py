"""Loops compiled by numba."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from fastnn.bench.peers.base import Plan, prepared
from fastnn.bench.peers.common import NUMPY_CAP, Array
from fastnn.bench.peers.compiled import CompiledLoops, Layout, flat, tail_of
from fastnn.functional.activations import ACTIVATIONS

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

    @prepared
    def prelu(self, x: Array, weight: Array, *, channel_axis: int = 1, out: None = None) -> Plan:
        if weight.size == 1:
            return self._activate(x, float(weight[0]))
        layout, y = Layout(x.shape, channel_axis), self._buffer("y", x.shape)
        loops = self.loops(x.size)
        loop = loops.prelu_planes if layout.planes else loops.prelu_rows
        return partial(loop, layout.view(x), weight, layout.view(y)), y

    @prepared
    def prelu_backward(self, dy: Array, x: Array, weight: Array, *, channel_axis: int = 1, out: None = None) -> Plan:
        dx, loops = self._buffer("dx", dy.shape), self.loops(dy.size)
        if weight.size == 1:
            loop = partial(loops.prelu_backward, flat(dy), flat(x), float(weight[0]), flat(dx))
            return lambda: (dx, np.array([loop()])), None
        layout, dweight = Layout(x.shape, channel_axis), self._buffer("dweight", weight.shape)
        loop = loops.prelu_backward_planes if layout.planes else loops.prelu_backward_rows
        return partial(loop, layout.view(dy), layout.view(x), weight, layout.view(dx), dweight), (dx, dweight)

    @prepared
    def maxout(self, x: Array, pieces: int, axis: int = 1, *, out: None = None) -> Plan:
        if axis != 1:
            raise NotImplementedError("channels elsewhere")
        shape = (x.shape[0], x.shape[1] // pieces, *x.shape[2:])
        y, places = self._buffer("y", shape), self._buffer("places", shape, np.uint8)
        inner = math.prod(shape[2:])
        units = (part.reshape(-1, inner) for part in (y, places))
        return partial(self.loops(x.size).maxout, x.reshape(-1, pieces, inner), *units), (y, (places, x.shape, pieces))

    @prepared
    def maxout_backward(self, dy: Array, saved: Any, *, out: None = None) -> Plan:
        places, shape, pieces = saved
        dx = self._buffer("dx", shape)
        inner = math.prod(shape[2:])
        units = (part.reshape(-1, inner) for part in (dy, places))
        return partial(self.loops(dx.size).maxout_backward, *units, dx.reshape(-1, pieces, inner)), dx

    def _along_rows(self, loop: str, role: str, axis: int, *arrays: Array) -> Plan:
        result = self._buffer(role, arrays[0].shape)
        if axis not in (-1, result.ndim - 1):
            raise NotImplementedError("other axes than the last")
        rows = [array.reshape(-1, result.shape[-1]) for array in (*arrays, result)]
        return partial(getattr(self.loops(result.size), loop), *rows), result

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
    def softmax(self, x: Array, axis: int = -1, *, out: None = None) -> Plan:
        return self._along_rows("softmax", "y", axis, x)

    @prepared
    def softmax_backward(self, dy: Array, y: Array, axis: int = -1, *, out: None = None) -> Plan:
        return self._along_rows("softmax_backward", "dx", axis, dy, y)

    @prepared
    def log_softmax(self, x: Array, axis: int = -1, *, out: None = None) -> Plan:
        return self._along_rows("log_softmax", "y", axis, x)

    @prepared
    def log_softmax_backward(self, dy: Array, y: Array, axis: int = -1, *, out: None = None) -> Plan:
        return self._along_rows("log_softmax_backward", "dx", axis, dy, y)

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


def _activation(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The operations of an activation, whose loops take its parameters; backward in the form that is usual."""
    entry = ACTIVATIONS[name]
    from_output = entry.default_spec.from_output

    def numbers(given: dict[str, float]) -> tuple[float, ...]:
        return (*(entry.defaults | given).values(), 0.0, 0.0)[:2]

    @prepared
    def forward(self: Numba, x: Array, *, out: None = None, **given: float) -> Plan:
        y = self._buffer("y", x.shape)
        return partial(getattr(self.loops(x.size), name), flat(x), *numbers(given), flat(y)), y

    @prepared
    def backward(self: Numba, dy: Array, x: Array, *, output: bool = False, out: None = None, **given: float) -> Plan:
        if output != from_output:
            raise NotImplementedError("the other form")
        dx = self._buffer("dx", x.shape)
        return partial(
            getattr(self.loops(x.size), f"{name}_backward"), flat(dy), flat(x), *numbers(given), flat(dx)
        ), dx

    return forward, backward


for _name in (
    *("sigmoid", "tanh", "elu", "selu", "celu", "hardtanh", "relu6"),
    *("gelu", "silu", "mish", "softplus", "softsign", "hardsigmoid", "hardswish", "logsigmoid", "threshold"),
):
    for _suffix, _operation in zip(("", "_backward"), _activation(_name), strict=True):
        setattr(Numba, _name + _suffix, _operation)
