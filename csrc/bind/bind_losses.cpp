#include <cmath>
#include <string>
#include <vector>

#include "../ops/ops.hpp"
#include "array.hpp"

namespace fastnn {
namespace {

py::tuple softmax_cross_entropy(py::handle logits_, py::handle labels_, py::handle out_) {
  const Array logits = in(logits_, "logits");
  if (logits.ndim() != 2)
    throw py::value_error("logits: expected shape (N, C), got " + std::to_string(logits.ndim()) + " dimensions");
  const index rows = logits.shape(0), columns = logits.shape(1);
  const Array labels = integers(labels_, "labels", rows);
  // A copy: nobody may change the labels between the check and their use.
  const std::vector<index> label(labels.data<index>(), labels.data<index>() + rows);
  for (index r = 0; r < rows; ++r)
    if (label[static_cast<std::size_t>(r)] < 0 || label[static_cast<std::size_t>(r)] >= columns)
      throw py::value_error("labels: expected 0 <= label < " + std::to_string(columns) + ", got " +
                            std::to_string(label[static_cast<std::size_t>(r)]) + " at index " + std::to_string(r));
  const Array dlogits = out(out_, "out", logits);
  refuse_overlap(dlogits, "out", logits, "logits", true);
  refuse_overlap(dlogits, "out", labels, "labels", false);
  const double loss = by_dtype(logits, [&](auto t) {
    using T = decltype(t);
    const Computation computation(logits.size());
    return rows == 0 ? std::nan("") : cross_entropy(logits.data<T>(), label.data(), dlogits.data<T>(), rows, columns);
  });
  return py::make_tuple(loss, dlogits.object());
}

}  // namespace

void bind_losses(py::module_& m) {
  m.def("softmax_cross_entropy", softmax_cross_entropy);
}

}  // namespace fastnn
