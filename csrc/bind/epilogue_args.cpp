#include "epilogue_args.hpp"

#include <structmember.h>

#include <limits>
#include <string>

namespace fastnn {
namespace {

PyTypeObject* spec_type = nullptr;
PyTypeObject* generator_type = nullptr;
PyObject* specs_by_name = nullptr;      // fastnn.functional.activations: name -> spec with the default parameters
PyObject* default_generator = nullptr;  // fastnn.random.default_generator

// A type with plain members, to be derived from in Python.
PyTypeObject* base_type(py::module_& m, const char* attribute, PyType_Spec& spec) {
  PyObject* const type = PyType_FromSpec(&spec);
  if (type == nullptr) throw py::error_already_set();
  m.attr(attribute) = py::handle(type);
  return reinterpret_cast<PyTypeObject*>(type);
}

void replace(PyObject*& slot, const py::object& value) {
  PyObject* const old = slot;
  slot = value.inc_ref().ptr();
  Py_XDECREF(old);
}

template <std::atomic<unsigned long long> Generator::* member>
PyObject* get(PyObject* self, void*) {
  return PyLong_FromUnsignedLongLong((reinterpret_cast<Generator*>(self)->*member).load());
}

template <std::atomic<unsigned long long> Generator::* member>
int set(PyObject* self, PyObject* value, void*) {
  const unsigned long long number = value != nullptr ? PyLong_AsUnsignedLongLong(value) : 0;
  if (value == nullptr) PyErr_SetString(PyExc_TypeError, "the state of a generator cannot be deleted");
  if (PyErr_Occurred() != nullptr) return -1;
  (reinterpret_cast<Generator*>(self)->*member).store(number);
  return 0;
}

// Hands out n positions; returns the first of them.
PyObject* reserve(PyObject* self, PyObject* n) {
  const unsigned long long count = PyLong_AsUnsignedLongLong(n);
  if (PyErr_Occurred() != nullptr) return nullptr;
  return PyLong_FromUnsignedLongLong(reinterpret_cast<Generator*>(self)->position.fetch_add(count));
}

}  // namespace

const Spec* spec_in(const Arguments& a, int place) {
  if (!a.given(place)) return nullptr;
  PyObject* const value = a[place].ptr();
  if (PyObject_TypeCheck(value, spec_type)) return reinterpret_cast<const Spec*>(value);
  if (PyUnicode_Check(value)) {
    PyObject* const found = PyDict_GetItemWithError(specs_by_name, value);
    if (found != nullptr) return reinterpret_cast<const Spec*>(found);
    if (PyErr_Occurred()) throw py::error_already_set();
  }
  std::string names;
  for (const auto& known : py::list(py::reinterpret_borrow<py::object>(specs_by_name)))
    names += std::string(py::repr(known)) + ", ";
  throw py::value_error(std::string(a.name(place)) + ": expected None, " + names + "or a spec from fastnn.act, got " +
                        std::string(py::repr(py::handle(value))));
}

double probability(const Arguments& a, int place) {
  const double p = a.number(place);
  if (!(p >= 0 && p <= 1))
    throw py::value_error(std::string(a.name(place)) + ": expected a probability in [0, 1], got " +
                          std::string(py::str(a[place])));
  return p;
}

TailArgs tail_in(const Arguments& a, const Spec* spec, double dropout, int first, index elements) {
  TailArgs tail = no_tail;
  if (spec != nullptr) {
    tail.activation = spec->id;
    tail.p0 = spec->p0;
    tail.p1 = spec->p1;
  }
  {
    const parallel::FloatMode standard;
    tail.threshold = keep_threshold(dropout);
    tail.keep_scale = inverted_scale(tail.threshold);
  }
  tail.first = a.integer(first);
  if (tail.first < 0 || tail.first > std::numeric_limits<index>::max() - elements)
    throw py::value_error("first: expected an index >= 0, with first + x.size < 2**63, got " +
                          std::to_string(tail.first));
  return tail;
}

Draw::Draw(const Arguments& a, int rng, TailArgs& tail) {
  if (tail.threshold < 0) return;
  PyObject* const given = a.given(rng) ? a[rng].ptr() : default_generator;
  if (!PyObject_TypeCheck(given, generator_type))
    throw py::type_error(std::string(a.name(rng)) + ": expected None or a fastnn.random.Generator, got " +
                         Py_TYPE(given)->tp_name);
  generator_ = reinterpret_cast<Generator*>(given);
  position_ = generator_->position++;
  tail.seed = generator_->seed;
  tail.position = position_;
}

void Draw::undo() const {
  unsigned long long next = position_ + 1;
  if (generator_ != nullptr) generator_->position.compare_exchange_strong(next, position_);
}

void bind_epilogue(py::module_& m) {
  static PyMemberDef spec_members[] = {
      {const_cast<char*>("id"), T_INT, offsetof(Spec, id), 0, nullptr},
      {const_cast<char*>("p0"), T_DOUBLE, offsetof(Spec, p0), 0, nullptr},
      {const_cast<char*>("p1"), T_DOUBLE, offsetof(Spec, p1), 0, nullptr},
      {const_cast<char*>("from_output"), T_BOOL, offsetof(Spec, from_output), 0, nullptr},
      {const_cast<char*>("sign_only"), T_BOOL, offsetof(Spec, sign_only), 0, nullptr},
      {nullptr, 0, 0, 0, nullptr}};
  static PyType_Slot spec_slots[] = {{Py_tp_members, spec_members}, {0, nullptr}};
  static PyType_Spec spec = {"fastnn._core.Spec", sizeof(Spec), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                             spec_slots};
  spec_type = base_type(m, "Spec", spec);

  static PyGetSetDef generator_numbers[] = {
      {"seed", get<&Generator::seed>, set<&Generator::seed>, nullptr, nullptr},
      {"position", get<&Generator::position>, set<&Generator::position>, nullptr, nullptr},
      {nullptr, nullptr, nullptr, nullptr, nullptr}};
  static PyMethodDef generator_methods[] = {{"_reserve", reserve, METH_O, "Hands out `n` positions."},
                                            {nullptr, nullptr, 0, nullptr}};
  static PyType_Slot generator_slots[] = {
      {Py_tp_getset, generator_numbers}, {Py_tp_methods, generator_methods}, {0, nullptr}};
  static PyType_Spec generator = {"fastnn._core.GeneratorState", sizeof(Generator), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, generator_slots};
  generator_type = base_type(m, "GeneratorState", generator);

  m.def(
      "set_activations", [](const py::dict& specs) { replace(specs_by_name, specs); }, py::arg("specs"),
      "Specs by name, as `activation=` takes them; the dictionary may grow.");
  m.def(
      "set_default_generator", [](const py::object& given) { replace(default_generator, given); }, py::arg("generator"),
      "The generator of `rng=None`.");
}

}  // namespace fastnn
