"""Training kernels for plain NumPy arrays.

``fastnn.functional`` has the kernels, ``fastnn.reference`` the same names in NumPy; layers, losses and
optimizers are built on them. Submodules are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# First: it loads the extension, with libgomp's spin setting around it.
from ._runtime import (
    __version__,
    available_isas,
    empty_cache,
    get_isa,
    get_num_threads,
    set_isa,
    set_num_threads,
    show_config,
    threads,
)

if TYPE_CHECKING:
    from . import act, cases, functional, optim, random, reference
    from .layers import (
        BatchNorm1d,
        BatchNorm2d,
        Dropout,
        Flatten,
        LeakyReLU,
        Linear,
        Parameter,
        ReLU,
        Sequential,
    )
    from .losses import CrossEntropyLoss
    from .random import Generator, manual_seed

_SUBMODULES = ("act", "bench", "cases", "functional", "optim", "random", "reference")
_HOMES = {
    "layers": (
        "BatchNorm1d",
        "BatchNorm2d",
        "Dropout",
        "Flatten",
        "LeakyReLU",
        "Linear",
        "Parameter",
        "ReLU",
        "Sequential",
    ),
    "losses": ("CrossEntropyLoss",),
    "random": ("Generator", "manual_seed"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Generator",
    "LeakyReLU",
    "Linear",
    "Parameter",
    "ReLU",
    "Sequential",
    "__version__",
    "act",
    "available_isas",
    "cases",
    "empty_cache",
    "functional",
    "get_isa",
    "get_num_threads",
    "manual_seed",
    "optim",
    "random",
    "reference",
    "set_isa",
    "set_num_threads",
    "show_config",
    "threads",
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f".{name}", __name__)
    if name in _HOME_OF:
        value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
