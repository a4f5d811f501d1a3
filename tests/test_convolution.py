"""Convolution and pooling: layers, special values, torch's answers, and networks that learn with every activation."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
import fastnn.functional as F
from fastnn import layers, reference
from fastnn.functional.activations import ACTIVATIONS
from fastnn.layers.activation import CLASSES

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
AXES = pytest.mark.parametrize("axis", [1, -1], ids=["nchw", "nhwc"])
NAN, INF = np.nan, np.inf


def random(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def laid_out(x: Any, axis: int) -> Any:
    """(N, C, H, W) with its channels along `axis`."""
    return np.ascontiguousarray(np.moveaxis(x, 1, axis))


# ---------------------------------------------------------------------------------------------------- functions


@AXES
@DTYPES
def test_nan_is_the_largest_and_the_first_of_equals_wins(axis: int, dtype: Any) -> None:
    x = np.array([[1, 2, NAN, 5], [2, 2, NAN, 3], [-INF, -INF, 7, 7], [-INF, -INF, 7, 7]], dtype)[None, None]
    y, saved = F.max_pool2d(laid_out(x, axis), 2, channel_axis=axis)
    assert np.array_equal(y.ravel(), np.array([2, NAN, -INF, 7], dtype), equal_nan=True)
    dx = F.max_pool2d_backward(np.array([1, 2, 3, 4], dtype).reshape(y.shape), saved)
    assert np.moveaxis(dx, axis, 1)[0, 0].tolist() == [[0, 1, 0, 0], [0, 0, 2, 0], [3, 0, 4, 0], [0, 0, 0, 0]]


@AXES
@pytest.mark.parametrize("value", [-INF, NAN, 1.0])
@pytest.mark.parametrize("kernel", [3, (5, 4), (17, 16)], ids=str)
def test_gradients_of_maxima_never_go_to_the_padding(axis: int, value: float, kernel: Any) -> None:
    x = np.full((2, 3, 9, 7), value)
    padding = tuple(size // 2 for size in (kernel if isinstance(kernel, tuple) else (kernel, kernel)))
    y, saved = F.max_pool2d(laid_out(x, axis), kernel, 1, padding, channel_axis=axis)
    want, kept = reference.max_pool2d(laid_out(x, axis), kernel, 1, padding, channel_axis=axis)
    assert np.array_equal(y, want, equal_nan=True)
    dy = random(*y.shape, dtype=np.float64)
    dx = F.max_pool2d_backward(dy, saved)
    np.testing.assert_allclose(dx, reference.max_pool2d_backward(dy, kept), rtol=1e-12, atol=1e-12)
    assert dx.sum() == pytest.approx(dy.sum())


def test_max_pool_keeps_a_byte_for_each_output() -> None:
    x = random(4, 8, 32, 32)
    y, saved = F.max_pool2d(x, 2)
    assert saved.nbytes == y.size
    y, saved = F.max_pool2d(x, 17, 1)
    assert saved.nbytes == 2 * y.size
    for n in (1, 64):  # the second comes from the cache of large arrays
        y, saved = F.max_pool2d(np.ones((n, 8, 32, 32), np.float32), 2)
        assert F.max_pool2d_backward(y, saved).sum() == y.size


def test_infinities_and_nan_stay_in_their_windows() -> None:
    x = np.zeros((1, 1, 4, 6), np.float32)
    x[0, 0, 0, 0], x[0, 0, 3, 5] = NAN, INF
    y = F.avg_pool2d(x, 2)
    assert np.isnan(y[0, 0, 0, 0]) and y[0, 0, 1, 2] == INF and (y.ravel()[1:-1] == 0).all()
    means = F.global_avg_pool2d(np.concatenate([x, np.ones_like(x)]))
    assert np.isnan(means[0, 0]) and means[1, 0] == 1


CONVOLUTIONS = [
    {"stride": 1, "padding": 1, "dilation": 1},
    {"stride": (2, 1), "padding": (0, 2), "dilation": 1},
    {"stride": 3, "padding": 2, "dilation": (1, 2)},
]


@AXES
@pytest.mark.parametrize("steps", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("kernel", [(3, 3), (1, 1), (2, 3)], ids=str)
def test_convolution_is_that_of_torch(axis: int, steps: dict[str, Any], kernel: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    x, weight, bias = (random(*shape, dtype=np.float64) for shape in ((3, 4, 9, 8), (5, 4, *kernel), (5,)))
    tensors = [torch.tensor(array, requires_grad=True) for array in (x, weight, bias)]
    want = torch.nn.functional.conv2d(*tensors, **steps)
    dy = random(*want.shape, seed=1, dtype=np.float64)
    want.backward(torch.from_numpy(dy))
    y, saved = F.conv2d(laid_out(x, axis), weight, bias, **steps, channel_axis=axis)
    np.testing.assert_allclose(np.moveaxis(y, axis, 1), want.detach().numpy(), rtol=1e-12, atol=1e-12)
    dx, dweight, dbias = F.conv2d_backward(laid_out(dy, axis), saved)
    got = np.moveaxis(dx, axis, 1), dweight, dbias
    for gradient, tensor in zip(got, tensors, strict=True):
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-11, atol=1e-12)
    assert F.conv2d_backward(laid_out(dy, axis), saved, need_dx=False)[0] is None


@AXES
@pytest.mark.parametrize("pool", [(2, None, 0), (3, 2, 1), ((3, 2), (1, 3), (1, 0))], ids=str)
def test_pooling_is_that_of_torch(axis: int, pool: tuple[Any, ...]) -> None:
    torch = pytest.importorskip("torch")
    x = random(3, 4, 9, 8, dtype=np.float64)
    x[0, 1, 4, 5], x[1, 2, 3] = NAN, -INF
    functional = torch.nn.functional
    for inside in (None, True, False):
        tensor = torch.tensor(x, requires_grad=True)
        if inside is None:
            want = functional.max_pool2d(tensor, *pool)
            y, saved = F.max_pool2d(laid_out(x, axis), *pool, channel_axis=axis)
        else:
            options = {"count_include_pad": inside}
            want = functional.avg_pool2d(tensor, *pool, **options)
            y = F.avg_pool2d(laid_out(x, axis), *pool, **options, channel_axis=axis)
        np.testing.assert_allclose(np.moveaxis(y, axis, 1), want.detach().numpy(), rtol=1e-12, atol=1e-12)
        dy = random(*want.shape, seed=1, dtype=np.float64)
        want.backward(torch.from_numpy(dy))
        dy = laid_out(dy, axis)
        if inside is None:
            dx = F.max_pool2d_backward(dy, saved)
        else:
            dx = F.avg_pool2d_backward(dy, x.shape[2:], *pool, **options, channel_axis=axis)
        np.testing.assert_allclose(np.moveaxis(dx, axis, 1), tensor.grad.numpy(), rtol=1e-12, atol=1e-12)


def test_columns_are_a_chunk_of_samples_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastnn.functional import convolution

    x, weight = random(7, 3, 6, 5, dtype=np.float64), random(4, 3, 3, 3, dtype=np.float64)
    y, saved = F.conv2d(x, weight, padding=1)
    gradients = F.conv2d_backward(y, saved)
    for samples in (1, 3):
        monkeypatch.setattr(convolution, "COLUMN_BYTES", samples * 27 * 30 * 8)
        again, saved = F.conv2d(x, weight, padding=1)
        np.testing.assert_allclose(again, y, rtol=1e-12, atol=1e-12)
        for a, b in zip(F.conv2d_backward(y, saved)[:2], gradients, strict=False):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-10)
    assert saved.nbytes == x.nbytes


IMAGES = random(2, 3, 6, 5)
WEIGHT = random(4, 3, 3, 3)

# call, exception, argument that the message starts with
BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: F.im2col(IMAGES.astype(int), 3), TypeError, "x"),
    (lambda: F.im2col(IMAGES, 3.0), TypeError, "kernel_size"),
    (lambda: F.im2col(IMAGES, (3, None)), TypeError, "kernel_size"),
    (lambda: F.im2col(IMAGES, (3, 3, 3)), ValueError, "kernel_size"),
    (lambda: F.im2col(IMAGES, 0), ValueError, "kernel_size"),
    (lambda: F.im2col(IMAGES, 3, 0), ValueError, "stride"),
    (lambda: F.im2col(IMAGES, 3, 1, -1), ValueError, "padding"),
    (lambda: F.im2col(IMAGES, 3, 1, 0, 0), ValueError, "dilation"),
    (lambda: F.im2col(IMAGES, 1 << 40), ValueError, "kernel_size"),
    (lambda: F.im2col(IMAGES, (6, 6)), ValueError, "x"),
    (lambda: F.im2col(IMAGES, 3, dilation=3), ValueError, "x"),
    (lambda: F.im2col(IMAGES[0], 3), ValueError, "x"),
    (lambda: F.im2col(IMAGES[:, :, :0], 1), ValueError, "x"),
    (lambda: F.im2col(IMAGES, 3, channel_axis=2), ValueError, "channel_axis"),
    (lambda: F.im2col(IMAGES, 3, out=np.empty((27, 23), np.float32)), ValueError, "out"),
    (lambda: F.im2col(IMAGES, 1, out=IMAGES.reshape(3, 60)), ValueError, "out"),
    (lambda: F.col2im(IMAGES, (6, 5), 3), ValueError, "columns"),
    (lambda: F.col2im(np.ones((27, 23)), (6, 5), 3), ValueError, "columns"),
    (lambda: F.col2im(np.ones((28, 24)), (6, 5), 3), ValueError, "columns"),
    (lambda: F.col2im(np.ones((27, 24)), (2, 5), 3), ValueError, "input_size"),
    (lambda: F.max_pool2d(IMAGES, 3, padding=2), ValueError, "padding"),
    (lambda: F.max_pool2d(IMAGES, 7), ValueError, "x"),
    (lambda: F.max_pool2d(IMAGES, 2, 0), ValueError, "stride"),
    (lambda: F.max_pool2d(np.ones((1, 1, 300, 300)), 300), ValueError, "kernel_size"),
    (lambda: F.max_pool2d(IMAGES, 2, out=np.empty((2, 3, 3, 2))), TypeError, "out"),
    (lambda: F.max_pool2d_backward(IMAGES, F.max_pool2d(IMAGES, 2)[1]), ValueError, "dy"),
    (lambda: F.max_pool2d_backward(np.ones((2, 3, 3, 2)), F.max_pool2d(IMAGES, 2)[1]), TypeError, "dy"),
    (lambda: F.max_pool2d_backward(IMAGES, F.dropout(IMAGES)[1]), TypeError, "saved"),
    (lambda: F.avg_pool2d(IMAGES, 2, padding=(0, 2)), ValueError, "padding"),
    (lambda: F.avg_pool2d_backward(IMAGES, (6, 5), 2), ValueError, "dy"),
    (lambda: F.avg_pool2d_backward(IMAGES, 6, 7), ValueError, "input_size"),
    (lambda: F.global_avg_pool2d(IMAGES[0]), ValueError, "x"),
    (lambda: F.global_avg_pool2d(IMAGES[..., :0]), ValueError, "x"),
    (lambda: F.global_avg_pool2d_backward(IMAGES, 3), ValueError, "dy"),
    (lambda: F.global_avg_pool2d_backward(np.ones((2, 3)), (0, 3)), ValueError, "input_size"),
    (lambda: F.conv2d(IMAGES.tolist(), WEIGHT), TypeError, "x"),
    (lambda: F.conv2d(IMAGES.astype(int), WEIGHT), TypeError, "x"),
    (lambda: F.conv2d(IMAGES, WEIGHT.astype(float)), TypeError, "weight"),
    (lambda: F.conv2d(IMAGES, WEIGHT[:, :2]), ValueError, "weight"),
    (lambda: F.conv2d(IMAGES, WEIGHT[0]), ValueError, "weight"),
    (lambda: F.conv2d(IMAGES[0], WEIGHT), ValueError, "x"),
    (lambda: F.conv2d(IMAGES[:, :, :2], WEIGHT), ValueError, "x"),
    (lambda: F.conv2d(IMAGES, WEIGHT, WEIGHT[0, 0, 0]), ValueError, "bias"),
    (lambda: F.conv2d(IMAGES, WEIGHT, stride=0), ValueError, "stride"),
    (lambda: F.conv2d(IMAGES, WEIGHT, padding=(1, 1, 1)), ValueError, "padding"),
    (lambda: F.conv2d(IMAGES, WEIGHT, dilation=1.5), TypeError, "dilation"),
    (lambda: F.conv2d(IMAGES, WEIGHT, channel_axis=0), ValueError, "channel_axis"),
    (lambda: F.conv2d(IMAGES, WEIGHT, out=np.empty((2, 4, 4, 3))), TypeError, "out"),
    (lambda: F.conv2d(IMAGES, WEIGHT, out=np.empty((2, 4, 4, 4), np.float32)), ValueError, "out"),
    (lambda: F.conv2d(IMAGES, WEIGHT[:3, :, :1, :1], out=IMAGES), ValueError, "out"),
    (lambda: F.conv2d_backward(IMAGES, F.conv2d(IMAGES, WEIGHT)[1]), ValueError, "dy"),
    (lambda: F.conv2d_backward(IMAGES, F.max_pool2d(IMAGES, 2)[1]), TypeError, "saved"),
    (lambda: layers.Conv2d(0, 3, 3), ValueError, "in_channels"),
    (lambda: layers.Conv2d(3, 3.0, 3), TypeError, "out_channels"),
    (lambda: layers.Conv2d(3, 3, 3, stride=0), ValueError, "stride"),
    (lambda: layers.Conv2d(3, 3, 3, padding=(0, -1)), ValueError, "padding"),
    (lambda: layers.Conv2d(3, 3, 3, dilation=1.5), TypeError, "dilation"),
    (lambda: layers.Conv2d(3, 3, 3, channel_axis=2), ValueError, "channel_axis"),
    *(
        entry
        for pool in (layers.MaxPool2d, layers.AvgPool2d)
        for entry in (
            (lambda pool=pool: pool(0), ValueError, "kernel_size"),
            (lambda pool=pool: pool(2.0), TypeError, "kernel_size"),
            (lambda pool=pool: pool((2, 2, 2)), ValueError, "kernel_size"),
            (lambda pool=pool: pool(2, 0), ValueError, "stride"),
            (lambda pool=pool: pool(2, padding=-1), ValueError, "padding"),
            (lambda pool=pool: pool((2, 1), padding=1), ValueError, "padding"),
            (lambda pool=pool: pool(2, channel_axis=0), ValueError, "channel_axis"),
        )
    ),
    (lambda: layers.GlobalAvgPool2d(channel_axis=0), ValueError, "channel_axis"),
    (lambda: layers.Conv2d(3, 3, (3, 0)), ValueError, "kernel_size"),
    (lambda: layers.Conv2d(3, 3, 3, dtype=int), TypeError, "dtype"),
    (lambda: layers.Conv2d(4, 3, 3)(IMAGES), ValueError, "x"),
    (lambda: layers.Conv2d(3, 3, 3)(IMAGES.astype(float)), TypeError, "x"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_input(number: int) -> None:
    call, exception, name = BAD[number]
    before = IMAGES.copy()
    with pytest.raises(exception) as caught:
        call()
    assert str(caught.value).startswith(f"{name}: expected"), caught.value
    assert np.array_equal(IMAGES, before)


# ------------------------------------------------------------------------------------------------------- layers


@AXES
def test_layers_are_the_functions(axis: int) -> None:
    x = laid_out(random(4, 3, 8, 6), axis)
    options = {"channel_axis": axis}
    conv = layers.Conv2d(3, 5, 3, padding=1, **options)
    y, saved = conv.forward(x)
    want, kept = F.conv2d(x, conv.weight.data, conv.bias.data, padding=1, **options)
    np.testing.assert_array_equal(y, want)
    dx, dweight, dbias = F.conv2d_backward(want, kept)
    np.testing.assert_array_equal(conv.backward(y, saved), dx)
    np.testing.assert_array_equal(conv.weight.grad, dweight)
    np.testing.assert_array_equal(conv.bias.grad, dbias)
    conv.backward(y, saved, accumulate=True, need_dx=False)
    np.testing.assert_array_equal(conv.weight.grad, dweight + dweight)

    y, saved = layers.MaxPool2d(3, 2, 1, **options).forward(x)
    np.testing.assert_array_equal(y, F.max_pool2d(x, 3, 2, 1, **options)[0])
    y, saved = (layer := layers.AvgPool2d(3, 2, 1, count_include_pad=False, **options)).forward(x)
    np.testing.assert_array_equal(y, F.avg_pool2d(x, 3, 2, 1, count_include_pad=False, **options))
    assert layer.backward(y, saved).shape == x.shape
    y, saved = (layer := layers.GlobalAvgPool2d(**options)).forward(x)
    np.testing.assert_array_equal(y, F.global_avg_pool2d(x, **options))
    assert layer.backward(y, saved).shape == x.shape
    for pool in (layers.MaxPool2d(2, **options), layers.AvgPool2d(2, **options)):
        y = pool(x)
        assert pool.backward(y).shape == x.shape
        assert repr(pool).startswith(f"{type(pool).__name__}(2, 2")


def test_initial_values_are_those_of_torch() -> None:
    conv = layers.Conv2d(16, 300, (3, 5), rng=fnn.Generator(5))
    bound = 1 / np.sqrt(16 * 3 * 5)
    for values in (conv.weight.data, conv.bias.data):
        assert 0.95 * bound < np.abs(values).max() <= bound
        assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.15)
    assert conv.weight.data.shape == (300, 16, 3, 5)
    assert repr(conv) == "Conv2d(16, 300, (3, 5))"


def convnet(axis: int, activation: Any, *, fuse: bool = True, norm: bool = True, dtype: Any = np.float32) -> Any:
    rng, options = fnn.Generator(4), {"channel_axis": axis, "dtype": dtype}
    norms = [[layers.BatchNorm2d(channels, **options)] * norm for channels in (4, 6)]
    return layers.Sequential(
        layers.Conv2d(2, 4, 3, padding=1, rng=rng, **options),
        *norms[0],
        activation(),
        layers.MaxPool2d(2, channel_axis=axis),
        layers.Conv2d(4, 6, 2, stride=2, bias=norm, rng=rng, **options),
        *norms[1],
        activation(),
        layers.Dropout(0.2, rng=rng),
        layers.GlobalAvgPool2d(channel_axis=axis),
        layers.Linear(6, 3, rng=rng, dtype=dtype),
        fuse=fuse,
    )


@AXES
@pytest.mark.parametrize("norm", [True, False])
def test_convolutions_run_fused_with_the_bits_of_their_layers(axis: int, norm: bool) -> None:
    x, dy = laid_out(random(5, 2, 8, 8), axis), random(5, 3, seed=1)
    fused, plain = (convnet(axis, layers.ReLU, fuse=fuse, norm=norm) for fuse in (True, False))
    for _ in range(2):
        assert fused(x).tobytes() == plain(x).tobytes()
        assert fused.backward(dy).tobytes() == plain.backward(dy).tobytes()
        for p, q in zip(fused.parameters(), plain.parameters(), strict=True):
            assert p.grad.tobytes() == q.grad.tobytes(), p.name
    assert fused.predict(x).tobytes() == plain.predict(x).tobytes()
    runs = [row.runs_as for row in fused.summary(x).rows if row.runs_as not in ("", "|")]
    assert runs == (
        ["conv2d, batch_norm(pre_bias, relu)", "conv2d, batch_norm(pre_bias, relu, dropout)"]
        if norm
        else ["conv2d, bias_act(bias, relu)", "conv2d, bias_act(relu, dropout)"]
    )


def test_norm_along_another_axis_than_the_convolution() -> None:
    x, dy = random(4, 3, 6, 6), random(4, 5, 6, 6, seed=1)
    nets = [
        layers.Sequential(
            layers.Conv2d(3, 5, 3, padding=1, rng=fnn.Generator(1)), layers.BatchNorm2d(6, channel_axis=-1), fuse=fuse
        )
        for fuse in (True, False)
    ]
    assert nets[0](x).tobytes() == nets[1](x).tobytes()
    assert nets[0].backward(dy).tobytes() == nets[1].backward(dy).tobytes()
    assert nets[0][0].bias.grad.tobytes() == nets[1][0].bias.grad.tobytes()


@AXES
def test_networks_run_on_the_reference(axis: int) -> None:
    x, dy = laid_out(random(5, 2, 8, 8, dtype=np.float64), axis), random(5, 3, seed=1, dtype=np.float64)
    net = convnet(axis, layers.Tanh, dtype=np.float64)
    state = net.state_dict()
    y, dx = net(x), net.backward(dy)
    net.load_state_dict(state)
    with fnn.use_reference():
        np.testing.assert_allclose(net(x), y, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(net.backward(dy), dx, rtol=1e-9, atol=1e-11)


def test_a_convolution_keeps_its_input_only() -> None:
    x = random(8, 3, 16, 16)
    net = layers.Sequential(layers.Conv2d(3, 8, 3, padding=1), layers.BatchNorm2d(8), layers.ReLU())
    small = net.summary(x).nbytes - x.nbytes - 8 * 8 * 16 * 16 * 4
    assert 0 <= small <= 8 * (2 * 8 + 3 * 4)


# ------------------------------------------------------------------------------------------------------ training


def fit(net: Any, x: Any, labels: Any, steps: int) -> list[float]:
    loss_fn, losses = fnn.CrossEntropyLoss(), []
    opt = fnn.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(steps):
        losses.append(loss_fn(net(x), labels))
        net.backward(loss_fn.backward(), need_dx=False)
        opt.step()
    return losses


def learns(losses: list[float]) -> bool:
    return bool(np.isfinite(losses).all()) and np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_networks_learn_with_every_activation(name: str) -> None:
    labels = np.arange(24) % 3
    images = random(24, 2, 8, 8) + labels[:, None, None, None].astype(np.float32)
    activation = CLASSES[ACTIVATIONS[name].layer]
    mlp = layers.Sequential(
        layers.Linear(128, 16, rng=fnn.Generator(1)), activation(), layers.Linear(16, 3, rng=fnn.Generator(2))
    )
    losses = fit(mlp, images.reshape(24, -1), labels, 20)
    assert learns(losses), losses
    losses = fit(convnet(1, activation), images, labels, 20)
    assert learns(losses), losses


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_the_example_learns_digits(layout: str) -> None:
    path = Path(__file__).parents[1] / "examples" / "digits_conv.py"
    spec = importlib.util.spec_from_file_location("digits_conv", path)
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    _, run, _ = example.train(layout, epochs=2, progress=False)
    assert run.history["val_accuracy"][-1] > 0.9
