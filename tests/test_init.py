"""Initial values: the moments that each scheme promises, who may be filled, and what layers make of it."""

import hashlib
import importlib.util
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from fastnn import init
from fastnn.functional.activations import ACTIVATIONS

EXAMPLE = Path(__file__).parents[1] / "examples" / "initialisation.py"
SHAPE = (200, 12, 5, 5)  # fan_in 300, fan_out 5000
STD = {
    init.lecun_normal: 300**-0.5,
    init.lecun_uniform: 300**-0.5,
    init.xavier_normal: (2 / 5300) ** 0.5,
    init.xavier_uniform: (2 / 5300) ** 0.5,
    init.kaiming_normal: (2 / 300) ** 0.5,
    init.kaiming_uniform: (2 / 300) ** 0.5,
    init.fan_in_uniform: 900**-0.5,
}


@pytest.mark.parametrize(("scheme", "std"), STD.items(), ids=lambda value: getattr(value, "__name__", None))
def test_standard_deviation(scheme, std):
    values = scheme(SHAPE, rng=1, dtype=np.float64)
    assert values.std() == pytest.approx(std, rel=0.02)
    assert abs(values.mean()) < 0.02 * std
    largest = np.abs(values).max() / std
    if "uniform" in scheme.__name__:
        assert 0.99 * math.sqrt(3) < largest <= math.sqrt(3) * (1 + 1e-12)
    else:
        assert largest > 3.5
    turned = scheme((5, 5, 12, 200), rng=1, dtype=np.float64, out_axis=-1)
    assert turned.std() == pytest.approx(std, rel=0.02)


def test_modes_and_gains():
    fan_in = init.xavier_normal(SHAPE, mode="fan_in", rng=2)
    np.testing.assert_array_equal(fan_in, init.lecun_normal(SHAPE, rng=2))
    fan_out = init.kaiming_normal(SHAPE, mode="fan_out", rng=2)
    np.testing.assert_allclose(fan_out, fan_in * math.sqrt(2 * 300 / 5000), rtol=1e-6)
    tanh = init.xavier_normal(SHAPE, init.calculate_gain("tanh"), rng=2)
    np.testing.assert_allclose(tanh, fan_in * (5 / 3 * math.sqrt(600 / 5300)), rtol=1e-6)
    leaky = init.kaiming_normal(SHAPE, a=1, rng=2)
    np.testing.assert_allclose(leaky, fan_in, rtol=1e-6)


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (8, 3, 3, 3), (40, 2, 3, 3)])
@pytest.mark.parametrize("out_axis", [0, -1])
def test_orthogonal(shape, out_axis):
    w = init.orthogonal(shape, 2.0, rng=3, out_axis=out_axis, dtype=np.float64)
    assert w.shape == shape
    rows = np.moveaxis(w, out_axis, 0).reshape(shape[out_axis], -1)
    product = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)


def test_orthogonal_prefers_no_sign():
    corners = [init.orthogonal((3, 3), rng=seed, dtype=np.float64)[0, 0] for seed in range(200)]
    assert abs(np.sign(corners).mean()) < 0.25


def test_plain_fillings():
    np.testing.assert_array_equal(init.constant(np.int64(3), 0.01), np.full(3, 0.01, np.float32))
    assert init.zeros((2, 3), dtype=np.float64).dtype == np.float64
    assert not init.zeros((2, 3)).any()
    values = init.normal(100_000, 5, 0.1, rng=0)
    assert (values.mean(), values.std()) == pytest.approx((5, 0.1), rel=0.01)
    values = init.uniform(100_000, -1, 3, rng=0)
    assert (values.min(), values.max()) == pytest.approx((-1, 3), abs=1e-3)


def test_fills_what_it_is_given():
    layer = fnn.Linear(6, 4)
    array = np.empty((8, 6), np.float32)[::2]
    for target in (layer.weight, layer.weight.data, array):
        filled = init.kaiming_normal(target, rng=7)
        assert filled is (target.data if isinstance(target, fnn.Parameter) else target)
        np.testing.assert_array_equal(filled, init.kaiming_normal((4, 6), rng=7))


def test_random_sources():
    by_seed = init.normal(5, rng=11)
    np.testing.assert_array_equal(by_seed, init.normal(5, rng=np.random.default_rng(11)))
    generator = np.random.default_rng(11)
    assert not np.array_equal(init.normal(5, rng=generator), init.normal(5, rng=generator))
    ours = fnn.Generator(4)
    first = init.normal(5, rng=ours)
    assert ours.position == 1
    np.testing.assert_array_equal(first, init.normal(5, rng=fnn.Generator(4)))
    fnn.manual_seed(4)
    np.testing.assert_array_equal(first, init.normal(5))


@pytest.mark.parametrize("name", sorted({*ACTIVATIONS, "linear", "conv2d"}))
def test_gains_keep_the_signal(name):
    gain = init.calculate_gain(name)
    torch = {"linear": 1, "conv2d": 1, "sigmoid": 1, "tanh": 5 / 3, "relu": 2**0.5, "selu": 3 / 4}
    if name == "leaky_relu":
        assert gain == pytest.approx(math.sqrt(2 / (1 + 1e-4)))
        assert init.calculate_gain(name, 0.5) == pytest.approx(math.sqrt(2 / 1.25))
    elif name in torch:
        assert gain == pytest.approx(torch[name])
    else:
        y = getattr(fnn.functional, name)(np.random.default_rng(0).standard_normal(1_000_000))
        assert gain * math.sqrt(np.square(y).mean()) == pytest.approx(1, rel=5e-3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: init.kaiming_normal(5),
            ValueError,
            r"target: expected .* at least 2 axes, got shape \(5,\)",
        ),
        (lambda: init.xavier_normal((2, 2), mode="in"), ValueError, "mode: expected 'fan_in'.*got 'in'"),
        (lambda: init.fan_in_uniform(5, fan_in=-1), ValueError, "fan_in: expected at least 0, got -1"),
        (lambda: init.normal(5, std=-1), ValueError, "std: expected a number of at least 0, got -1"),
        (lambda: init.uniform(5, 1, 0), ValueError, "b: expected a number of at least a = 1, got 0"),
        (lambda: init.normal("5"), TypeError, "target: expected an array, a Parameter or a shape, got '5'"),
        (lambda: init.normal(np.zeros(3, int)), TypeError, "target: expected float32 or float64, got int64"),
        (lambda: init.normal(np.broadcast_to(1.0, 3)), ValueError, "target: expected an array that can be written"),
        (lambda: init.normal(3, dtype=int), TypeError, "dtype: expected float32 or float64, got int64"),
        (lambda: init.normal(3, rng=-1), ValueError, "rng: expected a seed of at least 0, got -1"),
        (lambda: init.normal(3, rng="0"), TypeError, "rng: expected an integer, got '0'"),
        (lambda: init.orthogonal((3, 3), out_axis=1), ValueError, "out_axis: expected 0 or -1, got 1"),
        (lambda: init.calculate_gain("rellu"), ValueError, "nonlinearity: expected one of linear.*got 'rellu'"),
        (lambda: fnn.Linear(2, 2, weight_init="he"), ValueError, "weight_init: expected one of 'constant'.*got 'he'"),
        (lambda: fnn.Linear(2, 2, bias_init=()), TypeError, r"bias_init: expected a number, got \(\)"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


# -------------------------------------------------------------------------------------------------------------- layers


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda rng: fnn.Linear(7, 5, rng=rng), "2e3e86cb514663de"),
        (lambda rng: fnn.Conv2d(3, 4, (2, 3), rng=rng, dtype=np.float64), "db6667e487d2c735"),
        (lambda rng: fnn.HierarchicalSoftmax(6, 9, rng=rng), "3785faaadeb5f4c7"),
    ],
)
def test_default_weights_never_change(make, expected):
    layer = make(fnn.Generator(3))
    content = layer.weight.data.tobytes() + layer.bias.data.tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda **options: fnn.Linear(30, 20, **options),
        lambda **options: fnn.Conv2d(3, 8, 3, **options),
        lambda **options: fnn.HierarchicalSoftmax(30, 10, **options),
    ],
)
def test_layers_take_an_initialisation(make):
    layer = make(weight_init="kaiming_normal", bias_init=0.01, rng=fnn.Generator(5))
    drawn = init.kaiming_normal(layer.weight.data.shape, rng=fnn.Generator(5))
    np.testing.assert_array_equal(layer.weight.data, drawn)
    np.testing.assert_array_equal(layer.bias.data, np.float32(0.01))
    layer = make(weight_init=partial(init.normal, std=0.001), rng=fnn.Generator(5))
    assert 0 < np.abs(layer.weight.data).max() < 0.01
    assert np.abs(layer.bias.data).max() > 0.01


def test_a_network_starts_again():
    net = fnn.Sequential(fnn.Linear(20, 30), fnn.BatchNorm1d(30), fnn.ReLU(), fnn.WeightNorm(fnn.Linear(30, 4)))
    net[1].weight.data[...] = 2
    assert net.init("orthogonal", bias=0.5, rng=9) is net
    generator = np.random.default_rng(9)
    np.testing.assert_array_equal(net[0].weight.data, init.orthogonal((30, 20), rng=generator))
    effective = init.orthogonal((4, 30), rng=generator)
    np.testing.assert_allclose(net[3].effective_weight(), effective, rtol=1e-6)
    np.testing.assert_array_equal(net[0].bias.data, np.float32(0.5))
    np.testing.assert_array_equal(net[3].bias.data, np.float32(0.5))
    np.testing.assert_array_equal(net[1].weight.data, np.float32(2))


def test_a_network_starts_again_as_layers_start():
    layer = fnn.Linear(7, 5)
    layer.init(rng=fnn.Generator(3))
    np.testing.assert_array_equal(layer.weight.data, fnn.Linear(7, 5, rng=fnn.Generator(3)).weight.data)
    np.testing.assert_array_equal(layer.bias.data, fnn.Linear(7, 5, rng=fnn.Generator(3)).bias.data)


def test_what_is_refused_changes_nothing():
    layer = fnn.Linear(3, 2)
    before = layer.weight.data.copy()
    with pytest.raises(ValueError, match="bias_init: expected one of"):
        layer.init("kaiming_normal", "nothing")
    np.testing.assert_array_equal(layer.weight.data, before)
    with pytest.raises(ValueError, match="weight: expected a weight without rows of zeros"):
        fnn.WeightNorm(layer).init("zeros")


# ------------------------------------------------------------------------------------------------------------- example


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("initialisation", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_example_shows_collapse_and_saturation(example):
    stds = {
        (activation, scheme): [float(h.std()) for h in example.hidden(scheme, activation, units=100, samples=100)]
        for activation in example.ACTIVATIONS
        for scheme in example.SCHEMES
    }
    small, large, kaiming = "normal, std 0.01", "normal, std 1", "He / MSRA"
    assert stds["tanh", small][-1] < 1e-6 and stds["relu", small][-1] < 1e-6
    assert stds["tanh", large][-1] > 0.9 and stds["relu", large][-1] > 1e6
    assert stds["tanh", "Xavier"][-1] > 0.1
    assert stds["relu", "Xavier"][-1] < 0.1 * stds["relu", "Xavier"][0]
    assert 0.3 < stds["relu", kaiming][-1] / stds["relu", kaiming][0] < 3
