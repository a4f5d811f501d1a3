// Which kernel table runs: one per ISA level, chosen once from what the CPU can do.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "contract.hpp"

namespace fastnn {

namespace dispatch {

// Chooses the level: FASTNN_ISA when it is set, else the best the CPU has. Throws std::invalid_argument
// for a level that is unknown or that this CPU lacks. Call once, before kernels().
void initialise();

void set_isa(const std::string& name);  // throws std::invalid_argument, as above
const char* get_isa();
std::vector<std::string> available_isas();  // compiled in and supported by this CPU, best first

extern std::atomic<const KernelTable*> active;

}  // namespace dispatch

// The kernels of the active level for T = float or double.
template <class T>
const Kernels<T>& kernels();

template <>
inline const Kernels<float>& kernels<float>() {
  return dispatch::active.load(std::memory_order_relaxed)->f32;
}

template <>
inline const Kernels<double>& kernels<double>() {
  return dispatch::active.load(std::memory_order_relaxed)->f64;
}

}  // namespace fastnn
