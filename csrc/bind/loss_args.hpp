// Arguments and results that losses share.
#pragma once

#include <optional>
#include <vector>

#include "../ops/ops.hpp"
#include "array.hpp"
#include "builtin.hpp"

namespace fastnn {

Reduction reduction_in(const Arguments& a, int place);

// The gradient's factor for a loss of n terms.
double gradient_scale(Reduction reduction, index n);
// What the call returns for it: the reduced sum, which is NaN for a mean of nothing, or the losses.
py::object reduced(Reduction reduction, double sum, index n, const std::optional<Array>& losses);

// Refuses labels that are neither a class nor `ignore_index`; how many are that.
index ignored_labels(const Arguments& a, int place, const index* labels, index n, index classes,
                     std::optional<index> ignore_index = std::nullopt);
// One label per row, as a copy: nobody may change the labels between the check and their use.
std::vector<index> labels_in(const Arguments& a, int place, index rows, index classes);

}  // namespace fastnn
