"""Activation specs for `activation=`: ``fastnn.act.leaky_relu(0.1)``.

One function per activation of `fastnn.functional`, taking its parameters; a bare name such as
``"leaky_relu"`` means the defaults.
"""

from __future__ import annotations

from collections.abc import Callable

from fastnn._aliases import add_aliases
from fastnn.functional.activations import ACTIVATIONS, ActivationSpec

_ENTRIES = dict(ACTIVATIONS)
add_aliases(_ENTRIES)

__all__ = ["ActivationSpec", *_ENTRIES]


def __getattr__(name: str) -> Callable[..., ActivationSpec]:
    try:
        return _ENTRIES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no activation {name!r}") from None


def __dir__() -> list[str]:
    return __all__
