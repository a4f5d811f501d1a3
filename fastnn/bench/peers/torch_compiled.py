"""torch.compile, with its default settings but for fixed shapes."""

from __future__ import annotations

import copy
import importlib
import logging
import os
import shutil
import warnings
from collections.abc import Callable
from typing import Any

from fastnn.bench.peers.base import Direction, Job, needed
from fastnn.bench.peers.torch_common import TorchPeer
from fastnn.bench.peers.torch_eager import TorchEager
from fastnn.bench.steps import Network, StepJob
from fastnn.cases import Case, Inputs


class TorchCompiled(TorchPeer):
    """The operations of `TorchEager`, each compiled as a whole; of a training step, the model with its loss.

    The optimizer of a training step is the fused one. Compiling takes seconds for every shape, and a function keeps
    the code for all shapes that it has seen, in a list that every call goes through: so each job starts from an empty
    cache, and those made before it would have to compile again.
    """

    label = "torch.compile"

    @classmethod
    def missing(cls) -> str:
        compiler = os.environ.get("CXX", "g++")  # as torch looks for it
        return super().missing() or ("" if shutil.which(compiler) else f"there is no C++ compiler {compiler}")

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about torch's own code
            importlib.import_module("torch._inductor.compile_fx")
        self.torch._logging.set_logs(all=logging.ERROR)
        self._eager = TorchEager(threads)

    def prepared(self, function: Callable[..., Any]) -> Callable[..., Any]:
        compiled: Callable[..., Any] = self.torch.compile(function, dynamic=False)
        return compiled

    def job(self, case: Case, inputs: Inputs, direction: Direction) -> Job | None:
        self.torch.compiler.reset()
        own = copy.copy(self)
        for op in needed(case):
            if hasattr(self._eager, op):
                setattr(own, op, self.torch.compile(getattr(self._eager, op), dynamic=False, fullgraph=True))
        return super(TorchCompiled, own).job(case, inputs, direction)

    def train_step(self, network: Network, batch: int) -> StepJob | None:
        self.torch.compiler.reset()
        own = copy.copy(self)
        own.implementation = {"fused": True}
        return super(TorchCompiled, own).train_step(network, batch)
