#include <algorithm>
#include <atomic>
#include <optional>

#include "../dispatch.hpp"
#include "cost.hpp"
#include "ops.hpp"
#include "tree.hpp"

namespace fastnn {
namespace {

index rounded_up(index n, index unit) {
  return (n + unit - 1) / unit * unit;
}

template <class T>
Lines cut_lines(const View& view) {
  constexpr index apart = 16;  // buffers a multiple of 4 KB apart would share their places in the first-level cache
  if (view.inner == 1 && view.channels >= kLongRow) return {view, 0, false, view.outer, view.channels + apart};
  const bool across = view.inner >= kLanes || (view.inner > 1 && view.outer <= view.inner);
  const index rows = across ? view.channels : view.channels * view.inner;
  constexpr index least_tasks = 16;  // of tiles with more lines than usual
  const index lines = across ? view.outer * view.inner / least_tasks : 0;
  const index most = std::clamp(lines / kLanes * kLanes, kTileLines, kMostTileLines);
  index lanes =
      std::min(most, std::max(kLanes, kMostTileBytes / static_cast<index>(sizeof(T)) / rows / kLanes * kLanes));
  lanes = std::min(lanes, rounded_up(across ? view.inner : view.outer, kLanes));
  const index tasks = across ? view.outer * ((view.inner + lanes - 1) / lanes) : view.outer;
  return {view, lanes, across, tasks, rows * lanes + apart};
}

index lines_of(const View& view) {
  return view.outer * view.inner;
}

// Runs kernel(parameters, scratch, begin, end) over all tasks, with so many buffers each.
template <class T, class Kernel, class Parameters>
void for_lines(const Parameters& a, index buffers, double cost_ns, const Kernel& kernel) {
  parallel_for(a.lines.tasks, cost_ns, [&](index begin, index end) {
    const Scratch<T> scratch(buffers * a.lines.buffer);
    kernel(a, scratch.data(), begin, end);
  });
}

// A label that somebody changes after the check is none that leads out of the array.
index safe_label(index label, index classes) {
  return static_cast<std::uint64_t>(label) < static_cast<std::uint64_t>(classes) ? label : 0;
}

// What the mean of the losses divides by: the weights of the labels that count, or the number of lines.
template <class T>
double divisor(const ClassLoss<T>& a) {
  const index lines = lines_of(a.view);
  if (a.labels == nullptr || a.weight == nullptr) return static_cast<double>(lines - a.ignored);
  const Scratch<T> weights(lines);
  parallel_for(lines, Cost{}.bytes<T>(4 * lines).ns, [&](index begin, index end) {
    for (index r = begin; r < end; ++r)
      weights[r] =
          a.ignored > 0 && a.labels[r] == a.ignore_index ? T(0) : a.weight[safe_label(a.labels[r], a.view.channels)];
  });
  return whole_sum(weights.data(), lines);
}

// Runs losses(scale, losses) with the gradient's scale and room for one loss per line, and reduces them.
template <class T, class Losses>
double reduce_lines(const ClassLoss<T>& a, const Losses& losses) {
  const index lines = lines_of(a.view);
  std::optional<Scratch<T>> own;
  T* const each = a.losses != nullptr ? a.losses : own.emplace(lines).data();
  const double total = a.reduction == Reduction::mean ? divisor(a) : 1;
  losses(static_cast<T>(1 / total), each);
  return a.reduction == Reduction::none ? 0 : whole_sum(each, lines) / total;
}

}  // namespace

template <class T>
void softmax(const View& view, bool logarithm, const T* x, T* y) {
  const index n = elements(view);
  if (n == 0) return;
  const Cost cost = Cost{}.bytes<T>(2 * n).exps(n);
  const Softmax<T> a{x, y, cut_lines<T>(view), logarithm, y != x && cost.beyond_cache()};
  for_lines<T>(a, 2, cost.ns, kernels<T>().softmax);
}

template <class T>
void softmax_gradient(const View& view, bool logarithm, const T* dy, const T* y, T* dx) {
  const index n = elements(view);
  if (n == 0) return;
  const Cost cost = Cost{}.bytes<T>(3 * n).exps(logarithm ? n : 0);
  const SoftmaxGradient<T> a{dy, y, dx, cut_lines<T>(view), logarithm, dx != dy && dx != y && cost.beyond_cache()};
  for_lines<T>(a, 3, cost.ns, kernels<T>().softmax_gradient);
}

LabelCheck check_labels(const index* labels, index n, index classes, std::optional<index> ignore_index) {
  using Bits = std::uint64_t;  // of which the highest is set where the label is negative, or beyond the last class
  std::atomic<Bits> outside{0};
  parallel_for((n + kBlock - 1) / kBlock, Cost{}.bytes<double>(n).ns, [&](index begin, index end) {
    Bits signs = 0;
    for (index r = begin * kBlock; r < std::min(n, end * kBlock); ++r)
      signs |= static_cast<Bits>(labels[r]) | (static_cast<Bits>(classes - 1) - static_cast<Bits>(labels[r]));
    outside.fetch_or(signs, std::memory_order_relaxed);
  });
  LabelCheck found{-1, 0};
  if (outside >> 63 == 0 && (!ignore_index || *ignore_index < 0 || *ignore_index >= classes)) return found;
  for (index r = 0; r < n; ++r) {
    if (ignore_index && labels[r] == *ignore_index)
      ++found.ignored;
    else if (labels[r] < 0 || labels[r] >= classes)
      return {r, found.ignored};
  }
  return found;
}

template <class T>
double cross_entropy(const ClassLoss<T>& a, double label_smoothing) {
  const index n = elements(a.view), classes = a.view.channels;
  // A dense target is spread[j] + weight[j] * t.
  const bool dense = label_smoothing > 0 || a.labels == nullptr;
  const Scratch<T> spread(dense ? classes : 0), weight(dense ? classes : 0);
  for (index j = 0; j < (dense ? classes : 0); ++j) {
    const double own = a.weight != nullptr ? static_cast<double>(a.weight[j]) : 1;
    spread[j] = static_cast<T>(own * label_smoothing / static_cast<double>(classes));
    weight[j] = static_cast<T>(own * (1 - label_smoothing));
  }
  return reduce_lines(a, [&](T scale, T* losses) {
    if (n == 0) return static_cast<void>(std::fill_n(losses, lines_of(a.view), T(0)));
    const Cost cost = Cost{}.bytes<T>((a.labels != nullptr ? 2 : 3) * n).exps(n);
    const bool stream = a.dinput != a.input && cost.beyond_cache();
    const CrossEntropy<T> c{a.input,
                            a.labels,
                            a.targets,
                            dense ? weight.data() : a.weight,
                            dense ? spread.data() : nullptr,
                            a.dinput,
                            losses,
                            cut_lines<T>(a.view),
                            scale,
                            a.ignore_index,
                            a.ignored > 0,
                            stream};
    for_lines<T>(c, dense ? 3 : 2, cost.ns, kernels<T>().cross_entropy);
  });
}

template <class T>
double nll_loss(const ClassLoss<T>& a) {
  const View& v = a.view;
  return reduce_lines(a, [&](T scale, T* losses) {
    const index sample = v.channels * v.inner;
    parallel_for(v.outer, Cost{}.bytes<T>(elements(v) + 16 * lines_of(v)).ns, [&](index begin, index end) {
      // All inputs of a sample are read before its gradient is written: they may be the same memory.
      const Scratch<T> gradient(v.inner);
      for (index o = begin; o < end; ++o) {
        const auto place = [&](index i) {
          return o * sample + safe_label(a.labels[o * v.inner + i], v.channels) * v.inner + i;
        };
        for (index i = 0; i < v.inner; ++i) {
          const index label = a.labels[o * v.inner + i];
          const bool counts = sample > 0 && !(a.ignored > 0 && label == a.ignore_index);
          const T weight = a.weight != nullptr && counts ? a.weight[safe_label(label, v.channels)] : T(1);
          losses[o * v.inner + i] = counts ? weight * -a.input[place(i)] : T(0);
          gradient[i] = counts ? -weight * scale : T(0);
        }
        std::fill_n(a.dinput + o * sample, sample, T(0));
        for (index i = 0; sample > 0 && i < v.inner; ++i) a.dinput[place(i)] = gradient[i];
      }
    });
  });
}

#define FASTNN_INSTANTIATE(T)                                                   \
  template void softmax<T>(const View&, bool, const T*, T*);                    \
  template void softmax_gradient<T>(const View&, bool, const T*, const T*, T*); \
  template double cross_entropy<T>(const ClassLoss<T>&, double);                \
  template double nll_loss<T>(const ClassLoss<T>&);
FASTNN_INSTANTIATE(float)
FASTNN_INSTANTIATE(double)
#undef FASTNN_INSTANTIATE

}  // namespace fastnn
