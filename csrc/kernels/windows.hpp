// Windows sliding over images: columns for convolution, and pooling. Both layouts are the same to these loops: a plane
// (NCHW) is an image whose pixels are single elements. See WindowPass for the buffer that the taps are read from.
#pragma once
#include "loops.hpp"

namespace fastnn {
namespace {

FASTNN_INLINE index larger_of(index a, index b) {
  return a > b ? a : b;
}
FASTNN_INLINE index divided_up(index a, index b) {
  return (a + b - 1) / b;
}

template <class T>
FASTNN_INLINE void copy_elements(const T* from, T* to, index n) {
  std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
}
template <class T>
FASTNN_NOINLINE void fill(T* to, index n, T value) {
  for (index i = 0; i < n; ++i) to[i] = value;
}
template <class T>
FASTNN_NOINLINE void add_elements(const T* FASTNN_RESTRICT from, T* FASTNN_RESTRICT to, index n) {
  for (index i = 0; i < n; ++i) to[i] += from[i];
}

// to[i * to_stride] = from[i * from_stride] for n pixels; one of the strides is 1.
template <class T>
FASTNN_NOINLINE void copy_pixels(const T* FASTNN_RESTRICT from, index from_stride, T* FASTNN_RESTRICT to,
                                 index to_stride, index n, index inner) {
  if (from_stride == 1 && to_stride == 1) return copy_elements(from, to, n * inner);
  if (inner > 1) {
    for (index i = 0; i < n; ++i) copy_elements(from + i * from_stride * inner, to + i * to_stride * inner, inner);
  } else {
    for (index i = 0; i < n; ++i) to[i * to_stride] = from[i * from_stride];
  }
}

// Consecutive elements, written past the cache if need be: then collected until whole lines can be written.
template <class T>
class Sink {
 public:
  Sink(T* to, bool stream, T* tile) : to_(to), tile_(stream ? tile : nullptr) {}

  T* next() const { return tile_ ? tile_ + held_ : to_; }  // room for one row, or a block
  FASTNN_INLINE void wrote(index n) {
    if (!tile_) {
      to_ += n;
      return;
    }
    held_ += n;
    if (held_ < kBlock) return;
    const index over = static_cast<index>(reinterpret_cast<std::uintptr_t>(to_ + held_) % 64 / sizeof(T));
    flush(held_ - over);
  }
  FASTNN_NOINLINE void put(const T* from, index n) {
    while (n > 0) {
      const index part = tile_ ? smaller(n, kBlock - held_) : n;
      copy_elements(from, next(), part);
      wrote(part);
      from += part;
      n -= part;
    }
  }
  // A row that next() has room for; short ones by vectors, as a call would cost more than the copy.
  FASTNN_INLINE void put_row(const T* FASTNN_RESTRICT from, index n) {
    T* FASTNN_RESTRICT const to = next();
    if (n < kLanes) {
      copy_elements(from, to, n);
    } else {
      for (index i = 0; i + kLanes < n; i += kLanes) Lanes<T>::load(from + i).store(to + i);
      Lanes<T>::load(from + n - kLanes).store(to + n - kLanes);
    }
    wrote(n);
  }
  // The fence is left to the caller: one waits for all that was streamed before.
  void end() {
    if (tile_) flush(held_);
  }
  void finish() {
    end();
    if (tile_) stream_fence();
  }

 private:
  FASTNN_NOINLINE void flush(index n) {
    stream_block(tile_, to_, n);
    to_ += n;
    held_ -= n;
    for (index i = 0; i < held_; ++i) tile_[i] = tile_[n + i];
  }

  T* to_;
  T* tile_;
  index held_ = 0;
};

// What the kernels need to know of one task.
template <class T>
struct WindowBand {
  const WindowPass<T>& pass;
  const Windows& w;
  index inner, taps, image;
  index out0, out1;  // the outputs concerned
  struct Edge {
    index pixels, over;  // of each phase before an edge of the image, one more in the first `over` phases
  } left, right;
  T *buffer, *tile, *values, *row;  // scratch: as much as a band of outputs in `values`, one row of them in `row`

  // Of outputs [row0, row1), or of all outputs that inputs [row0, row1) have a part in.
  FASTNN_NOINLINE WindowBand(const WindowPass<T>& p, T* scratch, index image_, index row0, index row1, bool backward)
      : pass(p),
        w(p.windows),
        inner(w.channels_last ? w.channels : 1),
        taps(w.kernel_h * w.kernel_w),
        image(image_),
        out0(row0),
        out1(row1),
        left{w.padding_w / w.stride_w, w.padding_w % w.stride_w},
        right{(w.width + w.padding_w) / w.stride_w, (w.width + w.padding_w) % w.stride_w},
        buffer(scratch),
        tile(buffer + p.buffer),
        values(tile + kBlock + larger_of(w.width, w.out_width) * inner) {
    if (backward) {
      out0 = smaller(w.out_height,
                     divided_up(larger_of(0, row0 + w.padding_h - (w.kernel_h - 1) * w.dilation_h), w.stride_h));
      out1 = smaller(w.out_height, (row1 - 1 + w.padding_h) / w.stride_h + 1);
      out1 = larger_of(out0, out1);
    }
    row = values + outputs();
  }

  index outputs() const { return (out1 - out0) * w.out_width * inner; }
  index input_row() const { return w.width * inner; }
  const T* input(index h) const { return pass.from + (image * w.height + h) * input_row(); }
  index first_output() const { return (image * w.out_height + out0) * w.out_width * inner; }
  // Rows of each phase of the buffer that the outputs need.
  index used_rows() const { return out1 - out0 + (w.kernel_h - 1) * w.dilation_h / w.stride_h; }
  T* phase_row(index phase, index r) const {
    return buffer + (phase * w.stride_w * pass.phase_rows + r) * pass.pitch * inner;
  }
  index phase_step() const { return pass.phase_rows * pass.pitch * inner; }

  // Calls body(phase, begin, end): pixels [begin, end) of a phase of a row are inside the image.
  template <class Body>
  FASTNN_INLINE void for_phases(const Body& body) const {
    for (index f = 0; f < w.stride_w; ++f) body(f, left.pixels + (f < left.over), right.pixels + (f < right.over));
  }

  // Where single elements are sorted into two phases: pixels [begin, end) of both, for pairs(begin, end), and what is
  // left of a phase for copy(f, begin, end). Otherwise all of each phase.
  template <class Pairs, class Copy>
  FASTNN_INLINE void sort_phases(const Pairs& pairs, const Copy& copy) const {
    index first = pass.pitch, last = first;  // all of each phase
    if (inner == 1 && w.stride_w == 2) {
      first = left.pixels + left.over;
      last = larger_of(first, right.pixels);
      pairs(first, last);
    }
    for_phases([&](index f, index begin, index end) {
      for (int after = 0; after < 2; ++after) {
        const index from = after ? larger_of(last, begin) : begin, to = after ? end : smaller(first, end);
        if (from < to) copy(f, from, to);
      }
    });
  }

  // The inputs of the band into the buffer, `padding` around them: for each phase, rows [first, last) are inside.
  FASTNN_NOINLINE void load(T padding) const {
    const index rows = used_rows(), length = pass.pitch * inner, step = w.stride_h * input_row();
    for (index phase = 0; phase < w.stride_h; ++phase) {
      const index top = out0 * w.stride_h + phase - w.padding_h;  // row of the image
      const index first = smaller(rows, divided_up(larger_of(0, -top), w.stride_h));
      const index last = larger_of(first, smaller(rows, divided_up(larger_of(0, w.height - top), w.stride_h)));
      T* const part = phase_row(phase, 0);
      for_phases([&](index f, index begin, index end) {
        T* const to = part + f * phase_step();
        fill(to, first * length, padding);
        fill(to + last * length, (rows - last) * length, padding);
        for (index r = first; r < last && begin > 0; ++r) fill(to + r * length, begin * inner, padding);
        for (index r = first; r < last && end < pass.pitch; ++r)
          fill(to + r * length + end * inner, (pass.pitch - end) * inner, padding);
      });
      const T* const from = input(top + first * w.stride_h) - w.padding_w * inner;
      T* const to = part + first * length;
      sort_phases(
          [&](index begin, index end) {
            for (index r = 0; r < last - first; ++r) {
              T* const even = to + r * length + begin;
              separate_pairs(from + r * step + 2 * begin, even, even + phase_step(), end - begin);
            }
          },
          [&](index f, index begin, index end) {
            for (index r = 0; r < last - first; ++r)
              copy_pixels(from + r * step + (begin * w.stride_w + f) * inner, w.stride_w,
                          to + f * phase_step() + r * length + begin * inner, 1, end - begin, inner);
          });
    }
  }

  // Rows [row0, row1) of the image from the buffer; what no output concerns is 0.
  FASTNN_NOINLINE void store(index row0, index row1) const {
    Sink<T> sink(pass.to + (image * w.height + row0) * input_row(), pass.stream, tile);
    for (index h = row0; h < row1; ++h, sink.wrote(input_row())) {
      const index r = h + w.padding_h - out0 * w.stride_h;
      T* const to = sink.next();
      if (r < 0 || r >= used_rows() * w.stride_h || out0 == out1) {
        fill(to, input_row(), T(0));
        continue;
      }
      const T* const from = phase_row(r % w.stride_h, r / w.stride_h);
      T* const padded = to - w.padding_w * inner;
      sort_phases(
          [&](index begin, index end) {
            join_pairs(from + begin, from + phase_step() + begin, padded + 2 * begin, end - begin);
          },
          [&](index f, index begin, index end) {
            copy_pixels(from + f * phase_step() + begin * inner, 1, padded + (begin * w.stride_w + f) * inner,
                        w.stride_w, end - begin, inner);
          });
    }
    sink.finish();
  }

  // Calls body(at, output, n) for runs of outputs that lie side by side in the buffer, too. In order: what is written
  // beyond a run is overwritten by the next one.
  template <class Body>
  FASTNN_INLINE void for_runs(const Body& body) const {
    const index rows = out1 - out0, length = w.out_width * inner;
    const index together = pass.pitch == w.out_width ? rows : 1;
    for (index r = 0; r < rows; r += together) body(r * pass.pitch * inner, r * length, together * length);
  }

  // NCHW: the columns of tap k, (channels * taps, samples * outputs) in all.
  index column(index k) const {
    const index sample = image / w.channels, channel = image % w.channels;
    return (((channel * taps + k) * w.samples + sample) * w.out_height + out0) * w.out_width;
  }
  // NHWC: calls body(at, n) for the stretches of the buffer that make up the rows of (samples * outputs, taps *
  // channels).
  template <class Body>
  FASTNN_INLINE void for_stretches(const Body& body) const {
    const index together = w.stride_w == 1 && w.dilation_w == 1 ? w.kernel_w : 1;  // taps side by side
    for (index r = 0; r < out1 - out0; ++r)
      for (index o = 0; o < w.out_width; ++o)
        for (index k = 0; k < taps; k += together) body(pass.taps[k] + (r * pass.pitch + o) * inner, together * inner);
  }
};

template <class T>
void im2col(const WindowPass<T>& p, T* scratch, index image, index row0, index row1) {
  const WindowBand<T> band(p, scratch, image, row0, row1, false);
  band.load(T(0));
  if (p.windows.channels_last) {
    Sink<T> sink(p.to + band.first_output() * band.taps, p.stream, band.tile);
    band.for_stretches([&](index at, index n) { sink.put(band.buffer + at, n); });
    return sink.finish();
  }
  for (index k = 0; k < band.taps; ++k) {
    Sink<T> sink(p.to + band.column(k), p.stream, band.tile);
    band.for_runs([&](index at, index, index n) {
      const T* const from = band.buffer + p.taps[k] + at;
      n == p.windows.out_width ? sink.put_row(from, n) : sink.put(from, n);
    });
    sink.end();
  }
  if (p.stream) stream_fence();
}

// Each input sums what it has given to the columns: tap by tap (NCHW), output by output (NHWC).
template <class T>
void col2im(const WindowPass<T>& p, T* scratch, index image, index row0, index row1) {
  const WindowBand<T> band(p, scratch, image, row0, row1, true);
  fill(band.buffer, p.buffer, T(0));
  if (p.windows.channels_last) {
    const T* from = p.from + band.first_output() * band.taps;
    band.for_stretches([&](index at, index n) {
      add_elements(from, band.buffer + at, n);
      from += n;
    });
  } else {
    for (index k = 0; k < band.taps; ++k)
      band.for_runs([&](index at, index output, index n) {
        add_elements(p.from + band.column(k) + output, band.buffer + p.taps[k] + at, n);
      });
  }
  band.store(row0, row1);
}

// The largest so far, and its tap. The first of equal ones stays; NaN stays, too, until the next NaN.
template <class T>
struct Best {
  using Tap = typename Lanes<T>::Integer;
  Lanes<T> value;
  Lanes<Tap> tap;

  FASTNN_INLINE void take(const Lanes<T>& v, Tap k) {
    const typename Lanes<Tap>::Vector taps = k - typename Lanes<Tap>::Vector{};
#pragma GCC unroll 8
    for (index i = 0; i < Lanes<T>::count; ++i) {
      const auto better = (v.part[i] > value.part[i]) | (v.part[i] != v.part[i]);
      value.part[i] = pick(better, v.part[i], value.part[i]);
      tap.part[i] = pick(better, taps, tap.part[i]);
    }
  }
};

// The first 16 lanes, or n if there are fewer, as numbers of a type that may be narrower.
template <class To, class T>
FASTNN_INLINE void store_lanes(const Lanes<T>& v, To* to, index n) {
  if constexpr (sizeof(To) == sizeof(T))
    if (n >= kLanes) return v.store(to);
  T lane[kLanes];
  To value[kLanes];
  v.store(lane);
  for (index l = 0; l < kLanes; ++l) value[l] = static_cast<To>(lane[l]);
  if (n >= kLanes)
    copy_elements(value, to, kLanes);
  else
    copy_elements(value, to, n);
}

// Taps of maxima, of one byte or two.
struct Taps {
  void* data;
  bool wide;

  FASTNN_INLINE index operator[](index i) const {
    return wide ? static_cast<const std::uint16_t*>(data)[i] : static_cast<const std::uint8_t*>(data)[i];
  }
  FASTNN_INLINE void set(index i, index tap) const {
    if (wide)
      static_cast<std::uint16_t*>(data)[i] = static_cast<std::uint16_t>(tap);
    else
      static_cast<std::uint8_t*>(data)[i] = static_cast<std::uint8_t>(tap);
  }
  template <class T>
  FASTNN_INLINE void set(index i, const Lanes<T>& taps, index n) const {
    if (wide)
      store_lanes(taps, static_cast<std::uint16_t*>(data) + i, n);
    else
      store_lanes(taps, static_cast<std::uint8_t*>(data) + i, n);
  }
};

template <class T>
void max_pool(const WindowPass<T>& p, T* scratch, index image, index row0, index row1) {
  typedef typename Best<T>::Tap Tap;
  const WindowBand<T> band(p, scratch, image, row0, row1, false);
  const Windows& w = p.windows;
  const T lowest = bits_as<T>(Format<T>::minus_infinity);
  const Taps where{p.where, p.wide};
  const index first = band.first_output();
  band.load(lowest);
  band.for_runs([&](index at, index output, index length) {
    for (index i = 0; i < length; i += kLanes) {
      const T* const x = band.buffer + at + i;
      Best<T> best{Lanes<T>::zero() + lowest, Lanes<Tap>::zero()};
      for (index k = 0; k < band.taps; ++k) best.take(Lanes<T>::load(x + p.taps[k]), static_cast<Tap>(k));
      const index rest = band.outputs() - (output + i);
      store_lanes(best.value, p.to + first + output + i, rest);
      where.set(first + output + i, best.tap, rest);
    }
  });
  // Where a window begins in the padding, tap 0 stands for nothing but -inf everywhere: take its first pixel.
  const index left = smaller(w.out_width, divided_up(w.padding_w, w.stride_w));
  for (index o = row0; o < row1; ++o) {
    const index above = larger_of(0, w.padding_h - o * w.stride_h);
    const index row = first + (o - row0) * w.out_width * band.inner;
    for (index i = 0; i < (above > 0 ? w.out_width : left) * band.inner; ++i)
      if (where[row + i] == 0)
        where.set(row + i, above * w.kernel_w + larger_of(0, w.padding_w - i / band.inner * w.stride_w));
  }
}

// The buffer holds plain rows here, those that the outputs of the band look at: a maximum is never in the padding.
// Each output gives its gradient to one input, output by output.
template <class T>
void max_pool_gradient(const WindowPass<T>& p, T* scratch, index image, index row0, index row1) {
  const WindowBand<T> band(p, scratch, image, row0, row1, true);
  const Windows& w = p.windows;
  const Taps where{p.where, p.wide};
  const index* FASTNN_RESTRICT const taps = p.taps;
  const index rows = band.out1 > band.out0 ? (band.out1 - band.out0 - 1) * w.stride_h + w.kernel_h : 0;
  fill(band.buffer, rows * band.input_row(), T(0));
  // The pixels of a row of a plane, or the channels of a pixel, in one loop.
  const bool plane = band.inner == 1;
  const index loops = plane ? 1 : w.out_width, length = plane ? w.out_width : band.inner, step = plane ? w.stride_w : 1;
  index g = band.first_output();
  for (index o = 0; o < band.out1 - band.out0; ++o) {
    T* to = band.buffer + o * w.stride_h * band.input_row() - w.padding_w * band.inner;
    for (index loop = 0; loop < loops; ++loop, to += w.stride_w * band.inner)
      for (index i = 0; i < length; ++i, ++g) to[i * step + taps[where[g]]] += p.from[g];
  }
  const index top = band.out0 * w.stride_h - w.padding_h;  // row of the image that the buffer begins with
  const index begin = smaller(row1, larger_of(row0, top)), end = larger_of(begin, smaller(row1, top + rows));
  Sink<T> sink(p.to + (image * w.height + row0) * band.input_row(), p.stream, band.tile);
  const auto none = [&](index count) {
    for (index h = 0; h < count; ++h, sink.wrote(band.input_row())) fill(sink.next(), band.input_row(), T(0));
  };
  none(begin - row0);
  sink.put(band.buffer + (begin - top) * band.input_row(), (end - begin) * band.input_row());
  none(row1 - end);
  sink.finish();
}

// to = from / the number of pixels of each window of the band.
template <class T>
FASTNN_NOINLINE void divide_by_count(const WindowBand<T>& band, const T* from, T* to) {
  const Windows& w = band.w;
  const bool all = band.pass.count_padding;
  const auto inside = [&](index o, index stride, index padding, index kernel, index size) {
    const index begin = o * stride - padding;
    return all ? kernel : smaller(size, begin + kernel) - larger_of(0, begin);
  };
  const auto same = [&](index outputs, index stride, index padding, index kernel, index size) {
    return all || (padding == 0 && (outputs - 1) * stride + kernel <= size);
  };
  if (same(w.out_height, w.stride_h, w.padding_h, w.kernel_h, w.height) &&
      same(w.out_width, w.stride_w, w.padding_w, w.kernel_w, w.width)) {
    const T count = static_cast<T>(w.kernel_h) * static_cast<T>(w.kernel_w);
    const index n = band.outputs();
#pragma GCC ivdep
    for (index i = 0; i < n; ++i) to[i] = from[i] / count;
    return;
  }
  for (index o = 0; o < w.out_width; ++o)
    fill(band.row + o * band.inner, band.inner,
         static_cast<T>(inside(o, w.stride_w, w.padding_w, w.kernel_w, w.width)));
  const index length = w.out_width * band.inner;
  for (index o = band.out0; o < band.out1; ++o, from += length, to += length) {
    const T rows = static_cast<T>(inside(o, w.stride_h, w.padding_h, w.kernel_h, w.height));
#pragma GCC ivdep
    for (index i = 0; i < length; ++i) to[i] = from[i] / (rows * band.row[i]);
  }
}

template <class T>
void avg_pool(const WindowPass<T>& p, T* scratch, index image, index row0, index row1) {
  const WindowBand<T> band(p, scratch, image, row0, row1, false);
  T* const y = p.to + band.first_output();
  band.load(T(0));
  band.for_runs([&](index at, index output, index length) {
    for (index i = 0; i < length; i += kLanes) {
      const T* const x = band.buffer + at + i;
      Lanes<T> sum = Lanes<T>::load(x + p.taps[0]);
      for (index k = 1; k < band.taps; ++k) sum = sum + Lanes<T>::load(x + p.taps[k]);
      store_lanes(sum, y + output + i, band.outputs() - (output + i));
    }
  });
  divide_by_count(band, y, y);
}

template <class T>
void avg_pool_gradient(const WindowPass<T>& p, T* scratch, index image, index row0, index row1) {
  const WindowBand<T> band(p, scratch, image, row0, row1, true);
  fill(band.buffer, p.buffer, T(0));
  divide_by_count(band, p.from + band.first_output(), band.values);
  for (index k = 0; k < band.taps; ++k)
    band.for_runs(
        [&](index at, index output, index n) { add_elements(band.values + output, band.buffer + p.taps[k] + at, n); });
  band.store(row0, row1);
}

template <class T>
void spread(const T* dy, T* dx, index pixels, index inner, bool stream, index begin, index end) {
  T tile[2 * kBlock];
  Sink<T> sink(dx + begin * pixels * inner, stream, tile);
  const T n = static_cast<T>(pixels);
  for (index g = begin; g < end; ++g) {
    const T* FASTNN_RESTRICT const from = dy + g * inner;
    if (inner == 1) {
      const T mean = from[0] / n;
      for (index p = 0; p < pixels; p += kBlock) {
        const index length = smaller(kBlock, pixels - p);
        fill(sink.next(), length, mean);
        sink.wrote(length);
      }
      continue;
    }
    for (index p = 0; p < pixels; ++p)
      for (index c = 0; c < inner; c += kBlock) {
        const index length = smaller(kBlock, inner - c);
        T* FASTNN_RESTRICT const to = sink.next();
        for (index i = 0; i < length; ++i) to[i] = from[c + i] / n;
        sink.wrote(length);
      }
  }
  sink.finish();
}

}  // namespace
}  // namespace fastnn
