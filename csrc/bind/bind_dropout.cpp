// Dropout of elements, of channels and for SELU, and noise: what draws from a random stream and nothing else.
#include <cmath>
#include <string>

#include "../ops/ops.hpp"
#include "epilogue_args.hpp"
#include "saved.hpp"

namespace fastnn {
namespace {

// All kinds of dropout multiply the gradient by the mask: dropout_backward takes what any of them keeps.
const SavedKind kDropout{"dropout", {nullptr}};

// Whose decision is whose: those of channels are (samples, repeats, channels, inner) in memory.
struct Planes {
  index samples, repeats, channels, inner;
  index decisions() const { return samples * channels; }
};
constexpr Planes kElements{0, 0, 0, 0};  // no channels: every element has its own

struct DropoutNumbers {
  Shape shape;
  TailArgs tail;
  Planes planes;
};

// y = keep ? x * keep_scale : 0
void drop(const Array& x, const TailArgs& tail, const Planes& p, const Array& y) {
  by_dtype(x, [&](auto t) {
    using T = decltype(t);
    const Computation computation(x.size());
    const Epilogue<T> e = tail.epilogue<T>(nullptr);
    if (p.channels > 0 && tail.threshold >= 0)
      drop_channels(ChannelDropout<T>{x.data<T>(), p.repeats, p.channels, p.inner, e, y.data<T>(), false}, p.samples);
    else
      bias_act(BiasAct<T>{{1, 1, x.size()}, x.data<T>(), nullptr, e, y.data<T>()});
  });
}

py::object result(const Array& y, bool training, const TailArgs& tail, const Planes& planes) {
  if (!training) return tuple_of(y.object(), py::none());
  const py::object saved = new_saved(kDropout, 0);
  numbers_of<DropoutNumbers>(saved_in(saved)) = {shape_of(y), tail, planes};
  return tuple_of(y.object(), saved);
}

py::object dropout_(const Arguments& a) {
  enum { x_, p_, training_, inverted_, rng_, first_, out_ };
  const double p = probability(a, p_);
  const bool training = a.truth(training_), inverted = a.truth(inverted_);
  const Array x = in(a[x_], "x");
  TailArgs tail = tail_in(a, nullptr, training ? p : 0, first_, x.size());
  if (!inverted) tail.keep_scale = 1;
  const Array y = out(a[out_], "out", x);
  if (a.given(out_)) refuse_overlap(y, "out", x, "x", true);
  const Draw draw(a, rng_, tail);
  if (training || inverted || p == 0)
    drop(x, tail, kElements, y);
  else
    by_dtype(x, [&](auto t) {
      using T = decltype(t);
      const Computation computation(x.size());
      scale(x.data<T>(), static_cast<T>(keep_threshold(p) / 65536.0), y.data<T>(), x.size());
    });
  return result(y, training, tail, kElements);
}

py::object dropout_backward_(const Arguments& a) {
  enum { dy_, saved_, out_ };
  const DropoutNumbers& n = numbers_of<DropoutNumbers>(saved_of(a[saved_], kDropout));
  const Array dy = in(a[dy_], "dy", n.shape);
  const Array dx = out(a[out_], "out", dy);
  if (a.given(out_)) refuse_overlap(dx, "out", dy, "dy", true);
  drop(dy, n.tail, n.planes, dx);
  return dx.object();
}

// Samples are along the first axis.
Planes planes_of(const Array& x, index channel_axis) {
  const int axis = normalise_axis(x, "x", channel_axis);
  if (axis == 0)
    throw py::value_error("channel_axis: expected an axis behind that of the samples, got " +
                          std::to_string(channel_axis));
  Planes p{x.shape(0), 1, x.shape(axis), 1};
  for (int d = 1; d < axis; ++d) p.repeats *= x.shape(d);
  for (int d = axis + 1; d < x.ndim(); ++d) p.inner *= x.shape(d);
  return p;
}

template <int Spatial>
py::object channel_dropout(const Arguments& a) {
  enum { x_, p_, training_, rng_, channel_axis_, first_, out_ };
  static const char* const shapes[] = {"(N, C, L)", "(N, C, H, W)", "(N, C, D, H, W)"};
  const double p = probability(a, p_);
  const bool training = a.truth(training_);
  const Array x = in(a[x_], "x");
  if (x.ndim() != Spatial + 2)
    throw py::value_error("x: expected " + std::to_string(Spatial + 2) + " dimensions, as in " + shapes[Spatial - 1] +
                          ", got " + std::to_string(x.ndim()));
  const Planes planes = planes_of(x, a.integer(channel_axis_));
  TailArgs tail = tail_in(a, nullptr, training ? p : 0, first_, planes.decisions());
  const Array y = out(a[out_], "out", x);
  if (a.given(out_)) refuse_overlap(y, "out", x, "x", true);
  const Draw draw(a, rng_, tail);
  drop(x, tail, planes, y);
  return result(y, training, tail, planes);
}

// What is dropped becomes selu(-inf); scale and shift bring mean 0 and variance 1 back.
struct AlphaFactors {
  double scale = 0, shift = 0, dropped = 0;
  explicit AlphaFactors(int threshold) {
    if (threshold <= 0) return;
    constexpr double limit = -1.7580993408473766;
    const double keep = threshold / 65536.0;
    scale = 1 / std::sqrt(keep * (1 + limit * limit * (1 - keep)));
    shift = -scale * limit * (1 - keep);
    dropped = scale * limit + shift;
  }
};

py::object alpha_dropout_(const Arguments& a) {
  enum { x_, p_, training_, rng_, first_, out_ };
  const double p = probability(a, p_);
  const bool training = a.truth(training_);
  const Array x = in(a[x_], "x");
  TailArgs tail = tail_in(a, nullptr, training ? p : 0, first_, x.size());
  const Array y = out(a[out_], "out", x);
  if (a.given(out_)) refuse_overlap(y, "out", x, "x", true);
  const Draw draw(a, rng_, tail);
  if (tail.threshold <= 0) {
    drop(x, tail, kElements, y);
  } else {
    by_dtype(x, [&](auto t) {
      using T = decltype(t);
      const Computation computation(x.size());
      const AlphaFactors f(tail.threshold);
      tail.keep_scale = f.scale;
      alpha_dropout(AlphaDropout<T>{x.data<T>(), static_cast<T>(f.shift), static_cast<T>(f.dropped),
                                    tail.epilogue<T>(nullptr), y.data<T>(), false},
                    x.size());
    });
  }
  return result(y, training, tail, kElements);
}

double finite(const Arguments& a, int place) {
  const double value = a.number(place);
  if (!std::isfinite(value))
    throw py::value_error(std::string(a.name(place)) + ": expected a finite number, got " +
                          std::string(py::str(a[place])));
  return value;
}

py::object gaussian_noise_(const Arguments& a) {
  enum { x_, std_, training_, mean_, rng_, first_, out_ };
  const double deviation = finite(a, std_), mean = finite(a, mean_);
  if (deviation < 0) throw py::value_error("std: expected a number >= 0, got " + std::string(py::str(a[std_])));
  const bool training = a.truth(training_);
  const Array x = in(a[x_], "x");
  TailArgs tail = tail_in(a, nullptr, training ? 1 : 0, first_, x.size());  // in training, a position is drawn
  const Array y = out(a[out_], "out", x);
  if (a.given(out_)) refuse_overlap(y, "out", x, "x", true);
  const Draw draw(a, rng_, tail);
  if (!training) {
    drop(x, tail, kElements, y);
  } else {
    by_dtype(x, [&](auto t) {
      using T = decltype(t);
      const Computation computation(x.size());
      noise(Noise<T>{x.data<T>(), true, static_cast<T>(deviation), static_cast<T>(mean), tail.epilogue<T>(nullptr),
                     y.data<T>(), false},
            x.size());
    });
  }
  return y.object();
}

// out = z * scale + shift with the stream of (seed, position)
void random_fill(py::handle out, std::uint64_t seed, std::uint64_t position, bool normal, double scale, double shift) {
  const Array y = update(out, "out");
  TailArgs tail = no_tail;
  tail.seed = seed;
  tail.position = position;
  by_dtype(y, [&](auto t) {
    using T = decltype(t);
    const Computation computation(y.size());
    noise(Noise<T>{nullptr, normal, static_cast<T>(scale), static_cast<T>(shift), tail.epilogue<T>(nullptr),
                   y.data<T>(), false},
          y.size());
  });
}

}  // namespace

void bind_dropout(py::module_& m) {
  define({"dropout", {"x", "p", "training", "inverted", "rng", "first", "out"}, dropout_});
  define({"dropout_backward", {"dy", "saved", "out"}, dropout_backward_});
  const std::vector<const char*> by_channel{"x", "p", "training", "rng", "channel_axis", "first", "out"};
  define({"dropout1d", by_channel, channel_dropout<1>});
  define({"dropout2d", by_channel, channel_dropout<2>});
  define({"dropout3d", by_channel, channel_dropout<3>});
  define({"alpha_dropout", {"x", "p", "training", "rng", "first", "out"}, alpha_dropout_});
  define({"gaussian_noise", {"x", "std", "training", "mean", "rng", "first", "out"}, gaussian_noise_});
  m.def("random_fill", random_fill, py::arg("out"), py::arg("seed"), py::arg("position"), py::arg("normal"),
        py::arg("scale"), py::arg("shift"));
}

}  // namespace fastnn
