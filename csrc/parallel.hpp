// The one place where threads are used. Results never depend on the choices made here.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <type_traits>

#include "compiler.hpp"

#ifdef FASTNN_X86_64
#include <immintrin.h>
#endif

#include "contract.hpp"

namespace fastnn {

namespace parallel {

// Break-even points in nanoseconds of estimated serial work (_core._set_grain(0) replaces both for tests): a team that
// is awake joins a loop in well under 1 us. What it costs to wake one is measured as it happens (team::waking_ns).
constexpr double hot_break_even_ns = 8e3;
constexpr double least_cold_break_even_ns = 20e3;

constexpr int max_threads = 4096;

// Calls with less work than this are serial without a further look.
extern std::atomic<double> least_cost_ns;
extern std::atomic<int> last_team_size;
int largest_team();  // since the last call of this function; for tests

using Body = void (*)(void* context, index begin, index end);
int choose_team(index tasks, double cost_ns);
void run(index tasks, double cost_ns, Body body, void* context);

// Puts the floating-point control word (rounding, flush-to-zero) at its default for a scope: results must not
// depend on what another library left there, and that library gets its own back. Every op opens one around all of its
// arithmetic; workers of a region, whose mode is their own, each open another.
class FloatMode {
 public:
  FloatMode() : saved_(read()) {
    if ((saved_ & control) != standard) write(standard);
  }
  ~FloatMode() {
    if ((saved_ & control) != standard) write(saved_);
  }
  FloatMode(const FloatMode&) = delete;
  FloatMode& operator=(const FloatMode&) = delete;

 private:
#ifdef FASTNN_X86_64
  using Word = std::uint32_t;
  static constexpr Word standard = 0x1f80;
  static constexpr Word control = 0xffc0;  // without the six sticky exception flags
  static Word read() { return _mm_getcsr(); }
  static void write(Word word) { _mm_setcsr(word); }
#elif defined(__aarch64__)
  using Word = std::uint64_t;
  static constexpr Word standard = 0;
  static constexpr Word control = ~Word{0};
  static Word read() {
    Word word;
    asm volatile("mrs %0, fpcr" : "=r"(word));
    return word;
  }
  static void write(Word word) { asm volatile("msr fpcr, %0" : : "r"(word)); }
#else
  using Word = std::uint32_t;
  static constexpr Word standard = 0, control = 0;
  static Word read() { return 0; }
  static void write(Word) {}
#endif
  Word saved_;
};

// --- settings and what show_config() reports ---

void initialise();                 // FASTNN_NUM_THREADS, cgroup quota, fork handlers; throws std::invalid_argument
void set_num_threads(int n);       // n >= 1, or 0 for the automatic number
int explicit_num_threads();        // what was set, 0 when automatic
int num_threads();                 // what a large enough call on this thread would use now
std::string num_threads_source();  // where that number comes from
double cpu_quota();                // CPUs allowed by the cgroup, 0 when unlimited
void set_grain(double ns);         // least work that is cut, in ns; negative: the policy above

}  // namespace parallel

// What parallel_for would use now: 1 means a plain call.
inline int team_size(index tasks, double cost_ns) {
  if (tasks < 2 || cost_ns < parallel::least_cost_ns.load(std::memory_order_relaxed)) return 1;
  return parallel::choose_team(tasks, cost_ns);
}

// Calls body(begin, end) on contiguous ranges that cover 0..tasks, one range per thread. cost_ns estimates the
// serial time of the whole loop. An exception thrown by body reaches the caller once all threads are done.
template <class F>
void parallel_for(index tasks, double cost_ns, F&& body) {
  if (tasks <= 0) return;
  if (tasks < 2 || cost_ns < parallel::least_cost_ns.load(std::memory_order_relaxed)) {
    parallel::last_team_size.store(1, std::memory_order_relaxed);
    body(index{0}, tasks);
    return;
  }
  const auto call = [](void* context, index begin, index end) {
    (*static_cast<std::remove_reference_t<F>*>(context))(begin, end);
  };
  parallel::run(tasks, cost_ns, call, const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace fastnn
