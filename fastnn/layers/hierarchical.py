"""Softmax over a tree of classes: an output layer and its loss in one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastnn import _backend, init, random
from fastnn._checks import REDUCTIONS, check_array, check_dtype, check_factor, check_size, check_word
from fastnn._tree import ClassTree, huffman, nested, parents
from fastnn.layers.module import _NOTHING, Module, Parameter

__all__ = ["HierarchicalSoftmax"]


def _tree_of(n_classes: int, tree: Any, counts: ArrayLike | None) -> ClassTree:
    if tree is not None:
        if counts is not None:
            raise ValueError("counts: expected None beside tree, got both")
        return parents(tree, n_classes) if isinstance(tree, np.ndarray) else nested(tree, n_classes)
    if counts is not None and np.shape(counts) != (n_classes,):
        raise ValueError(f"counts: expected shape ({n_classes},), got {np.shape(counts)}")
    return huffman(np.ones(n_classes) if counts is None else counts)


class HierarchicalSoftmax(Module):
    """The last layer and the loss of a network with many classes: a sample costs as many products of a row of weights
    as its label's path through a tree has nodes, about log2(C), where a matrix product and softmax cost C of them
    (Morin and Bengio, 2005; Mikolov et al., 2013).

    Parameters
    ----------
    in_features, n_classes : int
    tree : nested pairs, or (2 C - 1,) integer array, optional
        A tree of the classes: ``((0, 1), (2, (3, 4)))``, or the parents of the classes and then of the inner nodes,
        which are numbered from C on, with -1 for the root.  Default: Huffman's tree of `counts`.
    counts : (C,) array_like, optional
        How often each class occurs: frequent ones get short paths.  Default: all the same, for a balanced tree.
    reduction : {"mean", "sum", "none"}, default "mean"
        With "none" the loss is an array, and the gradients are those of its sum.
    dtype : float32 or float64, default float32
    weight_init, bias_init : str, number or function, optional
        As in `Linear`.
    rng : Generator, optional
        One position is drawn for the initial values.  Default: `fastnn.random.default_generator`.

    Attributes
    ----------
    weight : Parameter (C - 1, in_features)
        One row per inner node; sigmoid(weight @ h + bias) is the probability to go right.
    bias : Parameter (C - 1,)

    Notes
    -----
    The cost holds for `forward`, whose gradients of the parameters are row-sparse.  `backward` makes them dense, as
    optimizers take them, which writes all (C - 1) x in_features elements once; a dense optimizer step reads and writes
    them, too.

    Examples
    --------
    >>> out = HierarchicalSoftmax(128, 10000, counts=counts)
    >>> opt = fnn.optim.SGD(net.parameters() + out.parameters(), lr=0.1)
    >>> loss = out(net(x), labels)
    >>> net.backward(out.backward())
    >>> opt.step()
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        tree: Any = None,
        counts: ArrayLike | None = None,
        *,
        reduction: str = "mean",
        dtype: DTypeLike = np.float32,
        weight_init: init.Init | None = None,
        bias_init: init.Init | None = None,
        rng: random.Generator | None = None,
    ) -> None:
        dtype = check_dtype(dtype)
        self.in_features = in_features = check_size("in_features", in_features)
        self.n_classes = n_classes = check_size("n_classes", n_classes, 2)
        self.reduction = check_word("reduction", reduction, *REDUCTIONS)
        self._tree = _tree_of(n_classes, tree, counts)
        self.weight = Parameter(np.empty((n_classes - 1, in_features), dtype), "weight")
        self.bias = Parameter(np.empty(n_classes - 1, dtype), "bias", decay=False)
        self._init(weight_init, bias_init, init.numpy_generator(rng))

    def _init(self, weight: init.Init | None, bias: init.Init | None, rng: np.random.Generator) -> None:
        init.fill(self.weight, self.bias, weight, bias, rng)

    def forward(  # type: ignore[override]
        self, h: NDArray[Any], labels: NDArray[np.integer[Any]]
    ) -> tuple[Any, NDArray[Any], NDArray[np.int64], NDArray[Any], NDArray[Any]]:
        """Negative log likelihood and its gradients; keeps nothing.

        Parameters
        ----------
        h : (N, in_features) array of the type of the parameters
        labels : (N,) integer array, 0 <= label < C

        Returns
        -------
        loss : float; (N,) array with reduction "none"
            NaN for the mean of N = 0.
        dh : array like `h`
        nodes, dweight, dbias
            Gradients of the rows `nodes` of the parameters; those of all other rows are 0.

        Raises
        ------
        TypeError, ValueError
            As `fastnn.functional.hierarchical_softmax`.
        """
        t = self._tree
        loss, dh, nodes, dweight, dbias = _backend.ops.hierarchical_softmax(
            h, self.weight.data, self.bias.data, t.path_nodes, t.path_codes, t.path_offsets, labels, self.reduction
        )
        return loss, dh, nodes, dweight, dbias

    def __call__(self, h: NDArray[Any], labels: NDArray[np.integer[Any]]) -> Any:  # type: ignore[override]
        """Loss of this batch; the gradients wait for `backward`, or are replaced by those of the next call."""
        self._pending = _NOTHING
        loss, *self._pending = self.forward(h, labels)
        return loss

    def backward(  # type: ignore[override]
        self, dloss: float | None = None, *, accumulate: bool = False
    ) -> NDArray[Any]:
        """Gradient of the last loss with respect to `h`, once; those of the parameters go to their `grad`, dense.

        Parameters
        ----------
        dloss : number, optional
            Gradient of the loss, by which its own gradients are multiplied.  Default: 1.  With reduction "none" it
            is that of each sample, so it cannot differ among them: the gradients of the parameters are sums already.
        accumulate : bool, default False
            Add to the gradients of the parameters instead of replacing them.

        Returns
        -------
        dh : (N, in_features) array

        Raises
        ------
        RuntimeError
            If no loss was computed since the last call.
        ValueError
            If `dloss` is an array.
        """
        if self._pending is _NOTHING:
            raise RuntimeError("backward: expected a call out(h, labels) before each backward, got none")
        factor = None if dloss is None else check_factor(dloss, self.weight.data.dtype)
        (dh, nodes, *rows), self._pending = self._pending, _NOTHING
        if factor is not None:
            for gradient in (dh, *rows):
                np.multiply(gradient, factor, out=gradient)
        for parameter, values in zip((self.weight, self.bias), rows, strict=True):
            if not accumulate:
                parameter.grad = None
            grad = _backend.empty(parameter.data.shape, parameter.data.dtype)
            grad.fill(0)
            grad[nodes] = values
            parameter.set_grad(grad, accumulate)
        return dh  # type: ignore[no-any-return]

    def _check(self, h: NDArray[Any]) -> NDArray[Any]:
        h = check_array("h", h)
        if h.dtype != self.weight.data.dtype:
            raise TypeError(f"h: expected {self.weight.data.dtype}, the dtype of weight, got {h.dtype}")
        if h.ndim != 2 or h.shape[1] != self.in_features:
            raise ValueError(f"h: expected shape (N, {self.in_features}), got {h.shape}")
        return h

    def log_prob(self, h: NDArray[Any]) -> NDArray[Any]:
        """Logarithms of the probabilities of all classes, (N, C): costs what all classes cost.

        Parameters
        ----------
        h : (N, in_features) array
        """
        h = self._check(h)
        t = self._tree
        z = h @ self.weight.data.T + self.bias.data
        sides = _backend.ops.logsigmoid(-z), _backend.ops.logsigmoid(z)
        found = np.zeros((len(h), 2 * self.n_classes - 1), h.dtype)
        for first, end in zip(t.levels, t.levels[1:], strict=False):
            here = found[:, self.n_classes + first : self.n_classes + end]
            for side in (0, 1):
                found[:, t.children[first:end, side]] = here + sides[side][:, first:end]
        log_prob: NDArray[Any] = found[:, : self.n_classes].copy()
        return log_prob

    def predict(self, h: NDArray[Any], greedy: bool = False) -> NDArray[np.int64]:
        """The likeliest class of each sample, (N,).

        Parameters
        ----------
        h : (N, in_features) array
        greedy : bool, default False
            Follow the likelier side from the root on.  That costs one path, not all classes, but the class it ends at
            need not be the likeliest.
        """
        if not greedy:
            likeliest: NDArray[np.int64] = self.log_prob(h).argmax(axis=1)
            return likeliest
        h = self._check(h)
        weight, bias, found = self.weight.data, self.bias.data, np.empty(len(h), np.int64)
        active, node = np.arange(len(h)), np.zeros(len(h), np.int64)
        while active.size:
            right = np.einsum("nd,nd->n", h[active], weight[node]) + bias[node] > 0
            below = self._tree.children[node, right.astype(np.int64)]
            leaf = below < self.n_classes
            found[active[leaf]] = below[leaf]
            active, node = active[~leaf], below[~leaf] - self.n_classes
        return found

    def _state(self) -> dict[str, NDArray[Any]]:
        return {**super()._state(), "tree": self._tree.children}

    def _load(self, state: dict[str, NDArray[Any]]) -> None:
        tree = ClassTree(state["tree"])  # first: it may refuse
        self.weight.data[...] = state["weight"]
        self.bias.data[...] = state["bias"]
        self._tree = tree

    def __repr__(self) -> str:
        rest = "" if self.reduction == "mean" else f", reduction={self.reduction!r}"
        return f"HierarchicalSoftmax({self.in_features}, {self.n_classes}{rest})"
