// Threads, ISA level, allocator and what show_config() reports.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <string>

#include "../dispatch.hpp"
#include "../memory.hpp"
#include "../parallel.hpp"
#include "../system.hpp"
#include "../team.hpp"
#include "array.hpp"
#include "builtin.hpp"

namespace fastnn {
namespace {

void set_num_threads(int n) {
  if (n < 0 || n > parallel::max_threads)
    throw py::value_error("num_threads: expected 0 (automatic) to " + std::to_string(parallel::max_threads) + ", got " +
                          std::to_string(n));
  parallel::set_num_threads(n);
}

// Uninitialised, from the caching allocator where that is worth it. Layers call it for every product.
py::object empty_(const Arguments& a) {
  enum { shape_, dtype_ };
  const py::dtype f32 = py::dtype::of<float>(), f64 = py::dtype::of<double>();  // NumPy's own objects, not new ones
  py::object wanted = py::reinterpret_borrow<py::object>(a[dtype_]);
  if (!wanted.is(f32) && !wanted.is(f64)) {
    const py::dtype given = py::dtype::from_args(wanted);  // equal, but another object where it was read from a file
    if (!given.equal(f32) && !given.equal(f64))
      throw py::type_error("dtype: expected float32 or float64, got " + std::string(py::str(given)));
    wanted = given.equal(f32) ? f32 : f64;
  }
  const auto sizes = py::reinterpret_borrow<py::tuple>(a[shape_]);
  if (!PyTuple_Check(sizes.ptr())) throw py::type_error("shape: expected a tuple, got " + std::string(py::repr(sizes)));
  std::vector<index> shape(sizes.size());
  for (std::size_t d = 0; d < shape.size(); ++d) {
    shape[d] = PyLong_AsLongLong(PyTuple_GET_ITEM(sizes.ptr(), static_cast<Py_ssize_t>(d)));
    if (shape[d] == -1 && PyErr_Occurred()) throw py::error_already_set();
    if (shape[d] < 0) throw py::value_error("shape: expected no negative sizes, got " + std::to_string(shape[d]));
  }
  return empty(shape, wanted.is(f32) ? Dtype::f32 : Dtype::f64).object();
}

py::dict cache_stats() {
  const memory::Stats s = memory::stats();
  py::dict d;
  d["in_use"] = s.in_use;
  d["idle"] = s.idle;
  d["peak"] = s.peak;
  d["limit"] = s.limit;
  d["hits"] = s.hits;
  d["misses"] = s.misses;
  return d;
}

py::dict cgroup_limits(const std::string& root) {
  py::dict d;
  d["cpus"] = system::cgroup_cpus(root);
  d["memory"] = system::cgroup_memory(root);
  return d;
}

py::dict config() {
  py::dict d;
  d["version"] = FASTNN_VERSION;
  d["isa"] = dispatch::get_isa();
  d["available_isas"] = dispatch::available_isas();
  d["threads"] = parallel::num_threads();
  d["threads_source"] = parallel::num_threads_source();
  d["openmp"] = team::has_openmp();
  d["openmp_runtime"] = team::runtime_path();
  d["cpu_quota"] = parallel::cpu_quota();
  d["affinity_cpus"] = system::affinity_cpus();
  d["l2_bytes"] = l2_bytes();
  d["llc_bytes"] = llc_bytes();
#if defined(__clang__)
  d["compiler"] = "clang " __clang_version__;
#elif defined(__GNUC__)
  d["compiler"] = "gcc " __VERSION__;
#else
  d["compiler"] = "MSVC " + std::to_string(_MSC_FULL_VER);
#endif
  return d;
}

}  // namespace

void bind_runtime(py::module_& m) {
  m.attr("__version__") = FASTNN_VERSION;
  m.def("set_num_threads", &set_num_threads, py::arg("n"));
  m.def("get_num_threads", &parallel::num_threads);
  m.def("explicit_num_threads", &parallel::explicit_num_threads);
  m.def("thread_source", &parallel::num_threads_source);
  m.def("set_isa", &dispatch::set_isa, py::arg("name"));
  m.def("get_isa", &dispatch::get_isa);
  m.def("available_isas", &dispatch::available_isas);
  m.def("config", &config);
  m.def("empty_cache", &memory::empty_cache);
  m.def("cache_stats", &cache_stats);
  m.attr("empty") = make_builtin("empty", {"shape", "dtype"}, 2, py::dict(), "empty(shape, dtype)\n--\n\n", empty_);
  m.def("_set_grain", &parallel::set_grain, py::arg("ns"));
  m.def("_waking_ns", &team::waking_ns);
  m.def("_last_team", [] { return parallel::last_team_size.load(); });
  m.def("_largest_team", &parallel::largest_team);
  m.def("_set_cache_bytes", &set_cache_bytes, py::arg("l2"), py::arg("llc"));
  m.def("_cgroup_limits", &cgroup_limits, py::arg("root"));
}

}  // namespace fastnn
