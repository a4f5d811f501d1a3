"""fastnn's optimizers over torch parameters: one native call a step, with everything that `fastnn.optim` takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import torch

from fastnn import optim
from fastnn._convert import as_array
from fastnn.interop.torch.functional import array_of

__all__ = ["Optimizer"]

Tensor: TypeAlias = Any


class Optimizer(torch.optim.Optimizer):
    """Base of all: a `torch.optim.Optimizer` that the optimizer of the same name in `fastnn.optim` works for.

    Parameters
    ----------
    params : iterable of parameters, or of dicts
        On the CPU, C-contiguous, all float32 or all float64; they stay the same memory.  A dict has "params" and what
        differs for them: "lr", "weight_decay", "l1", "max_norm".
    *args, **kwargs
        Those of `fastnn.optim`, without `groups`.  ``decay="weights"`` exempts parameters with fewer than two axes.

    Notes
    -----
    The learning rate is ``param_groups[...]["lr"]``, so torch's schedulers set it; what else a dict has is read once.
    As in torch, parameters without a gradient are left alone.
    """

    _kind: ClassVar[type[optim.Optimizer]]

    def __init__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        if "groups" in kwargs:
            raise TypeError("groups: expected dicts as params, as torch has it, got groups")
        bound = inspect.signature(self._kind).bind(params, *args, **kwargs)
        bound.apply_defaults()
        rate = bound.arguments["lr"]
        if callable(rate):
            raise TypeError("lr: expected a number, got a schedule; torch.optim.lr_scheduler sets the rates of groups")
        super().__init__(params, {"lr": rate})
        tensors: dict[str, Tensor] = {}
        groups: dict[str, dict[str, Any]] = {}
        for number, group in enumerate(self.param_groups):
            tensors |= {f"{number}.{place}": tensor for place, tensor in enumerate(group["params"])}
            options = {key: value for key, value in group.items() if key not in ("params", "initial_lr")}
            groups[f"{number}.*"] = {**options, "lr": self._rate_of(group)}
        self._tensors = tensors
        self._addresses = [tensor.data_ptr() for tensor in tensors.values()]
        self._idle: set[str] = set()
        arrays = {name: array_of(f"params[{name!r}]", tensor) for name, tensor in tensors.items()}
        self._inner = self._kind(arrays, *args, **kwargs, groups=groups)

    @staticmethod
    def _rate_of(group: dict[str, Any]) -> Callable[[int], float]:
        return lambda step: float(group["lr"])

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As `torch.optim.Optimizer`, but only while the optimizer is made."""
        if hasattr(self, "_inner"):
            raise RuntimeError("add_param_group: expected all parameters when the optimizer is made, got more")
        super().add_param_group(param_group)

    def step(self, closure: Callable[[], Any] | None = None, *, stats: bool = False) -> Any:
        """Update the parameters in place.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and its gradients, and gives the loss.
        stats : bool, default False
            Return a `fastnn.optim` record of the step instead.

        Returns
        -------
        The loss of `closure`, or None; with `stats`, the record.

        Raises
        ------
        RuntimeError
            If a parameter has got other memory since the optimizer was made.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for (name, tensor), address in zip(self._tensors.items(), self._addresses, strict=True):
            if tensor.data_ptr() != address:
                raise RuntimeError(
                    f"params[{name!r}]: expected the memory that it had when the optimizer was made, got another; "
                    "move and convert a module first"
                )
        grads = {name: tensor.grad for name, tensor in self._tensors.items()}
        idle = {name for name, grad in grads.items() if grad is None}  # frozen for this step
        for name in idle - self._idle:
            self._inner.freeze(name)
        for name in self._idle - idle:
            self._inner.unfreeze(name)
        self._idle = idle
        if len(idle) == len(grads):
            return loss
        arrays: list[Any] = [
            grad if grad is None else array_of(f"grads[{name!r}]", grad) for name, grad in grads.items()
        ]
        record = self._inner.step(arrays, stats=stats)
        torch.autograd.graph.increment_version([tensor for name, tensor in self._tensors.items() if name not in idle])
        return record if stats else loss

    def state_dict(self) -> dict[str, Any]:
        """Copies of the state, and the options of the groups."""
        state = {name: torch.from_numpy(array) for name, array in self._inner.state_dict().items()}
        return {"state": state, "param_groups": super().state_dict()["param_groups"]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` has given.

        Raises
        ------
        ValueError
            For the state of other parameters, or of another optimizer.
        """
        given = state_dict["param_groups"]
        if [len(group["params"]) for group in given] != [len(group["params"]) for group in self.param_groups]:
            raise ValueError("param_groups: expected groups of as many parameters as here, got others")
        self._inner.load_state_dict({name: as_array(name, value) for name, value in state_dict["state"].items()})
        for group, saved in zip(self.param_groups, given, strict=True):
            group.update({key: value for key, value in saved.items() if key != "params"})

    def formula(self) -> str:
        """The formula that a step executes, and its numbers."""
        return self._inner.formula()

    def summary(self) -> str:
        """A table of what applies to which parameter."""
        return self._inner.summary()


def _over_tensors(kind: type[optim.Optimizer]) -> type[Optimizer]:
    doc = f"`fastnn.optim.{kind.__name__}` over torch parameters, whose arguments it takes; see `Optimizer`."
    return type(kind.__name__, (Optimizer,), {"_kind": kind, "__module__": __name__, "__doc__": doc})


_KINDS = [
    kind for kind in map(vars(optim).get, optim.__all__) if isinstance(kind, type) and kind is not optim.Optimizer
]
globals().update({kind.__name__: _over_tensors(kind) for kind in _KINDS})
__all__ += [kind.__name__ for kind in _KINDS]

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """The optimizers of `fastnn.optim`, by name."""
