"""Multi-layer perceptrons for scikit-learn's pipelines, searches and cross-validation, trained by the kernels.

    from fastnn.sklearn import MLPClassifier

Parameters and attributes are those of scikit-learn's `MLPClassifier` and `MLPRegressor`, and so are the numbers: the
same seed draws the same weights and batches.  Needs scikit-learn 1.7 or newer: ``pip install
'fastnn-kernels[sklearn]'``.  ``import fastnn`` does not import this module.
"""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fastnn.functional as F
from fastnn import layers, losses, optim
from fastnn._checks import check_index, check_number
from fastnn.functional.activations import ACTIVATIONS, ActivationSpec
from fastnn.random import Generator

try:
    from scipy.sparse import issparse
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import r2_score
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state, column_or_1d, compute_sample_weight, gen_batches
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        "fastnn.sklearn: expected scikit-learn 1.7 or newer, which pip install 'fastnn-kernels[sklearn]' installs; "
        f"got: {error}"
    ) from error

__all__ = ["MLPClassifier", "MLPRegressor"]

Array: TypeAlias = NDArray[Any]
C = TypeVar("C", bound="MLPClassifier")
E = TypeVar("E", bound="_MLP")
R = TypeVar("R", bound="MLPRegressor")

_SOLVERS = {
    name.lower(): value
    for name, value in vars(optim).items()
    if inspect.isclass(value) and issubclass(value, optim.Optimizer) and value is not optim.Optimizer
}
_DTYPES = (np.float64, np.float32)
_NAMED_BETAS = ("adam", "adamw", "adamax", "nadam", "radam")  # their betas and eps are beta_1, beta_2 and epsilon
_ACTIVATIONS = {"logistic": "sigmoid"}  # scikit-learn's name -> ours
_LOSSES: dict[str, type[losses.Loss]] = {
    "softmax": losses.CrossEntropyLoss,
    "logistic": losses.BCEWithLogitsLoss,
    "identity": losses.MSELoss,
}

_DOCUMENTATION = """Multi-layer perceptron {purpose}, as scikit-learn's ``{name}``.

    What has the same name means the same: with the same data, `random_state` and parameters, scikit-learn's estimator
    draws the same weights and batches, and its loss curve is this one but for rounding (for Adam, but for the place
    of `epsilon`).

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default (100,)
        Width of each hidden layer; ``()`` gives a linear model.
    activation : str, spec or callable, or one for each hidden layer, default "relu"
        "identity", "logistic", the name of any activation of `fastnn.functional`, a spec such as
        ``fastnn.act.leaky_relu(0.1)``, or what is called to make a layer, such as `fastnn.PReLU`.
    solver : str or callable, default "adam"
        The name of any optimizer of `fastnn.optim` in lower case, or what is called as ``solver(parameters, lr=...,
        decay="weights")``: a class, or ``functools.partial(fastnn.optim.SGD, clip_norm=1.0)``.  L-BFGS is not there.
    alpha : float, default 1e-4
        L2 penalty of the weights, ``alpha / 2 * sum(w ** 2)``, divided by the number of samples of the batch (the sum
        of their weights).  Of solvers with decoupled decay, AdamW and Lion, the `weight_decay`, undivided.
    batch_size : int or "auto", default "auto"
        At most the number of samples; "auto" is ``min(200, n_samples)``.
    learning_rate : {{"constant", "invscaling", "adaptive"}} or callable, default "constant"
        For every solver.  "invscaling": after t samples ``learning_rate_init / (t + 1) ** power_t``.  "adaptive":
        divided by 5, instead of the end, when nothing has improved for `n_iter_no_change` epochs.  A callable is a
        schedule (`fastnn.schedules`): the number of steps taken -> rate; its `update`, if it has one, gets the
        training loss after each epoch.  Fits begin with a copy of it, at step 0.
    learning_rate_init : float, default 1e-3
        Not used with a schedule.
    power_t : float, default 0.5
    max_iter : int, default 200
        Epochs, at most.
    shuffle : bool, default True
        Whether each epoch takes the samples in an order of its own.
    random_state : int, RandomState instance or None, default None
        Source of initial weights, order of samples, validation set and dropout masks.
    tol : float, default 1e-4
        Change of the training loss, or of the validation score, that counts as an improvement.
    verbose : bool, default False
        Print the loss after each epoch.
    warm_start : bool, default False
        Go on from the weights of the last `fit`.
    momentum : float, default 0.9
    nesterovs_momentum : bool, default True
        Both with solver "sgd".
    early_stopping : bool, default False
        Set `validation_fraction` of the samples aside, stop when their score has not improved, and keep the weights of
        the best epoch.
    validation_fraction : float, default 0.1
    beta_1, beta_2 : float, default 0.9 and 0.999
    epsilon : float, default 1e-8
        The three with solvers "adam", "adamw", "adamax", "nadam" and "radam"; others have their own defaults.
    n_iter_no_change : int or inf, default 10
        Epochs without improvement that are put up with.  inf: `max_iter` epochs are what was asked for, and end
        without a ConvergenceWarning.
    batch_norm : bool, or one for each hidden layer, default False
        Batch norm between product and activation.  Its running statistics are averages while batches go by;
        `fit` ends by making them the exact ones of its training samples.
    dropout : float, or one for each hidden layer, default 0
        Probability to drop an output of the layer.
    callbacks : sequence of objects or None, default None
        Of each, those of the methods ``on_fit_begin(estimator)``, ``on_epoch_end(estimator)`` and
        ``on_fit_end(estimator)`` that it has are called; `fit` stops after an epoch if one of them returns True.
{class_weight}
    Attributes
    ----------
    net_ : fastnn.Sequential
        The network; it gives logits where there are classes.
    optimizer_ : fastnn.optim.Optimizer
{classes}    coefs_ : list of (n_in, n_out) arrays
        Weight of each layer: views of those in the network.
    intercepts_ : list of (n_out,) arrays
    loss_ : float
        Mean over the last epoch, the L2 penalty included.
    loss_curve_ : list of float
    best_loss_ : float or None
        None with `early_stopping`.
    validation_scores_, best_validation_score_ : list of float and float, or None
        {score}; only with `early_stopping`.
    n_iter_ : int
        Epochs of the last call.
    t_ : int
        Samples seen.
    n_features_in_, feature_names_in_, n_layers_, n_outputs_, out_activation_
        As in scikit-learn.

    Notes
    -----
    float32 data are trained in float32, all other in float64, as in scikit-learn: float32 takes half the time.  Sparse
    data are not accepted.  An estimator can be pickled if its parameters can, as those of `fastnn.schedules`.

    Examples
    --------
{example}
    """


def _per_layer(name: str, value: Any, count: int) -> list[Any]:
    """One for each of `count` hidden layers."""
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{name}: expected one value, or one for each of {count} hidden layers, got {len(value)}")
    return list(value)


def _activation(value: Any, dtype: np.dtype[Any]) -> list[layers.Module]:
    """The layer, none for the identity."""
    if isinstance(value, str):
        if value == "identity":
            return []
        name = _ACTIVATIONS.get(value, value)
        if name not in ACTIVATIONS:
            known = ", ".join(["identity", *_ACTIVATIONS, *ACTIVATIONS])
            raise ValueError(f"activation: expected one of {known}, got {value!r}")
        value = ACTIVATIONS[name]
    made = value
    if callable(value):  # only what has parameters has a dtype
        made = value(dtype=dtype) if "dtype" in inspect.signature(value).parameters else value()
    if isinstance(made, ActivationSpec):
        made = getattr(layers, ACTIVATIONS[made.name].layer)(**made.params)
    if not isinstance(made, layers.Module):
        raise TypeError(f"activation: expected a name, a spec, or what makes a layer, got {value!r}")
    return [made]


def _check_interval(name: str, value: Any, low: float, high: float, ends: str = "[]") -> None:
    """TypeError for what is no number, ValueError for one outside `low` to `high`; brackets say which ends are in."""
    check_number(name, value)
    after = value >= low if ends[0] == "[" else value > low
    before = value <= high if ends[1] == "]" else value < high
    if not (after and before):
        raise ValueError(f"{name}: expected a number in {ends[0]}{low}, {high}{ends[1]}, got {value!r}")


def _combined(sample_weight: Any, X: Array, class_weight: Any, y: Array) -> Array | None:
    """Weights of the samples, None if all are the same."""
    if sample_weight is None and class_weight is None:
        return None
    weights: Array = _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
    if class_weight is not None:
        weights = weights * compute_sample_weight(class_weight, y).astype(X.dtype)
    return weights


@dataclass(eq=False, repr=False)
class _MLP(BaseEstimator):
    """What classifier and regressor share: the network, and the loop that trains it."""

    hidden_layer_sizes: Any = (100,)
    activation: Any = "relu"
    _: KW_ONLY
    solver: Any = "adam"
    alpha: float = 1e-4
    batch_size: Any = "auto"
    learning_rate: Any = "constant"
    learning_rate_init: float = 1e-3
    power_t: float = 0.5
    max_iter: int = 200
    shuffle: bool = True
    random_state: Any = None
    tol: float = 1e-4
    verbose: bool = False
    warm_start: bool = False
    momentum: float = 0.9
    nesterovs_momentum: bool = True
    early_stopping: bool = False
    validation_fraction: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    n_iter_no_change: float = 10
    batch_norm: Any = False
    dropout: Any = 0.0
    callbacks: Any = None

    _gradient_scale: ClassVar[float] = 1.0  # of what is minimised, in the sum of `_LOSSES`

    # ------------------------------------------------------------------------------------------- what is fitted

    @property
    def coefs_(self) -> list[Array]:
        """(n_in, n_out) weight of each layer, a view."""
        return [layer.weight.data.T for layer in self._products()]

    @property
    def intercepts_(self) -> list[Array]:
        """(n_out,) bias of each layer, a view."""
        return [layer.bias.data for layer in self._products()]

    def _products(self) -> list[Any]:
        if "net_" not in vars(self):
            raise AttributeError(f"{type(self).__name__} has no weights before fit")
        return [layer for layer in self.net_ if isinstance(layer, layers.Linear)]

    # ------------------------------------------------------------------------------------ what subclasses define

    def _checked(self, X: Any, y: Any, sample_weight: Any, reset: bool, classes: Any) -> tuple[Array, Array, Any]:
        """X, y as the loss takes it, and the weights of the samples."""
        raise NotImplementedError

    def _loss_scale(self) -> float:
        """Of what is reported, in the sum of `_LOSSES`."""
        return 1.0

    def _validation_score(self, z: Array, targets: Array, weights: Array | None) -> float:
        """Score of the outputs `z`."""
        raise NotImplementedError

    # --------------------------------------------------------------------------------------------- the estimator

    def _check_parameters(self) -> None:
        _check_interval("alpha", self.alpha, 0, math.inf, "[)")
        _check_interval("learning_rate_init", self.learning_rate_init, 0, math.inf, "()")
        _check_interval("tol", self.tol, 0, math.inf)
        _check_interval("momentum", self.momentum, 0, 1)
        _check_interval("max_iter", self.max_iter, 1, math.inf, "[)")
        _check_interval("n_iter_no_change", self.n_iter_no_change, 1, math.inf)
        _check_interval("validation_fraction", self.validation_fraction, 0, 1, "()")
        check_index("max_iter", self.max_iter)
        if self.batch_size != "auto":
            _check_interval("batch_size", self.batch_size, 1, math.inf, "[)")
            check_index("batch_size", self.batch_size)
        if not callable(self.learning_rate) and self.learning_rate not in ("constant", "invscaling", "adaptive"):
            raise ValueError(
                "learning_rate: expected 'constant', 'invscaling', 'adaptive' or a schedule, "
                f"got {self.learning_rate!r}"
            )
        if not callable(self.solver) and self.solver not in _SOLVERS:
            raise ValueError(f"solver: expected one of {', '.join(sorted(_SOLVERS))}, got {self.solver!r}")

    def _sizes(self) -> list[int]:
        """Widths of the hidden layers."""
        sizes = [check_index("hidden_layer_sizes", size) for size in np.atleast_1d(self.hidden_layer_sizes).tolist()]
        if any(size < 1 for size in sizes):
            raise ValueError(f"hidden_layer_sizes: expected numbers > 0, got {self.hidden_layer_sizes}")
        return sizes

    def _build(self, inputs: int, dtype: np.dtype[Any], random: np.random.RandomState) -> layers.Sequential:
        """The network with weights of Glorot and Bengio (2010), drawn in scikit-learn's order."""
        sizes = self._sizes()
        activations = _per_layer("activation", self.activation, len(sizes))
        norms, rates = (_per_layer(name, getattr(self, name), len(sizes)) for name in ("batch_norm", "dropout"))
        modules: list[layers.Module] = []
        factor = 2.0 if self.activation == "logistic" else 6.0
        masks = Generator(0)
        for index, (n_in, n_out) in enumerate(pairwise([inputs, *sizes, self.n_outputs_])):
            layer = layers.Linear(n_in, n_out, dtype=dtype, rng=masks)
            bound = math.sqrt(factor / (n_in + n_out))
            layer.weight.data[...] = random.uniform(-bound, bound, (n_in, n_out)).T
            if layer.bias is not None:
                layer.bias.data[...] = random.uniform(-bound, bound, n_out)
            modules.append(layer)
            if index < len(sizes):
                if norms[index]:
                    modules.append(layers.BatchNorm1d(n_out, dtype=dtype))
                modules += _activation(activations[index], dtype)
                if rates[index]:
                    modules.append(layers.Dropout(rates[index], rng=masks))
        if any(rates):
            masks.load_state_dict({"seed": random.randint(2**31), "position": 0})
        return layers.Sequential(*modules)

    def _make_optimizer(self) -> Any:
        rate = copy.deepcopy(self.learning_rate) if callable(self.learning_rate) else self.learning_rate_init
        make, options = self.solver, {}
        if not callable(make):
            make = _SOLVERS[self.solver]
            if self.solver == "sgd":
                nesterov = bool(self.nesterovs_momentum and self.momentum > 0)
                options = {"momentum": self.momentum, "nesterov": nesterov, "form": "lr_inside"}
            elif self.solver in _NAMED_BETAS:
                options = {"betas": (self.beta_1, self.beta_2), "eps": self.epsilon}
        return make(self.net_.parameters(), lr=rate, decay="weights", **options)

    def fit(self: E, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> E:
        """Train on `X` and `y`.

        Parameters
        ----------
        X : (n_samples, n_features) array_like
        y : (n_samples,) or (n_samples, n_outputs) array_like
        sample_weight : (n_samples,) array_like of numbers of at least 0, optional
            What each sample counts; in batch norm they count the same.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For data that are not finite or do not go together, parameters out of range, weights that did not stay
            finite.

        Warns
        -----
        ConvergenceWarning
            If `max_iter` epochs have passed without an end.
        UserWarning
            If it was interrupted (Ctrl-C), which keeps what was learnt.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    def _fit(self: E, X: Any, y: Any, sample_weight: Any, incremental: bool, classes: Any = None) -> E:
        self._check_parameters()
        if incremental and self.early_stopping:
            raise ValueError("early_stopping: expected False for partial_fit, which has no epochs, got True")
        fresh = "net_" not in vars(self) or not (incremental or self.warm_start)
        X, targets, weights = self._checked(X, y, sample_weight, fresh, classes)
        random = check_random_state(self.random_state)
        if fresh:
            net = self._build(X.shape[1], X.dtype, random)
            self.net_ = net
            self.n_layers_ = 1 + sum(isinstance(layer, layers.Linear) for layer in net)
            self.t_ = 0
            self.loss_curve_: list[float] = []
        elif (sizes := self._sizes()) != (fitted := [coef.shape[1] for coef in self.coefs_[:-1]]):
            raise ValueError(f"hidden_layer_sizes: expected {fitted}, those of the network that goes on, got {sizes}")
        if fresh or self.early_stopping == (self.validation_scores_ is None):
            self.best_loss_: Any = None if self.early_stopping else math.inf
            self.validation_scores_: Any = [] if self.early_stopping else None
            self.best_validation_score_: Any = -math.inf if self.early_stopping else None
        if fresh or not incremental:
            self.optimizer_ = self._make_optimizer()
        X = X.astype(self.coefs_[0].dtype, copy=False)
        self._call("on_fit_begin")
        ended = self._train(X, targets, weights, random, incremental)
        self._call("on_fit_end")
        if not all(np.isfinite(parameter.data).all() for parameter in self.net_.parameters()):
            raise ValueError("fit: expected finite weights, got others; scale the data, or lower learning_rate_init")
        if not (ended or incremental or self.n_iter_no_change == math.inf):
            message = f"max_iter: {self.max_iter} epochs have passed, and training has not converged"
            warnings.warn(message, ConvergenceWarning, stacklevel=3)
        return self

    def _call(self, name: str) -> bool:
        """Whether a callback returns True."""
        answers = [getattr(callback, name)(self) for callback in self.callbacks or () if hasattr(callback, name)]
        return any(answer is True for answer in answers)

    # -------------------------------------------------------------------------------------------------- the loop

    def _train(
        self, X: Array, targets: Array, weights: Array | None, random: np.random.RandomState, incremental: bool
    ) -> bool:
        """Whether training ended before its time."""
        held = None
        if self.early_stopping:
            stratify = targets if self.out_activation_ == "logistic" and self.n_outputs_ == 1 else None
            parts: list[Array] = train_test_split(
                *(X, targets) if weights is None else (X, targets, weights),
                random_state=random,
                test_size=self.validation_fraction,
                stratify=stratify,
            )
            X, targets, weights = parts[0], parts[2], None if weights is None else parts[4]
            held = parts[1], parts[3], None if weights is None else parts[5]
            if len(held[0]) < 2:
                raise ValueError(f"validation_fraction: expected at least two samples in it, got {len(held[0])}")
            best = self.net_.state_dict()
        opt, adaptive, bad_epochs, stop = self.optimizer_, self.learning_rate == "adaptive", 0, False
        self.n_iter_ = 0
        try:
            for loss in self._epochs(X, targets, weights, random, 1 if incremental else self.max_iter):
                self.loss_ = loss
                self.n_iter_ += 1
                self.t_ += len(X)
                self.loss_curve_.append(self.loss_)
                if self.verbose:
                    print(f"epoch {self.n_iter_}, loss {self.loss_:.8f}")
                if held is None:
                    improved = self.loss_ <= self.best_loss_ - self.tol
                    self.best_loss_ = min(self.best_loss_, self.loss_)
                else:
                    score = self._validation_score(self.net_.predict(held[0]), *held[1:])
                    self.validation_scores_.append(score)
                    if self.verbose:
                        print(f"validation score {score:.6f}")
                    improved = score >= self.best_validation_score_ + self.tol
                    if score > self.best_validation_score_:
                        self.best_validation_score_, best = score, self.net_.state_dict()
                if self.learning_rate == "invscaling":
                    opt.lr = self.learning_rate_init / (self.t_ + 1) ** self.power_t
                elif hasattr(opt.lr, "update"):
                    opt.lr.update(self.loss_)
                bad_epochs = 0 if improved else bad_epochs + 1
                if bad_epochs > self.n_iter_no_change:
                    if adaptive and opt.lr > 1e-6:
                        opt.lr, bad_epochs = opt.lr / 5, 0
                    else:
                        stop = True
                if self._call("on_epoch_end") or stop:
                    stop = True
                    break
        except KeyboardInterrupt:
            warnings.warn("fit: interrupted by the user; what was learnt is kept", stacklevel=4)
            stop = True
        if held is not None:
            self.net_.load_state_dict(best)
        if self._has_norm() and not incremental:
            layers.recalibrate(self.net_, [X])
        return stop

    def _has_norm(self) -> bool:
        return any(isinstance(layer, layers.BatchNorm1d) for layer in self.net_)

    def _epochs(
        self, X: Array, targets: Array, weights: Array | None, random: np.random.RandomState, epochs: int
    ) -> Iterator[float]:
        """Mean loss of each epoch, when it has been trained."""
        samples = len(X)
        least = 2 if self._has_norm() else 1
        if samples < least:
            raise ValueError(f"X: expected at least two samples with batch_norm, got n_samples = {samples}")
        size = min(200 if self.batch_size == "auto" else self.batch_size, samples)
        parts = list(gen_batches(samples, size, min_batch_size=least))
        arrays = [X, targets] if weights is None else [X, targets, weights]
        most = max(part.stop - part.start for part in parts)
        buffers = [np.empty((most, *array.shape[1:]), array.dtype) for array in arrays]
        loss_fn = _LOSSES[self.out_activation_](reduction="sum" if weights is None else "none")
        order = np.arange(samples)
        for _ in range(epochs):
            if self.shuffle:
                order = order[random.permutation(samples)]
            total = 0.0
            for part in parts:
                chosen = order[part]
                batch = [buffer[: len(chosen)] for buffer in buffers]
                for array, buffer in zip(arrays, batch, strict=True):
                    array.take(chosen, axis=0, out=buffer, mode="clip")
                total += self._step(loss_fn, *batch) * len(chosen)
            yield total / samples

    def _step(self, loss_fn: losses.Loss, x: Array, targets: Array, weights: Array | None = None) -> float:
        """Loss of a batch, before its step."""
        z, saved = self.net_.forward(x)
        loss, dz = loss_fn.forward(z, targets)
        if weights is None:
            count = float(len(x))
            dz *= self._gradient_scale / count
        else:
            count = float(weights.sum(dtype=np.float64))
            if count == 0.0:
                return 0.0
            loss = float(weights @ loss.reshape(len(x), -1).sum(axis=1))
            dz *= (weights * (self._gradient_scale / count))[:, None]
        self.net_.backward(dz, saved, need_dx=False)
        opt = self.optimizer_
        opt.weight_decay = self.alpha if opt._decoupled else self.alpha / count
        loss = loss * self._loss_scale() / count + opt.penalty()
        opt.step()
        return float(loss)

    def _raw(self, X: ArrayLike) -> Array:
        """Outputs of the network."""
        check_is_fitted(self)
        checked: Array = validate_data(self, X, dtype=_DTYPES, order="C", reset=False)
        return self.net_.predict(checked.astype(self.coefs_[0].dtype, copy=False))


@dataclass(eq=False, repr=False)
class MLPClassifier(ClassifierMixin, _MLP):
    __doc__ = _DOCUMENTATION.format(
        purpose="that minimises the cross-entropy of classes or labels",
        name="MLPClassifier",
        class_weight="""    class_weight : dict, "balanced", list of dicts or None, default None
        What each class counts, {class: weight}; times `sample_weight`.  "balanced": n_samples / (n_classes *
        its number of samples), for `fit` alone.  Of several labels a list, with a dict for each.
""",
        classes="""    classes_ : array
        Of several labels their numbers.
""",
        score="Accuracies",
        example="""    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> model = make_pipeline(StandardScaler(), MLPClassifier((128,), batch_norm=True, dropout=0.2, random_state=0))
    >>> model.fit(X, y).predict_proba(X_test)""",
    )

    _: KW_ONLY
    class_weight: Any = None

    def _checked(self, X: Any, y: Any, sample_weight: Any, reset: bool, classes: Any) -> tuple[Array, Array, Any]:
        X, y = validate_data(self, X, y, dtype=_DTYPES, order="C", multi_output=True, reset=reset)
        if issparse(y):
            y = y.toarray()
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind == "multiclass-multioutput":
            raise ValueError("y: expected classes, or an indicator matrix of labels, got several columns of classes")
        several = kind == "multilabel-indicator"
        present = np.arange(y.shape[1]) if several else np.unique(y)
        if reset:
            self.classes_ = present if classes is None else np.unique(classes)
            single = several or len(self.classes_) == 2
            self.out_activation_ = "logistic" if single else "softmax"
            self.n_outputs_ = len(self.classes_) if several or not single else 1
            self._several = several
        elif several != self._several:
            raise ValueError(f"y: expected {'labels' if self._several else 'classes'} as before, got {kind}")
        if len(wrong := (np.setxor1d if several else np.setdiff1d)(present, self.classes_)):
            raise ValueError(f"y: expected classes {self.classes_}, got a difference in {wrong}")
        weights = _combined(sample_weight, X, self.class_weight, y)
        if several:
            return X, y.astype(X.dtype), weights
        labels = np.searchsorted(self.classes_, y)
        return X, labels if self.out_activation_ == "softmax" else labels[:, None].astype(X.dtype), weights

    def partial_fit(
        self: C, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None, classes: ArrayLike | None = None
    ) -> C:
        """One epoch on `X` and `y`; the optimizer goes on where it stood.

        Parameters
        ----------
        X : (n_samples, n_features) array_like
        y : (n_samples,) or (n_samples, n_outputs) array_like
        sample_weight : (n_samples,) array_like, optional
        classes : (n_classes,) array_like
            All that there will be; required at the first call, but not for several labels.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As `fit`; also for classes that are not among `classes`, for `early_stopping`, and for "balanced" weights.
        """
        if isinstance(self.class_weight, str):
            raise ValueError(f"class_weight: expected weights for partial_fit, got {self.class_weight!r}")
        if "net_" not in vars(self) and classes is None and not type_of_target(y).startswith("multilabel"):
            raise ValueError("classes: expected all classes at the first call of partial_fit, got None")
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    def _decisions(self, z: Array) -> Array:
        """Targets, as the loss takes them, that are nearest to the outputs `z`."""
        return z.argmax(axis=1) if self.out_activation_ == "softmax" else z > 0

    def _validation_score(self, z: Array, targets: Array, weights: Array | None) -> float:
        right = (self._decisions(z) == targets).reshape(len(z), -1).all(axis=1)
        return float(np.average(right, weights=weights))

    def predict(self, X: ArrayLike) -> Array:
        """Classes of the samples, or for several labels an indicator matrix.

        Parameters
        ----------
        X : (n_samples, n_features) array_like

        Returns
        -------
        (n_samples,) array, or (n_samples, n_outputs) array of 0 and 1
        """
        decisions = self._decisions(self._raw(X))
        if self._several:
            return decisions.astype(np.int64)
        return self.classes_[decisions.astype(np.int64, copy=False).ravel()]

    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities of the classes, in the order of `classes_`; of several labels that of each.

        Parameters
        ----------
        X : (n_samples, n_features) array_like

        Returns
        -------
        (n_samples, n_classes) array
        """
        return self._probabilities(X, F.softmax, F.sigmoid)

    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Logarithms of `predict_proba`, finite also where that is 0.

        Parameters
        ----------
        X : (n_samples, n_features) array_like

        Returns
        -------
        (n_samples, n_classes) array
        """
        return self._probabilities(X, F.log_softmax, F.logsigmoid)

    def _probabilities(
        self, X: ArrayLike, of_classes: Callable[[Array], Array], of_label: Callable[[Array], Array]
    ) -> Array:
        z = self._raw(X)
        if self.out_activation_ == "softmax":
            return of_classes(z)
        return of_label(z if self._several else np.hstack((-z, z)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@dataclass(eq=False, repr=False)
class MLPRegressor(RegressorMixin, _MLP):
    __doc__ = _DOCUMENTATION.format(
        purpose="that minimises half the squared error",
        name="MLPRegressor",
        class_weight="",
        classes="",
        score="R^2",
        example="""    >>> model = MLPRegressor((64, 64), activation="silu", solver="adamw", early_stopping=True)
    >>> model.fit(X, y).score(X_test, y_test)""",
    )

    _gradient_scale = 0.5

    def _loss_scale(self) -> float:
        return 0.5 / float(self.n_outputs_)

    def _checked(self, X: Any, y: Any, sample_weight: Any, reset: bool, classes: Any) -> tuple[Array, Array, Any]:
        options = {"multi_output": True, "y_numeric": True, "reset": reset}
        X, y = validate_data(self, X, y, dtype=_DTYPES, order="C", **options)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        targets = y.reshape(len(y), -1).astype(X.dtype)
        if reset:
            self.out_activation_ = "identity"
            self.n_outputs_ = targets.shape[1]
        elif targets.shape[1] != self.n_outputs_:
            raise ValueError(f"y: expected {self.n_outputs_} columns, got {targets.shape[1]}")
        return X, targets, _combined(sample_weight, X, None, y)

    def partial_fit(self: R, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> R:
        """One epoch on `X` and `y`; the optimizer goes on where it stood.

        Parameters
        ----------
        X : (n_samples, n_features) array_like
        y : (n_samples,) or (n_samples, n_outputs) array_like
        sample_weight : (n_samples,) array_like, optional

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As `fit`, and for `early_stopping`.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def _validation_score(self, z: Array, targets: Array, weights: Array | None) -> float:
        return float(r2_score(targets, z, sample_weight=weights)) if np.isfinite(z).all() else math.nan

    def predict(self, X: ArrayLike) -> Array:
        """Values for the samples.

        Parameters
        ----------
        X : (n_samples, n_features) array_like

        Returns
        -------
        (n_samples,) array, or (n_samples, n_outputs) array
        """
        z = self._raw(X)
        return z.ravel() if self.n_outputs_ == 1 else z

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
