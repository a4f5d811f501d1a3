"""Every kernel against its NumPy reference in a wider type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn.functional as F
from fastnn import reference
from fastnn.cases import CASES, Case, allowed_error, as_type
from fastnn.random import Generator

WIDER = {np.float32: np.float64, np.float64: np.longdouble}
SENTINEL = 12345.0
ALL_CASES = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def run(case: Case, namespace: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    outputs, saved = case.forward(namespace, inputs)
    # copied, as backward may be given the same arrays
    outputs = {name: np.array(value) for name, value in outputs.items()}
    return outputs | (case.backward(namespace, inputs, saved) or {})


@pytest.mark.parametrize("dtype", WIDER, ids=lambda dtype: dtype.__name__)
@ALL_CASES
def test_kernel_agrees_with_the_wider_reference(case: Case, dtype: Any) -> None:
    for shape in case.shapes:
        inputs = case.inputs(shape, dtype)
        wide = as_type(inputs, WIDER[dtype])
        got, want = run(case, F, inputs), run(case, reference, wide)
        assert got.keys() == want.keys()
        for name, value in want.items():
            result = np.asarray(got[name])
            assert result.shape == value.shape
            if name not in ("loss", "norm"):
                assert result.dtype == dtype, name
            assert np.array_equal(np.isnan(result), np.isnan(value)), f"{shape} {name}"
            error = np.abs(result - value)
            allowed = allowed_error(case.tolerance_of(name), value, case.terms(shape, name), dtype)
            assert not (error > allowed).any(), f"{shape} {name}: error {error.max()}, allowed {allowed.max()}"


@ALL_CASES
def test_inputs_are_left_alone(case: Case) -> None:
    updated = {"running_mean", "running_var", "params", *getattr(case, "state", ())}
    inputs = case.inputs(case.shapes[-1], np.float32)
    before = as_type(inputs, np.float32)
    for name, value in inputs.items():
        for array in value if isinstance(value, list) else [value]:
            if isinstance(array, np.ndarray) and name not in updated:
                array.flags.writeable = False
    run(case, F, inputs)
    for name in inputs.keys() - updated - {"rng"}:
        pairs = zip(inputs[name], before[name], strict=True) if name == "grads" else [(inputs[name], before[name])]
        assert all(np.array_equal(array, old) for array, old in pairs), name


def strided(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same values, every second element of a larger array."""
    spaced = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    spaced[..., ::2] = array
    return spaced[..., ::2]


@pytest.mark.parametrize("case", [case for case in CASES if case.family != "optimizer"], ids=lambda case: case.name)
def test_strided_inputs_give_the_same_bits(case: Case) -> None:
    shape = case.shapes[-1]
    want = run(case, F, case.inputs(shape, np.float32))
    inputs = case.inputs(shape, np.float32)
    for name, value in inputs.items():
        if isinstance(value, np.ndarray) and not name.startswith("running"):
            inputs[name] = strided(value)
            assert value.size < 2 or not inputs[name].flags.c_contiguous
    got = run(case, F, inputs)
    for name, value in want.items():
        assert np.array_equal(got[name], value, equal_nan=True), name


def test_strided_gradients_of_optimizers() -> None:
    params = [np.ones((3, 4), np.float32), np.ones((3, 4), np.float32)]
    gradient = np.arange(12, dtype=np.float32).reshape(3, 4)
    F.sgd_step(params[:1], [gradient], None, lr=0.5)
    F.sgd_step(params[1:], [strided(gradient)], None, lr=0.5)
    assert np.array_equal(*params)


def guarded(shape: tuple[int, ...], dtype: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """An array of `shape` inside a buffer with sentinels on both sides, and the buffer."""
    size = int(np.prod(shape))
    buffer = np.full(size + 64, SENTINEL, dtype)
    return buffer[32 : 32 + size].reshape(shape), buffer


@pytest.mark.parametrize("dtype", WIDER, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("case", [case for case in CASES if case.family != "optimizer"], ids=lambda case: case.name)
def test_out_receives_the_result_and_nothing_else_is_written(case: Case, dtype: Any) -> None:
    for shape in case.shapes:
        inputs = case.inputs(shape, dtype)
        first, saved = case.forward(F, inputs)
        name = {"reduction": "sums"}.get(case.family, "y")
        if case.family == "loss":
            name = next(iter(case.gradients))
        want_forward = np.array(first[name])
        want_backward = case.backward(F, inputs, saved)

        inputs = case.inputs(shape, dtype)
        out, buffer = guarded(want_forward.shape, dtype)
        outputs, saved = case.forward(F, inputs, out=out)
        assert outputs[name] is out
        assert np.array_equal(out, want_forward, equal_nan=True)
        assert (buffer[:32] == SENTINEL).all() and (buffer[-32:] == SENTINEL).all()
        if want_backward is None:
            continue
        want_dx = np.array(want_backward["dx"])
        out, buffer = guarded(want_dx.shape, dtype)
        gradients = case.backward(F, inputs, saved, out=out)
        assert gradients is not None and gradients["dx"] is out
        assert np.array_equal(out, want_dx, equal_nan=True)
        assert (buffer[:32] == SENTINEL).all() and (buffer[-32:] == SENTINEL).all()


def test_optimizers_write_nothing_beside_their_tensors() -> None:
    for case in CASES:
        if case.family != "optimizer":
            continue
        inputs = case.inputs(case.shapes[-1], np.float32)
        buffers = []
        for name in ("params", *case.state):  # type: ignore[attr-defined]
            for i, array in enumerate(inputs[name]):
                view, buffer = guarded(array.shape, np.float32)
                view[...] = array
                inputs[name][i] = view
                buffers.append(buffer)
        case.forward(F, inputs)
        for buffer in buffers:
            assert (buffer[:32] == SENTINEL).all() and (buffer[-32:] == SENTINEL).all(), case.name


def test_saved_arrays_are_counted() -> None:
    x = np.ones((8, 4), np.float32)
    bias = np.ones(4, np.float32)
    for case_dropout in (0.0, 0.5):
        y, saved = F.bias_act(x.copy(), bias, activation="relu", dropout=case_dropout)
        assert saved is not None and saved.kept is y and saved.nbytes == x.nbytes
    _, saved = F.bias_act(x, bias)
    assert saved is not None and saved.nbytes == 0
    _, normed = F.batch_norm(x, training=True, activation="relu", dropout=0.5)
    assert normed is not None and normed.x is x and normed.nbytes == x.nbytes + 2 * 4 * 8
    _, dropped = F.dropout(x)
    assert dropped is not None and dropped.nbytes == 0


def test_inference_keeps_nothing_and_draws_nothing() -> None:
    rng = Generator(1)
    x = np.ones((8, 4), np.float32)
    assert F.dropout(x, 0.5, False, rng=rng)[1] is None
    assert F.bias_act(x, dropout=0.5, rng=rng, training=False)[1] is None
    assert F.batch_norm(x, np.zeros(4), np.ones(4), dropout=0.5, rng=rng)[1] is None
    assert rng.position == 0


def test_running_statistics_of_the_other_type_are_accepted() -> None:
    x = np.random.default_rng(0).normal(3, 2, (33, 5))
    for dtype, other in ((np.float32, np.float64), (np.float64, np.float32)):
        mean, var = np.zeros(5, other), np.ones(5, other)
        F.batch_norm(x.astype(dtype), mean, var, training=True)
        np.testing.assert_allclose(mean, 0.1 * x.mean(0), rtol=1e-5)
        np.testing.assert_allclose(var, 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-5)


def test_saved_is_reusable_and_independent_of_later_updates() -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 33, 5))
    weight, bias = rng.normal(size=(2, 5))
    _, saved = F.batch_norm(x, weight=weight, bias=bias, training=True, activation="relu")
    first = F.batch_norm_backward(dy, saved)
    weight += 1  # as an optimizer step does
    bias -= 1
    for a, b in zip(first, F.batch_norm_backward(dy, saved), strict=True):
        assert np.array_equal(a, b)


def test_planes_without_elements_have_empty_sums() -> None:
    x = np.zeros((2, 3, 0), np.float32)
    assert np.array_equal(F.channel_sum(x, channel_axis=1), np.zeros(3))
    y, saved = F.bias_act(x, np.ones(3, np.float32), activation="relu", channel_axis=1)
    dx, dbias = F.bias_act_backward(y, saved)
    assert dx.shape == x.shape and np.array_equal(dbias, np.zeros(3))
