// Windows over images: the cut into bands whose buffers stay in the cache, and what the kernels need to know of them.
#include "../dispatch.hpp"
#include "channels.hpp"
#include "cost.hpp"
#include "ops.hpp"

namespace fastnn {
namespace {

constexpr index kWindowBuffer = 32768;  // elements of a band's buffer, about: it is to stay in the second-level cache

index inner_of(const Windows& w) {
  return w.channels_last ? w.channels : 1;
}
index images_of(const Windows& w) {
  return w.channels_last ? w.samples : w.samples * w.channels;
}
index divided_up(index a, index b) {
  return (a + b - 1) / b;
}

template <class T>
using WindowKernel = void (*)(const WindowPass<T>&, T*, index, index, index);

// A pass and its bands. `pass` gets its arrays from the caller.
template <class T>
class WindowBands {
 public:
  WindowBands(const Windows& w, bool backward)
      : w_(w), inner_(inner_of(w)), rows_(backward ? w.height : w.out_height), taps_(w.kernel_h * w.kernel_w) {
    pass = {};
    pass.windows = w;
    pass.pitch = std::max(w.out_width + (w.kernel_w - 1) * w.dilation_w / w.stride_w,
                          divided_up(w.width + w.padding_w, w.stride_w));
    const index reach = (w.kernel_h - 1) * w.dilation_h;  // of a window, below its first row
    const index row = w.stride_h * w.stride_w * pass.pitch * inner_;
    const index affordable = kWindowBuffer / std::max<index>(1, row) - reach / w.stride_h;  // output rows of a band
    if (affordable >= w.out_height)
      band_ = rows_;
    else
      band_ = backward ? std::max<index>(1, affordable * w.stride_h - reach) : std::max<index>(1, affordable);
    bands_ = divided_up(rows_, band_);
    band_ = divided_up(rows_, bands_);
    outputs_ = std::min(w.out_height, backward ? (band_ - 1 + reach) / w.stride_h + 1 : band_);
    pass.phase_rows = outputs_ + reach / w.stride_h;
    pass.buffer =
        (std::max(row * pass.phase_rows, (outputs_ * w.stride_h + w.kernel_h) * w.width * inner_) + kLanes) / 16 * 16 +
        16;
    for (index i = 0; i < w.kernel_h; ++i)
      for (index j = 0; j < w.kernel_w; ++j) {
        const index down = i * w.dilation_h, along = j * w.dilation_w;
        const index phase = down % w.stride_h * w.stride_w + along % w.stride_w;
        taps_[i * w.kernel_w + j] =
            ((phase * pass.phase_rows + down / w.stride_h) * pass.pitch + along / w.stride_w) * inner_;
      }
    pass.taps = taps_.data();
  }
  WindowBands(const WindowBands&) = delete;
  WindowBands& operator=(const WindowBands&) = delete;

  // Taps as places in the image itself.
  void use_image_taps() const {
    for (index i = 0; i < w_.kernel_h; ++i)
      for (index j = 0; j < w_.kernel_w; ++j) taps_[i * w_.kernel_w + j] = (i * w_.width + j) * inner_;
  }

  void run(WindowKernel<T> kernel, const Cost& cost, double elements) const {
    const index images = images_of(w_);
    const index longest = std::max(w_.width, w_.out_width) * inner_;
    const index scratch_size = pass.buffer + kBlock + longest + (outputs_ + 1) * w_.out_width * inner_;
    parallel_for(images * bands_, cost.ns + 0.3 * elements, [&](index begin, index end) {
      const Scratch<T> scratch(scratch_size);
      for (index task = begin; task < end; ++task) {
        const index row = task % bands_ * band_;
        kernel(pass, scratch.data(), task / bands_, row, std::min(rows_, row + band_));
      }
    });
  }

 private:
  const Windows w_;
  index inner_, rows_, band_, bands_, outputs_;
  Scratch<index> taps_;

 public:
  WindowPass<T> pass;
};

index inputs(const Windows& w) {
  return w.samples * w.channels * w.height * w.width;
}
index outputs(const Windows& w) {
  return w.samples * w.channels * w.out_height * w.out_width;
}
double taps(const Windows& w) {
  return static_cast<double>(w.kernel_h * w.kernel_w);
}

template <class T>
void run(WindowKernel<T> kernel, const Windows& w, bool backward, const T* from, T* to, index elements,
         void* where = nullptr, bool count_padding = false) {
  if (elements == 0) return;
  WindowBands<T> bands(w, backward);
  const Cost cost = Cost{}.bytes<T>(elements);
  WindowPass<T>& pass = bands.pass;
  pass.from = from;
  pass.to = to;
  pass.where = where;
  pass.wide = wide_taps(w);
  pass.count_padding = count_padding;
  pass.stream = cost.beyond_cache();
  if (backward && where) bands.use_image_taps();
  bands.run(kernel, cost, taps(w) * static_cast<double>(outputs(w)));
}

}  // namespace

template <class T>
void im2col(const Windows& w, const T* x, T* columns) {
  run(kernels<T>().im2col, w, false, x, columns, inputs(w) + outputs(w) * w.kernel_h * w.kernel_w);
}
template <class T>
void col2im(const Windows& w, const T* columns, T* x) {
  run(kernels<T>().col2im, w, true, columns, x, inputs(w) + outputs(w) * w.kernel_h * w.kernel_w);
}
template <class T>
void max_pool(const Windows& w, const T* x, T* y, void* where) {
  run(kernels<T>().max_pool, w, false, x, y, inputs(w) + outputs(w), where);
}
template <class T>
void max_pool_gradient(const Windows& w, const T* dy, const void* where, T* dx) {
  run(kernels<T>().max_pool_gradient, w, true, dy, dx, inputs(w) + outputs(w), const_cast<void*>(where));
}
template <class T>
void avg_pool(const Windows& w, const T* x, T* y, bool count_padding) {
  run(kernels<T>().avg_pool, w, false, x, y, inputs(w) + outputs(w), nullptr, count_padding);
}
template <class T>
void avg_pool_gradient(const Windows& w, const T* dy, T* dx, bool count_padding) {
  run(kernels<T>().avg_pool_gradient, w, true, dy, dx, inputs(w) + outputs(w), nullptr, count_padding);
}

// The sums of `channel_sum`: of one sample whose channels are all planes, or of samples one by one.
template <class T>
void image_means(const View& v, const T* x, T* y) {
  const index images = v.outer, channels = v.channels, pixels = v.inner;
  const bool planes = channels == 1;
  Backward<T> b{};
  b.tail = plain_tail<T>();
  b.leaves = cut_leaves(planes ? View{1, images, pixels} : View{pixels, channels, 1});
  b.map = plain_map<T>(elements(v));
  const index most = planes ? kBandPlanes : kBandRows;
  const double ns = Cost{}.bytes<T>(elements(v)).ns;
  Scratch<double> sums(images * channels);
  parallel_for(images, ns, [&](index begin, index end) {
    Backward<T> part = b;
    if (planes) {
      part.dy = part.x = x;
      for (index c = begin; c < end; c += most)
        kernels<T>().bias_gradient(part, Part{0, b.leaves.count, c, std::min(end, c + most), sums.data()});
    } else {
      for (index i = begin; i < end; ++i) {
        part.dy = part.x = x + i * pixels * channels;
        for (index c = 0; c < channels; c += most)
          kernels<T>().bias_gradient(
              part, Part{0, b.leaves.count, c, std::min(channels, c + most), sums.data() + i * channels});
      }
    }
    for (index i = begin * channels; i < end * channels; ++i)
      y[i] = static_cast<T>(sums[i] / static_cast<double>(pixels));
  });
}

template <class T>
void image_means_gradient(const View& v, const T* dy, T* dx) {
  const Cost cost = Cost{}.bytes<T>(elements(v));
  parallel_for(v.outer, cost.ns, [&](index begin, index end) {
    kernels<T>().spread(dy, dx, v.inner, v.channels, cost.beyond_cache(), begin, end);
  });
}

#define FASTNN_INSTANTIATE(T)                                                    \
  template void im2col<T>(const Windows&, const T*, T*);                         \
  template void col2im<T>(const Windows&, const T*, T*);                         \
  template void max_pool<T>(const Windows&, const T*, T*, void*);                \
  template void max_pool_gradient<T>(const Windows&, const T*, const void*, T*); \
  template void avg_pool<T>(const Windows&, const T*, T*, bool);                 \
  template void avg_pool_gradient<T>(const Windows&, const T*, T*, bool);        \
  template void image_means<T>(const View&, const T*, T*);                       \
  template void image_means_gradient<T>(const View&, const T*, T*);
FASTNN_INSTANTIATE(float)
FASTNN_INSTANTIATE(double)

}  // namespace fastnn
