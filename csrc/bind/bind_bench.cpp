// What the benchmark measures the machine with: bandwidth, arithmetic throughput, the cost of a parallel region.
// Nothing here is used by the kernels.

#include <pybind11/pybind11.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "../cpu.hpp"
#include "../memory.hpp"
#include "../parallel.hpp"
#include "../vectors.hpp"

#ifdef FASTNN_X86_64
#include <immintrin.h>
#ifdef FASTNN_GNU
#define FASTNN_TARGET(level) __attribute__((target(level)))
#else
#define FASTNN_TARGET(level)  // every intrinsic is there
#endif
#endif

namespace py = pybind11;

namespace fastnn {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Enough estimated work that the thread policy always opens a region.
constexpr double kAlwaysParallel = 1e12;
constexpr std::size_t kLine = 64;

// Written out rather than memcpy, which on some machines takes a microcoded path far below the memory's speed.
// Without intrinsics there are no streaming stores: the better of the two is then the plain copy.
#ifdef FASTNN_X86_64
void copy_plain(unsigned char* dst, const unsigned char* src, std::size_t bytes) {
  std::size_t i = 0;
  for (; i + kLine <= bytes; i += kLine) {
    for (std::size_t k = 0; k < kLine; k += 16) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + i + k),
                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + i + k)));
    }
  }
  std::memcpy(dst + i, src + i, bytes - i);
}

FASTNN_TARGET("avx2") void copy_plain_avx2(unsigned char* dst, const unsigned char* src, std::size_t bytes) {
  std::size_t i = 0;
  for (; i + kLine <= bytes; i += kLine) {
    for (std::size_t k = 0; k < kLine; k += 32) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + i + k),
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src + i + k)));
    }
  }
  std::memcpy(dst + i, src + i, bytes - i);
}

void copy_streaming(unsigned char* dst, const unsigned char* src, std::size_t bytes) {
  std::size_t i = 0;
  for (; i + kLine <= bytes; i += kLine) {
    for (std::size_t k = 0; k < kLine; k += 16) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(dst + i + k),
                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + i + k)));
    }
  }
  _mm_sfence();
  std::memcpy(dst + i, src + i, bytes - i);
}

// a[i] = b[i] + scale * c[i]
#define FASTNN_TRIAD(name, level, width, add, mul, set, load, store)                        \
  level void name(float* a, const float* b, const float* c, float scale, std::size_t n) {   \
    const auto s = set(scale);                                                              \
    std::size_t i = 0;                                                                      \
    for (; i + width <= n; i += width) store(a + i, add(load(b + i), mul(s, load(c + i)))); \
    _mm_sfence();                                                                           \
    for (; i < n; ++i) a[i] = b[i] + scale * c[i];                                          \
  }
FASTNN_TRIAD(triad_plain, , 4, _mm_add_ps, _mm_mul_ps, _mm_set1_ps, _mm_loadu_ps, _mm_storeu_ps)
FASTNN_TRIAD(triad_streaming, , 4, _mm_add_ps, _mm_mul_ps, _mm_set1_ps, _mm_loadu_ps, _mm_stream_ps)
FASTNN_TRIAD(triad_plain_avx2, FASTNN_TARGET("avx2"), 8, _mm256_add_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_loadu_ps,
             _mm256_storeu_ps)
#undef FASTNN_TRIAD
#else
void copy_plain(unsigned char* dst, const unsigned char* src, std::size_t bytes) {
  std::memcpy(dst, src, bytes);
}
void copy_streaming(unsigned char* dst, const unsigned char* src, std::size_t bytes) {
  copy_plain(dst, src, bytes);
}
void triad_plain(float* a, const float* b, const float* c, float scale, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) a[i] = b[i] + scale * c[i];
}
void triad_streaming(float* a, const float* b, const float* c, float scale, std::size_t n) {
  triad_plain(a, b, c, scale, n);
}
#endif

using Copy = void (*)(unsigned char*, const unsigned char*, std::size_t);

Copy fastest_copy(bool streaming) {
  if (streaming) return copy_streaming;
#ifdef FASTNN_X86_64
  if (cpu::has_v3()) return copy_plain_avx2;
#endif
  return copy_plain;
}

using Triad = void (*)(float*, const float*, const float*, float, std::size_t);

Triad fastest_triad(bool streaming) {
  if (streaming) return triad_streaming;
#ifdef FASTNN_X86_64
  if (cpu::has_v3()) return triad_plain_avx2;
#endif
  return triad_plain;
}

// Integer sums: the order is free, so the loop runs at the speed of the loads.
std::uint64_t read_all(const std::uint64_t* src, std::size_t words) {
  std::uint64_t a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0;
  std::size_t i = 0;
  for (; i + 8 <= words; i += 8) {
    a += src[i], b += src[i + 1], c += src[i + 2], d += src[i + 3];
    e += src[i + 4], f += src[i + 5], g += src[i + 6], h += src[i + 7];
  }
  for (; i < words; ++i) a += src[i];
  return a + b + c + d + e + f + g + h;
}

#ifdef FASTNN_X86_64
FASTNN_TARGET("avx2") std::uint64_t read_all_avx2(const std::uint64_t* src, std::size_t words) {
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  std::size_t i = 0;
  for (; i + 16 <= words; i += 16) {
    a = _mm256_add_epi64(a, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src + i)));
    b = _mm256_add_epi64(b, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src + i + 4)));
    c = _mm256_add_epi64(c, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src + i + 8)));
    d = _mm256_add_epi64(d, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src + i + 12)));
  }
  alignas(32) std::uint64_t parts[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(parts),
                     _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d)));
  std::uint64_t sum = parts[0] + parts[1] + parts[2] + parts[3];
  for (; i < words; ++i) sum += src[i];
  return sum;
}
#endif

using ReadAll = std::uint64_t (*)(const std::uint64_t*, std::size_t);

ReadAll fastest_read() {
#ifdef FASTNN_X86_64
  if (cpu::has_v3()) return read_all_avx2;
#endif
  return read_all;
}

struct Slice {
  std::size_t begin, end;
};

// Part `i` of `parts`, cut at cache lines so that threads never share one.
Slice slice(std::size_t bytes, std::int64_t i, std::int64_t parts) {
  const auto cut = [=](std::int64_t k) {
    return k == parts ? bytes : bytes / kLine * static_cast<std::size_t>(k) / static_cast<std::size_t>(parts) * kLine;
  };
  return {cut(i), cut(i + 1)};
}

void require(bool ok, const char* message) {
  if (!ok) throw std::invalid_argument(message);
}

// Each thread repeats over its own slice inside one region: steady-state bandwidth, without the cost of regions.
double bench_copy(const py::buffer& dst, const py::buffer& src, bool streaming, int repeats, int threads) {
  const py::buffer_info to = dst.request(true), from = src.request();
  const std::size_t bytes = static_cast<std::size_t>(from.size * from.itemsize);
  require(to.size * to.itemsize == from.size * from.itemsize, "dst, src: expected equal sizes");
  require(repeats > 0 && threads > 0, "repeats, threads: expected positive numbers");
  auto* const out = static_cast<unsigned char*>(to.ptr);
  const auto* const in = static_cast<const unsigned char*>(from.ptr);
  require(reinterpret_cast<std::uintptr_t>(out) % 16 == 0, "dst: expected 16-byte alignment");
  const Copy copy = fastest_copy(streaming);
  py::gil_scoped_release nogil;
  const auto start = Clock::now();
  parallel_for(threads, kAlwaysParallel, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const Slice s = slice(bytes, i, threads);
      for (int r = 0; r < repeats; ++r) {
        copy(out + s.begin, in + s.begin, s.end - s.begin);
      }
    }
  });
  return seconds_since(start) / repeats;
}

// As bench_copy, of float32 arrays: a = b + scale * c.
double bench_triad(const py::buffer& a, const py::buffer& b, const py::buffer& c, bool streaming, int repeats,
                   int threads) {
  const py::buffer_info to = a.request(true), left = b.request(), right = c.request();
  const std::size_t bytes = static_cast<std::size_t>(to.size * to.itemsize);
  require(left.size * left.itemsize == to.size * to.itemsize && right.size * right.itemsize == to.size * to.itemsize,
          "a, b, c: expected equal sizes");
  require(repeats > 0 && threads > 0, "repeats, threads: expected positive numbers");
  auto* const out = static_cast<float*>(to.ptr);
  const auto* const in1 = static_cast<const float*>(left.ptr);
  const auto* const in2 = static_cast<const float*>(right.ptr);
  require(reinterpret_cast<std::uintptr_t>(out) % 16 == 0, "a: expected 16-byte alignment");
  const Triad triad = fastest_triad(streaming);
  py::gil_scoped_release nogil;
  const auto start = Clock::now();
  parallel_for(threads, kAlwaysParallel, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const Slice s = slice(bytes, i, threads);
      const std::size_t first = s.begin / sizeof(float), n = (s.end - s.begin) / sizeof(float);
      for (int r = 0; r < repeats; ++r) triad(out + first, in1 + first, in2 + first, 0.5f, n);
    }
  });
  return seconds_since(start) / repeats;
}

double bench_read(const py::buffer& src, int repeats, int threads) {
  const py::buffer_info from = src.request();
  const std::size_t bytes = static_cast<std::size_t>(from.size * from.itemsize);
  require(repeats > 0 && threads > 0, "repeats, threads: expected positive numbers");
  const auto* const in = static_cast<const unsigned char*>(from.ptr);
  require(reinterpret_cast<std::uintptr_t>(in) % 8 == 0, "src: expected 8-byte alignment");
  const ReadAll read = fastest_read();
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(threads) * (kLine / 8));
  std::uint64_t* const sum = sums.data();
  py::gil_scoped_release nogil;
  const auto start = Clock::now();
  parallel_for(threads, kAlwaysParallel, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const Slice s = slice(bytes, i, threads);
      std::uint64_t total = 0;
      for (int r = 0; r < repeats; ++r) {
        total += read(reinterpret_cast<const std::uint64_t*>(in + s.begin), (s.end - s.begin) / 8);
      }
      sum[static_cast<std::size_t>(i) * (kLine / 8)] = total;  // kept, so that the loads are
    }
  });
  return seconds_since(start) / repeats;
}

// Seconds of an empty region, after `gap` seconds of this thread being busy elsewhere (0: back to back).
double bench_region(int repeats, double gap) {
  require(repeats > 0 && gap >= 0, "repeats, gap: expected a positive number and a non-negative time");
  py::gil_scoped_release nogil;
  double total = 0;
  for (int r = 0; r < repeats; ++r) {
    for (const auto start = Clock::now(); seconds_since(start) < gap;) {
    }
    const auto start = Clock::now();
    parallel_for(1 << 10, kAlwaysParallel, [](std::int64_t, std::int64_t) {});
    total += seconds_since(start);
  }
  return total / repeats;
}

// Throughput of the arithmetic that can outlast the memory, at the vector width of each ISA level: bare loops, written
// apart from the kernels, so that a slower kernel does not raise its own roof. n is a multiple of `kBlock`.
constexpr std::int64_t kBlock = 256;  // elements of two vectors of counters at the widest level

// y = e^x without FMA, as no kernel may use it: 2^k * e^r with r = x - k ln 2. k is at hand as the lower bits of the
// number that rounds to it. The polynomial is that of Cephes expf; several vectors at a time, as it is a chain.
template <int width>
FASTNN_INLINE void exp_loop(float* y, const float* x, std::int64_t n) {
  using Floats = Vector<float, 4 * width>;
  using Words = Vector<std::uint32_t, 4 * width>;
  constexpr int parts = 4;
  constexpr float magic = 12582912.0f;  // 1.5 * 2^23
  constexpr float coefficients[] = {8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
  for (std::int64_t i = 0; i < n; i += parts * width) {
    Floats v[parts], shifted[parts], p[parts];
#pragma GCC unroll 4
    for (int k = 0; k < parts; ++k) {
      std::memcpy(&v[k], x + i + k * width, sizeof(Floats));
      shifted[k] = v[k] * 1.44269504f + magic;
      const Floats whole = shifted[k] - magic;
      v[k] = (v[k] - whole * 0.693359375f) - whole * -2.12194440e-4f;
      p[k] = v[k] * 1.9875691500e-4f + 1.3981999507e-3f;
    }
#pragma GCC unroll 4
    for (const float c : coefficients) {
#pragma GCC unroll 4
      for (int k = 0; k < parts; ++k) p[k] = p[k] * v[k] + c;
    }
#pragma GCC unroll 4
    for (int k = 0; k < parts; ++k) {
      p[k] = ((p[k] * (v[k] * v[k]) + v[k]) + 1.0f) * bits_as<Floats>((bits_as<Words>(shifted[k]) + 127u) << 23);
      std::memcpy(y + i + k * width, &p[k], sizeof(Floats));
    }
  }
}

// Threefry-4x32 with 13 rounds: 16 bits for each of n elements, all folded into the first of y. The key is read from
// x, so that nothing is known beforehand. Two vectors at a time, as the rounds of one are a chain.
template <int width>
FASTNN_INLINE void random_bits_loop(float* y, const float* x, std::int64_t n) {
  using Words = Vector<std::uint32_t, 4 * width>;
  constexpr int parts = 2, rounds = 13;
  constexpr int rotation[8][2] = {{10, 26}, {11, 21}, {13, 27}, {23, 5}, {6, 20}, {17, 11}, {25, 10}, {18, 20}};
  std::uint32_t ks[5];
  std::memcpy(ks, x, 4 * sizeof *ks);
  ks[4] = 0x1BD11BDAu ^ ks[0] ^ ks[1] ^ ks[2] ^ ks[3];
  constexpr std::uint32_t lane[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                      16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
  Words counter[parts], folded = {};
  std::memcpy(counter, lane, sizeof counter);
  for (std::int64_t i = 0; i < n; i += 8 * parts * width) {  // 8 elements for each counter
    Words w[4][parts] = {};
    for (int k = 0; k < parts; ++k) {
      w[0][k] = counter[k];
      counter[k] += static_cast<std::uint32_t>(parts * width);
      for (int j = 0; j < 4; ++j) w[j][k] += ks[j];
    }
#pragma GCC unroll 13
    for (int r = 0; r < rounds; ++r) {
      Words(&odd)[parts] = w[r & 1 ? 3 : 1], (&other)[parts] = w[r & 1 ? 1 : 3];
      const int left = rotation[r & 7][0], right = rotation[r & 7][1], d = r / 4 + 1;
      for (int k = 0; k < parts; ++k) {
        w[0][k] += odd[k];
        odd[k] = ((odd[k] << left) | (odd[k] >> (32 - left))) ^ w[0][k];
        w[2][k] += other[k];
        other[k] = ((other[k] << right) | (other[k] >> (32 - right))) ^ w[2][k];
        for (int j = 0; (r & 3) == 3 && j < 4; ++j) {  // inject the key
          w[j][k] += ks[(d + j) % 5] + static_cast<std::uint32_t>(j == 3 ? d : 0);
        }
      }
    }
    for (int k = 0; k < parts; ++k) folded ^= w[0][k] ^ w[1][k] ^ w[2][k] ^ w[3][k];
  }
  std::memcpy(y, &folded, sizeof folded);
}

#ifdef FASTNN_X86_64
#define FASTNN_LOOPS(suffix, level, width, prefix)                               \
  level void divide_##suffix(float* y, const float* x, std::int64_t n) {         \
    const auto one = prefix##_set1_ps(1);                                        \
    for (std::int64_t i = 0; i < n; i += width) {                                \
      prefix##_storeu_ps(y + i, prefix##_div_ps(one, prefix##_loadu_ps(x + i))); \
    }                                                                            \
  }                                                                              \
  level void sqrt_##suffix(float* y, const float* x, std::int64_t n) {           \
    for (std::int64_t i = 0; i < n; i += width) {                                \
      prefix##_storeu_ps(y + i, prefix##_sqrt_ps(prefix##_loadu_ps(x + i)));     \
    }                                                                            \
  }                                                                              \
  level void exp_##suffix(float* y, const float* x, std::int64_t n) {            \
    exp_loop<width>(y, x, n);                                                    \
  }                                                                              \
  level void random_bits_##suffix(float* y, const float* x, std::int64_t n) {    \
    random_bits_loop<width>(y, x, n);                                            \
  }
FASTNN_LOOPS(baseline, , 4, _mm)
FASTNN_LOOPS(v3, FASTNN_TARGET("avx2"), 8, _mm256)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // g++ 12 warns about its own _mm512_undefined_ps
#endif
FASTNN_LOOPS(v4, FASTNN_TARGET("avx512f"), 16, _mm512)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#undef FASTNN_LOOPS
#else
void divide_baseline(float* y, const float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = 1.0f / x[i];
}
void sqrt_baseline(float* y, const float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = std::sqrt(x[i]);
}
void exp_baseline(float* y, const float* x, std::int64_t n) {
  exp_loop<4>(y, x, n);
}
void random_bits_baseline(float* y, const float* x, std::int64_t n) {
  random_bits_loop<4>(y, x, n);
}
#endif

using Loop = void (*)(float*, const float*, std::int64_t);

struct Arithmetic {
  const char* operation;
  Loop baseline, v3, v4;
};

#ifdef FASTNN_X86_64
#define FASTNN_ARITHMETIC(name) {#name, name##_baseline, name##_v3, name##_v4}
#else  // one level
#define FASTNN_ARITHMETIC(name) {#name, name##_baseline, name##_baseline, name##_baseline}
#endif
constexpr Arithmetic kArithmetic[] = {FASTNN_ARITHMETIC(divide), FASTNN_ARITHMETIC(sqrt), FASTNN_ARITHMETIC(exp),
                                      FASTNN_ARITHMETIC(random_bits)};
#undef FASTNN_ARITHMETIC

Loop arithmetic_loop(const std::string& operation, const std::string& level) {
  for (const Arithmetic& found : kArithmetic) {
    if (operation != found.operation) continue;
#ifdef FASTNN_X86_64
    if (level == "v4" && cpu::has_v4()) return found.v4;
    if (level == "v3" && cpu::has_v3()) return found.v3;
#endif
    (void)level;  // the baseline, and every level of a machine that has only one
    return found.baseline;
  }
  throw std::invalid_argument("operation: expected 'divide', 'sqrt', 'exp' or 'random_bits'");
}

// Seconds per element.
double bench_arithmetic(const std::string& operation, const std::string& level, int repeats) {
  require(repeats > 0, "repeats: expected a positive number");
  constexpr std::int64_t n = 4 * kBlock;  // both arrays stay in L1
  std::vector<float> x(n), y(n);
  for (std::int64_t i = 0; i < n; ++i) x[static_cast<std::size_t>(i)] = 1.0f + static_cast<float>(i) / 977.0f;
  const Loop loop = arithmetic_loop(operation, level);
  const auto start = Clock::now();
  for (int r = 0; r < repeats; ++r) loop(y.data(), x.data(), n);
  return seconds_since(start) / (static_cast<double>(repeats) * n);
}

}  // namespace

void bind_bench(py::module_& m) {
  m.def("_bench_copy", &bench_copy, py::arg("dst"), py::arg("src"), py::arg("streaming"), py::arg("repeats"),
        py::arg("threads"));
  m.def("_bench_triad", &bench_triad, py::arg("a"), py::arg("b"), py::arg("c"), py::arg("streaming"),
        py::arg("repeats"), py::arg("threads"));
  m.def("_bench_read", &bench_read, py::arg("src"), py::arg("repeats"), py::arg("threads"));
  m.def("_bench_region", &bench_region, py::arg("repeats"), py::arg("gap"));
  m.def("_bench_arithmetic", &bench_arithmetic, py::arg("operation"), py::arg("level"), py::arg("repeats"));
  m.def("_cache_bytes", [] { return py::make_tuple(l2_bytes(), llc_bytes()); });
}

}  // namespace fastnn
