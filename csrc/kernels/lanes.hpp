// Vectors of the level's native width, the 16 lanes of a reduction, and stores past the cache.
#pragma once
#include <cstring>

#include "../contract.hpp"
#include "../vectors.hpp"

#ifdef FASTNN_X86_64
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

FASTNN_INLINE index smaller(index a, index b) {
  return a < b ? a : b;
}

// 16 lanes as vectors of the native width. Wider types than the hardware's are lowered badly by gcc 12 (measured:
// 11 times slower on AVX2), plain arrays of 16 are vectorised with permutes (15 times slower). Unrolled by hand, as
// four vectors of doubles would else stay in memory (sums 3 to 4 times slower).
template <class T>
struct Lanes {
  using Vector = fastnn::Vector<T, kVectorBytes>;
  using Integer = typename IntegerOf<sizeof(T)>::type;
  static constexpr index width = kVectorBytes / static_cast<index>(sizeof(T));
  static constexpr index count = kLanes / width;
  Vector part[count];

  static FASTNN_INLINE Lanes zero() {
    Lanes r;
#pragma GCC unroll 8
    for (index k = 0; k < count; ++k) r.part[k] = Vector{};
    return r;
  }
  static FASTNN_INLINE Lanes load(const T* p) {
    Lanes r;
#pragma GCC unroll 8
    for (index k = 0; k < count; ++k) std::memcpy(&r.part[k], p + k * width, sizeof(Vector));
    return r;
  }
  // n <= 16 elements and zeros behind them; nothing else is read.
  static FASTNN_INLINE Lanes load(const T* p, index n) {
#if defined(__AVX512F__)
    Lanes r;
#pragma GCC unroll 8
    for (index k = 0; k < count; ++k) {
      const unsigned present = (1u << smaller(n, kLanes)) - 1;
      if constexpr (sizeof(T) == 4)
        r.part[k] = bits_as<Vector>(_mm512_maskz_loadu_epi32(static_cast<__mmask16>(present), p));
      else
        r.part[k] =
            bits_as<Vector>(_mm512_maskz_loadu_epi64(static_cast<__mmask8>(present >> k * width), p + k * width));
    }
    return r;
#else
    T lane[kLanes] = {};
    for (index l = 0; l < kLanes; ++l)
      if (l < n) lane[l] = p[l];
    return load(lane);
#endif
  }
  // The first n entries, and zeros behind them.
  FASTNN_INLINE Lanes first(index n) const {
    return where([n](auto number) { return number < decltype(number){} + static_cast<Integer>(n); });
  }
  // 0 instead of entry l, if there is one.
  FASTNN_INLINE Lanes without(index l) const {
    return where([l](auto number) { return number != decltype(number){} + static_cast<Integer>(l); });
  }
  FASTNN_INLINE void store(T* p) const {
#pragma GCC unroll 8
    for (index k = 0; k < count; ++k) std::memcpy(p + k * width, &part[k], sizeof(Vector));
  }
  friend FASTNN_INLINE Lanes operator+(Lanes a, const Lanes& b) {
#pragma GCC unroll 8
    for (index k = 0; k < count; ++k) a.part[k] += b.part[k];
    return a;
  }
  friend FASTNN_INLINE Lanes operator*(Lanes a, const Lanes& b) {
#pragma GCC unroll 8
    for (index k = 0; k < count; ++k) a.part[k] *= b.part[k];
    return a;
  }
  friend FASTNN_INLINE Lanes operator-(Lanes a, const Lanes& b) {
#pragma GCC unroll 8
    for (index k = 0; k < count; ++k) a.part[k] -= b.part[k];
    return a;
  }
  friend FASTNN_INLINE Lanes operator-(Lanes a, T b) {
#pragma GCC unroll 8
    for (index k = 0; k < count; ++k) a.part[k] -= b;
    return a;
  }
  friend FASTNN_INLINE Lanes operator+(Lanes a, T b) {
#pragma GCC unroll 8
    for (index k = 0; k < count; ++k) a.part[k] += b;
    return a;
  }

 private:
  // Entries whose numbers `kept` gives a mask for, and zeros.
  template <class Kept>
  FASTNN_INLINE Lanes where(const Kept& kept) const {
    static constexpr Integer numbers[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    Lanes r;
#pragma GCC unroll 8
    for (index k = 0; k < count; ++k) {
      fastnn::Vector<Integer, kVectorBytes> number;
      std::memcpy(&number, numbers + k * width, sizeof number);
      r.part[k] = pick(kept(number), part[k], Vector{});
    }
    return r;
  }
};

template <class T>
FASTNN_INLINE Lanes<T> larger(Lanes<T> a, const Lanes<T>& b) {
#pragma GCC unroll 8
  for (index k = 0; k < Lanes<T>::count; ++k) a.part[k] = pick(b.part[k] > a.part[k], b.part[k], a.part[k]);
  return a;
}

// The next elements as a vector of doubles. (gcc 12 converts vectors of floats by halves.)
FASTNN_INLINE Lanes<double>::Vector load_doubles(const double* p) {
  Lanes<double>::Vector v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
FASTNN_INLINE Lanes<double>::Vector load_doubles(const float* p) {
#if defined(__AVX512F__)
  return bits_as<Lanes<double>::Vector>(_mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(p)));
#elif defined(__AVX2__)
  return bits_as<Lanes<double>::Vector>(_mm256_cvtps_pd(_mm_loadu_ps(p)));
#else
  return Lanes<double>::Vector{static_cast<double>(p[0]), static_cast<double>(p[1])};
#endif
}

// The same of lanes that are in registers.
FASTNN_INLINE const Lanes<double>& as_doubles(const Lanes<double>& x) {
  return x;
}
FASTNN_INLINE Lanes<double> as_doubles(const Lanes<float>& x) {
  Lanes<double> d;
#pragma GCC unroll 8
  for (index k = 0; k < Lanes<float>::count; ++k) {
#if defined(__AVX512F__)
    __m512 v;
    std::memcpy(&v, &x.part[k], sizeof v);
    const auto low = _mm512_maskz_extractf32x8_ps(0xff, v, 0), high = _mm512_maskz_extractf32x8_ps(0xff, v, 1);
    d.part[2 * k] = bits_as<Lanes<double>::Vector>(_mm512_maskz_cvtps_pd(0xff, low));
    d.part[2 * k + 1] = bits_as<Lanes<double>::Vector>(_mm512_maskz_cvtps_pd(0xff, high));
#elif defined(__AVX2__)
    __m256 v;
    std::memcpy(&v, &x.part[k], sizeof v);
    d.part[2 * k] = bits_as<Lanes<double>::Vector>(_mm256_cvtps_pd(_mm256_castps256_ps128(v)));
    d.part[2 * k + 1] = bits_as<Lanes<double>::Vector>(_mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)));
#else
    const auto v = x.part[k];
    for (int i = 0; i < 2; ++i)
      d.part[2 * k + i] = Lanes<double>::Vector{static_cast<double>(v[2 * i]), static_cast<double>(v[2 * i + 1])};
#endif
  }
  return d;
}

// to[j * to_stride + i] = from[i * from_stride + j], i and j below 4. Halves of two rows first, then every second
// entry: SSE and AVX do that to floats and to doubles, whose rows are two registers or one of two lanes, in one
// instruction. Only the first `Columns` are written.
template <index Columns = 4, class T>
FASTNN_INLINE void transpose_four(const T* from, index from_stride, T* to, index to_stride) {
  using Four = Vector<T, 4 * sizeof(T)>;
  constexpr index apart = sizeof(T) == sizeof(double) ? 2 : 1;  // rows whose halves are put together
  constexpr int x = apart == 2 ? 4 : 2, y = 6 - x;
  Four a, b, c, d;
  std::memcpy(&a, from, sizeof a);
  std::memcpy(&b, from + apart * from_stride, sizeof b);
  std::memcpy(&c, from + (3 - apart) * from_stride, sizeof c);
  std::memcpy(&d, from + 3 * from_stride, sizeof d);
  const Four ab = shuffle<0, 1, 4, 5>(a, b), ab2 = shuffle<2, 3, 6, 7>(a, b);
  const Four cd = shuffle<0, 1, 4, 5>(c, d), cd2 = shuffle<2, 3, 6, 7>(c, d);
  const Four column[4] = {shuffle<0, x, y, 6>(ab, cd), shuffle<1, x + 1, y + 1, 7>(ab, cd),
                          shuffle<0, x, y, 6>(ab2, cd2), shuffle<1, x + 1, y + 1, 7>(ab2, cd2)};
  for (index j = 0; j < Columns; ++j) std::memcpy(to + j * to_stride, &column[j], sizeof(Four));
}

// even[i] = pairs[2 * i] and odd[i] = pairs[2 * i + 1]: four pairs at a time, those left over together with some before
// them, a second time.
template <class T>
FASTNN_NOINLINE void separate_pairs(const T* FASTNN_RESTRICT pairs, T* FASTNN_RESTRICT even, T* FASTNN_RESTRICT odd,
                                    index n) {
  using Four = Vector<T, 4 * sizeof(T)>;
  for (index k = 0; n >= 4 && k < n; k += 4) {
    const index i = smaller(k, n - 4);
    Four a, b;
    std::memcpy(&a, pairs + 2 * i, sizeof a);
    std::memcpy(&b, pairs + 2 * i + 4, sizeof b);
    const Four first = shuffle<0, 2, 4, 6>(a, b), second = shuffle<1, 3, 5, 7>(a, b);
    std::memcpy(even + i, &first, sizeof a);
    std::memcpy(odd + i, &second, sizeof a);
  }
  for (index i = 0; n < 4 && i < n; ++i) {
    even[i] = pairs[2 * i];
    odd[i] = pairs[2 * i + 1];
  }
}

// The other way.
template <class T>
FASTNN_NOINLINE void join_pairs(const T* FASTNN_RESTRICT even, const T* FASTNN_RESTRICT odd, T* FASTNN_RESTRICT pairs,
                                index n) {
  using Four = Vector<T, 4 * sizeof(T)>;
  for (index k = 0; n >= 4 && k < n; k += 4) {
    const index i = smaller(k, n - 4);
    Four a, b;
    std::memcpy(&a, even + i, sizeof a);
    std::memcpy(&b, odd + i, sizeof b);
    const Four first = shuffle<0, 4, 1, 5>(a, b), second = shuffle<2, 6, 3, 7>(a, b);
    std::memcpy(pairs + 2 * i, &first, sizeof a);
    std::memcpy(pairs + 2 * i + 4, &second, sizeof a);
  }
  for (index i = 0; n < 4 && i < n; ++i) {
    pairs[2 * i] = even[i];
    pairs[2 * i + 1] = odd[i];
  }
}

// transpose_four of any number of rows and columns, four of each at a time: what is left over is done together with
// those before it, a second time, unless it is a single row or column.
template <class T>
FASTNN_INLINE void transpose(const T* from, index from_stride, T* to, index to_stride, index rows, index columns) {
  if (rows < 4 || columns < 4) {
    for (index i = 0; i < rows; ++i)
      for (index j = 0; j < columns; ++j) to[j * to_stride + i] = from[i * from_stride + j];
    return;
  }
  for (index c = 0; c + 1 < columns; c += 4) {
    const index j = c + 4 <= columns ? c : columns - 4;
    const auto block = [=](index i) {
      transpose_four(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
    };
    for (index i = 0; i + 4 <= rows; i += 4) block(i);
    if (rows % 4 > 1) block(rows - 4);
  }
  if (columns % 4 == 1)
    for (index i = 0; i < rows; ++i) to[(columns - 1) * to_stride + i] = from[i * from_stride + columns - 1];
  if (rows % 4 == 1)
    for (index j = 0; j < columns; ++j) to[j * to_stride + rows - 1] = from[(rows - 1) * from_stride + j];
}

// 16 -> 8 -> 4 -> 2 -> 1, each step a loop of fixed length.
template <class T>
FASTNN_INLINE T fold_lanes(const T* lane) {
  T v[8];
  for (index l = 0; l < 8; ++l) v[l] = lane[l] + lane[l + 8];
  for (index l = 0; l < 4; ++l) v[l] += v[l + 4];
  for (index l = 0; l < 2; ++l) v[l] += v[l + 2];
  return v[0] + v[1];
}

template <class T>
FASTNN_INLINE T fold_lanes(const Lanes<T>& lanes) {
  T lane[kLanes];
  lanes.store(lane);
  return fold_lanes(lane);
}

// Copies a block that is hot in L1 to memory without reading the target's lines into the cache.
template <class T>
FASTNN_INLINE void stream_block(const T* FASTNN_RESTRICT from, T* FASTNN_RESTRICT to, index n) {
#ifdef FASTNN_X86_64
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
#ifdef FASTNN_X86_64
  _mm_sfence();
#endif
}

}  // namespace
}  // namespace fastnn
