"""Weights of a fastnn network to and from tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fastnn.interop import weights
from fastnn.layers.module import Module

__all__ = ["load_state_dict", "state_dict"]


def state_dict(net: Module) -> dict[str, Any]:
    """The state of `net` as tensors, for ``load_state_dict`` of a torch module with the same structure.

    Parameters
    ----------
    net : Module
        Of fastnn.

    Returns
    -------
    dict of str to torch.Tensor
        Copies, under the names that `fastnn.interop.weights.to_torch` gives.
    """
    return {name: torch.from_numpy(array) for name, array in weights.to_torch(net).items()}


def load_state_dict(net: Module, state: Mapping[str, Any]) -> None:
    """Set the weights of `net` to those of a torch module with the same structure, given its ``state_dict()``.

    Parameters
    ----------
    net : Module
        Of fastnn.
    state : mapping of str to torch.Tensor
        On the CPU.

    Raises
    ------
    ValueError
        Naming every missing or unexpected name and every wrong shape or type; nothing has changed then.
    """
    weights.from_torch(net, {name: tensor.detach() for name, tensor in state.items()})
