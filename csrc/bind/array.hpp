// NumPy arrays as arguments: each is checked once, here, and every message names the argument, what was
// expected and what came. TypeError for what is not an array or has the wrong dtype, ValueError for the rest.
// Inputs may be arrays of other libraries (fastnn/_convert.py); what is written is a NumPy array.
#pragma once

#include <pybind11/pybind11.h>

#include <initializer_list>
#include <optional>
#include <vector>

#include "../contract.hpp"
#include "../parallel.hpp"

namespace fastnn {

namespace py = pybind11;

enum class Dtype { f32, f64, i64 };

template <class T>
constexpr Dtype dtype_of() {
  return sizeof(T) == 4 ? Dtype::f32 : Dtype::f64;
}

// A C-contiguous array of native float32, float64 or (labels) int64, kept alive. Copies share the array.
class Array {
 public:
  template <class T>
  T* data() const {
    return static_cast<T*>(data_);
  }
  void* raw() const { return data_; }
  Dtype dtype() const { return dtype_; }
  bool is_f32() const { return dtype_ == Dtype::f32; }
  int ndim() const { return ndim_; }
  index shape(int axis) const { return static_cast<index>(dims_[axis]); }
  index size() const { return size_; }
  std::size_t nbytes() const { return static_cast<std::size_t>(size_) * (is_f32() ? 4 : 8); }
  const py::object& object() const { return object_; }
  // The argument itself, of whatever layout; of another library's array the NumPy array that stands for it.
  const py::object& source() const { return copied_ ? source_ : object_; }
  bool same_shape(const Array& other) const;
  // The memory the caller's argument occupies, which for a strided input is not this copy's.
  const char* low() const { return low_; }
  const char* high() const { return high_; }
  bool copied() const { return copied_; }

 private:
  friend struct ArrayMaker;
  py::object object_, source_;
  void* data_ = nullptr;
  const Py_ssize_t* dims_ = nullptr;
  index size_ = 0;
  const char* low_ = nullptr;
  const char* high_ = nullptr;
  int ndim_ = 0;
  Dtype dtype_ = Dtype::f32;
  bool copied_ = false;
};

// Shape and dtype of an array that is gone. Beyond 8 dimensions the size stands for the shape.
struct Shape {
  static constexpr int kMost = 8;
  int ndim;
  Dtype dtype;
  index size;
  index dims[kMost];
};
Shape shape_of(const Array& a);

// The argument where it is a NumPy array, or the NumPy array that stands for that of another library; what is no array
// comes back as it is.
py::object as_array(py::handle h, const char* name);

// Inputs: read-only is fine, any layout (a strided one is copied once).
Array in(py::handle h, const char* name);
Array in(py::handle h, const char* name, const Array& like);  // like's dtype and shape
Array in(py::handle h, const char* name, const Shape& like);
Array vec(py::handle h, const char* name, index n);                               // shape (n,), float32 or float64
Array vec(py::handle h, const char* name, index n, const Array& like);            // shape (n,), like's dtype
Array in_broadcast(py::handle h, const char* name, const Array& like);            // like, or a copy that is
Array integers(py::handle h, const char* name, const std::vector<index>& shape);  // any integer dtype, as int64
Array integers(py::handle h, const char* name);                                   // the same of shape (n,), any n
bool is_float(py::handle h);                                                      // an array of float32 or float64

// Written in place, never copied: C-contiguous, aligned, writeable.
Array update(py::handle h, const char* name);
Array update(py::handle h, const char* name, const Array& like);
Array update_vec(py::handle h, const char* name, index n);  // shape (n,), float32 or float64

// Outputs: a given array is checked as above, None allocates.
Array out(py::handle h, const char* name, const Array& like);
Array out(py::handle h, const char* name, const std::vector<index>& shape, Dtype dtype);

Array empty(const std::vector<index>& shape, Dtype dtype);  // uninitialised; from 64 KB on out of the cache
Array empty_like(const Array& like);

// The same for arguments that may be None.
std::optional<Array> maybe_in(py::handle h, const char* name, const Array& like);
std::optional<Array> maybe_vec(py::handle h, const char* name, index n);
std::optional<Array> maybe_vec(py::handle h, const char* name, index n, const Array& like);
std::optional<Array> maybe_update_vec(py::handle h, const char* name, index n);

template <class T>
T* data_or_null(const std::optional<Array>& a) {
  return a ? a->data<T>() : nullptr;
}
// Whether memory of the two overlaps.
bool overlap(const Array& a, const Array& b);
// None for an absent array, as a return value and among what is kept.
py::object object_or_none(const std::optional<Array>& a);
py::object source_or_none(const std::optional<Array>& a);

// ValueError when the memory of the two overlaps; exact_ok lets the very same elements pass (in place).
void refuse_overlap(const Array& written, const char* written_name, const Array& other, const char* other_name,
                    bool exact_ok);

// -ndim <= axis < ndim, made non-negative; ValueError otherwise.
int normalise_axis(const Array& a, const char* name, index axis, const char* axis_name = "channel_axis");

// Calls f(float{}) or f(double{}).
template <class F>
decltype(auto) by_dtype(const Array& a, F&& f) {
  return a.is_f32() ? f(float{}) : f(double{});
}

// The scope in which an op computes: with the floating-point mode at its default from the first rounding on, and
// without the GIL where the work is worth the 40 ns that costs.
class Computation {
 public:
  explicit Computation(index elements) : state_(elements >= 4096 ? PyEval_SaveThread() : nullptr) {}
  ~Computation() {
    if (state_ != nullptr) PyEval_RestoreThread(state_);
  }
  Computation(const Computation&) = delete;
  Computation& operator=(const Computation&) = delete;

 private:
  parallel::FloatMode mode_;
  PyThreadState* state_;
};

}  // namespace fastnn
