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

constexpr index kLongRow = 128;  // rows shorter than this are taken several at a time

// e = exp(x - m). This takes as long as memory does: meanwhile the row after x is fetched.
template <class T>
FASTNN_INLINE void exp_row(const T* FASTNN_RESTRICT x, T m, T* FASTNN_RESTRICT e, index n) {
  constexpr index stretch = 256;
  for (index i = 0; i < n; i += stretch) {
    for (index l = 0; l < stretch; l += 64 / static_cast<index>(sizeof(T))) __builtin_prefetch(x + n + i + l);
    const index end = smaller(n, i + stretch);
    for (index j = i; j < end; ++j) e[j] = exp_nonpositive(x[j] - m);
  }
}

template <class T>
FASTNN_INLINE void exp_short_rows(const T* FASTNN_RESTRICT x, const T* FASTNN_RESTRICT largest, index rows,
                                  index columns, T* FASTNN_RESTRICT e) {
  for (index k = 0; k < rows; ++k)
    for (index j = 0; j < columns; ++j) e[k * columns + j] = x[k * columns + j] - largest[k];
  for (index i = 0; i < rows * columns; ++i) e[i] = exp_nonpositive(e[i]);
}

// At most 16 rows of at most 16 columns, transposed, so that every loop runs over the rows. The sum is what row_sum
// gives: the fold of 16 lanes, those beyond the columns being 0.
template <class T>
FASTNN_INLINE void cross_entropy_narrow(const CrossEntropy<T>& a, index r, index rows) {
  const index columns = a.columns;
  const T* const x = a.logits + r * columns;
  T* const dx = a.dlogits + r * columns;
  T e[kLanes][kLanes] = {}, largest[kLanes], log_sum[kLanes], factor[kLanes];
  for (index k = 0; k < rows; ++k)
    for (index j = 0; j < columns; ++j) e[j][k] = x[k * columns + j];
  for (index k = 0; k < kLanes; ++k) largest[k] = e[0][k];
  for (index j = 1; j < columns; ++j)
    for (index k = 0; k < kLanes; ++k) largest[k] = e[j][k] > largest[k] ? e[j][k] : largest[k];
  for (index k = 0; k < rows; ++k) a.losses[r + k] = e[a.labels[r + k]][k] - largest[k];
  for (index j = 0; j < columns; ++j)
    for (index k = 0; k < kLanes; ++k) e[j][k] = exp_nonpositive(e[j][k] - largest[k]);
  T folded[kLanes / 2][kLanes];
  for (index j = 0; j < kLanes / 2; ++j)
    for (index k = 0; k < kLanes; ++k) folded[j][k] = e[j][k] + e[j + kLanes / 2][k];
  for (index half = kLanes / 4; half > 0; half /= 2)
    for (index j = 0; j < half; ++j)
      for (index k = 0; k < kLanes; ++k) folded[j][k] += folded[j + half][k];
  for (index k = 0; k < kLanes; ++k) {
    factor[k] = a.weight / folded[0][k];
    log_sum[k] = log(folded[0][k]);
  }
  for (index j = 0; j < columns; ++j)
    for (index k = 0; k < kLanes; ++k) e[j][k] *= factor[k];
  for (index k = 0; k < rows; ++k) {
    for (index j = 0; j < columns; ++j) dx[k * columns + j] = e[j][k];
    dx[k * columns + a.labels[r + k]] -= a.weight;
    a.losses[r + k] = log_sum[k] - a.losses[r + k];
  }
}

template <class T>
void cross_entropy(const CrossEntropy<T>& a, T* scratch, index begin, index end) {
  const index columns = a.columns, at_once = columns < kLongRow ? kBlock / columns : 1;
  if (columns <= kLanes) {
    for (index r = begin; r < end; r += kLanes) cross_entropy_narrow(a, r, smaller(kLanes, end - r));
    return;
  }
  T tile[kBlock], largest[kBlock / kLanes];
  T* const e = columns <= kBlock ? tile : scratch;
  for (index r = begin; r < end; r += at_once) {
    const index rows = smaller(at_once, end - r);
    const T* const x = a.logits + r * columns;
    for (index k = 0; k < rows; ++k) {
      largest[k] = row_max(x + k * columns, columns);
      a.losses[r + k] = x[k * columns + a.labels[r + k]] - largest[k];
    }
    if (columns < kLongRow)
      exp_short_rows(x, largest, rows, columns, e);
    else
      exp_row(x, largest[0], e, columns);
    for (index k = 0; k < rows; ++k) {
      T* const from = e + k * columns;
      T* const dx = a.dlogits + (r + k) * columns;
      const T sum = row_sum(from, columns), factor = a.weight / sum;
      T* const to = a.stream ? from : dx;
#pragma GCC ivdep
      for (index j = 0; j < columns; ++j) to[j] = from[j] * factor;
      to[a.labels[r + k]] -= a.weight;
      a.losses[r + k] = log(sum) - a.losses[r + k];
    }
    if (a.stream) stream_block(e, a.dlogits + r * columns, rows * columns);
  }
  if (a.stream) stream_fence();
}

}  // namespace
}  // namespace fastnn
