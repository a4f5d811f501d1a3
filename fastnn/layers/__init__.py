"""Layers for NumPy training loops, with the names and conventions of `torch.nn`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn.layers.activation import CLASSES, Activation
from fastnn.layers.dropout import (
    AlphaDropout,
    Dropout,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    Flatten,
    GaussianNoise,
    Stochastic,
)
from fastnn.layers.linear import Linear, WeightNorm
from fastnn.layers.module import Module, Parameter, Saved
from fastnn.layers.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from fastnn.layers.sample_norm import GroupNorm, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, LayerNorm, RMSNorm
from fastnn.layers.sequential import Sequential
from fastnn.layers.statistics import recalibrate

__all__ = [
    "Activation",
    "AlphaDropout",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "Flatten",
    "GaussianNoise",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "Linear",
    "Module",
    "Parameter",
    "RMSNorm",
    "Saved",
    "Sequential",
    "Stochastic",
    "WeightNorm",
    "recalibrate",
    *CLASSES,
]

globals().update(CLASSES)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """The activation layers: `ReLU`, `GELU` ..."""
