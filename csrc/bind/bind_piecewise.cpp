// prelu and maxout: activations with gradients of their own.
#include <string>
#include <vector>

#include "../ops/ops.hpp"
#include "epilogue_args.hpp"
#include "saved.hpp"

namespace fastnn {
namespace {

// Numbers of the chosen pieces, a byte each.
const SavedKind kMaxout{"maxout", {nullptr}};

struct MaxoutNumbers {
  Shape shape;
  int axis;
  index pieces;
};

// The slopes of x, and x as they see it: one slope is for all elements, whatever the channels.
struct Slopes {
  View view;
  Array weight;

  Slopes(const Array& x, py::handle given, index channel_axis) : view{1, 1, x.size()}, weight(in(given, "weight")) {
    if (weight.ndim() != 1 || weight.size() != 1) view = view_of(x, normalise_axis(x, "x", channel_axis));
    weight = vec(weight.source(), "weight", view.channels, x);
  }
};

py::object prelu_(const Arguments& a) {
  enum { x_, weight_, channel_axis_, out_ };
  const Array x = in(a[x_], "x");
  const Slopes slopes(x, a[weight_], a.integer(channel_axis_));
  const Array y = out(a[out_], "out", x);
  refuse_overlap(y, "out", x, "x", true);
  refuse_overlap(y, "out", slopes.weight, "weight", false);
  by_dtype(x, [&](auto t) {
    using T = decltype(t);
    const Computation computation(x.size());
    prelu(Prelu<T>{slopes.view, x.data<T>(), slopes.weight.data<T>(), y.data<T>()});
  });
  return y.object();
}

py::object prelu_backward_(const Arguments& a) {
  enum { dy_, x_, weight_, channel_axis_, out_ };
  const Array dy = in(a[dy_], "dy");
  const Array x = in(a[x_], "x", dy);
  const Slopes slopes(x, a[weight_], a.integer(channel_axis_));
  const Array dx = out(a[out_], "out", dy);
  refuse_overlap(dx, "out", dy, "dy", true);
  refuse_overlap(dx, "out", x, "x", true);
  refuse_overlap(dx, "out", slopes.weight, "weight", false);
  const Array dweight = empty_like(slopes.weight);
  by_dtype(x, [&](auto t) {
    using T = decltype(t);
    const Computation computation(x.size());
    prelu_gradient(PreluGradient<T>{slopes.view, dy.data<T>(), x.data<T>(), slopes.weight.data<T>(), dx.data<T>(),
                                    dweight.data<T>()});
  });
  return tuple_of(dx.object(), dweight.object());
}

std::vector<index> shape_with(const Array& like, int axis, index length) {
  std::vector<index> shape;
  for (int d = 0; d < like.ndim(); ++d) shape.push_back(d == axis ? length : like.shape(d));
  return shape;
}

py::object maxout_(const Arguments& a) {
  enum { x_, pieces_, axis_, out_ };
  const Array x = in(a[x_], "x");
  const index pieces = a.integer(pieces_);
  if (pieces < 1 || pieces > kMaxPieces)
    throw py::value_error("pieces: expected 1 to " + std::to_string(kMaxPieces) + ", got " + std::to_string(pieces));
  const int axis = normalise_axis(x, "x", a.integer(axis_), "axis");
  if (x.shape(axis) % pieces != 0)
    throw py::value_error("x: expected a multiple of pieces = " + std::to_string(pieces) + " channels along axis " +
                          std::to_string(axis) + ", got " + std::to_string(x.shape(axis)));
  const Array y = out(a[out_], "out", shape_with(x, axis, x.shape(axis) / pieces), x.dtype());
  refuse_overlap(y, "out", x, "x", false);
  const py::object object = new_saved(kMaxout, static_cast<std::size_t>(y.size()));
  Saved& saved = saved_in(object);
  numbers_of<MaxoutNumbers>(saved) = {shape_of(y), axis, pieces};
  by_dtype(x, [&](auto t) {
    using T = decltype(t);
    const Computation computation(x.size());
    maxout(Maxout<T>{x.data<T>(), pieces, view_of(x, axis).inner, y.data<T>(), saved.block, false}, y.size());
  });
  return tuple_of(y.object(), object);
}

py::object maxout_backward_(const Arguments& a) {
  enum { dy_, saved_, out_ };
  Saved& saved = saved_of(a[saved_], kMaxout);
  const MaxoutNumbers& n = numbers_of<MaxoutNumbers>(saved);
  const Array dy = in(a[dy_], "dy", n.shape);
  const Array dx = out(a[out_], "out", shape_with(dy, n.axis, dy.shape(n.axis) * n.pieces), dy.dtype());
  refuse_overlap(dx, "out", dy, "dy", false);
  by_dtype(dy, [&](auto t) {
    using T = decltype(t);
    const Computation computation(dx.size());
    maxout_gradient(
        MaxoutGradient<T>{dy.data<T>(), saved.block, n.pieces, view_of(dy, n.axis).inner, dx.data<T>(), false},
        dy.size());
  });
  return dx.object();
}

}  // namespace

void bind_piecewise(py::module_&) {
  define({"prelu", {"x", "weight", "channel_axis", "out"}, prelu_});
  define({"prelu_backward", {"dy", "x", "weight", "channel_axis", "out"}, prelu_backward_});
  define({"maxout", {"x", "pieces", "axis", "out"}, maxout_});
  define({"maxout_backward", {"dy", "saved", "out"}, maxout_backward_});
}

}  // namespace fastnn
