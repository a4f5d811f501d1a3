"""States of networks: strict, flat, without pickle, and resuming bit for bit."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.layers import BatchNorm1d, Dropout, Linear, ReLU, Sequential

X = np.random.default_rng(0).standard_normal((48, 6)).astype(np.float32)
LABELS = np.arange(48) % 3


def build(rng=None):
    return Sequential(Linear(6, 8), BatchNorm1d(8), ReLU(), Dropout(0.4, rng=rng), Linear(8, 3))


def train(net, opt, steps):
    loss_fn, losses = fnn.CrossEntropyLoss(), []
    for step in steps:
        batch = slice(12 * (step % 4), 12 * (step % 4) + 12)
        losses.append(loss_fn(net(X[batch]), LABELS[batch]))
        net.backward(loss_fn.backward(), need_dx=False)
        opt.step()
    return losses


OPTIMIZERS = {
    "sgd": lambda params: fnn.optim.SGD(params, 0.1, momentum=0.9, nesterov=True),
    "adam": lambda params: fnn.optim.Adam(params, 0.01),
    "adamw": lambda params: fnn.optim.AdamW(params, 0.01, clip_norm=0.5),
}


@pytest.mark.parametrize("own_rng", [True, False])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_resume_is_bit_exact(make, own_rng, tmp_path):
    fnn.manual_seed(5)
    net = build(fnn.Generator(1) if own_rng else None)
    opt = make(net.parameters())
    train(net, opt, range(7))
    np.savez(tmp_path / "net.npz", **net.state_dict())
    np.savez(tmp_path / "opt.npz", **opt.state_dict())
    losses = train(net, opt, range(7, 15))
    expected = net.state_dict()

    fnn.manual_seed(77)  # another process would have another state
    again = build(fnn.Generator(3) if own_rng else None)
    opt = make(again.parameters())
    for target, name in ((again, "net.npz"), (opt, "opt.npz")):
        with np.load(tmp_path / name, allow_pickle=False) as file:
            target.load_state_dict(file)
    assert train(again, opt, range(7, 15)) == losses
    state = again.state_dict()
    assert list(state) == list(expected)
    for name, value in expected.items():
        assert state[name].tobytes() == value.tobytes(), name


def test_names_and_copies():
    net = build()
    state = net.state_dict()
    assert list(state) == [
        *("0.weight", "0.bias"),
        *("1.weight", "1.bias", "1.running_mean", "1.running_var"),
        "3.rng",
        *("4.weight", "4.bias"),
    ]
    assert all(type(value) is np.ndarray and value.dtype != object for value in state.values())
    before = net[0].weight.data.copy()
    state["0.weight"][...] = 7
    np.testing.assert_array_equal(net[0].weight.data, before)


def test_load_keeps_the_arrays_that_optimizers_hold():
    net = build()
    data = net[0].weight.data
    state = net.state_dict()
    state["0.weight"] += 1
    net.load_state_dict(state)
    assert net[0].weight.data is data
    np.testing.assert_array_equal(data, state["0.weight"])
    with pytest.raises(AttributeError):
        net[0].weight.data = data.copy()


def test_load_sets_the_generator():
    rng = fnn.Generator(1)
    net = build(rng)
    net.load_state_dict(net.state_dict() | {"3.rng": np.array([2**64 - 1, 12], np.uint64)})
    assert (rng.seed, rng.position) == (2**64 - 1, 12)


def test_load_names_every_mismatch_and_changes_nothing():
    net = build()
    before = net.state_dict()
    state = net.state_dict()
    state["0.weight"] = state["0.weight"].T
    state["0.bias"] = state["0.bias"].astype(np.float64)
    state["1.gamma"] = state.pop("1.weight")
    state["4.bias"] += 1
    with pytest.raises(ValueError, match="does not fit") as error:
        net.load_state_dict(state)
    for line in (
        "0.weight: expected float32 of shape (8, 6), got float32 of shape (6, 8)",
        "0.bias: expected float32 of shape (8,), got float64 of shape (8,)",
        "1.weight: missing",
        "1.gamma: unexpected",
    ):
        assert line in str(error.value)
    assert len(str(error.value).splitlines()) == 5
    assert all(np.array_equal(before[name], value) for name, value in net.state_dict().items())
