"""The call behind a case: what a user would write, without what the case table wraps around it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

__all__ = ["direct", "planned"]

T = TypeVar("T")


class _Recorder:
    """A namespace that remembers the last call made through it, and makes it unless it is `dry`."""

    def __init__(self, namespace: Any, dry: bool) -> None:
        self._namespace = namespace
        self._dry = dry
        self.last: Callable[[], Any] | None = None

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._namespace, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.last = partial(function, *args, **kwargs)
            return None if self._dry else function(*args, **kwargs)

        return call


def direct(namespace: Any, run: Callable[[Any], T]) -> tuple[T, Callable[[], Any]]:
    """Run a method of a case, and give its call of `namespace` for timing.

    A small call takes less time than the case needs to put its arguments together and to name its outputs.

    Parameters
    ----------
    namespace
        `fastnn.functional`, or a peer that looks like it.
    run : callable
        ``run(namespace)`` calls one function of the namespace.

    Returns
    -------
    result
        Of `run`.
    call : callable
        The same function with the same arguments once more.
    """
    recorder = _Recorder(namespace, dry=False)
    result = run(recorder)
    assert recorder.last is not None
    return result, recorder.last


def planned(namespace: Any, run: Callable[[Any], Any]) -> Callable[[], Any]:
    """The same call without making it: of an optimizer's step, which changes what it is given.

    Parameters
    ----------
    namespace
        As for `direct`.
    run : callable
        As for `direct`, indifferent to what the function returns.

    Returns
    -------
    callable
    """
    recorder = _Recorder(namespace, dry=True)
    run(recorder)
    assert recorder.last is not None
    return recorder.last
