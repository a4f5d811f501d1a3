#include "../dispatch.hpp"
#include "cost.hpp"
#include "ops.hpp"
#include "tree.hpp"

namespace fastnn {

template <class T>
double cross_entropy(const T* logits, const index* labels, T* dlogits, index rows, index columns) {
  const Kernels<T>& k = kernels<T>();
  Scratch<T> losses(rows);
  const index n = rows * columns;
  const Cost cost = Cost{}.bytes<T>(2 * n).exps(n);
  const T weight = static_cast<T>(1 / static_cast<double>(rows));
  const bool stream = dlogits != logits && cost.beyond_cache();
  const CrossEntropy<T> a{logits, labels, dlogits, losses.data(), columns, weight, stream};
  parallel_for(rows, cost.ns, [&](index begin, index end) {
    const Scratch<T> scratch(columns > kBlock ? columns : 0);
    k.cross_entropy(a, scratch.data(), begin, end);
  });
  return whole_sum(losses.data(), rows) / static_cast<double>(rows);
}

template double cross_entropy<float>(const float*, const index*, float*, index, index);
template double cross_entropy<double>(const double*, const index*, double*, index, index);

}  // namespace fastnn
