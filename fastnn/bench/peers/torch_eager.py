"""torch, one kernel after the other: as it is usually written, and with ``out=`` where that exists."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

from fastnn.bench.peers.base import Direction, Job, Plan, prepared
from fastnn.bench.peers.torch_common import Tensor, TorchPeer
from fastnn.bench.steps import Network, StepJob
from fastnn.cases import Case, Inputs, OptimizerCase

_REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


def _other_axes(x: Tensor) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _per_channel(values: Tensor, ndim: int) -> Tensor:
    return values if ndim == 2 else values.view(-1, *[1] * (ndim - 2))


def _resolved(activation: Any) -> tuple[str, dict[str, float]]:
    """Name and parameters of an `activation=` argument."""
    return (activation, {}) if isinstance(activation, str) else (activation.name, dict(activation.params))


class TorchEager(TorchPeer):
    """Backward operations are the kernels that autograd runs, called directly: autograd itself costs more."""

    label = "torch eager"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        aten = self.torch.ops.aten
        self._threshold_backward = aten.threshold_backward.default
        self._leaky_relu_backward = aten.leaky_relu_backward.default
        self._aten = aten
        self._batch_norm_backward = aten.native_batch_norm_backward.default
        self._nll_loss_forward = aten.nll_loss_forward.default
        self._nll_loss_backward = aten.nll_loss_backward.default
        self._log_softmax_backward = aten._log_softmax_backward_data.default
        self._one = self.torch.ones(())

    def relu(self, x: Tensor, *, out: None = None) -> Tensor:
        return self.torch.relu(x)

    def relu_backward(self, dy: Tensor, x: Tensor, *, output: bool = False, out: None = None) -> Tensor:
        return self._threshold_backward(dy, x, 0)

    def leaky_relu(self, x: Tensor, negative_slope: float = 0.01, *, out: None = None) -> Tensor:
        return self.torch.nn.functional.leaky_relu(x, negative_slope)

    def leaky_relu_backward(
        self, dy: Tensor, x: Tensor, negative_slope: float = 0.01, *, output: bool = False, out: None = None
    ) -> Tensor:
        return self._leaky_relu_backward(dy, x, negative_slope, output)

    def sigmoid(self, x: Tensor, *, out: None = None) -> Tensor:
        return self.torch.sigmoid(x)

    def sigmoid_backward(self, dy: Tensor, x: Tensor, *, output: bool = False, out: None = None) -> Tensor:
        return self._aten.sigmoid_backward.default(dy, x if output else self.torch.sigmoid(x))

    def tanh(self, x: Tensor, *, out: None = None) -> Tensor:
        return self.torch.tanh(x)

    def tanh_backward(self, dy: Tensor, x: Tensor, *, output: bool = False, out: None = None) -> Tensor:
        return self._aten.tanh_backward.default(dy, x if output else self.torch.tanh(x))

    def elu(self, x: Tensor, alpha: float = 1.0, *, out: None = None) -> Tensor:
        return self.torch.nn.functional.elu(x, alpha)

    def elu_backward(
        self, dy: Tensor, x: Tensor, alpha: float = 1.0, *, output: bool = False, out: None = None
    ) -> Tensor:
        return self._aten.elu_backward.default(dy, alpha, 1, 1, output, x)

    def selu(self, x: Tensor, *, out: None = None) -> Tensor:
        return self.torch.nn.functional.selu(x)

    def selu_backward(self, dy: Tensor, x: Tensor, *, output: bool = False, out: None = None) -> Tensor:
        return self._aten.elu_backward.default(dy, 1.6732632423543772, 1.0507009873554805, 1, output, x)

    def celu(self, x: Tensor, alpha: float = 1.0, *, out: None = None) -> Tensor:
        return self.torch.nn.functional.celu(x, alpha)

    def celu_backward(
        self, dy: Tensor, x: Tensor, alpha: float = 1.0, *, output: bool = False, out: None = None
    ) -> Tensor:
        return self._aten.elu_backward.default(dy, alpha, 1, 1 / alpha, output, x)

    def gelu(self, x: Tensor, *, out: None = None) -> Tensor:
        return self.torch.nn.functional.gelu(x)

    def gelu_backward(self, dy: Tensor, x: Tensor, *, out: None = None) -> Tensor:
        return self._aten.gelu_backward.default(dy, x)

    def gelu_tanh(self, x: Tensor, *, out: None = None) -> Tensor:
        return self.torch.nn.functional.gelu(x, approximate="tanh")

    def gelu_tanh_backward(self, dy: Tensor, x: Tensor, *, out: None = None) -> Tensor:
        return self._aten.gelu_backward.default(dy, x, approximate="tanh")

    def silu(self, x: Tensor, *, out: None = None) -> Tensor:
        return self.torch.nn.functional.silu(x)

    def silu_backward(self, dy: Tensor, x: Tensor, *, out: None = None) -> Tensor:
        return self._aten.silu_backward.default(dy, x)

    def mish(self, x: Tensor, *, out: None = None) -> Tensor:
        return self.torch.nn.functional.mish(x)

    def mish_backward(self, dy: Tensor, x: Tensor, *, out: None = None) -> Tensor:
        return self._aten.mish_backward.default(dy, x)

    def softplus(self, x: Tensor, beta: float = 1.0, threshold: float = 20.0, *, out: None = None) -> Tensor:
        return self.torch.nn.functional.softplus(x, beta, threshold)

    def softplus_backward(
        self, dy: Tensor, x: Tensor, beta: float = 1.0, threshold: float = 20.0, *, out: None = None
    ) -> Tensor:
        return self._aten.softplus_backward.default(dy, x, beta, threshold)

    def hardtanh(self, x: Tensor, min_val: float = -1.0, max_val: float = 1.0, *, out: None = None) -> Tensor:
        return self.torch.nn.functional.hardtanh(x, min_val, max_val)

    def hardtanh_backward(
        self,
        dy: Tensor,
        x: Tensor,
        min_val: float = -1.0,
        max_val: float = 1.0,
        *,
        output: bool = False,
        out: None = None,
    ) -> Tensor:
        return self._aten.hardtanh_backward.default(dy, x, min_val, max_val)

    def relu6(self, x: Tensor, *, out: None = None) -> Tensor:
        return self.torch.nn.functional.relu6(x)

    def relu6_backward(self, dy: Tensor, x: Tensor, *, output: bool = False, out: None = None) -> Tensor:
        return self._aten.hardtanh_backward.default(dy, x, 0, 6)

    def hardsigmoid(self, x: Tensor, *, out: None = None) -> Tensor:
        return self.torch.nn.functional.hardsigmoid(x)

    def hardsigmoid_backward(self, dy: Tensor, x: Tensor, *, out: None = None) -> Tensor:
        return self._aten.hardsigmoid_backward.default(dy, x)

    def hardswish(self, x: Tensor, *, out: None = None) -> Tensor:
        return self.torch.nn.functional.hardswish(x)

    def hardswish_backward(self, dy: Tensor, x: Tensor, *, out: None = None) -> Tensor:
        return self._aten.hardswish_backward.default(dy, x)

    def threshold(self, x: Tensor, threshold: float = 0.0, value: float = 0.0, *, out: None = None) -> Tensor:
        return self.torch.nn.functional.threshold(x, threshold, value)

    def threshold_backward(
        self, dy: Tensor, x: Tensor, threshold: float = 0.0, value: float = 0.0, *, out: None = None
    ) -> Tensor:
        return self._aten.threshold_backward.default(dy, x, threshold)

    # Steps of the chains below. `role` names the buffer of the result, where there are buffers.

    def _add(self, role: str, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def _multiply(self, role: str, a: Tensor, b: Tensor) -> Tensor:
        return a * b

    def _channel_sum(self, role: str, x: Tensor) -> Tensor:
        return x.sum(_other_axes(x))

    def _noise(self, x: Tensor, p: float) -> Tensor:
        """What `torch.nn.functional.dropout` multiplies by, and autograd keeps."""
        return self.torch.empty_like(x).bernoulli_(1 - p).div_(1 - p)

    def _epilogue(self, v: Tensor, residual: Tensor | None, activation: Any, p: float) -> tuple[Tensor, Any]:
        if residual is not None:
            v = self._add("y", v, residual)
        y, noise = v, None
        if activation is not None:
            name, params = _resolved(activation)
            y = getattr(self, name)(v, **params)
        if p > 0:
            noise = self._noise(y, p)
            y = self._multiply("y", y, noise)
        return y, (v, activation, noise)

    def _epilogue_backward(self, dy: Tensor, kept: Any) -> Tensor:
        v, activation, noise = kept
        if noise is not None:
            dy = self._multiply("dy", dy, noise)
        if activation is None:
            return dy
        name, params = _resolved(activation)
        return getattr(self, name + "_backward")(dy, v, **params)

    def bias_act(
        self,
        x: Tensor,
        bias: Tensor | None = None,
        *,
        residual: Tensor | None = None,
        activation: Any = None,
        dropout: float = 0.0,
        rng: Any = None,
        training: bool = True,
        channel_axis: int = -1,
        out: None = None,
    ) -> tuple[Tensor, Any]:
        v = x if bias is None else self._add("y", x, _per_channel(bias, x.ndim))
        y, kept = self._epilogue(v, residual, activation, dropout if training else 0.0)
        return y, (kept, bias is not None, residual is not None)

    def bias_act_backward(self, dy: Tensor, saved: Any, *, out: None = None) -> tuple[Tensor | None, ...]:
        kept, has_bias, has_residual = saved
        dx = self._epilogue_backward(dy, kept)
        dbias = self._channel_sum("dbias", dx) if has_bias else None
        return (dx, dbias, dx) if has_residual else (dx, dbias)

    def batch_norm(
        self,
        x: Tensor,
        running_mean: Tensor | None = None,
        running_var: Tensor | None = None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
        *,
        pre_bias: Tensor | None = None,
        residual: Tensor | None = None,
        activation: Any = None,
        dropout: float = 0.0,
        rng: Any = None,
        channel_axis: int = 1,
        out: None = None,
    ) -> tuple[Tensor, Any]:
        if pre_bias is not None:
            x = self._add("z", x, _per_channel(pre_bias, x.ndim))
        v, mean, invstd = self._normalised(x, weight, bias, running_mean, running_var, training, momentum, eps)
        y, kept = self._epilogue(v, residual, activation, dropout if training else 0.0)
        return y, (kept, x, weight, mean, invstd, eps, residual is not None, pre_bias is not None)

    def _normalised(self, x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The kernel behind `torch.nn.functional.batch_norm`, which gives what backward needs as well."""
        y, mean, invstd = self.torch.native_batch_norm(x, *arguments)
        return y, mean, invstd

    def _normalised_backward(self, dy: Tensor, x: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        dx, dweight, dbias = self._batch_norm_backward(dy, x, *arguments)
        return dx, dweight, dbias

    def batch_norm_backward(self, dy: Tensor, saved: Any, *, out: None = None) -> tuple[Tensor, ...]:
        kept, x, weight, mean, invstd, eps, has_residual, has_pre_bias = saved
        dv = self._epilogue_backward(dy, kept)
        result = self._normalised_backward(dv, x, weight, None, None, mean, invstd, True, eps, [True, True, True])
        if has_residual:
            result += (dv,)
        if has_pre_bias:
            result += (self._channel_sum("dpre_bias", result[0]),)
        return result

    def dropout(
        self, x: Tensor, p: float = 0.5, training: bool = True, *, rng: Any = None, first: int = 0, out: None = None
    ) -> tuple[Tensor, Any]:
        noise = self._noise(x, p)
        return self._multiply("y", x, noise), noise

    def dropout_backward(self, dy: Tensor, saved: Any, *, out: None = None) -> Tensor:
        return self._multiply("dy", dy, saved)

    def channel_sum(self, x: Tensor, *, channel_axis: int = -1, out: None = None) -> Tensor:
        return self._channel_sum("sums", x)

    def softmax_cross_entropy(self, logits: Tensor, labels: Tensor, *, out: None = None) -> tuple[Tensor, Tensor]:
        mean, ignored = 1, -100  # arguments of the loss: reduction="mean", ignore_index=-100
        logs = self.torch.log_softmax(logits, 1)
        loss, weight = self._nll_loss_forward(logs, labels, None, mean, ignored)
        dlogs = self._nll_loss_backward(self._one, logs, labels, None, mean, ignored, weight)
        return loss, self._log_softmax_backward(dlogs, logs, 1, logits.dtype)

    def mse_loss(self, x: Tensor, target: Tensor, reduction: str, *, out: None = None) -> tuple[Tensor, Tensor]:
        loss = self.torch.nn.functional.mse_loss(x, target, reduction=reduction)
        return loss, self._aten.mse_loss_backward.default(self._one, x, target, _REDUCTIONS[reduction])

    def l1_loss(self, x: Tensor, target: Tensor, reduction: str, *, out: None = None) -> tuple[Tensor, Tensor]:
        loss = self.torch.nn.functional.l1_loss(x, target, reduction=reduction)
        return loss, self.torch.sub(x, target).sign_().mul_(1 / x.numel())  # as autograd: there is no such kernel

    def smooth_l1_loss(
        self, x: Tensor, target: Tensor, reduction: str, beta: float, *, out: None = None
    ) -> tuple[Tensor, Tensor]:
        loss = self.torch.nn.functional.smooth_l1_loss(x, target, reduction=reduction, beta=beta)
        number = _REDUCTIONS[reduction]
        return loss, self._aten.smooth_l1_loss_backward.default(self._one, x, target, number, beta)

    def huber_loss(
        self, x: Tensor, target: Tensor, reduction: str, delta: float, *, out: None = None
    ) -> tuple[Tensor, Tensor]:
        loss = self.torch.nn.functional.huber_loss(x, target, reduction=reduction, delta=delta)
        return loss, self._aten.huber_loss_backward.default(self._one, x, target, _REDUCTIONS[reduction], delta)

    def binary_cross_entropy_with_logits(
        self, x: Tensor, target: Tensor, *, reduction: str, out: None = None
    ) -> tuple[Tensor, Tensor]:
        loss = self.torch.nn.functional.binary_cross_entropy_with_logits(x, target, reduction=reduction)
        return loss, self.torch.sigmoid(x).sub_(target).mul_(1 / x.numel())  # as autograd: there is no such kernel

    def hinge_loss(self, scores: Tensor, labels: Tensor, *, out: None = None) -> tuple[Tensor, Tensor]:
        classes = self.torch.full((), scores.shape[1], dtype=scores.dtype)  # torch divides by them
        p, margin, mean = 1, 1, _REDUCTIONS["mean"]
        loss = self._aten.multi_margin_loss.default(scores, labels, p, margin, None, mean) * classes
        return loss, self._aten.multi_margin_loss_backward.default(classes, scores, labels, p, margin, None, mean)


class TorchOut(TorchEager):
    """Every result goes into a tensor that is used again, and what follows in a chain works in place."""

    label = "torch out="

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        aten = self.torch.ops.aten
        self._leaky_relu = aten.leaky_relu.out
        self._threshold_backward = aten.threshold_backward.grad_input
        self._leaky_relu_backward = aten.leaky_relu_backward.grad_input
        self._batch_norm_backward = aten.native_batch_norm_backward.out
        self._buffers: dict[str, Tensor] = {}

    def job(self, case: Case, inputs: Inputs, direction: Direction) -> Job | None:
        if isinstance(case, OptimizerCase):
            return None
        own = copy.copy(self)
        own._buffers = {}
        return super(TorchOut, own).job(case, inputs, direction)

    def train_step(self, network: Network, batch: int) -> StepJob | None:
        return None

    def _buffer(self, role: str, like: Tensor) -> Tensor:
        if role not in self._buffers:
            self._buffers[role] = self.torch.zeros_like(like)  # touched now, so that no timed call faults pages in
        return self._buffers[role]

    def _channels(self, role: str, x: Tensor) -> Tensor:
        if role not in self._buffers:
            self._buffers[role] = x.new_zeros(x.shape[1])
        return self._buffers[role]

    @prepared
    def relu(self, x: Tensor, *, out: None = None) -> Plan:
        return partial(self.torch.clamp_min, x, 0, out=self._buffer("y", x)), None

    @prepared
    def relu_backward(self, dy: Tensor, x: Tensor, *, output: bool = False, out: None = None) -> Plan:
        return partial(self._threshold_backward, dy, x, 0, grad_input=self._buffer("dy", dy)), None

    @prepared
    def leaky_relu(self, x: Tensor, negative_slope: float = 0.01, *, out: None = None) -> Plan:
        return partial(self._leaky_relu, x, negative_slope, out=self._buffer("y", x)), None

    @prepared
    def leaky_relu_backward(
        self, dy: Tensor, x: Tensor, negative_slope: float = 0.01, *, output: bool = False, out: None = None
    ) -> Plan:
        dx = self._buffer("dy", dy)
        return partial(self._leaky_relu_backward, dy, x, negative_slope, output, grad_input=dx), None

    @prepared
    def dropout_backward(self, dy: Tensor, saved: Any, *, out: None = None) -> Plan:
        return partial(self.torch.mul, dy, saved, out=self._buffer("dy", dy)), None

    @prepared
    def channel_sum(self, x: Tensor, *, channel_axis: int = -1, out: None = None) -> Plan:
        return partial(self.torch.sum, x, _other_axes(x), out=self._channels("sums", x)), None

    def _add(self, role: str, a: Tensor, b: Tensor) -> Tensor:
        return self.torch.add(a, b, out=self._buffer(role, a))

    def _multiply(self, role: str, a: Tensor, b: Tensor) -> Tensor:
        return self.torch.mul(a, b, out=self._buffer(role, a))

    def _channel_sum(self, role: str, x: Tensor) -> Tensor:
        return self.torch.sum(x, _other_axes(x), out=self._channels(role, x))

    def _noise(self, x: Tensor, p: float) -> Tensor:
        return self._buffer("noise", x).bernoulli_(1 - p).div_(1 - p)

    def _normalised(self, x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        out = self._buffer("y", x), self._channels("mean", x), self._channels("invstd", x)
        return self.torch.native_batch_norm(x, *arguments, out=out)  # type: ignore[no-any-return]

    def _normalised_backward(self, dy: Tensor, x: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        dx, dweight, dbias = self._buffer("dx", x), self._channels("dweight", x), self._channels("dbias", x)
        self._batch_norm_backward(dy, x, *arguments, out0=dx, out1=dweight, out2=dbias)
        return dx, dweight, dbias

    def softmax_cross_entropy(self, logits: Tensor, labels: Tensor, *, out: None = None) -> tuple[Tensor, Tensor]:
        rows, labels = len(logits), labels[:, None]
        p = self.torch.softmax(logits, 1, out=self._buffer("p", logits))
        loss = -p.gather(1, labels).log_().mean()
        if "minus_one" not in self._buffers:
            self._buffers["minus_one"] = logits.new_full((rows, 1), -1.0)
        return loss, p.scatter_add_(1, labels, self._buffers["minus_one"]).mul_(1 / rows)
