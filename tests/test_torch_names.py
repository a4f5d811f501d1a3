"""Arguments are torch's in name, order and default, and torch's names of functions and arguments are there."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
import fastnn.functional as F
from fastnn import act, layers, reference
from fastnn._aliases import ALIASES

X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
LABELS = np.arange(6) % 4

LEFT_OUT = {"inplace", "size_average", "reduce", "_stacklevel", "dtype", "device", "track_running_stats"}
OURS = {"dim": "axis", "target": "labels"}
NO_DEFAULT = {"softmax", "log_softmax", "threshold", "Softmax", "LogSoftmax", "Threshold"}  # or a deprecated one, there


def _positional(function: Any) -> list[inspect.Parameter]:
    """Nothing where torch does not tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in LEFT_OUT]


@pytest.mark.parametrize("home", ["functional", "nn"])
def test_positional_arguments_are_those_of_torch(home: str) -> None:
    nn = pytest.importorskip("torch").nn
    ours, theirs = (F, nn.functional) if home == "functional" else (fnn, nn)
    seen = 0
    for name in dir(ours):
        wanted, positional = _positional(getattr(theirs, name, None)), _positional(getattr(ours, name))
        if name[0] == "_" or not wanted or name in ("Parameter", "parameter"):
            continue
        first = home == "functional"  # called x, or what it is
        assert len(positional) <= len(wanted), name
        for p, q in list(zip(positional, wanted, strict=False))[first:]:
            assert p.name in (q.name, OURS.get(q.name)), name
            assert p.default == q.default or name in NO_DEFAULT or q.default is q.empty, (name, p.name)
        seen += 1
    assert seen > 25


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases(alias: str) -> None:
    homes = [fnn, layers] if alias[0].isupper() else [F, reference]
    for home in homes:
        assert getattr(home, alias) is getattr(home, ALIASES[alias])


def test_an_alias_of_an_activation_is_one() -> None:
    assert act.swish() == act.silu() and "swish" in dir(act)
    y, _ = F.bias_act(X, activation="swish")
    assert np.array_equal(y, F.silu(X))
    assert repr(fnn.Swish()) == "SiLU()"


def test_names_of_arguments() -> None:
    assert np.array_equal(F.softmax(input=X, dim=0), F.softmax(X, 0))
    assert np.array_equal(F.relu(input=X), F.relu(X))
    assert F.cross_entropy(input=X, target=LABELS)[0] == F.softmax_cross_entropy(X, LABELS)[0]
    assert F.multi_margin_loss(X, target=LABELS)[0] == F.hinge_loss(X, LABELS, over_classes="mean")[0]
    with pytest.raises(TypeError, match="several values for 'axis'"):
        F.softmax(X, axis=0, dim=1)
    with pytest.raises(TypeError, match="several values for 'x'"):
        F.softmax(X, input=X)
    with pytest.raises(TypeError, match="unexpected argument 'dims'"):
        F.softmax(X, dims=1)


@pytest.mark.parametrize("kind", [fnn.Softmax, fnn.LogSoftmax])
def test_dim_of_layers(kind: Any) -> None:
    assert kind(dim=1).axis == kind(1).axis == 1 and kind().axis == -1
    with pytest.raises(TypeError, match="dim: expected None beside axis"):
        kind(1, dim=1)
    with pytest.raises(TypeError, match="axis: expected an integer"):
        kind(1.0)


@pytest.mark.parametrize("namespace", [F, reference], ids=["functional", "reference"])
def test_approximate_gelu(namespace: Any) -> None:
    for word, name in (("none", "gelu"), ("tanh", "gelu_tanh")):
        assert np.array_equal(namespace.gelu(X, approximate=word), getattr(namespace, name)(X))
        dx = namespace.gelu_backward(X, X, approximate=word)
        assert np.array_equal(dx, getattr(namespace, f"{name}_backward")(X, X))


def test_approximate_gelu_of_layers_and_tails() -> None:
    assert act.gelu(approximate="tanh") == act.gelu_tanh() and act.gelu(approximate="none") == act.gelu()
    layer = fnn.GELU(approximate="tanh")
    assert np.array_equal(layer(X), F.gelu_tanh(X)) and repr(layer) == "GELUTanh()"
    for make in (act.gelu, fnn.GELU, lambda approximate: F.gelu(X, approximate=approximate)):
        with pytest.raises(ValueError, match="approximate: expected 'none' or 'tanh', got 'sigmoid'"):
            make(approximate="sigmoid")


def test_multi_margin_loss() -> None:
    loss_fn = fnn.MultiMarginLoss(2, 0.5, reduction="sum")
    want, dx = F.hinge_loss(X, LABELS, 2, 0.5, reduction="sum", over_classes="mean")
    assert loss_fn(X, LABELS) == want and np.array_equal(loss_fn.backward(), dx)
