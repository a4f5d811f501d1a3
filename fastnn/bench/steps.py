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

    Parameters
    ----------
    name : str
        As the rows show it.
    sizes : tuple of int
        Features from input to output.
    batches : tuple of int
        Batch sizes that are measured.
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
    batch_norm: bool = False
    activation: Literal["relu"] = "relu"
    dropout: float = 0.0
    lr: float = 1e-3

    @property
    def layers(self) -> int:
        """Number of matrix products of a forward pass."""
        return len(self.sizes) - 1

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
        """Initial values, float32: ``W1`` (out, in), ``b1``, ``gamma1``, ``beta1``, and so on for each layer."""
        rng = np.random.default_rng(seed)
        values: dict[str, Array] = {}
        for number, (n_in, n_out) in enumerate(pairwise(self.sizes), start=1):
            bound = 1 / math.sqrt(n_in)
            values[f"W{number}"] = rng.uniform(-bound, bound, (n_out, n_in))
            values[f"b{number}"] = rng.uniform(-bound, bound, n_out)
            if self.batch_norm and number in self.hidden():  # not ones and zeros, so that one that gets lost shows
                values[f"gamma{number}"] = rng.uniform(0.5, 1.5, n_out)
                values[f"beta{number}"] = rng.uniform(-0.1, 0.1, n_out)
        return {name: value.astype(np.float32) for name, value in values.items()}

    def data(self, batch: int, seed: int = 0) -> tuple[Array, NDArray[np.int64]]:
        """A float32 batch of inputs and its labels."""
        rng = np.random.default_rng(seed + 1)
        x = rng.standard_normal((batch, self.sizes[0]), np.float32)
        return x, rng.integers(0, self.sizes[-1], batch)

    def undetermined(self) -> frozenset[str]:
        """Parameters with no gradient but rounding errors: batch norm takes the bias before it away again."""
        return frozenset(f"b{number}" for number in self.hidden()) if self.batch_norm else frozenset()

    def products(self, batch: int) -> Iterator[tuple[int, int, int]]:
        """(m, k, n) of every matrix product of one step: forward, gradient of W, gradient of x."""
        for number, (n_in, n_out) in enumerate(pairwise(self.sizes), start=1):
            yield batch, n_in, n_out
            yield n_out, batch, n_in
            if number > 1:  # nobody needs the gradient of the data
                yield batch, n_out, n_in


NETWORKS = (
    Network("MLP 784-512-512-10, BN-ReLU-dropout, Adam", (784, 512, 512, 10), (32, 128), batch_norm=True, dropout=0.5),
    Network("policy 4-64-64-2, ReLU, Adam", (4, 64, 64, 2), (64,)),
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


def reference_step(network: Network, batch: int) -> tuple[float, dict[str, Array]]:
    """Loss and new parameters of the first step, without dropout, in float64 by `fastnn.reference`."""
    p = {name: value.astype(np.float64) for name, value in network.parameters().items()}
    x, labels = network.data(batch)
    h = x.astype(np.float64)
    inputs, saves = [h], []
    for number in network.hidden():
        z = h @ p[f"W{number}"].T + p[f"b{number}"]
        if network.batch_norm:
            gamma, beta = p[f"gamma{number}"], p[f"beta{number}"]
            h, saved = reference.batch_norm(
                z, weight=gamma, bias=beta, training=True, eps=EPS, activation=network.activation
            )
        else:
            h, saved = reference.bias_act(z, activation=network.activation)
        inputs.append(h)
        saves.append(saved)
    last = network.layers
    loss, dy = reference.softmax_cross_entropy(h @ p[f"W{last}"].T + p[f"b{last}"], labels)
    grads: dict[str, Array] = {}
    for number in range(last, 0, -1):
        if number < last:
            saved = saves[number - 1]
            assert saved is not None
            if network.batch_norm:
                dy, grads[f"gamma{number}"], grads[f"beta{number}"] = reference.batch_norm_backward(dy, saved)
            else:
                dv = reference.bias_act_backward(dy, saved)[0]
                assert dv is not None
                dy = dv
        grads[f"W{number}"], grads[f"b{number}"] = dy.T @ inputs[number - 1], dy.sum(axis=0)
        dy = dy @ p[f"W{number}"]
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
        for number, (n_in, n_out) in enumerate(pairwise(network.sizes), start=1):
            linear = fastnn.Linear(n_in, n_out)
            layers.append(linear)
            assert linear.bias is not None
            self.named |= {f"W{number}": linear.weight, f"b{number}": linear.bias}
            if number in network.hidden():
                if network.batch_norm:
                    norm = fastnn.BatchNorm1d(n_out, eps=EPS)
                    layers.append(norm)
                    assert norm.weight is not None and norm.bias is not None
                    self.named |= {f"gamma{number}": norm.weight, f"beta{number}": norm.bias}
                layers.append(fastnn.ReLU())
                if network.dropout:
                    layers.append(fastnn.Dropout(network.dropout, rng=rng))
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
