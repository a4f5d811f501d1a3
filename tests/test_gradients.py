"""Every backward op, in float64, against difference quotients along random directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn.functional as F
from fastnn.cases import CASES, Case, as_type

STEP = 1e-5


def objective(case: Case, inputs: dict[str, Any]) -> float:
    outputs, _ = case.forward(F, as_type(inputs, np.float64))
    return float(np.sum(outputs["loss"])) if case.family == "loss" else float((inputs["dy"] * outputs["y"]).sum())


@pytest.mark.parametrize("case", [case for case in CASES if case.gradients], ids=lambda case: case.name)
def test_gradients_match_differences(case: Case) -> None:
    shapes = [shape for shape in case.shapes if 0 < np.prod(shape) <= 5000]
    assert len(shapes) >= 3
    for shape in shapes:
        inputs = case.inputs(shape, np.float64, seed=1)
        run = as_type(inputs, np.float64)
        outputs, saved = case.forward(F, run)
        gradients = outputs if case.family == "loss" else case.backward(F, run, saved)
        assert gradients is not None
        rng = np.random.default_rng(2)
        center = objective(case, inputs)
        for gradient, name in case.gradients.items():
            direction = rng.standard_normal(np.shape(inputs[name]))
            value = inputs[name]
            inputs[name] = np.asarray(value + STEP * direction)
            right = (objective(case, inputs) - center) / STEP
            inputs[name] = np.asarray(value - STEP * direction)
            left = (center - objective(case, inputs)) / STEP
            inputs[name] = value

            got = float((gradients[gradient] * direction).sum())
            # At a kink any slope between the two sides is right; elsewhere they differ by O(STEP).
            scale = float(np.abs(gradients[gradient] * direction).sum()) + abs(center)
            allowed = 1e-7 * scale + abs(right - left) / 2 + 1e-9
            assert abs(got - (left + right) / 2) <= allowed, f"{shape} {gradient}: {got}, {left}..{right}"
            assert abs(right - left) < 1e-2 * (scale + 1), "the differences are too far apart to test anything"


def test_the_check_notices_a_wrong_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(case for case in CASES if case.name == "batch_norm/2d/relu")
    right = F.batch_norm_backward
    monkeypatch.setattr(F, "batch_norm_backward", lambda *args, **kwargs: (right(*args)[0] * 1.001, *right(*args)[1:]))
    with pytest.raises(AssertionError, match="dx"):
        test_gradients_match_differences(case)
