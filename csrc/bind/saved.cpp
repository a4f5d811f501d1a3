#include "saved.hpp"

#include <cstring>
#include <string>

#include "../memory.hpp"
#include "builtin.hpp"

namespace fastnn {
namespace {

PyTypeObject* saved_type = nullptr;

Saved& self_of(PyObject* object) {
  return *reinterpret_cast<Saved*>(object);
}

// Calls f(name, array) for those that are there.
template <class F>
void for_arrays(const Saved& saved, const F& f) {
  for (int k = 0; k < kMaxKept && saved.kind->arrays[k] != nullptr; ++k)
    if (saved.arrays[k] != Py_None) f(saved.kind->arrays[k], py::handle(saved.arrays[k]));
}

// Arrays of numbers refer to nothing, so there are no cycles for the garbage collector to find.
void dealloc(PyObject* object) {
  Saved& self = self_of(object);
  for (PyObject* array : self.arrays) Py_XDECREF(array);
  if (self.reserved > 0)
    memory::release({self.block, self.reserved});
  else
    delete[] self.block;
  PyTypeObject* const type = Py_TYPE(object);
  PyObject_Free(object);
  Py_DECREF(type);
}

PyObject* arrays(PyObject* object, void*) {
  py::list list;
  for_arrays(self_of(object), [&](const char*, py::handle array) { list.append(array); });
  return py::tuple(list).release().ptr();
}

PyObject* own_nbytes(PyObject* object, void*) {
  return PyLong_FromSize_t(self_of(object).block_bytes);
}

PyObject* nbytes(PyObject* object, void*) {
  std::size_t bytes = self_of(object).block_bytes;
  for_arrays(self_of(object),
             [&](const char*, py::handle array) { bytes += array.attr("nbytes").cast<std::size_t>(); });
  return PyLong_FromSize_t(bytes);
}

PyObject* attribute(PyObject* object, PyObject* name) {
  PyObject* const found = PyObject_GenericGetAttr(object, name);
  if (found != nullptr || !PyErr_ExceptionMatches(PyExc_AttributeError)) return found;
  const SavedKind& kind = *self_of(object).kind;
  for (int k = 0; k < kMaxKept && kind.arrays[k] != nullptr; ++k)
    if (PyUnicode_CompareWithASCIIString(name, kind.arrays[k]) == 0) {
      PyErr_Clear();
      return py::handle(self_of(object).arrays[k]).inc_ref().ptr();
    }
  return nullptr;
}

PyObject* repr(PyObject* object) {
  std::string text = "<kept by " + std::string(self_of(object).kind->op) + ":";
  for_arrays(self_of(object), [&](const char* name, py::handle array) {
    text += std::string(" ") + name + " " + std::string(py::str(array.attr("shape")));
  });
  text += " and " + std::to_string(self_of(object).block_bytes) + " bytes of its own>";
  return PyUnicode_FromString(text.c_str());
}

}  // namespace

py::object new_saved(const SavedKind& kind, std::size_t bytes) {
  Saved* const self = PyObject_New(Saved, saved_type);
  if (self == nullptr) throw py::error_already_set();
  self->kind = &kind;
  self->block = nullptr;
  self->block_bytes = self->reserved = 0;
  for (PyObject*& array : self->arrays) {
    Py_INCREF(Py_None);
    array = Py_None;
  }
  py::object object = py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(self));
  if (bytes >= cached_bytes) {
    const Block block = memory::allocate(bytes);
    self->block = static_cast<unsigned char*>(block.data);
    self->reserved = block.bytes;
  } else if (bytes > 0) {
    self->block = new unsigned char[bytes];
  }
  self->block_bytes = bytes;
  return object;
}

Saved& saved_of(py::handle h, const SavedKind& kind) {
  if (Py_TYPE(h.ptr()) == saved_type && self_of(h.ptr()).kind == &kind) return self_of(h.ptr());
  std::string got = py::str(py::type::of(h).attr("__module__")).cast<std::string>() + "." +
                    py::str(py::type::of(h).attr("__qualname__")).cast<std::string>();
  if (Py_TYPE(h.ptr()) == saved_type) got = "what " + std::string(self_of(h.ptr()).kind->op) + " has kept";
  throw py::type_error("saved: expected what fastnn.functional." + std::string(kind.op) + " has kept, got " + got +
                       "; a backward pass runs on the implementation that ran its forward pass, inside use_reference "
                       "or outside");
}

void bind_saved(py::module_& m) {
  static PyGetSetDef getters[] = {
      {"arrays", arrays, nullptr, "All arrays held by reference.", nullptr},
      {"own_nbytes", own_nbytes, nullptr, "Bytes of the small arrays that were copied.", nullptr},
      {"nbytes", nbytes, nullptr, "Bytes of everything held, references included.", nullptr},
      {nullptr, nullptr, nullptr, nullptr, nullptr}};
  static PyType_Slot slots[] = {
      {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
      {Py_tp_getset, getters},
      {Py_tp_getattro, reinterpret_cast<void*>(attribute)},
      {Py_tp_repr, reinterpret_cast<void*>(repr)},
      {Py_tp_doc, const_cast<char*>("What a forward pass keeps for its backward pass: arrays by reference, and small "
                                    "ones of its own.")},
      {0, nullptr}};
  static PyType_Spec spec = {"fastnn._core.Saved", sizeof(Saved), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
  PyObject* const type = PyType_FromSpec(&spec);
  if (type == nullptr) throw py::error_already_set();
  saved_type = reinterpret_cast<PyTypeObject*>(type);
  m.attr("Saved") = py::reinterpret_steal<py::object>(type);
}

}  // namespace fastnn
