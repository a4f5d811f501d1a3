// Producers (bias, batch norm) with the shared epilogue, forward and backward, and the moments they need.
//
// Batch norm over the n elements of a channel, with the mean held as hi + lo:
//   c = ((x + bias) - hi) - lo          centred
//   v = c * scale + beta                scale = weight / sqrt(var + eps)
// and backward, with dz the gradient that reaches v:
//   dbeta = sum dz,  dweight = sum(dz * c) / sqrt(var + eps)
//   dx = (dz - dbeta / n - c * sum(dz * c) / (n (var + eps))) * scale
//      = ((dz - k1) - c * k2) * scale
#pragma once
#include "epilogue.hpp"
#include "math.hpp"
#include "reduce.hpp"

namespace fastnn {
namespace {

// ---- forward ---------------------------------------------------------------------------------------------------

template <class T, bool Rows, class S>
void forward_with(const Forward<T>& a, index begin, index end) {
  EpilogueRunner<T, S> run(a.x, a.map, a.tail, false);
  const auto blocks = [&](index from, index to) {
    for_blocks(from, to, [&](index g, index n) {
      T tile[kBlock];
      T* const y = a.stream ? tile : a.y + g;
      run.template forward<1>(g, n, 0, y, 0, 0);
      if (a.stream) stream_block(tile, a.y + g, n);
    });
  };
  if (Rows && a.tail.threshold < 0) {  // pairs of whole periods; block by block before and after
    const auto pair = [&](index g, index n, index p) {
      if (!a.stream) return run.template forward<kPair>(g, n, p, a.y + g, a.map.period, a.map.period);
      T tile[kPair * kBlock];
      run.template forward<kPair>(g, n, p, tile, a.map.period, kBlock);
      for (int r = 0; r < kPair; ++r) stream_block(tile + r * kBlock, a.y + g + r * a.map.period, n);
    };
    const index period = a.map.period;
    const index first = smaller((begin + period - 1) / period * period, end);
    const index last = first + (end - first) / (kPair * period) * (kPair * period);
    blocks(begin, first);
    for (index g = first; g < last; g += kPair * period)
      for (index p = 0; p < period; p += kBlock) pair(g + p, smaller(kBlock, period - p), p);
    blocks(last, end);
  } else {
    blocks(begin, end);
  }
  if (a.stream) stream_fence();
}

template <class T>
void forward(const Forward<T>& a, index begin, index end) {
  if (a.map.hi && a.map.rows)
    forward_with<T, true, Source<T, true, true>>(a, begin, end);
  else if (a.map.hi)
    forward_with<T, false, Source<T, false, true>>(a, begin, end);
  else if (a.map.rows)
    forward_with<T, true, Source<T, true, false>>(a, begin, end);
  else
    forward_with<T, false, Source<T, false, false>>(a, begin, end);
}

// ---- moments ---------------------------------------------------------------------------------------------------
// A leaf subtracts a shift near its mean, sums d and d^2, and gives mean = shift + Sd / n, M2 = Sd2 - Sd^2 / n:
// one pass over memory without the cancellation of E[x^2] - E[x]^2.

template <class T>
FASTNN_INLINE void finish_moments(const T* FASTNN_RESTRICT shift, const T* FASTNN_RESTRICT sum,
                                  const T* FASTNN_RESTRICT sum2, index elements, index channels,
                                  double* FASTNN_RESTRICT mean, double* FASTNN_RESTRICT m2) {
  const double n = static_cast<double>(elements), inverse = 1 / n;
  for (index c = 0; c < channels; ++c) {
    const double s = static_cast<double>(sum[c]), q = static_cast<double>(sum2[c]) - s * s * inverse;
    mean[c] = static_cast<double>(shift[c]) + s * inverse;
    m2[c] = q < 0 ? 0 : q;  // NaN stays
  }
}

template <class T>
FASTNN_INLINE T plane_sum(const T* FASTNN_RESTRICT x, T bias, index n) {
  T lane[kLanes];
  Lanes<T> sum = Lanes<T>::zero();
  index i = 0;
  for (; i + kLanes <= n; i += kLanes) sum = sum + (Lanes<T>::load(x + i) + bias);
  sum.store(lane);
  for (index l = 0; i < n; ++i, ++l) lane[l] += x[i] + bias;
  return fold_lanes(lane);
}

template <class T>
void plane_moments(const Moments<T>& a, const Part& part, index l, double* out) {
  const View& v = a.leaves.view;
  const LeafExtent e = leaf_extent(a.leaves, l);
  const index band = part.channel1 - part.channel0, length = e.inner1 - e.inner0;
  T shifts[kBandPlanes], sums[kBandPlanes], sums2[kBandPlanes];
  for (index c = part.channel0; c < part.channel1; ++c) {
    const T* const first = a.x + (e.sample0 * v.channels + c) * v.inner + e.inner0;
    const T bias = a.map.bias[c];
    const T shift = plane_sum(first, bias, length) / static_cast<T>(length);
    Lanes<T> sum = Lanes<T>::zero(), sum2 = sum;
    T tail[kLanes] = {}, tail2[kLanes] = {};
    for (index o = e.sample0; o < e.sample1; ++o) {
      const T* FASTNN_RESTRICT x = first + (o - e.sample0) * v.channels * v.inner;
      index i = 0;
      for (; i + kLanes <= length; i += kLanes) {
        const Lanes<T> d = (Lanes<T>::load(x + i) + bias) - shift;
        sum = sum + d;
        sum2 = sum2 + d * d;
      }
      for (index lane = 0; i < length; ++i, ++lane) {  // the ragged end has accumulators of its own
        const T d = (x[i] + bias) - shift;
        tail[lane] += d;
        tail2[lane] += d * d;
      }
    }
    (sum + Lanes<T>::load(tail)).store(tail);
    (sum2 + Lanes<T>::load(tail2)).store(tail2);
    shifts[c - part.channel0] = shift;
    sums[c - part.channel0] = fold_lanes(tail);
    sums2[c - part.channel0] = fold_lanes(tail2);
  }
  finish_moments(shifts, sums, sums2, (e.sample1 - e.sample0) * length, band, out, out + band);
}

// The sums of rows too short for loops along them: 16 columns in registers, the rows read beyond their end.
template <class T>
FASTNN_INLINE void narrow_moments(const T* FASTNN_RESTRICT x, const T* bias, const T* shift, index rows, index width,
                                  T* sum, T* sum2) {
  for (index j = 0; j < width; j += kLanes) {
    const index columns = smaller(kLanes, width - j), last = rows * width - kLanes;
    const Lanes<T> b = Lanes<T>::load(bias + j), h = Lanes<T>::load(shift + j);
    Lanes<T> s = Lanes<T>::zero(), s2 = s;
    index at = j;
    for (; at <= last; at += width) {
      const Lanes<T> d = (Lanes<T>::load(x + at) + b) - h;
      s = s + d;
      s2 = s2 + d * d;
    }
    T lane[kLanes], lane2[kLanes];
    s.store(lane);
    s2.store(lane2);
    for (; at < rows * width; at += width)
      for (index l = 0; l < columns; ++l) {
        const T d = (x[at + l] + bias[j + l]) - shift[j + l];
        lane[l] += d;
        lane2[l] += d * d;
      }
    for (index l = 0; l < columns; ++l) {
      sum[j + l] = lane[l];
      sum2[j + l] = lane2[l];
    }
  }
}

template <class T>
void row_moments(const Moments<T>& a, const Part& part, index l, double* out) {
  const View& v = a.leaves.view;
  const LeafExtent e = leaf_extent(a.leaves, l);
  const index width = v.channels * v.inner, column0 = part.channel0 * v.inner;
  const index band = part.channel1 - part.channel0, columns = band * v.inner, rows = e.sample1 - e.sample0;
  const T* FASTNN_RESTRICT const x = a.x + e.sample0 * width + column0;
  const T* FASTNN_RESTRICT const bias = a.map.bias + column0;
  T shift[kBandRows], sum[kBandRows], sum2[kBandRows];
  // The shift: the mean of the first four rows, or of the first short plane.
  const index first = v.inner == 1 ? smaller(rows, 4) : 1;
  for (index j = 0; j < columns; ++j) sum[j] = x[j] + bias[j];
  for (index r = 1; r < first; ++r)
    for (index j = 0; j < columns; ++j) sum[j] += x[r * width + j] + bias[j];
  const T count = static_cast<T>(first * v.inner);
  if (v.inner == 1)
    for (index j = 0; j < columns; ++j) shift[j] = sum[j] / count;
  else
    for (index c = 0; c < band; ++c) {
      const T s = fold_columns(sum + c * v.inner, v.inner) / count;
      for (index i = 0; i < v.inner; ++i) shift[c * v.inner + i] = s;
    }
  for (index j = 0; j < columns; ++j) sum[j] = sum2[j] = 0;
  index r = 0;
  if (width == columns && width < 2 * kLanes) {
    narrow_moments(x, bias, shift, rows, width, sum, sum2);
    r = rows;
  }
  for (; r + 4 <= rows; r += 4) {  // four rows at once: the accumulators are loaded and stored a quarter as often
    const T* FASTNN_RESTRICT const y = x + r * width;
    for (index j = 0; j < columns; ++j) {
      const T b = bias[j], h = shift[j];
      const T d0 = (y[j] + b) - h, d1 = (y[width + j] + b) - h;
      const T d2 = (y[2 * width + j] + b) - h, d3 = (y[3 * width + j] + b) - h;
      sum[j] = (((sum[j] + d0) + d1) + d2) + d3;
      sum2[j] = (((sum2[j] + d0 * d0) + d1 * d1) + d2 * d2) + d3 * d3;
    }
  }
  for (; r < rows; ++r)
    for (index j = 0; j < columns; ++j) {
      const T d = (x[r * width + j] + bias[j]) - shift[j];
      sum[j] += d;
      sum2[j] += d * d;
    }
  if (v.inner > 1)
    for (index c = 0; c < band; ++c) {  // in place: the columns of channel c are at or behind entry c
      shift[c] = shift[c * v.inner];
      sum[c] = fold_columns(sum + c * v.inner, v.inner);
      sum2[c] = fold_columns(sum2 + c * v.inner, v.inner);
    }
  finish_moments(shift, sum, sum2, rows * v.inner, band, out, out + band);
}

template <class T>
void moments(const Moments<T>& a, const Part& part) {
  const index channels = a.leaves.view.channels;
  const MergeMoments merge{a.leaves, 1, part.channel1 - part.channel0};
  if (a.leaves.view.inner <= kRowForm)
    fold_part<2 * kBandRows>(part, channels, 2, [&](index l, double* out) { row_moments(a, part, l, out); }, merge);
  else
    fold_part<2 * kBandPlanes>(part, channels, 2, [&](index l, double* out) { plane_moments(a, part, l, out); }, merge);
}

// ---- channel parameters ----------------------------------------------------------------------------------------

inline void norm_invstd(const double* deviations, double n, double eps, double* invstd, index count) {
#pragma GCC ivdep
  for (index c = 0; c < count; ++c) invstd[c] = 1 / square_root(deviations[c] / n + eps);
}

template <class T>
void norm_factors(const double* FASTNN_RESTRICT mean, const double* FASTNN_RESTRICT invstd,
                  const T* FASTNN_RESTRICT weight, T* FASTNN_RESTRICT hi, T* FASTNN_RESTRICT lo,
                  T* FASTNN_RESTRICT scale, index count) {
  for (index c = 0; c < count; ++c) {
    hi[c] = static_cast<T>(mean[c]);
    lo[c] = static_cast<T>(mean[c] - static_cast<double>(hi[c]));
  }
  if (weight)
    for (index c = 0; c < count; ++c) scale[c] = static_cast<T>(static_cast<double>(weight[c]) * invstd[c]);
  else
    for (index c = 0; c < count; ++c) scale[c] = static_cast<T>(invstd[c]);
}

template <class T>
void norm_gradient_factors(const double* FASTNN_RESTRICT sum_dz, const double* FASTNN_RESTRICT sum_dzc,
                           const double* FASTNN_RESTRICT invstd, double n, T* FASTNN_RESTRICT k1, T* FASTNN_RESTRICT k2,
                           T* FASTNN_RESTRICT dbias, T* FASTNN_RESTRICT dweight, index count) {
  for (index c = 0; c < count; ++c) {
    k1[c] = static_cast<T>(sum_dz[c] / n);
    k2[c] = static_cast<T>(sum_dzc[c] * invstd[c] * invstd[c] / n);
    dbias[c] = static_cast<T>(sum_dz[c]);
    dweight[c] = static_cast<T>(sum_dzc[c] * invstd[c]);
  }
}

// ---- backward --------------------------------------------------------------------------------------------------

constexpr index kNarrow = 64;  // rows up to this width are summed a block at a time, wider ones in pairs

enum class Wanted { bias, norm_sums, norm };  // what a gradient kernel makes of dz

// Loops that have none, relu and leaky_relu compiled in. d holds strips `from` apart, x strips `in` apart.

// dx = ((dz - k1) - c * k2) * scale with dz = d * f'(v)
template <class T, template <class> class A, int Strips, bool Rows, class S>
FASTNN_INLINE void input_gradient_loop(const S& source, const ChannelMap<T>& m, index p, const T* d, index from,
                                       const Epilogue<T>& e, T* dx, index n, index in, index out) {
  const T p0 = e.p0, p1 = e.p1;
  const T *FASTNN_RESTRICT const k1 = m.k1 + p, *FASTNN_RESTRICT const k2 = m.k2 + p,
                                 *FASTNN_RESTRICT const scale = m.scale + p;
  const T one1 = k1[0], one2 = k2[0], one3 = scale[0];
#pragma GCC ivdep
  for (index i = 0; i < n; ++i)
#pragma GCC unroll 8
    for (int r = 0; r < Strips; ++r) {
      const T c = source.centred(i, r * in);
      const T dz = A<T>::backward(d[i + r * from], source.affine(c, i), p0, p1);
      dx[i + r * out] = Rows ? ((dz - k1[i]) - c * k2[i]) * scale[i] : ((dz - one1) - c * one2) * one3;
    }
}

// sum += dz, sum2 += dz * c, column by column
template <class T, template <class> class A, int Strips, class S>
FASTNN_INLINE void column_sums_loop(const S& source, const T* FASTNN_RESTRICT d, index from, const Epilogue<T>& e,
                                    T* FASTNN_RESTRICT sum, T* FASTNN_RESTRICT sum2, index n, index in) {
  const T p0 = e.p0, p1 = e.p1;
  for (index i = 0; i < n; ++i) {
    T s = sum[i], s2 = sum2[i];
#pragma GCC unroll 8
    for (int r = 0; r < Strips; ++r) {
      const T c = source.centred(i, r * in);
      const T dz = A<T>::backward(d[i + r * from], source.affine(c, i), p0, p1);
      s = s + dz;
      s2 = s2 + dz * c;
    }
    sum[i] = s;
    sum2[i] = s2;
  }
}

// The values to be summed by column: dz and dz * c.
template <class T, template <class> class A, class S>
FASTNN_INLINE void products_loop(const S& source, const T* d, const Epilogue<T>& e, T* FASTNN_RESTRICT dz,
                                 T* FASTNN_RESTRICT dzc, index n) {
  const T p0 = e.p0, p1 = e.p1;
  for (index i = 0; i < n; ++i) {
    const T c = source.centred(i, 0);
    const T z = A<T>::backward(d[i], source.affine(c, i), p0, p1);
    dz[i] = z;
    dzc[i] = z * c;
  }
}

// PReLU, whose gradients are summed as those of a bias are.
// A strip and its slopes; see Source.
template <class T, bool Rows>
struct Sloped;

template <class T>
struct Sloped<T, false> {
  static constexpr bool rows = false;
  const T* x;
  T one;
  FASTNN_INLINE Sloped(const T* x_, const ChannelMap<T>& m, index p) : x(x_), one(m.scale[p]) {}
  FASTNN_INLINE T slope(index) const { return one; }
};

template <class T>
struct Sloped<T, true> {
  static constexpr bool rows = true;
  const T* x;
  const T* FASTNN_RESTRICT each;
  FASTNN_INLINE Sloped(const T* x_, const ChannelMap<T>& m, index p) : x(x_), each(m.scale + p) {}
  FASTNN_INLINE T slope(index i) const { return each[i]; }
};

// dx = x > 0 ? dy : slope dy, and the values to be summed for the slope, strips of which are kBlock apart. dx may be
// dy or x.
template <class T, int Strips, class S>
FASTNN_INLINE void slope_gradient_loop(const S& source, const T* dy, T* dx, T* FASTNN_RESTRICT dslope, index n,
                                       index in, index out) {
#pragma GCC ivdep
  for (index i = 0; i < n; ++i)
#pragma GCC unroll 8
    for (int r = 0; r < Strips; ++r) {
      const T x = source.x[i + r * in], d = dy[i + r * in], product = d * x;
      dx[i + r * out] = LeakyRelu<T>::backward(d, x, source.slope(i), 0);
      dslope[i + r * kBlock] = x > 0 ? T(0) : product;
    }
}

// A gradient kernel over one part: elementwise work strip by strip, and the sums of its values leaf by leaf.
template <class T, class S, bool Rows, Wanted W>
class GradientPart {
 public:
  GradientPart(const Backward<T>& a, const Part& part)
      : a_(a), part_(part), view_(a.leaves.view), run_(a.x, a.map, a.tail, a.x_is_output) {}

  void operator()() {
    const MergeSums merge{kResults * (part_.channel1 - part_.channel0)};
    const bool rows = view_.inner <= kRowForm;
    const auto leaf = [&](index l, double* out) {
      if (Rows || rows)  // channel parameters in rows go with short planes only
        row_leaf(l, out);
      else
        plane_leaf(l, out);
    };
    if (!part_.out) {
      for (index l = part_.leaf0; l < part_.leaf1; ++l) leaf(l, nullptr);
    } else if (rows) {
      fold_part<kResults * kBandRows>(part_, view_.channels, kResults, leaf, merge);
    } else {
      fold_part<kResults * kBandPlanes>(part_, view_.channels, kResults, leaf, merge);
    }
    if (a_.stream) stream_fence();
  }

 private:
  static constexpr index kResults = W == Wanted::norm_sums ? 2 : 1;

  // Where the results of a block or a pair go: memory, or a tile that is streamed to it.
  struct Target {
    T *dz, *dx;
    index apart;  // strips of dx; those of dz are kBlock apart
  };
  struct Tiles {
    T dz[kPair * kBlock], dx[kPair * kBlock];
  };
  struct Values {
    const T* at;
    index stride;  // from one strip to the next
  };

  FASTNN_INLINE Target target(Tiles& tiles, index g, index in) const {
    if (a_.stream || !a_.dx) return {tiles.dz, tiles.dx, kBlock};
    return {tiles.dz, a_.dx + g, in};
  }

  // The elementwise work on strips of n elements from g on, `in` apart; what is to be summed.
  template <int Strips>
  FASTNN_NOINLINE Values values(index g, index n, index p, index in, const Target& to) {
    if constexpr (W == Wanted::norm) {
      const Incoming<T> d = run_.template backward<Strips>(g, n, p, a_.dy + g, to.dz, in, kBlock, false);
      if (d.left == Fused::relu)
        input_gradient<Relu, Strips>(g, n, p, d, to, in);
      else if (d.left == Fused::leaky_relu)
        input_gradient<LeakyRelu, Strips>(g, n, p, d, to, in);
      else
        input_gradient<Identity, Strips>(g, n, p, d, to, in);
      return {to.dx, to.apart};
    } else {
      if constexpr (W == Wanted::bias)
        if (a_.map.scale) {
          run_.template for_strips<Strips>(g, n, p, [&](const S& source, index at, index length, index q) {
            slope_gradient_loop<T, Strips>(Sloped<T, Rows>(source.x, a_.map, q), a_.dy + g + at, to.dx + at, to.dz + at,
                                           length, in, to.apart);
          });
          return {to.dz, kBlock};
        }
      const Incoming<T> d = run_.template backward<Strips>(g, n, p, a_.dy + g, to.dx, in, to.apart, true);
      for (int r = 0; r < (a_.dx ? Strips : 0); ++r)
        if (d.dy + r * d.stride != to.dx + r * to.apart)
          std::memcpy(to.dx + r * to.apart, d.dy + r * d.stride, static_cast<std::size_t>(n) * sizeof(T));
      return {d.dy, d.stride};
    }
  }

  template <template <class> class A, int Strips>
  FASTNN_INLINE void input_gradient(index g, index n, index p, const Incoming<T>& d, const Target& to, index in) const {
    run_.template for_strips<Strips>(g, n, p, [&](const S& source, index at, index length, index q) {
      input_gradient_loop<T, A, Strips, Rows>(source, a_.map, q, d.dy + at, d.stride, a_.tail, to.dx + at, length, in,
                                              to.apart);
    });
  }

  template <int Strips>
  FASTNN_INLINE Values stored_values(index g, index n, index p, index in, Tiles& tiles) {
    const Target to = target(tiles, g, in);
    const Values v = values<Strips>(g, n, p, in, to);
    if (a_.stream && a_.dx)
#pragma GCC unroll 8
      for (int r = 0; r < Strips; ++r) stream_block(tiles.dx + r * kBlock, a_.dx + g + r * in, n);
    return v;
  }

  void plane_leaf(index l, double* out) {
    const LeafExtent e = leaf_extent(a_.leaves, l);
    const index band = part_.channel1 - part_.channel0;
    T sums[kResults][kBandPlanes][kLanes];
    if (out)
      for (index k = 0; k < kResults; ++k)
        for (index c = 0; c < band; ++c)
          for (index lane = 0; lane < kLanes; ++lane) sums[k][c][lane] = 0;
    const auto stretch = [&](index begin, index end) {
      for_blocks(begin, end, [&](index g, index n) {
        Tiles tiles;
        const T* const v = stored_values<1>(g, n, 0, 0, tiles).at;
        if (!out) return;
        index c = g / view_.inner % view_.channels, inner = g % view_.inner;
        for (index at = 0; at < n; ++c, inner = 0) {
          const index length = smaller(n - at, view_.inner - inner), k = c - part_.channel0;
          add_plane(v + at, g + at, length, inner, c, sums[0][k], sums[kResults - 1][k]);
          at += length;
        }
      });
    };
    for (index o = e.sample0; o < e.sample1; ++o) {
      const index start = o * view_.channels * view_.inner;
      if (a_.leaves.pieces > 1) {
        for (index c = part_.channel0; c < part_.channel1; ++c)
          stretch(start + c * view_.inner + e.inner0, start + c * view_.inner + e.inner1);
      } else {
        stretch(start + part_.channel0 * view_.inner, start + part_.channel1 * view_.inner);
      }
    }
    if (out)
      for (index k = 0; k < kResults; ++k)
        for (index c = 0; c < band; ++c) out[k * band + c] = fold_lanes(sums[k][c]);
  }

  // Element i of a plane goes to lane i mod 16; `phase` is the index of the first element. A block may begin and end
  // anywhere in a plane, so the ragged ends are added one by one, in memory.
  FASTNN_INLINE void add_plane(const T* v, index g, index n, index phase, index c, T* sum, T* sum2) {
    const T* FASTNN_RESTRICT const x = a_.x + g;
    T bias = 0, hi = 0, lo = 0;
    if constexpr (W == Wanted::norm_sums) {
      bias = a_.map.bias[c];
      hi = a_.map.hi[c];
      lo = a_.map.lo[c];
    }
    const auto one = [&](index i) {
      const index lane = (phase + i) % kLanes;
      sum[lane] += v[i];
      if constexpr (W == Wanted::norm_sums) sum2[lane] += v[i] * (((x[i] + bias) - hi) - lo);
    };
    index i = 0;
    for (; i < n && (phase + i) % kLanes != 0; ++i) one(i);
    Lanes<T> s = Lanes<T>::load(sum), s2 = Lanes<T>::load(sum2);
    for (; i + kLanes <= n; i += kLanes) {
      const Lanes<T> d = Lanes<T>::load(v + i);
      s = s + d;
      if constexpr (W == Wanted::norm_sums) s2 = s2 + d * (((Lanes<T>::load(x + i) + bias) - hi) - lo);
    }
    if constexpr (W == Wanted::norm_sums) s2.store(sum2);
    s.store(sum);
    for (; i < n; ++i) one(i);
  }

  // Rows in pairs, in memory order; a leaf's columns have one accumulator each.
  void row_leaf(index l, double* out) {
    const LeafExtent e = leaf_extent(a_.leaves, l);
    const index width = view_.channels * view_.inner, column0 = part_.channel0 * view_.inner;
    const index band = part_.channel1 - part_.channel0, columns = band * view_.inner;
    T sums[kResults][kBandRows];
    for (index k = 0; k < kResults; ++k)
      for (index j = 0; j < columns; ++j) sums[k][j] = 0;
    if (!out && columns == width && width < kBlock / kPair)  // nothing to sum, and no rows long enough for pairs
      return for_blocks(e.sample0 * width, e.sample1 * width, [&](index g, index n) {
        Tiles tiles;
        stored_values<1>(g, n, 0, 0, tiles);
      });
    index r = e.sample0;
    if (W == Wanted::bias && columns > kNarrow && out && !computes()) {
      add_plain_rows(a_.dy + r * width + column0, e.sample1 - r, columns, width, sums[0]);
      r = e.sample1;
    }
    if (columns == width && width > 0 && width <= kNarrow)  // as many rows as a block holds, as flat memory
      for (const index together = kBlock / width; r < e.sample1; r += together)
        add_block(r * width, smaller(together, e.sample1 - r), width, sums);
    if constexpr (Rows)
      for (; r + kPair <= e.sample1; r += kPair) add_rows<kPair>(r * width + column0, columns, column0, width, sums);
    for (; r < e.sample1; ++r) add_rows<1>(r * width + column0, columns, column0, width, sums);
    if (out)
      for (index k = 0; k < kResults; ++k) fold_band(sums[k], band, view_.inner, out + k * band);
  }

  // Whether anything becomes of dy but sums.
  FASTNN_INLINE bool computes() const { return a_.dx || a_.tail.activation >= 0 || a_.tail.threshold >= 0; }

  // Rows as they are, eight at once: the sums are loaded and stored an eighth as often.
  FASTNN_NOINLINE void add_plain_rows(const T* FASTNN_RESTRICT d, index rows, index columns, index width,
                                      T* FASTNN_RESTRICT sum) const {
    constexpr index together = 8;
    index r = 0;
    for (; r + together <= rows; r += together, d += together * width)
      for (index j = 0; j < columns; ++j) {
        T s = sum[j];
        for (index k = 0; k < together; ++k) s += d[j + k * width];
        sum[j] = s;
      }
    for (; r < rows; ++r, d += width)
      for (index j = 0; j < columns; ++j) sum[j] += d[j];
  }

  FASTNN_NOINLINE void add_block(index g, index rows, index width, T (*sums)[kBandRows]) {
    Tiles tiles;
    const index n = rows * width;
    if constexpr (W == Wanted::norm_sums) {
      Incoming<T> d{};
      if (a_.dx)
        d = {stored_values<1>(g, n, 0, 0, tiles).at, 0, Fused::none};
      else
        d = run_.template backward<1>(g, n, 0, a_.dy + g, tiles.dz, 0, 0, false);
      T dz[kBlock], dzc[kBlock];
      if (d.left == Fused::relu)
        products<Relu>(g, n, d.dy, dz, dzc);
      else if (d.left == Fused::leaky_relu)
        products<LeakyRelu>(g, n, d.dy, dz, dzc);
      else
        products<Identity>(g, n, d.dy, dz, dzc);
      add_rows_of_block(dz, rows, width, sums[0]);
      add_rows_of_block(dzc, rows, width, sums[1]);
    } else {
      add_rows_of_block(stored_values<1>(g, n, 0, 0, tiles).at, rows, width, sums[0]);
    }
  }

  template <template <class> class A>
  FASTNN_INLINE void products(index g, index n, const T* d, T* dz, T* dzc) const {
    run_.template for_strips<1>(g, n, 0, [&](const S& source, index at, index length, index) {
      products_loop<T, A>(source, d + at, a_.tail, dz + at, dzc + at, length);
    });
  }

  template <int Strips>
  FASTNN_NOINLINE void add_rows(index g, index columns, index column0, index width, T (*sums)[kBandRows]) {
    Tiles tiles;
    T* FASTNN_RESTRICT const sum = sums[0];
    if constexpr (W == Wanted::norm_sums) {
      Incoming<T> d{};
      if (a_.dx) {
        const Values v = stored_values<Strips>(g, columns, column0, width, tiles);
        d = {v.at, v.stride, Fused::none};
      } else {
        d = run_.template backward<Strips>(g, columns, column0, a_.dy + g, tiles.dz, width, kBlock, false);
      }
      const S source = run_.source(g, column0);
      T* const sum2 = sums[1];
      if (d.left == Fused::relu)
        column_sums_loop<T, Relu, Strips>(source, d.dy, d.stride, a_.tail, sum, sum2, columns, width);
      else if (d.left == Fused::leaky_relu)
        column_sums_loop<T, LeakyRelu, Strips>(source, d.dy, d.stride, a_.tail, sum, sum2, columns, width);
      else
        column_sums_loop<T, Identity, Strips>(source, d.dy, d.stride, a_.tail, sum, sum2, columns, width);
    } else {
      const Values v = stored_values<Strips>(g, columns, column0, width, tiles);
      if (!part_.out) return;
      const T* FASTNN_RESTRICT const d = v.at;
      for (index j = 0; j < columns; ++j) {
        T s = sum[j];
#pragma GCC unroll 8
        for (int r = 0; r < Strips; ++r) s += d[j + r * v.stride];
        sum[j] = s;
      }
    }
  }

  const Backward<T>& a_;
  const Part& part_;
  const View& view_;
  EpilogueRunner<T, S> run_;
};

template <class T, Wanted W>
void gradient(const Backward<T>& a, const Part& part) {
  constexpr bool centred = W != Wanted::bias;
  if (a.map.rows)
    GradientPart<T, Source<T, true, centred>, true, W>(a, part)();
  else
    GradientPart<T, Source<T, false, centred>, false, W>(a, part)();
}

}  // namespace
}  // namespace fastnn
