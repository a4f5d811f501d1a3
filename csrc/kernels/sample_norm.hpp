// Norms within each sample: of rows (layer norm, RMS norm), and what group and instance norm need beyond batch norm's
// kernels.
//
// A row of n elements, with the mean held as hi + lo (both 0 in RMS norm, where var is the mean of x^2):
//   h = ((x - hi) - lo) * invstd       normalised; invstd = 1 / sqrt(var + eps)
//   v = h * weight + bias              column by column
// and backward, with dz the gradient that reaches v and g = dz * weight:
//   dbias = sum dz,  dweight = sum(dz * h)                     down the columns
//   dx = ((g - sum g / n) - h * (sum(g * h) / n)) * invstd     along the row; RMS norm has no sum g
// A few rows at a time are read, and read again while they are in L1.
#pragma once
#include "norm.hpp"

namespace fastnn {
namespace {

// ---- the epilogue on tiles ---------------------------------------------------------------------------------------

// A tile of values v, and the epilogue for it: the runner of a plain array, whose first element may lie anywhere in
// the whole one.
template <class T>
class TileEpilogue {
 public:
  explicit TileEpilogue(const Epilogue<T>& e) : whole_(e), here_(e), run_(values, plain_, here_, false) {
    plain_.channels = 1;
    plain_.inner = kBlock;
    plain_.bias = &kNothing<T>;
  }

  bool empty() const { return !whole_.residual && whole_.activation < 0 && whole_.threshold < 0; }

  // y = epilogue(v) for elements [g, g + n); y may be the tile itself.
  FASTNN_INLINE void forward(index g, index n, T* y) {
    move(g);
    run_.forward(0, n, y);
  }

  // dz = the gradient that reaches v, for an epilogue with an activation or dropout; dz may be dy itself.
  FASTNN_INLINE void backward(index g, index n, const T* dy, T* dz) {
    move(g);
    run_.backward(0, n, dy, dz, true);
  }

  T values[kBlock];

 private:
  FASTNN_INLINE void move(index g) {
    if (whole_.residual) here_.residual = whole_.residual + g;
    here_.first = whole_.first + g;
  }

  const Epilogue<T>& whole_;
  Epilogue<T> here_;
  ChannelMap<T> plain_{};
  EpilogueRunner<T, Source<T, false, false>> run_;
};

// ---- rows, forward -----------------------------------------------------------------------------------------------

constexpr index kHotRows = 4096;  // elements of the rows that are taken together, about

// Calls part(at, count, row, column) for the stretches of n elements, from element i of some rows on, that lie in one
// row each.
template <class Part>
FASTNN_INLINE void for_row_parts(index length, index i, index n, const Part& part) {
  index row = i / length, column = i % length;
  for (index at = 0; at < n; ++row, column = 0) {
    const index count = smaller(n - at, length - column);
    part(at, count, row, column);
    at += count;
  }
}

// As many whole rows as a block holds, or a block of a longer one.
FASTNN_INLINE index row_block(index length) {
  return length < kBlock ? kBlock / length * length : kBlock;
}

template <class T>
struct RowFactors {
  T hi, lo, invstd;
  RowFactors(const double* mean, const double* invstds, index row)
      : hi(0), lo(0), invstd(static_cast<T>(invstds[row])) {
    if (mean) {
      hi = static_cast<T>(mean[row]);
      lo = static_cast<T>(mean[row] - static_cast<double>(hi));
    }
  }
};

constexpr index kStretch = 256;  // elements between two fetches

// Memory waits while rows in L1 are worked on: what comes after them is fetched meanwhile, where it is beyond the cache
// ((4096, 768): 0.8 of the time; in cache it would be 1.15). next: nullptr for nothing.
template <class T>
FASTNN_NOINLINE void normalise(const T* FASTNN_RESTRICT x, const RowFactors<T>& f, const T* FASTNN_RESTRICT weight,
                               const T* FASTNN_RESTRICT bias, T* FASTNN_RESTRICT v, index n, const T* next) {
  const T hi = f.hi, lo = f.lo, invstd = f.invstd;
  for (index i = 0; i < n; i += kStretch) {
    const index end = smaller(n, i + kStretch);
    if (next) fetch(next + i, end - i);
    for (index j = i; j < end; ++j) v[j] = (((x[j] - hi) - lo) * invstd) * weight[j] + bias[j];
  }
}

template <class T>
double row_sum_of_squares(const T* x, index n) {
  double total;
  fold<1>(
      0, (n + kPiece - 1) / kPiece, &total,
      [&](index l, double* out) { *out = sum_leaf(x + l * kPiece, smaller(kPiece, n - l * kPiece), true); },
      MergeSums{1});
  return total;
}

// Mean and 1 / standard deviation of at most kBandPlanes rows. With the mean, rows are the channels of one sample.
template <class T>
void row_statistics(const RowNorm<T>& a, index r, index rows) {
  double results[2 * kBandPlanes];
  double* const squares = results + kBandPlanes;
  if (a.mean) {
    moments(Moments<T>{a.x + r * a.length, {}, a.leaves}, Part{0, a.leaves.count, 0, rows, results});
    for (index k = 0; k < rows; ++k) a.mean[r + k] = results[k];
  } else {
    for (index k = 0; k < rows; ++k) squares[k] = row_sum_of_squares(a.x + (r + k) * a.length, a.length);
  }
  norm_invstd(squares, static_cast<double>(a.length), a.eps, a.invstd + r, rows);
}

template <class T>
void row_norm(const RowNorm<T>& a, index begin, index end) {
  TileEpilogue<T> tail(a.tail);
  const bool direct = tail.empty() && !a.stream;
  const index length = a.length, block = row_block(length);
  const index together = smaller(kBandPlanes, length < kHotRows ? kHotRows / length : 1);
  for (index r = begin; r < end; r += together) {
    const index rows = smaller(together, end - r);
    row_statistics(a, r, rows);
    for (index i = 0; i < rows * length; i += block) {
      const index g = r * length + i, n = smaller(block, rows * length - i);
      T* const v = direct ? a.y + g : tail.values;
      for_row_parts(length, i, n, [&](index at, index count, index row, index column) {
        normalise(a.x + g + at, RowFactors<T>(a.mean, a.invstd, r + row), a.weight + column, a.bias + column, v + at,
                  count, a.stream ? a.x + g + rows * length + at : static_cast<const T*>(nullptr));
      });
      if (!tail.empty()) tail.forward(g, n, a.stream ? v : a.y + g);
      if (a.stream) stream_block(v, a.y + g, n);
    }
  }
  if (a.stream) stream_fence();
}

// ---- rows, backward ----------------------------------------------------------------------------------------------

// Of a stretch of at most kPiece elements of a row: adds sum g and sum(g * h) to sums[0] and sums[1], dz * h and dz to
// the columns.
template <class T>
FASTNN_NOINLINE void add_row_sums(const T* FASTNN_RESTRICT x, const T* FASTNN_RESTRICT dz, const RowFactors<T>& f,
                                  const T* FASTNN_RESTRICT weight, T* FASTNN_RESTRICT dweight, T* FASTNN_RESTRICT dbias,
                                  index n, double* sums) {
  const T hi = f.hi, lo = f.lo;
  const Lanes<T> invstd = Lanes<T>::zero() + f.invstd;
  Lanes<T> sum = Lanes<T>::zero(), sum2 = sum;
  index i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Lanes<T> d = Lanes<T>::load(dz + i), h = ((Lanes<T>::load(x + i) - hi) - lo) * invstd;
    const Lanes<T> g = d * Lanes<T>::load(weight + i);
    sum = sum + g;
    sum2 = sum2 + g * h;
    (Lanes<T>::load(dweight + i) + d * h).store(dweight + i);
    (Lanes<T>::load(dbias + i) + d).store(dbias + i);
  }
  T tail[kLanes] = {}, tail2[kLanes] = {};
  for (index lane = 0; i < n; ++i, ++lane) {
    const T h = ((x[i] - hi) - lo) * f.invstd, g = dz[i] * weight[i];
    tail[lane] = g;
    tail2[lane] = g * h;
    dweight[i] += dz[i] * h;
    dbias[i] += dz[i];
  }
  (sum + Lanes<T>::load(tail)).store(tail);
  (sum2 + Lanes<T>::load(tail2)).store(tail2);
  sums[0] += static_cast<double>(fold_lanes(tail));
  sums[1] += static_cast<double>(fold_lanes(tail2));
}

// dx = ((g - k1) - h * k2) * invstd; dx may be dz itself.
template <class T>
FASTNN_NOINLINE void row_gradient_loop(const T* FASTNN_RESTRICT x, const T* dz, const RowFactors<T>& f, T k1, T k2,
                                       const T* FASTNN_RESTRICT weight, T* dx, index n, const T* next,
                                       const T* next_dy) {
  const T hi = f.hi, lo = f.lo, invstd = f.invstd;
  for (index i = 0; i < n; i += kStretch) {
    const index end = smaller(n, i + kStretch);
    if (next) fetch(next + i, end - i);
    if (next_dy) fetch(next_dy + i, end - i);
#pragma GCC ivdep
    for (index j = i; j < end; ++j) dx[j] = ((dz[j] * weight[j] - k1) - (((x[j] - hi) - lo) * invstd) * k2) * invstd;
  }
}

// The rows of a task; `columns` are the sums of a leaf, down the columns.
template <class T>
class RowGradient {
 public:
  RowGradient(const RowNormGradient<T>& a, T* columns)
      : a_(a),
        columns_(columns),
        together_(smaller(kBandPlanes, a.length < kBlock ? kBlock / a.length : 1)),
        tail_(a.tail) {}

  void leaf(index l, double* FASTNN_RESTRICT out) {
    T* FASTNN_RESTRICT const columns = columns_;
    for (index j = 0; j < 2 * a_.length; ++j) columns[j] = 0;
    const index end = smaller((l + 1) * kLeafRows, a_.rows);
    for (index r = l * kLeafRows; r < end; r += together_) rows(r, smaller(together_, end - r));
    for (index j = 0; j < 2 * a_.length; ++j) out[j] = columns[j];
  }

 private:
  FASTNN_INLINE RowFactors<T> factors(index r) const { return RowFactors<T>(a_.mean, a_.invstd, r); }

  void rows(index r, index count) {
    const index length = a_.length, start = r * length, block = row_block(length);
    const T* const dz = incoming(r, count);
    T k1[kBandPlanes], k2[kBandPlanes];
    for (index k = 0; k < count; ++k) {
      double sums[2] = {0, 0};
      for (index i = 0; i < length; i += kPiece)
        add_row_sums(a_.x + start + k * length + i, dz + k * length + i, factors(r + k), a_.weight + i, columns_ + i,
                     columns_ + length + i, smaller(kPiece, length - i), sums);
      k1[k] = a_.mean ? static_cast<T>(sums[0] / static_cast<double>(length)) : T(0);
      k2[k] = static_cast<T>(sums[1] / static_cast<double>(length));
    }
    T tile[kBlock];
    const bool stream = a_.stream && dz != a_.dx + start;
    for (index i = 0; i < count * length; i += block) {
      const index n = smaller(block, count * length - i), g = start + i;
      T* const dx = stream ? tile : a_.dx + g;
      for_row_parts(length, i, n, [&](index at, index part, index row, index column) {
        const index next = g + count * length + at;
        row_gradient_loop(a_.x + g + at, dz + i + at, factors(r + row), k1[row], k2[row], a_.weight + column, dx + at,
                          part, a_.stream ? a_.x + next : nullptr, a_.stream ? a_.dy + next : nullptr);
      });
      if (stream) stream_block(tile, a_.dx + g, n);
    }
  }

  // The gradient behind the epilogue: dy itself if there is none, else in an output or in a tile.
  const T* incoming(index r, index count) {
    const index length = a_.length, start = r * length, size = count * length, block = row_block(length);
    if (tail_.empty()) {
      if (a_.dresidual) std::memcpy(a_.dresidual + start, a_.dy + start, static_cast<std::size_t>(size) * sizeof(T));
      return a_.dy + start;
    }
    T* const dz = a_.dresidual ? a_.dresidual + start : size <= kBlock ? dz_ : a_.dx + start;
    for (index i = 0; i < size; i += block) {
      const index n = smaller(block, size - i), g = start + i;
      if (a_.tail.activation >= 0)
        for_row_parts(length, i, n, [&](index at, index part, index row, index column) {
          normalise(a_.x + g + at, factors(r + row), a_.weight + column, a_.bias + column, tail_.values + at, part,
                    static_cast<const T*>(nullptr));
        });
      tail_.backward(g, n, a_.dy + g, dz + i);
    }
    return dz;
  }

  const RowNormGradient<T>& a_;
  T* columns_;
  index together_;
  T dz_[kBlock];
  TileEpilogue<T> tail_;
};

// As fold, for sums of any width; `scratch` has room for one result on each level.
template <class Leaf>
void fold_wide(index l0, index l1, index width, double* FASTNN_RESTRICT out, double* FASTNN_RESTRICT scratch,
               const Leaf& leaf) {
  if (l1 - l0 == 1) return leaf(l0, out);
  index half = 1;
  while (2 * half < l1 - l0) half *= 2;
  fold_wide(l0, l0 + half, width, out, scratch, leaf);
  fold_wide(l0 + half, l1, width, scratch, scratch + width, leaf);
  for (index j = 0; j < width; ++j) out[j] += scratch[j];
}

template <class T>
void row_norm_gradient(const RowNormGradient<T>& a, T* columns, double* scratch, index leaf0, index leaf1,
                       double* out) {
  RowGradient<T> rows(a, columns);
  fold_wide(leaf0, leaf1, 2 * a.length, out, scratch, [&](index l, double* to) { rows.leaf(l, to); });
  if (a.stream) stream_fence();
}

// ---- groups of channels ------------------------------------------------------------------------------------------
// Statistics, the forward pass and the sums of the gradient are those of batch norm on one sample; but a group's means
// belong to several channels, so that the weight stays with dz:
//   dx = (dz * scale - k1) - c * k2    c = x - mean, scale = weight * invstd

template <class T, bool Rows>
FASTNN_INLINE void group_gradient_with(const Backward<T>& a, index begin, index end) {
  for_blocks(begin, end, [&](index g, index n) {
    T tile[kBlock];
    T* const dx = a.stream ? tile : a.dx + g;
    for_segments<Rows>(a.map, g, n, [&](index at, index length, index p) {
      const Source<T, Rows, true> source(a.x + g + at, a.map, p);
      const Parameter<T, Rows> scale(a.map.scale + p), k1(a.map.k1 + p), k2(a.map.k2 + p);
      const T* const dz = a.dy + g + at;
      T* const to = dx + at;
#pragma GCC ivdep
      for (index i = 0; i < length; ++i) to[i] = (dz[i] * scale[i] - k1[i]) - source.centred(i) * k2[i];
    });
    if (a.stream) stream_block(tile, a.dx + g, n);
  });
  if (a.stream) stream_fence();
}

template <class T>
void group_gradient(const Backward<T>& a, index begin, index end) {
  a.map.rows ? group_gradient_with<T, true>(a, begin, end) : group_gradient_with<T, false>(a, begin, end);
}

}  // namespace
}  // namespace fastnn
