"""Random bits and masks, bit for bit those of the kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn import random

__all__ = ["random_bits", "random_words", "standard_normal", "threefry4x32"]

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
    words = _words_of_tiles(seed, position, first // 128, -(-(first + size) // 128))
    halves = [half for word in words for half in (word & np.uint32(0xFFFF), word >> np.uint32(16))]
    bits = np.stack(halves, axis=1).astype(np.uint16)  # (tiles, 8 halves, 16 lanes)
    start = first % 128
    return bits.reshape(-1)[start : start + size]


def random_words(seed: int, position: int, first: int, size: int) -> NDArray[np.uint32]:
    """32 random bits for each of the elements ``first, ..., first + size - 1`` of one stream.

    Elements come in tiles of 64 = 4 words x 16 lanes, whose counters are those of `random_bits`: element
    ``64 t + 16 j + l`` takes word j of lane l of tile t.

    Returns
    -------
    uint32 array of shape (size,)
    """
    words = np.stack(_words_of_tiles(seed, position, first // 64, -(-(first + size) // 64)), axis=1)
    start = first % 64
    return words.reshape(-1)[start : start + size]


def standard_normal(seed: int, position: int, first: int, size: int, dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """Normally distributed numbers for the elements ``first, ..., first + size - 1`` of one stream.

    Elements in pairs, ``64 t + 32 j + l`` and ``64 t + 32 j + 16 + l``, take r cos(angle) and r sin(angle) of their
    words a and b of `random_words`: ``r = sqrt(-2 log u)`` with ``u = (a // 2 + 1/2) / 2**31``, and the angle is
    uniform: the lower 30 bits of b are a number within pi/4 of 0, bit 30 reflects it at pi/4, bit 31 adds pi.

    G. E. P. Box, M. E. Muller: A note on the generation of random normal deviates (1958).  Since u has 31 bits, the
    largest numbers are ``sqrt(64 log 2) = 6.66``.

    Returns
    -------
    array of `dtype`, shape (size,)
    """
    begin, end = first // 32 * 32, -(-(first + size) // 32) * 32
    pairs = random_words(seed, position, begin, end - begin).reshape(-1, 2, 16)
    a, b = pairs[:, 0], pairs[:, 1]
    kind: np.dtype[Any] = np.dtype(dtype)
    quarter = np.arctan(kind.type(1))  # pi / 4
    # Where u is near 1, 1 - u has the digits that its logarithm needs.
    u, rest = ((half.astype(kind) + kind.type(0.5)) / 2**31 for half in (a >> 1, ~a >> 1))
    log_u = np.where(rest < u, np.log1p(-rest), np.log(u))
    r = np.sqrt(-2 * log_u) * np.where(b >> 31, -1, 1)
    angle = ((b << np.uint32(2)).astype(np.int32).astype(kind) + 2) / 2**31 * quarter
    angle = np.where(b >> 30 & 1, 2 * quarter - angle, angle)
    z: NDArray[Any] = np.stack((r * np.cos(angle), r * np.sin(angle)), axis=1).astype(kind)
    return z.reshape(-1)[first - begin : first - begin + size]


def _words_of_tiles(seed: int, position: int, begin: int, end: int) -> tuple[NDArray[np.uint32], ...]:
    """The four words of the tiles begin, ..., end - 1: arrays of shape (tiles, 16 lanes)."""
    tiles = np.arange(begin, end, dtype=np.uint64)
    block = tiles[:, np.newaxis] * np.uint64(16) + np.arange(16, dtype=np.uint64)
    low = np.uint64(0xFFFF_FFFF)
    return threefry4x32(
        (block & low, block >> np.uint64(32), 0, 0),
        (seed & 0xFFFF_FFFF, seed >> 32, position & 0xFFFF_FFFF, position >> 32),
    )


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
