#include "dispatch.hpp"

#include <cstdlib>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

extern "C" {
#ifdef FASTNN_HAS_v4
extern const fastnn::KernelTable fastnn_kernels_v4;
#endif
#ifdef FASTNN_HAS_v3
extern const fastnn::KernelTable fastnn_kernels_v3;
#endif
#ifdef FASTNN_HAS_baseline
extern const fastnn::KernelTable fastnn_kernels_baseline;
#endif
}

namespace fastnn {
namespace dispatch {

std::atomic<const KernelTable*> active{nullptr};

namespace {

#if defined(FASTNN_HAS_v3) || defined(FASTNN_HAS_v4)
// Whether CPU and system have all that a level of the x86-64 psABI may use. Asked of the CPU itself: not every compiler
// knows the levels' names, and not every one brings the library that __builtin_cpu_supports looks into.
bool has_level(int level) {
  constexpr unsigned v3_basic = 1u << 0 | 1u << 9 | 1u << 12 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 22 | 1u << 23 |
                                1u << 27 | 1u << 28 | 1u << 29;  // SSE3 to SSE4.2, FMA, MOVBE, POPCNT, AVX, F16C ...
  constexpr unsigned v3_extended = 1u << 3 | 1u << 5 | 1u << 8;  // BMI1, AVX2, BMI2
  constexpr unsigned v3_amd = 1u << 0 | 1u << 5;                 // LAHF, LZCNT
  constexpr unsigned v4_extended = v3_extended | 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;  // F DQ CD BW VL
  constexpr unsigned v3_state = 0x06, v4_state = 0xe6;  // registers that the system saves
  const auto all = [](unsigned has, unsigned wanted) { return (has & wanted) == wanted; };
  unsigned a, b, basic, d, extended, amd, c;
  if (__get_cpuid(1, &a, &b, &basic, &d) == 0 || !all(basic, v3_basic)) return false;
  if (__get_cpuid_count(7, 0, &a, &extended, &c, &d) == 0) return false;
  if (__get_cpuid(0x80000001, &a, &b, &amd, &d) == 0 || !all(amd, v3_amd)) return false;
  unsigned state, upper;
  asm volatile("xgetbv" : "=a"(state), "=d"(upper) : "c"(0));
  return level == 3 ? all(extended, v3_extended) && all(state, v3_state)
                    : all(extended, v4_extended) && all(state, v4_state);
}
#endif

struct Level {
  const char* name;
  const KernelTable* table;
  bool (*supported)();
};

const Level levels[] = {
// Best first.
#ifdef FASTNN_HAS_v4
    {"v4", &fastnn_kernels_v4, [] { return has_level(4); }},
#endif
#ifdef FASTNN_HAS_v3
    {"v3", &fastnn_kernels_v3, [] { return has_level(3); }},
#endif
#ifdef FASTNN_HAS_baseline
    {"baseline", &fastnn_kernels_baseline, [] { return true; }},
#endif
};

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

void choose(const std::string& name, const char* what) {
  bool known = false;
  for (const Level& level : levels) {
    if (name != level.name) continue;
    known = true;
    if (level.supported()) {
      active.store(level.table, std::memory_order_relaxed);
      return;
    }
  }
  throw std::invalid_argument(std::string(what) + ": expected one of " + joined(available_isas()) + ", got '" + name +
                              "'" + (known ? ", which this CPU does not support" : ""));
}

}  // namespace

void initialise() {
  const char* wanted = std::getenv("FASTNN_ISA");
  if (wanted != nullptr && *wanted != '\0')
    choose(wanted, "FASTNN_ISA");
  else
    choose(available_isas().front(), "isa");
}

void set_isa(const std::string& name) {
  choose(name, "isa");
}

const char* get_isa() {
  const KernelTable* table = active.load(std::memory_order_relaxed);
  for (const Level& level : levels)
    if (level.table == table) return level.name;
  return "";
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Level& level : levels)
    if (level.supported()) names.emplace_back(level.name);
  return names;
}

}  // namespace dispatch
}  // namespace fastnn
