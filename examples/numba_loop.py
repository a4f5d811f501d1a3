"""A training loop that numba compiles whole: between the matrix products it calls fastnn's kernels, and no Python.

Run it with: python examples/numba_loop.py (it needs numba, and SciPy, which numba's matrix products need)
"""

import ctypes
from ctypes import c_double, c_int, c_int64, c_size_t

import numpy as np
from numba import njit
from numba.extending import get_cython_function_address

from fastnn.data import load_digits

EPOCHS, BATCH, HIDDEN, LR = 15, 64, 256, 0.2


def kernel(name, *arguments):
    """A function of fastnn.kernels as numba can call it. Its pointers are `array.ctypes.data` here, 0 for NULL."""
    return ctypes.CFUNCTYPE(c_int, *arguments)(get_cython_function_address("fastnn.kernels", name))


pointer = c_size_t
VIEW = (c_int64, c_int64, c_int64)  # outer, channels, inner
activation_id = kernel("activation_id", ctypes.c_char_p)
bias_act = kernel("bias_act_f32", *[pointer] * 5, *VIEW)
bias_act_backward = kernel("bias_act_backward_f32", *[pointer] * 2, c_int, *[pointer] * 5, *VIEW)
channel_sum = kernel("channel_sum_f32", *[pointer] * 2, *VIEW)
cross_entropy = kernel("softmax_cross_entropy_f32", *[pointer] * 4, c_int64, c_int64)

# fastnn_epilogue of fastnn.h
EPILOGUE = np.dtype(
    {
        "names": ["activation", "p0", "p1", "dropout", "seed", "position", "first"],
        "formats": [c_int, c_double, c_double, c_double, np.uint64, np.uint64, np.int64],
    },
    align=True,
)


@njit
def train(x, labels, batches, W1, b1, W2, b2, tail, lr):
    """SGD on relu and dropout behind x @ W1 + b1, then W2 and b2. Returns the last loss; NaN if a kernel refused."""
    rows, hidden, classes = batches.shape[1], *W2.shape
    h, logits = np.empty((rows, hidden), np.float32), np.empty((rows, classes), np.float32)
    dlogits, dz, db1, db2 = np.empty_like(logits), np.empty_like(h), np.empty_like(b1), np.empty_like(b2)
    loss, target, status = np.empty(1), np.empty(rows, np.int64), 0
    for step in range(len(batches)):
        tail[0].position = step  # of the random stream: other elements are dropped in each step
        batch = x[batches[step]]
        target[:] = labels[batches[step]]
        z = batch @ W1
        status |= bias_act(z.ctypes.data, b1.ctypes.data, 0, tail.ctypes.data, h.ctypes.data, rows, hidden, 1)
        logits[:] = h @ W2
        status |= bias_act(logits.ctypes.data, b2.ctypes.data, 0, 0, logits.ctypes.data, rows, classes, 1)
        status |= cross_entropy(
            logits.ctypes.data, target.ctypes.data, dlogits.ctypes.data, loss.ctypes.data, rows, classes
        )
        status |= channel_sum(dlogits.ctypes.data, db2.ctypes.data, rows, classes, 1)
        dh = dlogits @ W2.T
        status |= bias_act_backward(
            dh.ctypes.data, z.ctypes.data, 0, b1.ctypes.data, 0, tail.ctypes.data, dz.ctypes.data, db1.ctypes.data,
            rows, hidden, 1,
        )  # fmt: skip
        W2 -= lr * (h.T @ dlogits)
        b2 -= lr * db2
        W1 -= lr * (batch.T @ dz)
        b1 -= lr * db1
    return loss[0] if status == 0 else np.nan


def main():
    digits = load_digits()
    x_train = digits.train_images.reshape(-1, 64).astype(np.float32) / 16
    x_test = digits.test_images.reshape(-1, 64).astype(np.float32) / 16
    rng = np.random.default_rng(0)
    W1 = rng.normal(0, 32**-0.5, (64, HIDDEN)).astype(np.float32)
    W2 = rng.normal(0, HIDDEN**-0.5, (HIDDEN, 10)).astype(np.float32)
    b1, b2 = np.zeros(HIDDEN, np.float32), np.zeros(10, np.float32)
    tail = np.zeros(1, EPILOGUE)
    tail["activation"], tail["dropout"], tail["seed"] = activation_id(b"relu"), 0.2, 7

    steps = len(x_train) // BATCH
    batches = np.concatenate([rng.permutation(len(x_train))[: steps * BATCH] for _ in range(EPOCHS)])
    batches = batches.reshape(-1, BATCH)
    loss = train(x_train, digits.train_labels.astype(np.int64), batches, W1, b1, W2, b2, tail, np.float32(LR))
    predicted = (np.maximum(x_test @ W1 + b1, 0) @ W2 + b2).argmax(axis=1)
    print(f"{len(batches)} steps  loss {loss:.4f}  test accuracy {(predicted == digits.test_labels).mean():.4f}")


if __name__ == "__main__":
    main()
