"""Nothing is half there: each op has a reference, a case, a kernel and a stub; each activation all of its faces."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest

import fastnn
import fastnn._core as _core
import fastnn.functional as F
from fastnn import act, layers, optim, reference
from fastnn._aliases import ALIASES
from fastnn.cases import CASES
from fastnn.functional.activations import ACTIVATIONS

STUB = Path(fastnn.__file__).with_name("_core.pyi")
if not STUB.exists():  # an installed package without stubs: take the checkout's
    STUB = Path(__file__).parents[1] / "fastnn" / "_core.pyi"
OPS = sorted(
    name
    for name, value in vars(F).items()
    if not name.startswith("_") and callable(value) and not inspect.isclass(value) and name not in ALIASES
)


def signature(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_the_list_of_ops_is_plausible() -> None:
    assert {"relu", "bias_act", "batch_norm_backward", "channel_sum", "adam_step"} <= set(OPS)


@pytest.mark.parametrize("op", OPS)
def test_op_has_a_reference_of_the_same_signature(op: str) -> None:
    assert op in reference.__all__
    assert signature(getattr(F, op)) == signature(getattr(reference, op))


@pytest.mark.parametrize("op", OPS)
def test_op_has_a_case(op: str) -> None:
    assert any(op in case.ops for case in CASES)


@pytest.mark.parametrize("op", OPS)
def test_op_calls_a_kernel(op: str) -> None:
    function = getattr(F, op)
    if inspect.isbuiltin(function):
        assert op in _core.builtin_names() or op.removesuffix("_backward") in _core.activation_names()
    else:
        called = set(function.__code__.co_names) & set(dir(_core))
        assert called, f"{op} calls nothing of _core"


def test_every_builtin_is_declared() -> None:
    assert set(_core.builtin_names()) <= set(OPS)


def test_declaration_and_extension_must_agree() -> None:
    with pytest.raises(ValueError, match="agree on the parameters"):
        _core.builtin("channel_sum", ["x", "axis", "out"], 1, {}, "")
    with pytest.raises(ValueError, match="no builtin"):
        _core.builtin("channel_product", ["x"], 1, {}, "")


@pytest.mark.parametrize("module", [F, reference], ids=["functional", "reference"])
@pytest.mark.parametrize("op", OPS)
def test_op_is_documented(op: str, module: Any) -> None:
    doc = inspect.getdoc(getattr(module, op)) or ""
    assert "Parameters\n----------" in doc
    for name in inspect.signature(getattr(F, op)).parameters:
        assert name in doc, f"{name} is not documented"


def test_case_names_are_unique_and_their_ops_exist() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        assert set(case.ops) <= set(OPS), case.name


def test_every_op_with_a_backward_has_gradients_checked() -> None:
    for op in OPS:
        if f"{op}_backward" in OPS:
            assert any(op == case.ops[0] and case.gradients for case in CASES), op


def test_kernel_table_and_declarations_agree() -> None:
    assert _core.activation_names() == tuple(ACTIVATIONS)


@pytest.mark.parametrize("name", _core.activation_names())
def test_activation_has_all_its_faces(name: str) -> None:
    entry = ACTIVATIONS[name]
    assert getattr(F, name) is entry.forward and getattr(F, f"{name}_backward") is entry.backward
    assert getattr(act, name)() == entry.default_spec
    assert name in dir(act) and name in act.__all__
    layer = getattr(layers, entry.layer)
    assert getattr(fastnn, entry.layer) is layer
    assert list(entry.defaults) == [name for name, *_ in signature(layer) if name != "self"]
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [(p, d) for p, kind, d in signature(entry.forward) if kind is positional]
    assert list(entry.defaults.items()) == parameters[1:]
    assert any(case.family == "activation" and case.ops[0] == name for case in CASES)


def test_steps_of_the_kernel_table_are_those_of_functional() -> None:
    assert {f"{name}_step" for name in _core.optimizer_names()} == {op for op in OPS if op.endswith("_step")}


@pytest.mark.parametrize("name", _core.optimizer_names())
def test_optimizer_has_all_its_faces(name: str) -> None:
    step = f"{name}_step"
    assert getattr(F, step) is getattr(optim, step)
    assert step in optim.__all__ and step in reference.__all__
    home = sys.modules[getattr(optim, step).__module__]
    classes = [getattr(optim, name) for name in home.__all__ if inspect.isclass(getattr(home, name))]
    assert classes and all(issubclass(kind, optim.Optimizer) for kind in classes)
    assert any(case.family == "optimizer" and case.ops == (step,) for case in CASES)


def test_stub_and_extension_have_the_same_names() -> None:
    declared = {
        node.target.id if isinstance(node, ast.AnnAssign) else node.name  # type: ignore[union-attr]
        for node in ast.parse(STUB.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AnnAssign)
    } - {"Array"}
    present = {name for name in dir(_core) if not name.startswith("__") or name == "__version__"}
    assert declared == present
