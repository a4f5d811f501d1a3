// bias_act and channel_sum: what follows a matrix product.
#include <cstring>

#include "../ops/ops.hpp"
#include "epilogue_args.hpp"
#include "saved.hpp"

namespace fastnn {
namespace {

// The output where it determines the gradient, else the input; nothing without an activation.
const SavedKind kBiasAct{"bias_act", {"kept", "residual", nullptr}};

struct BiasActNumbers {
  Shape shape;
  TailArgs tail;
  index channel_axis;
  bool kept_is_output, has_bias, has_residual;
};

template <class T>
const T* copied(Saved& saved) {
  return reinterpret_cast<const T*>(saved.block);
}

void run(const Array& x, const View& view, const std::optional<Array>& bias, const std::optional<Array>& residual,
         const TailArgs& tail, const Array& y) {
  by_dtype(x, [&](auto t) {
    using T = decltype(t);
    const Computation computation(x.size());
    bias_act(
        BiasAct<T>{view, x.data<T>(), data_or_null<T>(bias), tail.epilogue<T>(data_or_null<T>(residual)), y.data<T>()});
  });
}

py::object bias_act_(const Arguments& a) {
  enum { x_, bias_, residual_, activation_, dropout_, rng_, training_, channel_axis_, first_, out_ };
  const bool training = a.truth(training_);
  const Spec* const spec = spec_in(a, activation_);
  const double p = probability(a, dropout_);
  const double dropped = training ? p : 0;
  const bool keeps_output = spec && spec->from_output && (dropped == 0 || spec->sign_only);
  const bool keeps_input = training && spec && !keeps_output;

  const Array x = in(a[x_], "x");
  const index axis = a.integer(channel_axis_);
  View view{1, 1, x.size()};
  if (a.given(bias_)) view = view_of(x, normalise_axis(x, "x", axis));
  const std::optional<Array> bias = maybe_vec(a[bias_], "bias", view.channels, x);
  const std::optional<Array> residual = maybe_in(a[residual_], "residual", x);
  TailArgs tail = tail_in(a, spec, dropped, first_, x.size());
  const Array y = out(a[out_], "out", x);
  if (a.given(out_)) {
    refuse_overlap(y, "out", x, keeps_input ? "x, which backward of this activation needs" : "x", !keeps_input);
    if (bias) refuse_overlap(y, "out", *bias, "bias", false);
    if (residual)
      refuse_overlap(y, "out", *residual,
                     keeps_input ? "residual, which backward of this activation needs" : "residual", !keeps_input);
  }
  const Draw draw(a, rng_, tail);
  run(x, view, bias, residual, tail, y);
  if (!training) return tuple_of(y.object(), py::none());

  const bool copies_bias = keeps_input && bias;
  const py::object object = new_saved(kBiasAct, copies_bias ? bias->nbytes() : 0);
  Saved& saved = saved_in(object);
  if (keeps_input) {
    keep(saved, 0, x.source());
    keep(saved, 1, source_or_none(residual));
  } else if (keeps_output) {
    keep(saved, 0, y.object());
  }
  if (copies_bias) std::memcpy(saved.block, bias->raw(), bias->nbytes());
  numbers_of<BiasActNumbers>(saved) = {shape_of(y), tail, axis, keeps_output, bias.has_value(), residual.has_value()};
  return tuple_of(y.object(), object);
}

py::object bias_act_backward_(const Arguments& a) {
  enum { dy_, saved_, out_ };
  Saved& saved = saved_of(a[saved_], kBiasAct);
  const BiasActNumbers& n = numbers_of<BiasActNumbers>(saved);
  const Array dy = in(a[dy_], "dy", n.shape);
  const std::optional<Array> kept = maybe_in(saved.arrays[0], "saved", dy);
  const std::optional<Array> residual = maybe_in(saved.arrays[1], "the kept residual", dy);
  View view{1, 1, dy.size()};
  if (n.has_bias) view = view_of(dy, normalise_axis(dy, "dy", n.channel_axis));
  // Without activation and dropout the gradient passes unchanged: dy itself is dx.
  const bool passes = !a.given(out_) && !kept && n.tail.threshold < 0;
  std::optional<Array> dx;
  if (!passes) {
    dx = out(a[out_], "out", dy);
    refuse_overlap(*dx, "out", dy, "dy", true);
    if (kept) refuse_overlap(*dx, "out", *kept, n.kept_is_output ? "the kept output" : "the kept x", n.kept_is_output);
    if (residual) refuse_overlap(*dx, "out", *residual, "the kept residual", false);
  }
  std::optional<Array> dbias;
  if (n.has_bias) dbias = empty({view.channels}, dy.dtype());
  if (!passes || dbias)
    by_dtype(dy, [&](auto t) {
      using T = decltype(t);
      const Computation computation(dy.size());
      bias_act_gradient(BiasActGradient<T>{view, dy.data<T>(), data_or_null<T>(kept),
                                           n.has_bias && kept && !n.kept_is_output ? copied<T>(saved) : nullptr,
                                           n.kept_is_output, n.tail.epilogue<T>(data_or_null<T>(residual)),
                                           data_or_null<T>(dx), data_or_null<T>(dbias)});
    });
  const py::object gradient = passes ? dy.source() : dx->object();
  const py::object sums = object_or_none(dbias);
  return n.has_residual ? tuple_of(gradient, sums, gradient) : tuple_of(gradient, sums);
}

py::object channel_sum_(const Arguments& a) {
  enum { x_, channel_axis_, out_ };
  const Array x = in(a[x_], "x");
  const View view = view_of(x, normalise_axis(x, "x", a.integer(channel_axis_)));
  const Array sums = out(a[out_], "out", {view.channels}, x.dtype());
  refuse_overlap(sums, "out", x, "x", false);
  by_dtype(x, [&](auto t) {
    using T = decltype(t);
    const Computation computation(x.size());
    BiasActGradient<T> gradient{};
    gradient.view = view;
    gradient.dy = x.data<T>();
    gradient.tail = no_tail.epilogue<T>(nullptr);
    gradient.dbias = sums.data<T>();
    bias_act_gradient(gradient);
  });
  return sums.object();
}

}  // namespace

void bind_bias_act(py::module_&) {
  define({"bias_act",
          {"x", "bias", "residual", "activation", "dropout", "rng", "training", "channel_axis", "first", "out"},
          bias_act_});
  define({"bias_act_backward", {"dy", "saved", "out"}, bias_act_backward_});
  define({"channel_sum", {"x", "channel_axis", "out"}, channel_sum_});
}

}  // namespace fastnn
