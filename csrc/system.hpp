// What the machine and its container allow: cores, memory, cache sizes.
#pragma once

#include <cstddef>
#include <string>

namespace fastnn {
namespace system {

// CPUs' worth of time this process may use by its cgroup (v1 or v2, every ancestor counts); 0 when unlimited.
// `root` is put in front of /proc and /sys, for tests.
double cgroup_cpus(const std::string& root = "");

// Bytes of memory the cgroup allows; 0 when unlimited.
double cgroup_memory(const std::string& root = "");

// The smaller of physical memory and the cgroup's limit, in bytes.
double memory_limit();

int affinity_cpus();  // CPUs the calling thread may run on; 0 when the platform does not say

}  // namespace system

std::size_t l2_bytes();                                 // of one core
std::size_t llc_bytes();                                // of the last level
void set_cache_bytes(std::size_t l2, std::size_t llc);  // for tests; 0: what the machine has

}  // namespace fastnn
