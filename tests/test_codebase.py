"""Rules of the source tree that no compiler checks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastnn
from fastnn import functional

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"
KERNELS = CSRC / "kernels"
PACKAGE = ROOT / "fastnn"


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)


def sources(directory: Path) -> list[Path]:
    found = sorted([*directory.rglob("*.hpp"), *directory.rglob("*.cpp")])
    assert found
    return found


def without_comments(path: Path) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)


def public_functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions in a module's `__all__`, but for those whose docstrings a decorator completes (test_completeness)."""
    optimizers = sorted((PACKAGE / "optim").glob("[!_]*.py"))
    reference = [path for path in sorted((PACKAGE / "reference").glob("[!_]*.py")) if path.stem != "base"]
    others = ["random.py", "losses.py", "init.py", "checks.py", "preprocessing.py", "compat/cs231n.py"]
    others += ["interop/weights.py", "interop/safetensors.py"]
    training = [PACKAGE / "train" / f"{name}.py" for name in ("checkpoint", "explosion", "finder", "loop")]
    for path in [*reference, *optimizers, *training, *(PACKAGE / name for name in others)]:
        tree = ast.parse(path.read_text())
        exported: set[str] = set()
        for node in tree.body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
                exported = set(ast.literal_eval(node.value))
        assert exported, path
        if path in reference:
            exported = {name for name in exported if hasattr(functional, name)}  # the others are building blocks
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name in exported and not node.decorator_list:
                yield f"{path.parent.name}.{path.stem}.{node.name}", node


def test_one_version() -> None:
    declared = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    assert fastnn.__version__ == declared[1]
    assert f"## {declared[1]}" in (ROOT / "CHANGELOG.md").read_text()


# What kernels share with other files: all of it is private to the file that includes it, or has no code.
SHARED = [CSRC / name for name in ("contract.hpp", "vectors.hpp", "compiler.hpp")]


@pytest.mark.parametrize("path", [*sources(KERNELS), *SHARED], ids=lambda p: p.name)
def test_kernels_use_nothing_shared(path: Path) -> None:
    allowed = {"immintrin.h", "arm_neon.h", "cstdint", "cstddef", "cstring", "math.h"}
    allowed |= {prefix + shared.name for shared in SHARED for prefix in ("", "../")}
    own = {other.name for other in KERNELS.iterdir()}
    assert set(includes(path)) <= allowed | own
    code = without_comments(path)
    forbidden = r"\bstd::(?!u?int(\d+|ptr)_t|size_t|mem(cpy|set))|\bomp\b|\bPy[A-Z_]|\bpybind11\b"
    forbidden += r"|\bnew\b|\bmalloc\b|\bthrow\b|\bthread_local\b"
    assert not re.search(forbidden, code)


@pytest.mark.parametrize("path", [p for p in sources(KERNELS) if p.name != "lanes.hpp"], ids=lambda p: p.name)
def test_intrinsics_are_in_one_kernel_file(path: Path) -> None:
    assert not re.search(r"\b_mm\d*_|\b__m\d+", without_comments(path))


def test_kernel_headers_are_included_by_kernels_only() -> None:
    headers = {path.name for path in KERNELS.iterdir()}
    for path in sources(CSRC):
        if path.parent == KERNELS or path == CSRC / "kernels.cpp":
            continue
        taken = {name for name in includes(path) if "kernels/" in name or (CSRC / "kernels" / name).exists()}
        assert not taken & headers and not any("kernels/" in name for name in taken), path


def test_threads_are_in_one_file() -> None:
    users = {
        path.name
        for path in sources(CSRC)
        if re.search(r"#\s*pragma\s+omp|\bomp_\w+\(|<omp\.h>", without_comments(path))
    }
    assert users == {"team.cpp"}


def test_no_fast_math_anywhere() -> None:
    flags = "\n".join(line.partition("#")[0] for line in (ROOT / "CMakeLists.txt").read_text().splitlines())
    assert "-ffp-contract=off" in flags
    for flag in ("-ffast-math", "-Ofast", "-funsafe-math", "-fassociative", "-ffinite-math", "-freciprocal-math"):
        assert flag not in flags


@pytest.mark.parametrize(("name", "function"), [pytest.param(*item, id=item[0]) for item in public_functions()])
def test_public_functions_are_documented(name: str, function: ast.FunctionDef) -> None:
    doc = ast.get_docstring(function)
    assert doc, name
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    if arguments:
        described = " ".join(re.findall(r"^(?:``)?([\w, *`]+?) :", doc, re.MULTILINE))
        for argument in arguments:
            assert re.search(rf"\b{argument.arg}\b", described) or f"`{argument.arg}`" in doc, f"{name}: {argument.arg}"
    returns = function.returns
    if not (isinstance(returns, ast.Constant) and returns.value is None):
        assert "Returns\n" in doc or len(doc.splitlines()) == 1 or "Kept elements" in doc, name


def test_links_in_the_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    assert len(documents) >= 5
    for document in documents:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_paths_named_in_the_documents_exist() -> None:
    for document in [ROOT / "CONTRIBUTING.md", ROOT / "docs" / "design.md"]:
        for target in re.findall(r"`((?:csrc|fastnn|tests|bench|docs)/[\w/.]+)`", document.read_text()):
            assert (ROOT / target).exists(), f"{document.name}: {target}"


def test_nobody_is_told_to_install_the_other_fastnn() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        assert not re.search(r"pip install (?:-\S+ )*fastnn(?!-kernels)\b", document.read_text()), document.name


def test_no_leftovers() -> None:
    # Written in halves, so that this file does not find itself.
    words = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "print" + 'f("', "breakpoint" + "("]
    for path in [*sources(CSRC), *PACKAGE.rglob("*.py"), *(ROOT / "tests").glob("*.py")]:
        text = path.read_text()
        for word in words:
            assert word not in text, f"{path}: {word}"
