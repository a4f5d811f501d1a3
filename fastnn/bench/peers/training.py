"""A training step written by hand over NumPy arrays, for the peers that have no layers of their own."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.bench.peers.base import Direction, Job, NamespacePeer
from fastnn.bench.peers.common import Array
from fastnn.cases import Case, Inputs

if TYPE_CHECKING:
    from fastnn.bench.steps import Network, StepJob


class HandWritten(NamespacePeer):
    """A peer whose users call NumPy for the matrix products and the operations here for everything else."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._buffers: dict[tuple[str, tuple[int, ...]], Array] = {}

    def _buffer(self, role: str, shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
        try:
            return self._buffers[role, shape]
        except KeyError:  # touched now, so that no timed call faults pages in
            self._buffers[role, shape] = buffer = np.full(shape, 1, dtype)
            return buffer

    def job(self, case: Case, inputs: Inputs, direction: Direction) -> Job | None:
        own = copy.copy(self)
        own._buffers = {}
        return super(HandWritten, own).job(case, inputs, direction)

    def matmul(self, role: str, a: Array, b: Array) -> Array:
        """The product; `role` tells buffers apart."""
        return a @ b

    def add_bias(self, z: Array, bias: Array) -> Array:
        """What a product gave, plus a bias per column."""
        return z + bias

    def train_step(self, network: Network, batch: int) -> StepJob | None:
        from fastnn.bench.steps import StepJob

        if not hasattr(self, network.activation):
            return None
        checked = _Training(self, network.without_dropout(), batch)
        return StepJob(_Training(self, network, batch).step, checked.step, lambda: dict(checked.parameters))


class _Training:
    """Parameters, moments and running statistics of one network.

    Every layer has operations, and so buffers, of its own.
    """

    def __init__(self, peer: HandWritten, network: Network, batch: int) -> None:
        self.network = network
        self.layers: list[Any] = [type(peer)(peer.threads) for _ in range(network.layers)]
        self.x, self.labels = network.data(batch)
        self.parameters = network.parameters()
        self.moments = [[np.zeros_like(p) for p in self.parameters.values()] for _ in range(2)]
        self.running = [np.stack([np.zeros(n), np.ones(n)]).astype(np.float32) for n in network.sizes[1:]]
        self.steps = 0

    def step(self) -> float:
        """Forward, loss, backward, Adam; the loss."""
        p, last = self.parameters, self.layers[-1]
        inputs, saved = [self.x], []
        for number, ops in enumerate(self.layers[:-1], start=1):
            y, kept = self._forward(ops, number, inputs[-1])
            inputs.append(y)
            saved.append(kept)
        end = self.network.layers
        logits = last.add_bias(last.matmul("z", inputs[-1], p[f"W{end}"].T), p[f"b{end}"])
        loss, dz = last.softmax_cross_entropy(logits, self.labels)
        grads = {f"b{end}": last.channel_sum(dz)}
        for number in range(end, 0, -1):
            ops = self.layers[number - 1]
            grads[f"W{number}"] = ops.matmul("dw", dz.T, inputs[number - 1])
            if number > 1:
                dy = ops.matmul("dh", dz, p[f"W{number}"])
                dz = self._backward(self.layers[number - 2], number - 1, dy, saved[number - 2], grads)
        self._update(last, grads)
        return float(loss)

    def _forward(self, ops: Any, number: int, x: Array) -> tuple[Array, Any]:
        p, tail = self.parameters, {"activation": self.network.activation, "dropout": self.network.dropout}
        z, bias = ops.matmul("z", x, p[f"W{number}"].T), p[f"b{number}"]
        if not self.network.batch_norm:
            return ops.bias_act(z, bias, **tail)  # type: ignore[no-any-return]
        scale, shift = p[f"gamma{number}"], p[f"beta{number}"]
        return ops.batch_norm(ops.add_bias(z, bias), *self.running[number - 1], scale, shift, True, **tail)  # type: ignore[no-any-return]

    def _backward(self, ops: Any, number: int, dy: Array, saved: Any, grads: dict[str, Array]) -> Array:
        dz: Array
        if self.network.batch_norm:
            dz, grads[f"gamma{number}"], grads[f"beta{number}"] = ops.batch_norm_backward(dy, saved)
            grads[f"b{number}"] = ops.channel_sum(dz)
        else:
            dz, grads[f"b{number}"] = ops.bias_act_backward(dy, saved)
        return dz

    def _update(self, ops: Any, grads: dict[str, Array]) -> None:
        self.steps += 1
        ops.adam_step(
            list(self.parameters.values()),
            [grads[name] for name in self.parameters],
            *self.moments,
            lr=self.network.lr,
            bias_correction1=1 - 0.9**self.steps,
            bias_correction2=1 - 0.999**self.steps,
        )
