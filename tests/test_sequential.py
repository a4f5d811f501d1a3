"""Sequential: the same bits fused and unfused, what is fused, what is kept."""

import itertools

import numpy as np
import pytest

import fastnn as fnn
from fastnn import layers
from fastnn.layers import BatchNorm1d, BatchNorm2d, Dropout, Flatten, LeakyReLU, Linear, ReLU, Sequential
from fastnn.layers.activation import CLASSES


def random(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def chain(linear, norm, activation, dropout, rng):
    """Layers (8, 12) -> (8, 6) of one chain; `linear` is None, "bias" or "no bias"."""
    made = []
    if linear:
        made.append(Linear(12, 6, bias=linear == "bias", rng=rng))
    if norm:
        made.append(BatchNorm1d(6 if linear else 12))
    if activation:
        made.append(activation)
    if dropout:
        made.append(Dropout(dropout, rng=rng))
    return made


CHAINS = list(
    itertools.product(
        (None, "bias", "no bias"),
        (False, True),
        (None, *(kind() for kind in CLASSES.values()), LeakyReLU(-0.2)),
        (0.0, 0.3, 1.0),
    )
)


def assert_same_bits(fused, plain, x, dy, steps=2):
    for _ in range(steps):
        given = dy.copy()
        y, expected = fused(x), plain(x)
        assert y.tobytes() == expected.tobytes()
        dx, expected = fused.backward(dy), plain.backward(dy)
        assert dx.tobytes() == expected.tobytes()
        np.testing.assert_array_equal(dy, given)
        for p, q in zip(fused.parameters(), plain.parameters(), strict=True):
            assert p.grad.tobytes() == q.grad.tobytes(), p.name
    a, b = fused.state_dict(), plain.state_dict()
    assert all(a[name].tobytes() == b[name].tobytes() for name in a)
    assert fused.predict(x).tobytes() == plain.predict(x).tobytes()


@pytest.mark.parametrize(("linear", "norm", "activation", "dropout"), CHAINS)
def test_every_chain_has_the_bits_of_its_layers(linear, norm, activation, dropout):
    nets = [
        Sequential(*chain(linear, norm, activation, dropout, fnn.Generator(4)), fuse=fuse) for fuse in (True, False)
    ]
    assert_same_bits(*nets, random(8, 12), random(8, 6 if linear else 12, seed=1))


SAMPLE_NORMS = {
    "layer": lambda: layers.LayerNorm(6),
    "layer without bias": lambda: layers.LayerNorm(6, bias=False),
    "not affine": lambda: layers.LayerNorm(6, elementwise_affine=False),
    "rms": lambda: layers.RMSNorm(6),
    "group": lambda: layers.GroupNorm(2, 6),
    "group, channels last": lambda: layers.GroupNorm(3, 6, channel_axis=-1),
}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("activation", [None, ReLU(), layers.GELU(), layers.Tanh()], ids=repr)
@pytest.mark.parametrize("linear", [None, "bias", "no bias"])
@pytest.mark.parametrize("norm", SAMPLE_NORMS)
def test_chains_with_other_norms_have_the_bits_of_their_layers(norm, linear, activation, dropout):
    def net(fuse):
        rng = fnn.Generator(4)
        made = [Linear(12, 6, bias=linear == "bias", rng=rng)] if linear else []
        made += [SAMPLE_NORMS[norm](), *([activation] if activation else [])]
        return Sequential(*made, *([Dropout(dropout, rng=rng)] if dropout else []), fuse=fuse)

    fused = net(True)
    assert len(fused._steps) == 1
    assert_same_bits(fused, net(False), random(8, 12 if linear else 6), random(8, 6, seed=1))


def test_images_go_through_norms_of_their_own():
    def net(fuse):
        made = [layers.InstanceNorm2d(6, affine=True), ReLU(), layers.GroupNorm(2, 6), layers.GELU(), Dropout(0.2)]
        made += [layers.LayerNorm((6, 5, 5)), LeakyReLU(), Flatten(), Linear(150, 4, rng=fnn.Generator(1))]
        return Sequential(*made, fuse=fuse)

    x, dy = random(3, 6, 5, 5), random(3, 4)
    fnn.manual_seed(0)
    fused = net(True)
    y, dx = fused(x), fused.backward(dy)
    fnn.manual_seed(0)
    plain = net(False)
    assert y.tobytes() == plain(x).tobytes() and dx.tobytes() == plain.backward(dy).tobytes()
    shown = [row.runs_as for row in fused.summary((3, 6, 5, 5)).rows if row.runs_as not in ("", "|")]
    assert shown == ["instance_norm(relu)", "group_norm(gelu, dropout)", "layer_norm(leaky_relu)"]


def deep(fuse, dtype=np.float32):
    rng = fnn.Generator(4)
    return Sequential(
        BatchNorm2d(3, channel_axis=1, dtype=dtype),
        ReLU(),
        Flatten(),
        Linear(48, 33, rng=rng, dtype=dtype),
        BatchNorm1d(33, dtype=dtype),
        ReLU(),
        Dropout(0.3, rng=rng),
        Linear(33, 17, rng=rng, dtype=dtype),
        LeakyReLU(0.1),
        Dropout(0.2, rng=rng),
        Sequential(Linear(17, 17, rng=rng, dtype=dtype), ReLU(), fuse=fuse),
        Dropout(0.2, rng=rng),
        ReLU(),
        Linear(17, 5, bias=False, rng=rng, dtype=dtype),
        fuse=fuse,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_deep_network_has_the_bits_of_its_layers(dtype):
    x, dy = random(40, 3, 4, 4, dtype=dtype), random(40, 5, seed=1, dtype=dtype)
    assert_same_bits(deep(True, dtype), deep(False, dtype), x, dy, steps=3)


@pytest.mark.parametrize("channel_axis", [1, -1])
def test_norm_along_another_axis_than_the_product(channel_axis):
    channels = 5 if channel_axis == 1 else 6
    nets = [
        Sequential(
            Linear(4, 6, rng=fnn.Generator(4)), BatchNorm1d(channels, channel_axis=channel_axis), ReLU(), fuse=fuse
        )
        for fuse in (True, False)
    ]
    assert_same_bits(*nets, random(8, 5, 4), random(8, 5, 6))


def test_gradients_are_right():
    net = deep(True, np.float64)
    rng = np.random.default_rng(3)
    x, dy = random(40, 3, 4, 4, dtype=np.float64), random(40, 5, dtype=np.float64)
    state = {name: value for name, value in net.state_dict().items() if name.endswith("rng")}

    def value(x):
        net.load_state_dict(net.state_dict() | state)  # the same masks each time
        return (net.forward(x)[0] * dy).sum()

    net.load_state_dict(net.state_dict() | state)
    _, saved = net.forward(x)
    dx = net.backward(dy, saved)
    h = 1e-6
    direction = rng.standard_normal(x.shape)
    slope = (value(x + h * direction) - value(x - h * direction)) / (2 * h)
    assert (dx * direction).sum() == pytest.approx(slope, rel=1e-5)
    for parameter in net.parameters():
        direction = rng.standard_normal(parameter.data.shape)
        parameter.data[...] += h * direction
        above = value(x)
        parameter.data[...] -= 2 * h * direction
        below = value(x)
        parameter.data[...] += h * direction
        slope = (above - below) / (2 * h)
        assert (parameter.grad * direction).sum() == pytest.approx(slope, rel=1e-4, abs=1e-6), parameter.name


def test_saved_is_reusable():
    net = deep(True)
    x, dy = random(40, 3, 4, 4), random(40, 5)
    _, saved = net.forward(x)
    first = net.backward(dy, saved)
    grads = [p.grad for p in net.parameters()]
    copies = [first.copy(), *(grad.copy() for grad in grads)]
    second = net.backward(dy, saved)
    for a, b in zip([second, *(p.grad for p in net.parameters())], copies, strict=True):
        np.testing.assert_array_equal(a, b)
    for held, copy in zip([first, *grads], copies, strict=True):  # what was handed out was not written again
        np.testing.assert_array_equal(held, copy)


def test_without_dx_the_gradients_are_the_same():
    net = deep(True)
    x, dy = random(40, 3, 4, 4), random(40, 5)
    _, saved = net.forward(x)
    net.backward(dy, saved)
    expected = [p.grad for p in net.parameters()]
    assert net.backward(dy, saved, need_dx=False) is None
    for parameter, grad in zip(net.parameters(), expected, strict=True):
        np.testing.assert_array_equal(parameter.grad, grad)


def test_without_dx_layers_before_the_first_parameter_do_nothing():
    class Watch(layers.Module):
        calls = 0

        def _forward(self, x, training):
            return x, None

        def _backward(self, dy, saved, *, accumulate, need_dx, reuse):
            self.calls += 1
            return dy

    watch = Watch()
    net = Sequential(watch, ReLU(), Linear(4, 3))
    y = net(random(5, 4))
    net.backward(y, need_dx=False)
    assert watch.calls == 0
    y = net(random(5, 4))
    net.backward(y)
    assert watch.calls == 1


def test_inputs_and_outputs_are_left_alone():
    net = deep(True)
    x = random(40, 3, 4, 4)
    x.flags.writeable = False
    y = net(x)
    copy = y.copy()
    dy = np.ones_like(y)
    dy.flags.writeable = False
    net.backward(dy)
    net.predict(x)
    np.testing.assert_array_equal(y, copy)


def test_accumulate_over_two_halves():
    net = Sequential(Linear(4, 6), ReLU(), Linear(6, 3))
    x, dy = random(8, 4, dtype=np.float32), random(8, 3)
    net(x)
    net.backward(dy)
    whole = [p.grad for p in net.parameters()]
    net(x[:4])
    net.backward(dy[:4])
    net(x[4:])
    net.backward(dy[4:], accumulate=True)
    for parameter, grad in zip(net.parameters(), whole, strict=True):
        np.testing.assert_allclose(parameter.grad, grad, rtol=1e-5, atol=1e-5)


def test_predict_runs_in_eval_mode_and_leaves_the_mode_alone():
    net = deep(True)
    x = random(40, 3, 4, 4)
    before = net.state_dict()
    y = net.predict(x)
    assert all(np.array_equal(before[name], value) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
    np.testing.assert_array_equal(net.eval()(x), y)
    assert not any(module.training for module in net.modules())


def test_subclasses_that_compute_otherwise_are_not_fused():
    class Loud(ReLU):
        def _forward(self, x, training):
            y, saved = super()._forward(x, training)
            return 3 * y, saved

    x = random(5, 4)
    nets = [Sequential(Linear(4, 3, rng=fnn.Generator(0)), Loud(), fuse=fuse) for fuse in (True, False)]
    np.testing.assert_array_equal(nets[0].predict(x), nets[1].predict(x))
    assert [row.runs_as for row in nets[0].summary(x).rows] == ["", ""]


def test_parameters_cannot_be_in_two_layers():
    layer, relu = Linear(3, 3), ReLU()
    with pytest.raises(ValueError, match=r"layers\[2\].*layers\[0\]"):
        Sequential(layer, relu, layer)
    Sequential(layer, relu, Linear(3, 3), relu)
    with pytest.raises(TypeError, match=r"layers\[1\].*function"):
        Sequential(layer, lambda x: x)


# ----------------------------------------------------------------------------------------------------- summary


def test_summary_shows_shapes_parameters_fusion_and_bytes():
    net = Sequential(Linear(20, 30), BatchNorm1d(30), ReLU(), Dropout(0.5), Linear(30, 7), LeakyReLU(0.1))
    summary = net.summary((8, 20))
    assert [row.shape for row in summary.rows] == [(8, 30)] * 4 + [(8, 7)] * 2
    assert [row.parameters for row in summary.rows] == [630, 60, 0, 0, 217, 0]
    assert summary.parameters == 907
    assert [row.runs_as for row in summary.rows] == [
        *("matmul, batch_norm(pre_bias, relu, dropout)", "|", "|", "|"),
        *("matmul, bias_act(bias, leaky_relu)", "|"),
    ]
    # input, product and small arrays of the first chain; the input of the second and its output
    small = summary.rows[0].nbytes - 4 * 8 * (20 + 30)
    assert 0 <= small <= 30 * (2 * 8 + 3 * 4)
    assert summary.rows[4].nbytes == 4 * 8 * (30 + 7)
    _, saved = net.forward(random(8, 20))
    assert summary.nbytes == saved.nbytes
    text = str(summary)
    for word in ("Linear(20, 30)", "(8, 30)", "907", f"{summary.nbytes:,}", "batch_norm(pre_bias, relu, dropout)"):
        assert word in text


def test_summary_shows_a_bias_before_other_norms():
    net = Sequential(Linear(20, 30), layers.LayerNorm(30), ReLU())
    assert net.summary((8, 20)).rows[0].runs_as == "matmul, bias_act(bias), layer_norm(relu)"


def test_fused_layers_keep_less():
    x = random(64, 3, 4, 4)
    assert deep(True).summary(x).nbytes < deep(False).summary(x).nbytes


def test_summary_changes_nothing():
    net = deep(True)
    net[4].eval()
    before = net.state_dict()
    net.summary((8, 3, 4, 4))
    assert all(np.array_equal(before[name], value) for name, value in net.state_dict().items())
    assert [layer.training for layer in net].count(False) == 1
    with pytest.raises(ValueError, match="two values"):
        Sequential(Linear(4, 3), BatchNorm1d(3)).summary((1, 4))


def test_container():
    net = Sequential(Linear(2, 3), ReLU())
    assert len(net) == 2
    assert list(net) == [net[0], net[1]]
    assert repr(net) == "Sequential(Linear(2, 3), ReLU())"
