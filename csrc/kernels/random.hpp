// Counter-based random bits: Threefry-4x32 with 13 rounds (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC11), and the masks of dropout, which are made of them. 16 bits per element; a tile of 128 elements is 16
// counters, one per lane, so that 16 consecutive elements are one half of one word of every lane:
//   element e of the stream: tile e / 128, and within it word j = r / 32, half h = (r % 32) / 16, lane r % 16.
// Where an element takes a whole word (noise.hpp) the same 16 counters serve 64 of them.
#pragma once
#include "math.hpp"

namespace fastnn {
namespace {

using Words = Lanes<std::uint32_t>;
using Mask = std::int32_t;  // all ones: the element is kept; 0: it is dropped

FASTNN_INLINE float kept(float v, Mask mask) {
  return bits_as<float>(bits_as<std::int32_t>(v) & mask);
}
FASTNN_INLINE double kept(double v, Mask mask) {
  return bits_as<double>(bits_as<std::int64_t>(v) & static_cast<std::int64_t>(mask));
}

// mask ? a : b
template <class T>
FASTNN_INLINE T chosen(Mask mask, T a, T b) {
  using Bits = typename Format<T>::Bits;
  return bits_as<T>(bits_as<Bits>(kept(a, mask)) | bits_as<Bits>(kept(b, ~mask)));
}

template <class W>
FASTNN_INLINE W rotated(W x, int by) {
  return (x << by) | (x >> (32 - by));
}

// The words of one stream: a counter gives four of 32 bits.
class RandomWords {
 public:
  FASTNN_INLINE explicit RandomWords(const std::uint32_t* key) {
    const std::uint32_t ks[5] = {key[0], key[1], key[2], key[3], 0x1BD11BDAu ^ key[0] ^ key[1] ^ key[2] ^ key[3]};
    key0_ = ks[0];
    key1_ = ks[1];
    word2_ = Words::Vector{} + (ks[2] + ks[3]);
    word3_ = Words::Vector{} + (rotated(ks[3], kRotation[0][1]) ^ (ks[2] + ks[3]));
    for (int d = 1; d <= kInjections; ++d)
      for (int j = 0; j < 4; ++j)
        injected_[d - 1][j] = Words::Vector{} + (ks[(d + j) % 5] + static_cast<std::uint32_t>(j == 3 ? d : 0));
  }

  // Where the arrays begin that the bits are used with; each may be nullptr. Computing bits takes as long as memory
  // does: meanwhile the lines of a tile are fetched.
  template <class T>
  struct Lines {
    const T* at[3];
    FASTNN_INLINE void fetch(index i) const {
      for (const T* p : at)
        if (p)
          for (index l = 0; l < kTile; l += 64 / static_cast<index>(sizeof(T))) FASTNN_PREFETCH(p + i + l);
    }
  };

 protected:
  static constexpr int kRounds = 13, kInjections = (kRounds - 1) / 4;
  static constexpr int kRotation[8][2] = {{10, 26}, {11, 21}, {13, 27}, {23, 5}, {6, 20}, {17, 11}, {25, 10}, {18, 20}};
  static constexpr std::uint32_t kLane[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  // So many vectors of a word at a time: the rounds of one are a chain, those of more do not fit SSE's registers.
  static constexpr index kTogether = Words::count < 2 ? Words::count : 2;

  // Calls use(at, x) for the words of the 16 counters of a tile: x[j][l] are word j of the lanes from
  // at + l * Words::width on.
  template <class Use>
  FASTNN_INLINE void for_words(std::uint64_t tile, const Use& use) const {
    for (index k = 0; k < Words::count; k += kTogether) {
      Words::Vector x[4][kTogether];
      random_words(tile, kLane + k * Words::width, x);
      use(k * Words::width, x);
    }
  }

 private:
  // The first round is at hand: the lanes differ in the counter alone, which reaches words 0 and 1.
  FASTNN_INLINE void random_words(std::uint64_t tile, const std::uint32_t* lane,
                                  Words::Vector (&x)[4][kTogether]) const {
    const std::uint64_t counter = tile * kLanes;
    const std::uint32_t word1 = key1_ + static_cast<std::uint32_t>(counter >> 32);
    const std::uint32_t word0 = key0_ + static_cast<std::uint32_t>(counter) + word1;
    for (index l = 0; l < kTogether; ++l) {
      std::memcpy(&x[0][l], lane + l * Words::width, sizeof x[0][l]);
      x[0][l] += word0;
      x[1][l] = x[0][l] ^ rotated(word1, kRotation[0][0]);
      x[2][l] = word2_;
      x[3][l] = word3_;
    }
#pragma GCC unroll 13
    for (int r = 1; r < kRounds; ++r) {
      const int odd = r & 1 ? 3 : 1, other = r & 1 ? 1 : 3;
#pragma GCC unroll 2
      for (index l = 0; l < kTogether; ++l) {
        x[0][l] += x[odd][l];
        x[odd][l] = rotated(x[odd][l], kRotation[r & 7][0]) ^ x[0][l];
        x[2][l] += x[other][l];
        x[other][l] = rotated(x[other][l], kRotation[r & 7][1]) ^ x[2][l];
        for (int j = 0; (r & 3) == 3 && j < 4; ++j) x[j][l] += injected_[r / 4][j];
      }
    }
  }

  std::uint32_t key0_, key1_;
  Words::Vector word2_, word3_, injected_[kInjections][4];
};

// The masks of one stream: an element is kept where bits < threshold.
class KeepMasks : public RandomWords {
 public:
  FASTNN_INLINE KeepMasks(const std::uint32_t* key, std::int32_t threshold)
      : RandomWords(key), limit_(static_cast<std::int32_t>((static_cast<std::uint32_t>(threshold) << 16) ^ kSign)) {}

  static constexpr index kStrip = kBlock + kTile;  // room for a block that begins anywhere in a tile

  // The masks of n <= kBlock elements from `element` of the stream on, somewhere in `strip`; `lines` are what they are
  // for.
  template <class T>
  FASTNN_NOINLINE const Mask* draw(index element, index n, Mask* strip, const Lines<T>& lines) {
    const index begin = element % kTile;
    std::uint64_t tile = static_cast<std::uint64_t>(element / kTile);
    for (Mask* to = strip; to < strip + begin + n; to += kTile, ++tile) {
      lines.fetch(to - strip);
      if (last_ && tile == last_tile_)  // the strip before ended in this tile
        copy_tile(last_, to);
      else
        draw_tile(tile, to);
      last_ = to;
      last_tile_ = tile;
    }
    return strip + begin;
  }

 private:
  // Words compare by their upper half alone: the threshold's lower half is 0. Signed, as AVX2 has no other comparison.
  static constexpr std::uint32_t kSign = 0x80000000u, kSigns = 0x80008000u;

  static FASTNN_INLINE void copy_tile(const Mask* from, Mask* to) {
#pragma GCC ivdep
    for (index l = 0; l < kTile; ++l) to[l] = from[l];
  }

  FASTNN_NOINLINE void draw_tile(std::uint64_t tile, Mask* to) const {
    using Masks = Vector<Mask, kVectorBytes>;
    const Masks limit = Masks{} + limit_;
    for_words(tile, [&](index lane, const Words::Vector(&x)[4][kTogether]) {
      for (index j = 0; j < 4; ++j)
        for (index l = 0; l < kTogether; ++l) {
          const Words::Vector halves = x[j][l] ^ kSigns;
          const Masks lower = bits_as<Masks>(halves << 16) < limit, upper = bits_as<Masks>(halves) < limit;
          Mask* const at = to + j * 2 * kLanes + lane + l * Words::width;
          std::memcpy(at, &lower, sizeof lower);
          std::memcpy(at + kLanes, &upper, sizeof upper);
        }
    });
  }

  std::int32_t limit_;
  const Mask* last_ = nullptr;  // the tile drawn last
  std::uint64_t last_tile_ = 0;
};

}  // namespace
}  // namespace fastnn
