"""The ops as functions on NumPy arrays: forward, and `<op>_backward`.

Arrays are float32 or float64.  Inputs may be strided or read-only; anything on the CPU that has the buffer protocol,
DLPack or ``__array__`` is one.  `out` must be a C-contiguous NumPy array.  Producers (`bias_act`, the norms,
`dropout`, `maxout`, `conv2d`, `max_pool2d`) return ``(y, saved)``; losses return
``(loss, gradient)``.  The steps of the optimizers (`adam_step`) are those of `fastnn.optim`.  `fastnn.reference` has
the same functions in plain NumPy.

Names, order and defaults of arguments are those of `torch.nn.functional`, without ``inplace`` (`out` may be `x`), and
``size_average`` and ``reduce``, which PyTorch deprecates.  What PyTorch does not have goes by name.  Its names
``input``, ``target`` and ``dim`` are taken for the first argument, for labels and for `axis`.  `cross_entropy` is
`softmax_cross_entropy`, `swish` is `silu`.
"""

# ruff: noqa: F403 (each module lists what it exports)

import typing as _typing

from fastnn import optim as _optim
from fastnn._aliases import add_aliases as _add_aliases
from fastnn.functional.activations import *
from fastnn.functional.convolution import *
from fastnn.functional.elementwise_losses import *
from fastnn.functional.hierarchical import *
from fastnn.functional.hinge import *
from fastnn.functional.linear import *
from fastnn.functional.losses import *
from fastnn.functional.norm import *
from fastnn.functional.piecewise import *
from fastnn.functional.reductions import *
from fastnn.functional.regularization import *
from fastnn.functional.sample_norm import *
from fastnn.functional.softmax import *
from fastnn.functional.windows import *

globals().update({name: getattr(_optim, name) for name in _optim.__all__ if name.endswith("_step")})

_add_aliases(globals())

if _typing.TYPE_CHECKING:

    def __getattr__(name: str) -> _typing.Any:
        """The activations, the steps of the optimizers, and the aliases."""
