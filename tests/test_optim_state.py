"""Schedules, and what an optimizer's state holds: resumed in another process, training goes on bit for bit."""

from __future__ import annotations

import copy
import importlib.util
import math
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastnn import schedules
from fastnn.optim import EMA, SGD, Adam, RAdam

ROOT = Path(__file__).parents[1]

# Trains a network with dropout and a schedule; "half" stops after 10 of 20 steps and saves, "rest" goes on from there.
TRAINING = """
import sys
import numpy as np
import fastnn as fnn
from fastnn import optim, schedules

kind, part, folder = sys.argv[1:]
fnn.manual_seed(3 if part != "rest" else 99)  # what is loaded must make up for it
net = fnn.Sequential(fnn.Linear(6, 16), fnn.BatchNorm1d(16), fnn.ReLU(), fnn.Dropout(0.3), fnn.Linear(16, 3))
plateau = schedules.ReduceOnPlateau(schedules.warmup(schedules.cosine(0.02, 15), 4), patience=1, factor=0.5)
shared = dict(clip_norm=1.0, average=optim.EMA(0.9), decay="weights", weight_decay=0.01, l1=1e-4, max_norm=2.0)
make = {
    "sgd": lambda p: optim.SGD(p, plateau, 0.9, nesterov=True, **shared),
    "inside": lambda p: optim.SGD(p, plateau, 0.9, form="lr_inside", **shared),
    "adamw": lambda p: optim.AdamW(p, plateau, amsgrad=True, **shared),
    "nadam": lambda p: optim.NAdam(p, plateau, **shared),
    "radam": lambda p: optim.RAdam(p, plateau, (0.5, 0.9), **shared),
    "adamax": lambda p: optim.Adamax(p, plateau, **shared),
    "lion": lambda p: optim.Lion(p, plateau, **shared),
    "adagrad": lambda p: optim.Adagrad(p, plateau, lr_decay=0.1, **shared),
    "rmsprop": lambda p: optim.RMSprop(p, plateau, momentum=0.5, centered=True, **shared),
    "adadelta": lambda p: optim.Adadelta(p, plateau, **shared),
}
opt = make[kind](net.parameters())
opt.freeze("0.*")
if part == "rest":
    opt.unfreeze()
    for target, name in ((net, "net"), (opt, "opt")):
        with np.load(f"{folder}/{name}.npz", allow_pickle=False) as file:
            target.load_state_dict(file)
rng = np.random.default_rng(0)
x, labels = rng.standard_normal((20, 12, 6)).astype(np.float32), rng.integers(0, 3, (20, 12))
loss_fn = fnn.CrossEntropyLoss()
for step in {"whole": range(20), "half": range(10), "rest": range(10, 20)}[part]:
    if step == 5:
        opt.unfreeze()
    loss = loss_fn(net(x[step]), labels[step])
    net.backward(loss_fn.backward(), need_dx=False)
    opt.step()
    if step % 3 == 0:
        plateau.update(1.0)
for source, kind in ((net, "net"), (opt, "opt")):
    np.savez(f"{folder}/{kind}.npz", **source.state_dict())
"""


@pytest.mark.parametrize(
    "kind", ["sgd", "inside", "adamw", "nadam", "radam", "adamax", "lion", "adagrad", "rmsprop", "adadelta"]
)
def test_resume_in_a_new_process_is_bit_exact(kind, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for part, folder in (("whole", "a"), ("half", "b"), ("rest", "b")):
        subprocess.run([sys.executable, "-c", TRAINING, kind, part, str(tmp_path / folder)], check=True, cwd=tmp_path)
    for name in ("net", "opt"):
        with np.load(tmp_path / "a" / f"{name}.npz") as whole, np.load(tmp_path / "b" / f"{name}.npz") as parts:
            assert set(whole.files) == set(parts.files)
            assert len(whole.files) > 8
            for key in whole.files:
                assert whole[key].tobytes() == parts[key].tobytes(), key


def arrays():
    return [np.ones((2, 3)), np.ones(3)]


def test_counts_of_what_was_frozen_are_part_of_the_state():
    opt = RAdam(arrays())
    opt.freeze("1")
    opt.step([np.ones((2, 3)), None])
    opt.step([np.ones((2, 3)), None])
    opt.unfreeze()
    opt.step([np.ones((2, 3)), np.ones(3)])
    state = opt.state_dict()
    assert state["step_count"] == 3 and state["steps.1"] == 1 and "steps.0" not in state
    assert state["beta1_product"] == pytest.approx(0.9**3) and state["beta1_product.1"] == 0.9
    again = RAdam(arrays())
    again.load_state_dict(state)
    assert again.state_dict().keys() == state.keys()
    del state["beta2_product.1"]
    with pytest.raises(ValueError, match=r"beta2_product\.1: missing"):
        RAdam(arrays()).load_state_dict(state)


def test_state_of_other_options_is_refused():
    state = Adam(arrays(), average=EMA()).state_dict()
    assert {"average.0", "average.1", "average_count"} <= set(state)
    with pytest.raises(ValueError, match=r"average\.0: unexpected"):
        Adam(arrays()).load_state_dict(state)
    with pytest.raises(ValueError, match=r"lr: missing"):
        Adam(arrays()).load_state_dict(Adam(arrays(), schedules.constant(1.0)).state_dict())
    with pytest.raises(ValueError, match=r"max_exp_avg_sq\.0: missing"):
        Adam(arrays(), amsgrad=True).load_state_dict(Adam(arrays()).state_dict())


# ---------------------------------------------------------------------------------------------------- schedules

S = schedules
STEPS = range(40)


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        (S.constant(0.3), lambda t: 0.3),
        (S.step_decay(0.3, 7, 0.5), lambda t: 0.3 * 0.5 ** (t // 7)),
        (S.step_decay(0.3, [5, 9, 20]), lambda t: 0.3 * 0.1 ** sum(t >= m for m in (5, 9, 20))),
        (S.exponential(0.3, every=4), lambda t: 0.3 * 0.98 ** (t // 4)),
        (S.linear(0.3, 10, 0.1), lambda t: 0.3 - 0.2 * min(t / 10, 1)),
        (S.polynomial(0.3, 10, power=2), lambda t: 0.3 * (1 - min(t / 10, 1)) ** 2),
        (S.cosine(0.3, 10, 0.1), lambda t: 0.1 + 0.1 * (1 + math.cos(math.pi * min(t / 10, 1)))),
        (S.cosine_restarts(0.3, 10), lambda t: 0.15 * (1 + math.cos(math.pi * (t % 10) / 10))),
        (S.inverse_sqrt(0.3, 4), lambda t: 0.3 / math.sqrt(max(1, t / 4))),
        (S.warmup(0.3, 4), lambda t: 0.3 * min(1, (t + 1) / 5)),
        (
            S.warmup(S.exponential(0.3, 0.5), 4, 0.2),
            lambda t: 0.3 * (0.2 + 0.16 * (t + 1) if t < 4 else 0.5 ** (t - 4)),
        ),
        (
            S.sequence((0.1, 3), (S.linear(0.4, 8), 8), 0.2),
            lambda t: 0.1 if t < 3 else 0.4 - 0.05 * (t - 3) if t < 11 else 0.2,
        ),
        (S.scaled(S.constant(0.3), 0.1), lambda t: 0.03),
        (S.scaled(0.3, 0.1), lambda t: 0.03),
        (S.one_cycle(0.3, 2, warm=0.5, end_factor=0.1), lambda t: 0.3 if t < 1 else 0.03),
    ],
)
def test_schedules_follow_their_formulas(schedule, formula):
    rates = [schedule(t) for t in STEPS]
    np.testing.assert_allclose(rates, [formula(t) for t in STEPS], rtol=1e-13, atol=1e-16)
    for again in (pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule), eval(repr(schedule), vars(S))):
        assert [again(t) for t in STEPS] == rates


def test_schedules_are_shown_as_they_were_made():
    assert repr(S.warmup(S.cosine(0.3, steps=10), 4)) == "warmup(cosine(0.3, steps=10), 4)"


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
def test_schedules_are_those_of_torch():
    import torch

    scheduler = torch.optim.lr_scheduler
    pairs = [
        (S.one_cycle(0.3, 40), lambda o: scheduler.OneCycleLR(o, 0.3, total_steps=40)),
        (S.cosine_restarts(0.3, 5, 2, 0.1), lambda o: scheduler.CosineAnnealingWarmRestarts(o, 5, 2, 0.1)),
        (S.step_decay(0.3, [5, 9]), lambda o: scheduler.MultiStepLR(o, [5, 9])),
        (S.polynomial(0.3, 30, power=2.0), lambda o: scheduler.PolynomialLR(o, 30, 2.0)),
    ]
    for schedule, make in pairs:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.3)
        theirs = make(optimizer)
        for t in STEPS:
            assert schedule(t) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-12)
            optimizer.step()
            if t < 39:
                theirs.step()


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_is_that_of_torch(mode):
    import torch

    options = {"factor": 0.5, "patience": 2, "cooldown": 1, "min_lr": 0.02, "threshold": 1e-2}
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.3)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode, eps=0, **options)
    plateau = S.ReduceOnPlateau(0.3, mode=mode, **options)
    for metric in np.random.default_rng(0).random(60) + 0.1:
        theirs.step(metric)
        plateau.update(metric)
        assert plateau(0) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_an_optimizer_asks_its_schedule_for_each_step():
    asked = []
    opt = SGD([np.zeros(1)], lambda step: asked.append(step) or 0.5)
    opt.step([np.ones(1)])
    opt.step([np.ones(1)])
    assert asked == [0, 1] and opt.current_lr == 0.5
    assert "lr" not in opt.state_dict()


def test_plateau_state_goes_with_the_optimizer():
    plateau = S.ReduceOnPlateau(0.3, patience=0)
    opt = SGD([np.zeros(1)], plateau)
    plateau.update(1.0)
    assert plateau.update(2.0)
    again = SGD([np.zeros(1)], S.ReduceOnPlateau(0.3, patience=0))
    again.load_state_dict(opt.state_dict())
    assert again.current_lr == opt.current_lr == pytest.approx(0.03)


def test_plateau_of_a_group_is_part_of_the_state():
    def make():
        plateau = S.ReduceOnPlateau(0.3, patience=0)
        return plateau, SGD([np.ones(1), np.ones(1)], 0.1, groups={"1": {"lr": plateau}})

    (plateau, opt), (fresh, again) = make(), make()
    plateau.update(1.0)
    assert plateau.update(2.0)
    again.load_state_dict(opt.state_dict())
    assert fresh(0) == plateau(0) == pytest.approx(0.03)


@pytest.mark.parametrize(
    "make",
    [
        lambda: S.constant(-1),
        lambda: S.constant(math.nan),
        lambda: S.cosine(0.1, 0),
        lambda: S.linear(0.1, 2.5),
        lambda: S.cosine_restarts(0.1, 5, 0.5),
        lambda: S.cosine_restarts(0.1, 5, math.nan),
        lambda: S.one_cycle(0.1, 10, warm=0),
        lambda: S.ReduceOnPlateau(0.1, factor=1.0),
        lambda: S.ReduceOnPlateau(0.1, mode="least"),
    ],
)
def test_bad_schedules(make):
    with pytest.raises(ValueError, match="expected"):
        make()


@pytest.mark.parametrize(
    "around",
    [
        lambda plateau: schedules.warmup(plateau, 3),
        lambda plateau: schedules.scaled(plateau, 0.5),
        lambda plateau: schedules.scaled(schedules.sequence((0.5, 2), plateau), 2.0),
    ],
)
def test_a_plateau_within_another_schedule_is_part_of_the_state(around):
    def make():
        return SGD([np.ones(3, np.float32)], around(schedules.ReduceOnPlateau(0.1, patience=0)))

    first, second = make(), make()
    for _ in range(4):
        first.step([np.ones(3, np.float32)])
    for metric in (1.0, 2.0):
        first.lr.update(metric)
    second.load_state_dict(first.state_dict())
    assert second.current_lr == first.current_lr < around(schedules.constant(0.1))(4)
    with pytest.raises(ValueError, match="lr"):
        second.load_state_dict({name: value for name, value in first.state_dict().items() if "lr" not in name})


def test_fine_tuning_example_learns(tmp_path):
    pytest.importorskip("matplotlib")
    command = [sys.executable, str(ROOT / "examples" / "fine_tuning.py")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    scratch, untrained, head, whole = (
        float(a) for a in re.findall(r"^digits .* (\d\.\d+)$", done.stdout, re.MULTILINE)
    )
    assert scratch > 0.95 and untrained < 0.6
    assert 0.7 < head < whole and whole > 0.93
