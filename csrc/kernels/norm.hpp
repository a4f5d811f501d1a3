// Producers (bias, batch norm) with the shared epilogue, forward and backward, and the moments they need.
//
// Batch norm over the n elements of a channel, with the mean held as hi + lo:
//   c = ((x + bias) - hi) - lo          centred
//   v = c * scale + beta                scale = weight / sqrt(var + eps)
// and backward, with dz the gradient that reaches v:
//   dbeta = sum dz,  dweight = sum(dz * c) / sqrt(var + eps)
//   dx = (dz - dbeta / n - c * sum(dz * c) / (n (var + eps))) * scale
//      = ((dz - k1) - c * k2) * k3
#pragma once
#include "epilogue.hpp"
#include "reduce.hpp"

namespace fastnn {
namespace {

// ---- forward ---------------------------------------------------------------------------------------------------

template <class T, class S>
void forward_with(const Forward<T>& a, index begin, index end) {
  EpilogueRunner<T, S> run(a.x, a.map, a.tail, false);
  for_blocks(begin, end, [&](index g, index n) {
    if (!a.stream) return run.forward(g, n, a.y + g);
    T y[kBlock];
    run.forward(g, n, y);
    stream_block(y, a.y + g, n);
  });
  if (a.stream) stream_fence();
}

template <class T>
void forward(const Forward<T>& a, index begin, index end) {
  if (a.map.hi)
    a.map.rows ? forward_with<T, Source<T, true, true>>(a, begin, end)
               : forward_with<T, Source<T, false, true>>(a, begin, end);
  else
    a.map.rows ? forward_with<T, Source<T, true, false>>(a, begin, end)
               : forward_with<T, Source<T, false, false>>(a, begin, end);
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
  const bool rows = a.leaves.view.inner <= kRowForm;
  fold_part(
      part, a.leaves.view.channels, 2,
      [&](index l, double* out) { rows ? row_moments(a, part, l, out) : plane_moments(a, part, l, out); },
      MergeMoments{a.leaves, 1, part.channel1 - part.channel0});
}

// ---- backward --------------------------------------------------------------------------------------------------

enum class Wanted { bias, norm_sums, norm };  // what a gradient kernel makes of dz

template <class T>
FASTNN_INLINE void put(const T* from, T* to, index n, bool stream) {
  if (stream)
    stream_block(from, to, n);
  else if (from != to)
    std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
}

// ((dz - k1) - c * k2) * k3
template <class T>
FASTNN_INLINE void norm_input_gradient(const Backward<T>& a, index g, index n, const T* dz, T* dx) {
  const ChannelMap<T>& m = a.map;
  for_segments(m, g, n, [&](index at, index length, index p) {
    const T* FASTNN_RESTRICT const x = a.x + g + at;
    const T* const d = dz + at;
    T* const to = dx + at;
    if (m.rows) {
      const T *FASTNN_RESTRICT const bias = m.bias + p, *FASTNN_RESTRICT const hi = m.hi + p,
                                     *FASTNN_RESTRICT const lo = m.lo + p, *FASTNN_RESTRICT const k1 = m.k1 + p,
                                     *FASTNN_RESTRICT const k2 = m.k2 + p, *FASTNN_RESTRICT const k3 = m.k3 + p;
#pragma GCC ivdep
      for (index i = 0; i < length; ++i)
        to[i] = ((d[i] - k1[i]) - (((x[i] + bias[i]) - hi[i]) - lo[i]) * k2[i]) * k3[i];
    } else {
      const T bias = m.bias[p], hi = m.hi[p], lo = m.lo[p], k1 = m.k1[p], k2 = m.k2[p], k3 = m.k3[p];
#pragma GCC ivdep
      for (index i = 0; i < length; ++i) to[i] = ((d[i] - k1) - (((x[i] + bias) - hi) - lo) * k2) * k3;
    }
  });
}

// A gradient kernel over one part: elementwise work block by block, and the sums of its values leaf by leaf.
template <class T, class S, Wanted W>
class GradientPart {
 public:
  GradientPart(const Backward<T>& a, const Part& part)
      : a_(a), part_(part), view_(a.leaves.view), run_(a.x, a.map, a.tail, a.x_is_output) {}

  void operator()() {
    const bool rows = view_.inner <= kRowForm;
    const auto leaf = [&](index l, double* out) { rows ? row_leaf(l, out) : plane_leaf(l, out); };
    if (part_.out) {
      fold_part(part_, view_.channels, kResults, leaf, MergeSums{kResults * (part_.channel1 - part_.channel0)});
    } else {
      for (index l = part_.leaf0; l < part_.leaf1; ++l) leaf(l, nullptr);
    }
    if (a_.stream) stream_fence();
  }

 private:
  static constexpr index kResults = W == Wanted::norm_sums ? 2 : 1;
  static constexpr index kTileRows = 32;

  // The values to be summed for elements [g, g + n), n <= kBlock, after the elementwise work: in `tile` (room for
  // n), or where they lie in memory.
  FASTNN_INLINE const T* values(index g, index n, T* tile) {
    if constexpr (W == Wanted::bias) {
      const bool direct = a_.dx && !a_.stream;
      const T* const dz = run_.backward(g, n, a_.dy + g, direct ? a_.dx + g : tile);
      if (a_.dx) put(dz, a_.dx + g, n, a_.stream);
      return dz;
    } else if constexpr (W == Wanted::norm_sums) {
      return run_.backward(g, n, a_.dy + g, tile);
    } else {
      const T* const dz = run_.backward(g, n, a_.dy + g, tile);
      if (a_.dresidual) put(dz, a_.dresidual + g, n, a_.stream);
      T* const dx = a_.stream ? tile : a_.dx + g;
      norm_input_gradient(a_, g, n, dz, dx);
      if (a_.stream) stream_block(dx, a_.dx + g, n);
      return dx;
    }
  }

  void plane_leaf(index l, double* out) {
    const LeafExtent e = leaf_extent(a_.leaves, l);
    const index band = part_.channel1 - part_.channel0;
    T tile[kBlock];
    T sums[kResults][kBandPlanes][kLanes];
    if (out)
      for (index k = 0; k < kResults; ++k)
        for (index c = 0; c < band; ++c)
          for (index lane = 0; lane < kLanes; ++lane) sums[k][c][lane] = 0;
    const auto stretch = [&](index begin, index end) {
      for_blocks(begin, end, [&](index g, index n) {
        const T* const v = values(g, n, tile);
        if (!out) return;
        index c = g / view_.inner % view_.channels, inner = g % view_.inner;
        for (index at = 0; at < n; ++c, inner = 0) {
          const index length = smaller(n - at, view_.inner - inner);
          add_plane(v + at, g + at, length, inner, c, sums[0][c - part_.channel0],
                    sums[kResults - 1][c - part_.channel0]);
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

  void row_leaf(index l, double* out) {
    const LeafExtent e = leaf_extent(a_.leaves, l);
    const index width = view_.channels * view_.inner, column0 = part_.channel0 * view_.inner;
    const index band = part_.channel1 - part_.channel0, columns = band * view_.inner;
    T tile[2 * kBlock > 4 * kBandRows ? 2 * kBlock : 4 * kBandRows];
    T sums[kResults][kBandRows];
    for (index k = 0; k < kResults; ++k)
      for (index j = 0; j < columns; ++j) sums[k][j] = 0;
    // Rows are taken a few at a time: four where they are wide, as many as fit a block where they are narrow.
    index at_once = kBlock / columns;
    at_once = at_once < 4 ? 4 : at_once > kTileRows ? kTileRows : at_once / 4 * 4;
    for (index r = e.sample0; r < e.sample1; r += at_once) {
      const index rows = smaller(at_once, e.sample1 - r);
      const index start = r * width + column0;
      const T* v = nullptr;
      const auto stretch = [&](index begin, index end, T* to) {
        for_blocks(begin, end, [&](index g, index n) {
          const T* const got = values(g, n, to + (g - begin));
          if (!v) v = got;
        });
      };
      if (columns == width)
        stretch(start, start + rows * width, tile);
      else
        for (index k = 0; k < rows; ++k) stretch(start + k * width, start + k * width + columns, tile + k * columns);
      if (out) add_rows(v, v == tile ? columns : width, a_.x + start, width, column0, columns, rows, sums);
    }
    if (out)
      for (index k = 0; k < kResults; ++k) fold_band(sums[k], band, view_.inner, out + k * band);
  }

  FASTNN_INLINE void add_rows(const T* FASTNN_RESTRICT v, index stride, const T* FASTNN_RESTRICT x, index width,
                              index column0, index columns, index rows, T (*sums)[kBandRows]) {
    T* FASTNN_RESTRICT const sum = sums[0];
    T* FASTNN_RESTRICT const sum2 = sums[kResults - 1];  // another array than sum where it is used
    const T* FASTNN_RESTRICT bias = nullptr;
    const T *FASTNN_RESTRICT hi = nullptr, *FASTNN_RESTRICT lo = nullptr;
    if constexpr (W == Wanted::norm_sums) {
      bias = a_.map.bias + column0;
      hi = a_.map.hi + column0;
      lo = a_.map.lo + column0;
    }
    index r = 0;
    for (; r + 4 <= rows; r += 4, v += 4 * stride, x += 4 * width)
      for (index j = 0; j < columns; ++j) {
        const T d0 = v[j], d1 = v[stride + j], d2 = v[2 * stride + j], d3 = v[3 * stride + j];
        if constexpr (W == Wanted::norm_sums) {
          const T b = bias[j], h = hi[j], l = lo[j];
          const T c0 = ((x[j] + b) - h) - l, c1 = ((x[width + j] + b) - h) - l;
          const T c2 = ((x[2 * width + j] + b) - h) - l, c3 = ((x[3 * width + j] + b) - h) - l;
          sum2[j] = (((sum2[j] + d0 * c0) + d1 * c1) + d2 * c2) + d3 * c3;
        }
        sum[j] = (((sum[j] + d0) + d1) + d2) + d3;
      }
    for (; r < rows; ++r, v += stride, x += width)
      for (index j = 0; j < columns; ++j) {
        if constexpr (W == Wanted::norm_sums) sum2[j] += v[j] * (((x[j] + bias[j]) - hi[j]) - lo[j]);
        sum[j] += v[j];
      }
  }

  const Backward<T>& a_;
  const Part& part_;
  const View& view_;
  EpilogueRunner<T, S> run_;
};

template <class T, Wanted W>
void gradient(const Backward<T>& a, const Part& part) {
  if constexpr (W == Wanted::bias)
    a.map.rows ? GradientPart<T, Source<T, true, false>, W>(a, part)()
               : GradientPart<T, Source<T, false, false>, W>(a, part)();
  else
    a.map.rows ? GradientPart<T, Source<T, true, true>, W>(a, part)()
               : GradientPart<T, Source<T, false, true>, W>(a, part)();
}

}  // namespace
}  // namespace fastnn
