#include "system.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <sstream>

#ifdef _WIN32
#define NOMINMAX
#include <windows.h>
#else
#include <sched.h>
#include <unistd.h>
#endif

namespace fastnn {
namespace system {
namespace {

bool read_file(const std::string& path, std::string& text) {
  std::ifstream file(path);
  if (!file) return false;
  std::ostringstream all;
  all << file.rdbuf();
  text = all.str();
  return true;
}

// The smallest positive limit(directory) over the process's cgroup of this controller and its ancestors.
// A container often sees the host's path in /proc/self/cgroup but only its own part of /sys: walking up finds it.
double smallest_limit(const std::string& root, const std::string& controller,
                      const std::function<double(const std::string&)>& limit) {
  std::string text;
  if (!read_file(root + "/proc/self/cgroup", text)) return 0.0;
  double smallest = 0.0;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {  // "<id>:<controllers>:<path>", no controllers in v2
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && ("," + controllers + ",").find("," + controller + ",") == std::string::npos) continue;
    const std::string mount = root + "/sys/fs/cgroup" + (controllers.empty() ? "" : "/" + controllers);
    for (std::string path = line.substr(second + 1);; path.erase(path.rfind('/'))) {
      const double value = limit(mount + path);
      if (value > 0.0 && (smallest == 0.0 || value < smallest)) smallest = value;
      if (path.rfind('/') == std::string::npos) break;
    }
  }
  return smallest;
}

double number(const std::string& path) {
  std::string text;
  return read_file(path, text) ? std::strtod(text.c_str(), nullptr) : 0.0;
}

double cpus_of(const std::string& directory) {
  std::string text;
  if (read_file(directory + "/cpu.max", text)) {  // v2: "<quota or max> <period>"
    char* rest = nullptr;
    const double quota = std::strtod(text.c_str(), &rest);
    const double period = rest != text.c_str() ? std::strtod(rest, nullptr) : 0.0;
    return period > 0.0 ? quota / period : 0.0;
  }
  const double quota = number(directory + "/cpu.cfs_quota_us");  // v1: -1 when unlimited
  const double period = number(directory + "/cpu.cfs_period_us");
  return quota > 0.0 && period > 0.0 ? quota / period : 0.0;
}

double memory_of(const std::string& directory) {
  std::string text;
  if (read_file(directory + "/memory.max", text)) return text[0] == 'm' ? 0.0 : std::strtod(text.c_str(), nullptr);
  const double bytes = number(directory + "/memory.limit_in_bytes");
  return bytes < 9e18 ? bytes : 0.0;  // v1 writes "unlimited" as the largest page-aligned int64
}

}  // namespace

double cgroup_cpus(const std::string& root) {
  return smallest_limit(root, "cpu", cpus_of);
}

double cgroup_memory(const std::string& root) {
  return smallest_limit(root, "memory", memory_of);
}

static double physical_memory() {
#ifdef _WIN32
  MEMORYSTATUSEX status;
  status.dwLength = sizeof status;
  return GlobalMemoryStatusEx(&status) ? static_cast<double>(status.ullTotalPhys) : 0.0;
#else
  return static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
#endif
}

double memory_limit() {
  const double physical = physical_memory();
  const double allowed = cgroup_memory();
  return allowed > 0.0 ? std::min(physical, allowed) : physical;
}

int affinity_cpus() {
#ifdef __linux__
  // The kernel may know more CPUs than a fixed cpu_set_t holds.
  for (int limit = 1024; limit <= 65536; limit *= 4) {
    cpu_set_t* set = CPU_ALLOC(limit);
    if (set == nullptr) return 0;
    const std::size_t bytes = CPU_ALLOC_SIZE(limit);
    const int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
#endif
  return 0;
}

}  // namespace system

namespace {

struct Caches {
  std::size_t l2 = std::size_t{1} << 20;
  std::size_t llc = std::size_t{32} << 20;

  Caches() {
    long last = 0;
    for (int i = 0; i < 8; ++i) {
      const std::string directory = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(i) + "/";
      std::ifstream level_file(directory + "level"), type_file(directory + "type"), size_file(directory + "size");
      long level = 0, size = 0;
      char unit = 'K';
      std::string type;
      if (!(level_file >> level) || !(type_file >> type) || !(size_file >> size)) break;
      size_file >> unit;
      if (type == "Instruction" || level < 2 || size <= 0) continue;
      const std::size_t bytes = static_cast<std::size_t>(size) << (unit == 'M' ? 20 : 10);
      if (level == 2) l2 = bytes;
      if (level > last) {
        last = level;
        llc = bytes;
      }
    }
  }
};

const Caches& caches() {
  static const Caches found;
  return found;
}

// What set_cache_bytes() put in place of the machine's own sizes.
std::atomic<std::size_t> pretended_l2{0}, pretended_llc{0};

}  // namespace

std::size_t l2_bytes() {
  const std::size_t bytes = pretended_l2.load(std::memory_order_relaxed);
  return bytes > 0 ? bytes : caches().l2;
}
std::size_t llc_bytes() {
  const std::size_t bytes = pretended_llc.load(std::memory_order_relaxed);
  return bytes > 0 ? bytes : caches().llc;
}
void set_cache_bytes(std::size_t l2, std::size_t llc) {
  pretended_l2.store(l2);
  pretended_llc.store(llc);
}

}  // namespace fastnn
