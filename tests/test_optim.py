"""Optimizer classes: torch's traces, state, errors. The formulas of the steps are tested with the other kernels."""

import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from fastnn.optim import SGD, Adam, AdamW

GOLDEN = np.load(Path(__file__).parent / "golden" / "optim.npz")
MAKE = {
    "sgd": lambda params: SGD(params, 0.1, weight_decay=0.01),
    "momentum": lambda params: SGD(params, 0.05, momentum=0.9, weight_decay=0.01),
    "dampening": lambda params: SGD(params, 0.05, momentum=0.9, dampening=0.3),
    "nesterov": lambda params: SGD(params, 0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda params: Adam(params, 0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    "adamw": lambda params: AdamW(params, 0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    "clipped": lambda params: Adam(params, 0.02, clip_norm=2.0),
}


def start(dtype=np.float64):
    return [GOLDEN[f"start.{i}"].astype(dtype) for i in range(2)]


def gradients(step, dtype=np.float64):
    return [GOLDEN[f"grads.{i}"][step].astype(dtype) for i in range(2)]


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 2e-6)])
def test_twenty_steps_of_torch(name, dtype, tolerance):
    params = start(dtype)
    opt = MAKE[name](params)
    for step in range(20):
        norm = opt.step(gradients(step, dtype))
        for i, param in enumerate(params):
            np.testing.assert_allclose(
                param, GOLDEN[f"{name}.{i}"][step], rtol=0, atol=tolerance, err_msg=f"step {step}"
            )
        if name == "clipped":
            expected = np.sqrt(sum(np.square(g).sum() for g in gradients(step)))
            assert norm == pytest.approx(expected, rel=1e-6)
        else:
            assert norm is None


@pytest.mark.parametrize("name", MAKE)
def test_reference_takes_the_same_steps(name):
    params, expected = start(), start()
    opt, truth = MAKE[name](params), MAKE[name](expected)
    for step in range(5):
        opt.step(gradients(step))
        with fnn.use_reference():
            truth.step(gradients(step))
    for param, value in zip(params, expected, strict=True):
        np.testing.assert_allclose(param, value, rtol=0, atol=1e-13)


def test_parameters_and_arrays_take_the_same_steps():
    params, arrays = [fnn.Parameter(array) for array in start()], start()
    for param, grad in zip(params, gradients(0), strict=True):
        param.grad = grad
    Adam(params).step()
    Adam(arrays).step(gradients(0))
    for param, array in zip(params, arrays, strict=True):
        np.testing.assert_array_equal(param.data, array)


def test_lr_can_be_set_between_steps():
    (param, _) = params = start()
    opt = SGD(params, lr=0.5)
    opt.lr = 0.0
    before = param.copy()
    opt.step(gradients(0))
    np.testing.assert_array_equal(param, before)


def test_decay_tags_select_weights():
    net = fnn.Sequential(fnn.Linear(3, 4), fnn.BatchNorm1d(4), fnn.ReLU(), fnn.Linear(4, 2))
    assert [p.name for p in net.parameters() if p.decay] == ["0.weight", "3.weight"]


@pytest.mark.parametrize("name", MAKE)
def test_resume_is_bit_exact(name, tmp_path):
    straight = start(np.float32)
    opt = MAKE[name](straight)
    for step in range(10):
        opt.step(gradients(step, np.float32))
    resumed = [array.copy() for array in straight]
    np.savez(tmp_path / "opt.npz", **opt.state_dict())
    again = MAKE[name](resumed)
    with np.load(tmp_path / "opt.npz", allow_pickle=False) as file:
        again.load_state_dict(file)
    assert again.step_count == 10
    for step in range(10, 20):
        opt.step(gradients(step, np.float32))
        again.step(gradients(step, np.float32))
    for a, b in zip(straight, resumed, strict=True):
        assert a.tobytes() == b.tobytes()


def test_state_has_the_names_of_the_parameters_and_the_running_products():
    net = fnn.Sequential(fnn.Linear(3, 2))
    opt = Adam(net.parameters(), betas=(0.5, 0.25))
    for parameter in net.parameters():
        parameter.grad = np.ones_like(parameter.data)
    opt.step()
    opt.step()
    state = opt.state_dict()
    moments = {f"{kind}.0.{name}" for kind in ("exp_avg", "exp_avg_sq") for name in ("weight", "bias")}
    assert set(state) == {"step_count", "lr", "beta1_product", "beta2_product"} | moments
    assert state["beta1_product"] == 0.25
    assert state["beta2_product"] == 0.0625
    assert state["beta1_product"].dtype == np.float64
    state["exp_avg.0.weight"][...] = 7
    assert not (opt.state_dict()["exp_avg.0.weight"] == 7).any()


def test_load_names_every_mismatch_and_changes_nothing():
    opt = Adam(start())
    opt.step(gradients(0))
    before = opt.state_dict()
    state = opt.state_dict()
    state["exp_avg.0"] = state["exp_avg.0"][:1]
    state["exp_avg.1"] = state["exp_avg.1"].astype(np.float32)
    state["extra"] = state.pop("exp_avg_sq.0")
    state["step_count"] += 1
    with pytest.raises(ValueError, match=r"exp_avg_sq\.0: missing") as error:
        opt.load_state_dict(state)
    for name in ("exp_avg.0: expected", "exp_avg.1: expected float64", "extra: unexpected"):
        assert name in str(error.value)
    after = opt.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("name", "value"), [("lr", -0.1), ("lr", np.nan), ("step_count", -1)])
def test_load_refuses_numbers_out_of_range(name, value):
    opt = Adam(start())
    state = opt.state_dict()
    opt.step(gradients(0))
    before = opt.state_dict()
    state[name] = np.array(value, state[name].dtype)
    with pytest.raises(ValueError, match=f"{name}: expected a number >= 0"):
        opt.load_state_dict(state)
    after = opt.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def bad_gradients():
    a, b = gradients(0)
    return {
        "too few": ([a], ValueError),
        "too many": ([a, b, b], ValueError),
        "shape": ([a, b[:-1]], ValueError),
        "swapped": ([b, a], ValueError),
        "dtype": ([a, b.astype(np.float32)], TypeError),
        "integers": ([a, b.astype(np.int64)], TypeError),
        "list": ([a, b.tolist()], TypeError),
        "none": (None, TypeError),
    }


@pytest.mark.parametrize("make", [MAKE["nesterov"], MAKE["adam"], MAKE["clipped"]])
@pytest.mark.parametrize("kind", bad_gradients())
def test_bad_gradients_leave_everything_untouched(make, kind):
    params = start()
    opt = make(params)
    opt.step(gradients(1))
    before, state = [param.copy() for param in params], opt.state_dict()
    grads, error = bad_gradients()[kind]
    with pytest.raises(error, match="grads"):
        opt.step(grads)
    for param, value in zip(params, before, strict=True):
        np.testing.assert_array_equal(param, value)
    for name, value in opt.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


def test_missing_gradient_names_the_parameter():
    net = fnn.Sequential(fnn.Linear(3, 2))
    opt = SGD(net.parameters())
    net[0].weight.grad = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"0\.bias"):
        opt.step()


W = np.zeros((4, 4))
READ_ONLY = np.zeros(3)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ([], ValueError, "at least one"),
        ([W, W], ValueError, r"params\[1\].*params\[0\]"),
        ([W[2:], W[:3]], ValueError, r"params\[1\].*params\[0\]"),
        ([W.T[:, :2]], ValueError, "C-contiguous"),
        ([READ_ONLY], ValueError, "writeable"),
        ([np.zeros(3, np.int32)], TypeError, "int32"),
        ([np.zeros(3, np.float16)], TypeError, "float16"),
        ([[1.0]], TypeError, "list"),
        ([W, fnn.Parameter(np.zeros(2))], TypeError, "both"),
    ],
)
def test_bad_parameter_lists(params, error, message):
    with pytest.raises(error, match=message):
        SGD(params)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD([W.copy()], lr=-1), "lr"),
        (lambda: SGD([W.copy()], momentum=-0.1), "momentum"),
        (lambda: SGD([W.copy()], nesterov=True), "nesterov"),
        (lambda: SGD([W.copy()], momentum=0.9, dampening=0.1, nesterov=True), "nesterov"),
        (lambda: SGD([W.copy()], clip_norm=0), "clip_norm"),
        (lambda: Adam([W.copy()], lr=float("nan")), "lr"),
        (lambda: Adam([W.copy()], betas=(0.9, 1.0)), "betas"),
        (lambda: Adam([W.copy()], eps=0), "eps"),
        (lambda: AdamW([W.copy()], weight_decay=-1), "weight_decay"),
    ],
)
def test_bad_numbers(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_read_only_and_strided_gradients_are_accepted_and_unchanged():
    params, expected = start(), start()
    a, b = gradients(0)
    strided = np.asfortranarray(a)
    b.flags.writeable = False
    SGD(params, 0.1).step([strided, b])
    SGD(expected, 0.1).step(gradients(0))
    for param, value in zip(params, expected, strict=True):
        np.testing.assert_array_equal(param, value)
    np.testing.assert_array_equal(strided, gradients(0)[0])


def test_a_step_costs_little_python(monkeypatch):
    """Calls of a step around the native one do not grow with the number of arrays, and are few."""
    from fastnn import _core

    monkeypatch.setattr(_core, "optimizer_step", lambda *arguments: None)

    def calls(tensors):
        params = [np.zeros(3, np.float32) for _ in range(tensors)]
        opt, grads = Adam(params), [np.zeros_like(param) for param in params]
        opt.step(grads)
        seen = []
        sys.setprofile(lambda frame, event, argument: event.endswith("call") and seen.append(frame))
        try:
            opt.step(grads)
        finally:
            sys.setprofile(None)
        return len(seen)

    assert calls(4) == calls(64) < 60


def core_arguments():
    arrays = [[np.ones(3), np.ones((2, 2))] for _ in range(4)]
    lists = {"params": arrays[0], "grads": arrays[1], "states": [*arrays[2:], None]}
    return lists | {"numbers": [[0.0] * 11], "groups": None, "clip_norm": None}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"name": "nothing"}, ValueError, "nothing"),
        ({"states": [[np.ones(3), np.ones((2, 2))]]}, ValueError, "states: expected 3"),
        ({"states": [None, [np.ones(3), np.ones((2, 2))], None]}, TypeError, "exp_avgs: expected a sequence"),
        (
            {"states": [[np.ones(3)] * 2, [np.ones(3), np.ones((2, 2))], None]},
            ValueError,
            r"exp_avgs\[1\]: expected shape",
        ),
        ({"params": [np.ones(3), np.ones((2, 2), np.float32)]}, TypeError, r"params\[1\]: expected the dtype"),
        ({"params": 3}, TypeError, "params: expected a sequence"),
        ({"grads": [np.ones(3), None]}, TypeError, r"grads\[1\]: expected a NumPy array"),
        ({"numbers": [[0.0] * 10]}, ValueError, "numbers: expected 11"),
        ({"numbers": [[0.0] * 10 + ["1"]]}, TypeError, "numbers: expected a number, got str"),
        ({"numbers": []}, ValueError, "groups: expected numbers of each group"),
        ({"groups": [0, 1]}, ValueError, "groups: expected numbers of each group"),
        ({"groups": [0, -1]}, ValueError, "groups: expected"),
        ({"groups": [0]}, ValueError, "groups: expected 2"),
        ({"groups": [0, "1"]}, TypeError, "groups: expected"),
        ({"nonfinite": "ignore"}, ValueError, "nonfinite: expected"),
        ({"averages": [np.ones(3)]}, ValueError, "averages: expected 2"),
        ({"max_norms": [1.0]}, ValueError, "max_norms: expected 2"),
        ({"clip_norm": 0.0}, ValueError, "clip_norm: expected None"),
        ({"clip_norm": float("nan")}, ValueError, "clip_norm: expected None"),
    ],
)
def test_the_native_step_checks_before_it_writes(change, error, message):
    from fastnn import _core

    arguments = {"name": "adam", **core_arguments(), **change}
    with pytest.raises(error, match=message):
        _core.optimizer_step(**arguments)
    for arrays in (arguments["params"], *arguments["states"]):
        if isinstance(arrays, list):
            assert all((array == 1).all() for array in arrays)


def test_overlap_names_both_arrays():
    from fastnn import _core

    arguments = core_arguments()
    arguments["states"][1][0] = arguments["params"][0]
    with pytest.raises(ValueError, match=r"(?=.*exp_avg_sqs\[0\])(?=.*params\[0\])"):
        _core.optimizer_step("adam", **arguments)


def test_one_dtype_per_optimizer():
    with pytest.raises(TypeError, match=r"params\[1\]: expected float32, .*, got float64"):
        SGD([np.zeros(2, np.float32), np.zeros(2)])


def test_dampening_is_a_number():
    with pytest.raises(ValueError, match="dampening: expected a number, got nan"):
        SGD([np.zeros(2)], dampening=np.nan)


def test_momentum_can_be_set_later():
    a, b = np.zeros(2), np.zeros(2)
    late, early = SGD([a], 0.1), SGD([b], 0.1, momentum=0.9, dampening=0.3)
    late.step([np.ones(2)])
    late.momentum, late.dampening = 0.9, 0.3
    a[...] = 0
    for _ in range(3):
        late.step([np.ones(2)])
        early.step([np.ones(2)])
    np.testing.assert_array_equal(a, b)
