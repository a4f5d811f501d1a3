// Batch norm. Statistics and copies of the channel parameters are kept in one block of memory.
#include <cmath>
#include <cstring>
#include <string>

#include "../ops/ops.hpp"
#include "epilogue_args.hpp"
#include "saved.hpp"

namespace fastnn {
namespace {

const SavedKind kBatchNorm{"batch_norm", {"x", "residual", nullptr}};

struct BatchNormNumbers {
  View view;
  TailArgs tail;
  bool has_weight, has_bias, has_pre_bias, has_residual, frozen;
};

// The block of a `Saved`: mean and 1 / standard deviation, then the parameters that are there.
struct Block {
  double *mean, *invstd;
  unsigned char *weight, *bias, *pre_bias;

  static std::size_t bytes(const BatchNormNumbers& n, std::size_t item) {
    const std::size_t channels = static_cast<std::size_t>(n.view.channels);
    return channels *
           (2 * sizeof(double) + item * static_cast<std::size_t>(n.has_weight + n.has_bias + n.has_pre_bias));
  }

  Block(const Saved& saved, const BatchNormNumbers& n, std::size_t item) {
    const std::size_t channels = static_cast<std::size_t>(n.view.channels);
    mean = reinterpret_cast<double*>(saved.block);
    invstd = mean + channels;
    unsigned char* next = reinterpret_cast<unsigned char*>(invstd + channels);
    const auto take = [&](bool there) {
      unsigned char* const at = there ? next : nullptr;
      if (there) next += channels * item;
      return at;
    };
    weight = take(n.has_weight);
    bias = take(n.has_bias);
    pre_bias = take(n.has_pre_bias);
  }
};

// The arrays of a forward pass.
struct NormInputs {
  Array x;
  View view;
  std::optional<Array> weight, bias, pre_bias, residual;

  NormInputs(py::handle x_, py::handle weight_, py::handle bias_, py::handle pre_bias_, py::handle residual_,
             index channel_axis)
      : x(in(x_, "x")) {
    if (x.ndim() < 2) throw py::value_error("x: expected at least 2 dimensions, got " + std::to_string(x.ndim()));
    view = view_of(x, normalise_axis(x, "x", channel_axis));
    weight = maybe_vec(weight_, "weight", view.channels, x);
    bias = maybe_vec(bias_, "bias", view.channels, x);
    pre_bias = maybe_vec(pre_bias_, "pre_bias", view.channels, x);
    residual = maybe_in(residual_, "residual", x);
  }

  // `written` must be apart from the channel parameters, and from x and residual too unless in place is allowed.
  void refuse_overlaps(const Array& written, const char* name, bool in_place) const {
    refuse_overlap(written, name, x, "x", in_place);
    if (residual) refuse_overlap(written, name, *residual, "residual", in_place);
    if (weight) refuse_overlap(written, name, *weight, "weight", false);
    if (bias) refuse_overlap(written, name, *bias, "bias", false);
    if (pre_bias) refuse_overlap(written, name, *pre_bias, "pre_bias", false);
  }

  template <class T>
  BatchNorm<T> arguments(const TailArgs& tail, double eps, const Array& y, const Across& across = nullptr) const {
    return {view,
            x.data<T>(),
            data_or_null<T>(weight),
            data_or_null<T>(bias),
            data_or_null<T>(pre_bias),
            tail.epilogue<T>(data_or_null<T>(residual)),
            eps,
            y.data<T>(),
            across};
  }
};

RunningStatistic statistic(const std::optional<Array>& a) {
  if (!a) return {nullptr, false};
  return {a->raw(), a->is_f32()};
}

// Which of the words the argument is; ValueError for anything else.
template <int N>
int word_in(const Arguments& a, int place, const char* const (&words)[N]) {
  std::string expected;
  for (int k = 0; k < N; ++k) {
    if (PyUnicode_Check(a[place].ptr()) && PyUnicode_CompareWithASCIIString(a[place].ptr(), words[k]) == 0) return k;
    expected += std::string(k == 0 ? "" : k + 1 < N ? ", " : " or ") + "'" + words[k] + "'";
  }
  throw py::value_error(std::string(a.name(place)) + ": expected " + expected + ", got " +
                        std::string(py::repr(a[place])));
}

constexpr const char* kNonfinite[] = {"error", "skip", "allow"};
constexpr const char* kConventions[] = {"torch", "keras"};  // momentum is the weight of the new batch, or of the old

enum {
  x_,
  running_mean_,
  running_var_,
  weight_,
  bias_,
  training_,
  momentum_,
  eps_,
  pre_bias_,
  residual_,
  activation_,
  dropout_,
  rng_,
  channel_axis_,
  nonfinite_,
  momentum_convention_,
  running_ddof_,
  update_stats_,
  frozen_,
  first_,
  across_,
  out_
};

constexpr int kKeptAcross = 2;  // behind the named arrays of a `Saved`

// `function` as the merge of what the leaves of all shards give, moments or sums: called with the parts and the
// elements of a channel in each, it returns what they give together and the elements of all.
Across across_in(py::handle function, bool moments) {
  if (function.is_none()) return nullptr;
  return [function, moments](index leaves, index channels, const double* parts, const double* counts, double* result) {
    const py::gil_scoped_acquire gil;
    const Array given = empty({leaves, 2, channels}, Dtype::f64), elements = empty({leaves}, Dtype::f64);
    std::copy_n(parts, given.size(), given.data<double>());
    std::copy_n(counts, leaves, elements.data<double>());
    const py::tuple answer = function(given.object(), elements.object(), py::bool_(moments));
    if (answer.size() != 2) throw py::value_error("across: expected to return two values");
    const Array merged = in(answer[0], "what across returns", empty({2, channels}, Dtype::f64));
    std::copy_n(merged.data<double>(), merged.size(), result);
    return answer[1].cast<double>();
  };
}

struct Running {
  std::optional<Array> mean, var;  // both or none
};

// In inference, and where they are frozen: they normalise.
Running given_statistics(const Arguments& a, const NormInputs& inputs) {
  if (!a.given(running_mean_) || !a.given(running_var_))
    throw py::value_error("running_mean, running_var: expected arrays in inference and where frozen, got None");
  return {vec(a[running_mean_], "running_mean", inputs.view.channels),
          vec(a[running_var_], "running_var", inputs.view.channels)};
}

// The batch normalises: they are updated.
Running updated_statistics(const Arguments& a, const NormInputs& inputs) {
  if (a.given(running_mean_) != a.given(running_var_))
    throw py::value_error("running_mean, running_var: expected both or none");
  if (!a.truth(update_stats_)) return {};
  Running running{maybe_update_vec(a[running_mean_], "running_mean", inputs.view.channels),
                  maybe_update_vec(a[running_var_], "running_var", inputs.view.channels)};
  if (running.mean && running.var) {
    refuse_overlap(*running.mean, "running_mean", *running.var, "running_var", false);
    inputs.refuse_overlaps(*running.mean, "running_mean", false);
    inputs.refuse_overlaps(*running.var, "running_var", false);
  }
  return running;
}

RunningUpdate update_of(const Arguments& a, const Running& running) {
  const double momentum = a.number(momentum_);
  if (!(momentum >= 0 && momentum <= 1))
    throw py::value_error("momentum: expected a number in [0, 1], got " + std::string(py::str(a[momentum_])));
  const index ddof = a.integer(running_ddof_);
  if (ddof != 0 && ddof != 1)
    throw py::value_error("running_ddof: expected 0 or 1, got " + std::string(py::str(a[running_ddof_])));
  const bool of_old = word_in(a, momentum_convention_, kConventions) == 1;
  return {statistic(running.mean), statistic(running.var), of_old ? 1 - momentum : momentum, ddof};
}

Array output(const Arguments& a, const NormInputs& inputs, const Running& running, bool in_place) {
  const Array y = out(a[out_], "out", inputs.x);
  if (a.given(out_)) {
    inputs.refuse_overlaps(y, "out", in_place);
    if (running.mean) refuse_overlap(y, "out", *running.mean, "running_mean", false);
    if (running.var) refuse_overlap(y, "out", *running.var, "running_var", false);
  }
  return y;
}

py::object infer(const Arguments& a, const NormInputs& inputs, const TailArgs& tail, double eps) {
  const Running running = given_statistics(a, inputs);
  const Array y = output(a, inputs, running, true);
  by_dtype(inputs.x, [&](auto t) {
    using T = decltype(t);
    const Computation computation(inputs.x.size());
    batch_norm_infer(inputs.arguments<T>(tail, eps, y), statistic(running.mean), statistic(running.var));
  });
  return tuple_of(y.object(), py::none());
}

py::object train(const Arguments& a, const NormInputs& inputs, TailArgs& tail, double eps) {
  const bool frozen = a.truth(frozen_);
  const Nonfinite mode = static_cast<Nonfinite>(word_in(a, nonfinite_, kNonfinite));
  const Running running = frozen ? given_statistics(a, inputs) : updated_statistics(a, inputs);
  const RunningUpdate update = update_of(a, running);
  const View& v = inputs.view;
  const py::handle across = frozen ? py::handle(Py_None) : a[across_];
  if (!frozen && v.outer * v.inner < (across.is_none() ? 2 : 1))
    throw py::value_error("x: expected at least two values per channel in training, got " +
                          std::to_string(v.outer * v.inner) +
                          "; use a larger batch (drop a last batch of one), or training=False");
  const Array y = output(a, inputs, running, false);
  const std::size_t item = inputs.x.is_f32() ? sizeof(float) : sizeof(double);
  BatchNormNumbers numbers{v,
                           tail,
                           inputs.weight.has_value(),
                           inputs.bias.has_value(),
                           inputs.pre_bias.has_value(),
                           inputs.residual.has_value(),
                           frozen};
  const py::object object = new_saved(kBatchNorm, Block::bytes(numbers, item));
  Saved& saved = saved_in(object);
  const Block block(saved, numbers, item);
  const Draw draw(a, rng_, tail);
  numbers.tail = tail;
  const index bad = by_dtype(inputs.x, [&](auto t) -> index {
    using T = decltype(t);
    const Computation computation(inputs.x.size());
    const BatchNorm<T> arguments = inputs.arguments<T>(tail, eps, y, across_in(across, true));
    if (!frozen) return batch_norm_train(arguments, mode, update, block.mean, block.invstd);
    batch_norm_frozen(arguments, update.mean, update.var, block.mean, block.invstd);
    return -1;
  });
  if (bad >= 0 && mode == Nonfinite::error) {
    draw.undo();
    throw py::value_error("x: expected finite batch statistics, got infinity or NaN in channel " + std::to_string(bad) +
                          "; nonfinite='skip' or 'allow' goes on");
  }
  keep(saved, 0, inputs.x.source());
  keep(saved, 1, source_or_none(inputs.residual));
  keep(saved, kKeptAcross, across);
  const auto copy = [](unsigned char* to, const std::optional<Array>& from) {
    if (from) std::memcpy(to, from->raw(), from->nbytes());
  };
  copy(block.weight, inputs.weight);
  copy(block.bias, inputs.bias);
  copy(block.pre_bias, inputs.pre_bias);
  numbers_of<BatchNormNumbers>(saved) = numbers;
  return tuple_of(y.object(), object);
}

py::object batch_norm_(const Arguments& a) {
  const double eps = a.number(eps_), dropped = probability(a, dropout_);
  if (!(eps > 0)) throw py::value_error("eps: expected a number > 0, got " + std::string(py::str(a[eps_])));
  a.number(momentum_);
  const bool training = a.truth(training_);
  const Spec* const spec = spec_in(a, activation_);
  const NormInputs inputs(a[x_], a[weight_], a[bias_], a[pre_bias_], a[residual_], a.integer(channel_axis_));
  TailArgs tail = tail_in(a, spec, training ? dropped : 0, first_, inputs.x.size());
  return training ? train(a, inputs, tail, eps) : infer(a, inputs, tail, eps);
}

py::object batch_norm_backward_(const Arguments& a) {
  enum { dy_, saved_, dx_ };
  Saved& saved = saved_of(a[saved_], kBatchNorm);
  const BatchNormNumbers& n = numbers_of<BatchNormNumbers>(saved);
  const Array x = in(saved.arrays[0], "the kept x");
  const Array dy = in(a[dy_], "dy", x);
  const Array dx = out(a[dx_], "out", x);
  const std::optional<Array> residual = maybe_in(saved.arrays[1], "the kept residual", x);
  if (a.given(dx_)) {
    refuse_overlap(dx, "out", x, "the kept x", false);
    if (residual) refuse_overlap(dx, "out", *residual, "the kept residual", false);
    refuse_overlap(dx, "out", dy, "dy", true);
  }
  // Without activation and dropout the gradient of the residual is dy itself.
  const bool passes = n.has_residual && n.tail.activation < 0 && n.tail.threshold < 0 && !overlap(dx, dy);
  const Dtype dtype = x.dtype();
  const Array dweight = empty({n.view.channels}, dtype), dbias = empty({n.view.channels}, dtype);
  std::optional<Array> dresidual, dpre_bias;
  if (n.has_residual && !passes) dresidual = empty_like(x);
  if (n.has_pre_bias) dpre_bias = empty({n.view.channels}, dtype);
  by_dtype(x, [&](auto t) {
    using T = decltype(t);
    const Block block(saved, n, sizeof(T));
    const Computation computation(x.size());
    batch_norm_gradient(BatchNormGradient<T>{
        n.view, dy.data<T>(), x.data<T>(), block.mean, block.invstd, reinterpret_cast<const T*>(block.weight),
        reinterpret_cast<const T*>(block.bias), reinterpret_cast<const T*>(block.pre_bias),
        n.tail.epilogue<T>(passes ? nullptr : data_or_null<T>(residual)), dx.data<T>(), dweight.data<T>(),
        dbias.data<T>(), data_or_null<T>(dresidual), data_or_null<T>(dpre_bias), n.frozen,
        across_in(saved.arrays[kKeptAcross], false)});
  });
  const py::object through = passes ? dy.source() : object_or_none(dresidual);
  if (n.has_residual && n.has_pre_bias)
    return tuple_of(dx.object(), dweight.object(), dbias.object(), through, dpre_bias->object());
  if (n.has_residual) return tuple_of(dx.object(), dweight.object(), dbias.object(), through);
  if (n.has_pre_bias) return tuple_of(dx.object(), dweight.object(), dbias.object(), dpre_bias->object());
  return tuple_of(dx.object(), dweight.object(), dbias.object());
}

}  // namespace

void bind_norm(py::module_&) {
  define({"batch_norm",
          {"x",
           "running_mean",
           "running_var",
           "weight",
           "bias",
           "training",
           "momentum",
           "eps",
           "pre_bias",
           "residual",
           "activation",
           "dropout",
           "rng",
           "channel_axis",
           "nonfinite",
           "momentum_convention",
           "running_ddof",
           "update_stats",
           "frozen",
           "first",
           "across",
           "out"},
          batch_norm_});
  define({"batch_norm_backward", {"dy", "saved", "out"}, batch_norm_backward_});
}

}  // namespace fastnn
