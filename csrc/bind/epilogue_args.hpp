// The epilogue's arguments, as every producer takes them: the activation's spec, dropout and its random stream.
#pragma once
#include <algorithm>
#include <atomic>
#include <cmath>

#include "../dispatch.hpp"
#include "array.hpp"
#include "builtin.hpp"

namespace fastnn {

// Bases of fastnn.functional.ActivationSpec and fastnn.random.Generator: what calls need of them, at hand without a
// look into a dictionary of attributes.
struct Spec {
  PyObject_HEAD int id;
  double p0, p1;
  char from_output, sign_only;
};

// Threads may share a generator.
struct Generator {
  PyObject_HEAD std::atomic<unsigned long long> seed, position;
};

// The argument `activation`: nullptr for None; ValueError for what is neither a name nor a spec.
const Spec* spec_in(const Arguments& a, int place);

// A probability; TypeError or ValueError for anything else.
double probability(const Arguments& a, int place);

// As fastnn.random.keep_threshold: rounded to even, and only 1 drops everything; -1: no dropout.
inline int keep_threshold(double p) {
  if (p == 0) return -1;
  if (p == 1) return 0;
  return static_cast<int>(std::min(std::max(std::lrint((1 - p) * 65536), 1L), 65535L));
}

// What dropout multiplies with, so that the expectation stays.
inline double inverted_scale(int threshold) {
  return threshold > 0 ? 65536.0 / threshold : 0;
}

struct TailArgs {
  int activation;
  double p0, p1;
  int threshold;
  double keep_scale;
  std::uint64_t seed, position;
  index first;

  template <class T>
  Epilogue<T> epilogue(const T* residual) const {
    Epilogue<T> e{};
    e.residual = residual;
    e.activation = activation;
    e.p0 = static_cast<T>(p0);
    e.p1 = static_cast<T>(p1);
    e.threshold = threshold;
    e.keep_scale = static_cast<T>(keep_scale);
    e.key[0] = static_cast<std::uint32_t>(seed);
    e.key[1] = static_cast<std::uint32_t>(seed >> 32);
    e.key[2] = static_cast<std::uint32_t>(position);
    e.key[3] = static_cast<std::uint32_t>(position >> 32);
    e.first = first;
    return e;
  }
};

constexpr TailArgs no_tail{-1, 0, 0, -1, 0, 0, 0, 0};

// The tail of a call on `elements` elements; nothing is drawn yet.
TailArgs tail_in(const Arguments& a, const Spec* spec, double dropout, int first, index elements);

// Draws a position of the stream for a tail with dropout, when everything else has been checked.
class Draw {
 public:
  Draw(const Arguments& a, int rng, TailArgs& tail);
  // Of a call that was refused after all: the position is given back, unless somebody has drawn since.
  void undo() const;

 private:
  Generator* generator_ = nullptr;
  unsigned long long position_ = 0;
};

// (outer, channels, inner) of an array along a non-negative axis.
inline View view_of(const Array& a, int axis) {
  View v{1, a.shape(axis), 1};
  for (int d = 0; d < axis; ++d) v.outer *= a.shape(d);
  for (int d = axis + 1; d < a.ndim(); ++d) v.inner *= a.shape(d);
  return v;
}

}  // namespace fastnn
