"""Errors in units in the last place, tails and denormal results included: every activation whose tolerance says so.

`python tests/test_ulp.py` prints the table of docs/numerics.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest

import fastnn.functional as F
from fastnn import reference
from fastnn.cases import CASES, TOLERANCES, ActivationCase, allowed_error

MEASURED = [
    case
    for case in CASES
    if isinstance(case, ActivationCase) and case.tolerance.startswith("ulp") and not case.from_output
]
MEASURED_CASES = pytest.mark.parametrize("case", MEASURED, ids=lambda case: case.ops[0])

Array = np.ndarray[Any, Any]


def _left(x: Any, y: Any) -> Any:
    return y if x < 0 else x


EXACT: dict[str, Callable[..., Any]] = {
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "tanh": mp.tanh,
    "elu": lambda x, alpha: _left(x, alpha * mp.expm1(x)),
    "selu": lambda x: (
        mp.mpf("1.0507009873554804934193349852946")
        * _left(x, mp.mpf("1.6732632423543772848170429916717") * mp.expm1(x))
    ),
    "celu": lambda x, alpha: _left(x, alpha * mp.expm1(x / alpha)),
    "gelu": lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2,
    "gelu_tanh": lambda x: x / (1 + mp.exp(-2 * mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3))),
    "silu": lambda x: x / (1 + mp.exp(-x)),
    "mish": lambda x: x * mp.tanh(mp.log1p(mp.exp(x))),
    "softplus": lambda x, beta, threshold: x if beta * x > threshold else mp.log1p(mp.exp(beta * x)) / beta,
    "softsign": lambda x: x / (1 + abs(x)),
    "hardsigmoid": lambda x: min(max(x + 3, 0), 6) / 6,
    "hardswish": lambda x: x * min(max(x + 3, 0), 6) / 6,
    "logsigmoid": lambda x: -mp.log1p(mp.exp(-x)),
}


def grid(dtype: Any, per_binade: int, lowest: float, largest: float) -> Array:
    """Both signs, every binade from the denormals to `largest`, and evenly from `lowest`, where exp has become 0."""
    kind = np.finfo(dtype)
    bits = np.uint32 if dtype is np.float32 else np.uint64
    step = (1 << kind.nmant) // per_binade - 1  # odd: other trailing bits in each binade
    positive = np.arange(1, int(np.asarray(largest, dtype).view(bits)), step, dtype=bits).view(dtype)
    stretches = [np.linspace(start, -start / 4, 400 * per_binade).astype(dtype) for start in (lowest, lowest / 32)]
    return np.concatenate([positive, -positive, *stretches])


def single_grid(per_binade: int) -> Array:
    return grid(np.float32, per_binade, -120, 1e38)


def double_grid(per_binade: int) -> Array:
    return grid(np.float64, per_binade, -760, 1e4)  # what is larger is told apart by nobody, but slow in mpmath


def exact(case: ActivationCase, x: Array) -> Array:
    """In the widest type, by mpmath."""
    with mp.workprec(1300):  # 1 + e^x of the smallest x
        function = EXACT[case.ops[0]]
        values = [function(mp.mpf(float(v)), **case.params) for v in x]
        return np.array([np.longdouble(mp.nstr(v if abs(v) > mp.mpf("1e-4900") else 0, 25)) for v in values])


def errors(case: ActivationCase, x: Array, want: Array) -> Array:
    """Of the kernel, in units in the last place."""
    got = getattr(F, case.ops[0])(x, **case.params)
    unit = allowed_error(case.tolerance, want, 1, x.dtype) / TOLERANCES[case.tolerance]
    difference = np.abs(got - want)
    return np.asarray(difference / unit, np.float64)


def wide(case: ActivationCase, x: Array) -> Array:
    """The reference in float64."""
    return np.asarray(getattr(reference, case.ops[0])(x.astype(np.float64), **case.params))


@MEASURED_CASES
def test_float32(case: ActivationCase) -> None:
    x = single_grid(300)
    assert errors(case, x, wide(case, x)).max() <= TOLERANCES[case.tolerance]


@MEASURED_CASES
def test_float64(case: ActivationCase) -> None:
    x = double_grid(1)[::11]
    if np.finfo(np.longdouble).nmant <= 53:
        pytest.skip("no type wider than float64")
    assert errors(case, x, exact(case, x)).max() <= TOLERANCES[case.tolerance]


@MEASURED_CASES
def test_the_reference_in_float64_is_exact_enough(case: ActivationCase) -> None:
    x = grid(np.float32, 3, -120, 1e4)[::7]
    want = exact(case, x)
    error = np.abs(wide(case, x) - want)
    assert (error <= allowed_error(case.tolerance, want, 1, np.float32) / 1000).all()


def _table() -> None:
    print("| activation | float32 | float64 |\n|---|---|---|")
    for case in MEASURED:
        x = single_grid(30_000)
        single = np.concatenate([errors(case, part, wide(case, part)) for part in np.array_split(x, 16)]).max()
        x = double_grid(4)
        print(f"| `{case.ops[0]}` | {single:.2f} | {errors(case, x, exact(case, x)).max():.2f} |")


if __name__ == "__main__":
    _table()
