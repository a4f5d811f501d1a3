"""Training on several processes over MPI: each has its share of the batch, and all have the same weights.

``pip install 'fastnn-kernels[mpi]'``, then ``mpiexec -n 4 python train.py``.  The same script runs on one process
without either.  Batch statistics and dropout masks are those of one process, bit for bit, where shares are whole leaves
of the reduction tree: see docs/distributed.md.
"""

from __future__ import annotations

from fastnn.distributed.norm import SyncBatchNorm
from fastnn.distributed.parallel import DataParallel
from fastnn.distributed.world import World, load_checkpoint, save_checkpoint, start, world

__all__ = ["DataParallel", "SyncBatchNorm", "World", "load_checkpoint", "save_checkpoint", "world"]

start()
