"""The rarer optimizers as their users write them, for NumPy and for JAX.

A rule is a function of the module (`numpy` or `jax.numpy`), the gradient, the state arrays and the options of the step;
it returns what is subtracted from the parameter, and the new states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["adadelta", "adagrad", "adamax", "lion", "nadam", "radam", "rmsprop", "rule_step"]

Arrays = tuple[Any, ...]
Rule = Callable[..., tuple[Any, Arrays]]


def adagrad(np: Any, g: Any, total: Any, *, lr: float, eps: float = 1e-10) -> tuple[Any, Arrays]:
    total = total + g * g
    return lr * g / (np.sqrt(total) + eps), (total,)


def adadelta(
    np: Any, g: Any, v: Any, u: Any, *, lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6
) -> tuple[Any, Arrays]:
    v = rho * v + (1 - rho) * g * g
    d = np.sqrt(u + eps) / np.sqrt(v + eps) * g
    return lr * d, (v, rho * u + (1 - rho) * d * d)


def rmsprop(
    np: Any,
    g: Any,
    v: Any,
    a: Any = None,
    b: Any = None,
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
) -> tuple[Any, Arrays]:
    v = alpha * v + (1 - alpha) * g * g
    w = v
    if a is not None:
        a = alpha * a + (1 - alpha) * g
        w = v - a * a
    d = g / (np.sqrt(w) + eps)
    if b is not None:
        d = b = momentum * b + d
    return lr * d, (v, a, b)


def adamax(
    np: Any,
    g: Any,
    m: Any,
    u: Any,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    bias_correction1: float = 1.0,
) -> tuple[Any, Arrays]:
    m = beta1 * m + (1 - beta1) * g
    u = np.maximum(beta2 * u, np.abs(g) + eps)
    return lr / bias_correction1 * m / u, (m, u)


def lion(np: Any, g: Any, m: Any, *, lr: float, beta1: float = 0.9, beta2: float = 0.99) -> tuple[Any, Arrays]:
    return lr * np.sign(beta1 * m + (1 - beta1) * g), (beta2 * m + (1 - beta2) * g,)


def nadam(
    np: Any,
    g: Any,
    m: Any,
    v: Any,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    mu: float,
    mu_next: float,
    mu_product: float,
    bias_correction2: float,
) -> tuple[Any, Arrays]:
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    d = mu_next / (1 - mu_product * mu_next) * m + (1 - mu) / (1 - mu_product) * g
    return lr * d / (np.sqrt(v / bias_correction2) + eps), (m, v)


def radam(
    np: Any,
    g: Any,
    m: Any,
    v: Any,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    bias_correction1: float = 1.0,
    rectification: float | None,
) -> tuple[Any, Arrays]:
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    step = lr / bias_correction1 * m
    return step if rectification is None else step * rectification / (np.sqrt(v) + eps), (m, v)


def rule_step(rule: Rule) -> Callable[..., None]:
    """The method of a peer for a rule: all tensors of a step, replaced by ``peer.replace(arrays, index, value)``."""

    def step(
        peer: Any, params: Sequence[Any], grads: Sequence[Any], *states: Sequence[Any] | None, **options: Any
    ) -> None:
        for i, g in enumerate(grads):
            own = [None if state is None else state[i] for state in states]
            update, new = rule(peer.array_module, g, *own, **options)
            peer.replace(params, i, params[i] - update)
            for state, value in zip(states, new, strict=False):
                if state is not None:
                    peer.replace(state, i, value)

    return step
