"""Layers for NumPy training loops, with the names and conventions of `torch.nn`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn.layers.activation import CLASSES, Activation
from fastnn.layers.conv import Conv2d
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
from fastnn.layers.hierarchical import HierarchicalSoftmax
from fastnn.layers.linear import Linear, WeightNorm
from fastnn.layers.module import Module, Parameter, Saved
from fastnn.layers.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from fastnn.layers.piecewise import Maxout, PReLU
from fastnn.layers.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from fastnn.layers.sample_norm import GroupNorm, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, LayerNorm, RMSNorm
from fastnn.layers.sequential import Sequential
from fastnn.layers.softmax import LogSoftmax, Softmax
from fastnn.layers.statistics import recalibrate
from fastnn.layers.watch import watch

__all__ = [
    "Activation",
    "AlphaDropout",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conv2d",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "Flatten",
    "GaussianNoise",
    "GlobalAvgPool2d",
    "GroupNorm",
    "HierarchicalSoftmax",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "Linear",
    "LogSoftmax",
    "MaxPool2d",
    "Maxout",
    "Module",
    "PReLU",
    "Parameter",
    "RMSNorm",
    "Saved",
    "Sequential",
    "Softmax",
    "Stochastic",
    "WeightNorm",
    "recalibrate",
    "watch",
    *CLASSES,
]

globals().update(CLASSES)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """The activation layers: `ReLU`, `GELU` ..."""
