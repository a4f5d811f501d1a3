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


def sigmoid(x, y):
    one = np.float32(1)
    for i in prange(x.size):
        y[i] = one / (one + math.exp(-x[i]))


def sigmoid_backward(dy, y, dx):
    for i in prange(y.size):
        dx[i] = dy[i] * y[i] * (np.float32(1) - y[i])


def tanh(x, y):
    for i in prange(x.size):
        y[i] = math.tanh(x[i])


def tanh_backward(dy, y, dx):
    for i in prange(y.size):
        dx[i] = dy[i] * (np.float32(1) - y[i] * y[i])


def gelu(x, y):
    half, scale = np.float32(0.5), np.float32(math.sqrt(0.5))
    for i in prange(x.size):
        y[i] = half * x[i] * (np.float32(1) + math.erf(x[i] * scale))


def gelu_backward(dy, x, dx):
    half, scale, density = np.float32(0.5), np.float32(math.sqrt(0.5)), np.float32(1 / math.sqrt(2 * math.pi))
    for i in prange(x.size):
        v = x[i]
        dx[i] = dy[i] * (half * (np.float32(1) + math.erf(v * scale)) + v * density * math.exp(-half * v * v))


def silu(x, y):
    one = np.float32(1)
    for i in prange(x.size):
        y[i] = x[i] / (one + math.exp(-x[i]))


def silu_backward(dy, x, dx):
    one = np.float32(1)
    for i in prange(x.size):
        gate = one / (one + math.exp(-x[i]))
        dx[i] = dy[i] * gate * (one + x[i] * (one - gate))


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
    sigmoid,
    sigmoid_backward,
    tanh,
    tanh_backward,
    gelu,
    gelu_backward,
    silu,
    silu_backward,
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
