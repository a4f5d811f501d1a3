"""Elementwise activations, from the input and from the output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from fastnn.cases.base import FLAT, FLAT_BENCH, Array, Case, Inputs, Outputs, Work, normal, size_of
from fastnn.functional.activations import ACTIVATIONS

_EXP, _EXP_DIV, _EXP_DIV2 = Work(exp=1), Work(exp=1, div=1), Work(exp=1, div=2)

# A new activation is one row here: the tolerance of its values, its operations per element, and its parameters, which
# are exact in float32 and not the defaults, so that one that gets lost shows. It is then tested alone and in epilogues.
ACTIVATION_ROWS: dict[str, tuple[str, Work, dict[str, float]]] = {
    "relu": ("exact", Work(), {}),
    "leaky_relu": ("elementwise", Work(), {"negative_slope": 0.2}),
    "sigmoid": ("ulp2", _EXP_DIV, {}),
    "tanh": ("ulp2", _EXP_DIV, {}),
    "elu": ("ulp4", _EXP, {"alpha": 1.25}),
    "selu": ("ulp4", _EXP, {}),
    "celu": ("ulp4", _EXP_DIV, {"alpha": 0.75}),
    "gelu": ("ulp4", _EXP_DIV, {}),
    "gelu_tanh": ("ulp4", _EXP_DIV, {}),
    "silu": ("ulp4", _EXP_DIV, {}),
    "mish": ("ulp4", _EXP_DIV, {}),
    "softplus": ("ulp4", _EXP_DIV2, {"beta": 2.0, "threshold": 2.0}),
    "softsign": ("ulp2", Work(div=1), {}),
    "hardtanh": ("exact", Work(), {"min_val": -0.75, "max_val": 1.25}),
    "relu6": ("exact", Work(), {}),
    "hardsigmoid": ("ulp2", Work(), {}),
    "hardswish": ("ulp4", Work(), {}),
    "logsigmoid": ("ulp4", _EXP_DIV, {}),
    "threshold": ("exact", Work(), {"threshold": 0.25, "value": -0.5}),
}


@dataclass(frozen=True, kw_only=True)
class ActivationCase(Case):
    """`<name>` and `<name>_backward`, from the input or, with `from_output`, from the output."""

    family: ClassVar[str] = "activation"
    params: Mapping[str, float] = field(default_factory=dict)
    from_output: bool = False
    cost: Work = field(default_factory=Work)  # per element

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        return {"x": normal(rng, shape, dtype), "dy": normal(rng, shape, dtype)}

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        y = getattr(F, self.ops[0])(inputs["x"], **self.params, out=out)
        return {"y": y}, y if self.from_output else inputs["x"]

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs:
        backward = getattr(F, self.ops[1])
        options: dict[str, Any] = {"output": True} if self.from_output else {}
        return {"dx": backward(inputs["dy"], saved, **self.params, **options, out=out)}

    def tolerance_of(self, output: str) -> str:
        """Tolerance of the named output."""
        return "slope" if output == "dx" and self.tolerance.startswith("ulp") else self.tolerance

    def work(self, shape: Any, direction: str) -> Work:
        return self.cost.times(size_of(shape))


def rows() -> Iterator[Case]:
    for (name, (tolerance, cost, params)), from_output in product(ACTIVATION_ROWS.items(), (False, True)):
        spec = ACTIVATIONS[name](**params)
        if from_output and not spec.from_output:
            continue
        usual = spec.from_output and not spec.sign_only  # as layers and other libraries work
        yield ActivationCase(
            name=f"{name}/{'output' if from_output else 'input'}",
            ops=(name, f"{name}_backward"),
            shapes=FLAT,
            bench=FLAT_BENCH if from_output == usual else (),
            tolerance=tolerance,
            gradients={"dx": "x"},
            in_place="x" if from_output else None,
            in_place_backward=("dy",),
            params=params,
            from_output=from_output,
            cost=cost,
        )
