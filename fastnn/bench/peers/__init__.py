"""What is measured beside fastnn, each written as its own users write it.

`PEERS` lists them. A peer's library is imported when the peer is made, never before.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.bench.peers.base import Job, NamespacePeer, Peer
from fastnn.bench.peers.cython_peer import Cython
from fastnn.bench.peers.jax_jit import JaxJit
from fastnn.bench.peers.numba_peer import Numba
from fastnn.bench.peers.numpy_idiomatic import NumpyIdiomatic
from fastnn.bench.peers.numpy_inplace import NumpyInPlace
from fastnn.bench.peers.sklearn_mlp import ScikitLearn
from fastnn.bench.peers.thinc_ops import Thinc
from fastnn.bench.peers.torch_compiled import TorchCompiled
from fastnn.bench.peers.torch_eager import TorchEager, TorchOut
from fastnn.bench.peers.torch_fused import TorchFused

__all__ = ["PEERS", "Job", "NamespacePeer", "Peer", "select"]

PEERS: tuple[type[Peer], ...] = (
    NumpyIdiomatic,
    NumpyInPlace,
    Numba,
    Cython,
    TorchEager,
    TorchOut,
    TorchCompiled,
    TorchFused,
    JaxJit,
    Thinc,
    ScikitLearn,
)


def select(names: Sequence[str] | None = None) -> tuple[type[Peer], ...]:
    """The peers of these names, in the order of `PEERS`; all without names.

    Raises
    ------
    ValueError
        If no peer has one of the names.
    """
    known = list(dict.fromkeys(peer.name for peer in PEERS))
    for name in names or ():
        if name not in known:
            raise ValueError(f"peers: expected some of {', '.join(known)}, got {name!r}")
    return tuple(peer for peer in PEERS if names is None or peer.name in names)
