#include <algorithm>
#include <string>

#include "../memory.hpp"
#include "../ops/ops.hpp"
#include "loss_args.hpp"

namespace fastnn {
namespace {

// The paths of the labels alone are checked, and copied: a call must not cost what all classes cost.
Decisions decisions_in(const std::vector<index>& labels, const Array& nodes, const Array& codes, const Array& offsets,
                       index node_count) {
  Decisions d;
  d.offsets.push_back(0);
  const index* const offset = offsets.data<index>();
  for (const index label : labels) {
    const index first = offset[label], last = offset[label + 1];
    if (first < 0 || first > last || last > nodes.size())
      throw py::value_error("path_offsets: expected increasing places of path_nodes, got " + std::to_string(first) +
                            " and " + std::to_string(last) + " at index " + std::to_string(label));
    for (index e = first; e < last; ++e) {
      const index node = nodes.data<index>()[e], code = codes.data<index>()[e];
      if (node < 0 || node >= node_count)
        throw py::value_error("path_nodes: expected 0 <= node < " + std::to_string(node_count) + ", got " +
                              std::to_string(node) + " at index " + std::to_string(e));
      if (code != 0 && code != 1)
        throw py::value_error("path_codes: expected 0 or 1, got " + std::to_string(code) + " at index " +
                              std::to_string(e));
      d.nodes.push_back(node);
      d.right.push_back(code == 1);
    }
    d.offsets.push_back(static_cast<index>(d.nodes.size()));
  }
  return d;
}

py::object hierarchical_softmax_(const Arguments& a) {
  enum { h_, weight_, bias_, path_nodes_, path_codes_, path_offsets_, labels_, reduction_, out_ };
  const Reduction reduction = reduction_in(a, reduction_);
  const Array h = in(a[h_], "h");
  if (h.ndim() != 2) throw py::value_error("h: expected shape (N, D), got " + std::to_string(h.ndim()) + " dimensions");
  const index samples = h.shape(0), features = h.shape(1);
  const Array bias = in(a[bias_], "bias");
  const index node_count = bias.size();
  const Array bias_row = vec(bias.source(), "bias", node_count, h);
  const Array weight = in(a[weight_], "weight", Shape{2, h.dtype(), node_count * features, {node_count, features}});
  const Array offsets = integers(a[path_offsets_], "path_offsets");
  const Array nodes = integers(a[path_nodes_], "path_nodes");
  const Array codes = integers(a[path_codes_], "path_codes", {nodes.size()});
  const std::vector<index> labels = labels_in(a, labels_, samples, std::max<index>(0, offsets.size() - 1));
  const Decisions decisions = decisions_in(labels, nodes, codes, offsets, node_count);
  const DecisionsByNode order = by_node(decisions, node_count);
  const Array dh = out(a[out_], "out", h);
  if (a.given(out_)) {
    refuse_overlap(dh, "out", h, "h", false);
    refuse_overlap(dh, "out", weight, "weight", false);
    refuse_overlap(dh, "out", bias_row, "bias", false);
  }
  const index rows = static_cast<index>(order.nodes.size());
  const Array touched = empty({rows}, Dtype::i64);
  std::copy(order.nodes.begin(), order.nodes.end(), touched.data<index>());
  const Array dweight = empty({rows, features}, h.dtype()), dbias = empty({rows}, h.dtype());
  std::optional<Array> losses;
  if (reduction == Reduction::none) losses = empty({samples}, h.dtype());
  const double sum = by_dtype(h, [&](auto t) {
    using T = decltype(t);
    const Computation computation(static_cast<index>(decisions.nodes.size()) * features);
    const Scratch<T> own(losses ? 0 : samples);
    const HierarchicalSoftmax<T> call{h.data<T>(),
                                      weight.data<T>(),
                                      bias_row.data<T>(),
                                      features,
                                      static_cast<T>(gradient_scale(reduction, samples)),
                                      losses ? losses->data<T>() : own.data(),
                                      dh.data<T>(),
                                      dweight.data<T>(),
                                      dbias.data<T>()};
    return hierarchical_softmax(call, decisions, order);
  });
  return tuple_of(reduced(reduction, sum, samples, losses), dh.object(), touched.object(), dweight.object(),
                  dbias.object());
}

}  // namespace

void bind_hierarchical(py::module_&) {
  define({"hierarchical_softmax",
          {"h", "weight", "bias", "path_nodes", "path_codes", "path_offsets", "labels", "reduction", "out"},
          hierarchical_softmax_});
}

}  // namespace fastnn
