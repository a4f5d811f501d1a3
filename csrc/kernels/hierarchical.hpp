// Hierarchical softmax: a class is a path through a binary tree, and each decision on it a logistic regression of h,
//   z = weight_node . h + bias_node,  P(right) = sigmoid(z),  P(left) = sigmoid(-z)
//   loss = sum over the path of log(1 + e^-y),  y = z to the right, -z to the left
// A sample costs as many rows of weights as its path has nodes.
#pragma once
#include "activations.hpp"
#include "reduce.hpp"

namespace fastnn {
namespace {

// The sum of a_i b_i: 16 lanes in pieces of 4096, which are added in double.
template <class T>
FASTNN_NOINLINE T dot(const T* FASTNN_RESTRICT a, const T* FASTNN_RESTRICT b, index n) {
  double total = 0;
  for (index g = 0; g < n; g += kPiece) {
    const index end = smaller(n, g + kPiece);
    T lane[kLanes];
    Lanes<T> sum = Lanes<T>::zero();
    index i = g;
    for (; i + kLanes <= end; i += kLanes) sum = sum + Lanes<T>::load(a + i) * Lanes<T>::load(b + i);
    sum.store(lane);
    for (index l = 0; i < end; ++i, ++l) lane[l] += a[i] * b[i];
    total += static_cast<double>(fold_lanes(lane));
  }
  return static_cast<T>(total);
}

// to += factor * x
template <class T>
FASTNN_NOINLINE void add_scaled(T* FASTNN_RESTRICT to, T factor, const T* FASTNN_RESTRICT x, index n) {
  for (index i = 0; i < n; ++i) to[i] += factor * x[i];
}

constexpr index kDecisions = 64;  // of a path at a time, so that their logarithms are one loop

template <class T>
void tree_loss(const TreeLoss<T>& a, index begin, index end) {
  const index features = a.features;
  for (index n = begin; n < end; ++n) {
    const T* const h = a.h + n * features;
    T* const dh = a.dh + n * features;
    double total = 0;
    for (index i = 0; i < features; ++i) dh[i] = T(0);
    for (index first = a.offsets[n]; first < a.offsets[n + 1]; first += kDecisions) {
      const index count = smaller(kDecisions, a.offsets[n + 1] - first);
      const index* const node = a.nodes + first;
      const T* const sign = a.signs + first;
      T* const slope = a.slopes + first;
      T y[kDecisions], value[kDecisions];
      for (index k = 0; k < count; ++k)
        y[k] = sign[k] * (dot(a.weight + node[k] * features, h, features) + a.bias[node[k]]);
      for (index k = 0; k < count; ++k) {
        const Odds<T> o(y[k]);
        value[k] = at_least(-y[k], T(0)) + log1p_of_units(o.e);
        slope[k] = -sign[k] * (a.scale * (o.q / (o.p + o.q)));
      }
      for (index k = 0; k < count; ++k) total += static_cast<double>(value[k]);
      for (index k = 0; k < count; ++k) add_scaled(dh, slope[k], a.weight + node[k] * features, features);
    }
    a.losses[n] = static_cast<T>(total);
  }
}

// Decisions are added in the order of their samples: 32 at a time, and these sums in double.
template <class T>
void tree_gradient(const TreeGradient<T>& a, index begin, index end) {
  const index features = a.features;
  for (index r = begin; r < end; ++r) {
    double dbias = 0;
    for (index e = a.starts[r]; e < a.starts[r + 1]; ++e) dbias += static_cast<double>(a.slopes[a.decisions[e]]);
    a.dbias[r] = static_cast<T>(dbias);
    for (index j = 0; j < features; j += kBlock) {
      const index width = smaller(kBlock, features - j);
      double total[kBlock];
      T leaf[kBlock];
      for (index i = 0; i < width; ++i) total[i] = 0;
      for (index first = a.starts[r]; first < a.starts[r + 1]; first += kLeafRows) {
        for (index i = 0; i < width; ++i) leaf[i] = T(0);
        for (index e = first; e < smaller(first + kLeafRows, a.starts[r + 1]); ++e)
          add_scaled(leaf, a.slopes[a.decisions[e]], a.h + a.samples[e] * features + j, width);
        for (index i = 0; i < width; ++i) total[i] += static_cast<double>(leaf[i]);
      }
      T* const to = a.dweight + r * features + j;
      for (index i = 0; i < width; ++i) to[i] = static_cast<T>(total[i]);
    }
  }
}

}  // namespace
}  // namespace fastnn
