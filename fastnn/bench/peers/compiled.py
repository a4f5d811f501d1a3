"""What the peers made of compiled loops (numba, Cython) share: everything but the loops."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from fastnn.bench.peers.base import Plan, prepared
from fastnn.bench.peers.common import Array, slope
from fastnn.bench.peers.training import HandWritten

Tail = tuple[float, "int | None", float]  # of an epilogue: slope, kept values of 2**32 (None: no dropout), factor


def _chances(p: float) -> tuple[int, float]:
    """Kept values among those of 32 random bits, and the factor of what is kept."""
    return min(round((1 - p) * 2**32), 2**32 - 1), 1 / (1 - p) if p < 1 else 0.0


def tail_of(activation: Any, p: float) -> Tail:
    """Of an epilogue, where loops compute one."""
    negative_slope = slope(activation)
    keep, factor = _chances(p) if p > 0 else (None, 1.0)
    return 1.0 if negative_slope is None else negative_slope, keep, factor


def flat(x: Array) -> Array:
    return x if x.ndim == 1 else x.reshape(-1)


class CompiledLoops(HandWritten):
    """Loops that write into buffers which are used again. An output of exactly zero counts as dropped."""

    own_masks = True

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._key = 0

    @abstractmethod
    def loops(self, elements: int) -> Any:
        """The compiled functions for arrays of this size."""

    def _next_key(self) -> int:
        """Of the random bits of one call."""
        self._key = (1664525 * self._key + 1013904223) & 0xFFFFFFFF
        return self._key

    def matmul(self, role: str, a: Array, b: Array) -> Array:
        return np.matmul(a, b, out=self._buffer(role, (a.shape[0], b.shape[1])))

    def add_bias(self, z: Array, bias: Array) -> Array:
        return np.add(z, bias, out=z)

    # ---------------------------------------------------------------------------------------- activations

    def _activate(self, x: Array, negative_slope: float) -> Plan:
        y = self._buffer("y", x.shape)
        return partial(self.loops(x.size).activate, flat(x), negative_slope, flat(y)), y

    def _activate_backward(self, dy: Array, x: Array, negative_slope: float) -> Plan:
        dx = self._buffer("dx", dy.shape)
        return partial(self.loops(dy.size).activate_backward, flat(dy), flat(x), negative_slope, flat(dx)), dx

    @prepared
    def relu(self, x: Array, *, out: None = None) -> Plan:
        return self._activate(x, 0.0)

    @prepared
    def relu_backward(self, dy: Array, x: Array, *, output: bool = False, out: None = None) -> Plan:
        return self._activate_backward(dy, x, 0.0)

    @prepared
    def leaky_relu(self, x: Array, negative_slope: float = 0.01, *, out: None = None) -> Plan:
        return self._activate(x, negative_slope)

    @prepared
    def leaky_relu_backward(
        self, dy: Array, x: Array, negative_slope: float = 0.01, *, output: bool = False, out: None = None
    ) -> Plan:
        return self._activate_backward(dy, x, negative_slope)

    # -------------------------------------------------------------------------------------------- dropout

    @prepared
    def dropout(
        self, x: Array, p: float = 0.5, training: bool = True, *, rng: Any = None, first: int = 0, out: None = None
    ) -> Plan:
        y, mask = self._buffer("y", x.shape), self._buffer("mask", x.shape, np.uint8)
        keep, factor = _chances(p)
        loop, flat_x, flat_y, flat_mask = self.loops(x.size).dropout, flat(x), flat(y), flat(mask)
        return lambda: loop(flat_x, keep, factor, self._next_key(), flat_y, flat_mask), (y, (mask, factor))

    @prepared
    def dropout_backward(self, dy: Array, saved: Any, *, out: None = None) -> Plan:
        mask, factor = saved
        dx = self._buffer("dx", dy.shape)
        return partial(self.loops(dy.size).dropout_backward, flat(dy), flat(mask), factor, flat(dx)), dx

    # --------------------------------------------------------------------------------- bias_act, channel_sum

    @prepared
    def bias_act(
        self,
        x: Array,
        bias: Array | None = None,
        *,
        residual: Array | None = None,
        activation: Any = None,
        dropout: float = 0.0,
        rng: Any = None,
        training: bool = True,
        channel_axis: int = -1,
        first: int = 0,
        out: None = None,
    ) -> Plan:
        if x.ndim != 2 or channel_axis not in (1, -1):
            raise NotImplementedError("channels in the middle")
        tail = tail_of(activation, dropout if training else 0.0)
        y = self._buffer("y", x.shape)
        loop = self.loops(x.size).bias_act
        result = y, (y, tail, bias is not None, residual is not None)
        return lambda: loop(x, bias, residual, *tail, self._next_key(), y), result

    @prepared
    def bias_act_backward(self, dy: Array, saved: Any, *, out: None = None) -> Plan:
        y, tail, has_bias, has_residual = saved
        if not has_bias:
            raise NotImplementedError("no bias")
        if tail == (1.0, None, 1.0):
            dx = dy
            call, dbias = self._sum(dy, -1)
        else:
            dx, dbias = self._buffer("dx", dy.shape), self._buffer("dbias", dy.shape[1:])
            call = partial(self.loops(dy.size).bias_act_backward, dy, y, tail[0], tail[2], dx, dbias)
        return call, (dx, dbias, dx) if has_residual else (dx, dbias)

    def _sum(self, x: Array, channel_axis: int) -> Plan:
        layout = Layout(x.shape, channel_axis)
        sums = self._buffer("sums", (layout.channels,))
        loops = self.loops(x.size)
        return partial(loops.sum_planes if layout.planes else loops.sum_rows, layout.view(x), sums), sums

    @prepared
    def channel_sum(self, x: Array, *, channel_axis: int = -1, out: None = None) -> Plan:
        return self._sum(x, channel_axis)

    # ----------------------------------------------------------------------------------------- batch norm

    @prepared
    def batch_norm(
        self,
        x: Array,
        running_mean: Array | None = None,
        running_var: Array | None = None,
        weight: Array | None = None,
        bias: Array | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
        *,
        pre_bias: Array | None = None,
        residual: Array | None = None,
        activation: Any = None,
        dropout: float = 0.0,
        rng: Any = None,
        channel_axis: int = 1,
        nonfinite: str = "error",
        first: int = 0,
        out: None = None,
    ) -> Plan:
        if pre_bias is not None:
            raise NotImplementedError("pre_bias")
        layout = Layout(x.shape, channel_axis)
        tail = tail_of(activation, dropout if training else 0.0)
        y = self._buffer("y", x.shape)
        mean, invstd = (self._buffer(role, (layout.channels,)) for role in ("mean", "invstd"))
        loops = self.loops(x.size)
        loop = partial(
            loops.batch_norm_planes if layout.planes else loops.batch_norm_rows,
            layout.view(x),
            running_mean,
            running_var,
            weight,
            bias,
            training,
            momentum,
            eps,
            None if residual is None else layout.view(residual),
            *tail,
        )
        flat_y = layout.view(y)
        result = y, (layout, x, y, weight, mean, invstd, tail, residual is not None)
        return lambda: loop(self._next_key(), flat_y, mean, invstd), result

    @prepared
    def batch_norm_backward(self, dy: Array, saved: Any, *, out: None = None) -> Plan:
        layout, x, y, weight, mean, invstd, tail, has_residual = saved
        dx = self._buffer("dx", dy.shape)
        dweight, dbias = (self._buffer(role, (layout.channels,)) for role in ("dweight", "dbias"))
        plain = tail == (1.0, None, 1.0)
        dresidual = self._buffer("dresidual", dy.shape) if has_residual and not plain else None
        loops = self.loops(dy.size)
        call = partial(
            loops.batch_norm_backward_planes if layout.planes else loops.batch_norm_backward_rows,
            layout.view(dy),
            layout.view(x),
            None if plain else layout.view(y),
            weight,
            mean,
            invstd,
            tail[0],
            tail[2],
            layout.view(dx),
            dweight,
            dbias,
            None if dresidual is None else layout.view(dresidual),
        )
        gradients = dx, dweight, dbias
        return call, (*gradients, dy if dresidual is None else dresidual) if has_residual else gradients

    # ------------------------------------------------------------------------------------ loss, optimizers

    @prepared
    def softmax_cross_entropy(self, logits: Array, labels: Array, *, out: None = None) -> Plan:
        dlogits = self._buffer("dlogits", logits.shape)
        loop = self.loops(logits.size).softmax_cross_entropy
        return lambda: (loop(logits, labels, dlogits), dlogits), None

    def _clip(self, grads: Sequence[Array], clip_norm: float | None) -> tuple[float | None, float]:
        """Norm of all gradients, which are flat, and the factor that they are clipped by."""
        if clip_norm is None:
            return None, 1.0
        norm = math.sqrt(sum(self.loops(g.size).sum_of_squares(g) for g in grads))
        return norm, min(1.0, clip_norm / (norm + 1e-6))

    @prepared
    def sgd_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        momentum_buffers: Sequence[Array] | None,
        *,
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        first_step: bool = False,
        clip_norm: float | None = None,
    ) -> Plan:
        if momentum_buffers is None or not momentum:
            return self._update("sgd", (params, grads), clip_norm, (lr,), (weight_decay,))
        old, new = (0.0, 1.0) if first_step else (momentum, 1 - dampening)
        after = weight_decay, old, new, momentum if nesterov else 0.0
        return self._update("momentum", (params, grads, momentum_buffers), clip_norm, (lr,), after)

    @prepared
    def adam_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        exp_avgs: Sequence[Array],
        exp_avg_sqs: Sequence[Array],
        *,
        lr: float,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        bias_correction1: float = 1.0,
        bias_correction2: float = 1.0,
        clip_norm: float | None = None,
    ) -> Plan:
        rate, root = lr / bias_correction1, 1 / math.sqrt(bias_correction2)
        shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
        arrays, after = (params, grads, exp_avgs, exp_avg_sqs), (decay, beta1, beta2, root, eps)
        return self._update("adam", arrays, clip_norm, (rate, shrink), after)

    def _update(
        self,
        loop: str,
        arrays: tuple[Sequence[Array], ...],
        clip_norm: float | None,
        before: tuple[float, ...],
        after: tuple[float, ...],
    ) -> Plan:
        """A loop over each parameter; the factor of its gradient is between the other numbers."""
        tensors = [tuple(map(flat, each)) for each in zip(*arrays, strict=True)]
        loops = [partial(getattr(self.loops(each[0].size), loop), *each, *before) for each in tensors]
        grads = [each[1] for each in tensors]

        def update() -> float | None:
            norm, clip = self._clip(grads, clip_norm)
            for run in loops:
                run(clip, *after)
            return norm

        return update, None


class Layout:
    """Arrays as (rows, channels), or as (batch, channels, pixels) planes."""

    def __init__(self, shape: tuple[int, ...], channel_axis: int) -> None:
        self.planes = channel_axis % len(shape) != len(shape) - 1
        self.channels = shape[channel_axis]
        self._shape = (shape[0], self.channels, -1) if self.planes else (-1, self.channels)

    def view(self, x: Array) -> Array:
        return x if x.ndim == len(self._shape) else x.reshape(self._shape)
