// PReLU: leaky relu whose slope is learned, one for all elements or one for each channel.
//   y = x > 0 ? x : slope x
//   dx = x > 0 ? dy : slope dy,  dslope = the sum of (x > 0 ? 0 : dy x)
// The gradients are those of a bias with another loop: see norm.hpp.
#pragma once
#include "norm.hpp"

namespace fastnn {
namespace {

// y may be x.
template <class T, bool Rows>
FASTNN_INLINE void prelu_loop(const T* x, const Parameter<T, Rows>& slope, T* y, index n) {
#pragma GCC ivdep
  for (index i = 0; i < n; ++i) y[i] = LeakyRelu<T>::forward(x[i], slope[i], 0);
}

template <class T, bool Rows>
void prelu_with(const Forward<T>& a, index begin, index end) {
  for_blocks(begin, end, [&](index g, index n) {
    T tile[kBlock];
    T* const y = a.stream ? tile : a.y + g;
    for_segments<Rows>(a.map, g, n, [&](index at, index length, index p) {
      prelu_loop(a.x + g + at, Parameter<T, Rows>(a.map.scale + p), y + at, length);
    });
    if (a.stream) stream_block(tile, a.y + g, n);
  });
  if (a.stream) stream_fence();
}

template <class T>
void prelu(const Forward<T>& a, index begin, index end) {
  a.map.rows ? prelu_with<T, true>(a, begin, end) : prelu_with<T, false>(a, begin, end);
}

}  // namespace
}  // namespace fastnn
