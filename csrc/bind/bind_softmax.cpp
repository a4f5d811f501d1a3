// Softmax, its logarithm, and the losses of classes.
#include <string>

#include "loss_args.hpp"

namespace fastnn {
namespace {

// The array as softmax along an axis sees it.
View view_along(const Array& a, int axis) {
  View view{1, a.shape(axis), 1};
  for (int d = 0; d < axis; ++d) view.outer *= a.shape(d);
  for (int d = axis + 1; d < a.ndim(); ++d) view.inner *= a.shape(d);
  return view;
}

template <bool Logarithm>
py::object softmax_(const Arguments& a) {
  enum { x_, axis_, out_ };
  const Array x = in(a[x_], "x");
  const View view = view_along(x, normalise_axis(x, "x", a.integer(axis_), "axis"));
  const Array y = out(a[out_], "out", x);
  refuse_overlap(y, "out", x, "x", true);
  by_dtype(x, [&](auto t) {
    using T = decltype(t);
    const Computation computation(x.size());
    softmax(view, Logarithm, x.data<T>(), y.data<T>());
  });
  return y.object();
}

template <bool Logarithm>
py::object softmax_backward_(const Arguments& a) {
  enum { dy_, y_, axis_, out_ };
  const Array dy = in(a[dy_], "dy");
  const Array y = in(a[y_], "y", dy);
  const View view = view_along(y, normalise_axis(y, "y", a.integer(axis_), "axis"));
  const Array dx = out(a[out_], "out", dy);
  refuse_overlap(dx, "out", dy, "dy", true);
  refuse_overlap(dx, "out", y, "y", true);
  by_dtype(dy, [&](auto t) {
    using T = decltype(t);
    const Computation computation(dy.size());
    softmax_gradient(view, Logarithm, dy.data<T>(), y.data<T>(), dx.data<T>());
  });
  return dx.object();
}

// The arguments of a loss of classes, checked.
class ClassLossArgs {
 public:
  enum { input_, labels_, weight_, ignore_index_ };  // places that all of them share

  ClassLossArgs(const Arguments& a, bool or_probabilities, int reduction_place, int out_)
      : input(in(a[input_], a.name(input_))),
        weight_of_(maybe_vec(a[weight_], a.name(weight_), classes(a), input)),
        index_(a.integer(ignore_index_)),
        reduction_(reduction_in(a, reduction_place)) {
    for (int d = 0; d < input.ndim(); ++d)
      if (d != 1) lines_.push_back(input.shape(d));
    const py::object labels = as_array(a[labels_], a.name(labels_));
    if (or_probabilities && is_float(labels))
      take_probabilities(a, labels);
    else
      take_labels(a, labels);
    dinput_ = out(a[out_], a.name(out_), input);
    refuse_overlap(dinput_, a.name(out_), input, a.name(input_), true);
    refuse_overlap(dinput_, a.name(out_), targets_, a.name(labels_), false);
    if (weight_of_) refuse_overlap(dinput_, a.name(out_), *weight_of_, a.name(weight_), false);
    if (reduction_ == Reduction::none) losses_ = empty(lines_, input.dtype());
  }

  template <class T>
  ClassLoss<T> loss() const {
    const bool labelled = targets_.dtype() == Dtype::i64;
    return {view_along(input, 1),
            input.data<T>(),
            labelled ? targets_.data<index>() : nullptr,
            labelled ? nullptr : targets_.data<T>(),
            data_or_null<T>(weight_of_),
            index_,
            ignored_,
            reduction_,
            dinput_.data<T>(),
            data_or_null<T>(losses_)};
  }

  py::object results(double loss) const {
    return tuple_of(losses_ ? losses_->object() : py::float_(loss), dinput_.object());
  }

  const Array input;

 private:
  index classes(const Arguments& a) const {
    if (input.ndim() >= 2) return input.shape(1);
    throw py::value_error(std::string(a.name(input_)) + ": expected shape (N, C) or (N, C, ...), got " +
                          std::to_string(input.ndim()) + " dimensions");
  }

  void take_labels(const Arguments& a, py::handle labels) {
    targets_ = integers(labels, a.name(labels_), lines_);
    ignored_ = ignored_labels(a, labels_, targets_.data<index>(), targets_.size(), input.shape(1), index_);
  }

  void take_probabilities(const Arguments& a, py::handle probabilities) {
    targets_ = in(probabilities, a.name(labels_), input);
    if (index_ >= 0)
      throw py::value_error(std::string(a.name(ignore_index_)) +
                            ": expected a negative number where labels are probabilities, got " +
                            std::to_string(index_));
  }

  std::optional<Array> weight_of_;
  index index_, ignored_ = 0;
  Reduction reduction_;
  std::vector<index> lines_;  // the shape of the labels, and of the losses
  Array targets_, dinput_;
  std::optional<Array> losses_;
};

py::object softmax_cross_entropy_(const Arguments& a) {
  enum { reduction_ = ClassLossArgs::ignore_index_ + 1, label_smoothing_, out_ };
  const double smoothing = a.number(label_smoothing_);
  if (!(smoothing >= 0 && smoothing <= 1))
    throw py::value_error("label_smoothing: expected 0 <= label_smoothing <= 1, got " +
                          std::string(py::str(py::float_(smoothing))));
  const ClassLossArgs given(a, true, reduction_, out_);
  return given.results(by_dtype(given.input, [&](auto t) {
    const Computation computation(given.input.size());
    return cross_entropy(given.loss<decltype(t)>(), smoothing);
  }));
}

py::object nll_loss_(const Arguments& a) {
  enum { reduction_ = ClassLossArgs::ignore_index_ + 1, out_ };
  const ClassLossArgs given(a, false, reduction_, out_);
  return given.results(by_dtype(given.input, [&](auto t) {
    const Computation computation(given.input.size());
    return nll_loss(given.loss<decltype(t)>());
  }));
}

}  // namespace

void bind_softmax(py::module_&) {
  define({"softmax", {"x", "axis", "out"}, softmax_<false>});
  define({"softmax_backward", {"dy", "y", "axis", "out"}, softmax_backward_<false>});
  define({"log_softmax", {"x", "axis", "out"}, softmax_<true>});
  define({"log_softmax_backward", {"dy", "y", "axis", "out"}, softmax_backward_<true>});
  define({"softmax_cross_entropy",
          {"logits", "labels", "weight", "ignore_index", "reduction", "label_smoothing", "out"},
          softmax_cross_entropy_});
  define({"nll_loss", {"log_probs", "labels", "weight", "ignore_index", "reduction", "out"}, nll_loss_});
}

}  // namespace fastnn
