// How kernels walk memory: blocks that stay in L1, and within them segments that share their channel parameters.
#pragma once
#include "lanes.hpp"

namespace fastnn {
namespace {

// A number that is known when the code it is given to is compiled.
template <index Value>
struct Number {
  constexpr operator index() const { return Value; }
};

// Asks for n elements that are used soon; they need not exist.
template <class T>
FASTNN_INLINE void fetch(const T* next, index n) {
  for (index l = 0; l < n; l += 64 / static_cast<index>(sizeof(T))) FASTNN_PREFETCH(next + l);
}

// Calls each(0), each(1), ..., Count of them.
template <index Count, index First = 0, class Each>
FASTNN_INLINE void times(Number<Count> count, const Each& each) {
  if constexpr (First < Count) {
    each(First);
    times<Count, First + 1>(count, each);
  }
}

// Labels were checked, but somebody may be writing to them: never a place outside of `count`.
FASTNN_INLINE index label_within(index label, index count) {
  return static_cast<std::uint64_t>(label) < static_cast<std::uint64_t>(count) ? label : 0;
}

// One copy for each type, where a call costs little beside it.
template <class T>
FASTNN_NOINLINE void stream_values(const T* from, T* to, index n) {
  stream_block(from, to, n);
}

// Calls block(g, n) for consecutive stretches of [begin, end), cut at multiples of kBlock of the flat index.
template <class Block>
FASTNN_INLINE void for_blocks(index begin, index end, const Block& block) {
  for (index g = begin; g < end;) {
    const index n = smaller(end, (g / kBlock + 1) * kBlock) - g;
    block(g, n);
    g += n;
  }
}

// Calls segment(at, n, p) for the stretches [g + at, g + at + n) of a block that use the entries from p on of an array
// of which element g uses entry g % period.
template <class Segment>
FASTNN_INLINE void for_periods(index period, index g, index n, const Segment& segment) {
  index p = g % period;
  for (index at = 0; at < n;) {
    const index length = smaller(n - at, period - p);
    segment(at, length, p);
    at += length;
    p = 0;
  }
}

// Calls segment(at, n, p) for the stretches [g + at, g + at + n) of a block that use channel p (plane form) or the
// entries from p on (row form).
template <bool Rows, class T, class Segment>
FASTNN_INLINE void for_segments(const ChannelMap<T>& map, index g, index n, const Segment& segment) {
  if constexpr (Rows) {
    for_periods(map.period, g, n, segment);
  } else {
    index c = (g / map.inner) % map.channels, left = map.inner - g % map.inner;
    for (index at = 0; at < n;) {
      const index length = smaller(n - at, left);
      segment(at, length, c);
      at += length;
      left = map.inner;
      if (++c == map.channels) c = 0;
    }
  }
}

}  // namespace
}  // namespace fastnn
