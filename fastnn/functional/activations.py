"""Elementwise activations: one entry each.

An entry gives `F.<name>` and `F.<name>_backward` (builtins of the extension: a call costs little more than
its kernel), the spec `fastnn.act.<name>` that `activation=` takes, and the layer class of that name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import fastnn._core as _core
from fastnn._aliases import add_aliases
from fastnn._checks import check_number

_KERNEL_IDS = {name: index for index, name in enumerate(_core.activation_names())}


@dataclass(frozen=True)
class ActivationSpec(_core.Spec):
    """An activation with its parameters, as `activation=` takes it.

    Attributes
    ----------
    name : str
    params : mapping of parameter name to value
    id : int
        Index in the kernel table.
    p0, p1 : float
        The parameters as kernels take them.
    from_output : bool
        The output determines the gradient, so `bias_act` may work in place.
    sign_only : bool
        The sign of the output is enough, so this holds after dropout as well.
    """

    name: str
    params: Mapping[str, float] = field(hash=False)
    id: int
    p0: float
    p1: float
    from_output: bool
    sign_only: bool

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.params.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _spec, (self.name, dict(self.params))


_DOC = """{formula}

Parameters
----------
x : array, float32 or float64, any shape
{parameters}{forms}out : array like `x`, optional
    C-contiguous; receives the result.  May be `x`.

Returns
-------
array like `x`

Raises
------
TypeError
    For arrays that are not float32 or float64.
ValueError
    For a read-only or overlapping `out`.
"""

_BACKWARD_DOC = """{gradient}

Parameters
----------
dy : array, float32 or float64
    Gradient of the output.
x : array like `dy`
    Input of `{name}`.
{parameters}{forms}{output}out : array like `dy`, optional
    C-contiguous; receives the result.  May be `dy` or `x`.

Returns
-------
array like `dy`

Raises
------
TypeError
    For arrays that are not float32 or float64, or of different types.
ValueError
    For different shapes, or a read-only or overlapping `out`{refused}.
"""

_OUTPUT_DOC = """output : bool, default False
    `x` is the output of the forward op, where that determines the gradient.
"""


class Activation:
    """Declaration of an activation; calling it with parameters gives a spec.

    Parameters
    ----------
    name : str
        As in the registry of the kernels and in `fastnn.reference`.
    layer : str
        Name of the layer class.
    defaults : mapping of parameter name to default value, at most two parameters, in order
    formula, gradient : str
        For the docstrings: y of x, and dx of dy and x.
    from_output : function of the parameters, optional
        Whether the output determines the gradient.  Default: it never does.
    sign_only : bool
        Whether the sign of the output is then enough.
    forms : (str, mapping of str to str), optional
        An argument, and the activations that its words choose; the first is the default, this one.
    """

    def __init__(
        self,
        name: str,
        *,
        layer: str,
        defaults: Mapping[str, float] | None = None,
        formula: str,
        gradient: str,
        from_output: Callable[..., bool] | None = None,
        sign_only: bool = False,
        forms: tuple[str, Mapping[str, str]] = ("", {}),
    ) -> None:
        self.name = name
        self.layer = layer
        self.defaults = dict(defaults or {})
        parameters = "".join(f"{key} : float, default {value}\n" for key, value in self.defaults.items())
        self._chooser, self._forms = forms[0], dict(forms[1])
        words = " ".join(f"{word!r} is `{form}`." for word, form in self._forms.items())
        chosen = f"{self._chooser} : str, default {next(iter(self._forms))!r}\n    {words}\n" if words else ""
        output = _OUTPUT_DOC if from_output else ""
        refused = ", or `output` where the parameters forbid it" if from_output and self.defaults else ""
        self.forward, self.backward = _core.activation_builtins(
            name,
            self.defaults,
            from_output,
            self._chooser,
            self._forms,
            _DOC.format(formula=formula, parameters=parameters, forms=chosen),
            _BACKWARD_DOC.format(
                name=name, gradient=gradient, parameters=parameters, forms=chosen, output=output, refused=refused
            ),
        )
        self._from_output = from_output
        self._sign_only = sign_only
        self.default_spec = _DEFAULT_SPECS[name] = self()
        ACTIVATIONS[name] = self

    def __call__(self, *args: float, **kwargs: Any) -> ActivationSpec:
        if self._chooser in kwargs:
            word = kwargs.pop(self._chooser)
            if word not in self._forms:
                expected = " or ".join(map(repr, self._forms))
                raise ValueError(f"{self._chooser}: expected {expected}, got {word!r}")
            if (form := self._forms[word]) != self.name:
                return ACTIVATIONS[form](*args, **kwargs)
        if len(args) > len(self.defaults) or not kwargs.keys() <= self.defaults.keys():
            expected = ", ".join(self.defaults) or "none"
            raise TypeError(f"{self.name}: expected the parameters ({expected}), got {args} {kwargs}")
        if twice := [key for key in list(self.defaults)[: len(args)] if key in kwargs]:
            raise TypeError(f"{self.name}: expected one value of {twice[0]}, got two")
        params = {**self.defaults, **dict(zip(self.defaults, args, strict=False)), **kwargs}
        for key, value in params.items():
            check_number(key, value)
        params = {key: float(value) for key, value in params.items()}
        p0, p1 = (*params.values(), 0.0, 0.0)[:2]
        from_output = self._from_output is not None and self._from_output(**params)
        return ActivationSpec(self.name, params, _KERNEL_IDS[self.name], p0, p1, from_output, self._sign_only)

    def __repr__(self) -> str:
        return f"<activation {self.name}>"


ACTIVATIONS: dict[str, Activation] = {}
"""All activations by name."""

_DEFAULT_SPECS: dict[str, ActivationSpec] = {}
_core.set_activations(_DEFAULT_SPECS)


def _spec(name: str, params: dict[str, float]) -> ActivationSpec:
    return ACTIVATIONS[name](**params)


def resolve(activation: str | ActivationSpec) -> ActivationSpec:
    """Spec of an `activation=` argument."""
    if isinstance(activation, ActivationSpec):
        return activation
    spec = _DEFAULT_SPECS.get(activation) if isinstance(activation, str) else None
    if spec is None:
        names = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"activation: expected None, {names} or a spec from fastnn.act, got {activation!r}")
    return spec


Activation(
    "relu",
    layer="ReLU",
    formula="y = 0 where x <= 0, else x.  NaN stays NaN.",
    gradient="dx = 0 where x <= 0, else dy.",
    from_output=lambda: True,
    sign_only=True,
)

Activation(
    "leaky_relu",
    layer="LeakyReLU",
    defaults={"negative_slope": 0.01},
    formula="y = x where x > 0, else x * negative_slope.",
    gradient="dx = dy where x > 0, else dy * negative_slope.",
    from_output=lambda negative_slope: negative_slope > 0,
    sign_only=True,
)

Activation(
    "sigmoid",
    layer="Sigmoid",
    formula="y = 1 / (1 + exp(-x)).",
    gradient="dx = dy * y * (1 - y).",
    from_output=lambda: True,
)

Activation(
    "tanh",
    layer="Tanh",
    formula="y = tanh(x).",
    gradient="dx = dy * (1 - y * y).",
    from_output=lambda: True,
)

Activation(
    "elu",
    layer="ELU",
    defaults={"alpha": 1.0},
    formula="y = x where x >= 0, else alpha * (exp(x) - 1).",
    gradient="dx = dy where x > 0, else dy * alpha * exp(x).",
)

Activation(
    "selu",
    layer="SELU",
    formula="y = scale * elu(x, alpha), with scale 1.0507... and alpha 1.6732...",
    gradient="dx = dy * scale where x > 0, else dy * scale * alpha * exp(x).",
)

Activation(
    "celu",
    layer="CELU",
    defaults={"alpha": 1.0},
    formula="y = x where x >= 0, else alpha * (exp(x / alpha) - 1).",
    gradient="dx = dy where x > 0, else dy * exp(x / alpha).",
)

Activation(
    "gelu",
    layer="GELU",
    formula="y = x * Phi(x) = x * (1 + erf(x / sqrt(2))) / 2, Phi being the normal distribution.",
    gradient="dx = dy * (Phi(x) + x * phi(x)), phi being the density of the normal distribution Phi.",
    forms=("approximate", {"none": "gelu", "tanh": "gelu_tanh"}),
)

Activation(
    "gelu_tanh",
    layer="GELUTanh",
    formula='y = x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2: gelu with approximate="tanh".',
    gradient="dx = dy * (s + x * s * (1 - s) * dz / dx), with y = x * s, s = sigmoid(z).",
)

Activation(
    "silu",
    layer="SiLU",
    formula="y = x / (1 + exp(-x)), also called swish.",
    gradient="dx = dy * s * (1 + x * (1 - s)), with s = sigmoid(x).",
)

Activation(
    "mish",
    layer="Mish",
    formula="y = x * tanh(log(1 + exp(x))).",
    gradient="dx = dy * (t + x * (1 - t * t) * sigmoid(x)), with t = tanh(log(1 + exp(x))).",
)

Activation(
    "softplus",
    layer="Softplus",
    defaults={"beta": 1.0, "threshold": 20.0},
    formula="y = log(1 + exp(beta * x)) / beta, or x where beta * x > threshold.",
    gradient="dx = dy * sigmoid(beta * x), or dy where beta * x > threshold.",
)

Activation(
    "softsign",
    layer="Softsign",
    formula="y = x / (1 + abs(x)).",
    gradient="dx = dy / (1 + abs(x))**2.",
)

Activation(
    "hardtanh",
    layer="Hardtanh",
    defaults={"min_val": -1.0, "max_val": 1.0},
    formula="y = min_val where x < min_val, max_val where x > max_val, else x.",
    gradient="dx = 0 where x <= min_val or x >= max_val, else dy.",
    from_output=lambda min_val, max_val: min_val <= max_val,
)

Activation(
    "relu6",
    layer="ReLU6",
    formula="y = 0 where x < 0, 6 where x > 6, else x.",
    gradient="dx = 0 where x <= 0 or x >= 6, else dy.",
    from_output=lambda: True,
)

Activation(
    "hardsigmoid",
    layer="Hardsigmoid",
    formula="y = 0 where x <= -3, 1 where x >= 3, else (x + 3) / 6.",
    gradient="dx = 0 where x <= -3 or x >= 3, else dy / 6.",
)

Activation(
    "hardswish",
    layer="Hardswish",
    formula="y = 0 where x <= -3, x where x >= 3, else x * (x + 3) / 6.",
    gradient="dx = 0 where x <= -3, dy where x >= 3, else dy * (x / 3 + 1 / 2).",
)

Activation(
    "logsigmoid",
    layer="LogSigmoid",
    formula="y = log(sigmoid(x)) = -log(1 + exp(-x)).",
    gradient="dx = dy * sigmoid(-x).",
)

Activation(
    "threshold",
    layer="Threshold",
    defaults={"threshold": 0.0, "value": 0.0},
    formula="y = value where x <= threshold, else x.  (PyTorch has no defaults here.)",
    gradient="dx = 0 where x <= threshold, else dy.",
)

add_aliases(_DEFAULT_SPECS)
_FUNCTIONS = {f.__name__: f for entry in ACTIVATIONS.values() for f in (entry.forward, entry.backward)}
__all__ = sorted(_FUNCTIONS)
globals().update(_FUNCTIONS)
