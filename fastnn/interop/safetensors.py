"""Weights in safetensors files, under torch's names: what fastnn saves torch loads, and the other way round.

For the whole state of a network or an optimizer, random positions included, in fastnn's own names, there is
``safetensors.numpy.save_file(net.state_dict(), path)``.  Install it with ``pip install 'fastnn-kernels[safetensors]'``.
"""

from __future__ import annotations

import os
from typing import TypeAlias

try:
    import safetensors.numpy as _files
except ImportError as error:
    raise ImportError(
        "fastnn.interop.safetensors: expected safetensors, which is not installed; "
        "pip install 'fastnn-kernels[safetensors]'"
    ) from error

from fastnn.interop import weights
from fastnn.layers.module import Module

__all__ = ["load_weights", "save_weights"]

Path: TypeAlias = "str | os.PathLike[str]"


def save_weights(net: Module, path: Path) -> None:
    """Write the weights of a network, as `fastnn.interop.weights.to_torch` gives them.

    Parameters
    ----------
    net : Module
    path : path
    """
    _files.save_file(weights.to_torch(net), path, metadata={"format": "pt"})


def load_weights(net: Module, path: Path) -> None:
    """Set the weights of a network to those of a file that fastnn or torch has written.

    Parameters
    ----------
    net : Module
        Of the same structure.
    path : path

    Raises
    ------
    ValueError
        For a file that is damaged or has types that NumPy lacks (bfloat16), or naming every missing or unexpected name
        and every wrong shape or type; nothing has changed then.
    """
    path = os.fspath(path)
    try:
        state = _files.load_file(path)
    except OSError:
        raise
    except Exception as error:  # one of its own for damage; what NumPy raises for types that it has not
        raise ValueError(f"path: expected a safetensors file that NumPy can read, got {path!r}: {error}") from error
    weights.from_torch(net, state)
