"""thinc: its NumPy operations, layers and optimizer."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.bench.peers.base import NamespacePeer
from fastnn.bench.steps import Network, StepJob

Array = NDArray[Any]


class Thinc(NamespacePeer):
    """What thinc has: relu, dropout, softmax, Adam; and training steps without batch norm.

    It runs in one thread, and has no switch for the instructions that its kernels and its BLAS use. Its Adam sets the
    gradients to zero, so every timed step of it copies them first: its users get fresh ones from backward instead.
    """

    name = "thinc"
    label = "thinc"
    library = distribution = "thinc"
    own_masks = True

    def __init__(self, threads: int) -> None:
        self.thinc: Any = importlib.import_module("thinc.api")
        self.ops = self.thinc.NumpyOps()
        self._gradient = self.thinc.CategoricalCrossentropy().get_grad
        self._grads: dict[int, Array] = {}

    def relu(self, x: Array, *, out: None = None) -> Array:
        return self.ops.relu(x)  # type: ignore[no-any-return]

    def relu_backward(self, dy: Array, x: Array, *, output: bool = False, out: None = None) -> Array:
        return self.ops.backprop_relu(dy, x)  # type: ignore[no-any-return]

    def dropout(
        self, x: Array, p: float = 0.5, training: bool = True, *, rng: Any = None, first: int = 0, out: None = None
    ) -> tuple[Array, Array]:
        mask = self.ops.get_dropout_mask(x.shape, p)
        return x * mask, mask

    def dropout_backward(self, dy: Array, saved: Array, *, out: None = None) -> Array:
        return dy * saved

    def softmax_cross_entropy(self, logits: Array, labels: Array, *, out: None = None) -> tuple[float, Array]:
        p = self.ops.softmax(logits)
        return mean_loss(p, labels), self._gradient(p, labels)

    def adam_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        exp_avgs: Sequence[Array],
        exp_avg_sqs: Sequence[Array],
        *,
        lr: float,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        bias_correction1: float = 1.0,
        bias_correction2: float = 1.0,
        clip_norm: float | None = None,
    ) -> None:
        if clip_norm is not None:
            raise NotImplementedError("thinc clips each gradient by its own norm")
        rate = lr * math.sqrt(bias_correction2) / bias_correction1
        for i, (param, grad, m, v) in enumerate(zip(params, grads, exp_avgs, exp_avg_sqs, strict=True)):
            g = self._consumable(i, grad)
            if weight_decay and decoupled:
                param *= 1 - lr * weight_decay
            elif weight_decay:
                g += weight_decay * param
            flat = (array.reshape(-1) for array in (param, g, m, v))
            self.ops.adam(*flat, beta1, beta2, eps, rate)

    def _consumable(self, i: int, grad: Array) -> Array:
        """A copy in a buffer: `ops.adam` sets the gradient to zero, and moments of zeros decay to denormals."""
        if i not in self._grads or self._grads[i].shape != grad.shape:
            self._grads[i] = np.empty_like(grad)
        np.copyto(self._grads[i], grad)
        return self._grads[i]

    def train_step(self, network: Network, batch: int) -> StepJob | None:
        if network.activation not in _LAYERS:
            return None
        trained = replace(network, batch_norm=False)
        timed = _Training(self.thinc, trained, batch)
        checked = _Training(self.thinc, trained.without_dropout(), batch)
        return StepJob(timed.step, checked.step, checked.parameters, trained if trained != network else None)


def mean_loss(p: Array, labels: Array) -> float:
    """Cross-entropy; that of thinc has the gradient only."""
    return float(-np.log(p[np.arange(len(labels)), labels]).mean())


_LAYERS = {"relu": "Relu"}
"""Fully connected layer with an activation."""


class _Training:
    """A network as thinc's users write it."""

    def __init__(self, thinc: Any, network: Network, batch: int) -> None:
        self.x, self.labels = network.data(batch)
        self.dense: list[Any] = []
        layers: list[Any] = []
        values = network.parameters()
        for number, (n_in, n_out) in enumerate(zip(network.sizes, network.sizes[1:], strict=False), start=1):
            hidden = number in network.hidden()
            layer = (getattr(thinc, _LAYERS[network.activation]) if hidden else thinc.Softmax)(n_out, n_in)
            layer.set_param("W", values[f"W{number}"])
            layer.set_param("b", values[f"b{number}"])
            self.dense.append(layer)
            layers.append(layer)
            if hidden and network.dropout:
                layers.append(thinc.Dropout(network.dropout))
        self.model = thinc.chain(*layers)
        self.gradient = thinc.CategoricalCrossentropy().get_grad
        # The defaults add a weight decay, clip every gradient and average the parameters. Bias correction is in the
        # learning rate, which scales eps too: this is the usual 1e-8 at the first step.
        eps = 1e-8 * math.sqrt(1 - 0.999)
        self.optimizer = thinc.Adam(network.lr, L2=0.0, eps=eps, grad_clip=0.0, use_averages=False)

    def step(self) -> float:
        p, backprop = self.model.begin_update(self.x)
        backprop(self.gradient(p, self.labels))
        self.model.finish_update(self.optimizer)
        return mean_loss(p, self.labels)

    def parameters(self) -> dict[str, Array]:
        return {
            f"{name}{number}": layer.get_param(name).copy()
            for number, layer in enumerate(self.dense, start=1)
            for name in ("W", "b")
        }
