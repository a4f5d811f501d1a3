"""Normalisation over the batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from fastnn import random
from fastnn.cases.base import LAYOUTS, Array, Case, Inputs, Layout, Outputs, Work, normal
from fastnn.cases.epilogues import EPILOGUES, Epilogue

# Volumes, (N, C, D, H, W) and (N, D, H, W, C): to the kernels they are planes and rows like any others.
VOLUMES = (
    Layout("ncdhw", 1, ((2, 3, 1, 2, 1), (2, 3, 3, 5, 7), (1, 1, 3, 11, 37), (2, 1, 5, 29, 113)), ()),
    Layout("ndhwc", -1, ((2, 1, 2, 1, 3), (2, 3, 4, 5, 7), (1, 2, 3, 11, 17), (2, 3, 7, 11, 33)), ()),
)


@dataclass(frozen=True, kw_only=True)
class BatchNormCase(Case):
    """Batch norm.

    Attributes
    ----------
    options : mapping
        Further keywords of `batch_norm`, which only these cases have.
    """

    family: ClassVar[str] = "norm"
    layout: Layout
    epilogue: Epilogue
    affine: bool = True
    pre_bias: bool = False
    running: bool = True
    training: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def inputs(self, shape: Any, dtype: DTypeLike, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        channels = self.layout.channels(shape)
        inputs: Inputs = {"x": normal(rng, shape, dtype, 3.0, 2.0), "dy": normal(rng, shape, dtype)}
        if self.affine:
            inputs["weight"] = normal(rng, channels, dtype)
            inputs["bias"] = normal(rng, channels, dtype)
        if self.pre_bias:
            inputs["pre_bias"] = normal(rng, channels, dtype)
        if self.epilogue.residual:
            inputs["residual"] = normal(rng, shape, dtype)
        if self.running:
            inputs["running_mean"] = normal(rng, channels, dtype)
            inputs["running_var"] = np.square(normal(rng, channels, dtype)) + 1
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
            **self.options,
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


def rows() -> Iterator[Case]:
    variants: dict[str, dict[str, Any]] = {
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
    # Switches of training, in a few tails that differ in what backward has to do.
    frozen = {
        ",frozen": {"options": {"frozen": True}},
        ",frozen,not_affine,pre_bias": {"options": {"frozen": True}, "affine": False, "pre_bias": True},
    }
    statistics = {
        ",keras": {"options": {"momentum_convention": "keras", "momentum": 0.99, "running_ddof": 0}},
        ",ddof=0": {"options": {"running_ddof": 0}},
        ",no_update": {"options": {"update_stats": False}},
    }
    for layout, epilogue, (label, options) in product(
        LAYOUTS + VOLUMES, EPILOGUES, (variants | frozen | statistics).items()
    ):
        if (label and epilogue.activation not in (None, "relu")) or (layout.label == "ncl" and label):
            continue
        if not epilogue.compiled and (layout is not LAYOUTS[0] or not epilogue.residual):
            continue  # batch norm keeps its input, whatever the activation
        if layout in VOLUMES and (label or epilogue.label not in ("plain", "residual+relu+dropout")):
            continue
        if label in frozen and epilogue.label not in ("plain", "relu", "residual", "residual+relu+dropout"):
            continue
        if label in statistics and (epilogue.label != "plain" or layout.label == "nhwc"):
            continue
        training = options.get("training", True)
        absent = {"residual"} if not epilogue.residual else set()
        absent |= {"pre_bias"} if not options.get("pre_bias") else set()
        absent |= {"weight", "bias"} if not options.get("affine", True) else set()
        yield BatchNormCase(
            name=f"batch_norm/{layout.label}/{epilogue.label}{label}",
            ops=("batch_norm", "batch_norm_backward") if training else ("batch_norm",),
            shapes=layout.shapes,
            bench=layout.bench if label in ("", ",inference") and epilogue.compiled else (),
            tolerance="reduction",
            gradients={output: name for output, name in pairs if name not in absent} if training else {},
            in_place=None if training else "x",
            in_place_backward=("dy",),
            layout=layout,
            epilogue=epilogue,
            **options,
        )
