// One hash per kernel of a table, over numbers that a small generator makes: to be compared between processors.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <vector>

#include "../../csrc/contract.hpp"

extern "C" const fastnn::KernelTable fastnn_kernels_baseline;

namespace {

using fastnn::index;

constexpr index kSize = 4099;  // more than four blocks, and a remainder

// Of every magnitude, and the special values.
template <class T>
std::vector<T> numbers(std::uint64_t seed, bool special) {
  std::vector<T> x(kSize);
  for (T& value : x) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    const double unit = static_cast<double>(seed >> 11) / 9007199254740992.0;
    value = static_cast<T>(std::ldexp(unit - 0.5, static_cast<int>(seed >> 33) % 12));
  }
  if (special) {
    using Limits = std::numeric_limits<T>;
    const T values[] = {0, -T(0), Limits::infinity(), -Limits::infinity(), Limits::denorm_min(), Limits::max()};
    std::memcpy(x.data() + 100, values, sizeof values);
    x[106] = Limits::quiet_NaN();
  }
  return x;
}

template <class T>
void show(const char* name, const T* x, index n) {
  std::uint64_t hash = 14695981039346656037u;
  for (index i = 0; i < n; ++i) {
    const T value = x[i] == x[i] ? x[i] : std::numeric_limits<T>::quiet_NaN();  // all NaNs are the same
    unsigned char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof value);
    for (const unsigned char byte : bytes) hash = (hash ^ byte) * 1099511628211u;
  }
  std::printf("%zu %s %016llx\n", 8 * sizeof(T), name, static_cast<unsigned long long>(hash));
}

template <class T>
void all(const fastnn::Kernels<T>& kernels) {
  const std::vector<T> x = numbers<T>(1, true), dy = numbers<T>(2, true), plain = numbers<T>(3, false);
  std::vector<T> y(kSize), dx(kSize);
  for (int a = 0; a < kernels.activation_count; ++a) {
    const auto& activation = kernels.activations[a];
    const T p0 = T(0.75), p1 = T(1.5);
    activation.forward(x.data(), y.data(), kSize, p0, p1);
    show(activation.name, y.data(), kSize);
    activation.backward(dy.data(), x.data(), dx.data(), kSize, p0, p1);
    show(activation.name, dx.data(), kSize);
    if (activation.backward_output == nullptr) continue;
    activation.backward_output(dy.data(), y.data(), dx.data(), kSize, p0, p1);
    show(activation.name, dx.data(), kSize);
  }

  // batch norm's line with a residual, an activation and dropout, by channels of 1 and of 1366 elements
  const T centre[3] = {T(0.3), T(-2), T(1)}, scale[3] = {2, T(0.1), 7}, beta[3] = {1, 2, 3};
  const T bias[3] = {T(0.7), 0, T(-0.1)};
  for (int a = -1; a < kernels.activation_count; ++a) {
    fastnn::Forward<T> pass{};
    pass.x = plain.data();
    pass.map.channels = 3, pass.map.inner = 1367, pass.map.period = 3;
    pass.map.bias = bias, pass.map.mean = centre, pass.map.scale = scale, pass.map.beta = beta;
    pass.tail = {dy.data(), a, T(0.75), T(1.5), 40000, T(65536.0 / 40000), {1, 2, 3, 4}, 0};
    pass.y = y.data();
    kernels.forward(pass, 0, kSize);
    show("forward", y.data(), kSize);
  }

  const double sums[2] = {kernels.sum(plain.data(), kSize, false), kernels.sum(plain.data(), kSize, true)};
  show("sum", sums, 2);
  double squares[17] = {};
  kernels.column_squares(plain.data(), kSize / 17, 17, 17, squares);
  show("column_squares", squares, 17);
  double deviations[64], invstd[64];
  for (int i = 0; i < 64; ++i) deviations[i] = std::fabs(static_cast<double>(plain[i]));
  kernels.norm_invstd(deviations, 10.0, 1e-5, invstd, 64);
  show("norm_invstd", invstd, 64);

  std::vector<T> rows(kSize);
  fastnn::RowNorm<T> norm{};
  double mean[32], row_invstd[32];
  std::vector<T> weight = numbers<T>(4, false);
  norm.x = plain.data(), norm.length = 128, norm.weight = weight.data(), norm.bias = dy.data() + 200, norm.eps = 1e-5;
  norm.tail.activation = -1, norm.tail.threshold = -1;
  norm.mean = mean, norm.invstd = row_invstd, norm.y = rows.data();
  norm.leaves = {{1, 32, 128}, 1, 1, 1};
  kernels.row_norm(norm, 0, 32);
  show("row_norm", rows.data(), 32 * 128);

  std::vector<T> scratch(4 * 32768);
  fastnn::Softmax<T> softmax{plain.data(), y.data(), {{1, 256, 1}, 0, false, 16, 256}, false, false};
  softmax.lines.view = {16, 256, 1};
  for (const bool logarithm : {false, true}) {
    softmax.logarithm = logarithm;
    kernels.softmax(softmax, scratch.data(), 0, 16);
    show("softmax", y.data(), 16 * 256);
  }
}

}  // namespace

int main() {
  all(fastnn_kernels_baseline.f32);
  all(fastnn_kernels_baseline.f64);
}
