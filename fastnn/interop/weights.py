"""Weights under the names, and in the layouts, of torch.

fastnn's layers have torch's names and layouts: ``Linear`` (out, in), ``Conv2d`` (out, in, kh, kw), norms ``weight``,
``bias``, ``running_mean``, ``running_var``, and `fastnn.Sequential` counts as `torch.nn.Sequential` does.  What differs
is that torch always counts the batches of batch norm, and keeps no random positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from fastnn._convert import as_array
from fastnn._state import check_state
from fastnn.layers.dropout import Stochastic
from fastnn.layers.module import Module
from fastnn.layers.norm import BatchNorm

__all__ = ["from_torch", "to_torch"]


def _counters(net: Module) -> Iterator[tuple[str, NDArray[Any]]]:
    """Batches that each batch norm has seen, by torch's name."""
    for prefix, module in net._named_modules():
        if isinstance(module, BatchNorm):
            yield f"{prefix}num_batches_tracked", module.num_batches_tracked


def _random(net: Module) -> set[str]:
    """Names of random positions."""
    return {
        prefix + name
        for prefix, module in net._named_modules()
        if isinstance(module, Stochastic)
        for name in Stochastic._state(module)
    }


def to_torch(net: Module) -> dict[str, NDArray[Any]]:
    """The state of `net` as a torch module with the same structure has it.

    Parameters
    ----------
    net : Module

    Returns
    -------
    dict of str to array
        Copies.  `fastnn.interop.torch.state_dict` gives tensors.
    """
    state = net.state_dict() | {name: count.copy() for name, count in _counters(net)}
    for name in _random(net):
        del state[name]
    return state


def from_torch(net: Module, state: Mapping[str, Any]) -> None:
    """Set the weights of `net` to those of a torch module with the same structure.

    Parameters
    ----------
    net : Module
        Its random positions stay.
    state : mapping of str to array
        NumPy arrays, or tensors that require no gradient; ``num_batches_tracked`` may be missing.

    Raises
    ------
    TypeError
        For tensors that cannot be read here.
    ValueError
        Naming every missing or unexpected name and every wrong shape or type; nothing has changed then.
    """
    given = {name: as_array(name, state[name]) for name in state}
    counters = dict(_counters(net))
    counts = {name: given.pop(name) for name in counters.keys() & given.keys()}
    check_state({name: counters[name] for name in counts}, counts)
    here = counters.keys() | _random(net)
    net.load_state_dict(given | {name: array for name, array in net.state_dict().items() if name in here})
    for name, count in counts.items():
        counters[name][...] = count
