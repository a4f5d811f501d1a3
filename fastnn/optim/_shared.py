"""What all steps share: the way in of the gradient, the checks of numbers, and their documentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastnn._checks import check_number

__all__ = [
    "check_betas",
    "check_correction",
    "check_not_negative",
    "check_positive",
    "clips_to_unit",
    "shared_numbers",
    "step_function",
]

Function = TypeVar("Function", bound=Callable[..., Any])

_ARRAYS = """\
params : sequence of arrays, float32 or float64, C-contiguous, not overlapping
    grads : sequence of arrays like `params`; may be read-only or strided, and are not changed"""

_SHARED = """\
weight_decay : float, default 0
        Adds the slope of ``weight_decay / 2 * param ** 2`` to the gradient, unless the formula decouples it.
    l1 : float, default 0
        Adds the slope of ``l1 * abs(param)``, which is 0 at 0; together with `weight_decay`, an elastic net.
    clip_norm : float, optional
        Scale the gradients down to this norm, taken over all of them together, as `torch.nn.utils.clip_grad_norm_`.
    clip_value : float, optional
        Keep every element of the scaled gradients within +-clip_value.
    clip_form : {"scale", "unit"}, default "scale"
        Where the norm is larger than `clip_norm`, multiply by ``clip_norm / (norm + 1e-6)``; or by ``1 / norm``, so
        that it becomes 1 ("unit"; `clip_norm` may then be 0).
    nonfinite : {"allow", "error", "skip"}, default "allow"
        Whether to go on when the norm of the gradients is not finite, to raise, or to change nothing.

    Returns
    -------
    float or None
        The norm before clipping, if `clip_norm` is given or `nonfinite` is not "allow".

    Raises
    ------
    TypeError
        For arrays that are not float32 or float64, or of different types.
    ValueError
        For lists of different lengths, wrong shapes, read-only or overlapping arrays, numbers out of range, and with
        ``nonfinite="error"`` for a norm that is not finite."""


def step_function(function: Function) -> Function:
    """Complete the docstring of a step by what is the same for all."""
    if function.__doc__:  # there is none with python -OO
        function.__doc__ = function.__doc__.replace("{arrays}", _ARRAYS).replace("{shared}", _SHARED)
    return function


def check_not_negative(name: str, value: float) -> None:
    """ValueError for a negative number or NaN."""
    if type(value) is float and value >= 0.0:
        return
    check_number(name, value)
    if not value >= 0:
        raise ValueError(f"{name}: expected a number >= 0, got {value}")


def check_positive(name: str, value: float) -> None:
    """ValueError for a number that is not larger than 0."""
    if type(value) is float and value > 0.0:
        return
    check_number(name, value)
    if not value > 0:
        raise ValueError(f"{name}: expected a number > 0, got {value}")


def check_betas(beta1: float, beta2: float, name: str = "beta1, beta2") -> None:
    """ValueError for numbers outside [0, 1)."""
    if type(beta1) is type(beta2) is float and 0.0 <= beta1 < 1.0 and 0.0 <= beta2 < 1.0:
        return
    check_number(name, beta1)
    check_number(name, beta2)
    if not (0.0 <= beta1 < 1.0 and 0.0 <= beta2 < 1.0):
        raise ValueError(f"{name}: expected two numbers in [0, 1), got {beta1} and {beta2}")


def check_correction(name: str, value: float) -> None:
    """ValueError for what is no ``1 - beta ** step``."""
    if not 0.0 < value <= 1.0:
        raise ValueError(f"{name}: expected a number in (0, 1], got {value}")


def shared_numbers(
    lr: float, weight_decay: float, l1: float, clip_value: float | None, decoupled: bool = False
) -> tuple[float, float, float, float]:
    """The numbers that come before those of a rule, in the order of csrc/contract.hpp."""
    check_not_negative("lr", lr)
    if weight_decay == 0.0 == l1 and clip_value is None:
        return 0.0, 0.0, 0.0, 0.0
    check_not_negative("weight_decay", weight_decay)
    check_not_negative("l1", l1)
    if clip_value is not None:
        check_positive("clip_value", clip_value)
    limit = 0.0 if clip_value is None else clip_value
    return (limit, 0.0, l1, lr * weight_decay) if decoupled else (limit, weight_decay, l1, 0.0)


_CLIPS_TO_UNIT = {"scale": False, "unit": True}


def clips_to_unit(clip_form: str) -> bool:
    """Whether clipped gradients get the norm 1."""
    try:
        return _CLIPS_TO_UNIT[clip_form]
    except (KeyError, TypeError):
        raise ValueError(f"clip_form: expected 'scale' or 'unit', got {clip_form!r}") from None
