// The kernels of one instruction-set level, behind one symbol. Compiled once per level, see CMakeLists.txt.
#include "kernels/hierarchical.hpp"
#include "kernels/losses.hpp"
#include "kernels/maxout.hpp"
#include "kernels/noise.hpp"
#include "kernels/norm.hpp"
#include "kernels/optimizers.hpp"
#include "kernels/prelu.hpp"
#include "kernels/sample_norm.hpp"
#include "kernels/softmax.hpp"
#include "kernels/windows.hpp"

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
          optimizer_table<T>,
          optimizer_count<T>,
          drop_channels<T>,
          alpha_dropout<T>,
          noise<T>,
          softmax<T>,
          softmax_gradient<T>,
          cross_entropy<T>,
          im2col<T>,
          col2im<T>,
          max_pool<T>,
          max_pool_gradient<T>,
          avg_pool<T>,
          avg_pool_gradient<T>,
          spread<T>,
          prelu<T>,
          maxout<T>,
          maxout_gradient<T>,
          row_norm<T>,
          row_norm_gradient<T>,
          group_gradient<T>,
          loss_table<T>,
          loss_count<T>,
          hinge_loss<T>,
          tree_loss<T>,
          tree_gradient<T>,
          incoming<T>,
          scale<T>,
          average<T>,
          observe_before<T>,
          observe_after<T>,
          observed_sums,
          column_squares<T>,
          scale_columns<T>};
}

}  // namespace
}  // namespace fastnn

extern "C" {
extern const fastnn::KernelTable FASTNN_JOIN(fastnn_kernels_, FASTNN_LEVEL);
const fastnn::KernelTable FASTNN_JOIN(fastnn_kernels_, FASTNN_LEVEL) = {fastnn::kernels<float>(),
                                                                        fastnn::kernels<double>()};
}
