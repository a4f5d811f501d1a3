"""Layers for NumPy training loops, with the names and conventions of `torch.nn`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn.layers.activation import CLASSES, Activation
from fastnn.layers.dropout import Dropout, Flatten
from fastnn.layers.hierarchical import HierarchicalSoftmax
from fastnn.layers.linear import Linear
from fastnn.layers.module import Module, Parameter, Saved
from fastnn.layers.norm import BatchNorm1d, BatchNorm2d
from fastnn.layers.sequential import Sequential

__all__ = [
    "Activation",
    "BatchNorm1d",
    "BatchNorm2d",
    "Dropout",
    "Flatten",
    "HierarchicalSoftmax",
    "Linear",
    "Module",
    "Parameter",
    "Saved",
    "Sequential",
    *CLASSES,
]

globals().update(CLASSES)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """The activation layers: `ReLU`, `GELU` ..."""
