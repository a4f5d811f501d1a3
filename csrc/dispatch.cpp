#include "dispatch.hpp"

#include <cstdlib>
#include <stdexcept>

#include "cpu.hpp"

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

struct Level {
  const char* name;
  const KernelTable* table;
  bool (*supported)();
};

const Level levels[] = {
// Best first.
#ifdef FASTNN_HAS_v4
    {"v4", &fastnn_kernels_v4, cpu::has_v4},
#endif
#ifdef FASTNN_HAS_v3
    {"v3", &fastnn_kernels_v3, cpu::has_v3},
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
