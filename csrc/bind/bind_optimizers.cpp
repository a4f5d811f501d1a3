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

// The items of a list or tuple as they are, of another sequence as a list. Where no GIL keeps other threads from
// changing a list meanwhile, always as a tuple.
PyObject* items_of(PyObject* sequence) {
#ifdef Py_GIL_DISABLED
  return PySequence_Tuple(sequence);
#else
  return PySequence_Fast(sequence, "");
#endif
}

class Items {
 public:
  Items(py::handle h, const char* name) : items_(py::reinterpret_steal<py::object>(items_of(h.ptr()))) {
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

double number(py::handle h, const char* name) {
  const double value = PyFloat_AsDouble(h.ptr());
  if (value != -1 || !PyErr_Occurred()) return value;
  PyErr_Clear();
  throw py::type_error(std::string(name) + ": expected a number, got " + Py_TYPE(h.ptr())->tp_name);
}

// The number of a group; negative and huge ones are none.
std::size_t integer(py::handle h) {
  const Py_ssize_t value = PyLong_AsSsize_t(h.ptr());
  if (value != -1 || !PyErr_Occurred()) return static_cast<std::size_t>(value);
  PyErr_Clear();
  throw py::type_error(std::string("groups: expected an integer, got ") + Py_TYPE(h.ptr())->tp_name);
}

// The numbers of each group of tensors, and which group a tensor belongs to.
class Numbers {
 public:
  Numbers(py::handle numbers, py::handle groups, int count, std::size_t tensors) : count_(count), group_(tensors) {
    const Items rows(numbers, "numbers");
    values_.reserve(rows.size() * static_cast<std::size_t>(count));
    for (std::size_t g = 0; g < rows.size(); ++g) {
      const Items row(rows[g], "numbers", static_cast<std::size_t>(count), "numbers in each group");
      for (int k = 0; k < count; ++k) values_.push_back(number(row[static_cast<std::size_t>(k)], "numbers"));
    }
    if (!groups.is_none()) {
      const Items given(groups, "groups", tensors, "integers");
      for (std::size_t i = 0; i < tensors; ++i) group_[i] = integer(given[i]);
    }
    for (const std::size_t group : group_)
      if (group >= rows.size()) throw py::value_error("groups: expected numbers of each group");
  }

  template <class T>
  std::vector<T> rounded() const {
    std::vector<T> all(values_.size());
    for (std::size_t at = 0; at < all.size(); at += static_cast<std::size_t>(count_))
      round_numbers(values_.data() + at, count_, all.data() + at);
    return all;
  }
  std::size_t start(std::size_t tensor) const { return group_[tensor] * static_cast<std::size_t>(count_); }

 private:
  int count_;
  std::vector<double> values_;
  std::vector<std::size_t> group_;
};

// The arrays of a step: every argument is checked before anything is written.
class Step {
 public:
  Step(const OptimizerKernel<float>& rule, const Items& parameters, py::handle grads, py::handle states,
       py::handle averages)
      : count_(parameters.size()) {
    std::size_t named = 0;
    while (named < kMaxStates && rule.states[named]) ++named;
    const Items kinds(states, "states", named, "sequences of arrays");
    arrays_.reserve(count_ * (3 + named));
    add(parameters, "params", true, [&](py::handle h, const char* name, std::size_t) {
      Array array = fastnn::update(h, name);
      if (!arrays_.empty() && array.dtype() != arrays_[0].dtype())
        throw py::type_error(std::string(name) + ": expected the dtype of params[0]");
      return array;
    });
    add(Items(grads, "grads", count_, "arrays"), "grads", false,
        [&](py::handle h, const char* name, std::size_t i) { return in(h, name, arrays_[i]); });
    const auto add_state = [&](py::handle arrays, const char* what, std::size_t& place) {
      place = arrays_.size();
      add(Items(arrays, what, count_, "arrays"), what, true,
          [&](py::handle h, const char* name, std::size_t i) { return fastnn::update(h, name, arrays_[i]); });
    };
    for (std::size_t k = 0; k < named; ++k)
      if (!kinds[k].is_none() || k + static_cast<std::size_t>(rule.optional_states) < named)
        add_state(kinds[k], rule.states[k], state_[k]);
    if (!averages.is_none()) add_state(averages, "averages", average_);
    refuse_overlaps();
  }

  std::size_t count() const { return count_; }
  const Array& parameter(std::size_t i) const { return arrays_[i]; }
  template <class T>
  T* average(std::size_t i) const {
    return average_ > 0 ? arrays_[average_ + i].data<T>() : nullptr;
  }

  // Calls body(tensors) with the tensors' type.
  template <class Body>
  void run(const Numbers& numbers, const Body& body) const {
    if (count_ == 0) return;
    by_dtype(arrays_[0], [&](auto t) {
      using T = decltype(t);
      index elements = 0;
      for (std::size_t i = 0; i < count_; ++i) elements += arrays_[i].size();
      const Computation computation(elements);
      const std::vector<T> rounded = numbers.rounded<T>();
      std::vector<Span<T>> tensors(count_);
      for (std::size_t i = 0; i < count_; ++i) {
        Span<T>& tensor = tensors[i];
        tensor.parameter = arrays_[i].data<T>();
        tensor.gradient = arrays_[count_ + i].data<T>();
        for (int k = 0; k < kMaxStates; ++k)
          tensor.state[k] = state_[k] > 0 ? arrays_[state_[k] + i].data<T>() : nullptr;
        tensor.average = average<T>(i);
        tensor.numbers = rounded.data() + numbers.start(i);
        tensor.n = arrays_[i].size();
      }
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
      } catch (const std::exception&) {
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

  std::size_t count_;
  std::vector<Array> arrays_;           // parameters, gradients, then the states and averages that are there
  std::size_t state_[kMaxStates] = {};  // where the arrays of a state begin; 0: not there
  std::size_t average_ = 0;
  Group groups_[3 + kMaxStates] = {};  // of `count_` arrays each
  std::size_t group_count_ = 0;
};

int rule_of(py::handle name) {
  const Kernels<float>& k = kernels<float>();
  if (PyUnicode_Check(name.ptr()))
    for (int id = 0; id < k.optimizer_count; ++id)
      if (PyUnicode_CompareWithASCIIString(name.ptr(), k.optimizers[id].name) == 0) return id;
  throw py::value_error("no kernel of an optimizer " + std::string(py::repr(name)));
}

Nonfinite nonfinite_in(py::handle given) {
  if (PyUnicode_Check(given.ptr())) {
    if (PyUnicode_CompareWithASCIIString(given.ptr(), "allow") == 0) return Nonfinite::allow;
    if (PyUnicode_CompareWithASCIIString(given.ptr(), "error") == 0) return Nonfinite::error;
    if (PyUnicode_CompareWithASCIIString(given.ptr(), "skip") == 0) return Nonfinite::skip;
  }
  throw py::value_error("nonfinite: expected 'allow', 'error' or 'skip', got " + std::string(py::repr(given)));
}

// The largest norms of rows or columns, one number for each parameter, 0 where there is none.
class Limits {
 public:
  Limits(py::handle limits, bool by_column, std::size_t tensors) : by_column_(by_column) {
    if (limits.is_none()) return;
    const Items given(limits, "max_norms", tensors, "numbers");
    for (std::size_t i = 0; i < tensors; ++i) values_.push_back(number(given[i], "max_norms"));
  }
  bool holds(const Array& a, std::size_t i) const { return !values_.empty() && values_[i] > 0 && a.ndim() >= 2; }
  template <class T>
  void apply(const Array& a, std::size_t i) const {
    const index first = a.shape(0), last = a.shape(a.ndim() - 1);
    if (a.size() == 0) return;
    const index rows = by_column_ ? a.size() / last : first;
    cap_norms(MaxNorm<T>{a.data<T>(), rows, a.size() / rows, values_[i], by_column_});
  }

 private:
  bool by_column_;
  std::vector<double> values_;
};

py::list list_of(const std::vector<TensorStatistics>& statistics) {
  py::list rows(statistics.size());
  for (std::size_t i = 0; i < statistics.size(); ++i) {
    const TensorStatistics& s = statistics[i];
    rows[i] = py::make_tuple(s.gradient, s.squares, s.absolute, s.update, s.largest);
  }
  return rows;
}

py::object optimizer_step(const Arguments& a) {
  enum {
    name_,
    params_,
    grads_,
    states_,
    numbers_,
    groups_,
    clip_norm_,
    clip_to_unit_,
    nonfinite_,
    averages_,
    average_weight_,
    max_norms_,
    by_column_,
    stats_
  };
  const py::handle clip_norm = a[clip_norm_];
  const int id = rule_of(a[name_]);
  const OptimizerKernel<float>& rule = kernels<float>().optimizers[id];
  const Items parameters(a[params_], "params");
  const Numbers numbers(a[numbers_], a[groups_], rule.scalars, parameters.size());
  const bool clipped = !clip_norm.is_none(), unit = a.truth(clip_to_unit_), stats = a.truth(stats_);
  const double limit = clipped ? number(clip_norm, "clip_norm") : 0;
  if (clipped && !(limit > 0 || (unit && limit == 0)))
    throw py::value_error("clip_norm: expected None or a number > 0, got " + std::string(py::str(clip_norm)));
  const Nonfinite nonfinite = nonfinite_in(a[nonfinite_]);
  const Limits limits(a[max_norms_], a.truth(by_column_), parameters.size());
  const double weight = number(a[average_weight_], "average_weight");
  const Step arrays(rule, parameters, a[grads_], a[states_], a[averages_]);

  GradientNorm found{0, -1};
  std::vector<TensorStatistics> statistics(stats ? arrays.count() : 0);
  arrays.run(numbers, [&](auto& tensors) {
    using T = std::remove_pointer_t<decltype(tensors[0].parameter)>;
    if (clipped || nonfinite != Nonfinite::allow) found = gradient_norm(tensors);
    if (found.nonfinite >= 0 && nonfinite != Nonfinite::allow) return;
    for (std::size_t i = 0; i < arrays.count(); ++i)  // averages are of what a constraint leaves
      if (limits.holds(arrays.parameter(i), i)) tensors[i].average = nullptr;
    const double clip = clipped ? clip_factor(found.norm, limit, unit) : 1;
    optimize(OptimizerStep<T>{id, tensors, clip, weight}, stats ? statistics.data() : nullptr);
    for (std::size_t i = 0; i < arrays.count(); ++i) {
      if (!limits.holds(arrays.parameter(i), i)) continue;
      limits.template apply<T>(arrays.parameter(i), i);
      if (T* const average = arrays.template average<T>(i))
        update_average(average, tensors[i].parameter, tensors[i].n, weight);
    }
  });
  if (found.nonfinite >= 0 && nonfinite == Nonfinite::error)
    throw py::value_error(indexed("grads", static_cast<std::size_t>(found.nonfinite)) +
                          ": expected finite values, got a norm that is not; nonfinite='skip' or 'allow' goes on");
  const bool known = clipped || nonfinite != Nonfinite::allow;
  py::object norm = known ? py::object(py::float_(found.norm)) : py::object(py::none());
  return stats ? py::object(py::make_tuple(norm, list_of(statistics))) : norm;
}

// For each array the sums of its squares and of its absolute values.
py::list sums_of_weights(py::handle params) {
  const Items parameters(params, "params");
  py::list rows(parameters.size());
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const Array array = in(parameters[i], indexed("params", i).c_str());
    TensorStatistics sums{};
    by_dtype(array, [&](auto t) {
      using T = decltype(t);
      const Computation computation(array.size());
      const Span<T> span{array.data<T>(), nullptr, {}, nullptr, nullptr, array.size()};
      fastnn::weight_sums(std::vector<Span<T>>{span}, &sums);
    });
    rows[i] = py::make_tuple(sums.squares, sums.absolute);
  }
  return rows;
}

py::tuple optimizer_names() {
  const Kernels<float>& k = kernels<float>();
  py::tuple names(static_cast<std::size_t>(k.optimizer_count));
  for (int id = 0; id < k.optimizer_count; ++id) names[static_cast<std::size_t>(id)] = k.optimizers[id].name;
  return names;
}

}  // namespace

void bind_optimizers(py::module_& m) {
  py::dict defaults;
  for (const char* name : {"groups", "clip_norm", "averages", "max_norms"}) defaults[name] = py::none();
  for (const char* name : {"clip_to_unit", "by_column", "stats"}) defaults[name] = false;
  defaults["nonfinite"] = "allow";
  defaults["average_weight"] = 1.0;
  m.attr("optimizer_step") = make_builtin(
      "optimizer_step",
      {"name", "params", "grads", "states", "numbers", "groups", "clip_norm", "clip_to_unit", "nonfinite", "averages",
       "average_weight", "max_norms", "by_column", "stats"},
      14, defaults,
      "optimizer_step(name, params, grads, states, numbers, groups=None, clip_norm=None, clip_to_unit=False, "
      "nonfinite='allow', averages=None, average_weight=1.0, max_norms=None, by_column=False, stats=False)\n--\n\n"
      "One step on all tensors; the norm of the gradients, or None where nothing asks for it.\n\n"
      "states has a sequence of arrays for each state of the rule, None for an optional one that is not used; numbers\n"
      "has a sequence for each group of tensors, those that all rules share and then the rule's, in the order of\n"
      "csrc/contract.hpp and csrc/kernels/optimizers.hpp; groups is the number of each tensor's group. With stats, a\n"
      "pair: the norm, and for each tensor the sum of squares of its gradient, of itself and of its absolute values\n"
      "before the step, of squares of its change, and the largest absolute value.",
      optimizer_step);
  m.def("weight_sums", sums_of_weights, "For each array the sum of its squares and of its absolute values.");
  m.def("optimizer_names", optimizer_names, "Names in the kernel table, in the order of their numbers.");
}

}  // namespace fastnn
