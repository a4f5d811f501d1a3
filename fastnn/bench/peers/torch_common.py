"""What the torch peers share: conversions, layouts, optimizers, and the training step."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastnn.bench.peers.base import Direction, Job, NamespacePeer
from fastnn.bench.steps import EPS, Network, StepJob
from fastnn.cases import Case, Inputs, OptimizerCase

Array = NDArray[Any]
Tensor = Any  # torch.Tensor: torch is imported only when a peer is made


class TorchPeer(NamespacePeer):
    """Operations on tensors that share the memory of the NumPy inputs.

    Channels are axis 1 of every tensor, as torch has it: NHWC arrays come as permuted views of the same memory,
    which is torch's channels-last format.

    Attributes
    ----------
    implementation : mapping
        Arguments that choose the implementation of an optimizer.
    """

    name = "torch"
    library = distribution = "torch"
    own_masks = True
    convolves = True
    # ATen's kernels, oneDNN, MKL (which heeds it on Intel processors), and the compiler behind torch.compile
    cap: ClassVar[Mapping[str, str]] = {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "TORCHINDUCTOR_CPP_MARCH": "x86-64-v3",
    }
    implementation: Mapping[str, Any] = {}

    def __init__(self, threads: int) -> None:
        self.torch: Any = importlib.import_module("torch")
        self.torch.set_num_threads(threads)

    def to_native(self, array: Array) -> Tensor:
        return self.torch.from_numpy(array)

    def to_numpy(self, value: Any) -> Any:
        return value.detach().numpy() if isinstance(value, self.torch.Tensor) else value

    def prepared(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` as this peer runs it."""
        return function

    def job(self, case: Case, inputs: Inputs, direction: Direction) -> Job | None:
        if isinstance(case, OptimizerCase):
            return self._optimizer_job(case, inputs)
        if inputs_are_channels_last(case, inputs):
            return self._channels_last_job(case, inputs, direction)
        return super().job(case, inputs, direction)

    def _channels_last_job(self, case: Case, inputs: Inputs, direction: Direction) -> Job | None:
        def moved(values: Mapping[str, Any], source: int, destination: int) -> dict[str, Any]:
            return {
                name: np.moveaxis(value, source, destination) if np.ndim(value) > 2 else value
                for name, value in values.items()
            }

        job = super().job(case, moved(inputs, -1, 1), direction)
        return job and Job(job.call, lambda: moved(job.outputs(), 1, -1))

    def _optimizer_job(self, case: OptimizerCase, inputs: Inputs) -> Job | None:
        arguments = _Arguments()
        case.step(arguments, inputs, 1)
        params = [self.torch.nn.Parameter(self.to_native(array)) for array in inputs["params"]]
        clip = arguments.options.get("clip_norm")
        for param, array in zip(params, inputs["grads"], strict=True):
            grad = self.to_native(array)
            param.grad = grad if clip is None else grad.clone()  # torch clips in place
        optimizer = _optimizer(self.torch, arguments, params, self.implementation)
        if optimizer is None:
            return None
        update = self.prepared(optimizer.step)

        def step() -> Any:
            norm = None if clip is None else self.torch.nn.utils.clip_grad_norm_(params, clip)
            update()
            return norm

        norm = step()
        step()

        def outputs() -> dict[str, Any]:
            found = {f"params{i}": self.to_numpy(param) for i, param in enumerate(params)}
            for slot in case.state:  # named after torch's
                key = slot.removesuffix("s")
                found |= {f"{slot}{i}": self.to_numpy(optimizer.state[param][key]) for i, param in enumerate(params)}
            return found if norm is None else found | {"norm": norm.item()}

        return Job(step, outputs)

    def train_step(self, network: Network, batch: int) -> StepJob | None:
        if network.activation not in _ACTIVATIONS:
            return None
        timed = _Training(self, network, batch)
        checked = _Training(self, network.without_dropout(), batch)
        return StepJob(timed.step, lambda: float(checked.step()), checked.parameters)


def inputs_are_channels_last(case: Case, inputs: Inputs) -> bool:
    """Whether the arrays of `case` have their channels last, and more axes than a matrix."""
    return getattr(getattr(case, "layout", None), "channel_axis", 1) == -1 and inputs["x"].ndim > 2


class _Arguments:
    """A namespace that notes how an optimizer is called."""

    op = ""
    states: tuple[Any, ...] = ()
    options: Mapping[str, Any] = {}

    def __getattr__(self, op: str) -> Callable[..., None]:
        def note(params: Any, grads: Any, *states: Any, **options: Any) -> None:
            self.op, self.states, self.options = op, states, options

        return note


_CLASSES = {
    "sgd_step": "SGD",
    "adam_step": "Adam",
    "nadam_step": "NAdam",
    "adamax_step": "Adamax",
    "adagrad_step": "Adagrad",
    "adadelta_step": "Adadelta",
    "rmsprop_step": "RMSprop",
}
"""Optimizer of a step, as far as the step's arguments say all that it needs (those of RAdam depend on the step)."""
_FUSED = ("SGD", "Adam", "AdamW", "Adagrad")


def _optimizer(torch: Any, arguments: _Arguments, params: list[Tensor], implementation: Mapping[str, Any]) -> Any:
    """The `torch.optim` object for a step of `fastnn.functional`, None if there is none."""
    given = arguments.options
    name = _CLASSES.get(arguments.op)
    if name is None or "clip_form" in given:
        return None
    if name == "Adam" and given.get("decoupled"):
        name = "AdamW"
    if implementation.get("fused") and name not in _FUSED:
        return None
    options = {"lr": given["lr"], "weight_decay": given.get("weight_decay", 0.0), **implementation}
    options |= {key: given[key] for key in ("momentum", "dampening", "nesterov") if key in given}
    if name in ("Adam", "AdamW"):
        options["amsgrad"] = len(arguments.states) > 2
    if name == "RMSprop":
        options["centered"] = len(arguments.states) > 1 and arguments.states[1] is not None
    return getattr(torch.optim, name)(params, **options)


_ACTIVATIONS = {"relu": "ReLU"}
"""Module of an activation."""


class _Training:
    """A network as torch's users write it."""

    def __init__(self, peer: TorchPeer, network: Network, batch: int) -> None:
        torch, nn = peer.torch, peer.torch.nn
        self.x, self.labels = (torch.from_numpy(array) for array in network.data(batch))
        self.named: dict[str, Tensor] = {}
        layers: list[Any] = []
        for number, (n_out, n_in, *kernel) in enumerate(network.weights(), start=1):
            layers.append(nn.Conv2d(n_in, n_out, kernel, padding=1) if kernel else nn.Linear(n_in, n_out))
            self.named |= {f"W{number}": layers[-1].weight, f"b{number}": layers[-1].bias}
            if number in network.hidden():
                if network.batch_norm:
                    layers.append((nn.BatchNorm2d if kernel else nn.BatchNorm1d)(n_out, eps=EPS))
                    self.named |= {f"gamma{number}": layers[-1].weight, f"beta{number}": layers[-1].bias}
                layers.append(getattr(nn, _ACTIVATIONS[network.activation])())
                if network.dropout:
                    layers.append(nn.Dropout(network.dropout))
            if kernel:
                last = nn.AdaptiveAvgPool2d(1), nn.Flatten()
                layers.extend(last if number == network.convolutions else [nn.MaxPool2d(2)])
        with torch.no_grad():
            for name, value in network.parameters().items():
                self.named[name].copy_(torch.from_numpy(value))
        model, criterion = nn.Sequential(*layers), nn.CrossEntropyLoss()
        self.loss = peer.prepared(lambda x, labels: criterion(model(x), labels))
        self.optimizer = torch.optim.Adam(model.parameters(), lr=network.lr, **peer.implementation)

    def step(self) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.loss(self.x, self.labels)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def parameters(self) -> dict[str, Array]:
        return {name: tensor.detach().numpy().copy() for name, tensor in self.named.items()}
