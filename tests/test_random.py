"""Random bits: published answers, statistics, and the generator's state."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest

import fastnn.functional as F
from fastnn import random, reference

# Random123, tests/kat_vectors: threefry4x32 with 13 and 20 rounds: counter, key, expected
KNOWN_ANSWERS = [
    (13, "00000000 " * 4, "00000000 " * 4, "531c7e4f 39491ee5 2c855a92 3d6abf9a"),
    (13, "ffffffff " * 4, "ffffffff " * 4, "c4189358 1c9cc83a d5881c67 6a0a89e0"),
    (
        13,
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0 082efa98 ec4e6c89",
        "4aa71d8f 734738c2 431fc6a8 ae6debf1",
    ),
    (20, "00000000 " * 4, "00000000 " * 4, "9c6ca96a e17eae66 fc10ecd4 5256a7d8"),
    (20, "ffffffff " * 4, "ffffffff " * 4, "2a881696 57012287 f6c7446e a16a6732"),
    (
        20,
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0 082efa98 ec4e6c89",
        "59cd1dbb b8879579 86b5d00c ac8b6d84",
    ),
]


@pytest.mark.parametrize("rounds, counter, key, expected", KNOWN_ANSWERS)
def test_threefry_gives_the_published_answers(rounds: int, counter: str, key: str, expected: str) -> None:
    words = [[int(word, 16) for word in text.split()] for text in (counter, key, expected)]
    assert [int(word) for word in reference.threefry4x32(words[0], words[1], rounds)] == words[2]


def test_published_answer_reaches_the_mask() -> None:
    """Seed, position and counter 0: lane 0 of tile 0 is the first known answer."""
    bits = reference.random_bits(0, 0, 0, 128)
    words = [0x531C7E4F, 0x39491EE5, 0x2C855A92, 0x3D6ABF9A]
    assert [int(bits[32 * j]) for j in range(4)] == [word & 0xFFFF for word in words]
    assert [int(bits[32 * j + 16]) for j in range(4)] == [word >> 16 for word in words]


def mask(p: float, seed: int, position: int, first: int, size: int, namespace: Any = F) -> np.ndarray[Any, Any]:
    """Which of `size` elements dropout keeps."""
    y, _ = namespace.dropout(np.ones(size, np.float32), p, rng=random.Generator(seed, position), first=first)
    return np.asarray(y != 0)


@pytest.mark.parametrize("seed", [0, 1, 2**32 + 5, 2**64 - 1])
@pytest.mark.parametrize("position", [0, 7, 2**33, 2**64 - 1])
@pytest.mark.parametrize("first", [0, 1, 127, 128, 5000, 2**36 + 3, 2**40])
def test_kernel_masks_are_the_reference_masks(seed: int, position: int, first: int) -> None:
    for size in (1, 17, 128, 1025, 5000):
        got = mask(0.37, seed, position, first, size)
        assert np.array_equal(got, mask(0.37, seed, position, first, size, reference))


@pytest.mark.parametrize("p", [1e-9, 1 / 65536, 0.25, 0.5, 0.999999, 1 - 1e-9])
def test_extreme_thresholds(p: float) -> None:
    assert np.array_equal(mask(p, 1, 0, 0, 200_000), mask(p, 1, 0, 0, 200_000, reference))
    y, _ = F.dropout(np.ones(200_000, np.float64), p, rng=random.Generator(1))
    assert set(np.unique(y)) <= {0.0, 1 / (1 - random.effective_p(p))}


def test_shards_are_parts_of_the_whole_mask() -> None:
    whole = mask(0.5, 3, 9, 0, 10_000)
    for start, stop in ((0, 1), (1, 130), (130, 5000), (5000, 10_000)):
        assert np.array_equal(mask(0.5, 3, 9, start, stop - start), whole[start:stop])


def test_every_op_uses_first() -> None:
    x = np.ones((40, 8), np.float32)
    x[::2] = 2
    whole, _ = F.bias_act(x, dropout=0.5, rng=random.Generator(1))
    shard, _ = F.bias_act(x[10:], dropout=0.5, rng=random.Generator(1), first=80)
    assert np.array_equal(whole[10:], shard)
    kept, saved = F.batch_norm(x, training=True, dropout=0.5, rng=random.Generator(1), first=80)
    assert np.array_equal(kept != 0, reference.random_bits(1, 0, 80, 320).reshape(x.shape) < 32768)
    dbias = F.batch_norm_backward(np.ones_like(x), saved)[2]
    assert np.array_equal(dbias, 2 * (kept != 0).sum(0))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_rate(p: float) -> None:
    n = 1_000_000
    rate = 1 - mask(p, 11, 0, 0, n).mean()
    assert abs(rate - random.effective_p(p)) < 4.5 * np.sqrt(p * (1 - p) / n)


def test_expectation_is_exact() -> None:
    for p in (0.1, 0.3, 0.5, 0.77):
        threshold = random.keep_threshold(p)
        y, _ = F.dropout(np.ones(1000), p)
        assert np.unique(y).tolist() == [0, 65536 / threshold]
        assert random.effective_p(p) == 1 - threshold / 65536
        assert abs(random.effective_p(p) - p) <= 0.5 / 65536


def _chi_square_is_plausible(counts: np.ndarray[Any, Any]) -> bool:
    expected = counts.sum() / counts.size
    degrees = counts.size - 1
    chi2 = ((counts - expected) ** 2 / expected).sum()
    return bool(abs(chi2 - degrees) < 5 * np.sqrt(2 * degrees))


def test_bits_are_uniform() -> None:
    bits = reference.random_bits(5, 2, 0, 1 << 20)
    assert _chi_square_is_plausible(np.bincount(bits >> 8, minlength=256))
    assert _chi_square_is_plausible(np.bincount(bits & 255, minlength=256))
    assert _chi_square_is_plausible(np.bincount(bits >> 4, minlength=4096))
    for bit in range(16):
        ones = int((bits >> bit & 1).sum())
        assert abs(ones - (1 << 19)) < 4.5 * 512


def _correlation(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return float(np.corrcoef(a, b)[0, 1]) * np.sqrt(len(a))  # in standard deviations


def test_streams_are_uncorrelated() -> None:
    n = 1 << 17
    base = reference.random_bits(1, 1, 0, n)
    others = [(1, 2), (2, 1), (1, 1 << 32), (1 << 32, 1), (1 + (1 << 63), 1), (1, 1 + (1 << 63))]
    for seed, position in others:
        assert abs(_correlation(base, reference.random_bits(seed, position, 0, n))) < 4.5, (seed, position)


@pytest.mark.parametrize("lag", [1, 2, 15, 16, 17, 31, 32, 64, 127, 128, 129, 1024])
def test_elements_are_uncorrelated(lag: int) -> None:
    bits = reference.random_bits(1, 1, 0, 1 << 18)
    assert abs(_correlation(bits[:-lag], bits[lag:])) < 4.5


def test_pairs_are_uniform() -> None:
    bits = reference.random_bits(9, 4, 0, 1 << 20).astype(np.int64) >> 11
    for lag in (1, 16, 32, 128):
        pairs = bits[:-lag] * 32 + bits[lag:]
        assert _chi_square_is_plausible(np.bincount(pairs[:: lag + 1], minlength=1024))


# ----------------------------------------------------------------------------------------- dropout's other forms


def test_classic_dropout_has_the_same_masks() -> None:
    x = np.random.default_rng(0).standard_normal(5000)
    inverted, _ = F.dropout(x, 0.3, rng=random.Generator(3))
    classic, saved = F.dropout(x, 0.3, inverted=False, rng=random.Generator(3))
    assert np.array_equal(classic, np.where(inverted != 0, x, 0))
    assert np.array_equal(F.dropout_backward(x, saved), classic)
    rng = random.Generator(3)
    y, saved = F.dropout(x, 0.3, False, inverted=False, rng=rng)
    assert np.array_equal(y, x * (random.keep_threshold(0.3) / 65536)) and saved is None and rng.position == 0


def test_decisions_about_channels_do_not_depend_on_the_layout() -> None:
    x = np.ones((6, 10, 4, 5), np.float32)
    planes, _ = F.dropout2d(x, rng=random.Generator(2), first=40)
    last, _ = F.dropout2d(np.moveaxis(x, 1, -1), rng=random.Generator(2), first=40, channel_axis=-1)
    assert np.array_equal(np.moveaxis(last, -1, 1), planes)
    kept = reference.random_bits(2, 0, 40, 60).reshape(6, 10) < 32768
    assert np.array_equal(planes, 2 * np.broadcast_to(kept[:, :, None, None], x.shape))
    shard, _ = F.dropout2d(x[2:], rng=random.Generator(2), first=60)
    assert np.array_equal(shard, planes[2:])


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_alpha_dropout_keeps_mean_and_variance(p: float) -> None:
    n = 1_000_000
    x = np.random.default_rng(1).standard_normal(n)
    y, _ = F.alpha_dropout(x, p, True, rng=random.Generator(4))
    assert abs(y.mean()) < 5 / np.sqrt(n)
    assert abs(y.var() - 1) < 5 * np.sqrt((y**4).mean() / n)


def test_alpha_dropout_is_that_of_torch() -> None:
    """Its numbers for p = 0.5: those kept are 0.886404894666 * x + 0.779193930518, others -0.779193930518."""
    y, saved = F.alpha_dropout(np.array([0.0, 1.0] * 50), 0.5, True, rng=random.Generator(4))
    kept = F.dropout_backward(np.ones(100), saved)
    assert set(np.round(kept, 12)) == {0.0, 0.886404894666}
    expected = np.where(kept > 0, np.array([0.0, 1.0] * 50) * 0.886404894666 + 0.779193930518, -0.779193930518)
    np.testing.assert_allclose(y, expected, atol=1e-11)


# ----------------------------------------------------------------------------------------------------- noise


def test_published_answer_reaches_the_noise() -> None:
    words = reference.random_words(0, 0, 0, 64)
    assert [int(words[16 * j]) for j in range(4)] == [0x531C7E4F, 0x39491EE5, 0x2C855A92, 0x3D6ABF9A]
    u, turns = (0x531C7E4F // 2 + 0.5) / 2**31, (0x39491EE5 - 2**30 * (0x39491EE5 >= 2**29) + 0.5) / 2**32
    assert 0x39491EE5 < 2**30  # no reflection, no half turn
    r, angle = np.sqrt(-2 * np.log(u)), 2 * np.pi * turns
    z = random.Generator(0).normal(64, np.float64)
    np.testing.assert_allclose([z[0], z[16]], [r * np.cos(angle), r * np.sin(angle)], rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("first", [0, 1, 63, 64, 5000, 2**36 + 3])
def test_noise_is_that_of_the_reference(dtype: Any, first: int) -> None:
    for size in (1, 17, 64, 1025, 5000):
        z = F.gaussian_noise(np.zeros(size, dtype), 1.0, rng=random.Generator(6, 2**33), first=first)
        want = reference.standard_normal(6, 2**33, first, size, np.longdouble)
        assert np.abs(z - want).max() < 8 * np.finfo(dtype).eps


def test_words_at_the_ends_of_their_range() -> None:
    """u next to 0 and to 1, angles next to the borders of quarters: no infinity, and full precision."""
    z = reference.standard_normal(1, 0, 0, 1 << 20)
    assert np.isfinite(z).all()
    words = reference.random_words(1, 0, 0, 1 << 20).reshape(-1, 2, 16)
    for extreme in (words[:, 0].argmin(), words[:, 0].argmax(), words[:, 1].argmin(), words[:, 1].argmax()):
        first = int(extreme) // 16 * 32
        for dtype in (np.float32, np.float64):
            got = F.gaussian_noise(np.zeros(32, dtype), 1.0, rng=random.Generator(1), first=first)
            np.testing.assert_allclose(got, z[first : first + 32], rtol=0, atol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_noise_is_normal(dtype: Any) -> None:
    n = 1 << 20
    z = np.sort(random.Generator(8).normal(n, dtype).astype(np.float64))
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs((z**power).mean() - moment) < 4.5 * np.sqrt(variance / n), power
    some = slice(None, None, 64)  # Kolmogorov and Smirnov
    cdf = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in z[some]])
    assert np.abs(cdf - (np.arange(n)[some] + 0.5) / n).max() * np.sqrt(n) < 1.95  # one in a thousand
    for bound, tail in ((4, 3.167e-5), (4.5, 3.398e-6)):
        for count in ((z > bound).sum(), (z < -bound).sum()):
            assert abs(count - n * tail) < 4.5 * np.sqrt(n * tail)


def test_noise_is_independent() -> None:
    z = random.Generator(9).normal(1 << 18, np.float64)
    for lag in (1, 2, 15, 16, 17, 32, 48, 64, 65, 128, 1024):
        assert abs(_correlation(z[:-lag], z[lag:])) < 4.5, lag
        assert abs(_correlation(z[:-lag] ** 2, z[lag:] ** 2)) < 4.5, lag
    other = random.Generator(9, position=1).normal(1 << 18, np.float64)
    assert abs(_correlation(z, other)) < 4.5 and abs(_correlation(z**2, other**2)) < 4.5


def test_uniform_numbers() -> None:
    rng = random.Generator(10)
    u = rng.uniform((1 << 10, 1 << 10))
    assert u.dtype == np.float32 and 0 <= u.min() < u.max() < 1
    assert _chi_square_is_plausible(np.bincount((u * 4096).astype(int).ravel(), minlength=4096))
    assert np.array_equal(u, random.Generator(10).uniform(u.shape, np.float64))
    v = rng.uniform(1000, low=-3.0, high=5.0)
    assert rng.position == 2 and v.min() >= -3 and v.max() < 5 and abs(v.mean() - 1) < 0.4


def test_normal_numbers_have_mean_and_deviation() -> None:
    z = random.Generator(3).normal(100, np.float64)
    assert np.array_equal(random.Generator(3).normal((10, 10), np.float64, mean=2, std=3).ravel(), z * 3 + 2)
    y = F.gaussian_noise(np.ones(100), 3.0, mean=2.0, rng=random.Generator(3))
    assert np.array_equal(y, 1 + (z * 3 + 2))
    assert random.Generator(0).normal(0).shape == (0,)
    with pytest.raises(TypeError, match="dtype"):
        random.Generator(0).normal(3, np.float16)


# ------------------------------------------------------------------------------------------------- generator


def test_every_call_draws_one_position() -> None:
    rng = random.Generator(5, position=40)
    x = np.ones((4, 3), np.float32)
    F.dropout(x, 0.5, rng=rng)
    F.bias_act(x, dropout=0.5, rng=rng)
    F.batch_norm(x, training=True, dropout=0.5, rng=rng)
    F.dropout2d(np.ones((2, 3, 1, 1)), rng=rng)
    F.alpha_dropout(x, training=True, rng=rng)
    F.gaussian_noise(x, rng=rng)
    rng.normal(3)
    assert rng.position == 47
    F.dropout(x, 0.0, rng=rng)
    F.dropout(x, 0.5, False, inverted=False, rng=rng)
    F.alpha_dropout(x, 0.0, True, rng=rng)
    F.alpha_dropout(x, rng=rng)  # as in torch, unlike the others
    F.gaussian_noise(x, training=False, rng=rng)
    F.bias_act(x, rng=rng)
    assert rng.position == 47


def test_manual_seed_restarts_the_default_generator() -> None:
    x = np.ones(1000, np.float32)
    random.manual_seed(3)
    first, second = F.dropout(x)[0], F.dropout(x)[0]
    random.manual_seed(3)
    assert np.array_equal(F.dropout(x)[0], first)
    assert np.array_equal(reference.dropout(x)[0], second)
    assert not np.array_equal(first, second)


def test_state_round_trip() -> None:
    rng = random.Generator(2**63 + 1, position=5)
    rng.draw(3)
    other = random.Generator(0)
    other.load_state_dict(rng.state_dict())
    assert (other.seed, other.position) == (2**63 + 1, 8) == (rng.seed, rng.position)
    for clone in (copy.deepcopy(rng), pickle.loads(pickle.dumps(rng))):
        assert clone.draw() == (2**63 + 1, 8)
    with pytest.raises(ValueError, match="position"):
        other.load_state_dict({"seed": 1})
    with pytest.raises(ValueError, match=r"position: expected .* got -1"):
        other.load_state_dict({"seed": 1, "position": -1})
    assert other.seed == 2**63 + 1


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range(seed: int) -> None:
    with pytest.raises(ValueError, match=f"seed: .* got {seed}"):
        random.Generator(seed)


def test_seed_is_an_integer() -> None:
    with pytest.raises(TypeError):
        random.Generator(1.5)  # type: ignore[arg-type]


def test_numpy_random_state_is_untouched() -> None:
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()  # noqa: NPY002
    random.manual_seed(2)
    F.dropout(np.ones(1000))
    after = np.random.get_state()  # noqa: NPY002
    assert before[0] == after[0] and np.array_equal(before[1], after[1]) and before[2:] == after[2:]


@pytest.mark.parametrize(
    "call",
    [
        lambda rng: F.dropout([1.0], rng=rng),
        lambda rng: F.dropout2d(np.ones((4, 3)), rng=rng),
        lambda rng: F.gaussian_noise([1.0], rng=rng),
        lambda rng: F.bias_act(np.ones((4, 3)), np.ones(2), dropout=0.5, rng=rng),
        lambda rng: F.batch_norm(np.ones((4, 3)), np.ones(2), np.ones(2), training=True, dropout=0.5, rng=rng),
    ],
)
def test_a_refused_call_draws_nothing(call: Any) -> None:
    for position in (7, 2**64 - 1):
        rng = random.Generator(0, position)
        with pytest.raises((TypeError, ValueError)):
            call(rng)
        assert rng.position == position
