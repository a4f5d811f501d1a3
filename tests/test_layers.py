"""Single layers: values, gradients, modes, errors."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
import fastnn.functional as F
from fastnn import layers
from fastnn.functional.activations import ACTIVATIONS

GOLDEN = Path(__file__).parent / "golden"


def random(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# ------------------------------------------------------------------------------------------------------- Linear


def test_linear_values_and_gradients():
    layer = layers.Linear(4, 3, dtype=np.float64)
    x, dy = random(5, 4, dtype=np.float64), random(5, 3, seed=1, dtype=np.float64)
    y, saved = layer.forward(x)
    np.testing.assert_allclose(y, x @ layer.weight.data.T + layer.bias.data, rtol=1e-14)
    np.testing.assert_allclose(layer.backward(dy, saved), dy @ layer.weight.data, rtol=1e-14)
    np.testing.assert_allclose(layer.weight.grad, dy.T @ x, rtol=1e-14)
    np.testing.assert_allclose(layer.bias.grad, dy.sum(0), rtol=1e-14)


def test_linear_without_bias():
    layer = layers.Linear(4, 3, bias=False)
    x = random(5, 4)
    y, saved = layer.forward(x)
    np.testing.assert_array_equal(y, x @ layer.weight.data.T)
    layer.backward(y, saved)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]


def test_linear_on_more_dimensions_and_strided_inputs():
    layer = layers.Linear(4, 3)
    x, dy = random(2, 5, 4), random(2, 5, 3, seed=1)
    y, saved = layer.forward(x)
    dx = layer.backward(dy, saved)
    flat, saved = layer.forward(np.asfortranarray(x.reshape(10, 4)))
    np.testing.assert_allclose(y.reshape(10, 3), flat, rtol=1e-6)
    assert dx.shape == x.shape
    np.testing.assert_allclose(
        layer.backward(np.asfortranarray(dy.reshape(10, 3)), saved), dx.reshape(10, 4), rtol=1e-5
    )


@pytest.mark.parametrize("n", [0, 1])
def test_linear_on_few_rows(n):
    layer = layers.Linear(4, 3)
    y, saved = layer.forward(random(n, 4))
    assert y.shape == (n, 3)
    assert layer.backward(np.ones_like(y), saved).shape == (n, 4)
    np.testing.assert_array_equal(layer.bias.grad, np.full(3, n, np.float32))


def test_a_type_may_be_another_object_of_the_same_value():
    x = random(5, 4).astype(np.dtype(np.float32, copy=True))  # as of arrays that a memory map holds
    assert x.dtype is not np.dtype(np.float32)
    layer = layers.Linear(4, 3)
    np.testing.assert_array_equal(layer.predict(x), layer.predict(random(5, 4)))


def test_linear_without_dx():
    layer = layers.Linear(4, 3)
    x, dy = random(5, 4), random(5, 3)
    _, saved = layer.forward(x)
    layer.backward(dy, saved)
    expected = layer.weight.grad
    assert layer.backward(dy, saved, need_dx=False) is None
    np.testing.assert_array_equal(layer.weight.grad, expected)


def test_initial_values_are_those_of_torch():
    layer = layers.Linear(400, 300, rng=fnn.Generator(5))
    bound = 1 / math.sqrt(400)
    for values in (layer.weight.data, layer.bias.data):
        assert values.dtype == np.float32
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.95 * bound
        assert abs(values.mean()) < 0.1 * bound
        assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.15)
    again = layers.Linear(400, 300, rng=fnn.Generator(5))
    np.testing.assert_array_equal(layer.weight.data, again.weight.data)


def test_manual_seed_makes_initial_values_repeat_and_numpy_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    fnn.manual_seed(1)
    a, b = layers.Linear(3, 3), layers.Linear(3, 3)
    fnn.manual_seed(1)
    np.testing.assert_array_equal(a.weight.data, layers.Linear(3, 3).weight.data)
    assert not np.array_equal(a.weight.data, b.weight.data)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((2, 5), np.float32), ValueError, r"x: expected shape \(\.\.\., 4\), got \(2, 5\)"),
        (np.array(1, np.float32), ValueError, "x: expected shape"),
        (np.zeros((2, 4)), TypeError, "x: expected float32.*got float64"),
        (np.zeros((2, 4), np.int64), TypeError, "x: expected float32.*got int64"),
    ],
)
def test_linear_names_what_is_wrong(x, error, message):
    with pytest.raises(error, match=message):
        layers.Linear(4, 3)(x)


# -------------------------------------------------------------------------------------------------- batch norm


@pytest.mark.parametrize("channel_axis", [1, -1])
def test_batch_norm_follows_the_trace_of_torch(channel_axis):
    def layout(image):
        return np.ascontiguousarray(np.moveaxis(image, 1, channel_axis))

    trace = np.load(GOLDEN / "batch_norm.npz")
    layer = layers.BatchNorm2d(3, channel_axis=channel_axis, dtype=np.float64)
    layer.weight.data[...], layer.bias.data[...] = trace["weight"], trace["bias"]
    close = {"rtol": 1e-11, "atol": 1e-12}
    for step in range(len(trace["x"])):
        np.testing.assert_allclose(layer(layout(trace["x"][step])), layout(trace["y"][step]), **close)
        np.testing.assert_allclose(layer.backward(layout(trace["dy"][step])), layout(trace["dx"][step]), **close)
        np.testing.assert_allclose(layer.weight.grad, trace["dweight"][step], **close)
        np.testing.assert_allclose(layer.bias.grad, trace["dbias"][step], **close)
        np.testing.assert_allclose(layer.running_mean, trace["running_mean"][step], **close)
        np.testing.assert_allclose(layer.running_var, trace["running_var"][step], **close)
    np.testing.assert_allclose(layer.predict(layout(trace["x"][0])), layout(trace["inference"]), **close)


def test_batch_norm_without_affine():
    layer = layers.BatchNorm1d(3, affine=False)
    x = random(8, 3)
    y = layer(x)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-6)
    assert layer.backward(x).shape == x.shape
    assert layer.parameters() == []
    assert set(layer.state_dict()) == {"running_mean", "running_var"}


def test_batch_norm_1d_takes_sequences():
    layer = layers.BatchNorm1d(3)
    y = layer(random(4, 3, 5))
    np.testing.assert_allclose(y.mean((0, 2)), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.BatchNorm1d(3), (4, 2)),
        (layers.BatchNorm1d(3), (4, 3, 2, 2)),
        (layers.BatchNorm1d(3, channel_axis=-1), (4, 3, 5)),
        (layers.BatchNorm2d(3), (4, 3)),
        (layers.BatchNorm2d(3, channel_axis=-1), (4, 3, 5, 5)),
        (layers.BatchNorm1d(3), (1, 3)),
    ],
)
def test_batch_norm_refuses_other_shapes(layer, shape):
    with pytest.raises(ValueError, match="x: expected"):
        layer(np.zeros(shape, np.float32))
    assert not layer.running_mean.any()


def test_nan_batch_does_not_poison_the_running_statistics():
    x = random(4, 3)
    x[1, 2] = np.nan
    layer = layers.BatchNorm1d(3)
    with pytest.raises(ValueError, match="finite"):
        layer(x)
    assert not layer.running_mean.any()
    skipping = layers.BatchNorm1d(3, nonfinite="skip")
    skipping(x)
    assert np.isfinite(skipping.running_mean).all()


def test_frozen_batch_norm_inside_training_is_an_error():
    net = layers.Sequential(layers.Linear(3, 3), layers.BatchNorm1d(3))
    net[1].eval()
    with pytest.raises(RuntimeError, match=r"BatchNorm1d.*training mode"):
        net(random(4, 3))


# ------------------------------------------------------------------------------------------------ other norms


@pytest.mark.parametrize("number", range(10))
def test_other_norms_are_those_of_torch(number):
    golden = np.load(GOLDEN / "sample_norm.npz")
    name, arguments, options, _ = ast.literal_eval(str(golden["layers"][number]))
    found = {key.partition(".")[2]: golden[key] for key in golden.files if key.startswith(f"{number}.")}
    layer = getattr(layers, name)(*arguments, **options, dtype=np.float64)
    parameters = dict(layer.named_parameters())
    assert {"x", "dy", "y", "dx", *parameters, *(f"d{key}" for key in parameters)} == set(found)
    for key, parameter in parameters.items():
        parameter.data[...] = found[key]
    close = {"rtol": 1e-10, "atol": 1e-11}
    np.testing.assert_allclose(layer(found["x"]), found["y"], **close)
    np.testing.assert_allclose(layer.backward(found["dy"]), found["dx"], **close)
    for key, parameter in parameters.items():
        np.testing.assert_allclose(parameter.grad, found[f"d{key}"], **close)
    np.testing.assert_allclose(layer.predict(found["x"]), found["y"], **close)


@pytest.mark.parametrize("layer", [layers.GroupNorm(2, 6, channel_axis=-1), layers.InstanceNorm2d(6, channel_axis=-1)])
def test_other_norms_take_channels_last(layer):
    first = layers.GroupNorm(2, 6) if isinstance(layer, layers.GroupNorm) else layers.InstanceNorm2d(6)
    x = random(3, 4, 5, 6)
    expected = np.moveaxis(first.predict(np.ascontiguousarray(np.moveaxis(x, -1, 1))), 1, -1)
    np.testing.assert_allclose(layer.predict(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: layers.LayerNorm(0), ValueError, "normalized_shape: expected"),
        (lambda: layers.LayerNorm(()), ValueError, "normalized_shape: expected"),
        (lambda: layers.LayerNorm(1.5), TypeError, "normalized_shape: expected"),
        (lambda: layers.LayerNorm(3, eps=0.0), ValueError, "eps: expected"),
        (lambda: layers.RMSNorm(3, eps="x"), TypeError, "eps: expected"),
        (lambda: layers.GroupNorm(4, 6), ValueError, "num_groups: expected"),
        (lambda: layers.GroupNorm(2, 6)(random(2, 4)), ValueError, "x: expected"),
        (lambda: layers.InstanceNorm1d(6)(random(2, 6)), ValueError, "x: expected"),
        (lambda: layers.LayerNorm(3)(random(2, 4)), ValueError, "normalized_shape: expected"),
        (lambda: layers.LayerNorm(3)([[1.0]]), TypeError, "x: expected"),
    ],
)
def test_other_norms_refuse_what_does_not_fit(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ------------------------------------------------------------------------------------------------- activations


def test_every_activation_has_its_layer():
    for entry in ACTIVATIONS.values():
        layer = getattr(layers, entry.layer)()
        assert isinstance(layer, layers.Activation)
        assert layer.spec == entry.default_spec
        x, dy = random(4, 5), random(4, 5, seed=1)
        y = layer(x)
        np.testing.assert_array_equal(y, getattr(F, entry.name)(x))
        np.testing.assert_array_equal(layer.backward(dy), getattr(F, f"{entry.name}_backward")(dy, x))


@pytest.mark.parametrize("slope", [0.3, 0.0, -0.5])
def test_leaky_relu_slopes(slope):
    layer = layers.LeakyReLU(slope)
    x = np.array([-2.0, -0.0, 0.0, 3.0])
    np.testing.assert_array_equal(layer(x), np.where(x > 0, x, x * slope))
    np.testing.assert_array_equal(layer.backward(np.ones(4)), np.where(x > 0, 1.0, slope))
    assert repr(layer) == f"LeakyReLU({slope:g})"
    assert layers.LeakyReLU(negative_slope=slope).spec == layer.spec


def test_activation_layers_refuse_unknown_parameters():
    with pytest.raises(TypeError, match="negative_slope"):
        layers.LeakyReLU(alpha=1)
    with pytest.raises(TypeError):
        layers.ReLU(1.0)


# ------------------------------------------------------------------------------------------ dropout and flatten


def test_dropout_is_the_function_and_replays_its_mask():
    layer = layers.Dropout(0.4, rng=fnn.Generator(9))
    x = random(6, 7)
    y = layer(x)
    expected, _ = F.dropout(x, 0.4, rng=fnn.Generator(9))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(layer.backward(np.ones_like(x)) != 0, y != 0)
    assert not np.array_equal(layer(x), y)


def test_dropout_in_eval_mode_is_the_identity_and_draws_nothing():
    rng = fnn.Generator(0)
    layer = layers.Dropout(0.5, rng=rng)
    x = random(3, 4)
    np.testing.assert_array_equal(layer.predict(x), x)
    np.testing.assert_array_equal(layer.eval()(x), x)
    assert rng.position == 0


@pytest.mark.parametrize(
    ("layer", "shape", "op"),
    [
        (layers.Dropout1d(0.4, rng=fnn.Generator(9)), (6, 7, 3), "dropout1d"),
        (layers.Dropout2d(0.4, rng=fnn.Generator(9)), (6, 7, 2, 2), "dropout2d"),
        (layers.Dropout3d(0.4, rng=fnn.Generator(9)), (6, 7, 2, 2, 2), "dropout3d"),
        (layers.AlphaDropout(0.4, rng=fnn.Generator(9)), (6, 7), "alpha_dropout"),
    ],
    ids=repr,
)
def test_dropout_layers_are_the_functions(layer, shape, op):
    x, dy = random(*shape), random(*shape, seed=1)
    expected, saved = getattr(F, op)(x, 0.4, True, rng=fnn.Generator(9))
    np.testing.assert_array_equal(layer(x), expected)
    np.testing.assert_array_equal(layer.backward(dy), F.dropout_backward(dy, saved))
    assert isinstance(layer, layers.Stochastic) and repr(layer).endswith("(0.4)")
    np.testing.assert_array_equal(layer.state_dict()["rng"], [9, 1])
    np.testing.assert_array_equal(layer.predict(x), x)


def test_channel_dropout_takes_channels_last():
    x = random(4, 3, 3, 8)
    y = layers.Dropout2d(channel_axis=-1)(x)
    assert set(np.unique((y != 0).sum((1, 2)))) == {0, 9}


def test_classic_dropout_scales_in_inference():
    layer = layers.Dropout(0.25, inverted=False, rng=fnn.Generator(9))
    x = random(6, 7)
    y = layer(x)
    np.testing.assert_array_equal(y[y != 0], x[y != 0])
    np.testing.assert_array_equal(layer.backward(x), y)
    np.testing.assert_array_equal(layer.predict(x), x * np.float32(0.75))
    frozen = layers.Sequential(layer)
    layer.eval()
    np.testing.assert_array_equal(frozen(x), x * np.float32(0.75))
    np.testing.assert_array_equal(frozen.backward(x), x * np.float32(0.75))
    assert repr(layer) == "Dropout(0.25, inverted=False)" and layer.rng.position == 1


def test_classic_dropout_is_not_fused():
    def net(fuse, inverted):
        parts = layers.Linear(7, 5, rng=fnn.Generator(1)), layers.ReLU(), layers.Dropout(inverted=inverted)
        return layers.Sequential(*parts, fuse=fuse)

    x, dy = random(6, 7), random(6, 5)
    for inverted in (True, False):
        results = []
        for fuse in (True, False):
            fnn.manual_seed(4)
            made = net(fuse, inverted)
            y = made(x)
            results.append((y, made.backward(dy), made.predict(x)))
        for fused, single in zip(*results, strict=True):
            np.testing.assert_array_equal(fused, single)


def test_gaussian_noise_is_the_function():
    layer = layers.GaussianNoise(0.5, mean=1.0, rng=fnn.Generator(9))
    x = random(6, 7)
    np.testing.assert_array_equal(layer(x), F.gaussian_noise(x, 0.5, mean=1.0, rng=fnn.Generator(9)))
    assert layer.backward(x) is x
    np.testing.assert_array_equal(layer.predict(x), x)
    assert repr(layer) == "GaussianNoise(0.5, mean=1)"
    np.testing.assert_array_equal(layer.state_dict()["rng"], [9, 1])
    layer(x)
    with pytest.raises(ValueError, match="dy: expected shape"):
        layer.backward(x[1:])


@pytest.mark.parametrize("std", [-0.1, math.inf, math.nan])
def test_gaussian_noise_refuses_what_is_no_deviation(std):
    with pytest.raises(ValueError, match="std: expected"):
        layers.GaussianNoise(std)


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_dropout_refuses_what_is_no_probability(p):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        layers.Dropout(p)


@pytest.mark.parametrize("shape", [(3, 2, 4, 5), (3,), (0, 2, 2)])
def test_flatten(shape):
    layer = layers.Flatten()
    x = random(*shape)
    y = layer(x)
    assert y.shape == (shape[0], math.prod(shape[1:]))
    np.testing.assert_array_equal(layer.backward(y), x)


# ------------------------------------------------------------------------------------------------------- modes


def test_second_training_call_names_the_ways_out():
    layer = layers.Linear(4, 3)
    x = random(5, 4)
    y = layer(x)
    with pytest.raises(RuntimeError, match=r"net\.forward.*net\.predict"):
        layer(x)
    np.testing.assert_array_equal(layer.predict(x), y)
    layer.backward(y)
    with pytest.raises(RuntimeError, match="backward"):
        layer.backward(y)
    layer(x)
    layer.train()
    layer(x)


def test_eval_mode_keeps_nothing():
    layer = layers.Linear(4, 3).eval()
    x = random(5, 4)
    y, saved = layer.forward(x)
    assert saved is None
    with pytest.raises(RuntimeError, match="eval"):
        layer.backward(y, saved)
    layer(x)
    layer(x)
    with pytest.raises(RuntimeError):
        layer.backward(y)


def test_pure_pair_holds_several_passes_open():
    layer = layers.Linear(4, 3)
    a, b, dy = random(5, 4), random(5, 4, seed=1), random(5, 3)
    (_, saved_a), (_, saved_b) = layer.forward(a), layer.forward(b)
    layer.backward(dy, saved_b)
    grad_b = layer.weight.grad
    layer.backward(dy, saved_a)
    grad_a = layer.weight.grad
    np.testing.assert_allclose(grad_a, dy.T @ a, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(grad_b, dy.T @ b, rtol=1e-4, atol=1e-5)
    layer.backward(dy, saved_b)
    np.testing.assert_array_equal(layer.weight.grad, grad_b)


def test_accumulate_adds_and_never_rewrites_a_gradient():
    layer = layers.Linear(200, 200)  # large enough for the caching allocator
    x, dy = random(5, 200), random(5, 200, seed=1)
    _, saved = layer.forward(x)
    layer.backward(dy, saved)
    held = layer.weight.grad
    copy = held.copy()
    layer.backward(dy, saved, accumulate=True)
    np.testing.assert_array_equal(layer.weight.grad, copy + copy)
    layer.backward(2 * dy, saved)
    np.testing.assert_array_equal(held, copy)


def test_a_layer_of_ones_own():
    class Twice(layers.Module):
        def __init__(self):
            self.inner = layers.Linear(3, 3)
            self.scale = layers.Parameter(np.full(1, 2.0, np.float32))

        def _forward(self, x, training):
            y, saved = self.inner._forward(x, training)
            return y * self.scale.data, (y, saved)

        def _backward(self, dy, saved, *, accumulate, need_dx, reuse):
            y, inner = saved
            self.scale.set_grad(np.array([(dy * y).sum()], np.float32), accumulate)
            options = {"accumulate": accumulate, "need_dx": need_dx, "reuse": True}
            return self.inner._backward(dy * self.scale.data, inner, **options)

    net = layers.Sequential(layers.Linear(3, 3), Twice(), layers.Linear(3, 2))
    assert [p.name for p in net.parameters()] == [
        *("0.weight", "0.bias"),
        *("1.scale", "1.inner.weight", "1.inner.bias"),
        *("2.weight", "2.bias"),
    ]
    x, dy = random(4, 3), random(4, 2)
    y = net(x)
    net.backward(dy)
    step = np.float32(1e-2)
    slope = net[1].scale.grad[0]
    net[1].scale.data += step
    np.testing.assert_allclose(((net.predict(x) - y) * dy).sum(), step * slope, rtol=1e-2)
    assert set(net.state_dict()) == {p.name for p in net.parameters()}
    with pytest.raises(NotImplementedError, match="_forward"):
        layers.Module().forward(x)


def test_layers_run_on_the_reference():
    layer = layers.BatchNorm1d(3, dtype=np.float64)
    x = random(6, 3, dtype=np.float64)
    with fnn.use_reference():
        expected = layer(x)
        dx = layer.backward(x)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-12)
    np.testing.assert_allclose(layer.backward(x), dx, rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("layer", "x", "good"),
    [(layers.Linear(4, 3, bias=False), random(6, 4), (6, 3)), (layers.Flatten(), random(2, 3, 4), (2, 12))],
)
def test_backward_refuses_other_gradients_and_keeps_the_pass(layer, x, good):
    layer(x)
    with pytest.raises(ValueError, match="dy: expected shape"):
        layer.backward(random(*good[::-1]))
    with pytest.raises(TypeError, match="dy: expected dtype float32, got float64"):
        layer.backward(np.ones(good))
    with pytest.raises(TypeError, match="dy: expected a numpy array, got list"):
        layer.backward([1.0])
    assert layer.backward(random(*good)).shape == x.shape


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: layers.Linear(2, 2)([[1.0, 2.0]]), TypeError, "x: expected a numpy array, got list"),
        (lambda: layers.BatchNorm1d(2)([[1.0, 2.0]]), TypeError, "x: expected a numpy array, got list"),
        (lambda: layers.Flatten()(np.float32(1)), TypeError, "x: expected a numpy array"),
        (lambda: layers.Flatten()(np.array(1.0)), ValueError, r"x: expected shape \(N, ...\), got \(\)"),
        (lambda: layers.Linear(2, 2, dtype="i4"), TypeError, "dtype: expected float32 or float64, got int32"),
        (lambda: layers.BatchNorm1d(3, dtype="i4"), TypeError, "dtype: expected float32 or float64, got int32"),
        (lambda: layers.BatchNorm1d(3, channel_axis=4), ValueError, "channel_axis: expected"),
        (lambda: layers.BatchNorm1d(3, channel_axis=1.5), TypeError, "channel_axis: expected an integer, got 1.5"),
        (lambda: layers.BatchNorm1d(3, channel_axis=2)(random(4, 3)), ValueError, "x: expected shape"),
        (lambda: layers.BatchNorm1d(3, eps=-1), ValueError, "eps: expected a number > 0, got -1"),
        (lambda: layers.BatchNorm1d(3, momentum="a"), TypeError, "momentum: expected a number, got 'a'"),
        (lambda: layers.BatchNorm1d(3, momentum=2), ValueError, "momentum: expected"),
        (lambda: layers.BatchNorm1d(3, nonfinite="zz"), ValueError, "nonfinite: expected .*, got 'zz'"),
        (
            lambda: layers.BatchNorm1d(3, momentum_convention="caffe"),
            ValueError,
            "momentum_convention: expected 'torch' or 'keras', got 'caffe'",
        ),
        (lambda: layers.BatchNorm1d(3, running_ddof=2), ValueError, "running_ddof: expected 0 or 1, got 2"),
        (lambda: layers.Dropout("a"), TypeError, "p: expected a number, got 'a'"),
    ],
)
def test_layers_name_what_is_wrong(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()


def test_a_pass_ends_where_it_began():
    layer, x = layers.Linear(4, 3), random(6, 4)
    with fnn.use_reference():
        y = layer(x)
    with pytest.raises(TypeError, match=r"saved: expected what .*bias_act has kept, got .*reference\.base\.Saved"):
        layer.backward(y)


@pytest.mark.parametrize(
    ("make", "exception", "name"),
    [
        (lambda: layers.BatchNorm1d(3.0), TypeError, "num_features"),
        (lambda: layers.BatchNorm1d(-1), ValueError, "num_features"),
        (lambda: layers.BatchNorm2d(3, eps=np.nan), ValueError, "eps"),
        (lambda: layers.BatchNorm2d(3, momentum=1.5), ValueError, "momentum"),
        (lambda: layers.InstanceNorm1d(2.5), TypeError, "num_features"),
        (lambda: layers.InstanceNorm2d(3, eps=np.nan), ValueError, "eps"),
        (lambda: layers.GroupNorm(0, 4), ValueError, "num_groups"),
        (lambda: layers.GroupNorm(2, 4.0), TypeError, "num_channels"),
        (lambda: layers.GroupNorm(3, 4), ValueError, "num_groups"),
        (lambda: layers.Linear(2.5, 3), TypeError, "in_features"),
        (lambda: layers.Linear(2, 0), ValueError, "out_features"),
        (lambda: layers.PReLU(0), ValueError, "num_parameters"),
        (lambda: layers.PReLU(1, np.nan), ValueError, "init"),
        (lambda: layers.Dropout2d(0.5, channel_axis="last"), TypeError, "channel_axis"),
        (lambda: layers.LeakyReLU("steep"), TypeError, "negative_slope"),
        (lambda: fnn.CrossEntropyLoss(ignore_index=1.5), TypeError, "ignore_index"),
        (lambda: fnn.CrossEntropyLoss(label_smoothing="much"), TypeError, "label_smoothing"),
        (lambda: fnn.SmoothL1Loss(beta="small"), TypeError, "beta"),
        (lambda: fnn.HuberLoss(delta=np.nan), ValueError, "delta"),
        (lambda: fnn.HingeLoss(margin=np.nan), ValueError, "margin"),
        (lambda: fnn.HierarchicalSoftmax(3, 2.5), TypeError, "n_classes"),
    ],
)
def test_constructors_refuse_impossible_numbers(make, exception, name):
    with pytest.raises(exception, match=f"^{name}: expected"):
        make()
