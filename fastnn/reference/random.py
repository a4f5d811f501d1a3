"""Random bits and masks, bit for bit those of the kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import random

__all__ = ["random_bits", "threefry4x32"]

_ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))


def threefry4x32(counter: Sequence[Any], key: Sequence[int], rounds: int = 13) -> tuple[NDArray[np.uint32], ...]:
    """Threefry-4x32: four random 32-bit words from a 128-bit counter and a 128-bit key.

    J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011).

    Parameters
    ----------
    counter : four integers or uint32 arrays that broadcast together
    key : four integers in [0, 2**32)
    rounds : int, default 13

    Returns
    -------
    tuple of four uint32 arrays of the broadcast shape
    """
    k = [np.uint32(word) for word in key]
    k.append(np.bitwise_xor.reduce(np.array([0x1BD11BDA, *k], np.uint32)))
    # at least 1-D, because NumPy warns of wrap-around in scalars only
    words = np.broadcast_arrays(*(np.atleast_1d(np.asarray(word, np.uint32)) for word in counter))
    x = [word + k[i] for i, word in enumerate(words)]
    for r in range(rounds):
        pairs = ((0, 1), (2, 3)) if r % 2 == 0 else ((0, 3), (2, 1))
        for (a, b), rotation in zip(pairs, _ROTATIONS[r % 8], strict=True):
            x[a] = x[a] + x[b]
            x[b] = (x[b] << np.uint32(rotation) | x[b] >> np.uint32(32 - rotation)) ^ x[a]
        if r % 4 == 3:
            injection = (r + 1) // 4
            for i in range(4):
                x[i] = x[i] + k[(injection + i) % 5]
            x[3] = x[3] + np.uint32(injection)
    shape = np.broadcast_shapes(*(np.shape(word) for word in counter))
    return tuple(word.reshape(shape) for word in x)


def random_bits(seed: int, position: int, first: int, size: int) -> NDArray[np.uint16]:
    """16 random bits for each of the elements ``first, ..., first + size - 1`` of one stream.

    Elements come in tiles of 128 = 4 words x 2 halves x 16 lanes.  Lane l of tile t encrypts the counter
    (b mod 2**32, b // 2**32, 0, 0), b = 16 t + l, under the key (seed, position), low words first; element
    ``128 t + 32 j + 16 h + l`` takes half h (low half first) of word j.

    Returns
    -------
    uint16 array of shape (size,)
    """
    tiles = np.arange(first // 128, -(-(first + size) // 128), dtype=np.uint64)
    block = tiles[:, np.newaxis] * np.uint64(16) + np.arange(16, dtype=np.uint64)
    low = np.uint64(0xFFFF_FFFF)
    words = threefry4x32(
        (block & low, block >> np.uint64(32), 0, 0),
        (seed & 0xFFFF_FFFF, seed >> 32, position & 0xFFFF_FFFF, position >> 32),
    )
    halves = [half for word in words for half in (word & np.uint32(0xFFFF), word >> np.uint32(16))]
    bits = np.stack(halves, axis=1).astype(np.uint16)  # (tiles, 8 halves, 16 lanes)
    start = first % 128
    return bits.reshape(-1)[start : start + size]


def draw_mask(
    shape: tuple[int, ...], p: float, rng: random.Generator | None, first: int
) -> tuple[NDArray[np.bool_], float]:
    """Which elements dropout keeps, and the factor that keeps their expectation."""
    threshold = random.keep_threshold(p)
    if threshold == 65536:
        return np.ones(shape, np.bool_), 1.0
    seed, position = (random.default_generator if rng is None else rng).draw()
    if threshold == 0:
        return np.zeros(shape, np.bool_), 0.0
    keep = random_bits(seed, position, first, math.prod(shape)) < threshold
    return keep.reshape(shape), 65536 / threshold
