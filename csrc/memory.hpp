// The caching allocator behind large arrays that fastnn creates, and scratch space for the drivers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "contract.hpp"
#include "system.hpp"

namespace fastnn {

// 64-byte aligned memory. `bytes` is what was reserved: at least what was asked for.
struct Block {
  void* data = nullptr;
  std::size_t bytes = 0;
};

// From here on a fresh block costs more in page faults than the kernel that fills it.
constexpr std::size_t cached_bytes = 65536;

namespace memory {

Block allocate(std::size_t bytes);  // reuses an idle block of the same size class; throws std::bad_alloc
void release(Block block) noexcept;

struct Stats {
  std::size_t in_use, idle, peak, limit;  // bytes
  std::size_t hits, misses;               // blocks reused, blocks fetched from the system
};

void initialise();  // FASTNN_CACHE_LIMIT; throws std::invalid_argument
void empty_cache();
Stats stats();

// Around fork(): nobody may hold the allocator's lock while the process is copied.
void lock_for_fork();
void unlock_after_fork();

// A few kilobytes per thread, handed out as a stack; null when it is full.
constexpr std::size_t stack_bytes = 16384;
void* push_stack(std::size_t bytes) noexcept;
void pop_stack(std::size_t bytes) noexcept;

}  // namespace memory

// A temporary array, uninitialised, 64-byte aligned. Lives and dies in one scope of one thread.
template <class T>
class Scratch {
 public:
  explicit Scratch(index n) : size_(n), bytes_((static_cast<std::size_t>(n) * sizeof(T) + 63) / 64 * 64) {
    stacked_ = bytes_ <= memory::stack_bytes ? memory::push_stack(bytes_) : nullptr;
    if (stacked_ == nullptr) block_ = memory::allocate(bytes_);
  }
  ~Scratch() {
    if (stacked_ != nullptr)
      memory::pop_stack(bytes_);
    else
      memory::release(block_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  T* data() const { return static_cast<T*>(stacked_ != nullptr ? stacked_ : block_.data); }
  T& operator[](index i) const { return data()[i]; }
  index size() const { return size_; }

 private:
  index size_;
  std::size_t bytes_;
  void* stacked_ = nullptr;
  Block block_;
};

}  // namespace fastnn
