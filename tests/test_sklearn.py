"""Estimators for scikit-learn: its own checks, its own numbers, and what they have beyond."""

import copy
import importlib.util
import math
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import sklearn.neural_network as theirs
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import fastnn as fnn
import fastnn.sklearn as ours
from fastnn import optim, schedules
from fastnn.functional.activations import ACTIVATIONS
from fastnn.sklearn import MLPClassifier, MLPRegressor

FOREVER = {"n_iter_no_change": math.inf, "random_state": 0}


def points(n=300, dtype=np.float64):
    """Three classes that a line cannot tell apart."""
    x = np.random.default_rng(0).standard_normal((n, 4)).astype(dtype)
    return x, np.where((x[:, :2] ** 2).sum(1) < 1.4, 0, 1 + (x[:, 2] > 0))


def values():
    x, _ = points()
    return x, np.stack((x[:, 0] * x[:, 1], x[:, 2]), axis=1)


def checks():
    for kind in (MLPClassifier, MLPRegressor):
        for estimator, check in estimator_checks_generator(kind()):
            yield pytest.param(estimator, check, id=f"{kind.__name__}-{check.func.__name__}")


@pytest.mark.filterwarnings("ignore")  # the checks train for too short on purpose
@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_scikit_learn_accepts_them(estimator, check):
    check(estimator)


# ------------------------------------------------------------------------------------------- scikit-learn's numbers


def targets(kind):
    x, classes = points()
    labels = np.stack((x[:, 0] > 0, x[:, 1] > x[:, 2]), axis=1).astype(int)
    return {
        "classes": classes,
        "binary": classes > 0,
        "labels": labels,
        "value": values()[1][:, 0],
        "values": x[:, :2],
    }[kind]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("kind", "options", "rtol"),
    [
        ("classes", {"solver": "sgd", "learning_rate_init": 0.1}, 1e-9),
        ("classes", {"solver": "sgd", "hidden_layer_sizes": (20, 10), "activation": "tanh", "alpha": 1.0}, 1e-9),
        ("classes", {"solver": "sgd", "momentum": 0.0, "batch_size": 7, "shuffle": False}, 1e-9),
        ("classes", {"solver": "sgd", "learning_rate": "invscaling", "nesterovs_momentum": False}, 1e-9),
        ("classes", {"solver": "sgd", "hidden_layer_sizes": (), "early_stopping": True}, 1e-9),
        ("classes", {"solver": "adam"}, 1e-4),  # there epsilon is added before the bias is corrected
        ("binary", {"solver": "sgd", "activation": "logistic", "early_stopping": True}, 1e-9),
        ("labels", {"solver": "sgd", "activation": "identity"}, 1e-9),
        ("value", {"solver": "sgd", "early_stopping": True, "alpha": 0.1}, 1e-9),
        ("values", {"solver": "sgd", "learning_rate_init": 0.01}, 1e-9),
        ("values", {"solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 1, "tol": 0.02}, 1e-9),
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_are_those_of_scikit_learn(kind, options, rtol, weighted):
    x, _ = points()
    y, weight = targets(kind), np.random.default_rng(1).uniform(0, 2, len(x)) if weighted else None
    name = "MLPRegressor" if kind.startswith("value") else "MLPClassifier"
    pair = [
        getattr(module, name)(**{"max_iter": 30, "batch_size": 64, "random_state": 5} | options)
        for module in (theirs, ours)
    ]
    theirs_, ours_ = (each.fit(x, y, weight) for each in pair)
    assert len(ours_.loss_curve_) == ours_.n_iter_ == theirs_.n_iter_
    np.testing.assert_allclose(ours_.loss_curve_, theirs_.loss_curve_, rtol=rtol)
    assert (ours_.validation_scores_ is None) == (theirs_.validation_scores_ is None)
    np.testing.assert_allclose(ours_.validation_scores_ or [], theirs_.validation_scores_ or [], rtol=1e-9)
    for a, b in zip(ours_.coefs_ + ours_.intercepts_, theirs_.coefs_ + theirs_.intercepts_, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e4 * rtol**1.5)
    for attribute in ("n_layers_", "n_outputs_", "out_activation_", "t_", "n_features_in_"):
        assert getattr(ours_, attribute) == getattr(theirs_, attribute), attribute
    if name == "MLPClassifier":
        np.testing.assert_array_equal(ours_.classes_, theirs_.classes_)
        np.testing.assert_array_equal(ours_.predict(x), theirs_.predict(x))
        np.testing.assert_allclose(ours_.predict_proba(x), theirs_.predict_proba(x), atol=20 * rtol)
        np.testing.assert_allclose(ours_.predict_log_proba(x), np.log(ours_.predict_proba(x)), rtol=1e-9, atol=1e-12)
    else:
        np.testing.assert_allclose(ours_.predict(x), theirs_.predict(x), rtol=1e-6)


# ----------------------------------------------------------------------------------------------------- on the digits


def test_digits_are_learnt():
    x, y = load_digits(return_X_y=True)
    rate = schedules.cosine(1e-2, steps=30 * 23)
    network = MLPClassifier(
        (512,), batch_norm=True, dropout=0.5, batch_size=64, max_iter=30, learning_rate=rate, **FOREVER
    )
    model = make_pipeline(MinMaxScaler(), network)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    assert cross_val_score(model, x.astype(np.float32), y, cv=folds).mean() >= 0.98


def test_example_compares_the_estimators(capsys):
    path = Path(__file__).parents[1] / "examples" / "estimators.py"
    spec = importlib.util.spec_from_file_location("estimators_example", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(["--epochs", "5", "--folds", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert [line[:34].strip() for line in lines[1:]] == ["scikit-learn", "fastnn", "fastnn, batch norm and dropout"]
    accuracies = [float(line.split()[-3]) for line in lines[1:]]
    assert min(accuracies) > 0.9
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.01)  # the same network


# -------------------------------------------------------------------------------------------- what they have beyond


@pytest.mark.parametrize("solver", sorted(ours._SOLVERS))
def test_every_optimizer_trains(solver):
    x, y = points()
    rate = {"sgd": 0.05, "normalizedsgd": 0.05, "adadelta": 1.0, "adagrad": 0.05}.get(solver, 0.005)
    model = MLPClassifier(solver=solver, learning_rate_init=rate, batch_size=32, max_iter=40, **FOREVER).fit(x, y)
    assert type(model.optimizer_).__name__.lower() == solver
    assert model.loss_ < 0.5 * model.loss_curve_[0]


def test_a_solver_may_be_made_by_a_function():
    x, y = points()
    model = MLPClassifier(solver=partial(optim.Adam, amsgrad=True, clip_norm=1.0), max_iter=3, **FOREVER).fit(x, y)
    assert "max_exp_avg_sq.0.weight" in model.optimizer_.state_dict()
    assert model.optimizer_.clip_norm == 1.0
    assert clone(model).fit(x, y).loss_ == model.loss_


def test_the_penalty_leaves_biases_alone_and_is_divided_unless_decoupled():
    x, y = points(n=50)
    for solver, expected in (("adam", 0.3 / 50), ("adamw", 0.3)):
        model = MLPClassifier(solver=solver, alpha=0.3, batch_norm=True, max_iter=1, **FOREVER).fit(x, y)
        names, applied = model.optimizer_._names, model.optimizer_._tensor_options
        decays = {name: each.weight_decay for name, each in zip(names, applied, strict=True)}
        assert decays == {"0.weight": None, "3.weight": None} | dict.fromkeys(
            ("0.bias", "1.weight", "1.bias", "3.bias"), 0.0
        )
        assert model.optimizer_.weight_decay == expected


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "identity", "logistic", fnn.act.leaky_relu(0.2), fnn.PReLU])
def test_every_activation_trains(activation):
    x, y = points()
    model = MLPClassifier((32,), activation, max_iter=30, batch_size=32, **FOREVER).fit(x, y)
    assert model.loss_ < model.loss_curve_[0]
    assert copy.deepcopy(model).predict_proba(x).tobytes() == model.predict_proba(x).tobytes()


def test_layers_may_differ():
    options = {"activation": ["tanh", fnn.act.elu(0.5)], "batch_norm": [True, False], "dropout": [0.0, 0.25]}
    model = MLPClassifier((8, 6), **options, max_iter=2, **FOREVER).fit(*points())
    expected = "Sequential(Linear(4, 8), BatchNorm1d(8), Tanh(), Linear(8, 6), ELU(0.5), Dropout(0.25), Linear(6, 3))"
    assert str(model.net_) == expected


def test_statistics_of_batch_norm_are_exact_after_fit():
    x, y = points()
    model = MLPClassifier((8,), batch_norm=True, max_iter=2, **FOREVER).fit(x, y)
    np.testing.assert_allclose(
        model.net_[1].running_mean, (x @ model.coefs_[0] + model.intercepts_[0]).mean(0), rtol=1e-9
    )


def test_a_schedule_is_the_rate_and_starts_afresh():
    x, y = points()
    rates = []

    class Record:
        def on_epoch_end(self, estimator):
            rates.append(estimator.optimizer_.current_lr)

    schedule = schedules.cosine(0.01, 10)
    model = MLPClassifier(learning_rate=schedule, batch_size=150, max_iter=5, callbacks=[Record()], **FOREVER)
    for _ in range(2):
        model.fit(x, y)
    np.testing.assert_array_equal(rates, 2 * [schedule(step) for step in (2, 4, 6, 8, 10)])


def test_a_schedule_that_watches_gets_the_loss_and_a_copy():
    x, y = points()
    plateau = schedules.ReduceOnPlateau(0.01, factor=0.5, patience=0, threshold=0.5)
    model = MLPClassifier(learning_rate=plateau, max_iter=5, **FOREVER).fit(x, y)
    assert model.optimizer_.lr.scale == 0.5**4
    assert plateau.scale == 1.0


class Calls:
    def __init__(self, last):
        self.last, self.names = last, []

    def on_fit_begin(self, estimator):
        self.names.append("begin")

    def on_epoch_end(self, estimator):
        self.names.append(estimator.n_iter_)
        return estimator.n_iter_ == self.last

    def on_fit_end(self, estimator):
        self.names.append("end")


def test_callbacks_are_called_and_may_stop():
    calls, other = Calls(last=2), Calls(last=9)
    model = MLPClassifier(callbacks=[object(), calls, other], max_iter=5, random_state=0).fit(*points())
    assert calls.names == other.names == ["begin", 1, 2, "end"]
    assert len(model.loss_curve_) == 2


def test_an_interruption_keeps_what_was_learnt():
    class Interrupt:
        def on_epoch_end(self, estimator):
            if estimator.n_iter_ == 3:
                raise KeyboardInterrupt

    x, y = points()
    options = {"batch_norm": True, "early_stopping": True, **FOREVER}
    with pytest.warns(UserWarning, match="fit: interrupted by the user; what was learnt is kept"):
        model = MLPClassifier(callbacks=[Interrupt()], **options).fit(x, y)
    expected = MLPClassifier(max_iter=3, **options).fit(x, y)
    assert model.predict_proba(x).tobytes() == expected.predict_proba(x).tobytes()


def test_class_weights_are_weights_of_samples():
    x, y = points()
    names = np.array(["in", "left", "right"])[y]
    weights = {"in": 0.5, "left": 2.0, "right": 0.0}
    a = MLPClassifier(class_weight=weights, max_iter=5, **FOREVER).fit(x, names, np.full(len(x), 2.0))
    b = MLPClassifier(max_iter=5, **FOREVER).fit(x, names, [2 * weights[name] for name in names])
    assert a.loss_curve_ == b.loss_curve_
    c = MLPClassifier(class_weight="balanced", max_iter=5, **FOREVER).fit(x, y)
    d = MLPClassifier(max_iter=5, **FOREVER).fit(x, y, len(y) / 3 / np.bincount(y)[y])
    np.testing.assert_allclose(c.loss_curve_, d.loss_curve_, rtol=1e-12)


def test_a_batch_without_weight_takes_no_step():
    x, y = points(n=20)[0], np.arange(20) % 3
    options = {"batch_size": 10, "shuffle": False, "max_iter": 4, "tol": 0, **FOREVER}
    half = MLPClassifier(**options).fit(x, y, np.repeat([1.0, 0.0], 10))
    assert half.optimizer_.step_count == 4
    np.testing.assert_array_equal(half.coefs_[0], MLPClassifier(**options).fit(x[:10], y[:10]).coefs_[0])


def test_float32_stays_float32():
    x, y = points(dtype=np.float32)
    model = MLPClassifier(max_iter=2, **FOREVER).fit(x, y, np.ones(len(x)))
    assert model.coefs_[0].dtype == model.predict_proba(x.astype(np.float64)).dtype == np.float32


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_norm": True, "dropout": 0.3, "early_stopping": True},
        {"learning_rate": schedules.warmup(schedules.cosine(0.01, steps=10), 3)},
    ],
)
def test_the_same_seed_gives_the_same_bits_and_pickles_keep_them(options):
    x, y = points()
    position = fnn.random.default_generator.position
    model = MLPClassifier(max_iter=5, **options, **FOREVER).fit(x, y)
    again = clone(model).fit(x, y)
    other = clone(model).set_params(random_state=1).fit(x, y)
    stored = pickle.loads(pickle.dumps(model))
    expected = model.predict_proba(x)
    assert expected.tobytes() == again.predict_proba(x).tobytes() == stored.predict_proba(x).tobytes()
    assert expected.tobytes() != other.predict_proba(x).tobytes()
    assert fnn.random.default_generator.position == position
    for each in (model, stored):
        each.set_params(early_stopping=False).partial_fit(x, y)
    assert model.predict_proba(x).tobytes() == stored.predict_proba(x).tobytes() != expected.tobytes()


def test_partial_fit_is_fit_epoch_by_epoch():
    x, y = points()
    options = {"shuffle": False, "batch_size": 32, **FOREVER}
    whole = MLPClassifier(max_iter=4, **options).fit(x, y)
    parts = MLPClassifier(**options)
    for _ in range(4):
        parts.partial_fit(x, y, classes=[0, 1, 2])
    assert parts.loss_curve_ == whole.loss_curve_
    assert parts.n_iter_ == 1
    assert parts.t_ == whole.t_ == 4 * len(x)
    x, y = values()
    assert MLPRegressor(**options).partial_fit(x, y).predict(x).shape == y.shape


def test_partial_fit_knows_classes_that_come_later():
    x, y = points()
    model = MLPClassifier(batch_size=16, **FOREVER)
    for _ in range(30):
        for part in (y < 2, y > 0):
            model.partial_fit(x[part], y[part], classes=[0, 1, 2])
    assert set(model.predict(x)) == {0, 1, 2}


def test_warm_start_goes_on():
    x, y = points()
    model = MLPClassifier(warm_start=True, max_iter=5, **FOREVER).fit(x, y)
    before = model.loss_
    model.fit(x, y)
    assert model.loss_curve_[5] < before
    assert len(model.loss_curve_) == 10
    assert model.n_iter_ == 5
    with pytest.raises(ValueError, match=r"hidden_layer_sizes: expected \[100\], those .* goes on, got \[50, 20\]"):
        clone(model).fit(x, y).set_params(hidden_layer_sizes=(50, 20)).fit(x, y)
    model.set_params(warm_start=False).fit(x, y)
    assert len(model.loss_curve_) == 5


def test_early_stopping_keeps_the_best_weights():
    x, y = points()
    kept = []

    class Keep:
        def on_epoch_end(self, estimator):
            kept.append(estimator.coefs_[0].copy())

    model = MLPClassifier(
        learning_rate_init=0.1, early_stopping=True, n_iter_no_change=5, callbacks=[Keep()], random_state=0
    ).fit(x, y)
    assert model.best_loss_ is None
    assert model.n_iter_ < 200
    best = int(np.argmax(model.validation_scores_))
    assert model.best_validation_score_ == model.validation_scores_[best]
    np.testing.assert_array_equal(model.coefs_[0], kept[best])


def test_one_class_is_certain():
    x, _ = points()
    model = MLPClassifier(max_iter=2, **FOREVER).fit(x, np.full(len(x), "only"))
    assert set(model.predict(x)) == {"only"}
    np.testing.assert_array_equal(model.predict_proba(x), np.ones((len(x), 1)))


def test_weights_are_views_of_the_network():
    x, y = points()
    model = MLPClassifier(max_iter=1, **FOREVER).fit(x, y)
    for array in model.coefs_ + model.intercepts_:
        array[...] = 0.0
    np.testing.assert_allclose(model.predict_proba(x), 1 / 3)


def test_an_epoch_too_few_is_a_warning():
    with pytest.warns(ConvergenceWarning, match="max_iter: 3 epochs"):
        MLPClassifier(max_iter=3, random_state=0).fit(*points())


def test_verbose_prints_each_epoch(capsys):
    MLPClassifier(max_iter=2, verbose=True, early_stopping=True, **FOREVER).fit(*points())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0].split()[0] for line in lines] == ["epoch", "validation"] * 2


# ------------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "lbfgs"}, "solver: expected one of adadelta, .*, got 'lbfgs'"),
        ({"activation": "step"}, "activation: expected one of identity, logistic, relu, .*, got 'step'"),
        ({"activation": ["relu", "tanh"]}, "activation: expected one value, or one for each of 1 hidden layers, got 2"),
        ({"hidden_layer_sizes": (3, 0)}, r"hidden_layer_sizes: expected numbers > 0, got \(3, 0\)"),
        ({"learning_rate": "fast"}, "learning_rate: expected 'constant', 'invscaling', 'adaptive' or a schedule"),
        ({"learning_rate_init": 0}, r"learning_rate_init: expected a number in \(0, inf\), got 0"),
        ({"momentum": 2}, r"momentum: expected a number in \[0, 1\], got 2"),
        ({"alpha": -1}, r"alpha: expected a number in \[0, inf\), got -1"),
        ({"batch_size": 0}, r"batch_size: expected a number in \[1, inf\), got 0"),
        ({"max_iter": 0}, r"max_iter: expected a number in \[1, inf\), got 0"),
        ({"validation_fraction": 1.0}, r"validation_fraction: expected a number in \(0, 1\), got 1.0"),
        ({"early_stopping": True, "validation_fraction": 0.001}, "validation_fraction: expected at least two samples"),
        ({"beta_1": 1.0}, "betas: expected two numbers"),
        ({"dropout": 1.5}, "p: expected a probability"),
        ({"solver": "sgd", "learning_rate_init": 1e9, "max_iter": 50}, "fit: expected finite weights"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_wrong_parameters_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MLPRegressor(**{"n_iter_no_change": math.inf} | options).fit(*values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": "small"}, "alpha: expected a number, got 'small'"),
        ({"batch_size": 16.5}, "batch_size: expected an integer, got 16.5"),
        ({"max_iter": 2.5}, "max_iter: expected an integer, got 2.5"),
        ({"hidden_layer_sizes": (8.7,)}, "hidden_layer_sizes: expected an integer, got 8.7"),
        ({"hidden_layer_sizes": "wide"}, "hidden_layer_sizes: expected an integer, got 'wide'"),
    ],
)
def test_what_is_no_number_is_named(options, message):
    with pytest.raises(TypeError, match=message):
        MLPClassifier(**options).fit(*points())


def test_what_makes_no_layer_is_refused():
    with pytest.raises(TypeError, match="activation: expected a name, a spec, or what makes a layer, got 3"):
        MLPClassifier(activation=3).fit(*points())


def test_wrong_data_are_named():
    x, y = points()
    spoilt = x.copy()
    spoilt[3, 1] = np.nan
    model = MLPClassifier(max_iter=1, **FOREVER)
    for method in (model.predict, model.predict_proba, model.predict_log_proba):
        with pytest.raises(NotFittedError):
            method(x)
    assert not hasattr(model, "coefs_")
    with pytest.raises(ValueError, match="NaN"):
        model.fit(spoilt, y)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(x, y).predict(spoilt)
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        model.fit(x, y, -np.ones(len(x)))
    with pytest.raises(ValueError, match="several columns of classes"):
        model.fit(x, np.stack((y, y), axis=1))
    with pytest.raises(ValueError, match=r"classes: expected all classes at the first call"):
        clone(model).partial_fit(x, y)
    with pytest.raises(ValueError, match=r"y: expected classes \[0 1 2\], got a difference in \[3\]"):
        model.partial_fit(x, y + 1)
    with pytest.raises(ValueError, match="y: expected classes as before, got multilabel-indicator"):
        model.partial_fit(x, targets("labels"))
    with pytest.raises(ValueError, match="class_weight: expected weights for partial_fit, got 'balanced'"):
        clone(model).set_params(class_weight="balanced").partial_fit(x, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="early_stopping: expected False for partial_fit"):
        clone(model).set_params(early_stopping=True).partial_fit(x, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="n_samples = 1"):
        clone(model).set_params(batch_norm=True).fit(x[:1], y[:1])
    with pytest.raises(ValueError, match="y: expected 2 columns, got 1"):
        MLPRegressor(max_iter=1, **FOREVER).fit(*values()).partial_fit(x, y)


def test_scikit_learn_is_imported_by_its_users_alone(run_python):
    done = run_python("import sys, fastnn, fastnn.ensemble; print(any(m in sys.modules for m in ('sklearn', 'scipy')))")
    assert done.stdout == "False\n"
    script = "import sys; sys.modules['sklearn'] = None; import fastnn.sklearn"
    assert "pip install 'fastnn-kernels[sklearn]'" in run_python(script, status=1).stderr
