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
    for (i = kLanes; i + kLanes <= n; i += kLanes) m = larger(m, Lanes<T>::load(x + i));
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

constexpr index kTransposed = 64;  // narrow rows are taken so many at a time: each step is a chain

// At most 64 rows of at most 16 columns, transposed, so that every loop runs over the rows. The sum is what row_sum
// gives: the fold of 16 lanes, those beyond the columns being 0.
template <class T>
FASTNN_INLINE void cross_entropy_narrow(const CrossEntropy<T>& a, index r, index rows) {
  const index columns = a.columns;
  T* const dx = a.dlogits + r * columns;
  const index* const label = a.labels + r;
  T* const loss = a.losses + r;
  T e[kLanes][kTransposed], largest[kTransposed], log_sum[kTransposed];
  if (rows < kTransposed)
    for (index j = 0; j < columns; ++j) Lanes<T>::zero().store(e[j] + rows / kLanes * kLanes);
  transpose(a.logits + r * columns, columns, e[0], kTransposed, rows, columns);
  for (index g = 0; g < rows; g += kLanes) {
    Lanes<T> best = Lanes<T>::load(e[0] + g);
    for (index j = 1; j < columns; ++j) best = larger(best, Lanes<T>::load(e[j] + g));
    best.store(largest + g);
  }
  for (index k = 0; k < rows; ++k) loss[k] = e[label[k]][k] - largest[k];
  for (index j = 0; j < columns; ++j)
    for (index g = 0; g < rows; g += kLanes)
      for (index k = g; k < g + kLanes; ++k) e[j][k] = exp_nonpositive(e[j][k] - largest[k]);
  for (index g = 0; g < rows; g += kLanes) {
    const auto column = [&](index j) { return j < columns ? Lanes<T>::load(e[j] + g) : Lanes<T>::zero(); };
    Lanes<T> folded[kLanes / 2];
    for (index j = 0; j < kLanes / 2; ++j) folded[j] = column(j) + column(j + kLanes / 2);
    for (index half = kLanes / 4; half > 0; half /= 2)
      for (index j = 0; j < half; ++j) folded[j] = folded[j] + folded[j + half];
    T sum[kLanes];
    folded[0].store(sum);
    for (index k = 0; k < kLanes; ++k) log_sum[g + k] = log(sum[k]);
    for (index k = 0; k < kLanes; ++k) sum[k] = a.weight / sum[k];
    const Lanes<T> factor = Lanes<T>::load(sum);
    for (index j = 0; j < columns; ++j) (Lanes<T>::load(e[j] + g) * factor).store(e[j] + g);
  }
  transpose(e[0], kTransposed, dx, columns, columns, rows);
  for (index k = 0; k < rows; ++k) {
    dx[k * columns + label[k]] -= a.weight;
    loss[k] = log_sum[k] - loss[k];
  }
}

template <class T>
void cross_entropy(const CrossEntropy<T>& a, T* scratch, index begin, index end) {
  const index columns = a.columns, at_once = columns < kLongRow ? kBlock / columns : 1;
  if (columns <= kLanes) {
    for (index r = begin; r < end; r += kTransposed) cross_entropy_narrow(a, r, smaller(kTransposed, end - r));
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
