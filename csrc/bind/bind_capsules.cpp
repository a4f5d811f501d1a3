// The kernels as C functions, published in capsules named after their signature. The table of names and signatures is
// in fastnn.h; here is what each operation checks before it calls the driver that the Python calls use, too.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <type_traits>
#include <vector>

#include "../../fastnn/include/fastnn.h"
#include "../ops/ops.hpp"
#include "epilogue_args.hpp"

namespace fastnn {
namespace {

// Callers were compiled with these; see the comment in fastnn.h.
static_assert(sizeof(fastnn_epilogue) == 56, "a struct that changes gets a new name");
static_assert(sizeof(fastnn_batch_norm_f32) == 80, "a struct that changes gets a new name");
static_assert(sizeof(fastnn_tensor_f32) == 56, "a struct that changes gets a new name");
static_assert(sizeof(fastnn_tensor_f32::state) / sizeof(float*) == kMaxStates, "as many states as the kernels have");

// Runs an op as the Python calls do, with the floating-point mode at its default. Nothing but an allocation throws.
template <class Op>
int guarded(const Op& op) noexcept {
  const parallel::FloatMode mode;
  try {
    return op();
  } catch (...) {
    return FASTNN_NO_MEMORY;
  }
}

template <class... Pointers>
bool all(const Pointers*... pointers) {
  return ((pointers != nullptr) && ...);
}

// --- activations: their public number is one more than the kernels', so that 0 is none ------------------------

bool is_activation(int activation) {
  return activation > 0 && activation <= kernels<float>().activation_count;
}

template <class Entry>
int id_of(const char* name, const Entry* entries, int count) {
  for (int k = 0; name != nullptr && k < count; ++k)
    if (std::strcmp(entries[k].name, name) == 0) return k + 1;
  return FASTNN_INVALID;
}

int activation_id(const char* name) {
  return id_of(name, kernels<float>().activations, kernels<float>().activation_count);
}

int optimizer_id(const char* name) {
  return id_of(name, kernels<float>().optimizers, kernels<float>().optimizer_count);
}

bool determines_gradient(int activation) {
  return kernels<float>().activations[activation - 1].backward_output != nullptr;
}

template <class T>
int activation(int id, double p0, double p1, const T* x, T* y, index n) {
  if (!is_activation(id) || n < 0 || (n > 0 && !all(x, y))) return FASTNN_INVALID;
  return guarded([&] {
    fastnn::activation(id - 1, x, y, n, static_cast<T>(p0), static_cast<T>(p1));
    return FASTNN_OK;
  });
}

template <class T>
int activation_gradient(int id, double p0, double p1, const T* dy, const T* x, bool x_is_output, T* dx, index n) {
  if (!is_activation(id) || n < 0 || (n > 0 && !all(dy, x, dx))) return FASTNN_INVALID;
  if (x_is_output && !determines_gradient(id)) return FASTNN_INVALID;
  return guarded([&] {
    fastnn::activation_gradient(id - 1, dy, x, x_is_output, dx, n, static_cast<T>(p0), static_cast<T>(p1));
    return FASTNN_OK;
  });
}

template <class T>
int activation_backward(int id, double p0, double p1, const T* dy, const T* x, T* dx, index n) {
  return activation_gradient(id, p0, p1, dy, x, false, dx, n);
}

template <class T>
int activation_backward_output(int id, double p0, double p1, const T* dy, const T* y, T* dx, index n) {
  return activation_gradient(id, p0, p1, dy, y, true, dx, n);
}

// --- the epilogue ------------------------------------------------------------------------------------------------

bool valid(const fastnn_epilogue* e, index elements) {
  return e == nullptr || ((e->activation == 0 || is_activation(e->activation)) && e->dropout >= 0 && e->dropout <= 1 &&
                          e->first >= 0 && e->first <= std::numeric_limits<index>::max() - elements);
}

template <class T>
Epilogue<T> tail_of(const fastnn_epilogue* given, const T* residual) {
  const fastnn_epilogue e = given ? *given : fastnn_epilogue{};
  const int threshold = keep_threshold(e.dropout);
  const TailArgs tail{e.activation - 1, e.p0, e.p1, threshold, inverted_scale(threshold), e.seed, e.position, e.first};
  return tail.epilogue(residual);
}

bool valid(const View& v) {
  return v.outer >= 0 && v.channels >= 0 && v.inner >= 0;
}

// --- bias_act, dropout, channel_sum ------------------------------------------------------------------------------

template <class T>
int bias_act(const T* x, const T* bias, const T* residual, const fastnn_epilogue* epilogue, T* y, index outer,
             index channels, index inner) {
  const View view{outer, channels, inner};
  if (!valid(view) || !valid(epilogue, elements(view)) || (elements(view) > 0 && !all(x, y))) return FASTNN_INVALID;
  return guarded([&] {
    fastnn::bias_act(BiasAct<T>{view, x, bias, tail_of(epilogue, residual), y});
    return FASTNN_OK;
  });
}

template <class T>
int dropout(const T* x, T* y, index n, double p, std::uint64_t seed, std::uint64_t position, index first) {
  const fastnn_epilogue epilogue{0, 0, 0, p, seed, position, first};
  return bias_act<T>(x, nullptr, nullptr, &epilogue, y, 1, 1, n);
}

template <class T>
int bias_act_backward(const T* dy, const T* kept, int kept_is_output, const T* bias, const T* residual,
                      const fastnn_epilogue* epilogue, T* dx, T* dbias, index outer, index channels, index inner) {
  const View view{outer, channels, inner};
  if (!valid(view) || !valid(epilogue, elements(view)) || (elements(view) > 0 && !dy)) return FASTNN_INVALID;
  const int id = epilogue ? epilogue->activation : 0;
  if (id > 0 && ((elements(view) > 0 && !kept) || (kept_is_output && !determines_gradient(id)))) return FASTNN_INVALID;
  return guarded([&] {
    fastnn::bias_act_gradient(
        BiasActGradient<T>{view, dy, kept, bias, kept_is_output != 0, tail_of(epilogue, residual), dx, dbias});
    return FASTNN_OK;
  });
}

template <class T>
int channel_sum(const T* x, T* sums, index outer, index channels, index inner) {
  if (channels > 0 && !sums) return FASTNN_INVALID;
  return bias_act_backward<T>(x, nullptr, 0, nullptr, nullptr, nullptr, nullptr, sums, outer, channels, inner);
}

// --- batch norm --------------------------------------------------------------------------------------------------

template <class Norm>
bool valid(const Norm* norm, const View& view, const fastnn_epilogue* epilogue) {
  return norm && norm->eps > 0 && valid(view) && valid(epilogue, elements(view));
}

template <class Norm, class T>
BatchNorm<T> norm_of(const Norm& norm, const View& view, const T* x, const Epilogue<T>& tail, T* y) {
  return {view, x, norm.weight, norm.bias, norm.pre_bias, tail, norm.eps, y};
}

template <class T>
RunningStatistic statistic(T* data) {
  return {data, std::is_same_v<T, float>};
}

template <class Norm, class T>
int batch_norm_train(const Norm* norm, const T* x, const T* residual, const fastnn_epilogue* epilogue, T* y,
                     index outer, index channels, index inner) {
  const View view{outer, channels, inner};
  if (!valid(norm, view, epilogue) || outer * inner < 2) return FASTNN_INVALID;
  if (channels > 0 && !all(x, y, norm->mean, norm->invstd)) return FASTNN_INVALID;
  if (!(norm->momentum >= 0 && norm->momentum <= 1) || !norm->running_mean != !norm->running_var) return FASTNN_INVALID;
  if (norm->nonfinite < FASTNN_NONFINITE_ERROR || norm->nonfinite > FASTNN_NONFINITE_ALLOW) return FASTNN_INVALID;
  return guarded([&] {
    const auto mode = static_cast<Nonfinite>(norm->nonfinite);
    const RunningUpdate running{statistic(norm->running_mean), statistic(norm->running_var), norm->momentum, 1};
    const index bad = fastnn::batch_norm_train(norm_of(*norm, view, x, tail_of(epilogue, residual), y), mode, running,
                                               norm->mean, norm->invstd);
    return bad >= 0 && mode == Nonfinite::error ? FASTNN_NONFINITE : FASTNN_OK;
  });
}

template <class Norm, class T>
int batch_norm_infer(const Norm* norm, const T* x, const T* residual, const fastnn_epilogue* epilogue, T* y,
                     index outer, index channels, index inner) {
  const View view{outer, channels, inner};
  if (!valid(norm, view, epilogue) || (elements(view) > 0 && !all(x, y))) return FASTNN_INVALID;
  if (channels > 0 && !all(norm->running_mean, norm->running_var)) return FASTNN_INVALID;
  return guarded([&] {
    Epilogue<T> tail = tail_of(epilogue, residual);
    tail.threshold = -1;
    fastnn::batch_norm_infer(norm_of(*norm, view, x, tail, y), statistic(norm->running_mean),
                             statistic(norm->running_var));
    return FASTNN_OK;
  });
}

template <class Norm, class T>
int batch_norm_backward(const Norm* norm, const T* dy, const T* x, const T* residual, const fastnn_epilogue* epilogue,
                        T* dx, T* dweight, T* dbias, T* dresidual, T* dpre_bias, index outer, index channels,
                        index inner) {
  const View view{outer, channels, inner};
  if (!valid(norm, view, epilogue) || outer * inner < 2) return FASTNN_INVALID;
  if (channels > 0 && !all(dy, x, norm->mean, norm->invstd, dx, dweight, dbias)) return FASTNN_INVALID;
  return guarded([&] {
    fastnn::batch_norm_gradient(BatchNormGradient<T>{view, dy, x, norm->mean, norm->invstd, norm->weight, norm->bias,
                                                     norm->pre_bias, tail_of(epilogue, residual), dx, dweight, dbias,
                                                     dresidual, dpre_bias, false});
    return FASTNN_OK;
  });
}

// --- the loss ----------------------------------------------------------------------------------------------------

template <class T>
int softmax_cross_entropy(const T* logits, const index* labels, T* dlogits, double* loss, index rows, index columns) {
  if (rows < 0 || columns < 0 || !loss) return FASTNN_INVALID;
  if (rows > 0 && !all(logits, labels, dlogits)) return FASTNN_INVALID;
  return guarded([&] {
    const fastnn::LabelCheck found = fastnn::check_labels(labels, rows, columns, std::nullopt);
    if (found.wrong >= 0) return FASTNN_INVALID;
    const View view{rows, columns, 1};
    *loss = fastnn::cross_entropy(
        ClassLoss<T>{view, logits, labels, nullptr, nullptr, -1, 0, Reduction::mean, dlogits, nullptr}, 0);
    return FASTNN_OK;
  });
}

// --- optimizers: as with activations, 0 is no rule ------------------------------------------------------------------

template <class Tensor>
using ElementOf = std::remove_pointer_t<decltype(Tensor::parameter)>;

template <class Tensor>
std::vector<Span<ElementOf<Tensor>>> spans_of(const Tensor* tensors, index count) {
  std::vector<Span<ElementOf<Tensor>>> spans(static_cast<std::size_t>(count));
  for (auto& span : spans) {
    span.parameter = tensors->parameter;
    span.gradient = tensors->gradient;
    std::copy_n(tensors->state, kMaxStates, span.state);
    span.average = nullptr;
    span.n = tensors->n;
    ++tensors;
  }
  return spans;
}

// Whether the arrays are there, `states` of them besides parameter (if it is wanted) and gradient.
template <class Tensor>
bool valid(const Tensor* tensors, index count, bool parameters, int states) {
  if (count < 0 || (count > 0 && !tensors)) return false;
  for (index i = 0; i < count; ++i) {
    const Tensor& t = tensors[i];
    if (t.n < 0) return false;
    if (t.n == 0) continue;
    if (!t.gradient || (parameters && !t.parameter)) return false;
    for (int k = 0; k < states; ++k)
      if (!t.state[k]) return false;
  }
  return true;
}

template <class Tensor>
int gradient_norm(const Tensor* tensors, index count, double* norm) {
  if (!norm || !valid(tensors, count, false, 0)) return FASTNN_INVALID;
  return guarded([&] {
    *norm = fastnn::gradient_norm(spans_of(tensors, count)).norm;
    return FASTNN_OK;
  });
}

template <class Rule>
int required_states(const Rule& rule) {
  int named = 0;
  while (named < kMaxStates && rule.states[named]) ++named;
  return named - rule.optional_states;
}

template <class Tensor>
int optimizer_step(int id, const Tensor* tensors, index count, const double* numbers, int number_count,
                   double clip_norm, double* norm) {
  using T = ElementOf<Tensor>;
  if (id <= 0 || id > kernels<T>().optimizer_count || !(clip_norm >= 0)) return FASTNN_INVALID;
  const OptimizerKernel<T>& rule = kernels<T>().optimizers[id - 1];
  if (!numbers || number_count != rule.scalars || !valid(tensors, count, true, required_states(rule)))
    return FASTNN_INVALID;
  return guarded([&] {
    T rounded[kMaxScalars];
    round_numbers(numbers, number_count, rounded);
    auto spans = spans_of(tensors, count);
    for (auto& span : spans) span.numbers = rounded;
    const double found = clip_norm > 0 ? fastnn::gradient_norm(spans).norm : 0;
    optimize(OptimizerStep<T>{id - 1, spans, clip_norm > 0 ? clip_factor(found, clip_norm, false) : 1, 1});
    if (clip_norm > 0 && norm) *norm = found;
    return FASTNN_OK;
  });
}

// --- the capsules ------------------------------------------------------------------------------------------------

template <class Function>
void publish(py::dict& capsules, const char* name, const char* signature, Function* function) {
  capsules[name] = py::capsule(reinterpret_cast<void*>(function), signature);
}

py::dict make_capsules() {
  py::dict capsules;
#define FASTNN_PUBLISH(name, operation, arguments) \
  publish<int arguments>(capsules, #name, "int " #arguments, operation);
  FASTNN_FUNCTIONS(FASTNN_PUBLISH)
#undef FASTNN_PUBLISH
  return capsules;
}

// Seconds of a call of relu on `n` elements through its capsule, and of the kernel alone.
py::tuple bench_capsule_call(index n, int repeats) {
  if (n < 1 || repeats < 1) throw py::value_error("elements, repeats: expected positive numbers");
  std::vector<float> x(static_cast<std::size_t>(n), 1.0f), y(x.size());
  int (*volatile published)(int, double, double, const float*, float*, index) = activation<float>;
  const auto call = published;
  const auto kernel = kernels<float>().activations[0].forward;
  const int relu = activation_id("relu");
  const auto time = [&](const auto& body) {
    const auto start = std::chrono::steady_clock::now();
    for (int r = 0; r < repeats; ++r) body();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / repeats;
  };
  const double whole = time([&] { call(relu, 0, 0, x.data(), y.data(), n); });
  return py::make_tuple(whole, time([&] { kernel(x.data(), y.data(), n, 0, 0); }));
}

}  // namespace

void bind_capsules(py::module_& m) {
  m.attr("capsules") = make_capsules();
  m.def("_bench_capsule_call", bench_capsule_call, py::arg("elements"), py::arg("repeats"));
}

}  // namespace fastnn
