"""NumPy by someone who counts memory passes: every operator writes into a buffer that is used again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from fastnn.bench.peers.base import Plan, prepared
from fastnn.bench.peers.common import NUMPY_CAP, Array, other_axes, per_channel, slope
from fastnn.bench.peers.training import HandWritten


class NumpyInPlace(HandWritten):
    """See the module."""

    name = "numpy"
    label = "NumPy in place"
    library = distribution = "numpy"
    cap = NUMPY_CAP

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._bits = np.random.SFC64(0)

    def draw_mask(self, rng: Any, shape: tuple[int, ...], p: float, dtype: Any) -> Array:
        """True where kept; 16 random bits per element, the fastest that NumPy's generators give."""
        size = math.prod(shape)
        bits = self._bits.random_raw((size + 3) // 4).view(np.uint16)[:size].reshape(shape)
        keep = self._buffer("keep", shape, np.bool_)
        return np.less(bits, round((1 - p) * 65536), out=keep)

    def matmul(self, role: str, a: Array, b: Array) -> Array:
        return np.matmul(a, b, out=self._buffer(role, (a.shape[0], b.shape[1])))

    def add_bias(self, z: Array, bias: Array) -> Array:
        return np.add(z, bias, out=z)

    @prepared
    def relu(self, x: Array, *, out: Array | None = None) -> Plan:
        y = self._buffer("y", x.shape)
        return partial(np.maximum, x, 0, out=y), y

    @prepared
    def relu_backward(self, dy: Array, x: Array, *, output: bool = False, out: Array | None = None) -> Plan:
        return self._slope_backward(dy, x, 0.0, "dx")

    @prepared
    def leaky_relu(self, x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Plan:
        y = self._buffer("y", x.shape)

        def call() -> None:
            np.multiply(x, negative_slope, out=y)
            np.maximum(x, y, out=y)

        return call, y

    @prepared
    def leaky_relu_backward(
        self,
        dy: Array,
        x: Array,
        negative_slope: float = 0.01,
        *,
        output: bool = False,
        out: Array | None = None,
    ) -> Plan:
        return self._slope_backward(dy, x, negative_slope, "dx")

    def _activate(self, y: Array, activation: Any) -> Array:
        negative_slope = slope(activation)
        if negative_slope is None:
            return y
        if negative_slope == 0:
            return np.maximum(y, 0, out=y)
        low = np.multiply(y, negative_slope, out=self._buffer("low", y.shape))
        return np.maximum(y, low, out=y)

    def _slope_backward(self, dy: Array, x: Array, negative_slope: float, role: str) -> Plan:
        dx, positive = self._buffer(role, dy.shape), self._buffer("positive", dy.shape, np.bool_)

        def relu() -> None:
            np.greater(x, 0, out=positive)
            np.multiply(dy, positive, out=dx)

        def leaky_relu() -> None:
            np.greater(x, 0, out=positive)
            np.multiply(dy, negative_slope, out=dx)
            np.copyto(dx, dy, where=positive)

        return relu if negative_slope == 0 else leaky_relu, dx

    def _activate_backward(self, dy: Array, x: Array, activation: Any) -> Array:
        negative_slope = slope(activation)
        if negative_slope is None:
            return dy
        call, dx = self._slope_backward(dy, x, negative_slope, "dv")
        call()
        return dx  # type: ignore[no-any-return]

    def _dropout(self, y: Array, rng: Any, p: float, out: Array) -> Array:
        """Scaled mask; y times it goes to `out`."""
        keep = self.draw_mask(rng, y.shape, p, y.dtype)
        mask = self._buffer("mask", y.shape)
        np.multiply(keep, y.dtype.type(1 / (1 - p)), out=mask)
        np.multiply(y, mask, out=out)
        return mask

    def _epilogue(self, y: Array, residual: Any, activation: Any, p: float, rng: Any) -> tuple[Array, Any]:
        if residual is not None:
            np.add(y, residual, out=y)
        self._activate(y, activation)
        mask = self._dropout(y, rng, p, y) if p > 0 else None
        return y, (y, mask, activation, residual is not None)

    def _epilogue_backward(self, dy: Array, kept: Any) -> Array:
        y, mask, activation, _ = kept
        if mask is not None:
            dy = np.multiply(dy, mask, out=self._buffer("masked", dy.shape))
        return self._activate_backward(dy, y, activation)

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
        out: Array | None = None,
    ) -> tuple[Array, Any]:
        y = self._buffer("y", x.shape)
        if bias is None:
            np.copyto(y, x)
        else:
            np.add(x, per_channel(bias, x.ndim, channel_axis), out=y)
        y, kept = self._epilogue(y, residual, activation, dropout if training else 0.0, rng)
        return y, (kept, bias is not None, channel_axis)

    def bias_act_backward(self, dy: Array, saved: Any, *, out: Array | None = None) -> tuple[Any, ...]:
        kept, has_bias, channel_axis = saved
        dx = self._epilogue_backward(dy, kept)
        dbias = None
        if has_bias:
            dbias = self._buffer("dbias", (dx.shape[channel_axis],))
            np.sum(dx, axis=other_axes(dx.ndim, channel_axis), out=dbias)
        return (dx, dbias, dx) if kept[3] else (dx, dbias)

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
        out: Array | None = None,
    ) -> tuple[Array, Any]:
        axes = other_axes(x.ndim, channel_axis)
        xhat = self._buffer("xhat", x.shape)
        y = self._buffer("y", x.shape)
        if pre_bias is not None:
            x = np.add(x, per_channel(pre_bias, x.ndim, channel_axis), out=xhat)
        if training:
            mean = np.mean(x, axis=axes)
            np.subtract(x, per_channel(mean, x.ndim, channel_axis), out=xhat)
            np.multiply(xhat, xhat, out=y)
            var = np.mean(y, axis=axes)
            if running_mean is not None and running_var is not None:
                count = x.size // mean.size
                running_mean += momentum * (mean - running_mean)
                running_var += momentum * (var * (count / (count - 1)) - running_var)
        else:
            assert running_mean is not None and running_var is not None
            var = running_var
            np.subtract(x, per_channel(running_mean, x.ndim, channel_axis), out=xhat)
        invstd = (1 / np.sqrt(var + eps)).astype(x.dtype)
        np.multiply(xhat, per_channel(invstd, x.ndim, channel_axis), out=xhat)
        if weight is None:
            np.copyto(y, xhat)
        else:
            np.multiply(xhat, per_channel(weight, x.ndim, channel_axis), out=y)
        if bias is not None:
            np.add(y, per_channel(bias, x.ndim, channel_axis), out=y)
        y, kept = self._epilogue(y, residual, activation, dropout if training else 0.0, rng)
        return y, (kept, xhat, invstd, weight, pre_bias is not None, channel_axis)

    def batch_norm_backward(self, dy: Array, saved: Any, *, out: Array | None = None) -> tuple[Any, ...]:
        kept, xhat, invstd, weight, has_pre_bias, channel_axis = saved
        axes = other_axes(dy.ndim, channel_axis)
        dv = self._epilogue_backward(dy, kept)
        dx = np.multiply(dv, xhat, out=self._buffer("dx", dy.shape))
        dweight, dbias = np.sum(dx, axis=axes), np.sum(dv, axis=axes)
        scale = invstd if weight is None else invstd * weight
        count = dy.size // dbias.size
        # dx = scale * (dv - dbias / count - xhat * dweight / count)
        np.multiply(xhat, per_channel(dweight / -count, dy.ndim, channel_axis), out=dx)
        np.add(dx, dv, out=dx)
        np.subtract(dx, per_channel(dbias / count, dy.ndim, channel_axis), out=dx)
        np.multiply(dx, per_channel(scale, dy.ndim, channel_axis), out=dx)
        result: tuple[Array, ...] = (dx, dweight, dbias)
        if kept[3]:
            result += (dv,)
        if has_pre_bias:
            result += (np.sum(dx, axis=axes),)
        return result

    def dropout(
        self,
        x: Array,
        p: float = 0.5,
        training: bool = True,
        *,
        rng: Any = None,
        first: int = 0,
        out: Array | None = None,
    ) -> tuple[Array, Any]:
        y = self._buffer("y", x.shape)
        return y, self._dropout(x, rng, p, y)

    @prepared
    def dropout_backward(self, dy: Array, saved: Any, *, out: Array | None = None) -> Plan:
        dx = self._buffer("dx", dy.shape)
        return partial(np.multiply, dy, saved, out=dx), dx

    @prepared
    def channel_sum(self, x: Array, *, channel_axis: int = -1, out: Array | None = None) -> Plan:
        sums = self._buffer("sums", (x.shape[channel_axis],))
        return partial(np.add.reduce, x, axis=other_axes(x.ndim, channel_axis), out=sums), sums

    def softmax_cross_entropy(self, logits: Array, labels: Array, *, out: Array | None = None) -> tuple[float, Array]:
        rows = np.arange(len(labels))
        p = self._buffer("y", logits.shape)
        np.subtract(logits, logits.max(axis=1, keepdims=True), out=p)
        target = p[rows, labels]
        np.exp(p, out=p)
        sums = p.sum(axis=1, keepdims=True)
        loss = np.mean(np.log(sums[:, 0]) - target)
        np.multiply(p, 1 / (sums * len(labels)), out=p)
        p[rows, labels] -= 1 / len(labels)
        return float(loss), p

    def _scaled(self, grad: Array, factor: float) -> Array:
        if factor == 1.0:
            return grad
        return np.multiply(grad, factor, out=self._buffer("g", grad.shape))

    def _clip(self, grads: Sequence[Array], clip_norm: float | None) -> tuple[float | None, float]:
        if clip_norm is None:
            return None, 1.0
        norm = math.sqrt(sum(float(np.dot(g.ravel(), g.ravel())) for g in grads))
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
        steps = [self._buffer("step", p.shape) for p in params]

        def update() -> float | None:
            norm, factor = self._clip(grads, clip_norm)
            for i, (p, grad, step) in enumerate(zip(params, grads, steps, strict=True)):
                g = self._scaled(grad, factor)
                if weight_decay:
                    np.multiply(p, weight_decay, out=step)
                    g = np.add(step, g, out=self._buffer("g2", p.shape))
                if momentum_buffers is not None and momentum:
                    buf = momentum_buffers[i]
                    if first_step:
                        np.copyto(buf, g)
                    else:
                        np.multiply(buf, momentum, out=buf)
                        np.add(buf, g if dampening == 0 else np.multiply(g, 1 - dampening, out=step), out=buf)
                    if nesterov:
                        np.multiply(buf, momentum, out=step)
                        np.add(step, g, out=step)
                        np.multiply(step, lr, out=step)
                    else:
                        np.multiply(buf, lr, out=step)
                else:
                    np.multiply(g, lr, out=step)
                np.subtract(p, step, out=p)
            return norm

        return update, None

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
        steps, scales = ([self._buffer(role, p.shape) for p in params] for role in ("step", "scale"))
        rate, root = lr / bias_correction1, 1 / math.sqrt(bias_correction2)

        def update() -> float | None:
            norm, factor = self._clip(grads, clip_norm)
            for p, grad, m, v, step, scale in zip(params, grads, exp_avgs, exp_avg_sqs, steps, scales, strict=True):
                g = self._scaled(grad, factor)
                if weight_decay and decoupled:
                    np.multiply(p, 1 - lr * weight_decay, out=p)
                elif weight_decay:
                    np.multiply(p, weight_decay, out=step)
                    g = np.add(step, g, out=self._buffer("g2", p.shape))
                np.multiply(m, beta1, out=m)
                np.multiply(g, 1 - beta1, out=step)
                np.add(m, step, out=m)
                np.multiply(g, g, out=step)
                np.multiply(step, 1 - beta2, out=step)
                np.multiply(v, beta2, out=v)
                np.add(v, step, out=v)
                np.sqrt(v, out=scale)
                np.multiply(scale, root, out=scale)
                np.add(scale, eps, out=scale)
                np.divide(m, scale, out=step)
                np.multiply(step, rate, out=step)
                np.subtract(p, step, out=p)
            return norm

        return update, None
