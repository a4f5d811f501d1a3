#include "../dispatch.hpp"
#include "cost.hpp"
#include "ops.hpp"
#include "tree.hpp"

namespace fastnn {

template <class T>
double hinge_losses(HingeLoss<T> a, index rows) {
  const Cost cost = Cost{}.bytes<T>(2 * rows * a.columns);
  a.stream = a.dscores != a.scores && cost.beyond_cache();
  parallel_for(rows, cost.ns, [&](index begin, index end) { kernels<T>().hinge_loss(a, begin, end); });
  return whole_sum(a.losses, rows);
}

template double hinge_losses<float>(HingeLoss<float>, index);
template double hinge_losses<double>(HingeLoss<double>, index);

}  // namespace fastnn
