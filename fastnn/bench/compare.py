"""Two runs side by side: which rows have become slower or faster by more than their noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastnn.bench.digest import measured

__all__ = ["Change", "Comparison", "compare"]

_MACHINE = ("cpu", "cores", "memory_bytes", "l2_bytes", "llc_bytes", "platform", "python", "numpy", "blas")


@dataclass(frozen=True)
class Change:
    """A row whose times before and now do not overlap between their quartiles."""

    old: Mapping[str, Any]
    new: Mapping[str, Any]

    @property
    def ratio(self) -> float:
        """Now over before."""
        return float(self.new["value"] / self.old["value"])

    @property
    def slower(self) -> bool:
        """Whether it is a regression."""
        return self.ratio > 1

    def line(self) -> list[str]:
        """As the table shows it."""
        ranges = [f"{measured(row, row['low'])} .. {measured(row, row['high'])}" for row in (self.old, self.new)]
        row = self.new
        values = [measured(self.old, self.old["value"]), measured(row, row["value"])]
        return [row["name"], row["isa"], *values, f"{self.ratio:.2f}", *ranges]


@dataclass(frozen=True)
class Comparison:
    """What has changed between two runs.

    Parameters
    ----------
    slower, faster : tuples of Change
        The largest change first.
    same : int
        Rows within noise.
    missing : tuple of str
        Rows of the old run that the new one does not have.
    differences : tuple of str
        What else differs: machine, settings, an incomplete run.
    """

    slower: tuple[Change, ...]
    faster: tuple[Change, ...]
    same: int
    missing: tuple[str, ...]
    differences: tuple[str, ...]


def change(old: Mapping[str, Any], new: Mapping[str, Any]) -> Change | None:
    """The change of a row, or None within noise."""
    separate = old["low"] > new["high"] or new["low"] > old["high"]
    return Change(old, new) if separate else None


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["name"], row["isa"]


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Comparison:
    """Compare two reports.

    Parameters
    ----------
    old, new : mapping
        Contents of ``bench.json``.
    """
    before = {_key(row): row for row in old["rows"]}
    common = [(before[_key(row)], row) for row in new["rows"] if _key(row) in before]
    changes = [found for pair in common if (found := change(*pair))]
    now = {_key(row) for row in new["rows"]}
    return Comparison(
        slower=tuple(sorted((c for c in changes if c.slower), key=lambda c: -c.ratio)),
        faster=tuple(sorted((c for c in changes if not c.slower), key=lambda c: c.ratio)),
        same=len(common) - len(changes),
        missing=tuple(f"{name} ({isa})" if isa else name for name, isa in before if (name, isa) not in now),
        differences=tuple(_differences(old, new)),
    )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    pairs = [(key, old["machine"].get(key), new["machine"].get(key)) for key in _MACHINE]
    settings = dict.fromkeys([*old["settings"], *new["settings"]])
    pairs += [(key, old["settings"].get(key), new["settings"].get(key)) for key in settings if key != "isa"]
    lines = [f"{key}: {before} then, {now} now" for key, before, now in pairs if before != now]
    return lines + [
        f"the {which} run is incomplete" for which, run in (("old", old), ("new", new)) if not run["complete"]
    ]
