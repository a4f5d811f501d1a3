#include "../dispatch.hpp"
#include "cost.hpp"
#include "ops.hpp"
#include "tree.hpp"

namespace fastnn {

template <class T>
double cross_entropy(const T* logits, const index* labels, T* dlogits, index rows, index columns) {
  const Kernels<T>& k = kernels<T>();
  Scratch<T> losses(rows);
  const CrossEntropy<T> a{logits,        labels,  dlogits,
                          losses.data(), columns, static_cast<T>(1 / static_cast<double>(rows))};
  const index n = rows * columns;
  parallel_for(rows, Cost{}.bytes<T>(2 * n).exps(n).ns,
               [&](index begin, index end) { k.cross_entropy(a, begin, end); });
  return whole_sum(losses.data(), rows) / static_cast<double>(rows);
}

template double cross_entropy<float>(const float*, const index*, float*, index, index);
template double cross_entropy<double>(const double*, const index*, double*, index, index);

}  // namespace fastnn
