/* fastnn's kernels for C and C++: the directory of this file is fastnn.get_include().
 *
 *   static fastnn_api fastnn;                                    // filled once, with the GIL
 *   if (fastnn_import(&fastnn) < 0) return NULL;                 // in PyInit_...: a Python exception is set
 *   ...
 *   int relu = fastnn.activation_id("relu");
 *   status = fastnn.activation_f32(relu, 0, 0, x, y, n);         // from then on: with or without the GIL, any thread
 *
 * No function touches Python. Arrays are C-contiguous. The results are those of the Python calls, bit for bit: the same
 * code computes them with the same threads (one inside an OpenMP region of yours, one in a forked child).
 *
 * Every function returns FASTNN_OK or, having written nothing, a negative status. Checked are numbers, ids and missing
 * arrays, not what pointers point to: sizes and overlap are the caller's word, as is that the output of an activation
 * determines the gradient where a function is given it. Arrays of no elements may be NULL.
 */
/* clang-format off: spaces are part of the signatures' text. */
#ifndef FASTNN_H
#define FASTNN_H

#include <Python.h>
#include <stdint.h>
#include <string.h>

enum {
  FASTNN_OK = 0,
  FASTNN_INVALID = -1,   /* an argument is out of range or missing */
  FASTNN_NO_MEMORY = -2, /* for scratch space; arrays may have been written */
  FASTNN_NONFINITE = -3  /* batch_norm_train: running statistics unchanged, y unspecified, mean and invstd the batch's */
};

/* A struct's name is part of every signature below that takes it. One that changes gets a new name, so that what was
 * compiled for the old one is refused at import. */

/* What a producer does last: y = dropout(activation(v + residual)). All zero: nothing. */
typedef struct {
  int activation;          /* of activation_id(), 0: none */
  double p0, p1;           /* its parameters, 0 where it has none */
  double dropout;          /* probability to drop, in [0, 1] */
  uint64_t seed, position; /* the random stream, as fastnn.random.Generator.draw() gives it */
  int64_t first;           /* index of the array's first element in the stream; 0 unless it is a shard */
} fastnn_epilogue;

enum { FASTNN_NONFINITE_ERROR = 0, FASTNN_NONFINITE_SKIP = 1, FASTNN_NONFINITE_ALLOW = 2 };

#define FASTNN_STRUCTS(suffix, T)                                                               \
  /* A batch norm layer; every array has one entry per channel. */                              \
  typedef struct {                                                                              \
    T const *weight, *bias, *pre_bias;  /* or NULL: ones, zeros, nothing to add first */        \
    T *running_mean, *running_var;      /* both or, in training, neither */                     \
    double *mean, *invstd;              /* written by batch_norm_train, read by its backward */ \
    double momentum, eps;               /* usually 0.1 and 1e-5 */                              \
    int nonfinite;                      /* FASTNN_NONFINITE_ERROR ... */                        \
  } fastnn_batch_norm_##suffix;                                                                 \
  /* What an optimizer updates. */                                                              \
  typedef struct {                                                                              \
    T *parameter;                                                                               \
    T const *gradient;                                                                          \
    T *state[4];                        /* the rule's, in order; NULL where not there */        \
    int64_t n;                                                                                  \
  } fastnn_tensor_##suffix;

FASTNN_STRUCTS(f32, float)
FASTNN_STRUCTS(f64, double)
#undef FASTNN_STRUCTS

/* The one table of functions: X(name, operation, argument types). Capsules are made from it and named after it
 * ("int " followed by the types, as Cython writes them), so it is what the two sides of a call agree on.
 * Arrays have shape (outer, channels, inner): (N, C, 1) for rows, (N, C, H * W) for images. Bias and residual may be
 * NULL, and so may the epilogue (none). */
#define FASTNN_FUNCTIONS(X)                                                                                        \
  /* (name) -> id > 0, or FASTNN_INVALID. Look it up once: the names are those of fastnn.functional. */            \
  X(activation_id, activation_id, (char const *))                                                                  \
  /* (name) -> id > 0, or FASTNN_INVALID: "sgd", "adam" ... */                                                     \
  X(optimizer_id, optimizer_id, (char const *))                                                                    \
  FASTNN_FUNCTIONS_OF(X, f32, float)                                                                               \
  FASTNN_FUNCTIONS_OF(X, f64, double)

#define FASTNN_FUNCTIONS_OF(X, s, T)                                                                               \
  /* (activation, p0, p1, x, y, n): y may be x. */                                                                 \
  X(activation_##s, activation, (int, double, double, T const *, T *, int64_t))                                    \
  /* (activation, p0, p1, dy, x, dx, n): dx may be dy or x. */                                                     \
  X(activation_backward_##s, activation_backward, (int, double, double, T const *, T const *, T *, int64_t))       \
  /* (activation, p0, p1, dy, y, dx, n): the same from the output, where that is enough. */                        \
  X(activation_backward_output_##s, activation_backward_output,                                                    \
    (int, double, double, T const *, T const *, T *, int64_t))                                                     \
  /* (x, y, n, p, seed, position, first): y may be x. Backward is the same call on dy. */                          \
  X(dropout_##s, dropout, (T const *, T *, int64_t, double, uint64_t, uint64_t, int64_t))                          \
  /* (x, bias, residual, epilogue, y, outer, channels, inner): y may be x or residual. */                          \
  X(bias_act_##s, bias_act,                                                                                        \
    (T const *, T const *, T const *, fastnn_epilogue const *, T *, int64_t, int64_t, int64_t))                    \
  /* (dy, kept, kept_is_output, bias, residual, epilogue, dx, dbias, outer, channels, inner)                       \
     kept: x, or y where it determines the gradient (with dropout: where its sign does); NULL without activation.  \
     dx may be dy or kept; dx (also the residual's gradient) or dbias may be NULL. */                              \
  X(bias_act_backward_##s, bias_act_backward,                                                                      \
    (T const *, T const *, int, T const *, T const *, fastnn_epilogue const *, T *, T *, int64_t, int64_t,         \
     int64_t))                                                                                                     \
  /* (x, sums, outer, channels, inner) */                                                                          \
  X(channel_sum_##s, channel_sum, (T const *, T *, int64_t, int64_t, int64_t))                                     \
  /* (norm, x, residual, epilogue, y, outer, channels, inner): at least two values per channel. */                 \
  X(batch_norm_train_##s, batch_norm_train,                                                                        \
    (fastnn_batch_norm_##s const *, T const *, T const *, fastnn_epilogue const *, T *, int64_t, int64_t,          \
     int64_t))                                                                                                     \
  /* The same with the running statistics and without dropout: y may be x or residual. */                          \
  X(batch_norm_infer_##s, batch_norm_infer,                                                                        \
    (fastnn_batch_norm_##s const *, T const *, T const *, fastnn_epilogue const *, T *, int64_t, int64_t,          \
     int64_t))                                                                                                     \
  /* (norm, dy, x, residual, epilogue, dx, dweight, dbias, dresidual, dpre_bias, outer, channels, inner)           \
     of batch_norm_train; dx may be dy; dresidual and dpre_bias may be NULL. */                                    \
  X(batch_norm_backward_##s, batch_norm_backward,                                                                  \
    (fastnn_batch_norm_##s const *, T const *, T const *, T const *, fastnn_epilogue const *, T *, T *, T *, T *,  \
     T *, int64_t, int64_t, int64_t))                                                                              \
  /* (logits, labels, dlogits, loss, rows, columns): mean loss (NaN without rows), its gradient; dlogits may be    \
     logits. */                                                                                                    \
  X(softmax_cross_entropy_##s, softmax_cross_entropy,                                                              \
    (T const *, int64_t const *, T *, double *, int64_t, int64_t))                                                 \
  /* (tensors, count, norm): the 2-norm of all gradients together. */                                              \
  X(gradient_norm_##s, gradient_norm, (fastnn_tensor_##s const *, int64_t, double *))                              \
  /* (optimizer, tensors, count, numbers, how many numbers, clip_norm, norm)                                       \
     One step on all tensors. The numbers are those of every rule (clip_value, weight decay, l1, decoupled decay   \
     times the rate; 0: none), then those of csrc/kernels/optimizers.hpp. clip_norm 0: no clipping, else gradients \
     count as scaled down to that norm, and norm (or NULL) receives what it was. */                                \
  X(optimizer_step_##s, optimizer_step,                                                                            \
    (int, fastnn_tensor_##s const *, int64_t, double const *, int, double, double *))

/* The functions, one member each. */
typedef struct {
#define FASTNN_MEMBER(name, operation, arguments) int(*name) arguments;
  FASTNN_FUNCTIONS(FASTNN_MEMBER)
#undef FASTNN_MEMBER
} fastnn_api;

static inline int fastnn_import_function(PyObject *capsules, const char *name, const char *signature, void *function) {
  PyObject *const capsule = PyDict_GetItemString(capsules, name); /* borrowed */
  void *pointer;
  if (capsule == NULL || !PyCapsule_IsValid(capsule, signature)) {
    const char *const found = capsule != NULL && PyCapsule_CheckExact(capsule) ? PyCapsule_GetName(capsule) : NULL;
    PyErr_Format(PyExc_ImportError, "fastnn.kernels.%s: compiled for '%s', but the installed fastnn has '%s'", name,
                 signature, found != NULL ? found : "no such function");
    return -1;
  }
  pointer = PyCapsule_GetPointer(capsule, signature);
  memcpy(function, &pointer, sizeof pointer);
  return 0;
}

/* Fills in `api`. 0, or -1 with ImportError set: fastnn is missing, or a signature is not the one compiled for. */
static inline int fastnn_import(fastnn_api *api) {
  PyObject *const module = PyImport_ImportModule("fastnn.kernels");
  PyObject *const capsules = module != NULL ? PyObject_GetAttrString(module, "__pyx_capi__") : NULL;
  int status = capsules != NULL ? 0 : -1;
#define FASTNN_IMPORT(name, operation, arguments) \
  if (status == 0) status = fastnn_import_function(capsules, #name, "int " #arguments, &api->name);
  FASTNN_FUNCTIONS(FASTNN_IMPORT)
#undef FASTNN_IMPORT
  Py_XDECREF(capsules);
  Py_XDECREF(module);
  return status;
}

#endif
