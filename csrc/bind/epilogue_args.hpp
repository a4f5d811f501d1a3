// The epilogue's arguments, as every producer takes them: activation, p0, p1, threshold, seed, position, first.
#pragma once
#include "../dispatch.hpp"
#include "array.hpp"

namespace fastnn {

struct TailArgs {
  int activation;
  double p0, p1;
  int threshold;
  std::uint64_t seed, position;
  index first;

  template <class T>
  Epilogue<T> epilogue(const std::optional<Array>& residual) const {
    if (activation < -1 || activation >= kernels<T>().activation_count)
      throw py::value_error("activation: expected a number below " + std::to_string(kernels<T>().activation_count) +
                            ", got " + std::to_string(activation));
    Epilogue<T> e{};
    e.residual = data_or_null<T>(residual);
    e.activation = activation;
    e.p0 = static_cast<T>(p0);
    e.p1 = static_cast<T>(p1);
    e.threshold = threshold;
    e.keep_scale = threshold > 0 ? static_cast<T>(65536.0 / threshold) : T(0);
    e.key[0] = static_cast<std::uint32_t>(seed);
    e.key[1] = static_cast<std::uint32_t>(seed >> 32);
    e.key[2] = static_cast<std::uint32_t>(position);
    e.key[3] = static_cast<std::uint32_t>(position >> 32);
    e.first = first;
    return e;
  }
};

// (outer, channels, inner) of an array along a non-negative axis.
inline View view_of(const Array& a, int axis) {
  View v{1, a.shape(axis), 1};
  for (int d = 0; d < axis; ++d) v.outer *= a.shape(d);
  for (int d = axis + 1; d < a.ndim(); ++d) v.inner *= a.shape(d);
  return v;
}

}  // namespace fastnn
