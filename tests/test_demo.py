"""The demo's promises, its data, and the IDX reader."""

import gzip
import struct
from importlib.resources import files

import numpy as np
import pytest

from fastnn import data, demo

TINY = demo.Recipe((32,), 0.1, 20, 2, 3e-3, reference_steps=None, accuracy=0.1)


def test_digits():
    digits = data.load_digits()
    assert digits.train_images.shape == (1437, 8, 8)
    assert digits.test_images.shape == (360, 8, 8)
    assert digits.train_images.dtype == digits.train_labels.dtype == np.uint8
    assert max(digits.train_images.max(), digits.test_images.max()) == 16
    counts = np.bincount(digits.train_labels) + np.bincount(digits.test_labels)
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    notice = (files("fastnn") / "_data" / "digits.txt").read_text()
    assert "Creative Commons Attribution 4.0" in notice
    assert "Alpaydin" in notice


def test_default_demo_keeps_its_promises(capsys):
    assert demo.run() == 0
    text = capsys.readouterr().out
    assert text.count("ok  ") == 3
    assert "FAIL" not in text
    for word in ("epoch 20/20", "batch_norm(pre_bias, relu, dropout)", "ratio", "first 20 losses"):
        assert word in text


def test_a_broken_promise_shows_and_fails(monkeypatch, capsys):
    monkeypatch.setattr(demo, "DIGITS", demo.DIGITS._replace(epochs=1, accuracy=1.0))
    assert demo.run() == 1
    assert "FAIL  test accuracy" in capsys.readouterr().out


def test_different_losses_are_noticed(capsys):
    fast = demo.Result([1.0, 0.5], [1.0, 1.0], 0.99)
    assert demo._compare(fast, demo.Result([1.0, 0.50001], [2.0, 2.0], 0.985), 0.975, 2)
    assert "ratio 2.0" in capsys.readouterr().out
    assert not demo._compare(fast, demo.Result([1.0, 0.501], [2.0, 2.0], 0.985), 0.975, 2)
    assert not demo._compare(fast, demo.Result([1.0, 0.5], [2.0, 2.0], 0.97), 0.975, 2)
    assert not demo._compare(fast, demo.Result([1.0, float("nan")], [2.0, 2.0], 0.99), 0.975, 2)


def test_what_is_not_promised_is_shown_and_does_not_fail(capsys):
    fast, slow = demo.Result([1.0, 0.5], [1.0, 1.0], 0.99), demo.Result([1.0, 0.51], [2.0, 2.0], 0.97)
    assert demo._compare(fast, slow, None, 2, promised=False)
    losses, accuracy = capsys.readouterr().out.splitlines()[-2:]
    assert losses.startswith("note  first 2 losses differ by at most 1.0e-02: more than usual (promised for the dig")
    assert accuracy.startswith("note  test accuracy of the reference 0.9700: 2.00 points apart: more than usual")


def test_other_seeds_and_epochs_promise_nothing(capsys):
    assert demo.run(epochs=1, seed=3) == 0
    text = capsys.readouterr().out
    assert "at least" not in text and "ok  " not in text
    assert text.count("note  ") == 2


# --------------------------------------------------------------------------------------------------------- IDX


def idx(array, code=8):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def directory(tmp_path):
    rng = np.random.default_rng(0)
    for stem, n in (("train", 60), ("t10k", 20)):
        labels = (np.arange(n) % 3).astype(np.uint8)
        images = (rng.integers(0, 50, (n, 4, 5)) + 100 * (labels[:, None, None] == np.arange(5) % 3)).astype(np.uint8)
        (tmp_path / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{stem}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def test_load_idx_reads_plain_and_compressed_files(directory):
    dataset = data.load_idx(directory)
    assert dataset.train_images.shape == (60, 4, 5)
    assert dataset.test_labels.tolist() == [i % 3 for i in range(20)]
    assert dataset.name == directory.name


def test_demo_trains_on_idx_files(directory, monkeypatch, capsys):
    monkeypatch.setattr(demo, "MNIST", TINY._replace(reference_steps=4))
    assert demo.run(directory) == 0
    text = capsys.readouterr().out
    assert "first 4 of 6 steps only" in text
    assert "4 x 5 pixels" in text
    assert "accuracy of the reference" not in text


@pytest.mark.parametrize(("code", "dtype"), [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")])
def test_read_idx_types(tmp_path, code, dtype):
    array = np.arange(-6 if dtype != "u1" else 0, 6).astype(dtype)[-6:].reshape(1, 2, 3)
    (tmp_path / "file").write_bytes(idx(array, code))
    read = data.read_idx(tmp_path / "file")
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype
    assert read.flags.writeable


GOOD = idx(np.zeros((4, 2), np.uint8))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a", b"", "expected an IDX file"),
        ("a", b"PNG" + GOOD, "expected an IDX file"),
        ("a", b"\0\0\7\1" + GOOD, "expected an IDX file"),
        ("a", GOOD[:9], "2 dimensions in the header"),
        ("a", GOOD[:-1], "expected 8 bytes of data.*got 7"),
        ("a", GOOD + b"x", "expected 8 bytes of data.*got 9"),
        ("a.gz", GOOD, "gzip"),
        ("a.gz", gzip.compress(GOOD)[:-9], "gzip"),
    ],
)
def test_read_idx_refuses_damaged_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        data.read_idx(tmp_path / name)


def test_load_idx_names_what_is_missing_or_does_not_fit(directory):
    (directory / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(19, np.uint8)))
    with pytest.raises(ValueError, match=r"t10k labels: expected uint8 of shape \(20,\).*\(19,\)"):
        data.load_idx(directory)
    (directory / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte\.gz"):
        data.load_idx(directory)
