#include "cpu.hpp"

#include <cstdint>
#include <initializer_list>

#include "compiler.hpp"

#ifdef FASTNN_X86_64
#ifdef FASTNN_GNU
#include <cpuid.h>
#else
#include <intrin.h>
#endif
#endif

namespace fastnn {
namespace cpu {
namespace {

struct Levels {
  bool v3 = false, v4 = false;
};

#ifdef FASTNN_X86_64

struct Leaf {
  std::uint32_t eax, ebx, ecx, edx;
};

Leaf leaf(std::uint32_t number) {
#ifdef FASTNN_GNU
  Leaf r;
  __cpuid_count(number, 0, r.eax, r.ebx, r.ecx, r.edx);
  return r;
#else
  int r[4];
  __cpuidex(r, static_cast<int>(number), 0);
  return {static_cast<std::uint32_t>(r[0]), static_cast<std::uint32_t>(r[1]), static_cast<std::uint32_t>(r[2]),
          static_cast<std::uint32_t>(r[3])};
#endif
}

// The registers that the operating system saves.
std::uint64_t saved_registers() {
#ifdef FASTNN_GNU
  std::uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t{high} << 32) | low;
#else
  return _xgetbv(0);
#endif
}

constexpr std::uint32_t bits(std::initializer_list<int> numbers) {
  std::uint32_t all = 0;
  for (int n : numbers) all |= std::uint32_t{1} << n;
  return all;
}

bool all_of(std::uint64_t offered, std::uint64_t wanted) {
  return (offered & wanted) == wanted;
}

// The features of the levels are those of the x86-64 psABI; v2 is part of v3.
Levels find() {
  Levels levels;
  if (leaf(0).eax < 7 || leaf(0x80000000).eax < 0x80000001) return levels;
  // SSE3, SSSE3, FMA, CMPXCHG16B, SSE4.1, SSE4.2, MOVBE, POPCNT, OSXSAVE, AVX, F16C
  constexpr std::uint32_t basic = bits({0, 9, 12, 13, 19, 20, 22, 23, 27, 28, 29});
  constexpr std::uint32_t extended = bits({0, 5});              // LAHF and SAHF, LZCNT
  constexpr std::uint32_t avx2 = bits({3, 5, 8});               // BMI1, AVX2, BMI2
  constexpr std::uint32_t avx512 = bits({16, 17, 28, 30, 31});  // F, DQ, CD, BW, VL
  constexpr std::uint32_t ymm = bits({1, 2}), zmm = bits({5, 6, 7});
  const std::uint32_t features = leaf(7).ebx;
  levels.v3 = all_of(leaf(1).ecx, basic) && all_of(leaf(0x80000001).ecx, extended) && all_of(features, avx2) &&
              all_of(saved_registers(), ymm);
  levels.v4 = levels.v3 && all_of(features, avx512) && all_of(saved_registers(), zmm);
  return levels;
}

#else

Levels find() {
  return {};
}

#endif

const Levels& levels() {
  static const Levels found = find();
  return found;
}

}  // namespace

bool has_v3() {
  return levels().v3;
}
bool has_v4() {
  return levels().v4;
}

}  // namespace cpu
}  // namespace fastnn
