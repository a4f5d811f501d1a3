// Dropout of whole channels and for SELU, and noise. Like dropout's masks, all of it is replayed from a counter.
#pragma once
#include "epilogue.hpp"

namespace fastnn {
namespace {

// Calls block(g, n, y) for the blocks of [begin, end): y is where their results go, in memory or in a tile that is
// written past the cache.
template <class T, class Block>
FASTNN_INLINE void for_output_blocks(T* y, bool stream, index begin, index end, const Block& block) {
  T tile[kBlock];
  for_blocks(begin, end, [&](index g, index n) {
    block(g, n, stream ? tile : y + g);
    if (stream) stream_block(tile, y + g, n);
  });
  if (stream) stream_fence();
}

// ---- channel dropout -------------------------------------------------------------------------------------------
// y = keep ? x * keep_scale : 0 with one decision for every channel of a sample. Memory holds planes of `inner`
// elements: the channels of a sample in turn, and all of that `repeats` times if channels are not next to the samples.

// y of n elements from element `at` of the first plane on; y may be x.
template <class T>
FASTNN_INLINE void drop_planes(const T* x, T scale, const Mask* keep, index inner, index at, T* y, index n) {
  for (index i = 0; i < n; ++keep) {
    const index end = smaller(n, i + inner - at);
    const Mask mask = *keep;
#pragma GCC ivdep
    for (index j = i; j < end; ++j) y[j] = kept(x[j] * scale, mask);
    i = end;
    at = 0;
  }
}

// The decisions of a sample's channels, as many as fit a block, in the order of its planes in memory.
class ChannelMasks {
 public:
  template <class T>
  FASTNN_INLINE explicit ChannelMasks(const ChannelDropout<T>& a)
      : masks_(a.tail.key, a.tail.threshold), first_(a.tail.first), repeats_(a.repeats), channels_(a.channels) {}

  struct Run {
    const Mask* keep;
    index planes;
  };

  // The masks from a plane on, and of how many planes they are.
  FASTNN_NOINLINE Run from(index plane) {
    const index planes = repeats_ * channels_, sample = plane / planes, within = plane % planes;
    const index channel = within % channels_, band = channel / kBlock * kBlock;
    if (sample != sample_ || band != band_) draw(sample, band);
    return {keep_ + (channel - band), smaller(count_ - (channel - band), planes - within)};
  }

 private:
  FASTNN_INLINE void draw(index sample, index band) {
    count_ = smaller(channels_ - band, kBlock);
    keep_ = masks_.draw(first_ + sample * channels_ + band, count_, strip_, RandomWords::Lines<float>{});
    sample_ = sample;
    band_ = band;
    if (repeats_ == 1 || 2 * channels_ > kBlock) return;
    // A few channels, again and again: a row of them as long as a block.
    count_ = smaller(kBlock / channels_, repeats_) * channels_;
    for (index i = 0; i < count_; ++i) row_[i] = i < channels_ ? keep_[i] : row_[i - channels_];
    keep_ = row_;
  }

  KeepMasks masks_;
  index first_, repeats_, channels_;
  const Mask* keep_ = nullptr;
  index sample_ = -1, band_ = -1, count_ = 0;
  Mask strip_[KeepMasks::kStrip], row_[kBlock];
};

template <class T>
void drop_channels(const ChannelDropout<T>& a, index begin, index end) {
  ChannelMasks masks(a);
  for_output_blocks(a.y, a.stream, begin, end, [&](index g, index n, T* y) {
    for (index i = 0; i < n;) {
      const index plane = (g + i) / a.inner, at = (g + i) - plane * a.inner;
      const ChannelMasks::Run run = masks.from(plane);
      const index length = smaller(n - i, run.planes * a.inner - at);
      if (a.inner == 1)
        drop_block(a.x + g + i, a.tail.keep_scale, run.keep, y + i, length);
      else
        drop_planes(a.x + g + i, a.tail.keep_scale, run.keep, a.inner, at, y + i, length);
      i += length;
    }
  });
}

// ---- alpha dropout ---------------------------------------------------------------------------------------------
// y = keep ? x * keep_scale + shift : dropped

template <class T>
void alpha_dropout(const AlphaDropout<T>& a, index begin, index end) {
  KeepMasks masks(a.tail.key, a.tail.threshold);
  Mask strip[KeepMasks::kStrip];
  const T scale = a.tail.keep_scale, shift = a.shift, dropped = a.dropped;
  for_output_blocks(a.y, a.stream, begin, end, [&](index g, index n, T* y) {
    const T* const x = a.x + g;
    const Mask* const keep = masks.draw(a.tail.first + g, n, strip, RandomWords::Lines<T>{{x, nullptr, y}});
#pragma GCC ivdep
    for (index i = 0; i < n; ++i) y[i] = chosen(keep[i], x[i] * scale + shift, dropped);
  });
}

// ---- noise -----------------------------------------------------------------------------------------------------
// One word per element: a tile of 64 elements is 16 counters, one per lane, and element e takes word (e % 64) / 16 of
// lane e % 16 of tile e / 64.

constexpr index kWordTile = 4 * kLanes;

class NoiseWords : public RandomWords {
 public:
  using RandomWords::RandomWords;

  FASTNN_NOINLINE void draw(std::uint64_t tile, std::uint32_t* to) const {
    for_words(tile, [&](index lane, const Words::Vector(&x)[4][kTogether]) {
      for (index j = 0; j < 4; ++j) std::memcpy(to + j * kLanes + lane, x[j], sizeof x[j]);
    });
  }
};

// G. E. P. Box, M. E. Muller, 1958: with u uniform between 0 and 1 and a uniform angle, sqrt(-2 log u) times its cosine
// and sine are normal and independent. 31 bits of a are u, all of b the angle: 30 bits within a quarter of the circle
// around 0, one that reflects it at the diagonal, one that turns it by half. |z| is at most sqrt(64 log 2) = 6.66.
template <class T>
FASTNN_INLINE void normal_pair(std::uint32_t a, std::uint32_t b, T& first, T& second) {
  using Bits = typename Format<T>::Bits;
  // u = (v + 1/2) / 2^31. Where u is near 1, 1 - u has the digits that log u needs.
  constexpr std::int32_t root_half = 0x5a827999, all = 0x7fffffff;
  const std::int32_t v = static_cast<std::int32_t>(a >> 1);
  const Mask near = -static_cast<Mask>(v > root_half);
  const T m = (static_cast<T>(v ^ (near & all)) + T(0.5)) * T(0x1p-31);
  const LogParts<T> parts = log_parts(m);
  const T r = square_root(T(-2) * log_of(LogParts<T>{kept(parts.k, ~near), chosen(near, -m, parts.f)}));
  const Bits turn = static_cast<Bits>(b & 0x80000000u) << (8 * sizeof(T) - 32);
  const T signed_r = bits_as<T>(bits_as<Bits>(r) ^ turn);

  const T angle = (static_cast<T>(static_cast<std::int32_t>(b << 2)) + T(2)) * T(3.14159265358979323846 * 0x1p-33);
  const T c = cosine(angle), s = sine(angle);
  const Mask reflect = static_cast<std::int32_t>(b << 1) >> 31;
  const Bits exchange = (bits_as<Bits>(c) ^ bits_as<Bits>(s)) & static_cast<Bits>(reflect);
  first = signed_r * bits_as<T>(bits_as<Bits>(c) ^ exchange);
  second = signed_r * bits_as<T>(bits_as<Bits>(s) ^ exchange);
}

// Standard normal numbers of whole tiles.
template <class T>
FASTNN_NOINLINE void normal_values(const std::uint32_t* FASTNN_RESTRICT word, T* FASTNN_RESTRICT z, index tiles) {
  for (index p = 0; p < 2 * tiles; ++p) {  // words in pairs
    for (index l = 0; l < kLanes; ++l) normal_pair(word[l], word[kLanes + l], z[l], z[kLanes + l]);
    word += 2 * kLanes;
    z += 2 * kLanes;
  }
}

// Multiples of 2^-24 in [0, 1).
template <class T>
FASTNN_NOINLINE void uniform_values(const std::uint32_t* FASTNN_RESTRICT word, T* FASTNN_RESTRICT u, index tiles) {
  for (index i = 0; i < kWordTile * tiles; ++i)
    u[i] = static_cast<T>(static_cast<std::int32_t>(word[i] >> 8)) * T(0x1p-24);
}

template <class T>
void noise(const Noise<T>& a, index begin, index end) {
  const NoiseWords words(a.tail.key);
  constexpr index room = kBlock + kWordTile;  // for a block that begins anywhere in a tile
  std::uint32_t word[room];
  T value[room];
  const T scale = a.scale, shift = a.shift;
  for_output_blocks(a.y, a.stream, begin, end, [&](index g, index n, T* y) {
    const index at = (a.tail.first + g) % kWordTile, tiles = (at + n + kWordTile - 1) / kWordTile;
    const std::uint64_t tile = static_cast<std::uint64_t>((a.tail.first + g) / kWordTile);
    const RandomWords::Lines<T> lines{{a.x ? a.x + g : nullptr, nullptr, y}};
    for (index t = 0; t < tiles; ++t) {
      if (t % (kTile / kWordTile) == 0) lines.fetch(t * kWordTile);
      words.draw(tile + static_cast<std::uint64_t>(t), word + t * kWordTile);
    }
    a.normal ? normal_values(word, value, tiles) : uniform_values(word, value, tiles);
    const T* const z = value + at;
    if (a.x) {
      const T* const x = a.x + g;
#pragma GCC ivdep
      for (index i = 0; i < n; ++i) y[i] = x[i] + (z[i] * scale + shift);
    } else {
      for (index i = 0; i < n; ++i) y[i] = z[i] * scale + shift;
    }
  });
}

}  // namespace
}  // namespace fastnn
