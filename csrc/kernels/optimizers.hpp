// Optimizers, in place over one run of a parameter tensor; every array is read and written once. A rule has
//   name
//   states            names of its state arrays
//   optional_states   how many of the last may be absent
//   root              whether it takes a root and a division per element
//   enum {..., scalars}  its numbers, in the order in which Python passes them
//   step(scalars, clip, span)
// A new optimizer is one struct here and one word in FASTNN_OPTIMIZERS.
#pragma once
#include "math.hpp"

namespace fastnn {
namespace {

FASTNN_INLINE float smallest_normal(float) {
  return 1.17549435e-38f;
}
FASTNN_INLINE double smallest_normal(double) {
  return 2.2250738585072014e-308;
}
FASTNN_INLINE float magnitude(float x) {
  return __builtin_fabsf(x);
}
FASTNN_INLINE double magnitude(double x) {
  return __builtin_fabs(x);
}

// Moments below the smallest normal become zero, so that training never slows down on denormals.
template <class T>
FASTNN_INLINE T flush(T moment) {
  return magnitude(moment) < smallest_normal(moment) ? T(0) : moment;
}

// The loop of every rule: element(p, g, state 0, state 1 ...) updates its arguments, and works with what it computed
// rather than with what it stored. The arrays are parameters, as the compiler trusts `restrict` only there.
template <int States, class T, class Element>
FASTNN_INLINE void update_arrays(T* FASTNN_RESTRICT p, const T* FASTNN_RESTRICT gradient, T* FASTNN_RESTRICT s0,
                                 T* FASTNN_RESTRICT s1, T* FASTNN_RESTRICT s2, T* FASTNN_RESTRICT s3, index n, T clip,
                                 const Element& element) {
  for (index i = 0; i < n; ++i) {
    const T g = gradient[i] * clip;
    if constexpr (States == 0) element(p[i], g);
    if constexpr (States == 1) element(p[i], g, s0[i]);
    if constexpr (States == 2) element(p[i], g, s0[i], s1[i]);
    if constexpr (States == 3) element(p[i], g, s0[i], s1[i], s2[i]);
    if constexpr (States == 4) element(p[i], g, s0[i], s1[i], s2[i], s3[i]);
  }
}

template <int States, class T, class Element>
FASTNN_INLINE void update(const Span<T>& s, T clip, const Element& element) {
  update_arrays<States>(s.parameter, s.gradient, s.state[0], s.state[1], s.state[2], s.state[3], s.n, clip, element);
}

// The gradient with an L2 penalty.
template <bool Decay, class T>
FASTNN_INLINE T penalised(T g, T weight_decay, T p) {
  if constexpr (Decay) return g + weight_decay * p;
  return g;
}

//   g = clip * gradient + weight_decay * p
//   m = first step ? g : momentum * m + (1 - dampening) * g
//   p = p - lr * (nesterov ? g + momentum * m : m)          without momentum: p - lr * g
template <class T>
struct Sgd {
  static constexpr const char* name = "sgd";
  static constexpr const char* states[kMaxStates] = {"momentum_buffers"};
  static constexpr int optional_states = 1;
  static constexpr bool root = false;
  enum { lr, momentum, one_minus_dampening, weight_decay, nesterov, first_step, scalars };

  template <bool Decay>
  static void plain(const T* a, T clip, const Span<T>& s) {
    const T rate = a[lr], decay = a[weight_decay];
    update<0>(s, clip, [=](T& p, T g) { p = p - rate * penalised<Decay>(g, decay, p); });
  }

  template <bool Decay, bool Nesterov, bool First>
  static void with_momentum(const T* a, T clip, const Span<T>& s) {
    const T rate = a[lr], mu = a[momentum], gain = a[one_minus_dampening], decay = a[weight_decay];
    update<1>(s, clip, [=](T& p, T gradient, T& m) {
      const T g = penalised<Decay>(gradient, decay, p);
      const T next = flush(First ? g : mu * m + gain * g);
      m = next;
      p = p - rate * (Nesterov ? g + mu * next : next);
    });
  }

  template <bool Decay>
  static void chosen(const T* a, T clip, const Span<T>& s) {
    if (!s.state[0]) return plain<Decay>(a, clip, s);
    if (a[nesterov] != 0)
      return a[first_step] != 0 ? with_momentum<Decay, true, true>(a, clip, s)
                                : with_momentum<Decay, true, false>(a, clip, s);
    return a[first_step] != 0 ? with_momentum<Decay, false, true>(a, clip, s)
                              : with_momentum<Decay, false, false>(a, clip, s);
  }

  static void step(const T* a, T clip, const Span<T>& s) {
    a[weight_decay] != 0 ? chosen<true>(a, clip, s) : chosen<false>(a, clip, s);
  }
};

//   g = clip * gradient + l2 * p,  p = keep * p             l2: coupled decay; keep = 1 - lr * decoupled decay
//   m = beta1 * m + (1 - beta1) * g
//   v = beta2 * v + (1 - beta2) * g^2
//   p = p - step_size * (m / (sqrt(v) / sqrt(1 - beta2^t) + eps)),  step_size = lr / (1 - beta1^t)
template <class T>
struct Adam {
  static constexpr const char* name = "adam";
  static constexpr const char* states[kMaxStates] = {"exp_avgs", "exp_avg_sqs"};
  static constexpr int optional_states = 0;
  static constexpr bool root = true;
  // inverse_root_correction2 = 1 / sqrt(1 - beta2^t)
  enum { step_size, beta1, one_minus_beta1, beta2, one_minus_beta2, eps, l2, keep, inverse_root_correction2, scalars };

  template <bool L2>
  static void loop(const T* a, T clip, const Span<T>& s) {
    const T size = a[step_size], keep1 = a[beta1], gain1 = a[one_minus_beta1], keep2 = a[beta2];
    const T gain2 = a[one_minus_beta2], least = a[eps], penalty = a[l2], shrink = a[keep];
    const T scale = a[inverse_root_correction2];
    update<2>(s, clip, [=](T& p, T gradient, T& m, T& v) {
      const T g = penalised<L2>(gradient, penalty, p);
      const T mean = flush(keep1 * m + gain1 * g);
      const T square = flush(keep2 * v + gain2 * (g * g));
      m = mean;
      v = square;
      p = p * shrink - size * (mean / (square_root(square) * scale + least));
    });
  }

  static void step(const T* a, T clip, const Span<T>& s) {
    a[l2] != 0 ? loop<true>(a, clip, s) : loop<false>(a, clip, s);
  }
};

#define FASTNN_OPTIMIZERS(X) X(Sgd) X(Adam)

template <class T, template <class> class Rule>
constexpr OptimizerKernel<T> optimizer_kernel() {
  static_assert(static_cast<int>(Rule<T>::scalars) <= kMaxScalars, "raise kMaxScalars");
  return {Rule<T>::name, Rule<T>::states, Rule<T>::optional_states, Rule<T>::scalars, Rule<T>::root, Rule<T>::step};
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
