// Softmax cross-entropy of integer labels, loss and gradient in one pass:
//   loss = log sum_j exp(x_j - m) - (x_label - m),  m = max x
//   dx_j = weight (exp(x_j - m) / sum - [j == label])
// A row's sum is the reduction tree of (1, rows, columns). Rows shorter than a block are taken several at a time, so
// that exp runs over contiguous memory however short they are.
#pragma once
#include "math.hpp"
#include "reduce.hpp"

namespace fastnn {
namespace {

template <class T>
FASTNN_INLINE T row_max(const T* FASTNN_RESTRICT x, index n) {
  T best = x[0];
  index i = 0;
  if (n >= kLanes) {
    Lanes<T> m = Lanes<T>::load(x);
    for (i = kLanes; i + kLanes <= n; i += kLanes) {
      const Lanes<T> v = Lanes<T>::load(x + i);
      for (index k = 0; k < Lanes<T>::count; ++k) m.part[k] = v.part[k] > m.part[k] ? v.part[k] : m.part[k];
    }
    T lane[kLanes];
    m.store(lane);
    best = lane[0];
    for (index l = 1; l < kLanes; ++l) best = lane[l] > best ? lane[l] : best;
  }
  for (; i < n; ++i) best = x[i] > best ? x[i] : best;
  return best;
}

template <class T>
FASTNN_INLINE T row_sum(const T* FASTNN_RESTRICT x, index n) {
  if (n <= kPiece) return plane_sum(x, T(-0.0), n);
  double total;
  fold<1>(
      0, (n + kPiece - 1) / kPiece, &total,
      [&](index l, double* out) { *out = plane_sum(x + l * kPiece, T(-0.0), smaller(kPiece, n - l * kPiece)); },
      MergeSums{1});
  return static_cast<T>(total);
}

template <class T>
void cross_entropy(const CrossEntropy<T>& a, index begin, index end) {
  const index columns = a.columns, at_once = columns <= kBlock ? kBlock / columns : 1;
  T tile[kBlock];
  for (index r = begin; r < end; r += at_once) {
    const index rows = smaller(at_once, end - r);
    const T* const x = a.logits + r * columns;
    T* const dx = a.dlogits + r * columns;
    T* const e = columns <= kBlock ? tile : dx;
    for (index k = 0; k < rows; ++k) {
      const T* const row = x + k * columns;
      const T m = row_max(row, columns);
      a.losses[r + k] = row[a.labels[r + k]] - m;
      T* const to = e + k * columns;
#pragma GCC ivdep
      for (index j = 0; j < columns; ++j) to[j] = row[j] - m;
    }
    const index n = rows * columns;
#pragma GCC ivdep
    for (index i = 0; i < n; ++i) e[i] = exp(e[i]);
    for (index k = 0; k < rows; ++k) {
      const T* const from = e + k * columns;
      T* const to = dx + k * columns;
      const T sum = row_sum(from, columns), factor = a.weight / sum;
#pragma GCC ivdep
      for (index j = 0; j < columns; ++j) to[j] = from[j] * factor;
      to[a.labels[r + k]] -= a.weight;
      a.losses[r + k] = log(sum) - a.losses[r + k];
    }
  }
}

}  // namespace
}  // namespace fastnn
