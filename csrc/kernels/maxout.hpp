// Maxout: y = the largest of the pieces of a unit, x having shape (units, pieces, inner), and the number of that piece:
// the first of equals; NaN is larger than all others. Backward hands dy to that piece, and 0 to the others.
//
// Both work on rows, one for each piece, of n <= kBlock outputs. Where inner is 1 the pieces of a unit lie side by side
// and are brought into rows first. Numbers of pieces are kept as T meanwhile: they take part in vectors of T.
#pragma once
#include "loops.hpp"

namespace fastnn {
namespace {

constexpr index kGathered = 2 * kBlock;  // elements brought into rows at a time

// x is taken for the largest so far.
template <class T>
FASTNN_INLINE bool beats(T x, T best) {
  return (x > best) | ((x != x) & (best == best));
}

// One more piece. The first time `best` is that of piece 0, and there are no places yet.
template <bool First, class T>
FASTNN_INLINE void compare_piece(const T* best, const T* x, T number, T* to, T* place, index n) {
#pragma GCC ivdep
  for (index i = 0; i < n; ++i) {
    // All loaded whatever is taken: SSE2 has no masked loads, and branches would be mispredicted.
    const T value = x[i], other = best[i], before = First ? T(0) : place[i];
    const bool taken = beats(value, other);
    to[i] = taken ? value : other;
    place[i] = taken ? number : before;
  }
}

template <class T>
FASTNN_NOINLINE void largest_of_rows(const T* row, index apart, index pieces, T* y, T* place, index n) {
  if (pieces == 1) {
    for (index i = 0; i < n; ++i) {
      y[i] = row[i];
      place[i] = 0;
    }
    return;
  }
  compare_piece<true>(row, row + apart, T(1), y, place, n);
  for (index j = 2; j < pieces; ++j) compare_piece<false, T>(y, row + j * apart, static_cast<T>(j), y, place, n);
}

// to[j * apart + i] = x[i * K + j], and back, n apart: loops that gcc vectorises for a constant K.
template <int K, class T>
FASTNN_INLINE void separate(const T* FASTNN_RESTRICT x, T* FASTNN_RESTRICT to, index apart, index n) {
  for (index i = 0; i < n; ++i)
    for (int j = 0; j < K; ++j) to[j * apart + i] = x[i * K + j];
}
template <int K, class T>
FASTNN_INLINE void join(const T* FASTNN_RESTRICT rows, T* FASTNN_RESTRICT to, index n) {
  for (index i = 0; i < n; ++i)
    for (int j = 0; j < K; ++j) to[i * K + j] = rows[j * n + i];
}

template <class T>
FASTNN_NOINLINE void rows_of_pieces(const T* x, index pieces, T* rows, index n) {
  if (pieces == 2) return separate<2>(x, rows, n, n);
  if (pieces == 3) {  // faster as four columns, the last of which is dropped, where four are a vector
    index i = 0;
    for (; 4 * static_cast<index>(sizeof(T)) <= kVectorBytes && i + 4 < n; i += 4)
      transpose_four<3>(x + 3 * i, 3, rows + i, n);
    return separate<3>(x + 3 * i, rows + i, n, n - i);
  }
  transpose(x, pieces, rows, n, n, pieces);
}
template <class T>
FASTNN_NOINLINE void pieces_of_rows(const T* rows, index pieces, T* x, index n) {
  if (pieces == 2) return join<2>(rows, x, n);
  if (pieces == 3) return join<3>(rows, x, n);
  transpose(rows, n, x, pieces, pieces, n);
}

// Calls stretch(g, n, start) for the stretches of outputs [begin, end) whose pieces are rows `inner` apart from
// element `start` on; where inner is 1, they begin there and lie side by side.
template <class Stretch>
FASTNN_INLINE void for_units(index begin, index end, index pieces, index inner, const Stretch& stretch) {
  // Where there are many, as many as vectors of bytes hold.
  const index room = smaller(kBlock, kGathered / pieces), gathered = room < 64 ? room : room / 64 * 64;
  const index most = inner == 1 ? gathered : kBlock;
  for (index g = begin; g < end;) {
    const index unit = g / inner, i = g % inner;
    const index n = smaller(smaller(most, end - g), inner == 1 ? most : inner - i);
    stretch(g, n, unit * pieces * inner + i);
    g += n;
  }
}

template <class T>
void maxout(const Maxout<T>& a, index begin, index end) {
  T rows[kGathered], best[kBlock], place[kBlock];
  for_units(begin, end, a.pieces, a.inner, [&](index g, index n, index start) {
    const bool side_by_side = a.inner == 1 && a.pieces > 1;
    if (side_by_side) rows_of_pieces(a.x + start, a.pieces, rows, n);
    T* const y = a.stream ? best : a.y + g;
    largest_of_rows(side_by_side ? rows : a.x + start, side_by_side ? n : a.inner, a.pieces, y, place, n);
    if (a.stream) stream_block(best, a.y + g, n);
    unsigned char* FASTNN_RESTRICT const places = a.places + g;
    for (index i = 0; i < n; ++i) places[i] = static_cast<unsigned char>(static_cast<std::int32_t>(place[i]));
  });
  if (a.stream) stream_fence();
}

template <class T>
void maxout_gradient(const MaxoutGradient<T>& a, index begin, index end) {
  T rows[kGathered], joined[kGathered], place[kBlock];
  for_units(begin, end, a.pieces, a.inner, [&](index g, index n, index start) {
    const bool side_by_side = a.inner == 1 && a.pieces > 1;
    const unsigned char* FASTNN_RESTRICT const places = a.places + g;
    for (index i = 0; i < n; ++i) place[i] = static_cast<T>(static_cast<std::int32_t>(places[i]));
    for (index j = 0; j < a.pieces; ++j) {
      const T* const dy = a.dy + g;
      T* const at = a.dx + start + j * a.inner;
      T* const to = side_by_side ? rows + j * n : a.stream ? rows : at;
      const T number = static_cast<T>(j);
#pragma GCC ivdep
      for (index i = 0; i < n; ++i) {
        const T d = dy[i];
        to[i] = place[i] == number ? d : T(0);
      }
      if (a.stream && !side_by_side) stream_block(rows, at, n);
    }
    if (!side_by_side) return;
    pieces_of_rows(rows, a.pieces, a.stream ? joined : a.dx + start, n);
    if (a.stream) stream_block(joined, a.dx + start, n * a.pieces);
  });
  if (a.stream) stream_fence();
}

}  // namespace
}  // namespace fastnn
