// exp and log from IEEE operations alone: branch-free, so that the loops around them vectorise, and without FMA, so
// that every level gives the same bits. Rounding to an integer adds a magic constant; floats are never converted to
// integers, as out-of-range conversions differ between architectures.
#pragma once
#include "lanes.hpp"

namespace fastnn {
namespace {

template <class To, class From>
FASTNN_INLINE To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// e^x for x <= 0: 2^k * e^r with r = x - k ln 2 and |r| <= ln 2 / 2. Scaled by 2^(k + 64), which is always a normal
// number and exact, and then by 2^-64, so that results below the smallest normal are rounded once. k is at hand as the
// lower bits of the number that rounds to it. From -104 on down the result rounds to 0 by itself.
FASTNN_INLINE float exp_nonpositive(float x) {
  constexpr float magic = 12582912.0f;  // 1.5 * 2^23
  const float inside = x < -104.0f ? -104.0f : x;
  const float shifted = inside * 1.44269504088896341f + magic;
  const float k = shifted - magic;
  const float r = (inside - k * 0.693359375f) - k * -2.12194440e-4f;  // ln 2 in two parts; the first product is exact
  float p = 1.9875691500e-4f;                                         // minimax polynomial of Cephes expf
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float e = (p * (r * r) + r) + 1.0f;
  return e * bits_as<float>((bits_as<std::uint32_t>(shifted) + (127u + 64u)) << 23) * 5.42101086242752217e-20f;
}

FASTNN_INLINE double exp_nonpositive(double x) {
  constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
  const double inside = x < -746.0 ? -746.0 : x;
  const double shifted = inside * 1.4426950408889634074 + magic;
  const double k = shifted - magic;
  const double r = (inside - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
  double p = 1.6059043836821613e-10;  // 1/13!, Taylor: the first term left out is below 2^-57
  p = p * r + 2.08767569878681e-09;
  p = p * r + 2.505210838544172e-08;
  p = p * r + 2.755731922398589e-07;
  p = p * r + 2.7557319223985893e-06;
  p = p * r + 2.48015873015873e-05;
  p = p * r + 1.984126984126984e-04;
  p = p * r + 1.388888888888889e-03;
  p = p * r + 8.333333333333333e-03;
  p = p * r + 4.1666666666666664e-02;
  p = p * r + 1.6666666666666666e-01;
  p = p * r + 0.5;
  const double e = (p * (r * r) + r) + 1.0;
  constexpr double down = 7.458340731200207e-155;  // 2^-512
  return e * bits_as<double>((bits_as<std::uint64_t>(shifted) + (1023u + 512u)) << 52) * down;
}

// log x = e ln 2 + log(1 + f) with sqrt(1/2) < 1 + f <= sqrt 2, after fdlibm: with s = f / (2 + f),
// log(1 + f) = f - (f^2/2 - s (f^2/2 + R(s^2))). For finite normal x > 0; NaN stays.
FASTNN_INLINE float log(float x) {
  constexpr std::int32_t root_half = 0x3f3504f3;  // sqrt(1/2)
  const std::int32_t e = (bits_as<std::int32_t>(x) - root_half) >> 23;
  const float f = bits_as<float>(bits_as<std::int32_t>(x) - (e << 23)) - 1.0f;
  const float k = static_cast<float>(e);
  const float s = f / (2.0f + f);
  const float z = s * s, w = z * z;
  const float r = z * (0.66666662693f + w * 0.28498786688f) + w * (0.40000972152f + w * 0.24279078841f);
  const float h = 0.5f * f * f;
  const float y = k * 6.9313812256e-01f - ((h - (s * (h + r) + k * 9.0580006145e-06f)) - f);
  return x == x ? y : x;
}

FASTNN_INLINE double log(double x) {
  constexpr std::int64_t root_half = 0x3fe6a09e667f3bcd;
  const std::int64_t e = (bits_as<std::int64_t>(x) - root_half) >> 52;
  const double f = bits_as<double>(bits_as<std::int64_t>(x) - e * (std::int64_t{1} << 52)) - 1.0;
  const double k = static_cast<double>(static_cast<std::int32_t>(e));
  const double s = f / (2.0 + f);
  const double z = s * s, w = z * z;
  const double r =
      z * (6.666666666666735130e-01 +
           w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01))) +
      w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
  const double h = 0.5 * f * f;
  const double y = k * 6.93147180369123816490e-01 - ((h - (s * (h + r) + k * 1.90821492927058770002e-10)) - f);
  return x == x ? y : x;
}

FASTNN_INLINE float square_root(float x) {
  return __builtin_sqrtf(x);
}  // -fno-math-errno: one instruction
FASTNN_INLINE double square_root(double x) {
  return __builtin_sqrt(x);
}

}  // namespace
}  // namespace fastnn
