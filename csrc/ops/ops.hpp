// What each operation does with whole arrays: phases, threads, cache policy. No Python here.
#pragma once
#include <vector>

#include "../contract.hpp"

namespace fastnn {

inline index elements(const View& v) {
  return v.outer * v.channels * v.inner;
}

template <class T>
struct BiasAct {
  View view;
  const T *x, *bias;  // bias may be nullptr
  Epilogue<T> tail;
  T* y;
};

template <class T>
struct BiasActGradient {
  View view;
  const T *dy, *kept, *bias;  // kept: the product or the output; nullptr where neither is needed
  bool kept_is_output;
  Epilogue<T> tail;
  T *dx, *dbias;  // either may be nullptr
};

enum class Nonfinite { error, skip, allow };

// Running statistics may be of either type.
struct RunningStatistic {
  void* data;
  bool is_float;
  double get(index c) const {
    return is_float ? static_cast<const float*>(data)[c] : static_cast<const double*>(data)[c];
  }
  void set(index c, double value) const {
    if (is_float)
      static_cast<float*>(data)[c] = static_cast<float>(value);
    else
      static_cast<double*>(data)[c] = value;
  }
};

template <class T>
struct BatchNorm {
  View view;
  const T *x, *weight, *bias, *pre_bias;  // the last three may be nullptr
  Epilogue<T> tail;
  double eps;
  T* y;
};

template <class T>
struct BatchNormGradient {
  View view;
  const T *dy, *x;
  const double *mean, *invstd;
  const T *weight, *bias, *pre_bias;
  Epilogue<T> tail;
  T *dx, *dweight, *dbias, *dresidual, *dpre_bias;  // the last two may be nullptr
};

// y = f(x); dx = dy f'(x) or, from the output, dy f'(f^-1(x)).
template <class T>
void activation(int id, const T* x, T* y, index n, T p0, T p1);
template <class T>
void activation_gradient(int id, const T* dy, const T* x, bool x_is_output, T* dx, index n, T p0, T p1);

template <class T>
void bias_act(const BiasAct<T>& a);
template <class T>
void bias_act_gradient(const BiasActGradient<T>& a);

// Returns the first channel whose statistics are not finite, or -1. mean and invstd get one entry per channel.
// Running statistics (or nullptr data) change only where the batch allows it.
template <class T>
index batch_norm_train(const BatchNorm<T>& a, double momentum, Nonfinite nonfinite, RunningStatistic running_mean,
                       RunningStatistic running_var, double* mean, double* invstd);
template <class T>
void batch_norm_infer(const BatchNorm<T>& a, RunningStatistic running_mean, RunningStatistic running_var);
template <class T>
void batch_norm_gradient(const BatchNormGradient<T>& a);

template <class T>
double cross_entropy(const T* logits, const index* labels, T* dlogits, index rows, index columns);

// Number of the elementwise loss of this name; std::invalid_argument if there is none.
int loss_id(const char* name);

// One entry per element, or fewer, of which element g has entry g % count.
template <class T>
struct Entries {
  const T* data;  // nullptr: there are none
  index count;
};

// Loss `id` of n elements and its gradient, which counts `scale` times. The sum of the losses, or 0 where `losses`
// keeps them.
template <class T>
double elementwise_loss(int id, const T* input, const T* target, Entries<T> parameter, Entries<T> weight, T scale,
                        T* dinput, T* losses, index n);

// The losses of the rows and the gradient; returns their sum. a.stream is chosen here.
template <class T>
double hinge_losses(HingeLoss<T> a, index rows);

// The decisions on the paths of a batch, sample after sample, as TreeLoss has them.
struct Decisions {
  std::vector<index> offsets, nodes;
  std::vector<bool> right;
};

// The same by node: row r of the gradient is that of nodes[r], from decisions [starts[r], starts[r + 1]).
struct DecisionsByNode {
  std::vector<index> nodes, starts, decisions, samples;
};
DecisionsByNode by_node(const Decisions& d, index nodes);

template <class T>
struct HierarchicalSoftmax {
  const T *h, *weight, *bias;
  index features;
  T scale;  // of the gradients
  T *losses, *dh, *dweight, *dbias;
};

// The losses of the samples and the gradients; returns the sum of the losses.
template <class T>
double hierarchical_softmax(const HierarchicalSoftmax<T>& a, const Decisions& d, const DecisionsByNode& order);

// The sum over the whole array on the fixed tree.
template <class T>
double whole_sum(const T* x, index n);

// The global norm of the gradients of whole tensors: root of the tensors' sums of squares, added in list order.
template <class T>
double gradient_norm(const std::vector<Span<T>>& tensors);
// What gradients of that norm are multiplied with, to bring it down to `clip_norm`.
double clip_factor(double norm, double clip_norm);
// One step of rule `id` on whole tensors.
template <class T>
void optimize(int id, const std::vector<Span<T>>& tensors, const T* scalars, T clip);

}  // namespace fastnn
