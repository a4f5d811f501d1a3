#include "memory.hpp"

#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>

#include "compiler.hpp"

#ifdef __linux__
#include <sys/mman.h>
#elif defined(_WIN32)
#include <malloc.h>
#endif

namespace fastnn {
namespace memory {
namespace {

constexpr std::size_t alignment = 64;
constexpr std::size_t huge_page = std::size_t{2} << 20;

struct Idle {
  void* data;
  std::uint64_t released;  // order of release: the oldest goes first
};

struct Cache {
  std::mutex mutex;
  std::map<std::size_t, std::deque<Idle>> idle;  // by size class; one that is empty stays
  std::size_t in_use = 0, idle_bytes = 0, peak = 0, limit = 0;
  std::size_t hits = 0, misses = 0;
  std::uint64_t clock = 0;
};

// Never destroyed: arrays may outlive the interpreter's shutdown of this module.
Cache& cache() {
  static Cache* const only = new Cache;
  return *only;
}

// Eight classes per power of two: at most 1/8 is wasted, and shapes that differ a little share blocks.
std::size_t size_class(std::size_t bytes) {
  std::size_t step = 512;
  while (bytes > step * 16) step *= 2;
  return (bytes + step - 1) / step * step;
}

void* fetch(std::size_t bytes) {
  const bool large = bytes >= 2 * huge_page;
  const std::size_t aligned = large ? huge_page : alignment;
#ifdef FASTNN_POSIX
  void* data = nullptr;
  if (posix_memalign(&data, aligned, bytes) != 0) return nullptr;
#else
  void* const data = _aligned_malloc(bytes, aligned);
#endif
#ifdef __linux__
  if (large) madvise(data, bytes, MADV_HUGEPAGE);  // fewer page faults on the first touch; a hint only
#endif
  return data;
}

void give_back(void* data) {
#ifdef FASTNN_POSIX
  std::free(data);
#else
  _aligned_free(data);
#endif
}

// Gives the oldest idle blocks back until at most `keep` bytes are idle. The lock is held.
void trim(Cache& c, std::size_t keep) {
  while (c.idle_bytes > keep) {
    std::size_t bytes = 0;
    std::deque<Idle>* oldest = nullptr;
    for (auto& [size, blocks] : c.idle) {
      if (blocks.empty() || (oldest && oldest->front().released < blocks.front().released)) continue;
      bytes = size;
      oldest = &blocks;
    }
    give_back(oldest->front().data);
    c.idle_bytes -= bytes;
    oldest->pop_front();
  }
}

std::size_t parse_limit(const char* text) {
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  double unit = 1.0;
  if (*end == 'K') unit = 1024.0;
  if (*end == 'M') unit = 1024.0 * 1024.0;
  if (*end == 'G') unit = 1024.0 * 1024.0 * 1024.0;
  if (*end != '\0' && unit > 1.0) ++end;
  if (end == text || *end != '\0' || !(value >= 0.0) || value * unit > 9e18)
    throw std::invalid_argument("FASTNN_CACHE_LIMIT: expected bytes such as 500000000, 512M or 2G, got '" +
                                std::string(text) + "'");
  return static_cast<std::size_t>(value * unit);
}

thread_local std::size_t stack_used = 0;
alignas(alignment) thread_local unsigned char stack_memory[stack_bytes];

}  // namespace

Block allocate(std::size_t bytes) {
  if (bytes > PTRDIFF_MAX / 2) throw std::bad_alloc();
  const std::size_t size = size_class(bytes > 0 ? bytes : 1);
  Cache& c = cache();
  std::unique_lock<std::mutex> lock(c.mutex);
  Block block{nullptr, size};
  std::deque<Idle>& idle = c.idle[size];
  if (!idle.empty()) {
    block.data = idle.back().data;  // the most recent one: it may still be in cache
    idle.pop_back();
    c.idle_bytes -= size;
    ++c.hits;
  } else {
    block.data = fetch(size);
    if (block.data == nullptr) {  // short of memory: what is idle may be what is missing
      trim(c, 0);
      block.data = fetch(size);
    }
    if (block.data == nullptr) throw std::bad_alloc();
    ++c.misses;
  }
  c.in_use += size;
  if (c.in_use > c.peak) c.peak = c.in_use;
  return block;
}

void release(Block block) noexcept {
  Cache& c = cache();
  const std::lock_guard<std::mutex> lock(c.mutex);
  c.in_use -= block.bytes;
  const std::size_t keep = c.peak < c.limit ? c.peak : c.limit;
  if (block.bytes > keep) {
    give_back(block.data);
    return;
  }
  try {
    c.idle[block.bytes].push_back({block.data, ++c.clock});
    c.idle_bytes += block.bytes;
  } catch (const std::bad_alloc&) {
    give_back(block.data);
  }
  trim(c, keep);
}

void initialise() {
  const char* text = std::getenv("FASTNN_CACHE_LIMIT");
  const std::size_t limit =
      text != nullptr && *text != '\0' ? parse_limit(text) : static_cast<std::size_t>(system::memory_limit() / 8.0);
  Cache& c = cache();
  const std::lock_guard<std::mutex> lock(c.mutex);
  c.limit = limit;
}

void empty_cache() {
  Cache& c = cache();
  const std::lock_guard<std::mutex> lock(c.mutex);
  trim(c, 0);
  c.peak = c.in_use;
}

Stats stats() {
  Cache& c = cache();
  const std::lock_guard<std::mutex> lock(c.mutex);
  return {c.in_use, c.idle_bytes, c.peak, c.limit, c.hits, c.misses};
}

void lock_for_fork() {
  cache().mutex.lock();
}
void unlock_after_fork() {
  cache().mutex.unlock();
}

void* push_stack(std::size_t bytes) noexcept {
  if (bytes > stack_bytes - stack_used) return nullptr;
  void* data = stack_memory + stack_used;
  stack_used += bytes;
  return data;
}

void pop_stack(std::size_t bytes) noexcept {
  stack_used -= bytes;
}

}  // namespace memory
}  // namespace fastnn
