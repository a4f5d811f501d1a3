#include "loss_args.hpp"

#include <cmath>
#include <string>

#include "../parallel.hpp"

namespace fastnn {

Reduction reduction_in(const Arguments& a, int place) {
  static const char* const names[] = {"mean", "sum", "none"};
  if (PyUnicode_Check(a[place].ptr()))
    for (int k = 0; k < 3; ++k)
      if (PyUnicode_CompareWithASCIIString(a[place].ptr(), names[k]) == 0) return static_cast<Reduction>(k);
  throw py::value_error(std::string(a.name(place)) + ": expected 'mean', 'sum' or 'none', got " +
                        std::string(py::repr(a[place])));
}

double gradient_scale(Reduction reduction, index n) {
  return reduction == Reduction::mean && n > 0 ? 1 / static_cast<double>(n) : 1;
}

py::object reduced(Reduction reduction, double sum, index n, const std::optional<Array>& losses) {
  const parallel::FloatMode mode;
  if (reduction == Reduction::none) return losses->object();
  if (reduction == Reduction::sum) return py::float_(sum);
  return py::float_(n > 0 ? sum / static_cast<double>(n) : std::nan(""));
}

std::vector<index> labels_in(const Arguments& a, int place, index rows, index classes) {
  const Array labels = integers(a[place], a.name(place), {rows});
  std::vector<index> copy(labels.data<index>(), labels.data<index>() + rows);
  for (std::size_t r = 0; r < copy.size(); ++r)
    if (copy[r] < 0 || copy[r] >= classes)
      throw py::value_error(std::string(a.name(place)) + ": expected 0 <= label < " + std::to_string(classes) +
                            ", got " + std::to_string(copy[r]) + " at index " + std::to_string(r));
  return copy;
}

}  // namespace fastnn
