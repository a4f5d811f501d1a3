// Short vectors: an extension of g++ and clang, or an array with the same operations, and the same bits, elsewhere.
// Included by code that is compiled for one instruction-set level, so all of it is private to its file.
#pragma once
#include <cstdint>
#include <cstring>

#include "compiler.hpp"

namespace fastnn {
namespace {

template <class To, class From>
FASTNN_INLINE To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// Signed integers of so many bytes.
template <int Bytes>
struct IntegerOf;
template <>
struct IntegerOf<4> {
  using type = std::int32_t;
};
template <>
struct IntegerOf<8> {
  using type = std::int64_t;
};

#ifdef FASTNN_VECTOR_EXTENSIONS
template <class T, int Bytes>
struct VectorType {
  typedef T type __attribute__((vector_size(Bytes)));
};
#else
template <class T, int Count>
struct PlainVector {
  T entry[Count];

  FASTNN_INLINE T& operator[](int i) { return entry[i]; }
  FASTNN_INLINE const T& operator[](int i) const { return entry[i]; }

  using Mask = PlainVector<typename IntegerOf<sizeof(T)>::type, Count>;
  static FASTNN_INLINE PlainVector filled(T value) {
    PlainVector v;
    for (int i = 0; i < Count; ++i) v.entry[i] = value;
    return v;
  }
#define FASTNN_OPERATOR(op)                                                    \
  friend FASTNN_INLINE PlainVector operator op(PlainVector a, PlainVector b) { \
    for (int i = 0; i < Count; ++i) a.entry[i] = a.entry[i] op b.entry[i];     \
    return a;                                                                  \
  }                                                                            \
  friend FASTNN_INLINE PlainVector operator op(PlainVector a, T b) {           \
    return a op filled(b);                                                     \
  }                                                                            \
  friend FASTNN_INLINE PlainVector operator op(T a, PlainVector b) {           \
    return filled(a) op b;                                                     \
  }                                                                            \
  FASTNN_INLINE PlainVector& operator op## = (PlainVector b) {                 \
    return *this = *this op b;                                                 \
  }                                                                            \
  FASTNN_INLINE PlainVector& operator op## = (T b) {                           \
    return *this = *this op filled(b);                                         \
  }
  FASTNN_OPERATOR(+)
  FASTNN_OPERATOR(-)
  FASTNN_OPERATOR(*)
  FASTNN_OPERATOR(|)
  FASTNN_OPERATOR(^)
#undef FASTNN_OPERATOR
#define FASTNN_SHIFT(op)                                                \
  friend FASTNN_INLINE PlainVector operator op(PlainVector a, int by) { \
    for (int i = 0; i < Count; ++i) a.entry[i] = a.entry[i] op by;      \
    return a;                                                           \
  }
  FASTNN_SHIFT(<<)
  FASTNN_SHIFT(>>)
#undef FASTNN_SHIFT
#define FASTNN_COMPARISON(op)                                                          \
  friend FASTNN_INLINE Mask operator op(PlainVector a, PlainVector b) {                \
    Mask mask;                                                                         \
    for (int i = 0; i < Count; ++i) mask.entry[i] = a.entry[i] op b.entry[i] ? -1 : 0; \
    return mask;                                                                       \
  }
  FASTNN_COMPARISON(<)
  FASTNN_COMPARISON(<=)
  FASTNN_COMPARISON(>)
  FASTNN_COMPARISON(!=)
#undef FASTNN_COMPARISON
  friend FASTNN_INLINE PlainVector operator-(PlainVector a) {
    for (int i = 0; i < Count; ++i) a.entry[i] = -a.entry[i];
    return a;
  }
};

template <class T, int Bytes>
struct VectorType {
  using type = PlainVector<T, Bytes / static_cast<int>(sizeof(T))>;
};
#endif

template <class T, int Bytes>
using Vector = typename VectorType<T, Bytes>::type;

// Entries of a where the mask is set, of b elsewhere.
template <class M, class V>
FASTNN_INLINE V pick(M mask, V a, V b) {
#ifdef FASTNN_VECTOR_EXTENSIONS
  return mask ? a : b;
#else
  for (int i = 0; i < static_cast<int>(sizeof(V) / sizeof a[0]); ++i) a[i] = mask[i] ? a[i] : b[i];
  return a;
#endif
}

// The entries of a and b, one after the other, with these numbers.
template <int... Order, class V>
FASTNN_INLINE V shuffle(V a, V b) {
#if !defined(FASTNN_VECTOR_EXTENSIONS)
  constexpr int order[] = {Order...}, count = sizeof...(Order);
  V v;
  for (int i = 0; i < count; ++i) v[i] = order[i] < count ? a[order[i]] : b[order[i] - count];
  return v;
#elif defined(__clang__)
  return __builtin_shufflevector(a, b, Order...);
#else
  using Numbers = decltype(a < b);
  return __builtin_shuffle(a, b, Numbers{Order...});
#endif
}

}  // namespace
}  // namespace fastnn
