#include "../dispatch.hpp"
#include "channels.hpp"
#include "cost.hpp"
#include "ops.hpp"

namespace fastnn {

template <class T>
void activation(int id, const T* x, T* y, index n, T p0, T p1) {
  const Kernels<T>& k = kernels<T>();
  const Cost cost = Cost{}.bytes<T>(2 * n).template activation<T>(id, n);
  if (x == y || !cost.beyond_cache()) {
    const auto f = k.activations[id].forward;
    return for_elements(n, cost.ns, [&](index begin, index end) { f(x + begin, y + begin, end - begin, p0, p1); });
  }
  const Forward<T> a{x, plain_map<T>(n), plain_tail(id, p0, p1), y, true};
  for_elements(n, cost.ns, [&](index begin, index end) { k.forward(a, begin, end); });
}

template <class T>
void activation_gradient(int id, const T* dy, const T* x, bool x_is_output, T* dx, index n, T p0, T p1) {
  const Kernels<T>& k = kernels<T>();
  const Cost cost = Cost{}.bytes<T>(3 * n).template activation<T>(id, n);
  if (dx == dy || dx == x || !cost.beyond_cache()) {
    const auto f = x_is_output ? k.activations[id].backward_output : k.activations[id].backward;
    return for_elements(n, cost.ns,
                        [&](index begin, index end) { f(dy + begin, x + begin, dx + begin, end - begin, p0, p1); });
  }
  const Backward<T> b{dy, x, x_is_output, plain_map<T>(n), plain_tail(id, p0, p1), dx, true, cut_leaves({1, 1, n})};
  reduce(
      b.leaves, 1, cost.ns, nullptr, [&](const Part& part) { k.bias_gradient(b, part); },
      [](const double*, index, const Part&) {}, [](index, index) {});
}

template <class T>
double whole_sum(const T* x, index n) {
  const Kernels<T>& k = kernels<T>();
  if (n == 0) return 0;
  const index pieces = (n + kPiece - 1) / kPiece;
  Scratch<double> sums(pieces);
  parallel_for(pieces, Cost{}.bytes<T>(n).ns, [&](index begin, index end) {
    for (index p = begin; p < end; ++p) sums[p] = k.sum(x + p * kPiece, std::min(kPiece, n - p * kPiece), false);
  });
  return merge_pieces(k, sums.data(), pieces);
}

#define FASTNN_INSTANTIATE(T)                                                           \
  template void activation<T>(int, const T*, T*, index, T, T);                          \
  template void activation_gradient<T>(int, const T*, const T*, bool, T*, index, T, T); \
  template double whole_sum<T>(const T*, index);
FASTNN_INSTANTIATE(float)
FASTNN_INSTANTIATE(double)

}  // namespace fastnn
