"""Fine-tuning: learn the digits 0 to 4, keep the body, learn 5 to 9 with a new head; then let the body follow slowly.

Run it with: python examples/fine_tuning.py
"""

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


def train(net, opt, x, labels, epochs):
    loss_fn = fnn.CrossEntropyLoss()
    fit(net, loss_fn, opt, x, labels, epochs=epochs, batch_size=BATCH, explosion=None, progress=False)


def accuracy(net, x, labels):
    return evaluate(net, fnn.CrossEntropyLoss(), x, labels)["accuracy"]


net = Classifier()
x, labels, x_test, labels_test = data(range(5))
train(net, AdamW(net.parameters(), LR), x, labels, epochs=10)
print(f"digits 0-4, from scratch           {accuracy(net, x_test, labels_test):.4f}")

x, labels, x_test, labels_test = data(range(5, 10))
net.head = fnn.Linear(HIDDEN, 5)
print(f"digits 5-9, new head, untrained    {accuracy(net, x_test, labels_test):.4f}")

steps = -(-len(x) // BATCH)
rate = warmup(cosine(LR, 29 * steps), steps)
opt = AdamW(net.parameters(), rate, decay="weights", groups={"body.*": {"lr": scaled(rate, 0.3)}})
opt.freeze("body.*")
net.body.eval()  # its running statistics stay as well
train(net, opt, x, labels, epochs=10)
print(f"digits 5-9, head alone             {accuracy(net, x_test, labels_test):.4f}")

opt.unfreeze("body.*")
net.body.train()
train(net, opt, x, labels, epochs=20)
print(f"digits 5-9, body at 0.3 of the lr  {accuracy(net, x_test, labels_test):.4f}")
print(opt.summary())
