"""What is being measured, how far the run is, and how long it will take."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from typing import Any, TextIO

__all__ = ["Progress"]


class Progress:
    """A bar on a terminal where tqdm is installed, else a line for each step.

    Parameters
    ----------
    total : int
        Number of steps.
    stream : text file, optional
        Default: stderr.
    """

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self.total = total
        self.stream = sys.stderr if stream is None else stream
        self.done = 0
        self._start = time.monotonic()
        self._bar: Any = None
        if self.stream.isatty() and importlib.util.find_spec("tqdm"):
            self._bar = importlib.import_module("tqdm").tqdm(
                total=total, file=self.stream, unit="row", dynamic_ncols=True
            )

    def step(self, name: str) -> None:
        """Say that `name` begins, and that what came before it is done."""
        if self._bar is not None:
            self._bar.set_postfix_str(name)
            self._bar.update(self.done - self._bar.n)
        else:
            elapsed = time.monotonic() - self._start
            left = f", {_clock(elapsed / self.done * (self.total - self.done))} left" if self.done else ""
            print(f"{self.done + 1}/{self.total} [{_clock(elapsed)}{left}] {name}", file=self.stream, flush=True)
        self.done += 1

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.close()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
