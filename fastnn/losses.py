"""Losses: the last call of a forward pass and the first of a backward pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import _backend
from fastnn._checks import REDUCTIONS, check_factor, check_index, check_number, check_word

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HingeLoss",
    "HuberLoss",
    "L1Loss",
    "Loss",
    "MSELoss",
    "MultiMarginLoss",
    "NLLLoss",
    "SmoothL1Loss",
]


class Loss:
    """Base of all losses; loss and gradient come out of one pass.

    A loss of your own is a subclass that defines ``_loss(input, target) -> (loss, dinput)``.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default "mean"
        With "none" the loss is an array.

    Examples
    --------
    >>> loss_fn = CrossEntropyLoss()
    >>> loss = loss_fn(net(x), labels)
    >>> net.backward(loss_fn.backward())
    """

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = check_word("reduction", reduction, *REDUCTIONS)
        self._dinput: NDArray[Any] | None = None
        self._loss_shape: tuple[int, ...] = ()

    def _loss(self, input: NDArray[Any], target: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
        raise NotImplementedError(f"{type(self).__name__} does not define _loss")

    def forward(self, input: NDArray[Any], target: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
        """Loss and its gradient; keeps nothing.

        Parameters
        ----------
        input : array, what the network gives
        target : array, what it should give

        Returns
        -------
        loss : float; array with reduction "none"
        dinput : array like `input`
            Gradient of the loss, with reduction "none" that of the sum of the losses.

        Raises
        ------
        TypeError, ValueError
            If the two do not go together.
        """
        return self._loss(input, target)

    def __call__(self, input: NDArray[Any], target: NDArray[Any]) -> Any:
        """Loss of this batch; the gradient waits for `backward`, or is replaced by that of the next call."""
        self._dinput = None
        loss, self._dinput = self._loss(input, target)
        self._loss_shape = np.shape(loss)
        return loss

    def backward(self, dloss: ArrayLike | None = None) -> NDArray[Any]:
        """Gradient of the last loss with respect to its input; can be taken once.

        Parameters
        ----------
        dloss : number, or array like the loss, optional
            Gradient of the loss, by which its own gradient is multiplied.  Default: 1.

        Returns
        -------
        dinput : array

        Raises
        ------
        RuntimeError
            If no loss was computed since the last call.
        ValueError
            If `dloss` has another shape.
        """
        if self._dinput is None:
            raise RuntimeError("backward: expected a call loss_fn(input, target) before each backward, got none")
        if dloss is not None:
            factor = check_factor(dloss, self._dinput.dtype, self._loss_shape)
            if 0 < factor.ndim < self._dinput.ndim:  # one loss for all classes, which lie along axis 1
                factor = np.expand_dims(factor, 1)
            np.multiply(self._dinput, factor, out=self._dinput)
        dinput, self._dinput = self._dinput, None
        return dinput

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.reduction == 'mean' else f'reduction={self.reduction!r}'})"


class _ClassLoss(Loss):
    """What the losses of classes share."""

    def __init__(self, weight: NDArray[Any] | None = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weight = weight
        self.ignore_index = check_index("ignore_index", ignore_index)


class CrossEntropyLoss(_ClassLoss):
    """Softmax cross-entropy from logits, as `torch.nn.CrossEntropyLoss`: `fastnn.functional.softmax_cross_entropy`.

    ``loss_fn(logits, labels)`` takes (N, C) logits and (N,) labels, or (N, C) probabilities of the type of the logits.

    Parameters
    ----------
    weight : (C,) array, optional
        What each class counts.
    ignore_index : int, default -100
        The label of rows that do not count.
    reduction : {"mean", "sum", "none"}, default "mean"
    label_smoothing : float, default 0.0
        Share of the target that is spread over all classes, in [0, 1].

    Examples
    --------
    >>> loss_fn = CrossEntropyLoss()
    >>> loss = loss_fn(net(x), labels)
    >>> net.backward(loss_fn.backward())
    """

    def __init__(
        self,
        weight: NDArray[Any] | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, ignore_index, reduction)
        check_number("label_smoothing", label_smoothing)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing: expected 0 <= label_smoothing <= 1, got {label_smoothing!r}")
        self.label_smoothing = label_smoothing

    def _loss(self, input: NDArray[Any], target: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
        loss, dinput = _backend.ops.softmax_cross_entropy(
            input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )
        return loss, dinput


class NLLLoss(_ClassLoss):
    """Negative log likelihood from log probabilities, as `torch.nn.NLLLoss`: `fastnn.functional.nll_loss`.

    ``loss_fn(log_probs, labels)`` takes (N, C) log probabilities, as `LogSoftmax` gives them, and (N,) labels.

    Parameters
    ----------
    weight : (C,) array, optional
        What each class counts.
    ignore_index : int, default -100
        The label of rows that do not count.
    reduction : {"mean", "sum", "none"}, default "mean"
    """

    def _loss(self, input: NDArray[Any], target: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
        loss, dinput = _backend.ops.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)
        return loss, dinput


class MSELoss(Loss):
    """Mean squared error, as `torch.nn.MSELoss`: `fastnn.functional.mse_loss`.

    ``loss_fn(input, target)`` takes two arrays of the same shape.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default "mean"
    """

    def _loss(self, input: NDArray[Any], target: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
        loss, dinput = _backend.ops.mse_loss(input, target, self.reduction)
        return loss, dinput


class L1Loss(Loss):
    """Mean absolute error, as `torch.nn.L1Loss`: `fastnn.functional.l1_loss`.

    ``loss_fn(input, target)`` takes two arrays of the same shape.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default "mean"
    """

    def _loss(self, input: NDArray[Any], target: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
        loss, dinput = _backend.ops.l1_loss(input, target, self.reduction)
        return loss, dinput


class SmoothL1Loss(Loss):
    """Squared near 0, absolute beyond `beta`, as `torch.nn.SmoothL1Loss`: `fastnn.functional.smooth_l1_loss`.

    ``loss_fn(input, target)`` takes two arrays of the same shape.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default "mean"
    beta : float, default 1.0
        At least 0; 0 gives `L1Loss`.
    """

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        check_number("beta", beta)
        if not beta >= 0:
            raise ValueError(f"beta: expected a number of at least 0, got {beta!r}")
        self.beta = beta

    def _loss(self, input: NDArray[Any], target: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
        loss, dinput = _backend.ops.smooth_l1_loss(input, target, self.reduction, self.beta)
        return loss, dinput


class HuberLoss(Loss):
    """Squared near 0, of slope `delta` beyond, as `torch.nn.HuberLoss`: `fastnn.functional.huber_loss`.

    ``loss_fn(input, target)`` takes two arrays of the same shape.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default "mean"
    delta : float, default 1.0
        Positive.
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        check_number("delta", delta)
        if not delta > 0:
            raise ValueError(f"delta: expected a positive number, got {delta!r}")
        self.delta = delta

    def _loss(self, input: NDArray[Any], target: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
        loss, dinput = _backend.ops.huber_loss(input, target, self.reduction, self.delta)
        return loss, dinput


class BCEWithLogitsLoss(Loss):
    """Binary cross-entropy of logits, as `torch.nn.BCEWithLogitsLoss`:
    `fastnn.functional.binary_cross_entropy_with_logits`.

    ``loss_fn(logits, target)`` takes two arrays of the same shape; targets are 0, 1 or in between.

    Parameters
    ----------
    weight : array whose shape broadcasts to that of the logits, optional
        What each element counts; (C,): each channel of the last axis.
    reduction : {"mean", "sum", "none"}, default "mean"
    pos_weight : array whose shape broadcasts to that of the logits, optional
        What positive targets count; (C,): those of each channel.
    """

    def __init__(
        self,
        weight: NDArray[Any] | None = None,
        reduction: str = "mean",
        pos_weight: NDArray[Any] | None = None,
    ) -> None:
        super().__init__(reduction)
        self.weight = weight
        self.pos_weight = pos_weight

    def _loss(self, input: NDArray[Any], target: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
        loss, dinput = _backend.ops.binary_cross_entropy_with_logits(
            input, target, self.weight, self.reduction, self.pos_weight
        )
        return loss, dinput


class HingeLoss(Loss):
    """Multi-class hinge loss of support vector machines: `fastnn.functional.hinge_loss`.

    ``loss_fn(scores, labels)`` takes (N, C) scores and (N,) labels.  Where all scores are equal, the loss is C - 1.

    Parameters
    ----------
    p : {1, 2}, default 1
        2: the squared hinge loss.
    margin : float, default 1.0
    weight : (C,) array, optional
        What a row counts, by its label.
    reduction : {"mean", "sum", "none"}, default "mean"
    over_classes : {"sum", "mean"}, default "sum"
        "mean" gives `MultiMarginLoss`, whose terms are divided by C.
    """

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: NDArray[Any] | None = None,
        reduction: str = "mean",
        *,
        over_classes: str = "sum",
    ) -> None:
        super().__init__(reduction)
        if p not in (1, 2):
            raise ValueError(f"p: expected 1 or 2, got {p!r}")
        check_number("margin", margin)
        if not math.isfinite(margin):
            raise ValueError(f"margin: expected a finite number, got {margin}")
        self.p = p
        self.margin = margin
        self.weight = weight
        self.over_classes = check_word("over_classes", over_classes, "sum", "mean")

    def _loss(self, input: NDArray[Any], target: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
        loss, dinput = _backend.ops.hinge_loss(
            input, target, self.p, self.margin, self.weight, self.reduction, over_classes=self.over_classes
        )
        return loss, dinput


class MultiMarginLoss(HingeLoss):
    """Multi-class hinge loss divided by the number of classes, as `torch.nn.MultiMarginLoss`.

    `HingeLoss` with ``over_classes="mean"``.

    Parameters
    ----------
    p : {1, 2}, default 1
        2: the squared hinge loss.
    margin : float, default 1.0
    weight : (C,) array, optional
        What a row counts, by its label.
    reduction : {"mean", "sum", "none"}, default "mean"
    """

    def __init__(
        self, p: int = 1, margin: float = 1.0, weight: NDArray[Any] | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__(p, margin, weight, reduction, over_classes="mean")
