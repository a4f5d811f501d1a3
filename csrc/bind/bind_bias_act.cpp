#include "../ops/ops.hpp"
#include "epilogue_args.hpp"

namespace fastnn {
namespace {

py::object bias_act_forward(py::handle x_, py::handle bias_, py::handle residual_, py::handle out_, int channel_axis,
                            int act, double p0, double p1, int threshold, std::uint64_t seed, std::uint64_t position,
                            index first) {
  const TailArgs tail{act, p0, p1, threshold, seed, position, first};
  const Array x = in(x_, "x");
  View view{1, 1, x.size()};
  if (!bias_.is_none()) view = view_of(x, normalise_axis(x, "x", channel_axis));
  const std::optional<Array> bias = maybe_vec(bias_, "bias", view.channels, x);
  const std::optional<Array> residual = maybe_in(residual_, "residual", x);
  const Array y = out(out_, "out", x);
  refuse_overlap(y, "out", x, "x", true);
  if (bias) refuse_overlap(y, "out", *bias, "bias", false);
  if (residual) refuse_overlap(y, "out", *residual, "residual", true);
  by_dtype(x, [&](auto t) {
    using T = decltype(t);
    const Computation computation(x.size());
    const BiasAct<T> a{view, x.data<T>(), data_or_null<T>(bias), tail.epilogue<T>(residual), y.data<T>()};
    bias_act(a);
  });
  return y.object();
}

py::tuple bias_act_backward(py::handle dy_, py::handle kept_, bool kept_is_output, py::handle bias_,
                            py::handle residual_, py::handle dx_, bool want_dbias, int channel_axis, int act, double p0,
                            double p1, int threshold, std::uint64_t seed, std::uint64_t position, index first) {
  const TailArgs tail{act, p0, p1, threshold, seed, position, first};
  const Array dy = in(dy_, "dy");
  const std::optional<Array> kept = maybe_in(kept_, "saved", dy);
  View view{1, 1, dy.size()};
  if (want_dbias || !bias_.is_none()) view = view_of(dy, normalise_axis(dy, "dy", channel_axis));
  const std::optional<Array> bias = maybe_vec(bias_, "bias", view.channels, dy);
  const std::optional<Array> residual = maybe_in(residual_, "residual", dy);
  if (act >= 0 && !kept) throw py::value_error("saved: expected the product or the output, got None");
  const Array dx = out(dx_, "out", dy);
  refuse_overlap(dx, "out", dy, "dy", true);
  if (kept) refuse_overlap(dx, "out", *kept, "the kept array", true);
  if (bias) refuse_overlap(dx, "out", *bias, "bias", false);
  if (residual) refuse_overlap(dx, "out", *residual, "residual", true);
  std::optional<Array> dbias;
  if (want_dbias) dbias = empty({view.channels}, dy.dtype());
  by_dtype(dy, [&](auto t) {
    using T = decltype(t);
    const Computation computation(dy.size());
    const BiasActGradient<T> a{view,
                               dy.data<T>(),
                               data_or_null<T>(kept),
                               data_or_null<T>(bias),
                               kept_is_output,
                               tail.epilogue<T>(residual),
                               dx.data<T>(),
                               data_or_null<T>(dbias)};
    bias_act_gradient(a);
  });
  return py::make_tuple(dx.object(), object_or_none(dbias));
}

py::object channel_sum(py::handle x_, py::handle out_, int channel_axis) {
  const Array x = in(x_, "x");
  const View view = view_of(x, normalise_axis(x, "x", channel_axis));
  const Array sums = out(out_, "out", {view.channels}, x.dtype());
  refuse_overlap(sums, "out", x, "x", false);
  by_dtype(x, [&](auto t) {
    using T = decltype(t);
    const Computation computation(x.size());
    BiasActGradient<T> a{};
    a.view = view;
    a.dy = x.data<T>();
    a.tail.activation = -1;
    a.tail.threshold = -1;
    a.dbias = sums.data<T>();
    bias_act_gradient(a);
  });
  return sums.object();
}

}  // namespace

void bind_bias_act(py::module_& m) {
  m.def("bias_act", bias_act_forward);
  m.def("bias_act_backward", bias_act_backward);
  m.def("channel_sum", channel_sum);
}

}  // namespace fastnn
