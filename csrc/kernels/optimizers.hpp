// Optimizers, in place over one run of a parameter tensor; every array is read and written once. A rule has
//   name
//   states            names of its state arrays
//   optional_states   how many of the last may be absent
//   root              whether it takes a root and a division per element
//   enum {..., scalars}  its numbers, in the order in which Python passes them, behind those that all rules share
//   step(scalars, span)
// A new optimizer is one struct here and one word in FASTNN_OPTIMIZERS. What the gradient and the parameter go through
// before (clipping, decay, penalties) and after (averages) is the same for every rule: it is done to a block while that
// is in the first-level cache, and rules see none of it.
#pragma once
#include "loops.hpp"
#include "math.hpp"

namespace fastnn {
namespace {

FASTNN_INLINE float smallest_normal(float) {
  return 1.17549435e-38f;
}
FASTNN_INLINE double smallest_normal(double) {
  return 2.2250738585072014e-308;
}

// Moments below the smallest normal become zero, so that training never slows down on denormals.
template <class T>
FASTNN_INLINE T flush(T moment) {
  return absolute(moment) < smallest_normal(moment) ? T(0) : moment;
}

template <class T>
FASTNN_INLINE T sign(T x) {  // zeros and NaN stay
  return x > 0 ? T(1) : x < 0 ? T(-1) : x;
}

template <class T>
FASTNN_INLINE T larger_or_nan(T a, T b) {
  const T top = a > b ? a : b;  // b where either is NaN; in one expression the loop is not vectorised
  return a == a ? top : a;
}

// The loop of every rule: element(p, g, state 0, state 1 ...) updates its arguments, and works with what it computed
// rather than with what it stored. The arrays are parameters, as the compiler trusts `restrict` only there.
template <int States, class T, class Element>
FASTNN_INLINE void update_arrays(T* FASTNN_RESTRICT p, const T* FASTNN_RESTRICT gradient, T* FASTNN_RESTRICT s0,
                                 T* FASTNN_RESTRICT s1, T* FASTNN_RESTRICT s2, index n, const Element& element) {
  for (index i = 0; i < n; ++i) {
    if constexpr (States == 0) element(p[i], gradient[i]);
    if constexpr (States == 1) element(p[i], gradient[i], s0[i]);
    if constexpr (States == 2) element(p[i], gradient[i], s0[i], s1[i]);
    if constexpr (States == 3) element(p[i], gradient[i], s0[i], s1[i], s2[i]);
  }
}

template <int States, class T, class Element>
FASTNN_INLINE void update(const Span<T>& s, const Element& element) {
  update_arrays<States>(s.parameter, s.gradient, s.state[0], s.state[1], s.state[2], s.n, element);
}

// --- what all rules share -------------------------------------------------------------------------------------------

// The gradient as a rule sees it:
//   g = clip * gradient,  kept within +-limit (limit 0: not at all)
//   g = g + l2 * p + l1 * sign(p)
template <class T>
void incoming(const T* shared, T clip, const T* FASTNN_RESTRICT p, const T* FASTNN_RESTRICT gradient,
              T* FASTNN_RESTRICT g, index n) {
  const T limit = shared[Shared::clip_value], l2 = shared[Shared::l2], l1 = shared[Shared::l1];
  for (index i = 0; i < n; ++i) g[i] = gradient[i] * clip;
  if (limit != 0)
    for (index i = 0; i < n; ++i) g[i] = g[i] < -limit ? -limit : g[i] > limit ? limit : g[i];
  if (l2 != 0)
    for (index i = 0; i < n; ++i) g[i] = g[i] + l2 * p[i];
  if (l1 != 0)
    for (index i = 0; i < n; ++i) g[i] = g[i] + l1 * sign(p[i]);
}

template <class T>
void scale(T* FASTNN_RESTRICT p, T factor, index n) {
  for (index i = 0; i < n; ++i) p[i] = p[i] * factor;
}

// a = a + weight * (p - a); the first of an average is p itself.
template <class T>
void average(T* FASTNN_RESTRICT a, const T* FASTNN_RESTRICT p, T weight, index n) {
  if (weight == 1)
    for (index i = 0; i < n; ++i) a[i] = p[i];
  else
    for (index i = 0; i < n; ++i) a[i] = flush(a[i] + weight * (p[i] - a[i]));
}

// The statistics of a step are taken block by block, before and after the update, while the block is in cache.
typedef Lanes<double>::Vector Doubles;

FASTNN_INLINE Doubles magnitude(Doubles x) {
  return pick(x < Doubles{}, -x, x);
}
FASTNN_INLINE Doubles larger_or_nan(Doubles a, Doubles b) {
  const Doubles top = pick(a > b, a, b);  // b where either is NaN
  return pick(a != a, a, top);
}

// Adds g^2, p^2 and |p|; keeps p in `before`.
template <class T>
void observe_before(const T* FASTNN_RESTRICT g, const T* FASTNN_RESTRICT p, T* FASTNN_RESTRICT before, index n,
                    Observed* o) {
  using L = Lanes<double>;
  L gradient = L::load(o->gradient), squares = L::load(o->squares), absolutes = L::load(o->absolute);
  const index whole = n / kLanes * kLanes;
  for (index i = 0; i < whole; i += kLanes)
#pragma GCC unroll 8
    for (index k = 0; k < L::count; ++k) {
      const Doubles a = load_doubles(g + i + k * L::width), b = load_doubles(p + i + k * L::width);
      gradient.part[k] += a * a;
      squares.part[k] += b * b;
      absolutes.part[k] += magnitude(b);
    }
  gradient.store(o->gradient);
  squares.store(o->squares);
  absolutes.store(o->absolute);
  for (index i = whole; i < n; ++i) {
    const double a = static_cast<double>(g[i]), b = static_cast<double>(p[i]);
    o->gradient[i - whole] += a * a;
    o->squares[i - whole] += b * b;
    o->absolute[i - whole] += absolute(b);
  }
  for (index i = 0; i < n; ++i) before[i] = p[i];
}

// Adds the square of the change; keeps the largest |p|.
template <class T>
void observe_after(const T* FASTNN_RESTRICT p, const T* FASTNN_RESTRICT before, index n, Observed* o) {
  using L = Lanes<double>;
  L update = L::load(o->update), largest = L::load(o->largest);
  const index whole = n / kLanes * kLanes;
  for (index i = 0; i < whole; i += kLanes)
#pragma GCC unroll 8
    for (index k = 0; k < L::count; ++k) {
      const Doubles a = load_doubles(p + i + k * L::width), d = a - load_doubles(before + i + k * L::width);
      update.part[k] += d * d;
      largest.part[k] = larger_or_nan(magnitude(a), largest.part[k]);
    }
  update.store(o->update);
  largest.store(o->largest);
  for (index i = whole; i < n; ++i) {
    const double a = static_cast<double>(p[i]), d = a - static_cast<double>(before[i]);
    o->update[i - whole] += d * d;
    o->largest[i - whole] = larger_or_nan(absolute(a), o->largest[i - whole]);
  }
}

inline void observed_sums(const Observed* o, TensorStatistics* s) {
  s->gradient = fold_lanes(o->gradient);
  s->squares = fold_lanes(o->squares);
  s->absolute = fold_lanes(o->absolute);
  s->update = fold_lanes(o->update);
  s->largest = 0;
  for (index l = 0; l < kLanes; ++l) s->largest = larger_or_nan(o->largest[l], s->largest);
}

// Columns [0, width) of rows that are `stride` apart: sums of squares row after row, and each column times its factor.
template <class T>
void column_squares(const T* FASTNN_RESTRICT x, index rows, index stride, index width, double* FASTNN_RESTRICT sums) {
  for (index c = 0; c < width; ++c) sums[c] = 0;
  for (index r = 0; r < rows; ++r)
    for (index c = 0; c < width; ++c) {
      const double v = static_cast<double>(x[r * stride + c]);
      sums[c] += v * v;
    }
}

template <class T>
void scale_columns(T* FASTNN_RESTRICT x, index rows, index stride, index width, const T* FASTNN_RESTRICT factors) {
  for (index r = 0; r < rows; ++r)
    for (index c = 0; c < width; ++c) x[r * stride + c] = x[r * stride + c] * factors[c];
}

// --- the rules ------------------------------------------------------------------------------------------------------

//   m = first step ? g : momentum * m + gain * g
//   p = p - rate * (nesterov ? direct * g + momentum * m : m)          without momentum: p - rate * g
// torch's form: rate = lr, gain = 1 - dampening, direct = 1. With the rate inside the momentum, v = mu * v - lr * g and
// p = p + v or p + (mu * v - lr * g): rate = -1, gain = direct = -lr.
template <class T>
struct Sgd {
  static constexpr const char* name = "sgd";
  static constexpr const char* states[kMaxStates] = {"momentum_buffers"};
  static constexpr int optional_states = 1;
  static constexpr bool root = false;
  enum { rate, momentum, gain, direct, nesterov, first_step, scalars };

  template <bool Nesterov, bool First>
  static void with_momentum(const T* a, const Span<T>& s) {
    const T lr = a[rate], mu = a[momentum], share = a[gain], own = a[direct];
    update<1>(s, [=](T& p, T g, T& m) {
      const T next = flush(First ? g : mu * m + share * g);
      m = next;
      p = p - lr * (Nesterov ? own * g + mu * next : next);
    });
  }

  static void step(const T* a, const Span<T>& s) {
    const T lr = a[rate];
    if (!s.state[0]) return update<0>(s, [=](T& p, T g) { p = p - lr * g; });
    if (a[nesterov] != 0)
      return a[first_step] != 0 ? with_momentum<true, true>(a, s) : with_momentum<true, false>(a, s);
    return a[first_step] != 0 ? with_momentum<false, true>(a, s) : with_momentum<false, false>(a, s);
  }
};

//   m = beta1 * m + (1 - beta1) * g
//   v = beta2 * v + (1 - beta2) * g^2
//   u = max(u, v) with the third state, else v
//   p = p - step_size * ((m + share * g) / (sqrt(u) * scale + eps))
// Adam: step_size = lr / (1 - beta1^t), scale = 1 / sqrt(1 - beta2^t), share = 0. The others put their own corrections
// into step_size, share and scale; with scale = 0 and eps = 1 there is no denominator.
template <class T>
struct Adam {
  static constexpr const char* name = "adam";
  static constexpr const char* states[kMaxStates] = {"exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs"};
  static constexpr int optional_states = 1;
  static constexpr bool root = true;
  enum { step_size, beta1, one_minus_beta1, beta2, one_minus_beta2, eps, root_scale, scalars, share = scalars };

  template <bool Largest, bool Ahead>
  static FASTNN_NOINLINE void loop(const T* a, const Span<T>& s) {
    const T size = a[step_size], keep1 = a[beta1], gain1 = a[one_minus_beta1], keep2 = a[beta2];
    const T gain2 = a[one_minus_beta2], least = a[eps], scale = a[root_scale], ahead = Ahead ? a[share] : T(0);
    const auto element = [=](T& p, T g, T& m, T& v, T* u) {
      const T mean = flush(keep1 * m + gain1 * g);
      T square = flush(keep2 * v + gain2 * (g * g));
      m = mean;
      v = square;
      if constexpr (Largest) {
        square = larger_or_nan(square, *u);
        *u = square;
      }
      p = p - size * ((Ahead ? mean + ahead * g : mean) / (square_root(square) * scale + least));
    };
    if constexpr (Largest)
      update<3>(s, [=](T& p, T g, T& m, T& v, T& u) { element(p, g, m, v, &u); });
    else
      update<2>(s, [=](T& p, T g, T& m, T& v) { element(p, g, m, v, nullptr); });
  }

  static void step(const T* a, const Span<T>& s) { s.state[2] ? loop<true, false>(a, s) : loop<false, false>(a, s); }
};

template <class T>
struct Nadam : Adam<T> {
  static constexpr const char* name = "nadam";
  static constexpr const char* states[kMaxStates] = {"exp_avgs", "exp_avg_sqs"};
  static constexpr int optional_states = 0;
  enum { scalars = Adam<T>::scalars + 1 };
  static void step(const T* a, const Span<T>& s) { Adam<T>::template loop<false, true>(a, s); }
};

template <class T>
struct Radam : Adam<T> {
  static constexpr const char* name = "radam";
  static constexpr const char* states[kMaxStates] = {"exp_avgs", "exp_avg_sqs"};
  static constexpr int optional_states = 0;
};

//   m = beta1 * m + (1 - beta1) * g
//   u = max(beta2 * u, |g| + eps)
//   p = p - step_size * (m / u)
template <class T>
struct Adamax {
  static constexpr const char* name = "adamax";
  static constexpr const char* states[kMaxStates] = {"exp_avgs", "exp_infs"};
  static constexpr int optional_states = 0;
  static constexpr bool root = true;
  enum { step_size, beta1, one_minus_beta1, beta2, eps, scalars };

  static void step(const T* a, const Span<T>& s) {
    const T size = a[step_size], keep1 = a[beta1], gain1 = a[one_minus_beta1], keep2 = a[beta2], least = a[eps];
    update<2>(s, [=](T& p, T g, T& m, T& u) {
      const T mean = flush(keep1 * m + gain1 * g), most = larger_or_nan(absolute(g) + least, keep2 * u);
      m = mean;
      u = most;
      p = p - size * (mean / most);
    });
  }
};

//   p = p - lr * sign(beta1 * m + (1 - beta1) * g)
//   m = beta2 * m + (1 - beta2) * g
template <class T>
struct Lion {
  static constexpr const char* name = "lion";
  static constexpr const char* states[kMaxStates] = {"exp_avgs"};
  static constexpr int optional_states = 0;
  static constexpr bool root = false;
  enum { rate, beta1, one_minus_beta1, beta2, one_minus_beta2, scalars };

  static void step(const T* a, const Span<T>& s) {
    const T lr = a[rate], keep1 = a[beta1], gain1 = a[one_minus_beta1], keep2 = a[beta2], gain2 = a[one_minus_beta2];
    update<1>(s, [=](T& p, T g, T& m) {
      p = p - lr * sign(keep1 * m + gain1 * g);
      m = flush(keep2 * m + gain2 * g);
    });
  }
};

//   v = v + g^2
//   p = p - lr * (g / (sqrt(v) + eps))
template <class T>
struct Adagrad {
  static constexpr const char* name = "adagrad";
  static constexpr const char* states[kMaxStates] = {"sums"};
  static constexpr int optional_states = 0;
  static constexpr bool root = true;
  enum { rate, eps, scalars };

  static void step(const T* a, const Span<T>& s) {
    const T lr = a[rate], least = a[eps];
    update<1>(s, [=](T& p, T g, T& v) {
      const T sum = flush(v + g * g);
      v = sum;
      p = p - lr * (g / (square_root(sum) + least));
    });
  }
};

//   v = alpha * v + (1 - alpha) * g^2
//   w = v, or v - a^2 (not below 0) with a = alpha * a + (1 - alpha) * g
//   d = g / (sqrt(w + eps_inside) + eps)
//   p = p - lr * d, or b = momentum * b + d, p = p - lr * b
template <class T>
struct Rmsprop {
  static constexpr const char* name = "rmsprop";
  static constexpr const char* states[kMaxStates] = {"square_avgs", "grad_avgs", "momentum_buffers"};
  static constexpr int optional_states = 2;
  static constexpr bool root = true;
  enum { rate, alpha, one_minus_alpha, eps, eps_inside, momentum, scalars };

  template <bool Centered, bool Momentum>
  static void loop(const T* numbers, const Span<T>& s) {
    const T lr = numbers[rate], keep = numbers[alpha], gain = numbers[one_minus_alpha], outside = numbers[eps];
    const T inside = numbers[eps_inside], mu = numbers[momentum];
    const auto element = [=](T& p, T g, T& v, T* a, T* b) {
      const T square = flush(keep * v + gain * (g * g));
      v = square;
      T variance = square;
      if constexpr (Centered) {
        const T mean = flush(keep * *a + gain * g);
        *a = mean;
        variance = at_least(square - mean * mean, T(0));
      }
      T d = g / (square_root(variance + inside) + outside);
      if constexpr (Momentum) *b = d = flush(mu * *b + d);
      p = p - lr * d;
    };
    Span<T> given = s;
    if constexpr (!Centered) given.state[1] = s.state[2];
    if constexpr (Centered && Momentum)
      update<3>(given, [=](T& p, T g, T& v, T& a, T& b) { element(p, g, v, &a, &b); });
    else if constexpr (Centered || Momentum)
      update<2>(given, [=](T& p, T g, T& v, T& other) { element(p, g, v, &other, &other); });
    else
      update<1>(given, [=](T& p, T g, T& v) { element(p, g, v, nullptr, nullptr); });
  }

  static void step(const T* a, const Span<T>& s) {
    if (s.state[1]) return s.state[2] ? loop<true, true>(a, s) : loop<true, false>(a, s);
    return s.state[2] ? loop<false, true>(a, s) : loop<false, false>(a, s);
  }
};

//   v = rho * v + (1 - rho) * g^2
//   d = sqrt(u + eps) / sqrt(v + eps) * g
//   u = rho * u + (1 - rho) * d^2
//   p = p - lr * d
template <class T>
struct Adadelta {
  static constexpr const char* name = "adadelta";
  static constexpr const char* states[kMaxStates] = {"square_avgs", "acc_deltas"};
  static constexpr int optional_states = 0;
  static constexpr bool root = true;
  enum { lr, rho, one_minus_rho, eps, scalars };

  static void step(const T* a, const Span<T>& s) {
    const T rate = a[lr], keep = a[rho], gain = a[one_minus_rho], least = a[eps];
    update<2>(s, [=](T& p, T g, T& v, T& u) {
      const T square = flush(keep * v + gain * (g * g)), before = u;
      const T d = square_root(before + least) / square_root(square + least) * g;
      v = square;
      u = flush(keep * before + gain * (d * d));
      p = p - rate * d;
    });
  }
};

#define FASTNN_OPTIMIZERS(X) X(Sgd) X(Adam) X(Nadam) X(Radam) X(Adamax) X(Lion) X(Adagrad) X(Rmsprop) X(Adadelta)

template <class T, template <class> class Rule>
constexpr OptimizerKernel<T> optimizer_kernel() {
  constexpr int numbers = static_cast<int>(Shared::count) + static_cast<int>(Rule<T>::scalars);
  static_assert(numbers <= kMaxScalars, "raise kMaxScalars");
  return {Rule<T>::name, Rule<T>::states, Rule<T>::optional_states, numbers, Rule<T>::root, Rule<T>::step};
}

template <class T>
constexpr OptimizerKernel<T> optimizer_table[] = {
#define FASTNN_ENTRY(Rule) optimizer_kernel<T, Rule>(),
    FASTNN_OPTIMIZERS(FASTNN_ENTRY)
#undef FASTNN_ENTRY
};
template <class T>
constexpr int optimizer_count = static_cast<int>(sizeof(optimizer_table<T>) / sizeof(optimizer_table<T>[0]));

}  // namespace
}  // namespace fastnn
