#include "team.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "compiler.hpp"

#if defined(__linux__)
#include <sched.h>
#endif
#ifdef FASTNN_POSIX
#include <signal.h>
#endif

#ifdef _OPENMP
#include <dlfcn.h>
#include <omp.h>
#endif

#include "parallel.hpp"

namespace fastnn {
namespace team {
namespace {

constexpr index kChunks = 8;  // of one member's range: what the others can take from a member that is slow

// Part of the loop: consecutive tasks that are handed out from the front.
struct alignas(64) Range {
  std::atomic<index> next{0};
  index end = 0;
};

// The gate of a loop counts who is inside, below, and how many more may enter, above; the top bit says that it is open.
constexpr std::uint64_t kOpen = std::uint64_t{1} << 63, kSeat = std::uint64_t{1} << 32;
constexpr std::uint64_t kInside = kSeat - 1, kSeats = kOpen - kSeat;

struct Loop {
  std::uint32_t number;
  Body body;
  void* context;
  index chunk;
  int members;  // that may take part, the caller included
  int caller_cpu;
  std::vector<Range>* ranges;
  std::exception_ptr failure;
  std::mutex failure_mutex;
};

// One of the team. Each has a bell of its own: with many sleepers at one condition variable, glibc up to 2.40 may lose
// a signal (its bug 25847).
struct Member {
  std::mutex mutex;
  std::condition_variable bell;
  std::atomic<bool> asleep{false};
};

// Never destroyed: members may still be at the gate when the process ends.
struct Team {
  std::atomic<std::uint64_t> gate{0};
  std::atomic<std::uint32_t> loops{0};  // so many have begun
  std::atomic<double> arrival{0};       // when a member last came to a loop
  std::atomic<double> waking_ns{60e3};  // see team::waking_ns
  Loop loop{};
  std::vector<Range> ranges;
  std::vector<Member*> members, sleepers;
};

Team& all() {
  static Team* const only = new Team;
  return *only;
}

double now_ns() {
  using namespace std::chrono;
  return static_cast<double>(duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count());
}

void relax() {
#ifdef FASTNN_X86_64
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int current_cpu() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

// A woken thread is often put on its waker's CPU, where it can only wait, and the scheduler may leave it there for half
// a second (measured: twice the time for every loop). So a member keeps off the CPU where it has met the caller, until
// it meets the caller elsewhere.
class Aside {
#if defined(__linux__)
 public:
  void step(int caller_cpu) {
    if (caller_cpu < 0 || sched_getcpu() != caller_cpu) return;
    cpu_set_t now;
    if (sched_getaffinity(0, sizeof now, &now) != 0) return;
    if (left_ >= 0 && CPU_EQUAL(&now, &mine_)) CPU_SET(left_, &now);  // nobody else has changed it
    mine_ = now;
    CPU_CLR(caller_cpu, &mine_);
    if (CPU_COUNT(&mine_) > 0 && sched_setaffinity(0, sizeof mine_, &mine_) == 0) left_ = caller_cpu;
  }

 private:
  cpu_set_t mine_;
  int left_ = -1;
#else
 public:
  void step(int) {}
#endif
};

// Threads begun in this scope leave signals to the program's own threads.
class NoSignals {
#ifdef FASTNN_POSIX
 public:
  NoSignals() {
    sigset_t every;
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before_);
  }
  ~NoSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  NoSignals(const NoSignals&) = delete;
  NoSignals& operator=(const NoSignals&) = delete;

 private:
  sigset_t before_;
#endif
};

// Own range first, then the others'.
void work(Loop& loop, int member) {
  const parallel::FloatMode standard;
  try {
    for (int k = 0; k < loop.members; ++k) {
      Range& range = (*loop.ranges)[static_cast<std::size_t>((member + k) % loop.members)];
      while (range.next.load(std::memory_order_relaxed) < range.end) {
        const index begin = range.next.fetch_add(loop.chunk, std::memory_order_relaxed);
        if (begin < range.end) loop.body(loop.context, begin, std::min(range.end, begin + loop.chunk));
      }
    }
  } catch (...) {
    const std::lock_guard<std::mutex> lock(loop.failure_mutex);
    if (loop.failure == nullptr) loop.failure = std::current_exception();
  }
}

// Takes a seat in the loop under way, if there is one: the number of the member, or 0.
int enter(Team& team) {
  std::uint64_t gate = team.gate.load(std::memory_order_relaxed);
  while ((gate & kOpen) != 0 && (gate & kSeats) != 0)
    if (team.gate.compare_exchange_weak(gate, gate - kSeat + 1, std::memory_order_acquire, std::memory_order_relaxed))
      return static_cast<int>((gate & kSeats) / kSeat);
  return 0;
}

// Until the loop after `seen` begins: watching for a while, then asleep.
void wait_for_loop(const Team& team, Member& self, std::uint32_t seen) {
  const auto begun = [&] { return team.loops.load() != seen; };
  for (const double until = now_ns() + watch_ns; now_ns() < until;)
    for (int looks = 0; looks < 16; ++looks) {
      if (begun()) return;
      relax();
    }
  std::unique_lock<std::mutex> lock(self.mutex);
  self.asleep.store(true);
  self.bell.wait(lock, begun);
  self.asleep.store(false);
}

[[noreturn, maybe_unused]] void stand_by(Member& self) {
  Team& team = all();
  Aside aside;
  for (std::uint32_t seen = 0;;) {
    wait_for_loop(team, self, seen);
    seen = team.loops.load();
    const int number = enter(team);
    if (number == 0) continue;
    seen = team.loop.number;
    team.arrival.store(now_ns(), std::memory_order_relaxed);
    aside.step(team.loop.caller_cpu);
    work(team.loop, number);
    team.gate.fetch_sub(1, std::memory_order_release);
  }
}

// Wakes as many sleepers as it takes to have `helpers` members awake; returns how many. One look at each decides: a
// member that was counted as awake and lies down meanwhile comes by itself, and must not be counted again.
int ring(Team& team, int helpers) {
  team.sleepers.clear();
  for (Member* member : team.members)
    if (member->asleep.load()) team.sleepers.push_back(member);
  const int awake = static_cast<int>(team.members.size() - team.sleepers.size());
  const int wanted = std::min(std::max(helpers - awake, 0), static_cast<int>(team.sleepers.size()));
  for (int k = 0; k < wanted; ++k) {
    Member& member = *team.sleepers[static_cast<std::size_t>(k)];
    {
      const std::lock_guard<std::mutex> between_its_look_and_its_sleep(member.mutex);
    }
    member.bell.notify_one();
  }
  return wanted;
}

}  // namespace

#ifdef _OPENMP
bool has_openmp() {
  return true;
}
int offered() {
  return omp_get_max_threads();
}
bool in_foreign_region() {
  return omp_in_parallel() != 0;
}
std::string runtime_path() {
  Dl_info info;
  const bool found = dladdr(reinterpret_cast<void*>(&omp_get_max_threads), &info) != 0 && info.dli_fname != nullptr;
  return found ? info.dli_fname : "";
}
#else
bool has_openmp() {
  return false;
}
int offered() {
  return 1;
}
bool in_foreign_region() {
  return false;
}
std::string runtime_path() {
  return "";
}
#endif

int recruit([[maybe_unused]] int helpers) {
  Team& team = all();
#ifdef _OPENMP
  const int standing_by = static_cast<int>(team.members.size()), more = helpers - standing_by;
  if (more > 0) {
    // A region of its own thread, so that no caller ever has workers that a fork or an exit could leave it waiting for.
    std::vector<Member*> recruits(static_cast<std::size_t>(more));
    for (Member*& member : recruits) member = new Member;  // theirs for ever
    std::atomic<int> arrived{0};
    const NoSignals here;
    try {
      std::thread([recruits, more, &arrived] {
#pragma omp parallel num_threads(more)
        {
          Member& self = *recruits[static_cast<std::size_t>(omp_get_thread_num())];
          if (omp_get_thread_num() == 0) arrived.store(omp_get_num_threads());
          stand_by(self);
        }
      }).detach();
      while (arrived.load() == 0) std::this_thread::yield();
    } catch (const std::system_error&) {  // no more threads to be had: those that are there will do
    }
    team.members.insert(team.members.end(), recruits.begin(), recruits.begin() + arrived.load());
  }
#endif
  return std::min(helpers, static_cast<int>(team.members.size()));
}

int run(int helpers, index tasks, Body body, void* context, bool everybody) {
  Team& team = all();
  Loop& loop = team.loop;
  loop.number = team.loops.load() + 1;
  loop.body = body;
  loop.context = context;
  loop.members = helpers + 1;
  loop.caller_cpu = current_cpu();
  loop.failure = nullptr;
  loop.ranges = &team.ranges;
  if (team.ranges.size() < static_cast<std::size_t>(loop.members))
    team.ranges = std::vector<Range>(static_cast<std::size_t>(loop.members));
  const index share = tasks / loop.members, extra = tasks % loop.members;
  for (int k = 0; k < loop.members; ++k) {
    const index begin = k * share + std::min<index>(k, extra);
    Range& range = team.ranges[static_cast<std::size_t>(k)];
    range.next.store(begin, std::memory_order_relaxed);
    range.end = begin + share + (k < extra ? 1 : 0);
  }
  loop.chunk = everybody ? share + 1 : std::max<index>(1, share / kChunks);

  const double start = now_ns();
  const std::uint64_t seats = static_cast<std::uint64_t>(helpers) * kSeat;
  team.gate.store(kOpen | seats, std::memory_order_release);
  team.loops.fetch_add(1);
  const int woken = ring(team, helpers);
  const double rung = now_ns();
  if (everybody)
    while ((team.gate.load(std::memory_order_relaxed) & kSeats) != 0) std::this_thread::yield();
  work(loop, 0);

  std::uint64_t gate = team.gate.fetch_and(~kOpen);
  const int took_part = loop.members - static_cast<int>((gate & kSeats) / kSeat);
  for (int looks = 0; (team.gate.load(std::memory_order_acquire) & kInside) != 0; ++looks) {
    if (looks < 1000)
      relax();
    else
      std::this_thread::yield();  // whoever is inside may be waiting for this very CPU
  }
  if (woken > 0) {  // a running mean over some eight loops; what an interruption of the machine added is not all taken
    const double arrival = team.arrival.load(std::memory_order_relaxed);
    const double cost = (rung - start) + ((arrival > start ? arrival : now_ns()) - start);
    const double before = team.waking_ns.load(std::memory_order_relaxed);
    team.waking_ns.store(before + (std::min(cost, 4 * before) - before) / 8, std::memory_order_relaxed);
  }
  if (loop.failure != nullptr) std::rethrow_exception(std::exchange(loop.failure, nullptr));
  return took_part;
}

double waking_ns() {
  return all().waking_ns.load(std::memory_order_relaxed);
}

}  // namespace team
}  // namespace fastnn
