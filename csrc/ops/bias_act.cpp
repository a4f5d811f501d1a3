#include <algorithm>

#include "../dispatch.hpp"
#include "channels.hpp"
#include "cost.hpp"
#include "ops.hpp"

namespace fastnn {
namespace {

template <class T>
ChannelMap<T> bias_map(const ChannelParameters<T>& parameters, const T* bias, index channels) {
  ChannelMap<T> map = parameters.map();
  parameters.set(parameters.array(0), 0, channels, bias);
  map.bias = parameters.array(0);
  return map;
}

}  // namespace

template <class T>
void bias_act(const BiasAct<T>& a) {
  const Kernels<T>& k = kernels<T>();
  const index n = elements(a.view);
  Cost cost = Cost{}.bytes<T>(a.tail.residual ? 3 * n : 2 * n).template activation<T>(a.tail.activation, n);
  if (a.tail.threshold > 0) cost = cost.random_bits(n);
  const bool in_place = a.y == a.x || a.y == a.tail.residual;
  const ChannelParameters<T> parameters(a.bias ? a.view : View{0, 0, 0}, 1);
  const Forward<T> f{a.x, a.bias ? bias_map(parameters, a.bias, a.view.channels) : plain_map<T>(n), a.tail, a.y,
                     !in_place && cost.beyond_cache()};
  for_elements(n, cost.ns, [&](index begin, index end) { k.forward(f, begin, end); });
}

template <class T>
void bias_act_gradient(const BiasActGradient<T>& a) {
  const Kernels<T>& k = kernels<T>();
  const index n = elements(a.view), channels = a.view.channels;
  if (n == 0) {  // planes without elements have leaves, but no parameters to go with them
    if (a.dbias) std::fill_n(a.dbias, channels, T(0));
    return;
  }
  Cost cost = Cost{}.bytes<T>(a.kept ? 3 * n : 2 * n).template activation<T>(a.tail.activation, n);
  if (a.tail.threshold > 0) cost = cost.random_bits(n);
  // The product is recomputed only where the gradient needs it.
  const bool recompute = a.kept && !a.kept_is_output && a.bias;
  const ChannelParameters<T> parameters(recompute ? a.view : View{0, 0, 0}, 1);
  const Backward<T> b{a.dy,
                      a.kept ? a.kept : a.dy,
                      a.kept_is_output,
                      recompute ? bias_map(parameters, a.bias, channels) : plain_map<T>(n),
                      a.tail,
                      a.dx,
                      a.dx && a.dx != a.dy && a.dx != a.kept && cost.beyond_cache(),
                      cut_leaves(a.dbias || recompute ? a.view : View{1, 1, n})};
  Scratch<double> sums(a.dbias ? channels : 0);
  reduce(
      b.leaves, 1, cost.ns, a.dbias ? sums.data() : nullptr, [&](const Part& part) { k.bias_gradient(b, part); },
      [&](const double* parts, index size, const Part& part) { k.merge_sums(b.leaves, size, parts, 1, part); },
      [](index, index) {});
  if (!a.dbias) return;
  for (index c = 0; c < channels; ++c) a.dbias[c] = static_cast<T>(sums[c]);
}

#define FASTNN_INSTANTIATE(T)                   \
  template void bias_act<T>(const BiasAct<T>&); \
  template void bias_act_gradient<T>(const BiasActGradient<T>&);
FASTNN_INSTANTIATE(float)
FASTNN_INSTANTIATE(double)

}  // namespace fastnn
