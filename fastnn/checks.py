"""What to check before a training is worth its time: gradients, and the loss at the start.

`gradcheck` compares gradients with difference quotients.  `check_initial_loss`, `check_regularisation_raises_loss` and
`check_overfits_tiny_subset` look at a network, its loss and some data; `sanity_report` does all four::

    sanity_report(net, CrossEntropyLoss(), (x, labels))

Nothing that is given is changed: networks are copied, and random positions put back.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn import random
from fastnn._checks import check_array
from fastnn._convert import as_array
from fastnn.layers.dropout import Stochastic
from fastnn.layers.module import _NOTHING, Module
from fastnn.losses import Loss
from fastnn.optim.adam import Adam
from fastnn.optim.sgd import SGD

__all__ = [
    "ArrayCheck",
    "CheckResult",
    "GradcheckResult",
    "SanityReport",
    "check_initial_loss",
    "check_overfits_tiny_subset",
    "check_regularisation_raises_loss",
    "gradcheck",
    "sanity_report",
]

Array: TypeAlias = NDArray[Any]
LossLike: TypeAlias = "Loss | Callable[[Array, Array], tuple[Any, Array]]"


@dataclass(frozen=True)
class CheckResult:
    """What one check has found; true if it was passed.

    Attributes
    ----------
    name : str
    passed : bool
    message : str
        The figures, in a line.
    """

    name: str
    passed: bool
    message: str

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return f"{'ok' if self.passed else 'FAIL':4}  {self.name}: {self.message}"


@dataclass(frozen=True)
class ArrayCheck:
    """What `gradcheck` has found of one array.

    Attributes
    ----------
    name : str
        "x", or the path of a parameter.
    error : float
        The largest relative error; 0 if nothing was checked.
    checked, kinks : int
        Points compared, and points skipped since a kink is within their step.
    analytic, numeric : float
        The two derivatives where the error is largest.
    """

    name: str
    error: float
    checked: int
    kinks: int
    analytic: float
    numeric: float


@dataclass(frozen=True)
class GradcheckResult(CheckResult):
    """What `gradcheck` has found, array by array; prints as a table.

    Attributes
    ----------
    arrays : tuple of ArrayCheck
    """

    arrays: tuple[ArrayCheck, ...]

    @property
    def error(self) -> float:
        """The largest relative error of all."""
        return max(each.error for each in self.arrays)

    @property
    def checked(self) -> int:
        """Points compared."""
        return sum(each.checked for each in self.arrays)

    @property
    def kinks(self) -> int:
        """Points skipped since a kink is within their step."""
        return sum(each.kinks for each in self.arrays)

    def table(self) -> str:
        """A line for each array."""
        width = max(len(each.name) for each in self.arrays)
        lines = [f"{'array':{width}}  points  kinks    error     analytic      numeric"]
        for each in self.arrays:
            figures = f"{each.checked:6d} {each.kinks:6d} {each.error:8.1e} {each.analytic:12.5e} {each.numeric:12.5e}"
            lines.append(f"{each.name:{width}}  {figures}")
        return "\n".join(lines)


class SanityReport(tuple[CheckResult, ...]):
    """The results of `sanity_report`, a line each when printed; `passed` if all were."""

    __slots__ = ()

    @property
    def passed(self) -> bool:
        return all(self)

    def __str__(self) -> str:
        return "\n".join(map(str, self))


# ------------------------------------------------------------------------------------------------------------- helpers


def _copied(net: Module) -> Module:
    """A copy that no pass waits in, in training mode; parts of a network in training mode may be in eval mode."""
    # What a pass has kept is not copied, and the marker of nothing has to stay the one object that it is.
    waiting = {id(module._pending): _NOTHING for module in net.modules()}
    clone = copy.deepcopy(net, {**waiting, id(_NOTHING): _NOTHING})
    return clone if net.training else clone.train()


def _without_noise(net: Module) -> Module:
    """`net` with dropout and noise off."""
    for module in net.modules():
        if isinstance(module, Stochastic):
            module.training = False
    return net


def _in_double(owner: Any) -> None:
    """Make float32 arrays among the attributes float64, those of parameters as well."""
    for name, value in vars(owner).items():
        if isinstance(value, np.ndarray) and value.dtype == np.float32:
            setattr(owner, name, value.astype(np.float64))


def _double_net(net: Module) -> Module:
    clone = _copied(net)
    for module in clone.modules():
        _in_double(module)
    for _, parameter in clone.named_parameters():
        parameter._data, parameter.grad = parameter._data.astype(np.float64), None
    return clone


@contextmanager
def _same_randomness(net: Module | None) -> Iterator[Callable[[], None]]:
    """A function that puts all generators back to where they are now, which also happens in the end."""
    own = [module.rng for module in net.modules() if isinstance(module, Stochastic) and module.rng] if net else []
    generators = [random.default_generator, *own]
    states = [generator.state_dict() for generator in generators]

    def restart() -> None:
        for generator, state in zip(generators, states, strict=True):
            generator.load_state_dict(state)

    try:
        yield restart
    finally:
        restart()


def _function(loss: LossLike) -> Callable[[Array, Array], tuple[Any, Array]]:
    return loss.forward if isinstance(loss, Loss) else loss


def _mean(value: Any) -> float:
    """A loss as a number; the gradient of losses that are not reduced is that of their sum, but here it is not used."""
    return float(np.mean(value))


def _check_data(x: Array, target: Array) -> tuple[Array, Array]:
    """Both as NumPy arrays."""
    x, target = check_array("x", x), check_array("target", target)
    if not len(x) or len(x) != len(target):
        raise ValueError(f"target: expected one for each of at least one sample of x, got {len(target)} for {len(x)}")
    return x, target


# ----------------------------------------------------------------------------------------------------------- gradients


@dataclass(frozen=True)
class _Problem:
    """A scalar function of arrays, which may be changed in place."""

    arrays: Mapping[str, Array]
    value: Callable[[], tuple[float, float]]  # and the size of the terms it is a sum of, for rounding errors
    gradients: Callable[[], Mapping[str, Array]]


def _network_problem(
    net: Module, x: Array, loss: Callable[[Array], Any] | None, restart: Callable[[], None]
) -> _Problem:
    parameters = dict(net.named_parameters())
    arrays = {"x": x, **{name: parameter.data for name, parameter in parameters.items()}}
    restart()
    y, _ = net.forward(x)
    weights = np.random.default_rng(0).standard_normal(y.shape)  # of the outputs, where there is no loss

    def value() -> tuple[float, float]:
        restart()
        y, _ = net.forward(x)
        if loss is None:
            terms = weights * y
            return float(terms.sum()), float(np.abs(terms).sum())
        result = float(np.sum(loss(y)[0]))
        return result, abs(result)

    def gradients() -> Mapping[str, Array]:
        restart()
        y, saved = net.forward(x)
        dx = net.backward(weights.copy() if loss is None else loss(y)[1], saved)
        found = {name: p.grad if p.grad is not None else np.zeros_like(p.data) for name, p in parameters.items()}
        return {"x": dx, **found}

    return _Problem(arrays, value, gradients)


def _function_problem(function: Callable[..., Any], x: Array | Sequence[Array]) -> _Problem:
    x = as_array("x", x)
    single = isinstance(x, np.ndarray)
    inputs = [np.array(as_array("x", each), np.float64) for each in ([x] if single else x)]
    names = ["x"] if single else [f"x[{index}]" for index in range(len(inputs))]

    def results() -> tuple[Any, Any]:
        found = function(*inputs)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise TypeError(f"target: expected a function that gives (loss, gradient), got {type(found).__name__}")
        loss, gradient = found
        return loss, gradient

    def value() -> tuple[float, float]:
        result = float(np.sum(results()[0]))
        return result, abs(result)

    def gradients() -> Mapping[str, Array]:
        found = results()[1]
        found = (found,) if single and isinstance(found, np.ndarray) else tuple(found)
        if len(found) != len(inputs):
            raise ValueError(f"function: expected {len(inputs)} gradients, one for each array, got {len(found)}")
        return dict(zip(names, found, strict=True))

    return _Problem(dict(zip(names, inputs, strict=True)), value, gradients)


def _compare(
    problem: _Problem, name: str, gradient: Array, points: Sequence[Array], eps: float, tol: float
) -> ArrayCheck:
    """Derivatives along `points`, which are directions, by the gradient and by differences."""
    array = problem.arrays[name]
    center = array.copy()

    def at(step: float, direction: Array) -> float:
        np.add(center, step * direction, out=array)
        result = problem.value()[0]
        array[...] = center
        return result

    middle, size = problem.value()
    noise = 16 * np.finfo(np.float64).eps * size / eps  # of a quotient, by rounding
    worst, checked, kinks = (0.0, 0.0, 0.0), 0, 0
    for direction in points:
        analytic = float((gradient * direction).sum())
        quotients, bends = [], []
        for step in (eps, eps / 4):
            right, left = at(step, direction), at(-step, direction)
            quotients.append((right - left) / (2 * step))
            bends.append((right - 2 * middle + left) / step)
        numeric = quotients[0]
        scale = max(abs(analytic), abs(numeric), noise / tol)
        # Where the function is smooth, quotients of both steps agree, and the bend is proportional to the step.
        doubt = max(abs(quotients[0] - quotients[1]), abs(bends[0] - 4 * bends[1]))
        if doubt > tol * scale + 16 * noise:
            kinks += 1
            continue
        checked += 1
        error = abs(analytic - numeric) / scale
        error = error if np.isfinite(error) else np.inf
        if error >= worst[0]:
            worst = error, analytic, numeric
    return ArrayCheck(name, worst[0], checked, kinks, worst[1], worst[2])


def _points(shape: tuple[int, ...], directions: int, entries: int, rng: np.random.Generator) -> Iterator[Array]:
    size = int(np.prod(shape))
    if not size:
        return
    for _ in range(directions):
        direction = rng.standard_normal(shape)
        yield direction / np.linalg.norm(direction)
    for index in rng.permutation(size)[:entries]:
        entry = np.zeros(size)
        entry[index] = 1
        yield entry.reshape(shape)


def gradcheck(
    target: Module | Callable[..., Any],
    x: Array | Sequence[Array],
    *,
    loss: Callable[[Array], tuple[Any, Array]] | None = None,
    eps: float = 1e-5,
    tol: float = 1e-6,
    directions: int = 3,
    entries: int = 8,
    burn_in: int = 0,
    seed: int = 0,
) -> GradcheckResult:
    """Compare the gradients of a layer, a network or a function with difference quotients, in float64.

    Along each of some random directions of length 1 and some single entries, of every array by itself::

        numeric = (f(x + eps * d) - f(x - eps * d)) / (2 * eps)
        error   = |analytic - numeric| / max(|analytic|, |numeric|)

    What rounding alone can make of the quotient counts as nothing: the denominator is at least that, divided by `tol`.

    At a kink, such as that of ReLU at 0, the quotient is no derivative.  So each point is looked at with a quarter of
    the step as well.  Where the quotients disagree by more than `tol`, or the second difference is not that of a smooth
    function, the point is counted as a kink and not compared; this looks at values alone, so no wrong gradient is
    excused.  Use few samples: the fewer, the fewer kinks.

    Dropout and noise draw the same numbers in every pass.  A network in eval mode is checked in training mode.

    Parameters
    ----------
    target : Module, or function
        A function takes the arrays and returns ``(loss, gradient)``, or ``(loss, gradients)`` of several.
    x : array, or sequence of arrays for a function
    loss : function of the output, optional
        ``loss(y)`` gives ``(loss, dy)``.  Of a Module alone; default: the sum of the outputs with random weights.
    eps : float, default 1e-5
        The step.
    tol : float, default 1e-6
        Largest relative error that passes.
    directions, entries : int, default 3 and 8
        For each array: random directions, and single entries.
    burn_in : int, default 0
        Steps of `Adam` before: weights just drawn may not show what training meets.  Of a Module alone.
    seed : int, default 0
        Of directions and entries.

    Returns
    -------
    GradcheckResult
        False if an error is larger than `tol`, or all points of an array are at kinks.

    Raises
    ------
    TypeError
        For a `target` that is neither, or a function that gives something else.
    ValueError
        For `loss` or `burn_in` with a function, numbers that are not positive, no numbers in `x`, or gradients of other
        shapes.

    Examples
    --------
    >>> gradcheck(Sequential(Linear(5, 4), Tanh()), x).passed
    True
    >>> gradcheck(lambda logits: F.softmax_cross_entropy(logits, labels), logits).passed
    True
    """
    if not (eps > 0 and tol > 0):
        raise ValueError(f"eps, tol: expected numbers > 0, got {eps}, {tol}")
    if directions < 0 or entries < 0 or directions + entries == 0:
        raise ValueError(f"directions, entries: expected at least one point, got {directions}, {entries}")
    if not sum(map(np.size, [x] if isinstance(x, np.ndarray) else x)):
        raise ValueError("x: expected at least one number, got none")
    network = _double_net(target) if isinstance(target, Module) else None
    with _same_randomness(network) as restart:
        if network is not None:
            problem = _network_problem(network, np.array(as_array("x", x), np.float64), loss, restart)
            if burn_in:
                opt = Adam(network.parameters(), lr=1e-3)
                for _ in range(burn_in):
                    problem.gradients()
                    opt.step()
        elif not callable(target):
            raise TypeError(f"target: expected a Module or a function, got {type(target).__name__}")
        elif loss is not None or burn_in:
            raise ValueError("loss, burn_in: expected none with a function, which is its own loss")
        else:
            inner = target

            def function(*arrays: Array) -> Any:
                restart()
                return inner(*arrays)

            problem = _function_problem(function, x)
        return _gradcheck(problem, eps, tol, directions, entries, np.random.default_rng(seed))


def _gradcheck(
    problem: _Problem, eps: float, tol: float, directions: int, entries: int, rng: np.random.Generator
) -> GradcheckResult:
    results = []
    gradients = {name: np.array(gradient, np.float64) for name, gradient in problem.gradients().items()}
    for name, array in problem.arrays.items():
        if gradients[name].shape != array.shape:
            raise ValueError(f"gradient of {name}: expected shape {array.shape}, got {gradients[name].shape}")
        points = list(_points(array.shape, directions, entries, rng))
        results.append(_compare(problem, name, gradients[name], points, eps, tol))
    worst = max(results, key=lambda each: each.error)
    unseen = [each.name for each in results if each.kinks and not each.checked]
    checked, kinks = sum(each.checked for each in results), sum(each.kinks for each in results)
    message = (
        f"largest relative error {worst.error:.1e} ({worst.name}: {worst.analytic:.6g}, by differences "
        f"{worst.numeric:.6g}), {checked} points of {len(results)} arrays, {kinks} at kinks skipped"
    )
    if unseen:
        message += f"; all points of {', '.join(unseen)} are at kinks: use fewer samples, or a smaller eps"
    return GradcheckResult("gradients", worst.error <= tol and not unseen, message, tuple(results))


# ---------------------------------------------------------------------------------------------------------------- loss


def check_initial_loss(net: Module, loss: LossLike, x: Array, target: Array, *, tol: float = 0.1) -> CheckResult:
    """Whether the loss of a network that knows nothing is that of equal scores.

    Of C classes, this is ln C for softmax cross-entropy and C - 1 for the hinge loss; it is computed here, as the loss
    of scores that are all 0.  A larger one says that the first weights are too large, another one that labels, scores
    or the loss are not what they should be.  Without penalty, dropout and noise, in training mode.

    Parameters
    ----------
    net : Module
        Just made.
    loss : Loss, or function ``(y, target) -> (loss, dy)``
    x, target : arrays
        Samples along the first axis.
    tol : float, default 0.1
        Relative difference that passes.

    Returns
    -------
    CheckResult

    Raises
    ------
    ValueError
        For no samples, or another number of targets.
    """
    x, target = _check_data(x, target)
    function = _function(loss)
    with _same_randomness(net):
        y, _ = _without_noise(_copied(net)).forward(x)
    got, expected = _mean(function(y, target)[0]), _mean(function(np.zeros_like(y), target)[0])
    passed = abs(got - expected) <= tol * abs(expected)
    message = f"{got:.4g}, expected {expected:.4g}, that of equal scores, within {100 * tol:g} %"
    return CheckResult("initial loss", passed, message)


def check_regularisation_raises_loss(
    net: Module,
    loss: LossLike,
    x: Array,
    target: Array,
    *,
    strengths: Sequence[float] = (0.0, 1e-3, 1e-1),
    optimizer: Callable[..., Any] = SGD,
) -> CheckResult:
    """Whether a stronger penalty gives a larger loss.

    The penalty is what the optimizer adds to the loss whose gradients it follows, ``weight_decay / 2 * ||w||**2``; it
    is read from the statistics of a step of rate 0.

    Parameters
    ----------
    net : Module
    loss : Loss, or function ``(y, target) -> (loss, dy)``
    x, target : arrays
        Samples along the first axis.
    strengths : sequence of float, default (0, 1e-3, 1e-1)
        Of `weight_decay`, rising.
    optimizer : callable, default SGD
        ``optimizer(parameters, lr=0.0, weight_decay=strength)`` makes an `Optimizer`.  Decoupled decay (`AdamW`) is no
        penalty and fails.

    Returns
    -------
    CheckResult

    Raises
    ------
    ValueError
        For fewer than two strengths or such that do not rise, no samples, or another number of targets.
    """
    x, target = _check_data(x, target)
    if len(strengths) < 2 or any(b <= a for a, b in pairwise(strengths)):
        raise ValueError(f"strengths: expected at least two, rising, got {tuple(strengths)}")
    totals = []
    with _same_randomness(net):
        clone = _without_noise(_copied(net))
        y, saved = clone.forward(x)
        value, dy = _function(loss)(y, target)
        clone.backward(dy, saved, need_dx=False)
        for strength in strengths:
            record = optimizer(clone.parameters(), lr=0.0, weight_decay=strength).step(stats=True)
            totals.append(_mean(value) + record.penalty)
    passed = all(b > a for a, b in pairwise(totals))
    steps = ", ".join(f"{total:.4g} at {strength:g}" for total, strength in zip(totals, strengths, strict=True))
    return CheckResult("regularisation raises the loss", passed, steps)


def check_overfits_tiny_subset(
    net: Module,
    loss: LossLike,
    x: Array,
    target: Array,
    *,
    samples: int = 20,
    steps: int = 500,
    lr: float = 3e-3,
    tol: float = 0.01,
    seed: int = 0,
) -> CheckResult:
    """Whether the network can learn a few samples by heart: if not, all of them are not worth trying.

    A copy takes up to `steps` steps of `Adam` on all these samples at once, without penalty, dropout and noise, until
    the loss is near 0.

    Parameters
    ----------
    net : Module
    loss : Loss, or function ``(y, target) -> (loss, dy)``
    x, target : arrays
        Samples along the first axis.
    samples : int, default 20
        How many of them, drawn at random.
    steps : int, default 500
        The most.
    lr : float, default 3e-3
    tol : float, default 0.01
        "Near 0" is below this share of the loss of equal scores (of the first loss, where that is 0).
    seed : int, default 0
        Of the samples drawn.

    Returns
    -------
    CheckResult

    Raises
    ------
    ValueError
        For no samples or steps, or another number of targets.
    """
    x, target = _check_data(x, target)
    if samples < 1 or steps < 1:
        raise ValueError(f"samples, steps: expected at least 1, got {samples}, {steps}")
    chosen = np.random.default_rng(seed).permutation(len(x))[:samples]
    x, target = x[chosen], target[chosen]
    function = _function(loss)
    with _same_randomness(net):
        clone = _without_noise(_copied(net))
        opt = Adam(clone.parameters(), lr=lr)
        limit, value, taken = 0.0, np.inf, 0
        for taken in range(steps + 1):
            y, saved = clone.forward(x)
            loss_now, dy = function(y, target)
            value = _mean(loss_now)
            if taken == 0:
                limit = tol * (abs(_mean(function(np.zeros_like(y), target)[0])) or abs(value))
            if value < limit or taken == steps or not np.isfinite(value):
                break
            clone.backward(dy, saved, need_dx=False)
            opt.step()
    message = f"loss {value:.2g} of {len(x)} samples after {taken} steps, expected below {limit:.2g}"
    return CheckResult("overfits a tiny subset", value < limit, message)


def sanity_report(
    net: Module,
    loss: LossLike,
    data: tuple[Array, Array],
    *,
    samples: int = 20,
    steps: int = 500,
    lr: float = 3e-3,
    burn_in: int = 5,
    seed: int = 0,
    verbose: bool = True,
) -> SanityReport:
    """All checks, and a line for each: gradients, initial loss, regularisation, overfitting.

    Parameters
    ----------
    net : Module
        Just made; unchanged afterwards.
    loss : Loss, or function ``(y, target) -> (loss, dy)``
    data : (x, target), arrays
        Training data; gradients are checked on eight samples, losses on up to 1000.
    samples, steps, lr : int, int and float, default 20, 500 and 3e-3
        Of `check_overfits_tiny_subset`.
    burn_in : int, default 5
        Of `gradcheck`.
    seed : int, default 0
        Of everything drawn here.
    verbose : bool, default True
        Print the report.

    Returns
    -------
    SanityReport

    Raises
    ------
    ValueError
        For no samples, or another number of targets.
    """
    x, target = _check_data(*data)
    few = np.random.default_rng(seed).permutation(len(x))[:8]
    in_double = copy.deepcopy(loss)
    if isinstance(in_double, Loss):
        _in_double(in_double)
    labels = target[few]
    labels = labels.astype(np.float64) if labels.dtype.kind == "f" else labels
    function = _function(in_double)
    gradients = gradcheck(net, x[few], loss=lambda y: function(y, labels), burn_in=burn_in, seed=seed)
    some = x[:1000], target[:1000]
    report = SanityReport(
        (
            gradients,
            check_initial_loss(net, loss, *some),
            check_regularisation_raises_loss(net, loss, *some),
            check_overfits_tiny_subset(net, loss, x, target, samples=samples, steps=steps, lr=lr, seed=seed),
        )
    )
    if verbose:
        print(report)
    return report
