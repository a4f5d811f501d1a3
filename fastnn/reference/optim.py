"""Steps of the optimizers, in place.

Each function is the formula; `clipped` and `penalised` are what a gradient goes through before.  `optimizer_step` is
what the classes of `fastnn.optim` call inside `fastnn.use_reference`: groups, averages and constraints around the same
functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from fastnn import optim
from fastnn._convert import as_array
from fastnn.reference.base import Array, wide

__all__ = [
    "adadelta_step",
    "adagrad_step",
    "adam_step",
    "adamax_step",
    "lion_step",
    "nadam_step",
    "radam_step",
    "rmsprop_step",
    "sgd_step",
]

Function = TypeVar("Function", bound=Callable[..., Any])
Arrays = Sequence[Array]


def _documented(function: Function) -> Function:
    """Complete a docstring by the description of the parameters, which are those of `fastnn.optim`."""
    described = getattr(optim, function.__name__).__doc__
    if function.__doc__ and described:  # there are none with python -OO
        function.__doc__ += "\n    Parameters\n" + described.partition("    Parameters\n")[2]
    return function


def gradient_norm(grads: Arrays) -> float:
    """Norm of all gradients together."""
    return math.sqrt(sum(np.square(g.astype(wide(g))).sum().item() for g in grads))


def clip_factor(norm: float, clip_norm: float | None, clip_form: str) -> float:
    """What gradients of that norm are multiplied with."""
    if clip_norm is None:
        return 1.0
    if clip_form == "unit":
        return 1.0 if norm <= clip_norm else 1 / norm  # NaN stays NaN
    return float(np.minimum(1.0, clip_norm / (norm + 1e-6)))


def clipped(
    grads: Arrays, clip_norm: float | None, clip_value: float | None, clip_form: str, nonfinite: str
) -> tuple[float | None, list[Array] | None]:
    """The norm, if anything asks for it, and the gradients within their limits; None if there is to be no step."""
    norm = None
    if clip_norm is not None or nonfinite != "allow":
        norm = gradient_norm(grads)
        if nonfinite != "allow" and not math.isfinite(norm):
            if nonfinite == "skip":
                return norm, None
            bad = next(i for i in range(len(grads)) if not math.isfinite(gradient_norm(grads[: i + 1])))
            raise ValueError(f"grads[{bad}]: expected finite values, got a norm that is not")
    factor = 1.0 if norm is None else clip_factor(norm, clip_norm, clip_form)
    scaled = [grad * factor for grad in grads]
    return norm, scaled if clip_value is None else [np.clip(g, -clip_value, clip_value) for g in scaled]


def penalised(g: Array, param: Array, weight_decay: float, l1: float) -> Array:
    """The gradient with the slopes of the penalties."""
    return g + weight_decay * param + l1 * np.sign(param)


def flush(moment: Array) -> Array:
    """Denormals to zero, as they would slow down every later step."""
    return np.where(np.abs(moment) < np.finfo(moment.dtype).tiny, moment.dtype.type(0), moment)


@_documented
def sgd_step(
    params: Arrays,
    grads: Arrays,
    momentum_buffers: Arrays | None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    first_step: bool = False,
    form: str = "torch",
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_form: str = "scale",
    nonfinite: str = "allow",
) -> float | None:
    """Stochastic gradient descent, in place, in the form of `torch.optim.SGD` ::

        g   = clip(grad) + weight_decay * param + l1 * sign(param)
        buf = g at the first step, else momentum * buf + (1 - dampening) * g
        d   = g + momentum * buf with nesterov, else buf             (g without momentum)
        param = param - lr * d

    or with ``form="lr_inside"`` in that of Keras ::

        buf = momentum * buf - lr * g
        param = param + buf, with nesterov param + (momentum * buf - lr * g)

    """
    norm, taken = clipped(grads, clip_norm, clip_value, clip_form, nonfinite)
    if taken is None:
        return norm
    for i, (param, g) in enumerate(zip(params, taken, strict=True)):
        g = penalised(g, param, weight_decay, l1)
        if momentum_buffers is None or momentum == 0:
            param -= lr * g
            continue
        buf = momentum_buffers[i]
        if form == "lr_inside":
            buf[...] = flush(momentum * buf - lr * g)
            param += momentum * buf - lr * g if nesterov else buf
        else:
            buf[...] = flush(g if first_step else momentum * buf + (1 - dampening) * g)
            param -= lr * (g + momentum * buf if nesterov else buf)
    return norm


@_documented
def adam_step(
    params: Arrays,
    grads: Arrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    max_exp_avg_sqs: Arrays | None = None,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    bias_correction1: float = 1.0,
    bias_correction2: float = 1.0,
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_form: str = "scale",
    nonfinite: str = "allow",
) -> float | None:
    """Adam, or AdamW with ``decoupled=True``, or AMSGrad with `max_exp_avg_sqs`, in place ::

        param = param * (1 - lr * weight_decay)                      (only if decoupled)
        g = clip(grad) + l1 * sign(param)                            (+ weight_decay * param unless decoupled)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        u = max(u, v) with AMSGrad, else v
        param = param - lr / bias_correction1 * m / (sqrt(u) / sqrt(bias_correction2) + eps)

    D. P. Kingma, J. Ba: Adam (ICLR 2015); I. Loshchilov, F. Hutter: Decoupled weight decay regularization (ICLR 2019);
    S. J. Reddi, S. Kale, S. Kumar: On the convergence of Adam and beyond (ICLR 2018).

    """
    norm, taken = clipped(grads, clip_norm, clip_value, clip_form, nonfinite)
    if taken is None:
        return norm
    for i, (param, g, m, v) in enumerate(zip(params, taken, exp_avgs, exp_avg_sqs, strict=True)):
        if decoupled:
            param *= 1 - lr * weight_decay
        g = penalised(g, param, 0.0 if decoupled else weight_decay, l1)
        m[...] = flush(beta1 * m + (1 - beta1) * g)
        v[...] = flush(beta2 * v + (1 - beta2) * (g * g))
        u = v
        if max_exp_avg_sqs is not None:
            u = max_exp_avg_sqs[i]
            np.maximum(u, v, out=u)
        param -= (lr / bias_correction1) * (m / (np.sqrt(u) * (1 / math.sqrt(bias_correction2)) + eps))
    return norm


@_documented
def nadam_step(
    params: Arrays,
    grads: Arrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    mu: float,
    mu_next: float,
    mu_product: float,
    bias_correction2: float,
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_form: str = "scale",
    nonfinite: str = "allow",
) -> float | None:
    """NAdam, in place ::

        param = param * (1 - lr * weight_decay)                      (only if decoupled)
        g = clip(grad) + l1 * sign(param)                            (+ weight_decay * param unless decoupled)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        d = mu_next / (1 - mu_product * mu_next) * m + (1 - mu) / (1 - mu_product) * g
        param = param - lr * d / (sqrt(v) / sqrt(bias_correction2) + eps)

    T. Dozat: Incorporating Nesterov momentum into Adam (ICLR workshop 2016).

    """
    norm, taken = clipped(grads, clip_norm, clip_value, clip_form, nonfinite)
    if taken is None:
        return norm
    for param, g, m, v in zip(params, taken, exp_avgs, exp_avg_sqs, strict=True):
        if decoupled:
            param *= 1 - lr * weight_decay
        g = penalised(g, param, 0.0 if decoupled else weight_decay, l1)
        m[...] = flush(beta1 * m + (1 - beta1) * g)
        v[...] = flush(beta2 * v + (1 - beta2) * (g * g))
        d = mu_next / (1 - mu_product * mu_next) * m + (1 - mu) / (1 - mu_product) * g
        param -= lr * (d / (np.sqrt(v) * (1 / math.sqrt(bias_correction2)) + eps))
    return norm


@_documented
def radam_step(
    params: Arrays,
    grads: Arrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    bias_correction1: float = 1.0,
    rectification: float | None,
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_form: str = "scale",
    nonfinite: str = "allow",
) -> float | None:
    """RAdam, in place ::

        param = param * (1 - lr * weight_decay)                      (only if decoupled)
        g = clip(grad) + l1 * sign(param)                            (+ weight_decay * param unless decoupled)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        param = param - lr / bias_correction1 * m * rectification / (sqrt(v) + eps)
        param = param - lr / bias_correction1 * m                    (without rectification)

    L. Liu et al.: On the variance of the adaptive learning rate and beyond (ICLR 2020).

    """
    norm, taken = clipped(grads, clip_norm, clip_value, clip_form, nonfinite)
    if taken is None:
        return norm
    for param, g, m, v in zip(params, taken, exp_avgs, exp_avg_sqs, strict=True):
        if decoupled:
            param *= 1 - lr * weight_decay
        g = penalised(g, param, 0.0 if decoupled else weight_decay, l1)
        m[...] = flush(beta1 * m + (1 - beta1) * g)
        v[...] = flush(beta2 * v + (1 - beta2) * (g * g))
        size = lr / bias_correction1
        param -= size * m if rectification is None else size * rectification * (m / (np.sqrt(v) + eps))
    return norm


@_documented
def adamax_step(
    params: Arrays,
    grads: Arrays,
    exp_avgs: Arrays,
    exp_infs: Arrays,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    bias_correction1: float = 1.0,
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_form: str = "scale",
    nonfinite: str = "allow",
) -> float | None:
    """Adamax, in place ::

        g = clip(grad) + weight_decay * param + l1 * sign(param)
        m = beta1 * m + (1 - beta1) * g
        u = max(beta2 * u, |g| + eps)
        param = param - lr / bias_correction1 * m / u

    D. P. Kingma, J. Ba: Adam (ICLR 2015), section 7.1.

    """
    norm, taken = clipped(grads, clip_norm, clip_value, clip_form, nonfinite)
    if taken is None:
        return norm
    for param, g, m, u in zip(params, taken, exp_avgs, exp_infs, strict=True):
        g = penalised(g, param, weight_decay, l1)
        m[...] = flush(beta1 * m + (1 - beta1) * g)
        u[...] = np.maximum(beta2 * u, np.abs(g) + eps)
        param -= (lr / bias_correction1) * (m / u)
    return norm


@_documented
def lion_step(
    params: Arrays,
    grads: Arrays,
    exp_avgs: Arrays,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_form: str = "scale",
    nonfinite: str = "allow",
) -> float | None:
    """Lion, in place ::

        param = param * (1 - lr * weight_decay)
        g = clip(grad) + l1 * sign(param)
        param = param - lr * sign(beta1 * m + (1 - beta1) * g)
        m = beta2 * m + (1 - beta2) * g

    X. Chen et al.: Symbolic discovery of optimization algorithms (NeurIPS 2023).

    """
    norm, taken = clipped(grads, clip_norm, clip_value, clip_form, nonfinite)
    if taken is None:
        return norm
    for param, g, m in zip(params, taken, exp_avgs, strict=True):
        param *= 1 - lr * weight_decay
        g = penalised(g, param, 0.0, l1)
        param -= lr * np.sign(beta1 * m + (1 - beta1) * g)
        m[...] = flush(beta2 * m + (1 - beta2) * g)
    return norm


@_documented
def adagrad_step(
    params: Arrays,
    grads: Arrays,
    sums: Arrays,
    *,
    lr: float,
    weight_decay: float = 0.0,
    eps: float = 1e-10,
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_form: str = "scale",
    nonfinite: str = "allow",
) -> float | None:
    """Adagrad, in place ::

        g = clip(grad) + weight_decay * param + l1 * sign(param)
        sum = sum + g * g
        param = param - lr * g / (sqrt(sum) + eps)

    J. Duchi, E. Hazan, Y. Singer: Adaptive subgradient methods (JMLR 2011).

    """
    norm, taken = clipped(grads, clip_norm, clip_value, clip_form, nonfinite)
    if taken is None:
        return norm
    for param, g, total in zip(params, taken, sums, strict=True):
        g = penalised(g, param, weight_decay, l1)
        total[...] = flush(total + g * g)
        param -= lr * (g / (np.sqrt(total) + eps))
    return norm


@_documented
def rmsprop_step(
    params: Arrays,
    grads: Arrays,
    square_avgs: Arrays,
    grad_avgs: Arrays | None = None,
    momentum_buffers: Arrays | None = None,
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    eps_inside_sqrt: bool = False,
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_form: str = "scale",
    nonfinite: str = "allow",
) -> float | None:
    """RMSprop, in place ::

        g = clip(grad) + weight_decay * param + l1 * sign(param)
        v = alpha * v + (1 - alpha) * g * g
        a = alpha * a + (1 - alpha) * g                              (with `grad_avgs`)
        w = max(v - a * a, 0) with `grad_avgs`, else v
        d = g / (sqrt(w) + eps), or g / sqrt(w + eps) with eps_inside_sqrt
        b = momentum * b + d                                         (with `momentum_buffers`)
        param = param - lr * b with `momentum_buffers`, else param - lr * d

    T. Tieleman, G. Hinton: Lecture 6.5, Coursera (2012); A. Graves: Generating sequences with recurrent neural networks
    (2013).

    """
    norm, taken = clipped(grads, clip_norm, clip_value, clip_form, nonfinite)
    if taken is None:
        return norm
    for i, (param, g, v) in enumerate(zip(params, taken, square_avgs, strict=True)):
        g = penalised(g, param, weight_decay, l1)
        v[...] = w = flush(alpha * v + (1 - alpha) * (g * g))
        if grad_avgs is not None:
            a = grad_avgs[i]
            a[...] = flush(alpha * a + (1 - alpha) * g)
            w = np.maximum(v - a * a, 0)
        d = g / np.sqrt(w + eps) if eps_inside_sqrt else g / (np.sqrt(w) + eps)
        if momentum_buffers is not None:
            b = momentum_buffers[i]
            b[...] = d = flush(momentum * b + d)
        param -= lr * d
    return norm


@_documented
def adadelta_step(
    params: Arrays,
    grads: Arrays,
    square_avgs: Arrays,
    acc_deltas: Arrays,
    *,
    lr: float = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_form: str = "scale",
    nonfinite: str = "allow",
) -> float | None:
    """Adadelta, in place ::

        g = clip(grad) + weight_decay * param + l1 * sign(param)
        v = rho * v + (1 - rho) * g * g
        d = sqrt(u + eps) / sqrt(v + eps) * g
        u = rho * u + (1 - rho) * d * d
        param = param - lr * d

    M. D. Zeiler: ADADELTA (2012).

    """
    norm, taken = clipped(grads, clip_norm, clip_value, clip_form, nonfinite)
    if taken is None:
        return norm
    for param, g, v, u in zip(params, taken, square_avgs, acc_deltas, strict=True):
        g = penalised(g, param, weight_decay, l1)
        v[...] = flush(rho * v + (1 - rho) * (g * g))
        d = np.sqrt(u + eps) / np.sqrt(v + eps) * g
        u[...] = flush(rho * u + (1 - rho) * (d * d))
        param -= lr * d
    return norm


def average(a: Array, param: Array, weight: float) -> None:
    """One more in the average: ``a = a + weight * (param - a)``; the first is the parameter itself."""
    a[...] = param if weight == 1 else flush(a + weight * (param - a))


def cap_norms(x: Array, limit: float, by_column: bool) -> None:
    """Scale rows ``x[i]``, or columns ``x[..., j]``, down to the norm `limit`."""
    axes = tuple(range(x.ndim - 1)) if by_column else tuple(range(1, x.ndim))
    norms = np.sqrt(np.square(x.astype(wide(x))).sum(axes, keepdims=True))
    x *= np.where(norms > limit, limit / np.where(norms > limit, norms, 1), 1).astype(x.dtype)


def optimizer_step(
    name: str,
    params: Arrays,
    grads: Arrays,
    states: Sequence[Arrays | None],
    options: Sequence[Mapping[str, Any]],
    groups: Sequence[int] | None,
    clip_norm: float | None,
    clip_to_unit: bool,
    nonfinite: str,
    averages: Arrays | None,
    average_weight: float,
    max_norms: Sequence[float] | None,
    by_column: bool,
    stats: bool,
) -> Any:
    """What the native call of that name does, with the options of each group instead of numbers."""
    grads = [as_array(f"grads[{i}]", grad) for i, grad in enumerate(grads)]
    for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
        if not isinstance(grad, np.ndarray) or grad.dtype != param.dtype:
            raise TypeError(f"grads[{i}]: expected {param.dtype}, got {getattr(grad, 'dtype', type(grad).__name__)}")
        if grad.shape != param.shape:
            raise ValueError(f"grads[{i}]: expected shape {param.shape}, got {grad.shape}")
    norm, taken = clipped(grads, clip_norm, None, "unit" if clip_to_unit else "scale", nonfinite)
    if taken is None:
        return (norm, []) if stats else norm
    before = [param.astype(wide(param)) for param in params]
    step = globals()[f"{name}_step"]
    for group, given in enumerate(options):
        own = [i for i in range(len(params)) if groups is None or groups[i] == group]
        of_group = [None if state is None else [state[i] for i in own] for state in states]
        step([params[i] for i in own], [taken[i] for i in own], *of_group, **given)
    rows = [
        (
            np.square(g.astype(wide(g))).sum().item(),
            np.square(b).sum().item(),
            np.abs(b).sum().item(),
            np.square(param - b).sum().item(),
            np.abs(param).max(initial=0).item(),
        )
        for g, b, param in zip(grads, before, params, strict=True)
    ]
    if max_norms is not None:
        for param, limit in zip(params, max_norms, strict=True):
            if limit > 0 and param.ndim >= 2:
                cap_norms(param, limit, by_column)
    for a, param in zip(averages or [], params if averages else [], strict=True):
        average(a, param, average_weight)
    return (norm, rows) if stats else norm
