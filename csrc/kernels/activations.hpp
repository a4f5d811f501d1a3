// Activations. Each is a struct of a name, and of
//   forward(x, p0, p1)       y
//   backward(dy, x, p0, p1)  dy * f'(x)
//   from_output              whether the output determines the gradient (for some parameters); if so, also
//   backward_output(dy, y, p0, p1), with the bits of backward
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
  static constexpr bool from_output = true;
  static FASTNN_INLINE T forward(T x, T, T) { return x <= 0 ? T(0) : x; }  // NaN stays
  static FASTNN_INLINE T backward(T dy, T x, T, T) { return x <= 0 ? T(0) : dy; }
  static FASTNN_INLINE T backward_output(T dy, T y, T, T) { return y <= 0 ? T(0) : dy; }
};

template <class T>
struct LeakyRelu {
  static constexpr const char* name = "leaky_relu";
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

#define FASTNN_ACTIVATIONS(X) X(Relu) X(LeakyRelu)

// One loop per form; input and output may be the same array.
template <class T, template <class> class A>
void activation_forward(const T* x, T* y, index n, T p0, T p1) {
  for (index i = 0; i < n; ++i) y[i] = A<T>::forward(x[i], p0, p1);
}

template <class T, template <class> class A>
void activation_backward(const T* dy, const T* x, T* dx, index n, T p0, T p1) {
  for (index i = 0; i < n; ++i) dx[i] = A<T>::backward(dy[i], x[i], p0, p1);
}

template <class T, template <class> class A>
void activation_backward_output(const T* dy, const T* y, T* dx, index n, T p0, T p1) {
  if constexpr (A<T>::from_output)
    for (index i = 0; i < n; ++i) dx[i] = A<T>::backward_output(dy[i], y[i], p0, p1);
}

template <class T, template <class> class A>
constexpr ActivationKernel<T> activation_kernel() {
  return {A<T>::name, activation_forward<T, A>, activation_backward<T, A>,
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
