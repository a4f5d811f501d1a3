"""Losses: the last call of a forward pass and the first of a backward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import _backend

__all__ = ["CrossEntropyLoss"]


class CrossEntropyLoss:
    """Softmax cross-entropy from logits, averaged over the rows, as `torch.nn.CrossEntropyLoss`.

    Loss and gradient come out of one pass over the logits.

    Examples
    --------
    >>> loss_fn = CrossEntropyLoss()
    >>> loss = loss_fn(net(x), labels)
    >>> net.backward(loss_fn.backward())
    """

    def __init__(self) -> None:
        self._dlogits: NDArray[Any] | None = None

    def forward(self, logits: NDArray[Any], labels: NDArray[np.integer[Any]]) -> tuple[float, NDArray[Any]]:
        """Loss and its gradient; keeps nothing.

        Parameters
        ----------
        logits : (N, C) array
        labels : (N,) integer array, 0 <= label < C

        Returns
        -------
        loss : float
            NaN for N = 0.
        dlogits : (N, C) array

        Raises
        ------
        ValueError
            If shapes do not go together or a label is out of range.
        """
        loss: float
        loss, dlogits = _backend.ops.softmax_cross_entropy(logits, labels)
        return loss, dlogits

    def __call__(self, logits: NDArray[Any], labels: NDArray[np.integer[Any]]) -> float:
        """Loss of this batch; the gradient waits for `backward`, or is replaced by that of the next call."""
        self._dlogits = None
        loss, self._dlogits = self.forward(logits, labels)
        return loss

    def backward(self) -> NDArray[Any]:
        """Gradient of the last loss with respect to its logits; can be taken once.

        Raises
        ------
        RuntimeError
            If no loss was computed since the last call.
        """
        if self._dlogits is None:
            raise RuntimeError("backward: expected a call loss_fn(logits, labels) before each backward, got none")
        dlogits, self._dlogits = self._dlogits, None
        return dlogits

    def __repr__(self) -> str:
        return "CrossEntropyLoss()"
