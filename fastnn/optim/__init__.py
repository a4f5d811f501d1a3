"""Optimizers: one native call per step for all tensors, in place, with the conventions of `torch.optim`.

Each module has one family: the steps as functions (`adam_step`), which `fastnn.functional` has as well, and
the classes that keep their state (`Adam`).
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from fastnn.optim._base import Optimizer

__all__ = ["Optimizer"]

for _info in iter_modules(__path__):  # a new module is listed nowhere
    if not _info.name.startswith("_"):
        _module = import_module(f"{__name__}.{_info.name}")
        globals().update({name: getattr(_module, name) for name in _module.__all__})
        __all__ += _module.__all__

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """The optimizers: `SGD`, `Adam`, and their steps."""
