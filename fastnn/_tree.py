"""Binary trees whose leaves are classes."""

from __future__ import annotations

import heapq
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ClassTree", "huffman", "nested", "parents"]

Integers = NDArray[np.int64]


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


class ClassTree:
    """A binary tree of classes, its inner nodes numbered from the root on, level by level.

    Parameters
    ----------
    children : (K, 2) array
        Left and right child of each of K inner nodes: a class c < K + 1, or K + 1 + k for inner node k.
    root : int
        Inner node that is the root.

    Attributes
    ----------
    n_classes : int
        K + 1.
    children : (K, 2) int64 array
        With the new numbers of the inner nodes; the root is 0.
    levels : list of int
        Nodes of level l are levels[l] ... levels[l + 1] - 1.
    path_nodes, path_codes, path_offsets : int64 arrays
        As `fastnn.functional.hierarchical_softmax` takes them.

    Raises
    ------
    ValueError
        If not every class and inner node is reached from the root exactly once.
    """

    def __init__(self, children: Integers, root: int = 0) -> None:
        nodes = len(children)
        self.n_classes = nodes + 1
        if children.min() < 0 or children.max() > 2 * nodes:
            raise ValueError(f"tree: expected children 0 ... {2 * nodes}, got {children.min()} ... {children.max()}")
        order = np.empty(nodes, np.int64)
        self.levels = [0]
        level, leaves = np.array([root]), [np.empty(0, np.int64)]
        while level.size and self.levels[-1] + level.size <= nodes:
            order[self.levels[-1] :][: level.size] = level
            self.levels.append(self.levels[-1] + level.size)
            below = children[level].ravel()
            leaves.append(below[below < self.n_classes])
            level = below[below >= self.n_classes] - self.n_classes
        classes = np.sort(np.concatenate(leaves))
        if level.size or self.levels[-1] < nodes or not np.array_equal(classes, np.arange(self.n_classes)):
            raise ValueError(f"tree: expected each of {self.n_classes} classes to be reached once from the root")
        number = np.empty(nodes, np.int64)
        number[order] = np.arange(nodes)
        renumbered = np.concatenate([np.arange(self.n_classes), self.n_classes + number])
        self.children: Integers = renumbered[children[order]]
        self._set_paths()

    def _set_paths(self) -> None:
        """From the leaves up, all classes at once."""
        nodes, classes = len(self.children), self.n_classes
        parent, code = np.empty((2, nodes + classes), np.int64)
        parent[self.children] = np.arange(nodes)[:, None]
        code[self.children] = [0, 1]
        steps, lengths = [], np.zeros(classes, np.int64)
        active = place = np.arange(classes)
        while active.size:
            steps.append((active, parent[place], code[place]))
            lengths[active] += 1
            above = parent[place]
            active, place = active[above > 0], classes + above[above > 0]
        self.path_offsets: Integers = np.concatenate([[0], np.cumsum(lengths)])
        self.path_nodes, self.path_codes = np.empty((2, self.path_offsets[-1]), np.int64)
        for back, (active, node, side) in enumerate(steps, start=1):
            at = self.path_offsets[active + 1] - back
            self.path_nodes[at], self.path_codes[at] = node, side


def huffman(counts: ArrayLike) -> ClassTree:
    """Huffman's tree of the classes (1952): the mean length of a path, weighted by `counts`, is the least there is.

    Parameters
    ----------
    counts : (C,) array_like of numbers of at least 0
        How often each class occurs; all the same give a balanced tree.

    Raises
    ------
    ValueError
        For fewer than two classes, or counts that are negative or not finite.
    """
    given = np.asarray(counts, np.float64)
    if given.ndim != 1 or len(given) < 2:
        raise ValueError(f"counts: expected shape (C,) with at least two classes, got {given.shape}")
    if not (np.isfinite(given) & (given >= 0)).all():
        raise ValueError("counts: expected finite numbers of at least 0, got others")
    heap = list(zip(given.tolist(), range(len(given)), strict=True))
    heapq.heapify(heap)
    children = np.empty((len(given) - 1, 2), np.int64)
    for k in range(len(children)):  # equal counts: classes first, so that no path gets long
        left, right = heapq.heappop(heap), heapq.heappop(heap)
        children[k] = left[1], right[1]
        heapq.heappush(heap, (left[0] + right[0], len(given) + k))
    return ClassTree(children, len(children) - 1)


def nested(tree: Any, n_classes: int) -> ClassTree:
    """The tree of nested pairs: ``((0, 1), (2, (3, 4)))``.

    Raises
    ------
    TypeError
        For what is neither a sequence nor an integer.
    ValueError
        For what is not a pair, or if not every class is there once.
    """
    children: list[list[int]] = []
    waiting = [(tree, -1)]  # what is to be numbered, and the node that it is a child of
    while waiting:
        item, parent = waiting.pop()
        if _is_sequence(item):
            if len(item) != 2:
                raise ValueError(f"tree: expected pairs, got {len(item)} items")
            waiting += [(item[1], len(children)), (item[0], len(children))]
            place = n_classes + len(children)
            children.append([])
        else:
            try:
                place = operator.index(item)
            except TypeError:
                raise TypeError(f"tree: expected integers and pairs, got {item!r}") from None
            if not 0 <= place < n_classes or parent < 0:
                raise ValueError(f"tree: expected pairs of classes 0 <= class < {n_classes}, got {place}")
        if parent >= 0:
            children[parent].append(place)
    if len(children) != n_classes - 1:
        raise ValueError(f"tree: expected {n_classes} classes, got {len(children) + 1}")
    return ClassTree(np.array(children, np.int64))


def parents(tree: NDArray[Any], n_classes: int) -> ClassTree:
    """The tree of a (2 C - 1,) array of parents: of the C classes, then of the inner nodes, -1 for the root. Of two
    children the left one is that of the smaller number.

    Raises
    ------
    TypeError
        For an array that is not of integers.
    ValueError
        For another shape, or for what is not a tree in which each inner node has two children.
    """
    if tree.dtype.kind not in "iu":
        raise TypeError(f"tree: expected integers, got {tree.dtype}")
    if tree.shape != (2 * n_classes - 1,):
        raise ValueError(f"tree: expected shape ({2 * n_classes - 1},) for {n_classes} classes, got {tree.shape}")
    above = tree.astype(np.int64)
    order = np.argsort(above, kind="stable")
    expected = np.concatenate([[-1], np.repeat(np.arange(n_classes, 2 * n_classes - 1), 2)])
    if not np.array_equal(above[order], expected) or order[0] < n_classes:
        raise ValueError("tree: expected one root, an inner node with parent -1, and two children of each inner node")
    return ClassTree(order[1:].reshape(-1, 2), int(order[0]) - n_classes)
