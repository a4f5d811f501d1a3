#include "../dispatch.hpp"
#include "channels.hpp"
#include "cost.hpp"
#include "ops.hpp"

namespace fastnn {
namespace {

// Runs kernel(a, begin, end) over n flat elements; `reads` says whether there is an x.
template <class T, template <class> class Arguments, class Kernel>
void run(Arguments<T>& a, index n, const Cost& cost, const Kernel& kernel) {
  a.stream = a.y != a.x && cost.beyond_cache();
  for_elements(n, cost.ns, [&](index begin, index end) { kernel(a, begin, end); });
}

}  // namespace

template <class T>
void drop_channels(ChannelDropout<T> a, index samples) {
  const index n = samples * a.repeats * a.channels * a.inner;
  if (a.repeats == 1) {  // planes are in the order of their decisions, whatever sample they belong to
    a.channels *= samples;
    samples = 1;
  }
  run(a, n, Cost{}.bytes<T>(2 * n).random_bits(samples * a.channels), kernels<T>().drop_channels);
}

template <class T>
void alpha_dropout(AlphaDropout<T> a, index n) {
  run(a, n, Cost{}.bytes<T>(2 * n).random_bits(n), kernels<T>().alpha_dropout);
}

template <class T>
void noise(Noise<T> a, index n) {
  const Cost cost = Cost{}.bytes<T>(a.x ? 2 * n : n).random_bits(2 * n);
  run(a, n, a.normal ? cost.exps(n) : cost, kernels<T>().noise);
}

// A normalisation by 0 and `factor`.
template <class T>
void scale(const T* x, T factor, T* y, index n) {
  const Kernels<T>& k = kernels<T>();
  const Cost cost = Cost{}.bytes<T>(2 * n);
  static const T zero = 0;
  ChannelMap<T> map = plain_map<T>(n);
  map.mean = &zero;
  map.scale = &factor;
  map.beta = map.bias;
  map.bias = nullptr;
  const Forward<T> f{x, map, plain_tail<T>(), y, x != y && cost.beyond_cache()};
  for_elements(n, cost.ns, [&](index begin, index end) { k.forward(f, begin, end); });
}

#define FASTNN_INSTANTIATE(T)                               \
  template void drop_channels<T>(ChannelDropout<T>, index); \
  template void alpha_dropout<T>(AlphaDropout<T>, index);   \
  template void noise<T>(Noise<T>, index);                  \
  template void scale<T>(const T*, T, T*, index);
FASTNN_INSTANTIATE(float)
FASTNN_INSTANTIATE(double)

}  // namespace fastnn
