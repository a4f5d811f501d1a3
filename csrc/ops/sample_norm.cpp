// Norms within each sample. Rows are visited once, by a kernel of their own. Groups of channels are batch norm of one
// sample at a time, its statistics merged: groups that are contiguous in memory a few at a time, others a sample at a
// time, statistics and elementwise pass while they are hot.
#include "../dispatch.hpp"
#include "channels.hpp"
#include "cost.hpp"
#include "ops.hpp"

namespace fastnn {
namespace {

// Weight and bias of a row, where there are none: 1, and -0, which leaves everything as it was.
template <class T>
class RowParameters {
 public:
  RowParameters(const T*& weight, const T*& bias, index length)
      : ones_(weight ? 0 : length), nothing_(bias ? 0 : length) {
    std::fill_n(ones_.data(), ones_.size(), T(1));
    std::fill_n(nothing_.data(), nothing_.size(), T(-0.0));
    if (!weight) weight = ones_.data();
    if (!bias) bias = nothing_.data();
  }

 private:
  Scratch<T> ones_, nothing_;
};

template <class T>
Cost forward_cost(index n, const Epilogue<T>& tail) {
  const Cost cost = Cost{}.bytes<T>(tail.residual ? 3 * n : 2 * n).passes(2);
  return tail.threshold > 0 ? cost.random_bits(n) : cost;
}

template <class T>
Cost gradient_cost(index n, const Epilogue<T>& tail, const T* dresidual) {
  const int arrays = 3 + (tail.residual && tail.activation >= 0) + (dresidual != nullptr);
  const Cost cost = Cost{}.bytes<T>(arrays * n).passes(3);
  return tail.threshold > 0 ? cost.random_bits(n) : cost;
}

// Whether the gradient passes the epilogue as it is.
template <class T>
bool passes(const Epilogue<T>& tail) {
  return tail.activation < 0 && tail.threshold < 0;
}

// The sums of all parts, merged: dweight and dbias, one after the other.
template <class T>
void merge_parameter_sums(const double* parts, index count, index leaves_per_part, index channels, T* dweight,
                          T* dbias) {
  const index width = 2 * channels;
  const Scratch<double> sums(width);
  const Leaves leaves{{1, width, 1}, 1, 1, count};
  parallel_for((width + kBandPlanes - 1) / kBandPlanes, static_cast<double>(count * width),
               [&](index begin, index end) {
                 const index last = std::min(width, end * kBandPlanes);
                 for (index c = begin * kBandPlanes; c < last; c += kBandPlanes)
                   kernels<T>().merge_sums(leaves, leaves_per_part, parts, 1,
                                           Part{0, count, c, std::min(last, c + kBandPlanes), sums.data()});
                 for (index c = begin * kBandPlanes; c < last; ++c)
                   (c < channels ? dweight[c] : dbias[c - channels]) = static_cast<T>(sums[c]);
               });
}

template <class T>
void no_parameter_sums(index channels, T* dweight, T* dbias) {
  std::fill_n(dweight, channels, T(0));
  std::fill_n(dbias, channels, T(0));
}

}  // namespace

template <class T>
void row_norm(RowNorm<T> a, index rows) {
  const index n = rows * a.length;
  if (n == 0) return;
  const RowParameters<T> parameters(a.weight, a.bias, a.length);
  const Cost cost = forward_cost(n, a.tail);
  a.stream = cost.beyond_cache();
  a.leaves = cut_leaves({1, kBandPlanes, a.length});
  parallel_for(rows, cost.ns, [&](index begin, index end) { kernels<T>().row_norm(a, begin, end); });
}

template <class T>
void row_norm_gradient(RowNormGradient<T> a, T* dweight, T* dbias) {
  const index n = a.rows * a.length, width = 2 * a.length;
  if (n == 0) return no_parameter_sums(a.length, dweight, dbias);
  const RowParameters<T> parameters(a.weight, a.bias, a.length);
  const Cost cost = gradient_cost(n, a.tail, a.dresidual);
  a.stream = a.dx != a.dy && cost.beyond_cache();
  if (passes(a.tail)) a.tail.residual = nullptr;
  const index leaves = (a.rows + kLeafRows - 1) / kLeafRows;
  const index size = leaves_per_task(leaves, 1, team_size(leaves, cost.ns)), tasks = (leaves + size - 1) / size;
  const Scratch<double> parts(tasks * width);
  parallel_for(tasks, cost.ns, [&](index begin, index end) {
    index levels = 0;
    while (index{1} << levels < size) ++levels;
    const Scratch<T> columns(width);
    const Scratch<double> scratch(levels * width);
    for (index task = begin; task < end; ++task)
      kernels<T>().row_norm_gradient(a, columns.data(), scratch.data(), task * size,
                                     std::min(leaves, (task + 1) * size), parts.data() + task * width);
  });
  merge_parameter_sums(parts.data(), tasks, size, a.length, dweight, dbias);
}

namespace {

constexpr index kHotGroup = 8192;  // elements of the groups that are taken together, about
constexpr index kTogether = 64;    // channels whose parameters are computed at a time

enum Slot { kMean, kScale, kBeta, kK1, kK2, kSlots };

// What the kernels need of the channels of one sample after the other.
template <class T>
class GroupParameters {
 public:
  GroupParameters(const View& sample, index groups, const T* weight, const T* bias, bool backward)
      : store_(sample, backward ? kSlots : kK1),
        weight_(weight),
        bias_(bias),
        per_group_(sample.channels / groups),
        map(store_.map()) {
    map.mean = store_.array(kMean);
    map.scale = store_.array(kScale);
    map.beta = store_.array(kBeta);
    map.k1 = backward ? store_.array(kK1) : nullptr;
    map.k2 = backward ? store_.array(kK2) : nullptr;
  }

  // Of channels [begin, end), whose groups have these statistics.
  void set_statistics(index begin, index end, const double* mean, const double* invstd) const {
    T rounded[kTogether], scale[kTogether], beta[kTogether];
    double means[kTogether], invstds[kTogether];
    for (index c = begin; c < end; c += kTogether) {
      const index count = std::min(kTogether, end - c);
      for (index k = 0; k < count; ++k) {
        means[k] = mean[(c + k) / per_group_];
        invstds[k] = invstd[(c + k) / per_group_];
      }
      kernels<T>().norm_factors(means, invstds, weight_ ? weight_ + c : nullptr, bias_ ? bias_ + c : nullptr, rounded,
                                scale, beta, count);
      store_.set(store_.array(kMean), c, count, rounded);
      store_.set(store_.array(kScale), c, count, scale);
      store_.set(store_.array(kBeta), c, count, beta);
    }
  }

  // k1 = invstd * sum(w dz) / n and k2 = invstd^3 * sum(w dz c) / n of each group of n elements that has channels in
  // [begin, end), from the channels' sums of dz * c, which become those of dz * c * invstd, and of dz. (c is less the
  // rounded mean: as in norm.hpp.)
  void set_gradient(index begin, index end, double* sum_dzc, const double* sum_dz, const double* mean,
                    const double* invstd, double n) const {
    for (index first = begin; first < end; first += per_group_) {
      const double s = invstd[first / per_group_], m = mean[first / per_group_];
      const double r = m - static_cast<double>(static_cast<T>(m));
      double sum = 0, sum2 = 0;
      for (index c = first; c < first + per_group_; ++c) {
        const double w = weight_ ? static_cast<double>(weight_[c]) : 1;
        sum_dzc[c] = (r == 0 ? sum_dzc[c] : sum_dzc[c] - r * sum_dz[c]) * s;
        sum += w * sum_dz[c];
        sum2 += w * sum_dzc[c];
      }
      const double factor = s * s * (sum2 / n);
      const T k1 = static_cast<T>(r == 0 ? s * (sum / n) : s * (sum / n) - r * factor), k2 = static_cast<T>(factor);
      for (index c = first; c < first + per_group_; ++c) {
        store_.set(store_.array(kK1), c, 1, &k1);
        store_.set(store_.array(kK2), c, 1, &k2);
      }
    }
  }

 private:
  ChannelParameters<T> store_;
  const T *weight_, *bias_;
  index per_group_;

 public:
  ChannelMap<T> map;
};

// How the groups of all samples are cut into tasks, by the shape alone.
struct GroupTasks {
  View sample;
  index samples, groups;
  index size;      // elements of a sample
  index together;  // groups of a task: all of a sample, unless they are contiguous

  struct Task {
    index sample, group0, group1;
    index channel0, channel1;
    index begin, end;  // flat elements of the sample
  };

  GroupTasks(const View& view, index samples_, index groups_)
      : sample(view), samples(samples_), groups(groups_), size(elements(view)), together(groups_) {
    if (contiguous()) together = std::clamp<index>(kHotGroup * groups / size, 1, groups);
  }

  bool contiguous() const { return sample.outer == 1; }
  double group_size() const { return static_cast<double>(size / groups); }
  index per_sample() const { return (groups + together - 1) / together; }
  index count() const { return samples * per_sample(); }

  Task operator[](index task) const {
    const index n = task / per_sample(), group0 = task % per_sample() * together;
    const index group1 = std::min(groups, group0 + together), each = sample.channels / groups;
    if (!contiguous()) return {n, group0, group1, 0, sample.channels, 0, size};
    return {n, group0, group1, group0 * each, group1 * each, group0 * (size / groups), group1 * (size / groups)};
  }
};

// Calls band(channel0, channel1) for as many channels at a time as the kernels take.
template <class Band>
void for_bands(const View& view, index channel0, index channel1, const Band& band) {
  const index most = view.inner <= kRowForm ? kBandRows / view.inner : kBandPlanes;
  for (index c = channel0; c < channel1; c += most) band(c, std::min(channel1, c + most));
}

// Means and sums of squared deviations of a task's groups of the sample at x, one entry per group of a sample.
template <class T>
class GroupMoments {
 public:
  explicit GroupMoments(const GroupTasks& tasks)
      : tasks_(tasks),
        view_(tasks.contiguous() ? View{1, tasks.groups, tasks.size / tasks.groups} : tasks.sample),
        moments_{nullptr, {}, cut_leaves(view_)},
        channels_(tasks.contiguous() ? 0 : 2 * view_.channels) {}

  void operator()(const GroupTasks::Task& task, const T* x, double* mean, double* deviations) const {
    const bool contiguous = tasks_.contiguous();  // groups are channels of their own, and mean[groups] is deviations
    double* const to = contiguous ? mean : channels_.data();
    Moments<T> m = moments_;
    m.x = x;
    for_bands(view_, contiguous ? task.group0 : 0, contiguous ? task.group1 : view_.channels,
              [&](index c0, index c1) { kernels<T>().moments(m, Part{0, m.leaves.count, c0, c1, to}); });
    if (!contiguous) merge(to, to + view_.channels, mean, deviations);
  }

 private:
  // The channels of a group have equally many elements.
  void merge(const double* means, const double* squares, double* mean, double* deviations) const {
    const index each = view_.channels / tasks_.groups;
    const double n = static_cast<double>(view_.outer * view_.inner);
    for (index g = 0; g < tasks_.groups; ++g) {
      double sum = 0, sum2 = 0;
      for (index c = g * each; c < (g + 1) * each; ++c) sum += means[c];
      mean[g] = sum / static_cast<double>(each);
      for (index c = g * each; c < (g + 1) * each; ++c)
        sum2 += squares[c] + n * (means[c] - mean[g]) * (means[c] - mean[g]);
      deviations[g] = sum2;
    }
  }

  const GroupTasks& tasks_;
  View view_;
  Moments<T> moments_;
  Scratch<double> channels_;
};

}  // namespace

template <class T>
void group_norm(const GroupNorm<T>& a) {
  const Kernels<T>& k = kernels<T>();
  const index n = a.samples * elements(a.sample);
  if (n == 0) return;
  const Cost cost = forward_cost(n, a.tail);
  const GroupTasks tasks(a.sample, a.samples, a.groups);
  parallel_for(tasks.count(), cost.ns, [&](index begin, index end) {
    const GroupParameters<T> parameters(a.sample, a.groups, a.weight, a.bias, false);
    const GroupMoments<T> moments(tasks);
    const Scratch<double> statistics(2 * a.groups);
    double* const means = statistics.data();
    double* const deviations = means + a.groups;
    const Forward<T> f{a.x, parameters.map, a.tail, a.y, cost.beyond_cache()};
    for (index i = begin; i < end; ++i) {
      const auto task = tasks[i];
      const index start = task.sample * tasks.size;
      double* const mean = a.mean + task.sample * a.groups;
      double* const invstd = a.invstd + task.sample * a.groups;
      moments(task, a.x + start, means, deviations);
      std::copy(means + task.group0, means + task.group1, mean + task.group0);
      k.norm_invstd(deviations + task.group0, tasks.group_size(), a.eps, invstd + task.group0,
                    task.group1 - task.group0);
      parameters.set_statistics(task.channel0, task.channel1, mean, invstd);
      k.forward(f, start + task.begin, start + task.end);
    }
  });
}

template <class T>
void group_norm_gradient(const GroupNormGradient<T>& a) {
  const Kernels<T>& k = kernels<T>();
  const View& v = a.sample;
  const index n = a.samples * elements(v);
  if (n == 0) return no_parameter_sums(v.channels, a.dweight, a.dbias);
  const Cost cost = gradient_cost(n, a.tail, a.dresidual);
  const GroupTasks tasks(v, a.samples, a.groups);
  const Scratch<double> parts(a.samples * 2 * v.channels);
  // dz is kept for the second pass where it is wanted itself or is not dy.
  T* const kept = a.dresidual ? a.dresidual : passes(a.tail) ? nullptr : a.dx;
  parallel_for(tasks.count(), cost.ns, [&](index begin, index end) {
    const GroupParameters<T> parameters(v, a.groups, a.weight, a.bias, true);
    const Scratch<double> scratch(2 * v.channels);
    double* const sum_dz = scratch.data();
    double* const sum_dzc = sum_dz + v.channels;
    for (index i = begin; i < end; ++i) {
      const auto task = tasks[i];
      const index start = task.sample * tasks.size;
      const double* const mean = a.mean + task.sample * a.groups;
      const double* const invstd = a.invstd + task.sample * a.groups;
      parameters.set_statistics(task.channel0, task.channel1, mean, invstd);
      Backward<T> b{};
      b.dy = a.dy + start;
      b.x = a.x + start;
      b.map = parameters.map;
      b.tail = a.tail;
      if (b.tail.residual) b.tail.residual += start;
      b.tail.first += start;
      b.dx = kept ? kept + start : nullptr;
      b.leaves = cut_leaves(v);
      for_bands(v, task.channel0, task.channel1,
                [&](index c0, index c1) { k.norm_gradient_sums(b, Part{0, b.leaves.count, c0, c1, sum_dz}); });
      parameters.set_gradient(task.channel0, task.channel1, sum_dzc, sum_dz, mean, invstd, tasks.group_size());
      double* const part = parts.data() + task.sample * 2 * v.channels;
      std::copy(sum_dzc + task.channel0, sum_dzc + task.channel1, part + task.channel0);
      std::copy(sum_dz + task.channel0, sum_dz + task.channel1, part + v.channels + task.channel0);
      if (kept) b.dy = b.dx;
      b.dx = a.dx + start;
      b.stream = b.dx != b.dy && cost.beyond_cache();
      k.group_gradient(b, task.begin, task.end);
    }
  });
  merge_parameter_sums(parts.data(), a.samples, 1, v.channels, a.dweight, a.dbias);
}

#define FASTNN_INSTANTIATE(T)                                     \
  template void row_norm<T>(RowNorm<T>, index);                   \
  template void row_norm_gradient<T>(RowNormGradient<T>, T*, T*); \
  template void group_norm<T>(const GroupNorm<T>&);               \
  template void group_norm_gradient<T>(const GroupNormGradient<T>&);
FASTNN_INSTANTIATE(float)
FASTNN_INSTANTIATE(double)

}  // namespace fastnn
