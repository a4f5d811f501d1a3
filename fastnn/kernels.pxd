# The kernels for Cython, without the GIL and in prange: from fastnn.kernels cimport bias_act_f32
#
# Functions, structs and status numbers are those of include/fastnn.h, which says what the arguments are. Cython compares
# the signatures with those of the installed fastnn when the importing module is loaded.

from libc.stdint cimport int64_t, uint64_t

cdef enum:
    OK = 0
    INVALID = -1  # an argument is out of range or missing
    NO_MEMORY = -2
    NONFINITE = -3  # batch_norm_train: running statistics unchanged

cdef enum:
    NONFINITE_ERROR = 0
    NONFINITE_SKIP = 1
    NONFINITE_ALLOW = 2

# residual -> activation -> dropout: what a producer does last.
ctypedef struct Epilogue "fastnn_epilogue":
    int activation  # of activation_id(), 0: none
    double p0, p1  # its parameters
    double dropout  # probability to drop
    uint64_t seed, position  # the random stream
    int64_t first  # index of the first element in the stream

# A batch norm layer; every array has one entry per channel.
ctypedef struct BatchNorm_f32 "fastnn_batch_norm_f32":
    const float *weight
    const float *bias
    const float *pre_bias
    float *running_mean
    float *running_var
    double *mean  # written by batch_norm_train, read by its backward
    double *invstd
    double momentum, eps
    int nonfinite

ctypedef struct BatchNorm_f64 "fastnn_batch_norm_f64":
    const double *weight
    const double *bias
    const double *pre_bias
    double *running_mean
    double *running_var
    double *mean
    double *invstd
    double momentum, eps
    int nonfinite

# What an optimizer updates.
ctypedef struct Tensor_f32 "fastnn_tensor_f32":
    float *parameter
    const float *gradient
    float *state[4]
    int64_t n

ctypedef struct Tensor_f64 "fastnn_tensor_f64":
    double *parameter
    const double *gradient
    double *state[4]
    int64_t n


# An epilogue in one expression: epilogue(relu, 0.2, seed, step).
cdef inline Epilogue epilogue(
    int activation=0, double dropout=0, uint64_t seed=0, uint64_t position=0, double p0=0, double p1=0
) noexcept nogil:
    return Epilogue(activation, p0, p1, dropout, seed, position, 0)


cdef int activation_id(const char *name) noexcept nogil
cdef int optimizer_id(const char *name) noexcept nogil

cdef int activation_f32(
    int activation, double p0, double p1, const float *x, float *y, int64_t n
) noexcept nogil
cdef int activation_backward_f32(
    int activation, double p0, double p1, const float *dy, const float *x, float *dx, int64_t n
) noexcept nogil
cdef int activation_backward_output_f32(
    int activation, double p0, double p1, const float *dy, const float *y, float *dx, int64_t n
) noexcept nogil
cdef int dropout_f32(
    const float *x, float *y, int64_t n, double p, uint64_t seed, uint64_t position, int64_t first
) noexcept nogil
cdef int bias_act_f32(
    const float *x, const float *bias, const float *residual, const Epilogue *epilogue, float *y,
    int64_t outer, int64_t channels, int64_t inner
) noexcept nogil
cdef int bias_act_backward_f32(
    const float *dy, const float *kept, int kept_is_output, const float *bias, const float *residual,
    const Epilogue *epilogue, float *dx, float *dbias, int64_t outer, int64_t channels, int64_t inner
) noexcept nogil
cdef int channel_sum_f32(
    const float *x, float *sums, int64_t outer, int64_t channels, int64_t inner
) noexcept nogil
cdef int batch_norm_train_f32(
    const BatchNorm_f32 *norm, const float *x, const float *residual, const Epilogue *epilogue, float *y,
    int64_t outer, int64_t channels, int64_t inner
) noexcept nogil
cdef int batch_norm_infer_f32(
    const BatchNorm_f32 *norm, const float *x, const float *residual, const Epilogue *epilogue, float *y,
    int64_t outer, int64_t channels, int64_t inner
) noexcept nogil
cdef int batch_norm_backward_f32(
    const BatchNorm_f32 *norm, const float *dy, const float *x, const float *residual, const Epilogue *epilogue,
    float *dx, float *dweight, float *dbias, float *dresidual, float *dpre_bias,
    int64_t outer, int64_t channels, int64_t inner
) noexcept nogil
cdef int softmax_cross_entropy_f32(
    const float *logits, const int64_t *labels, float *dlogits, double *loss, int64_t rows, int64_t columns
) noexcept nogil
cdef int gradient_norm_f32(const Tensor_f32 *tensors, int64_t count, double *norm) noexcept nogil
cdef int optimizer_step_f32(
    int optimizer, const Tensor_f32 *tensors, int64_t count, const double *numbers, int number_count,
    double clip_norm, double *norm
) noexcept nogil

cdef int activation_f64(
    int activation, double p0, double p1, const double *x, double *y, int64_t n
) noexcept nogil
cdef int activation_backward_f64(
    int activation, double p0, double p1, const double *dy, const double *x, double *dx, int64_t n
) noexcept nogil
cdef int activation_backward_output_f64(
    int activation, double p0, double p1, const double *dy, const double *y, double *dx, int64_t n
) noexcept nogil
cdef int dropout_f64(
    const double *x, double *y, int64_t n, double p, uint64_t seed, uint64_t position, int64_t first
) noexcept nogil
cdef int bias_act_f64(
    const double *x, const double *bias, const double *residual, const Epilogue *epilogue, double *y,
    int64_t outer, int64_t channels, int64_t inner
) noexcept nogil
cdef int bias_act_backward_f64(
    const double *dy, const double *kept, int kept_is_output, const double *bias, const double *residual,
    const Epilogue *epilogue, double *dx, double *dbias, int64_t outer, int64_t channels, int64_t inner
) noexcept nogil
cdef int channel_sum_f64(
    const double *x, double *sums, int64_t outer, int64_t channels, int64_t inner
) noexcept nogil
cdef int batch_norm_train_f64(
    const BatchNorm_f64 *norm, const double *x, const double *residual, const Epilogue *epilogue, double *y,
    int64_t outer, int64_t channels, int64_t inner
) noexcept nogil
cdef int batch_norm_infer_f64(
    const BatchNorm_f64 *norm, const double *x, const double *residual, const Epilogue *epilogue, double *y,
    int64_t outer, int64_t channels, int64_t inner
) noexcept nogil
cdef int batch_norm_backward_f64(
    const BatchNorm_f64 *norm, const double *dy, const double *x, const double *residual, const Epilogue *epilogue,
    double *dx, double *dweight, double *dbias, double *dresidual, double *dpre_bias,
    int64_t outer, int64_t channels, int64_t inner
) noexcept nogil
cdef int softmax_cross_entropy_f64(
    const double *logits, const int64_t *labels, double *dlogits, double *loss, int64_t rows, int64_t columns
) noexcept nogil
cdef int gradient_norm_f64(const Tensor_f64 *tensors, int64_t count, double *norm) noexcept nogil
cdef int optimizer_step_f64(
    int optimizer, const Tensor_f64 *tensors, int64_t count, const double *numbers, int number_count,
    double clip_norm, double *norm
) noexcept nogil
