"""Fine-tuning: learn the digits 0 to 4, keep the body, learn 5 to 9 with a new head; then let the body follow slowly.

Run it with: python examples/fine_tuning.py [--out fine_tuning.png]
"""

import argparse

import numpy as np

import fastnn as fnn
from fastnn.data import load_digits
from fastnn.optim import AdamW
from fastnn.schedules import cosine, scaled, warmup
from fastnn.train import evaluate, fit

HIDDEN, BATCH, LR = 64, 32, 3e-3

digits = load_digits()
fnn.manual_seed(0)


def part(images, labels, classes):
    """The images of these five digits as rows, and labels 0 to 4."""
    chosen = np.isin(labels, classes)
    return images[chosen].reshape(-1, 64).astype(np.float32) / 16, labels[chosen] - min(classes)


def data(classes):
    return (
        *part(digits.train_images, digits.train_labels, classes),
        *part(digits.test_images, digits.test_labels, classes),
    )


class Classifier(fnn.Module):
    """A body that finds features, and a head that tells five digits apart."""

    def __init__(self):
        self.body = fnn.Sequential(
            fnn.Linear(64, HIDDEN), fnn.BatchNorm1d(HIDDEN), fnn.ReLU(), fnn.Linear(HIDDEN, HIDDEN), fnn.ReLU()
        )
        self.head = fnn.Linear(HIDDEN, 5)

    def _forward(self, x, training):
        features, of_body = self.body._forward(x, training and self.body.training)
        y, of_head = self.head._forward(features, training)
        return y, (of_body, of_head)

    def _backward(self, dy, saved, *, accumulate, need_dx, reuse):
        of_body, of_head = saved
        trains_body = of_body is not None and self.body.training
        dy = self.head._backward(dy, of_head, accumulate=accumulate, need_dx=trains_body, reuse=reuse)
        if trains_body:
            dy = self.body._backward(dy, of_body, accumulate=accumulate, need_dx=need_dx, reuse=True)
        return dy


def train(net, opt, x, labels, epochs, test=None):
    """Accuracy on the test data after each epoch."""
    loss_fn = fnn.CrossEntropyLoss()
    run = fit(
        net, loss_fn, opt, x, labels, epochs=epochs, batch_size=BATCH, validation=test, explosion=None, progress=False
    )
    return run.history.get("val_accuracy", [])


def accuracy(net, x, labels):
    return evaluate(net, fnn.CrossEntropyLoss(), x, labels)["accuracy"]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="fine_tuning.png", help="the picture")
    parser.add_argument("--quick", action="store_true", help="few epochs")
    options = parser.parse_args(argv)
    of_head, of_body = (2, 2) if options.quick else (10, 20)

    net = Classifier()
    x, labels, *test = data(range(5))
    train(net, AdamW(net.parameters(), LR), x, labels, epochs=10)
    print(f"digits 0-4, from scratch           {accuracy(net, *test):.4f}")

    x, labels, *test = data(range(5, 10))
    net.head = fnn.Linear(HIDDEN, 5)
    tuned = [accuracy(net, *test)]
    print(f"digits 5-9, new head, untrained    {tuned[0]:.4f}")

    steps = -(-len(x) // BATCH)
    rate = warmup(cosine(LR, (of_head + of_body - 1) * steps), steps)
    opt = AdamW(net.parameters(), rate, decay="weights", groups={"body.*": {"lr": scaled(rate, 0.3)}})
    opt.freeze("body.*")
    net.body.eval()  # its running statistics stay as well
    tuned += train(net, opt, x, labels, of_head, test)
    print(f"digits 5-9, head alone             {tuned[-1]:.4f}")

    opt.unfreeze("body.*")
    net.body.train()
    tuned += train(net, opt, x, labels, of_body, test)
    print(f"digits 5-9, body at 0.3 of the lr  {tuned[-1]:.4f}")
    print(opt.summary())

    fresh = Classifier()
    scratch = [accuracy(fresh, *test)]
    opt = AdamW(fresh.parameters(), rate, decay="weights")
    scratch += train(fresh, opt, x, labels, of_head + of_body, test)
    print(f"for comparison, from scratch: digits 5-9 with as many epochs: {scratch[-1]:.4f}")
    draw(tuned, scratch, of_head, options.out)


def draw(tuned, scratch, of_head, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(8, 4.2), layout="constrained")
    ax.axvspan(0, of_head, color="0.93")
    ax.text(of_head / 2, 0.06, "head alone", ha="center")
    ax.text((of_head + len(tuned)) / 2, 0.06, "body as well, at 0.3 of the rate", ha="center")
    ax.plot(tuned, marker=".", label="network that knows 0 to 4")
    ax.plot(scratch, marker=".", label="from scratch")
    ax.set(xlabel="epoch", ylabel="test accuracy on the digits 5 to 9", ylim=(0, 1), xlim=(0, len(tuned) - 1))
    ax.legend(loc="center right", frameon=False)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
