"""The switches of batch norm, frozen statistics, recalibration, and dropout at inference."""

import numpy as np
import pytest

import fastnn as fnn
import fastnn.functional as F
from fastnn import layers, reference
from fastnn.layers import BatchNorm1d, BatchNorm2d, BatchNorm3d, Dropout, Flatten, Linear, ReLU, Sequential


def random(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# -------------------------------------------------------------------------------------------- conventions


def updated(x, mean=0.25, var=2.0, **options):
    running_mean, running_var = np.full(x.shape[1], mean), np.full(x.shape[1], var)
    F.batch_norm(x, running_mean, running_var, training=True, **options)
    return running_mean, running_var


def test_keras_weighs_the_old_statistics():
    x = 3 + random(20, 4)
    for momentum in (0.0, 0.1, 0.99, 1.0):
        mean, var = updated(x, momentum=momentum, momentum_convention="keras", running_ddof=0)
        np.testing.assert_allclose(mean, momentum * 0.25 + (1 - momentum) * x.mean(0), rtol=1e-13)
        np.testing.assert_allclose(var, momentum * 2.0 + (1 - momentum) * x.var(0), rtol=1e-13)
        mean, var = updated(x, momentum=momentum)
        np.testing.assert_allclose(mean, (1 - momentum) * 0.25 + momentum * x.mean(0), rtol=1e-13)
        np.testing.assert_allclose(var, (1 - momentum) * 2.0 + momentum * x.var(0, ddof=1), rtol=1e-13)


def test_both_conventions_say_the_same():
    x = random(20, 4)
    for torch, keras in ((0.01, 0.99), (0.25, 0.75), (0.9, 0.1)):
        np.testing.assert_allclose(
            updated(x, momentum=torch), updated(x, momentum=keras, momentum_convention="keras"), rtol=1e-14
        )


def test_statistics_stay_where_they_are_not_to_be_updated():
    x = random(20, 4)
    mean, var = updated(x, update_stats=False)
    assert (mean == 0.25).all() and (var == 2.0).all()
    y, _ = F.batch_norm(x, mean, var, training=True, update_stats=False)
    np.testing.assert_array_equal(y, F.batch_norm(x, training=True)[0])
    mean.flags.writeable = False
    F.batch_norm(x, mean, var, training=True, update_stats=False)


def test_a_layer_hands_its_conventions_on():
    x = random(20, 4)
    layer = BatchNorm1d(4, momentum=0.75, momentum_convention="keras", running_ddof=0, dtype=np.float64)
    layer(x)
    np.testing.assert_allclose(layer.running_mean, 0.25 * x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(layer.running_var, 0.75 + 0.25 * x.var(0), rtol=1e-13)
    still = BatchNorm1d(4, update_stats=False, dtype=np.float64)
    y = still(x)
    np.testing.assert_allclose(y.std(0), 1, rtol=1e-4)
    assert not still.running_mean.any()


def test_without_momentum_statistics_are_means_over_batches():
    batches = [k + random(20, 4, seed=k) for k in range(5)]
    layer = BatchNorm1d(4, momentum=None, dtype=np.float64)
    layer.update_stats = False
    layer.forward(batches[0])
    layer.update_stats = True
    for number, x in enumerate(batches):
        assert layer.num_batches_tracked == number
        layer.predict(x)
        layer.forward(x)
    np.testing.assert_allclose(layer.running_mean, np.mean([x.mean(0) for x in batches], 0), rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, np.mean([x.var(0, ddof=1) for x in batches], 0), rtol=1e-12)

    again = BatchNorm1d(4, momentum=None, dtype=np.float64)
    again.load_state_dict(layer.state_dict())
    assert again.num_batches_tracked == 5
    assert "num_batches_tracked" not in BatchNorm1d(4).state_dict()
    Sequential(layer).summary((8, 4))  # puts the state back
    assert layer.num_batches_tracked == 5


def test_without_momentum_a_refused_batch_does_not_count():
    layer = BatchNorm1d(4, momentum=None)
    with pytest.raises(ValueError, match="finite"):
        layer(np.full((3, 4), np.nan, np.float32))
    assert layer.num_batches_tracked == 0
    with pytest.raises(ValueError, match="nonfinite: expected 'error' or 'allow' with momentum=None"):
        BatchNorm1d(4, momentum=None, nonfinite="skip")


@pytest.mark.parametrize("kind", ["torch", "average", "frozen"])
def test_batch_norm_agrees_with_torch(kind):
    torch = pytest.importorskip("torch")
    layer = BatchNorm3d(3, momentum=None if kind == "average" else 0.3, dtype=np.float64)
    theirs = torch.nn.BatchNorm3d(3, momentum=None if kind == "average" else 0.3, dtype=torch.float64)
    values = random(2, 3)
    for ours, array in ((layer.weight.data, theirs.weight), (layer.bias.data, theirs.bias)):
        ours[...] = values[0] if array is theirs.weight else values[1]
        array.data.copy_(torch.tensor(ours))
    if kind == "frozen":
        layer.running_mean[...], layer.running_var[...] = (0.5, -1, 2), (0.3, 2, 1)
        theirs.running_mean.copy_(torch.tensor(layer.running_mean))
        theirs.running_var.copy_(torch.tensor(layer.running_var))
        layer.freeze()
        theirs.eval()
    for step in range(3):
        x, dy = random(2, 3, 4, 5, 6, seed=step), random(2, 3, 4, 5, 6, seed=10 + step)
        leaf = torch.tensor(x, requires_grad=True)
        theirs.zero_grad()
        out = theirs(leaf)
        out.backward(torch.tensor(dy))
        close = {"rtol": 1e-11, "atol": 1e-12}
        np.testing.assert_allclose(layer(x), out.detach().numpy(), **close)
        np.testing.assert_allclose(layer.backward(dy), leaf.grad.numpy(), **close)
        np.testing.assert_allclose(layer.weight.grad, theirs.weight.grad.numpy(), **close)
        np.testing.assert_allclose(layer.bias.grad, theirs.bias.grad.numpy(), **close)
        np.testing.assert_allclose(layer.running_mean, theirs.running_mean.numpy(), **close)
        np.testing.assert_allclose(layer.running_var, theirs.running_var.numpy(), **close)


def test_volumes_in_both_layouts():
    x = random(2, 3, 4, 5, 6, dtype=np.float32)
    first, last = BatchNorm3d(3), BatchNorm3d(3, channel_axis=-1)
    y = first(x)
    np.testing.assert_allclose(y.mean((0, 2, 3, 4)), 0, atol=1e-6)
    np.testing.assert_allclose(np.moveaxis(last(np.moveaxis(x, 1, -1)), -1, 1), y, atol=1e-6)
    assert first.backward(x).shape == x.shape
    with pytest.raises(ValueError, match="x: expected shape of five dimensions with 3 channels"):
        first(x[0])


# ----------------------------------------------------------------------------------------- frozen statistics


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 49)])
def test_frozen_gradients_do_not_depend_on_infinite_statistics(shape):
    dy = np.random.default_rng(0).standard_normal(shape)
    infinite = np.array([0.0, np.inf, 0.0])
    for mean, pre_bias in ((np.zeros(3), infinite), (infinite, None)):
        _, saved = F.batch_norm(
            np.ones(shape), mean, np.ones(3), training=True, eps=1e-5, pre_bias=pre_bias, frozen=True, nonfinite="allow"
        )
        np.testing.assert_allclose(F.batch_norm_backward(dy, saved)[0], dy / np.sqrt(1 + 1e-5), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mean", [0.0, 0.1])
def test_an_infinite_weight_is_no_nan(dtype, mean):
    # What rounding leaves of a mean, times infinity, must not get into what is added.
    x = np.array([[1.0, 1.0], [-2.0, 0.0], [3.0, 3.0]], dtype)
    weight = np.array([np.inf, -1.0], dtype)
    y, _ = F.batch_norm(x, np.full(2, mean), np.ones(2), weight, None, training=False, eps=1e-5)
    np.testing.assert_array_equal(y[:, 0], [np.inf, -np.inf, np.inf])
    assert np.isfinite(y[:, 1]).all()
    if mean == 0.0:
        assert np.signbit(y[1, 1])  # -0, as 0 * -1 is


@pytest.mark.parametrize("shape", [(40, 3), (2, 3, 40, 30), (1, 3), (0, 3), (0, 3, 40, 30), (2, 3, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_frozen_is_inference_with_gradients(shape, dtype):
    x, dy = random(*shape, dtype=dtype), random(*shape, seed=1, dtype=dtype)
    mean, var = random(3, seed=2, dtype=dtype), 1 + random(3, seed=3, dtype=dtype) ** 2
    weight, bias, pre_bias = random(3, 3, seed=4, dtype=dtype)
    kept = mean.copy(), var.copy()
    y, saved = F.batch_norm(x, mean, var, weight, bias, True, pre_bias=pre_bias, activation="relu", frozen=True)
    inferred, nothing = F.batch_norm(x, mean, var, weight, bias, pre_bias=pre_bias, activation="relu", frozen=True)
    assert nothing is None
    assert y.tobytes() == inferred.tobytes()
    assert mean.tobytes() == kept[0].tobytes() and var.tobytes() == kept[1].tobytes()
    _, wide = reference.batch_norm(x, mean, var, weight, bias, True, pre_bias=pre_bias, activation="relu", frozen=True)
    for got, want in zip(F.batch_norm_backward(dy, saved), reference.batch_norm_backward(dy, wide), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3 if dtype == np.float32 else 1e-12)


@pytest.mark.filterwarnings("ignore:.*invalid value.*:RuntimeWarning")
@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
@pytest.mark.parametrize("dropout", [0.0, 0.5, 1.0])
def test_what_was_dropped_is_zero_in_frozen_gradients(activation, dropout):
    x, dy = random(40, 3), random(40, 3, seed=1)
    x[5, 1], x[6, 1], x[7, 1] = np.inf, -np.inf, np.nan
    options = {"training": True, "activation": activation, "dropout": dropout, "frozen": True}
    arrays = x, np.zeros(3), np.ones(3)
    y, saved = F.batch_norm(*arrays, **options, rng=fnn.Generator(3))
    want, wide = reference.batch_norm(*arrays, **options, rng=fnn.Generator(3))
    dx, expected = F.batch_norm_backward(dy, saved)[0], reference.batch_norm_backward(dy, wide)[0]
    np.testing.assert_allclose(y, want, rtol=1e-12)
    np.testing.assert_allclose(dx, expected, rtol=1e-10, atol=1e-12)
    assert np.isfinite(np.delete(dx, 7, 0)).all()


def fine_tuned(fuse):
    net = Sequential(
        Linear(6, 5, rng=fnn.Generator(1)), BatchNorm1d(5), ReLU(), Dropout(0.3, rng=fnn.Generator(2)),
        Linear(5, 4, rng=fnn.Generator(3)), BatchNorm1d(4), fuse=fuse,
    )  # fmt: skip
    for seed in range(3):
        net.forward(1 + random(20, 6, seed=seed, dtype=np.float32))
    return net


def test_frozen_layers_keep_their_statistics_and_train():
    nets = [fine_tuned(fuse) for fuse in (True, False)]
    x, dy = random(1, 6, dtype=np.float32), random(1, 4, seed=1, dtype=np.float32)  # one row is enough
    for net in nets:
        assert net[1].freeze() is net[1]
        net[5].freeze()
    before = nets[0].state_dict()
    outputs = [net(x) for net in nets]
    assert outputs[0].tobytes() == outputs[1].tobytes()
    gradients = [net.backward(dy) for net in nets]
    assert gradients[0].tobytes() == gradients[1].tobytes()
    for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert p.grad.tobytes() == q.grad.tobytes(), p.name
        assert p.grad.any(), p.name
    after = nets[0].state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before if not name.endswith("rng"))
    nets[0][1].unfreeze()
    with pytest.raises(ValueError, match="two values"):
        nets[0](x)


def test_gradients_through_frozen_layers_are_right():
    net = Sequential(Linear(4, 5, dtype=np.float64), BatchNorm1d(5, dtype=np.float64).freeze(), layers.Tanh())
    net[1].running_mean[...], net[1].running_var[...] = random(5), 0.5 + random(5, seed=1) ** 2
    x, dy, direction = random(6, 4), random(6, 5, seed=2), random(6, 4, seed=3)
    net(x)
    dx = net.backward(dy)
    h = 1e-6
    slope = ((net.predict(x + h * direction) - net.predict(x - h * direction)) * dy).sum() / (2 * h)
    assert (dx * direction).sum() == pytest.approx(slope, rel=1e-7)
    for parameter in net.parameters():
        direction = random(*parameter.data.shape, seed=4)
        values = []
        for sign in (1, -1):
            parameter.data[...] += sign * h * direction
            values.append((net.predict(x) * dy).sum())
            parameter.data[...] -= sign * h * direction
        slope = (values[0] - values[1]) / (2 * h)
        assert (parameter.grad * direction).sum() == pytest.approx(slope, rel=1e-6, abs=1e-8), parameter.name


# -------------------------------------------------------------------------------------------- recalibration


def images(n, dtype=np.float64):
    return 2 + 3 * random(n, 3, 4, 4, dtype=dtype)


def deep(ddof=1, dtype=np.float64, fuse=True):
    rng = fnn.Generator(5)
    options = {"running_ddof": ddof, "dtype": dtype}
    return Sequential(
        BatchNorm2d(3, **options),
        ReLU(),
        Flatten(),
        Sequential(Linear(48, 16, rng=rng, dtype=dtype), BatchNorm1d(16, **options), layers.GELU(), fuse=fuse),
        Dropout(0.5, rng=rng),
        Linear(16, 7, rng=rng, dtype=dtype),
        BatchNorm1d(7, **options),
        fuse=fuse,
    )


def norms(net):
    return [module for module in net.modules() if isinstance(module, layers.BatchNorm1d | BatchNorm2d)]


def cut(x, sizes):
    ends = np.cumsum(sizes)
    assert ends[-1] == len(x)
    return np.split(x, ends[:-1])


def test_recalibrated_first_layer_has_the_statistics_of_the_data():
    x = 1e4 + random(101, 5)
    for ddof in (0, 1):
        layer = BatchNorm1d(5, running_ddof=ddof, momentum=None, dtype=np.float64)
        fnn.recalibrate(layer, cut(x, [50, 1, 30, 20]))
        np.testing.assert_allclose(layer.running_mean, x.mean(0), rtol=1e-14)
        np.testing.assert_allclose(layer.running_var, x.var(0, ddof=ddof), rtol=1e-10)
        assert layer.num_batches_tracked == 4


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("ddof", [0, 1])
def test_recalibrated_network_is_that_of_one_batch(ddof, fuse):
    x = images(60)
    net, one = deep(ddof, fuse=fuse), deep(ddof)
    net.eval()
    fnn.recalibrate(net, [(part, None) for part in cut(x, [20, 13, 27])])
    fnn.recalibrate(one, [x])
    for layer, whole in zip(norms(net), norms(one), strict=True):
        np.testing.assert_allclose(layer.running_mean, whole.running_mean, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(layer.running_var, whole.running_var, rtol=1e-10)
    assert not any(module.training for module in net.modules())
    if ddof == 0:  # what training does with one batch, dropout aside
        one[4].p = 0.0
        np.testing.assert_allclose(net.predict(x), one.forward(x)[0], rtol=1e-9, atol=1e-11)

    # Layer by layer, by hand: each sees what the layers before give in inference.
    first, second, third = norms(net)
    np.testing.assert_allclose(first.running_var, x.var((0, 2, 3)) * 960 / (960 - ddof), rtol=1e-12)
    z = net[3][0].predict(net[2].predict(net[1].predict(net[0].predict(x))))
    np.testing.assert_allclose(second.running_mean, z.mean(0), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(second.running_var, z.var(0, ddof=ddof), rtol=1e-10)
    z = net[5].predict(layers.GELU().predict(second.predict(z)))
    np.testing.assert_allclose(third.running_mean, z.mean(0), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(third.running_var, z.var(0, ddof=ddof), rtol=1e-10)


def test_recalibration_changes_nothing_else():
    net = deep(dtype=np.float32)
    x = images(30, np.float32)
    net(x)
    before = net.state_dict()
    fnn.recalibrate(net, cut(x, [10, 20]))
    after = net.state_dict()
    assert after["0.running_mean"].dtype == np.float32
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in before if "running" in name}
    net.backward(np.ones((30, 7), np.float32))  # the open pass is still there
    fnn.recalibrate(Sequential(Linear(3, 3)), [])


def test_one_pass_normalises_by_each_batch():
    x = images(60)
    parts = cut(x, [20, 40])
    net = deep(0)
    fnn.recalibrate(net, iter(parts), exact=False)
    first, second, _ = norms(net)
    np.testing.assert_allclose(first.running_mean, x.mean((0, 2, 3)), rtol=1e-12)
    z = []
    for part in parts:
        centred = part - part.mean((0, 2, 3), keepdims=True)
        y = np.maximum(centred / np.sqrt(part.var((0, 2, 3), keepdims=True) + 1e-5), 0)
        z.append(net[3][0].predict(y.reshape(len(part), -1)))
    np.testing.assert_allclose(second.running_mean, np.concatenate(z).mean(0), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(second.running_var, np.concatenate(z).var(0), rtol=1e-9)
    fnn.recalibrate(net, [x], exact=False)
    exact = deep(0)
    fnn.recalibrate(exact, [x])
    np.testing.assert_allclose(norms(net)[2].running_var, norms(exact)[2].running_var, rtol=1e-9)


def test_frozen_layers_are_not_recalibrated():
    net = deep()
    net[0].freeze()
    fnn.recalibrate(net, [images(20)])
    assert not net[0].running_mean.any()
    assert net[6].running_mean.any()


def test_recalibration_names_what_is_wrong():
    net, x = deep(), images(20)
    before = net.state_dict()
    batches = cut(x, [10, 10])
    with pytest.raises(ValueError, match=r"batches: expected to be iterated 3 times.*got generator.*list"):
        fnn.recalibrate(net, (part for part in batches))

    class Once:
        def __init__(self):
            self.parts = iter(batches)

        def __iter__(self):
            return (part for part in self.parts)

    class Growing(list):
        def __iter__(self):
            self.append(x)
            return super().__iter__()

    with pytest.raises(ValueError, match="batches: expected at least one sample in every pass, got none"):
        fnn.recalibrate(net, Once())
    with pytest.raises(ValueError, match="batches: expected the same data in every pass, got 60 samples after 40"):
        fnn.recalibrate(net, Growing([x]))
    with pytest.raises(ValueError, match="batches: expected at least one sample"):
        fnn.recalibrate(net, [])
    with pytest.raises(ValueError, match="batches: expected at least two values per channel"):
        fnn.recalibrate(Sequential(Linear(2, 3, dtype=np.float64), BatchNorm1d(3, dtype=np.float64)), [random(1, 2)])
    x[3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        fnn.recalibrate(net, batches)
    after = net.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert all(layer._observer is None for layer in norms(net))


def test_recalibration_runs_on_the_reference():
    x = images(30)
    nets = deep(), deep()
    fnn.recalibrate(nets[0], [x])
    with fnn.use_reference():
        fnn.recalibrate(nets[1], [x])
    for layer, want in zip(norms(nets[0]), norms(nets[1]), strict=True):
        np.testing.assert_allclose(layer.running_var, want.running_var, rtol=1e-10)


# ------------------------------------------------------------------------------------------ Monte-Carlo dropout


def stochastic(fuse=True):
    net = Sequential(
        Linear(6, 16, rng=fnn.Generator(1)), BatchNorm1d(16), ReLU(), Dropout(0.3, rng=fnn.Generator(2)),
        Linear(16, 8, rng=fnn.Generator(3)), layers.GELU(), Dropout(0.2, rng=fnn.Generator(2)),
        Linear(8, 3, rng=fnn.Generator(4)), fuse=fuse,
    )  # fmt: skip
    net.forward(1 + random(20, 6, dtype=np.float32))
    return net


@pytest.mark.parametrize("fuse", [True, False])
def test_monte_carlo_is_a_loop_over_masks(fuse):
    net, loop = stochastic(fuse), stochastic()
    x = random(7, 6, dtype=np.float32)
    net.eval()
    mean, std = net.mc_predict(x, 50)
    loop[1].freeze()
    outputs = np.array([loop.forward(x)[0] for _ in range(50)], np.float64)
    np.testing.assert_allclose(mean, outputs.mean(0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(std, outputs.std(0), rtol=1e-5, atol=1e-7)
    assert mean.dtype == std.dtype == np.float32
    assert (std > 0).any()
    assert not any(module.training for module in net.modules())
    assert not net[1].frozen


def test_monte_carlo_changes_nothing_but_positions_and_repeats():
    net = stochastic()
    net[1].eval()
    x = random(7, 6, dtype=np.float32)
    before = net.state_dict()
    first = net.mc_predict(x)
    after = net.state_dict()
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {"3.rng", "6.rng"}
    assert after["3.rng"][1] == before["3.rng"][1] + 100
    assert [module.training for module in net] == [True, False, True, True, True, True, True, True]
    net.load_state_dict(before)
    for a, b in zip(first, net.mc_predict(x, samples=100), strict=True):
        assert a.tobytes() == b.tobytes()


def test_monte_carlo_without_dropout_is_sure():
    net = deep()
    x = images(9)
    net.forward(x)
    net[4].p = 0.0
    for module in (net, Linear(48, 5, dtype=np.float64)):
        given = x if module is net else x.reshape(9, 48)
        mean, std = module.mc_predict(given, 7)
        assert not std.any()
        assert mean.tobytes() == module.predict(given).tobytes()


def test_monte_carlo_keeps_frozen_layers_and_open_passes():
    net = stochastic()
    net[1].freeze()
    x = random(7, 6, dtype=np.float32)
    y = net(x)
    _, std = net.mc_predict(x, samples=1)
    assert not std.any()
    assert net[1].frozen
    net.backward(y)


@pytest.mark.parametrize(("samples", "error"), [(0, ValueError), (1.5, TypeError)])
def test_monte_carlo_needs_samples(samples, error):
    net = stochastic()
    with pytest.raises(error, match="samples: expected"):
        net.mc_predict(random(7, 6, dtype=np.float32), samples)
    with pytest.raises(ValueError, match="x: expected shape"):
        net.mc_predict(random(7, 5, dtype=np.float32))
    assert not net[1].frozen
