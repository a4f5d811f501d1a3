"""Scaling of fastnn.distributed: time of a step and bytes sent, on 1, 2 and 4 processes of this machine.

Run it with: python bench/distributed.py [--ranks 1 2 4] [--steps 30]
The batch of all processes together stays the same (strong scaling); each has one thread.
"""

import argparse
import itertools
import os
import subprocess
import sys
import time

BATCH, INPUTS, HIDDEN, LAYERS = 1024, 256, 512, 3


def measure(steps):
    import numpy as np

    import fastnn as fnn
    from fastnn.distributed import DataParallel, SyncBatchNorm, world

    widths = [INPUTS] + [HIDDEN] * LAYERS
    hidden = [
        layer
        for n, m in itertools.pairwise(widths)
        for layer in (fnn.Linear(n, m), SyncBatchNorm(m), fnn.ReLU(), fnn.Dropout(0.2))
    ]
    model, loss_fn = DataParallel(fnn.Sequential(*hidden, fnn.Linear(HIDDEN, 10))), fnn.CrossEntropyLoss()
    opt = fnn.optim.SGD(model.parameters(), lr=0.01)
    rng, mine = np.random.default_rng(0), world().share(BATCH)
    x, y = rng.standard_normal((BATCH, INPUTS), np.float32)[mine], rng.integers(0, 10, BATCH)[mine]
    times, sent = [], 0
    for _ in range(steps):
        world().barrier()
        before, start = world().sent, time.perf_counter()
        loss_fn(model(x), y)
        model.backward(loss_fn.backward(), need_dx=False)
        opt.step()
        times.append(time.perf_counter() - start)
        sent = world().sent - before
    if world().rank == 0:
        # Every gradient once, and of each batch norm two numbers a channel in each direction.
        least = sum(p.data.nbytes for p in model.parameters()) if world().size > 1 else 0
        least -= 2 * 4 * HIDDEN * LAYERS if world().size > 1 else 0  # its weight and bias, which go as sums
        least += 2 * 2 * 8 * HIDDEN * LAYERS if world().size > 1 else 0
        print(f"{world().size:5d}  {np.median(times) * 1e3:9.2f}  {min(times) * 1e3:9.2f}  {sent:10d}  {least:10d}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--mpiexec", default="mpiexec")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return measure(options.steps)
    print("ranks  median ms     min ms  bytes sent     minimum", flush=True)
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "FASTNN_NUM_THREADS"), "1")
    for ranks in options.ranks:
        command = [sys.executable, __file__, "--worker", "--steps", str(options.steps)]
        if ranks > 1:
            command = [options.mpiexec, "-n", str(ranks), *command]
        subprocess.run(command, check=True, env=os.environ | one)
    return None


if __name__ == "__main__":
    main()
