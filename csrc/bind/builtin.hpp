// Builtins: what fastnn.functional calls without a Python frame in between. Their signature, defaults and documentation
// are those of a declaration in Python, so help() shows what is written there; arguments arrive here by their place in
// it.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "../contract.hpp"

namespace fastnn {

namespace py = pybind11;

constexpr int kMaxParameters = 24;  // at most 32

class Arguments {
 public:
  py::handle operator[](int place) const { return values_[place]; }
  bool given(int place) const { return values_[place] != Py_None; }
  double number(int place) const;  // TypeError for what is not a number
  index integer(int place) const;  // TypeError for what is not an integer, ValueError beyond 64 bits
  bool truth(int place) const;     // as Python's bool()
  const char* name(int place) const { return names_[place]; }
  void* context() const { return context_; }  // what make_builtin was given

 private:
  friend struct Call;
  PyObject* values_[kMaxParameters];
  const char* const* names_;
  void* context_;
};

using Body = py::object (*)(const Arguments&);

// What a module of the binding has to offer; the declaration in Python must have the same parameters.
struct Definition {
  const char* name;
  std::vector<const char*> parameters;
  Body body;
};
void define(const Definition& definition);

// A builtin: `parameters`, of which the first `positional` may be given by position; `defaults` by name; `doc` starts
// with the signature, as inspect expects it.
py::object make_builtin(const std::string& name, const std::vector<std::string>& parameters, int positional,
                        const py::dict& defaults, const std::string& doc, Body body, void* context = nullptr);

// A tuple of those that are there.
template <class... Objects>
py::object tuple_of(const Objects&... objects) {
  PyObject* tuple = PyTuple_Pack(sizeof...(objects), objects.ptr()...);
  if (tuple == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(tuple);
}

}  // namespace fastnn
