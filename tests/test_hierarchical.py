"""HierarchicalSoftmax and its trees; the values of the kernel are tested elsewhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
import fastnn.functional as F
from fastnn._tree import ClassTree, huffman, nested, parents

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)


def paths(tree: ClassTree) -> list[list[tuple[int, int]]]:
    pairs = list(zip(tree.path_nodes.tolist(), tree.path_codes.tolist(), strict=True))
    return [pairs[a:b] for a, b in zip(tree.path_offsets, tree.path_offsets[1:], strict=False)]


def layer(classes: int = 37, dtype: Any = np.float64, **options: Any) -> fnn.HierarchicalSoftmax:
    return fnn.HierarchicalSoftmax(12, classes, dtype=dtype, rng=fnn.Generator(3), **options)


def data(classes: int = 37, dtype: Any = np.float64, samples: int = 50) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((samples, 12)).astype(dtype), rng.integers(0, classes, samples)


# ----------------------------------------------------------------------------------------------------------- trees


def test_nested_pairs_are_what_they_look_like() -> None:
    tree = nested(((0, 1), (2, (3, 4))), 5)
    assert paths(tree) == [
        [(0, 0), (1, 0)],
        [(0, 0), (1, 1)],
        [(0, 1), (2, 0)],
        [(0, 1), (2, 1), (3, 0)],
        [(0, 1), (2, 1), (3, 1)],
    ]
    assert tree.levels == [0, 1, 3, 4]


def test_parents_are_the_same_tree() -> None:
    tree = parents(np.array([6, 6, 8, 5, 5, 8, 7, -1, 7]), 5)
    assert paths(tree) == paths(nested(((0, 1), (2, (3, 4))), 5))


def test_equal_counts_are_balanced() -> None:
    for classes in (2, 3, 16, 37, 1000):
        lengths = np.diff(huffman(np.ones(classes)).path_offsets)
        assert set(lengths) <= {math.floor(math.log2(classes)), math.ceil(math.log2(classes))}


def test_huffman_is_within_one_of_the_entropy() -> None:
    counts = np.random.default_rng(0).lognormal(0, 3, 300)
    p = counts / counts.sum()
    mean, entropy = (p * np.diff(huffman(counts).path_offsets)).sum(), -(p * np.log2(p)).sum()
    assert entropy <= mean < entropy + 1


def test_a_chain_is_a_tree() -> None:
    tree = huffman(2.0 ** np.arange(200))
    lengths = np.diff(tree.path_offsets)
    assert lengths[-1] == 1 and lengths.max() == 199
    chain: Any = 0
    for c in range(1, 3000):  # deeper than Python's recursion
        chain = (chain, c)
    assert np.diff(nested(chain, 3000).path_offsets).max() == 2999


@pytest.mark.parametrize(
    ("tree", "error", "match"),
    [
        (((0, 1), (2, 3)), ValueError, "expected 5 classes, got 4"),
        (((0, 1), (2, 3, 4)), ValueError, "expected pairs, got 3 items"),
        (((0, 1), (2, (3, 3))), ValueError, "5 classes to be reached once"),
        (((0, 1), (2, (3, 5))), ValueError, "0 <= class < 5, got 5"),
        (((0, 1), (2, (3, "4"))), TypeError, "expected integers and pairs"),
        (3, ValueError, "expected pairs"),
        (np.array([6, 6, 8, 5, 5, 8, 7, -1]), ValueError, r"expected shape \(9,\)"),
        (np.array([6, 6, 8, 5, 5, 8, 7, 7, 7]), ValueError, "one root"),
        (np.array([6, 6, 8, 5, 5, 6, 7, -1, 7]), ValueError, "two children"),
        (np.array([5, 5, 7, 7, -1, 6, 5, 8, 8]), ValueError, "one root"),
        (np.array([7, 7, 8, 8, 6, 6, 5, -1, 5]), ValueError, "one root|reached once"),
        (np.ones(9), TypeError, "expected integers"),
    ],
)
def test_what_is_no_tree_is_refused(tree: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        layer(5, tree=tree)


@pytest.mark.parametrize(
    "options",
    [
        {"classes": 1},
        {"counts": [1, 2]},
        {"counts": -np.ones(37)},
        {"counts": np.full(37, np.nan)},
        {"tree": (0, 1), "counts": np.ones(37)},
        {"reduction": "average"},
    ],
)
def test_bad_arguments(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        layer(**options)


# ----------------------------------------------------------------------------------------------------------- layer


@DTYPES
@pytest.mark.parametrize("classes", [2, 3, 37, 300])
def test_probabilities_sum_to_one_and_losses_are_theirs(classes: int, dtype: Any) -> None:
    out = layer(classes, dtype, counts=1 / np.arange(1.0, classes + 1))
    h, labels = data(classes, dtype)
    log_prob = out.log_prob(3 * h)
    assert log_prob.dtype == dtype and log_prob.shape == (50, classes)
    np.testing.assert_allclose(np.exp(log_prob).sum(axis=1), 1, rtol=20 * np.finfo(dtype).eps)
    loss = out.forward(3 * h, labels)[0]
    assert loss == pytest.approx(
        -log_prob[np.arange(50), labels].mean(dtype=float), rel=float(20 * np.finfo(dtype).eps)
    )


def test_a_new_layer_without_weights_costs_log_of_classes() -> None:
    out = layer(64)
    out.weight.data[...] = 0
    out.bias.data[...] = 0
    h, labels = data(64)
    assert out(h, labels) == pytest.approx(math.log(64))


def test_gradients_are_dense_once_and_accumulate() -> None:
    out = layer()
    h, labels = data(samples=3)
    loss, dh, nodes, dweight, dbias = out.forward(h, labels)
    assert out(h, labels) == loss
    assert np.array_equal(out.backward(), dh)
    assert out.weight.grad is not None and out.bias.grad is not None
    assert out.weight.grad.shape == out.weight.data.shape and nodes.size < len(out.weight.grad)
    assert np.array_equal(out.weight.grad[nodes], dweight) and np.array_equal(out.bias.grad[nodes], dbias)
    assert not np.delete(out.weight.grad, nodes, axis=0).any()
    with pytest.raises(RuntimeError, match="out\\(h, labels\\)"):
        out.backward()
    out(h, labels)
    out.backward(accumulate=True)
    assert np.array_equal(out.weight.grad[nodes], 2 * dweight)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reductions_and_the_gradient_of_the_loss(reduction: str) -> None:
    out = layer(reduction=reduction)
    h, labels = data(samples=3)
    loss, dh, nodes, dweight, dbias = out.forward(h, labels)
    losses = -out.log_prob(h)[np.arange(3), labels]
    np.testing.assert_allclose(loss, losses if reduction == "none" else getattr(losses, reduction)(), rtol=1e-12)
    out(h, labels)
    with pytest.raises(ValueError, match=r"dloss: expected a number, got shape \(3,\)"):
        out.backward(np.ones(3))  # type: ignore[arg-type]
    assert np.array_equal(out.backward(0.5), dh / 2)  # nothing was lost
    assert out.weight.grad is not None and out.bias.grad is not None
    assert np.array_equal(out.weight.grad[nodes], dweight / 2) and np.array_equal(out.bias.grad[nodes], dbias / 2)


def test_learns_and_predicts() -> None:
    rng = np.random.default_rng(0)
    classes = 37
    centers = rng.standard_normal((classes, 12))
    labels = rng.integers(0, classes, 600)
    h = centers[labels] + 0.05 * rng.standard_normal((600, 12))
    out = layer(classes, counts=np.bincount(labels, minlength=classes))
    opt = fnn.optim.Adam(out.parameters(), lr=0.1)
    first = out(h, labels)
    for _ in range(150):
        out(h, labels)
        out.backward()
        opt.step()
    assert out(h, labels) < 0.2 * first
    assert (out.predict(h) == labels).mean() > 0.8
    assert (out.predict(h, greedy=True) == labels).mean() > 0.75


def test_greedy_may_end_elsewhere() -> None:
    """0.6 of the probability goes left and is shared there by two classes."""
    out = layer(3, tree=((0, 1), 2))
    out.weight.data[...] = 0
    out.bias.data[...] = [math.log(0.4 / 0.6), 0]
    h, _ = data(samples=4)
    np.testing.assert_allclose(np.exp(out.log_prob(h)), np.tile([0.3, 0.3, 0.4], (4, 1)))
    assert out.predict(h).tolist() == [2] * 4 and set(out.predict(h, greedy=True)) <= {0, 1}


def test_state_has_the_tree() -> None:
    out, other = layer(counts=np.arange(37)), layer()
    h, labels = data()
    other.load_state_dict(out.state_dict())
    assert other(h, labels) == out(h, labels)
    assert np.array_equal(other.predict(h), out.predict(h))
    state = out.state_dict()
    state["tree"][0] = 0
    with pytest.raises(ValueError, match="tree"):
        other.load_state_dict(state)
    with pytest.raises(ValueError, match="weight"):
        layer(36).load_state_dict(out.state_dict())


def test_runs_on_the_reference() -> None:
    out = layer()
    h, labels = data()
    with fnn.use_reference():
        want = out(h, labels)
        dh = out.backward()
    assert out(h, labels) == pytest.approx(want, rel=1e-14)
    np.testing.assert_allclose(out.backward(), dh, rtol=1e-12, atol=1e-15)


def test_bad_paths_are_refused_where_they_are_used() -> None:
    tree = nested(((0, 1), 2), 3)
    h, weight, bias = np.ones((2, 4)), np.ones((2, 4)), np.ones(2)

    def call(
        labels: Any, nodes: Any = tree.path_nodes, codes: Any = tree.path_codes, offsets: Any = tree.path_offsets
    ) -> Any:
        return F.hierarchical_softmax(h, weight, bias, nodes, codes, offsets, np.array(labels))

    assert call([0, 2])[2].tolist() == [0, 1]
    assert call([2, 2])[2].tolist() == [0]
    with pytest.raises(ValueError, match="labels: expected 0 <= label < 3, got 3 at index 1"):
        call([0, 3])
    with pytest.raises(ValueError, match="path_nodes: expected 0 <= node < 2, got 2"):
        call([0, 2], nodes=tree.path_nodes + 1)
    with pytest.raises(ValueError, match="path_codes: expected 0 or 1, got 2"):
        call([0, 2], codes=tree.path_codes + 2)
    with pytest.raises(ValueError, match="path_offsets: expected increasing"):
        call([0, 2], offsets=tree.path_offsets + 1)
    with pytest.raises(ValueError, match="path_codes: expected shape"):
        call([0, 2], codes=tree.path_codes[1:])
    with pytest.raises(ValueError, match="weight: expected shape"):
        F.hierarchical_softmax(
            h, weight[:1], bias, tree.path_nodes, tree.path_codes, tree.path_offsets, np.zeros(2, int)
        )


def test_h_is_checked() -> None:
    out = layer()
    for call in (out.log_prob, out.predict, lambda h: out.predict(h, greedy=True)):
        with pytest.raises(TypeError, match="h: expected float64"):
            call(np.ones((2, 12), np.float32))
        with pytest.raises(ValueError, match=r"h: expected shape \(N, 12\)"):
            call(np.ones((2, 11)))
