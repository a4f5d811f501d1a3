"""torch, one kernel after the other: as it is usually written, and with ``out=`` where that exists."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fastnn.bench.peers.base import Direction, Job, Plan, prepared
from fastnn.bench.peers.common import SELU_LIMIT
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
        self._softmax_backward = aten._softmax_backward_data.default
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

    def elu_backward(self, dy: Tensor, x: Tensor, alpha: float = 1.0, *, out: None = None) -> Tensor:
        return self._aten.elu_backward.default(dy, alpha, 1, 1, False, x)

    def selu(self, x: Tensor, *, out: None = None) -> Tensor:
        return self.torch.nn.functional.selu(x)

    def selu_backward(self, dy: Tensor, x: Tensor, *, out: None = None) -> Tensor:
        return self._aten.elu_backward.default(dy, 1.6732632423543772, 1.0507009873554805, 1, False, x)

    def celu(self, x: Tensor, alpha: float = 1.0, *, out: None = None) -> Tensor:
        return self.torch.nn.functional.celu(x, alpha)

    def celu_backward(self, dy: Tensor, x: Tensor, alpha: float = 1.0, *, out: None = None) -> Tensor:
        return self._aten.elu_backward.default(dy, alpha, 1, 1 / alpha, False, x)

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

    def prelu(self, x: Tensor, weight: Tensor, *, channel_axis: int = 1, out: None = None) -> Tensor:
        return self.torch.nn.functional.prelu(x, weight)

    def prelu_backward(
        self, dy: Tensor, x: Tensor, weight: Tensor, *, channel_axis: int = 1, out: None = None
    ) -> tuple[Tensor, Tensor]:
        one = weight.numel() == 1
        dx, products = self._aten._prelu_kernel_backward.default(dy, x, weight if one else _per_channel(weight, x.ndim))
        return dx, products.sum().view(1) if one else products.sum(_other_axes(x))

    def maxout(self, x: Tensor, pieces: int, axis: int = 1, *, out: None = None) -> tuple[Tensor, Any]:
        y, places = x.unflatten(axis, (-1, pieces)).max(axis + 1)
        return y, (places.unsqueeze(axis + 1), pieces, axis)

    def maxout_backward(self, dy: Tensor, saved: Any, *, out: None = None) -> Tensor:
        places, pieces, axis = saved
        dy = dy.unsqueeze(axis + 1)
        shape = (*dy.shape[: axis + 1], pieces, *dy.shape[axis + 2 :])
        return dy.new_zeros(shape).scatter_(axis + 1, places, dy).flatten(axis, axis + 1)

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

    # Norms within samples: as above, the kernels that autograd runs.

    def _tailed(self, normed: tuple[Tensor, ...], kept: tuple[Any, ...], tail: Mapping[str, Any]) -> tuple[Tensor, Any]:
        """The epilogue after a norm, and what its backward needs: that of the epilogue, mean and invstd, the rest."""
        y, epilogue = self._epilogue(normed[0], tail["residual"], tail["activation"], tail["dropout"])
        return y, (epilogue, tail["residual"] is not None, normed[1:], kept)

    def _untailed(self, dy: Tensor, saved: Any, backward: Callable[..., tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        epilogue, has_residual, statistics, kept = saved
        dv = self._epilogue_backward(dy, epilogue)
        gradients = backward(dv, *kept, *statistics)
        return (*gradients, dv) if has_residual else gradients

    def layer_norm(
        self, x: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *,
        out: None = None, rng: Any = None, **tail: Any,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        return self._tailed(self.torch.native_layer_norm(x, shape, weight, bias, eps), (x, shape, weight, bias), tail)

    def layer_norm_backward(self, dy: Tensor, saved: Any, *, out: None = None) -> tuple[Tensor, ...]:
        def backward(dv: Tensor, x: Tensor, shape: Any, weight: Any, bias: Any, mean: Tensor, invstd: Tensor) -> Any:
            return self._aten.native_layer_norm_backward.default(
                dv, x, shape, mean, invstd, weight, bias, [True, True, True]
            )

        return self._untailed(dy, saved, backward)

    def rms_norm(
        self, x: Tensor, normalized_shape: Any, weight: Any = None, eps: float | None = None, *,
        out: None = None, rng: Any = None, **tail: Any,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        axes = tuple(range(-len(shape), 0))
        return self._tailed(self._aten._fused_rms_norm.default(x, shape, weight, eps), (x, axes, weight), tail)

    def rms_norm_backward(self, dy: Tensor, saved: Any, *, out: None = None) -> tuple[Tensor, ...]:
        """Of elementwise operations: torch has no kernel for it on CPUs."""

        def backward(dv: Tensor, x: Tensor, axes: tuple[int, ...], weight: Any, invroot: Tensor) -> Any:
            xhat = x * invroot
            dxhat = dv if weight is None else dv * weight
            dx = (dxhat - xhat * (dxhat * xhat).mean(axes, keepdim=True)) * invroot
            return dx, (dv * xhat).sum(tuple(range(dv.ndim - len(axes))))

        return self._untailed(dy, saved, backward)

    def group_norm(
        self, x: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *,
        channel_axis: int = 1, out: None = None, rng: Any = None, **tail: Any,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        sizes = (x.shape[0], x.shape[1], x[0, 0].numel(), num_groups)
        return self._tailed(self.torch.native_group_norm(x, weight, bias, *sizes, eps), (x, sizes, weight), tail)

    def group_norm_backward(self, dy: Tensor, saved: Any, *, out: None = None) -> tuple[Tensor, ...]:
        def backward(dv: Tensor, x: Tensor, sizes: Any, weight: Any, mean: Tensor, invstd: Tensor) -> Any:
            return self._aten.native_group_norm_backward.default(
                dv, x, mean, invstd, weight, *sizes, [True, True, True]
            )

        return self._untailed(dy, saved, backward)

    def instance_norm(
        self, x: Tensor, *, weight: Any = None, bias: Any = None, eps: float = 1e-5,
        channel_axis: int = 1, out: None = None, rng: Any = None, **tail: Any,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        """As torch has it: batch norm of one sample with all channels of all samples."""
        flat = x.contiguous().view(1, -1, *x.shape[2:])
        repeated = tuple(None if values is None else values.repeat(len(x)) for values in (weight, bias))
        y, *statistics = self.torch.native_batch_norm(flat, *repeated, None, None, True, 0.0, eps)
        return self._tailed((y.view(x.shape), *statistics), (flat, repeated[0], len(x), eps), tail)

    def instance_norm_backward(self, dy: Tensor, saved: Any, *, out: None = None) -> tuple[Tensor, ...]:
        def backward(dv: Tensor, x: Tensor, weight: Any, n: int, eps: float, mean: Tensor, invstd: Tensor) -> Any:
            arrays = dv.contiguous().view(x.shape), x, weight, None, None, mean, invstd
            dx, *sums = self._aten.native_batch_norm_backward.default(*arrays, True, eps, [True, True, True])
            return (dx.view(dv.shape), *(values.view(n, -1).sum(0) for values in sums))

        return self._untailed(dy, saved, backward)

    def dropout(
        self, x: Tensor, p: float = 0.5, training: bool = True, *, rng: Any = None, first: int = 0, out: None = None
    ) -> tuple[Tensor, Any]:
        noise = self._noise(x, p)
        return self._multiply("y", x, noise), noise

    def dropout2d(
        self,
        x: Tensor,
        p: float = 0.5,
        training: bool = True,
        *,
        rng: Any = None,
        channel_axis: int = 1,
        first: int = 0,
        out: None = None,
    ) -> tuple[Tensor, Any]:
        noise = x.new_empty(*x.shape[:2], 1, 1).bernoulli_(1 - p).div_(1 - p)  # as in torch.nn.functional.dropout2d
        return self._multiply("y", x, noise), noise

    def alpha_dropout(
        self, x: Tensor, p: float = 0.5, training: bool = False, *, rng: Any = None, first: int = 0, out: None = None
    ) -> tuple[Tensor, Any]:
        a = ((1 - p) * (1 + p * SELU_LIMIT**2)) ** -0.5
        kept = self.torch.empty_like(x).bernoulli_(1 - p)  # from here on as in torch.nn.functional.alpha_dropout
        shift = kept.add(-1).mul_(-a * SELU_LIMIT).add_(-a * p * SELU_LIMIT)
        noise = kept.mul_(a)
        return self._multiply("y", x, noise).add_(shift), noise

    def gaussian_noise(
        self,
        x: Tensor,
        std: float = 0.1,
        training: bool = True,
        *,
        mean: float = 0.0,
        rng: Any = None,
        first: int = 0,
        out: None = None,
    ) -> Tensor:
        return x + std * self.torch.randn_like(x)

    def dropout_backward(self, dy: Tensor, saved: Any, *, out: None = None) -> Tensor:
        return self._multiply("dy", dy, saved)

    def channel_sum(self, x: Tensor, *, channel_axis: int = -1, out: None = None) -> Tensor:
        return self._channel_sum("sums", x)

    def softmax(self, x: Tensor, axis: int = -1, *, out: None = None) -> Tensor:
        return self.torch.softmax(x, axis)

    def softmax_backward(self, dy: Tensor, y: Tensor, axis: int = -1, *, out: None = None) -> Tensor:
        return self._softmax_backward(dy, y, axis, y.dtype)

    def log_softmax(self, x: Tensor, axis: int = -1, *, out: None = None) -> Tensor:
        return self.torch.log_softmax(x, axis)

    def log_softmax_backward(self, dy: Tensor, y: Tensor, axis: int = -1, *, out: None = None) -> Tensor:
        return self._log_softmax_backward(dy, y, axis, y.dtype)

    def nll_loss(self, log_probs: Tensor, labels: Tensor, *, out: None = None) -> tuple[Tensor, Tensor]:
        mean, ignored = 1, -100
        loss, weight = self._nll_loss_forward(log_probs, labels, None, mean, ignored)
        return loss, self._nll_loss_backward(self._one, log_probs, labels, None, mean, ignored, weight)

    def max_pool2d(
        self, x: Tensor, kernel_size: Any, stride: Any, padding: Any, *, channel_axis: int = 1, out: None = None
    ) -> tuple[Tensor, Any]:
        steps = kernel_size, stride, padding, (1, 1), False
        y, where = self._aten.max_pool2d_with_indices.default(x, *steps)
        return y, (x, steps, where)

    def max_pool2d_backward(self, dy: Tensor, saved: Any, *, out: None = None) -> Tensor:
        x, steps, where = saved
        return self._aten.max_pool2d_with_indices_backward.default(dy, x, *steps, where)

    def avg_pool2d(
        self,
        x: Tensor,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        *,
        count_include_pad: bool = True,
        channel_axis: int = 1,
        out: None = None,
    ) -> Tensor:
        return self._aten.avg_pool2d.default(x, kernel_size, stride, padding, False, count_include_pad)

    def avg_pool2d_backward(
        self,
        dy: Tensor,
        input_size: Any,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        *,
        count_include_pad: bool = True,
        channel_axis: int = 1,
        out: None = None,
    ) -> Tensor:
        form = self.torch.contiguous_format if channel_axis == 1 else self.torch.channels_last
        x = self.torch.empty((*dy.shape[:2], *input_size), memory_format=form)  # for its shape
        steps = kernel_size, stride, padding, False, count_include_pad, None
        return self._aten.avg_pool2d_backward.default(dy, x, *steps)

    def global_avg_pool2d(self, x: Tensor, *, channel_axis: int = 1, out: None = None) -> Tensor:
        return x.mean((2, 3))

    def global_avg_pool2d_backward(
        self, dy: Tensor, input_size: Any, *, channel_axis: int = 1, out: None = None
    ) -> Tensor:
        form = self.torch.contiguous_format if channel_axis == 1 else self.torch.channels_last
        share = dy / (input_size[0] * input_size[1])
        return share[:, :, None, None].expand(*dy.shape, *input_size).contiguous(memory_format=form)

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
