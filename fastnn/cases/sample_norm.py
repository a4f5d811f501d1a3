"""Normalisation within each sample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from fastnn import random
from fastnn.cases.base import Array, Case, Inputs, Layout, Outputs, Work, normal, size_of
from fastnn.cases.epilogues import Epilogue


@dataclass(frozen=True, kw_only=True)
class SampleNormCase(Case):
    """A norm of `dims` last dimensions, or of groups of channels."""

    family: ClassVar[str] = "norm"
    training: ClassVar[bool] = True
    layout: Layout
    epilogue: Epilogue
    affine: bool = True
    dims: int = 0

    @property
    def biased(self) -> bool:
        return self.ops[0] != "rms_norm"

    def parameters(self, shape: Any) -> tuple[int, ...]:
        """Shape of weight and bias."""
        return tuple(shape[-self.dims :]) if self.dims else (self.layout.channels(shape),)

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        inputs: Inputs = {"x": normal(rng, shape, dtype, 3.0, 2.0), "dy": normal(rng, shape, dtype)}
        if self.affine:
            inputs["weight"] = normal(rng, self.parameters(shape), dtype)
        if self.affine and self.biased:
            inputs["bias"] = normal(rng, self.parameters(shape), dtype)
        if self.epilogue.residual:
            inputs["residual"] = normal(rng, shape, dtype)
        inputs["rng"] = random.Generator(seed + (5 << 40), position=3)
        return inputs

    def forward(self, F: Any, inputs: Inputs, out: Array | None = None) -> tuple[Outputs, Any]:
        op, shape = self.ops[0], inputs["x"].shape
        options = self.epilogue.arguments(inputs) | {"weight": inputs.get("weight"), "out": out}
        if self.biased:
            options["bias"] = inputs.get("bias")
        if not self.dims:
            options["channel_axis"] = self.layout.channel_axis
        among: tuple[Any, ...] = ()
        if self.dims:
            among = (shape[-1] if self.dims == 1 else shape[-self.dims :],)
        elif op == "group_norm":
            weight = inputs.get("weight")  # its length, as torch's peers have the channels of x first
            among = (groups_of(self.layout.channels(shape) if weight is None else len(weight)),)
        y, saved = getattr(F, op)(inputs["x"], *among, **options)
        return {"y": y}, saved

    def backward(self, F: Any, inputs: Inputs, saved: Any, out: Array | None = None) -> Outputs:
        names = ["dx", "dweight"] + ["dbias"] * self.biased + ["dresidual"] * self.epilogue.residual
        return dict(zip(names, getattr(F, self.ops[1])(inputs["dy"], saved, out=out), strict=True))

    def work(self, shape: Any, direction: str) -> Work:
        return self.epilogue.work(shape, True)

    def terms(self, shape: Any, output: str) -> int:
        return size_of(shape) // max(size_of(self.parameters(shape)), 1) if output in ("dweight", "dbias") else 1


def groups_of(channels: int) -> int:
    """The most groups of at least two channels, up to 32."""
    return max(n for n in range(1, 33) if channels % n == 0 and (n < channels or n == 1))


PLAIN, RELU, DROPPED = Epilogue(), Epilogue("relu"), Epilogue("relu", dropout=0.3)
RESIDUAL = Epilogue(residual=True)
WHOLE = Epilogue("leaky_relu", residual=True, dropout=0.3)
BLOCKS = Epilogue("gelu", residual=True, dropout=0.3)

_VECTORS = Layout(
    "rows",
    -1,
    (
        *((0, 5), (1, 1), (2, 16), (31, 3), (33, 17), (17, 64), (3, 1023), (2, 1025), (40, 257), (3, 4097), (2, 9000)),
        (300, 33),
    ),
    ((16, 64), (256, 256), (4096, 768), (16384, 1024)),
)
_SEQUENCES = Layout("sequences", -1, ((2, 3, 4), (1, 2, 16), (5, 7, 33), (2, 1, 1500), (230, 3, 7)), ())
_IMAGES = Layout(
    "nchw",
    1,
    (
        *((0, 4, 3, 3), (3, 4, 1, 3), (2, 10, 3, 5), (3, 6, 4, 4), (5, 19, 4, 5), (1, 66, 7, 7), (2, 4, 25, 41)),
        *((1, 4, 65, 64), (1, 2, 5, 3277), (16, 8, 9, 11)),
    ),
    ((4, 16, 4, 4), (3, 512, 7, 7), (16, 64, 56, 56), (84, 64, 56, 56)),
)
_CHANNELS_LAST = Layout(
    "nhwc",
    -1,
    ((3, 1, 3, 4), (2, 4, 4, 1), (3, 3, 11, 10), (2, 5, 7, 66), (1, 3, 11, 1030), (8, 6, 11, 24)),
    ((4, 4, 4, 16), (3, 7, 7, 512), (16, 56, 56, 64), (84, 56, 56, 64)),
)
_SERIES = Layout("ncl", 1, ((5, 3, 1), (4, 9), (4, 6, 15), (3, 64, 17), (8, 2, 2200)), ())
_PLANES = replace(_SERIES, shapes=((3, 2, 5), *_SERIES.shapes[2:]))


def _case(op: str, layout: Layout, epilogue: Epilogue, **options: Any) -> SampleNormCase:
    affine = options.get("affine", True)
    pairs = {"dx": "x"} | ({"dweight": "weight"} if affine else {})
    if affine and op != "rms_norm":
        pairs["dbias"] = "bias"
    if epilogue.residual:
        pairs["dresidual"] = "residual"
    return SampleNormCase(
        name=f"{op}/{layout.label}/{epilogue.label}{'' if affine else ',not_affine'}",
        ops=(op, f"{op}_backward"),
        shapes=layout.shapes,
        bench=layout.bench if affine and epilogue in (PLAIN, RELU, DROPPED, RESIDUAL) else (),
        tolerance="reduction",
        gradients=pairs,
        in_place_backward=("dy",),
        layout=layout,
        epilogue=epilogue,
        **options,
    )


def rows() -> Iterator[Case]:
    for epilogue in (PLAIN, RELU, DROPPED, RESIDUAL, WHOLE, BLOCKS):
        yield _case("layer_norm", _VECTORS, epilogue, dims=1)
    yield _case("layer_norm", _VECTORS, RELU, dims=1, affine=False)
    yield _case("layer_norm", _SEQUENCES, DROPPED, dims=1)
    yield _case("layer_norm", replace(_SEQUENCES, label="planes"), WHOLE, dims=2)
    for epilogue in (PLAIN, RELU, WHOLE):
        yield _case("rms_norm", _VECTORS, epilogue, dims=1)
    yield _case("rms_norm", _SEQUENCES, PLAIN, dims=1, affine=False)
    for epilogue in (PLAIN, RELU, WHOLE, BLOCKS):
        yield _case("group_norm", _IMAGES, epilogue)
    for layout in (_IMAGES, _SERIES):
        yield _case("group_norm", layout, DROPPED, affine=False)
    for epilogue in (RELU, RESIDUAL, WHOLE):
        yield _case("group_norm", _CHANNELS_LAST, epilogue)
    for layout, epilogue in ((_IMAGES, RELU), (_IMAGES, WHOLE), (_CHANNELS_LAST, RELU), (_PLANES, PLAIN)):
        yield _case("instance_norm", layout, epilogue)
    yield _case("instance_norm", _IMAGES, PLAIN, affine=False)
