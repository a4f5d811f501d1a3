// exp, log and what activations need of them, from IEEE operations alone: branch-free, so that the loops around them
// vectorise, and without FMA, so that every level gives the same bits. Rounding to an integer adds a magic constant;
// floats are never converted to integers, as out-of-range conversions differ between architectures. A result below the
// smallest normal number keeps the digits that fit, and arguments far out lead to no such number on the way: some
// processors are a hundred times slower there.
#pragma once
#include "lanes.hpp"

namespace fastnn {
namespace {

FASTNN_INLINE float absolute(float x) {
  return FASTNN_BUILTIN(fabsf)(x);
}
FASTNN_INLINE double absolute(double x) {
  return FASTNN_BUILTIN(fabs)(x);
}

FASTNN_INLINE float with_sign(float magnitude, float sign) {
  return FASTNN_BUILTIN(copysignf)(magnitude, sign);
}
FASTNN_INLINE double with_sign(double magnitude, double sign) {
  return FASTNN_BUILTIN(copysign)(magnitude, sign);
}

// which ? a : b by masks. gcc makes branches of conditional expressions before it vectorises, and copies whole
// polynomials into them where one condition follows from another.
FASTNN_INLINE float select(bool which, float a, float b) {
  const std::uint32_t mask = -static_cast<std::uint32_t>(which);
  return bits_as<float>((bits_as<std::uint32_t>(a) & mask) | (bits_as<std::uint32_t>(b) & ~mask));
}
FASTNN_INLINE double select(bool which, double a, double b) {
#if defined(FASTNN_X86_64) && !defined(__SSE4_1__) && !defined(__AVX2__)
  return which ? a : b;  // no vectors of masks of 64 bits
#else
  const std::uint64_t mask = -static_cast<std::uint64_t>(which);
  return bits_as<double>((bits_as<std::uint64_t>(a) & mask) | (bits_as<std::uint64_t>(b) & ~mask));
#endif
}

// NaN stays in both.
template <class T>
FASTNN_INLINE T at_least(T x, T low) {
  return select(x < low, low, x);
}
template <class T>
FASTNN_INLINE T at_most(T x, T high) {
  return select(x > high, high, x);
}

// x^Power, a power of two
template <int Power, class T>
FASTNN_INLINE T power(T x) {
  if constexpr (Power == 1)
    return x;
  else
    return power<Power / 2>(x) * power<Power / 2>(x);
}

// c[First] + c[First + 1] x + ..., by halves (Estrin): in Horner's order every operation waits for the one before.
template <int First, int Count, class T, int N>
FASTNN_INLINE T polynomial(const T (&c)[N], T x) {
  if constexpr (Count == 1) {
    return c[First];
  } else {
    constexpr int half = Count > 16 ? 16 : Count > 8 ? 8 : Count > 4 ? 4 : Count > 2 ? 2 : 1;
    return polynomial<First, half>(c, x) + power<half>(x) * polynomial<First + half, Count - half>(c, x);
  }
}
template <class T, int N>
FASTNN_INLINE T polynomial(const T (&c)[N], T x) {
  if constexpr (N <= 3)
    return polynomial<0, N>(c, x);
  else
    return (polynomial<2, N - 2>(c, x) * x + c[1]) * x + c[0];  // with these in Horner's order less is lost
}

template <class T, int N>
FASTNN_INLINE T horner(const T (&c)[N], T x) {
  T sum = c[N - 1];
  for (int i = N - 2; i >= 0; --i) sum = sum * x + c[i];
  return sum;
}

// The numbers of a type. `unit` is a scale in which e^x is a normal number wherever e^x itself is not 0.
template <class T>
struct Format;

template <>
struct Format<float> {
  using Bits = std::uint32_t;
  static constexpr Bits minus_infinity = 0xff800000;
  static constexpr Bits bias = 127, upper_half = 0xfffff000;  // 12 bits of a number: their product is exact
  static constexpr int mantissa = 23, unit_power = 40;
  static constexpr float magic = 12582912.0f;  // 1.5 * 2^23
  static constexpr float unit = 0x1p40f, per_unit = 0x1p-40f;
  static constexpr float log2_e = 1.44269504088896341f;
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;  // k * ln2_high is exact
  static constexpr float exp_is_zero = -104.0f;                               // from here on down
  static constexpr float tail = -112.0f;                                      // so is x e^x
  static constexpr float expm1_is_minus_one = -20.0f, expm1_is_infinite = 89.0f;
  // (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2: minimax polynomial of Cephes expf
  static constexpr float exp_tail[] = {5.0000001201e-1f, 1.6666665459e-1f, 4.1665795894e-2f,
                                       8.3334519073e-3f, 1.3981999507e-3f, 1.9875691500e-4f};
};

template <>
struct Format<double> {
  using Bits = std::uint64_t;
  static constexpr Bits minus_infinity = 0xfff0000000000000;
  static constexpr Bits bias = 1023, upper_half = 0xfffffffff8000000;  // 26 bits
  static constexpr int mantissa = 52, unit_power = 256;
  static constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double unit = 0x1p256, per_unit = 0x1p-256;
  static constexpr double log2_e = 1.4426950408889634074;
  static constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
  static constexpr double exp_is_zero = -746.0;
  static constexpr double tail = -760.0;
  static constexpr double expm1_is_minus_one = -40.0, expm1_is_infinite = 710.0;
  static constexpr double exp_tail[] = {0.5,
                                        1.6666666666666666e-01,
                                        4.1666666666666664e-02,
                                        8.333333333333333e-03,
                                        1.388888888888889e-03,
                                        1.984126984126984e-04,
                                        2.48015873015873e-05,
                                        2.7557319223985893e-06,
                                        2.755731922398589e-07,
                                        2.505210838544172e-08,
                                        2.08767569878681e-09,
                                        1.6059043836821613e-10};  // 1/13!, Taylor: the first left out is below 2^-57
};

// x rounded towards zero to half of its bits; x - upper_half(x) is exact, too.
template <class T>
FASTNN_INLINE T upper_half(T x) {
  return bits_as<T>(bits_as<typename Format<T>::Bits>(x) & Format<T>::upper_half);
}

// x + low = k ln 2 + r with |r| <= ln 2 / 2. k is at hand as the lower bits of the number that rounds to it.
template <class T>
struct Reduced {
  using F = Format<T>;
  T shifted, r;

  FASTNN_INLINE explicit Reduced(T x)
      : shifted(x * F::log2_e + F::magic), r((x - k() * F::ln2_high) - k() * F::ln2_low) {}
  FASTNN_INLINE Reduced(T x, T low)
      : shifted((x + low) * F::log2_e + F::magic), r((x - k() * F::ln2_high) - (k() * F::ln2_low - low)) {}
  FASTNN_INLINE T k() const { return shifted - F::magic; }
  FASTNN_INLINE T expm1_r() const { return polynomial(F::exp_tail, r) * (r * r) + r; }
  FASTNN_INLINE T power(int more) const {  // 2^(k + more)
    using Bits = typename F::Bits;
    return bits_as<T>((bits_as<Bits>(shifted) + (F::bias + static_cast<Bits>(more))) << F::mantissa);
  }
};

// e^x for x <= 0, with the polynomial in Horner's order.
template <class T>
FASTNN_INLINE T exp_nonpositive(T x) {
  using F = Format<T>;
  const Reduced<T> e(at_least(x, F::exp_is_zero));
  return ((horner(F::exp_tail, e.r) * (e.r * e.r) + e.r) + T(1)) * e.power(F::unit_power) * F::per_unit;
}

// The same in units as scale (1 + q), and exactly 0 in the tail.
template <class T>
class ScaledExp {
 public:
  FASTNN_INLINE explicit ScaledExp(T x) : ScaledExp(x, Reduced<T>(at_least(x, Format<T>::tail))) {}
  // e^(x + low), x having half as many bits as fit: an argument of 100 loses seven bits otherwise.
  FASTNN_INLINE ScaledExp(T x, T low) : ScaledExp(x, Reduced<T>(at_least(x, Format<T>::tail), low)) {}
  FASTNN_INLINE T value() const { return (q_ + T(1)) * scale_; }
  FASTNN_INLINE T times(T factor) const { return (factor * q_ + factor) * scale_; }  // a rounding less

 private:
  FASTNN_INLINE ScaledExp(T x, const Reduced<T>& e)
      : scale_(select(x < Format<T>::tail, T(0), e.power(Format<T>::unit_power))), q_(e.expm1_r()) {}
  T scale_, q_;
};

template <class T>
FASTNN_INLINE T exp_units(T x) {
  return ScaledExp<T>(x).value();
}

// e^x - 1 = 2^k (e^r - 1) - (1 - 2^k). Infinite from 2^(k + 1/2) on, k being the largest there is.
template <class T>
FASTNN_INLINE T expm1(T x) {
  using F = Format<T>;
  const Reduced<T> e(at_most(at_least(x, F::expm1_is_minus_one), F::expm1_is_infinite));
  const T q = e.expm1_r(), half = e.power(-1);
  return half * (q + q) - ((T(1) - half) - half);
}

// log x = k ln 2 + log(1 + f) with sqrt(1/2) < 1 + f <= sqrt 2, after fdlibm: with s = f / (2 + f),
// log(1 + f) = f - (f^2/2 - s (f^2/2 + R(s^2))). For finite normal x > 0; NaN stays.
template <class T>
struct LogParts {
  T k, f;
};

FASTNN_INLINE LogParts<float> log_parts(float x) {
  constexpr std::int32_t root_half = 0x3f3504f3;  // sqrt(1/2)
  const std::int32_t e = (bits_as<std::int32_t>(x) - root_half) >> 23;
  return {static_cast<float>(e), bits_as<float>(bits_as<std::int32_t>(x) - (e << 23)) - 1.0f};
}
FASTNN_INLINE LogParts<double> log_parts(double x) {
  constexpr std::int64_t root_half = 0x3fe6a09e667f3bcd;
  const std::int64_t e = (bits_as<std::int64_t>(x) - root_half) >> 52;
  return {static_cast<double>(static_cast<std::int32_t>(e)),
          bits_as<double>(bits_as<std::int64_t>(x) - e * (std::int64_t{1} << 52)) - 1.0};
}

FASTNN_INLINE float log_of(const LogParts<float>& x) {
  const float k = x.k, f = x.f;
  const float s = f / (2.0f + f);
  const float z = s * s, w = z * z;
  const float r = z * (0.66666662693f + w * 0.28498786688f) + w * (0.40000972152f + w * 0.24279078841f);
  const float h = 0.5f * f * f;
  return k * 6.9313812256e-01f - ((h - (s * (h + r) + k * 9.0580006145e-06f)) - f);
}
FASTNN_INLINE double log_of(const LogParts<double>& x) {
  const double k = x.k, f = x.f;
  const double s = f / (2.0 + f);
  const double z = s * s, w = z * z;
  const double r =
      z * (6.666666666666735130e-01 +
           w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01))) +
      w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
  const double h = 0.5 * f * f;
  return k * 6.93147180369123816490e-01 - ((h - (s * (h + r) + k * 1.90821492927058770002e-10)) - f);
}

template <class T>
FASTNN_INLINE T log(T x) {
  const T y = log_of(log_parts(x));
  return x == x ? y : x;
}

// sin x and cos x for |x| <= pi/4: Cephes (float) and fdlibm (double).
template <class T>
struct Circle;
template <>
struct Circle<float> {
  static constexpr float sine[] = {-1.6666654611e-1f, 8.3321608736e-3f, -1.9515295891e-4f};
  static constexpr float cosine[] = {4.166664568298827e-2f, -1.388731625493765e-3f, 2.443315711809948e-5f};
};
template <>
struct Circle<double> {
  static constexpr double sine[] = {-1.66666666666666324348e-01, 8.33333333332248946124e-03,
                                    -1.98412698298579493134e-04, 2.75573137070700676789e-06,
                                    -2.50507602534068634195e-08, 1.58969099521155010221e-10};
  static constexpr double cosine[] = {4.16666666666666019037e-02, -1.38888888888741095749e-03,
                                      2.48015872894767294178e-05, -2.75573143513906633035e-07,
                                      2.08757232129817482790e-09, -1.13596475577881948265e-11};
};

template <class T>
FASTNN_INLINE T sine(T x) {
  const T z = x * x;
  return x + x * (z * horner(Circle<T>::sine, z));
}
template <class T>
FASTNN_INLINE T cosine(T x) {
  const T z = x * x;
  return T(1) - (T(0.5) * z - z * z * horner(Circle<T>::cosine, z));
}

// log(1 + e / unit) for 0 <= e <= unit, after fdlibm: with s = 2 e / (2 + e) it is 2 atanh(s / 2) = s + s^3 P(s^2).
template <class T>
struct Log1p;
template <>
struct Log1p<float> {
  static constexpr float series[] = {8.3333334151e-2f, 1.2499908228e-2f, 2.2337779683e-3f, 4.2395655861e-4f,
                                     1.1340004505e-4f};
};
template <>
struct Log1p<double> {
  static constexpr double series[] = {8.3333333333333333607e-2, 1.2499999999999850783e-2, 2.2321428571562577572e-3,
                                      4.3402777730931192494e-4, 8.8778417470521066321e-5, 1.8779960894605162704e-5,
                                      4.0695735569608324697e-6, 8.9525444498467998200e-7, 2.0685536184082059521e-7,
                                      3.5725325563196026329e-8, 1.8633100749162257250e-8};
};

template <class T>
FASTNN_INLINE T log1p_of_units(T e) {
  constexpr T small = T(0x1p-30);  // its square is lost beside 1, and no denormal number
  const T s = e / (Format<T>::unit + T(0.5) * e), z = at_least(s, small) * at_least(s, small);
  return s * (T(1) + z * polynomial(Log1p<T>::series, z));
}

// tanh x, after Cephes: near 0 by a rational function, elsewhere (1 - e^-2|x|) / (1 + e^-2|x|).
FASTNN_INLINE float tanh(float x) {
  constexpr float near[] = {-3.33332819422e-1f, 1.33314422036e-1f, -5.37397155531e-2f, 2.06390887954e-2f,
                            -5.70498872745e-3f};
  const float a = at_most(absolute(x), 10.0f), z = a * a;
  const float e = exp_units(-2.0f * a), unit = Format<float>::unit;
  const float small = a + a * (z * polynomial(near, z)), large = (unit - e) / (unit + e);
  return with_sign(a < 0.625f ? small : large, x);
}

FASTNN_INLINE double tanh(double x) {
  constexpr double p[] = {-1.61468768441708447952e3, -9.92877231001918586564e1, -9.64399179425052238628e-1};
  constexpr double q[] = {4.84406305325125486048e3, 2.23548839060100448583e3, 1.12811678491632931402e2, 1.0};
  const double a = at_most(absolute(x), 20.0), z = a * a;
  const double e = exp_units(-2.0 * a), unit = Format<double>::unit;
  const bool near = a < 0.625;
  const double quotient = (near ? z * polynomial(p, z) : unit - e) / (near ? polynomial(q, z) : unit + e);
  return with_sign(near ? a + a * quotient : quotient, x);
}

// exp(a^2 / 2) Phi(-a) for 0 <= a, Phi being the normal distribution: H((a - c) / (a + c)) / (a + c) with a polynomial
// H, interpolated at Chebyshev points of a < 14.6 (float, to 2^-27) and of a < 39.2 (double, to 2^-58).
template <class T>
struct Mills;
template <>
struct Mills<float> {
  static constexpr float c = 1.9375f, h[] = {0.6669187475f,   -0.3163480739f,   1.639484968e-2f,  3.714515768e-2f,
                                             2.384414267e-3f, -6.341588204e-3f, -2.611388077e-3f, 4.697140726e-4f,
                                             8.824782307e-4f, 2.412155467e-4f,  -1.204153696e-4f, -6.774205488e-5f};
};
template <>
struct Mills<double> {
  static constexpr double c = 4,
                          h[] = {0.7552851304157514929,     -0.60789664197189208768,   0.38713740074221466167,
                                 -0.18652185795965938011,   6.0396574890929850267e-2,  -7.5401889666597207711e-3,
                                 -3.47969236724337765e-3,   1.6308184566240537657e-3,  1.3334431063678208299e-4,
                                 -2.3109492755579440241e-4, -1.9082459900326580477e-6, 3.5144649989697380495e-5,
                                 7.1661041282029819903e-7,  -5.9200665344780476675e-6, -6.2953304449961436809e-7,
                                 1.0213554480687522452e-6,  2.7149160039881397331e-7,  -1.5474141220972610673e-7,
                                 -8.5026510698694560576e-8, 1.3145265017101949899e-8,  1.9341688203830574772e-8,
                                 1.9473283423375126174e-9,  -2.4188770970286481023e-9, -7.2180548507195517633e-10,
                                 -1.2432480155754185158e-11};
};

template <class T>
FASTNN_INLINE T mills_ratio(T a) {
  const T w = T(1) / (a + Mills<T>::c);
  return w * polynomial(Mills<T>::h, (a + a) * w - T(1));  // exact near 0, as (a - c) w is not
}

FASTNN_INLINE float square_root(float x) {
  return FASTNN_BUILTIN(sqrtf)(x);
}  // -fno-math-errno: one instruction
FASTNN_INLINE double square_root(double x) {
  return FASTNN_BUILTIN(sqrt)(x);
}

}  // namespace
}  // namespace fastnn
