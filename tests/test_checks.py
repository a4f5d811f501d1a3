"""The checks pass what is right, find what is wrong, and leave everything as it was."""

import math
from functools import partial

import numpy as np
import pytest

import fastnn as fnn
import fastnn.functional as F
from fastnn import checks
from fastnn.data import load_digits


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


DIGITS = load_digits()
X, LABELS = DIGITS.train_images.reshape(-1, 64).astype(np.float32) / 16, DIGITS.train_labels
ONE_HOT = np.eye(10, dtype=np.float32)[LABELS]


def network(*middle, **options):
    rng = fnn.Generator(0)
    first, last = fnn.Linear(64, 32, rng=rng, **options), fnn.Linear(32, 10, rng=rng, **options)
    return fnn.Sequential(first, *middle, last)


def usual():
    return network(fnn.BatchNorm1d(32), fnn.ReLU(), fnn.Dropout(0.2, rng=fnn.Generator(1)))


# ----------------------------------------------------------------------------------------------------------- gradients

IMAGES = random(2, 3, 6, 6)
LAYERS = {
    "Linear": (lambda: fnn.Linear(5, 4), random(6, 5)),
    "WeightNorm": (lambda: fnn.WeightNorm(fnn.Linear(5, 4)), random(6, 5)),
    "Conv2d": (lambda: fnn.Conv2d(3, 2, 3, padding=1), IMAGES),
    "BatchNorm2d": (lambda: fnn.BatchNorm2d(3), IMAGES),
    "LayerNorm": (lambda: fnn.LayerNorm(6), IMAGES),
    "PReLU": (lambda: fnn.PReLU(), random(6, 5)),
    "GELU": (lambda: fnn.GELU(), random(6, 5)),
    "MaxPool2d": (lambda: fnn.MaxPool2d(2), IMAGES),
    "Dropout": (lambda: fnn.Dropout(0.4), random(20, 5)),
    "GaussianNoise": (lambda: fnn.GaussianNoise(0.3), random(6, 5)),
    "network": (usual, random(8, 64)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_have_the_right_gradients(name):
    make, x = LAYERS[name]
    result = checks.gradcheck(make(), x)
    assert result.passed and result, f"{result}\n{result.table()}"
    assert [each.name for each in result.arrays] == ["x", *(name for name, _ in make().named_parameters())]
    assert result.checked >= 7 * len(result.arrays)
    assert result.error < 1e-6


class Wrong(fnn.Linear):
    """One entry of one gradient is wrong by a hundredth of a per cent."""

    def product_backward(self, dz, kept, accumulate, need_dx):
        dx = super().product_backward(dz, kept, accumulate, need_dx)
        self.weight.grad[0, 0] *= 1 + self.by
        return dx


def test_a_wrong_gradient_is_found():
    layer = Wrong(3, 2)
    for by, passes in ((0.0, True), (1e-4, False)):
        layer.by = by
        assert checks.gradcheck(layer, random(4, 3), entries=0).passed is passes
        result = checks.gradcheck(layer, random(4, 3), directions=0)
        assert result.passed is passes
    found = {each.name: each for each in result.arrays}
    assert found["weight"].error == pytest.approx(1e-4, rel=0.01)
    assert found["weight"].analytic == pytest.approx(found["weight"].numeric * (1 + 1e-4), rel=1e-6)
    assert found["x"].error < 1e-7 and found["bias"].error < 1e-7
    assert str(result).startswith("FAIL  gradients: largest relative error 1.0e-04 (weight: ")
    assert "weight" in result.table()


def test_a_missing_gradient_is_found():
    class Forgets(fnn.Linear):
        def product_backward(self, dz, kept, accumulate, need_dx):
            return dz @ self.weight.data

    result = checks.gradcheck(Forgets(3, 2), random(4, 3))
    assert {each.name for each in result.arrays if each.error > 0.5} == {"weight"}


def test_nan_is_no_gradient():
    result = checks.gradcheck(lambda x: (float(x.sum()), np.full_like(x, np.nan)), random(3))
    assert not result and result.error == math.inf


def test_kinks_are_skipped_and_counted():
    x = np.array([0.0, 1e-6, -2e-6, 2.5e-6, -9e-6, 1.0, -1.0, 2.0])
    result = checks.gradcheck(lambda x: (float(np.abs(x).sum()), np.sign(x)), x, directions=0)
    assert (result.checked, result.kinks) == (3, 5)
    assert result.passed
    wrong = checks.gradcheck(lambda x: (float(np.abs(x).sum()), 2 * np.sign(x)), x, directions=0)
    assert (wrong.checked, wrong.kinks) == (3, 5)
    assert not wrong.passed and wrong.error == pytest.approx(0.5)


@pytest.mark.parametrize("share", np.linspace(-0.99, 0.99, 34))
def test_no_distance_hides_a_kink(share):
    result = checks.gradcheck(lambda x: (float(np.abs(x).sum()), np.sign(x)), np.array([share * 1e-5]), directions=0)
    assert result.kinks == 1


def test_an_array_with_nothing_but_kinks_does_not_pass():
    result = checks.gradcheck(lambda x: (float(np.abs(x).sum()), np.sign(x)), np.zeros(4))
    assert not result.passed
    assert "all points of x are at kinks: use fewer samples, or a smaller eps" in result.message


def test_functions_of_one_and_of_several_arrays():
    labels = np.array([0, 2, 1])
    for loss in (F.softmax_cross_entropy, F.hinge_loss):
        assert checks.gradcheck(lambda x, loss=loss: loss(x, labels), random(3, 4))

    def product(a, b):
        return float((a @ b).sum()), (np.ones((3, 2)) @ b.T, a.T @ np.ones((3, 2)))

    result = checks.gradcheck(product, [random(3, 4), random(4, 2)])
    assert result and [each.name for each in result.arrays] == ["x[0]", "x[1]"]


def test_functions_draw_the_same_masks():
    def f(x):
        y, saved = F.dropout(x, 0.5)
        return float(np.square(y).sum()), F.dropout_backward(2 * y, saved)

    before = fnn.random.default_generator.position
    assert checks.gradcheck(f, random(30))
    assert fnn.random.default_generator.position == before


def test_burn_in_moves_a_copy():
    net = usual()
    before = net.state_dict()
    fresh, moved = (checks.gradcheck(net, random(8, 64), burn_in=steps) for steps in (0, 20))
    assert fresh and moved
    assert fresh.arrays[1].analytic != moved.arrays[1].analytic
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_waiting_pass_and_the_mode_are_left_alone():
    net = usual()
    dy = np.ones((8, 10), np.float32)
    net(X[:8])
    assert checks.gradcheck(net, X[:8])
    net.backward(dy)
    net.eval()
    assert checks.gradcheck(net, X[:8])
    assert not any(module.training for module in net.modules())


def test_a_loss_may_follow():
    loss_fn = fnn.CrossEntropyLoss()
    assert checks.gradcheck(usual(), X[:8], loss=lambda y: loss_fn.forward(y, LABELS[:8]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: checks.gradcheck(3, X), TypeError, "target: expected a Module or a function, got int"),
        (lambda: checks.gradcheck(abs, X, burn_in=1), ValueError, "burn_in: expected none with a function"),
        (lambda: checks.gradcheck(abs, X, eps=0), ValueError, "eps, tol: expected numbers > 0, got 0"),
        (lambda: checks.gradcheck(abs, X, directions=0, entries=0), ValueError, "expected at least one point"),
        (lambda: checks.gradcheck(lambda a, b: (0.0, [a]), [X, X]), ValueError, "expected 2 gradients.*got 1"),
        (
            lambda: checks.gradcheck(lambda a: (0.0, a[0]), X[:2]),
            ValueError,
            r"of x: expected shape \(2, 64\)",
        ),
        (lambda: checks.gradcheck(usual(), X[:0]), ValueError, "x: expected at least one number, got none"),
        (lambda: checks.gradcheck(abs, []), ValueError, "x: expected at least one number, got none"),
        (
            lambda: checks.gradcheck(lambda x: float(x.sum()), X[:2]),
            TypeError,
            r"target: expected a function that gives \(loss, gradient\), got float",
        ),
        (
            lambda: checks.sanity_report(usual(), fnn.CrossEntropyLoss(), (X, LABELS.tolist())),
            TypeError,
            "target: expected a numpy array, got list",
        ),
        (lambda: checks.check_initial_loss(usual(), F.mse_loss, X, X[:5]), ValueError, "target: expected one for each"),
        (
            lambda: checks.check_overfits_tiny_subset(usual(), F.mse_loss, X, X, samples=0),
            ValueError,
            "samples, steps: expected at least 1, got 0, 500",
        ),
        (
            lambda: checks.check_regularisation_raises_loss(usual(), F.mse_loss, X, X, strengths=(1, 1)),
            ValueError,
            r"strengths: expected at least two, rising, got \(1, 1\)",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---------------------------------------------------------------------------------------------------------------- loss


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(fnn.CrossEntropyLoss(), math.log(10)), (fnn.HingeLoss(), 9), (F.softmax_cross_entropy, math.log(10))],
)
def test_initial_loss(loss, expected):
    result = checks.check_initial_loss(usual(), loss, X, LABELS)
    assert result.passed, result
    assert f"expected {expected:.4g}" in result.message
    large = network(fnn.ReLU(), weight_init=fnn.init.normal)
    assert not checks.check_initial_loss(large, loss, X, LABELS)


@pytest.mark.parametrize("optimizer", [fnn.optim.SGD, fnn.optim.Adam, partial(fnn.optim.SGD, decay="weights")])
def test_regularisation_raises_the_loss(optimizer):
    net = usual()
    result = checks.check_regularisation_raises_loss(net, fnn.CrossEntropyLoss(), X, LABELS, optimizer=optimizer)
    assert result.passed, result
    totals = [float(part.split()[0]) for part in result.message.split(", ")]
    squares = sum(np.square(p.data).sum() for p in net.parameters() if p.decay or "partial" not in repr(optimizer))
    assert totals[2] - totals[0] == pytest.approx(0.05 * squares, rel=0.02)


def test_no_penalty_does_not_pass():
    loss = fnn.CrossEntropyLoss()
    assert not checks.check_regularisation_raises_loss(usual(), loss, X, LABELS, optimizer=fnn.optim.AdamW)
    nothing = network(fnn.ReLU(), weight_init=0, bias_init=0)
    assert not checks.check_regularisation_raises_loss(nothing, loss, X, LABELS)


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        (fnn.CrossEntropyLoss(), LABELS),
        (fnn.HingeLoss(), LABELS),
        (fnn.MSELoss(), np.eye(10, dtype=np.float32)[LABELS]),
    ],
)
def test_overfits_a_tiny_subset(loss, target):
    result = checks.check_overfits_tiny_subset(usual(), loss, X, target)
    assert result.passed, result
    assert "of 20 samples" in result.message


def test_what_cannot_learn_does_not_overfit():
    loss = fnn.CrossEntropyLoss()
    same = network(fnn.ReLU(), weight_init=0, bias_init=0)
    assert not checks.check_overfits_tiny_subset(same, loss, X, LABELS, steps=100)
    contradiction = np.tile(X[:1], (20, 1)), LABELS[:20]
    assert not checks.check_overfits_tiny_subset(usual(), loss, *contradiction, steps=100)


# -------------------------------------------------------------------------------------------------------------- report


def test_report(capsys):
    net, loss = usual(), fnn.CrossEntropyLoss(weight=np.ones(10, np.float32))
    before, position = net.state_dict(), fnn.random.default_generator.position
    report = checks.sanity_report(net, loss, (X, LABELS))
    assert report.passed and len(report) == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines == str(report).splitlines()
    assert all(line.startswith("ok    ") for line in lines)
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert fnn.random.default_generator.position == position
    assert not any(parameter.grad is not None for parameter in net.parameters())


def test_report_of_what_is_wrong(capsys):
    net = network(fnn.ReLU(), weight_init=0, bias_init=0)
    report = checks.sanity_report(
        net, fnn.MSELoss(), (X, np.eye(10, dtype=np.float32)[LABELS]), steps=20, verbose=False
    )
    assert not report.passed
    assert capsys.readouterr().out == ""
    assert [result.passed for result in report[2:]] == [False, False]
