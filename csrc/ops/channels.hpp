// Channel parameters in the form the kernels want: one entry per channel, or rows repeated to a useful length.
#pragma once
#include "tree.hpp"

namespace fastnn {

constexpr index kShortestPeriod = 512;  // rows of parameters are repeated to at least this many entries

template <class T>
class ChannelParameters {
 public:
  // `arrays` parameter arrays for this view, to be set channel by channel.
  ChannelParameters(const View& view, int arrays)
      : view_(view),
        rows_(view.inner <= kRowForm),
        width_(view.channels * view.inner),
        period_(!rows_ ? view.channels
                       : width_ * std::max<index>(1, (kShortestPeriod + width_ - 1) / std::max<index>(1, width_))),
        stride_((period_ + 31) / 16 * 16),
        store_(arrays * stride_) {}

  T* array(int k) const { return store_.data() + k * stride_; }

  // Added to anything, -0 leaves it as it was.
  void clear(T* array) const { std::fill_n(array, period_, T(-0.0)); }

  void set(T* array, index channel, T value) const {
    if (!rows_) {
      array[channel] = value;
      return;
    }
    for (index start = channel * view_.inner; start < period_; start += width_)
      for (index i = 0; i < view_.inner; ++i) array[start + i] = value;
  }

  ChannelMap<T> map() const {
    ChannelMap<T> m{};
    m.rows = rows_;
    m.channels = view_.channels;
    m.inner = view_.inner;
    m.period = period_;
    return m;
  }

 private:
  View view_;
  bool rows_;
  index width_, period_;
  index stride_;  // one line more than a power of two, lest the arrays fight for the same cache sets
  Scratch<T> store_;
};

// No channel parameters at all: v = x.
template <class T>
ChannelMap<T> plain_map(index n) {
  static const T nothing = T(-0.0);
  ChannelMap<T> m{};
  m.channels = 1;
  m.inner = std::max<index>(1, n);
  m.bias = &nothing;
  return m;
}

}  // namespace fastnn
