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

constexpr index kLongRow = 128;           // lines shorter than this are taken many at a time, in tiles
constexpr index kTileLines = 64;          // of so many lines: each step of a line waits for the one before
constexpr index kMostTileLines = 256;     // along inner a few times as many, where there are: long stretches of memory
constexpr index kMostTileBytes = 262144;  // and about so long: two or three stay in 1 MB

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
  const T* bias;          // added to x first: of the preceding product; -0, or with a mean nullptr, for none
  const T* mean;          // rounded: beta and k1 make up for that; nullptr: bias only, v = x + bias
  const T *scale, *beta;  // v = ((x + bias) - mean) * scale + beta; for PReLU scale is the slope, v = x
  const T *k1, *k2;       // backward: dx = ((dz - k1) - ((x + bias) - mean) * k2) * scale
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
  ChannelMap<T> map;  // its bias alone
  Leaves leaves;
};

template <class T>
struct ActivationKernel {
  const char* name;
  double ns;  // of arithmetic per element, about
  void (*forward)(const T* x, T* y, index n, T p0, T p1);
  void (*backward)(const T* dy, const T* x, T* dx, index n, T p0, T p1);
  void (*backward_output)(const T* dy, const T* y, T* dx, index n, T p0, T p1);  // nullptr: needs x
};

// Lines along the channels of an array, which are taken one after the other where they are long rows, else in tiles:
// `lanes` of them beside each other, along inner or along outer.
struct Lines {
  View view;
  index lanes;   // lines of a tile, a multiple of kLanes; 0: rows
  bool across;   // a tile lies along inner
  index tasks;   // rows, or tiles along inner; a tile along outer is made of any number of them
  index buffer;  // elements of scratch for a row or a tile
};

template <class T>
struct Softmax {
  const T* x;
  T* y;
  Lines lines;
  bool logarithm;
  bool stream;  // write past the cache: rows, and tiles along inner
};

template <class T>
struct SoftmaxGradient {
  const T *dy, *y;
  T* dx;
  Lines lines;
  bool logarithm;
  bool stream;
};

// Targets are labels, or labels or probabilities that `weight` and `spread` make dense:
// spread[j] + weight[j] * (probability of class j).
template <class T>
struct CrossEntropy {
  const T* logits;
  const index* labels;  // one per line; nullptr: targets
  const T* targets;     // like logits
  const T* weight;      // one per class; nullptr: ones, where spread is nullptr too
  const T* spread;      // one per class, or nullptr
  T* dlogits;
  T* losses;  // one per line
  Lines lines;
  T scale;  // of the gradient
  index ignore_index;
  bool some_ignored;
  bool stream;  // write past the cache
};

// The largest of `pieces` consecutive channels: output (u, i) of x of shape (units, pieces, inner), for all samples'
// units alike, and the number of the piece that it is.
template <class T>
struct Maxout {
  const T* x;
  index pieces, inner;
  T* y;
  unsigned char* places;
  bool stream;  // write past the cache
};

template <class T>
struct MaxoutGradient {
  const T* dy;
  const unsigned char* places;
  index pieces, inner;
  T* dx;
  bool stream;
};

constexpr index kMaxPieces = 256;  // their numbers fit in a byte

// Rows normalised one by one: y = epilogue(((x - mean) * invstd) * weight + bias), weight and bias being rows as well.
template <class T>
struct RowNorm {
  const T* x;
  index length;
  const T *weight, *bias;
  double eps;
  Epilogue<T> tail;
  double *mean, *invstd;  // one per row; no mean: RMS norm, whose mean is 0
  T* y;
  bool stream;    // write past the cache
  Leaves leaves;  // of kBandPlanes rows, as channels of one sample
};

template <class T>
struct RowNormGradient {
  const T *dy, *x;
  index rows, length;
  const T *weight, *bias;
  const double *mean, *invstd;
  Epilogue<T> tail;
  T *dx, *dresidual;  // the last may be nullptr
  bool stream;
};

// A run of one parameter tensor, its gradient and its optimizer state.
template <class T>
struct Span {
  T* parameter;
  const T* gradient;
  T* state[kMaxStates];  // nullptr: not there
  T* average;            // of the parameter; nullptr: none is kept
  const T* numbers;      // those that all rules share (Shared), then the rule's
  index n;
};

// Numbers that every rule has, before its own: 0 means not at all.
namespace Shared {
enum {
  clip_value,  // gradients are kept within +- this
  l2,
  l1,     // penalties l2/2 * p^2 + l1 * |p|: their slope is added to the gradient
  decay,  // what the parameter loses before the step; kernels get the share that it keeps
  count
};
}

// The rule of an optimizer. step updates a run by a gradient that is ready, with the rule's own numbers.
template <class T>
struct OptimizerKernel {
  const char* name;
  const char* const* states;  // kMaxStates names, nullptr after the last
  int optional_states;        // so many of the last may be absent
  int scalars;                // numbers with the shared ones
  bool root;                  // takes a root and a division per element
  void (*step)(const T* scalars, const Span<T>&);
};

// Dropout of whole channels: element ((o * repeats + r) * channels + c) * inner + i is kept where channel c of sample o
// is. Decisions are counted, from tail.first on, as (o, c).
template <class T>
struct ChannelDropout {
  const T* x;
  index repeats, channels, inner;
  Epilogue<T> tail;  // its dropout alone
  T* y;
  bool stream;
};

// y = keep ? x * keep_scale + shift : dropped
template <class T>
struct AlphaDropout {
  const T* x;
  T shift, dropped;
  Epilogue<T> tail;  // its dropout alone
  T* y;
  bool stream;
};

// y = x + (z * scale + shift), z random
template <class T>
struct Noise {
  const T* x;   // nullptr: y = z * scale + shift
  bool normal;  // z standard normal; else uniform in [0, 1)
  T scale, shift;
  Epilogue<T> tail;  // its key and first alone
  T* y;
  bool stream;
};

// Windows sliding over images: planes of single elements (NCHW), or images whose pixels hold all channels (NHWC).
struct Windows {
  index samples, channels;
  bool channels_last;
  index height, width, out_height, out_width;
  index kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;
};

// A pass over windows. Its tasks are bands of rows of one image: of the outputs forward, of the inputs backward. They
// work in a buffer of padded rows that are sorted by the phases of the strides, so that what one tap (a position in
// the window) meets at neighbouring outputs lies side by side:
// pixel (r, p) of the padded band is at [r % stride_h][p % stride_w][r / stride_h][p / stride_w].
template <class T>
struct WindowPass {
  Windows windows;
  index phase_rows, pitch;  // of the last two dimensions of the buffer
  index buffer;             // its size
  const index* taps;        // where the first output finds each tap: in the buffer, or (max_pool backward) in the image
  const T* from;
  T* to;
  void* where;         // max_pool: the tap of each maximum
  bool wide;           // two bytes for a tap, not one
  bool count_padding;  // avg_pool: the mean is over the padding, too
  bool stream;         // write past the cache
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

// What a step saw of one tensor.
struct TensorStatistics {
  double gradient;           // sum of squares, before clipping
  double squares, absolute;  // sums over the parameter before the step
  double update;             // sum of squares of what the step added
  double largest;            // absolute value after the step
};
// The same while it grows, block by block: 16 lanes of each.
struct Observed {
  double gradient[kLanes], squares[kLanes], absolute[kLanes], update[kLanes], largest[kLanes];
};

template <class T>
struct Kernels {
  const ActivationKernel<T>* activations;
  int activation_count;
  void (*forward)(const Forward<T>&, index begin, index end);   // flat elements
  void (*moments)(const Moments<T>&, const Part&);              // mean, sum of squared deviations
  void (*bias_gradient)(const Backward<T>&, const Part&);       // dx = dz; sum dz. With a scale: of PReLU
  void (*norm_gradient_sums)(const Backward<T>&, const Part&);  // dx = dz; sum dz, sum dz * (x - rounded mean)
  void (*norm_gradient)(const Backward<T>&, const Part&);       // dx; sum dx
  // Of `count` consecutive channels each: 1 / sqrt(deviations / n + eps);
  void (*norm_invstd)(const double* deviations, double n, double eps, double* invstd, index count);
  // the mean rounded, scale = weight * invstd, beta = bias - (mean - rounded) * scale; weight, bias: or nullptr;
  void (*norm_factors)(const double* mean, const double* invstd, const T* weight, const T* bias, T* rounded, T* scale,
                       T* beta, index count);
  // of c = x - rounded mean, r = mean - rounded: sum(dz h) = (sum(dz c) - r sum dz) * invstd, k2 = sum(dz h) * invstd /
  // n, k1 = sum dz / n - r k2, dbias = sum dz, dweight = sum(dz h).
  void (*norm_gradient_factors)(const double* sum_dz, const double* sum_dzc, const double* mean, const double* invstd,
                                double n, T* k1, T* k2, T* dbias, T* dweight, index count);
  void (*merge_moments)(const Leaves&, index leaves_per_part, const double* parts, const Part&);
  void (*merge_sums)(const Leaves&, index leaves_per_part, const double* parts, index results, const Part&);
  double (*sum)(const T* x, index n, bool squared);  // one leaf of a whole-array sum
  const OptimizerKernel<T>* optimizers;
  int optimizer_count;
  // Dropout of channels, dropout for SELU, noise; flat elements.
  void (*drop_channels)(const ChannelDropout<T>&, index begin, index end);
  void (*alpha_dropout)(const AlphaDropout<T>&, index begin, index end);
  void (*noise)(const Noise<T>&, index begin, index end);
  // Softmax: tasks [begin, end) of the lines, with scratch for so many of their buffers: 2, 3 and 3.
  void (*softmax)(const Softmax<T>&, T* scratch, index begin, index end);
  void (*softmax_gradient)(const SoftmaxGradient<T>&, T* scratch, index begin, index end);
  void (*cross_entropy)(const CrossEntropy<T>&, T* scratch, index begin, index end);
  // Sliding windows: rows [row0, row1) of an image, in scratch of the size that ops/windows.cpp gives.
  void (*im2col)(const WindowPass<T>&, T* scratch, index image, index row0, index row1);
  void (*col2im)(const WindowPass<T>&, T* scratch, index image, index row0, index row1);
  void (*max_pool)(const WindowPass<T>&, T* scratch, index image, index row0, index row1);
  void (*max_pool_gradient)(const WindowPass<T>&, T* scratch, index image, index row0, index row1);
  void (*avg_pool)(const WindowPass<T>&, T* scratch, index image, index row0, index row1);
  void (*avg_pool_gradient)(const WindowPass<T>&, T* scratch, index image, index row0, index row1);
  // dx = dy / pixels in all pixels of the images [begin, end), each of `inner` elements.
  void (*spread)(const T* dy, T* dx, index pixels, index inner, bool stream, index begin, index end);
  // Activations with gradients of their own.
  void (*prelu)(const Forward<T>&, index begin, index end);  // flat elements
  void (*maxout)(const Maxout<T>&, index begin, index end);  // flat outputs
  void (*maxout_gradient)(const MaxoutGradient<T>&, index begin, index end);
  // Norms within each sample. Rows [begin, end);
  void (*row_norm)(const RowNorm<T>&, index begin, index end);
  // leaves [leaf0, leaf1) of 32 rows, whose sums by column go to out: those for weight, then for bias. `columns` is as
  // long as two rows, `scratch` as that for each level of the tree;
  void (*row_norm_gradient)(const RowNormGradient<T>&, T* columns, double* scratch, index leaf0, index leaf1,
                            double* out);
  // dx = (dy * scale - k1) - (x - mean) * k2 of flat elements.
  void (*group_gradient)(const Backward<T>&, index begin, index end);
  // Losses.
  const LossKernel<T>* losses;
  int loss_count;
  void (*hinge_loss)(const HingeLoss<T>&, index begin, index end);        // rows
  void (*tree_loss)(const TreeLoss<T>&, index begin, index end);          // samples
  void (*tree_gradient)(const TreeGradient<T>&, index begin, index end);  // rows of the gradient
  // What optimizers share, on a block in cache: see kernels/optimizers.hpp.
  void (*incoming)(const T* shared, T clip, const T* p, const T* gradient, T* g, index n);
  void (*scale)(T* p, T factor, index n);
  void (*average)(T* a, const T* p, T weight, index n);
  void (*observe_before)(const T* g, const T* p, T* before, index n, Observed*);
  void (*observe_after)(const T* p, const T* before, index n, Observed*);
  void (*observed_sums)(const Observed*, TensorStatistics*);
  void (*column_squares)(const T* x, index rows, index stride, index width, double* sums);
  void (*scale_columns)(T* x, index rows, index stride, index width, const T* factors);
};

struct KernelTable {
  Kernels<float> f32;
  Kernels<double> f64;
};

}  // namespace fastnn
