"""jax.jit: every operation, chain, optimizer step and training step compiled as one function."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastnn.bench.peers import rules
from fastnn.bench.peers.base import Direction, Job, Peer, needed, takes
from fastnn.bench.peers.common import other_axes, per_channel
from fastnn.bench.steps import EPS, Network, StepJob
from fastnn.cases import Case, Inputs, OptimizerCase

Traced = Any  # jax.Array, or what stands for one while a function is traced


class JaxJit(Peer):
    """Gradients come from `jax.vjp`, random masks from the default generator.

    XLA has no setting for its threads: it takes as many as the process may run on.
    """

    name = "jax"
    label = "jax.jit"
    library = distribution = "jax"
    own_masks = True
    convolves = True
    cap: ClassVar[Mapping[str, str]] = {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"}

    def __init__(self, threads: int) -> None:
        self.jax: Any = importlib.import_module("jax")
        self.ops = _Operations(self.jax)

    def job(self, case: Case, inputs: Inputs, direction: Direction) -> Job | None:
        if not all(hasattr(self.ops, name.removesuffix("_backward")) for name in needed(case)):
            return None
        try:
            if isinstance(case, OptimizerCase):
                return self._optimizer_job(case, inputs)
            return self._forward_job(case, inputs) if direction == "forward" else self._backward_job(case, inputs)
        except NotImplementedError:
            return None

    def _arrays(self, inputs: Inputs) -> dict[str, Traced]:
        """What a case takes, as JAX has it; the generator becomes a key."""
        given = {name: self.jax.numpy.asarray(v) for name, v in inputs.items() if name not in ("rng", "dy")}
        return given | {"key": self.jax.random.key(0)}

    def _outputs(self, case: Case, arrays: Mapping[str, Traced]) -> dict[str, Traced]:
        """The outputs of `case`; running statistics, updated in place, travel in cells."""
        inputs = {name: _Cell(v) if name.startswith("running") else v for name, v in arrays.items()}
        outputs, _ = case.forward(self.ops, inputs | {"rng": inputs["key"]})
        return {name: v.value if isinstance(v, _Cell) else v for name, v in outputs.items()}

    def _forward_job(self, case: Case, inputs: Inputs) -> Job:
        arrays = self._arrays(inputs)
        names: list[str] = []

        def forward(*values: Traced) -> tuple[Traced, ...]:
            outputs = self._outputs(case, dict(zip(arrays, values, strict=True)))
            names[:] = outputs
            return tuple(outputs.values())

        compiled, values = self.jax.jit(forward), tuple(arrays.values())
        first = _ready(compiled(*values))
        return Job(lambda: _ready(compiled(*values)), lambda: _numpy(dict(zip(names, first, strict=True))))

    def _backward_job(self, case: Case, inputs: Inputs) -> Job:
        arrays = self._arrays(inputs)
        variables = {name: arrays.pop(name) for name in dict.fromkeys(case.gradients.values())}
        dy = self.jax.numpy.asarray(inputs["dy"])

        def forward(variables: dict[str, Traced], rest: dict[str, Traced]) -> Any:
            def primal(given: dict[str, Traced]) -> tuple[Traced, dict[str, Traced]]:
                outputs = self._outputs(case, given | rest)
                return outputs["y"], outputs

            return self.jax.vjp(primal, variables, has_aux=True)

        order: list[int] = []

        def backward(pullback: Any, dy: Traced) -> tuple[Traced, ...]:
            (gradients,) = pullback(dy)
            unique = list({id(g): g for g in gradients.values()}.values())  # that of a residual may be that of x
            order[:] = [next(i for i, u in enumerate(unique) if u is g) for g in gradients.values()]
            return tuple(unique)

        _, pullback, results = self.jax.jit(forward)(variables, arrays)
        compiled = self.jax.jit(backward)
        first = _ready(compiled(pullback, dy))

        def outputs() -> dict[str, Any]:
            gradients = dict(zip(sorted(variables), (first[i] for i in order), strict=True))
            return _numpy(results | {output: gradients[name] for output, name in case.gradients.items()})

        return Job(lambda: _ready(compiled(pullback, dy)), outputs)

    def _optimizer_job(self, case: OptimizerCase, inputs: Inputs) -> Job:
        if not takes(getattr(self.ops, case.ops[0]), case):
            raise NotImplementedError
        changed = ("params", *case.state)
        # copies, because a step gives their memory to its results
        values = {name: [self.jax.numpy.array(a) for a in inputs[name]] for name in ("grads", *changed)}

        def compiled(number: int) -> Callable[[], Any]:
            def step(grads: list[Traced], updated: tuple[list[Traced], ...]) -> Any:
                lists = dict(zip(changed, map(list, updated), strict=True))
                norm = case.step(self.ops, lists | {"grads": grads}, number)
                return norm, tuple(lists.values())

            run = self.jax.jit(step, donate_argnums=1)

            def call() -> Any:
                norm, updated = self.jax.block_until_ready(run(values["grads"], tuple(values[n] for n in changed)))
                values.update(zip(changed, updated, strict=True))
                return norm

            return call

        norm = compiled(1)()
        compiled(2)()
        found: dict[str, Any] = _numpy({f"{name}{i}": a for name in changed for i, a in enumerate(values[name])})
        if norm is not None:
            found["norm"] = float(norm)
        return Job(compiled(3), lambda: found)

    def train_step(self, network: Network, batch: int) -> StepJob | None:
        if not hasattr(self.ops, network.activation):
            return None
        timed = _Training(self, network, batch)
        checked = _Training(self, network.without_dropout(), batch)
        return StepJob(timed.step, lambda: float(checked.step()), lambda: _numpy(checked.state["params"]))


def _ready(arrays: tuple[Traced, ...]) -> tuple[Traced, ...]:
    for array in arrays:
        array.block_until_ready()
    return arrays


def _numpy(arrays: Mapping[str, Traced]) -> dict[str, NDArray[Any]]:
    return {name: np.array(array) for name, array in arrays.items()}


def _last(normalized_shape: int | tuple[int, ...]) -> tuple[int, ...]:
    """The last axes, of this shape."""
    return (-1,) if isinstance(normalized_shape, int) else tuple(range(-len(normalized_shape), 0))


class _Cell:
    """An array that an operation replaces."""

    def __init__(self, value: Traced) -> None:
        self.value = value

    @property
    def size(self) -> int:
        return int(self.value.size)


class _Operations:
    """What a case calls while it is traced: the names and arguments of `fastnn.functional`, nothing kept."""

    def __init__(self, jax: Any) -> None:
        self.jax, self.np = jax, jax.numpy

    def relu(self, x: Traced, *, out: None = None) -> Traced:
        return self.jax.nn.relu(x)

    def leaky_relu(self, x: Traced, negative_slope: float = 0.01, *, out: None = None) -> Traced:
        return self.jax.nn.leaky_relu(x, negative_slope)

    def sigmoid(self, x: Traced, *, out: None = None) -> Traced:
        return self.jax.nn.sigmoid(x)

    def tanh(self, x: Traced, *, out: None = None) -> Traced:
        return self.np.tanh(x)

    def elu(self, x: Traced, alpha: float = 1.0, *, out: None = None) -> Traced:
        return self.jax.nn.elu(x, alpha)

    def selu(self, x: Traced, *, out: None = None) -> Traced:
        return self.jax.nn.selu(x)

    def celu(self, x: Traced, alpha: float = 1.0, *, out: None = None) -> Traced:
        return self.jax.nn.celu(x, alpha)

    def gelu(self, x: Traced, *, out: None = None) -> Traced:
        return self.jax.nn.gelu(x, approximate=False)

    def gelu_tanh(self, x: Traced, *, out: None = None) -> Traced:
        return self.jax.nn.gelu(x, approximate=True)

    def silu(self, x: Traced, *, out: None = None) -> Traced:
        return self.jax.nn.silu(x)

    def mish(self, x: Traced, *, out: None = None) -> Traced:
        return self.jax.nn.mish(x)

    def softsign(self, x: Traced, *, out: None = None) -> Traced:
        return self.jax.nn.soft_sign(x)

    def hardtanh(self, x: Traced, min_val: float = -1.0, max_val: float = 1.0, *, out: None = None) -> Traced:
        return self.np.clip(x, min_val, max_val)

    def relu6(self, x: Traced, *, out: None = None) -> Traced:
        return self.jax.nn.relu6(x)

    def hardsigmoid(self, x: Traced, *, out: None = None) -> Traced:
        return self.jax.nn.hard_sigmoid(x)

    def hardswish(self, x: Traced, *, out: None = None) -> Traced:
        return self.jax.nn.hard_silu(x)

    def logsigmoid(self, x: Traced, *, out: None = None) -> Traced:
        return self.jax.nn.log_sigmoid(x)

    def threshold(self, x: Traced, threshold: float = 0.0, value: float = 0.0, *, out: None = None) -> Traced:
        return self.np.where(x > threshold, x, value)

    def softplus(self, x: Traced, beta: float = 1.0, threshold: float = 20.0, *, out: None = None) -> Traced:
        return self.np.where(beta * x > threshold, x, self.jax.nn.softplus(beta * x) / beta)

    def prelu(self, x: Traced, weight: Traced, *, channel_axis: int = 1, out: None = None) -> Traced:
        slopes = weight if weight.size == 1 else per_channel(weight, x.ndim, channel_axis)
        return self.np.where(x > 0, x, slopes * x)

    def dropout(
        self, x: Traced, p: float = 0.5, training: bool = True, *, rng: Any = None, first: int = 0, out: None = None
    ) -> tuple[Traced, None]:
        if p == 0 or not training:
            return x, None
        keep = self.jax.random.bernoulli(rng, 1 - p, x.shape)
        return self.np.where(keep, x / (1 - p), 0) if p < 1 else self.np.zeros_like(x), None

    def dropout2d(
        self,
        x: Traced,
        p: float = 0.5,
        training: bool = True,
        *,
        rng: Any = None,
        channel_axis: int = 1,
        first: int = 0,
        out: None = None,
    ) -> tuple[Traced, None]:
        shape = [n if axis in (0, channel_axis % x.ndim) else 1 for axis, n in enumerate(x.shape)]
        return self.np.where(self.jax.random.bernoulli(rng, 1 - p, shape), x / (1 - p), 0), None

    def gaussian_noise(
        self,
        x: Traced,
        std: float = 0.1,
        training: bool = True,
        *,
        mean: float = 0.0,
        rng: Any = None,
        first: int = 0,
        out: None = None,
    ) -> Traced:
        return x + std * self.jax.random.normal(rng, x.shape, x.dtype)

    def _epilogue(self, v: Traced, residual: Any, activation: Any, p: float, training: bool, rng: Any) -> Traced:
        if residual is not None:
            v = v + residual
        if isinstance(activation, str):
            v = getattr(self, activation)(v)
        elif activation is not None:
            v = getattr(self, activation.name)(v, **activation.params)
        return self.dropout(v, p, training, rng=rng)[0]

    def bias_act(
        self,
        x: Traced,
        bias: Traced | None = None,
        *,
        residual: Traced | None = None,
        activation: Any = None,
        dropout: float = 0.0,
        rng: Any = None,
        training: bool = True,
        channel_axis: int = -1,
        out: None = None,
    ) -> tuple[Traced, None]:
        v = x if bias is None else x + per_channel(bias, x.ndim, channel_axis)
        return self._epilogue(v, residual, activation, dropout, training, rng), None

    def batch_norm(
        self,
        x: Traced,
        running_mean: _Cell | None = None,
        running_var: _Cell | None = None,
        weight: Traced | None = None,
        bias: Traced | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
        *,
        pre_bias: Traced | None = None,
        residual: Traced | None = None,
        activation: Any = None,
        dropout: float = 0.0,
        rng: Any = None,
        channel_axis: int = 1,
        out: None = None,
    ) -> tuple[Traced, None]:
        def channels(values: Traced) -> Traced:
            return per_channel(values, x.ndim, channel_axis)

        if pre_bias is not None:
            x = x + channels(pre_bias)
        if training:
            axes = other_axes(x.ndim, channel_axis)
            mean = x.mean(axes)
            var = self.np.square(x).mean(axes) - self.np.square(mean)  # one pass over x, as in Flax
            if running_mean is not None and running_var is not None:
                count = x.size // mean.size
                running_mean.value = (1 - momentum) * running_mean.value + momentum * mean
                running_var.value = (1 - momentum) * running_var.value + momentum * var * (count / (count - 1))
        else:
            assert running_mean is not None and running_var is not None
            mean, var = running_mean.value, running_var.value
        scale = self.jax.lax.rsqrt(var + eps)
        if weight is not None:
            scale = scale * weight
        y = (x - channels(mean)) * channels(scale)
        if bias is not None:
            y = y + channels(bias)
        return self._epilogue(y, residual, activation, dropout, training, rng), None

    def _standardised(self, x: Traced, axes: tuple[int, ...], eps: float) -> Traced:
        mean = x.mean(axes, keepdims=True)
        var = self.np.square(x).mean(axes, keepdims=True) - self.np.square(mean)  # one pass over x, as in Flax
        return (x - mean) * self.jax.lax.rsqrt(var + eps)

    def layer_norm(
        self, x: Traced, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *,
        residual: Any = None, activation: Any = None, dropout: float = 0.0, rng: Any = None, out: None = None,
    ) -> tuple[Traced, None]:  # fmt: skip
        y = self._standardised(x, _last(normalized_shape), eps)
        y = y if weight is None else y * weight
        y = y if bias is None else y + bias
        return self._epilogue(y, residual, activation, dropout, True, rng), None

    def rms_norm(
        self, x: Traced, normalized_shape: Any, weight: Any = None, eps: float | None = None, *,
        residual: Any = None, activation: Any = None, dropout: float = 0.0, rng: Any = None, out: None = None,
    ) -> tuple[Traced, None]:  # fmt: skip
        square = self.np.square(x).mean(_last(normalized_shape), keepdims=True)
        y = x * self.jax.lax.rsqrt(square + (self.np.finfo(x.dtype).eps if eps is None else eps))
        y = y if weight is None else y * weight
        return self._epilogue(y, residual, activation, dropout, True, rng), None

    def group_norm(
        self, x: Traced, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *,
        residual: Any = None, activation: Any = None, dropout: float = 0.0, rng: Any = None, channel_axis: int = 1,
        out: None = None,
    ) -> tuple[Traced, None]:  # fmt: skip
        axis = channel_axis % x.ndim
        split = x.reshape(*x.shape[:axis], num_groups, -1, *x.shape[axis + 1 :])
        y = self._standardised(split, tuple(i for i in range(1, split.ndim) if i != axis), eps).reshape(x.shape)
        y = y if weight is None else y * per_channel(weight, x.ndim, channel_axis)
        y = y if bias is None else y + per_channel(bias, x.ndim, channel_axis)
        return self._epilogue(y, residual, activation, dropout, True, rng), None

    def instance_norm(
        self, x: Traced, *, weight: Any = None, bias: Any = None, eps: float = 1e-5, channel_axis: int = 1,
        **options: Any,
    ) -> tuple[Traced, None]:  # fmt: skip
        return self.group_norm(x, x.shape[channel_axis], weight, bias, eps, channel_axis=channel_axis, **options)

    def channel_sum(self, x: Traced, *, channel_axis: int = -1, out: None = None) -> Traced:
        return x.sum(other_axes(x.ndim, channel_axis))

    def softmax(self, x: Traced, axis: int = -1, *, out: None = None) -> Traced:
        return self.jax.nn.softmax(x, axis)

    def log_softmax(self, x: Traced, axis: int = -1, *, out: None = None) -> Traced:
        return self.jax.nn.log_softmax(x, axis)

    def mean_nll(self, log_probs: Traced, labels: Traced) -> Traced:
        return -self.np.take_along_axis(log_probs, labels[:, None], axis=1).mean()

    def nll_loss(self, log_probs: Traced, labels: Traced, *, out: None = None) -> tuple[Traced, Traced]:
        loss, gradient = self.jax.value_and_grad(self.mean_nll)(log_probs, labels)
        return loss, gradient

    def _reduce(self, x: Traced, start: float, combine: Any, steps: Any, channel_axis: int) -> Traced:
        """Of the windows."""
        (kh, kw), (sh, sw), (ph, pw) = steps
        if channel_axis == 1:
            sizes = (1, 1, kh, kw), (1, 1, sh, sw), ((0, 0), (0, 0), (ph, ph), (pw, pw))
        else:
            sizes = (1, kh, kw, 1), (1, sh, sw, 1), ((0, 0), (ph, ph), (pw, pw), (0, 0))
        return self.jax.lax.reduce_window(x, start, combine, *sizes)

    def max_pool2d(
        self, x: Traced, kernel_size: Any, stride: Any, padding: Any, *, channel_axis: int = 1, out: None = None
    ) -> tuple[Traced, None]:
        steps = kernel_size, stride, padding
        return self._reduce(x, -np.inf, self.jax.lax.max, steps, channel_axis), None

    def avg_pool2d(
        self,
        x: Traced,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        *,
        count_include_pad: bool = True,
        channel_axis: int = 1,
        out: None = None,
    ) -> Traced:
        steps = kernel_size, stride, padding
        return self._reduce(x, 0.0, self.jax.lax.add, steps, channel_axis) / (kernel_size[0] * kernel_size[1])

    def global_avg_pool2d(self, x: Traced, *, channel_axis: int = 1, out: None = None) -> Traced:
        return x.mean((2, 3) if channel_axis == 1 else (1, 2))

    def convolution(self, x: Traced, weight: Traced) -> Traced:
        """Of 3 x 3 pixels with padding 1, for training steps."""
        return self.jax.lax.conv(x, weight, (1, 1), "SAME")

    def mean_loss(self, logits: Traced, labels: Traced) -> Traced:
        """Cross-entropy of a batch, as in Optax."""
        targets = self.np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
        return (self.jax.nn.logsumexp(logits, axis=1) - targets).mean()

    def softmax_cross_entropy(self, logits: Traced, labels: Traced, *, out: None = None) -> tuple[Traced, Traced]:
        loss, gradient = self.jax.value_and_grad(self.mean_loss)(logits, labels)
        return loss, gradient

    def mse_loss(self, x: Traced, target: Traced, reduction: str, *, out: None = None) -> tuple[Traced, Traced]:
        return self._elementwise(x, lambda v: (v - target) ** 2, reduction)

    def l1_loss(self, x: Traced, target: Traced, reduction: str, *, out: None = None) -> tuple[Traced, Traced]:
        return self._elementwise(x, lambda v: self.np.abs(v - target), reduction)

    def smooth_l1_loss(
        self, x: Traced, target: Traced, reduction: str, beta: float, *, out: None = None
    ) -> tuple[Traced, Traced]:
        return self._elementwise(x, lambda v: self._huber(v - target, beta) / beta, reduction)

    def huber_loss(
        self, x: Traced, target: Traced, reduction: str, delta: float, *, out: None = None
    ) -> tuple[Traced, Traced]:
        return self._elementwise(x, lambda v: self._huber(v - target, delta), reduction)

    def binary_cross_entropy_with_logits(
        self, x: Traced, target: Traced, *, reduction: str, out: None = None
    ) -> tuple[Traced, Traced]:
        def losses(v: Traced) -> Traced:  # as in Optax
            log_p, log_not_p = self.jax.nn.log_sigmoid(v), self.jax.nn.log_sigmoid(-v)
            return -target * log_p - (1 - target) * log_not_p

        return self._elementwise(x, losses, reduction)

    def _huber(self, d: Traced, delta: float) -> Traced:
        size = self.np.abs(d)
        quadratic = self.np.minimum(size, delta)  # as in Optax
        return 0.5 * quadratic**2 + delta * (size - quadratic)

    def _elementwise(self, x: Traced, losses: Callable[[Traced], Traced], reduction: str) -> tuple[Traced, Traced]:
        value, gradient = self.jax.value_and_grad(lambda v: getattr(losses(v), reduction)())(x)
        return value, gradient

    def hinge_loss(self, scores: Traced, labels: Traced, *, out: None = None) -> tuple[Traced, Traced]:
        wrong = 1 - self.jax.nn.one_hot(labels, scores.shape[1], dtype=scores.dtype)

        def mean(x: Traced) -> Traced:
            own = self.np.take_along_axis(x, labels[:, None], axis=1)
            return (wrong * self.jax.nn.relu(x - own + 1)).sum(axis=1).mean()

        loss, gradient = self.jax.value_and_grad(mean)(scores)
        return loss, gradient

    def _clipped(self, grads: Sequence[Traced], clip_norm: float | None) -> tuple[Traced | None, Sequence[Traced]]:
        if clip_norm is None:
            return None, grads
        norm = self.np.sqrt(sum(self.np.vdot(g, g) for g in grads))
        factor = self.np.minimum(1.0, clip_norm / (norm + 1e-6))
        return norm, [g * factor for g in grads]

    def sgd_step(
        self,
        params: list[Traced],
        grads: Sequence[Traced],
        momentum_buffers: list[Traced] | None,
        *,
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        first_step: bool = False,
        clip_norm: float | None = None,
    ) -> Traced | None:
        norm, grads = self._clipped(grads, clip_norm)
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            if weight_decay:
                g = g + weight_decay * p
            if momentum_buffers is not None:
                buf = g if first_step else momentum * momentum_buffers[i] + (1 - dampening) * g
                momentum_buffers[i] = buf
                g = g + momentum * buf if nesterov else buf
            params[i] = p - lr * g
        return norm

    def adam_step(
        self,
        params: list[Traced],
        grads: Sequence[Traced],
        exp_avgs: list[Traced],
        exp_avg_sqs: list[Traced],
        max_exp_avg_sqs: list[Traced] | None = None,
        *,
        lr: float,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        bias_correction1: Any = 1.0,
        bias_correction2: Any = 1.0,
        clip_norm: float | None = None,
    ) -> Traced | None:
        norm, grads = self._clipped(grads, clip_norm)
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            if weight_decay and decoupled:
                p = p * (1 - lr * weight_decay)
            elif weight_decay:
                g = g + weight_decay * p
            exp_avgs[i] = m = beta1 * exp_avgs[i] + (1 - beta1) * g
            exp_avg_sqs[i] = v = beta2 * exp_avg_sqs[i] + (1 - beta2) * g * g
            if max_exp_avg_sqs is not None:
                max_exp_avg_sqs[i] = v = self.np.maximum(max_exp_avg_sqs[i], v)
            params[i] = p - (lr / bias_correction1) * m / (self.np.sqrt(v / bias_correction2) + eps)
        return norm

    @property
    def array_module(self) -> Any:
        """What `rules` computes with."""
        return self.np

    def replace(self, arrays: list[Traced], index: int, value: Traced) -> None:
        """What `rules` puts in the place of an array."""
        arrays[index] = value

    adadelta_step = rules.rule_step(rules.adadelta)
    adagrad_step = rules.rule_step(rules.adagrad)
    adamax_step = rules.rule_step(rules.adamax)
    lion_step = rules.rule_step(rules.lion)
    nadam_step = rules.rule_step(rules.nadam)
    radam_step = rules.rule_step(rules.radam)
    rmsprop_step = rules.rule_step(rules.rmsprop)


class _Training:
    """A network as a function of its parameters; a compiled step turns its state into the next, in the same memory."""

    def __init__(self, peer: JaxJit, network: Network, batch: int) -> None:
        jax, jnp = peer.jax, peer.jax.numpy
        self.jax, self.ops, self.network = jax, peer.ops, network
        self.data = tuple(jnp.asarray(array) for array in network.data(batch))
        params = {name: jnp.array(value) for name, value in network.parameters().items()}
        self.state = {
            "params": params,
            "moments": [jax.tree.map(jnp.zeros_like, params) for _ in range(2)],
            "running": [(jnp.zeros(network.width(i)), jnp.ones(network.width(i))) for i in network.hidden()],
            "key": jax.random.key(0),
            "count": jnp.zeros((), jnp.int32),
        }
        self.compiled = jax.jit(self._next, donate_argnums=0)

    def step(self) -> Traced:
        self.state, loss = self.jax.block_until_ready(self.compiled(self.state, *self.data))
        return loss

    def _loss(self, p: dict[str, Traced], running: Any, key: Traced, x: Traced, labels: Traced) -> tuple[Traced, Any]:
        """The loss, and the new running statistics."""
        network, updated = self.network, []
        for number, statistics, mask_key in zip(
            network.hidden(), running, self.jax.random.split(key, network.layers)[1:], strict=True
        ):
            image = network.image(number)
            x = self.ops.convolution(x, p[f"W{number}"]) if image else x @ p[f"W{number}"].T
            x = x + per_channel(p[f"b{number}"], x.ndim, 1)
            tail: dict[str, Any] = {"activation": network.activation, "dropout": network.dropout, "rng": mask_key}
            if network.batch_norm:
                mean, var = map(_Cell, statistics)
                scale, shift = p[f"gamma{number}"], p[f"beta{number}"]
                x, _ = self.ops.batch_norm(x, mean, var, scale, shift, training=True, eps=EPS, **tail)
                statistics = mean.value, var.value
            else:
                x, _ = self.ops.bias_act(x, **tail)
            updated.append(statistics)
            if image and number < network.convolutions:
                x, _ = self.ops.max_pool2d(x, (2, 2), (2, 2), (0, 0))
            elif image:
                x = self.ops.global_avg_pool2d(x)
        last = network.layers
        return self.ops.mean_loss(x @ p[f"W{last}"].T + p[f"b{last}"], labels), updated

    def _next(self, state: dict[str, Any], x: Traced, labels: Traced) -> tuple[dict[str, Any], Traced]:
        key, mask_key = self.jax.random.split(state["key"])
        gradient = self.jax.value_and_grad(self._loss, has_aux=True)
        (loss, running), grads = gradient(state["params"], state["running"], mask_key, x, labels)
        count = state["count"] + 1
        names = list(grads)
        lists = [[tree[name] for name in names] for tree in (state["params"], grads, *state["moments"])]
        self.ops.adam_step(
            *lists,
            lr=self.network.lr,
            bias_correction1=1 - 0.9**count,
            bias_correction2=1 - 0.999**count,
        )
        params, _, *moments = (dict(zip(names, values, strict=True)) for values in lists)
        return {"params": params, "moments": moments, "running": running, "key": key, "count": count}, loss
