// Activations are builtins made from the registry: `<name>(x, <parameters>, *, out)` and
// `<name>_backward(dy, x, <parameters>, *, output, out)`.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "../dispatch.hpp"
#include "../ops/ops.hpp"
#include "array.hpp"
#include "builtin.hpp"

namespace fastnn {
namespace {

// What an activation's builtins know of it; lives as long as the process.
struct Context {
  int id;
  int parameters;
  bool output_form;
  py::object from_output;        // of the parameters: whether the output determines the gradient
  std::vector<double> accepted;  // parameters for which it was last true
  py::dict forms;                // by the word that chooses among them: names of activations; may be empty
};

Context& context_of(const Arguments& a) {
  return *static_cast<Context*>(a.context());
}

int id_of(const std::string& name) {
  const Kernels<float>& k = kernels<float>();
  for (int id = 0; id < k.activation_count; ++id)
    if (name == k.activations[id].name) return id;
  throw py::value_error("no kernel of an activation '" + name + "'");
}

// The activation that a word has chosen.
int chosen_id(const Arguments& a, const Context& f, int place) {
  if (f.forms.empty()) return f.id;
  if (PyUnicode_Check(a[place].ptr()) && f.forms.contains(a[place]))
    return id_of(f.forms[a[place]].cast<std::string>());
  std::string words;
  for (const auto& form : f.forms) words += (words.empty() ? "" : " or ") + std::string(py::repr(form.first));
  throw py::value_error(std::string(a.name(place)) + ": expected " + words + ", got " +
                        std::string(py::repr(a[place])));
}

struct Parameters {
  double p[2] = {0, 0};
  Parameters(const Arguments& a, int first, int count) {
    for (int k = 0; k < count; ++k) p[k] = a.number(first + k);
  }
};

py::object forward(const Arguments& a) {
  const Context& f = context_of(a);
  enum { x_, parameters_ };
  const int form_ = parameters_ + f.parameters, out_ = form_ + (f.forms.empty() ? 0 : 1);
  const int id = chosen_id(a, f, form_);
  const Parameters given(a, parameters_, f.parameters);
  const Array x = in(a[x_], "x");
  const Array y = out(a[out_], "out", x);
  refuse_overlap(y, "out", x, "x", true);
  by_dtype(x, [&](auto t) {
    using T = decltype(t);
    const Computation computation(x.size());
    activation<T>(id, x.data<T>(), y.data<T>(), x.size(), static_cast<T>(given.p[0]), static_cast<T>(given.p[1]));
  });
  return y.object();
}

// Refuses output=True where the parameters are such that the output does not determine the gradient.
void require_from_output(const Arguments& a, int first, const Parameters& given) {
  Context& f = context_of(a);
  if (!f.accepted.empty() && std::equal(f.accepted.begin(), f.accepted.end(), given.p)) return;
  const bool determined =
      f.parameters == 1 ? f.from_output(given.p[0]).cast<bool>() : f.from_output(given.p[0], given.p[1]).cast<bool>();
  if (determined) {
    f.accepted.assign(given.p, given.p + f.parameters);
    return;
  }
  std::string names, values;
  for (int k = 0; k < f.parameters; ++k) {
    names += (k > 0 ? ", " : "") + std::string(a.name(first + k));
    values += (k > 0 ? ", " : "") + std::string(py::str(py::float_(given.p[k])));
  }
  throw py::value_error(
      names + ": with output=True expected values for which the output determines the gradient, got " + values);
}

py::object backward(const Arguments& a) {
  const Context& f = context_of(a);
  enum { dy_, x_, parameters_ };
  const int form_ = parameters_ + f.parameters, output_ = form_ + (f.forms.empty() ? 0 : 1);
  const int out_ = output_ + (f.output_form ? 1 : 0);
  const int id = chosen_id(a, f, form_);
  const Parameters given(a, parameters_, f.parameters);
  const bool from_output = f.output_form && a.truth(output_);
  const Array dy = in(a[dy_], "dy");
  const Array x = in(a[x_], "x", dy);
  const Array dx = out(a[out_], "out", dy);
  refuse_overlap(dx, "out", dy, "dy", true);
  refuse_overlap(dx, "out", x, "x", true);
  if (from_output && f.parameters > 0) require_from_output(a, parameters_, given);
  by_dtype(dy, [&](auto t) {
    using T = decltype(t);
    const Computation computation(dy.size());
    activation_gradient<T>(id, dy.data<T>(), x.data<T>(), from_output, dx.data<T>(), dy.size(),
                           static_cast<T>(given.p[0]), static_cast<T>(given.p[1]));
  });
  return dx.object();
}

py::object make(const std::string& name, bool is_backward, Context* context, const py::dict& parameters,
                const std::string& chooser, const std::string& doc) {
  std::vector<std::string> names = is_backward ? std::vector<std::string>{"dy", "x"} : std::vector<std::string>{"x"};
  std::string signature = is_backward ? "(dy, x" : "(x";
  py::dict defaults;
  for (const auto& item : parameters) {
    names.push_back(item.first.cast<std::string>());
    signature += ", " + names.back() + "=" + std::string(py::repr(item.second));
    defaults[item.first] = item.second;
  }
  const int positional = static_cast<int>(names.size());
  signature += ", *";
  const auto keyword = [&](const char* key, const py::object& value) {
    names.push_back(key);
    defaults[key] = value;
    signature += ", " + names.back() + "=" + std::string(py::repr(value));
  };
  if (!context->forms.empty())
    keyword(chooser.c_str(), py::reinterpret_borrow<py::object>(context->forms.begin()->first));
  if (is_backward && context->output_form) keyword("output", py::bool_(false));
  keyword("out", py::none());
  const std::string full = name + (is_backward ? "_backward" : "");
  return make_builtin(full, names, positional, defaults, full + signature + ")\n--\n\n" + doc,
                      is_backward ? backward : forward, context);
}

py::tuple activation_builtins(const std::string& name, const py::dict& defaults, const py::object& from_output,
                              const std::string& chooser, const py::dict& forms, const std::string& doc,
                              const std::string& backward_doc) {
  if (defaults.size() > 2) throw py::value_error("an activation has at most two parameters");
  const int id = id_of(name);
  if (from_output.is_none() == (kernels<float>().activations[id].backward_output != nullptr))
    throw py::value_error(name + ": the kernel and the declaration must agree on a backward from the output");
  const int parameters = static_cast<int>(defaults.size());
  auto* const context = new Context{id, parameters, !from_output.is_none(), from_output, {}, forms};
  return py::make_tuple(make(name, false, context, defaults, chooser, doc),
                        make(name, true, context, defaults, chooser, backward_doc));
}

py::tuple activation_names() {
  const Kernels<float>& k = kernels<float>();
  py::tuple names(static_cast<std::size_t>(k.activation_count));
  for (int id = 0; id < k.activation_count; ++id) names[static_cast<std::size_t>(id)] = k.activations[id].name;
  return names;
}

}  // namespace

void bind_activations(py::module_& m) {
  m.def("activation_builtins", activation_builtins, py::arg("name"), py::arg("defaults"), py::arg("from_output"),
        py::arg("chooser"), py::arg("forms"), py::arg("doc"), py::arg("backward_doc"),
        "The builtins (forward, backward) of an activation of the kernel table.");
  m.def("activation_names", activation_names, "Names in the kernel table, in the order of their numbers.");
}

}  // namespace fastnn
