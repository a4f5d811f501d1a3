// Channel parameters in the form the kernels want: one entry per channel, or rows repeated to a useful length.
#pragma once
#include "tree.hpp"

namespace fastnn {

constexpr index kShortestPeriod = kBlock;  // rows of parameters are repeated to at least this many entries if it pays

template <class T>
class ChannelParameters {
 public:
  // `arrays` parameter arrays for this view, to be set channel by channel.
  ChannelParameters(const View& view, int arrays)
      : view_(view),
        rows_(view.inner <= kRowForm),
        width_(view.channels * view.inner),
        period_(rows_ ? width_ * repeats() : view.channels),
        stride_((period_ + 31) / 16 * 16),
        store_(arrays * stride_) {}

  T* array(int k) const { return store_.data() + k * stride_; }

  // The entries of channels [channel, channel + count).
  void set(T* array, index channel, index count, const T* values) const {
    if (!rows_) {
      std::copy_n(values, count, array + channel);
      return;
    }
    for (T* row = array + channel * view_.inner; row < array + period_; row += width_) {
      if (view_.inner == 1)
        std::copy_n(values, count, row);
      else
        for (index c = 0; c < count; ++c) std::fill_n(row + c * view_.inner, view_.inner, values[c]);
    }
  }

  ChannelMap<T> map() const {
    return {rows_, view_.channels, view_.inner, period_, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
  }

 private:
  index repeats() const {
    const index wanted = (kShortestPeriod + width_ - 1) / std::max<index>(1, width_);
    return std::max<index>(1, std::min(wanted, view_.outer / 4));
  }

  View view_;
  bool rows_;
  index width_, period_;
  index stride_;  // one line more than a power of two, lest the arrays fight for the same cache sets
  Scratch<T> store_;
};

// An activation, or none, and nothing else.
template <class T>
Epilogue<T> plain_tail(int activation = -1, T p0 = 0, T p1 = 0) {
  return {nullptr, activation, p0, p1, -1, 0, {}, 0};
}

// No channel parameters at all: v = x.
template <class T>
ChannelMap<T> plain_map(index n) {
  static const T nothing = T(-0.0);
  return {false, 1, std::max<index>(1, n), 0, &nothing, nullptr, nullptr, nullptr, nullptr, nullptr};
}

}  // namespace fastnn
