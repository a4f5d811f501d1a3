"""Which peers run, which cannot and why, and whose answers have been checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import fastnn
from fastnn.bench import checks, peers
from fastnn.bench.ceilings import Ceilings
from fastnn.bench.harness import Settings
from fastnn.bench.peers import Peer
from fastnn.bench.peers.base import Direction
from fastnn.cases import Case

__all__ = ["Bench", "Entry", "Lineup", "needs_cap"]


def needs_cap(isa: str) -> bool:
    """Whether peers would use more of this machine than fastnn does at this level, and can be held to it: AVX2."""
    return isa == "v3" and "v4" in fastnn.available_isas()


@dataclass
class Entry:
    """One peer of a run.

    Parameters
    ----------
    peer : type of Peer
    asked : bool
        Whether ``--peers`` includes it.
    reason : str
        Why it is absent; empty if it runs.
    version : str
        Of the library; empty where there is none, or nobody has asked for it.
    instance : Peer or None
        None unless it runs.
    checked : dict
        Whether it has an operation at a shape, or what is wrong with its answer.
    """

    peer: type[Peer]
    asked: bool
    reason: str = ""
    version: str = ""
    instance: Peer | None = None
    checked: dict[tuple[str, str, Any], bool | str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Column heading."""
        return self.peer.label

    @property
    def state(self) -> str:
        """As ``bench.json`` has it."""
        return "not asked" if not self.asked else "absent" if self.reason else "measured"

    def start(self, threads: int) -> None:
        """Import the library; if that fails, the reason is kept."""
        self.reason = self.peer.missing()
        if self.reason:
            return
        self.version = self.peer.version()
        try:
            self.instance = self.peer(threads)
        except Exception as error:  # whatever a foreign library raises must not end the run
            self.reason = f"does not start: {_text(error)}"

    def answers(self, case: Case, shape: Any, direction: Direction) -> bool | str:
        """Whether it has the operation; or, if its answer is wrong or it fails, what is wrong."""
        key = (case.name, direction, shape)
        if key not in self.checked:
            assert self.instance is not None
            try:
                self.checked[key] = checks.check_peer(self.instance, case, shape, direction)
            except AssertionError as error:
                self.checked[key] = str(error)
            except Exception as error:
                self.checked[key] = f"{self.label}: {_text(error)}"
        return self.checked[key]


class Lineup:
    """The peers of a run.

    Parameters
    ----------
    names : sequence of str, or None
        What ``--peers`` names; None for all.
    threads : int
        Threads for each.
    capped : bool
        Whether this process was started with the environment that holds peers to AVX2.

    Raises
    ------
    ValueError
        If a name is unknown.
    """

    def __init__(self, names: Sequence[str] | None, threads: int, capped: bool = False) -> None:
        asked = peers.select(names)
        self.capped = capped
        self.entries = [Entry(peer, peer in asked) for peer in peers.PEERS]
        for entry in self.entries:
            if entry.asked:
                entry.start(threads)

    def __iter__(self) -> Iterator[Entry]:
        """Those that run."""
        return (entry for entry in self.entries if entry.instance is not None)

    def nobody(self) -> Lineup:
        """No peers, for what is measured without them."""
        other = copy(self)
        other.entries = []
        return other

    def with_threads(self, threads: int) -> Lineup:
        """The same peers, which from now on have this many threads, as far as their libraries let them change it."""
        other = copy(self)
        other.entries = [replace(entry) for entry in self.entries]
        for entry in other:
            entry.start(threads)
        return other

    def holds(self, peer: type[Peer], isa: str) -> bool:
        """Whether the peer uses no more instructions than fastnn does at this level."""
        if isa == fastnn.available_isas()[0]:
            return True
        return needs_cap(isa) and peer.cap is not None and (self.capped or not peer.cap)

    def as_json(self, isa: str) -> list[dict[str, Any]]:
        """As ``bench.json`` has it."""
        return [
            {
                "name": entry.peer.name,
                "label": entry.label,
                "version": entry.version,
                "state": entry.state,
                "reason": entry.reason,
                "capped": {isa: self.holds(entry.peer, isa)},
            }
            for entry in self.entries
        ]


@dataclass(frozen=True)
class Bench:
    """What a row needs to be measured."""

    settings: Settings
    ceilings: Ceilings
    lineup: Lineup


def _text(error: Exception) -> str:
    """The first line of an error, with its type."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
