#include <algorithm>

#include "../dispatch.hpp"
#include "cost.hpp"
#include "ops.hpp"
#include "tree.hpp"

namespace fastnn {

// A counting sort, which keeps the order of the samples within a node.
DecisionsByNode by_node(const Decisions& d, index nodes) {
  std::vector<index> row(static_cast<std::size_t>(nodes), 0);  // counts, then rows of the gradient
  for (const index node : d.nodes) ++row[static_cast<std::size_t>(node)];
  DecisionsByNode order{{}, {0}, std::vector<index>(d.nodes.size()), std::vector<index>(d.nodes.size())};
  for (index node = 0; node < nodes; ++node) {
    index& count = row[static_cast<std::size_t>(node)];
    if (count == 0) continue;
    order.nodes.push_back(node);
    order.starts.push_back(order.starts.back() + count);
    count = static_cast<index>(order.nodes.size()) - 1;
  }
  std::vector<index> next = order.starts;
  for (std::size_t n = 0; n + 1 < d.offsets.size(); ++n)
    for (index e = d.offsets[n]; e < d.offsets[n + 1]; ++e) {
      index& place =
          next[static_cast<std::size_t>(row[static_cast<std::size_t>(d.nodes[static_cast<std::size_t>(e)])])];
      order.decisions[static_cast<std::size_t>(place)] = e;
      order.samples[static_cast<std::size_t>(place++)] = static_cast<index>(n);
    }
  return order;
}

template <class T>
double hierarchical_softmax(const HierarchicalSoftmax<T>& a, const Decisions& d, const DecisionsByNode& order) {
  const Kernels<T>& k = kernels<T>();
  const index samples = static_cast<index>(d.offsets.size()) - 1, decisions = static_cast<index>(d.nodes.size());
  const Scratch<T> signs(decisions), slopes(decisions);
  for (index e = 0; e < decisions; ++e) signs[e] = d.right[static_cast<std::size_t>(e)] ? T(1) : T(-1);
  const double ns = Cost{}.bytes<T>(3 * decisions * a.features).exps(decisions).ns;
  const TreeLoss<T> loss{a.h,          a.weight, a.bias,   a.features, d.offsets.data(), d.nodes.data(),
                         signs.data(), a.scale,  a.losses, a.dh,       slopes.data()};
  parallel_for(samples, ns, [&](index begin, index end) { k.tree_loss(loss, begin, end); });
  const TreeGradient<T> gradient{
      a.h,       a.features, order.starts.data(), order.decisions.data(), order.samples.data(), slopes.data(),
      a.dweight, a.dbias};
  // Nodes near the root have most of the decisions: tasks are ranges of these, and nodes belong to where theirs begin.
  parallel_for(decisions, ns / 2, [&](index begin, index end) {
    const auto row = [&](index e) {
      return std::lower_bound(order.starts.begin(), order.starts.end() - 1, e) - order.starts.begin();
    };
    k.tree_gradient(gradient, row(begin), row(end));
  });
  return whole_sum(a.losses, samples);
}

template double hierarchical_softmax<float>(const HierarchicalSoftmax<float>&, const Decisions&,
                                            const DecisionsByNode&);
template double hierarchical_softmax<double>(const HierarchicalSoftmax<double>&, const Decisions&,
                                             const DecisionsByNode&);

}  // namespace fastnn
