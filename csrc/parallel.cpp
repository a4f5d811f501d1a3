#include "parallel.hpp"

#ifdef FASTNN_POSIX
#include <pthread.h>
#endif

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <mutex>
#include <stdexcept>

#include "memory.hpp"
#include "system.hpp"
#include "team.hpp"

namespace fastnn {
namespace parallel {

std::atomic<double> least_cost_ns{hot_break_even_ns};
std::atomic<int> last_team_size{1};

namespace {

std::atomic<int> largest_team_size{1};
std::atomic<int> explicit_threads{0};
std::atomic<bool> explicit_from_environment{false};
std::atomic<bool> forced{false};  // _set_grain: tests choose, not the policy
std::atomic<bool> forked{false};
double quota = 0.0;

// Held while a loop runs. A second Python thread that finds it taken runs serial: there is one team for all.
std::mutex region;

constexpr std::int64_t watch_ns = static_cast<std::int64_t>(team::watch_ns);

// Serial work of the calling thread since its last loop, in calls that follow each other closely.
struct History {
  std::int64_t call_end = -1000000000;  // when its last call of 8 us or more ended
  double streak_ns = 0.0;
};
thread_local History history;
thread_local bool inside = false;  // a loop of the team

std::atomic<std::int64_t> loop_end{-1000000000};  // when the team's last loop ended: it is awake for a while

std::int64_t now_ns() {
  using namespace std::chrono;
  return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

struct Choice {
  int threads;
  const char* source;
};

// The automatic number is asked for per call: threadpoolctl, taskset and omp_set_num_threads change it.
Choice threads_now() {
  if (!team::has_openmp()) return {1, "built without OpenMP"};
  if (forked.load(std::memory_order_relaxed)) return {1, "forked process"};
  const int wanted = explicit_threads.load(std::memory_order_relaxed);
  if (wanted > 0)
    return {wanted,
            explicit_from_environment.load(std::memory_order_relaxed) ? "FASTNN_NUM_THREADS" : "set_num_threads"};
  Choice choice{team::offered(), std::getenv("OMP_NUM_THREADS") != nullptr ? "OMP_NUM_THREADS" : "OpenMP"};
  const int cpus = system::affinity_cpus();
  if (cpus > 0 && cpus < choice.threads) choice = {cpus, "CPU affinity"};
  const int allowed = static_cast<int>(std::ceil(quota));
  if (allowed > 0 && allowed < choice.threads) choice = {allowed, "cgroup quota"};
  return choice;
}

int choose(index tasks, double cost_ns, std::int64_t now) {
  if (!team::has_openmp() || forked.load(std::memory_order_relaxed) || inside || team::in_foreign_region()) return 1;
  double most = static_cast<double>(tasks);
  if (!forced.load(std::memory_order_relaxed)) {
    if (now - loop_end.load(std::memory_order_relaxed) <= watch_ns) {
      most = std::min(most, cost_ns / (hot_break_even_ns / 2));
    } else {
      // Calls in a row that are each too short would stay serial for ever. Once they have cost what a
      // wake-up costs, one of them pays it and the rest find the team awake.
      const double work = cost_ns + (now - history.call_end <= watch_ns ? history.streak_ns : 0.0);
      const double break_even = std::max(least_cold_break_even_ns, 1.5 * team::waking_ns());
      if (work < break_even) return 1;
      most = std::min(most, work / (break_even / 2));
    }
  }
  return static_cast<int>(std::min(most, static_cast<double>(threads_now().threads)));
}

void run_serial(index tasks, Body body, void* context) {
  last_team_size.store(1, std::memory_order_relaxed);
  body(context, 0, tasks);
}

void run_team(int threads, index tasks, Body body, void* context) {
  struct Inside {
    Inside() { inside = true; }
    ~Inside() { inside = false; }
  } const mark;
  const int took_part =
      team::run(team::recruit(threads - 1), tasks, body, context, forced.load(std::memory_order_relaxed));
  last_team_size.store(took_part, std::memory_order_relaxed);
  if (took_part > largest_team_size.load(std::memory_order_relaxed))  // nobody else writes: a loop is under way
    largest_team_size.store(took_part, std::memory_order_relaxed);
}

#ifdef FASTNN_POSIX
// fork() copies the process with only the calling thread in it: a team opened in the child would wait for
// workers that do not exist. So the child stays serial, and no lock of ours is held by a thread that is gone.
// The order matters: a region may allocate, an allocation never opens a region.
void before_fork() {
  region.lock();
  memory::lock_for_fork();
}
void after_fork_in_parent() {
  memory::unlock_after_fork();
  region.unlock();
}
void after_fork_in_child() {
  forked.store(true);
  after_fork_in_parent();
}
#endif

int parse_threads(const char* text) {
  char* end = nullptr;
  const long n = std::strtol(text, &end, 10);
  if (end == text || *end != '\0' || n < 1 || n > max_threads)
    throw std::invalid_argument("FASTNN_NUM_THREADS: expected an integer from 1 to " + std::to_string(max_threads) +
                                ", got '" + text + "'");
  return static_cast<int>(n);
}

}  // namespace

int choose_team(index tasks, double cost_ns) {
  return choose(tasks, cost_ns, now_ns());
}

void run(index tasks, double cost_ns, Body body, void* context) {
  const std::int64_t start = now_ns();
  const int threads = choose(tasks, cost_ns, start);
  if (threads > 1) {
    std::unique_lock<std::mutex> only_one(region, std::try_to_lock);
    if (only_one.owns_lock()) {
      run_team(threads, tasks, body, context);
      history.call_end = now_ns();
      history.streak_ns = 0.0;
      loop_end.store(history.call_end, std::memory_order_relaxed);
      return;
    }
  }
  run_serial(tasks, body, context);
  if (start - history.call_end > watch_ns) history.streak_ns = 0.0;
  history.streak_ns += cost_ns;
  history.call_end = now_ns();
}

int largest_team() {
  return largest_team_size.exchange(1);
}

void initialise() {
  const char* text = std::getenv("FASTNN_NUM_THREADS");
  if (text != nullptr && *text != '\0') {
    explicit_threads = parse_threads(text);
    explicit_from_environment = true;
  }
  quota = system::cgroup_cpus();
#ifdef FASTNN_POSIX
  // The handler registered last is called first, so the runtime shall register its own now (libomp has some). Otherwise
  // it would hold its locks for a fork that waits in ours for a loop, which is still waiting for threads from it.
  team::offered();
  static const int registered = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  if (registered != 0) throw std::runtime_error("pthread_atfork failed");
#endif
}

void set_num_threads(int n) {
  explicit_threads.store(n);
  explicit_from_environment.store(false);
}

int explicit_num_threads() {
  return explicit_threads.load();
}
int num_threads() {
  return threads_now().threads;
}
std::string num_threads_source() {
  return threads_now().source;
}
double cpu_quota() {
  return quota;
}

void set_grain(double ns) {
  forced.store(ns >= 0.0);
  least_cost_ns.store(ns >= 0.0 ? ns : hot_break_even_ns);
}

}  // namespace parallel
}  // namespace fastnn
