// The kernels of one instruction-set level, behind one symbol. Compiled once per level, see CMakeLists.txt.
#include "kernels/hierarchical.hpp"
#include "kernels/losses.hpp"
#include "kernels/norm.hpp"
#include "kernels/optimizers.hpp"
#include "kernels/softmax.hpp"

#ifndef FASTNN_LEVEL
#error "FASTNN_LEVEL names the instruction-set level"
#endif
#define FASTNN_JOIN_(a, b) a##b
#define FASTNN_JOIN(a, b) FASTNN_JOIN_(a, b)

namespace fastnn {
namespace {

template <class T>
constexpr Kernels<T> kernels() {
  return {activation_table<T>,
          activation_count<T>,
          forward<T>,
          moments<T>,
          gradient<T, Wanted::bias>,
          gradient<T, Wanted::norm_sums>,
          gradient<T, Wanted::norm>,
          norm_invstd,
          norm_factors<T>,
          norm_gradient_factors<T>,
          merge_moments<T>,
          merge_sums<T>,
          sum_leaf<T>,
          cross_entropy<T>,
          optimizer_table<T>,
          optimizer_count<T>,
          loss_table<T>,
          loss_count<T>,
          hinge_loss<T>,
          tree_loss<T>,
          tree_gradient<T>};
}

}  // namespace
}  // namespace fastnn

extern "C" {
extern const fastnn::KernelTable FASTNN_JOIN(fastnn_kernels_, FASTNN_LEVEL);
const fastnn::KernelTable FASTNN_JOIN(fastnn_kernels_, FASTNN_LEVEL) = {fastnn::kernels<float>(),
                                                                        fastnn::kernels<double>()};
}
