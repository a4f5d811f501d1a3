"""Weight normalisation: values, gradients, initial values, fusion."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.layers import BatchNorm1d, Dropout, Linear, ReLU, Sequential, WeightNorm


def random(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def trained(inputs=5, outputs=4, dtype=np.float64, bias=True):
    """A layer whose g is no longer the length of v."""
    layer = WeightNorm(Linear(inputs, outputs, bias, dtype=dtype, rng=fnn.Generator(3)))
    layer.weight_g.data[...] = random(outputs, 1, seed=4)
    return layer


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_starts_as_the_layer_it_was_made_of(dtype):
    linear = Linear(7, 5, dtype=dtype, rng=fnn.Generator(1))
    layer = WeightNorm(linear)
    assert layer.effective_weight().tobytes() == linear.weight.data.tobytes()
    x = random(3, 7, dtype=dtype)
    assert layer.predict(x).tobytes() == linear.predict(x).tobytes()
    assert repr(layer) == "WeightNorm(Linear(7, 5))"
    assert {name: array.shape for name, array in layer.state_dict().items()} == {
        "weight_g": (5, 1),
        "weight_v": (5, 7),
        "bias": (5,),
    }
    assert [(p.name, p.decay) for p in layer.parameters()] == [
        ("weight_g", True),
        ("weight_v", False),
        ("bias", False),
    ]
    layer.weight_v.data[...] *= 3
    assert layer.weight_v.data is not linear.weight.data
    np.testing.assert_allclose(layer.effective_weight(), linear.weight.data, rtol=1e-6)


def test_length_is_g():
    layer = trained()
    np.testing.assert_allclose(
        np.linalg.norm(layer.effective_weight(), axis=1), np.abs(layer.weight_g.data[:, 0]), rtol=1e-14
    )


def test_gradients_are_right():
    layer = trained()
    x, dy = random(6, 5, seed=1), random(6, 4, seed=2)
    layer(x)
    dx = layer.backward(dy)
    np.testing.assert_allclose(dx, dy @ layer.effective_weight(), rtol=1e-13)
    h = 1e-6
    for parameter in layer.parameters():
        for at in np.ndindex(parameter.data.shape):
            value = parameter.data[at]
            parameter.data[at] = value + h
            above = (layer.predict(x) * dy).sum()
            parameter.data[at] = value - h
            below = (layer.predict(x) * dy).sum()
            parameter.data[at] = value
            assert parameter.grad[at] == pytest.approx((above - below) / (2 * h), rel=1e-6, abs=1e-8), (
                parameter.name,
                at,
            )
    # nothing pulls v along itself
    np.testing.assert_allclose((layer.weight_v.grad * layer.weight_v.data).sum(1), 0, atol=1e-13)


def test_gradients_accumulate_and_dx_may_be_left_out():
    layer = trained()
    x, dy = random(6, 5, seed=1), random(6, 4, seed=2)
    _, saved = layer.forward(x)
    assert layer.backward(dy, saved, need_dx=False) is None
    first = [p.grad.copy() for p in layer.parameters()]
    layer.backward(dy, saved, accumulate=True)
    for parameter, grad in zip(layer.parameters(), first, strict=True):
        np.testing.assert_array_equal(parameter.grad, grad + grad)


def test_it_agrees_with_torch():
    torch = pytest.importorskip("torch")
    layer = trained()
    theirs = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(5, 4, dtype=torch.float64))
    g, v = theirs.parametrizations.weight.original0, theirs.parametrizations.weight.original1
    for parameter, array in zip(layer.parameters(), (g, v, theirs.bias), strict=True):
        assert tuple(array.shape) == parameter.data.shape
        array.data.copy_(torch.tensor(parameter.data))
    x, dy = random(6, 5, seed=1), random(6, 4, seed=2)
    y = theirs(torch.tensor(x))
    y.backward(torch.tensor(dy))
    np.testing.assert_allclose(layer(x), y.detach().numpy(), rtol=1e-12)
    layer.backward(dy)
    for parameter, array in zip(layer.parameters(), (g, v, theirs.bias), strict=True):
        np.testing.assert_allclose(parameter.grad, array.grad.numpy(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("norm", [True, False])
def test_it_is_fused_with_the_same_bits(bias, norm):
    def made(fuse):
        tail = [BatchNorm1d(6)] * norm + [ReLU(), Dropout(0.3, rng=fnn.Generator(2))]
        layer = WeightNorm(Linear(12, 6, bias, rng=fnn.Generator(1)))
        return Sequential(layer, *tail, WeightNorm(Linear(6, 3, rng=fnn.Generator(3))), fuse=fuse)

    fused, plain = made(True), made(False)
    assert fused.summary((8, 12)).rows[0].runs_as.startswith("matmul, ")
    x, dy = random(8, 12, dtype=np.float32), random(8, 3, seed=1, dtype=np.float32)
    assert fused(x).tobytes() == plain(x).tobytes()
    assert fused.backward(dy).tobytes() == plain.backward(dy).tobytes()
    for p, q in zip(fused.parameters(), plain.parameters(), strict=True):
        assert p.grad.tobytes() == q.grad.tobytes(), p.name
    before = fused.state_dict()
    fnn.optim.SGD(fused.parameters(), lr=0.1).step()
    assert not np.array_equal(before["0.weight_g"], fused[0].weight_g.data)
    assert not np.array_equal(before["0.weight_v"], fused[0].weight_v.data)
    fused.load_state_dict(before)
    plain.load_state_dict(before)
    assert fused.predict(x).tobytes() == plain.predict(x).tobytes()


@pytest.mark.parametrize("bias", [True, False])
def test_initial_values_from_data(bias):
    layer = trained(bias=bias)
    x = 3 + random(2, 50, 5, seed=1)
    layer.initialise(x)
    y = layer.predict(x).reshape(100, 4)
    np.testing.assert_allclose(y.std(0), 1, rtol=1e-12)
    if bias:
        np.testing.assert_allclose(y.mean(0), 0, atol=1e-12)
    with pytest.raises(ValueError, match="x: expected outputs that vary over the batch, got the same ones from 1 rows"):
        layer.initialise(x[0, :1])


def test_it_names_what_is_wrong():
    with pytest.raises(TypeError, match="layer: expected Linear, got WeightNorm"):
        WeightNorm(trained())
    dead = Linear(3, 2)
    dead.weight.data[1] = 0
    with pytest.raises(ValueError, match="layer: expected a weight without rows of zeros"):
        WeightNorm(dead)
    with pytest.raises(ValueError, match=r"x: expected shape \(\.\.\., 5\), got \(2, 3\)"):
        trained()(np.zeros((2, 3)))


def test_it_runs_on_the_reference():
    layer = trained()
    x, dy = random(6, 5, seed=1), random(6, 4, seed=2)
    layer(x)
    layer.backward(dy)
    expected = layer.weight_v.grad
    with fnn.use_reference():
        layer(x)
        layer.backward(dy)
    np.testing.assert_allclose(layer.weight_v.grad, expected, rtol=1e-11, atol=1e-13)
