"""Activations against torch (golden/make_activations.py), and from the output as from the input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn.functional as F
from fastnn import reference
from fastnn.cases import CASES, ActivationCase
from fastnn.functional.activations import ACTIVATIONS

GOLDEN = np.load(Path(__file__).with_name("golden") / "activations.npz")
PARAMS = {case.ops[0]: dict(case.params) for case in CASES if isinstance(case, ActivationCase)}
FROM_OUTPUT = [case.ops[0] for case in CASES if isinstance(case, ActivationCase) and case.from_output]
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)


@pytest.mark.parametrize("namespace", [F, reference], ids=["functional", "reference"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_and_gradients_of_torch(name: str, namespace: Any) -> None:
    x = GOLDEN["x"]
    y = getattr(namespace, name)(x, **PARAMS[name])
    dx = getattr(namespace, f"{name}_backward")(np.ones_like(x), x, **PARAMS[name])
    # absolute, because torch's own formulas lose the tails
    np.testing.assert_allclose(y, GOLDEN[f"{name}.y"], rtol=1e-14, atol=4e-15)
    rtol = 4e-8 if name == "hardsigmoid" else 1e-14  # torch has 1 / 6 in float32 there
    np.testing.assert_allclose(dx, GOLDEN[f"{name}.dx"], rtol=rtol, atol=4e-15)


@DTYPES
@pytest.mark.parametrize("name", FROM_OUTPUT)
def test_from_the_output_as_from_the_input(name: str, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    edges = [0.0, -0.0, np.inf, -np.inf, *PARAMS[name].values(), 6.0, 1e-45, -1e-45, -1e-30, -5e-324]
    x = np.concatenate([edges, rng.normal(0, 5, 5000), -rng.lognormal(-40, 30, 5000)]).astype(dtype)
    dy = rng.standard_normal(x.size).astype(dtype)
    backward, params = getattr(F, f"{name}_backward"), PARAMS[name]
    y = getattr(F, name)(x, **params)
    assert backward(dy, x, **params).tobytes() == backward(dy, y, **params, output=True).tobytes()


@pytest.mark.parametrize("alpha", [-1.5, 0.0])
def test_other_alphas(alpha: float) -> None:
    x, dy = np.linspace(-3, 3, 61), np.ones(61)
    np.testing.assert_allclose(F.elu(x, alpha), np.where(x < 0, alpha * np.expm1(x), x), rtol=1e-14)
    np.testing.assert_allclose(F.elu_backward(dy, x, alpha), np.where(x <= 0, alpha * np.exp(x), 1), rtol=1e-14)
    if alpha:  # as torch: the exponential grows
        np.testing.assert_allclose(F.celu(x, alpha), np.where(x < 0, alpha * np.expm1(x / alpha), x), rtol=1e-14)
        np.testing.assert_allclose(F.celu_backward(dy, x, alpha), np.where(x <= 0, np.exp(x / alpha), 1), rtol=1e-14)


@DTYPES
@pytest.mark.parametrize("namespace", [F, reference], ids=["functional", "reference"])
@pytest.mark.parametrize("name", ["elu", "selu", "celu"])
def test_tails_of_exponential_slopes(name: str, namespace: Any, dtype: Any) -> None:
    """y + alpha would have no digits left of them; NaN is no number to the right of 0."""
    x = np.array([-80.0, -40.0, -17.5, -16.0, -1e-3, 0.0, np.nan], dtype)
    dx = getattr(namespace, f"{name}_backward")(np.ones_like(x), x)
    factor = 1.0507009873554805 * 1.6732632423543772 if name == "selu" else 1
    np.testing.assert_allclose(dx, factor * np.exp(x.astype(np.float64)), rtol=10 * np.finfo(dtype).eps)
