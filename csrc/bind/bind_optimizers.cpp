#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "../ops/ops.hpp"
#include "array.hpp"

namespace fastnn {
namespace {

// The arrays of a step: every argument is checked before anything is written.
class Step {
 public:
  Step(const py::sequence& parameters, const py::sequence& gradients) : count_(py::len(parameters)) {
    parameters_.reserve(count_);
    gradients_.reserve(count_);
    require_length(gradients, "grads");
    for (std::size_t i = 0; i < count_; ++i) {
      parameters_.push_back(update(parameters[i], named("params", i).c_str()));
      if (i > 0 && parameters_[i].dtype() != parameters_[0].dtype())
        throw py::type_error(named("params", i) + ": expected the dtype of params[0]");
      gradients_.push_back(in(gradients[i], named("grads", i).c_str(), parameters_[i]));
    }
  }

  void add_state(const py::object& state, const char* name) {
    const auto arrays = state.cast<py::sequence>();
    require_length(arrays, name);
    std::vector<Array>& kept = states_.emplace_back();
    kept.reserve(count_);
    for (std::size_t i = 0; i < count_; ++i) kept.push_back(update(arrays[i], named(name, i).c_str(), parameters_[i]));
    names_.push_back(name);
  }

  // Written arrays must be apart from each other and from the gradients. Sorted by address, neighbours are enough.
  void refuse_overlaps() const {
    struct Range {
      const char *low, *high;
      bool written;
      const char* name;
      std::size_t i;
    };
    std::vector<Range> ranges;
    ranges.reserve(count_ * (2 + states_.size()));
    const auto add = [&](const Array& a, bool written, const char* name, std::size_t i) {
      if (a.size() > 0) ranges.push_back({a.low(), a.high(), written, name, i});
    };
    for (std::size_t i = 0; i < count_; ++i) {
      add(parameters_[i], true, "params", i);
      add(gradients_[i], false, "grads", i);
      for (std::size_t s = 0; s < states_.size(); ++s) add(states_[s][i], true, names_[s], i);
    }
    std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.low < b.low; });
    const Range *reach = nullptr, *written_reach = nullptr;  // of what came before, those that end last
    for (const Range& r : ranges) {
      const Range* const other = r.written ? reach : written_reach;
      if (other && r.low < other->high)
        throw py::value_error(named(r.name, r.i) + ": expected memory apart from " + named(other->name, other->i) +
                              ", got overlapping arrays");
      if (!reach || r.high > reach->high) reach = &r;
      if (r.written && (!written_reach || r.high > written_reach->high)) written_reach = &r;
    }
  }

  // Calls body(tensors) with the tensors' type.
  template <class Body>
  double run(const Body& body) const {
    if (count_ == 0) return 0;
    return by_dtype(parameters_[0], [&](auto t) {
      using T = decltype(t);
      std::vector<Tensor<T>> tensors;
      tensors.reserve(count_);
      index elements = 0;
      for (std::size_t i = 0; i < count_; ++i) {
        const auto state = [&](std::size_t s) {
          return s < states_.size() ? states_[s][i].template data<T>() : nullptr;
        };
        tensors.push_back(
            {parameters_[i].data<T>(), gradients_[i].data<T>(), state(0), state(1), parameters_[i].size()});
        elements += parameters_[i].size();
      }
      const ReleaseGil release(elements);
      return body(tensors);
    });
  }

 private:
  static std::string named(const char* name, std::size_t i) {
    return std::string(name) + "[" + std::to_string(i) + "]";
  }

  void require_length(const py::sequence& arrays, const char* name) const {
    if (py::len(arrays) != count_)
      throw py::value_error(std::string(name) + ": expected " + std::to_string(count_) + " arrays, got " +
                            std::to_string(py::len(arrays)));
  }

  std::size_t count_;
  std::vector<Array> parameters_, gradients_;
  std::vector<std::vector<Array>> states_;
  std::vector<const char*> names_;
};

// The factor of the global-norm clip, and the norm (0 when there is no clip).
template <class T>
double clip_factor(const std::vector<Tensor<T>>& tensors, double clip_norm, double* norm) {
  *norm = 0;
  if (clip_norm < 0) return 1;
  *norm = gradient_norm(tensors);
  const double factor = clip_norm / (*norm + 1e-6);
  return factor < 1 ? factor : factor >= 1 ? 1 : factor;  // NaN stays
}

double sgd_(const py::sequence& parameters, const py::sequence& gradients, const py::object& buffers, double lr,
            double momentum, double dampening, double weight_decay, bool nesterov, bool first_step, double clip_norm) {
  Step step(parameters, gradients);
  if (!buffers.is_none()) step.add_state(buffers, "momentum_buffers");
  step.refuse_overlaps();
  return step.run([&](const auto& tensors) {
    using T = std::remove_pointer_t<decltype(tensors[0].parameter)>;
    double norm;
    const double clip = clip_factor(tensors, clip_norm, &norm);
    const Sgd<T> rule{static_cast<T>(clip),
                      static_cast<T>(lr),
                      static_cast<T>(momentum),
                      static_cast<T>(1 - dampening),
                      static_cast<T>(weight_decay),
                      nesterov,
                      first_step,
                      !buffers.is_none()};
    sgd(tensors, rule);
    return norm;
  });
}

double adam_(const py::sequence& parameters, const py::sequence& gradients, const py::object& exp_avgs,
             const py::object& exp_avg_sqs, double lr, double beta1, double beta2, double eps, double weight_decay,
             bool decoupled, double bias_correction1, double bias_correction2, double clip_norm) {
  Step step(parameters, gradients);
  step.add_state(exp_avgs, "exp_avgs");
  step.add_state(exp_avg_sqs, "exp_avg_sqs");
  step.refuse_overlaps();
  return step.run([&](const auto& tensors) {
    using T = std::remove_pointer_t<decltype(tensors[0].parameter)>;
    double norm;
    const double clip = clip_factor(tensors, clip_norm, &norm);
    const Adam<T> rule{static_cast<T>(clip),
                       static_cast<T>(lr / bias_correction1),
                       static_cast<T>(beta1),
                       static_cast<T>(1 - beta1),
                       static_cast<T>(beta2),
                       static_cast<T>(1 - beta2),
                       static_cast<T>(eps),
                       static_cast<T>(decoupled ? 0 : weight_decay),
                       static_cast<T>(decoupled ? 1 - lr * weight_decay : 1),
                       static_cast<T>(1 / std::sqrt(bias_correction2))};
    adam(tensors, rule);
    return norm;
  });
}

}  // namespace

void bind_optimizers(py::module_& m) {
  m.def("sgd", sgd_);
  m.def("adam", adam_);
}

}  // namespace fastnn
