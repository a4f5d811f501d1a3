"""The oracle: every op of `fastnn.functional` in plain NumPy, with the same name, signature and defaults.

Written to be read beside the formulas, and to be right rather than fast.  It is generic over float32, float64
and numpy.longdouble: tests run it in a type wider than the kernel's.  Sums and statistics are formed in
float64 or wider. Random masks are the kernels' masks bit for bit.  Arrays of other libraries are taken as
`fastnn.functional` takes them; apart from that it checks no arguments.

`Saved` objects of this module are its own: hand them only to the backward functions here.
"""

# ruff: noqa: F403 (each module lists what it exports)

from importlib import import_module as _import_module
from inspect import isfunction as _isfunction

from fastnn._aliases import add_aliases as _add_aliases
from fastnn._convert import taking_arrays as _taking_arrays
from fastnn.reference.activations import *
from fastnn.reference.base import Saved
from fastnn.reference.elementwise_losses import *
from fastnn.reference.hierarchical import *
from fastnn.reference.hinge import *
from fastnn.reference.linear import *
from fastnn.reference.losses import *
from fastnn.reference.norm import *
from fastnn.reference.optim import *
from fastnn.reference.piecewise import *
from fastnn.reference.random import *
from fastnn.reference.reductions import *
from fastnn.reference.regularization import *
from fastnn.reference.sample_norm import *
from fastnn.reference.softmax import *
from fastnn.reference.windows import *

_FAMILIES = (
    "activations",
    "elementwise_losses",
    "hierarchical",
    "hinge",
    "linear",
    "losses",
    "norm",
    "optim",
    "piecewise",
    "random",
    "reductions",
    "regularization",
    "sample_norm",
    "softmax",
    "windows",
)

__all__ = ["Saved"]
__all__ += [name for family in _FAMILIES for name in _import_module(f"fastnn.reference.{family}").__all__]
globals().update({name: _taking_arrays(globals()[name]) for name in __all__ if _isfunction(globals()[name])})
__all__ += _add_aliases(globals())
