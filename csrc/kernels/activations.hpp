// Activations. Each is a struct of a name, of `ns`, roughly the arithmetic of an element of float with AVX2, by which
// threads are chosen (one call on 16384 elements, on one thread, less the time of a copy), and of
//   forward(x, p0, p1)       y
//   backward(dy, x, p0, p1)  dy * f'(x)
//   from_output              whether the output determines the gradient (for some parameters); if so, also
//   backward_output(dy, y, p0, p1), with the bits of backward (which goes through the output, if need be)
// A new activation is one struct here and one word in FASTNN_ACTIVATIONS; relu and leaky_relu stay first, as the
// epilogue compiles them into its loops by number.
#pragma once
#include "lanes.hpp"
#include "math.hpp"

namespace fastnn {
namespace {

template <class T>
struct Relu {
  static constexpr const char* name = "relu";
  static constexpr double ns = 0;
  static constexpr bool from_output = true;
  static FASTNN_INLINE T forward(T x, T, T) { return x <= 0 ? T(0) : x; }  // NaN stays
  static FASTNN_INLINE T backward(T dy, T x, T, T) { return x <= 0 ? T(0) : dy; }
  static FASTNN_INLINE T backward_output(T dy, T y, T, T) { return y <= 0 ? T(0) : dy; }
};

template <class T>
struct LeakyRelu {
  static constexpr const char* name = "leaky_relu";
  static constexpr double ns = 0;
  static constexpr bool from_output = true;  // while the slope is positive
  static FASTNN_INLINE T forward(T x, T slope, T) {
    const T below = x * slope;
    return x > 0 ? x : below;
  }
  static FASTNN_INLINE T backward(T dy, T x, T slope, T) {
    const T below = dy * slope;
    return x > 0 ? dy : below;
  }
  static FASTNN_INLINE T backward_output(T dy, T y, T slope, T p1) { return backward(dy, y, slope, p1); }
};

// p : q = e^x : 1, the larger being one unit: with them a formula of e^x neither overflows nor loses its tails.
template <class T>
struct Odds {
  T p, q, e;  // e is the smaller

  FASTNN_INLINE explicit Odds(T x) : Odds(x, exp_units(-absolute(x))) {}
  FASTNN_INLINE static Odds of_sum(T x, T low) {
    return Odds(x, ScaledExp<T>(-absolute(x), select(x < 0, low, -low)).value());
  }

 private:
  FASTNN_INLINE Odds(T x, T smaller)
      : p(select(x < 0, smaller, Format<T>::unit)), q(select(x < 0, Format<T>::unit, smaller)), e(smaller) {}
};

// Gates: y = x g(x) with g rising from 0 to 1. Beyond `low` and `high` (negative and positive) g is 0 and 1 to the last
// bit, and so it is at these; infinite x is replaced by them wherever it would be multiplied by 0.
template <class T>
FASTNN_INLINE T between(T x, T low, T high) {
  return at_most(at_least(x, low), high);
}

template <class T>
struct Sigmoid {
  static constexpr const char* name = "sigmoid";
  static constexpr double ns = 0.7;
  static constexpr bool from_output = true;
  static FASTNN_INLINE T forward(T x, T, T) {
    const Odds<T> o(x);
    return (o.p - o.p * (o.e / (o.p + o.q))) * Format<T>::per_unit;  // in p / (p + q) the sum's rounding would show
  }
  static FASTNN_INLINE T backward(T dy, T x, T p0, T p1) { return backward_output(dy, forward(x, p0, p1), p0, p1); }
  static FASTNN_INLINE T backward_output(T dy, T y, T, T) { return dy * ((T(1) - y) * y); }
};

template <class T>
struct Tanh {
  static constexpr const char* name = "tanh";
  static constexpr double ns = 0.9;
  static constexpr bool from_output = true;
  static FASTNN_INLINE T forward(T x, T, T) { return tanh(x); }
  static FASTNN_INLINE T backward(T dy, T x, T p0, T p1) { return backward_output(dy, forward(x, p0, p1), p0, p1); }
  static FASTNN_INLINE T backward_output(T dy, T y, T, T) { return dy * (T(1) - y * y); }
};

template <class T>
struct Elu {
  static constexpr const char* name = "elu";
  static constexpr double ns = 0.6;
  static constexpr bool from_output = false;  // y + alpha cancels
  static FASTNN_INLINE T forward(T x, T alpha, T) {
    const T below = alpha * expm1(x);
    return x < 0 ? below : x;
  }
  static FASTNN_INLINE T backward(T dy, T x, T alpha, T) {
    const T below = dy * (alpha * exp_nonpositive(at_most(x, T(0))));
    return x > 0 ? dy : below;
  }
};

template <class T>
struct Selu {
  static constexpr const char* name = "selu";
  static constexpr double ns = 0.6;
  static constexpr bool from_output = false;
  static constexpr T scale = T(1.0507009873554804934193349852946), alpha = T(1.6732632423543772848170429916717);
  static FASTNN_INLINE T forward(T x, T, T) {
    const T below = (scale * alpha) * expm1(x), above = scale * x;
    return x < 0 ? below : above;
  }
  static FASTNN_INLINE T backward(T dy, T x, T, T) {
    const T below = dy * ((scale * alpha) * exp_nonpositive(at_most(x, T(0)))), above = dy * scale;
    return x > 0 ? above : below;
  }
};

template <class T>
struct Celu {
  static constexpr const char* name = "celu";
  static constexpr double ns = 0.7;
  static constexpr bool from_output = false;
  static FASTNN_INLINE T forward(T x, T alpha, T) {
    const T below = alpha * expm1(x / alpha);
    return x < 0 ? below : x;
  }
  static FASTNN_INLINE T backward(T dy, T x, T alpha, T) {
    const Odds<T> o(x / alpha);  // positive where alpha is negative
    const T below = dy * (o.p / o.q);
    return x > 0 ? dy : below;
  }
};

// x Phi(x), Phi being the normal distribution.
template <class T>
struct Gelu {
  static constexpr const char* name = "gelu";
  static constexpr double ns = 1.3;
  static constexpr bool from_output = false;
  static constexpr T low = sizeof(T) == 4 ? T(-16) : T(-40), high = sizeof(T) == 4 ? T(6) : T(9.5);

  struct Normal {
    T x, density, tail;  // phi(x) without its factor 1 / sqrt(2 pi), and Phi(-|x|), both in units

    FASTNN_INLINE explicit Normal(T given) : x(between(given, low, high)) {
      const T u = upper_half(x);  // x^2 = u^2 + (x - u)(x + u)
      const ScaledExp<T> e(T(-0.5) * u * u, T(-0.5) * (x - u) * (x + u));
      density = e.value();
      tail = e.times(mills_ratio(absolute(x)));
    }
  };
  static FASTNN_INLINE T forward(T x, T, T) {
    const Normal n(x);
    const T below = n.x * n.tail, above = n.x * Format<T>::unit - below;
    return select(x > high, x, select(x <= 0, below, above) * Format<T>::per_unit);
  }
  static FASTNN_INLINE T backward(T dy, T x, T, T) {
    const Normal n(x);
    constexpr T factor = T(0.3989422804014326779399461);
    const T distribution = select(x < 0, n.tail, Format<T>::unit - n.tail);
    return dy * ((distribution + n.x * (n.density * factor)) * Format<T>::per_unit);
  }
};

// x sigmoid(z) = x (1 + tanh(z / 2)) / 2 with z = 2 sqrt(2 / pi) (x + 0.044715 x^3) = x (c1 + c3 x^2).
template <class T>
struct GeluTanh {
  static constexpr const char* name = "gelu_tanh";
  static constexpr double ns = 1.4;
  static constexpr bool from_output = false;
  static constexpr T low = sizeof(T) == 4 ? T(-12) : T(-23), high = sizeof(T) == 4 ? T(6) : T(8);
  // Each the sum of two, as a wider type is not the same everywhere.
  static constexpr double c1 = 1.595769121605730711759784, c1_rest = -0x1.ccp-54;
  static constexpr double c3 = 0.07135481627260024877633875, c3_rest = -0x1.6cp-61;

  // z to half as many bits again as fit: the sum of two, whose first is a product of halves. `grid` rounds to an
  // absolute precision that leaves c1 + c3 x^2 half of the bits.
  static FASTNN_INLINE Odds<T> odds(T x) {
    constexpr T grid = sizeof(T) == 4 ? T(0x1.8p15) : T(0x1.8p32);  // to 2^-8, to 2^-20
    constexpr T c1_high = sizeof(T) == 4 ? T(409.0 / 256) : T(1673285.0 / 1048576);
    const T c3_high = upper_half(T(c3)), c3_low = T((c3 - c3_high) + c3_rest);
    const T u = upper_half(x), square = u * u, square_low = (x - u) * (x + u);
    const T s = upper_half(square), cubic = c3_high * s, rounded = (cubic + grid) - grid;
    const T rest = (cubic - rounded) +
                   ((c3_high * (square - s) + c3_low * square) + (T(c3) * square_low + T((c1 - c1_high) + c1_rest)));
    const T factor = c1_high + rounded;
    return Odds<T>::of_sum(u * factor, (x - u) * factor + x * rest);
  }
  static FASTNN_INLINE T forward(T x, T, T) {
    const T t = between(x, low, high);
    const Odds<T> o = odds(t);
    const T y = t * o.p / (o.p + o.q);
    return select(x > high, x, y);
  }
  static FASTNN_INLINE T backward(T dy, T x, T, T) {
    const T t = between(x, low, high);
    const Odds<T> o = odds(t);
    const T r = T(1) / (o.p + o.q), slope = T(c1) + T(3 * c3) * (t * t);
    return dy * ((o.p * r) * (T(1) + (t * slope) * (o.q * r)));
  }
};

template <class T>
constexpr T gate_low = sizeof(T) == 4 ? T(-128) : T(-800);
template <class T>
constexpr T gate_high = sizeof(T) == 4 ? T(20) : T(40);

// x sigmoid(x)
template <class T>
struct Silu {
  static constexpr const char* name = "silu";
  static constexpr double ns = 0.7;
  static constexpr bool from_output = false;
  static FASTNN_INLINE T forward(T x, T, T) {
    const T t = between(x, gate_low<T>, gate_high<T>);
    const Odds<T> o(t);
    const T y = t * o.p / (o.p + o.q);
    return select(x > gate_high<T>, x, y);
  }
  static FASTNN_INLINE T backward(T dy, T x, T, T) {
    const T t = between(x, gate_low<T>, gate_high<T>);
    const Odds<T> o(t);
    const T r = T(1) / (o.p + o.q);
    return dy * ((o.p * r) * (T(1) + t * (o.q * r)));
  }
};

// x tanh(log(1 + e^x)) = x n / (n + 2 q^2) with n = p (p + 2 q)
template <class T>
struct Mish {
  static constexpr const char* name = "mish";
  static constexpr double ns = 0.9;
  static constexpr bool from_output = false;
  static FASTNN_INLINE T forward(T x, T, T) {
    constexpr T unit = Format<T>::unit;
    const T t = between(x, gate_low<T>, gate_high<T>);
    const ScaledExp<T> smaller(-absolute(t));
    const T e = smaller.value(), q = select(t < 0, unit, e);
    const T n = select(t < 0, smaller.times(e + (unit + unit)), unit * (unit + (e + e)));
    const T y = t * n / (n + (q + q) * q);
    return select(x > gate_high<T>, x, y);
  }
  // n / d + x (1 - (n / d)^2) p / (p + q), where 1 - (n / d)^2 = 4 q^2 (p + q)^2 / d^2
  static FASTNN_INLINE T backward(T dy, T x, T, T) {
    const T t = between(x, gate_low<T>, gate_high<T>);
    const Odds<T> o(t);
    const T sum = o.p + o.q, twice = (o.q + o.q) * o.q;
    const T n = o.p * (sum + o.q), r = T(1) / (n + twice);
    return dy * (n * r + t * ((twice * r) * (((o.p + o.p) * sum) * r)));
  }
};

// log(1 + e^x)
template <class T>
FASTNN_INLINE T log1p_exp(T x) {
  return (x < 0 ? T(0) : x) + log1p_of_units(exp_units(-absolute(x)));
}

template <class T>
struct Softplus {
  static constexpr const char* name = "softplus";
  static constexpr double ns = 1.3;
  static constexpr bool from_output = false;
  static FASTNN_INLINE T forward(T x, T beta, T threshold) {
    const T z = x * beta, y = log1p_exp(z) / beta;
    return z > threshold ? x : y;
  }
  static FASTNN_INLINE T backward(T dy, T x, T beta, T threshold) {
    const T z = x * beta;
    const Odds<T> o(z);
    const T below = dy * (o.p / (o.p + o.q));
    return z > threshold ? dy : below;
  }
};

template <class T>
struct Softsign {
  static constexpr const char* name = "softsign";
  static constexpr double ns = 0.1;
  static constexpr bool from_output = false;
  static constexpr T huge = sizeof(T) == 4 ? T(1e15) : T(1e30);  // the limit, to the last bit
  static FASTNN_INLINE T forward(T x, T, T) {
    const T t = between(x, -huge, huge);
    return t / (T(1) + absolute(t));
  }
  static FASTNN_INLINE T backward(T dy, T x, T, T) {
    const T r = T(1) / (T(1) + absolute(x));
    return dy * (r * r);
  }
};

template <class T>
struct Hardtanh {
  static constexpr const char* name = "hardtanh";
  static constexpr double ns = 0;
  static constexpr bool from_output = true;
  static FASTNN_INLINE T forward(T x, T min_val, T max_val) { return between(x, min_val, max_val); }
  static FASTNN_INLINE T backward(T dy, T x, T min_val, T max_val) { return x <= min_val || x >= max_val ? T(0) : dy; }
  static FASTNN_INLINE T backward_output(T dy, T y, T min_val, T max_val) { return backward(dy, y, min_val, max_val); }
};

template <class T>
struct Relu6 {
  static constexpr const char* name = "relu6";
  static constexpr double ns = 0;
  static constexpr bool from_output = true;
  static FASTNN_INLINE T forward(T x, T, T) { return Hardtanh<T>::forward(x, 0, 6); }
  static FASTNN_INLINE T backward(T dy, T x, T, T) { return Hardtanh<T>::backward(dy, x, 0, 6); }
  static FASTNN_INLINE T backward_output(T dy, T y, T, T) { return Hardtanh<T>::backward(dy, y, 0, 6); }
};

template <class T>
struct Hardsigmoid {
  static constexpr const char* name = "hardsigmoid";
  static constexpr double ns = 0;
  static constexpr bool from_output = false;  // rounding takes an x just below 3 to 1
  static FASTNN_INLINE T forward(T x, T, T) { return between(x + T(3), T(0), T(6)) * T(1.0 / 6); }
  static FASTNN_INLINE T backward(T dy, T x, T, T) {
    const T inside = dy * T(1.0 / 6);
    return x <= -3 || x >= 3 ? T(0) : inside;
  }
};

template <class T>
struct Hardswish {
  static constexpr const char* name = "hardswish";
  static constexpr double ns = 0;
  static constexpr bool from_output = false;
  static FASTNN_INLINE T forward(T x, T, T) {
    const T inside = x * ((x + T(3)) * T(1.0 / 6)), above = x < 3 ? inside : x;
    return x <= -3 ? T(0) : above;
  }
  static FASTNN_INLINE T backward(T dy, T x, T, T) {
    const T inside = dy * (x * T(1.0 / 3) + T(0.5)), above = x >= 3 ? dy : inside;
    return x <= -3 ? T(0) : above;
  }
};

template <class T>
struct LogSigmoid {
  static constexpr const char* name = "logsigmoid";
  static constexpr double ns = 1.1;
  static constexpr bool from_output = false;
  static FASTNN_INLINE T forward(T x, T, T) { return -log1p_exp(-x); }
  static FASTNN_INLINE T backward(T dy, T x, T, T) {
    const Odds<T> o(x);
    return dy * (o.q / (o.p + o.q));
  }
};

template <class T>
struct Threshold {
  static constexpr const char* name = "threshold";
  static constexpr double ns = 0;
  static constexpr bool from_output = false;
  static FASTNN_INLINE T forward(T x, T threshold, T value) { return x <= threshold ? value : x; }
  static FASTNN_INLINE T backward(T dy, T x, T threshold, T) { return x <= threshold ? T(0) : dy; }
};

#define FASTNN_ACTIVATIONS(X) \
  X(Relu)                     \
  X(LeakyRelu)                \
  X(Sigmoid)                  \
  X(Tanh)                     \
  X(Elu)                      \
  X(Selu)                     \
  X(Celu)                     \
  X(Gelu)                     \
  X(GeluTanh)                 \
  X(Silu)                     \
  X(Mish)                     \
  X(Softplus)                 \
  X(Softsign)                 \
  X(Hardtanh)                 \
  X(Relu6)                    \
  X(Hardsigmoid)              \
  X(Hardswish)                \
  X(LogSigmoid)               \
  X(Threshold)

// One loop per form; input and output may be the same array, but overlap in no other way.
template <class T, template <class> class A>
void activation_forward(const T* x, T* y, index n, T p0, T p1) {
#pragma GCC ivdep
  for (index i = 0; i < n; ++i) y[i] = A<T>::forward(x[i], p0, p1);
}

template <class T, template <class> class A>
void activation_backward(const T* dy, const T* x, T* dx, index n, T p0, T p1) {
#pragma GCC ivdep
  for (index i = 0; i < n; ++i) dx[i] = A<T>::backward(dy[i], x[i], p0, p1);
}

template <class T, template <class> class A>
void activation_backward_output(const T* dy, const T* y, T* dx, index n, T p0, T p1) {
  if constexpr (A<T>::from_output) {
#pragma GCC ivdep
    for (index i = 0; i < n; ++i) dx[i] = A<T>::backward_output(dy[i], y[i], p0, p1);
  }
}

template <class T, template <class> class A>
constexpr ActivationKernel<T> activation_kernel() {
  constexpr double width = sizeof(T) / sizeof(float);
  return {A<T>::name, width * A<T>::ns, activation_forward<T, A>, activation_backward<T, A>,
          A<T>::from_output ? activation_backward_output<T, A> : nullptr};
}

template <class T>
constexpr ActivationKernel<T> activation_table[] = {
#define FASTNN_ENTRY(A) activation_kernel<T, A>(),
    FASTNN_ACTIVATIONS(FASTNN_ENTRY)
#undef FASTNN_ENTRY
};
template <class T>
constexpr int activation_count = static_cast<int>(sizeof(activation_table<T>) / sizeof(activation_table<T>[0]));

}  // namespace
}  // namespace fastnn
