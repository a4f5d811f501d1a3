"""Data-parallel training with Dask: each worker computes the gradients of its part of the batch.

Run it with: pip install 'fastnn-kernels[dask]' && python examples/workers/dask_workers.py
"""

import network
from dask.distributed import Client, LocalCluster

import fastnn as fnn

TIMEOUT = 60  # seconds that a step may take before it is an error


def part_gradients(weights, x, labels, rows, first, step):
    return network.gradients(weights, x[rows], labels[rows], first, step)


def main():
    args = network.arguments(__doc__)
    options = {"processes": True, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(n_workers=args.workers, **options) as cluster, Client(cluster) as client:
        client.run(fnn.set_num_threads, 1)  # the machine's cores are shared out among the workers already
        names = list(client.scheduler_info(n_workers=-1)["workers"])
        x, labels = client.scatter(network.data(), broadcast=True)  # once, to all

        def batch_gradients(weights, batch, step):
            (sent,) = client.scatter([weights], broadcast=True, hash=False)
            parts = list(network.shards(batch, args.workers))
            pending = [
                client.submit(part_gradients, sent, x, labels, rows, first, step, workers=[name], pure=False)
                for name, (first, rows) in zip(names, parts, strict=True)
            ]
            return network.average([p.result(timeout=TIMEOUT) for p in pending], [len(rows) for _, rows in parts])

        network.report("Dask", batch_gradients, args)


if __name__ == "__main__":
    main()
