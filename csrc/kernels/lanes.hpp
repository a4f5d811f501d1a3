// Vectors of the level's native width, the 16 lanes of a reduction, and stores past the cache.
#pragma once
#include <cstring>

#include "../contract.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace fastnn {
namespace {

#if defined(__AVX512F__)
constexpr index kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr index kVectorBytes = 32;
#else
constexpr index kVectorBytes = 16;
#endif

#define FASTNN_INLINE inline __attribute__((always_inline))
#define FASTNN_RESTRICT __restrict
#define FASTNN_NOINLINE __attribute__((noinline))  // called once per strip: one copy is enough

// 16 lanes as vectors of the native width. Wider types than the hardware's are lowered badly by gcc 12 (measured:
// 11 times slower on AVX2), plain arrays of 16 are vectorised with permutes (15 times slower).
template <class T>
struct Lanes {
  typedef T Vector __attribute__((vector_size(kVectorBytes)));
  static constexpr index width = kVectorBytes / static_cast<index>(sizeof(T));
  static constexpr index count = kLanes / width;
  Vector part[count];

  static FASTNN_INLINE Lanes zero() {
    Lanes r;
    for (index k = 0; k < count; ++k) r.part[k] = Vector{};
    return r;
  }
  static FASTNN_INLINE Lanes load(const T* p) {
    Lanes r;
    for (index k = 0; k < count; ++k) std::memcpy(&r.part[k], p + k * width, sizeof(Vector));
    return r;
  }
  FASTNN_INLINE void store(T* p) const {
    for (index k = 0; k < count; ++k) std::memcpy(p + k * width, &part[k], sizeof(Vector));
  }
  friend FASTNN_INLINE Lanes operator+(Lanes a, const Lanes& b) {
    for (index k = 0; k < count; ++k) a.part[k] += b.part[k];
    return a;
  }
  friend FASTNN_INLINE Lanes operator*(Lanes a, const Lanes& b) {
    for (index k = 0; k < count; ++k) a.part[k] *= b.part[k];
    return a;
  }
  friend FASTNN_INLINE Lanes operator-(Lanes a, const Lanes& b) {
    for (index k = 0; k < count; ++k) a.part[k] -= b.part[k];
    return a;
  }
  friend FASTNN_INLINE Lanes operator-(Lanes a, T b) {
    for (index k = 0; k < count; ++k) a.part[k] -= b;
    return a;
  }
  friend FASTNN_INLINE Lanes operator+(Lanes a, T b) {
    for (index k = 0; k < count; ++k) a.part[k] += b;
    return a;
  }
};

// 16 -> 8 -> 4 -> 2 -> 1, each step a loop of fixed length.
template <class T>
FASTNN_INLINE T fold_lanes(const T* lane) {
  T v[8];
  for (index l = 0; l < 8; ++l) v[l] = lane[l] + lane[l + 8];
  for (index l = 0; l < 4; ++l) v[l] += v[l + 4];
  for (index l = 0; l < 2; ++l) v[l] += v[l + 2];
  return v[0] + v[1];
}

// Copies a block that is hot in L1 to memory without reading the target's lines into the cache.
template <class T>
FASTNN_INLINE void stream_block(const T* FASTNN_RESTRICT from, T* FASTNN_RESTRICT to, index n) {
#if defined(__SSE2__)
  constexpr index width = kVectorBytes / static_cast<index>(sizeof(T));
  index i = 0;
  while (i < n && reinterpret_cast<std::uintptr_t>(to + i) % static_cast<std::uintptr_t>(kVectorBytes) != 0) {
    to[i] = from[i];
    ++i;
  }
  for (; i + width <= n; i += width) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), _mm512_loadu_si512(from + i));
#elif defined(__AVX2__)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i),
                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)));
#else
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
#endif
  }
  for (; i < n; ++i) to[i] = from[i];
#else
  std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
#endif
}

// Orders streamed stores before whatever the thread publishes next.
FASTNN_INLINE void stream_fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace
}  // namespace fastnn
