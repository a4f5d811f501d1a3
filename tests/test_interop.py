"""Primitives of HIPS autograd, weights in files, and what is said where a library is missing."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn.interop import weights
from fastnn.interop._calls import OPS

LABELS = np.array([0, 2, 1, 2, 0, 1])


def network() -> fastnn.Sequential:
    fastnn.manual_seed(4)
    layers = (fastnn.Linear(6, 8), fastnn.BatchNorm1d(8), fastnn.ReLU(), fastnn.Dropout(0.5), fastnn.Linear(8, 3))
    net = fastnn.Sequential(*layers)
    net(np.random.default_rng(0).standard_normal((16, 6)).astype(np.float32))
    return net.eval()


# --------------------------------------------------------------------------------------------------------- autograd


def test_operations_with_a_gradient_are_known() -> None:
    backward = {name.removesuffix("_backward") for name in dir(fastnn.functional) if name.endswith("_backward")}
    assert backward - {"swish"} <= OPS.keys()
    for op in OPS.values():
        assert set(op.inputs) <= set(op.signature.parameters)


@pytest.fixture
def F() -> Any:
    pytest.importorskip("autograd")
    return import_module("fastnn.interop.autograd")


def test_every_operation_is_a_primitive(F: Any) -> None:
    assert OPS.keys() <= set(F.__all__) and "cross_entropy" in F.__all__
    for name in F.__all__:
        assert callable(getattr(F, name))


def test_gradients_are_those_of_autograd(F: Any) -> None:
    from autograd import grad
    from autograd import numpy as anp

    rng = np.random.default_rng(0)
    x, W, w, b, V = (rng.standard_normal(shape) for shape in ((6, 4), (4, 5), 5, 5, (5, 3)))
    mask = fastnn.functional.dropout(np.ones((6, 5)), 0.4, rng=fastnn.Generator(3))[0]

    def ours(x: Any, W: Any, w: Any, b: Any, V: Any) -> Any:
        options = {"activation": "relu", "dropout": 0.4, "rng": fastnn.Generator(3)}
        h = F.batch_norm(anp.dot(x, W), None, None, w, b, True, **options)
        return F.cross_entropy(anp.dot(F.tanh(h), V), LABELS)

    def theirs(x: Any, W: Any, w: Any, b: Any, V: Any) -> Any:
        z = anp.dot(x, W)
        mean = anp.mean(z, 0)
        h = (z - mean) / anp.sqrt(anp.mean((z - mean) ** 2, 0) + 1e-5) * w + b
        logits = anp.dot(anp.tanh(anp.maximum(h, 0) * mask), V)
        shifted = logits - anp.max(logits, 1, keepdims=True)
        log_p = shifted - anp.log(anp.sum(anp.exp(shifted), 1, keepdims=True))
        return -anp.mean(log_p[np.arange(6), LABELS])

    assert ours(x, W, w, b, V) == pytest.approx(theirs(x, W, w, b, V))
    for place in range(5):
        got, want = (grad(f, place)(x, W, w, b, V) for f in (ours, theirs))
        assert type(got) is np.ndarray
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-10)


def test_one_value_may_be_used_twice(F: Any) -> None:
    from autograd import grad, jacobian
    from autograd import numpy as anp

    x = np.linspace(-2, 2, 6)
    got = grad(lambda x: anp.sum(F.sigmoid(x) * F.sigmoid(x) + F.softmax(x)))(x)
    s = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(got, 2 * s * s * (1 - s), atol=1e-12)
    p = np.exp(x) / np.exp(x).sum()
    np.testing.assert_allclose(jacobian(F.softmax)(x), np.diag(p) - np.outer(p, p), atol=1e-12)


def test_float32_stays_float32(F: Any) -> None:
    from autograd import grad
    from autograd import numpy as anp

    x = np.linspace(-2, 2, 6, dtype=np.float32)
    assert grad(lambda x: anp.mean(F.gelu(x)))(x).dtype == np.float32


def test_what_autograd_may_not_differentiate_is_refused(F: Any) -> None:
    from autograd import elementwise_grad, grad

    x = np.linspace(-2, 2, 6)
    with pytest.raises(TypeError, match="gelu: expected to be differentiated once"):
        elementwise_grad(elementwise_grad(F.gelu))(x)
    with pytest.raises(TypeError, match="target: expected an array without a gradient"):
        grad(lambda target: F.mse_loss(x, target))(x)
    with pytest.raises(TypeError, match=r"^x: expected a NumPy array of float32 or float64, got ArrayBox"):
        grad(fastnn.functional.relu)(x)
    with pytest.raises(TypeError, match=r"^x: expected float32 or float64, got int64"):
        F.relu(np.arange(3))


def test_a_training_with_autograd(F: Any) -> None:
    from autograd import numpy as anp
    from autograd import value_and_grad

    digits = fastnn.data.load_digits()
    x, labels = digits.train_images.reshape(-1, 64) / 16, digits.train_labels
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((64, 32)) / 8, np.zeros(32), rng.standard_normal((32, 10)) / 6, np.zeros(10)]

    def loss(arrays: Any, x: Any, labels: Any) -> Any:
        W, b, V, c = arrays
        hidden = F.bias_act(anp.dot(x, W), b, activation="relu")
        return F.cross_entropy(F.bias_act(anp.dot(hidden, V), c), labels)

    opt, losses = fastnn.optim.Adam(arrays, lr=1e-2), []
    for batch in np.arange(1408).reshape(22, 64):
        value, grads = value_and_grad(loss)(arrays, x[batch], labels[batch])
        opt.step(grads)
        losses.append(value)
    assert np.mean(losses[-4:]) < 0.6 * np.mean(losses[:2])


# ---------------------------------------------------------------------------------------------------------- weights


def test_weights_have_the_names_of_torch() -> None:
    state = weights.to_torch(network())
    norm = [f"1.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]
    assert set(state) == {"0.weight", "0.bias", *norm, "4.weight", "4.bias"}
    assert state["0.weight"].shape == (8, 6)


def test_weights_go_through_a_file(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    files = import_module("fastnn.interop.safetensors")
    net, other = network(), network().init(rng=1)
    x = np.ones((2, 6), np.float32)
    files.save_weights(net, tmp_path / "net.safetensors")
    assert not np.array_equal(net.predict(x), other.predict(x))
    files.load_weights(other, tmp_path / "net.safetensors")
    np.testing.assert_array_equal(net.predict(x), other.predict(x))
    with pytest.raises(ValueError, match=r"0.weight: expected float32 of shape"):
        files.load_weights(fastnn.Sequential(fastnn.Linear(3, 3)), tmp_path / "net.safetensors")


def test_damaged_files_of_weights_change_nothing(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    files = import_module("fastnn.interop.safetensors")
    net, path = fastnn.Linear(4, 2), tmp_path / "net.safetensors"
    files.save_weights(net, path)
    good, before = path.read_bytes(), net.weight.data.copy()
    half = good.replace(b'"F32","shape":[2,4]', b'"F16","shape":[2,8]')
    for content, message in (
        (b"", "path: expected a safetensors file"),
        (good[:-1], "path: expected a safetensors file"),
        (good + b"x", "path: expected a safetensors file"),
        (b"\xff" * 8 + good[8:], "path: expected a safetensors file"),
        (half, "weight: expected float32 of shape .*, got float16"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            files.load_weights(net, path)
        np.testing.assert_array_equal(net.weight.data, before)
    with pytest.raises(FileNotFoundError):
        files.load_weights(net, tmp_path / "none.safetensors")


def test_whole_states_go_through_a_file(tmp_path: Path) -> None:
    files = pytest.importorskip("safetensors.numpy")
    net = network()
    opt = fastnn.optim.Adam(net.parameters())
    for owner in (net, opt):
        files.save_file(owner.state_dict(), tmp_path / "state.safetensors")
        owner.load_state_dict(files.load_file(tmp_path / "state.safetensors"))


# -------------------------------------------------------------------------------------------------- without the extras


@pytest.mark.parametrize(
    ("module", "library"), [("torch", "PyTorch"), ("autograd", "autograd"), ("safetensors", "safetensors")]
)
def test_missing_library_is_named(run_python: Callable[..., Any], module: str, library: str) -> None:
    script = f"import sys\nsys.modules[{module!r}] = None\nimport fastnn.interop\nimport fastnn.interop.{module}"
    error = run_python(script, status=1).stderr
    assert f"ImportError: fastnn.interop.{module}: expected {library}, which is not installed" in error
    assert f"pip install 'fastnn-kernels[{module}]'" in error
