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

#include "../memory.hpp"
#include "../parallel.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#define FASTNN_TARGET(level) __attribute__((target(level)))
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
#if defined(__x86_64__)
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
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return copy_plain_avx2;
#endif
  return copy_plain;
}

using Triad = void (*)(float*, const float*, const float*, float, std::size_t);

Triad fastest_triad(bool streaming) {
  if (streaming) return triad_streaming;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return triad_plain_avx2;
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

#if defined(__x86_64__)
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
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return read_all_avx2;
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

// Throughput of the instructions that can outlast the memory, at the vector width of each ISA level. n is a multiple
// of every width.
#if defined(__x86_64__)
#define FASTNN_LOOPS(suffix, level, T, width, prefix, lanes)                                    \
  level void divide_##suffix(T* y, const T* x, std::int64_t n) {                                \
    const auto one = prefix##_set1_##lanes(1);                                                  \
    for (std::int64_t i = 0; i < n; i += width) {                                               \
      prefix##_storeu_##lanes(y + i, prefix##_div_##lanes(one, prefix##_loadu_##lanes(x + i))); \
    }                                                                                           \
  }                                                                                             \
  level void sqrt_##suffix(T* y, const T* x, std::int64_t n) {                                  \
    for (std::int64_t i = 0; i < n; i += width) {                                               \
      prefix##_storeu_##lanes(y + i, prefix##_sqrt_##lanes(prefix##_loadu_##lanes(x + i)));     \
    }                                                                                           \
  }
FASTNN_LOOPS(baseline, , float, 4, _mm, ps)
FASTNN_LOOPS(baseline, , double, 2, _mm, pd)
FASTNN_LOOPS(v3, FASTNN_TARGET("avx2"), float, 8, _mm256, ps)
FASTNN_LOOPS(v3, FASTNN_TARGET("avx2"), double, 4, _mm256, pd)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // g++ 12 warns about its own _mm512_undefined_ps
FASTNN_LOOPS(v4, FASTNN_TARGET("avx512f"), float, 16, _mm512, ps)
FASTNN_LOOPS(v4, FASTNN_TARGET("avx512f"), double, 8, _mm512, pd)
#pragma GCC diagnostic pop
#undef FASTNN_LOOPS
#else
template <class T>
void divide_baseline(T* y, const T* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = T(1) / x[i];
}
template <class T>
void sqrt_baseline(T* y, const T* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = std::sqrt(x[i]);
}
#endif

template <class T>
using Loop = void (*)(T*, const T*, std::int64_t);

template <class T>
Loop<T> arithmetic_loop(const std::string& operation, const std::string& level) {
  const bool divide = operation == "divide";
  require(divide || operation == "sqrt", "operation: expected 'divide' or 'sqrt'");
#if defined(__x86_64__)
  if (level == "v4" && __builtin_cpu_supports("avx512f")) {
    return divide ? static_cast<Loop<T>>(divide_v4) : static_cast<Loop<T>>(sqrt_v4);
  }
  if (level == "v3" && __builtin_cpu_supports("avx2")) {
    return divide ? static_cast<Loop<T>>(divide_v3) : static_cast<Loop<T>>(sqrt_v3);
  }
#endif
  (void)level;  // the baseline, and every level of a machine that has only one
  return divide ? static_cast<Loop<T>>(divide_baseline) : static_cast<Loop<T>>(sqrt_baseline);
}

template <class T>
double time_arithmetic(const std::string& operation, const std::string& level, int repeats) {
  constexpr std::int64_t n = 1024;  // both arrays stay in L1
  std::vector<T> x(n), y(n);
  for (std::int64_t i = 0; i < n; ++i) x[static_cast<std::size_t>(i)] = T(1) + T(i) / T(977);
  const Loop<T> loop = arithmetic_loop<T>(operation, level);
  const auto start = Clock::now();
  for (int r = 0; r < repeats; ++r) loop(y.data(), x.data(), n);
  return seconds_since(start) / (static_cast<double>(repeats) * n);
}

double bench_arithmetic(const std::string& operation, const std::string& level, bool is_double, int repeats) {
  require(repeats > 0, "repeats: expected a positive number");
  return is_double ? time_arithmetic<double>(operation, level, repeats)
                   : time_arithmetic<float>(operation, level, repeats);
}

}  // namespace

void bind_bench(py::module_& m) {
  m.def("_bench_copy", &bench_copy, py::arg("dst"), py::arg("src"), py::arg("streaming"), py::arg("repeats"),
        py::arg("threads"));
  m.def("_bench_triad", &bench_triad, py::arg("a"), py::arg("b"), py::arg("c"), py::arg("streaming"),
        py::arg("repeats"), py::arg("threads"));
  m.def("_bench_read", &bench_read, py::arg("src"), py::arg("repeats"), py::arg("threads"));
  m.def("_bench_region", &bench_region, py::arg("repeats"), py::arg("gap"));
  m.def("_bench_arithmetic", &bench_arithmetic, py::arg("operation"), py::arg("level"), py::arg("double"),
        py::arg("repeats"));
  m.def("_cache_bytes", [] { return py::make_tuple(l2_bytes(), llc_bytes()); });
}

}  // namespace fastnn
