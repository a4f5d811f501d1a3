"""`bias_act`: what follows a matrix product."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from fastnn import random
from fastnn.cases.base import BIAS_LAYOUTS, ROWS, Array, Case, Inputs, Layout, Outputs, Work, normal
from fastnn.cases.epilogues import EPILOGUES, Epilogue


@dataclass(frozen=True, kw_only=True)
class BiasActCase(Case):
    family: ClassVar[str] = "bias_act"
    layout: Layout
    epilogue: Epilogue
    bias: bool = True
    training: bool = True

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        inputs: Inputs = {"x": normal(rng, shape, dtype), "dy": normal(rng, shape, dtype)}
        if self.bias:
            inputs["bias"] = normal(rng, self.layout.channels(shape), dtype)
        if self.epilogue.residual:
            inputs["residual"] = normal(rng, shape, dtype)
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


def rows() -> Iterator[Case]:
    for layout, epilogue, bias, training in product(BIAS_LAYOUTS, EPILOGUES, (True, False), (True, False)):
        usual = bias and training
        if not usual and (layout is not ROWS or not epilogue.residual):
            continue  # one epilogue of each activation is enough for these
        if not epilogue.compiled and not (usual and layout is ROWS):
            continue
        gradients = {"dx": "x", "dbias": "bias", "dresidual": "residual"}
        given = {"x"} | ({"bias"} if bias else set()) | ({"residual"} if epilogue.residual else set())
        label = epilogue.label + ("" if bias else ",no_bias") + ("" if training else ",inference")
        yield BiasActCase(
            name=f"bias_act/{layout.label}/{label}",
            ops=("bias_act", "bias_act_backward") if training else ("bias_act",),
            shapes=layout.shapes,
            bench=layout.bench if usual and layout is ROWS and epilogue.compiled else (),
            tolerance="reduction",
            gradients={key: value for key, value in gradients.items() if value in given} if training else {},
            in_place=None if training and epilogue.keeps_input else "x",
            in_place_backward=("dy",),
            layout=layout,
            epilogue=epilogue,
            bias=bias,
            training=training,
        )
