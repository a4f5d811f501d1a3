// Activations with gradients of their own: PReLU, whose slope is learned, and maxout, which chooses among channels.
#include "../dispatch.hpp"
#include "channels.hpp"
#include "cost.hpp"
#include "ops.hpp"

namespace fastnn {
namespace {

template <class T>
ChannelMap<T> slope_map(const ChannelParameters<T>& parameters, const T* weight, index channels) {
  ChannelMap<T> map = parameters.map();
  parameters.set(parameters.array(0), 0, channels, weight);
  map.bias = map.scale = parameters.array(0);
  return map;
}

// Calls body(begin, end) on ranges of maxout's outputs, of about as much work as a block.
template <class F>
void for_outputs(index outputs, index pieces, double cost_ns, F&& body) {
  const index each = std::max<index>(16, kBlock / pieces);
  parallel_for((outputs + each - 1) / each, cost_ns,
               [&](index begin, index end) { body(begin * each, std::min(outputs, end * each)); });
}

}  // namespace

template <class T>
void prelu(const Prelu<T>& a) {
  const index n = elements(a.view);
  const Cost cost = Cost{}.bytes<T>(2 * n);
  const ChannelParameters<T> slopes(a.view, 1);
  const Forward<T> f{a.x, slope_map(slopes, a.weight, a.view.channels), plain_tail<T>(), a.y,
                     a.y != a.x && cost.beyond_cache()};
  const Kernels<T>& k = kernels<T>();
  for_elements(n, cost.ns, [&](index begin, index end) { k.prelu(f, begin, end); });
}

template <class T>
void prelu_gradient(const PreluGradient<T>& a) {
  const index n = elements(a.view), channels = a.view.channels;
  std::fill_n(a.dweight, channels, T(0));
  if (n == 0) return;
  const Cost cost = Cost{}.bytes<T>(3 * n);
  const ChannelParameters<T> slopes(a.view, 1);
  const Backward<T> b{a.dy,
                      a.x,
                      false,
                      slope_map(slopes, a.weight, channels),
                      plain_tail<T>(),
                      a.dx,
                      a.dx != a.dy && a.dx != a.x && cost.beyond_cache(),
                      cut_leaves(a.view)};
  Scratch<double> sums(channels);
  const Kernels<T>& k = kernels<T>();
  reduce(
      b.leaves, 1, cost.ns, sums.data(), [&](const Part& part) { k.bias_gradient(b, part); },
      [&](const double* parts, index size, const Part& part) { k.merge_sums(b.leaves, size, parts, 1, part); },
      [&](index begin, index end) {
        for (index c = begin; c < end; ++c) a.dweight[c] = static_cast<T>(sums[c]);
      });
}

template <class T>
void maxout(const Maxout<T>& given, index outputs) {
  const Cost cost = Cost{}.bytes<T>((given.pieces + 1) * outputs);
  Maxout<T> a = given;
  a.stream = cost.beyond_cache();
  const Kernels<T>& k = kernels<T>();
  for_outputs(outputs, a.pieces, cost.ns, [&](index begin, index end) { k.maxout(a, begin, end); });
}

template <class T>
void maxout_gradient(const MaxoutGradient<T>& given, index outputs) {
  const Cost cost = Cost{}.bytes<T>((given.pieces + 1) * outputs);
  MaxoutGradient<T> a = given;
  a.stream = cost.beyond_cache();
  const Kernels<T>& k = kernels<T>();
  for_outputs(outputs, a.pieces, cost.ns, [&](index begin, index end) { k.maxout_gradient(a, begin, end); });
}

#define FASTNN_INSTANTIATE(T)                               \
  template void prelu<T>(const Prelu<T>&);                  \
  template void prelu_gradient<T>(const PreluGradient<T>&); \
  template void maxout<T>(const Maxout<T>&, index);         \
  template void maxout_gradient<T>(const MaxoutGradient<T>&, index);
FASTNN_INSTANTIATE(float)
FASTNN_INSTANTIATE(double)

}  // namespace fastnn
