"""Training on several processes over MPI, each with its share of every batch: fastnn-kernels[mpi].

Run it with: mpiexec -n 2 python examples/distributed.py [--out distributed.png] [--checkpoint run.npz]
or without mpiexec, on one process.
"""

import argparse
import time
from pathlib import Path

import numpy as np

import fastnn as fnn
from fastnn.data import load_digits
from fastnn.distributed import DataParallel, SyncBatchNorm, load_checkpoint, save_checkpoint, world
from fastnn.train import accuracy

EPOCHS, BATCH, HIDDEN, LR = 15, 128, 256, 3e-3


def network():
    return fnn.Sequential(
        *(fnn.Linear(64, HIDDEN), SyncBatchNorm(HIDDEN), fnn.ReLU(), fnn.Dropout(0.3)),
        *(fnn.Linear(HIDDEN, HIDDEN), SyncBatchNorm(HIDDEN), fnn.ReLU(), fnn.Dropout(0.3)),
        fnn.Linear(HIDDEN, 10),
    )


def train(epochs=EPOCHS, checkpoint=None):
    """Losses and test accuracies of the epochs, the same in every process."""
    digits = load_digits()
    x, x_test = (images.reshape(-1, 64).astype(np.float32) / 16 for images in (digits.train_images, digits.test_images))
    y, y_test = digits.train_labels, digits.test_labels
    fnn.manual_seed(0)
    model, loss_fn = DataParallel(network()), fnn.CrossEntropyLoss()
    opt = fnn.optim.Adam(model.parameters(), lr=LR)
    if checkpoint and world().mean({"there": Path(checkpoint).exists()}, int(world().rank == 0))["there"]:
        load_checkpoint(checkpoint, model=model, opt=opt)  # rank 0 reads it
    losses, accuracies = [], []
    for epoch in range(epochs):
        order = np.random.default_rng(epoch).permutation(len(x))  # the same in every process
        total, steps = 0.0, len(x) // BATCH
        for step in range(steps):
            mine = order[step * BATCH : (step + 1) * BATCH][world().share(BATCH)]
            total += float(loss_fn(model(x[mine]), y[mine]))
            model.backward(loss_fn.backward(), need_dx=False)
            opt.step()
        test = world().share(len(x_test))
        measured = {"accuracy": accuracy(model.predict(x_test[test]), y_test[test])}
        accuracies.append(world().mean(measured, len(y_test[test]))["accuracy"])
        losses.append(world().mean({"loss": total / steps}, BATCH)["loss"])
    if checkpoint:
        save_checkpoint(checkpoint, model=model, opt=opt)
    return losses, accuracies


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="distributed.png", help="the picture")
    parser.add_argument("--quick", action="store_true", help="three epochs")
    parser.add_argument("--checkpoint", metavar="FILE", help="continue from it if it is there; store the state in it")
    options = parser.parse_args(argv)
    start = time.perf_counter()
    losses, accuracies = train(3 if options.quick else EPOCHS, options.checkpoint)
    seconds = time.perf_counter() - start
    if world().rank == 0:
        for epoch in range(0, len(losses), 2):
            print(f"epoch {epoch + 1:2d}: loss {losses[epoch]:.4f}, test accuracy {accuracies[epoch]:.4f}")
        print(f"{world().size} process(es), {seconds:.1f} s, {world().sent / 1e6:.1f} MB sent by each")
        draw(losses, accuracies, options.out)


def draw(losses, accuracies, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    epochs = range(1, len(losses) + 1)
    for ax, values, title in zip(axes, (losses, accuracies), ("Training loss", "Test accuracy"), strict=True):
        ax.plot(epochs, values, marker=".")
        ax.set(xlabel="epoch", title=title)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
