"""Steps of the optimizers, in place on a list of tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from fastnn.cases.base import FLAT_BENCH, Array, Case, Inputs, Outputs, Work, normal, size_of


@dataclass(frozen=True, kw_only=True)
class OptimizerCase(Case):
    """Two steps: the first fills the state, the second uses it.  Tensors are updated in place."""

    family: ClassVar[str] = "optimizer"
    slots: tuple[str | None, ...]
    at: Callable[[int], Mapping[str, Any]]
    options: Mapping[str, Any]
    root: bool

    @property
    def state(self) -> tuple[str, ...]:
        """Names of the state arrays that are given."""
        return tuple(name for name in self.slots if name)

    @property
    def norm_pass(self) -> bool:
        """Whether the gradients are read once more, for their norm."""
        return self.options.get("clip_norm") is not None

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        inputs: Inputs = {"params": [normal(rng, s, dtype) for s in shape]}
        inputs["grads"] = [normal(rng, s, dtype) for s in shape]
        # equal signs: where decay cancels the gradient, Adam's quotient of moments has no digits left
        for param, grad in zip(inputs["params"], inputs["grads"], strict=True):
            np.copysign(param, grad, out=param)
        inputs |= {name: [np.zeros(s, dtype) for s in shape] for name in self.state}
        return inputs

    def step(self, F: Any, inputs: Inputs, number: int) -> float | None:
        """Step `number` (from 1); the norm of the gradients if they are clipped."""
        options = {**self.options, **self.at(number)}
        state = [name and inputs[name] for name in self.slots]
        step = getattr(F, self.ops[0])
        norm: float | None = step(inputs["params"], inputs["grads"], *state, lr=0.01, **options)
        return norm

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        norms = [self.step(F, inputs, number) for number in (1, 2)]
        outputs = {f"{name}{i}": array for name in ("params", *self.state) for i, array in enumerate(inputs[name])}
        if norms[0] is not None:
            outputs |= {"norm": norms[0]}
        return outputs, None

    def work(self, shape: Any, direction: str) -> Work:
        n = sum(map(size_of, shape)) if self.root else 0
        return Work(div=n, sqrt=n)


Shapes = tuple[tuple[int, ...], ...]


def _mlp(*sizes: int) -> Shapes:
    """Weight (out, in) and bias of every layer."""
    return tuple(shape for n, m in pairwise(sizes) for shape in ((m, n), (m,)))


def _resnet50() -> Shapes:
    """All 161 parameters of K. He et al., Deep residual learning (CVPR 2016), 50 layers, for ImageNet."""

    def convolution(n: int, m: int, size: int) -> Shapes:
        return ((m, n, size, size), (m,), (m,))  # with the weight and the bias of its batch norm

    shapes, channels = convolution(3, 64, 7), 64
    for blocks, width in ((3, 64), (4, 128), (6, 256), (3, 512)):
        for block in range(blocks):
            shapes += convolution(channels, width, 1) + convolution(width, width, 3) + convolution(width, 4 * width, 1)
            if block == 0:
                shapes += convolution(channels, 4 * width, 1)
            channels = 4 * width
    return (*shapes, (1000, channels), (1000,))


MODELS: dict[str, Shapes] = {
    "ResNet-50": _resnet50(),
    "MLP 784-256-256-10": _mlp(784, 256, 256, 10),
    "MLP 784-32-10": _mlp(784, 32, 10),
}
"""Parameter shapes of networks, for the benchmark of the optimizers."""


SHAPES: tuple[Shapes, ...] = (
    ((5,),),
    ((0,), (1,), (15,), (16,), (17, 3), ()),
    ((33, 31), (4096,), (4097,), (60001,), (2,)),
)

Variants = Mapping[str, Mapping[str, Any]]

DECAY = {"+decay": {"weight_decay": 0.05}}
CLIP = {"+clip": {"clip_norm": 0.5}}
ALL: Variants = {"+all": {"weight_decay": 0.05, "l1": 0.02, "clip_norm": 0.5, "clip_value": 0.002}}
"""Variants by the suffix of their names: options that all steps take."""


def _optimizer(
    name: str,
    *slots: str | None,
    at: Callable[[int], Mapping[str, Any]] = lambda number: {},
    root: bool = False,
    variants: Variants = ALL,
    bench: Mapping[str, tuple[Shapes, ...]] | None = None,
    **options: Any,
) -> Iterator[Case]:
    """Cases ``<op>/<variant>``, as it is and with each of the `variants` of what all steps share.

    `slots` names the state arrays, None for one left out, in the order of the op; `at` gives a step's options; `bench`
    has the shapes to be measured, by the suffix of the variant.
    """
    for suffix, shared in {"": {}, **variants}.items():
        yield OptimizerCase(
            name=name + suffix,
            ops=(name.partition("/")[0],),
            shapes=SHAPES,
            bench=(bench or {}).get(suffix, ()),
            tolerance="elementwise",
            slots=slots,
            at=at,
            options={**options, **shared},
            root=root,
        )


def _started(number: int) -> dict[str, bool]:
    return {"first_step": number == 1}


def _corrected(number: int) -> dict[str, float]:
    return {"bias_correction1": 1 - 0.9**number, "bias_correction2": 1 - 0.999**number}


def _one_corrected(number: int) -> dict[str, float]:
    return {"bias_correction1": 1 - 0.9**number}


def _nesterov(number: int) -> dict[str, float]:
    mu = [0.9 * (1 - 0.5 * 0.96 ** (0.004 * t)) for t in range(1, number + 2)]
    return {
        "mu": mu[-2],
        "mu_next": mu[-1],
        "mu_product": math.prod(mu[:-1]),
        "bias_correction2": 1 - 0.999**number,
    }


def rows() -> Iterator[Case]:
    """A new optimizer is one line for each of its variants."""
    models = tuple(MODELS.values())
    full = (*((shape,) for shape in FLAT_BENCH), *models)
    measured = {"": full}
    large: dict[str, tuple[Shapes, ...]] = {"": ((FLAT_BENCH[-1],), models[0], models[-1])}
    adam = ("exp_avgs", "exp_avg_sqs")
    both: Variants = {**CLIP, **DECAY, "+decay+clip": DECAY["+decay"] | CLIP["+clip"]}
    more: Variants = {
        "+all": ALL["+all"],
        "+l1": {"l1": 0.02},
        "+value": {"clip_value": 0.5},
        "+unit": {"clip_norm": 0.5, "clip_form": "unit"},
        "+normalised": {"clip_norm": 0.0, "clip_form": "unit"},
    }
    yield from _optimizer(
        "sgd_step/plain", None, variants={**both, **more}, bench=measured | {"+normalised": large[""]}
    )
    yield from _optimizer(
        "sgd_step/momentum",
        "momentum_buffers",
        at=_started,
        variants=both,
        bench=measured | {"+clip": models},
        momentum=0.9,
        dampening=0.1,
    )
    yield from _optimizer(
        "sgd_step/nesterov",
        "momentum_buffers",
        at=_started,
        variants=both,
        bench=measured,
        momentum=0.9,
        nesterov=True,
    )
    inside: dict[str, Any] = {"momentum": 0.9, "form": "lr_inside"}
    yield from _optimizer("sgd_step/lr_inside", "momentum_buffers", at=_started, **inside)
    yield from _optimizer("sgd_step/lr_inside,nesterov", "momentum_buffers", at=_started, nesterov=True, **inside)
    clipped = measured | {"+clip": models}
    yield from _optimizer("adam_step/adam", *adam, at=_corrected, root=True, variants=both, bench=clipped)
    decayed = {"+decay": full}
    yield from _optimizer(
        "adam_step/adamw", *adam, at=_corrected, root=True, variants={**both, **ALL}, bench=decayed, decoupled=True
    )
    yield from _optimizer("adam_step/amsgrad", *adam, "max_exp_avg_sqs", at=_corrected, root=True, bench=large)
    yield from _optimizer("nadam_step/nadam", *adam, at=_nesterov, root=True, bench=large)
    yield from _optimizer("nadam_step/decoupled", *adam, at=_nesterov, root=True, decoupled=True)
    yield from _optimizer("radam_step/first", *adam, at=_one_corrected, root=True, rectification=None)
    yield from _optimizer("radam_step/radam", *adam, at=_one_corrected, root=True, bench=large, rectification=0.3)
    yield from _optimizer(
        "radam_step/decoupled", *adam, at=_one_corrected, root=True, rectification=0.3, decoupled=True
    )
    yield from _optimizer("adamax_step/adamax", "exp_avgs", "exp_infs", at=_one_corrected, root=True, bench=large)
    yield from _optimizer("lion_step/lion", "exp_avgs", bench=large)
    yield from _optimizer("adagrad_step/adagrad", "sums", root=True, bench=large)
    yield from _optimizer("adadelta_step/adadelta", "square_avgs", "acc_deltas", root=True, bench=large)
    yield from _optimizer("rmsprop_step/rmsprop", "square_avgs", root=True, bench=large)
    inside = {"eps_inside_sqrt": True, "eps": 1e-3}
    yield from _optimizer("rmsprop_step/eps_inside_sqrt", "square_avgs", root=True, **inside)
    # without penalties: where their sign turns, after a step of 0.1, momenta cancel and lose their digits
    yield from _optimizer(
        "rmsprop_step/momentum", "square_avgs", None, "momentum_buffers", root=True, variants=CLIP, momentum=0.9
    )
    centered = ("square_avgs", "grad_avgs")
    yield from _optimizer("rmsprop_step/centered", *centered, root=True)
    yield from _optimizer(
        "rmsprop_step/centered,momentum",
        *centered,
        "momentum_buffers",
        root=True,
        variants=CLIP,
        bench=large,
        momentum=0.9,
    )
