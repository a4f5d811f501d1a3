#include <cstring>
#include <stdexcept>
#include <string>

#include "../dispatch.hpp"
#include "cost.hpp"
#include "ops.hpp"
#include "tree.hpp"

namespace fastnn {
namespace {

// Entries, if there are any, repeated so often that a block meets few ends of them.
template <class T>
class Repeated {
 public:
  Repeated(Entries<T> given, index n)
      : count_(given.count * std::max<index>(1, (std::min(n, kBlock) + given.count - 1) / given.count)),
        given_(given),
        store_(given.data && count_ > given.count ? count_ : 0) {
    if (store_.size() == 0) return;
    std::copy_n(given.data, given.count, store_.data());
    for (index done = given.count; done < store_.size(); done *= 2)
      std::copy_n(store_.data(), std::min(done, store_.size() - done), store_.data() + done);
  }
  const T* data() const { return store_.size() > 0 ? store_.data() : given_.data; }
  index period() const { return count_; }

 private:
  index count_;
  Entries<T> given_;
  Scratch<T> store_;
};

}  // namespace

int loss_id(const char* name) {
  const Kernels<float>& k = kernels<float>();
  for (int id = 0; id < k.loss_count; ++id)
    if (std::strcmp(name, k.losses[id].name) == 0) return id;
  throw std::invalid_argument(std::string("no kernel of a loss '") + name + "'");
}

template <class T>
double elementwise_loss(int id, const T* input, const T* target, Entries<T> parameter, Entries<T> weight, T scale,
                        T* dinput, T* losses, index n) {
  if (n == 0) return 0;
  const Kernels<T>& k = kernels<T>();
  const Repeated<T> parameters(parameter, n), weights(weight, n);
  const Cost cost = Cost{}.bytes<T>((losses ? 4 : 3) * n);
  const bool stream = dinput != input && dinput != target && cost.beyond_cache();
  const ElementwiseLoss<T> a{
      input,  target, parameters.data(), weights.data(), parameters.period(), weights.period(), scale, dinput,
      losses, stream};
  const index pieces = (n + kPiece - 1) / kPiece;
  const Scratch<double> sums(pieces);
  parallel_for(pieces, cost.ns, [&](index begin, index end) {
    for (index p = begin; p < end; ++p) sums[p] = k.losses[id].piece(a, p * kPiece, std::min(n, (p + 1) * kPiece));
  });
  return losses ? 0 : merge_pieces(k, sums.data(), pieces);
}

#define FASTNN_INSTANTIATE(T) \
  template double elementwise_loss<T>(int, const T*, const T*, Entries<T>, Entries<T>, T, T*, T*, index);
FASTNN_INSTANTIATE(float)
FASTNN_INSTANTIATE(double)

}  // namespace fastnn
