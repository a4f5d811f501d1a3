"""What the peers made of compiled loops (numba, Cython) share: everything but the loops."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.bench.peers.common import Array, slope
from fastnn.bench.peers.training import HandWritten

Tail = tuple[float, "int | None", float]  # of an epilogue: slope, kept values of 2**32 (None: no dropout), factor


def _chances(p: float) -> tuple[int, float]:
    """Kept values among those of 32 random bits, and the factor of what is kept."""
    return min(round((1 - p) * 2**32), 2**32 - 1), 1 / (1 - p) if p < 1 else 0.0


def _tail(activation: Any, p: float) -> Tail:
    negative_slope = slope(activation)
    keep, factor = _chances(p) if p > 0 else (None, 1.0)
    return 1.0 if negative_slope is None else negative_slope, keep, factor


def _flat(x: Array) -> Array:
    return x if x.ndim == 1 else x.reshape(-1)


class CompiledLoops(HandWritten):
    """Loops that write into buffers which are used again. An output of exactly zero counts as dropped."""

    own_masks = True

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._key = 0
        self._buffers: dict[tuple[str, tuple[int, ...]], Array] = {}

    @abstractmethod
    def loops(self, elements: int) -> Any:
        """The compiled functions for arrays of this size."""

    def _buffer(self, role: str, shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
        key = role, shape
        try:
            return self._buffers[key]
        except KeyError:  # touched now, so that no timed call faults pages in
            self._buffers[key] = np.full(shape, 1, dtype)
            return self._buffers[key]

    def _next_key(self) -> int:
        """Of the random bits of one call."""
        self._key = (1664525 * self._key + 1013904223) & 0xFFFFFFFF
        return self._key

    def matmul(self, role: str, a: Array, b: Array) -> Array:
        return np.matmul(a, b, out=self._buffer(role, (a.shape[0], b.shape[1])))

    def add_bias(self, z: Array, bias: Array) -> Array:
        return np.add(z, bias, out=z)

    # ---------------------------------------------------------------------------------------- activations

    def _activate(self, x: Array, negative_slope: float) -> Array:
        y = self._buffer("y", x.shape)
        self.loops(x.size).activate(_flat(x), negative_slope, _flat(y))
        return y

    def _activate_backward(self, dy: Array, x: Array, negative_slope: float) -> Array:
        dx = self._buffer("dx", dy.shape)
        self.loops(dy.size).activate_backward(_flat(dy), _flat(x), negative_slope, _flat(dx))
        return dx

    def relu(self, x: Array, *, out: None = None) -> Array:
        return self._activate(x, 0.0)

    def relu_backward(self, dy: Array, x: Array, *, output: bool = False, out: None = None) -> Array:
        return self._activate_backward(dy, x, 0.0)

    def leaky_relu(self, x: Array, negative_slope: float = 0.01, *, out: None = None) -> Array:
        return self._activate(x, negative_slope)

    def leaky_relu_backward(
        self, dy: Array, x: Array, negative_slope: float = 0.01, *, output: bool = False, out: None = None
    ) -> Array:
        return self._activate_backward(dy, x, negative_slope)

    # -------------------------------------------------------------------------------------------- dropout

    def dropout(
        self, x: Array, p: float = 0.5, training: bool = True, *, rng: Any = None, first: int = 0, out: None = None
    ) -> tuple[Array, Any]:
        y, mask = self._buffer("y", x.shape), self._buffer("mask", x.shape, np.uint8)
        keep, factor = _chances(p)
        self.loops(x.size).dropout(_flat(x), keep, factor, self._next_key(), _flat(y), _flat(mask))
        return y, (mask, factor)

    def dropout_backward(self, dy: Array, saved: Any, *, out: None = None) -> Array:
        mask, factor = saved
        dx = self._buffer("dx", dy.shape)
        self.loops(dy.size).dropout_backward(_flat(dy), _flat(mask), factor, _flat(dx))
        return dx

    # --------------------------------------------------------------------------------- bias_act, channel_sum

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
    ) -> tuple[Array, Any]:
        if x.ndim != 2 or channel_axis not in (1, -1):
            raise NotImplementedError("channels in the middle")
        tail = _tail(activation, dropout if training else 0.0)
        y = self._buffer("y", x.shape)
        self.loops(x.size).bias_act(x, bias, residual, *tail, self._next_key(), y)
        return y, (y, tail, bias is not None, residual is not None)

    def bias_act_backward(self, dy: Array, saved: Any, *, out: None = None) -> tuple[Any, ...]:
        y, tail, has_bias, has_residual = saved
        if not has_bias:
            raise NotImplementedError("no bias")
        if tail == (1.0, None, 1.0):
            dx, dbias = dy, self.channel_sum(dy)
        else:
            dx, dbias = self._buffer("dx", dy.shape), self._buffer("dbias", dy.shape[1:])
            self.loops(dy.size).bias_act_backward(dy, y, tail[0], tail[2], dx, dbias)
        return (dx, dbias, dx) if has_residual else (dx, dbias)

    def channel_sum(self, x: Array, *, channel_axis: int = -1, out: None = None) -> Array:
        layout = _Layout(x.shape, channel_axis)
        sums = self._buffer("sums", (layout.channels,))
        loops = self.loops(x.size)
        (loops.sum_planes if layout.planes else loops.sum_rows)(layout.view(x), sums)
        return sums

    # ----------------------------------------------------------------------------------------- batch norm

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
    ) -> tuple[Array, Any]:
        if pre_bias is not None:
            raise NotImplementedError("pre_bias")
        layout = _Layout(x.shape, channel_axis)
        tail = _tail(activation, dropout if training else 0.0)
        y = self._buffer("y", x.shape)
        mean, invstd = (self._buffer(role, (layout.channels,)) for role in ("mean", "invstd"))
        loops = self.loops(x.size)
        (loops.batch_norm_planes if layout.planes else loops.batch_norm_rows)(
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
            self._next_key(),
            layout.view(y),
            mean,
            invstd,
        )
        return y, (layout, x, y, weight, mean, invstd, tail, residual is not None)

    def batch_norm_backward(self, dy: Array, saved: Any, *, out: None = None) -> tuple[Any, ...]:
        layout, x, y, weight, mean, invstd, tail, has_residual = saved
        dx = self._buffer("dx", dy.shape)
        dweight, dbias = (self._buffer(role, (layout.channels,)) for role in ("dweight", "dbias"))
        plain = tail == (1.0, None, 1.0)
        dresidual = self._buffer("dresidual", dy.shape) if has_residual and not plain else None
        loops = self.loops(dy.size)
        (loops.batch_norm_backward_planes if layout.planes else loops.batch_norm_backward_rows)(
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
        if not has_residual:
            return dx, dweight, dbias
        return dx, dweight, dbias, dy if dresidual is None else dresidual

    # ------------------------------------------------------------------------------------ loss, optimizers

    def softmax_cross_entropy(self, logits: Array, labels: Array, *, out: None = None) -> tuple[float, Array]:
        dlogits = self._buffer("dlogits", logits.shape)
        return self.loops(logits.size).softmax_cross_entropy(logits, labels, dlogits), dlogits

    def _clip(self, grads: Sequence[Array], clip_norm: float | None) -> tuple[float | None, float]:
        if clip_norm is None:
            return None, 1.0
        norm = math.sqrt(sum(self.loops(g.size).sum_of_squares(_flat(g)) for g in grads))
        return norm, min(1.0, clip_norm / (norm + 1e-6))

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
    ) -> float | None:
        norm, clip = self._clip(grads, clip_norm)
        if momentum_buffers is None or not momentum:
            for p, g in zip(params, grads, strict=True):
                self.loops(p.size).sgd(_flat(p), _flat(g), lr, clip, weight_decay)
            return norm
        old, new = (0.0, 1.0) if first_step else (momentum, 1 - dampening)
        ahead = momentum if nesterov else 0.0
        for p, g, buffer in zip(params, grads, momentum_buffers, strict=True):
            self.loops(p.size).momentum(_flat(p), _flat(g), _flat(buffer), lr, clip, weight_decay, old, new, ahead)
        return norm

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
    ) -> float | None:
        norm, clip = self._clip(grads, clip_norm)
        rate, root = lr / bias_correction1, 1 / math.sqrt(bias_correction2)
        shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
        for p, g, m, v in zip(params, grads, exp_avgs, exp_avg_sqs, strict=True):
            self.loops(p.size).adam(
                _flat(p), _flat(g), _flat(m), _flat(v), rate, shrink, clip, decay, beta1, beta2, root, eps
            )
        return norm


class _Layout:
    """Arrays as (rows, channels), or as (batch, channels, pixels) planes."""

    def __init__(self, shape: tuple[int, ...], channel_axis: int) -> None:
        self.planes = channel_axis % len(shape) != len(shape) - 1
        self.channels = shape[channel_axis]
        self._shape = (shape[0], self.channels, -1) if self.planes else (-1, self.channels)

    def view(self, x: Array) -> Array:
        return x if x.ndim == len(self._shape) else x.reshape(self._shape)
