// The epilogue: residual -> activation -> dropout, and its gradient.
//
//   v = source(i) + residual        source: the producer's own formula, a functor over a segment
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

// Sources. Pointers are at the first element of a strip; `shift` leads to another strip with the same parameters.
//   centred(i)   x + bias, less the mean where there is one
//   affine(c)    what reaches the residual
template <class T, bool Rows, bool Centred>
struct Source;

template <class T>
struct Source<T, false, false> {
  static constexpr bool rows = false;
  const T* FASTNN_RESTRICT x;
  T bias;
  FASTNN_INLINE Source(const T* x_, const ChannelMap<T>& m, index p) : x(x_), bias(m.bias[p]) {}
  FASTNN_INLINE T centred(index i, index shift) const { return x[i + shift] + bias; }
  FASTNN_INLINE T affine(T c, index) const { return c; }
};

template <class T>
struct Source<T, true, false> {
  static constexpr bool rows = true;
  const T* FASTNN_RESTRICT x;
  const T* FASTNN_RESTRICT bias;
  FASTNN_INLINE Source(const T* x_, const ChannelMap<T>& m, index p) : x(x_), bias(m.bias + p) {}
  FASTNN_INLINE T centred(index i, index shift) const { return x[i + shift] + bias[i]; }
  FASTNN_INLINE T affine(T c, index) const { return c; }
};

// Normalised: the mean is subtracted in two parts, because x * alpha + beta loses it (mean 1e4, std 0.1).
template <class T>
struct Source<T, false, true> {
  static constexpr bool rows = false;
  const T* FASTNN_RESTRICT x;
  T bias, hi, lo, scale, beta;
  FASTNN_INLINE Source(const T* x_, const ChannelMap<T>& m, index p)
      : x(x_), bias(m.bias[p]), hi(m.hi[p]), lo(m.lo[p]), scale(m.scale[p]), beta(m.beta[p]) {}
  FASTNN_INLINE T centred(index i, index shift) const { return ((x[i + shift] + bias) - hi) - lo; }
  FASTNN_INLINE T affine(T c, index) const { return c * scale + beta; }
};

template <class T>
struct Source<T, true, true> {
  static constexpr bool rows = true;
  const T* FASTNN_RESTRICT x;
  const T *FASTNN_RESTRICT bias, *FASTNN_RESTRICT hi, *FASTNN_RESTRICT lo, *FASTNN_RESTRICT scale,
      *FASTNN_RESTRICT beta;
  FASTNN_INLINE Source(const T* x_, const ChannelMap<T>& m, index p)
      : x(x_), bias(m.bias + p), hi(m.hi + p), lo(m.lo + p), scale(m.scale + p), beta(m.beta + p) {}
  FASTNN_INLINE T centred(index i, index shift) const { return ((x[i + shift] + bias[i]) - hi[i]) - lo[i]; }
  FASTNN_INLINE T affine(T c, index i) const { return c * scale[i] + beta[i]; }
};

// Strips that share channel parameters are taken in pairs, so that rows of parameters are loaded half as often. (Four
// at once would fight for the same cache sets where rows are a multiple of 4 KB long.)
constexpr int kPair = 2;

// The masks of strips, `stride` apart.
struct Keep {
  const Mask* at;  // nullptr: no dropout
  index stride;
  FASTNN_INLINE Keep from(index i) const { return {at ? at + i : nullptr, stride}; }
};

// y may be x or the residual itself: every element is read before it is written.
template <class T, template <class> class A, bool Residual, bool Dropped, int Strips, class S>
FASTNN_INLINE void forward_loop(const S& source, const T* residual, const Epilogue<T>& e, const Keep& keep, T* y,
                                index n, index in, index out) {
  const T p0 = e.p0, p1 = e.p1, scale = e.keep_scale;
#pragma GCC ivdep
  for (index i = 0; i < n; ++i)
#pragma GCC unroll 8
    for (int r = 0; r < Strips; ++r) {
      T v = source.affine(source.centred(i, r * in), i);
      if constexpr (Residual) v = v + residual[i + r * in];
      v = A<T>::forward(v, p0, p1);
      if constexpr (Dropped) v = kept(v * scale, keep.at[i + r * keep.stride]);
      y[i + r * out] = v;
    }
}

// dz = dy * f'(v), strips of dy `from` apart; dz may be dy itself.
template <class T, template <class> class A, bool Residual, bool Dropped, int Strips, class S>
FASTNN_INLINE void backward_loop(const S& source, const T* dy, index from, const T* residual, const Epilogue<T>& e,
                                 const Keep& keep, T* dz, index n, index in, index out) {
  const T p0 = e.p0, p1 = e.p1, scale = e.keep_scale;
#pragma GCC ivdep
  for (index i = 0; i < n; ++i)
#pragma GCC unroll 8
    for (int r = 0; r < Strips; ++r) {
      T v = source.affine(source.centred(i, r * in), i);
      if constexpr (Residual) v = v + residual[i + r * in];
      T d = dy[i + r * from];
      if constexpr (Dropped) d = kept(d * scale, keep.at[i + r * keep.stride]);
      dz[i + r * out] = A<T>::backward(d, v, p0, p1);
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

// A gradient on its way back through the epilogue: values whose strips are `stride` apart, and the activation that
// they have not passed yet.
template <class T>
struct Incoming {
  const T* dy;
  index stride;
  Fused left;
};

// The epilogue over one kernel call. Strips hold n <= kBlock elements each.
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

  // y = the output for `Strips` strips of n elements from g on, `in` apart; theirs in y are `out` apart. A pair has the
  // parameters from entry p on; a single strip is any stretch of memory and finds its own.
  template <int Strips>
  FASTNN_NOINLINE void forward(index g, index n, index p, T* y, index in, index out) {
    const T* const residual = residual_at(g);
    const Keep keep = masks<Strips>(g, n, in, x_ + g, residual, y, out);
    if (fused_ == Fused::relu) return forward_any<Relu, Strips>(g, n, p, residual, keep, y, in, out);
    if (fused_ == Fused::leaky_relu) return forward_any<LeakyRelu, Strips>(g, n, p, residual, keep, y, in, out);
    if (fused_ == Fused::none) return forward_any<Identity, Strips>(g, n, p, residual, keep, y, in, out);
    forward_any<Identity, Strips>(g, n, p, residual, Keep{}, y, in, out);
#pragma GCC unroll 8
    for (int r = 0; r < Strips; ++r) {
      T* const to = y + r * out;
      activation_table<T>[e_.activation].forward(to, to, n, e_.p0, e_.p1);
      if (keep.at) drop_block(to, e_.keep_scale, keep.at + r * keep.stride, to, n);
    }
  }

  // The gradient after dropout; after the activation as well where `all` is asked for or where the activation is not
  // one of those that loops have compiled in (or has a residual to add first). Written to `to`, its strips `out`
  // apart, where anything has to be done.
  template <int Strips>
  FASTNN_NOINLINE Incoming<T> backward(index g, index n, index p, const T* dy, T* to, index in, index out, bool all) {
    const T* const residual = residual_at(g);
    const bool activated = fused_ != Fused::none && (all || residual || fused_ == Fused::block);
    Incoming<T> d{dy, in, fused_};
    Keep keep = masks<Strips>(g, n, in, dy, x_ && x_ + g != dy ? x_ + g : nullptr, to, out);
    if (keep.at && (!activated || fused_ == Fused::block)) {
#pragma GCC unroll 8
      for (int r = 0; r < Strips; ++r)
        drop_block(dy + r * in, e_.keep_scale, keep.at + r * keep.stride, to + r * out, n);
      d = {to, out, fused_};
      keep = {};
    }
    if (!activated) return d;
    pass_activation<Strips>(g, n, p, residual, d, keep, to, in, out);
    return {to, out, Fused::none};
  }

  // Calls strip(source, at, n, p) for the stretches that one set of parameters serves.
  template <int Strips, class Strip>
  FASTNN_INLINE void for_strips(index g, index n, index p, const Strip& strip) const {
    if constexpr (Strips == 1)
      for_segments<S::rows>(map_, g, n,
                            [&](index at, index length, index q) { strip(S(x_ + g + at, map_, q), at, length, q); });
    else
      strip(S(x_ + g, map_, p), 0, n, p);
  }

  FASTNN_INLINE S source(index g, index p) const { return S(x_ + g, map_, p); }

 private:
  // The masks of strips from g on, `in` apart, and meanwhile what they are used with: x, x2 (or nullptr), and y, whose
  // strips are `out` apart.
  template <int Strips>
  FASTNN_INLINE Keep masks(index g, index n, index in, const T* x, const T* x2, const T* y, index out) {
    if (e_.threshold < 0) return {};
    if (!replay_) return {mask_, 0};
    const Mask* at[Strips];
#pragma GCC unroll 8
    for (int r = 0; r < Strips; ++r)
      at[r] = masks_.draw(e_.first + g + r * in, n, mask_ + r * KeepMasks::kStrip,
                          KeepMasks::Lines<T>{{x + r * in, x2 ? x2 + r * in : nullptr, y + r * out}});
    return {at[0], at[Strips - 1] - at[0]};
  }

  // What was added before the activation; the output holds it already.
  FASTNN_INLINE const T* residual_at(index g) const { return e_.residual && !x_is_output_ ? e_.residual + g : nullptr; }

  template <int Strips>
  FASTNN_INLINE void pass_activation(index g, index n, index p, const T* residual, const Incoming<T>& d,
                                     const Keep& keep, T* to, index in, index out) {
    if (fused_ == Fused::relu) return backward_any<Relu, Strips>(g, n, p, d, keep, residual, to, in, out);
    if (fused_ == Fused::leaky_relu) return backward_any<LeakyRelu, Strips>(g, n, p, d, keep, residual, to, in, out);
    const ActivationKernel<T>& f = activation_table<T>[e_.activation];
#pragma GCC unroll 8
    for (int r = 0; r < Strips; ++r) {
      const T* const dy = d.dy + r * d.stride;
      if (x_is_output_) {
        f.backward_output(dy, x_ + g + r * in, to + r * out, n, e_.p0, e_.p1);
      } else {
        T v[kBlock];
        forward_any<Identity, 1>(g + r * in, n, 0, residual ? residual + r * in : nullptr, Keep{}, v, 0, 0);
        f.backward(dy, v, to + r * out, n, e_.p0, e_.p1);
      }
    }
  }

  template <template <class> class A, int Strips>
  FASTNN_INLINE void forward_any(index g, index n, index p, const T* residual, const Keep& keep, T* y, index in,
                                 index out) {
    with_flags(residual, keep.at, [&](auto added, auto dropped) {
      for_strips<Strips>(g, n, p, [&](const S& source, index at, index length, index) {
        forward_loop<T, A, added, dropped, Strips>(source, residual ? residual + at : nullptr, e_, keep.from(at),
                                                   y + at, length, in, out);
      });
    });
  }

  template <template <class> class A, int Strips>
  FASTNN_INLINE void backward_any(index g, index n, index p, const Incoming<T>& d, const Keep& keep, const T* residual,
                                  T* dz, index in, index out) {
    with_flags(residual, keep.at, [&](auto added, auto dropped) {
      for_strips<Strips>(g, n, p, [&](const S& source, index at, index length, index) {
        backward_loop<T, A, added, dropped, Strips>(source, d.dy + at, d.stride, residual ? residual + at : nullptr, e_,
                                                    keep.from(at), dz + at, length, in, out);
      });
    });
  }

  const T* x_;
  const ChannelMap<T>& map_;
  const Epilogue<T>& e_;
  Fused fused_;
  bool x_is_output_, replay_;
  KeepMasks masks_;
  Mask mask_[kPair * KeepMasks::kStrip];
};

}  // namespace
}  // namespace fastnn
