"""The documentation: every block of code runs, every example that a page shows has its picture and output."""

import pkgutil
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import fastnn

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
INTEROP = DOCS / "interop.md"
PAGES = sorted([DOCS / "index.md", DOCS / "distributed.md", *(DOCS / "techniques").glob("*.md")])


def blocks(page):
    """Python of a page, but for the listings of examples."""
    found = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found, f"{page}: no code"
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_the_page_runs(page, tmp_path):
    code = "\n".join(blocks(page))
    if re.search("sklearn|preprocessing|augmentation", code):
        pytest.importorskip("sklearn", "1.7")
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", range(len(blocks(INTEROP))))
def test_code_with_other_libraries_runs(number, tmp_path):
    code = blocks(INTEROP)[number]
    for library in re.findall(r"\b(torch|autograd|safetensors)\b", code):
        if find_spec(library) is None:
            pytest.skip(f"no {library}")
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "index"], ids=lambda page: page.stem)
def test_page_shows_an_example_with_its_output_and_picture(page):
    text = page.read_text(encoding="utf-8")
    (example,) = re.findall(r'--8<-- "examples/(\w+)\.py"', text)
    assert f'--8<-- "docs/output/{example}.txt"' in text and f"images/{example}.png)" in text
    assert (ROOT / "examples" / f"{example}.py").exists()
    assert (DOCS / "output" / f"{example}.txt").stat().st_size > 100
    assert (DOCS / "images" / f"{example}.png").read_bytes().startswith(b"\x89PNG")


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    for page in DOCS.rglob("*.md"):
        assert f"- {page.relative_to(DOCS).as_posix()}" in navigation


def test_reference_has_every_public_module():
    pages = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    found = {module.name for module in pkgutil.iter_modules(fastnn.__path__) if not module.name.startswith("_")}
    # commands, copies, families, a page of its own
    elsewhere = {"act", "bench", "cases", "cli", "compat", "demo", "interop", "kernels", "reference"}
    assert found - set(re.findall(r"^::: fastnn\.(\w+)$", pages, re.MULTILINE)) == elsewhere
