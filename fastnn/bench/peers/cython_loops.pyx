# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The loops of `fastnn.bench.peers.numba_loops` in Cython: typed memoryviews, prange over parts of the rows.

What runs inside a part is a function over pointers, as C compilers vectorize those. Small arrays are one part.
"""

import numpy as np

from cython.parallel cimport prange
from libc.math cimport expf, fmaxf, logf, sqrt, sqrtf
from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef Py_ssize_t SMALL = 1 << 14  # elements
cdef int threads = 1


def set_threads(int count):
    global threads
    threads = count


cdef inline int parts_of(Py_ssize_t elements) noexcept nogil:
    return threads if elements >= SMALL else 1




cdef struct Tail:
    # Slope left of zero, then dropout if `drops`: `keep` of 2**32 random values stay, times `factor`.
    float slope
    bint drops
    uint32_t keep
    float factor
    uint32_t key


cdef Tail tail_of(float slope, object keep, float factor, uint32_t key):
    cdef Tail tail
    tail.slope = slope
    tail.drops = keep is not None
    tail.keep = keep if tail.drops else 0
    tail.factor = factor
    tail.key = key
    return tail


cdef inline uint32_t bits(uint32_t index, uint32_t key) noexcept nogil:
    # a hash of the counter, by the multipliers of "lowbias32" (C. Wellons)
    cdef uint32_t h = index + key
    h = (h ^ (h >> 16)) * <uint32_t>0x7FEB352D
    h = (h ^ (h >> 15)) * <uint32_t>0x846CA68B
    return h ^ (h >> 16)


cdef inline float finish(float v, Tail tail, Py_ssize_t index) noexcept nogil:
    v = v if v > 0 else tail.slope * v
    if tail.drops:
        v = v * tail.factor if bits(<uint32_t>index, tail.key) < tail.keep else 0
    return v


cdef inline float unfinish(float dy, float y, float slope, float factor) noexcept nogil:
    cdef float scale = factor if y > 0 else factor * slope  # one choice after the other: compilers vectorize that
    return dy * scale if y != 0 else 0


# ------------------------------------------------------------------------------------- element by element


cdef void activate_part(const float* x, float slope, float* y, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(begin, end):
        y[i] = x[i] if x[i] > 0 else slope * x[i]


def activate(const float[::1] x, float slope, float[::1] y):
    cdef Py_ssize_t n = x.shape[0]
    cdef int k, parts = parts_of(n)
    for k in prange(parts, nogil=True, num_threads=parts, schedule="static"):
        activate_part(&x[0], slope, &y[0], n * k // parts, n * (k + 1) // parts)


cdef void activate_backward_part(
    const float* dy, const float* x, float slope, float* dx, Py_ssize_t begin, Py_ssize_t end
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(begin, end):
        dx[i] = dy[i] if x[i] > 0 else slope * dy[i]


def activate_backward(const float[::1] dy, const float[::1] x, float slope, float[::1] dx):
    cdef Py_ssize_t n = x.shape[0]
    cdef int k, parts = parts_of(n)
    for k in prange(parts, nogil=True, num_threads=parts, schedule="static"):
        activate_backward_part(&dy[0], &x[0], slope, &dx[0], n * k // parts, n * (k + 1) // parts)


cdef void dropout_part(
    const float* x, uint32_t keep, float factor, uint32_t key, float* y, uint8_t* mask, Py_ssize_t begin, Py_ssize_t end
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(begin, end):
        mask[i] = bits(<uint32_t>i, key) < keep
        y[i] = x[i] * factor if mask[i] else 0


def dropout(const float[::1] x, uint32_t keep, float factor, uint32_t key, float[::1] y, uint8_t[::1] mask):
    cdef Py_ssize_t n = x.shape[0]
    cdef int k, parts = parts_of(n)
    for k in prange(parts, nogil=True, num_threads=parts, schedule="static"):
        dropout_part(&x[0], keep, factor, key, &y[0], &mask[0], n * k // parts, n * (k + 1) // parts)


cdef void dropout_backward_part(
    const float* dy, const uint8_t* mask, float factor, float* dx, Py_ssize_t begin, Py_ssize_t end
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(begin, end):
        dx[i] = dy[i] * factor if mask[i] else 0


def dropout_backward(const float[::1] dy, const uint8_t[::1] mask, float factor, float[::1] dx):
    cdef Py_ssize_t n = dy.shape[0]
    cdef int k, parts = parts_of(n)
    for k in prange(parts, nogil=True, num_threads=parts, schedule="static"):
        dropout_backward_part(&dy[0], &mask[0], factor, &dx[0], n * k // parts, n * (k + 1) // parts)


# --------------------------------------------------------------------------------------- bias_act, sums


cdef void scale_shift_line(
    const float* x, const float* scale, const float* shift, const float* residual, Tail tail, Py_ssize_t index,
    float* y, Py_ssize_t n
) noexcept nogil:
    """A row; `scale` and `residual` may be absent. `index` is that of its first element."""
    cdef Py_ssize_t j
    cdef float v
    for j in range(n):
        v = x[j] if scale == NULL else x[j] * scale[j]
        if shift != NULL:
            v = v + shift[j]
        if residual != NULL:
            v = v + residual[j]
        y[j] = finish(v, tail, index + j)


def bias_act(
    const float[:, ::1] x, const float[::1] bias, const float[:, ::1] residual, float slope, object keep, float factor,
    uint32_t key, float[:, ::1] y
):
    cdef Py_ssize_t i, rows = x.shape[0], channels = x.shape[1]
    cdef int parts = parts_of(rows * channels)
    cdef Tail tail = tail_of(slope, keep, factor, key)
    cdef const float* shift = NULL if bias is None else &bias[0]
    cdef bint adds = residual is not None
    for i in prange(rows, nogil=True, num_threads=parts, schedule="static"):
        scale_shift_line(
            &x[i, 0], NULL, shift, &residual[i, 0] if adds else NULL, tail, i * channels, &y[i, 0], channels
        )


cdef void bias_act_backward_line(
    const float* dy, const float* y, float slope, float factor, float* dx, float* sums, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        dx[j] = unfinish(dy[j], y[j], slope, factor)
        sums[j] = sums[j] + dx[j]


def bias_act_backward(
    const float[:, ::1] dy, const float[:, ::1] y, float slope, float factor, float[:, ::1] dx, float[::1] dbias
):
    cdef Py_ssize_t i, rows = dy.shape[0], channels = dy.shape[1]
    cdef int k, parts = parts_of(rows * channels)
    cdef float[:, ::1] sums = np.zeros((parts, channels), np.float32)
    for k in prange(parts, nogil=True, num_threads=parts, schedule="static"):
        for i in range(rows * k // parts, rows * (k + 1) // parts):
            bias_act_backward_line(&dy[i, 0], &y[i, 0], slope, factor, &dx[i, 0], &sums[k, 0], channels)
    np.sum(sums, axis=0, out=np.asarray(dbias))


cdef void add_line(const float* x, float* sums, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        sums[j] = sums[j] + x[j]


def sum_rows(const float[:, ::1] x, float[::1] total):
    cdef Py_ssize_t i, rows = x.shape[0], channels = x.shape[1]
    cdef int k, parts = parts_of(rows * channels)
    cdef float[:, ::1] sums = np.zeros((parts, channels), np.float32)
    for k in prange(parts, nogil=True, num_threads=parts, schedule="static"):
        for i in range(rows * k // parts, rows * (k + 1) // parts):
            add_line(&x[i, 0], &sums[k, 0], channels)
    np.sum(sums, axis=0, out=np.asarray(total))


cdef float sum_line(const float* x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    cdef float total = 0
    for j in range(n):
        total = total + x[j]
    return total


cdef double sum_plane(const float* x, Py_ssize_t batch, Py_ssize_t stride, Py_ssize_t pixels) noexcept nogil:
    cdef Py_ssize_t n
    cdef double total = 0
    for n in range(batch):
        total = total + sum_line(x + n * stride, pixels)
    return total


def sum_planes(const float[:, :, ::1] x, float[::1] total):
    cdef Py_ssize_t c, batch = x.shape[0], channels = x.shape[1], pixels = x.shape[2]
    cdef int parts = parts_of(batch * channels * pixels)
    for c in prange(channels, nogil=True, num_threads=parts, schedule="static"):
        total[c] = sum_plane(&x[0, c, 0], batch, channels * pixels, pixels)


# ------------------------------------------------------------------------------------------- batch norm


cdef void statistics(
    double total, double squares, float first, Py_ssize_t count, float* mean, float* invstd, float* running_mean,
    float* running_var, float momentum, float eps
) noexcept nogil:
    """Of one channel, from sums of differences from `first`."""
    cdef double offset = total / count, variance = squares / count - offset * offset
    if variance < 0:
        variance = 0
    mean[0] = first + offset
    invstd[0] = 1 / sqrt(variance + eps)
    if running_mean != NULL:
        running_mean[0] += momentum * (mean[0] - running_mean[0])
        running_var[0] += momentum * (variance * count / (count - 1) - running_var[0])


cdef void moments_line(const float* x, const float* first, float* sums, float* squares, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    cdef float d
    for j in range(n):
        d = x[j] - first[j]  # a large mean does not cancel
        sums[j] = sums[j] + d
        squares[j] = squares[j] + d * d


def batch_norm_rows(
    const float[:, ::1] x, float[::1] running_mean, float[::1] running_var, const float[::1] weight,
    const float[::1] bias, bint training, float momentum, float eps, const float[:, ::1] residual, float slope,
    object keep, float factor, uint32_t key, float[:, ::1] y, float[::1] mean, float[::1] invstd
):
    cdef Py_ssize_t i, j, rows = x.shape[0], channels = x.shape[1]
    cdef int k, parts = parts_of(rows * channels)
    cdef Tail tail = tail_of(slope, keep, factor, key)
    cdef bint runs = running_mean is not None, adds = residual is not None, weighs = weight is not None
    cdef bint shifts = bias is not None
    cdef float[:, :, ::1] sums = np.zeros((2, parts, channels), np.float32)
    cdef float[:, ::1] folded = np.empty((2, channels), np.float32)
    cdef double total, squares
    if training:
        for k in prange(parts, nogil=True, num_threads=parts, schedule="static"):
            for i in range(rows * k // parts, rows * (k + 1) // parts):
                moments_line(&x[i, 0], &x[0, 0], &sums[0, k, 0], &sums[1, k, 0], channels)
    for j in range(channels):
        if training:
            total = squares = 0
            for k in range(parts):
                total += sums[0, k, j]
                squares += sums[1, k, j]
            statistics(
                total, squares, x[0, j], rows, &mean[j], &invstd[j], &running_mean[j] if runs else NULL,
                &running_var[j] if runs else NULL, momentum, eps
            )
        else:
            mean[j] = running_mean[j]
            invstd[j] = 1 / sqrtf(running_var[j] + eps)
        folded[0, j] = invstd[j] * weight[j] if weighs else invstd[j]
        folded[1, j] = (bias[j] if shifts else 0) - mean[j] * folded[0, j]
    for i in prange(rows, nogil=True, num_threads=parts, schedule="static"):
        scale_shift_line(
            &x[i, 0], &folded[0, 0], &folded[1, 0], &residual[i, 0] if adds else NULL, tail, i * channels, &y[i, 0],
            channels
        )


cdef void moments_plane(
    const float* x, Py_ssize_t batch, Py_ssize_t stride, Py_ssize_t pixels, double* total, double* squares
) noexcept nogil:
    cdef Py_ssize_t n, j
    cdef float a, b, d
    total[0] = squares[0] = 0
    for n in range(batch):
        a = b = 0
        for j in range(pixels):
            d = x[n * stride + j] - x[0]
            a = a + d
            b = b + d * d
        total[0] += a
        squares[0] += b


cdef void scale_shift_span(
    const float* x, float scale, float shift, const float* residual, Tail tail, Py_ssize_t index, float* y,
    Py_ssize_t pixels
) noexcept nogil:
    cdef Py_ssize_t j
    cdef float v
    for j in range(pixels):
        v = x[j] * scale + shift
        if residual != NULL:
            v = v + residual[j]
        y[j] = finish(v, tail, index + j)


cdef void batch_norm_plane(
    const float* x, float* running_mean, float* running_var, float weight, float bias, bint training, float momentum,
    float eps, const float* residual, Tail tail, Py_ssize_t index, float* y, float* mean, float* invstd,
    Py_ssize_t batch, Py_ssize_t stride, Py_ssize_t pixels
) noexcept nogil:
    cdef Py_ssize_t n, i
    cdef double total, squares
    if training:
        moments_plane(x, batch, stride, pixels, &total, &squares)
        statistics(
            total, squares, x[0], batch * pixels, mean, invstd, running_mean, running_var, momentum, eps
        )
    else:
        mean[0] = running_mean[0]
        invstd[0] = 1 / sqrtf(running_var[0] + eps)
    weight = weight * invstd[0]
    for n in range(batch):
        i = n * stride
        scale_shift_span(
            &x[i], weight, bias - mean[0] * weight, NULL if residual == NULL else &residual[i], tail, index + i, &y[i],
            pixels
        )


def batch_norm_planes(
    const float[:, :, ::1] x, float[::1] running_mean, float[::1] running_var, const float[::1] weight,
    const float[::1] bias, bint training, float momentum, float eps, const float[:, :, ::1] residual, float slope,
    object keep, float factor, uint32_t key, float[:, :, ::1] y, float[::1] mean, float[::1] invstd
):
    cdef Py_ssize_t c, batch = x.shape[0], channels = x.shape[1], pixels = x.shape[2]
    cdef int parts = parts_of(batch * channels * pixels)
    cdef Tail tail = tail_of(slope, keep, factor, key)
    cdef bint runs = running_mean is not None, adds = residual is not None
    cdef bint weighs = weight is not None, shifts = bias is not None
    for c in prange(channels, nogil=True, num_threads=parts, schedule="static"):
        batch_norm_plane(
            &x[0, c, 0], &running_mean[c] if runs else NULL, &running_var[c] if runs else NULL,
            weight[c] if weighs else 1, bias[c] if shifts else 0, training, momentum, eps,
            &residual[0, c, 0] if adds else NULL, tail, c * pixels, &y[0, c, 0], &mean[c], &invstd[c],
            batch, channels * pixels, pixels
        )


cdef void products_line(
    const float* dy, const float* x, const float* y, const float* mean, float slope, float factor, float* sums,
    float* products, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t j
    cdef float g
    for j in range(n):
        g = dy[j] if y == NULL else unfinish(dy[j], y[j], slope, factor)
        sums[j] = sums[j] + g
        products[j] = products[j] + g * (x[j] - mean[j])


cdef void dx_line(
    const float* dy, const float* x, const float* y, const float* outer, const float* inner, const float* shift,
    float slope, float factor, float* dx, float* dresidual, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t j
    cdef float g
    for j in range(n):
        g = dy[j] if y == NULL else unfinish(dy[j], y[j], slope, factor)
        if dresidual != NULL:
            dresidual[j] = g
        dx[j] = outer[j] * (g + x[j] * inner[j] + shift[j])


def batch_norm_backward_rows(
    const float[:, ::1] dy, const float[:, ::1] x, const float[:, ::1] y, const float[::1] weight,
    const float[::1] mean, const float[::1] invstd, float slope, float factor, float[:, ::1] dx, float[::1] dweight,
    float[::1] dbias, float[:, ::1] dresidual
):
    cdef Py_ssize_t i, j, rows = dy.shape[0], channels = dy.shape[1]
    cdef int k, parts = parts_of(rows * channels)
    cdef bint tailed = y is not None, weighs = weight is not None, adds = dresidual is not None
    cdef float[:, :, ::1] sums = np.zeros((2, parts, channels), np.float32)
    cdef float[:, ::1] terms = np.empty((3, channels), np.float32)
    for k in prange(parts, nogil=True, num_threads=parts, schedule="static"):
        for i in range(rows * k // parts, rows * (k + 1) // parts):
            products_line(
                &dy[i, 0], &x[i, 0], &y[i, 0] if tailed else NULL, &mean[0], slope, factor, &sums[0, k, 0],
                &sums[1, k, 0], channels
            )
    # dx = invstd * weight * (g - dbias / rows - (x - mean) * invstd * dweight / rows)
    for j in range(channels):
        dbias[j] = dweight[j] = 0
        for k in range(parts):
            dbias[j] += sums[0, k, j]
            dweight[j] += sums[1, k, j] * invstd[j]
        terms[0, j] = invstd[j] * weight[j] if weighs else invstd[j]
        terms[1, j] = -invstd[j] * dweight[j] / rows
        terms[2, j] = -dbias[j] / rows - mean[j] * terms[1, j]
    for i in prange(rows, nogil=True, num_threads=parts, schedule="static"):
        dx_line(
            &dy[i, 0], &x[i, 0], &y[i, 0] if tailed else NULL, &terms[0, 0], &terms[1, 0], &terms[2, 0], slope, factor,
            &dx[i, 0], &dresidual[i, 0] if adds else NULL, channels
        )


cdef void products_span(
    const float* dy, const float* x, const float* y, float mean, float slope, float factor, double* total,
    double* products, Py_ssize_t pixels
) noexcept nogil:
    cdef Py_ssize_t j
    cdef float a = 0, b = 0, g
    for j in range(pixels):
        g = dy[j] if y == NULL else unfinish(dy[j], y[j], slope, factor)
        a = a + g
        b = b + g * (x[j] - mean)
    total[0] += a
    products[0] += b


cdef void dx_span(
    const float* dy, const float* x, const float* y, float outer, float inner, float shift, float slope, float factor,
    float* dx, float* dresidual, Py_ssize_t pixels
) noexcept nogil:
    cdef Py_ssize_t j
    cdef float g
    for j in range(pixels):
        g = dy[j] if y == NULL else unfinish(dy[j], y[j], slope, factor)
        if dresidual != NULL:
            dresidual[j] = g
        dx[j] = outer * (g + x[j] * inner + shift)


cdef void batch_norm_backward_plane(
    const float* dy, const float* x, const float* y, float weight, float mean, float invstd, float slope, float factor,
    float* dx, float* dweight, float* dbias, float* dresidual, Py_ssize_t batch, Py_ssize_t stride, Py_ssize_t pixels
) noexcept nogil:
    cdef Py_ssize_t n, i, count = batch * pixels
    cdef double total = 0, products = 0
    cdef float inner, shift
    for n in range(batch):
        i = n * stride
        products_span(&dy[i], &x[i], NULL if y == NULL else &y[i], mean, slope, factor, &total, &products, pixels)
    dbias[0] = total
    dweight[0] = products * invstd
    inner = -invstd * dweight[0] / count
    shift = -dbias[0] / count - mean * inner
    for n in range(batch):
        i = n * stride
        dx_span(
            &dy[i], &x[i], NULL if y == NULL else &y[i], weight * invstd, inner, shift, slope, factor, &dx[i],
            NULL if dresidual == NULL else &dresidual[i], pixels
        )


def batch_norm_backward_planes(
    const float[:, :, ::1] dy, const float[:, :, ::1] x, const float[:, :, ::1] y, const float[::1] weight,
    const float[::1] mean, const float[::1] invstd, float slope, float factor, float[:, :, ::1] dx,
    float[::1] dweight, float[::1] dbias, float[:, :, ::1] dresidual
):
    cdef Py_ssize_t c, batch = dy.shape[0], channels = dy.shape[1], pixels = dy.shape[2]
    cdef int parts = parts_of(batch * channels * pixels)
    cdef bint tailed = y is not None, weighs = weight is not None, adds = dresidual is not None
    for c in prange(channels, nogil=True, num_threads=parts, schedule="static"):
        batch_norm_backward_plane(
            &dy[0, c, 0], &x[0, c, 0], &y[0, c, 0] if tailed else NULL, weight[c] if weighs else 1, mean[c],
            invstd[c], slope, factor, &dx[0, c, 0], &dweight[c], &dbias[c], &dresidual[0, c, 0] if adds else NULL,
            batch, channels * pixels, pixels
        )


# ------------------------------------------------------------------------------------- loss, optimizers


cdef float cross_entropy_line(const float* x, int64_t label, float* d, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    cdef float top = x[0], total = 0, scale, loss
    for j in range(1, n):
        top = fmaxf(top, x[j])
    for j in range(n):
        d[j] = expf(x[j] - top)
        total = total + d[j]
    loss = logf(total) - (x[label] - top)
    scale = 1 / (total * rows)
    for j in range(n):
        d[j] = d[j] * scale
    d[label] -= 1 / <float>rows
    return loss


def softmax_cross_entropy(const float[:, ::1] logits, const int64_t[::1] labels, float[:, ::1] d):
    cdef Py_ssize_t i, rows = logits.shape[0], classes = logits.shape[1]
    cdef int parts = parts_of(rows * classes)
    cdef double loss = 0
    for i in prange(rows, nogil=True, num_threads=parts, schedule="static"):
        loss += cross_entropy_line(&logits[i, 0], labels[i], &d[i, 0], rows, classes)
    return loss / rows


cdef double squares_part(const float* g, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    cdef Py_ssize_t i
    cdef double total = 0
    for i in range(begin, end):
        total = total + g[i] * g[i]
    return total


def sum_of_squares(const float[::1] g):
    cdef Py_ssize_t n = g.shape[0]
    cdef int k, parts = parts_of(n)
    cdef double total = 0
    for k in prange(parts, nogil=True, num_threads=parts, schedule="static"):
        total += squares_part(&g[0], n * k // parts, n * (k + 1) // parts)
    return total


cdef void sgd_part(
    float* p, const float* g, float lr, float clip, float decay, Py_ssize_t begin, Py_ssize_t end
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(begin, end):
        p[i] = p[i] - lr * (g[i] * clip + decay * p[i])


def sgd(float[::1] p, const float[::1] g, float lr, float clip, float decay):
    cdef Py_ssize_t n = p.shape[0]
    cdef int k, parts = parts_of(n)
    for k in prange(parts, nogil=True, num_threads=parts, schedule="static"):
        sgd_part(&p[0], &g[0], lr, clip, decay, n * k // parts, n * (k + 1) // parts)


cdef void momentum_part(
    float* p, const float* g, float* buffer, float lr, float clip, float decay, float old, float new, float ahead,
    Py_ssize_t begin, Py_ssize_t end
) noexcept nogil:
    cdef Py_ssize_t i
    cdef float d
    for i in range(begin, end):
        d = g[i] * clip + decay * p[i]
        buffer[i] = old * buffer[i] + new * d
        p[i] = p[i] - lr * (d + ahead * buffer[i] if ahead > 0 else buffer[i])


def momentum(
    float[::1] p, const float[::1] g, float[::1] buffer, float lr, float clip, float decay, float old, float new,
    float ahead
):
    cdef Py_ssize_t n = p.shape[0]
    cdef int k, parts = parts_of(n)
    for k in prange(parts, nogil=True, num_threads=parts, schedule="static"):
        momentum_part(
            &p[0], &g[0], &buffer[0], lr, clip, decay, old, new, ahead, n * k // parts, n * (k + 1) // parts
        )


cdef void adam_part(
    float* p, const float* g, float* m, float* v, float rate, float shrink, float clip, float decay, float beta1,
    float beta2, float new1, float new2, float root, float eps, Py_ssize_t begin, Py_ssize_t end
) noexcept nogil:
    cdef Py_ssize_t i
    cdef float d
    for i in range(begin, end):
        d = g[i] * clip + decay * p[i]
        m[i] = beta1 * m[i] + new1 * d
        v[i] = beta2 * v[i] + new2 * d * d
        p[i] = p[i] * shrink - rate * m[i] / (sqrtf(v[i]) * root + eps)


def adam(
    float[::1] p, const float[::1] g, float[::1] m, float[::1] v, float rate, float shrink, float clip, float decay,
    double beta1, double beta2, float root, float eps
):
    cdef Py_ssize_t n = p.shape[0]
    cdef int k, parts = parts_of(n)
    for k in prange(parts, nogil=True, num_threads=parts, schedule="static"):
        adam_part(
            &p[0], &g[0], &m[0], &v[0], rate, shrink, clip, decay, beta1, beta2, 1 - beta1, 1 - beta2, root, eps,
            n * k // parts, n * (k + 1) // parts
        )
