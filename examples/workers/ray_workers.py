"""Data-parallel training with Ray: each actor computes the gradients of its part of the batch.

Run it with: pip install 'fastnn-kernels[ray]' && python examples/workers/ray_workers.py
"""

import os
from pathlib import Path

import network
import ray

import fastnn as fnn

TIMEOUT = 60  # seconds that a step may take before it is an error


@ray.remote(num_cpus=1)
class Worker:
    def __init__(self, x, labels):
        fnn.set_num_threads(1)  # the machine's cores are shared out among the workers already
        self.x, self.labels = x, labels  # views of the object store: shared by all workers of this machine, read-only

    def gradients(self, weights, rows, first, step):
        return network.gradients(weights, self.x[rows], self.labels[rows], first, step)


def main():
    args = network.arguments(__doc__)
    os.chdir(Path(__file__).parent)  # where workers look for modules first: a source tree would hide what is installed
    ray.init(num_cpus=args.workers, include_dashboard=False, object_store_memory=200_000_000, logging_level="ERROR")
    try:
        x, labels = map(ray.put, network.data())  # stored once, not sent to each
        workers = [Worker.remote(x, labels) for _ in range(args.workers)]

        def batch_gradients(weights, batch, step):
            stored = ray.put(weights)  # a copy: the driver's own may change
            parts = list(network.shards(batch, args.workers))
            pending = [
                w.gradients.remote(stored, rows, first, step) for w, (first, rows) in zip(workers, parts, strict=True)
            ]
            return network.average(ray.get(pending, timeout=TIMEOUT), [len(rows) for _, rows in parts])

        network.report("Ray", batch_gradients, args)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
