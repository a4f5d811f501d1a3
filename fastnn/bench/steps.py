"""Whole training steps: the networks, fastnn's own step, and what every peer's step is checked against."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import fastnn
from fastnn import reference

__all__ = ["NETWORKS", "Network", "StepJob", "check", "fastnn_step", "reference_step"]

Array = NDArray[Any]

EPS = 1e-5
"""Of every batch norm."""


@dataclass(frozen=True)
class Network:
    """A multi-layer perceptron for classification, trained by Adam with its usual betas and eps.

    After every product but the last come batch norm, the activation and dropout, as far as it has them. Every
    product has a bias, also before batch norm, as users write it.

    Convolutions may come first, of 3 x 3 pixels with padding 1. They end with max pooling of 2 x 2 pixels, the last of
    them with the mean of each channel.

    Parameters
    ----------
    name : str
        As the rows show it.
    sizes : tuple of int
        Features from input to output.
    batches : tuple of int
        Batch sizes that are measured.
    channels : tuple of int
        From the images to the last convolution, if there are any.
    pixels : int
        Height and width of the images.
    batch_norm : bool
    activation : str
        Name of an activation.
    dropout : float
        Probability to drop.
    lr : float
        Learning rate.
    """

    name: str
    sizes: tuple[int, ...]
    batches: tuple[int, ...]
    channels: tuple[int, ...] = ()
    pixels: int = 28
    batch_norm: bool = False
    activation: Literal["relu"] = "relu"
    dropout: float = 0.0
    lr: float = 1e-3

    @property
    def layers(self) -> int:
        """Number of matrix products of a forward pass."""
        return len(self.weights())

    @property
    def convolutions(self) -> int:
        """How many of the layers, from the first, are convolutions."""
        return max(len(self.channels) - 1, 0)

    def weights(self) -> list[tuple[int, ...]]:
        """Shape of the weight of each layer, outputs first."""
        convolutions = [(n_out, n_in, 3, 3) for n_in, n_out in pairwise(self.channels)]
        return [*convolutions, *((n_out, n_in) for n_in, n_out in pairwise(self.sizes))]

    def width(self, number: int) -> int:
        """Outputs of a layer, features or channels."""
        return self.weights()[number - 1][0]

    def image(self, number: int) -> tuple[int, ...]:
        """Height and width of what a layer computes; empty if it is no convolution."""
        return (self.pixels >> (number - 1),) * 2 if number <= self.convolutions else ()

    def input_shape(self, batch: int) -> tuple[int, ...]:
        """Of a batch."""
        return (batch, self.channels[0] if self.channels else self.sizes[0], *self.image(1))

    def hidden(self) -> range:
        """Numbers, from 1, of the layers that are followed by an activation."""
        return range(1, self.layers)

    def without_extras(self) -> Network:
        """The same sizes without batch norm and dropout, for peers that have neither."""
        return replace(self, batch_norm=False, dropout=0.0)

    def beyond(self, other: Network) -> list[str]:
        """What this network has and the other lacks."""
        parts = {"batch norm": self.batch_norm and not other.batch_norm, "dropout": self.dropout and not other.dropout}
        return [name for name, more in parts.items() if more]

    def without_dropout(self) -> Network:
        """The network of the checks: random masks differ between libraries."""
        return replace(self, dropout=0.0)

    def parameters(self, seed: int = 0) -> dict[str, Array]:
        """Initial values, float32: ``W1`` (out, in, ...), ``b1``, ``gamma1``, ``beta1``, and so on for each layer."""
        rng = np.random.default_rng(seed)
        values: dict[str, Array] = {}
        for number, shape in enumerate(self.weights(), start=1):
            n_out, bound = shape[0], 1 / math.sqrt(math.prod(shape[1:]))
            values[f"W{number}"] = rng.uniform(-bound, bound, shape)
            values[f"b{number}"] = rng.uniform(-bound, bound, n_out)
            if self.batch_norm and number in self.hidden():  # not ones and zeros, so that one that gets lost shows
                values[f"gamma{number}"] = rng.uniform(0.5, 1.5, n_out)
                values[f"beta{number}"] = rng.uniform(-0.1, 0.1, n_out)
        return {name: value.astype(np.float32) for name, value in values.items()}

    def data(self, batch: int, seed: int = 0) -> tuple[Array, NDArray[np.int64]]:
        """A float32 batch of inputs and its labels."""
        rng = np.random.default_rng(seed + 1)
        x = rng.standard_normal(self.input_shape(batch), np.float32)
        return x, rng.integers(0, self.sizes[-1], batch)

    def undetermined(self) -> frozenset[str]:
        """Parameters with no gradient but rounding errors: batch norm takes the bias before it away again."""
        return frozenset(f"b{number}" for number in self.hidden()) if self.batch_norm else frozenset()

    def products(self, batch: int) -> Iterator[tuple[int, int, int]]:
        """(m, k, n) of every matrix product of one step: forward, gradient of W, gradient of x."""
        for number, (n_out, *inputs) in enumerate(self.weights(), start=1):
            n_in, rows = math.prod(inputs), batch * math.prod(self.image(number))
            yield rows, n_in, n_out
            yield n_out, rows, n_in
            if number > 1:  # nobody needs the gradient of the data
                yield rows, n_out, n_in


NETWORKS = (
    Network("MLP 784-512-512-10, BN-ReLU-dropout, Adam", (784, 512, 512, 10), (32, 128), batch_norm=True, dropout=0.5),
    Network("policy 4-64-64-2, ReLU, Adam", (4, 64, 64, 2), (64,)),
    Network("convolutions 1-8-16-10, BN-ReLU-pool, Adam", (16, 10), (64,), channels=(1, 8, 16), batch_norm=True),
)


@dataclass
class StepJob:
    """A whole training step, ready to run.

    Parameters
    ----------
    call : callable
        One step on the same batch: forward, loss, backward, optimizer, parameters and running statistics updated.
        Everything asynchronous has finished when it returns.
    loss : callable
        Runs one step from the initial parameters with dropout off, and gives its loss: the check.
    parameters : callable
        The parameters after that one step, by the names and in the layout of `Network.parameters`.
    network : Network, optional
        What is really trained, by a peer that lacks something: `Network.without_extras`.
    """

    call: Callable[[], Any]
    loss: Callable[[], float]
    parameters: Callable[[], dict[str, Array]]
    network: Network | None = None


# ------------------------------------------------------------------------------------------------- the check


def _reference_layer(
    network: Network, p: dict[str, Array], number: int, x: Array
) -> tuple[Array, Callable[[Array, dict[str, Array]], Array]]:
    """What a layer with all that follows it gives, and the gradient of x, which adds those of the parameters."""
    weight, bias, image = p[f"W{number}"], p[f"b{number}"], network.image(number)
    if image:
        z, product = reference.conv2d(x, weight, bias, padding=1)
    else:
        z = x @ weight.T + bias
    tail: dict[str, Any] = {"activation": network.activation} if number in network.hidden() else {}
    norm = network.batch_norm and number in network.hidden()
    if norm:
        scale, shift = p[f"gamma{number}"], p[f"beta{number}"]
        y, kept = reference.batch_norm(z, weight=scale, bias=shift, training=True, eps=EPS, **tail)
    else:
        y, kept = reference.bias_act(z, **tail)
    pools = image and number < network.convolutions
    if pools:
        y, pooled = reference.max_pool2d(y, 2)
    elif image:
        y = reference.global_avg_pool2d(y)

    def backward(dy: Array, grads: dict[str, Array]) -> Array:
        assert kept is not None
        if pools:
            dy = reference.max_pool2d_backward(dy, pooled)
        elif image:
            dy = reference.global_avg_pool2d_backward(dy, (image[0], image[1]))
        if norm:
            dz, grads[f"gamma{number}"], grads[f"beta{number}"] = reference.batch_norm_backward(dy, kept)
        else:
            dv = reference.bias_act_backward(dy, kept)[0]
            assert dv is not None
            dz = dv
        if image:
            dx, grads[f"W{number}"], dbias = reference.conv2d_backward(dz, product)
            assert dx is not None and dbias is not None
            grads[f"b{number}"] = dbias
            return dx
        grads[f"W{number}"], grads[f"b{number}"] = dz.T @ x, dz.sum(axis=0)
        return dz @ weight

    return y, backward


def reference_step(network: Network, batch: int) -> tuple[float, dict[str, Array]]:
    """Loss and new parameters of the first step, without dropout, in float64 by `fastnn.reference`."""
    p = {name: value.astype(np.float64) for name, value in network.parameters().items()}
    x, labels = network.data(batch)
    h = x.astype(np.float64)
    backwards = []
    for number in range(1, network.layers + 1):
        h, backward = _reference_layer(network, p, number, h)
        backwards.append(backward)
    loss, dy = reference.softmax_cross_entropy(h, labels)
    grads: dict[str, Array] = {}
    for backward in reversed(backwards):
        dy = backward(dy, grads)
    names = list(p)
    values, slopes = [p[name] for name in names], [grads[name] for name in names]
    m, v = ([np.zeros_like(value) for value in values] for _ in range(2))
    reference.adam_step(values, slopes, m, v, lr=network.lr, bias_correction1=1 - 0.9, bias_correction2=1 - 0.999)
    return loss, p


def check(who: str, job: StepJob, network: Network, batch: int) -> None:
    """Compare one step without dropout with the reference.

    A step of Adam moves every element by about the learning rate, in the direction of its gradient's sign: one in
    a hundred may differ, where rounding decides about a sign or about the kink of an activation.

    Raises
    ------
    AssertionError
        If the loss or a parameter differs.
    """
    network = (job.network or network).without_dropout()
    want_loss, want = reference_step(network, batch)
    loss = job.loss()
    assert abs(loss - want_loss) <= 1e-4 * abs(want_loss), f"{who}: loss {loss}, expected {want_loss}"
    got = job.parameters()
    for name in want.keys() - network.undetermined():
        wrong = np.abs(got[name] - want[name]) > 0.05 * network.lr
        share = np.count_nonzero(wrong) / wrong.size
        assert share <= 0.01, f"{who}: {share:.1%} of {name} differ from the reference after one step"


# ------------------------------------------------------------------------------------------------- fastnn's own


class _Training:
    """A network as its users write it: layers, a loss, an optimizer."""

    def __init__(self, network: Network, batch: int) -> None:
        self.x, self.labels = network.data(batch)
        rng = fastnn.Generator(0)
        layers: list[fastnn.Module] = []
        self.named: dict[str, fastnn.Parameter] = {}
        for number, (n_out, n_in, *kernel) in enumerate(network.weights(), start=1):
            product = fastnn.Conv2d(n_in, n_out, 3, padding=1) if kernel else fastnn.Linear(n_in, n_out)
            layers.append(product)
            assert product.bias is not None
            self.named |= {f"W{number}": product.weight, f"b{number}": product.bias}
            if number in network.hidden():
                if network.batch_norm:
                    norm = (fastnn.BatchNorm2d if kernel else fastnn.BatchNorm1d)(n_out, eps=EPS)
                    layers.append(norm)
                    assert norm.weight is not None and norm.bias is not None
                    self.named |= {f"gamma{number}": norm.weight, f"beta{number}": norm.bias}
                layers.append(fastnn.ReLU())
                if network.dropout:
                    layers.append(fastnn.Dropout(network.dropout, rng=rng))
            if kernel:
                layers.append(fastnn.MaxPool2d(2) if number < network.convolutions else fastnn.GlobalAvgPool2d())
        for name, value in network.parameters().items():
            self.named[name].data[...] = value
        self.net = fastnn.Sequential(*layers)
        self.loss_fn = fastnn.CrossEntropyLoss()
        self.optimizer = fastnn.optim.Adam(self.net.parameters(), lr=network.lr)

    def step(self) -> float:
        loss: float = self.loss_fn(self.net(self.x), self.labels)
        self.net.backward(self.loss_fn.backward(), need_dx=False)
        self.optimizer.step()
        return loss


def fastnn_step(network: Network, batch: int) -> StepJob:
    """fastnn's own step."""
    checked = _Training(network.without_dropout(), batch)

    def parameters() -> dict[str, Array]:
        return {name: parameter.data.copy() for name, parameter in checked.named.items()}

    return StepJob(_Training(network, batch).step, checked.step, parameters)
