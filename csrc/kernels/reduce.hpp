// The reduction tree. A channel is cut into leaves by its shape alone; inside a leaf the order is fixed (16 lanes
// along a plane, or one accumulator per column of a row), and leaves merge on a binary tree in index order: the
// left subtree is the largest power of two. Tasks are aligned subtrees, so the cut into tasks changes no bit.
#pragma once
#include "loops.hpp"

namespace fastnn {
namespace {

// out[0..width) = leaves [l0, l1) merged, width <= Width. leaf(l, out), merge(l0, middle, l1, left_and_out, right).
// Not inlined, as the compiler would inline it into itself.
template <index Width, class Leaf, class Merge>
FASTNN_NOINLINE void fold(index l0, index l1, double* out, const Leaf& leaf, const Merge& merge) {
  if (l1 - l0 == 1) return leaf(l0, out);
  index half = 1;
  while (2 * half < l1 - l0) half *= 2;
  double right[Width];
  fold<Width>(l0, l0 + half, out, leaf, merge);
  fold<Width>(l0 + half, l1, right, leaf, merge);
  merge(l0, l0 + half, l1, out, right);
}

// Elements of one channel in leaves [0, l).
FASTNN_INLINE index elements_before(const Leaves& t, index l) {
  if (t.pieces > 1) return l / t.pieces * t.view.inner + smaller(l % t.pieces * kPiece, t.view.inner);
  return smaller(l * t.samples, t.view.outer) * t.view.inner;
}

// Chan, Golub, LeVeque (1979): the mean and the sum of squared deviations of two sets together.
struct MergeMoments {
  const Leaves& leaves;
  index leaves_per_part, width;
  void operator()(index l0, index middle, index l1, double* FASTNN_RESTRICT left,
                  const double* FASTNN_RESTRICT right) const {
    const double before = static_cast<double>(elements_before(leaves, l0 * leaves_per_part));
    const double split = static_cast<double>(elements_before(leaves, middle * leaves_per_part));
    const double end = static_cast<double>(elements_before(leaves, smaller(l1 * leaves_per_part, leaves.count)));
    const double n = end - before, share = (end - split) / n, weight = (split - before) * share;
    double* FASTNN_RESTRICT const m2 = left + width;
    for (index c = 0; c < width; ++c) {
      const double delta = right[c] - left[c];
      left[c] = left[c] + delta * share;
      m2[c] = (m2[c] + right[width + c]) + delta * delta * weight;
    }
  }
};

struct MergeSums {
  index width;  // results times channels
  void operator()(index, index, index, double* FASTNN_RESTRICT left, const double* FASTNN_RESTRICT right) const {
    for (index c = 0; c < width; ++c) left[c] += right[c];
  }
};

// The rows of a leaf, or the samples and the piece of the plane.
struct LeafExtent {
  index sample0, sample1, inner0, inner1;
};

FASTNN_INLINE LeafExtent leaf_extent(const Leaves& t, index l) {
  if (t.pieces > 1) {
    const index start = l % t.pieces * kPiece;
    return {l / t.pieces, l / t.pieces + 1, start, smaller(start + kPiece, t.view.inner)};
  }
  return {l * t.samples, smaller((l + 1) * t.samples, t.view.outer), 0, t.view.inner};
}

// Columns of short planes (inner <= 16) hold what the lanes of a plane would: fold them into their channel.
template <class T>
FASTNN_INLINE T fold_columns(const T* column, index inner) {
  T lane[kLanes];
  for (index l = 0; l < kLanes; ++l) lane[l] = l < inner ? column[l] : T(0);
  return fold_lanes(lane);
}

// sum[j] += v[r * width + j], row after row, for a block of rows in cache: 16 columns at a time in registers. Narrow
// rows are read beyond their end, into the next one; what comes of it is dropped.
template <class T>
FASTNN_NOINLINE void add_rows_of_block(const T* FASTNN_RESTRICT v, index rows, index width, T* FASTNN_RESTRICT sum) {
  for (index j = 0; j < width; j += kLanes) {
    const index columns = smaller(kLanes, width - j), last = rows * width - kLanes;
    T lane[kLanes] = {};
    for (index l = 0; l < columns; ++l) lane[l] = sum[j + l];
    Lanes<T> total = Lanes<T>::load(lane);
    index at = j;
    for (; at <= last; at += width) total = total + Lanes<T>::load(v + at);
    total.store(lane);
    for (; at < rows * width; at += width)
      for (index l = 0; l < columns; ++l) lane[l] += v[at + l];
    for (index l = 0; l < columns; ++l) sum[j + l] = lane[l];
  }
}

// Calls add(together, row, j, n) for so many rows, the first of which has column j at `row`, and n columns of them:
// rows in their order, `Together` at a time so that the sums of their columns are loaded and stored less often. Rows
// read beside each other mislead the hardware's fetching (half the bandwidth of memory), so the next ones are asked for
// in the order of memory; long rows are taken one by one.
template <index Together, class T, class Add>
FASTNN_INLINE void add_rows(const T* x, index rows, index columns, index width, const Add& add) {
  constexpr index stretch = 64;
  index r = 0;
  if constexpr (Together > 1)
    if (columns == width && width < kBandRows)
      for (; r + Together <= rows; r += Together, x += Together * width)
        for (index j = 0; j < columns; j += stretch) {
          fetch(x + Together * (width + j), Together * stretch);
          add(Number<Together>(), x + j, j, smaller(stretch, columns - j));
        }
  for (; r < rows; ++r, x += width) add(Number<1>(), x, index{0}, columns);
}

template <class T>
FASTNN_INLINE void fold_band(const T* FASTNN_RESTRICT column, index channels, index inner,
                             double* FASTNN_RESTRICT out) {
  if (inner == 1)
    for (index c = 0; c < channels; ++c) out[c] = column[c];
  else
    for (index c = 0; c < channels; ++c) out[c] = fold_columns(column + c * inner, inner);
}

template <index Width, class Leaf, class Merge>
FASTNN_INLINE void fold_part(const Part& part, index channels, index results, const Leaf& leaf, const Merge& merge) {
  const index band = part.channel1 - part.channel0;
  double out[Width];
  fold<Width>(part.leaf0, part.leaf1, out, leaf, merge);
  double* FASTNN_RESTRICT const to = part.out;
  for (index k = 0; k < results; ++k)
    for (index c = 0; c < band; ++c) to[k * channels + part.channel0 + c] = out[k * band + c];
}

// Parts [leaf0, leaf1), each of `results` rows of channels, merged.
template <class Merge>
FASTNN_INLINE void fold_parts(const double* FASTNN_RESTRICT parts, index results, index channels, const Part& part,
                              const Merge& merge) {
  const index band = part.channel1 - part.channel0;
  const auto load = [&](index p, double* FASTNN_RESTRICT out) {
    for (index k = 0; k < results; ++k)
      for (index c = 0; c < band; ++c) out[k * band + c] = parts[(p * results + k) * channels + part.channel0 + c];
  };
  fold_part<2 * kBandPlanes>(part, channels, results, load, merge);
}

template <class T>
void merge_moments(const Leaves& leaves, index leaves_per_part, const double* parts, const Part& part) {
  fold_parts(parts, 2, leaves.view.channels, part,
             MergeMoments{leaves, leaves_per_part, part.channel1 - part.channel0});
}

template <class T>
void merge_sums(const Leaves& leaves, index, const double* parts, index results, const Part& part) {
  fold_parts(parts, results, leaves.view.channels, part, MergeSums{results * (part.channel1 - part.channel0)});
}

// The sum of n values, value i in lane i % 16. value(i) gives 16 of them from i on, value(i, some) less than that.
// (What is left over is there before the loop: with a call after it the sum would stay in memory.)
template <class T, class Value>
FASTNN_INLINE T plane_sum(index n, const Value& value) {
  const index left = n % kLanes, whole = n - left;
  const Lanes<T> last = left > 0 ? value(whole, left).first(left) : Lanes<T>::zero();
  Lanes<T> sum = Lanes<T>::zero();
  for (index i = 0; i < whole; i += kLanes) sum = sum + value(i);
  return fold_lanes(sum + last);
}

// lane[i % 16] += x[i], or its square, in double: a float's square neither overflows nor vanishes.
template <class T>
FASTNN_INLINE void add_to_lanes(const T* x, index n, bool squared, double* lane) {
  Lanes<double> total = Lanes<double>::load(lane);
  const index whole = n / kLanes * kLanes;
  for (index i = 0; i < whole; i += kLanes)
    for (index k = 0; k < Lanes<double>::count; ++k) {
      const Lanes<double>::Vector d = load_doubles(x + i + k * Lanes<double>::width);
      total.part[k] += squared ? d * d : d;
    }
  total.store(lane);
  for (index i = whole; i < n; ++i)
    lane[i - whole] += squared ? static_cast<double>(x[i]) * static_cast<double>(x[i]) : static_cast<double>(x[i]);
}

// One leaf of a whole-array sum, n <= kPiece.
template <class T>
double sum_leaf(const T* x, index n, bool squared) {
  double lane[kLanes] = {};
  add_to_lanes(x, n, squared, lane);
  return fold_lanes(lane);
}

}  // namespace
}  // namespace fastnn
