// Batch norm over whole arrays: statistics, then the elementwise pass, in the order that memory likes.
//
// Large planes go channel by channel, statistics and elementwise pass while the channel is hot in the cache, so that
// memory sees one read and one write. Everything else makes two passes in memory order.
#include <cmath>

#include "../dispatch.hpp"
#include "channels.hpp"
#include "cost.hpp"
#include "ops.hpp"

namespace fastnn {
namespace {

index elements(const View& v) {
  return v.outer * v.channels * v.inner;
}

constexpr index kHotPlane = 1024;  // shortest plane worth visiting out of memory order

// Whether a channel, of which `arrays` arrays are read, is small enough to stay in cache between the two passes.
template <class T>
bool channel_hot(const View& v, int arrays, int team) {
  const double bytes = static_cast<double>(v.outer * v.inner) * static_cast<double>(sizeof(T)) * arrays;
  const double share = static_cast<double>(llc_bytes()) / (4.0 * team);
  return v.inner >= kHotPlane && v.channels >= 4 * team &&
         bytes <= std::max(0.5 * static_cast<double>(l2_bytes()), share);
}

enum Slot { kBias, kHi, kLo, kScale, kBeta, kK1, kK2, kK3, kSlots };

// Fills in what the kernels need of one channel.
template <class T>
class NormParameters {
 public:
  NormParameters(const View& view, const T* weight, const T* bias, const T* pre_bias, bool backward)
      : store_(view, backward ? kSlots : kK1), weight_(weight), bias_(bias), map(store_.map()) {
    map.bias = store_.array(kBias);
    map.hi = store_.array(kHi);
    map.lo = store_.array(kLo);
    map.scale = store_.array(kScale);
    map.beta = store_.array(kBeta);
    if (backward) {
      map.k1 = store_.array(kK1);
      map.k2 = store_.array(kK2);
      map.k3 = store_.array(kK3);
    }
    if (!bias) store_.clear(store_.array(kBeta));
    if (!pre_bias) store_.clear(store_.array(kBias));
    for (index c = 0; c < (pre_bias ? view.channels : 0); ++c) set(kBias, c, pre_bias[c]);
  }

  void set_statistics(index c, double mean, double invstd) const {
    const T hi = static_cast<T>(mean);
    set(kHi, c, hi);
    set(kLo, c, static_cast<T>(mean - static_cast<double>(hi)));
    set(kScale, c, scale(c, invstd));
    if (bias_) set(kBeta, c, bias_[c]);
  }

  // k1 = sum dz / n, k2 = sum(dz c) / (n (var + eps)), k3 = scale
  void set_gradient(index c, double invstd, double sum_dz, double sum_dzc, double n) const {
    set(kK1, c, static_cast<T>(sum_dz / n));
    set(kK2, c, static_cast<T>(sum_dzc * invstd * invstd / n));
    set(kK3, c, scale(c, invstd));
  }

 private:
  T scale(index c, double invstd) const {
    return static_cast<T>(weight_ ? static_cast<double>(weight_[c]) * invstd : invstd);
  }
  void set(Slot slot, index c, T value) const { store_.set(store_.array(slot), c, value); }

  ChannelParameters<T> store_;
  const T *weight_, *bias_;

 public:
  ChannelMap<T> map;
};

template <class T>
Forward<T> forward_of(const BatchNorm<T>& a, const NormParameters<T>& parameters, bool stream) {
  Forward<T> f{};
  f.x = a.x;
  f.map = parameters.map;
  f.tail = a.tail;
  f.y = a.y;
  f.stream = stream;
  return f;
}

template <class T>
Cost forward_cost(const BatchNorm<T>& a) {
  const index n = elements(a.view);
  Cost cost = Cost{}.bytes<T>(a.tail.residual ? 3 * n : 2 * n).passes(2);
  return a.tail.threshold > 0 ? cost.random_bits(n) : cost;
}

}  // namespace

template <class T>
index batch_norm_train(const BatchNorm<T>& a, double momentum, Nonfinite nonfinite, RunningStatistic running_mean,
                       RunningStatistic running_var, double* mean, double* invstd) {
  const Kernels<T>& k = kernels<T>();
  const View& v = a.view;
  const double n = static_cast<double>(v.outer * v.inner);
  const Cost cost = forward_cost(a);
  const NormParameters<T> parameters(v, a.weight, a.bias, a.pre_bias, false);
  const Forward<T> f = forward_of(a, parameters, cost.beyond_cache());
  const Moments<T> m{a.x, parameters.map, cut_leaves(v)};
  Scratch<double> result(2 * v.channels);  // means, then sums of squared deviations
  double* const means = result.data();
  double* const deviations = means + v.channels;
  const auto finish = [&](index begin, index end) {
    for (index c = begin; c < end; ++c) {
      mean[c] = means[c];
      invstd[c] = 1 / std::sqrt(deviations[c] / n + a.eps);
      parameters.set_statistics(c, mean[c], invstd[c]);
    }
  };
  const auto refused = [&]() -> index {
    if (nonfinite == Nonfinite::allow) return -1;
    for (index c = 0; c < v.channels; ++c)
      if (!std::isfinite(means[c]) || !std::isfinite(deviations[c])) return c;
    return -1;
  };

  const auto update_running = [&] {
    for (index c = 0; c < (running_mean.data ? v.channels : 0); ++c) {
      running_mean.set(c, (1 - momentum) * running_mean.get(c) + momentum * means[c]);
      running_var.set(c, (1 - momentum) * running_var.get(c) + momentum * (deviations[c] / (n - 1)));
    }
  };

  index bad;
  if (channel_hot<T>(v, 1, team_size(v.channels, cost.ns))) {
    parallel_for(v.channels, cost.ns, [&](index begin, index end) {
      for (index c = begin; c < end; ++c) {
        k.moments(m, Part{0, m.leaves.count, c, c + 1, means});
        finish(c, c + 1);
        for (index o = 0; o < v.outer; ++o) {
          const index start = (o * v.channels + c) * v.inner;
          k.forward(f, start, start + v.inner);
        }
      }
    });
    bad = refused();
    if (bad < 0) update_running();
  } else {
    reduce(
        m.leaves, 2, cost.ns, means, [&](const Part& part) { k.moments(m, part); },
        [&](const double* parts, index size, const Part& part) { k.merge_moments(m.leaves, size, parts, part); },
        finish);
    bad = refused();
    if (bad < 0) update_running();  // before the last region, so that the next call finds the team awake
    if (bad < 0 || nonfinite != Nonfinite::error)
      for_elements(elements(v), cost.ns, [&](index begin, index end) { k.forward(f, begin, end); });
  }
  return bad;
}

template <class T>
void batch_norm_infer(const BatchNorm<T>& a, RunningStatistic running_mean, RunningStatistic running_var) {
  const Kernels<T>& k = kernels<T>();
  const Cost cost = forward_cost(a);
  const NormParameters<T> parameters(a.view, a.weight, a.bias, a.pre_bias, false);
  for (index c = 0; c < a.view.channels; ++c)
    parameters.set_statistics(c, running_mean.get(c), 1 / std::sqrt(running_var.get(c) + a.eps));
  const bool in_place = a.y == a.x || a.y == a.tail.residual;
  const Forward<T> f = forward_of(a, parameters, !in_place && cost.beyond_cache());
  for_elements(elements(a.view), cost.ns, [&](index begin, index end) { k.forward(f, begin, end); });
}

template <class T>
void batch_norm_gradient(const BatchNormGradient<T>& a) {
  const Kernels<T>& k = kernels<T>();
  const View& v = a.view;
  const index size = elements(v);
  const double n = static_cast<double>(v.outer * v.inner);
  const int inputs = a.tail.residual && a.tail.activation >= 0 ? 3 : 2;
  Cost cost = Cost{}.bytes<T>((inputs + 1 + (a.dresidual ? 1 : 0)) * size).passes(3);
  if (a.tail.threshold > 0) cost = cost.random_bits(2 * size);
  const NormParameters<T> parameters(v, a.weight, a.bias, a.pre_bias, true);
  for (index c = 0; c < v.channels; ++c) parameters.set_statistics(c, a.mean[c], a.invstd[c]);
  const Leaves leaves = cut_leaves(v);
  const bool hot = channel_hot<T>(v, inputs, team_size(v.channels, cost.ns));
  // First pass: the sums of dz. Where dz is wanted itself, or costs random bits, it is kept for the second.
  Backward<T> sums{};
  sums.dy = a.dy;
  sums.x = a.x;
  sums.map = parameters.map;
  sums.tail = a.tail;
  sums.dx = a.dresidual ? a.dresidual : a.tail.threshold > 0 ? a.dx : nullptr;
  sums.stream = !hot && sums.dx && sums.dx != a.dy && cost.beyond_cache();
  sums.leaves = leaves;
  // Second pass: dx.
  Backward<T> gradient = sums;
  if (sums.dx) {
    gradient.dy = sums.dx;
    gradient.tail = {};
    gradient.tail.activation = gradient.tail.threshold = -1;
  }
  gradient.dx = a.dx;
  gradient.stream = a.dx != gradient.dy && cost.beyond_cache();
  Scratch<double> result(3 * v.channels);
  double* const sum_dz = result.data();
  double* const sum_dzc = sum_dz + v.channels;
  double* const sum_dx = a.dpre_bias ? sum_dzc + v.channels : nullptr;
  const auto finish = [&](index begin, index end) {
    for (index c = begin; c < end; ++c) {
      parameters.set_gradient(c, a.invstd[c], sum_dz[c], sum_dzc[c], n);
      a.dbias[c] = static_cast<T>(sum_dz[c]);
      a.dweight[c] = static_cast<T>(sum_dzc[c] * a.invstd[c]);
    }
  };

  if (hot) {
    parallel_for(v.channels, cost.ns, [&](index begin, index end) {
      for (index c = begin; c < end; ++c) {
        k.norm_gradient_sums(sums, Part{0, leaves.count, c, c + 1, sum_dz});
        finish(c, c + 1);
        k.norm_gradient(gradient, Part{0, leaves.count, c, c + 1, sum_dx});
      }
    });
  } else {
    reduce(
        leaves, 2, cost.ns, sum_dz, [&](const Part& part) { k.norm_gradient_sums(sums, part); },
        [&](const double* parts, index together, const Part& part) { k.merge_sums(leaves, together, parts, 2, part); },
        finish);
    reduce(
        leaves, 1, cost.ns, sum_dx, [&](const Part& part) { k.norm_gradient(gradient, part); },
        [&](const double* parts, index together, const Part& part) { k.merge_sums(leaves, together, parts, 1, part); },
        [](index, index) {});
  }
  if (a.dpre_bias)
    for (index c = 0; c < v.channels; ++c) a.dpre_bias[c] = static_cast<T>(sum_dx[c]);
}

#define FASTNN_INSTANTIATE(T)                                                                                    \
  template index batch_norm_train<T>(const BatchNorm<T>&, double, Nonfinite, RunningStatistic, RunningStatistic, \
                                     double*, double*);                                                          \
  template void batch_norm_infer<T>(const BatchNorm<T>&, RunningStatistic, RunningStatistic);                    \
  template void batch_norm_gradient<T>(const BatchNormGradient<T>&);
FASTNN_INSTANTIATE(float)
FASTNN_INSTANTIATE(double)

}  // namespace fastnn
