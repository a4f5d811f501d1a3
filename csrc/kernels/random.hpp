// Counter-based random bits: Threefry-4x32 with 13 rounds (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC11), and dropout, which uses them. 16 bits per element; a tile of 128 elements is 16 counters, one per
// lane, so that 16 consecutive elements are one half of one word of every lane:
//   element e of the stream: tile e / 128, and within it word j = r / 32, half h = (r % 32) / 16, lane r % 16.
#pragma once
#include "lanes.hpp"

namespace fastnn {
namespace {

using Words = Lanes<std::uint32_t>;

FASTNN_INLINE Words::Vector rotated(Words::Vector x, int by) {
  return (x << by) | (x >> (32 - by));
}

FASTNN_INLINE void random_tile(const std::uint32_t* key, std::uint64_t tile, Words (&x)[4]) {
  constexpr int rotation[8][2] = {{10, 26}, {11, 21}, {13, 27}, {23, 5}, {6, 20}, {17, 11}, {25, 10}, {18, 20}};
  constexpr int rounds = 13;
  constexpr std::uint32_t lane[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const std::uint32_t ks[5] = {key[0], key[1], key[2], key[3], 0x1BD11BDAu ^ key[0] ^ key[1] ^ key[2] ^ key[3]};
  const std::uint64_t counter = tile * kLanes;
  x[0] = Words::load(lane) + (static_cast<std::uint32_t>(counter) + ks[0]);
  x[1] = Words::zero() + (static_cast<std::uint32_t>(counter >> 32) + ks[1]);
  x[2] = Words::zero() + ks[2];
  x[3] = Words::zero() + ks[3];
#pragma GCC unroll 13
  for (int r = 0; r < rounds; ++r) {
    Words &x1 = x[r & 1 ? 3 : 1], &x3 = x[r & 1 ? 1 : 3];
#pragma GCC unroll 4
    for (index k = 0; k < Words::count; ++k) {
      x[0].part[k] += x1.part[k];
      x1.part[k] = rotated(x1.part[k], rotation[r & 7][0]) ^ x[0].part[k];
      x[2].part[k] += x3.part[k];
      x3.part[k] = rotated(x3.part[k], rotation[r & 7][1]) ^ x[2].part[k];
    }
    if ((r & 3) == 3) {  // inject the key
      const int d = r / 4 + 1;
      for (int j = 0; j < 4; ++j) x[j] = x[j] + (ks[(d + j) % 5] + static_cast<std::uint32_t>(j == 3 ? d : 0));
    }
  }
}

// Dropout of one stream: y = bits < threshold ? x * scale : 0.
template <class T>
class Dropout {
 public:
  FASTNN_INLINE explicit Dropout(const Epilogue<T>& e)
      : key_(e.key), scale_(e.keep_scale), limit_(signed_word(static_cast<std::uint32_t>(e.threshold) << 16)) {}

  // On n elements from `element` of the stream on; y may be x itself. Computing the bits takes as long as memory does:
  // meanwhile the lines at `ahead` and `beside` (or nullptr) are fetched, which whoever comes next will read.
  FASTNN_NOINLINE void apply(const T* x, T* y, index element, index n, const T* ahead, const T* beside) {
    for (index i = 0; i < n;) {
      const std::uint64_t at = static_cast<std::uint64_t>(element + i);
      const index begin = static_cast<index>(at % kTile), length = n - i < kTile - begin ? n - i : kTile - begin;
      fetch(ahead + i);
      if (beside) fetch(beside + i);
      if (sizeof(T) == sizeof(std::uint32_t) && length == kTile)
        whole_tile(x + i, y + i, at / kTile);
      else
        part_of_tile(x + i, y + i, at / kTile, begin, length);
      i += length;
    }
  }

 private:
  // Words compare by their upper half alone: the threshold's lower half is 0. Signed, as AVX2 has no other comparison.
  static constexpr std::uint32_t kSign = 0x80000000u;
  static FASTNN_INLINE std::int32_t signed_word(std::uint32_t word) { return static_cast<std::int32_t>(word ^ kSign); }

  static FASTNN_INLINE void fetch(const T* lines) {
    for (index i = 0; i < kTile; i += 64 / static_cast<index>(sizeof(T))) __builtin_prefetch(lines + i);
  }

  FASTNN_INLINE void whole_tile(const T* x, T* y, std::uint64_t tile) const {
    typedef std::int32_t Signed __attribute__((vector_size(kVectorBytes)));
    Words words[4];
    random_tile(key_, tile, words);
    for (int half = 0; half < 8; ++half)
      for (index k = 0; k < Words::count; ++k) {
        const index i = half * kLanes + k * Words::width;
        const Words::Vector word = words[half / 2].part[k];
        const Signed bits = (Signed)((half % 2 ? word : word << 16) ^ kSign);
        typename Lanes<T>::Vector v;
        std::memcpy(&v, x + i, sizeof v);
        v = v * scale_;
        const Signed kept = (Signed)v & (bits < limit_);
        std::memcpy(y + i, &kept, sizeof kept);
      }
  }

  FASTNN_INLINE void part_of_tile(const T* x, T* y, std::uint64_t tile, index begin, index n) {
    if (tile != tile_) {  // else left over from the stretch before
      Words words[4];
      random_tile(key_, tile, words);
      for (int half = 0; half < 8; ++half) {
        std::uint32_t lane[kLanes];
        words[half / 2].store(lane);
        for (index l = 0; l < kLanes; ++l) bits_[half * kLanes + l] = signed_word(half % 2 ? lane[l] : lane[l] << 16);
      }
      tile_ = tile;
    }
    const std::int32_t* FASTNN_RESTRICT const bits = bits_ + begin;
    const T scale = scale_;
    const std::int32_t limit = limit_;
#pragma GCC ivdep
    for (index i = 0; i < n; ++i) {
      const T kept = x[i] * scale;
      y[i] = bits[i] < limit ? kept : T(0);
    }
  }

  const std::uint32_t* key_;
  T scale_;
  std::int32_t limit_;
  std::uint64_t tile_ = ~std::uint64_t{0};
  std::int32_t bits_[kTile];
};

}  // namespace
}  // namespace fastnn
