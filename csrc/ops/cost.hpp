// What a call costs, roughly, when run by one thread: decides about threads and about bypassing the cache.
#pragma once
#include "../dispatch.hpp"
#include "../memory.hpp"

namespace fastnn {

struct Cost {
  double ns = 0;
  double touched = 0;  // bytes

  // Streams from the second-level cache or beyond: about 40 GB/s.
  template <class T>
  Cost bytes(index elements) const {
    const double b = static_cast<double>(elements) * static_cast<double>(sizeof(T));
    return {ns + b / 40, touched + b};
  }
  // The same again: passes over the data, and more arithmetic than a copy.
  Cost passes(double count) const { return {ns * count, touched}; }
  Cost random_bits(index elements) const { return {ns + 0.3 * static_cast<double>(elements), touched}; }
  template <class T>
  Cost activation(int id, index elements) const {  // -1: none
    return {ns + (id < 0 ? 0 : kernels<T>().activations[id].ns * static_cast<double>(elements)), touched};
  }
  Cost exps(index elements) const { return {ns + 0.7 * static_cast<double>(elements), touched}; }
  Cost roots(index elements) const { return {ns + 0.5 * static_cast<double>(elements), touched}; }

  // Seven tenths of the last-level cache: beyond, written lines would only push out what is still to be read.
  bool beyond_cache() const { return touched > 0.7 * static_cast<double>(llc_bytes()); }
};

}  // namespace fastnn
