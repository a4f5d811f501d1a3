// Softmax along an axis, its logarithm, and cross-entropy, whose loss and gradient come out of one pass. Of one line,
// with m = max x and s = sum_j exp(x_j - m):
//   softmax:       y_j = exp(x_j - m) / s          dx_j = (dy_j - sum_i dy_i y_i) y_j
//   log_softmax:   y_j = x_j - m - log s           dx_j = dy_j - exp(y_j) sum_i dy_i
//   cross-entropy: loss = sum_j q_j (log s - (x_j - m)),  dx_j = exp(x_j - m) / s sum_i q_i - q_j
// q being the target: 0 but at the label, or dense. The sum of a line is the reduction tree of (1, lines, classes),
// wherever its elements lie.
#pragma once
#include "math.hpp"
#include "reduce.hpp"

namespace fastnn {
namespace {

// --- one row of contiguous memory ------------------------------------------------------------------------------

template <class T>
FASTNN_NOINLINE T row_max(const T* FASTNN_RESTRICT x, index n) {
  T best = x[0];
  index i = 0;
  constexpr index together = 4 * kLanes;  // each comparison waits for the one before
  if (n >= together) {
    const auto load = [&](index from) { return Lanes<T>::load(x + from); };
    Lanes<T> a = load(0), b = load(kLanes), c = load(2 * kLanes), d = load(3 * kLanes);
    for (i = together; i + together <= n; i += together) {
      a = larger(a, load(i));
      b = larger(b, load(i + kLanes));
      c = larger(c, load(i + 2 * kLanes));
      d = larger(d, load(i + 3 * kLanes));
    }
    T lane[kLanes];
    larger(larger(a, b), larger(c, d)).store(lane);
    best = lane[0];
    for (index l = 1; l < kLanes; ++l) best = lane[l] > best ? lane[l] : best;
  }
  for (; i < n; ++i) best = x[i] > best ? x[i] : best;
  return best;
}

// The sum of a row from piece(at, n), the sums of its pieces.
template <class T, class Piece>
FASTNN_INLINE T sum_of_pieces(index n, const Piece& piece) {
  double total;
  fold<1>(
      0, (n + kPiece - 1) / kPiece, &total,
      [&](index l, double* out) { *out = piece(l * kPiece, smaller(kPiece, n - l * kPiece)); },
      [](index, index, index, double* left, const double* right) { *left += *right; });
  return static_cast<T>(total);
}

// The sum of x, or of the products x times `by`, where that is given.
template <class T>
FASTNN_NOINLINE T row_sum(const T* FASTNN_RESTRICT x, const T* FASTNN_RESTRICT by, index n) {
  return sum_of_pieces<T>(n, [&](index at, index length) {
    return plane_sum<T>(length, [&](index i, auto... some) {
      const Lanes<T> v = Lanes<T>::load(x + at + i, some...);
      return by ? v * Lanes<T>::load(by + at + i, some...) : v;
    });
  });
}

// e = exp(x - m), and the sum of n <= kPiece of them, in the order of plane_sum. This takes as long as memory does:
// meanwhile the row after x, `next` elements further on, is fetched.
template <class T>
FASTNN_NOINLINE T exp_piece(const T* FASTNN_RESTRICT x, T m, T* FASTNN_RESTRICT e, index n, index next) {
  constexpr index stretch = 256;
  Lanes<T> sum = Lanes<T>::zero();
  index i = 0;
  while (i < n) {
    fetch(x + next + i, stretch);
    const index end = smaller(n, i + stretch);
    for (; i + kLanes <= end; i += kLanes) {
      for (index l = 0; l < kLanes; ++l) e[i + l] = exp_nonpositive(x[i + l] - m);
      sum = sum + Lanes<T>::load(e + i);
    }
    if (end == n) break;
  }
  T lane[kLanes];
  sum.store(lane);
  for (index l = 0; i < n; ++i, ++l) lane[l] += e[i] = exp_nonpositive(x[i] - m);
  return fold_lanes(lane);
}

// What the formulas below are written with: steps of one row, or the same steps of a tile of lines at once.
// each(f, per_line...) calls f(place, class, per_line[line]...) for every element. Results go to buffers that the same
// loop does not read: where they are the same memory, compiled loops take one element after the other.
template <class T>
struct Row {
  index classes;
  static constexpr index lines = 1;

  FASTNN_INLINE index at(index j, index) const { return j; }
  template <class F, class... P>
  FASTNN_INLINE void each(const F& f, const P*... per_line) const {
    const auto loop = [&](const P... of_line) {
#pragma GCC ivdep
      for (index j = 0; j < classes; ++j) f(j, j, of_line...);
    };
    loop(*per_line...);
  }
  template <class F>
  FASTNN_INLINE void each_line(const F& f) const {
    f(index{0});
  }
  FASTNN_INLINE void largest(const T* x, T* m) const { *m = row_max(x, classes); }
  FASTNN_NOINLINE void exps(const T* x, const T* m, T* e, T* s) const {
    *s = sum_of_pieces<T>(classes, [&](index at, index n) { return exp_piece(x + at, *m, e + at, n, classes); });
  }
  FASTNN_INLINE void sum(const T* x, T* s) const { *s = row_sum<T>(x, nullptr, classes); }
  FASTNN_INLINE void log(T* s) const { *s = fastnn::log(*s); }
};

// --- a tile: class j of line k lies at j * stride + k, so that every loop runs over the lines ----------------------

// The sums of 16 lines, in the order of row_sum.
template <class T>
FASTNN_NOINLINE void sum_of_lines(const T* x, const T* by, index stride, index n, T* sums) {
  const auto lane = [&](index l) {
    Lanes<T> sum = Lanes<T>::zero();
    for (index at = l * stride; at < n * stride; at += kLanes * stride) {
      Lanes<T> v = Lanes<T>::load(x + at);
      if (by) v = v * Lanes<T>::load(by + at);
      sum = sum + v;
    }
    return sum;
  };
  Lanes<T> folded[kLanes / 2];
  for (index l = 0; l < kLanes / 2; ++l) folded[l] = lane(l) + lane(l + kLanes / 2);
  for (index half = kLanes / 4; half > 0; half /= 2)
    for (index l = 0; l < half; ++l) folded[l] = folded[l] + folded[l + half];
  folded[0].store(sums);
}

template <class T>
struct Tile {
  index classes, stride, lines;  // lines: a multiple of kLanes
  const T* next;                 // where the same part of the next tile lies in memory, or nullptr
  index next_stride;

  FASTNN_INLINE void fetch_next(const T* from, index j) const { fetch(from + j * next_stride, lines); }
  FASTNN_INLINE index at(index j, index k) const { return j * stride + k; }
  template <class F, class... P>
  FASTNN_INLINE void each(const F& f, const P*... per_line) const {
    for (index j = 0; j < classes; ++j) each_of(j, f, per_line...);
  }
  template <class F, class... P>
  FASTNN_INLINE void each_of(index j, const F& f, const P*... per_line) const {
    for (index g = 0; g < lines; g += kLanes)
#pragma GCC ivdep
      for (index k = g; k < g + kLanes; ++k) f(j * stride + k, j, per_line[k]...);
  }
  template <class F>
  FASTNN_INLINE void each_line(const F& f) const {
    for (index g = 0; g < lines; g += kLanes)
#pragma GCC ivdep
      for (index k = g; k < g + kLanes; ++k) f(k);
  }
  FASTNN_NOINLINE void largest(const T* x, T* m) const {
    for (index g = 0; g < lines; g += kLanes) {
      Lanes<T> best = Lanes<T>::load(x + g);
      for (index j = 1; j < classes; ++j) best = larger(best, Lanes<T>::load(x + j * stride + g));
      best.store(m + g);
    }
  }
  FASTNN_NOINLINE void exps(const T* x, const T* m, T* e, T* s) const {
    const auto f = [&](index i, index, T most) { e[i] = exp_nonpositive(x[i] - most); };
    if (!next) each(f, m);
    for (index j = 0; next && j < classes; ++j) {
      fetch_next(next, j);
      each_of(j, f, m);
    }
    sum(e, s);
  }
  FASTNN_INLINE void sum(const T* x, T* s) const { sum(x, nullptr, s); }
  FASTNN_NOINLINE void log(T* s) const {
    each_line([&](index k) { s[k] = fastnn::log(s[k]); });
  }
  FASTNN_NOINLINE void sum(const T* x, const T* by, T* s) const {
    for (index g = 0; g < lines; g += kLanes) {
      if (classes <= kPiece) {
        sum_of_lines(x + g, by ? by + g : nullptr, stride, classes, s + g);
        continue;
      }
      const auto piece = [&](index l, double* out) {
        const index from = l * kPiece * stride + g;
        T sums[kLanes];
        sum_of_lines(x + from, by ? by + from : nullptr, stride, smaller(kPiece, classes - l * kPiece), sums);
        for (index k = 0; k < kLanes; ++k) out[k] = static_cast<double>(sums[k]);
      };
      double total[kLanes];
      fold<kLanes>(0, (classes + kPiece - 1) / kPiece, total, piece, MergeSums{kLanes});
      for (index k = 0; k < kLanes; ++k) s[g + k] = static_cast<T>(total[k]);
    }
  }
};

// Where a tile lies: its first element, its first line (of outer * inner), and how many lines it has.
struct TilePlace {
  index element, line, lines;
};

template <class Body>
FASTNN_INLINE void for_tiles(const Lines& a, index begin, index end, const Body& body) {
  const index inner = a.view.inner, sample = a.view.channels * inner;
  if (!a.across) {
    for (index o = begin; o < end; o += a.lanes) body(TilePlace{o * sample, o * inner, smaller(a.lanes, end - o)});
    return;
  }
  const index strips = (inner + a.lanes - 1) / a.lanes;
  for (index task = begin; task < end; ++task) {
    const index o = task / strips, i = task % strips * a.lanes;
    body(TilePlace{o * sample + i, o * inner + i, smaller(a.lanes, inner - i)});
  }
}

// Calls body(tile, start, line, step, lines) for parts of at most kTileLines lines: `start` is their place in a buffer,
// the lines are line, line + step ... Parts across `from`, unless it is nullptr, know where the next tile lies in it.
template <class T, class Body>
FASTNN_INLINE void for_parts(const Lines& a, const TilePlace& p, const T* from, const Body& body) {
  const index inner = a.view.inner, parts = a.across ? (p.lines + kTileLines - 1) / kTileLines : inner;
  for (index i = 0; i < parts; ++i) {
    const index first = a.across ? i * kTileLines : i,
                lines = a.across ? smaller(kTileLines, p.lines - first) : p.lines;
    const Tile<T> tile{a.view.channels, a.across ? a.lanes : inner * a.lanes, (lines + kLanes - 1) / kLanes * kLanes,
                       from && a.across ? from + p.element + a.lanes + first : nullptr, inner};
    body(tile, a.across ? first : i * a.lanes, p.line + first, a.across ? index{1} : inner, lines);
  }
}

template <class T>
FASTNN_INLINE void copy_run(const T* from, T* to, index n) {
  index k = 0;
  for (; k + kLanes <= n; k += kLanes) Lanes<T>::load(from + k).store(to + k);
  for (; k < n; ++k) to[k] = from[k];
}

// Lines beyond the last are 0.
template <class T>
FASTNN_NOINLINE void load_tile(const Lines& a, const TilePlace& p, const T* from, T* tile) {
  const index rows = a.view.channels * (a.across ? 1 : a.view.inner), whole = p.lines / kLanes * kLanes;
  if (whole < p.lines)
    for (index j = 0; j < rows; ++j) Lanes<T>::zero().store(tile + j * a.lanes + whole);
  if (!a.across) return transpose(from + p.element, rows, tile, a.lanes, p.lines, rows);
  for (index j = 0; j < rows; ++j) copy_run(from + p.element + j * a.view.inner, tile + j * a.lanes, p.lines);
}

template <class T>
FASTNN_NOINLINE void store_tile(const Lines& a, const TilePlace& p, const T* tile, T* to, bool stream) {
  const index rows = a.view.channels * (a.across ? 1 : a.view.inner);
  if (!a.across) return transpose(tile, a.lanes, to + p.element, rows, rows, p.lines);
  for (index j = 0; j < rows; ++j) {
    T* const row = to + p.element + j * a.view.inner;
    stream ? stream_values(tile + j * a.lanes, row, p.lines) : copy_run(tile + j * a.lanes, row, p.lines);
  }
}

// --- softmax and log_softmax -----------------------------------------------------------------------------------

// `to` may be x.
template <class T, class Form>
FASTNN_NOINLINE void softmax_lines(const Form& form, bool logarithm, const T* x, T* e, T* to) {
  T most[kTileLines], sum[kTileLines];
  form.largest(x, most);
  form.exps(x, most, e, sum);
  if (logarithm) {
    form.log(sum);
    form.each([&](index i, index, T m, T log_sum) { to[i] = (x[i] - m) - log_sum; }, most, sum);
  } else {
    form.each_line([&](index k) { sum[k] = T(1) / sum[k]; });
    form.each([&](index i, index, T factor) { to[i] = e[i] * factor; }, sum);
  }
}

// From the output and the sum of the line that each element belongs to: sum(i). `to` may be dy or y.
template <class T, class Sum>
FASTNN_NOINLINE void softmax_slopes(bool logarithm, const T* dy, const T* y, const Sum& sum, T* to, index n) {
  if (logarithm) {
#pragma GCC ivdep
    for (index i = 0; i < n; ++i) to[i] = dy[i] - exp_nonpositive(y[i]) * sum(i);
  } else {
#pragma GCC ivdep
    for (index i = 0; i < n; ++i) to[i] = (dy[i] - sum(i)) * y[i];
  }
}

template <class T>
struct OneSum {
  T sum;
  FASTNN_INLINE T operator()(index) const { return sum; }
};
template <class T>
struct SumOfEach {
  const T* sums;
  FASTNN_INLINE T operator()(index i) const { return sums[i]; }
};

template <class T>
void softmax(const Softmax<T>& a, T* scratch, index begin, index end) {
  T *const e = scratch, *const x = e + a.lines.buffer, *const to = a.logarithm ? e : x;
  if (a.lines.lanes > 0) {
    for_tiles(a.lines, begin, end, [&](const TilePlace& p) {
      load_tile(a.lines, p, a.x, x);
      for_parts(a.lines, p, a.stream ? a.x : nullptr, [&](const Tile<T>& tile, index start, index, index, index) {
        softmax_lines(tile, a.logarithm, x + start, e + start, to + start);
      });
      store_tile(a.lines, p, to, a.y, a.stream);
    });
    return a.stream ? stream_fence() : void();
  }
  const index n = a.lines.view.channels;
  for (index r = begin; r < end; ++r) {
    softmax_lines(Row<T>{n}, a.logarithm, a.x + r * n, e, a.stream ? x : a.y + r * n);
    if (a.stream) stream_values(x, a.y + r * n, n);
  }
  if (a.stream) stream_fence();
}

// Lines across memory, in tiles.
template <class T>
FASTNN_INLINE void softmax_gradient_across(const SoftmaxGradient<T>& a, const TilePlace& p, T* dy, T* y, T* dx) {
  load_tile(a.lines, p, a.dy, dy);
  load_tile(a.lines, p, a.y, y);
  for_parts(a.lines, p, a.stream && a.logarithm ? a.dy : nullptr,
            [&](const Tile<T>& tile, index start, index, index, index lines) {
              T sum[kTileLines];
              tile.sum(dy + start, a.logarithm ? nullptr : y + start, sum);
              for (index j = 0; j < tile.classes; ++j) {
                if (tile.next) {  // exp leaves time for it
                  tile.fetch_next(tile.next, j);
                  tile.fetch_next(a.y + (tile.next - a.dy), j);
                }
                const index from = start + tile.at(j, 0);
                T* const to = a.stream ? dx + from : a.dx + p.element + j * a.lines.view.inner + start;
                softmax_slopes(a.logarithm, dy + from, y + from, SumOfEach<T>{sum}, to, lines);
              }
            });
  if (a.stream) store_tile(a.lines, p, dx, a.dx, true);
}

// Short lines: what is summed goes through a tile, all else is done where the lines lie.
template <class T>
FASTNN_INLINE void softmax_gradient_short(const SoftmaxGradient<T>& a, const TilePlace& p, T* each, T* tiled) {
  const index inner = a.lines.view.inner, sample = a.lines.view.channels * inner, n = p.lines * sample;
  const T *const dy = a.dy + p.element, *const y = a.y + p.element;
  T* const to = a.stream ? tiled : a.dx + p.element;
  if (!a.logarithm)
    for (index i = 0; i < n; ++i) each[i] = dy[i] * y[i];
  load_tile(a.lines, TilePlace{0, p.line, p.lines}, a.logarithm ? dy : each, tiled);
  for_parts<T>(a.lines, p, nullptr, [&](const Tile<T>& tile, index start, index line, index, index lines) {
    T sum[kTileLines];
    tile.sum(tiled + start, sum);
    T* row = each + (line - p.line);
    for (index k = 0; k < lines; ++k, row += sample) {
      if (inner == 1)  // beyond its end, too, where the next one comes
        for (index j = 0; j < sample; j += kLanes) (Lanes<T>::zero() + sum[k]).store(row + j);
      else
        for (index j = 0; j < sample; j += inner) row[j] = sum[k];
    }
  });
  softmax_slopes(a.logarithm, dy, y, SumOfEach<T>{each}, to, n);
  if (a.stream) stream_values(to, a.dx + p.element, n);
}

template <class T>
void softmax_gradient(const SoftmaxGradient<T>& a, T* scratch, index begin, index end) {
  T *const dx = scratch, *const dy = dx + a.lines.buffer, *const y = dy + a.lines.buffer;
  const index n = a.lines.view.channels;
  if (a.lines.lanes > 0) {
    for_tiles(a.lines, begin, end, [&](const TilePlace& p) {
      a.lines.across ? softmax_gradient_across(a, p, dy, y, dx) : softmax_gradient_short(a, p, dx, dy);
    });
  } else {
    for (index r = begin; r < end; ++r) {
      const T *const from = a.dy + r * n, *const output = a.y + r * n;
      T* const to = a.stream ? dx : a.dx + r * n;
      const OneSum<T> sum{row_sum(from, a.logarithm ? nullptr : output, n)};
      softmax_slopes(a.logarithm, from, output, sum, to, n);
      if (a.stream) stream_values(dx, a.dx + r * n, n);
    }
  }
  if (a.stream) stream_fence();
}

// --- cross-entropy ---------------------------------------------------------------------------------------------

template <class T>
FASTNN_INLINE index label_of(const CrossEntropy<T>& a, index line) {
  return label_within(a.labels[line], a.lines.view.channels);
}

template <class T>
FASTNN_INLINE bool is_ignored(const CrossEntropy<T>& a, index line) {
  return a.some_ignored && a.labels[line] == a.ignore_index;
}

// The target is 0 but at the label, where it is weight[label] or 1. `to` may be x.
template <class T, class Form>
FASTNN_NOINLINE void cross_entropy_of_labels(const CrossEntropy<T>& a, const Form& form, const T* x, T* e, T* to,
                                             index line, index step, index lines) {
  const T scale = a.scale;
  T most[kTileLines], sum[kTileLines], target[kTileLines], loss[kTileLines], factor[kTileLines];
  index place[kTileLines];
  form.largest(x, most);
  for (index k = 0; k < lines; ++k) {
    const index label = label_of(a, line + k * step);
    place[k] = form.at(label, k);
    target[k] = a.weight == nullptr ? T(1) : a.weight[label];
    loss[k] = x[place[k]] - most[k];
  }
  for (index k = lines; k < form.lines; ++k) loss[k] = target[k] = 0;
  form.exps(x, most, e, sum);
  form.each_line([&](index k) { factor[k] = target[k] * scale / sum[k]; });
  form.log(sum);
  form.each_line([&](index k) { loss[k] = target[k] * (sum[k] - loss[k]); });
  form.each([&](index i, index, T f) { to[i] = e[i] * f; }, factor);
  for (index k = 0; k < lines; ++k) {
    to[place[k]] -= target[k] * scale;
    a.losses[line + k * step] = loss[k];
  }
}

// The target is spread + weight * t, t being the given probabilities or 1 at the label. They come in `target`, which
// may be e; `to` may be x.
template <class T, class Form>
FASTNN_NOINLINE void cross_entropy_of_targets(const CrossEntropy<T>& a, const Form& form, const T* x, const T* target,
                                              T* e, T* q, T* to, index line, index step, index lines) {
  const T scale = a.scale;
  T most[kTileLines], sum[kTileLines], total[kTileLines], product[kTileLines], factor[kTileLines];
  if (a.labels == nullptr) {
    form.each([&](index i, index j) { q[i] = a.spread[j] + a.weight[j] * target[i]; });
  } else {
    form.each([&](index i, index j) { q[i] = a.spread[j]; });
    for (index k = 0; k < lines; ++k) {
      const index label = label_of(a, line + k * step);
      q[form.at(label, k)] += a.weight[label];
    }
  }
  form.sum(q, total);
  form.largest(x, most);
  form.each([&](index i, index, T m) { e[i] = q[i] * (x[i] - m); }, most);
  form.sum(e, product);
  form.exps(x, most, e, sum);
  form.each_line([&](index k) { factor[k] = total[k] * scale / sum[k]; });
  form.log(sum);
  form.each_line([&](index k) { product[k] = total[k] * sum[k] - product[k]; });
  form.each([&](index i, index, T f) { to[i] = e[i] * f - q[i] * scale; }, factor);
  for (index k = 0; k < lines; ++k) a.losses[line + k * step] = product[k];
}

template <class T, class Form>
FASTNN_INLINE void cross_entropy_lines(const CrossEntropy<T>& a, const Form& form, const T* x, const T* target, T* e,
                                       T* q, T* to, index line, index step, index lines) {
  if (a.spread == nullptr)
    cross_entropy_of_labels(a, form, x, e, to, line, step, lines);
  else
    cross_entropy_of_targets(a, form, x, target, e, q, to, line, step, lines);
  for (index k = 0; a.some_ignored && k < lines; ++k) {
    if (!is_ignored(a, line + k * step)) continue;
    for (index j = 0; j < form.classes; ++j) to[form.at(j, k)] = 0;
    a.losses[line + k * step] = 0;
  }
}

template <class T>
void cross_entropy(const CrossEntropy<T>& a, T* scratch, index begin, index end) {
  T *const e = scratch, *const x = e + a.lines.buffer, *const q = x + a.lines.buffer;
  if (a.lines.lanes > 0) {
    for_tiles(a.lines, begin, end, [&](const TilePlace& p) {
      load_tile(a.lines, p, a.logits, x);
      if (a.targets != nullptr) load_tile(a.lines, p, a.targets, e);
      for_parts(a.lines, p, a.stream ? a.logits : nullptr,
                [&](const Tile<T>& tile, index start, index line, index step, index lines) {
                  cross_entropy_lines(a, tile, x + start, e + start, e + start, q + start, x + start, line, step,
                                      lines);
                });
      store_tile(a.lines, p, x, a.dlogits, a.stream);
    });
    return a.stream ? stream_fence() : void();
  }
  const index n = a.lines.view.channels;
  for (index r = begin; r < end; ++r) {
    T* const to = a.stream ? x : a.dlogits + r * n;
    const T* const target = a.targets == nullptr ? nullptr : a.targets + r * n;
    cross_entropy_lines(a, Row<T>{n}, a.logits + r * n, target, e, q, to, r, index{1}, index{1});
    if (a.stream) stream_values(x, a.dlogits + r * n, n);
  }
  if (a.stream) stream_fence();
}

}  // namespace
}  // namespace fastnn
