"""Image sets for the demo: the packaged digits, and MNIST or Fashion-MNIST from a directory."""

from __future__ import annotations

import gzip
import math
import struct
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dataset", "load_digits", "load_idx", "read_idx"]


class Dataset(NamedTuple):
    """Images and labels, split into a training and a test part.

    Attributes
    ----------
    name : str
    train_images, test_images : (N, height, width) uint8 arrays
    train_labels, test_labels : (N,) uint8 arrays
    """

    name: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


def load_digits() -> Dataset:
    """Handwritten digits of the UCI repository: 1797 images, 8 x 8 pixels from 0 to 16, ten classes.

    Every fifth image is a test image.  E. Alpaydin and C. Kaynak, CC BY 4.0; see ``_data/digits.txt``.
    """
    with (files("fastnn") / "_data" / "digits.npz").open("rb") as file, np.load(file) as archive:
        images, labels = archive["images"], archive["labels"]
    test = np.arange(len(images)) % 5 == 0
    return Dataset("digits", images[~test], labels[~test], images[test], labels[test])


_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(path: str | Path) -> NDArray[Any]:
    """Array in an IDX file, the format of MNIST; gzip-compressed if the name ends in ``.gz``.

    The format: two zero bytes, a type code, the number of dimensions, each dimension as a big-endian 32-bit
    integer, then the values (http://yann.lecun.com/exdb/mnist/).

    Raises
    ------
    ValueError
        If the file is not a complete IDX file.
    """
    path = Path(path)
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path}: expected a complete gzip file, got an error: {error}") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise ValueError(f"{path}: expected an IDX file, got one that starts with {content[:4]!r}")
    dtype, ndim = np.dtype(_IDX_TYPES[content[2]]), content[3]
    start = 4 + 4 * ndim
    if len(content) < start:
        raise ValueError(f"{path}: expected {ndim} dimensions in the header, got a file of {len(content)} bytes")
    shape = struct.unpack(f">{ndim}I", content[4:start])
    expected = math.prod(shape) * dtype.itemsize
    if len(content) - start != expected:
        raise ValueError(f"{path}: expected {expected} bytes of data for shape {shape}, got {len(content) - start}")
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def _find(directory: Path, stem: str, kind: str) -> Path:
    """The file called like ``train-images-idx3-ubyte``, with ``.`` for the second ``-`` and ``.gz`` allowed."""
    names = [f"{stem}{separator}{kind}-ubyte{end}" for separator in "-." for end in ("", ".gz")]
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise FileNotFoundError(f"{directory}: expected a file {names[0]} or {names[1]}, found none")


def load_idx(directory: str | Path) -> Dataset:
    """MNIST, Fashion-MNIST or another set in the same four IDX files, plain or gzip-compressed.

    Parameters
    ----------
    directory : path
        Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
        ``t10k-labels-idx1-ubyte``, or the same names with ``.gz``.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged, or images and labels do not go together.
    """
    directory = Path(directory)
    parts: list[NDArray[Any]] = []
    for stem in ("train", "t10k"):
        images = read_idx(_find(directory, f"{stem}-images", "idx3"))
        labels = read_idx(_find(directory, f"{stem}-labels", "idx1"))
        if images.dtype != np.uint8 or images.ndim != 3 or not images.size:
            raise ValueError(
                f"{stem} images: expected uint8 of shape (N, height, width), got {images.dtype} of shape {images.shape}"
            )
        if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{stem} labels: expected uint8 of shape {images.shape[:1]}, got {labels.dtype} of shape {labels.shape}"
            )
        parts += [images, labels]
    if parts[0].shape[1:] != parts[2].shape[1:]:
        raise ValueError(f"t10k images: expected shape (N, *{parts[0].shape[1:]}), got {parts[2].shape}")
    return Dataset(directory.resolve().name, *parts)
