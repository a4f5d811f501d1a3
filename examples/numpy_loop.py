"""A training loop on NumPy arrays, with fastnn doing everything between the matrix products.

Run it with: python examples/numpy_loop.py
"""

import numpy as np

import fastnn as fnn
import fastnn.functional as F
from fastnn.data import load_digits

EPOCHS, BATCH, HIDDEN, LR = 15, 64, 256, 2e-3

digits = load_digits()
x_train = digits.train_images.reshape(-1, 64).astype(np.float32) / 16
x_test = digits.test_images.reshape(-1, 64).astype(np.float32) / 16

numpy_rng = np.random.default_rng(0)
fnn.manual_seed(0)
W1 = numpy_rng.normal(0, 64**-0.5, (64, HIDDEN)).astype(np.float32)
gamma, beta = np.ones(HIDDEN, np.float32), np.zeros(HIDDEN, np.float32)
W2 = numpy_rng.normal(0, HIDDEN**-0.5, (HIDDEN, 10)).astype(np.float32)
b2 = np.zeros(10, np.float32)
running_mean, running_var = np.zeros(HIDDEN, np.float32), np.ones(HIDDEN, np.float32)
params = [W1, gamma, beta, W2, b2]
exp_avgs, exp_avg_sqs = [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]
step = 0


def hidden(x, training):
    state = (running_mean, running_var, gamma, beta)
    return F.batch_norm(x @ W1, *state, training, activation="relu", dropout=0.3)


for epoch in range(EPOCHS):
    order = numpy_rng.permutation(len(x_train))
    for batch in np.split(order, range(BATCH, len(order), BATCH)):
        x, labels = x_train[batch], digits.train_labels[batch]
        h, saved = hidden(x, training=True)
        loss, dlogits = F.softmax_cross_entropy(h @ W2 + b2, labels)
        dz, dgamma, dbeta = F.batch_norm_backward(dlogits @ W2.T, saved)
        grads = [x.T @ dz, dgamma, dbeta, h.T @ dlogits, F.channel_sum(dlogits)]
        step += 1
        corrections = {"bias_correction1": 1 - 0.9**step, "bias_correction2": 1 - 0.999**step}
        F.adam_step(params, grads, exp_avgs, exp_avg_sqs, lr=LR, **corrections)
    predicted = (hidden(x_test, training=False)[0] @ W2 + b2).argmax(axis=1)
    print(f"epoch {epoch + 1:2d}  loss {loss:.4f}  test accuracy {(predicted == digits.test_labels).mean():.4f}")
