#include <cmath>
#include <string>
#include <vector>

#include "../ops/ops.hpp"
#include "array.hpp"
#include "builtin.hpp"

namespace fastnn {
namespace {

py::object softmax_cross_entropy_(const Arguments& a) {
  enum { logits_, labels_, out_ };
  const Array logits = in(a[logits_], "logits");
  if (logits.ndim() != 2)
    throw py::value_error("logits: expected shape (N, C), got " + std::to_string(logits.ndim()) + " dimensions");
  const index rows = logits.shape(0), columns = logits.shape(1);
  const Array labels = integers(a[labels_], "labels", rows);
  // A copy: nobody may change the labels between the check and their use.
  const std::vector<index> label(labels.data<index>(), labels.data<index>() + rows);
  for (index r = 0; r < rows; ++r)
    if (label[static_cast<std::size_t>(r)] < 0 || label[static_cast<std::size_t>(r)] >= columns)
      throw py::value_error("labels: expected 0 <= label < " + std::to_string(columns) + ", got " +
                            std::to_string(label[static_cast<std::size_t>(r)]) + " at index " + std::to_string(r));
  const Array dlogits = out(a[out_], "out", logits);
  refuse_overlap(dlogits, "out", logits, "logits", true);
  refuse_overlap(dlogits, "out", labels, "labels", false);
  const double loss = by_dtype(logits, [&](auto t) {
    using T = decltype(t);
    const Computation computation(logits.size());
    return rows == 0 ? std::nan("") : cross_entropy(logits.data<T>(), label.data(), dlogits.data<T>(), rows, columns);
  });
  return tuple_of(py::float_(loss), dlogits.object());
}

}  // namespace

void bind_losses(py::module_&) {
  define({"softmax_cross_entropy", {"logits", "labels", "out"}, softmax_cross_entropy_});
}

}  // namespace fastnn
