"""The same bits, whatever the ISA level, the threads, the memory and the fusion.

Hashes of every case are committed in ``hashes.json``.  They change only when a formula, the reduction tree or the
random bits change.  To write them anew::

    FASTNN_WRITE_HASHES=1 pytest tests/test_bits.py
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastnn
import fastnn._core as _core
import fastnn.functional as F
from fastnn.cases import CASES, Case
from fastnn.functional.activations import ACTIVATIONS, ActivationSpec

HASHES = Path(__file__).with_name("hashes.json")
WRITE = "FASTNN_WRITE_HASHES" in os.environ
OPENMP = _core.config()["openmp"]
DTYPES = (np.float32, np.float64)
THREADS = (1, 2, 3, 7)
OFFSETS = (0, 1, 5)  # elements past a 64-byte border

Array = np.ndarray[Any, Any]
Results = dict[str, Array]


@pytest.fixture(autouse=True)
def settings_restored() -> Iterator[None]:
    isa = fastnn.get_isa()
    _core._set_grain(0)
    yield
    _core._set_grain(-1)
    _core._set_cache_bytes(0, 0)
    fastnn.set_num_threads(None)
    fastnn.set_isa(isa)


def moved(array: Array, offset: int) -> Array:
    """A copy whose memory starts `offset` elements past a 64-byte border."""
    buffer = np.empty(array.size + 64, array.dtype)
    start = -(buffer.ctypes.data // array.itemsize) % (64 // array.itemsize) + offset
    copy = buffer[start : start + array.size].reshape(array.shape)
    copy[...] = array
    return copy


def inputs_at(case: Case, shape: Any, dtype: Any, offset: int) -> dict[str, Any]:
    def place(value: Any) -> Any:
        if isinstance(value, list):
            return [place(item) for item in value]
        return moved(value, offset) if isinstance(value, np.ndarray) else value

    return {name: place(value) for name, value in case.inputs(shape, dtype).items()}


def run(case: Case, shape: Any, dtype: Any, mode: str = "fresh", offset: int = 0, namespace: Any = F) -> Results:
    """All outputs of forward and backward; `mode` says where they are written."""
    return run_counted(case, shape, dtype, mode, offset, namespace)[0]


def run_counted(
    case: Case, shape: Any, dtype: Any, mode: str, offset: int, namespace: Any = F
) -> tuple[Results, list[int]]:
    """What `run` gives, and the size of the largest team in forward and, if there is one, in backward."""
    inputs = inputs_at(case, shape, dtype, offset)
    out = {"fresh": None, "out": "new", "in place": case.in_place}[mode]
    target = None
    if out == "new" and case.family != "optimizer":
        target = moved(np.zeros(case.out_shape(shape, "forward"), dtype), offset)
    elif out is not None and case.family != "optimizer":
        target = inputs[out]
    _core._largest_team()
    outputs, saved = case.forward(namespace, inputs, out=target)
    teams = [_core._largest_team()]
    # copied, as the in-place forms of backward may overwrite them
    results = {name: np.array(value) for name, value in outputs.items()}
    dy_target = None
    if mode == "out" and "dy" in inputs:
        dy_target = moved(np.zeros(case.out_shape(shape, "backward"), dtype), offset)
    elif mode == "in place" and "dy" in case.in_place_backward:
        dy_target = inputs["dy"]
    gradients = case.backward(namespace, inputs, saved, out=dy_target)
    if gradients is not None:
        results |= gradients
        if any(gradient is not inputs["dy"] for gradient in gradients.values()):  # else nothing was to do
            teams.append(_core._largest_team())
    return results, teams


def assert_same(got: Results, want: Results, where: str) -> None:
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert canonical(got[name]) == canonical(value), f"{where}: {name} differs"


def canonical(value: Any) -> bytes:
    """Bytes of an array in which all NaNs are the same: the sign of a NaN is the processor's business."""
    array = np.array(value)
    array[np.isnan(array)] = np.nan
    return array.tobytes()


def digest(case: Case) -> str:
    sha = hashlib.sha256()
    for dtype, shape in product(DTYPES, case.shapes):
        for name, value in sorted(run(case, shape, dtype).items()):
            sha.update(name.encode() + canonical(value))
    return sha.hexdigest()[:16]


def thinned(case: Case) -> list[tuple[Any, Any]]:
    """A third of the shapes, another one for each case, and the largest; types alternate."""
    start = sum(case.name.encode())
    picked = [shape for i, shape in enumerate(case.shapes) if (i + start) % 3 == 0 or i == len(case.shapes) - 1]
    return [(shape, DTYPES[(i + start) % 2]) for i, shape in enumerate(picked)]


@pytest.fixture(scope="module")
def written() -> Iterator[dict[str, str]]:
    hashes: dict[str, str] = {}
    yield hashes
    if WRITE:
        HASHES.write_text(json.dumps(dict(sorted(hashes.items())), indent=0) + "\n")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hashes_are_the_committed_ones(case: Case, written: dict[str, str]) -> None:
    fastnn.set_num_threads(1)
    hashes = set()
    for isa in fastnn.available_isas():
        fastnn.set_isa(isa)
        assert fastnn.get_isa() == isa
        hashes.add(digest(case))
    assert len(hashes) == 1, "ISA levels differ"
    written[case.name] = hashes.pop()
    if not WRITE:
        assert written[case.name] == json.loads(HASHES.read_text())[case.name]


def test_no_stale_hashes() -> None:
    if not WRITE:
        assert json.loads(HASHES.read_text()).keys() == {case.name for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bits_depend_on_nothing_but_the_inputs(case: Case) -> None:
    modes = ["fresh", "out"] + ["in place"] * bool(case.in_place or case.in_place_backward)
    fastnn.set_num_threads(1)
    wanted = [run(case, shape, dtype) for shape, dtype in thinned(case)]
    for isa, threads in product(fastnn.available_isas(), THREADS):
        fastnn.set_isa(isa)
        fastnn.set_num_threads(threads)
        for (shape, dtype), want in zip(thinned(case), wanted, strict=True):
            for mode, offset in zip(modes, OFFSETS, strict=False):
                got, teams = run_counted(case, shape, dtype, mode, offset)
                where = f"{shape} {dtype.__name__} {isa} {threads} threads {mode}"
                assert_same(got, want, where)
                if shape is case.shapes[-1]:  # the largest, with work for seven threads in every op
                    assert set(teams) == {threads if OPENMP else 1}, f"{where}: teams of {teams} in forward, backward"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_alignment_and_place_do_not_matter(case: Case) -> None:
    modes = ["fresh", "out"] + ["in place"] * bool(case.in_place or case.in_place_backward)
    fastnn.set_num_threads(1)
    for shape, dtype in thinned(case):
        want = run(case, shape, dtype)
        for mode, offset in product(modes, OFFSETS):
            assert_same(run(case, shape, dtype, mode, offset), want, f"{shape} {mode} offset {offset}")


# ------------------------------------------------------------------------------------------------- fused, unfused


def _activate(v: Array, activation: str | ActivationSpec | None) -> Array:
    if activation is None:
        return v
    spec = ACTIVATIONS[activation].default_spec if isinstance(activation, str) else activation
    return getattr(F, spec.name)(v, **spec.params)  # type: ignore[no-any-return]


def _activate_backward(dy: Array, v: Array, activation: str | ActivationSpec | None) -> Array:
    if activation is None:
        return dy
    spec = ACTIVATIONS[activation].default_spec if isinstance(activation, str) else activation
    return getattr(F, spec.name + "_backward")(dy, v, **spec.params)  # type: ignore[no-any-return]


class Unfused:
    """`bias_act` and the norms out of single ops, each writing its whole result."""

    @staticmethod
    def _epilogue(v: Array, residual: Any, activation: Any, dropout: float, rng: Any, training: bool) -> Any:
        if residual is not None:
            v = v + residual
        y = _activate(v, activation)
        mask = None
        if dropout and training:
            y, mask = F.dropout(y, dropout, rng=rng)
        return y, SimpleNamespace(v=v, mask=mask, activation=activation, residual=residual)

    @staticmethod
    def _epilogue_backward(dy: Array, tail: Any) -> Array:
        if tail.mask is not None:
            dy = F.dropout_backward(dy, tail.mask)
        return _activate_backward(dy, tail.v, tail.activation)

    @classmethod
    def bias_act(
        cls, x: Array, bias: Any, *, residual: Any, activation: Any, dropout: float, rng: Any, training: bool,
        channel_axis: int, out: None,
    ) -> Any:  # fmt: skip
        v = x if bias is None else F.bias_act(x, bias, channel_axis=channel_axis)[0]
        y, tail = cls._epilogue(v, residual, activation, dropout, rng, training)
        return y, (tail, bias is not None, channel_axis)

    @classmethod
    def bias_act_backward(cls, dy: Array, saved: Any, *, out: None) -> Any:
        tail, has_bias, channel_axis = saved
        dx = cls._epilogue_backward(dy, tail)
        dbias = F.channel_sum(dx, channel_axis=channel_axis) if has_bias else None
        return (dx, dbias) if tail.residual is None else (dx, dbias, dx)

    @classmethod
    def batch_norm(
        cls, x: Array, running_mean: Any, running_var: Any, weight: Any, bias: Any, training: bool, *, pre_bias: Any,
        residual: Any, activation: Any, dropout: float, rng: Any, channel_axis: int, out: None, **options: Any,
    ) -> Any:  # fmt: skip
        if pre_bias is not None:
            x = F.bias_act(x, pre_bias, channel_axis=channel_axis)[0]
        arrays = (x, running_mean, running_var, weight, bias)
        v, norm = F.batch_norm(*arrays, training, channel_axis=channel_axis, **options)
        y, tail = cls._epilogue(v, residual, activation, dropout, rng, training)
        return y, (norm, tail, pre_bias is not None, channel_axis)

    @classmethod
    def batch_norm_backward(cls, dy: Array, saved: Any, *, out: None) -> Any:
        norm, tail, has_pre_bias, channel_axis = saved
        g = cls._epilogue_backward(dy, tail)
        gradients = list(F.batch_norm_backward(g, norm))
        if tail.residual is not None:
            gradients.append(g)
        if has_pre_bias:
            gradients.append(F.channel_sum(gradients[0], channel_axis=channel_axis))
        return gradients

    @classmethod
    def _sample_norm(
        cls, op: str, x: Array, *among: Any, residual: Any, activation: Any, dropout: float, rng: Any, out: None,
        **options: Any,
    ) -> Any:  # fmt: skip
        v, norm = getattr(F, op)(x, *among, **options)
        y, tail = cls._epilogue(v, residual, activation, dropout, rng, True)
        return y, (op, norm, tail)

    @classmethod
    def _sample_norm_backward(cls, dy: Array, saved: Any, *, out: None) -> Any:
        op, norm, tail = saved
        g = cls._epilogue_backward(dy, tail)
        gradients = getattr(F, f"{op}_backward")(g, norm)
        return gradients if tail.residual is None else (*gradients, g)


for _op in ("layer_norm", "rms_norm", "group_norm", "instance_norm"):
    setattr(Unfused, _op, partial(Unfused._sample_norm, _op))
    setattr(Unfused, f"{_op}_backward", Unfused._sample_norm_backward)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.family in ("bias_act", "norm")], ids=lambda case: case.name
)
def test_fused_and_unfused_agree(case: Case) -> None:
    for threads in (1, 3):
        fastnn.set_num_threads(threads)
        for dtype, shape in product(DTYPES, case.shapes):
            unfused = run(case, shape, dtype, namespace=Unfused)
            assert_same(run(case, shape, dtype), unfused, f"{shape} {dtype.__name__}")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_neither_streaming_nor_loop_order_matters(case: Case) -> None:
    """With a last-level cache of one byte everything is written past it; L2 decides about channel after channel."""
    runs = [(shape, DTYPES[i % 2], OFFSETS[i % 3]) for i, shape in enumerate(case.shapes)]
    fastnn.set_num_threads(1)
    wanted = [run(case, shape, dtype) for shape, dtype, _ in runs]
    for isa, l2 in product(fastnn.available_isas(), (1, 1 << 30)):
        fastnn.set_isa(isa)
        fastnn.set_num_threads(1 if l2 == 1 else 3)
        _core._set_cache_bytes(l2, 1)
        for (shape, dtype, offset), want in zip(runs, wanted, strict=True):
            got = run(case, shape, dtype, "out", offset)
            assert_same(got, want, f"{shape} {dtype.__name__} {isa}, L2 of {l2} bytes")
