// Norms within each sample: layer norm and RMS norm of rows, group norm and instance norm of channels. What they keep
// is alike, and so are their calls once it is known what is normalised together.
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "../ops/ops.hpp"
#include "epilogue_args.hpp"
#include "saved.hpp"

namespace fastnn {
namespace {

const SavedKind kLayerNorm{"layer_norm", {"x", "residual", nullptr}};
const SavedKind kRmsNorm{"rms_norm", {"x", "residual", nullptr}};
const SavedKind kGroupNorm{"group_norm", {"x", "residual", nullptr}};
const SavedKind kInstanceNorm{"instance_norm", {"x", "residual", nullptr}};

// Rows (groups == 0), or groups of channels of samples.
struct Together {
  index count;  // rows or samples
  index groups;
  View sample;
  Shape parameters;  // of weight and bias; their size is the length of a row
  bool centred;      // false: the mean is taken to be 0

  index statistics() const { return count * (groups > 0 ? groups : 1); }
};

struct SampleNormNumbers {
  TailArgs tail;
  Together together;
  bool has_weight, has_bias, has_residual;
};

// The block of a `Saved`: mean and 1 / standard deviation, then the parameters that are there.
struct Block {
  double *mean, *invstd;
  unsigned char *weight, *bias;

  static std::size_t bytes(const SampleNormNumbers& n, std::size_t item) {
    const auto statistics = static_cast<std::size_t>(n.together.statistics());
    const auto parameters = static_cast<std::size_t>(n.together.parameters.size);
    return statistics * sizeof(double) * (n.together.centred ? 2 : 1) +
           parameters * item * static_cast<std::size_t>(n.has_weight + n.has_bias);
  }

  Block(const Saved& saved, const SampleNormNumbers& n, std::size_t item) {
    invstd = reinterpret_cast<double*>(saved.block);
    mean = n.together.centred ? invstd + n.together.statistics() : nullptr;
    unsigned char* const next = reinterpret_cast<unsigned char*>((mean ? mean : invstd) + n.together.statistics());
    weight = n.has_weight ? next : nullptr;
    bias = n.has_bias ? next + (weight ? static_cast<std::size_t>(n.together.parameters.size) * item : 0) : nullptr;
  }
};

// Places of the arguments that all have; x is the first. A bias at -1 is none.
struct Places {
  int weight, bias, residual, activation, dropout, rng, first, out;
};

double eps_in(const Arguments& a, int place) {
  const double eps = a.number(place);
  if (!(eps > 0)) throw py::value_error("eps: expected a number > 0, got " + std::string(py::str(a[place])));
  return eps;
}

std::optional<Array> maybe_parameter(const Arguments& a, int place, const char* name, const Shape& shape) {
  if (place < 0 || !a.given(place)) return std::nullopt;
  return in(a[place], name, shape);
}

template <class T>
void compute(const SampleNormNumbers& n, const Array& x, const std::optional<Array>& weight,
             const std::optional<Array>& bias, const std::optional<Array>& residual, double eps, const Block& block,
             const Array& y) {
  const Together& t = n.together;
  const Computation computation(x.size());
  const T* const w = data_or_null<T>(weight);
  const T* const b = data_or_null<T>(bias);
  const Epilogue<T> tail = n.tail.epilogue<T>(data_or_null<T>(residual));
  if (t.groups > 0)
    group_norm(
        GroupNorm<T>{t.count, t.groups, t.sample, x.data<T>(), w, b, eps, tail, block.mean, block.invstd, y.data<T>()});
  else
    row_norm(
        RowNorm<T>{x.data<T>(), t.parameters.size, w, b, eps, tail, block.mean, block.invstd, y.data<T>(), false, {}},
        t.count);
}

py::object forward(const Arguments& a, const Places& p, const SavedKind& kind, const Array& x, const Together& together,
                   double eps) {
  const double dropped = probability(a, p.dropout);
  const Spec* const spec = spec_in(a, p.activation);
  const std::optional<Array> weight = maybe_parameter(a, p.weight, "weight", together.parameters);
  const std::optional<Array> bias = maybe_parameter(a, p.bias, "bias", together.parameters);
  const std::optional<Array> residual = maybe_in(a[p.residual], "residual", x);
  SampleNormNumbers numbers{tail_in(a, spec, dropped, p.first, x.size()), together, weight.has_value(),
                            bias.has_value(), residual.has_value()};
  const Array y = out(a[p.out], "out", x);
  if (a.given(p.out)) {
    refuse_overlap(y, "out", x, "x", false);
    if (residual) refuse_overlap(y, "out", *residual, "residual", false);
    if (weight) refuse_overlap(y, "out", *weight, "weight", false);
    if (bias) refuse_overlap(y, "out", *bias, "bias", false);
  }
  const std::size_t item = x.is_f32() ? sizeof(float) : sizeof(double);
  const py::object object = new_saved(kind, Block::bytes(numbers, item));
  Saved& saved = saved_in(object);
  const Block block(saved, numbers, item);
  const Draw draw(a, p.rng, numbers.tail);
  by_dtype(x, [&](auto t) { compute<decltype(t)>(numbers, x, weight, bias, residual, eps, block, y); });
  keep(saved, 0, x.source());
  keep(saved, 1, source_or_none(residual));
  if (weight) std::memcpy(block.weight, weight->raw(), weight->nbytes());
  if (bias) std::memcpy(block.bias, bias->raw(), bias->nbytes());
  numbers_of<SampleNormNumbers>(saved) = numbers;
  return tuple_of(y.object(), object);
}

template <class T>
void compute_gradient(const SampleNormNumbers& n, const Saved& saved, const Array& dy, const Array& x,
                      const std::optional<Array>& residual, const Array& dx, const Array& dweight, const Array& dbias,
                      const std::optional<Array>& dresidual) {
  const Together& t = n.together;
  const Block block(saved, n, sizeof(T));
  const Computation computation(x.size());
  const T* const w = reinterpret_cast<const T*>(block.weight);
  const T* const b = reinterpret_cast<const T*>(block.bias);
  const Epilogue<T> tail = n.tail.epilogue<T>(data_or_null<T>(residual));
  if (t.groups > 0)
    group_norm_gradient(GroupNormGradient<T>{t.count, t.groups, t.sample, dy.data<T>(), x.data<T>(), w, b, block.mean,
                                             block.invstd, tail, dx.data<T>(), dweight.data<T>(), dbias.data<T>(),
                                             data_or_null<T>(dresidual)});
  else
    row_norm_gradient(RowNormGradient<T>{dy.data<T>(), x.data<T>(), t.count, t.parameters.size, w, b, block.mean,
                                         block.invstd, tail, dx.data<T>(), data_or_null<T>(dresidual), false},
                      dweight.data<T>(), dbias.data<T>());
}

py::object backward(const Arguments& a, const SavedKind& kind, bool biased) {
  enum { dy_, saved_, out_ };
  Saved& saved = saved_of(a[saved_], kind);
  const SampleNormNumbers& n = numbers_of<SampleNormNumbers>(saved);
  const Array x = in(saved.arrays[0], "the kept x");
  const Array dy = in(a[dy_], "dy", x);
  const Array dx = out(a[out_], "out", x);
  const std::optional<Array> residual = maybe_in(saved.arrays[1], "the kept residual", x);
  if (a.given(out_)) {
    refuse_overlap(dx, "out", x, "the kept x", false);
    if (residual) refuse_overlap(dx, "out", *residual, "the kept residual", false);
    refuse_overlap(dx, "out", dy, "dy", true);
  }
  // Without activation and dropout the gradient of the residual is dy itself.
  const bool passes = n.has_residual && n.tail.activation < 0 && n.tail.threshold < 0 && !overlap(dx, dy);
  const Shape& shape = n.together.parameters;
  const std::vector<index> dims(shape.dims, shape.dims + shape.ndim);
  const Array dweight = empty(dims, x.dtype()), dbias = empty(dims, x.dtype());
  std::optional<Array> dresidual;
  if (n.has_residual && !passes) dresidual = empty_like(x);
  by_dtype(x, [&](auto t) { compute_gradient<decltype(t)>(n, saved, dy, x, residual, dx, dweight, dbias, dresidual); });
  const py::object through = passes ? dy.source() : object_or_none(dresidual);
  if (n.has_residual && biased) return tuple_of(dx.object(), dweight.object(), dbias.object(), through);
  if (n.has_residual) return tuple_of(dx.object(), dweight.object(), through);
  if (biased) return tuple_of(dx.object(), dweight.object(), dbias.object());
  return tuple_of(dx.object(), dweight.object());
}

// --- what is normalised together ----------------------------------------------------------------------------------

std::vector<index> dims_in(const Arguments& a, int place) {
  const py::handle given = a[place];
  if (!PyTuple_Check(given.ptr()) && !PyList_Check(given.ptr())) return {a.integer(place)};
  std::vector<index> dims;
  for (const py::handle item : py::reinterpret_borrow<py::sequence>(given)) {
    const Py_ssize_t n = PyNumber_AsSsize_t(item.ptr(), PyExc_OverflowError);
    if (n == -1 && PyErr_Occurred()) {
      PyErr_Clear();
      throw py::type_error(std::string(a.name(place)) + ": expected an integer or a tuple of integers, got " +
                           std::string(py::repr(given)));
    }
    dims.push_back(n);
  }
  return dims;
}

// Rows of the last dimensions of x, which normalized_shape has to name.
Together rows_of(const Arguments& a, int place, const Array& x, bool centred) {
  const std::vector<index> dims = dims_in(a, place);
  const int ndim = static_cast<int>(dims.size());
  bool same = ndim > 0 && ndim <= std::min(x.ndim(), Shape::kMost);
  for (int d = 0; same && d < ndim; ++d) same = dims[static_cast<std::size_t>(d)] == x.shape(x.ndim() - ndim + d);
  if (!same)
    throw py::value_error(std::string(a.name(place)) + ": expected the last dimensions of x with shape " +
                          std::string(py::str(x.object().attr("shape"))) + ", got " + std::string(py::repr(a[place])));
  Together t{1, 0, {}, Shape{ndim, x.dtype(), 1, {}}, centred};
  for (int d = 0; d < x.ndim() - ndim; ++d) t.count *= x.shape(d);
  for (int d = 0; d < ndim; ++d) t.parameters.size *= t.parameters.dims[d] = dims[static_cast<std::size_t>(d)];
  return t;
}

// Channels of each sample of x, in `groups` groups, or each by itself if `groups` is 0.
Together channels_of(const Array& x, index channel_axis, index groups) {
  if (x.ndim() < 2) throw py::value_error("x: expected at least 2 dimensions, got " + std::to_string(x.ndim()));
  const int axis = normalise_axis(x, "x", channel_axis);
  if (axis == 0) throw py::value_error("channel_axis: expected an axis behind that of the samples, got 0");
  View sample{1, x.shape(axis), 1};
  for (int d = 1; d < axis; ++d) sample.outer *= x.shape(d);
  for (int d = axis + 1; d < x.ndim(); ++d) sample.inner *= x.shape(d);
  if (groups == 0) groups = std::max<index>(1, sample.channels);
  if (groups < 1 || sample.channels % groups != 0)
    throw py::value_error("num_groups: expected a divisor of the number of channels " +
                          std::to_string(sample.channels) + ", got " + std::to_string(groups));
  return {x.shape(0), groups, sample, Shape{1, x.dtype(), sample.channels, {sample.channels}}, true};
}

// --- the ops ------------------------------------------------------------------------------------------------------

py::object layer_norm_(const Arguments& a) {
  enum { x_, shape_, weight_, bias_, eps_, residual_, activation_, dropout_, rng_, first_, out_ };
  const double eps = eps_in(a, eps_);
  const Array x = in(a[x_], "x");
  return forward(a, {weight_, bias_, residual_, activation_, dropout_, rng_, first_, out_}, kLayerNorm, x,
                 rows_of(a, shape_, x, true), eps);
}

py::object rms_norm_(const Arguments& a) {
  enum { x_, shape_, weight_, eps_, residual_, activation_, dropout_, rng_, first_, out_ };
  const double given = a.given(eps_) ? eps_in(a, eps_) : 0;
  const Array x = in(a[x_], "x");
  const double smallest =
      x.is_f32() ? static_cast<double>(std::numeric_limits<float>::epsilon()) : std::numeric_limits<double>::epsilon();
  return forward(a, {weight_, -1, residual_, activation_, dropout_, rng_, first_, out_}, kRmsNorm, x,
                 rows_of(a, shape_, x, false), given > 0 ? given : smallest);
}

py::object group_norm_(const Arguments& a) {
  enum { x_, groups_, weight_, bias_, eps_, residual_, activation_, dropout_, rng_, channel_axis_, first_, out_ };
  const double eps = eps_in(a, eps_);
  const index groups = a.integer(groups_);
  if (groups < 1) throw py::value_error("num_groups: expected at least 1, got " + std::to_string(groups));
  const Array x = in(a[x_], "x");
  return forward(a, {weight_, bias_, residual_, activation_, dropout_, rng_, first_, out_}, kGroupNorm, x,
                 channels_of(x, a.integer(channel_axis_), groups), eps);
}

py::object instance_norm_(const Arguments& a) {
  enum { x_, weight_, bias_, eps_, residual_, activation_, dropout_, rng_, channel_axis_, first_, out_ };
  const double eps = eps_in(a, eps_);
  const Array x = in(a[x_], "x");
  return forward(a, {weight_, bias_, residual_, activation_, dropout_, rng_, first_, out_}, kInstanceNorm, x,
                 channels_of(x, a.integer(channel_axis_), 0), eps);
}

}  // namespace

void bind_sample_norm(py::module_&) {
  define(
      {"layer_norm",
       {"x", "normalized_shape", "weight", "bias", "eps", "residual", "activation", "dropout", "rng", "first", "out"},
       layer_norm_});
  define({"rms_norm",
          {"x", "normalized_shape", "weight", "eps", "residual", "activation", "dropout", "rng", "first", "out"},
          rms_norm_});
  define({"group_norm",
          {"x", "num_groups", "weight", "bias", "eps", "residual", "activation", "dropout", "rng", "channel_axis",
           "first", "out"},
          group_norm_});
  define({"instance_norm",
          {"x", "weight", "bias", "eps", "residual", "activation", "dropout", "rng", "channel_axis", "first", "out"},
          instance_norm_});
  define({"layer_norm_backward", {"dy", "saved", "out"}, [](const Arguments& a) {
            return backward(a, kLayerNorm, true);
          }});
  define(
      {"rms_norm_backward", {"dy", "saved", "out"}, [](const Arguments& a) { return backward(a, kRmsNorm, false); }});
  define({"group_norm_backward", {"dy", "saved", "out"}, [](const Arguments& a) {
            return backward(a, kGroupNorm, true);
          }});
  define({"instance_norm_backward", {"dy", "saved", "out"}, [](const Arguments& a) {
            return backward(a, kInstanceNorm, true);
          }});
}

}  // namespace fastnn
