# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Many small networks trained at once: every thread has networks of its own, and nobody holds the GIL.

Each is inputs -> hidden -> batch norm, ReLU, dropout -> classes, with softmax cross-entropy and Adam. Its parameters lie
in one row: W1 (inputs, hidden), gamma (hidden,), beta (hidden,), W2 (hidden, classes), b2 (classes,).
"""

import numpy as np

from cython.parallel cimport prange
from libc.math cimport sqrt
from libc.stdint cimport int64_t, uint64_t

from fastnn.kernels cimport (
    OK,
    BatchNorm_f32,
    Epilogue,
    Tensor_f32,
    activation_id,
    batch_norm_backward_f32,
    batch_norm_train_f32,
    bias_act_f32,
    channel_sum_f32,
    epilogue,
    optimizer_id,
    optimizer_step_f32,
    softmax_cross_entropy_f32,
)


cdef inline void product(
    const float *a, int64_t a_row, int64_t a_column, const float *b, int64_t b_row, int64_t b_column,
    float *c, int64_t rows, int64_t inner, int64_t columns
) noexcept nogil:
    """c = a @ b, any strides: the sums are taken in the order of `inner`."""
    cdef int64_t i, j, k
    for i in range(rows):
        for j in range(columns):
            c[i * columns + j] = 0
        for k in range(inner):
            for j in range(columns):
                c[i * columns + j] += a[i * a_row + k * a_column] * b[k * b_row + j * b_column]


def matmul(const float[:, :] a, const float[:, :] b):
    """a @ b with the bits of the products in `train`."""
    cdef float[:, ::1] c = np.empty((a.shape[0], b.shape[1]), np.float32)
    product(
        &a[0, 0], a.strides[0] // 4, a.strides[1] // 4, &b[0, 0], b.strides[0] // 4, b.strides[1] // 4,
        &c[0, 0], a.shape[0], a.shape[1], b.shape[1],
    )
    return np.asarray(c)


def parameter_count(inputs, hidden, classes):
    """Numbers in one network's row of parameters."""
    return inputs * hidden + 2 * hidden + hidden * classes + classes


cdef struct Shape:
    int64_t batch, inputs, hidden, classes


# The arrays of one network: parameters and their gradients, what batch norm needs, and room for one batch.
cdef struct Network:
    float *W1
    float *W2
    float *b2
    float *dW1
    float *dgamma
    float *dbeta
    float *dW2
    float *db2
    BatchNorm_f32 norm
    Tensor_f32 all_parameters
    float *z
    float *h
    float *logits


cdef Network network_of(
    Shape s, float *parameters, float *gradients, float *exp_avg, float *exp_avg_sq, float *running, float *room,
    double *statistics, int64_t count
) noexcept nogil:
    cdef Network n
    cdef int64_t first = s.inputs * s.hidden, second = s.hidden * s.classes
    n.W1, n.W2, n.b2 = parameters, parameters + first + 2 * s.hidden, parameters + first + 2 * s.hidden + second
    n.dW1, n.dgamma, n.dbeta = gradients, gradients + first, gradients + first + s.hidden
    n.dW2, n.db2 = gradients + first + 2 * s.hidden, gradients + first + 2 * s.hidden + second
    n.norm = BatchNorm_f32(
        weight=parameters + first, bias=parameters + first + s.hidden, pre_bias=NULL,
        running_mean=running, running_var=running + s.hidden, mean=statistics, invstd=statistics + s.hidden,
        momentum=0.1, eps=1e-5, nonfinite=0,
    )
    n.all_parameters = Tensor_f32(parameters, gradients, [exp_avg, exp_avg_sq, NULL, NULL], count)
    n.z, n.h, n.logits = room, room + s.batch * s.hidden, room + 2 * s.batch * s.hidden
    return n


cdef int gradients_of(
    const Network *n, Shape s, Epilogue relu_dropout, const float *x, const int64_t *labels, double *loss
) noexcept nogil:
    """Forward and backward: the gradients of one batch. 0, or fastnn's status."""
    cdef int status
    product(x, s.inputs, 1, n.W1, s.hidden, 1, n.z, s.batch, s.inputs, s.hidden)
    status = batch_norm_train_f32(&n.norm, n.z, NULL, &relu_dropout, n.h, s.batch, s.hidden, 1)
    product(n.h, s.hidden, 1, n.W2, s.classes, 1, n.logits, s.batch, s.hidden, s.classes)
    status |= bias_act_f32(n.logits, n.b2, NULL, NULL, n.logits, s.batch, s.classes, 1)
    status |= softmax_cross_entropy_f32(n.logits, labels, n.logits, loss, s.batch, s.classes)

    cdef float *dlogits = n.logits
    status |= channel_sum_f32(dlogits, n.db2, s.batch, s.classes, 1)
    product(n.h, 1, s.hidden, dlogits, s.classes, 1, n.dW2, s.hidden, s.batch, s.classes)
    cdef float *dh = n.h
    product(dlogits, s.classes, 1, n.W2, 1, s.classes, dh, s.batch, s.classes, s.hidden)
    status |= batch_norm_backward_f32(
        &n.norm, dh, n.z, NULL, &relu_dropout, dh, n.dgamma, n.dbeta, NULL, NULL, s.batch, s.hidden, 1
    )
    product(x, 1, s.inputs, dh, s.hidden, 1, n.dW1, s.inputs, s.batch, s.hidden)
    return status


cdef int train_network(
    Network n, Shape s, const float *x, const int64_t *labels, int64_t steps, double *losses,
    double lr, double dropout, uint64_t seed
) noexcept nogil:
    """All steps of one network; step t uses batch t of `x` and stream position t of its seed."""
    cdef double beta1 = 0.9, beta2 = 0.999, product1 = 1, product2 = 1
    cdef double[11] numbers
    cdef int relu = activation_id("relu"), adam = optimizer_id("adam"), status
    cdef int64_t t
    for t in range(steps):
        status = gradients_of(
            &n, s, epilogue(relu, dropout, seed, t), x + t * s.batch * s.inputs, labels + t * s.batch, losses + t
        )
        product1 *= beta1
        product2 *= beta2
        # of every rule: clip_value, weight decay, l1, decoupled decay; of Adam: step size, betas ..., eps, root's factor
        numbers = [
            0, 0, 0, 0, lr / (1 - product1), beta1, 1 - beta1, beta2, 1 - beta2, 1e-8, 1 / sqrt(1 - product2)
        ]
        status |= optimizer_step_f32(adam, &n.all_parameters, 1, numbers, 11, 0, NULL)
        if status != OK:
            return status
    return OK


def train(
    float[:, ::1] parameters, float[:, ::1] running, const float[:, :, ::1] x, const int64_t[:, ::1] labels,
    const double[::1] rates, const uint64_t[::1] seeds, int64_t hidden, int64_t classes, double dropout, int threads
):
    """Train all networks on the same batches, in place.

    Parameters
    ----------
    parameters : (networks, parameter_count) array
    running : (networks, 2 * hidden) array
        Running means, then running variances.
    x : (steps, batch, inputs) array
    labels : (steps, batch) array
    rates, seeds : (networks,) arrays
        The learning rate of each network, and the seed of its dropout.
    hidden, classes : int
    dropout : float
    threads : int

    Returns
    -------
    (networks, steps) array
        The losses.
    """
    cdef Shape s = Shape(x.shape[1], x.shape[2], hidden, classes)
    cdef int64_t networks = parameters.shape[0], count = parameters.shape[1], steps = x.shape[0], i
    cdef double[:, ::1] losses = np.empty((networks, steps))
    cdef float[:, :, ::1] adam = np.zeros((networks, 3, count), np.float32)  # gradients and both moments
    cdef float[:, ::1] room = np.empty((networks, s.batch * (2 * hidden + classes)), np.float32)
    cdef double[:, ::1] statistics = np.empty((networks, 2 * hidden))
    cdef int[::1] status = np.zeros(networks, np.intc)

    for i in prange(networks, nogil=True, schedule="dynamic", num_threads=threads):
        status[i] = train_network(
            network_of(
                s, &parameters[i, 0], &adam[i, 0, 0], &adam[i, 1, 0], &adam[i, 2, 0], &running[i, 0], &room[i, 0],
                &statistics[i, 0], count
            ),
            s, &x[0, 0, 0], &labels[0, 0], steps, &losses[i, 0], rates[i], dropout, seeds[i],
        )
    if np.any(status):
        raise ValueError(f"a kernel refused its arguments or found values that are not finite: {np.asarray(status)}")
    return np.asarray(losses)
