"""Training kernels for plain NumPy arrays.

``fastnn.functional`` has the kernels, ``fastnn.reference`` the same names in NumPy; layers, losses and
optimizers are built on them. Submodules are loaded when they are first used.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

# First: it loads the extension.
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
    from . import (
        act,
        augmentation,
        bench,
        cases,
        checks,
        compat,
        data,
        distributed,
        ensemble,
        functional,
        init,
        interop,
        layers,
        losses,
        monitor,
        optim,
        random,
        reference,
        schedules,
        train,
    )
    from ._backend import use_reference
    from .layers import (
        AlphaDropout,
        AvgPool2d,
        BatchNorm1d,
        BatchNorm2d,
        BatchNorm3d,
        Conv2d,
        Dropout,
        Dropout1d,
        Dropout2d,
        Dropout3d,
        Flatten,
        GaussianNoise,
        GlobalAvgPool2d,
        GroupNorm,
        HierarchicalSoftmax,
        InstanceNorm1d,
        InstanceNorm2d,
        InstanceNorm3d,
        LayerNorm,
        Linear,
        LogSoftmax,
        Maxout,
        MaxPool2d,
        Module,
        Parameter,
        PReLU,
        RMSNorm,
        Sequential,
        Softmax,
        WeightNorm,
        recalibrate,
    )
    from .losses import (
        BCEWithLogitsLoss,
        CrossEntropyLoss,
        HingeLoss,
        HuberLoss,
        L1Loss,
        Loss,
        MSELoss,
        MultiMarginLoss,
        NLLLoss,
        SmoothL1Loss,
    )
    from .random import Generator, manual_seed
    from .regression import RegressionBins

_SUBMODULES = (
    "act",
    "augmentation",
    "bench",
    "cases",
    "checks",
    "compat",
    "data",
    "distributed",
    "ensemble",
    "functional",
    "init",
    "interop",
    "layers",
    "losses",
    "monitor",
    "optim",
    "preprocessing",  # needs scikit-learn, so it is no part of __all__
    "random",
    "reference",
    "schedules",
    "train",
)
_HOMES = {
    "_backend": ("use_reference",),
    "layers": (
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
        "Sequential",
        "Softmax",
        "WeightNorm",
        "recalibrate",
    ),
    "losses": (
        "BCEWithLogitsLoss",
        "CrossEntropyLoss",
        "HingeLoss",
        "HuberLoss",
        "L1Loss",
        "Loss",
        "MSELoss",
        "MultiMarginLoss",
        "NLLLoss",
        "SmoothL1Loss",
    ),
    "random": ("Generator", "manual_seed"),
    "regression": ("RegressionBins",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AlphaDropout",
    "AvgPool2d",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "Flatten",
    "GaussianNoise",
    "Generator",
    "GlobalAvgPool2d",
    "GroupNorm",
    "HierarchicalSoftmax",
    "HingeLoss",
    "HuberLoss",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "L1Loss",
    "LayerNorm",
    "Linear",
    "LogSoftmax",
    "Loss",
    "MSELoss",
    "MaxPool2d",
    "Maxout",
    "Module",
    "MultiMarginLoss",
    "NLLLoss",
    "PReLU",
    "Parameter",
    "RMSNorm",
    "RegressionBins",
    "Sequential",
    "SmoothL1Loss",
    "Softmax",
    "WeightNorm",
    "__version__",
    "act",
    "augmentation",
    "available_isas",
    "bench",
    "cases",
    "checks",
    "compat",
    "data",
    "distributed",
    "empty_cache",
    "ensemble",
    "functional",
    "get_include",
    "get_isa",
    "get_num_threads",
    "init",
    "interop",
    "layers",
    "losses",
    "manual_seed",
    "monitor",
    "optim",
    "random",
    "recalibrate",
    "reference",
    "schedules",
    "set_isa",
    "set_num_threads",
    "show_config",
    "threads",
    "train",
    "use_reference",
]


def get_include() -> str:
    """Directory of ``fastnn.h``, for C and C++ code that calls the kernels; Cython needs only `fastnn.kernels`."""
    return str(Path(__file__).resolve().parent / "include")


def _activation_layers() -> Mapping[str, Any]:
    """`ReLU` and its like, which are made from the declarations in `fastnn.functional` and listed nowhere else."""
    return import_module(".layers", __name__).CLASSES  # type: ignore[no-any-return]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f".{name}", __name__)
    if name in _HOME_OF:
        value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    elif name[:1].isupper() and name in (classes := _activation_layers()):
        value = classes[name]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_activation_layers()})
