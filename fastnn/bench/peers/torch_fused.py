"""torch with the optimizers that update a tensor in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastnn.bench.peers.base import Direction, Job
from fastnn.bench.peers.torch_common import TorchPeer
from fastnn.cases import Case, Inputs, OptimizerCase


class TorchFused(TorchPeer):
    """Optimizers with ``fused=True``; everything else is as in `TorchEager`."""

    label = "torch fused"
    implementation: Mapping[str, Any] = {"fused": True}

    def job(self, case: Case, inputs: Inputs, direction: Direction) -> Job | None:
        return super().job(case, inputs, direction) if isinstance(case, OptimizerCase) else None
