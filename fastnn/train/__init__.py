"""Training loops: `fit`, what it calls, and the pieces that a loop of your own may want."""

from __future__ import annotations

from fastnn.train.callbacks import EarlyStopping, Progress
from fastnn.train.checkpoint import load_checkpoint, save_checkpoint
from fastnn.train.explosion import Explosion, output_scales
from fastnn.train.finder import RateRange, lr_range
from fastnn.train.loop import accuracy, evaluate, fit
from fastnn.train.run import Run

__all__ = [
    "EarlyStopping",
    "Explosion",
    "Progress",
    "RateRange",
    "Run",
    "accuracy",
    "evaluate",
    "fit",
    "load_checkpoint",
    "lr_range",
    "output_scales",
    "save_checkpoint",
]
