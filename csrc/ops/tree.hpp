// How an array is cut for a reduction: into leaves by its shape alone, and leaves into tasks by the threads at hand.
#pragma once
#include <algorithm>

#include "../contract.hpp"
#include "../memory.hpp"
#include "../parallel.hpp"

namespace fastnn {

inline Leaves cut_leaves(const View& view) {
  Leaves leaves{view, 1, 1, 0};
  if (view.inner == 1)
    leaves.samples = kLeafRows;
  else if (view.inner > kPiece)
    leaves.pieces = (view.inner + kPiece - 1) / kPiece;
  else
    leaves.samples = std::max<index>(1, kLeaf / std::max<index>(1, view.inner));
  leaves.count = leaves.pieces > 1 ? view.outer * leaves.pieces : (view.outer + leaves.samples - 1) / leaves.samples;
  return leaves;
}

// Elements of one channel in leaf l.
inline index leaf_elements(const Leaves& leaves, index l) {
  const View& v = leaves.view;
  if (leaves.pieces > 1) return std::min(kPiece, v.inner - l % leaves.pieces * kPiece);
  return std::min(leaves.samples, v.outer - l * leaves.samples) * v.inner;
}

// Leaves of one task: tasks are aligned subtrees in memory order; four per thread even out their cost.
inline index leaves_per_task(index leaves, index bands, int team) {
  index size = 1;
  while (size < kPart && size < leaves && (team == 1 || (leaves + 2 * size - 1) / (2 * size) * bands >= 4 * team))
    size *= 2;
  return size;
}

// Channels of one task.
inline index band_of(const View& view) {
  return view.inner <= kRowForm ? kBandRows / std::max<index>(1, view.inner) : kBandPlanes;
}

// Runs kernel(part) over all leaves and channels, the partial results merged by merge(parts, leaves_per_part, part)
// into result[k * channels + c]; then finish(channel0, channel1) on what is ready, in the same parallel loop: serial
// work between two regions lets the team fall asleep. Without a result the kernel is run for its elementwise work
// alone.
template <class Kernel, class Merge, class Finish>
void reduce(const Leaves& leaves, index results, double cost_ns, double* result, const Kernel& kernel,
            const Merge& merge, const Finish& finish) {
  const index channels = leaves.view.channels;
  const index band = band_of(leaves.view), bands = (channels + band - 1) / band;
  const index size = leaves_per_task(leaves.count, bands, team_size(leaves.count * bands, cost_ns));
  const index groups = (leaves.count + size - 1) / size;
  const bool merged = result && groups > 1;
  Scratch<double> parts(merged ? groups * results * channels : 0);
  parallel_for(groups * bands, cost_ns, [&](index begin, index end) {
    for (index task = begin; task < end; ++task) {
      const index group = task / bands, channel0 = task % bands * band;
      kernel(Part{group * size, std::min(leaves.count, (group + 1) * size), channel0,
                  std::min(channels, channel0 + band), merged ? parts.data() + group * results * channels : result});
    }
  });
  if (!merged) return finish(index{0}, channels);
  parallel_for((channels + kBandPlanes - 1) / kBandPlanes, static_cast<double>((groups * results + 20) * channels),
               [&](index begin, index end) {
                 const index channel1 = std::min(channels, end * kBandPlanes);
                 for (index c = begin * kBandPlanes; c < channel1; c += kBandPlanes)
                   merge(parts.data(), size, Part{0, groups, c, std::min(channel1, c + kBandPlanes), result});
                 finish(begin * kBandPlanes, channel1);
               });
}

// Runs kernel(part) leaf by leaf: the results of leaf l are parts[(l * results + k) * channels + c].
template <class Kernel>
void each_leaf(const Leaves& leaves, index results, double cost_ns, double* parts, const Kernel& kernel) {
  const index channels = leaves.view.channels;
  const index band = band_of(leaves.view), bands = (channels + band - 1) / band;
  parallel_for(leaves.count * bands, cost_ns, [&](index begin, index end) {
    for (index task = begin; task < end; ++task) {
      const index leaf = task / bands, channel0 = task % bands * band;
      kernel(Part{leaf, leaf + 1, channel0, std::min(channels, channel0 + band), parts + leaf * results * channels});
    }
  });
}

// The sums of consecutive pieces of one array, merged on the tree.
template <class T>
double merge_pieces(const Kernels<T>& k, const double* sums, index pieces) {
  double total = 0;
  k.merge_sums(Leaves{{1, 1, kPiece}, 1, 1, pieces}, 1, sums, 1, Part{0, pieces, 0, 1, &total});
  return total;
}

// Calls body(begin, end) on ranges of flat elements that are whole blocks.
template <class F>
void for_elements(index n, double cost_ns, F&& body) {
  parallel_for((n + kBlock - 1) / kBlock, cost_ns,
               [&](index begin, index end) { body(begin * kBlock, std::min(n, end * kBlock)); });
}

}  // namespace fastnn
