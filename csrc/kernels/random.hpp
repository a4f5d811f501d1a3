// Counter-based random bits: Threefry-4x32 with 13 rounds (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC11). 16 bits per element; a tile of 128 elements is 16 counters, one per lane, so that 16 consecutive
// elements are one half of one word of every lane:
//   element e of the stream: tile e / 128, and within it word j = r / 32, half h = (r % 32) / 16, lane r % 16.
#pragma once
#include "lanes.hpp"

namespace fastnn {
namespace {

FASTNN_INLINE void random_tile(const std::uint32_t* key, std::uint64_t tile, std::int32_t* FASTNN_RESTRICT bits) {
  constexpr int rotation[8][2] = {{10, 26}, {11, 21}, {13, 27}, {23, 5}, {6, 20}, {17, 11}, {25, 10}, {18, 20}};
  constexpr int rounds = 13;
  const std::uint32_t ks[5] = {key[0], key[1], key[2], key[3], 0x1BD11BDAu ^ key[0] ^ key[1] ^ key[2] ^ key[3]};
  std::uint32_t x[4][kLanes];
  for (index l = 0; l < kLanes; ++l) {
    const std::uint64_t counter = tile * kLanes + static_cast<std::uint64_t>(l);
    x[0][l] = static_cast<std::uint32_t>(counter) + ks[0];
    x[1][l] = static_cast<std::uint32_t>(counter >> 32) + ks[1];
    x[2][l] = ks[2];
    x[3][l] = ks[3];
  }
#pragma GCC unroll 13
  for (int r = 0; r < rounds; ++r) {
    const int a = rotation[r & 7][0], b = rotation[r & 7][1];
    std::uint32_t *x0 = x[0], *x1 = x[r & 1 ? 3 : 1], *x2 = x[2], *x3 = x[r & 1 ? 1 : 3];
    for (index l = 0; l < kLanes; ++l) {
      x0[l] += x1[l];
      x1[l] = ((x1[l] << a) | (x1[l] >> (32 - a))) ^ x0[l];
      x2[l] += x3[l];
      x3[l] = ((x3[l] << b) | (x3[l] >> (32 - b))) ^ x2[l];
    }
    if ((r & 3) == 3) {  // inject the key
      const int d = r / 4 + 1;
      for (index l = 0; l < kLanes; ++l) {
        x[0][l] += ks[d % 5];
        x[1][l] += ks[(d + 1) % 5];
        x[2][l] += ks[(d + 2) % 5];
        x[3][l] += ks[(d + 3) % 5] + static_cast<std::uint32_t>(d);
      }
    }
  }
  for (int j = 0; j < 4; ++j)
    for (index l = 0; l < kLanes; ++l) {
      bits[32 * j + l] = static_cast<std::int32_t>(x[j][l] & 0xffffu);
      bits[32 * j + kLanes + l] = static_cast<std::int32_t>(x[j][l] >> 16);
    }
}

// The bits of stretches of one stream, at most kBlock elements at a time. What was computed for the last stretch is
// kept, so that walking contiguous memory computes every tile once, however it is cut.
class RandomBits {
 public:
  FASTNN_NOINLINE const std::int32_t* at(const std::uint32_t* key, index element, index n) {
    const index first = element / kTile, last = (element + n - 1) / kTile;
    if (first < first_ || last > last_) {
      index t = first;
      if (first == last_) {
        if (first_ < last_) std::memcpy(bits_, bits_ + (last_ - first_) * kTile, sizeof(std::int32_t) * kTile);
        ++t;
      }
      for (; t <= last; ++t) random_tile(key, static_cast<std::uint64_t>(t), bits_ + (t - first) * kTile);
      first_ = first;
      last_ = last;
    }
    return bits_ + (element - first_ * kTile);
  }

 private:
  index first_ = 0, last_ = -1;  // tiles at hand
  std::int32_t bits_[kBlock + 2 * kTile];
};

}  // namespace
}  // namespace fastnn
