#include "array.hpp"

#include <pybind11/numpy.h>  // for its table of NumPy's C API: no NumPy headers are needed to build

#include <algorithm>
#include <string>

#include "../memory.hpp"

namespace fastnn {

using npy = py::detail::npy_api;

namespace {

py::detail::PyArray_Proxy* proxy(py::handle h) {
  return py::detail::array_proxy(h.ptr());
}

bool is_array(py::handle h) {
  const PyTypeObject* type = npy::get().PyArray_Type_;
  return Py_TYPE(h.ptr()) == type || PyObject_TypeCheck(h.ptr(), const_cast<PyTypeObject*>(type));
}

int type_num(py::handle h) {
  return py::detail::array_descriptor_proxy(proxy(h)->descr)->type_num;
}

bool native(py::handle h) {
  const char order = py::detail::array_descriptor_proxy(proxy(h)->descr)->byteorder;
  return order != (PY_LITTLE_ENDIAN ? '>' : '<');
}

std::string shape_text(const Py_ssize_t* dims, int ndim) {
  std::string text = "(";
  for (int i = 0; i < ndim; ++i) text += (i > 0 ? ", " : "") + std::to_string(dims[i]);
  return text + (ndim == 1 ? ",)" : ")");
}

std::string shape_text(py::handle h) {
  return shape_text(proxy(h)->dimensions, proxy(h)->nd);
}

std::string dtype_text(py::handle h) {
  return py::str(py::handle(proxy(h)->descr));
}

const char* dtype_text(Dtype dtype) {
  return dtype == Dtype::f32 ? "float32" : dtype == Dtype::f64 ? "float64" : "int64";
}

std::string message(const char* name, const std::string& expected, const std::string& got) {
  return std::string(name) + ": expected " + expected + ", got " + got;
}

[[noreturn]] void refuse_type(py::handle h, const char* name, const std::string& expected) {
  if (!is_array(h)) throw py::type_error(message(name, "a NumPy array of " + expected, Py_TYPE(h.ptr())->tp_name));
  throw py::type_error(message(name, expected, dtype_text(h) + (native(h) ? "" : " (not in native byte order)")));
}

// float32 or float64, or a TypeError.
Dtype float_dtype(py::handle h, const char* name) {
  if (is_array(h) && native(h)) {
    const int num = type_num(h);
    if (num == npy::NPY_FLOAT_) return Dtype::f32;
    if (num == npy::NPY_DOUBLE_) return Dtype::f64;
  }
  refuse_type(h, name, "float32 or float64");
}

void require_dtype(py::handle h, const char* name, Dtype dtype) {
  if (float_dtype(h, name) != dtype) refuse_type(h, name, dtype_text(dtype));
}

void require_shape(py::handle h, const char* name, const Py_ssize_t* dims, int ndim) {
  const auto* a = proxy(h);
  bool same = a->nd == ndim;
  for (int i = 0; same && i < ndim; ++i) same = a->dimensions[i] == dims[i];
  if (!same) throw py::value_error(message(name, "shape " + shape_text(dims, ndim), shape_text(h)));
}

void require_length(py::handle h, const char* name, index n) {
  const Py_ssize_t dims = static_cast<Py_ssize_t>(n);
  require_shape(h, name, &dims, 1);
}

bool has_flags(py::handle h, int flags) {
  return (proxy(h)->flags & flags) == flags;
}

constexpr int readable = npy::NPY_ARRAY_C_CONTIGUOUS_ | npy::NPY_ARRAY_ALIGNED_;

void release_capsule(PyObject* capsule) {
  void* data = PyCapsule_GetPointer(capsule, nullptr);
  memory::release({data, reinterpret_cast<std::size_t>(PyCapsule_GetContext(capsule))});
}

// The owner that puts the block back when the last array on it dies.
py::object owner_of(Block block) {
  py::object capsule = py::reinterpret_steal<py::object>(PyCapsule_New(block.data, nullptr, release_capsule));
  if (!capsule) {
    memory::release(block);
    throw py::error_already_set();
  }
  PyCapsule_SetContext(capsule.ptr(), reinterpret_cast<void*>(block.bytes));
  return capsule;
}

int numpy_type(Dtype dtype) {
  return dtype == Dtype::f32 ? npy::NPY_FLOAT_ : dtype == Dtype::f64 ? npy::NPY_DOUBLE_ : npy::NPY_INT64_;
}

py::object new_array(const Py_ssize_t* dims, int ndim, Dtype dtype) {
  const npy& api = npy::get();
  std::size_t bytes = dtype == Dtype::f32 ? 4 : 8;
  for (int i = 0; i < ndim; ++i) {
    const std::size_t n = static_cast<std::size_t>(dims[i]);
    if (n > 0 && bytes > SIZE_MAX / n) throw std::bad_alloc();
    bytes *= n;
  }
  py::object base;
  void* data = nullptr;
  if (bytes >= cached_bytes) {
    const Block block = memory::allocate(bytes);
    data = block.data;
    base = owner_of(block);
  }
  PyObject* made =
      api.PyArray_NewFromDescr_(api.PyArray_Type_, api.PyArray_DescrFromType_(numpy_type(dtype)), ndim, dims, nullptr,
                                data, data != nullptr ? readable | npy::NPY_ARRAY_WRITEABLE_ : 0, nullptr);
  if (made == nullptr) throw py::error_already_set();
  py::object array = py::reinterpret_steal<py::object>(made);
  if (base && api.PyArray_SetBaseObject_(made, base.release().ptr()) != 0) throw py::error_already_set();
  return array;
}

py::object contiguous_copy(py::handle h, Dtype dtype) {
  const npy& api = npy::get();
  PyObject* copy = api.PyArray_FromAny_(h.ptr(), api.PyArray_DescrFromType_(numpy_type(dtype)), 0, 0,
                                        readable | npy::NPY_ARRAY_FORCECAST_ | npy::NPY_ARRAY_ENSUREARRAY_, nullptr);
  if (copy == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(copy);
}

}  // namespace

struct ArrayMaker {
  static Array wrap(py::object object, Dtype dtype) {
    const auto* a = proxy(object);
    Array array;
    array.data_ = a->data;
    array.dims_ = a->dimensions;
    array.ndim_ = a->nd;
    array.dtype_ = dtype;
    index size = 1;
    for (int i = 0; i < a->nd; ++i) size *= static_cast<index>(a->dimensions[i]);
    array.size_ = size;
    array.low_ = a->data;
    array.high_ = a->data + array.nbytes();
    array.object_ = std::move(object);
    return array;
  }

  static Array input(py::object source, Dtype dtype) {
    return has_flags(source, readable) ? wrap(std::move(source), dtype) : copy(std::move(source), dtype);
  }

  static Array copy(py::object source, Dtype dtype) {
    Array array = wrap(contiguous_copy(source, dtype), dtype);
    const auto* a = proxy(source);
    const char *low = a->data, *high = a->data;
    for (int i = 0; i < a->nd; ++i) {
      const Py_ssize_t reach = (a->dimensions[i] - 1) * a->strides[i];
      (reach < 0 ? low : high) += reach;
    }
    array.low_ = low;
    array.high_ = array.size_ > 0 ? high + py::reinterpret_borrow<py::array>(source).itemsize() : low;
    array.copied_ = true;
    array.source_ = std::move(source);
    return array;
  }
};

bool Array::same_shape(const Array& other) const {
  if (ndim_ != other.ndim_) return false;
  for (int i = 0; i < ndim_; ++i)
    if (dims_[i] != other.dims_[i]) return false;
  return true;
}

namespace {

const Py_ssize_t* dims_of(const Array& a) {
  return proxy(a.object())->dimensions;
}

void require_like(py::handle h, const char* name, const Array& like) {
  require_dtype(h, name, like.dtype());
  require_shape(h, name, dims_of(like), like.ndim());
}

// What is to be written, of a dtype that has been checked.
Array writeable(py::handle h, const char* name, Dtype dtype) {
  as_array(h, name);  // refuses masked arrays: what is written would be hidden, or seen under an old mask
  if (!has_flags(h, npy::NPY_ARRAY_WRITEABLE_))
    throw py::value_error(message(name, "a writeable array", "a read-only one"));
  if (!has_flags(h, npy::NPY_ARRAY_C_CONTIGUOUS_))
    throw py::value_error(message(name, "a C-contiguous array", "one with other strides"));
  if (!has_flags(h, npy::NPY_ARRAY_ALIGNED_))
    throw py::value_error(message(name, "an aligned array", "an unaligned one"));
  return ArrayMaker::wrap(py::reinterpret_borrow<py::object>(h), dtype);
}

}  // namespace

py::object as_array(py::handle h, const char* name) {
  if (Py_TYPE(h.ptr()) == npy::get().PyArray_Type_) return py::reinterpret_borrow<py::object>(h);
  return py::module_::import("fastnn._convert").attr("as_array")(name, h);
}

Array in(py::handle h, const char* name) {
  py::object given = as_array(h, name);
  const Dtype dtype = float_dtype(given, name);
  return ArrayMaker::input(std::move(given), dtype);
}

Array in(py::handle h, const char* name, const Array& like) {
  py::object given = as_array(h, name);
  require_like(given, name, like);
  return ArrayMaker::input(std::move(given), like.dtype());
}

Array in(py::handle h, const char* name, const Shape& like) {
  py::object given = as_array(h, name);
  require_dtype(given, name, like.dtype);
  if (proxy(given)->nd == like.ndim && like.ndim > Shape::kMost) {
    const Array array = ArrayMaker::input(std::move(given), like.dtype);
    if (array.size() == like.size) return array;
    throw py::value_error(message(name, std::to_string(like.size) + " elements", std::to_string(array.size())));
  }
  Py_ssize_t dims[Shape::kMost];
  std::copy_n(like.dims, std::min(like.ndim, Shape::kMost), dims);
  require_shape(given, name, dims, std::min(like.ndim, Shape::kMost));
  return ArrayMaker::input(std::move(given), like.dtype);
}

Array vec(py::handle h, const char* name, index n) {
  py::object given = as_array(h, name);
  const Dtype dtype = float_dtype(given, name);
  require_length(given, name, n);
  return ArrayMaker::input(std::move(given), dtype);
}

Array vec(py::handle h, const char* name, index n, const Array& like) {
  py::object given = as_array(h, name);
  require_dtype(given, name, like.dtype());
  require_length(given, name, n);
  return ArrayMaker::input(std::move(given), like.dtype());
}

Array in_broadcast(py::handle h, const char* name, const Array& like) {
  const Array given = in(h, name);
  const py::object& source = given.source();
  require_dtype(source, name, like.dtype());
  if (given.same_shape(like)) return given;
  const auto* a = proxy(source);
  bool fits = a->nd <= like.ndim();
  for (int i = 1; fits && i <= a->nd; ++i) {
    const index dim = a->dimensions[a->nd - i];
    fits = dim == 1 || dim == like.shape(like.ndim() - i);
  }
  if (!fits)
    throw py::value_error(
        message(name, "a shape that broadcasts to " + shape_text(dims_of(like), like.ndim()), shape_text(source)));
  const py::object shape = py::reinterpret_borrow<py::object>(like.object()).attr("shape");
  return ArrayMaker::input(py::module_::import("numpy").attr("broadcast_to")(source, shape), like.dtype());
}

bool is_float(py::handle h) {
  return is_array(h) && (type_num(h) == npy::NPY_FLOAT_ || type_num(h) == npy::NPY_DOUBLE_);
}

Array integers(py::handle h, const char* name, const std::vector<index>& shape) {
  py::object given = as_array(h, name);
  if (!is_array(given) || type_num(given) < npy::NPY_BYTE_ || type_num(given) > npy::NPY_ULONGLONG_)
    refuse_type(given, name, "an integer dtype");
  const std::vector<Py_ssize_t> dims(shape.begin(), shape.end());
  require_shape(given, name, dims.data(), static_cast<int>(dims.size()));
  const int num = type_num(given);
  if (num == npy::NPY_INT64_ && native(given)) return ArrayMaker::input(std::move(given), Dtype::i64);
  const Array copy = ArrayMaker::copy(std::move(given), Dtype::i64);
  const bool wraps = num == npy::NPY_ULONG_ || num == npy::NPY_ULONGLONG_;
  const index* const values = copy.data<index>();
  if (wraps && std::any_of(values, values + copy.size(), [](index value) { return value < 0; }))
    throw py::value_error(message(name, "integers below 2**63", "larger ones"));
  return copy;
}

Array integers(py::handle h, const char* name) {
  const py::object given = as_array(h, name);
  const bool some = is_array(given) && proxy(given)->nd > 0;
  return integers(given, name, {some ? static_cast<index>(proxy(given)->dimensions[0]) : 0});
}

Array update(py::handle h, const char* name) {
  return writeable(h, name, float_dtype(h, name));
}

Array update(py::handle h, const char* name, const Array& like) {
  require_like(h, name, like);
  return writeable(h, name, like.dtype());
}

Array update_vec(py::handle h, const char* name, index n) {
  const Dtype dtype = float_dtype(h, name);
  require_length(h, name, n);
  return writeable(h, name, dtype);
}

Array out(py::handle h, const char* name, const Array& like) {
  if (h.is_none()) return empty_like(like);
  return update(h, name, like);
}

Array out(py::handle h, const char* name, const std::vector<index>& shape, Dtype dtype) {
  if (h.is_none()) return empty(shape, dtype);
  const std::vector<Py_ssize_t> dims(shape.begin(), shape.end());
  require_dtype(h, name, dtype);
  require_shape(h, name, dims.data(), static_cast<int>(dims.size()));
  return writeable(h, name, dtype);
}

Array empty(const std::vector<index>& shape, Dtype dtype) {
  const std::vector<Py_ssize_t> dims(shape.begin(), shape.end());
  return ArrayMaker::wrap(new_array(dims.data(), static_cast<int>(dims.size()), dtype), dtype);
}

Array empty_like(const Array& like) {
  return ArrayMaker::wrap(new_array(dims_of(like), like.ndim(), like.dtype()), like.dtype());
}

std::optional<Array> maybe_in(py::handle h, const char* name, const Array& like) {
  if (h.is_none()) return std::nullopt;
  return in(h, name, like);
}

std::optional<Array> maybe_vec(py::handle h, const char* name, index n) {
  if (h.is_none()) return std::nullopt;
  return vec(h, name, n);
}

std::optional<Array> maybe_vec(py::handle h, const char* name, index n, const Array& like) {
  if (h.is_none()) return std::nullopt;
  return vec(h, name, n, like);
}

std::optional<Array> maybe_update_vec(py::handle h, const char* name, index n) {
  if (h.is_none()) return std::nullopt;
  return update_vec(h, name, n);
}

py::object object_or_none(const std::optional<Array>& a) {
  return a ? a->object() : py::none();
}

py::object source_or_none(const std::optional<Array>& a) {
  return a ? a->source() : py::none();
}

Shape shape_of(const Array& a) {
  Shape shape{a.ndim(), a.dtype(), a.size(), {}};
  for (int d = 0; d < std::min(a.ndim(), Shape::kMost); ++d) shape.dims[d] = a.shape(d);
  return shape;
}

bool overlap(const Array& a, const Array& b) {
  return a.low() < b.high() && b.low() < a.high();
}

void refuse_overlap(const Array& written, const char* written_name, const Array& other, const char* other_name,
                    bool exact_ok) {
  if (!overlap(written, other)) return;
  const bool exact = written.low() == other.low() && written.high() == other.high() && !other.copied();
  if (exact && exact_ok) return;
  throw py::value_error(message(written_name, std::string("memory of its own, apart from ") + other_name,
                                exact ? "the same memory" : "memory that overlaps it"));
}

int normalise_axis(const Array& a, const char* name, index axis, const char* axis_name) {
  if (axis >= -a.ndim() && axis < a.ndim()) return static_cast<int>(axis < 0 ? axis + a.ndim() : axis);
  throw py::value_error(message(axis_name, "an axis of " + std::string(name) + " with shape " + shape_text(a.object()),
                                std::to_string(axis)));
}

}  // namespace fastnn
