"""One table of cases: every kernel with its inputs, shapes, tolerance and cost.

Tests of values, gradients, bits and completeness, and the benchmark all walk `CASES`.  A case calls its op
through a namespace, so `fastnn.functional` and `fastnn.reference` run the same lines::

    inputs = case.inputs(case.shapes[0], np.float32)
    outputs, saved = case.forward(F, inputs)
    gradients = case.backward(F, inputs, saved)

Ops update running statistics, parameters and random positions in place: take fresh inputs for every run.
"""

from __future__ import annotations

from fastnn.cases import (
    activations,
    elementwise_losses,
    hierarchical,
    hinge,
    linear,
    losses,
    norm,
    optim,
    piecewise,
    reductions,
    regularization,
    sample_norm,
    softmax,
    windows,
)
from fastnn.cases.activations import ActivationCase
from fastnn.cases.base import TOLERANCES, Case, Inputs, Outputs, Work, allowed_error, as_type
from fastnn.cases.elementwise_losses import ElementwiseLossCase
from fastnn.cases.epilogues import Epilogue
from fastnn.cases.hierarchical import HierarchicalSoftmaxCase
from fastnn.cases.hinge import HingeCase
from fastnn.cases.linear import BiasActCase
from fastnn.cases.losses import CrossEntropyCase, NLLCase
from fastnn.cases.norm import BatchNormCase
from fastnn.cases.optim import MODELS, OptimizerCase
from fastnn.cases.piecewise import MaxoutCase, PreluCase
from fastnn.cases.reductions import ChannelSumCase
from fastnn.cases.regularization import DropoutCase, NoiseCase
from fastnn.cases.sample_norm import SampleNormCase
from fastnn.cases.softmax import SoftmaxCase
from fastnn.cases.windows import WindowCase

__all__ = [
    "CASES",
    "MODELS",
    "TOLERANCES",
    "ActivationCase",
    "BatchNormCase",
    "BiasActCase",
    "Case",
    "ChannelSumCase",
    "CrossEntropyCase",
    "DropoutCase",
    "ElementwiseLossCase",
    "Epilogue",
    "HierarchicalSoftmaxCase",
    "HingeCase",
    "Inputs",
    "MaxoutCase",
    "NLLCase",
    "NoiseCase",
    "OptimizerCase",
    "Outputs",
    "PreluCase",
    "SampleNormCase",
    "SoftmaxCase",
    "WindowCase",
    "Work",
    "allowed_error",
    "as_type",
    "by_name",
]

_FAMILIES = (
    activations,
    piecewise,
    linear,
    norm,
    sample_norm,
    regularization,
    reductions,
    softmax,
    losses,
    elementwise_losses,
    hinge,
    hierarchical,
    windows,
    optim,
)

CASES: tuple[Case, ...] = tuple(case for family in _FAMILIES for case in family.rows())
"""All cases: what the `rows` of each family give."""

_BY_NAME = {case.name: case for case in CASES}


def by_name(name: str) -> Case:
    """The case called `name`."""
    return _BY_NAME[name]
