"""One table of cases: every kernel with its inputs, shapes, tolerance and cost.

Tests of values, gradients, bits and completeness, and the benchmark all walk `CASES`.  A case calls its op
through a namespace, so `fastnn.functional` and `fastnn.reference` run the same lines::

    inputs = case.inputs(case.shapes[0], np.float32)
    outputs, saved = case.forward(F, inputs)
    gradients = case.backward(F, inputs, saved)

Ops update running statistics, parameters and random positions in place: take fresh inputs for every run.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn import random
from fastnn.functional.activations import ACTIVATIONS, ActivationSpec, resolve

__all__ = ["CASES", "MODELS", "TOLERANCES", "Case", "Work", "allowed_error", "as_type", "by_name"]

Array = NDArray[Any]
Inputs = dict[str, Any]
Outputs = dict[str, Any]

TOLERANCES: dict[str, float] = {
    "exact": 0.0,  # selects among its inputs
    "elementwise": 4.0,  # a few roundings per element
    "reduction": 32.0,  # sums over many elements; the error of a sum grows with the root of their number
}
"""Allowed error of each family in units of the type's epsilon; `allowed_error` gives the scale."""


def allowed_error(family: str, want: Array, terms: int, dtype: DTypeLike) -> Array:
    """Largest error of an output of `dtype` whose true value is `want`.

    Parameters
    ----------
    family : str
        Key of `TOLERANCES`.
    want : array
        The output in a wider type.  Inputs are of order 1, so errors scale with max(1, |want|).
    terms : int
        Number of elements summed into one element of the output.
    dtype : data type of the output under test
    """
    unit = TOLERANCES[family] * float(np.finfo(dtype).eps)
    scale = np.maximum(np.abs(want), 1)
    if family == "reduction" and scale.size:
        scale = np.full_like(scale, scale.max())
    return unit * math.sqrt(terms) * scale


@dataclass(frozen=True)
class Work:
    """Operations that can cost more than memory traffic, for the roof of the benchmark: counts per call."""

    random_bits: int = 0
    exp: int = 0
    div: int = 0
    sqrt: int = 0

    def times(self, n: int, random_bits: bool = False) -> Work:
        """That of `n` elements, if this is that of one."""
        return Work(n * (self.random_bits + random_bits), n * self.exp, n * self.div, n * self.sqrt)


# A new activation is one row here: the tolerance of its values, its operations per element, and its parameters, which
# are not the defaults, so that one that gets lost shows. It is then tested alone and in every epilogue.
_ACTIVATIONS: dict[str, tuple[str, Work, dict[str, float]]] = {
    "relu": ("exact", Work(), {}),
    "leaky_relu": ("elementwise", Work(), {"negative_slope": 0.2}),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to call one op.

    Attributes
    ----------
    name : str
        ``<op>/<variant>``.
    family : {"activation", "bias_act", "norm", "dropout", "reduction", "loss", "optimizer"}
    ops : tuple of str
        The functions called: forward, then backward if there is one.
    shapes, bench : tuples of shapes
        For tests (around vector widths and borders of the reduction tree) and for the benchmark.  The shape
        of an optimizer case is a tuple of parameter shapes.
    tolerance : str
        Key of `TOLERANCES`.
    gradients : mapping from outputs of `backward` to the inputs that they are gradients of
        The function differentiated is sum(dy * y), or the loss.  A loss gives its gradient in `forward`.
    in_place : str or None
        Input that `out` may be in forward.
    in_place_backward : tuple of str
        Inputs ("dy", ...) that `out` may be in backward.
    """

    name: str
    ops: tuple[str, ...]
    shapes: tuple[Any, ...]
    bench: tuple[Any, ...] = ()
    tolerance: str = "elementwise"
    gradients: Mapping[str, str] = field(default_factory=dict)
    in_place: str | None = None
    in_place_backward: tuple[str, ...] = ()
    family: ClassVar[str]

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        """Fresh random inputs: a pure function of the arguments."""
        raise NotImplementedError

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        """Named outputs, and what `backward` needs."""
        raise NotImplementedError

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs | None:
        """Named gradients, or None where there is no backward op."""
        return None

    def work(self, shape: Any, direction: str) -> Work:
        """Operations of one call of the "forward" or "backward" op."""
        return Work()

    def terms(self, shape: Any, output: str) -> int:
        """Number of elements summed into one element of the named output."""
        return 1


def as_type(inputs: Inputs, dtype: DTypeLike) -> Inputs:
    """Deep copy of `inputs` with every floating-point array in `dtype`."""

    def convert(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.astype(dtype) if value.dtype.kind == "f" else value.copy()
        if isinstance(value, list):
            return [convert(item) for item in value]
        return copy.copy(value)

    return {name: convert(value) for name, value in inputs.items()}


def _normal(rng: np.random.Generator, shape: Any, dtype: DTypeLike, mean: float = 0.0, std: float = 1.0) -> Array:
    return np.asarray(mean + std * rng.standard_normal(shape), dtype)


def _size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)


# ------------------------------------------------------------------------------------------------- epilogues


@dataclass(frozen=True)
class Epilogue:
    """residual -> activation -> dropout, as arguments."""

    activation: str | ActivationSpec | None = None
    residual: bool = False
    dropout: float = 0.0

    @property
    def name(self) -> str:
        """Name of the activation, empty without one."""
        return self.activation.name if isinstance(self.activation, ActivationSpec) else self.activation or ""

    @property
    def label(self) -> str:
        parts = [
            "residual" if self.residual else "",
            self.name,
            "dropout" if self.dropout else "",
        ]
        return "+".join(filter(None, parts)) or "plain"

    def arguments(self, inputs: Inputs) -> dict[str, Any]:
        return {
            "residual": inputs.get("residual"),
            "activation": self.activation,
            "dropout": self.dropout,
            "rng": inputs["rng"],
        }

    @property
    def keeps_input(self) -> bool:
        """Whether `bias_act` keeps its input for backward."""
        if not self.activation:
            return False
        spec = resolve(self.activation)
        return not (spec.from_output and (spec.sign_only or not self.dropout))

    def work(self, shape: tuple[int, ...], training: bool) -> Work:
        cost = _ACTIVATIONS[self.name][1] if self.name else Work()
        return cost.times(_size(shape), random_bits=bool(self.dropout and training))


def _epilogues() -> Iterator[Epilogue]:
    activations = [ACTIVATIONS[name](**params) if params else name for name, (_, _, params) in _ACTIVATIONS.items()]
    for dropout, residual, activation in product((0.0, 0.3), (False, True), (None, *activations)):
        yield Epilogue(activation, residual, dropout)


EPILOGUES = tuple(_epilogues())

# ------------------------------------------------------------------------------------------------- layouts


@dataclass(frozen=True)
class Layout:
    """Place of the channels; test shapes are around 16 lanes, leaves of 32 rows or 1024 elements, pieces of 4096."""

    label: str
    channel_axis: int
    shapes: tuple[tuple[int, ...], ...]
    bench: tuple[tuple[int, ...], ...]

    def channels(self, shape: tuple[int, ...]) -> int:
        return shape[self.channel_axis]

    def terms(self, shape: tuple[int, ...]) -> int:
        return _size(shape) // max(self.channels(shape), 1)


LAYOUTS = (
    Layout(
        "2d",
        1,
        ((4, 0), (2, 1), (31, 3), (32, 10), (33, 16), (65, 17), (97, 64), (70, 257), (1025, 1), (1800, 33)),
        ((16, 64), (256, 256), (4096, 256), (16384, 1024)),
    ),
    Layout(
        "nchw",
        1,
        (
            (3, 3, 1, 1),
            (2, 10, 3, 5),
            (65, 3, 4, 4),
            (5, 19, 4, 4),
            (3, 257, 1, 17),
            (1, 1, 31, 33),
            (2, 3, 32, 32),
            (1, 64, 25, 41),
            (1, 1, 63, 65),
            (1, 3, 64, 64),
            (2, 1, 17, 241),
            (2, 1, 5, 3277),
        ),
        ((4, 16, 4, 4), (3, 512, 7, 7), (21, 256, 14, 14), (84, 64, 56, 56)),
    ),
    Layout(
        "nhwc",
        -1,
        ((1, 4, 1, 3), (2, 4, 4, 1), (3, 3, 11, 10), (2, 4, 4, 257), (1, 5, 13, 64), (4, 16, 29, 33)),
        ((4, 4, 4, 16), (3, 7, 7, 512), (21, 14, 14, 256), (84, 56, 56, 64)),
    ),
    Layout("ncl", 1, ((5, 3, 1), (4, 10, 15), (4, 3, 16), (3, 64, 17), (9, 3, 2200)), ()),
)

# Bias follows a matrix product: rows of channels, or the product written by a convolution.
_ROWS = Layout(
    "rows",
    -1,
    ((0, 3), (1, 1), (2, 0), (1, 16), (31, 3), (32, 10), (33, 17), (65, 64), (7, 257), (1025, 1), (1800, 33)),
    ((16, 64), (256, 256), (4096, 256), (65536, 256)),
)
_BIAS_LAYOUTS = (_ROWS, LAYOUTS[1])

_FLAT = ((), (0,), (1,), (15,), (16,), (17,), (3, 5, 7), (127,), (129,), (1023,), (1025,), (4097,), (60001,))
_FLAT_BENCH = ((1024,), (65536,), (1 << 20,), (1 << 24,))

# -------------------------------------------------------------------------------------------------
# activations


@dataclass(frozen=True, kw_only=True)
class ActivationCase(Case):
    """`<name>` and `<name>_backward`, from the input or, with `from_output`, from the output."""

    family: ClassVar[str] = "activation"
    params: Mapping[str, float] = field(default_factory=dict)
    from_output: bool = False
    cost: Work = Work()  # per element

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        return {"x": _normal(rng, shape, dtype), "dy": _normal(rng, shape, dtype)}

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        y = getattr(F, self.ops[0])(inputs["x"], **self.params, out=out)
        return {"y": y}, y if self.from_output else inputs["x"]

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs:
        backward = getattr(F, self.ops[1])
        options: dict[str, Any] = {"output": True} if self.from_output else {}
        return {"dx": backward(inputs["dy"], saved, **self.params, **options, out=out)}

    def work(self, shape: Any, direction: str) -> Work:
        return self.cost.times(_size(shape))


def _activations() -> Iterator[Case]:
    for (name, (tolerance, cost, params)), from_output in product(_ACTIVATIONS.items(), (False, True)):
        if from_output and not ACTIVATIONS[name](**params).from_output:
            continue
        yield ActivationCase(
            name=f"{name}/{'output' if from_output else 'input'}",
            ops=(name, f"{name}_backward"),
            shapes=_FLAT,
            bench=_FLAT_BENCH if not from_output else (),
            tolerance=tolerance,
            gradients={"dx": "x"},
            in_place="x" if from_output else None,
            in_place_backward=("dy",),
            params=params,
            from_output=from_output,
            cost=cost,
        )


# ------------------------------------------------------------------------------------------------- bias_act


@dataclass(frozen=True, kw_only=True)
class BiasActCase(Case):
    family: ClassVar[str] = "bias_act"
    layout: Layout
    epilogue: Epilogue
    bias: bool = True
    training: bool = True

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        inputs: Inputs = {"x": _normal(rng, shape, dtype), "dy": _normal(rng, shape, dtype)}
        if self.bias:
            inputs["bias"] = _normal(rng, self.layout.channels(shape), dtype)
        if self.epilogue.residual:
            inputs["residual"] = _normal(rng, shape, dtype)
        inputs["rng"] = random.Generator(seed + (5 << 40), position=3)
        return inputs

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        y, saved = F.bias_act(
            inputs["x"],
            inputs.get("bias"),
            **self.epilogue.arguments(inputs),
            training=self.training,
            channel_axis=self.layout.channel_axis,
            out=out,
        )
        return {"y": y}, saved

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs | None:
        if not self.training:
            return None
        dx, dbias, *dresidual = F.bias_act_backward(inputs["dy"], saved, out=out)
        gradients = {"dx": dx}
        if dbias is not None:
            gradients["dbias"] = dbias
        if dresidual:
            gradients["dresidual"] = dresidual[0]
        return gradients

    def work(self, shape: Any, direction: str) -> Work:
        return self.epilogue.work(shape, self.training)

    def terms(self, shape: Any, output: str) -> int:
        return self.layout.terms(shape) if output == "dbias" else 1


def _bias_act() -> Iterator[Case]:
    for layout, epilogue, bias, training in product(_BIAS_LAYOUTS, EPILOGUES, (True, False), (True, False)):
        usual = bias and training
        if not usual and (layout is not _ROWS or not epilogue.residual):
            continue  # one epilogue of each activation is enough for these
        gradients = {"dx": "x", "dbias": "bias", "dresidual": "residual"}
        given = {"x"} | ({"bias"} if bias else set()) | ({"residual"} if epilogue.residual else set())
        label = epilogue.label + ("" if bias else ",no_bias") + ("" if training else ",inference")
        yield BiasActCase(
            name=f"bias_act/{layout.label}/{label}",
            ops=("bias_act", "bias_act_backward") if training else ("bias_act",),
            shapes=layout.shapes,
            bench=layout.bench if usual and layout is _ROWS else (),
            tolerance="reduction",
            gradients={key: value for key, value in gradients.items() if value in given} if training else {},
            in_place=None if training and epilogue.keeps_input else "x",
            in_place_backward=("dy",),
            layout=layout,
            epilogue=epilogue,
            bias=bias,
            training=training,
        )


# ------------------------------------------------------------------------------------------------- batch norm


@dataclass(frozen=True, kw_only=True)
class BatchNormCase(Case):
    family: ClassVar[str] = "norm"
    layout: Layout
    epilogue: Epilogue
    affine: bool = True
    pre_bias: bool = False
    running: bool = True
    training: bool = True

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        channels = self.layout.channels(shape)
        inputs: Inputs = {"x": _normal(rng, shape, dtype, 3.0, 2.0), "dy": _normal(rng, shape, dtype)}
        if self.affine:
            inputs["weight"] = _normal(rng, channels, dtype)
            inputs["bias"] = _normal(rng, channels, dtype)
        if self.pre_bias:
            inputs["pre_bias"] = _normal(rng, channels, dtype)
        if self.epilogue.residual:
            inputs["residual"] = _normal(rng, shape, dtype)
        if self.running:
            inputs["running_mean"] = _normal(rng, channels, dtype)
            inputs["running_var"] = np.square(_normal(rng, channels, dtype)) + 1
        inputs["rng"] = random.Generator(seed + (5 << 40), position=3)
        return inputs

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        y, saved = F.batch_norm(
            inputs["x"],
            inputs.get("running_mean"),
            inputs.get("running_var"),
            inputs.get("weight"),
            inputs.get("bias"),
            self.training,
            pre_bias=inputs.get("pre_bias"),
            **self.epilogue.arguments(inputs),
            channel_axis=self.layout.channel_axis,
            out=out,
        )
        outputs = {"y": y}
        if self.running and self.training:
            outputs |= {name: inputs[name] for name in ("running_mean", "running_var")}
        return outputs, saved

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs | None:
        if not self.training:
            return None
        names = ["dx", "dweight", "dbias"]
        if self.epilogue.residual:
            names.append("dresidual")
        if self.pre_bias:
            names.append("dpre_bias")
        return dict(zip(names, F.batch_norm_backward(inputs["dy"], saved, out=out), strict=True))

    def work(self, shape: Any, direction: str) -> Work:
        return self.epilogue.work(shape, self.training)

    def terms(self, shape: Any, output: str) -> int:
        return self.layout.terms(shape) if output in ("dweight", "dbias", "dpre_bias") else 1


def _batch_norm() -> Iterator[Case]:
    variants: dict[str, dict[str, bool]] = {
        "": {},
        ",pre_bias": {"pre_bias": True},
        ",not_affine": {"affine": False, "running": False},
        ",inference": {"training": False},
        ",inference,not_affine,pre_bias": {"training": False, "affine": False, "pre_bias": True},
    }
    pairs = (
        ("dx", "x"),
        ("dweight", "weight"),
        ("dbias", "bias"),
        ("dresidual", "residual"),
        ("dpre_bias", "pre_bias"),
    )
    for layout, epilogue, (label, options) in product(LAYOUTS, EPILOGUES, variants.items()):
        if (label and epilogue.activation not in (None, "relu")) or (layout.label == "ncl" and label):
            continue
        training = options.get("training", True)
        absent = {"residual"} if not epilogue.residual else set()
        absent |= {"pre_bias"} if not options.get("pre_bias") else set()
        absent |= {"weight", "bias"} if not options.get("affine", True) else set()
        yield BatchNormCase(
            name=f"batch_norm/{layout.label}/{epilogue.label}{label}",
            ops=("batch_norm", "batch_norm_backward") if training else ("batch_norm",),
            shapes=layout.shapes,
            bench=layout.bench if label in ("", ",inference") else (),
            tolerance="reduction",
            gradients={output: name for output, name in pairs if name not in absent} if training else {},
            in_place=None if training else "x",
            in_place_backward=("dy",),
            layout=layout,
            epilogue=epilogue,
            **options,
        )


# --------------------------------------------------------------------------------------- dropout, channel_sum


@dataclass(frozen=True, kw_only=True)
class DropoutCase(Case):
    family: ClassVar[str] = "dropout"
    p: float = 0.5
    first: int = 0

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        generator = random.Generator(seed + (5 << 40), position=3)
        return {"x": _normal(rng, shape, dtype), "dy": _normal(rng, shape, dtype), "rng": generator}

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        y, saved = F.dropout(inputs["x"], self.p, rng=inputs["rng"], first=self.first, out=out)
        return {"y": y}, saved

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs:
        return {"dx": F.dropout_backward(inputs["dy"], saved, out=out)}

    def work(self, shape: Any, direction: str) -> Work:
        return Work(random_bits=_size(shape) if 0 < self.p < 1 else 0)


def _dropout() -> Iterator[Case]:
    for p, first in ((0.5, 0), (0.1, 0), (0.9, 77), (0.0, 0), (1.0, 0)):
        yield DropoutCase(
            name=f"dropout/p={p}" + (f",first={first}" if first else ""),
            ops=("dropout", "dropout_backward"),
            shapes=_FLAT,
            bench=_FLAT_BENCH if p == 0.5 else (),
            gradients={"dx": "x"},
            in_place="x",
            in_place_backward=("dy",),
            p=p,
            first=first,
        )


@dataclass(frozen=True, kw_only=True)
class ChannelSumCase(Case):
    family: ClassVar[str] = "reduction"
    layout: Layout

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        return {"x": _normal(np.random.default_rng(seed), shape, dtype)}

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        return {"sums": F.channel_sum(inputs["x"], channel_axis=self.layout.channel_axis, out=out)}, None

    def terms(self, shape: Any, output: str) -> int:
        return max(self.layout.terms(shape), 1)


def _channel_sum() -> Iterator[Case]:
    for layout in (_ROWS, *LAYOUTS[1:]):
        yield ChannelSumCase(
            name=f"channel_sum/{layout.label}",
            ops=("channel_sum",),
            shapes=layout.shapes,
            bench=layout.bench,
            tolerance="reduction",
            layout=layout,
        )


# ------------------------------------------------------------------------------------------------- losses


@dataclass(frozen=True, kw_only=True)
class CrossEntropyCase(Case):
    family: ClassVar[str] = "loss"

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        rows, classes = shape
        return {"logits": _normal(rng, shape, dtype, 0.0, 3.0), "labels": rng.integers(0, classes, rows)}

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        loss, dlogits = F.softmax_cross_entropy(inputs["logits"], inputs["labels"], out=out)
        return {"loss": loss, "dlogits": dlogits}, None

    def work(self, shape: Any, direction: str) -> Work:
        return Work(exp=_size(shape))


def _cross_entropy() -> Iterator[Case]:
    yield CrossEntropyCase(
        name="softmax_cross_entropy/rows",
        ops=("softmax_cross_entropy",),
        shapes=(
            (0, 3),
            (1, 1),
            (3, 10),
            (15, 16),
            (17, 3),
            (33, 64),
            (5, 257),
            (3, 1023),
            (4, 1025),
            (1025, 2),
            (4097, 1),
            (2400, 20),
        ),
        bench=((128, 10), (6554, 10), (1049, 1000), (8192, 1000), (2048, 32000)),
        tolerance="reduction",
        gradients={"dlogits": "logits"},
        in_place="logits",
    )


# ------------------------------------------------------------------------------------------------- optimizers


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
        inputs: Inputs = {"params": [_normal(rng, s, dtype) for s in shape]}
        inputs["grads"] = [_normal(rng, s, dtype) for s in shape]
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
        n = sum(map(_size, shape)) if self.root else 0
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
    bench = (*((shape,) for shape in _FLAT_BENCH), *models), models if bench_clip else ()
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


# ------------------------------------------------------------------------------------------------- the table

_TABLE: tuple[Callable[[], Iterator[Case]], ...] = (
    _activations,
    _bias_act,
    _batch_norm,
    _dropout,
    _channel_sum,
    _cross_entropy,
    lambda: _optimizer("sgd_step/plain", None),
    lambda: _optimizer(
        "sgd_step/momentum", "momentum_buffers", at=_started, momentum=0.9, dampening=0.1, bench_clip=True
    ),
    lambda: _optimizer("sgd_step/nesterov", "momentum_buffers", at=_started, momentum=0.9, nesterov=True),
    lambda: _optimizer("adam_step/adam", "exp_avgs", "exp_avg_sqs", at=_corrected, root=True, bench_clip=True),
    lambda: _optimizer(
        "adam_step/adamw", "exp_avgs", "exp_avg_sqs", at=_corrected, root=True, bench_decay=0.05, decoupled=True
    ),
)

CASES: tuple[Case, ...] = tuple(case for rows in _TABLE for case in rows())
"""All cases.  A new optimizer is one row in `_TABLE` for each variant, a new activation one in `_ACTIVATIONS`."""


def by_name(name: str) -> Case:
    """The case called `name`."""
    for case in CASES:
        if case.name == name:
            return case
    raise KeyError(name)
