// What a forward pass keeps for its backward pass, as an object of Python: arrays by reference, a block of memory of
// its own for small copies (statistics, channel parameters), and plain numbers.
#pragma once

#include <cstddef>
#include <memory>

#include "array.hpp"

namespace fastnn {

constexpr int kMaxKept = 4;            // arrays by reference
constexpr std::size_t kNumbers = 224;  // bytes of plain numbers

// Of one operation.
struct SavedKind {
  const char* op;                    // the public name of its forward pass
  const char* arrays[kMaxKept + 1];  // names of the arrays, as attributes; nullptr after the last
};

struct Saved {
  PyObject_HEAD const SavedKind* kind;
  PyObject* arrays[kMaxKept];  // None where there is none; behind the named ones, other objects
  unsigned char* block;
  std::size_t block_bytes;
  std::size_t reserved;  // by a block that comes from where large arrays do, else 0
  alignas(std::max_align_t) unsigned char numbers[kNumbers];
};

// A new one; `bytes` are the size of its block.
py::object new_saved(const SavedKind& kind, std::size_t bytes);

// `h`, if `kind` has kept it; TypeError otherwise.
Saved& saved_of(py::handle h, const SavedKind& kind);

inline Saved& saved_in(const py::object& object) {
  return *reinterpret_cast<Saved*>(object.ptr());
}

inline void keep(Saved& saved, int place, py::handle array) {
  PyObject* const old = saved.arrays[place];
  saved.arrays[place] = array.inc_ref().ptr();
  Py_DECREF(old);
}

// The numbers of an operation, as a struct of its own.
template <class Numbers>
Numbers& numbers_of(Saved& saved) {
  static_assert(sizeof(Numbers) <= kNumbers && std::is_trivially_destructible_v<Numbers>, "raise kNumbers");
  return *reinterpret_cast<Numbers*>(saved.numbers);
}

}  // namespace fastnn
