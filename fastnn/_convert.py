"""Arrays of other libraries as NumPy arrays: by the buffer protocol, DLPack or ``__array__``, in this order."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

__all__ = ["as_array", "taking_arrays"]

_HOST = frozenset({1, 3, 11})
"""Devices of DLPack whose memory the CPU reads: its own, and that which CUDA and ROCm have pinned."""

_NOT_ITS_VALUES = {"is_neg": "with its negative bit set; call resolve_neg()", "is_deleted": "that has been deleted"}
"""What torch and jax are asked whether memory holds the values: DLPack leaves out the sign of such a tensor."""

_PROTOCOLS = ("__array__", "__array_interface__", "__array_struct__")


def as_array(name: str, value: Any) -> Any:
    """A NumPy array on the memory of `value`, which it keeps alive.

    The extension calls it for every input that is no plain NumPy array, so what is an array is decided here alone.
    Copied is only what its library gives as a copy (``__array__``).  Layout, type and byte order are for the caller to
    check.

    Parameters
    ----------
    name : str
        Of the argument, for messages.
    value : object

    Returns
    -------
    array, or `value` itself if it holds none
        Numbers (NumPy's too), types and lists hold none.

    Raises
    ------
    TypeError
        For arrays that cannot be read: on another device, with a gradient to record, with a mask, of a type that NumPy
        does not have.
    """
    if type(value) is np.ndarray or isinstance(value, (np.generic, type)):
        return value
    kind = type(value).__name__
    if isinstance(value, np.ndarray):
        if hasattr(value, "mask"):
            raise TypeError(f"{name}: expected an array without a mask, got {kind}; fill it")
        return value
    try:
        obstacle = _obstacle(value)
        if obstacle is None:
            return _read(value)
    except Exception as error:  # whatever the other library raises
        raise TypeError(f"{name}: expected an array that NumPy can read, got {kind}: {error}") from error
    expected, got = obstacle
    raise TypeError(f"{name}: expected an array{expected}, got {kind} {got}")


def _obstacle(value: Any) -> tuple[str, str] | None:
    """Why the memory of `value` is not to be read though it could be: what is expected, and what it is instead."""
    if getattr(value, "requires_grad", False) is True:
        return "", "that requires grad; detach it"
    for method, state in _NOT_ITS_VALUES.items():
        if callable(asked := getattr(value, method, None)) and asked() is True:
            return "", state
    device = value.__dlpack_device__() if hasattr(value, "__dlpack_device__") else None
    if device is None or device[0] in _HOST:
        return None
    return " on the CPU", f"on {getattr(value, 'device', device)}; copy it to the CPU"


def _read(value: Any) -> Any:
    try:
        view = memoryview(value)
    except (BufferError, TypeError):  # has no buffer, or none for this type
        pass
    else:
        return np.asarray(view)
    shown = any(hasattr(value, protocol) for protocol in _PROTOCOLS)
    if hasattr(value, "__dlpack__"):
        try:
            array = np.from_dlpack(value)
        except Exception:
            if not shown:
                raise
        else:
            if array.flags.owndata and array.size:  # NumPy allocates where the pointer is null
                raise ValueError("it has no memory")
            return array
    return np.asarray(value) if shown else value


def taking_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of NumPy arrays and lists of them that takes those of other libraries, too."""
    names = function.__code__.co_varnames

    def converted(name: str, value: Any) -> Any:
        if type(value) in (list, tuple):
            return type(value)(as_array(name, item) for item in value)
        return as_array(name, value)

    @wraps(function)
    def taking(*args: Any, **kwargs: Any) -> Any:
        given = map(converted, names, args)
        return function(*given, *args[len(names) :], **{name: converted(name, value) for name, value in kwargs.items()})

    return taking
