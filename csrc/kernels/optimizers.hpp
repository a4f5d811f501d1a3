// Optimizer updates, in place over one run of a parameter tensor; every array is read and written once.
// Moments below the smallest normal become zero, so that training never slows down on denormals.
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

template <class T>
FASTNN_INLINE T flush(T m) {
  const T size = m < 0 ? -m : m;
  return size < smallest_normal(m) ? T(0) : m;
}

//   g = clip * gradient + weight_decay * p
//   m = first step ? g : momentum * m + (1 - dampening) * g
//   p = p - lr * (nesterov ? g + momentum * m : m)          without momentum: p - lr * g
template <class T, bool Decay, bool Momentum, bool Nesterov, bool First>
void sgd_loop(const Sgd<T>& a, const Span<T>& s) {
  T* FASTNN_RESTRICT const p = s.parameter;
  const T* FASTNN_RESTRICT const gradient = s.gradient;
  T* FASTNN_RESTRICT const m = s.state0;
  const T clip = a.clip, lr = a.lr, mu = a.momentum, keep = a.one_minus_dampening, decay = a.weight_decay;
  for (index i = 0; i < s.n; ++i) {
    T g = gradient[i] * clip;
    if constexpr (Decay) g = g + decay * p[i];
    T d = g;
    if constexpr (Momentum) {
      T v = g;
      if constexpr (!First) v = mu * m[i] + keep * g;
      v = flush(v);
      m[i] = v;
      d = Nesterov ? g + mu * v : v;
    }
    p[i] = p[i] - lr * d;
  }
}

template <class T, bool Decay>
FASTNN_INLINE void sgd_with(const Sgd<T>& a, const Span<T>& s) {
  if (!a.has_momentum) return sgd_loop<T, Decay, false, false, false>(a, s);
  if (a.nesterov)
    return a.first_step ? sgd_loop<T, Decay, true, true, true>(a, s) : sgd_loop<T, Decay, true, true, false>(a, s);
  return a.first_step ? sgd_loop<T, Decay, true, false, true>(a, s) : sgd_loop<T, Decay, true, false, false>(a, s);
}

template <class T>
void sgd(const Sgd<T>& a, const Span<T>& s) {
  a.weight_decay != 0 ? sgd_with<T, true>(a, s) : sgd_with<T, false>(a, s);
}

//   g = clip * gradient + l2 * p,  p = keep * p             l2: coupled decay; keep = 1 - lr * decoupled decay
//   m = beta1 * m + (1 - beta1) * g
//   v = beta2 * v + (1 - beta2) * g^2
//   p = p - step_size * (m / (sqrt(v) / sqrt(1 - beta2^t) + eps)),  step_size = lr / (1 - beta1^t)
template <class T, bool L2>
void adam_loop(const Adam<T>& a, const Span<T>& s) {
  T* FASTNN_RESTRICT const p = s.parameter;
  const T* FASTNN_RESTRICT const gradient = s.gradient;
  T* FASTNN_RESTRICT const m = s.state0;
  T* FASTNN_RESTRICT const v = s.state1;
  const Adam<T> k = a;
  for (index i = 0; i < s.n; ++i) {
    T g = gradient[i] * k.clip;
    if constexpr (L2) g = g + k.l2 * p[i];
    const T m1 = flush(k.beta1 * m[i] + k.one_minus_beta1 * g);
    const T v1 = flush(k.beta2 * v[i] + k.one_minus_beta2 * (g * g));
    m[i] = m1;
    v[i] = v1;
    p[i] = p[i] * k.keep - k.step_size * (m1 / (square_root(v1) * k.inverse_sqrt_correction2 + k.eps));
  }
}

template <class T>
void adam(const Adam<T>& a, const Span<T>& s) {
  a.l2 != 0 ? adam_loop<T, true>(a, s) : adam_loop<T, false>(a, s);
}

}  // namespace
}  // namespace fastnn
