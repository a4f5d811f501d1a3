#include "builtin.hpp"

#include <pybind11/stl.h>

#include <cstdint>
#include <map>
#include <memory>
#include <new>

namespace fastnn {
namespace {

// What one builtin knows of itself; lives as long as the process.
struct Builtin {
  std::string name, doc;
  std::vector<std::string> parameters;
  std::vector<const char*> names;
  std::vector<PyObject*> keys;      // interned
  std::vector<PyObject*> defaults;  // nullptr: required
  int positional;
  Body body;
  void* context;
  PyMethodDef method;
};

std::map<std::string, Definition>& definitions() {
  static std::map<std::string, Definition> all;
  return all;
}

[[noreturn]] void refuse(const Builtin& f, const std::string& what) {
  throw py::type_error(f.name + "(): " + what);
}

}  // namespace

struct Call {
  // torch's names of arguments and ours, which are taken as well.
  static constexpr const char* kSynonyms[][2] = {{"input", "x"},      {"input", "logits"},  {"input", "log_probs"},
                                                 {"input", "scores"}, {"target", "labels"}, {"dim", "axis"}};

  // Python's own names are interned, so comparing addresses nearly always finds them, most often behind the last one.
  static int place_of(const Builtin& f, PyObject* key, int after) {
    const int count = static_cast<int>(f.keys.size());
    for (int k = after; k < count; ++k)
      if (f.keys[static_cast<std::size_t>(k)] == key) return k;
    for (int k = 0; k < count; ++k)
      if (PyUnicode_Compare(f.keys[static_cast<std::size_t>(k)], key) == 0) return k;
    for (const auto& [theirs, ours] : kSynonyms)
      if (PyUnicode_CompareWithASCIIString(key, theirs) == 0)
        for (int k = 0; k < count; ++k)
          if (f.parameters[static_cast<std::size_t>(k)] == ours) return k;
    refuse(f, "got an unexpected argument '" + std::string(py::str(py::handle(key))) + "'");
  }

  static void parse(const Builtin& f, PyObject* const* args, Py_ssize_t n, PyObject* keywords, Arguments& a) {
    if (n > f.positional)
      refuse(f, "expected at most " + std::to_string(f.positional) + " positional arguments, got " + std::to_string(n));
    const std::size_t count = f.keys.size(), given = static_cast<std::size_t>(n);
    for (std::size_t k = 0; k < given; ++k) a.values_[k] = args[k];
    for (std::size_t k = given; k < count; ++k) a.values_[k] = f.defaults[k];
    const Py_ssize_t named = keywords != nullptr ? PyTuple_GET_SIZE(keywords) : 0;
    int after = static_cast<int>(n);
    std::uint32_t seen = 0;
    for (Py_ssize_t i = 0; i < named; ++i) {
      const int place = place_of(f, PyTuple_GET_ITEM(keywords, i), after);
      if (place < n || (seen >> place & 1) != 0)
        refuse(f, "got several values for '" + f.parameters[static_cast<std::size_t>(place)] + "'");
      seen |= std::uint32_t{1} << place;
      a.values_[place] = args[n + i];
      after = place + 1;
    }
    for (std::size_t k = given; k < count; ++k)
      if (a.values_[k] == nullptr) refuse(f, "missing argument '" + f.parameters[k] + "'");
    a.names_ = f.names.data();
    a.context_ = f.context;
  }

  static PyObject* run(PyObject* self, PyObject* const* args, Py_ssize_t n, PyObject* keywords) {
    const auto* const f = static_cast<const Builtin*>(PyCapsule_GetPointer(self, nullptr));
    try {
      Arguments a;
      parse(*f, args, n, keywords, a);
      return f->body(a).release().ptr();
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
};

double Arguments::number(int place) const {
  PyObject* const value = values_[place];
  if (PyFloat_CheckExact(value)) return PyFloat_AS_DOUBLE(value);
  const double v = PyFloat_AsDouble(value);
  if (v == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    throw py::type_error(std::string(names_[place]) + ": expected a number, got " +
                         std::string(py::repr(py::handle(value))));
  }
  return v;
}

index Arguments::integer(int place) const {
  const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(values_[place]));
  if (!number) {
    PyErr_Clear();
    throw py::type_error(std::string(names_[place]) + ": expected an integer, got " +
                         std::string(py::repr(py::handle(values_[place]))));
  }
  int overflow = 0;
  const long long v = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  if (overflow != 0)
    throw py::value_error(std::string(names_[place]) + ": expected an integer of 64 bits, got " +
                          std::string(py::repr(number)));
  return v;
}

bool Arguments::truth(int place) const {
  if (values_[place] == Py_True) return true;
  if (values_[place] == Py_False) return false;
  const int truth = PyObject_IsTrue(values_[place]);
  if (truth < 0) throw py::error_already_set();
  return truth == 1;
}

void define(const Definition& definition) {
  definitions()[definition.name] = definition;
}

py::object make_builtin(const std::string& name, const std::vector<std::string>& parameters, int positional,
                        const py::dict& defaults, const std::string& doc, Body body, void* context) {
  if (parameters.size() > kMaxParameters) throw py::value_error(name + ": too many parameters");
  auto f = std::make_unique<Builtin>();
  f->name = name;
  f->doc = doc;
  f->parameters = parameters;
  for (const std::string& parameter : f->parameters) {
    f->names.push_back(parameter.c_str());
    f->keys.push_back(PyUnicode_InternFromString(parameter.c_str()));
    const bool optional = defaults.contains(parameter);
    f->defaults.push_back(optional ? py::object(defaults[parameter.c_str()]).release().ptr() : nullptr);
  }
  f->positional = positional;
  f->body = body;
  f->context = context;
  f->method = {f->name.c_str(), reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(Call::run)),
               METH_FASTCALL | METH_KEYWORDS, f->doc.c_str()};
  Builtin* const kept = f.release();  // builtins of a module are never freed
  const py::capsule self(kept);
  const py::str module("fastnn.functional");
  return py::reinterpret_steal<py::object>(PyCFunction_NewEx(&kept->method, self.ptr(), module.ptr()));
}

void bind_builtins(py::module_& m) {
  m.def(
      "builtin",
      [](const std::string& name, const std::vector<std::string>& parameters, int positional, const py::dict& defaults,
         const std::string& doc) {
        const auto found = definitions().find(name);
        if (found == definitions().end()) throw py::value_error("no builtin '" + name + "'");
        const std::vector<std::string> expected(found->second.parameters.begin(), found->second.parameters.end());
        if (parameters != expected)
          throw py::value_error(name + ": the declaration and the extension must agree on the parameters");
        return make_builtin(name, parameters, positional, defaults, doc, found->second.body);
      },
      py::arg("name"), py::arg("parameters"), py::arg("positional"), py::arg("defaults"), py::arg("doc"),
      "The builtin `name` with the signature of a declaration; see fastnn.functional._builtin.");
  m.def(
      "builtin_names",
      [] {
        std::vector<std::string> names;
        for (const auto& entry : definitions()) names.push_back(entry.first);
        return names;
      },
      "What `builtin` can make.");
}

}  // namespace fastnn
