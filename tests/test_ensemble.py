"""Ensembles, averages of states, and the examples that make them."""

import copy
import importlib
import pickle
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
import fastnn.functional as F
from fastnn.ensemble import Ensemble, average_states
from fastnn.optim import SGD, EqualAverage
from fastnn.sklearn import MLPClassifier, MLPRegressor

EXAMPLES = Path(__file__).parents[1] / "examples"


def network(seed, dropout=0.0, dtype=np.float32):
    rng = fnn.Generator(seed)
    options = {"rng": rng, "dtype": dtype}
    return fnn.Sequential(fnn.Linear(4, 5, **options), fnn.ReLU(), fnn.Dropout(dropout), fnn.Linear(5, 3, **options))


def rows(n=20, dtype=np.float32):
    return np.random.default_rng(1).standard_normal((n, 4)).astype(dtype)


def labels(n=20):
    return np.arange(n) % 3


def states_of_a_training(net, steps=3, average=None):
    """The state after each step, and the optimizer."""
    opt, loss_fn = SGD(net.parameters(), lr=0.5, average=average), fnn.CrossEntropyLoss()
    states = []
    for _ in range(steps):
        loss_fn(net(rows(dtype=net[0].weight.data.dtype)), labels())
        net.backward(loss_fn.backward())
        opt.step()
        states.append(net.state_dict())
    return states, opt


# ---------------------------------------------------------------------------------------------------------- the mean


def test_networks_are_averaged():
    x, nets = rows(), [network(seed) for seed in range(3)]
    expected = np.mean([net.predict(x) for net in nets], axis=0)
    mean = Ensemble(nets).predict(x)
    np.testing.assert_allclose(mean, expected, rtol=1e-6, atol=1e-6)
    assert mean.dtype == np.float32
    weighted = Ensemble(nets, [1, 0, 3])
    expected = (nets[0].predict(x) + 3 * nets[2].predict(x)) / 4
    np.testing.assert_allclose(weighted(x), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(weighted.weights, [0.25, 0, 0.75])
    assert len(weighted) == len(list(weighted.each(x))) == 3


def test_one_member_predicts_as_alone():
    x, net = rows(), network(0)
    np.testing.assert_array_equal(Ensemble([net]).predict(x), net.predict(x))


def test_output_is_for_networks_alone():
    x, net = rows(), network(0)
    ensemble = Ensemble([net, lambda x: np.full((len(x), 3), 1 / 3, np.float32)], output=F.softmax)
    np.testing.assert_allclose(ensemble.predict(x), F.softmax(net.predict(x)) / 2 + 1 / 6, rtol=1e-6)
    nested = Ensemble([ensemble, net], [2, 1], output=F.softmax)
    np.testing.assert_allclose(nested.predict(x), F.softmax(net.predict(x)) * 2 / 3 + 1 / 9, rtol=1e-6)


def test_estimators_predict_probabilities_or_values():
    x, y = rows(), labels()
    options = {"max_iter": 2, "n_iter_no_change": np.inf}
    models = [MLPClassifier(random_state=seed, **options).fit(x, y) for seed in range(2)]
    expected = (models[0].predict_proba(x) + models[1].predict_proba(x)) / 2
    np.testing.assert_allclose(Ensemble(models).predict(x), expected, rtol=1e-6)
    values = [MLPRegressor(random_state=seed, **options).fit(x, y) for seed in range(2)]
    expected = (values[0].predict(x) + values[1].predict(x)) / 2
    np.testing.assert_allclose(Ensemble(values).predict(x), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"members: expected the same classes in all, got \[0 1 2\] and \[1 2 3\]"):
        Ensemble([models[0], MLPClassifier(**options).fit(x, y + 1)])


def test_integers_are_averaged():
    assert Ensemble([lambda x: np.array([1, 2]), lambda x: np.array([2, 2])]).predict(0).tolist() == [1.5, 2.0]


# ------------------------------------------------------------------------------------------------------------ states


def test_snapshots_are_copies():
    net = network(0, dropout=0.5)
    states, _ = states_of_a_training(net)
    fnn.manual_seed(9).draw()
    ensemble = Ensemble.of_states(net, states, [1, 2, 1])
    assert fnn.random.default_generator.position == 1
    assert all(parameter.grad is None for member in ensemble.members for parameter in member.parameters())
    before = list(ensemble.each(rows()))
    np.testing.assert_array_equal(before[-1], net.predict(rows()))
    assert not np.array_equal(before[0], before[1])
    states_of_a_training(net)
    for a, b in zip(before, ensemble.each(rows()), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(ensemble.weights, [0.25, 0.5, 0.25])


def test_a_network_in_training_can_be_copied_and_pickled():
    net = network(0)
    states_of_a_training(net, steps=1)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        states_of_a_training(other, steps=1)
        assert not np.array_equal(other.predict(rows()), net.predict(rows()))


def test_the_mean_of_states_is_the_average_of_the_optimizer():
    net = network(0, dtype=np.float64)
    states, opt = states_of_a_training(net, steps=4, average=EqualAverage())
    mean = average_states(states)
    with opt.averaged():
        for name, array in net.state_dict().items():
            np.testing.assert_allclose(mean[name], array, rtol=1e-12)
            assert mean[name].dtype == array.dtype


def test_states_are_weighted_and_counts_are_the_last():
    a = {"w": np.array([1.0, 2.0], np.float32), "count": np.array(3)}
    b = {"w": np.array([5.0, 2.0], np.float32), "count": np.array(7)}
    mean = average_states([a, b], weights=[3, 1])
    assert mean["w"].tolist() == [2.0, 2.0]
    assert mean["w"].dtype == np.float32
    assert mean["count"] == 7
    assert mean["count"] is not b["count"]


# ------------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Ensemble([]), ValueError, "members: expected at least one, got none"),
        (
            lambda: Ensemble([len, 3]),
            TypeError,
            r"members\[1\]: expected predict_proba, predict or a callable, got int",
        ),
        (lambda: Ensemble([len], [1, 2]), ValueError, r"weights: expected 1 numbers, got shape \(2,\)"),
        (lambda: Ensemble([len], [-1]), ValueError, "weights: expected finite numbers of at least 0, and one above"),
        (lambda: Ensemble([len, len], [0, 0]), ValueError, "weights: expected finite numbers of at least 0, and one"),
        (
            lambda: Ensemble([np.zeros, np.ones, lambda n: np.ones(n + 1)]).predict(2),
            ValueError,
            r"members: expected predictions of shape \(2,\) from all, got \(3,\)",
        ),
        (lambda: average_states([]), ValueError, "states: expected at least one, got none"),
        (lambda: average_states([{}], [np.nan]), ValueError, "weights: expected finite numbers"),
        (
            lambda: average_states([{"w": np.zeros(2)}, {"w": np.zeros(3), "v": np.zeros(1)}]),
            ValueError,
            "v: unexpected\n  w: expected float64 of shape",
        ),
        (
            lambda: average_states([{"w": np.zeros(2, np.float16)}]),
            TypeError,
            "w: expected float32, float64 or integers",
        ),
        (lambda: average_states([{"w": np.zeros(2).astype(">f8")}]), TypeError, "w: expected .*, got >f8"),
        (lambda: average_states([{"w": np.ma.zeros(2)}]), TypeError, "w: expected an array without a mask"),
        (lambda: Ensemble.of_states(network(0), [{}]), ValueError, "0.weight: missing"),
    ],
)
def test_what_is_wrong_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---------------------------------------------------------------------------------------------------------- examples


@pytest.fixture
def example(monkeypatch):
    """An example as a module."""
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def load(name):
        for other in ("search", "ensembles"):
            monkeypatch.delitem(importlib.sys.modules, other, raising=False)
        return importlib.import_module(name)

    return load


def test_every_way_to_an_ensemble_predicts(example):
    results = example("ensembles").compare(members=2, epochs=5, stages=((4, 1), (3, 2)), hidden=(64,))
    assert set(results) == {"initial weights", "hyperparameters", "snapshots", "averaged weights"}
    for way, (members, together) in results.items():
        assert together >= max(0.9, sum(members) / len(members) - 0.02), way


def test_the_search_narrows_its_ranges_and_finds_a_network(example):
    search = example("search")
    (x, y), (x_test, y_test) = search.digits()
    found = search.search(x, y, stages=((8, 1), (4, 3)), hidden=(64,))
    search.EDGE = 0.5  # so wide that every point is at one
    assert [note.split()[0] for note in search.notes(found[-1])] == list(search.COARSE)
    assert [each.best_estimator_[-1].max_iter for each in found] == [1, 3]
    coarse, fine = (each.param_distributions["mlpclassifier__learning_rate_init"].support() for each in found)
    best = found[0].best_params_["mlpclassifier__learning_rate_init"]
    assert fine[0] < best < fine[1]
    assert fine[1] / fine[0] == pytest.approx((coarse[1] / coarse[0]) ** (1 / 3))
    assert found[-1].score(x_test, y_test) > 0.85


def test_edges_are_those_with_something_beyond(example):
    search = example("search")
    assert search.edge("alpha", 1.5e-4, 1e-4, 1.0) == "lower"
    assert search.edge("alpha", 0.9, 1e-4, 1.0) == "upper"
    assert search.edge("alpha", 1e-2, 1e-4, 1.0) is None
    assert search.edge("dropout", 0.01, 0.0, 0.9) is None
    assert search.edge("dropout", 0.21, 0.2, 0.4) == "lower"
    assert search.narrowed("dropout", 0.05, 0.0, 0.9) == (0.0, pytest.approx(0.2))
