// The epilogue: residual -> activation -> dropout, and its gradient.
//
//   v = source(i) + residual        source: the producer's own formula over a segment
//   y = keep ? f(v) * keep_scale : 0
//   dv = f'(v) * (keep ? dy * keep_scale : 0)
//
// none, relu and leaky_relu are compiled into one loop with the source; every other activation is a block function
// of the activation table, applied to a block while it is in L1. The mask is replayed from its counter.
#pragma once
#include "activations.hpp"
#include "loops.hpp"
#include "random.hpp"

namespace fastnn {
namespace {

template <class T>
struct Identity {
  static FASTNN_INLINE T forward(T x, T, T) { return x; }
  static FASTNN_INLINE T backward(T dy, T, T, T) { return dy; }
};

// The parameter of a channel, or those of a row from an entry on.
template <class T, bool Rows>
struct Parameter;

template <class T>
struct Parameter<T, false> {
  T one;
  FASTNN_INLINE explicit Parameter(const T* at) : one(*at) {}
  FASTNN_INLINE T operator[](index) const { return one; }
};

template <class T>
struct Parameter<T, true> {
  const T* FASTNN_RESTRICT each;
  FASTNN_INLINE explicit Parameter(const T* at) : each(at) {}
  FASTNN_INLINE T operator[](index i) const { return each[i]; }
};

template <class T>
constexpr T kNothing = T(-0.0);  // added to anything, it leaves it as it was

// What a producer makes of a segment of x, whose parameters are those from entry p of the map on. A norm finds the bias
// in x already, and subtracts the mean first: x * alpha + beta would lose a mean of 1e4 with a deviation of 0.1.
//   centred(i, shift)  x + bias, or x less the mean, `shift` elements further on
//   affine(c, i)       what reaches the residual
template <class T, bool Rows, bool Normalised>
struct Source;

template <class T, bool Rows>
struct Source<T, Rows, false> {
  static constexpr bool rows = Rows, normalised = false;
  const T* FASTNN_RESTRICT x;
  Parameter<T, Rows> bias;
  FASTNN_INLINE Source(const T* x_, const ChannelMap<T>& m, index p) : x(x_), bias(m.bias + p) {}
  FASTNN_INLINE T centred(index i, index shift = 0) const { return x[i + shift] + bias[i]; }
  FASTNN_INLINE T affine(T c, index) const { return c; }
};

template <class T, bool Rows>
struct Source<T, Rows, true> {
  static constexpr bool rows = Rows, normalised = true;
  const T* FASTNN_RESTRICT x;
  Parameter<T, Rows> mean, scale, beta;
  FASTNN_INLINE Source(const T* x_, const ChannelMap<T>& m, index p)
      : x(x_), mean(m.mean + p), scale(m.scale + p), beta(m.beta + p) {}
  FASTNN_INLINE T centred(index i, index shift = 0) const { return x[i + shift] - mean[i]; }
  FASTNN_INLINE T affine(T c, index i) const { return c * scale[i] + beta[i]; }
};

template <class T, bool Rows>
FASTNN_NOINLINE void add_bias(const T* x, const ChannelMap<T>& map, index g, T* FASTNN_RESTRICT sum, index n) {
  for_segments<Rows>(map, g, n, [&](index at, index length, index p) {
    const Parameter<T, Rows> bias(map.bias + p);
    for (index i = at; i < at + length; ++i) sum[i] = x[i] + bias[i - at];
  });
}

// y may be x or the residual itself: every element is read before it is written.
template <class T, template <class> class A, bool Residual, bool Dropped, class S>
FASTNN_INLINE void forward_loop(const S& source, const T* residual, const Epilogue<T>& e, const Mask* keep, T* y,
                                index n) {
  const T p0 = e.p0, p1 = e.p1, scale = e.keep_scale;
#pragma GCC ivdep
  for (index i = 0; i < n; ++i) {
    T v = source.affine(source.centred(i), i);
    if constexpr (Residual) v = v + residual[i];
    v = A<T>::forward(v, p0, p1);
    if constexpr (Dropped) v = kept(v * scale, keep[i]);
    y[i] = v;
  }
}

// dz = dy * f'(v); dz may be dy itself.
template <class T, template <class> class A, bool Residual, bool Dropped, class S>
FASTNN_INLINE void backward_loop(const S& source, const T* dy, const T* residual, const Epilogue<T>& e,
                                 const Mask* keep, T* dz, index n) {
  const T p0 = e.p0, p1 = e.p1, scale = e.keep_scale;
#pragma GCC ivdep
  for (index i = 0; i < n; ++i) {
    T v = source.affine(source.centred(i), i);
    if constexpr (Residual) v = v + residual[i];
    T d = dy[i];
    if constexpr (Dropped) d = kept(d * scale, keep[i]);
    dz[i] = A<T>::backward(d, v, p0, p1);
  }
}

// y = keep ? x * scale : 0; y may be x itself.
template <class T>
FASTNN_INLINE void drop_block(const T* x, T scale, const Mask* keep, T* y, index n) {
#pragma GCC ivdep
  for (index i = 0; i < n; ++i) y[i] = kept(x[i] * scale, keep[i]);
}

template <bool Value>
struct Flag {
  constexpr operator bool() const { return Value; }
};

// Calls loop(Flag, Flag), compiled for each case.
template <class Loop>
FASTNN_INLINE void with_flags(bool first, bool second, const Loop& loop) {
  if (first)
    second ? loop(Flag<true>(), Flag<true>()) : loop(Flag<true>(), Flag<false>());
  else
    second ? loop(Flag<false>(), Flag<true>()) : loop(Flag<false>(), Flag<false>());
}

enum class Fused { none, relu, leaky_relu, block };

template <class T>
FASTNN_INLINE Fused fused_activation(const Epilogue<T>& e) {
  switch (e.activation) {
    case -1:
      return Fused::none;
    case 0:
      return Fused::relu;
    case 1:
      return Fused::leaky_relu;
    default:
      return Fused::block;
  }
}

// A gradient on its way back through the epilogue, and the activation that it has not passed yet.
template <class T>
struct Incoming {
  const T* dy;
  Fused left;
};

// The epilogue over one kernel call, n <= kBlock elements at a time.
template <class T, class S>
class EpilogueRunner {
 public:
  FASTNN_INLINE EpilogueRunner(const T* x, const ChannelMap<T>& map, const Epilogue<T>& e, bool x_is_output)
      : x_(x), map_(map), e_(e), fused_(fused_activation(e)), x_is_output_(x_is_output), masks_(e.key, e.threshold) {
    // relu's output is 0 wherever an element was dropped, so its gradient needs no bits.
    replay_ = !(x_is_output && fused_ == Fused::relu && e.threshold > 0);
    if (!replay_)
      for (Mask& mask : mask_) mask = -1;
  }

  // y = the output for n elements from g on.
  FASTNN_NOINLINE void forward(index g, index n, T* y) {
    take(g, n);
    const T* const residual = residual_at(g);
    const Mask* const keep = masks(g, n, x_ + g, residual, y);
    if (fused_ == Fused::relu) return forward_any<Relu>(g, n, residual, keep, y);
    if (fused_ == Fused::leaky_relu) return forward_any<LeakyRelu>(g, n, residual, keep, y);
    if (fused_ == Fused::none) return forward_any<Identity>(g, n, residual, keep, y);
    forward_any<Identity>(g, n, residual, nullptr, y);
    activation_table<T>[e_.activation].forward(y, y, n, e_.p0, e_.p1);
    if (keep) drop_block(y, e_.keep_scale, keep, y, n);
  }

  // The gradient after dropout; after the activation as well where `all` is asked for or where the activation is not
  // one of those that loops have compiled in (or has a residual to add first). Written to `to` where anything has to be
  // done.
  FASTNN_NOINLINE Incoming<T> backward(index g, index n, const T* dy, T* to, bool all) {
    take(g, n);
    const T* const residual = residual_at(g);
    const bool activated = fused_ != Fused::none && (all || residual || fused_ == Fused::block);
    Incoming<T> d{dy, fused_};
    const Mask* keep = masks(g, n, dy, x_ + g != dy ? x_ + g : nullptr, to);
    if (keep && (!activated || fused_ == Fused::block)) {
      drop_block(dy, e_.keep_scale, keep, to, n);
      d.dy = to;
      keep = nullptr;
    }
    if (!activated) return d;
    pass_activation(g, n, residual, d.dy, keep, to);
    return {to, Fused::none};
  }

  // Before anything is made of n elements from g on. To a norm they come with the bias: whoever has none, which is the
  // usual case, does not pay for it.
  FASTNN_INLINE void take(index g, index n) {
    here_ = x_ + g;
    if constexpr (S::normalised)
      if (map_.bias) {
        add_bias<T, S::rows>(here_, map_, g, biased_, n);
        here_ = biased_;
      }
  }

  // What was taken last.
  FASTNN_INLINE const T* x() const { return here_; }
  FASTNN_INLINE S source(index at, index p) const { return S(here_ + at, map_, p); }

  // Calls segment(source, at, n, p) for the stretches of it that one set of parameters serves.
  template <class Segment>
  FASTNN_INLINE void for_sources(index g, index n, const Segment& segment) const {
    for_segments<S::rows>(map_, g, n, [&](index at, index length, index p) { segment(source(at, p), at, length, p); });
  }

 private:
  // The masks of n elements from g on, and meanwhile what they are used with: x, x2 (or nullptr), and y.
  FASTNN_INLINE const Mask* masks(index g, index n, const T* x, const T* x2, const T* y) {
    if (e_.threshold < 0) return nullptr;
    if (!replay_) return mask_;
    return masks_.draw(e_.first + g, n, mask_, KeepMasks::Lines<T>{{x, x2, y}});
  }

  // What was added before the activation; the output holds it already.
  FASTNN_INLINE const T* residual_at(index g) const { return e_.residual && !x_is_output_ ? e_.residual + g : nullptr; }

  FASTNN_INLINE void pass_activation(index g, index n, const T* residual, const T* dy, const Mask* keep, T* to) {
    if (fused_ == Fused::relu) return backward_any<Relu>(g, n, dy, keep, residual, to);
    if (fused_ == Fused::leaky_relu) return backward_any<LeakyRelu>(g, n, dy, keep, residual, to);
    const ActivationKernel<T>& f = activation_table<T>[e_.activation];
    if (x_is_output_) return f.backward_output(dy, x_ + g, to, n, e_.p0, e_.p1);
    T v[kBlock];
    forward_any<Identity>(g, n, residual, nullptr, v);
    f.backward(dy, v, to, n, e_.p0, e_.p1);
  }

  template <template <class> class A>
  FASTNN_INLINE void forward_any(index g, index n, const T* residual, const Mask* keep, T* y) {
    with_flags(residual, keep, [&](auto added, auto dropped) {
      for_sources(g, n, [&](const S& source, index at, index length, index) {
        forward_loop<T, A, added, dropped>(source, residual + (added ? at : 0), e_, keep + (dropped ? at : 0), y + at,
                                           length);
      });
    });
  }

  template <template <class> class A>
  FASTNN_INLINE void backward_any(index g, index n, const T* dy, const Mask* keep, const T* residual, T* dz) {
    with_flags(residual, keep, [&](auto added, auto dropped) {
      for_sources(g, n, [&](const S& source, index at, index length, index) {
        backward_loop<T, A, added, dropped>(source, dy + at, residual + (added ? at : 0), e_, keep + (dropped ? at : 0),
                                            dz + at, length);
      });
    });
  }

  const T *x_, *here_ = nullptr;
  const ChannelMap<T>& map_;
  const Epilogue<T>& e_;
  Fused fused_;
  bool x_is_output_, replay_;
  KeepMasks masks_;
  Mask mask_[KeepMasks::kStrip];
  T biased_[S::normalised ? kBlock : 1];
};

}  // namespace
}  // namespace fastnn
