// Activations are builtins of their own, made from the registry: a call through vectorcall costs half of what a
// pybind11 function with keywords costs.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "../dispatch.hpp"
#include "../ops/ops.hpp"
#include "array.hpp"

namespace fastnn {
namespace {

struct Parameter {
  std::string name;
  double value;
  PyObject* key;  // interned
};

// What one builtin knows of itself; lives as long as the process.
struct Builtin {
  int id;
  bool backward, output_form;
  py::object from_output;        // of the parameters: whether the output determines the gradient
  std::vector<double> accepted;  // parameters for which it was last true
  std::vector<Parameter> parameters;
  std::string name, doc;
  PyMethodDef method;
};

[[noreturn]] void refuse(const Builtin& f, const std::string& what) {
  throw py::type_error(f.name + "(): " + what);
}

struct Keys {
  PyObject* x = PyUnicode_InternFromString("x");
  PyObject* dy = PyUnicode_InternFromString("dy");
  PyObject* out = PyUnicode_InternFromString("out");
  PyObject* output = PyUnicode_InternFromString("output");
};

const Keys& keys() {
  static const Keys k;
  return k;
}

bool same(PyObject* name, PyObject* key) {
  return name == key || PyUnicode_Compare(name, key) == 0;
}

struct Arguments {
  PyObject *dy = nullptr, *x = nullptr, *out = Py_None;
  bool output = false;
  double p[2] = {0, 0};
};

double number(const Builtin& f, const Parameter& parameter, PyObject* value) {
  const double v = PyFloat_AsDouble(value);
  if (v == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    refuse(f, parameter.name + ": expected a number, got " + Py_TYPE(value)->tp_name);
  }
  return v;
}

Arguments parse(const Builtin& f, PyObject* const* args, Py_ssize_t n, PyObject* names) {
  Arguments a;
  for (std::size_t k = 0; k < f.parameters.size(); ++k) a.p[k] = f.parameters[k].value;
  PyObject** arrays[2] = {f.backward ? &a.dy : &a.x, &a.x};
  const Py_ssize_t array_count = f.backward ? 2 : 1;
  if (n > array_count + static_cast<Py_ssize_t>(f.parameters.size()))
    refuse(f, "expected at most " + std::to_string(array_count + static_cast<Py_ssize_t>(f.parameters.size())) +
                  " positional arguments, got " + std::to_string(n));
  for (Py_ssize_t i = 0; i < n; ++i) {
    if (i < array_count)
      *arrays[i] = args[i];
    else
      a.p[i - array_count] = number(f, f.parameters[static_cast<std::size_t>(i - array_count)], args[i]);
  }
  const Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
  for (Py_ssize_t i = 0; i < named; ++i) {
    PyObject* const key = PyTuple_GET_ITEM(names, i);
    PyObject* const value = args[n + i];
    const auto once = [&](bool given) {
      if (given) refuse(f, "got several values for '" + std::string(py::str(py::handle(key))) + "'");
    };
    if (same(key, keys().out)) {
      a.out = value;
      continue;
    }
    if (f.output_form && same(key, keys().output)) {
      const int truth = PyObject_IsTrue(value);
      if (truth < 0) throw py::error_already_set();
      a.output = truth == 1;
      continue;
    }
    if (same(key, keys().x)) {
      once(a.x != nullptr);
      a.x = value;
      continue;
    }
    if (f.backward && same(key, keys().dy)) {
      once(a.dy != nullptr);
      a.dy = value;
      continue;
    }
    std::size_t k = 0;
    while (k < f.parameters.size() && !same(key, f.parameters[k].key)) ++k;
    if (k == f.parameters.size())
      refuse(f, "got an unexpected argument '" + std::string(py::str(py::handle(key))) + "'");
    once(n > array_count + static_cast<Py_ssize_t>(k));
    a.p[k] = number(f, f.parameters[k], value);
  }
  if (f.backward && !a.dy) refuse(f, "missing argument 'dy'");
  if (!a.x) refuse(f, "missing argument 'x'");
  return a;
}

PyObject* forward(const Builtin& f, const Arguments& a) {
  const Array x = in(a.x, "x");
  const Array y = out(a.out, "out", x);
  refuse_overlap(y, "out", x, "x", true);
  by_dtype(x, [&](auto t) {
    using T = decltype(t);
    const Computation computation(x.size());
    activation<T>(f.id, x.data<T>(), y.data<T>(), x.size(), static_cast<T>(a.p[0]), static_cast<T>(a.p[1]));
  });
  return y.object().inc_ref().ptr();
}

// Refuses output=True where the parameters are such that the output does not determine the gradient.
void require_from_output(Builtin& f, const Arguments& a) {
  if (std::equal(f.accepted.begin(), f.accepted.end(), a.p) && !f.accepted.empty()) return;
  const bool determined =
      f.parameters.size() == 1 ? f.from_output(a.p[0]).cast<bool>() : f.from_output(a.p[0], a.p[1]).cast<bool>();
  if (determined) {
    f.accepted.assign(a.p, a.p + f.parameters.size());
    return;
  }
  std::string names, values;
  for (std::size_t k = 0; k < f.parameters.size(); ++k) {
    names += (k > 0 ? ", " : "") + f.parameters[k].name;
    values += (k > 0 ? ", " : "") + std::string(py::str(py::float_(a.p[k])));
  }
  throw py::value_error(
      names + ": with output=True expected values for which the output determines the gradient, got " + values);
}

PyObject* backward(Builtin& f, const Arguments& a) {
  const Array dy = in(a.dy, "dy");
  const Array x = in(a.x, "x", dy);
  const Array dx = out(a.out, "out", dy);
  refuse_overlap(dx, "out", dy, "dy", true);
  refuse_overlap(dx, "out", x, "x", true);
  if (a.output && !f.parameters.empty()) require_from_output(f, a);
  by_dtype(dy, [&](auto t) {
    using T = decltype(t);
    const Computation computation(dy.size());
    activation_gradient<T>(f.id, dy.data<T>(), x.data<T>(), a.output, dx.data<T>(), dy.size(), static_cast<T>(a.p[0]),
                           static_cast<T>(a.p[1]));
  });
  return dx.object().inc_ref().ptr();
}

PyObject* call(PyObject* self, PyObject* const* args, Py_ssize_t n, PyObject* names) {
  auto* const f = static_cast<Builtin*>(PyCapsule_GetPointer(self, "fastnn.activation"));
  try {
    const Arguments a = parse(*f, args, n, names);
    return f->backward ? backward(*f, a) : forward(*f, a);
  } catch (py::error_already_set& e) {
    e.restore();
  } catch (const py::builtin_exception& e) {
    e.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  }
  return nullptr;
}

py::object make_builtin(const std::string& name, int id, bool is_backward, const py::object& from_output,
                        const py::dict& defaults, const std::string& doc) {
  auto f = std::make_unique<Builtin>();
  f->id = id;
  f->backward = is_backward;
  f->output_form = is_backward && !from_output.is_none();
  f->from_output = from_output;
  f->name = name + (is_backward ? "_backward" : "");
  std::string signature = f->name + (is_backward ? "(dy, x" : "(x");
  for (const auto& item : defaults) {
    const auto parameter = item.first.cast<std::string>();
    signature += ", " + parameter + "=" + std::string(py::repr(item.second));
    f->parameters.push_back({parameter, item.second.cast<double>(), PyUnicode_InternFromString(parameter.c_str())});
  }
  if (f->parameters.size() > 2) throw py::value_error("an activation has at most two parameters");
  f->doc = signature + (f->output_form ? ", *, output=False, out=None)" : ", *, out=None)") + "\n--\n\n" + doc;
  f->method = {f->name.c_str(), reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(call)),
               METH_FASTCALL | METH_KEYWORDS, f->doc.c_str()};
  Builtin* const kept = f.release();  // builtins of a module are never freed
  const py::capsule self(kept, "fastnn.activation");
  const py::str module("fastnn.functional");
  return py::reinterpret_steal<py::object>(PyCFunction_NewEx(&kept->method, self.ptr(), module.ptr()));
}

py::tuple activation_builtins(const std::string& name, const py::dict& defaults, const py::object& from_output,
                              const std::string& doc, const std::string& backward_doc) {
  const Kernels<float>& k = kernels<float>();
  for (int id = 0; id < k.activation_count; ++id) {
    if (name != k.activations[id].name) continue;
    if (from_output.is_none() == (k.activations[id].backward_output != nullptr))
      throw py::value_error(name + ": the kernel and the declaration must agree on a backward from the output");
    return py::make_tuple(make_builtin(name, id, false, from_output, defaults, doc),
                          make_builtin(name, id, true, from_output, defaults, backward_doc));
  }
  throw py::value_error("no kernel of an activation '" + name + "'");
}

py::tuple activation_names() {
  const Kernels<float>& k = kernels<float>();
  py::tuple names(static_cast<std::size_t>(k.activation_count));
  for (int id = 0; id < k.activation_count; ++id) names[static_cast<std::size_t>(id)] = k.activations[id].name;
  return names;
}

}  // namespace

void bind_activations(py::module_& m) {
  m.def("activation_builtins", activation_builtins, py::arg("name"), py::arg("defaults"), py::arg("from_output"),
        py::arg("doc"), py::arg("backward_doc"),
        "The builtins (forward, backward) of an activation of the kernel table.");
  m.def("activation_names", activation_names, "Names in the kernel table, in the order of their numbers.");
}

}  // namespace fastnn
