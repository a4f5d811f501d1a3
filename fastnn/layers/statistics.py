"""Exact statistics for batch norm, after training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import _backend
from fastnn._convert import as_array
from fastnn.layers.module import Module
from fastnn.layers.norm import BatchNorm, Observer

__all__ = ["recalibrate"]


class _Moments:
    """Mean and sum of squared deviations per channel over all batches so far, in float64."""

    def __init__(self, channels: int) -> None:
        self.batches = 0
        self.n = 0
        self.mean = np.zeros(channels)
        self.m2 = np.zeros(channels)

    def add(self, n: int, mean: NDArray[Any], var: NDArray[Any]) -> None:
        """Merge a batch of `n` values per channel by the formula of Chan, Golub and LeVeque (1979)."""
        total, delta = self.n + n, mean - self.mean
        self.mean += delta * (n / total)
        self.m2 += var * n + np.square(delta) * (self.n * n / total)
        self.n = total
        self.batches += 1

    def store(self, layer: BatchNorm) -> None:
        if self.n < 2:
            raise ValueError(f"batches: expected at least two values per channel in all, got {self.n}")
        layer.running_mean[...] = self.mean
        layer.running_var[...] = self.m2 / (self.n - layer.running_ddof)
        layer.num_batches_tracked[...] = self.batches


class _Reached(Exception):
    """Ends a forward pass at the layer that was to be reached."""


def recalibrate(net: Module, batches: Iterable[Any], *, exact: bool = True) -> None:
    """Replace the running statistics of batch norm by those of a whole data set.

    Running averages lag behind the weights, and mix batches of different states of the network.  After training, the
    statistics of the data under the final weights can be computed: mean and variance pooled over all batches, merged in
    float64 by Chan's formula, the variance over n - running_ddof.

    What reaches a batch norm layer depends on the layers before, which use their new statistics.  So exact statistics
    take one pass over the data for each layer, the k-th as far as the k-th layer: as if the data were one batch.  The
    answer is the same however the data are cut into batches.  With ``exact=False`` it takes one pass in all, in
    which every layer normalises by the batch at hand as in training: the first layer is exact, later ones are nearly.

    Parameters
    ----------
    net : Module
        Its frozen layers and everything but running statistics (and `num_batches_tracked`) stay as they are.  Whatever
        its mode, other layers compute as in inference: dropout is off.
    batches : iterable of x, or of tuples (x, ...)
        To be iterated several times, so a list or an object whose ``__iter__`` starts afresh; a generator will do for
        one pass.
    exact : bool, default True

    Raises
    ------
    ValueError
        For a generator where several passes are needed, no batches or other ones in a later pass, and statistics that
        are not finite; the running statistics are then as they were.

    Examples
    --------
    >>> fastnn.recalibrate(net, [(x[i : i + 1000], y[i : i + 1000]) for i in range(0, len(x), 1000)])
    """
    modules = dict.fromkeys(net.modules())
    pending = [module for module in modules if isinstance(module, BatchNorm) and not module.frozen]
    if exact and len(pending) > 1 and isinstance(batches, Iterator):
        raise ValueError(
            f"batches: expected to be iterated {len(pending)} times, once for each batch norm layer, got "
            f"{type(batches).__name__}, which is used up after one pass; give list(batches), or exact=False"
        )
    before = [
        (array, array.copy())
        for layer in pending
        for array in (layer.running_mean, layer.running_var, layer.num_batches_tracked)
    ]
    samples = None
    try:
        while pending:
            found, count = _observe(net, batches, pending, exact)
            if samples not in (None, count):
                raise ValueError(
                    f"batches: expected the same data in every pass, got {count} samples after {samples}; "
                    "give a list, or an object whose __iter__ starts afresh"
                )
            samples = count
            if not found:  # layers that no forward pass reaches
                break
            for layer, moments in found.items():
                moments.store(layer)
                pending.remove(layer)
    except BaseException:
        for array, values in before:
            array[...] = values
        raise


def _observe(
    net: Module, batches: Iterable[Any], layers: list[BatchNorm], first: bool
) -> tuple[dict[BatchNorm, _Moments], int]:
    """Moments of those `layers` that the batches reach, or of the first that they reach; and the number of samples."""
    found: dict[BatchNorm, _Moments] = {}

    def observer(layer: BatchNorm) -> Observer:
        def observe(x: NDArray[Any], extra: dict[str, Any]) -> NDArray[Any]:
            y, n, mean, var = _normalise_by_batch(layer, x, extra)
            found.setdefault(layer, _Moments(layer.num_features)).add(n, mean, var)
            if first:
                raise _Reached
            return y

        return observe

    samples = 0
    try:
        for layer in layers:
            layer._observer = observer(layer)
        for batch in batches:
            x = as_array("batches", batch[0] if isinstance(batch, (tuple, list)) else batch)
            with suppress(_Reached):
                net._forward(x, False)
            samples += len(x)
    finally:
        for layer in layers:
            layer._observer = None
    if not samples:
        raise ValueError("batches: expected at least one sample in every pass, got none")
    return found, samples


def _normalise_by_batch(
    layer: BatchNorm, x: NDArray[Any], extra: dict[str, Any]
) -> tuple[NDArray[Any], int, NDArray[Any], NDArray[Any]]:
    """Output as in training, number of values per channel, their mean and variance."""
    n = x.size // layer.num_features
    alone = n == 1  # batch norm asks for two values: the same one twice has the same moments
    mean, var = np.zeros((2, layer.num_features))
    y, _ = _backend.ops.batch_norm(
        np.stack((x.reshape(-1), x.reshape(-1))) if alone else x,
        mean,
        var,
        *layer.affine_arrays(),
        True,
        1.0,
        layer.eps,
        channel_axis=1 if alone else layer.channel_axis,
        running_ddof=0,
        **(extra | {"out": None}),
    )
    return y[0].reshape(x.shape) if alone else y, n, mean, var
