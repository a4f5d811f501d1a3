"""Functions of `fastnn.functional` on tensors, recorded for torch's backward pass.

Arguments are those of the function of the same name, without `out`; what comes back is the value alone, since
``backward()`` takes the gradient.  Tensors that have no gradient here (labels, running statistics, class weights) must
not require one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fastnn._aliases import add_aliases
from fastnn._convert import as_array
from fastnn.interop._calls import OPS, Call

__all__ = sorted(OPS)

Tensor: TypeAlias = Any  # torch.Tensor: checkers need not have torch


_keeps_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)
"""Whether the backward pass that runs now was asked to retain the graph; older versions of torch do not tell."""


def array_of(name: str, tensor: Tensor) -> NDArray[Any]:
    """The memory of a tensor, with or without a gradient, as an array; TypeError where NumPy cannot read it."""
    detached = tensor.detach()
    try:
        array: NDArray[Any] = detached.numpy()
    except (RuntimeError, TypeError):
        return as_array(name, detached)  # type: ignore[no-any-return]
    if array.flags.owndata:  # of a tensor without memory NumPy shows some of its own
        array = as_array(name, detached)
    return array


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> Tensor:
        arrays = [array_of(name, tensor) for name, tensor in zip(call.names, tensors, strict=True)]
        value = call.forward(*arrays)
        of_numpy = isinstance(value, np.ndarray)
        result = torch.from_numpy(value) if of_numpy else torch.tensor(value, dtype=tensors[0].dtype)
        held = zip((*arrays, value), (*tensors, result), strict=True)
        ctx.save_for_backward(*(tensor for array, tensor in held if call.reads(array)))
        ctx.call = call
        return result

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        call = ctx.call
        if torch.is_grad_enabled():  # the second derivative would be taken for 0
            raise RuntimeError(f"{call.op.name}: expected to be differentiated once, got create_graph=True")
        _ = ctx.saved_tensors  # raises where one of them has been written to since
        if not _keeps_graph():  # what is held goes now, as saved tensors do, not with the graph
            ctx.call = None
        array = array_of("dy", dy)
        tensors = {id(array): dy, id(None): None}  # one tensor for one array: torch may write to what it holds alone
        gradients = call.backward(array)
        for gradient in gradients:
            if id(gradient) not in tensors:
                tensors[id(gradient)] = torch.from_numpy(gradient)
        return None, *(tensors[id(gradient)] for gradient in gradients)


def _function(name: str) -> Callable[..., Tensor]:
    @wraps(OPS[name].function, assigned=("__doc__",))
    def function(*args: Any, **kwargs: Any) -> Tensor:
        call = Call(name, args, kwargs)
        for key, value in call.options.items():
            if isinstance(value, torch.Tensor):  # one that requires a gradient, which it would not get, is refused
                call.options[key] = as_array(key, value) if value.requires_grad else array_of(key, value)
        for key, value in call.operands.items():
            if not isinstance(value, torch.Tensor):
                raise TypeError(f"{key}: expected a torch.Tensor, got {type(value).__name__}")
        return _Apply.apply(call, *call.operands.values())

    function.__name__ = function.__qualname__ = name
    return function


globals().update({name: _function(name) for name in OPS})
__all__ += add_aliases(globals())

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """The functions, by the names of `OPS`."""
