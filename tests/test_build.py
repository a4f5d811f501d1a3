"""What the package is made of: size, metadata, the serial build, and a missing extension."""

from __future__ import annotations

import importlib.metadata
import io
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import fastnn
from fastnn import _core

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(fastnn.__file__).parent

# What a repaired wheel carries besides: a private libgomp, zipped (132 kB with gcc 12).
LIBGOMP_BYTES = 140_000


# Import from this directory, past the finder of an editable install.
ONLY_TREE = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if isinstance(finder, type)]
sys.path.insert(0, {tree!r})
"""


def package_files() -> list[Path]:
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    extension = Path(_core.__file__)
    return [*files, *([] if extension in files else [extension])]


def test_wheel_is_smaller_than_two_megabytes() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path in package_files():
            inside = path.relative_to(PACKAGE) if path.is_relative_to(PACKAGE) else Path(path.name)
            wheel.write(path, "fastnn" / inside)  # its names are kept twice for every file
    assert Path(_core.__file__) in package_files()
    assert len(buffer.getvalue()) + LIBGOMP_BYTES < 2_000_000


def test_numpy_is_the_only_dependency() -> None:
    required = importlib.metadata.requires("fastnn-kernels") or []
    always = [re.split(r"[^\w-]", text)[0] for text in required if "extra ==" not in text]
    assert always == ["numpy"]


def test_metadata() -> None:
    metadata = importlib.metadata.metadata("fastnn-kernels")
    assert metadata["Name"] == "fastnn-kernels"
    assert metadata["Version"] == fastnn.__version__
    assert metadata["Requires-Python"] == ">=3.10"
    assert set(metadata.get_all("Provides-Extra") or []) == {
        *("test", "dev", "bench", "docs", "monitor", "sklearn"),
        *("torch", "autograd", "safetensors", "mpi", "ray", "dask"),
    }


def test_every_public_name_is_there() -> None:
    missing = [name for name in fastnn.__all__ if not hasattr(fastnn, name)]
    assert missing == []


def test_activation_layers_are_public_names_too() -> None:
    assert {"LeakyReLU", "ReLU"} <= set(dir(fastnn))
    assert fastnn.LeakyReLU is fastnn.layers.LeakyReLU
    with pytest.raises(AttributeError, match="has no attribute 'Relu'"):
        _ = fastnn.Relu


def test_missing_extension_says_what_to_do(run_python, tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns("_core.*.so", "__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "tree" / "fastnn", ignore=ignore)
    done = run_python(ONLY_TREE.format(tree=str(tmp_path / "tree")) + "import fastnn", status=1)
    assert "ImportError: fastnn's compiled extension (_core) is not in" in done.stderr
    assert "pip install ." in done.stderr


SERIAL = (
    ONLY_TREE
    + """
import numpy as np
import fastnn, fastnn.functional as F
from fastnn import _core
assert _core.__file__.startswith({tree!r})
fastnn.set_num_threads(4)
_core._set_grain(0)
x = np.linspace(-1, 1, 100_001, dtype=np.float32)
assert np.array_equal(F.relu(x), np.where(x > 0, x, np.float32(0)))
assert _core._last_team() == 1
fastnn.show_config()
"""
)


def test_builds_and_runs_without_openmp(
    run_python, cmake: Callable[..., None], kernel_build: Path, tmp_path: Path
) -> None:
    import pybind11

    cmake(
        *("-S", str(ROOT), "-B", str(kernel_build), "-DFASTNN_KERNELS_ONLY=OFF", "-DFASTNN_PARALLEL=serial"),
        *(f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", f"-DPython_EXECUTABLE={sys.executable}"),
    )
    cmake("--build", str(kernel_build), "--parallel", "2")
    tree = tmp_path / "tree"
    shutil.copytree(PACKAGE, tree / "fastnn", ignore=shutil.ignore_patterns("_core.*.so", "__pycache__"))
    (extension,) = kernel_build.glob("_core*.so")
    shutil.copy(extension, tree / "fastnn")
    shown = run_python(SERIAL.format(tree=str(tree))).stdout
    assert re.search(r"threads +1 \(from: built without OpenMP\)", shown)
    assert re.search(r"OpenMP runtime +none: built serial", shown)
