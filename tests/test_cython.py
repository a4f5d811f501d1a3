"""The kernels as C functions: declarations that agree, the bits of the Python calls, refusals, and real compilers.

Values and refusals are tested through ctypes, which needs no compiler; the types are those that the capsules' own
signatures and `kernels.pxd` give.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import inspect
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from ctypes import byref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import _core, random
from fastnn.cases import CASES, Case
from fastnn.functional.activations import ACTIVATIONS, resolve
from fastnn.kernels import __pyx_capi__

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
PACKAGE = Path(fastnn.__file__).parent
DECLARATIONS = PACKAGE / "kernels.pxd"
HEADER = Path(fastnn.get_include()) / "fastnn.h"
OK, INVALID, NONFINITE = 0, -1, -3

Array = np.ndarray[Any, Any]


# ------------------------------------------------------------------------------------------------- declarations


def signature_of(capsule: object) -> str:
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    return str(name(capsule).decode())


def declared(declaration: str) -> list[tuple[str, str]]:
    """(type, name) of each declarator in 'const float *a, *b[4]'; the type as in a signature."""
    match = re.fullmatch(r"\s*(const\s+)?(\w+)(\s+const)?\s+(.*?)\s*", declaration, re.DOTALL)
    assert match, declaration
    const_before, kind, const_after, declarators = match.groups()
    kind += " const" if const_before or const_after else ""
    parts = re.findall(r"(\**)(\w+)(\[\d+\])?", declarators)
    return [(f"{kind} {stars}".strip() + extent, name) for stars, name, extent in parts]


def pxd_text() -> str:
    return re.sub(r"\s*#.*", "", DECLARATIONS.read_text())


def pxd_structs() -> dict[str, list[tuple[str, str]]]:
    """Fields of each struct in kernels.pxd, by its C name."""
    structs = re.findall(r'^ctypedef struct \w+ "(\w+)":\n((?:    .*\n)+)', pxd_text(), re.MULTILINE)
    return {name: [field for line in body.splitlines() for field in declared(line)] for name, body in structs}


def pxd_signatures() -> dict[str, str]:
    """Signature text of each function in kernels.pxd, as Cython writes it."""
    c_names = dict(re.findall(r'^ctypedef struct (\w+) "(\w+)"', pxd_text(), re.MULTILINE))
    functions = re.findall(r"^cdef int (\w+)\(([^)]*)\) noexcept nogil$", pxd_text(), re.MULTILINE)
    signatures = {}
    for name, arguments in functions:
        kinds = ", ".join(kind for argument in arguments.split(",") for kind, _ in declared(argument))
        signatures[name] = "int (" + re.sub(r"\w+", lambda word: c_names.get(word[0], word[0]), kinds) + ")"
    return signatures


def header_structs() -> dict[str, list[tuple[str, str]]]:
    """Fields of each struct in fastnn.h but the table of functions."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL).replace("\\\n", "\n")
    found = {}
    for suffix, kind in (("f32", "float"), ("f64", "double")):
        concrete = re.sub(r"\bT\b", kind, text).replace("##suffix", suffix)
        for body, name in re.findall(r"typedef struct \{([^{}#]*)\} (\w+);", concrete):
            found[name] = [field for line in body.split(";")[:-1] for field in declared(line)]
    return found


def test_declarations_for_cython_are_those_of_the_capsules() -> None:
    assert pxd_signatures() == {name: signature_of(capsule) for name, capsule in __pyx_capi__.items()}


def test_every_function_is_there_for_both_types() -> None:
    by_type = {kind: {n.removesuffix(kind) for n in __pyx_capi__ if n.endswith(kind)} for kind in ("_f32", "_f64")}
    assert by_type["_f32"] == by_type["_f64"]
    assert len(__pyx_capi__) == 2 * len(by_type["_f32"]) + len({"activation_id", "optimizer_id"})


def test_structs_of_cython_and_c_agree() -> None:
    assert len(pxd_structs()) == 5
    assert pxd_structs() == header_structs()


def test_status_numbers_of_cython_and_c_agree() -> None:
    numbers = re.compile(r"^\s+(?:FASTNN_)?(\w+) = (-?\d+)", re.MULTILINE)
    in_header = re.findall(r"(?:FASTNN_)(\w+) = (-?\d+)", HEADER.read_text())
    assert numbers.findall(DECLARATIONS.read_text()) == in_header
    assert {"OK": OK, "INVALID": INVALID, "NONFINITE": NONFINITE}.items() <= {n: int(v) for n, v in in_header}.items()


def test_importing_fastnn_does_not_load_the_capsules(run_python) -> None:
    run_python("import sys, fastnn\nassert 'fastnn.kernels' not in sys.modules")


# ------------------------------------------------------------------------------------------- calls through ctypes

C_TYPES: dict[str, Any] = {
    "int": ctypes.c_int,
    "double": ctypes.c_double,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
}


def c_type(kind: str) -> Any:
    if "[" in kind:
        return ctypes.c_void_p * int(kind.partition("[")[2].rstrip("]"))
    return ctypes.c_void_p if "*" in kind else C_TYPES[kind]


def c_function(name: str) -> Callable[..., int]:
    signature = signature_of(__pyx_capi__[name])
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    kinds = signature.removeprefix("int (").removesuffix(")").split(", ")
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, *map(c_type, kinds))
    return prototype(get(__pyx_capi__[name], signature.encode()))


FUNCTIONS = {name: c_function(name) for name in __pyx_capi__}
STRUCTS: dict[str, Any] = {
    name: type(name, (ctypes.Structure,), {"_fields_": [(field, c_type(kind)) for kind, field in fields]})
    for name, fields in pxd_structs().items()
}


def suffix_of(dtype: Any) -> str:
    return {4: "f32", 8: "f64"}[np.dtype(dtype).itemsize]


def address(array: Array | None) -> int | None:
    return None if array is None else array.ctypes.data


def call(name: str, *arguments: Any) -> int:
    """A function's status; arrays go as pointers."""
    return FUNCTIONS[name](*(a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments))


def run(name: str, dtype: Any, *arguments: Any) -> None:
    assert call(f"{name}_{suffix_of(dtype)}", *arguments) == OK


def identity(kind: str, name: str) -> int:
    number = call(f"{kind}_id", name.encode())
    assert number > 0
    return number


def view(x: Array, axis: int) -> tuple[int, int, int]:
    if x.ndim == 0:
        return 1, 1, 1
    axis %= x.ndim
    return int(np.prod(x.shape[:axis])), x.shape[axis], int(np.prod(x.shape[axis + 1 :]))


def epilogue(act: int, p0: float, p1: float, threshold: int, seed: int, position: int, first: int) -> Any:
    dropout = 0.0 if threshold < 0 else 1 - threshold / 65536
    return byref(STRUCTS["fastnn_epilogue"](act + 1, p0, p1, dropout, seed, position, first))


def layer(dtype: Any, *arrays: Array | None, momentum: float = 0.1, eps: float = 1e-5, nonfinite: int = 0) -> Any:
    """A batch norm: weight, bias, pre_bias, running_mean, running_var, mean, invstd."""
    norm = STRUCTS[f"fastnn_batch_norm_{suffix_of(dtype)}"]
    return byref(norm(*map(address, arrays), momentum, eps, nonfinite))


def tensors(params: list[Array], grads: list[Array], states: Sequence[list[Array] | None]) -> Any:
    tensor = STRUCTS[f"fastnn_tensor_{suffix_of(params[0].dtype)}"]
    rows = [
        tensor(address(p), address(g), (ctypes.c_void_p * 4)(*(s and address(s[i]) for s in states)), p.size)
        for i, (p, g) in enumerate(zip(params, grads, strict=True))
    ]
    return (tensor * len(rows))(*rows)


def tail(activation: Any, dropout: float, rng: Any, first: int) -> tuple[Any, ...]:
    """The arguments of an epilogue; draws a position if there is dropout."""
    spec = None if activation is None else resolve(activation)
    act, p0, p1 = (-1, 0.0, 0.0) if spec is None else (spec.id, spec.p0, spec.p1)
    if dropout == 0:
        return act, p0, p1, -1, 0, 0, first
    return act, p0, p1, random.keep_threshold(dropout), *rng.draw(), first


class Routed:
    """Functions of `fastnn.functional`, computed by the capsules."""

    def bias_act(
        self, x, bias=None, *, residual=None, activation=None, dropout=0.0, rng=None, training=True, channel_axis=-1,
        first=0, out=None,
    ):  # fmt: skip
        y = np.empty_like(x) if out is None else out
        dropout = dropout if training else 0.0
        spec = None if activation is None else resolve(activation)
        end = tail(activation, dropout, rng, first)
        run("bias_act", x.dtype, x, bias, residual, epilogue(*end), y, *view(x, channel_axis))
        from_output = spec is not None and spec.from_output and (dropout == 0 or spec.sign_only)
        kept = None if spec is None else y if from_output else x
        return y, SimpleNamespace(
            kept=kept, from_output=from_output, bias=bias, residual=residual, tail=end, axis=channel_axis
        )

    def bias_act_backward(self, dy, saved, *, out=None):
        dx = np.empty_like(dy) if out is None else out
        dbias = None if saved.bias is None else np.empty_like(saved.bias)
        inputs = (None, None) if saved.from_output else (saved.bias, saved.residual)
        arrays = (dy, saved.kept, saved.from_output, *inputs, epilogue(*saved.tail), dx, dbias)
        run("bias_act_backward", dy.dtype, *arrays, *view(dy, saved.axis))
        return (dx, dbias) if saved.residual is None else (dx, dbias, dx)

    def dropout(self, x, p=0.5, training=True, *, inverted=True, rng=None, first=0, out=None):
        if not inverted:  # there is no function of it
            return F.dropout(x, p, training, inverted=False, rng=rng, first=first, out=out)
        y = np.empty_like(x) if out is None else out
        seed, position = rng.draw() if training and p > 0 else (0, 0)
        saved = (p if training else 0.0, seed, position, first)
        run("dropout", x.dtype, x, y, x.size, *saved)
        return y, saved

    def dropout_backward(self, dy, saved, *, out=None):
        if isinstance(saved, _core.Saved):
            return F.dropout_backward(dy, saved, out=out)
        dx = np.empty_like(dy) if out is None else out
        run("dropout", dy.dtype, dy, dx, dy.size, *saved)
        return dx

    def channel_sum(self, x, *, channel_axis=-1, out=None):
        sums = np.empty(x.shape[channel_axis], x.dtype) if out is None else out
        run("channel_sum", x.dtype, x, sums, *view(x, channel_axis))
        return sums

    def batch_norm(
        self, x, running_mean=None, running_var=None, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5, *,
        pre_bias=None, residual=None, activation=None, dropout=0.0, rng=None, channel_axis=1, nonfinite="error",
        first=0, out=None,
    ):  # fmt: skip
        y = np.empty_like(x) if out is None else out
        sizes = view(x, channel_axis)
        if not training:
            norm = layer(x.dtype, weight, bias, pre_bias, running_mean, running_var, None, None, eps=eps)
            act, p0, p1, *_ = tail(activation, 0.0, rng, first)
            dropped = epilogue(act, p0, p1, 3, 1, 2, 0)  # what inference ignores
            run("batch_norm_infer", x.dtype, norm, x, residual, dropped, y, *sizes)
            return y, None
        end = tail(activation, dropout, rng, first)
        statistics = np.empty((2, x.shape[channel_axis]))
        arrays = (weight, bias, pre_bias, running_mean, running_var, *statistics)
        mode = ("error", "skip", "allow").index(nonfinite)
        norm = layer(x.dtype, *arrays, momentum=momentum, eps=eps, nonfinite=mode)
        run("batch_norm_train", x.dtype, norm, x, residual, epilogue(*end), y, *sizes)
        return y, SimpleNamespace(
            x=x, parameters=(weight, bias, pre_bias), statistics=statistics, residual=residual, tail=end, sizes=sizes
        )

    def batch_norm_backward(self, dy, saved, *, out=None):
        x, residual = saved.x, saved.residual
        dx = np.empty_like(x) if out is None else out
        dweight, dbias, dpre_bias = np.empty((3, saved.sizes[1]), x.dtype)
        dresidual = None if residual is None else np.empty_like(x)
        dpre_bias = None if saved.parameters[2] is None else dpre_bias
        norm = layer(x.dtype, *saved.parameters, None, None, *saved.statistics)
        gradients = (dx, dweight, dbias, dresidual, dpre_bias)
        run("batch_norm_backward", x.dtype, norm, dy, x, residual, epilogue(*saved.tail), *gradients, *saved.sizes)
        return tuple(gradient for gradient in gradients if gradient is not None)

    def softmax_cross_entropy(self, logits, labels, *, out=None, **options):
        if options or logits.ndim != 2 or labels.dtype.kind == "f":  # no capsule of these
            return F.softmax_cross_entropy(logits, labels, out=out, **options)
        dlogits = np.empty_like(logits) if out is None else out
        loss = ctypes.c_double()
        rows = np.ascontiguousarray(labels, np.int64)
        run("softmax_cross_entropy", logits.dtype, logits, rows, dlogits, byref(loss), *logits.shape)
        return loss.value, dlogits


class RoutedCore:
    """`_core`'s function, computed by the capsules."""

    def optimizer_step(self, name, params, grads, states, numbers, groups, clip_norm, clip_to_unit, nonfinite):
        dtype = params[0].dtype
        rows = tensors(params, grads, states)
        values, norm, found = np.array(numbers[0], float), ctypes.c_double(), ctypes.c_double()
        run("gradient_norm", dtype, rows, len(rows), byref(found))
        if clip_to_unit:  # the caller's business
            factor = dtype.type(1 if found.value <= clip_norm else 1 / found.value)
            grads = [np.asarray(grad * factor) for grad in grads]
            rows = tensors(params, grads, states)
        limit = 0 if clip_to_unit else clip_norm or 0
        run(
            "optimizer_step",
            dtype,
            identity("optimizer", name),
            rows,
            len(rows),
            values,
            len(values),
            limit,
            byref(norm),
        )
        assert limit == 0 or norm.value == found.value
        return None if clip_norm is None else found.value


def routed_activation(name: str) -> tuple[Callable[..., Array], Callable[..., Array]]:
    def numbers(parameters: dict[str, float]) -> tuple[float, float]:
        values = {**ACTIVATIONS[name].defaults, **parameters}
        return (*values.values(), 0.0, 0.0)[:2]

    def forward(x: Array, *, out: Array | None = None, **parameters: float) -> Array:
        y = np.empty_like(x) if out is None else out
        run("activation", x.dtype, identity("activation", name), *numbers(parameters), x, y, x.size)
        return y

    def backward(dy: Array, x: Array, *, output: bool = False, out: Array | None = None, **parameters: float) -> Array:
        dx = np.empty_like(dy) if out is None else out
        form = "activation_backward_output" if output else "activation_backward"
        run(form, dy.dtype, identity("activation", name), *numbers(parameters), dy, x, dx, dy.size)
        return dx

    return forward, backward


@pytest.fixture
def routed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], SimpleNamespace]]:
    """From its call on, a namespace like `fastnn.functional` that computes everything by the capsules."""

    def route() -> SimpleNamespace:
        for name, method in inspect.getmembers(RoutedCore(), inspect.ismethod):
            monkeypatch.setattr(_core, name, method)
        namespace = SimpleNamespace(**vars(F) | dict(inspect.getmembers(Routed(), inspect.ismethod)))
        for name in ACTIVATIONS:
            forward, backward = routed_activation(name)
            setattr(namespace, name, forward)
            setattr(namespace, f"{name}_backward", backward)
        return namespace

    yield route
    monkeypatch.undo()


def results(case: Case, namespace: Any, shape: Any, dtype: Any) -> dict[str, bytes]:
    inputs = case.inputs(shape, dtype)
    outputs, saved = case.forward(namespace, inputs)
    found = {name: np.array(value) for name, value in outputs.items()}
    found |= case.backward(namespace, inputs, saved) or {}
    return {name: canonical(value) for name, value in found.items()}


def canonical(value: Any) -> bytes:
    array = np.array(value)
    array[np.isnan(array)] = np.nan
    return array.tobytes()


@pytest.mark.parametrize(
    "case", [case for case in CASES if not getattr(case, "options", None)], ids=lambda case: case.name
)  # C has batch norm without its switches
def test_capsules_give_the_bits_of_the_python_calls(case: Case, routed, forced_regions: None) -> None:
    fastnn.set_num_threads(2)
    work = [(shape, dtype) for shape in case.shapes for dtype in (np.float32, np.float64)]
    expected = [results(case, F, *arguments) for arguments in work]
    namespace = routed()
    for arguments, wanted in zip(work, expected, strict=True):
        assert results(case, namespace, *arguments) == wanted, arguments


def test_dropout_is_that_of_python_for_any_probability() -> None:
    x = np.random.default_rng(0).standard_normal(3000)
    halfway = [(k + 0.5) / 65536 for k in range(4)]  # rounded to even
    for position, p in enumerate([0.0, 1.0, 0.5, 1e-9, 1 - 1e-9, *halfway, *np.random.default_rng(1).random(50)]):
        expected, _ = F.dropout(x, p, rng=fastnn.Generator(7, position), first=position)
        y = np.empty_like(x)
        run("dropout", x.dtype, x, y, x.size, p, 7, position, position)
        assert canonical(y) == canonical(expected), p


def test_foreign_rounding_mode_changes_no_bit_and_is_kept() -> None:
    upward = {"x86_64": 0x800, "aarch64": 0x400000}.get(platform.machine())
    if upward is None:
        pytest.skip("FE_UPWARD is not known for this platform")
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    x = np.random.default_rng(0).standard_normal((2000, 3), dtype=np.float32)
    bias = np.full(3, 0.1, np.float32)
    leaky = STRUCTS["fastnn_epilogue"](identity("activation", "leaky_relu"), 0.1, 0, 1 / 3, 1, 2, 0)
    results = []
    for mode in (0, upward):
        y = np.empty_like(x)
        assert libm.fesetround(mode) == 0
        try:
            status, kept = call("bias_act_f32", x, bias, None, byref(leaky), y, *y.shape, 1), libm.fegetround()
        finally:
            libm.fesetround(0)
        assert (status, kept) == (OK, mode)
        results.append(y.tobytes())
    assert results[0] == results[1]


def test_optional_gradients_change_no_bit() -> None:
    rng = np.random.default_rng(0)
    x, dy, residual = rng.standard_normal((3, 70, 5))
    weight, bias = rng.standard_normal((2, 5))
    statistics = np.empty((2, 5))
    norm = layer(x.dtype, weight, bias, None, None, None, *statistics)
    tail = epilogue(0, 0, 0, 32768, 1, 2, 0)
    run("batch_norm_train", x.dtype, norm, x, residual, tail, np.empty_like(x), 70, 5, 1)
    found = []
    for dresidual in (np.empty_like(x), None):
        gradients = [np.empty_like(x), np.empty(5), np.empty(5)]
        run("batch_norm_backward", x.dtype, norm, dy, x, residual, tail, *gradients, dresidual, None, 70, 5, 1)
        found.append([canonical(gradient) for gradient in gradients])
    assert found[0] == found[1]


def test_bias_gradient_that_is_not_wanted_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    bias = rng.standard_normal(64)
    for rows in (4, 100, 2000):
        x, dy = rng.standard_normal((2, rows, 64))
        found = []
        for dbias in (np.empty(64), None):
            dx = np.empty_like(x)
            tail = epilogue(call("activation_id", b"leaky_relu"), 0.1, 0, -1, 0, 0, 0)
            run("bias_act_backward", x.dtype, dy, x, 0, bias, None, tail, dx, dbias, rows, 64, 1)
            found.append(canonical(dx))
        assert found[0] == found[1]


# --------------------------------------------------------------------------------------------------- refusals

ONE = np.ones(8)
LABELS = np.zeros(4, np.int64)


def invalid_calls() -> Iterator[tuple[str, tuple[Any, ...]]]:
    y, channel, statistics = np.empty(8), np.ones(2), (np.empty(2), np.empty(2))
    relu = call("activation_id", b"relu")
    yield "activation_f64", (0, 0, 0, ONE, y, 8)
    yield "activation_f64", (INVALID, 0, 0, ONE, y, 8)
    yield "activation_f64", (1000, 0, 0, ONE, y, 8)
    yield "activation_f64", (relu, 0, 0, ONE, y, -1)
    yield "activation_f64", (relu, 0, 0, None, y, 8)
    yield "activation_backward_f64", (relu, 0, 0, ONE, ONE, None, 8)
    for p in (-0.1, 1.1, float("nan")):
        yield "dropout_f64", (ONE, y, 8, p, 0, 0, 0)
    yield "dropout_f64", (ONE, y, 8, 0.5, 0, 0, -1)
    yield "bias_act_f64", (ONE, None, None, None, None, 4, 2, 1)
    yield "bias_act_f64", (ONE, None, None, None, y, 4, -2, 1)
    yield "bias_act_f64", (ONE, None, None, epilogue(1000, 0, 0, -1, 0, 0, 0), y, 4, 2, 1)
    yield "bias_act_backward_f64", (ONE, None, 0, None, None, epilogue(0, 0, 0, -1, 0, 0, 0), y, None, 4, 2, 1)
    yield "channel_sum_f64", (ONE, None, 4, 2, 1)
    for wrong in ({"eps": 0.0}, {"eps": float("nan")}, {"momentum": 1.5}, {"nonfinite": 3}):
        norm = layer(float, channel, channel, None, None, None, *statistics, **wrong)
        yield "batch_norm_train_f64", (norm, ONE, None, None, y, 4, 2, 1)
    whole = layer(float, channel, channel, None, channel, channel, *statistics)
    yield "batch_norm_train_f64", (None, ONE, None, None, y, 4, 2, 1)
    yield "batch_norm_train_f64", (whole, ONE, None, None, y, 1, 8, 1)
    half = layer(float, None, None, None, channel, None, *statistics)
    yield "batch_norm_train_f64", (half, ONE, None, None, y, 4, 2, 1)
    yield "batch_norm_infer_f64", (half, ONE, None, None, y, 4, 2, 1)
    yield "batch_norm_backward_f64", (whole, ONE, ONE, None, None, y, None, None, None, None, 4, 2, 1)
    loss = byref(ctypes.c_double())
    yield "softmax_cross_entropy_f64", (ONE, LABELS + 2, y, loss, 4, 2)
    yield "softmax_cross_entropy_f64", (ONE, LABELS - 1, y, loss, 4, 2)
    yield "softmax_cross_entropy_f64", (ONE, LABELS, y, None, 4, 2)
    yield "softmax_cross_entropy_f64", (ONE, LABELS, y, loss, 4, 0)
    rows, numbers = tensors([ONE.copy()], [ONE], []), np.zeros(10)
    sgd, adam = call("optimizer_id", b"sgd"), call("optimizer_id", b"adam")
    yield "optimizer_step_f64", (0, rows, 1, numbers, 10, 0, None)
    yield "optimizer_step_f64", (sgd, rows, 1, numbers, 9, 0, None)
    yield "optimizer_step_f64", (sgd, rows, 1, numbers, 10, -1, None)
    yield "optimizer_step_f64", (sgd, None, 1, numbers, 10, 0, None)
    yield "optimizer_step_f64", (adam, rows, 1, np.zeros(11), 11, 0, None)  # without its moments
    yield "gradient_norm_f64", (rows, 1, None)


@pytest.mark.parametrize(("name", "arguments"), list(invalid_calls()))
def test_wrong_arguments_are_refused(name: str, arguments: tuple[Any, ...]) -> None:
    written = [np.array(a) for a in arguments if isinstance(a, np.ndarray)]
    assert call(name, *arguments) == INVALID
    for before, after in zip(written, (a for a in arguments if isinstance(a, np.ndarray)), strict=True):
        assert before.tobytes() == after.tobytes()


def test_unknown_names_have_no_id() -> None:
    for name in (b"", b"relu6000", None):
        assert call("activation_id", name) == call("optimizer_id", name) == INVALID


@pytest.mark.parametrize("suffix", ["f32", "f64"])
def test_nothing_to_do_is_done(suffix: str) -> None:
    dtype = {"f32": np.float32, "f64": np.float64}[suffix]
    assert call(f"activation_{suffix}", 1, 0, 0, None, None, 0) == OK
    assert call(f"activation_backward_{suffix}", 1, 0, 0, None, None, None, 0) == OK
    assert call(f"dropout_{suffix}", None, None, 0, 0.5, 0, 0, 0) == OK
    assert call(f"bias_act_{suffix}", None, None, None, None, None, 0, 3, 1) == OK
    sums = np.full(3, np.nan, dtype)
    assert call(f"channel_sum_{suffix}", None, sums, 0, 3, 1) == OK
    assert not sums.any()
    sums.fill(np.nan)
    assert call(f"channel_sum_{suffix}", None, sums, 4, 3, 0) == OK
    assert not sums.any()
    norm = layer(dtype, *[None] * 7)
    assert call(f"batch_norm_train_{suffix}", norm, None, None, None, None, 4, 0, 1) == OK
    assert call(f"batch_norm_infer_{suffix}", norm, None, None, None, None, 4, 0, 1) == OK
    assert call(f"batch_norm_backward_{suffix}", norm, *[None] * 9, 4, 0, 1) == OK
    loss = ctypes.c_double()
    assert call(f"softmax_cross_entropy_{suffix}", None, None, None, byref(loss), 0, 3) == OK
    assert np.isnan(loss.value)
    norm_found = ctypes.c_double(1)
    assert call(f"gradient_norm_{suffix}", None, 0, byref(norm_found)) == OK
    assert norm_found.value == 0
    empty = tensors([np.empty(0, dtype)], [np.empty(0, dtype)], [])
    sgd = call("optimizer_id", b"sgd")
    for rows, count in ((None, 0), (empty, 1)):
        assert call(f"optimizer_step_{suffix}", sgd, rows, count, np.zeros(10), 10, 1.0, byref(norm_found)) == OK


def test_nonfinite_statistics_are_reported_before_they_spread() -> None:
    x, y, running, statistics = np.ones((4, 2)), np.empty((4, 2)), np.full((2, 2), 3.0), np.empty((2, 2))
    x[1, 1] = np.inf
    for nonfinite, status in ((0, NONFINITE), (1, OK)):
        norm = layer(x.dtype, None, None, None, *running, *statistics, nonfinite=nonfinite)
        assert call("batch_norm_train_f64", norm, x, None, None, y, 4, 2, 1) == status
        assert (running == 3).all()


# -------------------------------------------------------------------------------------------------- compilers


@pytest.fixture(scope="session")
def compile_module(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make an extension module of a C source; return its directory. Skips where nothing can be compiled."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        pytest.skip("no C compiler")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("the headers of Python are not installed")

    def make(source: Path, *flags: str) -> Path:
        target = tmp_path_factory.mktemp("extension") / (source.stem + sysconfig.get_config_var("EXT_SUFFIX"))
        python = ("-isystem", sysconfig.get_path("include"))
        command = [*compiler, "-shared", "-fPIC", "-O2", *python, *flags, str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return target.parent

    return make


def searching(*directories: Path) -> dict[str, str | None]:
    """An environment in which Python looks for modules there, too."""
    given = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([*map(str, directories), *([given] if given else [])])}


GUEST = """
#include <fastnn.h>

static fastnn_api fastnn;

/* clip_off(buffer): relu in place, and half of it dropped; the sum of both statuses. */
static PyObject *clip_off(PyObject *self, PyObject *buffer) {
  Py_buffer x;
  int status;
  fastnn_epilogue tail = {0, 0, 0, 0.5, 11, 12, 0};
  (void)self;
  if (PyObject_GetBuffer(buffer, &x, PyBUF_WRITABLE) < 0) return NULL;
  Py_BEGIN_ALLOW_THREADS
  tail.activation = fastnn.activation_id("relu");
  status = fastnn.bias_act_f32((const float *)x.buf, NULL, NULL, &tail, (float *)x.buf, 1, 1, x.len / 4);
  Py_END_ALLOW_THREADS
  PyBuffer_Release(&x);
  return PyLong_FromLong(status);
}

static PyMethodDef methods[] = {{"clip_off", clip_off, METH_O, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "guest", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_guest(void) {
  if (fastnn_import(&fastnn) < 0) return NULL;
  return PyModule_Create(&definition);
}
"""

USES_GUEST = """
import guest
import numpy as np
import fastnn, fastnn.functional as F
x = np.random.default_rng(0).standard_normal(5000, dtype=np.float32)
expected, _ = F.bias_act(x, activation="relu", dropout=0.5, rng=fastnn.Generator(11, 12))
assert guest.clip_off(x) == 0
assert x.tobytes() == expected.tobytes()
"""

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")


@pytest.mark.parametrize("language", [("-x", "c", "-std=c99"), ("-x", "c++", "-std=c++11")], ids=lambda flags: flags[1])
def test_c_and_cpp_call_the_kernels(language: tuple[str, ...], compile_module, run_python, tmp_path: Path) -> None:
    source = tmp_path / "guest.c"
    source.write_text(GUEST)
    built = compile_module(source, *language, *WARNINGS, f"-I{fastnn.get_include()}")
    run_python(USES_GUEST, env=searching(built))


def test_c_module_for_another_signature_is_refused(compile_module, run_python, tmp_path: Path) -> None:
    text = HEADER.read_text()
    doctored = text.replace("(T const *, T *, int64_t, int64_t, int64_t)", "(T const *, T *, int64_t, int64_t)")
    assert doctored != text
    (tmp_path / "fastnn.h").write_text(doctored)
    (tmp_path / "guest.c").write_text(GUEST)
    built = compile_module(tmp_path / "guest.c", f"-I{tmp_path}")
    done = run_python("import guest", env=searching(built), status=1)
    assert "ImportError: fastnn.kernels.channel_sum_f32: compiled for 'int (float const *, float *," in done.stderr


def require_cython() -> None:
    for name in ("Cython", "setuptools"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed (fastnn-kernels[test] brings it)")


CALLER = """
from fastnn.kernels cimport channel_sum_f64

def channel_sums():
    cdef double[6] x = [0, 1, 2, 3, 4, 5]
    cdef double[2] sums
    with nogil:
        status = channel_sum_f64(x, sums, 3, 2, 1)
    return status, sums[0], sums[1]
"""


@pytest.fixture
def cython_module(compile_module, tmp_path: Path) -> Callable[[str], Path]:
    """Compile CALLER against declarations with that text; return its directory."""
    require_cython()

    def make(declarations: str) -> Path:
        package = tmp_path / "declarations" / "fastnn"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "kernels.pxd").write_text(declarations)
        source = tmp_path / "caller.pyx"
        source.write_text(CALLER)
        command = [sys.executable, "-m", "cython", "-3", "-I", str(package.parent), str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return Path(compile_module(source.with_suffix(".c")))

    return make


def test_cython_module_for_these_signatures_is_accepted(cython_module, run_python) -> None:
    built = cython_module(DECLARATIONS.read_text())
    run_python("import caller\nassert caller.channel_sums() == (0, 6.0, 9.0)", env=searching(built))


def test_cython_module_for_another_signature_is_refused(cython_module, run_python) -> None:
    text = DECLARATIONS.read_text()
    doctored = text.replace("double *sums, int64_t outer", "double *sums, int outer")
    assert doctored != text
    built = cython_module(doctored)
    done = run_python("import caller", env=searching(built), status=1)
    assert "fastnn.kernels" in done.stderr and "channel_sum_f64" in done.stderr
    assert "(expected int (double const *, double *, int, int64_t, int64_t)," in done.stderr


@pytest.fixture(scope="session")
def build_example(compile_module, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Build a directory of examples/ by its own setup.py against the fastnn that is being tested."""
    require_cython()

    def build(name: str) -> Path:
        directory = tmp_path_factory.mktemp("example") / name
        ignored = shutil.ignore_patterns("build", "*.so", "*.c", "*_api.h", "__pycache__")
        shutil.copytree(EXAMPLES / name, directory, ignore=ignored)
        command = [sys.executable, "setup.py", "build_ext", "--inplace"]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return directory

    return build


@pytest.fixture(scope="session")
def example(build_example: Callable[[str], Path]) -> Path:
    return build_example("cython_loop")


def test_cython_loop_trains_with_the_bits_of_python_calls(example: Path, run_python) -> None:
    """Eight networks in prange, and the same ones call by call."""
    lines = run_python("import compare\ncompare.main(epochs=3)", env=searching(example)).stdout.splitlines()
    assert lines[-1] == "same bits: True"
    accuracy = [float(line.rpartition(" ")[2]) for line in lines if "learning rate" in line]
    assert len(accuracy) == 8 and max(accuracy) > 0.93


def test_calls_inside_another_parallel_region_are_serial(example: Path, run_python) -> None:
    """Where fastnn and the caller share an OpenMP runtime, as after a build from source."""
    script = """
import numpy as np
import ensemble, fastnn
from fastnn import _core
_core._set_grain(0)
fastnn.set_num_threads(2)
x = np.random.default_rng(0).standard_normal((3, 300, 40), dtype=np.float32)
labels = np.zeros((3, 300), np.int64)
bits = []
for threads in (1, 2):
    _core._largest_team()
    parameters = np.ones((4, ensemble.parameter_count(40, 50, 3)), np.float32)
    running = np.zeros((4, 100), np.float32)
    ensemble.train(parameters, running, x, labels, np.full(4, 0.01), np.arange(4, dtype=np.uint64), 50, 3, 0.5, threads)
    print(threads, _core._largest_team())
    bits.append(parameters.tobytes() + running.tobytes())
assert bits[0] == bits[1]
"""
    if not _core.config()["openmp"]:
        pytest.skip("built without OpenMP")
    assert run_python(script, env=searching(example)).stdout.splitlines() == ["1 2", "2 1"]


# ---------------------------------------------------------------------------------------------- numba and SciPy


def test_numba_compiles_calls_of_the_kernels(run_python) -> None:
    """The example of docs/cython.md."""
    pytest.importorskip("numba")
    (example,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "cython.md").read_text(), re.M | re.S)
    script = """
import fastnn.functional as F
x = np.random.default_rng(0).standard_normal((1000, 37), dtype=np.float32)
status, sums = sums_of(x)
assert status == 0
assert sums.tobytes() == F.channel_sum(x).tobytes()
"""
    run_python(example + script)


def test_numba_loop_learns(run_python) -> None:
    pytest.importorskip("numba")
    pytest.importorskip("scipy")
    shown = run_python((EXAMPLES / "numba_loop.py").read_text()).stdout
    accuracy = re.search(r"test accuracy (0\.\d+)", shown)
    assert accuracy is not None and float(accuracy[1]) > 0.93


def test_scipy_takes_every_capsule() -> None:
    scipy = pytest.importorskip("scipy")
    import fastnn.kernels

    for name, capsule in __pyx_capi__.items():
        callable_ = scipy.LowLevelCallable.from_cython(fastnn.kernels, name)
        assert callable_.signature == signature_of(capsule)


def test_scipy_integrates_activations(build_example: Callable[[str], Path], run_python) -> None:
    pytest.importorskip("scipy")
    shown = run_python("import gains\ngains.main()", env=searching(build_example("scipy_integral"))).stdout
    rows = [line.split() for line in shown.splitlines()[1:]]
    assert [row[0] for row in rows] == ["relu", "gelu", "silu", "mish", "softsign", "leaky_relu"]
    for name, integrated, expected in rows:
        assert float(integrated) == pytest.approx(float(expected), abs=1e-6), name
