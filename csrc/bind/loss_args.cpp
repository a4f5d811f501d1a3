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

index ignored_labels(const Arguments& a, int place, const index* labels, index n, index classes,
                     std::optional<index> ignore_index) {
  const LabelCheck found = [&] {
    const Computation computation(n);
    return check_labels(labels, n, classes, ignore_index);
  }();
  if (found.wrong < 0) return found.ignored;
  const std::string or_ignored = ignore_index ? "ignore_index (" + std::to_string(*ignore_index) + ") or " : "";
  throw py::value_error(std::string(a.name(place)) + ": expected " + or_ignored + "0 <= label < " +
                        std::to_string(classes) + ", got " + std::to_string(labels[found.wrong]) + " at index " +
                        std::to_string(found.wrong));
}

std::vector<index> labels_in(const Arguments& a, int place, index rows, index classes) {
  const Array labels = integers(a[place], a.name(place), {rows});
  const std::vector<index> copy(labels.data<index>(), labels.data<index>() + rows);
  ignored_labels(a, place, copy.data(), rows, classes);
  return copy;
}

}  // namespace fastnn
