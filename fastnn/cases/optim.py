"""Steps of the optimizers, in place on a list of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
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


def _optimizer(
    name: str,
    *slots: str | None,
    at: Callable[[int], Mapping[str, Any]] = lambda number: {},
    root: bool = False,
    decays: bool = True,
    bench_decay: float = 0.0,
    bench_clip: bool = False,
    **options: Any,
) -> Iterator[Case]:
    """Cases ``<op>/<variant>`` with and without clipping and, if the op `decays`, with and without `weight_decay`.

    `slots` names the state arrays, None for one left out, in the order of the op; `at` gives a step's options.
    """
    models = tuple(MODELS.values())
    bench = (*((shape,) for shape in FLAT_BENCH), *models), models if bench_clip else ()
    for decay, clip in product((0.0, 0.05) if decays else (0.0,), (None, 0.5)):
        yield OptimizerCase(
            name=name + ("+decay" if decay else "") + ("+clip" if clip else ""),
            ops=(name.partition("/")[0],),
            shapes=(
                ((5,),),
                ((0,), (1,), (15,), (16,), (17, 3), ()),
                ((33, 31), (4096,), (4097,), (60001,), (2,)),
            ),
            bench=bench[clip is not None] if decay == bench_decay else (),
            tolerance="elementwise",
            slots=slots,
            at=at,
            options={**options, **({"weight_decay": decay} if decays else {}), "clip_norm": clip},
            root=root,
        )


def _started(number: int) -> dict[str, bool]:
    return {"first_step": number == 1}


def _corrected(number: int) -> dict[str, float]:
    return {"bias_correction1": 1 - 0.9**number, "bias_correction2": 1 - 0.999**number}


def rows() -> Iterator[Case]:
    """A new optimizer is one line for each of its variants."""
    yield from _optimizer("sgd_step/plain", None)
    yield from _optimizer(
        "sgd_step/momentum", "momentum_buffers", at=_started, momentum=0.9, dampening=0.1, bench_clip=True
    )
    yield from _optimizer("sgd_step/nesterov", "momentum_buffers", at=_started, momentum=0.9, nesterov=True)
    yield from _optimizer("adam_step/adam", "exp_avgs", "exp_avg_sqs", at=_corrected, root=True, bench_clip=True)
    yield from _optimizer(
        "adam_step/adamw", "exp_avgs", "exp_avg_sqs", at=_corrected, root=True, bench_decay=0.05, decoupled=True
    )
