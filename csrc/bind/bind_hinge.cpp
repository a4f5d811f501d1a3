#include <cmath>
#include <string>

#include "../memory.hpp"
#include "../ops/ops.hpp"
#include "loss_args.hpp"

namespace fastnn {
namespace {

bool mean_over_classes(const Arguments& a, int place) {
  if (PyUnicode_Check(a[place].ptr()))
    for (const bool mean : {false, true})
      if (PyUnicode_CompareWithASCIIString(a[place].ptr(), mean ? "mean" : "sum") == 0) return mean;
  throw py::value_error(std::string(a.name(place)) + ": expected 'sum' or 'mean', got " +
                        std::string(py::repr(a[place])));
}

enum { scores_, labels_, p_, margin_, weight_, reduction_, more_ };  // places that both share

py::object margin_loss(const Arguments& a, bool mean, int out_) {
  const index p = a.integer(p_);
  if (p != 1 && p != 2) throw py::value_error("p: expected 1 or 2, got " + std::to_string(p));
  const double margin = a.number(margin_);
  if (!std::isfinite(margin))
    throw py::value_error("margin: expected a finite number, got " + std::string(py::repr(a[margin_])));
  const Reduction reduction = reduction_in(a, reduction_);
  const Array scores = in(a[scores_], "scores");
  if (scores.ndim() != 2)
    throw py::value_error("scores: expected shape (N, C), got " + std::to_string(scores.ndim()) + " dimensions");
  const index rows = scores.shape(0), columns = scores.shape(1);
  const std::vector<index> labels = labels_in(a, labels_, rows, columns);
  const std::optional<Array> weight = maybe_vec(a[weight_], "weight", columns, scores);
  const Array dscores = out(a[out_], "out", scores);
  if (a.given(out_)) {
    refuse_overlap(dscores, "out", scores, "scores", true);
    if (weight) refuse_overlap(dscores, "out", *weight, "weight", false);
  }
  std::optional<Array> losses;
  if (reduction == Reduction::none) losses = empty({rows}, scores.dtype());
  const double sum = by_dtype(scores, [&](auto t) {
    using T = decltype(t);
    const Computation computation(scores.size());
    const Scratch<T> own(losses ? 0 : rows);
    return hinge_losses(
        HingeLoss<T>{scores.data<T>(), labels.data(), data_or_null<T>(weight), columns, static_cast<T>(margin), p == 2,
                     static_cast<T>(mean ? 1 / static_cast<double>(columns) : 1),
                     static_cast<T>(gradient_scale(reduction, rows)), dscores.data<T>(),
                     losses ? losses->data<T>() : own.data(), false},
        rows);
  });
  return tuple_of(reduced(reduction, sum, rows, losses), dscores.object());
}

py::object hinge_loss_(const Arguments& a) {
  enum { over_classes_ = more_, out_ };
  return margin_loss(a, mean_over_classes(a, over_classes_), out_);
}

py::object multi_margin_loss_(const Arguments& a) {
  return margin_loss(a, true, more_);
}

}  // namespace

void bind_hinge(py::module_&) {
  define(
      {"hinge_loss", {"scores", "labels", "p", "margin", "weight", "reduction", "over_classes", "out"}, hinge_loss_});
  define({"multi_margin_loss", {"scores", "labels", "p", "margin", "weight", "reduction", "out"}, multi_margin_loss_});
}

}  // namespace fastnn
