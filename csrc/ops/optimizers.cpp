// One parallel loop over all tensors of a step, so that a list of small tensors costs what one tensor of their size
// costs.
#include <cmath>

#include "../dispatch.hpp"
#include "cost.hpp"
#include "ops.hpp"
#include "tree.hpp"

namespace fastnn {
namespace {

template <class T>
index pieces_of(const Span<T>& t) {
  return (t.n + kPiece - 1) / kPiece;
}

template <class T>
index elements(const std::vector<Span<T>>& tensors) {
  index n = 0;
  for (const Span<T>& t : tensors) n += t.n;
  return n;
}

template <class T>
Span<T> part(const Span<T>& t, index start, index end) {
  Span<T> s{t.parameter + start, t.gradient + start, {}, end - start};
  for (int k = 0; k < kMaxStates; ++k) s.state[k] = t.state[k] ? t.state[k] + start : nullptr;
  return s;
}

// Parameters and states are read and written, gradients read.
template <class T>
Cost cost_of(const OptimizerKernel<T>& rule, const std::vector<Span<T>>& tensors) {
  index streams = 3;
  if (!tensors.empty())
    for (const T* state : tensors[0].state) streams += state ? 2 : 0;
  const index n = elements(tensors);
  const Cost cost = Cost{}.bytes<T>(streams * n);
  return rule.root ? cost.roots(n) : cost;
}

}  // namespace

template <class T>
double gradient_norm(const std::vector<Span<T>>& tensors) {
  const Kernels<T>& k = kernels<T>();
  index pieces = 0;
  for (const Span<T>& t : tensors) pieces += pieces_of(t);
  Scratch<double> sums(pieces);
  parallel_for(pieces, Cost{}.bytes<T>(elements(tensors)).ns, [&](index begin, index end) {
    index first = 0;  // number of the tensor's first piece
    for (const Span<T>& t : tensors) {
      const index count = pieces_of(t);
      for (index p = std::max(begin, first); p < std::min(end, first + count); ++p) {
        const index start = (p - first) * kPiece;
        sums[p] = k.sum(t.gradient + start, std::min(kPiece, t.n - start), true);
      }
      first += count;
      if (first >= end) break;
    }
  });
  double total = 0;
  index first = 0;
  for (const Span<T>& t : tensors) {
    if (t.n == 0) continue;
    total += merge_pieces(k, sums.data() + first, pieces_of(t));
    first += pieces_of(t);
  }
  return std::sqrt(total);
}

double clip_factor(double norm, double clip_norm) {
  const double factor = clip_norm / (norm + 1e-6);
  return factor >= 1 ? 1 : factor;  // NaN stays
}

template <class T>
void optimize(int id, const std::vector<Span<T>>& tensors, const T* scalars, T clip) {
  const OptimizerKernel<T>& rule = kernels<T>().optimizers[id];
  // Elements are numbered through all tensors and cut evenly, wherever a tensor ends.
  for_elements(elements(tensors), cost_of(rule, tensors).ns, [&](index begin, index end) {
    index first = 0;  // number of the tensor's first element
    for (const Span<T>& t : tensors) {
      const index from = std::max(begin, first), to = std::min(end, first + t.n);
      if (from < to) rule.step(scalars, clip, part(t, from - first, to - first));
      first += t.n;
      if (first >= end) break;
    }
  });
}

#define FASTNN_INSTANTIATE(T)                                    \
  template double gradient_norm<T>(const std::vector<Span<T>>&); \
  template void optimize<T>(int, const std::vector<Span<T>>&, const T*, T);
FASTNN_INSTANTIATE(float)
FASTNN_INSTANTIATE(double)

}  // namespace fastnn
