"""What is measured beside fastnn, each written as its own users write it.

A peer is a class whose methods have the names and the arguments of `fastnn.functional`, so that a row of the
case table runs on it unchanged; an operation it lacks is absent from its column. `PEERS` lists them.

Attributes of a peer
--------------------
label : str
    Column heading.
missing : str
    Why it cannot run here; empty if it can.
draw_mask : callable
    ``(rng, shape, p, dtype)`` -> bool array, True where dropout keeps. Each peer draws with its own
    generator; the check of its answers replaces this by the mask that the reference uses.
"""

from __future__ import annotations

from typing import Any, Protocol

from fastnn.bench.peers.numpy_idiomatic import NumpyIdiomatic
from fastnn.bench.peers.numpy_inplace import NumpyInPlace


class Peer(Protocol):
    """What the harness needs of a peer, beside its operations."""

    label: str
    missing: str

    def draw_mask(self, rng: Any, shape: tuple[int, ...], p: float, dtype: Any) -> Any: ...


PEERS: tuple[type[Peer], ...] = (NumpyIdiomatic, NumpyInPlace)
