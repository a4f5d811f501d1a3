// Windows over images: im2col and pooling. max_pool2d keeps where its maxima were, in a block of memory of its own.
#include <limits>
#include <string>

#include "../ops/ops.hpp"
#include "array.hpp"
#include "builtin.hpp"
#include "saved.hpp"

namespace fastnn {
namespace {

const SavedKind kMaxPool{"max_pool2d", {nullptr}};

struct MaxPoolNumbers {
  Windows windows;
  Dtype dtype;
};

struct Pair {
  index h, w;
};

std::string text(const Pair& p) {
  return "(" + std::to_string(p.h) + ", " + std::to_string(p.w) + ")";
}

// One integer for both directions, or a pair of them.
Pair pair_in(const Arguments& a, int place, index least) {
  constexpr index most = std::numeric_limits<std::int32_t>::max();  // sums and products stay within 64 bits
  const auto refuse = [&] {
    return std::string(a.name(place)) + ": expected an integer >= " + std::to_string(least) +
           " or a pair of them, got " + std::string(py::repr(a[place]));
  };
  const auto integer = [&](PyObject* value) {
    const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(value));
    if (!number) {
      PyErr_Clear();
      throw py::type_error(refuse());
    }
    int overflow = 0;
    const index v = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
    if (overflow != 0 || v < least || v > most) throw py::value_error(refuse());
    return v;
  };
  PyObject* const given = a[place].ptr();
  if (!PyTuple_Check(given) && !PyList_Check(given)) {
    const index both = integer(given);
    return {both, both};
  }
  if (PySequence_Fast_GET_SIZE(given) != 2) throw py::value_error(refuse());
  return {integer(PySequence_Fast_GET_ITEM(given, 0)), integer(PySequence_Fast_GET_ITEM(given, 1))};
}

bool channels_last(const Arguments& a, int place) {
  const index axis = a.integer(place);
  if (axis == 1 || axis == -3) return false;
  if (axis == -1 || axis == 3) return true;
  throw py::value_error(std::string(a.name(place)) + ": expected 1 for (N, C, H, W) or -1 for (N, H, W, C), got " +
                        std::to_string(axis));
}

void require_image(const Array& x, const char* name) {
  if (x.ndim() != 4)
    throw py::value_error(std::string(name) + ": expected 4 dimensions, got " + std::to_string(x.ndim()));
}

// Samples, channels and size of x.
void set_input(Windows& w, const Array& x) {
  require_image(x, "x");
  w.samples = x.shape(0);
  w.channels = x.shape(w.channels_last ? 3 : 1);
  w.height = x.shape(w.channels_last ? 1 : 2);
  w.width = x.shape(w.channels_last ? 2 : 3);
}

// Kernel, stride, padding and dilation, and the size of the outputs that follows from them.
void set_windows(Windows& w, const char* input, const Pair& kernel, const Pair& stride, const Pair& padding,
                 const Pair& dilation) {
  w.kernel_h = kernel.h;
  w.kernel_w = kernel.w;
  w.stride_h = stride.h;
  w.stride_w = stride.w;
  w.padding_h = padding.h;
  w.padding_w = padding.w;
  w.dilation_h = dilation.h;
  w.dilation_w = dilation.w;
  const Pair padded{w.height + 2 * w.padding_h, w.width + 2 * w.padding_w};
  const Pair extent{(w.kernel_h - 1) * w.dilation_h + 1, (w.kernel_w - 1) * w.dilation_w + 1};
  if (w.height < 1 || w.width < 1 || padded.h < extent.h || padded.w < extent.w)
    throw py::value_error(std::string(input) + ": expected images that hold a window of " + text(extent) +
                          " pixels with their padding, got " + text({w.height, w.width}) + " pixels");
  w.out_height = (padded.h - extent.h) / w.stride_h + 1;
  w.out_width = (padded.w - extent.w) / w.stride_w + 1;
}

void set_pooling(Windows& w, const char* input, const Arguments& a, int kernel_, int stride_, int padding_) {
  const Pair kernel = pair_in(a, kernel_, 1), stride = a.given(stride_) ? pair_in(a, stride_, 1) : kernel,
             padding = pair_in(a, padding_, 0);
  if (2 * padding.h > kernel.h || 2 * padding.w > kernel.w)
    throw py::value_error("padding: expected at most half of kernel_size " + text(kernel) + ", got " + text(padding));
  set_windows(w, input, kernel, stride, padding, {1, 1});
}

std::vector<index> images(const Windows& w, index height, index width) {
  if (w.channels_last) return {w.samples, height, width, w.channels};
  return {w.samples, w.channels, height, width};
}
std::vector<index> input_shape(const Windows& w) {
  return images(w, w.height, w.width);
}
std::vector<index> output_shape(const Windows& w) {
  return images(w, w.out_height, w.out_width);
}

std::vector<index> column_shape(const Windows& w) {
  const index taps = w.channels * w.kernel_h * w.kernel_w, places = w.samples * w.out_height * w.out_width;
  if (w.channels_last) return {places, taps};
  return {taps, places};
}

Shape shape_of(const std::vector<index>& dims, Dtype dtype) {
  Shape shape{static_cast<int>(dims.size()), dtype, 1, {}};
  for (std::size_t d = 0; d < dims.size(); ++d) shape.size *= shape.dims[d] = dims[d];
  return shape;
}

// Calls f(T(), from, to) to fill `to`, which is returned.
template <class F>
py::object computed(const Array& from, const char* name, const Array& to, const F& f) {
  refuse_overlap(to, "out", from, name, false);
  by_dtype(from, [&](auto t) {
    using T = decltype(t);
    const Computation computation(from.size() + to.size());
    f(from.data<T>(), to.data<T>());
  });
  return to.object();
}

py::object im2col_(const Arguments& a) {
  enum { x_, kernel_size_, stride_, padding_, dilation_, channel_axis_, out_ };
  Windows w{};
  w.channels_last = channels_last(a, channel_axis_);
  const Array x = in(a[x_], "x");
  set_input(w, x);
  set_windows(w, "x", pair_in(a, kernel_size_, 1), pair_in(a, stride_, 1), pair_in(a, padding_, 0),
              pair_in(a, dilation_, 1));
  return computed(x, "x", out(a[out_], "out", column_shape(w), x.dtype()),
                  [&](auto* from, auto* to) { im2col(w, from, to); });
}

py::object col2im_(const Arguments& a) {
  enum { columns_, input_size_, kernel_size_, stride_, padding_, dilation_, channel_axis_, out_ };
  Windows w{};
  w.channels_last = channels_last(a, channel_axis_);
  const Array columns = in(a[columns_], "columns");
  const Pair size = pair_in(a, input_size_, 1);
  w.height = size.h;
  w.width = size.w;
  set_windows(w, "input_size", pair_in(a, kernel_size_, 1), pair_in(a, stride_, 1), pair_in(a, padding_, 0),
              pair_in(a, dilation_, 1));
  const index taps = w.kernel_h * w.kernel_w, places = w.out_height * w.out_width;
  const int rows = w.channels_last ? 1 : 0;
  if (columns.ndim() != 2 || columns.shape(rows) % taps != 0 || columns.shape(1 - rows) % places != 0) {
    const std::string c = "C * " + std::to_string(taps), n = "N * " + std::to_string(places);
    throw py::value_error("columns: expected shape (" + (rows == 0 ? c + ", " + n : n + ", " + c) + "), got " +
                          std::string(py::str(py::object(columns.object().attr("shape")))));
  }
  w.channels = columns.shape(rows) / taps;
  w.samples = columns.shape(1 - rows) / places;
  return computed(columns, "columns", out(a[out_], "out", input_shape(w), columns.dtype()),
                  [&](auto* from, auto* to) { col2im(w, from, to); });
}

py::object max_pool2d_(const Arguments& a) {
  enum { x_, kernel_size_, stride_, padding_, channel_axis_, out_ };
  Windows w{};
  w.channels_last = channels_last(a, channel_axis_);
  const Array x = in(a[x_], "x");
  set_input(w, x);
  set_pooling(w, "x", a, kernel_size_, stride_, padding_);
  if (w.kernel_h * w.kernel_w > 65536)
    throw py::value_error("kernel_size: expected at most 65536 positions, got " + text({w.kernel_h, w.kernel_w}));
  const Array y = out(a[out_], "out", output_shape(w), x.dtype());
  const py::object saved = new_saved(kMaxPool, static_cast<std::size_t>(y.size() * (wide_taps(w) ? 2 : 1)));
  numbers_of<MaxPoolNumbers>(saved_in(saved)) = {w, x.dtype()};
  return tuple_of(computed(x, "x", y, [&](auto* from, auto* to) { max_pool(w, from, to, saved_in(saved).block); }),
                  saved);
}

py::object max_pool2d_backward_(const Arguments& a) {
  enum { dy_, saved_, out_ };
  Saved& saved = saved_of(a[saved_], kMaxPool);
  const auto& [w, dtype] = numbers_of<MaxPoolNumbers>(saved);
  const Array dy = in(a[dy_], "dy", shape_of(output_shape(w), dtype));
  return computed(dy, "dy", out(a[out_], "out", input_shape(w), dtype),
                  [&, &windows = w](auto* from, auto* to) { max_pool_gradient(windows, from, saved.block, to); });
}

py::object avg_pool2d_(const Arguments& a) {
  enum { x_, kernel_size_, stride_, padding_, count_include_pad_, channel_axis_, out_ };
  Windows w{};
  w.channels_last = channels_last(a, channel_axis_);
  const bool padding = a.truth(count_include_pad_);
  const Array x = in(a[x_], "x");
  set_input(w, x);
  set_pooling(w, "x", a, kernel_size_, stride_, padding_);
  return computed(x, "x", out(a[out_], "out", output_shape(w), x.dtype()),
                  [&](auto* from, auto* to) { avg_pool(w, from, to, padding); });
}

py::object avg_pool2d_backward_(const Arguments& a) {
  enum { dy_, input_size_, kernel_size_, stride_, padding_, count_include_pad_, channel_axis_, out_ };
  Windows w{};
  w.channels_last = channels_last(a, channel_axis_);
  const bool padding = a.truth(count_include_pad_);
  const Array given = in(a[dy_], "dy");
  require_image(given, "dy");
  const Pair size = pair_in(a, input_size_, 1);
  w.samples = given.shape(0);
  w.channels = given.shape(w.channels_last ? 3 : 1);
  w.height = size.h;
  w.width = size.w;
  set_pooling(w, "input_size", a, kernel_size_, stride_, padding_);
  const Array dy = in(given.source(), "dy", shape_of(output_shape(w), given.dtype()));
  return computed(dy, "dy", out(a[out_], "out", input_shape(w), dy.dtype()),
                  [&](auto* from, auto* to) { avg_pool_gradient(w, from, to, padding); });
}

// Planes count as images of one channel.
View image_view(index samples, index channels, index pixels, bool last) {
  return last ? View{samples, channels, pixels} : View{samples * channels, 1, pixels};
}

py::object global_avg_pool2d_(const Arguments& a) {
  enum { x_, channel_axis_, out_ };
  Windows w{};
  w.channels_last = channels_last(a, channel_axis_);
  const Array x = in(a[x_], "x");
  set_input(w, x);
  if (w.height < 1 || w.width < 1)
    throw py::value_error("x: expected at least one pixel, got " + text({w.height, w.width}));
  const View view = image_view(w.samples, w.channels, w.height * w.width, w.channels_last);
  return computed(x, "x", out(a[out_], "out", {w.samples, w.channels}, x.dtype()),
                  [&](auto* from, auto* to) { image_means(view, from, to); });
}

py::object global_avg_pool2d_backward_(const Arguments& a) {
  enum { dy_, input_size_, channel_axis_, out_ };
  Windows w{};
  w.channels_last = channels_last(a, channel_axis_);
  const Array dy = in(a[dy_], "dy");
  if (dy.ndim() != 2)
    throw py::value_error("dy: expected shape (N, C), got " + std::to_string(dy.ndim()) + " dimensions");
  const Pair size = pair_in(a, input_size_, 1);
  w.samples = dy.shape(0);
  w.channels = dy.shape(1);
  w.height = size.h;
  w.width = size.w;
  const View view = image_view(w.samples, w.channels, w.height * w.width, w.channels_last);
  return computed(dy, "dy", out(a[out_], "out", input_shape(w), dy.dtype()),
                  [&](auto* from, auto* to) { image_means_gradient(view, from, to); });
}

}  // namespace

void bind_windows(py::module_&) {
  define({"im2col", {"x", "kernel_size", "stride", "padding", "dilation", "channel_axis", "out"}, im2col_});
  define({"col2im",
          {"columns", "input_size", "kernel_size", "stride", "padding", "dilation", "channel_axis", "out"},
          col2im_});
  define({"max_pool2d", {"x", "kernel_size", "stride", "padding", "channel_axis", "out"}, max_pool2d_});
  define({"max_pool2d_backward", {"dy", "saved", "out"}, max_pool2d_backward_});
  define({"avg_pool2d",
          {"x", "kernel_size", "stride", "padding", "count_include_pad", "channel_axis", "out"},
          avg_pool2d_});
  define({"avg_pool2d_backward",
          {"dy", "input_size", "kernel_size", "stride", "padding", "count_include_pad", "channel_axis", "out"},
          avg_pool2d_backward_});
  define({"global_avg_pool2d", {"x", "channel_axis", "out"}, global_avg_pool2d_});
  define({"global_avg_pool2d_backward", {"dy", "input_size", "channel_axis", "out"}, global_avg_pool2d_backward_});
}

}  // namespace fastnn
