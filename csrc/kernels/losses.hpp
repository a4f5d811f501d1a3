// Losses of single elements, loss and gradient in one pass. Each is a struct of a name, and of
//   L(x, target, p)  with `value`, and `slope`, its derivative by x; p is the parameter, or that of the element.
// A new one is one struct here and one word in FASTNN_LOSSES. Then the hinge loss, whose elements meet in their row.
#pragma once
#include "activations.hpp"
#include "reduce.hpp"

namespace fastnn {
namespace {

template <class T>
struct SquaredError {
  static constexpr const char* name = "mse_loss";
  T value, slope;
  FASTNN_INLINE SquaredError(T x, T target, T) : SquaredError(x - target) {}

 private:
  FASTNN_INLINE explicit SquaredError(T d) : value(d * d), slope(d + d) {}
};

template <class T>
struct AbsoluteError {
  static constexpr const char* name = "l1_loss";
  T value, slope;
  FASTNN_INLINE AbsoluteError(T x, T target, T) : AbsoluteError(x - target) {}

 private:
  FASTNN_INLINE explicit AbsoluteError(T d)
      : value(absolute(d)), slope(select(d > 0, T(1), select(d < 0, T(-1), d))) {}  // 0 and NaN stay
};

// d^2 / (2 beta) where |d| < beta, else |d| - beta / 2.
template <class T>
struct SmoothL1 {
  static constexpr const char* name = "smooth_l1_loss";
  T value, slope;
  FASTNN_INLINE SmoothL1(T x, T target, T beta) {
    const T d = x - target, size = absolute(d), share = size / beta;
    value = select(size < beta, T(0.5) * size * share, size - T(0.5) * beta);
    slope = with_sign(at_most(share, T(1)), d);
  }
};

// d^2 / 2 where |d| < delta, else delta (|d| - delta / 2).
template <class T>
struct Huber {
  static constexpr const char* name = "huber_loss";
  T value, slope;
  FASTNN_INLINE Huber(T x, T target, T delta) {
    const T d = x - target, size = absolute(d);
    value = select(size < delta, T(0.5) * size * size, delta * (size - T(0.5) * delta));
    slope = between(d, -delta, delta);
  }
};

// -p t log(s) - (1 - t) log(1 - s) with s = sigmoid(x) = 1 / (1 + e^-x):
//   value = (1 - t) max(x, 0) + p t max(-x, 0) + (1 - t + p t) log(1 + e^-|x|)
//   slope = (1 - t) s - p t (1 - s), where no digit of a small 1 - s is lost; s - t with p = 1.
// What counts 0 times is 0, where 0 * inf would be NaN.
template <class T>
struct BinaryCrossEntropy {
  static constexpr const char* name = "binary_cross_entropy_with_logits";
  T value, slope;
  FASTNN_INLINE BinaryCrossEntropy(T x, T t, T p) {
    const Odds<T> o(x);
    const T no = T(1) - t, yes = p * t;
    const T above = no * at_least(x, T(0)), below = yes * at_least(-x, T(0));
    value = (select(no == 0, T(0), above) + select(yes == 0, T(0), below)) + (no + yes) * log1p_of_units(o.e);
    slope = (no * o.p - yes * o.q) / (o.p + o.q);
  }
};

#define FASTNN_LOSSES(X) \
  X(SquaredError)        \
  X(AbsoluteError)       \
  X(SmoothL1)            \
  X(Huber)               \
  X(BinaryCrossEntropy)

// Steps of all losses, which are one copy for each type.
template <class T>
FASTNN_NOINLINE void add_values(const T* x, index n, double* lane) {
  add_to_lanes(x, n, false, lane);
}
template <class T>
FASTNN_NOINLINE void multiply(T* FASTNN_RESTRICT x, const T* FASTNN_RESTRICT by, index n) {
  for (index i = 0; i < n; ++i) x[i] *= by[i];
}
template <class T>
FASTNN_NOINLINE void transpose_values(const T* from, index from_stride, T* to, index to_stride, index rows,
                                      index columns) {
  transpose(from, from_stride, to, to_stride, rows, columns);
}

// The gradient may be written over the input or the target.
template <class T, template <class> class L>
double loss_piece(const ElementwiseLoss<T>& a, index begin, index end) {
  T values[kBlock], slopes[kBlock];
  double lane[kLanes] = {};
  const T scale = a.scale;
  for_blocks(begin, end, [&](index g, index n) {
    T* const value = a.losses ? a.losses + g : values;
    T* const dx = a.stream ? slopes : a.dinput + g;
    for_periods(a.parameter_period, g, n, [&](index at, index length, index p) {
      const T *const x = a.input + g + at, *const target = a.target + g + at, *const parameter = a.parameter + p;
      T *const v = value + at, *const d = dx + at;
#pragma GCC ivdep
      for (index i = 0; i < length; ++i) {
        const L<T> loss(x[i], target[i], parameter[i]);
        v[i] = loss.value;
        d[i] = loss.slope * scale;
      }
    });
    if (a.weight)
      for_periods(a.weight_period, g, n, [&](index at, index length, index p) {
        multiply(value + at, a.weight + p, length);
        multiply(dx + at, a.weight + p, length);
      });
    if (!a.losses) add_values(values, n, lane);
    if (a.stream) stream_values(slopes, a.dinput + g, n);
  });
  if (a.stream) stream_fence();
  return fold_lanes(lane);
}

template <class T>
constexpr LossKernel<T> loss_table[] = {
#define FASTNN_ENTRY(L) {L<T>::name, loss_piece<T, L>},
    FASTNN_LOSSES(FASTNN_ENTRY)
#undef FASTNN_ENTRY
};
template <class T>
constexpr int loss_count = static_cast<int>(sizeof(loss_table<T>) / sizeof(loss_table<T>[0]));

// --- hinge ---------------------------------------------------------------------------------------------------------
// With z_j = x_j - x_label + margin: loss = sum over j != label of max(0, z_j), or its square; dx_j is the slope of
// that term, and dx_label minus the sum of the slopes.

template <class T>
struct HingeTerm {
  typedef typename Lanes<T>::Vector Vector;
  Vector value, slope;
  FASTNN_INLINE HingeTerm(Vector z, bool squared) {
    const Vector zero{}, one = zero + T(1), excess = pick(z <= zero, zero, z);  // NaN stays
    value = squared ? excess * excess : excess;
    slope = squared ? excess + excess : pick(excess > zero, one, excess);
  }
};

template <class T>
struct HingeTerms {
  Lanes<T> value, slope;
  FASTNN_INLINE HingeTerms(const Lanes<T>& z, bool squared) {
#pragma GCC unroll 8
    for (index k = 0; k < Lanes<T>::count; ++k) {
      const HingeTerm<T> term(z.part[k], squared);
      value.part[k] = term.value;
      slope.part[k] = term.slope;
    }
  }
  // Leaves the first n, without one of them if `excluded` is among them.
  FASTNN_INLINE void keep(index n, index excluded) {
    value = value.first(n).without(excluded);
    slope = slope.first(n).without(excluded);
  }
};

template <class T>
FASTNN_INLINE T row_share(const HingeLoss<T>& a, index label) {
  return a.weight ? a.share * a.weight[label] : a.share;
}

// 16 elements at a time, which are added while they are in registers. Special are those that the label is among, and
// the last ones, if they are fewer.
template <class T>
FASTNN_INLINE void hinge_row(const HingeLoss<T>& a, index r) {
  const index label = label_within(a.labels[r], a.columns);
  const T* const x = a.scores + r * a.columns;
  T* const dx = a.dscores + r * a.columns;
  const T own = x[label], margin = a.margin, share = row_share(a, label), scale = share * a.scale;
  const bool squared = a.squared;
  const Lanes<T> scales = Lanes<T>::zero() + scale;
  T block[kBlock], values[kLanes], slopes[kLanes];
  double value_lane[kLanes], slope_lane[kLanes];
  Lanes<double> value_sum = Lanes<double>::zero(), slope_sum = value_sum;
  for (index g = 0; g < a.columns; g += kBlock) {
    const index n = smaller(kBlock, a.columns - g), excluded = label - g, last = n / kLanes * kLanes;
    index special = excluded >= 0 && excluded < n ? excluded / kLanes * kLanes : last;
    T* const to = a.stream ? block : dx + g;
    Lanes<T> count = Lanes<T>::zero();  // of slopes 1: exact without doubles
    for (index j = 0; j < n; j += kLanes) {
      const T* from = x + g + j;
      const index rest = smaller(kLanes, n - j);
      const bool partial = j == special && rest < kLanes;
      if (partial) {
        Lanes<T>::load(from, rest).store(values);
        from = values;
      }
      HingeTerms<T> term((Lanes<T>::load(from) - own) + margin, squared);
      if (j == special) {
        term.keep(rest, excluded - j);
        special = last;
      }
      value_sum = value_sum + as_doubles(term.value);
      if (squared)
        slope_sum = slope_sum + as_doubles(term.slope);
      else
        count = count + term.slope;
      term.slope = term.slope * scales;
      if (partial) {
        term.slope.store(slopes);
        for (index l = 0; l < rest; ++l) to[j + l] = slopes[l];
      } else {
        term.slope.store(to + j);
      }
    }
    slope_sum = slope_sum + as_doubles(count);
    if (a.stream) stream_values(block, dx + g, n);
  }
  value_sum.store(value_lane);
  slope_sum.store(slope_lane);
  dx[label] = -static_cast<T>(fold_lanes(slope_lane)) * scale;
  a.losses[r] = static_cast<T>(fold_lanes(value_lane)) * share;
}

constexpr index kHingeRows = 64;  // narrow rows are taken so many at a time

// At most 64 rows of at most 16 columns, transposed, so that every loop runs over the rows.
template <class T>
FASTNN_INLINE void hinge_narrow(const HingeLoss<T>& a, index r, index rows) {
  const index columns = a.columns, whole = (rows + kLanes - 1) / kLanes * kLanes;
  index label[kHingeRows];
  const T margin = a.margin;
  T z[kLanes][kHingeRows], own[kHingeRows] = {}, scale[kHingeRows] = {}, total[kHingeRows], slopes[kHingeRows];
  if (rows < whole)
    for (index j = 0; j < columns; ++j) Lanes<T>::zero().store(z[j] + whole - kLanes);
  transpose_values(a.scores + r * columns, columns, z[0], kHingeRows, rows, columns);
  for (index k = 0; k < rows; ++k) {
    label[k] = label_within(a.labels[r + k], columns);
    own[k] = z[label[k]][k];
    scale[k] = row_share(a, label[k]) * a.scale;
  }
  for (index j = 0; j < columns; ++j)
    for (index k = 0; k < whole; ++k) z[j][k] = (z[j][k] - own[k]) + margin;
  for (index k = 0; k < rows; ++k) z[label[k]][k] = T(0);
  typedef typename Lanes<T>::Vector Vector;
  for (index k = 0; k < whole; k += Lanes<T>::width) {
    Vector value_sum{}, slope_sum{}, factor;
    std::memcpy(&factor, scale + k, sizeof factor);
    for (index j = 0; j < columns; ++j) {
      Vector v;
      std::memcpy(&v, z[j] + k, sizeof v);
      const HingeTerm<T> term(v, a.squared);
      value_sum += term.value;
      slope_sum += term.slope;
      v = term.slope * factor;
      std::memcpy(z[j] + k, &v, sizeof v);
    }
    std::memcpy(total + k, &value_sum, sizeof value_sum);
    std::memcpy(slopes + k, &slope_sum, sizeof slope_sum);
  }
  for (index k = 0; k < rows; ++k) z[label[k]][k] = -slopes[k] * scale[k];
  for (index k = 0; k < rows; ++k) a.losses[r + k] = total[k] * row_share(a, label[k]);
  transpose_values(z[0], kHingeRows, a.dscores + r * columns, columns, columns, rows);
}

// The gradient may be written over the scores.
template <class T>
void hinge_loss(const HingeLoss<T>& a, index begin, index end) {
  if (a.columns <= kLanes) {
    for (index r = begin; r < end; r += kHingeRows) hinge_narrow(a, r, smaller(kHingeRows, end - r));
    return;
  }
  for (index r = begin; r < end; ++r) hinge_row(a, r);
  if (a.stream) stream_fence();
}

}  // namespace
}  // namespace fastnn
