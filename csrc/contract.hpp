// What crosses the ISA line: plain parameter structs and tables of function pointers.
//
// The kernels are compiled once per instruction-set level and know nothing of threads, Python or memory
// management; the code that calls them is compiled once, for the baseline. Both sides include this file, so it
// holds no function bodies: an inline function compiled at two levels would be one weak symbol with two bodies.
#pragma once
#include <cstdint>

namespace fastnn {

using index = std::int64_t;

// An array as channelwise kernels see it: element (o, c, i) lies at (o * channels + c) * inner + i.
struct View {
  index outer, channels, inner;
};

// The reduction tree of a view: leaves in memory order, merged pairwise in index order (see ops/tree.hpp).
struct Leaves {
  View view;
  index samples;  // whole samples per leaf (1 when a plane is cut into pieces)
  index pieces;   // pieces a plane is cut into (1 unless it is longer than kPiece)
  index count;
};

// One task of a reduction: leaves [leaf0, leaf1) of channels [channel0, channel1). Result k of channel c goes to
// out[k * view.channels + c]; out == nullptr: only the elementwise part of the kernel is wanted.
struct Part {
  index leaf0, leaf1, channel0, channel1;
  double* out;
};

constexpr index kLanes = 16;       // accumulators of a reduction along contiguous memory
constexpr index kLeaf = 1024;      // elements of a channel per leaf, about
constexpr index kLeafRows = 32;    // rows per leaf when inner == 1
constexpr index kPiece = 4096;     // longest piece of one plane
constexpr index kBlock = 1024;     // elements handled while they are in L1; a multiple of kTile
constexpr index kTile = 128;       // elements of one tile of random bits
constexpr index kBandRows = 1024;  // columns of a row-form task at most
constexpr index kBandPlanes = 32;  // channels of a plane-form task at most
constexpr int kMaxStates = 4;      // state arrays of an optimizer, per parameter tensor
constexpr int kMaxScalars = 16;    // numbers of an optimizer's rule

constexpr index kPart = 64;  // leaves of one task at most

// Rows of channel parameters are used element by element (row form) when planes are at most this long.
constexpr index kRowForm = 16;

// residual -> activation -> dropout: the tail that every producer shares.
template <class T>
struct Epilogue {
  const T* residual;       // same shape as the product, or nullptr
  int activation;          // index into Kernels::activations, or -1
  T p0, p1;                // its parameters
  std::int32_t threshold;  // keep where bits < threshold; -1: no dropout
  T keep_scale;            // 65536 / threshold
  std::uint32_t key[4];    // seed, stream position
  index first;             // index of the array's first element in the whole mask
};

// Channel parameters, one per channel (plane form) or repeated to `period` elements (row form).
template <class T>
struct ChannelMap {
  bool rows;
  index channels, inner;  // plane form: element g belongs to channel (g / inner) % channels
  index period;           // row form: element g uses entry g % period
  const T* bias;          // added to x first: the bias of the preceding product (-0 where there is none)
  const T *hi, *lo;       // the mean as an unevaluated sum; nullptr: bias only, v = x + bias
  const T *scale, *beta;  // v = (((x + bias) - hi) - lo) * scale + beta
  const T *k1, *k2;       // backward: dx = ((dz - k1) - (((x + bias) - hi) - lo) * k2) * scale
};

// y = epilogue(v(x)) over flat elements.
template <class T>
struct Forward {
  const T* x;
  ChannelMap<T> map;
  Epilogue<T> tail;
  T* y;
  bool stream;  // write past the cache
};

// dz = the gradient that reaches v, from dy; then what the kernel makes of it.
template <class T>
struct Backward {
  const T* dy;
  const T* x;  // what v is recomputed from, or the kept output
  bool x_is_output;
  ChannelMap<T> map;
  Epilogue<T> tail;
  T* dx;  // nullptr: not wanted
  bool stream;
  Leaves leaves;
};

template <class T>
struct Moments {
  const T* x;
  ChannelMap<T> map;
  Leaves leaves;
};

template <class T>
struct ActivationKernel {
  const char* name;
  void (*forward)(const T* x, T* y, index n, T p0, T p1);
  void (*backward)(const T* dy, const T* x, T* dx, index n, T p0, T p1);
  void (*backward_output)(const T* dy, const T* y, T* dx, index n, T p0, T p1);  // nullptr: needs x
};

template <class T>
struct CrossEntropy {
  const T* logits;
  const index* labels;
  T* dlogits;
  T* losses;  // one per row
  index columns;
  T weight;     // 1 / rows
  bool stream;  // write past the cache
};

// A run of one parameter tensor, its gradient and its optimizer state.
template <class T>
struct Span {
  T* parameter;
  const T* gradient;
  T* state[kMaxStates];  // nullptr: not there
  index n;
};

// The rule of an optimizer. step updates a run; the gradient counts clip times.
template <class T>
struct OptimizerKernel {
  const char* name;
  const char* const* states;  // kMaxStates names, nullptr after the last
  int optional_states;        // so many of the last may be absent
  int scalars;                // numbers that step takes
  bool root;                  // takes a root and a division per element
  void (*step)(const T* scalars, T clip, const Span<T>&);
};

// A loss that is a sum over elements. Element g has entry g % period of parameters and of weights.
template <class T>
struct ElementwiseLoss {
  const T *input, *target;
  const T *parameter, *weight;  // weight may be nullptr
  index parameter_period, weight_period;
  T scale;  // of the gradient
  T* dinput;
  T* losses;  // nullptr: their sum is wanted
  bool stream;
};

template <class T>
struct LossKernel {
  const char* name;
  double (*piece)(const ElementwiseLoss<T>&, index begin, index end);  // one leaf of a whole-array sum
};

// Multi-class hinge loss of rows.
template <class T>
struct HingeLoss {
  const T* scores;
  const index* labels;
  const T* weight;  // one per class, or nullptr
  index columns;
  T margin;
  bool squared;
  T share;  // of the sum over classes: 1, or 1 / columns
  T scale;  // of the gradient
  T* dscores;
  T* losses;  // one per row
  bool stream;
};

// Binary decisions on the paths of samples through a tree: decision e is taken at nodes[e], to the right where
// signs[e] is 1, to the left where it is -1; those of sample n are [offsets[n], offsets[n + 1]).
template <class T>
struct TreeLoss {
  const T *h, *weight, *bias;  // rows of features of the samples and of the nodes
  index features;
  const index *offsets, *nodes;
  const T* signs;
  T scale;    // of the gradient
  T* losses;  // one per sample
  T* dh;
  T* slopes;  // one per decision: the gradient of its weight . h + bias
};

// Row r of the gradient collects decisions [starts[r], starts[r + 1]) of those ordered by node.
template <class T>
struct TreeGradient {
  const T* h;
  index features;
  const index *starts, *decisions, *samples;
  const T* slopes;
  T *dweight, *dbias;
};

template <class T>
struct Kernels {
  const ActivationKernel<T>* activations;
  int activation_count;
  void (*forward)(const Forward<T>&, index begin, index end);   // flat elements
  void (*moments)(const Moments<T>&, const Part&);              // mean, sum of squared deviations
  void (*bias_gradient)(const Backward<T>&, const Part&);       // dx = dz; sum dz
  void (*norm_gradient_sums)(const Backward<T>&, const Part&);  // dx = dz; sum dz, sum dz * (x - mean)
  void (*norm_gradient)(const Backward<T>&, const Part&);       // dx; sum dx
  // Of `count` consecutive channels each: 1 / sqrt(deviations / n + eps);
  void (*norm_invstd)(const double* deviations, double n, double eps, double* invstd, index count);
  // hi + lo = mean, scale = weight * invstd;
  void (*norm_factors)(const double* mean, const double* invstd, const T* weight, T* hi, T* lo, T* scale, index count);
  // k1 = sum dz / n, k2 = sum(dz c) * invstd^2 / n, dbias = sum dz, dweight = sum(dz c) * invstd.
  void (*norm_gradient_factors)(const double* sum_dz, const double* sum_dzc, const double* invstd, double n, T* k1,
                                T* k2, T* dbias, T* dweight, index count);
  void (*merge_moments)(const Leaves&, index leaves_per_part, const double* parts, const Part&);
  void (*merge_sums)(const Leaves&, index leaves_per_part, const double* parts, index results, const Part&);
  double (*sum)(const T* x, index n, bool squared);  // one leaf of a whole-array sum
  // Rows [begin, end); scratch for one row longer than a block.
  void (*cross_entropy)(const CrossEntropy<T>&, T* scratch, index begin, index end);
  const OptimizerKernel<T>* optimizers;
  int optimizer_count;
  // Losses.
  const LossKernel<T>* losses;
  int loss_count;
  void (*hinge_loss)(const HingeLoss<T>&, index begin, index end);        // rows
  void (*tree_loss)(const TreeLoss<T>&, index begin, index end);          // samples
  void (*tree_gradient)(const TreeGradient<T>&, index begin, index end);  // rows of the gradient
};

struct KernelTable {
  Kernels<float> f32;
  Kernels<double> f64;
};

}  // namespace fastnn
