"""The ops as functions on NumPy arrays: forward, and `<op>_backward`.

Arrays are float32 or float64.  Inputs may be strided or read-only; `out` must be C-contiguous.  Producers
(`bias_act`, `batch_norm`, `dropout`) return ``(y, saved)``; losses return ``(loss, gradient)``.
`fastnn.reference` has the same functions in plain NumPy.
"""

# ruff: noqa: F403 (each module lists what it exports)

from fastnn.functional.activations import *
from fastnn.functional.linear import *
from fastnn.functional.losses import *
from fastnn.functional.norm import *
from fastnn.functional.optimizers import *
from fastnn.functional.reductions import *
from fastnn.functional.regularization import *
