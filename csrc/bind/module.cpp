#include <pybind11/pybind11.h>

#include "../dispatch.hpp"
#include "../memory.hpp"
#include "../parallel.hpp"

namespace fastnn {
void bind_runtime(pybind11::module_& m);
void bind_builtins(pybind11::module_& m);
void bind_saved(pybind11::module_& m);
void bind_epilogue(pybind11::module_& m);
void bind_activations(pybind11::module_& m);
void bind_bias_act(pybind11::module_& m);
void bind_dropout(pybind11::module_& m);
void bind_norm(pybind11::module_& m);
void bind_softmax(pybind11::module_& m);
void bind_piecewise(pybind11::module_& m);
void bind_sample_norm(pybind11::module_& m);
void bind_elementwise_losses(pybind11::module_& m);
void bind_hinge(pybind11::module_& m);
void bind_hierarchical(pybind11::module_& m);
void bind_optimizers(pybind11::module_& m);
void bind_windows(pybind11::module_& m);
void bind_capsules(pybind11::module_& m);
void bind_bench(pybind11::module_& m);
}  // namespace fastnn

// A wrong FASTNN_* variable throws here and becomes an ImportError with that message. The GIL protects nothing in here:
// docs/threads.md says what does.
PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
  fastnn::dispatch::initialise();
  fastnn::memory::initialise();
  fastnn::parallel::initialise();
  fastnn::bind_runtime(m);
  fastnn::bind_builtins(m);
  fastnn::bind_saved(m);
  fastnn::bind_epilogue(m);
  fastnn::bind_activations(m);
  fastnn::bind_bias_act(m);
  fastnn::bind_dropout(m);
  fastnn::bind_norm(m);
  fastnn::bind_softmax(m);
  fastnn::bind_piecewise(m);
  fastnn::bind_sample_norm(m);
  fastnn::bind_elementwise_losses(m);
  fastnn::bind_hinge(m);
  fastnn::bind_hierarchical(m);
  fastnn::bind_optimizers(m);
  fastnn::bind_windows(m);
  fastnn::bind_capsules(m);
  fastnn::bind_bench(m);
}
