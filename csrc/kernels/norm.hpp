// Producers (bias, batch norm) with the shared epilogue, forward and backward, and the moments they need.
//
// Batch norm over the n elements of a channel:
//   c = (x + bias) - mean               centred
//   v = c * scale + beta                scale = weight / sqrt(var + eps)
// and backward, with dz the gradient that reaches v:
//   dbeta = sum dz,  dweight = sum(dz * c) / sqrt(var + eps)
//   dx = (dz - dbeta / n - c * sum(dz * c) / (n (var + eps))) * scale
//      = ((dz - k1) - c * k2) * scale
// Elements are centred by the mean as T can hold it; what that leaves, r, is the same for all of a channel and known in
// double: beta - r * scale, k1 - r * k2 and sum(dz * c) - r * sum dz make up for it.
#pragma once
#include "epilogue.hpp"
#include "math.hpp"
#include "reduce.hpp"

namespace fastnn {
namespace {

// ---- forward ---------------------------------------------------------------------------------------------------

template <class T, class S>
void forward_with(const Forward<T>& a, index begin, index end) {
  EpilogueRunner<T, S> run(a.x, a.map, a.tail, false);
  for_blocks(begin, end, [&](index g, index n) {
    T tile[kBlock];
    run.forward(g, n, a.stream ? tile : a.y + g);
    if (a.stream) stream_block(tile, a.y + g, n);
  });
  if (a.stream) stream_fence();
}

template <class T>
void forward(const Forward<T>& a, index begin, index end) {
  with_flags(a.map.rows, a.map.mean,
             [&](auto rows, auto normalised) { forward_with<T, Source<T, rows, normalised>>(a, begin, end); });
}

// ---- moments ---------------------------------------------------------------------------------------------------
// A leaf subtracts a shift near its mean, sums d and d^2, and gives mean = shift + Sd / n, M2 = Sd2 - Sd^2 / n:
// one pass over memory without the cancellation of E[x^2] - E[x]^2.

constexpr index kNarrow = 2 * kLanes;  // loops along rows that are shorter do not pay,
constexpr index kFlat = 96;            // nor do they with an activation in them for rows that are shorter than this

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

// x + bias, with a bias or without.
template <class T, bool Rows, bool Biased>
struct Shifted {
  Parameter<T, Rows> bias;
  FASTNN_INLINE Shifted(const ChannelMap<T>& m, index p) : bias(Biased ? m.bias + p : &kNothing<T>) {}
  template <class V>
  FASTNN_INLINE V operator()(V x, index i) const {
    if constexpr (Biased) return x + bias[i];
    return x;
  }
};

template <class T, bool Biased>
void plane_moments(const Moments<T>& a, const Part& part, index l, double* out) {
  const View& v = a.leaves.view;
  const LeafExtent e = leaf_extent(a.leaves, l);
  const index band = part.channel1 - part.channel0, length = e.inner1 - e.inner0;
  const index whole = length / kLanes * kLanes, left = length - whole;
  T shifts[kBandPlanes], sums[kBandPlanes], sums2[kBandPlanes];
  for (index c = part.channel0; c < part.channel1; ++c) {
    const T* const first = a.x + (e.sample0 * v.channels + c) * v.inner + e.inner0;
    const Shifted<T, false, Biased> biased(a.map, c);
    const T shift =
        plane_sum<T>(length, [&](index i, auto... some) { return biased(Lanes<T>::load(first + i, some...), 0); }) /
        static_cast<T>(length);
    Lanes<T> sum = Lanes<T>::zero(), sum2 = sum, tail = sum, tail2 = sum;  // the ragged end has sums of its own
    for (index o = e.sample0; o < e.sample1; ++o) {
      const T* FASTNN_RESTRICT x = first + (o - e.sample0) * v.channels * v.inner;
      for (index i = 0; i < whole; i += kLanes) {
        const Lanes<T> d = biased(Lanes<T>::load(x + i), 0) - shift;
        sum = sum + d;
        sum2 = sum2 + d * d;
      }
      if (left) {
        const Lanes<T> d = (biased(Lanes<T>::load(x + whole, left), 0) - shift).first(left);
        tail = tail + d;
        tail2 = tail2 + d * d;
      }
    }
    shifts[c - part.channel0] = shift;
    sums[c - part.channel0] = fold_lanes(sum + tail);
    sums2[c - part.channel0] = fold_lanes(sum2 + tail2);
  }
  finish_moments(shifts, sums, sums2, (e.sample1 - e.sample0) * length, band, out, out + band);
}

// The sums of rows too short for loops along them: 16 columns in registers, the rows read beyond their end.
template <class T, bool Biased>
FASTNN_INLINE void narrow_moments(const T* FASTNN_RESTRICT x, const Shifted<T, true, Biased>& biased, const T* shift,
                                  index rows, index width, T* sum, T* sum2) {
  for (index j = 0; j < width; j += kLanes) {
    const index columns = smaller(kLanes, width - j), last = rows * width - kLanes;
    T bias[kLanes] = {};
    for (index l = 0; l < columns; ++l) bias[l] = biased(T(-0.0), j + l);
    const Lanes<T> b = Lanes<T>::load(bias), h = Lanes<T>::load(shift + j, columns);
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
        const T d = (x[at + l] + bias[l]) - shift[j + l];
        lane[l] += d;
        lane2[l] += d * d;
      }
    for (index l = 0; l < columns; ++l) {
      sum[j + l] = lane[l];
      sum2[j + l] = lane2[l];
    }
  }
}

template <class T, bool Biased>
void row_moments(const Moments<T>& a, const Part& part, index l, double* out) {
  const View& v = a.leaves.view;
  const LeafExtent e = leaf_extent(a.leaves, l);
  const index width = v.channels * v.inner, column0 = part.channel0 * v.inner;
  const index band = part.channel1 - part.channel0, columns = band * v.inner, rows = e.sample1 - e.sample0;
  const T* FASTNN_RESTRICT const x = a.x + e.sample0 * width + column0;
  const Shifted<T, true, Biased> biased(a.map, column0);
  T shift[kBandRows], sum[kBandRows], sum2[kBandRows];
  // The shift: the mean of the first four rows, or of the first short plane.
  const index first = v.inner == 1 ? smaller(rows, 4) : 1;
  for (index j = 0; j < columns; ++j) sum[j] = biased(x[j], j);
  for (index r = 1; r < first; ++r)
    for (index j = 0; j < columns; ++j) sum[j] += biased(x[r * width + j], j);
  const T count = static_cast<T>(first * v.inner);
  if (v.inner == 1)
    for (index j = 0; j < columns; ++j) shift[j] = sum[j] / count;
  else
    for (index c = 0; c < band; ++c) {
      const T s = fold_columns(sum + c * v.inner, v.inner) / count;
      for (index i = 0; i < v.inner; ++i) shift[c * v.inner + i] = s;
    }
  for (index j = 0; j < columns; ++j) sum[j] = sum2[j] = 0;
  if (width == columns && width < kNarrow)
    narrow_moments(x, biased, shift, rows, width, sum, sum2);
  else
    add_rows<4>(x, rows, columns, width, [&](auto together, const T* FASTNN_RESTRICT row, index j0, index n) {
      T *FASTNN_RESTRICT const to = sum + j0, *FASTNN_RESTRICT const to2 = sum2 + j0;
      const T* FASTNN_RESTRICT const h = shift + j0;
      for (index j = 0; j < n; ++j) {
        T s = to[j], s2 = to2[j];
        times(together, [&](index k) {
          const T d = biased(row[k * width + j], j0 + j) - h[j];
          s += d;
          s2 += d * d;
        });
        to[j] = s;
        to2[j] = s2;
      }
    });
  if (v.inner > 1)
    for (index c = 0; c < band; ++c) {  // in place: the columns of channel c are at or behind entry c
      shift[c] = shift[c * v.inner];
      sum[c] = fold_columns(sum + c * v.inner, v.inner);
      sum2[c] = fold_columns(sum2 + c * v.inner, v.inner);
    }
  finish_moments(shift, sum, sum2, rows * v.inner, band, out, out + band);
}

template <class T, bool Biased>
FASTNN_INLINE void moments_with(const Moments<T>& a, const Part& part) {
  const index channels = a.leaves.view.channels;
  const MergeMoments merge{a.leaves, 1, part.channel1 - part.channel0};
  if (a.leaves.view.inner <= kRowForm)
    fold_part<2 * kBandRows>(
        part, channels, 2, [&](index l, double* out) { row_moments<T, Biased>(a, part, l, out); }, merge);
  else
    fold_part<2 * kBandPlanes>(
        part, channels, 2, [&](index l, double* out) { plane_moments<T, Biased>(a, part, l, out); }, merge);
}

template <class T>
void moments(const Moments<T>& a, const Part& part) {
  a.map.bias ? moments_with<T, true>(a, part) : moments_with<T, false>(a, part);
}

// ---- channel parameters ----------------------------------------------------------------------------------------

inline void norm_invstd(const double* deviations, double n, double eps, double* invstd, index count) {
#pragma GCC ivdep
  for (index c = 0; c < count; ++c) invstd[c] = 1 / square_root(deviations[c] / n + eps);
}

// What rounding the mean has left of it.
template <class T>
FASTNN_INLINE double remainder(double mean, T rounded) {
  return mean - static_cast<double>(rounded);
}

// a - rest * factor. A rest of nothing takes nothing away, be the factor infinite or the result -0.
FASTNN_INLINE double less(double a, double rest, double factor) {
  const double product = rest * factor;
  return product != 0 && product - product == 0 ? a - product : a;
}

template <class T>
void norm_factors(const double* FASTNN_RESTRICT mean, const double* FASTNN_RESTRICT invstd,
                  const T* FASTNN_RESTRICT weight, const T* FASTNN_RESTRICT bias, T* FASTNN_RESTRICT rounded,
                  T* FASTNN_RESTRICT scale, T* FASTNN_RESTRICT beta, index count) {
  with_flags(weight, bias, [&](auto weighted, auto biased) {
    for (index c = 0; c < count; ++c) {
      const double s = weighted ? static_cast<double>(weight[c]) * invstd[c] : invstd[c];
      rounded[c] = static_cast<T>(mean[c]);
      scale[c] = static_cast<T>(s);
      beta[c] = static_cast<T>(less(biased ? static_cast<double>(bias[c]) : -0.0, remainder(mean[c], rounded[c]), s));
    }
  });
}

template <class T>
void norm_gradient_factors(const double* FASTNN_RESTRICT sum_dz, const double* FASTNN_RESTRICT sum_dzc,
                           const double* FASTNN_RESTRICT mean, const double* FASTNN_RESTRICT invstd, double n,
                           T* FASTNN_RESTRICT k1, T* FASTNN_RESTRICT k2, T* FASTNN_RESTRICT dbias,
                           T* FASTNN_RESTRICT dweight, index count) {
  for (index c = 0; c < count; ++c) {
    const double r = remainder(mean[c], static_cast<T>(mean[c])), sum_dzh = less(sum_dzc[c], r, sum_dz[c]) * invstd[c];
    const double factor = sum_dzh * invstd[c] / n;
    k1[c] = static_cast<T>(less(sum_dz[c] / n, r, factor));
    k2[c] = static_cast<T>(factor);
    dbias[c] = static_cast<T>(sum_dz[c]);
    dweight[c] = static_cast<T>(sum_dzh);
  }
}

// ---- backward --------------------------------------------------------------------------------------------------

enum class Wanted { bias, norm_sums, norm };  // what a gradient kernel makes of dz

// Loops that have none, relu and leaky_relu compiled in.

// dx = ((dz - k1) - c * k2) * scale with dz = d * f'(v)
template <class T, template <class> class A, class S>
FASTNN_INLINE void input_gradient_loop(const S& source, const ChannelMap<T>& m, index p, const T* d,
                                       const Epilogue<T>& e, T* dx, index n) {
  const T p0 = e.p0, p1 = e.p1;
  const Parameter<T, S::rows> k1(m.k1 + p), k2(m.k2 + p), scale(m.scale + p);
#pragma GCC ivdep
  for (index i = 0; i < n; ++i) {
    const T c = source.centred(i);
    const T dz = A<T>::backward(d[i], source.affine(c, i), p0, p1);
    dx[i] = ((dz - k1[i]) - c * k2[i]) * scale[i];
  }
}

// sum += dz, sum2 += dz * c, column by column; so many rows are `width` apart.
template <template <class> class A, index Together, class T, class S>
FASTNN_INLINE void column_sums_loop(Number<Together> together, const S& source, const T* FASTNN_RESTRICT d, index width,
                                    const Epilogue<T>& e, T* FASTNN_RESTRICT sum, T* FASTNN_RESTRICT sum2, index n) {
  const T p0 = e.p0, p1 = e.p1;
  for (index i = 0; i < n; ++i) {
    T s = sum[i], s2 = sum2[i];
    times(together, [&](index k) {
      const T c = source.centred(i, k * width);
      const T dz = A<T>::backward(d[i + k * width], source.affine(c, i), p0, p1);
      s += dz;
      s2 += dz * c;
    });
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
    const T c = source.centred(i);
    const T z = A<T>::backward(d[i], source.affine(c, i), p0, p1);
    dz[i] = z;
    dzc[i] = z * c;
  }
}

// PReLU, whose gradients are summed as those of a bias are: dx = x > 0 ? dy : slope dy, and the values to be summed for
// the slope. dx may be dy or x.
template <class T, bool Rows>
FASTNN_INLINE void slope_gradient_loop(const T* x, const Parameter<T, Rows>& slope, const T* dy, T* dx,
                                       T* FASTNN_RESTRICT dslope, index n) {
#pragma GCC ivdep
  for (index i = 0; i < n; ++i) {
    const T v = x[i], d = dy[i], product = d * v;
    dx[i] = LeakyRelu<T>::backward(d, v, slope[i], 0);
    dslope[i] = v > 0 ? T(0) : product;
  }
}

// A gradient kernel over one part: elementwise work block by block, and the sums of its values leaf by leaf.
template <class T, class S, Wanted W>
class GradientPart {
 public:
  GradientPart(const Backward<T>& a, const Part& part)
      : a_(a), part_(part), view_(a.leaves.view), run_(a.x, a.map, a.tail, a.x_is_output) {}

  void operator()() {
    const MergeSums merge{kResults * (part_.channel1 - part_.channel0)};
    const bool rows = view_.inner <= kRowForm;
    const auto leaf = [&](index l, double* out) {
      if (S::rows || rows)  // channel parameters in rows go with short planes only
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

  struct Tiles {
    T dz[kBlock], dx[kBlock];
  };

  // The elementwise work on n elements from g on, whose dx goes to `to`; what is to be summed.
  FASTNN_NOINLINE const T* values(index g, index n, T* to, T* dz) {
    if constexpr (W == Wanted::norm) {
      const Incoming<T> d = run_.backward(g, n, a_.dy + g, dz, false);
      if (d.left == Fused::relu)
        input_gradient<Relu>(g, n, d.dy, to);
      else if (d.left == Fused::leaky_relu)
        input_gradient<LeakyRelu>(g, n, d.dy, to);
      else
        input_gradient<Identity>(g, n, d.dy, to);
      return to;
    } else {
      if constexpr (W == Wanted::bias)
        if (a_.map.scale) {
          run_.take(g, n);
          run_.for_sources(g, n, [&](const S& source, index at, index length, index p) {
            slope_gradient_loop(source.x, Parameter<T, S::rows>(a_.map.scale + p), a_.dy + g + at, to + at, dz + at,
                                length);
          });
          return dz;
        }
      const Incoming<T> d = run_.backward(g, n, a_.dy + g, to, true);
      if (a_.dx && d.dy != to) std::memcpy(to, d.dy, static_cast<std::size_t>(n) * sizeof(T));
      return d.dy;
    }
  }

  template <template <class> class A>
  FASTNN_INLINE void input_gradient(index g, index n, const T* d, T* to) const {
    run_.for_sources(g, n, [&](const S& source, index at, index length, index p) {
      input_gradient_loop<T, A>(source, a_.map, p, d + at, a_.tail, to + at, length);
    });
  }

  // The same with dx in memory, or in a tile that is streamed to it.
  FASTNN_INLINE const T* stored_values(index g, index n, Tiles& tiles) {
    const bool tiled = a_.stream || !a_.dx;
    const T* const v = values(g, n, tiled ? tiles.dx : a_.dx + g, tiles.dz);
    if (a_.stream && a_.dx) stream_block(tiles.dx, a_.dx + g, n);
    return v;
  }

  // Blocks of whole planes, or such parts of a plane as begin at a multiple of 16.
  void plane_leaf(index l, double* out) {
    const LeafExtent e = leaf_extent(a_.leaves, l);
    const index band = part_.channel1 - part_.channel0, inner = view_.inner, length = e.inner1 - e.inner0;
    T sums[kResults][kBandPlanes][kLanes];
    if (out)
      for (index k = 0; k < kResults; ++k)
        for (index c = 0; c < band; ++c)
          for (index lane = 0; lane < kLanes; ++lane) sums[k][c][lane] = 0;
    const index planes = inner < kBlock ? kBlock / inner : 1;
    for (index o = e.sample0; o < e.sample1; ++o)
      for (index c = part_.channel0; c < part_.channel1; c += planes) {
        const index start = (o * view_.channels + c) * inner + e.inner0;
        const index size = planes == 1 ? length : smaller(planes, part_.channel1 - c) * inner;
        for (index i = 0; i < size; i += kBlock) {
          const index n = smaller(kBlock, size - i);
          Tiles tiles;
          const T* const v = stored_values(start + i, n, tiles);
          for (index at = 0, k = c - part_.channel0; out && at < n; at += inner, ++k)
            add_plane(v + at, run_.x() + at, smaller(inner, n - at), part_.channel0 + k, sums[0][k],
                      sums[kResults - 1][k]);
        }
      }
    if (out)
      for (index k = 0; k < kResults; ++k)
        for (index c = 0; c < band; ++c) out[k * band + c] = fold_lanes(sums[k][c]);
  }

  // Element i of a plane goes to lane i mod 16.
  FASTNN_INLINE void add_plane(const T* v, const T* FASTNN_RESTRICT x, index n, index c, T* sum, T* sum2) {
    Lanes<T> s = Lanes<T>::load(sum), s2 = Lanes<T>::load(sum2);
    const index whole = n / kLanes * kLanes, left = n - whole;
    if constexpr (W == Wanted::norm_sums) {
      const T mean = a_.map.mean[c];
      for (index i = 0; i < whole; i += kLanes) {
        const Lanes<T> d = Lanes<T>::load(v + i);
        s = s + d;
        s2 = s2 + d * (Lanes<T>::load(x + i) - mean);
      }
      if (left) {
        const Lanes<T> d = Lanes<T>::load(v + whole, left);
        s = s + d;
        s2 = s2 + d * (Lanes<T>::load(x + whole, left) - mean);
      }
      s2.store(sum2);
    } else {
      for (index i = 0; i < whole; i += kLanes) s = s + Lanes<T>::load(v + i);
      if (left) s = s + Lanes<T>::load(v + whole, left);
    }
    s.store(sum);
  }

  // Rows in memory order; a leaf's columns have one accumulator each.
  void row_leaf(index l, double* out) {
    const LeafExtent e = leaf_extent(a_.leaves, l);
    const index width = view_.channels * view_.inner, column0 = part_.channel0 * view_.inner;
    const index band = part_.channel1 - part_.channel0, columns = band * view_.inner;
    T sums[kResults][kBandRows];
    for (index k = 0; k < kResults; ++k)
      for (index j = 0; j < columns; ++j) sums[k][j] = 0;
    if (!out && columns == width && width < kBlock)  // nothing to sum, and no rows as long as a block
      return for_blocks(e.sample0 * width, e.sample1 * width, [&](index g, index n) {
        Tiles tiles;
        stored_values(g, n, tiles);
      });
    const index start = e.sample0 * width + column0, rows = e.sample1 - e.sample0;
    if (W == Wanted::bias && columns >= kNarrow && out && !computes()) {
      add_plain_rows(a_.dy + start, rows, columns, width, sums[0]);
    } else {
      // As many whole rows as a block holds; where results are streamed, loads would wait for so many stores.
      const bool flat = columns == width && width < (a_.stream ? kFlat : kBlock);
      const index together = flat && width > 0 ? kBlock / width : 1;
      for (index r = 0; r < rows; r += together)
        add_block(start + r * width, smaller(together, rows - r), columns, column0, width, sums);
    }
    if (out)
      for (index k = 0; k < kResults; ++k) fold_band(sums[k], band, view_.inner, out + k * band);
  }

  // Whether anything becomes of dy but sums.
  FASTNN_INLINE bool computes() const { return a_.dx || a_.tail.activation >= 0 || a_.tail.threshold >= 0; }

  FASTNN_NOINLINE static void add_plain_rows(const T* FASTNN_RESTRICT d, index rows, index columns, index width,
                                             T* FASTNN_RESTRICT sum) {
    add_rows<4>(d, rows, columns, width, [&](auto together, const T* FASTNN_RESTRICT row, index j0, index n) {
      T* FASTNN_RESTRICT const to = sum + j0;
      for (index j = 0; j < n; ++j) {
        T s = to[j];
        times(together, [&](index k) { s += row[k * width + j]; });
        to[j] = s;
      }
    });
  }

  FASTNN_NOINLINE void add_block(index g, index rows, index columns, index column0, index width, T (*sums)[kBandRows]) {
    Tiles tiles;
    const index n = rows * columns;
    if constexpr (W == Wanted::norm_sums) {
      Incoming<T> d{};  // dz, kept where it is wanted itself, or a gradient that has an activation to pass
      if (a_.dx)
        d = {stored_values(g, n, tiles), Fused::none};
      else
        d = run_.backward(g, n, a_.dy + g, tiles.dz, false);
      if (d.left == Fused::relu)
        add_products<Relu, 1>(g, d.dy, rows, columns, column0, width, sums);
      else if (d.left == Fused::leaky_relu)
        add_products<LeakyRelu, 1>(g, d.dy, rows, columns, column0, width, sums);
      else
        add_products<Identity, 4>(g, d.dy, rows, columns, column0, width, sums);
    } else {
      const T* const d = stored_values(g, n, tiles);
      if (!part_.out) return;
      if (columns < kNarrow && columns == width)
        add_rows_of_block(d, rows, width, sums[0]);
      else
        add_plain_rows(d, rows, columns, columns, sums[0]);
    }
  }

  // dz and dz * c of rows in cache, so many of them at once. (gcc would make branches of relu for four.)
  template <template <class> class A, index Together>
  FASTNN_INLINE void add_products(index g, const T* d, index rows, index columns, index column0, index width,
                                  T (*sums)[kBandRows]) const {
    if (columns == width && columns < (Together > 1 ? kNarrow : kFlat)) {
      T dz[kBlock], dzc[kBlock];
      run_.for_sources(g, rows * width, [&](const S& source, index at, index length, index) {
        products_loop<T, A>(source, d + at, a_.tail, dz + at, dzc + at, length);
      });
      add_rows_of_block(dz, rows, width, sums[0]);
      add_rows_of_block(dzc, rows, width, sums[1]);
      return;
    }
    add_rows<Together>(d, rows, columns, width, [&](auto together, const T* row, index j, index length) {
      const S source = run_.source(row - d, column0 + j);
      if (together > 1) fetch(source.x + together * width + (together - 1) * j, together * length);
      column_sums_loop<A>(together, source, row, width, a_.tail, sums[0] + j, sums[1] + j, length);
    });
  }

  const Backward<T>& a_;
  const Part& part_;
  const View& view_;
  EpilogueRunner<T, S> run_;
};

template <class T, Wanted W>
void gradient(const Backward<T>& a, const Part& part) {
  constexpr bool normalised = W != Wanted::bias;
  if (a.map.rows)
    GradientPart<T, Source<T, true, normalised>, W>(a, part)();
  else
    GradientPart<T, Source<T, false, normalised>, W>(a, part)();
}

}  // namespace
}  // namespace fastnn
