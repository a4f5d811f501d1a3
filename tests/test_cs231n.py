"""The course's functions: the values that its notebooks print, its formulas in NumPy, and a loop in its style."""

import numpy as np
import pytest

from fastnn.compat import cs231n as c
from fastnn.data import load_digits


def line(low, high, *shape):
    return np.linspace(low, high, num=np.prod(shape)).reshape(shape)


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def close(got, expected, rtol=1e-10, atol=1e-12):
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)


def numeric(f, x, dout, h=1e-5):
    """The course's eval_numerical_gradient_array."""
    x, grad = x.copy(), np.zeros_like(x)
    for index in np.ndindex(x.shape):
        old = x[index]
        x[index] = old + h
        high = f(x)
        x[index] = old - h
        grad[index] = ((high - f(x)) * dout).sum() / (2 * h)
        x[index] = old
    return grad


# ------------------------------------------------------------------------------------------------ the notebooks' values


def test_affine_forward_gives_the_published_values():
    out, _ = c.affine_forward(line(-0.1, 0.5, 2, 4, 5, 6), line(-0.2, 0.3, 120, 3), line(-0.3, 0.1, 3))
    close(out, [[1.49834967, 1.70660132, 1.91485297], [3.25553199, 3.5141327, 3.77273342]], rtol=1e-8)


def test_relu_forward_gives_the_published_values():
    out, _ = c.relu_forward(line(-0.5, 0.5, 3, 4))
    expected = [[0, 0, 0, 0], [0, 0, 0.04545455, 0.13636364], [0.22727273, 0.31818182, 0.40909091, 0.5]]
    close(out, expected, atol=1e-8)


def test_losses_start_where_the_notebook_says():
    x, y = 0.001 * random(50, 10), np.random.default_rng(1).integers(10, size=50)
    assert c.svm_loss(x, y)[0] == pytest.approx(9, abs=0.01)
    assert c.softmax_loss(x, y)[0] == pytest.approx(2.3, abs=0.01)


def test_conv_forward_gives_the_published_values():
    x, w, b = line(-0.1, 0.5, 2, 3, 4, 4), line(-0.2, 0.3, 3, 3, 4, 4), line(-0.1, 0.2, 3)
    out, _ = c.conv_forward_naive(x, w, b, {"stride": 2, "pad": 1})
    expected = [
        [
            [[-0.08759809, -0.10987781], [-0.18387192, -0.2109216]],
            [[0.21027089, 0.21661097], [0.22847626, 0.23004637]],
            [[0.50813986, 0.54309974], [0.64082444, 0.67101435]],
        ],
        [
            [[-0.98053589, -1.03143541], [-1.19128892, -1.24695841]],
            [[0.69108355, 0.66880383], [0.59480972, 0.56776003]],
            [[2.36270298, 2.36904306], [2.38090835, 2.38247847]],
        ],
    ]
    close(out, expected, rtol=1e-7)


def test_max_pool_forward_gives_the_published_values():
    out, _ = c.max_pool_forward_naive(line(-0.3, 0.4, 2, 3, 4, 4), {"pool_width": 2, "pool_height": 2, "stride": 2})
    expected = [
        [
            [[-0.26315789, -0.24842105], [-0.20421053, -0.18947368]],
            [[-0.14526316, -0.13052632], [-0.08631579, -0.07157895]],
            [[-0.02736842, -0.01263158], [0.03157895, 0.04631579]],
        ],
        [
            [[0.09052632, 0.10526316], [0.14947368, 0.16421053]],
            [[0.20842105, 0.22315789], [0.26736842, 0.28210526]],
            [[0.32631579, 0.34105263], [0.38526316, 0.4]],
        ],
    ]
    close(out, expected, rtol=1e-6)


def test_sgd_momentum_gives_the_published_values():
    config = {"learning_rate": 1e-3, "velocity": line(0.6, 0.9, 4, 5)}
    w = line(-0.4, 0.6, 4, 5)
    next_w, _ = c.sgd_momentum(w, line(-0.6, 0.4, 4, 5), config=config)
    expected_w = [
        [0.1406, 0.20738947, 0.27417895, 0.34096842, 0.40775789],
        [0.47454737, 0.54133684, 0.60812632, 0.67491579, 0.74170526],
        [0.80849474, 0.87528421, 0.94207368, 1.00886316, 1.07565263],
        [1.14244211, 1.20923158, 1.27602105, 1.34281053, 1.4096],
    ]
    expected_velocity = [
        [0.5406, 0.55475789, 0.56891579, 0.58307368, 0.59723158],
        [0.61138947, 0.62554737, 0.63970526, 0.65386316, 0.66802105],
        [0.68217895, 0.69633684, 0.71049474, 0.72465263, 0.73881053],
        [0.75296842, 0.76712632, 0.78128421, 0.79544211, 0.8096],
    ]
    close(next_w, expected_w, rtol=1e-7)
    close(config["velocity"], expected_velocity, rtol=1e-7)
    np.testing.assert_array_equal(w, line(-0.4, 0.6, 4, 5))


def test_rmsprop_gives_the_published_values():
    config = {"learning_rate": 1e-2, "cache": line(0.6, 0.9, 4, 5)}
    next_w, _ = c.rmsprop(line(-0.4, 0.6, 4, 5), line(-0.6, 0.4, 4, 5), config=config)
    expected_w = [
        [-0.39223849, -0.34037513, -0.28849239, -0.23659121, -0.18467247],
        [-0.132737, -0.08078555, -0.02881884, 0.02316247, 0.07515774],
        [0.12716641, 0.17918792, 0.23122175, 0.28326742, 0.33532447],
        [0.38739248, 0.43947102, 0.49155973, 0.54365823, 0.59576619],
    ]
    expected_cache = [
        [0.5976, 0.6126277, 0.6277108, 0.64284931, 0.65804321],
        [0.67329252, 0.68859723, 0.70395734, 0.71937285, 0.73484377],
        [0.75037008, 0.7659518, 0.78158892, 0.79728144, 0.81302936],
        [0.82883269, 0.84469141, 0.86060554, 0.87657507, 0.8926],
    ]
    close(next_w, expected_w, rtol=2e-7)
    close(config["cache"], expected_cache, rtol=1e-7)


def test_adam_gives_the_published_values():
    config = {"learning_rate": 1e-2, "m": line(0.6, 0.9, 4, 5), "v": line(0.7, 0.5, 4, 5), "t": 5}
    next_w, _ = c.adam(line(-0.4, 0.6, 4, 5), line(-0.6, 0.4, 4, 5), config=config)
    expected_w = [
        [-0.40094747, -0.34836187, -0.29577703, -0.24319299, -0.19060977],
        [-0.1380274, -0.08544591, -0.03286534, 0.01971428, 0.0722929],
        [0.1248705, 0.17744702, 0.23002243, 0.28259667, 0.33516969],
        [0.38774145, 0.44031188, 0.49288093, 0.54544852, 0.59801459],
    ]
    expected_v = [
        [0.69966, 0.68908382, 0.67851319, 0.66794809, 0.65738853],
        [0.64683452, 0.63628604, 0.6257431, 0.61520571, 0.60467385],
        [0.59414753, 0.58362676, 0.57311152, 0.56260183, 0.55209767],
        [0.54159906, 0.53110598, 0.52061845, 0.51013645, 0.49966],
    ]
    expected_m = [
        [0.48, 0.49947368, 0.51894737, 0.53842105, 0.55789474],
        [0.57736842, 0.59684211, 0.61631579, 0.63578947, 0.65526316],
        [0.67473684, 0.69421053, 0.71368421, 0.73315789, 0.75263158],
        [0.77210526, 0.79157895, 0.81105263, 0.83052632, 0.85],
    ]
    close(next_w, expected_w, rtol=5e-7)
    close(config["v"], expected_v, rtol=1e-7)
    close(config["m"], expected_m, rtol=1e-7)
    assert config["t"] == 6


@pytest.mark.parametrize("p", [0.25, 0.4, 0.7])
def test_dropout_has_the_published_statistics(p):
    x = random(500, 500) + 10
    out, _ = c.dropout_forward(x, {"mode": "train", "p": p})
    assert out.mean() == pytest.approx(10, abs=0.1)
    assert (out == 0).mean() == pytest.approx(1 - p, abs=0.005)
    out_test, _ = c.dropout_forward(x, {"mode": "test", "p": p})
    np.testing.assert_array_equal(out_test, x)


def test_norms_have_the_published_statistics():
    a = np.maximum(0, random(200, 50) @ random(50, 60, seed=1)) @ random(60, 3, seed=2)
    gamma, beta = np.array([1.0, 2.0, 3.0]), np.array([11.0, 12.0, 13.0])
    out, _ = c.batchnorm_forward(a, gamma, beta, {"mode": "train"})
    close(out.mean(axis=0), beta, rtol=1e-9)
    close(out.std(axis=0), gamma, rtol=1e-6)
    rows = np.ascontiguousarray(a.T)
    out, _ = c.layernorm_forward(rows, np.full(200, 3.0), np.full(200, 5.0), {})
    close(out.mean(axis=1), np.full(3, 5.0), rtol=1e-9)
    close(out.std(axis=1), np.full(3, 3.0), rtol=1e-6)
    images = 4 * random(2, 6, 4, 5) + 10
    out, _ = c.spatial_groupnorm_forward(images, np.ones((1, 6, 1, 1)), np.zeros((1, 6, 1, 1)), 2, {})
    groups = out.reshape(4, -1)
    close(groups.mean(axis=1), np.zeros(4), atol=1e-12)
    close(groups.std(axis=1), np.ones(4), rtol=1e-6)


# ------------------------------------------------------------------------------------------------- formulas in NumPy


def test_batchnorm_keeps_the_course_s_running_statistics():
    params, mean, var = {"mode": "train", "momentum": 0.8}, np.zeros(4), np.zeros(4)
    gamma, beta = random(4, seed=1), random(4, seed=2)
    for step in range(5):
        x = 3 * random(20, 4, seed=step) + step
        out, _ = c.batchnorm_forward(x, gamma, beta, params)
        close(out, gamma * (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) + beta, rtol=1e-9)
        mean, var = 0.8 * mean + 0.2 * x.mean(0), 0.8 * var + 0.2 * x.var(0)
        close(params["running_mean"], mean)
        close(params["running_var"], var)
    params["mode"] = "test"
    out, cache = c.batchnorm_forward(x, gamma, beta, params)
    close(out, gamma * (x - mean) / np.sqrt(var + 1e-5) + beta, rtol=1e-9)
    assert cache is None


def test_sgd_and_fresh_states_follow_the_formulas():
    w, dw = random(3, 4), random(3, 4, seed=1)
    expected = w - 0.01 * dw
    got, _ = c.sgd(w, dw)
    assert got is w
    close(w, expected)
    for rule in (c.sgd_momentum, c.rmsprop, c.adam):
        x, config = w, None
        state = np.zeros((2, 3, 4))
        y = w
        for step in range(1, 4):
            g = random(3, 4, seed=step)
            x, config = rule(x, g, config)
            if rule is c.sgd_momentum:
                state[0] = 0.9 * state[0] - 1e-2 * g
                y = y + state[0]
            elif rule is c.rmsprop:
                state[0] = 0.99 * state[0] + 0.01 * g * g
                y = y - 1e-2 * g / (np.sqrt(state[0]) + 1e-8)
            else:
                state[0] = 0.9 * state[0] + 0.1 * g
                state[1] = 0.999 * state[1] + 0.001 * g * g
                y = y - 1e-3 * state[0] / (1 - 0.9**step) / (np.sqrt(state[1] / (1 - 0.999**step)) + 1e-8)
            close(x, y, rtol=1e-9)


def test_losses_follow_the_formulas():
    x, y = random(6, 5), np.array([0, 4, 2, 2, 1, 3])
    rows = np.arange(6)
    margins = np.maximum(0, x - x[rows, y][:, None] + 1)
    margins[rows, y] = 0
    dx = (margins > 0) / 6.0
    dx[rows, y] -= (margins > 0).sum(1) / 6
    loss, got = c.svm_loss(x, y)
    assert loss == pytest.approx(margins.sum() / 6)
    close(got, dx)
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    loss, got = c.softmax_loss(x, y)
    assert loss == pytest.approx(-np.log(p[rows, y]).mean())
    p[rows, y] -= 1
    close(got, p / 6)


# ------------------------------------------------------------------------------------------- gradients, as notebooks do

X, IMAGES = random(5, 4, seed=3), random(3, 4, 5, 6, seed=4)
GAMMA, BETA, W, B = random(4, seed=5), random(4, seed=6), random(4, 7, seed=7), random(7, seed=8)
FILTERS, BIASES = random(2, 4, 3, 3, seed=9), random(2, seed=10)
CONV, POOL = {"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}
SPATIAL = (IMAGES, GAMMA, BETA)
GROUPS = (IMAGES, GAMMA.reshape(1, 4, 1, 1), BETA.reshape(1, 4, 1, 1))
CASES = {
    "affine": (c.affine_forward, c.affine_backward, (X, W, B)),
    "relu": (c.relu_forward, c.relu_backward, (X,)),
    "affine_relu": (c.affine_relu_forward, c.affine_relu_backward, (X, W, B)),
    "batchnorm": (lambda *a: c.batchnorm_forward(*a, {"mode": "train"}), c.batchnorm_backward, (X, GAMMA, BETA)),
    "batchnorm_alt": (
        lambda *a: c.batchnorm_forward(*a, {"mode": "train"}),
        c.batchnorm_backward_alt,
        (X, GAMMA, BETA),
    ),
    "layernorm": (lambda *a: c.layernorm_forward(*a, {}), c.layernorm_backward, (X, GAMMA, BETA)),
    "spatial_batchnorm": (
        lambda *a: c.spatial_batchnorm_forward(*a, {"mode": "train"}),
        c.spatial_batchnorm_backward,
        SPATIAL,
    ),
    "spatial_groupnorm": (lambda *a: c.spatial_groupnorm_forward(*a, 2, {}), c.spatial_groupnorm_backward, GROUPS),
    "dropout": (
        lambda x: c.dropout_forward(x, {"mode": "train", "p": 0.6, "seed": 123}),
        c.dropout_backward,
        (X,),
    ),
    "dropout_test": (lambda x: c.dropout_forward(x, {"mode": "test", "p": 0.6}), c.dropout_backward, (X,)),
    "conv": (lambda *a: c.conv_forward_fast(*a, CONV), c.conv_backward_fast, (IMAGES, FILTERS, BIASES)),
    "max_pool": (lambda x: c.max_pool_forward_fast(x, POOL), c.max_pool_backward_fast, (IMAGES,)),
    "conv_relu": (lambda *a: c.conv_relu_forward(*a, CONV), c.conv_relu_backward, (IMAGES, FILTERS, BIASES)),
    "conv_bn_relu": (
        lambda *a: c.conv_bn_relu_forward(*a, CONV, {"mode": "train"}),
        c.conv_bn_relu_backward,
        (IMAGES, FILTERS, BIASES, GAMMA[:2], BETA[:2]),
    ),
    "conv_relu_pool": (
        lambda *a: c.conv_relu_pool_forward(*a, CONV, POOL),
        c.conv_relu_pool_backward,
        (IMAGES, FILTERS, BIASES),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients(name):
    forward, backward, inputs = CASES[name]
    out, cache = forward(*inputs)
    dout = random(*out.shape, seed=11)
    gradients = backward(dout, cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    assert len(gradients) == len(inputs)
    for place, (value, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        assert gradient.shape == value.shape

        def moved(x, place=place):
            return forward(*inputs[:place], x, *inputs[place + 1 :])[0]

        close(gradient, numeric(moved, value, dout), rtol=1e-6, atol=1e-8)


def test_fused_layers_are_the_layers_one_by_one():
    out, _ = c.conv_bn_relu_forward(IMAGES, FILTERS, BIASES, GAMMA[:2], BETA[:2], CONV, {"mode": "train"})
    z, _ = c.conv_forward_fast(IMAGES, FILTERS, BIASES, CONV)
    y, _ = c.spatial_batchnorm_forward(z, GAMMA[:2], BETA[:2], {"mode": "train"})
    close(out, np.maximum(y, 0))
    out, _ = c.conv_bn_relu_forward(IMAGES, FILTERS, BIASES, GAMMA[:2], BETA[:2], CONV, {"mode": "test"})
    y, _ = c.spatial_batchnorm_forward(z, GAMMA[:2], BETA[:2], {"mode": "test"})
    close(out, np.maximum(y, 0))


def test_mixed_types_and_modes():
    out, cache = c.affine_relu_forward(X.astype(np.float32), W, B)
    assert out.dtype == np.float64
    dx, dw, db = c.affine_relu_backward(np.ones(out.shape, np.float32), cache)
    assert dx.dtype == dw.dtype == db.dtype == np.float64
    out, _ = c.affine_forward(*(array.astype(np.float32) for array in (X, W, B)))
    assert out.dtype == np.float32
    with pytest.raises(ValueError, match="mode: expected 'train' or 'test', got 'eval'"):
        c.batchnorm_forward(X, GAMMA, BETA, {"mode": "eval"})
    with pytest.raises(ValueError, match=r"p: expected a probability to keep an element, in \[0, 1\], got 1.5"):
        c.dropout_forward(X, {"mode": "train", "p": 1.5})


# ---------------------------------------------------------------------------------------- a loop as the assignments do


def test_a_network_of_the_assignments_learns_the_digits():
    digits = load_digits()
    x, y = digits.train_images / 16 - 0.3, digits.train_labels.astype(int)
    rng = np.random.default_rng(0)
    params = {
        "W1": 0.1 * rng.standard_normal((64, 100)),
        "b1": np.zeros(100),
        "gamma1": np.ones(100),
        "beta1": np.zeros(100),
        "W2": 0.1 * rng.standard_normal((100, 10)),
        "b2": np.zeros(10),
    }
    configs = {name: {"learning_rate": 3e-3} for name in params}
    bn_param, dropout_param = {"mode": "train"}, {"mode": "train", "p": 0.8}

    def scores(x):
        a, fc = c.affine_forward(x, params["W1"], params["b1"])
        a, bn = c.batchnorm_forward(a, params["gamma1"], params["beta1"], bn_param)
        a, relu = c.relu_forward(a)
        a, drop = c.dropout_forward(a, dropout_param)
        out, last = c.affine_forward(a, params["W2"], params["b2"])
        return out, (fc, bn, relu, drop, last)

    for _ in range(200):
        batch = rng.integers(len(x), size=100)
        out, (fc, bn, relu, drop, last) = scores(x[batch])
        _, dout = c.softmax_loss(out, y[batch])
        grads = {}
        da, grads["W2"], grads["b2"] = c.affine_backward(dout, last)
        da = c.relu_backward(c.dropout_backward(da, drop), relu)
        da, grads["gamma1"], grads["beta1"] = c.batchnorm_backward(da, bn)
        _, grads["W1"], grads["b1"] = c.affine_backward(da, fc)
        for name in params:
            params[name], configs[name] = c.adam(params[name], grads[name], configs[name])
    bn_param["mode"] = dropout_param["mode"] = "test"
    predicted = scores(digits.test_images / 16 - 0.3)[0].argmax(axis=1)
    assert (predicted == digits.test_labels).mean() > 0.95
