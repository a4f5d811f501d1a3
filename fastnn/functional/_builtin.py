"""Declarations of builtins: signature and documentation in Python, the call in the extension."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import fastnn._core as _core

__all__ = ["builtin"]

F = TypeVar("F", bound=Callable[..., Any])


def builtin(declaration: F) -> F:
    """The builtin of this name, which costs a call no Python frame.

    Parameters
    ----------
    declaration : function
        Gives the name, the parameters with their defaults, and the docstring; has no body.

    Returns
    -------
    builtin
        Looks the same to `help`, `inspect.signature` and type checkers.

    Raises
    ------
    ValueError
        If the extension has other parameters, or nothing of this name.
    """
    parameters = inspect.signature(declaration).parameters.values()
    text, keyword_only = [], False
    for p in parameters:
        if p.kind is p.KEYWORD_ONLY and not keyword_only:
            text.append("*")
            keyword_only = True
        text.append(p.name if p.default is p.empty else f"{p.name}={p.default!r}")
    made: F = _core.builtin(
        declaration.__name__,
        [p.name for p in parameters],
        sum(p.kind is not p.KEYWORD_ONLY for p in parameters),
        {p.name: p.default for p in parameters if p.default is not p.empty},
        f"{declaration.__name__}({', '.join(text)})\n--\n\n{inspect.cleandoc(declaration.__doc__ or '')}",
    )
    return made
