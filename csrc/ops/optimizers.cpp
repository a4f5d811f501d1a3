// One parallel loop over all tensors of a step, cut into pieces, so that a list of small tensors costs what one
// tensor of their size costs.
#include <cmath>

#include "../dispatch.hpp"
#include "cost.hpp"
#include "ops.hpp"
#include "tree.hpp"

namespace fastnn {
namespace {

template <class T>
index pieces_of(const Tensor<T>& t) {
  return (t.n + kPiece - 1) / kPiece;
}

// Calls body(tensor number, first element, elements, piece number) for every piece of every tensor.
template <class T, class Body>
void for_pieces(const std::vector<Tensor<T>>& tensors, const Cost& cost, const Body& body) {
  index pieces = 0;
  for (const Tensor<T>& t : tensors) pieces += pieces_of(t);
  parallel_for(pieces, cost.ns, [&](index begin, index end) {
    index first = 0;  // number of the tensor's first piece
    for (const Tensor<T>& t : tensors) {
      const index count = pieces_of(t);
      for (index p = std::max(begin, first); p < std::min(end, first + count); ++p) {
        const index start = (p - first) * kPiece;
        body(t, start, std::min(kPiece, t.n - start), p);
      }
      first += count;
      if (first >= end) break;
    }
  });
}

template <class T>
index elements(const std::vector<Tensor<T>>& tensors) {
  index n = 0;
  for (const Tensor<T>& t : tensors) n += t.n;
  return n;
}

template <class T>
Span<T> span(const Tensor<T>& t, index start, index n) {
  return {t.parameter + start, t.gradient + start, t.state0 ? t.state0 + start : nullptr,
          t.state1 ? t.state1 + start : nullptr, n};
}

}  // namespace

template <class T>
double gradient_norm(const std::vector<Tensor<T>>& tensors) {
  const Kernels<T>& k = kernels<T>();
  index pieces = 0;
  for (const Tensor<T>& t : tensors) pieces += pieces_of(t);
  Scratch<double> sums(pieces);
  for_pieces(tensors, Cost{}.bytes<T>(elements(tensors)), [&](const Tensor<T>& t, index start, index n, index piece) {
    sums[piece] = k.sum(t.gradient + start, n, true);
  });
  double total = 0;
  index first = 0;
  for (const Tensor<T>& t : tensors) {
    if (t.n == 0) continue;
    total += merge_pieces(k, sums.data() + first, pieces_of(t));
    first += pieces_of(t);
  }
  return std::sqrt(total);
}

template <class T>
void sgd(const std::vector<Tensor<T>>& tensors, const Sgd<T>& rule) {
  const Kernels<T>& k = kernels<T>();
  for_pieces(tensors, Cost{}.bytes<T>((rule.has_momentum ? 5 : 3) * elements(tensors)),
             [&](const Tensor<T>& t, index start, index n, index) { k.sgd(rule, span(t, start, n)); });
}

template <class T>
void adam(const std::vector<Tensor<T>>& tensors, const Adam<T>& rule) {
  const Kernels<T>& k = kernels<T>();
  const index n = elements(tensors);
  for_pieces(tensors, Cost{}.bytes<T>(7 * n).roots(n),
             [&](const Tensor<T>& t, index start, index m, index) { k.adam(rule, span(t, start, m)); });
}

#define FASTNN_INSTANTIATE(T)                                         \
  template double gradient_norm<T>(const std::vector<Tensor<T>>&);    \
  template void sgd<T>(const std::vector<Tensor<T>>&, const Sgd<T>&); \
  template void adam<T>(const std::vector<Tensor<T>>&, const Adam<T>&);
FASTNN_INSTANTIATE(float)
FASTNN_INSTANTIATE(double)

}  // namespace fastnn
