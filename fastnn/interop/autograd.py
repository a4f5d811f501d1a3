"""fastnn's kernels as primitives of HIPS autograd, with their vector-Jacobian products.

The functions of `fastnn.functional`, on arrays that autograd follows; what comes back is the value alone::

    import autograd.numpy as np
    from autograd import grad
    import fastnn.interop.autograd as F

    def loss(W, b):
        return F.softmax_cross_entropy(F.bias_act(np.dot(x, W), b, activation="relu"), labels)

    dW = grad(loss)(W, b)

Labels, running statistics and class weights have no gradient here, and nothing has a second one.  Install it with
``pip install 'fastnn-kernels[autograd]'``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

try:
    from autograd.extend import defvjp_argnums, primitive
    from autograd.tracer import isbox
except ImportError as error:
    raise ImportError(
        "fastnn.interop.autograd: expected autograd, which is not installed; pip install 'fastnn-kernels[autograd]'"
    ) from error

from fastnn._aliases import add_aliases
from fastnn.interop._calls import OPS, Call

__all__ = sorted(OPS)


def _pull(argnums: Sequence[int], value: Any, call: Call, *operands: Any, dy: Any) -> list[Any]:
    if any(map(isbox, (dy, *operands))):  # an outer derivative follows them
        raise TypeError(f"{call.op.name}: expected to be differentiated once, got a second derivative")
    gradients = call.backward(np.asarray(dy, getattr(value, "dtype", None)))
    return [gradients[number - 1] for number in argnums]


_apply = primitive(Call.forward)  # of a call and its operands
defvjp_argnums(_apply, lambda argnums, value, args, kwargs: lambda dy: _pull(argnums, value, *args, dy=dy))


def _function(name: str) -> Callable[..., Any]:
    @wraps(OPS[name].function, assigned=("__doc__",))
    def function(*args: Any, **kwargs: Any) -> Any:
        call = Call(name, args, kwargs)
        for key, value in call.options.items():
            if isbox(value):
                raise TypeError(f"{key}: expected an array without a gradient, got one that is differentiated")
        return _apply(call, *call.operands.values())

    function.__name__ = function.__qualname__ = name
    return function


globals().update({name: _function(name) for name in OPS})
__all__ += add_aliases(globals())

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """The functions, by the names of `OPS`."""
