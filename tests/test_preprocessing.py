"""Preprocessing with scikit-learn, augmentation with scipy."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.augmentation import Compose, Noise, Rotate, Shift, Sometimes
from fastnn.data import load_digits


def images(*shape, seed=0, dtype=np.float32):
    return (np.random.default_rng(seed).random(shape) * 3 + 1).astype(dtype)


@pytest.fixture(scope="module")
def preprocessing():
    pytest.importorskip("sklearn", "1.6")
    from fastnn import preprocessing

    return preprocessing


# ------------------------------------------------------------------------------------------------------- preprocessing


@pytest.mark.filterwarnings("ignore:.*check_array_api_input")
@pytest.mark.parametrize(
    "make",
    [
        lambda p: p.Images(),
        lambda p: p.mean_image(),
        lambda p: p.channel_mean(),
        lambda p: p.channel_mean(-1, with_std=True),
        lambda p: p.standardise(),
        lambda p: p.min_max(),
        lambda p: p.pca(),
        lambda p: p.whitening(1),
    ],
)
def test_transformers_are_scikit_learn_s(preprocessing, make):
    from sklearn.utils.estimator_checks import check_estimator

    check_estimator(make(preprocessing))


@pytest.mark.parametrize("shape", [(20, 6, 5), (20, 3, 6, 5), (20, 6, 5, 3), (20, 7)])
def test_mean_image(preprocessing, shape):
    train, test = images(*shape), images(4, *shape[1:], seed=1)
    prepare = preprocessing.mean_image().fit(train)
    np.testing.assert_allclose(prepare.transform(test), test - train.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(prepare.transformer_.mean_.reshape(shape[1:]), train.mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("with_std", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [((20, 3, 6, 5), 1), ((20, 6, 5, 3), -1), ((20, 3), 1), ((20, 6, 5, 3), 3)])
def test_channel_mean(preprocessing, shape, axis, with_std):
    train, test = images(*shape), images(4, *shape[1:], seed=1)
    prepare = preprocessing.channel_mean(axis, with_std).fit(train)
    others = tuple(i for i in range(train.ndim) if i != axis % train.ndim)
    expected = test - train.mean(axis=others, keepdims=True)
    if with_std:
        expected /= train.std(axis=others, keepdims=True)
    got = prepare.transform(test)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert got.flags.c_contiguous and got.dtype == np.float32
    np.testing.assert_allclose(prepare.inverse_transform(got), test, atol=1e-5)


def test_channel_mean_takes_images_of_other_sizes(preprocessing):
    prepare = preprocessing.channel_mean(-1).fit(images(5, 6, 5, 3))
    assert prepare.transform(images(5, 4, 9, 3)).shape == (5, 4, 9, 3)
    with pytest.raises(ValueError, match=r"X: expected images of shape \(3,\), got \(5, 6, 5, 4\)"):
        prepare.transform(images(5, 6, 5, 4))


def test_standardise_and_min_max(preprocessing):
    train, test = images(50, 4, 4), images(10, 4, 4, seed=1)
    train[:, 0, 0] = 2
    got = preprocessing.standardise().fit(train).transform(train)
    np.testing.assert_allclose(got.mean(axis=0), 0, atol=1e-5)
    std = got.std(axis=0)
    assert std[0, 0] == 0
    np.testing.assert_allclose(np.delete(std.ravel(), 0), 1, rtol=1e-5)
    prepare = preprocessing.min_max().fit(train)
    got = np.delete(prepare.transform(train).reshape(50, -1), 0, axis=1)
    np.testing.assert_allclose((got.min(axis=0), got.max(axis=0)), np.broadcast_to([[-1], [1]], (2, 15)), atol=1e-6)
    low, high = train.min(axis=0), train.max(axis=0)
    expected = 2 * (test - low) / np.where(high > low, high - low, 1) - 1
    np.testing.assert_allclose(prepare.transform(test), expected, atol=1e-5)


def test_pca_and_whitening(preprocessing):
    train = images(200, 3, 4, dtype=np.float64) @ images(4, 4, seed=1, dtype=np.float64)
    rows = preprocessing.pca(5).fit_transform(train)
    assert rows.shape == (200, 5)
    covariance = np.cov(rows.T)
    largest = np.sort(np.linalg.eigvalsh(np.cov(train.reshape(200, -1).T)))[::-1][:5]
    np.testing.assert_allclose(covariance, np.diag(largest), atol=1e-9)
    np.testing.assert_allclose(np.cov(preprocessing.whitening(5).fit_transform(train).T), np.eye(5), atol=1e-9)
    everything = preprocessing.whitening().fit(train)
    rows = everything.transform(train)
    assert rows.shape == (200, 12)
    np.testing.assert_allclose(everything.inverse_transform(rows), train, atol=1e-9)


def test_integers_become_float32(preprocessing):
    digits = load_digits()
    prepare = preprocessing.mean_image().fit(digits.train_images)
    got = prepare.transform(digits.test_images)
    assert got.shape == (360, 8, 8) and got.dtype == np.float32
    assert np.abs(got.mean(axis=0)).max() > 1e-3  # the mean is that of the training images


def test_a_pipeline_ends_in_a_network(preprocessing):
    from sklearn.pipeline import make_pipeline

    digits = load_digits()
    prepare = make_pipeline(preprocessing.channel_mean(1), preprocessing.whitening(30)).fit(digits.train_images)
    x, x_test = prepare.transform(digits.train_images), prepare.transform(digits.test_images)
    net, loss_fn = fnn.Sequential(fnn.Linear(30, 64), fnn.ReLU(), fnn.Linear(64, 10)), fnn.CrossEntropyLoss()
    net.init("kaiming_normal", bias=0.01, rng=0)
    opt = fnn.optim.Adam(net.parameters(), lr=3e-3)
    rng = np.random.default_rng(0)
    for _ in range(300):
        batch = rng.integers(len(x), size=64)
        loss_fn(net(x[batch]), digits.train_labels[batch])
        net.backward(loss_fn.backward(), need_dx=False)
        opt.step()
    assert (net.predict(x_test).argmax(axis=1) == digits.test_labels).mean() > 0.95


def test_errors_of_preprocessing(preprocessing):
    with pytest.raises(ValueError, match="per: expected 'pixel' or 'channel', got 'image'"):
        preprocessing.Images(per="image").fit(images(5, 4, 4))
    for axis in (0, 4, -4):
        with pytest.raises(ValueError, match=f"channel_axis: expected an axis behind .*got {axis}"):
            preprocessing.channel_mean(axis).fit(images(5, 3, 4, 4))
    with pytest.raises(ValueError, match=r"X: expected images of shape \(4, 4\), got \(5, 4, 5\)"):
        preprocessing.mean_image().fit(images(5, 4, 4)).transform(images(5, 4, 5))


def test_what_is_missing_is_named(run_python):
    for library, code in (
        ("sklearn", "import fastnn.preprocessing"),
        ("scipy", "fastnn.augmentation.Shift()(np.ones((2, 3, 3)), np.random.default_rng(0))"),
    ):
        hidden = f"import sys; sys.modules[{library!r}] = None\nimport numpy as np, fastnn\n{code}\n"
        assert "pip install 'fastnn-kernels[sklearn]'" in run_python(hidden, status=1).stderr


# -------------------------------------------------------------------------------------------------------- augmentation


@pytest.fixture
def rng():
    pytest.importorskip("scipy")
    return np.random.default_rng(0)


def test_whole_pixels_and_right_angles(rng):
    class East(Shift):
        def _maps(self, n, rng):
            return np.broadcast_to(np.eye(2), (n, 2, 2)), np.broadcast_to([0.0, -1.0], (n, 2))

    class Quarter(Rotate):
        def _maps(self, n, rng):
            return np.broadcast_to([[0.0, 1.0], [-1.0, 0.0]], (n, 2, 2)), np.zeros((n, 2))

    x = images(2, 3, 4, 4)
    expected = np.zeros_like(x)
    expected[..., 1:] = x[..., :-1]
    np.testing.assert_allclose(East()(x, rng), expected, atol=1e-6)
    np.testing.assert_allclose(Quarter()(x, rng), np.rot90(x, 1, axes=(-2, -1)), atol=1e-6)
    last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    np.testing.assert_allclose(
        East(axes=(1, 2))(last, rng), np.ascontiguousarray(np.moveaxis(expected, 1, -1)), atol=1e-6
    )


@pytest.mark.parametrize("make", [Shift, Rotate], ids=lambda make: make.__name__)
def test_nothing_moves_by_nothing(make, rng):
    x = images(5, 6, 7)
    np.testing.assert_allclose(make(0)(x, rng), x, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "transform",
    [Shift(1.5), Rotate(20), Noise(0.1), Compose(Rotate(5), Noise(0.1)), Sometimes(0.5, Shift(1))],
    ids=repr,
)
def test_transforms(transform, dtype, rng):
    x = images(30, 2, 8, 8, dtype=dtype)
    before = x.copy()
    got = transform(x, np.random.default_rng(5))
    assert got.shape == x.shape and got.dtype == dtype and got.flags.c_contiguous
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(got, transform(x, np.random.default_rng(5)))
    assert not np.array_equal(got, transform(x, np.random.default_rng(6)))
    moved = ~np.isclose(got, x).all(axis=(1, 2, 3))
    assert 5 < moved.sum() < 25 if isinstance(transform, Sometimes) else moved.all()


def test_some_or_none_or_all(rng):
    x, everything = images(10, 8, 8), Compose(Rotate(15), Shift(1), Noise(0.1))
    np.testing.assert_array_equal(Sometimes(0, everything)(x, rng), x)
    assert (Sometimes(1, everything)(x, rng) != x).any(axis=(1, 2)).all()


def test_all_channels_move_alike_and_every_image_by_itself(rng):
    x = np.repeat(images(1, 1, 8, 8), 3, axis=1).repeat(2, axis=0)
    got = Compose(Rotate(15), Shift(1))(x, rng)
    np.testing.assert_array_equal(got[:, 0], got[:, 2])
    assert not np.allclose(got[0], got[1])


def test_what_lies_outside(rng):
    x = np.ones((50, 6, 6))
    assert Shift(2)(x, rng).min() == 0
    np.testing.assert_allclose(Shift(2, cval=1.0)(x, rng), 1)
    edge = Shift(0.5)(x, rng)
    assert 0.25 <= edge.min() < 1 and np.isclose(edge[:, 1:-1, 1:-1], 1).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda rng: Shift(-1), ValueError, "pixels: expected a finite number >= 0, got -1"),
        (lambda rng: Rotate("5"), TypeError, "degrees: expected a number, got '5'"),
        (lambda rng: Noise(np.inf), ValueError, "std: expected a finite number >= 0, got inf"),
        (lambda rng: Compose(Shift(), 3), TypeError, r"transforms\[1\]: expected a function, got int"),
        (lambda rng: Sometimes(2, Shift()), ValueError, r"p: expected a probability in \[0, 1\], got 2"),
        (lambda rng: Sometimes(0.5, 2), TypeError, "transform: expected a function, got int"),
        (lambda rng: Shift()(np.ones((3, 3)), rng), ValueError, r"x: expected a batch of images.*got shape \(3, 3\)"),
        (lambda rng: Shift()(np.ones((3, 3, 3), int), rng), TypeError, "x: expected float32 or float64, got int64"),
        (lambda rng: Noise()(np.ones((3, 3), np.uint8), rng), TypeError, "x: expected float32 or float64, got uint8"),
        (lambda rng: Shift(axes=(0, 1))(np.ones((3, 3, 3)), rng), ValueError, r"axes: expected.*got \(0, 1\)"),
    ],
)
def test_errors_of_augmentation(call, error, message, rng):
    with pytest.raises(error, match=message):
        call(rng)
