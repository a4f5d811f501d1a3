#include <cmath>
#include <string>

#include "../ops/ops.hpp"
#include "epilogue_args.hpp"

namespace fastnn {
namespace {

// The arrays both ways of batch norm take.
struct NormInputs {
  Array x;
  View view;
  std::optional<Array> weight, bias, pre_bias, residual;

  NormInputs(py::handle x_, py::handle weight_, py::handle bias_, py::handle pre_bias_, py::handle residual_,
             int channel_axis)
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
  BatchNorm<T> arguments(const TailArgs& tail, double eps, const Array& y) const {
    return {view,
            x.data<T>(),
            data_or_null<T>(weight),
            data_or_null<T>(bias),
            data_or_null<T>(pre_bias),
            tail.epilogue<T>(residual),
            eps,
            y.data<T>()};
  }
};

RunningStatistic statistic(const std::optional<Array>& a) {
  if (!a) return {nullptr, false};
  return {a->raw(), a->is_f32()};
}

py::tuple batch_norm_train_(py::handle x_, py::handle weight_, py::handle bias_, py::handle pre_bias_,
                            py::handle residual_, py::handle out_, py::handle running_mean_, py::handle running_var_,
                            double momentum, double eps, int nonfinite, int channel_axis, int act, double p0, double p1,
                            int threshold, std::uint64_t seed, std::uint64_t position, index first) {
  const TailArgs tail{act, p0, p1, threshold, seed, position, first};
  const NormInputs inputs(x_, weight_, bias_, pre_bias_, residual_, channel_axis);
  const View& v = inputs.view;
  const std::optional<Array> running_mean = maybe_update_vec(running_mean_, "running_mean", v.channels);
  const std::optional<Array> running_var = maybe_update_vec(running_var_, "running_var", v.channels);
  if (v.outer * v.inner < 2)
    throw py::value_error("x: expected at least two values per channel in training, got " +
                          std::to_string(v.outer * v.inner) +
                          "; use a larger batch (drop a last batch of one), or training=False");
  const Array y = out(out_, "out", inputs.x);
  inputs.refuse_overlaps(y, "out", false);
  if (running_mean && running_var) {
    refuse_overlap(*running_mean, "running_mean", *running_var, "running_var", false);
    refuse_overlap(y, "out", *running_mean, "running_mean", false);
    refuse_overlap(y, "out", *running_var, "running_var", false);
    inputs.refuse_overlaps(*running_mean, "running_mean", false);
    inputs.refuse_overlaps(*running_var, "running_var", false);
  }
  const Array mean = empty({v.channels}, Dtype::f64), invstd = empty({v.channels}, Dtype::f64);
  const auto mode = static_cast<Nonfinite>(nonfinite);
  const index bad = by_dtype(inputs.x, [&](auto t) {
    using T = decltype(t);
    const Computation computation(inputs.x.size());
    const BatchNorm<T> a = inputs.arguments<T>(tail, eps, y);
    return batch_norm_train(a, momentum, mode, statistic(running_mean), statistic(running_var), mean.data<double>(),
                            invstd.data<double>());
  });
  if (bad >= 0 && mode == Nonfinite::error)
    throw py::value_error("x: expected finite batch statistics, got infinity or NaN in channel " + std::to_string(bad) +
                          "; nonfinite='skip' or 'allow' goes on");
  return py::make_tuple(y.object(), mean.object(), invstd.object());
}

py::object batch_norm_infer_(py::handle x_, py::handle running_mean_, py::handle running_var_, py::handle weight_,
                             py::handle bias_, py::handle pre_bias_, py::handle residual_, py::handle out_, double eps,
                             int channel_axis, int act, double p0, double p1) {
  const TailArgs tail{act, p0, p1, -1, 0, 0, 0};
  const NormInputs inputs(x_, weight_, bias_, pre_bias_, residual_, channel_axis);
  const Array running_mean = vec(running_mean_, "running_mean", inputs.view.channels);
  const Array running_var = vec(running_var_, "running_var", inputs.view.channels);
  const Array y = out(out_, "out", inputs.x);
  inputs.refuse_overlaps(y, "out", true);
  refuse_overlap(y, "out", running_mean, "running_mean", false);
  refuse_overlap(y, "out", running_var, "running_var", false);
  by_dtype(inputs.x, [&](auto t) {
    using T = decltype(t);
    const Computation computation(inputs.x.size());
    const BatchNorm<T> a = inputs.arguments<T>(tail, eps, y);
    batch_norm_infer(a, statistic(running_mean), statistic(running_var));
  });
  return y.object();
}

py::tuple batch_norm_backward_(py::handle dy_, py::handle x_, py::handle mean_, py::handle invstd_, py::handle weight_,
                               py::handle bias_, py::handle pre_bias_, py::handle residual_, py::handle dx_,
                               int channel_axis, int act, double p0, double p1, int threshold, std::uint64_t seed,
                               std::uint64_t position, index first) {
  const TailArgs tail{act, p0, p1, threshold, seed, position, first};
  const NormInputs inputs(x_, weight_, bias_, pre_bias_, residual_, channel_axis);
  const View& v = inputs.view;
  const Array dy = in(dy_, "dy", inputs.x);
  const Array mean = vec(mean_, "mean", v.channels), invstd = vec(invstd_, "invstd", v.channels);
  const Array dx = out(dx_, "out", inputs.x);
  inputs.refuse_overlaps(dx, "out", false);
  refuse_overlap(dx, "out", dy, "dy", true);
  const Dtype dtype = inputs.x.dtype();
  const Array dweight = empty({v.channels}, dtype), dbias = empty({v.channels}, dtype);
  std::optional<Array> dresidual, dpre_bias;
  if (inputs.residual) dresidual = empty_like(inputs.x);
  if (inputs.pre_bias) dpre_bias = empty({v.channels}, dtype);
  by_dtype(inputs.x, [&](auto t) {
    using T = decltype(t);
    const Computation computation(inputs.x.size());
    const BatchNormGradient<T> a{v,
                                 dy.data<T>(),
                                 inputs.x.data<T>(),
                                 mean.data<double>(),
                                 invstd.data<double>(),
                                 data_or_null<T>(inputs.weight),
                                 data_or_null<T>(inputs.bias),
                                 data_or_null<T>(inputs.pre_bias),
                                 tail.epilogue<T>(inputs.residual),
                                 dx.data<T>(),
                                 dweight.data<T>(),
                                 dbias.data<T>(),
                                 data_or_null<T>(dresidual),
                                 data_or_null<T>(dpre_bias)};
    batch_norm_gradient(a);
  });
  return py::make_tuple(dx.object(), dweight.object(), dbias.object(), object_or_none(dresidual),
                        object_or_none(dpre_bias));
}

}  // namespace

void bind_norm(py::module_& m) {
  m.def("batch_norm_train", batch_norm_train_);
  m.def("batch_norm_infer", batch_norm_infer_);
  m.def("batch_norm_backward", batch_norm_backward_);
}

}  // namespace fastnn
