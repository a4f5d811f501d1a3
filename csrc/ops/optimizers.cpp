// One parallel loop over all tensors of a step, so that a list of small tensors costs what one tensor of their size
// costs.
#include <algorithm>
#include <cmath>
#include <limits>

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
index pieces_of(const std::vector<Span<T>>& tensors) {
  index pieces = 0;
  for (const Span<T>& t : tensors) pieces += pieces_of(t);
  return pieces;
}

template <class T>
Span<T> part(const Span<T>& t, index start, index end) {
  Span<T> s{t.parameter + start, t.gradient + start, {}, nullptr, t.numbers, end - start};
  for (int k = 0; k < kMaxStates; ++k) s.state[k] = t.state[k] ? t.state[k] + start : nullptr;
  if (t.average) s.average = t.average + start;
  return s;
}

// Parameters, states and averages are read and written, gradients read.
template <class T>
Cost cost_of(const OptimizerKernel<T>& rule, const std::vector<Span<T>>& tensors) {
  index streams = 3;
  if (!tensors.empty()) {
    for (const T* state : tensors[0].state) streams += state ? 2 : 0;
    streams += tensors[0].average ? 2 : 0;
  }
  const index n = elements(tensors);
  const Cost cost = Cost{}.bytes<T>(streams * n);
  return rule.root ? cost.roots(n) : cost;
}

// Calls body(tensor, start, end, number) for the pieces of all tensors, numbered through.
template <class T, class Body>
void for_pieces(const std::vector<Span<T>>& tensors, double cost_ns, const Body& body) {
  parallel_for(pieces_of(tensors), cost_ns, [&](index begin, index end) {
    index first = 0;  // number of the tensor's first piece
    for (const Span<T>& t : tensors) {
      const index count = pieces_of(t);
      for (index p = std::max(begin, first); p < std::min(end, first + count); ++p) {
        const index start = (p - first) * kPiece;
        body(t, start, std::min(t.n, start + kPiece), p);
      }
      first += count;
      if (first >= end) break;
    }
  });
}

// Calls body(i, sum) with the sum of each tensor's pieces.
template <class T, class Body>
void for_sums(const std::vector<Span<T>>& tensors, const double* sums, const Body& body) {
  const Kernels<T>& k = kernels<T>();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const index count = pieces_of(tensors[i]);
    body(i, count == 0 ? 0 : merge_pieces(k, sums, count));
    sums += count;
  }
}

// A run of one tensor: at once, or by blocks that stay in the first-level cache where more is to be done than the rule.
template <class T>
void update(const OptimizerKernel<T>& rule, const OptimizerStep<T>& step, const Span<T>& t) {
  const Kernels<T>& k = kernels<T>();
  const T* const shared = t.numbers;
  const T* const own = shared + Shared::count;
  const T clip = static_cast<T>(std::min(step.clip, static_cast<double>(std::numeric_limits<T>::max())));
  const bool prepared =
      clip != 1 || shared[Shared::clip_value] != 0 || shared[Shared::l2] != 0 || shared[Shared::l1] != 0;
  const bool decayed = shared[Shared::decay] != 1;
  if (!prepared && !decayed && !t.average) return rule.step(own, t);
  T gradient[kBlock];
  for (index start = 0; start < t.n; start += kBlock) {
    Span<T> block = part(t, start, std::min(t.n, start + kBlock));
    if (decayed) k.scale(block.parameter, shared[Shared::decay], block.n);
    if (prepared) {
      k.incoming(shared, clip, block.parameter, block.gradient, gradient, block.n);
      block.gradient = gradient;
    }
    rule.step(own, block);
    if (block.average) k.average(block.average, block.parameter, static_cast<T>(step.average_weight), block.n);
  }
}

// The statistics of each piece of the tensors, put together: observe(piece, observed) sees a piece.
template <class T, class Observe>
void for_statistics(const std::vector<Span<T>>& tensors, double cost_ns, TensorStatistics* statistics,
                    const Observe& observe) {
  const Kernels<T>& k = kernels<T>();
  const index pieces = pieces_of(tensors);
  Scratch<double> sums(5 * pieces);
  double *const gradient = sums.data(), *const squares = gradient + pieces, *const absolute = squares + pieces;
  double *const updates = absolute + pieces, *const largest = updates + pieces;
  for_pieces(tensors, cost_ns, [&](const Span<T>& t, index start, index end, index number) {
    Observed observed{};
    observe(part(t, start, end), &observed);
    TensorStatistics sum;
    k.observed_sums(&observed, &sum);
    gradient[number] = sum.gradient;
    squares[number] = sum.squares;
    absolute[number] = sum.absolute;
    updates[number] = sum.update;
    largest[number] = sum.largest;
  });
  for_sums(tensors, gradient, [&](std::size_t i, double sum) { statistics[i].gradient = sum; });
  for_sums(tensors, squares, [&](std::size_t i, double sum) { statistics[i].squares = sum; });
  for_sums(tensors, absolute, [&](std::size_t i, double sum) { statistics[i].absolute = sum; });
  for_sums(tensors, updates, [&](std::size_t i, double sum) { statistics[i].update = sum; });
  const double* next = largest;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    statistics[i].largest = 0;
    for (const double* end = next + pieces_of(tensors[i]); next < end; ++next)
      if (!(*next <= statistics[i].largest)) statistics[i].largest = *next;  // NaN stays, as it is no less
  }
}

template <class T>
void optimize_observed(const OptimizerKernel<T>& rule, const OptimizerStep<T>& step, TensorStatistics* statistics) {
  const Kernels<T>& k = kernels<T>();
  for_statistics(step.tensors, 1.5 * cost_of(rule, step.tensors).ns, statistics,
                 [&](const Span<T>& piece, Observed* observed) {
                   T before[kBlock];
                   for (index start = 0; start < piece.n; start += kBlock) {
                     const Span<T> block = part(piece, start, std::min(piece.n, start + kBlock));
                     k.observe_before(block.gradient, block.parameter, before, block.n, observed);
                     update(rule, step, block);
                     k.observe_after(block.parameter, before, block.n, observed);
                   }
                 });
}

// Columns whose sums are taken together: as many as stay in cache, fewer where threads would go without.
index band_of(index columns) {
  return std::clamp<index>(columns / 4 / kLanes * kLanes, 64, 512);
}

template <class T>
double square_sum(const Kernels<T>& k, const T* x, index n) {
  if (n <= kPiece) return k.sum(x, n, true);
  const index pieces = (n + kPiece - 1) / kPiece;
  Scratch<double> sums(pieces);
  for (index p = 0; p < pieces; ++p) sums[p] = k.sum(x + p * kPiece, std::min(kPiece, n - p * kPiece), true);
  return merge_pieces(k, sums.data(), pieces);
}

}  // namespace

template <class T>
GradientNorm gradient_norm(const std::vector<Span<T>>& tensors) {
  const Kernels<T>& k = kernels<T>();
  Scratch<double> sums(pieces_of(tensors));
  for_pieces(tensors, Cost{}.bytes<T>(elements(tensors)).ns,
             [&](const Span<T>& t, index start, index end, index number) {
               sums[number] = k.sum(t.gradient + start, end - start, true);
             });
  GradientNorm found{0, -1};
  for_sums(tensors, sums.data(), [&](std::size_t i, double sum) {
    found.norm += sum;
    if (found.nonfinite < 0 && !std::isfinite(found.norm)) found.nonfinite = static_cast<index>(i);
  });
  found.norm = std::sqrt(found.norm);
  return found;
}

double clip_factor(double norm, double clip_norm, bool unit) {
  if (unit) return norm <= clip_norm ? 1 : 1 / norm;  // NaN stays
  const double factor = clip_norm / (norm + 1e-6);
  return factor >= 1 ? 1 : factor;  // NaN stays
}

template <class T>
void round_numbers(const double* numbers, int count, T* rounded) {
  for (int k = 0; k < count; ++k) rounded[k] = static_cast<T>(numbers[k]);
  rounded[Shared::decay] = static_cast<T>(1 - numbers[Shared::decay]);
}

template <class T>
void optimize(const OptimizerStep<T>& step, TensorStatistics* statistics) {
  const OptimizerKernel<T>& rule = kernels<T>().optimizers[step.rule];
  if (statistics) return optimize_observed(rule, step, statistics);
  // Elements are numbered through all tensors and cut evenly, wherever a tensor ends.
  for_elements(elements(step.tensors), cost_of(rule, step.tensors).ns, [&](index begin, index end) {
    index first = 0;  // number of the tensor's first element
    for (const Span<T>& t : step.tensors) {
      const index from = std::max(begin, first), to = std::min(end, first + t.n);
      if (from < to) update(rule, step, part(t, from - first, to - first));
      first += t.n;
      if (first >= end) break;
    }
  });
}

template <class T>
void weight_sums(const std::vector<Span<T>>& tensors, TensorStatistics* statistics) {
  const Kernels<T>& k = kernels<T>();
  for_statistics(tensors, Cost{}.bytes<T>(elements(tensors)).ns, statistics,
                 [&](const Span<T>& piece, Observed* observed) {
                   T unused[kBlock];
                   for (index start = 0; start < piece.n; start += kBlock) {
                     const T* const p = piece.parameter + start;
                     k.observe_before(p, p, unused, std::min(kBlock, piece.n - start), observed);
                   }
                 });
}

template <class T>
void cap_norms(const MaxNorm<T>& m) {
  const Kernels<T>& k = kernels<T>();
  const double cost = Cost{}.bytes<T>(2 * m.rows * m.columns).ns;
  if (!m.by_column)
    return parallel_for(m.rows, cost, [&](index begin, index end) {
      for (index r = begin; r < end; ++r) {
        T* const row = m.x + r * m.columns;
        const double norm = std::sqrt(square_sum(k, row, m.columns));
        if (norm > m.limit) k.scale(row, static_cast<T>(m.limit / norm), m.columns);
      }
    });
  const index band = band_of(m.columns);
  parallel_for((m.columns + band - 1) / band, cost, [&](index begin, index end) {
    Scratch<double> squares(band);
    Scratch<T> factors(band);
    for (index c = begin * band; c < std::min(end * band, m.columns); c += band) {
      const index width = std::min(band, m.columns - c);
      k.column_squares(m.x + c, m.rows, m.columns, width, squares.data());
      bool any = false;
      for (index j = 0; j < width; ++j) {
        const double norm = std::sqrt(squares[j]);
        any |= norm > m.limit;
        factors[j] = norm > m.limit ? static_cast<T>(m.limit / norm) : T(1);
      }
      if (any) k.scale_columns(m.x + c, m.rows, m.columns, width, factors.data());
    }
  });
}

template <class T>
void update_average(T* a, const T* p, index n, double weight) {
  const Kernels<T>& k = kernels<T>();
  for_elements(n, Cost{}.bytes<T>(3 * n).ns,
               [&](index begin, index end) { k.average(a + begin, p + begin, static_cast<T>(weight), end - begin); });
}

#define FASTNN_INSTANTIATE(T)                                                   \
  template GradientNorm gradient_norm<T>(const std::vector<Span<T>>&);          \
  template void round_numbers<T>(const double*, int, T*);                       \
  template void optimize<T>(const OptimizerStep<T>&, TensorStatistics*);        \
  template void weight_sums<T>(const std::vector<Span<T>>&, TensorStatistics*); \
  template void cap_norms<T>(const MaxNorm<T>&);                                \
  template void update_average<T>(T*, const T*, index, double);
FASTNN_INSTANTIATE(float)
FASTNN_INSTANTIATE(double)

}  // namespace fastnn
