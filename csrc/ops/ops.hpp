// What each operation does with whole arrays: phases, threads, cache policy. No Python here.
#pragma once
#include <functional>
#include <optional>
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

enum class Reduction { mean, sum, none };

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

// How a batch changes them: running = (1 - momentum) running + momentum batch, the batch's variance over n - ddof.
struct RunningUpdate {
  RunningStatistic mean, var;  // both or none (nullptr data)
  double momentum;
  index ddof;
};

// Merges the two results of each leaf, (leaves, 2, channels), with those of other shards into result, (2, channels);
// counts are the elements of a channel in each leaf, the value those in all shards. Empty: the batch is not sharded.
using Across =
    std::function<double(index leaves, index channels, const double* parts, const double* counts, double* result)>;

template <class T>
struct BatchNorm {
  View view;
  const T *x, *weight, *bias, *pre_bias;  // the last three may be nullptr
  Epilogue<T> tail;
  double eps;
  T* y;
  Across across = nullptr;
};

template <class T>
struct BatchNormGradient {
  View view;
  const T *dy, *x;
  const double *mean, *invstd;
  const T *weight, *bias, *pre_bias;
  Epilogue<T> tail;
  T *dx, *dweight, *dbias, *dresidual, *dpre_bias;  // the last two may be nullptr
  bool frozen;                                      // the statistics are constants, not functions of x
  Across across = nullptr;
};

// Norm of groups of consecutive channels in each sample. A sample's elements are (outer, channels, inner).
template <class T>
struct GroupNorm {
  index samples, groups;
  View sample;
  const T *x, *weight, *bias;  // the last two may be nullptr
  double eps;
  Epilogue<T> tail;
  double *mean, *invstd;  // one entry per group of each sample
  T* y;
};

template <class T>
struct GroupNormGradient {
  index samples, groups;
  View sample;
  const T *dy, *x, *weight, *bias;
  const double *mean, *invstd;
  Epilogue<T> tail;
  T *dx, *dweight, *dbias, *dresidual;  // the last may be nullptr
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
index batch_norm_train(const BatchNorm<T>& a, Nonfinite nonfinite, RunningUpdate running, double* mean, double* invstd);
// Normalises with the running statistics; mean and invstd get them for backward.
template <class T>
void batch_norm_frozen(const BatchNorm<T>& a, RunningStatistic running_mean, RunningStatistic running_var, double* mean,
                       double* invstd);
template <class T>
void batch_norm_infer(const BatchNorm<T>& a, RunningStatistic running_mean, RunningStatistic running_var);
template <class T>
void batch_norm_gradient(const BatchNormGradient<T>& a);

// y = x > 0 ? x : weight x, and its gradients; weight has an entry per channel.
template <class T>
struct Prelu {
  View view;
  const T *x, *weight;
  T* y;
};

template <class T>
struct PreluGradient {
  View view;
  const T *dy, *x, *weight;
  T *dx, *dweight;
};

template <class T>
void prelu(const Prelu<T>& a);
template <class T>
void prelu_gradient(const PreluGradient<T>& a);

template <class T>
void maxout(const Maxout<T>& a, index outputs);
template <class T>
void maxout_gradient(const MaxoutGradient<T>& a, index outputs);

// What a random stream is used for; `stream` is decided here.
template <class T>
void drop_channels(ChannelDropout<T> a, index samples);
template <class T>
void alpha_dropout(AlphaDropout<T> a, index n);
template <class T>
void noise(Noise<T> a, index n);
// y = x * factor
template <class T>
void scale(const T* x, T factor, T* y, index n);

// Weight and bias may be nullptr; `stream` and `leaves` are set here.
template <class T>
void row_norm(RowNorm<T> a, index rows);
template <class T>
void row_norm_gradient(RowNormGradient<T> a, T* dweight, T* dbias);
template <class T>
void group_norm(const GroupNorm<T>& a);
template <class T>
void group_norm_gradient(const GroupNormGradient<T>& a);

// Along the channels of the view.
template <class T>
void softmax(const View& view, bool logarithm, const T* x, T* y);
template <class T>
void softmax_gradient(const View& view, bool logarithm, const T* dy, const T* y, T* dx);

struct LabelCheck {
  index wrong;    // where the first label is that is neither a class nor ignore_index; -1: nowhere
  index ignored;  // how many are ignore_index
};
LabelCheck check_labels(const index* labels, index n, index classes, std::optional<index> ignore_index);

// Losses of lines along the channels of the view, whose targets are labels, one per line, or probabilities.
template <class T>
struct ClassLoss {
  View view;
  const T* input;
  const index* labels;  // nullptr: targets, like the input
  const T* targets;
  const T* weight;  // one per class, or nullptr
  index ignore_index, ignored;
  Reduction reduction;
  T* dinput;
  T* losses;  // one per line; nullptr: only their mean or sum is wanted, which is returned
};
template <class T>
double cross_entropy(const ClassLoss<T>& a, double label_smoothing);
// The input are logarithms of probabilities; always labels.
template <class T>
double nll_loss(const ClassLoss<T>& a);

// Windows over images. Columns are (channels * taps, samples * outputs) where channels come first, else
// (samples * outputs, taps * channels).
template <class T>
void im2col(const Windows& w, const T* x, T* columns);
template <class T>
void col2im(const Windows& w, const T* columns, T* x);
// `where` has an entry for each output, of one byte, or two.
inline bool wide_taps(const Windows& w) {
  return w.kernel_h * w.kernel_w > 256;
}
template <class T>
void max_pool(const Windows& w, const T* x, T* y, void* where);
template <class T>
void max_pool_gradient(const Windows& w, const T* dy, const void* where, T* dx);
template <class T>
void avg_pool(const Windows& w, const T* x, T* y, bool count_padding);
template <class T>
void avg_pool_gradient(const Windows& w, const T* dy, T* dx, bool count_padding);
// The means over all pixels of `outer` images: view.inner pixels of view.channels elements each.
template <class T>
void image_means(const View& images, const T* x, T* y);
template <class T>
void image_means_gradient(const View& images, const T* dy, T* dx);

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
struct GradientNorm {
  double norm;
  index nonfinite;  // the tensor at which the sum stops being finite; -1: none
};
template <class T>
GradientNorm gradient_norm(const std::vector<Span<T>>& tensors);
// What gradients of that norm are multiplied with: to bring it down to `clip_norm`; with `unit`, to 1 where it is
// larger than `clip_norm`.
double clip_factor(double norm, double clip_norm, bool unit);

// A rule's numbers in the type of the arrays.
template <class T>
void round_numbers(const double* numbers, int count, T* rounded);

template <class T>
struct OptimizerStep {
  int rule;
  const std::vector<Span<T>>& tensors;  // whole
  double clip;                          // what gradients are multiplied with
  double average_weight;                // of the new parameters in their averages
};
// One step; `statistics` of each tensor where they are wanted.
template <class T>
void optimize(const OptimizerStep<T>& step, TensorStatistics* statistics = nullptr);
// The sums over the parameters alone.
template <class T>
void weight_sums(const std::vector<Span<T>>& tensors, TensorStatistics* statistics);

// Rows or columns of a matrix are scaled down to this norm where theirs is larger.
template <class T>
struct MaxNorm {
  T* x;
  index rows, columns;
  double limit;
  bool by_column;
};
template <class T>
void cap_norms(const MaxNorm<T>& m);
template <class T>
void update_average(T* a, const T* p, index n, double weight);

}  // namespace fastnn
