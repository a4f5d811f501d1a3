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

// Sources. Pointers are at the segment's first element; `shift` leads to another strip with the same parameters.
template <class T, bool Rows, bool Centred>
struct Source;

template <class T>
struct Source<T, false, false> {  // x + bias of the channel
  const T* FASTNN_RESTRICT x;
  T bias;
  FASTNN_INLINE Source(const T* x_, const ChannelMap<T>& m, index p) : x(x_), bias(m.bias[p]) {}
  FASTNN_INLINE T operator()(index i, index shift) const { return x[i + shift] + bias; }
};

template <class T>
struct Source<T, true, false> {
  const T* FASTNN_RESTRICT x;
  const T* FASTNN_RESTRICT bias;
  FASTNN_INLINE Source(const T* x_, const ChannelMap<T>& m, index p) : x(x_), bias(m.bias + p) {}
  FASTNN_INLINE T operator()(index i, index shift) const { return x[i + shift] + bias[i]; }
};

// Normalised: the mean is subtracted in two parts, because x * alpha + beta loses it (mean 1e4, std 0.1).
template <class T>
struct Source<T, false, true> {
  const T* FASTNN_RESTRICT x;
  T bias, hi, lo, scale, beta;
  FASTNN_INLINE Source(const T* x_, const ChannelMap<T>& m, index p)
      : x(x_), bias(m.bias[p]), hi(m.hi[p]), lo(m.lo[p]), scale(m.scale[p]), beta(m.beta[p]) {}
  FASTNN_INLINE T operator()(index i, index shift) const { return (((x[i + shift] + bias) - hi) - lo) * scale + beta; }
};

template <class T>
struct Source<T, true, true> {
  const T* FASTNN_RESTRICT x;
  const T *FASTNN_RESTRICT bias, *FASTNN_RESTRICT hi, *FASTNN_RESTRICT lo, *FASTNN_RESTRICT scale,
      *FASTNN_RESTRICT beta;
  FASTNN_INLINE Source(const T* x_, const ChannelMap<T>& m, index p)
      : x(x_), bias(m.bias + p), hi(m.hi + p), lo(m.lo + p), scale(m.scale + p), beta(m.beta + p) {}
  FASTNN_INLINE T operator()(index i, index shift) const {
    return (((x[i + shift] + bias[i]) - hi[i]) - lo[i]) * scale[i] + beta[i];
  }
};

template <class T>
FASTNN_INLINE T keep_or_zero(std::int32_t bits, std::int32_t threshold, T kept) {
  return bits < threshold ? kept : T(0);
}

// Strips that share channel parameters are taken several at a time, so that rows of parameters are loaded once for all.
struct Strips {
  index in, out;  // from one strip to the next, in the arrays and in what is written
};

// y may be x or the residual itself: every element is read before it is written.
template <class T, template <class> class A, bool Residual, bool Dropout, int Rows, class S>
FASTNN_INLINE void forward_loop(const S& source, const T* residual, const std::int32_t* FASTNN_RESTRICT bits,
                                const Epilogue<T>& e, T* y, index n, Strips strips) {
  const T p0 = e.p0, p1 = e.p1, scale = e.keep_scale;
  const std::int32_t threshold = e.threshold;
#pragma GCC ivdep
  for (index i = 0; i < n; ++i)
    for (int r = 0; r < Rows; ++r) {
      T v = source(i, r * strips.in);
      if constexpr (Residual) v = v + residual[i + r * strips.in];
      v = A<T>::forward(v, p0, p1);
      if constexpr (Dropout) v = keep_or_zero(bits[i], threshold, v * scale);
      y[i + r * strips.out] = v;
    }
}

template <class T, template <class> class A, bool Residual, bool Dropout, int Rows, class S>
FASTNN_INLINE void backward_loop(const S& source, const T* dy, const T* residual,
                                 const std::int32_t* FASTNN_RESTRICT bits, const Epilogue<T>& e, T* dv, index n,
                                 Strips strips) {
  const T p0 = e.p0, p1 = e.p1, scale = e.keep_scale;
  const std::int32_t threshold = e.threshold;
#pragma GCC ivdep
  for (index i = 0; i < n; ++i)
    for (int r = 0; r < Rows; ++r) {
      T v = source(i, r * strips.in);
      if constexpr (Residual) v = v + residual[i + r * strips.in];
      T d = dy[i + r * strips.in];
      if constexpr (Dropout) d = keep_or_zero(bits[i], threshold, d * scale);
      dv[i + r * strips.out] = A<T>::backward(d, v, p0, p1);
    }
}

// Dropout alone, on a block.
template <class T>
void drop_block(const T* x, const std::int32_t* FASTNN_RESTRICT bits, const Epilogue<T>& e, T* y, index n) {
  const T scale = e.keep_scale;
  const std::int32_t threshold = e.threshold;
#pragma GCC ivdep
  for (index i = 0; i < n; ++i) y[i] = keep_or_zero(bits[i], threshold, x[i] * scale);
}

enum class Fused { none, relu, leaky_relu, block };

template <class T>
FASTNN_INLINE Fused fused_activation(const Epilogue<T>& e) {
  return e.activation < 0    ? Fused::none
         : e.activation == 0 ? Fused::relu
         : e.activation == 1 ? Fused::leaky_relu
                             : Fused::block;
}

// The epilogue over one kernel call: keeps the random bits of neighbouring blocks together.
template <class T, class S>
class EpilogueRunner {
 public:
  FASTNN_INLINE EpilogueRunner(const T* x, const ChannelMap<T>& map, const Epilogue<T>& e, bool x_is_output)
      : x_(x), map_(map), e_(e), fused_(fused_activation(e)), x_is_output_(x_is_output) {
    // relu's output is 0 wherever an element was dropped, so its gradient needs no bits: a block of zeros keeps all.
    replay_ = e.threshold >= 0 && !(x_is_output && fused_ == Fused::relu);
    if (e.threshold == 0) replay_ = false;  // nothing is kept: zeros are not below 0
    if (e.threshold >= 0 && !replay_)
      for (index i = 0; i < kBlock; ++i) zeros_[i] = 0;
  }

  // y[0..n) = the output for elements [g, g + n), n <= kBlock.
  void forward(index g, index n, T* y) {
    const T* residual = e_.residual ? e_.residual + g : nullptr;
    const std::int32_t* bits = dropout_bits(g, n);
    switch (fused_) {
      case Fused::none:
        forward_segments<Identity>(g, n, residual, bits, y);
        break;
      case Fused::relu:
        forward_segments<Relu>(g, n, residual, bits, y);
        break;
      case Fused::leaky_relu:
        forward_segments<LeakyRelu>(g, n, residual, bits, y);
        break;
      case Fused::block: {
        T v[kBlock];
        forward_segments<Identity>(g, n, residual, nullptr, v);
        activation_table<T>[e_.activation].forward(v, bits ? v : y, n, e_.p0, e_.p1);
        if (bits) drop_block(v, bits, e_, y, n);
      }
    }
  }

  // The gradient that reaches v for elements [g, g + n); written to dv, or dy itself where nothing has to be done.
  const T* backward(index g, index n, const T* dy, T* dv) {
    const T* residual = e_.residual && !x_is_output_ ? e_.residual + g : nullptr;
    const std::int32_t* bits = dropout_bits(g, n);
    switch (fused_) {
      case Fused::none:
        if (!bits) return dy;
        drop_block(dy, bits, e_, dv, n);
        break;
      case Fused::relu:
        backward_segments<Relu>(g, n, dy, residual, bits, dv);
        break;
      case Fused::leaky_relu:
        backward_segments<LeakyRelu>(g, n, dy, residual, bits, dv);
        break;
      case Fused::block: {
        const ActivationKernel<T>& f = activation_table<T>[e_.activation];
        T d[kBlock], v[kBlock];
        if (bits) drop_block(dy, bits, e_, d, n);
        if (x_is_output_) {
          f.backward_output(bits ? d : dy, x_ + g, dv, n, e_.p0, e_.p1);
        } else {
          forward_segments<Identity>(g, n, residual, nullptr, v);
          f.backward(bits ? d : dy, v, dv, n, e_.p0, e_.p1);
        }
      }
    }
    return dv;
  }

 private:
  FASTNN_INLINE const std::int32_t* dropout_bits(index g, index n) {
    if (e_.threshold < 0) return nullptr;
    return replay_ ? random_.at(e_.key, e_.first + g, n) : zeros_;
  }

  template <template <class> class A>
  FASTNN_INLINE void forward_segments(index g, index n, const T* residual, const std::int32_t* bits, T* y) {
    for_segments(map_, g, n, [&](index at, index length, index p) {
      const S source(x_ + g + at, map_, p);
      if (residual) {
        if (bits)
          forward_loop<T, A, true, true>(source, residual + at, bits + at, e_, y + at, length);
        else
          forward_loop<T, A, true, false>(source, residual + at, bits, e_, y + at, length);
      } else {
        if (bits)
          forward_loop<T, A, false, true>(source, residual, bits + at, e_, y + at, length);
        else
          forward_loop<T, A, false, false>(source, residual, bits, e_, y + at, length);
      }
    });
  }

  template <template <class> class A>
  FASTNN_INLINE void backward_segments(index g, index n, const T* dy, const T* residual, const std::int32_t* bits,
                                       T* dv) {
    for_segments(map_, g, n, [&](index at, index length, index p) {
      const S source(x_ + g + at, map_, p);
      if (residual) {
        if (bits)
          backward_loop<T, A, true, true>(source, dy + at, residual + at, bits + at, e_, dv + at, length);
        else
          backward_loop<T, A, true, false>(source, dy + at, residual + at, bits, e_, dv + at, length);
      } else {
        if (bits)
          backward_loop<T, A, false, true>(source, dy + at, residual, bits + at, e_, dv + at, length);
        else
          backward_loop<T, A, false, false>(source, dy + at, residual, bits, e_, dv + at, length);
      }
    });
  }

  const T* x_;
  const ChannelMap<T>& map_;
  const Epilogue<T>& e_;
  Fused fused_;
  bool x_is_output_, replay_;
  RandomBits random_;
  std::int32_t zeros_[kBlock];
};

}  // namespace
}  // namespace fastnn
