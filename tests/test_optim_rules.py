"""Every rule and switch against twenty steps of torch, or of the formula; the way in of gradients; groups; averages."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from fastnn import optim, schedules
from fastnn.optim import (
    EMA,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    EqualAverage,
    Lion,
    NAdam,
    NormalizedSGD,
    RAdam,
    RMSprop,
)

HERE = Path(__file__).parent / "golden"
GOLDEN, TRACES = np.load(HERE / "optim.npz"), np.load(HERE / "optim_rules.npz")
KEPT = (0, 1, 4, 9, 19)

SHORT = {"betas": (0.8, 0.95)}
MAKE = {
    "nesterov_dampened_decay": lambda p: SGD(p, 0.05, 0.9, nesterov=True, weight_decay=0.1),
    "amsgrad": lambda p: Adam(p, 0.02, weight_decay=0.1, amsgrad=True, **SHORT),
    "amsgradw": lambda p: AdamW(p, 0.02, weight_decay=0.1, amsgrad=True, **SHORT),
    "adamax": lambda p: Adamax(p, 0.02, eps=1e-6, weight_decay=0.1, **SHORT),
    "nadam": lambda p: NAdam(p, 0.02, weight_decay=0.1, **SHORT),
    "nadam_decoupled": lambda p: NAdam(p, 0.02, momentum_decay=0.1, weight_decay=0.1, decoupled_weight_decay=True),
    "radam": lambda p: RAdam(p, 0.02, weight_decay=0.1),
    "radam_short": lambda p: RAdam(p, 0.02, (0.5, 0.9)),
    "radam_decoupled": lambda p: RAdam(p, 0.02, weight_decay=0.1, decoupled_weight_decay=True),
    "adagrad": lambda p: Adagrad(p, 0.1),
    "adagrad_switches": lambda p: Adagrad(
        p, 0.1, lr_decay=0.2, initial_accumulator_value=0.1, eps=1e-3, weight_decay=0.1
    ),
    "rmsprop": lambda p: RMSprop(p, 0.02),
    "rmsprop_momentum": lambda p: RMSprop(p, 0.02, 0.9, momentum=0.8, weight_decay=0.1),
    "rmsprop_centered": lambda p: RMSprop(p, 0.02, 0.9, 1e-3, centered=True),
    "rmsprop_all": lambda p: RMSprop(p, 0.02, 0.9, momentum=0.8, centered=True, weight_decay=0.1),
    "adadelta": lambda p: Adadelta(p, 1.0, 0.8, 1e-3, 0.1),
    "clip_value": lambda p: SGD(p, 0.1, 0.9, clip_value=0.7),
    "clip_both": lambda p: Adam(p, 0.02, clip_norm=3.0, clip_value=0.7),
    "ema": lambda p: SGD(p, 0.1, average=EMA(0.7)),
    "equal_average": lambda p: SGD(p, 0.1, average=EqualAverage(start=5)),
    "lr_inside": lambda p: SGD(p, schedules.exponential(0.05, 0.9), 0.9, form="lr_inside"),
    "lr_inside_nesterov": lambda p: SGD(p, schedules.exponential(0.05, 0.9), 0.9, nesterov=True, form="lr_inside"),
    "rmsprop_inside": lambda p: RMSprop(p, 0.02, 0.9, 1e-2, eps_inside_sqrt=True),
    "rmsprop_inside_centered": lambda p: RMSprop(p, 0.02, 0.9, 1e-2, momentum=0.8, centered=True, eps_inside_sqrt=True),
    "lion": lambda p: Lion(p, 0.02, weight_decay=0.1),
    "elastic_net": lambda p: SGD(p, 0.1, weight_decay=0.05, l1=0.3),
    "max_norm_rows": lambda p: SGD(p, 0.1, max_norm=0.9),
    "max_norm_columns": lambda p: SGD(p, 0.1, max_norm=0.9, max_norm_of="columns"),
    "unit_above": lambda p: SGD(p, 0.1, clip_norm=4.0, clip_form="unit"),
    "normalised": lambda p: NormalizedSGD(p, 0.1),
}


def start(dtype=np.float64):
    return [GOLDEN[f"start.{i}"].astype(dtype) for i in range(2)]


def gradients(step, dtype=np.float64):
    return [GOLDEN[f"grads.{i}"][step].astype(dtype) for i in range(2)]


def flat(arrays):
    return np.concatenate([array.ravel() for array in arrays])


def seen(opt, params):
    """The parameters, or their averages once there are."""
    if opt.average is None or opt.step_count <= opt.average.start:
        return flat(params)
    with opt.averaged():
        return flat(params)


def test_every_trace_is_tested():
    assert set(TRACES.files) == set(MAKE)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 3e-13), (np.float32, 4e-6)])
@pytest.mark.parametrize("implementation", ["kernels", "reference"])
def test_twenty_steps(name, dtype, tolerance, implementation):
    params = start(dtype)
    opt = MAKE[name](params)
    for step in range(20):
        if implementation == "reference":
            with fnn.use_reference():
                opt.step(gradients(step, dtype))
        else:
            opt.step(gradients(step, dtype))
        if step in KEPT:
            expected = TRACES[name][KEPT.index(step)]
            np.testing.assert_allclose(seen(opt, params), expected, rtol=0, atol=tolerance, err_msg=f"step {step}")


ALL = {
    "sgd": lambda p, **o: SGD(p, 0.1, 0.9, weight_decay=0.1, **o),
    "lr_inside": lambda p, **o: SGD(p, 0.1, 0.9, form="lr_inside", **o),
    "adam": lambda p, **o: Adam(p, 0.02, weight_decay=0.1, **o),
    "adamw": lambda p, **o: AdamW(p, 0.02, weight_decay=0.1, **o),
    "amsgrad": lambda p, **o: Adam(p, 0.02, amsgrad=True, **o),
    "nadam": lambda p, **o: NAdam(p, 0.02, **o),
    "radam": lambda p, **o: RAdam(p, 0.02, (0.5, 0.9), **o),
    "adamax": lambda p, **o: Adamax(p, 0.02, **o),
    "lion": lambda p, **o: Lion(p, 0.02, **o),
    "adagrad": lambda p, **o: Adagrad(p, 0.02, lr_decay=0.1, **o),
    "rmsprop": lambda p, **o: RMSprop(p, 0.02, 0.9, momentum=0.8, centered=True, **o),
    "adadelta": lambda p, **o: Adadelta(p, 0.5, **o),
    "normalised": lambda p, **o: NormalizedSGD(p, 0.1, **o),
}
EVERYTHING = {
    "l1": 0.02,
    "clip_value": 0.5,
    "nonfinite": "error",
    "max_norm": 1.0,
    "average": EMA(0.8, start=2),
    "groups": {"0": {"lr": 0.03}, "1": {"weight_decay": 0.3, "l1": 0.0}},
}


@pytest.mark.parametrize("name", ALL)
def test_reference_does_everything_too(name):
    a, b = start(), start()
    opt, truth = ALL[name](a, **EVERYTHING), ALL[name](b, **EVERYTHING)
    for step in range(6):
        for each in (opt, truth):
            if step == 2:
                each.freeze("1")
            if step == 4:
                each.unfreeze()
        found = opt.step(gradients(step), stats=True)
        with fnn.use_reference():
            wanted = truth.step(gradients(step), stats=True)
        assert found.grad_norm == pytest.approx(wanted.grad_norm, rel=1e-12)
        assert found.penalty == pytest.approx(wanted.penalty, rel=1e-12)
        assert found.tensors.keys() == wanted.tensors.keys() == ({"0"} if step in (2, 3) else {"0", "1"})
        for key in found.tensors:
            assert found.tensors[key] == pytest.approx(wanted.tensors[key], rel=1e-9)
    np.testing.assert_allclose(flat(a), flat(b), rtol=0, atol=1e-12)
    with opt.averaged(), truth.averaged():
        np.testing.assert_allclose(flat(a), flat(b), rtol=0, atol=1e-12)


# --------------------------------------------------------------------------------------------------- the way in


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nonfinite_gradients_are_named_and_nothing_is_written(make, value):
    params = {"W": start()[0], "b": start()[1]}
    opt = make(params, nonfinite="error", average=EMA())
    opt.step(gradients(0))
    before, state = flat(params.values()), opt.state_dict()
    bad = gradients(1)
    bad[1][2] = value
    with pytest.raises(ValueError, match=r"grads\['b'\]: expected finite values"):
        opt.step(bad)
    np.testing.assert_array_equal(flat(params.values()), before)
    assert all(np.array_equal(value, state[name]) for name, value in opt.state_dict().items())
    opt.nonfinite = "skip"
    assert opt.step(bad, stats=True) is None
    np.testing.assert_array_equal(flat(params.values()), before)
    assert all(np.array_equal(value, state[name]) for name, value in opt.state_dict().items())
    opt.step(gradients(1))
    assert opt.step_count == 2
    opt.nonfinite = "allow"
    opt.step(bad)
    assert not np.isfinite(params["b"][2]) or isinstance(opt, Lion)


def test_skip_returns_the_norm_if_it_is_asked_for():
    params = start()
    opt = SGD(params, 0.1, clip_norm=1.0, nonfinite="skip")
    bad = gradients(0)
    bad[0][0, 0] = np.inf
    assert opt.step(bad) == math.inf and opt.step_count == 0
    assert SGD(start(), 0.1, nonfinite="skip").step(gradients(0)) is None


def test_gradients_are_never_changed():
    grads = gradients(0)
    SGD(start(), 0.1, clip_norm=0.1, clip_value=0.01, l1=0.1, weight_decay=0.1).step(grads)
    np.testing.assert_array_equal(flat(grads), flat(gradients(0)))


def test_normalised_descent_moves_by_lr_and_not_at_all_where_it_is_flat():
    params = start()
    before = flat(params)
    opt = NormalizedSGD(params, 0.25)
    norm = opt.step(gradients(0))
    assert norm == pytest.approx(np.linalg.norm(flat(gradients(0))))
    assert np.linalg.norm(flat(params) - before) == pytest.approx(0.25)
    before = flat(params)
    assert opt.step([0 * g for g in gradients(0)]) == 0
    np.testing.assert_array_equal(flat(params), before)
    tiny = [np.full(3, 1e-40, np.float32)]  # whose 1 / norm is no float32
    param = np.zeros(3, np.float32)
    NormalizedSGD([param]).step(tiny)
    assert np.isfinite(param).all()


@pytest.mark.parametrize("shape", [(5, 7), (3, 2, 4, 5), (2, 9000), (300, 130), (4, 0)])
@pytest.mark.parametrize("of", ["rows", "columns"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_max_norm_caps_rows_or_columns_of_weights(shape, of, dtype):
    rng = np.random.default_rng(0)
    w, b = rng.standard_normal(shape).astype(dtype), rng.standard_normal(9).astype(dtype)
    grads = [np.zeros_like(w), np.zeros_like(b)]
    axes = tuple(range(1, len(shape))) if of == "rows" else tuple(range(len(shape) - 1))
    norms = np.sqrt((w.astype(float) ** 2).sum(axes, keepdims=True))
    limit = (float(np.median(norms)) if norms.size else 0.0) or 1.0
    expected = w * np.where(norms > limit, limit / np.maximum(norms, 1e-300), 1)
    kept = b.copy()
    SGD([w, b], 0.1, max_norm=limit, max_norm_of=of, average=EMA()).step(grads)
    np.testing.assert_allclose(w, expected, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(b, kept)


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_bits_depend_neither_on_threads_nor_on_grouping(make, monkeypatch):
    from fastnn import _core

    rng = np.random.default_rng(0)
    shapes = [(70, 65), (9001,), (3,), (129, 40), (1,)]
    params = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    grads = [rng.standard_normal((3, *shape)).astype(np.float32) for shape in shapes]
    shared = {"l1": 0.01, "max_norm": 2.0, "average": EMA(0.5), "nonfinite": "skip"}
    split = {f"{i}": {"weight_decay": 0.1} for i in (1, 3)}  # what the others have as well
    found = []
    _core._set_grain(0)
    try:
        for threads, groups, stats in ((1, None, False), (2, None, True), (3, split, False), (7, split, True)):
            fnn.set_num_threads(threads)
            own = [param.copy() for param in params]
            opt = make(own, groups=groups, **shared)
            opt.weight_decay = 0.1
            records = [opt.step([g[t] for g in grads], stats=stats) for t in range(3)]
            with opt.averaged():
                found.append(([p.tobytes() for p in own], records))
    finally:
        _core._set_grain(-1)
        fnn.set_num_threads(None)
    assert all(bits == found[0][0] for bits, _ in found)
    assert found[1][1] == found[3][1]


def test_penalty_is_that_of_the_weights_before_the_step():
    params = start()
    opt = SGD(params, 0.1, weight_decay=0.3, l1=0.2, groups={"1": {"weight_decay": 0.0}})
    expected = 0.15 * np.square(params[0]).sum() + 0.2 * np.abs(flat(params)).sum()
    assert opt.penalty() == pytest.approx(expected)
    assert opt.step(gradients(0), stats=True).penalty == pytest.approx(expected)
    assert AdamW(params, weight_decay=0.3).penalty() == 0
    slope = (opt.penalty(), 1e-6)
    params[0][2, 1] += slope[1]
    rise = 0.3 * params[0][2, 1] + 0.2 * np.sign(params[0][2, 1])
    assert (opt.penalty() - slope[0]) / slope[1] == pytest.approx(rise, rel=1e-4)


def test_stats_are_those_of_the_step():
    params = {"W": start()[0], "b": start()[1]}
    before = {name: array.copy() for name, array in params.items()}
    record = SGD(params, 0.1, clip_norm=0.5).step(gradients(0), stats=True)
    assert record.grad_norm == pytest.approx(np.linalg.norm(flat(gradients(0))))
    for (name, seen_of), grad in zip(record.tensors.items(), gradients(0), strict=True):
        change = np.linalg.norm(params[name] - before[name])
        assert seen_of.update_ratio == pytest.approx(change / np.linalg.norm(before[name]))
        assert seen_of.grad_norm == pytest.approx(np.linalg.norm(grad))
        assert seen_of.max_abs == np.abs(params[name]).max()


def test_stats_report_nan():
    params = [np.array([1.0, 2.0, 3.0])]
    record = SGD(params, 0.1).step([np.array([0.0, np.nan, 0.0])], stats=True)
    assert all(math.isnan(value) for value in (*record.tensors["0"], record.grad_norm))


# ------------------------------------------------------------------------------------------------------- groups


def network():
    fnn.manual_seed(0)
    return fnn.Sequential(fnn.Linear(3, 4), fnn.BatchNorm1d(4), fnn.ReLU(), fnn.Linear(4, 2))


def set_gradients(net, seed=0):
    rng = np.random.default_rng(seed)
    for parameter in net.parameters():
        parameter.grad = rng.standard_normal(parameter.data.shape).astype(parameter.data.dtype)


def values_of(net):
    return {p.name: p.data.copy() for p in net.parameters()}


def test_groups_set_rates_and_decay_by_name():
    net, twin = network(), network()
    set_gradients(net)
    set_gradients(twin)
    groups = {"*.bias": {"weight_decay": 0.0}, "3.*": {"lr": 0.5}, "3.bias": {"lr": schedules.constant(0.25)}}
    SGD(net.parameters(), 0.1, weight_decay=0.2, groups=groups).step()
    for p in twin.parameters():
        rate = {"3.weight": 0.5, "3.bias": 0.25}.get(p.name, 0.1)
        SGD([p], rate, weight_decay=0.0 if p.name.endswith("bias") else 0.2).step()
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data, err_msg=p.name)


def test_decay_of_weights_exempts_the_others():
    net = network()
    opt = SGD(net.parameters(), 0.1, weight_decay=0.5, l1=0.1, decay="weights")
    before = values_of(net)
    for p in net.parameters():
        p.grad = np.zeros_like(p.data)
    opt.step()
    changed = [p.name for p in net.parameters() if not np.array_equal(p.data, before[p.name])]
    assert changed == ["0.weight", "3.weight"]
    w, b = start()
    SGD([w, b], 0.1, weight_decay=0.5, decay="weights").step([0 * w, 0 * b])
    np.testing.assert_array_equal(b, start()[1])
    assert not np.array_equal(w, start()[0])


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_what_is_frozen_starts_as_if_it_were_new(make):
    """Its moments, bias corrections and first step are those of its own count of steps."""
    net, alone = start(), start()
    opt = make({"body": net[0], "head": net[1]})
    opt.freeze("body")
    if isinstance(opt, NormalizedSGD):
        return  # its steps depend on all gradients
    for step in range(3):
        opt.step([None, gradients(step)[1]])
    np.testing.assert_array_equal(net[0], start()[0])
    opt.unfreeze("body")
    fresh = make({"body": alone[0]})
    for step in range(3, 6):
        opt.step(gradients(step))
        fresh.step(gradients(step)[:1])
    np.testing.assert_array_equal(net[0], alone[0])


def test_freezing_and_unfreezing_between_steps_changes_nothing():
    a, b = start(), start()
    opt, other = Adam(a), Adam(b)
    for step in range(4):
        opt.freeze("0")
        opt.unfreeze()
        opt.step(gradients(step))
        other.step(gradients(step))
    np.testing.assert_array_equal(flat(a), flat(b))
    assert opt.state_dict().keys() == other.state_dict().keys()


def test_frozen_gradients_do_not_count_in_the_norm():
    opt = SGD(start(), 0.1, clip_norm=1.0)
    opt.freeze("0")
    assert opt.step(gradients(0)) == pytest.approx(np.linalg.norm(gradients(0)[1]))
    opt.freeze("1")
    assert opt.step([None, None]) == 0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SGD(start(), groups={"7": {"lr": 1}}), ValueError, "'7': expected a pattern that fits one of 0, 1"),
        (lambda: SGD(start(), groups={"0": {"momentum": 1}}), TypeError, "got 'momentum'"),
        (lambda: SGD(start(), groups={"0": {"lr": -1}}), ValueError, r"groups\['0'\]: lr"),
        (lambda: SGD(start()).freeze("w"), ValueError, "'w'"),
        (lambda: SGD(start(), decay="none"), ValueError, "decay"),
        (lambda: SGD(start(), l1=-1), ValueError, "l1"),
        (lambda: SGD(start(), clip_value=0.0), ValueError, "clip_value"),
        (lambda: SGD(start(), clip_form="half"), ValueError, "clip_form"),
        (lambda: SGD(start(), nonfinite="ignore"), ValueError, "nonfinite"),
        (lambda: SGD(start(), max_norm=0), ValueError, "max_norm"),
        (lambda: SGD(start(), max_norm=1, max_norm_of="planes"), ValueError, "max_norm_of"),
        (lambda: SGD(start(), form="keras"), ValueError, "form"),
        (lambda: SGD(start(), 0.1, 0.9, 0.1, form="lr_inside"), ValueError, "dampening"),
        (lambda: NormalizedSGD(start(), clip_norm=1.0), TypeError, "clip_norm"),
        (lambda: Adamax(start(), betas=(1, 0.9)), ValueError, "betas?"),
        (lambda: NAdam(start(), betas=(0.0, 0.9)), ValueError, "beta1"),
        (lambda: RMSprop(start(), alpha=1.0), ValueError, "alpha"),
        (lambda: Adadelta(start(), rho=-0.1), ValueError, "rho"),
        (lambda: Adagrad(start(), lr_decay=-1), ValueError, "lr_decay"),
        (lambda: Adam(start(), betas=("0.9", 0.9)), TypeError, "betas: expected a number"),
        (lambda: RMSprop(start(), alpha="0.9"), TypeError, "alpha: expected a number"),
        (lambda: SGD(start(), clip_norm="1"), TypeError, "clip_norm: expected a number"),
        (lambda: SGD(start(), average=0.99), TypeError, "average: expected EMA"),
        (lambda: EMA(1.0), ValueError, "decay"),
        (lambda: EqualAverage(-1), ValueError, "start"),
        (lambda: SGD(start(), lr=lambda step: -1.0).step(gradients(0)), ValueError, "lr"),
        (lambda: SGD(start(), lr=lambda step: None).step(gradients(0)), TypeError, "lr: expected a number"),
        (lambda: SGD(start(), average=EMA(start=1)).averaged().__enter__(), RuntimeError, "averaged"),
        (lambda: SGD(start()).averaged().__enter__(), RuntimeError, "averaged"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_errors_of_arrays_name_them():
    opt = SGD({"W": start()[0], "b": start()[1]})
    with pytest.raises(ValueError, match=r"grads\['b'\]: expected shape"):
        opt.step([gradients(0)[0], gradients(0)[1][:1]])
    opt = SGD(start())
    opt.freeze("0")
    with pytest.raises(ValueError, match=r"grads\[1\]: expected shape"):
        opt.step([None, gradients(0)[1][:1]])


# ----------------------------------------------------------------------------------------- summary, formula, averages


def test_summary_shows_what_applies_to_what():
    net = network()
    set_gradients(net)
    opt = AdamW(net.parameters(), 1e-3, decay="weights", max_norm=3.0, groups={"3.*": {"lr": 0.5}})
    opt.freeze("0.*")
    opt.step()
    lines = opt.summary().splitlines()
    assert lines[0] == "AdamW, 1 steps"
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:]}
    assert rows["0.weight"] == ["4x3", "0.001", "0.01", "0", "3", "0", "frozen"]
    assert rows["1.bias"] == ["4", "0.001", "0", "0", "-", "1"]
    assert rows["3.weight"] == ["2x4", "0.5", "0.01", "0", "3", "1"]


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_formula_has_a_line_for_each_thing_and_the_numbers(make):
    text = make(start(), **EVERYTHING | {"average": EqualAverage()}).formula()
    assert "l1 * sign(param)" in text and "clip(grad" in text and "max_norm / ||row||" in text
    assert "1 / (steps averaged)" in text and "clip_value = 0.5" in text and "lr = " in text


def test_formula_of_the_plain_case_is_plain():
    assert SGD(start(), 0.1).formula() == "g = grad\nparam = param - lr * g\nwith lr = 0.1"
    text = Adam(start(), schedules.cosine(0.1, 5), clip_norm=1.0, average=EMA(0.5)).formula()
    assert text.splitlines()[-1].startswith("with lr = cosine, clip_norm = 1.0") and "decay = 0.5" in text


def test_averages_are_swapped_in_and_out():
    params = start()
    opt = SGD(params, 0.1, average=EqualAverage(start=1))
    history = []
    for step in range(4):
        opt.step(gradients(step))
        history.append(flat(params))
    with opt.averaged():
        np.testing.assert_allclose(flat(params), np.mean(history[1:], axis=0), atol=1e-14)
        with pytest.raises(RuntimeError, match="leave averaged"):
            opt.step(gradients(0))
        with pytest.raises(RuntimeError, match="leave averaged"):
            opt.state_dict()
    np.testing.assert_array_equal(flat(params), history[-1])


def test_batch_norm_is_recalibrated_for_the_averages():
    net = network()
    opt = SGD(net.parameters(), 0.5, average=EMA(0.9))
    for step in range(5):
        set_gradients(net, step)
        opt.step()
    data = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32)
    with opt.averaged():
        net[1].momentum = 1.0
        net.forward(data)
        hidden = data @ net[0].weight.data.T + net[0].bias.data
        np.testing.assert_allclose(net[1].running_mean, hidden.mean(axis=0), atol=1e-5)


def test_every_optimizer_is_exported():
    names = {
        "SGD",
        "NormalizedSGD",
        "Adam",
        "AdamW",
        "NAdam",
        "RAdam",
        "Adamax",
        "Lion",
        "Adagrad",
        "RMSprop",
        "Adadelta",
    }
    assert names <= set(optim.__all__)
