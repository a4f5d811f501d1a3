"""Modules in the place of torch's: subclasses, with their arguments, parameters and names in a `state_dict`.

``activation=`` and ``dropout=`` make one pass of what would be three modules; they go by name, and add nothing to the
state.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch

from fastnn import random
from fastnn.functional.activations import ActivationSpec, resolve
from fastnn.interop.torch import functional as F

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "CrossEntropyLoss", "Dropout", "LayerNorm", "Linear"]

Tensor: TypeAlias = Any


class _Tail(torch.nn.Module):
    """What follows the module in the same pass.

    Parameters
    ----------
    activation : str or activation spec, optional
        A name such as "relu", or ``fastnn.act.leaky_relu(0.1)``.
    dropout : float, default 0.0
        Probability to drop, in training.
    rng : fastnn.Generator, optional
        Of the masks.  Default: `fastnn.random.default_generator`.
    """

    activation: ActivationSpec | None
    dropout: float
    rng: random.Generator | None

    def __init__(
        self,
        *args: Any,
        activation: str | ActivationSpec | None = None,
        dropout: float = 0.0,
        rng: random.Generator | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        random.keep_threshold(dropout)  # refuses what is not a probability
        self.activation = None if activation is None else resolve(activation)
        self.dropout = dropout
        self.rng = rng

    def _tail(self) -> dict[str, Any]:
        dropout = self.dropout if self.training else 0.0
        return {"activation": self.activation, "dropout": dropout, "rng": self.rng}

    def extra_repr(self) -> str:
        text = str(super().extra_repr())
        if self.activation is not None:
            text += f", activation={self.activation}"
        return text + (f", dropout={self.dropout:g}" if self.dropout else "")


class _BatchNorm(_Tail):
    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Output; `residual`, a tensor like `x`, is added before the activation."""
        self._check_input_dim(x)
        momentum = self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if momentum is None:  # the mean of all batches
                momentum = 1 / float(self.num_batches_tracked)
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            0.0 if momentum is None else momentum,
            self.eps,
            residual=residual,
            nonfinite="allow",
            **self._tail(),
        )


class BatchNorm1d(_BatchNorm, torch.nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d`, and behind it ``activation``, ``dropout`` and a ``residual`` of the call."""


class BatchNorm2d(_BatchNorm, torch.nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d`, and behind it ``activation``, ``dropout`` and a ``residual`` of the call."""


class BatchNorm3d(_BatchNorm, torch.nn.BatchNorm3d):
    """`torch.nn.BatchNorm3d`, and behind it ``activation``, ``dropout`` and a ``residual`` of the call."""


class LayerNorm(_Tail, torch.nn.LayerNorm):
    """`torch.nn.LayerNorm`, and behind it ``activation``, ``dropout`` and a ``residual`` of the call."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Output; `residual`, a tensor like `x`, is added before the activation."""
        shape = tuple(self.normalized_shape)
        return F.layer_norm(x, shape, self.weight, self.bias, self.eps, residual=residual, **self._tail())


class Linear(_Tail, torch.nn.Linear):
    """`torch.nn.Linear`, and behind it ``activation`` and ``dropout``; the product is torch's."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Output; `residual`, a tensor like it, is added before the activation."""
        z = torch.nn.functional.linear(x, self.weight)
        return F.bias_act(z, self.bias, residual=residual, **self._tail())


class Dropout(torch.nn.Dropout):
    """`torch.nn.Dropout`, which keeps no mask; not in place."""

    def forward(self, input: Tensor) -> Tensor:
        """Output."""
        if self.inplace:
            raise ValueError("inplace: expected False, got True")
        return F.dropout(input, self.p, self.training)


class CrossEntropyLoss(torch.nn.CrossEntropyLoss):
    """`torch.nn.CrossEntropyLoss`, in one pass for loss and gradient; the batch has its own axis, the first."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of ``(N, C, ...)`` logits and ``(N, ...)`` labels, or probabilities like the logits."""
        return F.softmax_cross_entropy(
            input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )
