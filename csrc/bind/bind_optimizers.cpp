// A training step is one call for all tensors. With many small tensors the checks are most of its cost, so lists are
// read without generic sequence access, and "params[3]" is spelled out only when it is in an error.
#include <algorithm>
#include <string>
#include <vector>

#include "../dispatch.hpp"
#include "../ops/ops.hpp"
#include "array.hpp"
#include "builtin.hpp"

namespace fastnn {
namespace {

std::string indexed(const char* name, std::size_t i) {
  return std::string(name) + "[" + std::to_string(i) + "]";
}

// The items of a list or tuple as they are, of another sequence as a list.
class Items {
 public:
  Items(py::handle h, const char* name) : items_(py::reinterpret_steal<py::object>(PySequence_Fast(h.ptr(), ""))) {
    if (items_) return;
    PyErr_Clear();
    throw py::type_error(std::string(name) + ": expected a sequence, got " + Py_TYPE(h.ptr())->tp_name);
  }
  Items(py::handle h, const char* name, std::size_t n, const char* what) : Items(h, name) {
    if (size() != n)
      throw py::value_error(std::string(name) + ": expected " + std::to_string(n) + " " + what + ", got " +
                            std::to_string(size()));
  }
  std::size_t size() const { return static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items_.ptr())); }
  py::handle operator[](std::size_t i) const {
    return PySequence_Fast_GET_ITEM(items_.ptr(), static_cast<Py_ssize_t>(i));
  }

 private:
  py::object items_;
};

// The arrays of a step: every argument is checked before anything is written.
class Step {
 public:
  Step(const OptimizerKernel<float>& rule, py::handle params, py::handle grads, py::handle states) {
    const Items parameters(params, "params");
    count_ = parameters.size();
    std::size_t named = 0;
    while (named < kMaxStates && rule.states[named]) ++named;
    const Items kinds(states, "states", named, "sequences of arrays");
    arrays_.reserve(count_ * (2 + named));
    add(parameters, "params", true, [&](py::handle h, const char* name, std::size_t) {
      Array array = update(h, name);
      if (!arrays_.empty() && array.dtype() != arrays_[0].dtype())
        throw py::type_error(std::string(name) + ": expected the dtype of params[0]");
      return array;
    });
    add(Items(grads, "grads", count_, "arrays"), "grads", false,
        [&](py::handle h, const char* name, std::size_t i) { return in(h, name, arrays_[i]); });
    for (std::size_t k = 0; k < named; ++k) {
      if (kinds[k].is_none() && k + static_cast<std::size_t>(rule.optional_states) >= named) continue;
      state_[k] = arrays_.size();
      add(Items(kinds[k], rule.states[k], count_, "arrays"), rule.states[k], true,
          [&](py::handle h, const char* name, std::size_t i) { return update(h, name, arrays_[i]); });
    }
    refuse_overlaps();
  }

  // Calls body(tensors) with the tensors' type.
  template <class Body>
  void run(const Body& body) const {
    if (count_ == 0) return;
    by_dtype(arrays_[0], [&](auto t) {
      using T = decltype(t);
      std::vector<Span<T>> tensors(count_);
      index elements = 0;
      for (std::size_t i = 0; i < count_; ++i) {
        Span<T>& tensor = tensors[i];
        tensor.parameter = arrays_[i].data<T>();
        tensor.gradient = arrays_[count_ + i].data<T>();
        for (int k = 0; k < kMaxStates; ++k)
          tensor.state[k] = state_[k] > 0 ? arrays_[state_[k] + i].data<T>() : nullptr;
        tensor.n = arrays_[i].size();
        elements += tensor.n;
      }
      const Computation computation(elements);
      body(tensors);
    });
  }

 private:
  struct Group {
    const char* name;
    bool written;
  };

  // Takes in the arrays of one list: check(item, name, number) gives the array.
  template <class Check>
  void add(const Items& items, const char* name, bool written, const Check& check) {
    groups_[group_count_++] = {name, written};
    for (std::size_t i = 0; i < count_; ++i) {
      try {
        arrays_.push_back(check(items[i], name, i));
      } catch (const py::builtin_exception&) {
        check(items[i], indexed(name, i).c_str(), i);  // fails again, with the whole name
        throw;
      }
    }
  }

  const Group& group(std::size_t a) const { return groups_[a / count_]; }
  std::string name(std::size_t a) const { return indexed(group(a).name, a % count_); }

  // Written arrays must be apart from each other and from the gradients. Sorted by address, neighbours are enough.
  void refuse_overlaps() const {
    struct Start {
      const char* low;
      std::size_t array;
    };
    std::vector<Start> starts;
    starts.reserve(arrays_.size());
    for (std::size_t a = 0; a < arrays_.size(); ++a)
      if (arrays_[a].size() > 0) starts.push_back({arrays_[a].low(), a});
    std::sort(starts.begin(), starts.end(), [](const Start& a, const Start& b) { return a.low < b.low; });
    const Start *reach = nullptr, *written_reach = nullptr;  // of what came before, those that end last
    for (const Start& start : starts) {
      const bool written = group(start.array).written;
      const Start* const other = written ? reach : written_reach;
      if (other && start.low < arrays_[other->array].high())
        throw py::value_error(name(start.array) + ": expected memory apart from " + name(other->array) +
                              ", got overlapping arrays");
      const char* const high = arrays_[start.array].high();
      if (!reach || high > arrays_[reach->array].high()) reach = &start;
      if (written && (!written_reach || high > arrays_[written_reach->array].high())) written_reach = &start;
    }
  }

  std::size_t count_ = 0;
  std::vector<Array> arrays_;           // parameters, gradients, then the states that are there
  std::size_t state_[kMaxStates] = {};  // where the arrays of a state begin; 0: not there
  Group groups_[2 + kMaxStates] = {};   // of `count_` arrays each
  std::size_t group_count_ = 0;
};

int rule_of(py::handle name) {
  const Kernels<float>& k = kernels<float>();
  if (PyUnicode_Check(name.ptr()))
    for (int id = 0; id < k.optimizer_count; ++id)
      if (PyUnicode_CompareWithASCIIString(name.ptr(), k.optimizers[id].name) == 0) return id;
  throw py::value_error("no kernel of an optimizer " + std::string(py::repr(name)));
}

double number(py::handle h, const char* name) {
  const double value = PyFloat_AsDouble(h.ptr());
  if (value != -1 || !PyErr_Occurred()) return value;
  PyErr_Clear();
  throw py::type_error(std::string(name) + ": expected a number, got " + Py_TYPE(h.ptr())->tp_name);
}

py::object optimizer_step(const Arguments& a) {
  enum { name_, params_, grads_, states_, scalars_, clip_norm_ };
  const py::handle params = a[params_], grads = a[grads_], states = a[states_], scalars = a[scalars_];
  const py::handle clip_norm = a[clip_norm_];
  const int id = rule_of(a[name_]);
  const OptimizerKernel<float>& rule = kernels<float>().optimizers[id];
  const Items given(scalars, "scalars", static_cast<std::size_t>(rule.scalars), "numbers");
  double numbers[kMaxScalars];
  for (int k = 0; k < rule.scalars; ++k) numbers[k] = number(given[static_cast<std::size_t>(k)], "scalars");
  const bool clipped = !clip_norm.is_none();
  const double limit = clipped ? number(clip_norm, "clip_norm") : 0;
  if (clipped && !(limit > 0))
    throw py::value_error("clip_norm: expected None or a number > 0, got " + std::string(py::str(clip_norm)));

  double norm = 0;
  Step(rule, params, grads, states).run([&](const auto& tensors) {
    using T = std::remove_pointer_t<decltype(tensors[0].parameter)>;
    T rounded[kMaxScalars];
    for (int k = 0; k < rule.scalars; ++k) rounded[k] = static_cast<T>(numbers[k]);
    if (clipped) norm = gradient_norm(tensors);
    optimize(id, tensors, rounded, static_cast<T>(clipped ? clip_factor(norm, limit) : 1));
  });
  if (clipped) return py::float_(norm);
  return py::none();
}

py::tuple optimizer_names() {
  const Kernels<float>& k = kernels<float>();
  py::tuple names(static_cast<std::size_t>(k.optimizer_count));
  for (int id = 0; id < k.optimizer_count; ++id) names[static_cast<std::size_t>(id)] = k.optimizers[id].name;
  return names;
}

}  // namespace

void bind_optimizers(py::module_& m) {
  m.attr("optimizer_step") = make_builtin(
      "optimizer_step", {"name", "params", "grads", "states", "scalars", "clip_norm"}, 6, py::dict(),
      "optimizer_step(name, params, grads, states, scalars, clip_norm)\n--\n\n"
      "One step on all tensors; the norm of the gradients, or None without clip_norm.\n\n"
      "states has a sequence of arrays for each state of the rule, None for an optional one that is not used;\n"
      "scalars are the rule's numbers, in the order of csrc/kernels/optimizers.hpp.",
      optimizer_step);
  m.def("optimizer_names", optimizer_names, "Names in the kernel table, in the order of their numbers.");
}

}  // namespace fastnn
