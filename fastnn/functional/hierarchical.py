"""Softmax over a tree of classes."""

from __future__ import annotations

from typing import Any

from fastnn.functional._arrays import Array
from fastnn.functional._builtin import builtin

__all__ = ["hierarchical_softmax"]


@builtin
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

    Each inner node decides between its subtrees by a logistic regression of `h`: to the right with probability
    sigmoid(weight[node] @ h + bias[node]).  A class has the product of the probabilities on its path (Morin and Bengio,
    2005), so a sample costs as many rows of `weight` as its path is long, not as many as there are classes.

    The gradients of `weight` and `bias` are row-sparse: rows other than `nodes` are 0.  Nothing here grows with the
    number of classes but one counter per node.  ``weight[nodes] -= lr * dweight`` is a step of gradient descent;
    `fastnn.HierarchicalSoftmax` gives optimizers dense gradients.

    Parameters
    ----------
    h : (N, D) array, float32 or float64
    weight : (K, D) array of the type of `h`
        One row per inner node.
    bias : (K,) array of the type of `h`
    path_nodes, path_codes : (M,) arrays of any integer type
        The inner nodes on the paths of all classes from the root on, and 1 where a path goes to the right, else 0.
    path_offsets : (C + 1,) array of any integer type
        The path of class c is [path_offsets[c], path_offsets[c + 1]).
    labels : (N,) array of any integer type
        0 <= label < C.
    reduction : {"mean", "sum", "none"}, default "mean"
    out : array like `h`, optional
        C-contiguous; receives the gradient of `h`.

    Returns
    -------
    loss : float; (N,) array with reduction "none"
        NaN for the mean of no samples.
    dh : array like `h`
        Gradient of the loss; with reduction "none" of the sum of the losses.
    nodes : (R,) int64 array
        The nodes on the paths of the labels, in ascending order.
    dweight : (R, D) array
    dbias : (R,) array

    Raises
    ------
    TypeError
        For arrays of the wrong type.
    ValueError
        For wrong shapes, a label out of range, a path of one of the labels that is not one, another `reduction`, or an
        unsuitable `out`.
    """
