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

constexpr index kHotPlane = 1024;  // shortest plane worth visiting out of memory order

// Whether a channel, of which `arrays` arrays are read, is small enough to stay in cache between the two passes.
template <class T>
bool channel_hot(const View& v, int arrays, int team) {
  const double bytes = static_cast<double>(v.outer * v.inner) * static_cast<double>(sizeof(T)) * arrays;
  const double share = static_cast<double>(llc_bytes()) / (4.0 * team);
  return v.inner >= kHotPlane && v.channels >= 4 * team &&
         bytes <= std::max(0.5 * static_cast<double>(l2_bytes()), share);
}

enum Slot { kMean, kScale, kBeta, kK1, kK2, kSlots };

constexpr index kTogether = 64;  // channels whose parameters are computed at a time

// What the kernels need of the channels.
template <class T>
class NormParameters {
 public:
  NormParameters(const View& view, const T* weight, const T* bias, const T* pre_bias, bool backward)
      : store_(view, (backward ? kSlots : kK1) + (pre_bias ? 1 : 0)), weight_(weight), bias_(bias), map(store_.map()) {
    if (pre_bias) {
      T* const added = store_.array(backward ? kSlots : kK1);
      store_.set(added, 0, view.channels, pre_bias);
      map.bias = added;
    }
    map.mean = store_.array(kMean);
    map.scale = store_.array(kScale);
    map.beta = store_.array(kBeta);
    if (backward) {
      map.k1 = store_.array(kK1);
      map.k2 = store_.array(kK2);
    }
  }

  // Of channels [begin, end).
  void set_statistics(index begin, index end, const double* mean, const double* invstd) const {
    T rounded[kTogether], scale[kTogether], beta[kTogether];
    for (index c = begin; c < end; c += kTogether) {
      const index count = std::min(kTogether, end - c);
      kernels<T>().norm_factors(mean + c, invstd + c, weight_ ? weight_ + c : nullptr, bias_ ? bias_ + c : nullptr,
                                rounded, scale, beta, count);
      set(kMean, c, count, rounded);
      set(kScale, c, count, scale);
      set(kBeta, c, count, beta);
    }
  }

  void set_gradient(index begin, index end, const double* sum_dz, const double* sum_dzc, const BatchNormGradient<T>& a,
                    double n) const {
    T k1[kTogether], k2[kTogether];
    for (index c = begin; c < end; c += kTogether) {
      const index count = std::min(kTogether, end - c);
      kernels<T>().norm_gradient_factors(sum_dz + c, sum_dzc + c, a.mean + c, a.invstd + c, n, k1, k2, a.dbias + c,
                                         a.dweight + c, count);
      if (a.frozen) {  // nothing reaches x through the statistics
        std::fill_n(k1, count, T(0));
        std::fill_n(k2, count, T(0));
      }
      set(kK1, c, count, k1);
      set(kK2, c, count, k2);
    }
  }

 private:
  void set(Slot slot, index channel, index count, const T* values) const {
    store_.set(store_.array(slot), channel, count, values);
  }

  ChannelParameters<T> store_;
  const T *weight_, *bias_;

 public:
  ChannelMap<T> map;
};

template <class T>
Forward<T> forward_of(const BatchNorm<T>& a, const NormParameters<T>& parameters, bool stream) {
  return {a.x, parameters.map, a.tail, a.y, stream};
}

template <class T>
Cost forward_cost(const BatchNorm<T>& a) {
  const index n = elements(a.view);
  Cost cost = Cost{}.bytes<T>(a.tail.residual ? 3 * n : 2 * n).passes(2);
  cost = cost.template activation<T>(a.tail.activation, n);
  return a.tail.threshold > 0 ? cost.random_bits(n) : cost;
}

// Two results of each leaf, merged with those of the other shards; the elements of a channel in all.
template <class Kernel>
double merge_across(const Across& across, const Leaves& leaves, double cost_ns, double* result, const Kernel& kernel) {
  const index channels = leaves.view.channels;
  Scratch<double> parts(leaves.count * 2 * channels), counts(leaves.count);
  each_leaf(leaves, 2, cost_ns, parts.data(), kernel);
  for (index l = 0; l < leaves.count; ++l) counts.data()[l] = static_cast<double>(leaf_elements(leaves, l));
  return across(leaves.count, channels, parts.data(), counts.data(), result);
}

}  // namespace

template <class T>
index batch_norm_train(const BatchNorm<T>& a, Nonfinite nonfinite, RunningUpdate running, double* mean,
                       double* invstd) {
  const Kernels<T>& k = kernels<T>();
  const View& v = a.view;
  double n = static_cast<double>(v.outer * v.inner);
  const Cost cost = forward_cost(a);
  const NormParameters<T> parameters(v, a.weight, a.bias, a.pre_bias, false);
  const Forward<T> f = forward_of(a, parameters, cost.beyond_cache());
  const Moments<T> m{a.x, parameters.map, cut_leaves(v)};
  Scratch<double> result(2 * v.channels);  // means, then sums of squared deviations
  double* const means = result.data();
  double* const deviations = means + v.channels;
  const auto finish = [&](index begin, index end) {
    std::copy(means + begin, means + end, mean + begin);
    k.norm_invstd(deviations + begin, n, a.eps, invstd + begin, end - begin);
    parameters.set_statistics(begin, end, mean, invstd);
  };
  const auto refused = [&]() -> index {
    if (nonfinite == Nonfinite::allow) return -1;
    for (index c = 0; c < v.channels; ++c)
      if (!std::isfinite(means[c]) || !std::isfinite(deviations[c])) return c;
    return -1;
  };

  const auto update_running = [&] {
    const double momentum = running.momentum, freedom = n - static_cast<double>(running.ddof);
    for (index c = 0; c < (running.mean.data ? v.channels : 0); ++c) {
      running.mean.set(c, (1 - momentum) * running.mean.get(c) + momentum * means[c]);
      running.var.set(c, (1 - momentum) * running.var.get(c) + momentum * (deviations[c] / freedom));
    }
  };

  index bad;
  if (!a.across && channel_hot<T>(v, 1, team_size(v.channels, cost.ns))) {
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
    const auto moments = [&](const Part& part) { k.moments(m, part); };
    if (a.across) {
      n = merge_across(a.across, m.leaves, cost.ns, means, moments);
      finish(0, v.channels);
    } else {
      reduce(
          m.leaves, 2, cost.ns, means, moments,
          [&](const double* parts, index size, const Part& part) { k.merge_moments(m.leaves, size, parts, part); },
          finish);
    }
    bad = refused();
    if (bad < 0) update_running();  // before the last region, so that the next call finds the team awake
    if (bad < 0 || nonfinite != Nonfinite::error)
      for_elements(elements(v), cost.ns, [&](index begin, index end) { k.forward(f, begin, end); });
  }
  return bad;
}

template <class T>
void batch_norm_frozen(const BatchNorm<T>& a, RunningStatistic running_mean, RunningStatistic running_var, double* mean,
                       double* invstd) {
  const Kernels<T>& k = kernels<T>();
  const Cost cost = forward_cost(a);
  const NormParameters<T> parameters(a.view, a.weight, a.bias, a.pre_bias, false);
  const index channels = a.view.channels;
  for (index c = 0; c < channels; ++c) {
    mean[c] = running_mean.get(c);
    invstd[c] = running_var.get(c);
  }
  k.norm_invstd(invstd, 1, a.eps, invstd, channels);
  parameters.set_statistics(0, channels, mean, invstd);
  const bool in_place = a.y == a.x || a.y == a.tail.residual;
  const Forward<T> f = forward_of(a, parameters, !in_place && cost.beyond_cache());
  for_elements(elements(a.view), cost.ns, [&](index begin, index end) { k.forward(f, begin, end); });
}

template <class T>
void batch_norm_infer(const BatchNorm<T>& a, RunningStatistic running_mean, RunningStatistic running_var) {
  const index channels = a.view.channels;
  Scratch<double> statistics(2 * channels);
  batch_norm_frozen(a, running_mean, running_var, statistics.data(), statistics.data() + channels);
}

template <class T>
void batch_norm_gradient(const BatchNormGradient<T>& a) {
  const Kernels<T>& k = kernels<T>();
  const View& v = a.view;
  const index size = elements(v);
  if (size == 0) {  // only where frozen: a batch with statistics of its own has two values per channel
    for (T* const sums : {a.dweight, a.dbias, a.dpre_bias})
      if (sums) std::fill_n(sums, v.channels, T(0));
    return;
  }
  double n = static_cast<double>(v.outer * v.inner);
  const int inputs = a.tail.residual && a.tail.activation >= 0 ? 3 : 2;
  Cost cost = Cost{}.bytes<T>((inputs + 1 + (a.dresidual ? 1 : 0)) * size).passes(3);
  cost = cost.template activation<T>(a.tail.activation, 2 * size);
  if (a.tail.threshold > 0) cost = cost.random_bits(2 * size);
  const NormParameters<T> parameters(v, a.weight, a.bias, a.pre_bias, true);
  parameters.set_statistics(0, v.channels, a.mean, a.invstd);
  const Leaves leaves = cut_leaves(v);
  const bool hot = !a.across && channel_hot<T>(v, inputs, team_size(v.channels, cost.ns));
  // First pass: the sums of dz. Where dz is wanted itself, or costs random bits, or is all that the second pass needs,
  // it is kept for that.
  const bool tail = a.tail.activation >= 0 || a.tail.threshold >= 0;
  T* const dz = a.dresidual ? a.dresidual : a.tail.threshold > 0 || (a.frozen && tail) ? a.dx : nullptr;
  const bool stream = !hot && dz && dz != a.dy && cost.beyond_cache();
  const Backward<T> sums{a.dy, a.x, false, parameters.map, a.tail, dz, stream, leaves};
  // Second pass: dx.
  Backward<T> gradient = sums;
  if (dz) {
    gradient.dy = dz;
    gradient.tail = plain_tail<T>();
  }
  // dx = dz * scale: whatever is centred is multiplied by zero. dz itself, by a mean of zero, saves reading x; and
  // that, the bias or the mean may be infinite.
  if (a.frozen) {
    gradient.x = gradient.dy;
    gradient.map.bias = nullptr;
    gradient.map.mean = gradient.map.k1;
  }
  gradient.dx = a.dx;
  gradient.stream = a.dx != gradient.dy && cost.beyond_cache();
  Scratch<double> result(3 * v.channels);
  double* const sum_dz = result.data();
  double* const sum_dzc = sum_dz + v.channels;
  double* const sum_dx = a.dpre_bias ? sum_dzc + v.channels : nullptr;
  const auto finish = [&](index begin, index end) { parameters.set_gradient(begin, end, sum_dz, sum_dzc, a, n); };

  if (hot) {
    parallel_for(v.channels, cost.ns, [&](index begin, index end) {
      for (index c = begin; c < end; ++c) {
        k.norm_gradient_sums(sums, Part{0, leaves.count, c, c + 1, sum_dz});
        finish(c, c + 1);
        k.norm_gradient(gradient, Part{0, leaves.count, c, c + 1, sum_dx});
      }
    });
  } else {
    const auto both_sums = [&](const Part& part) { k.norm_gradient_sums(sums, part); };
    if (a.across) {
      n = merge_across(a.across, leaves, cost.ns, sum_dz, both_sums);
      finish(0, v.channels);
    } else {
      reduce(
          leaves, 2, cost.ns, sum_dz, both_sums,
          [&](const double* parts, index together, const Part& part) {
            k.merge_sums(leaves, together, parts, 2, part);
          },
          finish);
    }
    reduce(
        leaves, 1, cost.ns, sum_dx, [&](const Part& part) { k.norm_gradient(gradient, part); },
        [&](const double* parts, index together, const Part& part) { k.merge_sums(leaves, together, parts, 1, part); },
        [](index, index) {});
  }
  if (a.dpre_bias)
    for (index c = 0; c < v.channels; ++c) a.dpre_bias[c] = static_cast<T>(sum_dx[c]);
}

#define FASTNN_INSTANTIATE(T)                                                                                    \
  template index batch_norm_train<T>(const BatchNorm<T>&, Nonfinite, RunningUpdate, double*, double*);           \
  template void batch_norm_frozen<T>(const BatchNorm<T>&, RunningStatistic, RunningStatistic, double*, double*); \
  template void batch_norm_infer<T>(const BatchNorm<T>&, RunningStatistic, RunningStatistic);                    \
  template void batch_norm_gradient<T>(const BatchNormGradient<T>&);
FASTNN_INSTANTIATE(float)
FASTNN_INSTANTIATE(double)

}  // namespace fastnn
