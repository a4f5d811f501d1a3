"""Softmax over a tree of classes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.reference.base import Array, into, wide

__all__ = ["hierarchical_softmax"]


def hierarchical_softmax(
    h: Array,
    weight: Array,
    bias: Array,
    path_nodes: Array,
    path_codes: Array,
    path_offsets: Array,
    labels: Array,
    reduction: str = "mean",
    *,
    out: Array | None = None,
) -> tuple[Any, Array, Array, Array, Array]:
    """Negative log likelihood of labels that are leaves of a binary tree, and its gradients.

    A path goes to the right at a node with probability sigmoid(weight[node] @ h + bias[node]).

    Parameters
    ----------
    h : (N, D) array
    weight : (K, D) array
    bias : (K,) array
    path_nodes, path_codes : (M,) integer arrays
        Inner nodes on the paths of all classes, and 1 where a path goes to the right, else 0.
    path_offsets : (C + 1,) integer array
        The path of class c is [path_offsets[c], path_offsets[c + 1]).
    labels : (N,) integer array, 0 <= label < C
    reduction : {"mean", "sum", "none"}, default "mean"
    out : array like `h`, optional
        Receives the gradient of `h`.

    Returns
    -------
    loss : float; (N,) array with reduction "none"
    dh : array like `h`
    nodes : (R,) int64 array
        Rows of the gradients that are not 0.
    dweight : (R, D) array
    dbias : (R,) array
    """
    kind, count = wide(h), len(h)
    x, rows, shifts = h.astype(kind), weight.astype(kind), bias.astype(kind)
    losses, dh = np.zeros(count, kind), np.zeros(h.shape, kind)
    dweight, dbias = np.zeros(weight.shape, kind), np.zeros(bias.shape, kind)
    touched = np.zeros(len(bias), bool)
    for n, label in enumerate(labels):
        path = slice(int(path_offsets[label]), int(path_offsets[label + 1]))
        nodes, signs = path_nodes[path], 2 * path_codes[path].astype(kind) - 1
        y = signs * (rows[nodes] @ x[n] + shifts[nodes])
        losses[n] = np.logaddexp(0, -y).sum()  # -log(sigmoid(y))
        slopes = -signs * np.exp(-np.logaddexp(0, y)) / (count if reduction == "mean" else 1)
        dh[n] = slopes @ rows[nodes]
        dweight[nodes] += slopes[:, None] * x[n]
        dbias[nodes] += slopes
        touched[nodes] = True
    nodes = np.flatnonzero(touched)
    gradients = into(out, dh.astype(h.dtype)), nodes, dweight[nodes].astype(h.dtype), dbias[nodes].astype(h.dtype)
    if reduction == "none":
        return losses.astype(h.dtype), *gradients
    if reduction == "sum":
        return losses.sum().item(), *gradients
    return losses.mean().item() if count else math.nan, *gradients
