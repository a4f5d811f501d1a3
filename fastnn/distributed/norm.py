"""Batch normalisation over the batch of all processes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn.distributed.world import World, world
from fastnn.layers.norm import BatchNorm

__all__ = ["SyncBatchNorm"]


class SyncBatchNorm(BatchNorm):
    """Batch normalisation over the batch of all processes, for inputs of two to five dimensions.

    Parameters
    ----------
    num_features, eps, momentum, affine
        As in `fastnn.BatchNorm1d`.
    among : World, optional
        Default: `world()`, at the first use.
    **options
        As in `fastnn.BatchNorm1d`: `channel_axis`, `nonfinite` and the others.

    Notes
    -----
    The mean and the sum of squared deviations of the leaves of each share are merged in float64 by Chan's formula,
    on the tree on which one process merges those of the whole batch; backward sums likewise.  Where the share of each
    process but the last is a whole number of leaves, the result is that of one process, bit for bit.  Other shares
    count by their numbers of elements, and the result is exact up to rounding.

    The gradients of weight and bias are those of all processes at once; `DataParallel` does not sum them again.

    Raises
    ------
    ValueError
        In training, in all processes, if their numbers of channels differ.
    TimeoutError, RuntimeError
        Where a process does not answer: see `World.wait`.
    """

    _ndims = (2, 3, 4, 5)
    _shapes = "of two to five dimensions"

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        among: World | None = None,
        dtype: DTypeLike = np.float32,
        **options: Any,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, dtype=dtype, **options)
        self.among = among

    @property
    def synchronised(self) -> bool:
        """Whether several processes share the statistics of a training pass."""
        return not self.frozen and (self.among or world()).size > 1

    def normalise(
        self, x: NDArray[Any], training: bool, *, own: bool = False, **extra: Any
    ) -> tuple[NDArray[Any], Any]:
        if training and self.synchronised:
            extra["across"] = _Merge(self.among or world())
        return super().normalise(x, training, own=own, **extra)


class _Merge:
    """The `across` of `fastnn.functional.batch_norm`."""

    def __init__(self, among: World) -> None:
        self.among = among

    def __call__(
        self, parts: NDArray[np.float64], counts: NDArray[np.float64], moments: bool
    ) -> tuple[NDArray[np.float64], float]:
        leaves, _, channels = parts.shape
        rows = self.among.gather(np.array([leaves, channels, moments], np.int64))
        if (rows[:, 1:] != rows[0, 1:]).any():
            raise ValueError(
                f"x: expected the same layer in all processes, got {rows[:, 1].tolist()} channels in them, "
                f"in forward passes (1) or backward passes (0) {rows[:, 2].tolist()}"
            )
        unit = _unit(rows[:, 0])
        rounds = unit.bit_length() - 1
        parts, counts = merge(parts, counts, moments, rounds)
        packed = np.concatenate((parts.reshape(len(parts), -1), counts[:, None]), axis=1)
        every = self.among.gather_rows(packed, -(-rows[:, 0] // unit))
        merged, total = merge(every[:, :-1].reshape(-1, 2, channels), every[:, -1].copy(), moments)
        return merged[0], float(total[0])


def _unit(leaves: NDArray[np.int64]) -> int:
    """Leaves in the largest subtrees that begin where the shares do: a power of two."""
    starts = np.cumsum(leaves)[:-1]
    alignment = int(np.bitwise_or.reduce(starts))
    return alignment & -alignment


def merge(
    parts: NDArray[np.float64], counts: NDArray[np.float64], moments: bool, rounds: int = 63
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Neighbours merged in `rounds`, which is how the reduction tree of the kernels does, and with its operations."""
    with np.errstate(all="ignore"):  # statistics that are not finite are dealt with where they are used
        while rounds > 0 and len(parts) > 1:
            pairs = len(parts) // 2 * 2
            left, right = parts[:pairs:2], parts[1:pairs:2]
            n = counts[:pairs:2] + counts[1:pairs:2]
            both = left + right
            if moments:  # Chan, Golub, LeVeque (1979)
                share = counts[1:pairs:2] / n
                weight = counts[:pairs:2] * share
                delta = right[:, 0] - left[:, 0]
                both[:, 0] = left[:, 0] + delta * share[:, None]
                both[:, 1] += delta * delta * weight[:, None]
            parts = np.concatenate((both, parts[pairs:]))
            counts = np.concatenate((n, counts[pairs:]))
            rounds -= 1
    return parts, counts
