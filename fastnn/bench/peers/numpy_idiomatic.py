"""NumPy as it is usually written: one expression per formula, a new array per operator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from fastnn.bench.peers import rules
from fastnn.bench.peers.base import Plan, prepared
from fastnn.bench.peers.common import NUMPY_CAP, SELU_LIMIT, Array, other_axes, per_channel, slope
from fastnn.bench.peers.training import HandWritten
from fastnn.bench.peers.windows import NumpyWindows


def _activate(v: Array, activation: Any) -> Array:
    negative_slope = slope(activation)
    if negative_slope is None:
        return v
    return np.maximum(v, 0) if negative_slope == 0 else np.where(v > 0, v, negative_slope * v)


def _activate_backward(dy: Array, v: Array, activation: Any) -> Array:
    negative_slope = slope(activation)
    if negative_slope is None:
        return dy
    return dy * (v > 0) if negative_slope == 0 else np.where(v > 0, dy, negative_slope * dy)


_GELU = math.sqrt(2 / math.pi)


def _silu_backward(dy: Array, x: Array) -> Array:
    gate = 1 / (1 + np.exp(-x))
    dx: Array = dy * gate * (1 + x * (1 - gate))
    return dx


def _gelu_tanh_backward(dy: Array, x: Array) -> Array:
    t = np.tanh(_GELU * (x + 0.044715 * x**3))
    dx: Array = dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * _GELU * (1 + 3 * 0.044715 * x * x))
    return dx


class NumpyIdiomatic(NumpyWindows, HandWritten):
    """See the module."""

    name = "numpy"
    label = "NumPy"
    library = distribution = "numpy"
    cap = NUMPY_CAP

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._rng = np.random.default_rng(0)

    def draw_mask(self, rng: Any, shape: tuple[int, ...], p: float, dtype: Any) -> Array:
        """True where kept."""
        return self._rng.random(shape, dtype=dtype) >= p

    @prepared
    def relu(self, x: Array, *, out: Array | None = None) -> Plan:
        return partial(np.maximum, x, 0), None

    @prepared
    def relu_backward(self, dy: Array, x: Array, *, output: bool = False, out: Array | None = None) -> Plan:
        return lambda: dy * (x > 0), None

    @prepared
    def leaky_relu(self, x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Plan:
        return lambda: np.where(x > 0, x, negative_slope * x), None

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
        return lambda: np.where(x > 0, dy, negative_slope * dy), None

    @prepared
    def sigmoid(self, x: Array, *, out: Array | None = None) -> Plan:
        return lambda: 1 / (1 + np.exp(-x)), None

    @prepared
    def sigmoid_backward(self, dy: Array, x: Array, *, output: bool = False, out: Array | None = None) -> Plan:
        return lambda: dy * x * (1 - x) if output else dy / (2 + np.exp(-x) + np.exp(x)), None

    @prepared
    def tanh(self, x: Array, *, out: Array | None = None) -> Plan:
        return partial(np.tanh, x), None

    @prepared
    def tanh_backward(self, dy: Array, x: Array, *, output: bool = False, out: Array | None = None) -> Plan:
        return lambda: dy * (1 - (x if output else np.tanh(x)) ** 2), None

    @prepared
    def elu(self, x: Array, alpha: float = 1.0, *, out: Array | None = None) -> Plan:
        return lambda: np.where(x > 0, x, alpha * np.expm1(x)), None

    @prepared
    def elu_backward(self, dy: Array, x: Array, alpha: float = 1.0, *, out: Array | None = None) -> Plan:
        return lambda: np.where(x > 0, dy, dy * (alpha * np.exp(x))), None

    @prepared
    def silu(self, x: Array, *, out: Array | None = None) -> Plan:
        return lambda: x / (1 + np.exp(-x)), None

    @prepared
    def silu_backward(self, dy: Array, x: Array, *, out: Array | None = None) -> Plan:
        return lambda: _silu_backward(dy, x), None

    @prepared
    def gelu_tanh(self, x: Array, *, out: Array | None = None) -> Plan:
        return lambda: 0.5 * x * (1 + np.tanh(_GELU * (x + 0.044715 * x**3))), None

    @prepared
    def gelu_tanh_backward(self, dy: Array, x: Array, *, out: Array | None = None) -> Plan:
        return lambda: _gelu_tanh_backward(dy, x), None

    @prepared
    def softplus(self, x: Array, beta: float = 1.0, threshold: float = 20.0, *, out: Array | None = None) -> Plan:
        return lambda: np.where(beta * x > threshold, x, np.logaddexp(0, beta * x) / beta), None

    @prepared
    def softplus_backward(
        self, dy: Array, x: Array, beta: float = 1.0, threshold: float = 20.0, *, out: Array | None = None
    ) -> Plan:
        return lambda: np.where(beta * x > threshold, dy, dy / (1 + np.exp(-beta * x))), None

    @prepared
    def softsign(self, x: Array, *, out: Array | None = None) -> Plan:
        return lambda: x / (1 + np.abs(x)), None

    @prepared
    def softsign_backward(self, dy: Array, x: Array, *, out: Array | None = None) -> Plan:
        return lambda: dy / (1 + np.abs(x)) ** 2, None

    @prepared
    def hardtanh(self, x: Array, min_val: float = -1.0, max_val: float = 1.0, *, out: Array | None = None) -> Plan:
        return partial(np.clip, x, min_val, max_val), None

    @prepared
    def hardtanh_backward(
        self,
        dy: Array,
        x: Array,
        min_val: float = -1.0,
        max_val: float = 1.0,
        *,
        output: bool = False,
        out: Array | None = None,
    ) -> Plan:
        return lambda: dy * ((x > min_val) & (x < max_val)), None

    @prepared
    def relu6(self, x: Array, *, out: Array | None = None) -> Plan:
        return partial(np.clip, x, 0, 6), None

    @prepared
    def relu6_backward(self, dy: Array, x: Array, *, output: bool = False, out: Array | None = None) -> Plan:
        return lambda: dy * ((x > 0) & (x < 6)), None

    @prepared
    def hardsigmoid(self, x: Array, *, out: Array | None = None) -> Plan:
        return lambda: np.clip(x + 3, 0, 6) / 6, None

    @prepared
    def hardsigmoid_backward(self, dy: Array, x: Array, *, out: Array | None = None) -> Plan:
        return lambda: dy / 6 * (np.abs(x) < 3), None

    @prepared
    def hardswish(self, x: Array, *, out: Array | None = None) -> Plan:
        return lambda: x * np.clip(x + 3, 0, 6) / 6, None

    @prepared
    def hardswish_backward(self, dy: Array, x: Array, *, out: Array | None = None) -> Plan:
        return lambda: dy * np.where(x < -3, 0, np.where(x < 3, x / 3 + 0.5, 1)), None

    @prepared
    def logsigmoid(self, x: Array, *, out: Array | None = None) -> Plan:
        return lambda: -np.logaddexp(0, -x), None

    @prepared
    def logsigmoid_backward(self, dy: Array, x: Array, *, out: Array | None = None) -> Plan:
        return lambda: dy / (1 + np.exp(x)), None

    @prepared
    def threshold(self, x: Array, threshold: float = 0.0, value: float = 0.0, *, out: Array | None = None) -> Plan:
        return lambda: np.where(x > threshold, x, value), None

    @prepared
    def threshold_backward(
        self, dy: Array, x: Array, threshold: float = 0.0, value: float = 0.0, *, out: Array | None = None
    ) -> Plan:
        return lambda: dy * (x > threshold), None

    @prepared
    def prelu(self, x: Array, weight: Array, *, channel_axis: int = 1, out: Array | None = None) -> Plan:
        slopes = weight if weight.size == 1 else per_channel(weight, x.ndim, channel_axis)
        return lambda: np.where(x > 0, x, slopes * x), None

    @prepared
    def prelu_backward(
        self, dy: Array, x: Array, weight: Array, *, channel_axis: int = 1, out: Array | None = None
    ) -> Plan:
        if weight.size == 1:
            return lambda: (np.where(x > 0, dy, weight * dy), np.vdot(dy, np.minimum(x, 0)).reshape(1)), None
        slopes, axes = per_channel(weight, x.ndim, channel_axis), other_axes(x.ndim, channel_axis)
        return lambda: (np.where(x > 0, dy, slopes * dy), (dy * np.minimum(x, 0)).sum(axis=axes)), None

    def maxout(self, x: Array, pieces: int, axis: int = 1, *, out: Array | None = None) -> tuple[Array, Any]:
        units = x.reshape(*x.shape[:axis], -1, pieces, *x.shape[axis + 1 :])
        y = units.max(axis=axis + 1, keepdims=True)
        return y.squeeze(axis + 1), (units == y, x.shape, axis)

    def maxout_backward(self, dy: Array, saved: Any, *, out: Array | None = None) -> Array:
        taken, shape, axis = saved
        dx: Array = (np.expand_dims(dy, axis + 1) * taken).reshape(shape)
        return dx

    def _epilogue(self, v: Array, residual: Any, activation: Any, p: float, rng: Any) -> tuple[Array, Any]:
        if residual is not None:
            v = v + residual
        y = _activate(v, activation)
        mask = None
        if p > 0:
            mask = self.draw_mask(rng, y.shape, p, y.dtype) / y.dtype.type(1 - p)
            y = y * mask
        return y, (v, mask, activation, residual is not None)

    def _epilogue_backward(self, dy: Array, kept: Any) -> Array:
        v, mask, activation, _ = kept
        if mask is not None:
            dy = dy * mask
        return _activate_backward(dy, v, activation)

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
        v = x if bias is None else x + per_channel(bias, x.ndim, channel_axis)
        y, kept = self._epilogue(v, residual, activation, dropout if training else 0.0, rng)
        return y, (kept, bias is not None, channel_axis)

    def bias_act_backward(self, dy: Array, saved: Any, *, out: Array | None = None) -> tuple[Any, ...]:
        kept, has_bias, channel_axis = saved
        dx = self._epilogue_backward(dy, kept)
        dbias = dx.sum(axis=other_axes(dx.ndim, channel_axis)) if has_bias else None
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
        if pre_bias is not None:
            x = x + per_channel(pre_bias, x.ndim, channel_axis)
        if training:
            mean, var = x.mean(axis=axes), x.var(axis=axes)
            if running_mean is not None and running_var is not None:
                count = x.size // mean.size
                running_mean += momentum * (mean - running_mean)
                running_var += momentum * (var * (count / (count - 1)) - running_var)
        else:
            assert running_mean is not None and running_var is not None
            mean, var = running_mean, running_var
        std = np.sqrt(per_channel(var, x.ndim, channel_axis) + eps)
        xhat = (x - per_channel(mean, x.ndim, channel_axis)) / std
        v = xhat
        if weight is not None:
            v = v * per_channel(weight, x.ndim, channel_axis)
        if bias is not None:
            v = v + per_channel(bias, x.ndim, channel_axis)
        y, kept = self._epilogue(v, residual, activation, dropout if training else 0.0, rng)
        return y, (kept, xhat, std, weight, pre_bias is not None, channel_axis)

    def batch_norm_backward(self, dy: Array, saved: Any, *, out: Array | None = None) -> tuple[Any, ...]:
        kept, xhat, std, weight, has_pre_bias, channel_axis = saved
        axes = other_axes(dy.ndim, channel_axis)
        dv = self._epilogue_backward(dy, kept)
        dweight = (dv * xhat).sum(axis=axes)
        dbias = dv.sum(axis=axes)
        dxhat = dv if weight is None else dv * per_channel(weight, dy.ndim, channel_axis)
        correction = xhat * (dxhat * xhat).mean(axis=axes, keepdims=True)
        dx = (dxhat - dxhat.mean(axis=axes, keepdims=True) - correction) / std
        result: tuple[Array, ...] = (dx, dweight, dbias)
        if kept[3]:
            result += (dv,)
        if has_pre_bias:
            result += (dx.sum(axis=axes),)
        return result

    def layer_norm(
        self, x: Array, normalized_shape: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *,
        residual: Any = None, activation: Any = None, dropout: float = 0.0, rng: Any = None, out: None = None,
    ) -> tuple[Array, Any]:  # fmt: skip
        std = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
        xhat = (x - x.mean(axis=-1, keepdims=True)) / std
        v = xhat if weight is None else xhat * weight
        y, kept = self._epilogue(v if bias is None else v + bias, residual, activation, dropout, rng)
        return y, (kept, xhat, std, weight)

    def layer_norm_backward(self, dy: Array, saved: Any, *, out: Array | None = None) -> tuple[Any, ...]:
        kept, xhat, std, weight = saved
        axes = tuple(range(dy.ndim - 1))
        dv = self._epilogue_backward(dy, kept)
        dxhat = dv if weight is None else dv * weight
        correction = xhat * (dxhat * xhat).mean(axis=-1, keepdims=True)
        dx = (dxhat - dxhat.mean(axis=-1, keepdims=True) - correction) / std
        result = dx, (dv * xhat).sum(axis=axes), dv.sum(axis=axes)
        return (*result, dv) if kept[3] else result

    def rms_norm(
        self, x: Array, normalized_shape: int, weight: Any = None, eps: float | None = None, *,
        residual: Any = None, activation: Any = None, dropout: float = 0.0, rng: Any = None, out: None = None,
    ) -> tuple[Array, Any]:  # fmt: skip
        root = np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + (np.finfo(x.dtype).eps if eps is None else eps))
        xhat = x / root
        y, kept = self._epilogue(xhat if weight is None else xhat * weight, residual, activation, dropout, rng)
        return y, (kept, xhat, root, weight)

    def rms_norm_backward(self, dy: Array, saved: Any, *, out: Array | None = None) -> tuple[Any, ...]:
        kept, xhat, root, weight = saved
        dv = self._epilogue_backward(dy, kept)
        dxhat = dv if weight is None else dv * weight
        dx = (dxhat - xhat * (dxhat * xhat).mean(axis=-1, keepdims=True)) / root
        result = dx, (dv * xhat).sum(axis=tuple(range(dy.ndim - 1)))
        return (*result, dv) if kept[3] else result

    def group_norm(
        self, x: Array, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *,
        residual: Any = None, activation: Any = None, dropout: float = 0.0, rng: Any = None, channel_axis: int = 1,
        out: None = None,
    ) -> tuple[Array, Any]:  # fmt: skip
        axis = channel_axis % x.ndim
        split = x.reshape(*x.shape[:axis], num_groups, -1, *x.shape[axis + 1 :])
        axes = tuple(i for i in range(1, split.ndim) if i != axis)
        std = np.sqrt(split.var(axis=axes, keepdims=True) + eps)
        xhat = (split - split.mean(axis=axes, keepdims=True)) / std
        v = xhat.reshape(x.shape)
        v = v if weight is None else v * per_channel(weight, x.ndim, axis)
        v = v if bias is None else v + per_channel(bias, x.ndim, axis)
        y, kept = self._epilogue(v, residual, activation, dropout, rng)
        return y, (kept, xhat, std, weight, axis, axes)

    def group_norm_backward(self, dy: Array, saved: Any, *, out: Array | None = None) -> tuple[Any, ...]:
        kept, xhat, std, weight, axis, axes = saved
        dv = self._epilogue_backward(dy, kept)
        others = other_axes(dy.ndim, axis)
        dxhat = (dv if weight is None else dv * per_channel(weight, dy.ndim, axis)).reshape(xhat.shape)
        correction = xhat * (dxhat * xhat).mean(axis=axes, keepdims=True)
        dx = (dxhat - dxhat.mean(axis=axes, keepdims=True) - correction) / std
        result = dx.reshape(dy.shape), (dv * xhat.reshape(dy.shape)).sum(axis=others), dv.sum(axis=others)
        return (*result, dv) if kept[3] else result

    def instance_norm(
        self, x: Array, weight: Any = None, bias: Any = None, eps: float = 1e-5, *, channel_axis: int = 1,
        **options: Any,
    ) -> tuple[Array, Any]:  # fmt: skip
        return self.group_norm(x, x.shape[channel_axis], weight, bias, eps, channel_axis=channel_axis, **options)

    instance_norm_backward = group_norm_backward

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
        mask = self.draw_mask(rng, x.shape, p, x.dtype) / x.dtype.type(1 - p)
        return x * mask, mask

    def dropout2d(
        self,
        x: Array,
        p: float = 0.5,
        training: bool = True,
        *,
        rng: Any = None,
        channel_axis: int = 1,
        first: int = 0,
        out: Array | None = None,
    ) -> tuple[Array, Any]:
        shape = [n if axis in (0, channel_axis % x.ndim) else 1 for axis, n in enumerate(x.shape)]
        mask = self.draw_mask(rng, tuple(shape), p, x.dtype) / x.dtype.type(1 - p)
        return x * mask, mask

    def alpha_dropout(
        self,
        x: Array,
        p: float = 0.5,
        training: bool = True,
        *,
        rng: Any = None,
        first: int = 0,
        out: Array | None = None,
    ) -> tuple[Array, Any]:
        a = ((1 - p) * (1 + p * SELU_LIMIT**2)) ** -0.5
        mask = self.draw_mask(rng, x.shape, p, x.dtype)
        return np.where(mask, a * x - a * p * SELU_LIMIT, a * SELU_LIMIT * (1 - p)), mask * x.dtype.type(a)

    def gaussian_noise(
        self,
        x: Array,
        std: float = 0.1,
        training: bool = True,
        *,
        mean: float = 0.0,
        rng: Any = None,
        first: int = 0,
        out: Array | None = None,
    ) -> Array:
        return x + std * self._rng.standard_normal(x.shape, dtype=x.dtype)  # type: ignore[no-any-return]

    @prepared
    def dropout_backward(self, dy: Array, saved: Any, *, out: Array | None = None) -> Plan:
        return partial(np.multiply, dy, saved), None

    @prepared
    def channel_sum(self, x: Array, *, channel_axis: int = -1, out: Array | None = None) -> Plan:
        return partial(x.sum, axis=other_axes(x.ndim, channel_axis)), None

    def softmax(self, x: Array, axis: int = -1, *, out: Array | None = None) -> Array:
        exps = np.exp(x - x.max(axis, keepdims=True))
        y: Array = exps / exps.sum(axis, keepdims=True)
        return y

    def softmax_backward(self, dy: Array, y: Array, axis: int = -1, *, out: Array | None = None) -> Array:
        dx: Array = y * (dy - (dy * y).sum(axis, keepdims=True))
        return dx

    def log_softmax(self, x: Array, axis: int = -1, *, out: Array | None = None) -> Array:
        shifted = x - x.max(axis, keepdims=True)
        y: Array = shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))
        return y

    def log_softmax_backward(self, dy: Array, y: Array, axis: int = -1, *, out: Array | None = None) -> Array:
        dx: Array = dy - np.exp(y) * dy.sum(axis, keepdims=True)
        return dx

    def nll_loss(self, log_probs: Array, labels: Array, *, out: Array | None = None) -> tuple[float, Array]:
        rows = np.arange(len(labels))
        gradient = np.zeros_like(log_probs)
        gradient[rows, labels] = -1 / len(labels)
        return float(-log_probs[rows, labels].mean()), gradient

    def softmax_cross_entropy(self, logits: Array, labels: Array, *, out: Array | None = None) -> tuple[float, Array]:
        rows = np.arange(len(labels))
        shifted = logits - logits.max(axis=1, keepdims=True)
        exps = np.exp(shifted)
        p = exps / exps.sum(axis=1, keepdims=True)
        loss = -np.log(p[rows, labels]).mean()
        p[rows, labels] -= 1
        return float(loss), p / len(labels)

    def mse_loss(self, x: Array, target: Array, reduction: str, *, out: Array | None = None) -> tuple[float, Array]:
        d = x - target
        return float((d**2).mean()), 2 * d / d.size

    def l1_loss(self, x: Array, target: Array, reduction: str, *, out: Array | None = None) -> tuple[float, Array]:
        d = x - target
        return float(np.abs(d).mean()), np.sign(d) / np.float32(d.size)

    def smooth_l1_loss(
        self, x: Array, target: Array, reduction: str, beta: float, *, out: Array | None = None
    ) -> tuple[float, Array]:
        d = x - target
        size = np.abs(d)
        loss = np.where(size < beta, 0.5 * d**2 / beta, size - 0.5 * beta).sum()
        return float(loss), np.clip(d / beta, -1, 1)

    def huber_loss(
        self, x: Array, target: Array, reduction: str, delta: float, *, out: Array | None = None
    ) -> tuple[float, Array]:
        d = x - target
        size = np.abs(d)
        loss = np.where(size < delta, 0.5 * d**2, delta * (size - 0.5 * delta)).sum()
        return float(loss), np.clip(d, -delta, delta)

    def binary_cross_entropy_with_logits(
        self, x: Array, target: Array, *, reduction: str, out: Array | None = None
    ) -> tuple[float, Array]:
        loss = (np.maximum(x, 0) - x * target + np.log1p(np.exp(-np.abs(x)))).mean()
        return float(loss), (1 / (1 + np.exp(-x)) - target) / np.float32(x.size)

    def hinge_loss(self, scores: Array, labels: Array, *, out: Array | None = None) -> tuple[float, Array]:
        rows = np.arange(len(labels))
        margins = np.maximum(scores - scores[rows, labels][:, None] + 1, 0)
        margins[rows, labels] = 0
        d = (margins > 0).astype(scores.dtype)
        d[rows, labels] = -d.sum(axis=1)
        return float(margins.sum() / len(labels)), d / np.float32(len(labels))

    def _clip(self, grads: Sequence[Array], clip_norm: float | None) -> tuple[float | None, Sequence[Array]]:
        if clip_norm is None:
            return None, grads
        norm = math.sqrt(sum(float(np.sum(g**2)) for g in grads))
        factor = min(1.0, clip_norm / (norm + 1e-6))
        return norm, [g * factor for g in grads]

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
        norm, grads = self._clip(grads, clip_norm)
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            if weight_decay:
                g = g + weight_decay * p
            if momentum_buffers is not None and momentum:
                buf = momentum_buffers[i]
                buf[...] = g if first_step else momentum * buf + (1 - dampening) * g
                g = g + momentum * buf if nesterov else buf
            p -= lr * g
        return norm

    def adam_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        exp_avgs: Sequence[Array],
        exp_avg_sqs: Sequence[Array],
        max_exp_avg_sqs: Sequence[Array] | None = None,
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
        norm, grads = self._clip(grads, clip_norm)
        for i, (p, g, m, v) in enumerate(zip(params, grads, exp_avgs, exp_avg_sqs, strict=True)):
            if weight_decay and decoupled:
                p *= 1 - lr * weight_decay
            elif weight_decay:
                g = g + weight_decay * p
            m[...] = beta1 * m + (1 - beta1) * g
            v[...] = u = beta2 * v + (1 - beta2) * g**2
            if max_exp_avg_sqs is not None:
                max_exp_avg_sqs[i][...] = u = np.maximum(max_exp_avg_sqs[i], v)
            p -= lr * (m / bias_correction1) / (np.sqrt(u / bias_correction2) + eps)
        return norm

    array_module = np

    def replace(self, arrays: Sequence[Array], index: int, value: Array) -> None:
        """What `rules` puts in the place of an array."""
        arrays[index][...] = value

    adadelta_step = rules.rule_step(rules.adadelta)
    adagrad_step = rules.rule_step(rules.adagrad)
    adamax_step = rules.rule_step(rules.adamax)
    lion_step = rules.rule_step(rules.lion)
    nadam_step = rules.rule_step(rules.nadam)
    radam_step = rules.rule_step(rules.radam)
    rmsprop_step = rules.rule_step(rules.rmsprop)
