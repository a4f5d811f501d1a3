// Losses that are sums over elements: arguments are input, target, ..., out.
#include <string>

#include "../ops/ops.hpp"
#include "loss_args.hpp"

namespace fastnn {
namespace {

// One entry per element, or one that serves all, or per channel of the last axis: none of these is copied. Other shapes
// that broadcast are.
std::optional<Array> entries_in(const Arguments& a, int place, const Array& input) {
  if (!a.given(place)) return std::nullopt;
  const char* const name = a.name(place);
  const Array given = in(a[place], name);
  const bool repeats = given.size() == 1 || (given.ndim() == 1 && input.ndim() > 1 && given.size() > 1 &&
                                             given.size() == input.shape(input.ndim() - 1));
  if (repeats && given.dtype() == input.dtype() && given.ndim() <= input.ndim()) return given;
  return in_broadcast(given.source(), name, input);
}

template <class T>
Entries<T> entries(const std::optional<Array>& given, const Entries<T>& otherwise) {
  return given ? Entries<T>{given->data<T>(), given->size()} : otherwise;
}

struct Terms {
  double parameter = 0;              // 0: the loss has none
  int weight = -1, parameters = -1;  // places of arrays, -1 where there are none
};

py::object elementwise(const Arguments& a, int id, int reduction_, int out_, const Terms& terms) {
  enum { input_, target_ };
  const Reduction reduction = reduction_in(a, reduction_);
  const Array input = in(a[input_], a.name(input_));
  const Array target = in(a[target_], a.name(target_), input);
  std::optional<Array> weight, parameters;
  if (terms.weight >= 0) weight = entries_in(a, terms.weight, input);
  if (terms.parameters >= 0) parameters = entries_in(a, terms.parameters, input);
  const Array dinput = out(a[out_], a.name(out_), input);
  if (a.given(out_)) {
    refuse_overlap(dinput, a.name(out_), input, a.name(input_), true);
    refuse_overlap(dinput, a.name(out_), target, a.name(target_), true);
    if (weight) refuse_overlap(dinput, a.name(out_), *weight, a.name(terms.weight), false);
    if (parameters) refuse_overlap(dinput, a.name(out_), *parameters, a.name(terms.parameters), false);
  }
  std::optional<Array> losses;
  if (reduction == Reduction::none) losses = empty_like(input);
  const index n = input.size();
  const double sum = by_dtype(input, [&](auto t) {
    using T = decltype(t);
    const Computation computation(n);
    const T parameter = static_cast<T>(terms.parameter), scale = static_cast<T>(gradient_scale(reduction, n));
    // A loss without a parameter gets what needs no copy, and does not look at it.
    const Entries<T> one = terms.parameter != 0 ? Entries<T>{&parameter, 1} : Entries<T>{input.data<T>(), n};
    return elementwise_loss<T>(id, input.data<T>(), target.data<T>(), entries<T>(parameters, one),
                               entries<T>(weight, {nullptr, 1}), scale, dinput.data<T>(), data_or_null<T>(losses), n);
  });
  return tuple_of(reduced(reduction, sum, n, losses), dinput.object());
}

[[noreturn]] void refuse_number(const Arguments& a, int place, const std::string& expected) {
  throw py::value_error(std::string(a.name(place)) + ": expected " + expected + ", got " +
                        std::string(py::repr(a[place])));
}

py::object mse_loss_(const Arguments& a) {
  enum { reduction_ = 2, out_ };
  static const int id = loss_id("mse_loss");
  return elementwise(a, id, reduction_, out_, {});
}

py::object l1_loss_(const Arguments& a) {
  enum { reduction_ = 2, out_ };
  static const int id = loss_id("l1_loss");
  return elementwise(a, id, reduction_, out_, {});
}

py::object smooth_l1_loss_(const Arguments& a) {
  enum { reduction_ = 2, beta_, out_ };
  static const int smooth = loss_id("smooth_l1_loss"), sharp = loss_id("l1_loss");
  const double beta = a.number(beta_);
  if (!(beta >= 0)) refuse_number(a, beta_, "a number of at least 0");
  return elementwise(a, beta > 0 ? smooth : sharp, reduction_, out_, {beta});
}

py::object huber_loss_(const Arguments& a) {
  enum { reduction_ = 2, delta_, out_ };
  static const int id = loss_id("huber_loss");
  const double delta = a.number(delta_);
  if (!(delta > 0)) refuse_number(a, delta_, "a positive number");
  return elementwise(a, id, reduction_, out_, {delta});
}

py::object binary_cross_entropy_with_logits_(const Arguments& a) {
  enum { weight_ = 2, reduction_, pos_weight_, out_ };
  static const int id = loss_id("binary_cross_entropy_with_logits");
  return elementwise(a, id, reduction_, out_, {1, weight_, pos_weight_});
}

}  // namespace

void bind_elementwise_losses(py::module_&) {
  define({"mse_loss", {"input", "target", "reduction", "out"}, mse_loss_});
  define({"l1_loss", {"input", "target", "reduction", "out"}, l1_loss_});
  define({"smooth_l1_loss", {"input", "target", "reduction", "beta", "out"}, smooth_l1_loss_});
  define({"huber_loss", {"input", "target", "reduction", "delta", "out"}, huber_loss_});
  define({"binary_cross_entropy_with_logits",
          {"input", "target", "weight", "reduction", "pos_weight", "out"},
          binary_cross_entropy_with_logits_});
}

}  // namespace fastnn
