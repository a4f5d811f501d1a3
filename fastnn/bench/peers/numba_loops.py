"""Loops for numba, as someone writes them who counts memory passes: one pass per element where one is enough.

Every loop is compiled twice, with ``parallel=True`` and without, for small arrays; with ``fastmath=True``, as
sums are not vectorized otherwise. Arrays come flat, as (rows, channels) or, with channels first, as (batch, channels,
pixels), never reshaped here: numba 0.68 drops writes through such views from parallel loops. What is None is left out
by the compiler. Only `fastnn.bench.peers.numba_peer` imports this module.

An activation is the slope left of zero (0 relu, 1 none). Backward tells everything from the output: what is exactly
zero was dropped or is left of relu's zero; elsewhere the sign chooses the slope.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# mypy: disable-error-code="import-untyped,import-not-found"

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
from numba import njit, prange

_PARTS = 64  # of a sum over rows, each with its own accumulators: enough for every thread


@njit(fastmath=True)
def _bits(index, key):
    """32 random bits: a hash of the counter, by the multipliers of "lowbias32" (C. Wellons)."""
    h = np.uint32(index + key)
    h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D))
    h = np.uint32((h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(h ^ (h >> np.uint32(16)))


@njit(fastmath=True)
def _finish(v, slope, keep, factor, key, index):
    """Activation, then dropout unless `keep`, the number of kept values of 2**32, is None."""
    y = v if v > 0 else slope * v
    if keep is not None:
        y = y * factor if _bits(index, key) < keep else np.float32(0)
    return y


@njit(fastmath=True)
def _unfinish(dy, y, slope, factor):
    """Gradient before dropout and activation."""
    if y > 0:
        return dy * factor
    return dy * (factor * slope) if y < 0 else np.float32(0)


@njit(fastmath=True)
def _part(k, parts, rows):
    return k * rows // parts, (k + 1) * rows // parts


@njit(fastmath=True)
def _add_parts(partial, sums):
    for j in range(sums.size):
        sums[j] = 0
    for k in range(len(partial)):
        for j in range(sums.size):
            sums[j] += partial[k, j]


@njit(fastmath=True)
def _fold(mean, invstd, weight, bias, c):
    """Scale and shift of channel `c`."""
    scale = invstd[c] if weight is None else invstd[c] * weight[c]
    shift = -mean[c] * scale
    return scale, shift if bias is None else shift + bias[c]


@njit(fastmath=True)
def _statistics(total, squares, first, count, c, mean, invstd, running_mean, running_var, momentum, eps):
    """Mean and deviation of channel `c` from sums of differences from `first`, and the running ones."""
    offset = total / count
    variance = max(squares / count - offset * offset, 0.0)
    mean[c] = first + offset
    invstd[c] = 1 / math.sqrt(variance + eps)
    if running_mean is not None:
        running_mean[c] += momentum * (mean[c] - running_mean[c])
        running_var[c] += momentum * (variance * count / (count - 1) - running_var[c])


def activate(x, slope, y):
    s = np.float32(slope)
    for i in prange(x.size):
        y[i] = x[i] if x[i] > 0 else s * x[i]


def activate_backward(dy, x, slope, dx):
    s = np.float32(slope)
    for i in prange(x.size):
        dx[i] = dy[i] if x[i] > 0 else s * dy[i]


_ZERO, _HALF, _ONE, _THREE, _SIX = map(np.float32, (0, 0.5, 1, 3, 6))
_ROOT_HALF, _DENSITY = np.float32(math.sqrt(0.5)), np.float32(1 / math.sqrt(2 * math.pi))
_SCALE, _SCALED_ALPHA = np.float32(1.0507009873554805), np.float32(1.0507009873554805 * 1.6732632423543772)


@njit(fastmath=True)
def _gate(v):
    return _ONE / (_ONE + math.exp(-v))


@njit(fastmath=True)
def _normal(v):
    return _HALF * (_ONE + math.erf(v * _ROOT_HALF))


@njit(fastmath=True)
def _mish_gate(v):
    return math.tanh(math.log1p(math.exp(v)))


# Value at v and slope, a and b being the parameters; the slope at the output of the first four, at v of the others.
_FORMULAS = {
    "sigmoid": (lambda v, a, b: _gate(v), lambda y, a, b: y * (_ONE - y)),
    "tanh": (lambda v, a, b: math.tanh(v), lambda y, a, b: _ONE - y * y),
    "hardtanh": (lambda v, a, b: min(max(v, a), b), lambda y, a, b: _ONE if a < y < b else _ZERO),
    "relu6": (lambda v, a, b: min(max(v, _ZERO), _SIX), lambda y, a, b: _ONE if 0 < y < 6 else _ZERO),
    "elu": (
        lambda v, a, b: v if v > 0 else a * (math.exp(v) - _ONE),
        lambda v, a, b: _ONE if v > 0 else a * math.exp(v),
    ),
    "selu": (
        lambda v, a, b: _SCALE * v if v > 0 else _SCALED_ALPHA * (math.exp(v) - _ONE),
        lambda v, a, b: _SCALE if v > 0 else _SCALED_ALPHA * math.exp(v),
    ),
    "celu": (
        lambda v, a, b: v if v > 0 else a * (math.exp(v / a) - _ONE),
        lambda v, a, b: _ONE if v > 0 else math.exp(v / a),
    ),
    "gelu": (lambda v, a, b: v * _normal(v), lambda v, a, b: _normal(v) + v * _DENSITY * math.exp(-_HALF * v * v)),
    "silu": (lambda v, a, b: v * _gate(v), lambda v, a, b: _gate(v) * (_ONE + v * (_ONE - _gate(v)))),
    "mish": (
        lambda v, a, b: v * _mish_gate(v),
        lambda v, a, b: _mish_gate(v) + v * (_ONE - _mish_gate(v) * _mish_gate(v)) * _gate(v),
    ),
    "softplus": (
        lambda v, a, b: v if v * a > b else math.log1p(math.exp(v * a)) / a,
        lambda v, a, b: _ONE if v * a > b else _gate(v * a),
    ),
    "softsign": (lambda v, a, b: v / (_ONE + abs(v)), lambda v, a, b: _ONE / ((_ONE + abs(v)) * (_ONE + abs(v)))),
    "hardsigmoid": (
        lambda v, a, b: min(max(v + _THREE, _ZERO), _SIX) / _SIX,
        lambda v, a, b: _ONE / _SIX if -3 < v < 3 else _ZERO,
    ),
    "hardswish": (
        lambda v, a, b: v * min(max(v + _THREE, _ZERO), _SIX) / _SIX,
        lambda v, a, b: _ZERO if v <= -3 else _ONE if v >= 3 else v / _THREE + _HALF,
    ),
    "logsigmoid": (
        lambda v, a, b: min(v, _ZERO) - math.log1p(math.exp(-abs(v))),
        lambda v, a, b: _ONE - _gate(v),
    ),
    "threshold": (lambda v, a, b: v if v > a else b, lambda v, a, b: _ONE if v > a else _ZERO),
}


def _elementwise(name):
    value, slope = map(njit(fastmath=True), _FORMULAS[name])

    def forward(x, a, b, y):
        p, q = np.float32(a), np.float32(b)
        for i in prange(x.size):
            y[i] = value(x[i], p, q)

    def backward(dy, x, a, b, dx):
        p, q = np.float32(a), np.float32(b)
        for i in prange(x.size):
            dx[i] = dy[i] * slope(x[i], p, q)

    forward.__name__, backward.__name__ = name, f"{name}_backward"
    return forward, backward


def prelu_rows(x, weight, y):
    rows, channels = x.shape
    for i in prange(rows):
        for j in range(channels):
            y[i, j] = x[i, j] if x[i, j] > 0 else weight[j] * x[i, j]


def prelu_planes(x, weight, y):
    batch, channels, pixels = x.shape
    for plane in prange(batch * channels):
        n, c = plane // channels, plane % channels
        for k in range(pixels):
            y[n, c, k] = x[n, c, k] if x[n, c, k] > 0 else weight[c] * x[n, c, k]


def prelu_backward(dy, x, slope, dx):
    """One slope; its gradient is returned."""
    s, total = np.float32(slope), np.float32(0)
    for i in prange(x.size):
        dx[i] = dy[i] if x[i] > 0 else s * dy[i]
        total += np.float32(0) if x[i] > 0 else dy[i] * x[i]
    return total


def prelu_backward_rows(dy, x, weight, dx, dweight):
    rows, channels = dy.shape
    parts = min(_PARTS, rows)
    sums = np.zeros((parts, channels), np.float32)
    for k in prange(parts):
        begin, end = _part(k, parts, rows)
        for i in range(begin, end):
            for j in range(channels):
                dx[i, j] = dy[i, j] if x[i, j] > 0 else weight[j] * dy[i, j]
                sums[k, j] += np.float32(0) if x[i, j] > 0 else dy[i, j] * x[i, j]
    _add_parts(sums, dweight)


def prelu_backward_planes(dy, x, weight, dx, dweight):
    batch, channels, pixels = dy.shape
    for c in prange(channels):
        total, s = 0.0, weight[c]
        for n in range(batch):
            part = np.float32(0)
            for k in range(pixels):
                dx[n, c, k] = dy[n, c, k] if x[n, c, k] > 0 else s * dy[n, c, k]
                part += np.float32(0) if x[n, c, k] > 0 else dy[n, c, k] * x[n, c, k]
            total += part
        dweight[c] = total


def maxout(x, y, places):
    units, pieces, inner = x.shape
    for u in prange(units):
        for i in range(inner):
            best, place = x[u, 0, i], 0
            for j in range(1, pieces):
                if x[u, j, i] > best:
                    best, place = x[u, j, i], j
            y[u, i] = best
            places[u, i] = place


def maxout_backward(dy, places, dx):
    units, pieces, inner = dx.shape
    for u in prange(units):
        for j in range(pieces):
            for i in range(inner):
                dx[u, j, i] = dy[u, i] if places[u, i] == j else np.float32(0)


def dropout(x, keep, factor, key, y, mask):
    threshold, scale = np.uint32(keep), np.float32(factor)
    for i in prange(x.size):
        mask[i] = _bits(i, key) < threshold
        y[i] = x[i] * scale if mask[i] else np.float32(0)


def dropout_backward(dy, mask, factor, dx):
    scale = np.float32(factor)
    for i in prange(dy.size):
        dx[i] = dy[i] * scale if mask[i] else np.float32(0)


def bias_act(x, bias, residual, slope, keep, factor, key, y):
    rows, channels = x.shape
    s, scale = np.float32(slope), np.float32(factor)
    for i in prange(rows):
        for j in range(channels):
            v = x[i, j]
            if bias is not None:
                v += bias[j]
            if residual is not None:
                v += residual[i, j]
            y[i, j] = _finish(v, s, keep, scale, key, i * channels + j)


def bias_act_backward(dy, y, slope, factor, dx, dbias):
    rows, channels = dy.shape
    s, scale = np.float32(slope), np.float32(factor)
    parts = min(_PARTS, rows)
    sums = np.zeros((parts, channels), np.float32)
    for k in prange(parts):
        begin, end = _part(k, parts, rows)
        for i in range(begin, end):
            for j in range(channels):
                g = _unfinish(dy[i, j], y[i, j], s, scale)
                dx[i, j] = g
                sums[k, j] += g
    _add_parts(sums, dbias)


def sum_rows(x, sums):
    rows, channels = x.shape
    parts = min(_PARTS, rows)
    partial = np.zeros((parts, channels), np.float32)
    for k in prange(parts):
        begin, end = _part(k, parts, rows)
        for i in range(begin, end):
            for j in range(channels):
                partial[k, j] += x[i, j]
    _add_parts(partial, sums)


def sum_planes(x, sums):
    batch, channels, pixels = x.shape
    for c in prange(channels):
        total = 0.0
        for n in range(batch):
            part = np.float32(0)
            for k in range(pixels):
                part += x[n, c, k]
            total += part
        sums[c] = total


def batch_norm_rows(
    x, running_mean, running_var, weight, bias, training, momentum, eps,
    residual, slope, keep, factor, key, y, mean, invstd,
):  # fmt: skip
    rows, channels = x.shape
    s, scale_kept = np.float32(slope), np.float32(factor)
    if training:
        parts = min(_PARTS, rows)
        sums = np.zeros((parts, channels), np.float32)
        squares = np.zeros((parts, channels), np.float32)
        for k in prange(parts):
            begin, end = _part(k, parts, rows)
            for i in range(begin, end):
                for j in range(channels):
                    d = x[i, j] - x[0, j]  # a large mean does not cancel
                    sums[k, j] += d
                    squares[k, j] += d * d
        total, total_squares = np.empty(channels, np.float32), np.empty(channels, np.float32)
        _add_parts(sums, total)
        _add_parts(squares, total_squares)
        for j in range(channels):
            _statistics(
                total[j], total_squares[j], x[0, j], rows, j, mean, invstd, running_mean, running_var, momentum, eps
            )
    else:
        for j in range(channels):
            mean[j] = running_mean[j]
            invstd[j] = 1 / math.sqrt(running_var[j] + eps)
    scales, shifts = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for j in range(channels):
        scales[j], shifts[j] = _fold(mean, invstd, weight, bias, j)
    for i in prange(rows):
        for j in range(channels):
            v = x[i, j] * scales[j] + shifts[j]
            if residual is not None:
                v += residual[i, j]
            y[i, j] = _finish(v, s, keep, scale_kept, key, i * channels + j)


def batch_norm_planes(
    x, running_mean, running_var, weight, bias, training, momentum, eps,
    residual, slope, keep, factor, key, y, mean, invstd,
):  # fmt: skip
    batch, channels, pixels = x.shape
    s, scale_kept = np.float32(slope), np.float32(factor)
    for c in prange(channels):
        if training:
            first, total, squares = x[0, c, 0], 0.0, 0.0
            for n in range(batch):
                a, b = np.float32(0), np.float32(0)
                for k in range(pixels):
                    d = x[n, c, k] - first
                    a += d
                    b += d * d
                total += a
                squares += b
            _statistics(
                total, squares, first, batch * pixels, c, mean, invstd, running_mean, running_var, momentum, eps
            )
        else:
            mean[c] = running_mean[c]
            invstd[c] = 1 / math.sqrt(running_var[c] + eps)
        scale, shift = _fold(mean, invstd, weight, bias, c)
        for n in range(batch):
            for k in range(pixels):
                v = x[n, c, k] * scale + shift
                if residual is not None:
                    v += residual[n, c, k]
                y[n, c, k] = _finish(v, s, keep, scale_kept, key, (n * channels + c) * pixels + k)


def batch_norm_backward_rows(dy, x, y, weight, mean, invstd, slope, factor, dx, dweight, dbias, dresidual):
    rows, channels = dy.shape
    s, scale = np.float32(slope), np.float32(factor)
    parts = min(_PARTS, rows)
    sums = np.zeros((parts, channels), np.float32)
    products = np.zeros((parts, channels), np.float32)
    for k in prange(parts):
        begin, end = _part(k, parts, rows)
        for i in range(begin, end):
            for j in range(channels):
                g = dy[i, j] if y is None else _unfinish(dy[i, j], y[i, j], s, scale)
                sums[k, j] += g
                products[k, j] += g * (x[i, j] - mean[j])
    _add_parts(sums, dbias)
    _add_parts(products, dweight)
    # dx = invstd * weight * (g - dbias / rows - (x - mean) * invstd * dweight / rows)
    outer, inner, shift = np.empty(channels, np.float32), np.empty(channels, np.float32), np.empty(channels, np.float32)
    for j in range(channels):
        dweight[j] *= invstd[j]
        outer[j] = invstd[j] if weight is None else invstd[j] * weight[j]
        inner[j] = -invstd[j] * dweight[j] / rows
        shift[j] = -dbias[j] / rows - mean[j] * inner[j]
    for i in prange(rows):
        for j in range(channels):
            g = dy[i, j] if y is None else _unfinish(dy[i, j], y[i, j], s, scale)
            if dresidual is not None:
                dresidual[i, j] = g
            dx[i, j] = outer[j] * (g + x[i, j] * inner[j] + shift[j])


def batch_norm_backward_planes(dy, x, y, weight, mean, invstd, slope, factor, dx, dweight, dbias, dresidual):
    batch, channels, pixels = dy.shape
    s, scale = np.float32(slope), np.float32(factor)
    for c in prange(channels):
        middle, total, products = mean[c], 0.0, 0.0
        for n in range(batch):
            a, b = np.float32(0), np.float32(0)
            for k in range(pixels):
                g = dy[n, c, k] if y is None else _unfinish(dy[n, c, k], y[n, c, k], s, scale)
                a += g
                b += g * (x[n, c, k] - middle)
            total += a
            products += b
        dbias[c] = total
        dweight[c] = products * invstd[c]
        outer = invstd[c] if weight is None else invstd[c] * weight[c]
        inner = np.float32(-invstd[c] * dweight[c] / (batch * pixels))
        shift = np.float32(-dbias[c] / (batch * pixels) - middle * inner)
        for n in range(batch):
            for k in range(pixels):
                g = dy[n, c, k] if y is None else _unfinish(dy[n, c, k], y[n, c, k], s, scale)
                if dresidual is not None:
                    dresidual[n, c, k] = g
                dx[n, c, k] = outer * (g + x[n, c, k] * inner + shift)


def softmax(x, y):
    rows, classes = x.shape
    for i in prange(rows):
        top = x[i, 0]
        for j in range(1, classes):
            top = max(top, x[i, j])
        total = np.float32(0)
        for j in range(classes):
            e = math.exp(x[i, j] - top)
            y[i, j] = e
            total += e
        scale = np.float32(1) / total
        for j in range(classes):
            y[i, j] *= scale


def softmax_backward(dy, y, dx):
    rows, classes = dy.shape
    for i in prange(rows):
        total = np.float32(0)
        for j in range(classes):
            total += dy[i, j] * y[i, j]
        for j in range(classes):
            dx[i, j] = (dy[i, j] - total) * y[i, j]


def log_softmax(x, y):
    rows, classes = x.shape
    for i in prange(rows):
        top = x[i, 0]
        for j in range(1, classes):
            top = max(top, x[i, j])
        total = np.float32(0)
        for j in range(classes):
            total += math.exp(x[i, j] - top)
        shift = top + np.float32(math.log(total))
        for j in range(classes):
            y[i, j] = x[i, j] - shift


def log_softmax_backward(dy, y, dx):
    rows, classes = dy.shape
    for i in prange(rows):
        total = np.float32(0)
        for j in range(classes):
            total += dy[i, j]
        for j in range(classes):
            dx[i, j] = dy[i, j] - math.exp(y[i, j]) * total


def row_norm(x, weight, bias, centred, eps, residual, slope, keep, factor, key, y, mean, invstd):
    rows, length = x.shape
    s, scale = np.float32(slope), np.float32(factor)
    for i in prange(rows):
        first, a, b = x[i, 0] if centred else np.float32(0), np.float32(0), np.float32(0)
        for j in range(length):
            d = x[i, j] - first  # a large mean does not cancel
            a += d
            b += d * d
        offset = a / length if centred else np.float32(0)
        mean[i] = first + offset
        invstd[i] = 1 / math.sqrt(max(b / length - offset * offset, 0.0) + eps)
        middle, inverse = mean[i], invstd[i]
        for j in range(length):
            v = (x[i, j] - middle) * inverse
            if weight is not None:
                v *= weight[j]
            if bias is not None:
                v += bias[j]
            if residual is not None:
                v += residual[i, j]
            y[i, j] = _finish(v, s, keep, scale, key, i * length + j)


def row_norm_backward(dy, x, y, weight, centred, mean, invstd, slope, factor, dx, dweight, dbias, dresidual):
    rows, length = dy.shape
    s, scale = np.float32(slope), np.float32(factor)
    parts = min(_PARTS, rows)
    sums = np.zeros((parts, length), np.float32)
    products = np.zeros((parts, length), np.float32)
    for k in prange(parts):
        begin, end = _part(k, parts, rows)
        for i in range(begin, end):
            middle, inverse = mean[i], invstd[i]
            a, b = np.float32(0), np.float32(0)
            for j in range(length):
                g = dy[i, j] if y is None else _unfinish(dy[i, j], y[i, j], s, scale)
                h = (x[i, j] - middle) * inverse
                sums[k, j] += g
                products[k, j] += g * h
                w = g if weight is None else g * weight[j]
                a += w
                b += w * h
            a = a / length if centred else np.float32(0)
            b = b / length
            for j in range(length):
                g = dy[i, j] if y is None else _unfinish(dy[i, j], y[i, j], s, scale)
                if dresidual is not None:
                    dresidual[i, j] = g
                w = g if weight is None else g * weight[j]
                dx[i, j] = (w - a - (x[i, j] - middle) * inverse * b) * inverse
    _add_parts(sums, dbias)
    _add_parts(products, dweight)


def softmax_cross_entropy(logits, labels, d):
    rows, classes = logits.shape
    loss = 0.0
    for i in prange(rows):
        top = logits[i, 0]
        for j in range(1, classes):
            top = max(top, logits[i, j])
        total = np.float32(0)
        for j in range(classes):
            e = math.exp(logits[i, j] - top)
            d[i, j] = e
            total += e
        loss += math.log(total) - (logits[i, labels[i]] - top)
        scale = np.float32(1 / (total * rows))
        for j in range(classes):
            d[i, j] *= scale
        d[i, labels[i]] -= np.float32(1 / rows)
    return loss / rows


def mse_loss(x, target, dx):
    total, scale = 0.0, np.float32(2 / x.size)
    for i in prange(x.size):
        d = x[i] - target[i]
        total += d * d
        dx[i] = scale * d
    return total / x.size


def binary_cross_entropy_with_logits(x, target, dx):
    total, scale, one, zero = 0.0, np.float32(1 / x.size), np.float32(1), np.float32(0)
    for i in prange(x.size):
        v = x[i]
        e = math.exp(-abs(v))
        total += max(v, zero) - v * target[i] + math.log1p(e)
        dx[i] = ((one if v > 0 else e) / (one + e) - target[i]) * scale
    return total / x.size


def hinge_loss(scores, labels, d):
    rows, classes = scores.shape
    loss, step = 0.0, np.float32(1 / rows)
    for i in prange(rows):
        own = scores[i, labels[i]] - np.float32(1)
        total, count = np.float32(0), np.float32(0)
        for j in range(classes):
            excess = max(scores[i, j] - own, np.float32(0))
            slope = step if excess > 0 else np.float32(0)
            total += excess
            count += slope
            d[i, j] = slope
        loss += total - np.float32(1)
        d[i, labels[i]] = step - count
    return loss / rows


def sum_of_squares(g):
    total = 0.0
    for i in prange(g.size):
        total += g[i] * g[i]
    return total


def sgd(p, g, lr, clip, decay):
    rate, scale, weight_decay = np.float32(lr), np.float32(clip), np.float32(decay)
    for i in prange(p.size):
        p[i] -= rate * (g[i] * scale + weight_decay * p[i])


def momentum(p, g, buffer, lr, clip, decay, old, new, ahead):
    """buffer = old * buffer + new * gradient; `ahead` is the momentum with nesterov, else 0."""
    rate, scale, weight_decay = np.float32(lr), np.float32(clip), np.float32(decay)
    keep, add, nesterov = np.float32(old), np.float32(new), np.float32(ahead)
    for i in prange(p.size):
        d = g[i] * scale + weight_decay * p[i]
        m = keep * buffer[i] + add * d
        buffer[i] = m
        p[i] -= rate * (d + nesterov * m if nesterov > 0 else m)


def adam(p, g, m, v, rate, shrink, clip, decay, beta1, beta2, root, eps):
    """`rate` is lr / bias_correction1, `root` is 1 / sqrt(bias_correction2)."""
    r, less, scale, weight_decay = np.float32(rate), np.float32(shrink), np.float32(clip), np.float32(decay)
    b1, b2, a1, a2 = np.float32(beta1), np.float32(beta2), np.float32(1 - beta1), np.float32(1 - beta2)
    t, e = np.float32(root), np.float32(eps)
    for i in prange(p.size):
        d = g[i] * scale + weight_decay * p[i]
        m[i] = b1 * m[i] + a1 * d
        v[i] = b2 * v[i] + a2 * d * d
        p[i] = p[i] * less - r * m[i] / (math.sqrt(v[i]) * t + e)


_LOOPS = (
    activate,
    activate_backward,
    *(loop for name in _FORMULAS for loop in _elementwise(name)),
    prelu_rows,
    prelu_planes,
    prelu_backward,
    prelu_backward_rows,
    prelu_backward_planes,
    maxout,
    maxout_backward,
    dropout,
    dropout_backward,
    bias_act,
    bias_act_backward,
    sum_rows,
    sum_planes,
    batch_norm_rows,
    batch_norm_planes,
    batch_norm_backward_rows,
    batch_norm_backward_planes,
    softmax,
    softmax_backward,
    log_softmax,
    log_softmax_backward,
    row_norm,
    row_norm_backward,
    softmax_cross_entropy,
    mse_loss,
    binary_cross_entropy_with_logits,
    hinge_loss,
    sum_of_squares,
    sgd,
    momentum,
    adam,
)

SERIAL = SimpleNamespace(**{loop.__name__: njit(fastmath=True)(loop) for loop in _LOOPS})
PARALLEL = SimpleNamespace(**{loop.__name__: njit(fastmath=True, parallel=True)(loop) for loop in _LOOPS})
