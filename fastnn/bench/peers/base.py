"""What the harness asks of a peer, and the base of peers that look like `fastnn.functional`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from fastnn.bench.calls import direct, planned
from fastnn.cases import Case, Inputs, OptimizerCase

if TYPE_CHECKING:
    from fastnn.bench.steps import Network, StepJob

Plan = tuple[Callable[[], Any], Any]
"""A call without arguments, and what its operation returns; None: what the call returns."""

Direction = Literal["forward", "backward"]


@dataclass
class Job:
    """One case, ready to run on one peer.

    Parameters
    ----------
    call : callable
        One timed execution; everything asynchronous has finished when it returns.
    outputs : callable
        The outputs of the first execution, which `Peer.job` ran, under the case's names, as NumPy arrays and
        floats; with "backward" the outputs of the forward pass too, of which a mask can be told. Later
        executions may write over them: ask before `call`. Only this holds on to them.
    """

    call: Callable[[], Any]
    outputs: Callable[[], dict[str, Any]]


def needed(case: Case) -> tuple[str, ...]:
    """Names of what `case` calls, and of the activation in its chain."""
    epilogue = getattr(case, "epilogue", None)
    return (*case.ops, epilogue.name) if epilogue is not None and epilogue.name else case.ops


def prepared(plan: Callable[..., Plan]) -> Callable[..., Any]:
    """An operation from its plan, which jobs make once: only the call of the plan is timed.

    Parameters
    ----------
    plan : callable
        Method with the arguments of the operation.
    """

    @wraps(plan)
    def operation(*args: Any, **kwargs: Any) -> Any:
        call, result = plan(*args, **kwargs)
        made = call()
        return made if result is None else result

    operation.plan = plan  # type: ignore[attr-defined]
    return operation


def _innermost(call: Callable[[], Any]) -> Callable[[], Any]:
    """The call that a recorded operation comes down to, if that can be prepared."""
    assert isinstance(call, partial)
    plan = getattr(call.func, "plan", None)
    if plan is None:
        return call
    innermost: Callable[[], Any] = plan(call.func.__self__, *call.args, **call.keywords)[0]  # type: ignore[attr-defined]
    return innermost


class Peer(ABC):
    """One way to compute what fastnn computes, as its own users write it.

    Parameters
    ----------
    threads : int
        Threads for the library, where it has a setting of its own.

    Attributes
    ----------
    name : str
        What ``--peers`` takes; several peers may share it.
    label : str
        Column heading.
    library, distribution : str
        Module to import, and the name it is installed by.
    own_masks : bool
        Dropout masks are drawn inside compiled code, so a check can only recover them from the output. Other
        peers have ``draw_mask(rng, shape, p, dtype)``, which gives a bool array, True where kept; the check of
        their answers replaces it by the mask that the reference uses.
    convolves : bool
        Whether its training steps may begin with convolutions.
    cap : mapping or None
        Environment that holds the library to AVX2, to be set before its import; None if there is no such switch.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    library: ClassVar[str]
    distribution: ClassVar[str]
    own_masks: ClassVar[bool] = False
    convolves: ClassVar[bool] = False
    cap: ClassVar[Mapping[str, str] | None] = None

    @classmethod
    def missing(cls) -> str:
        """Why it cannot run here, empty if it can. Imports nothing."""
        return "" if importlib.util.find_spec(cls.library) else f"{cls.distribution} is not installed"

    @classmethod
    def version(cls) -> str:
        """The library and its version."""
        return f"{cls.distribution} {importlib.metadata.version(cls.distribution)}"

    @abstractmethod
    def __init__(self, threads: int) -> None: ...

    @abstractmethod
    def job(self, case: Case, inputs: Inputs, direction: Direction) -> Job | None:
        """`case` on `inputs`, which may be updated in place; None if there is no such operation."""

    def train_step(self, network: Network, batch: int) -> StepJob | None:
        """A whole training step of `network`; None if it cannot be written with this peer."""
        return None


def takes(step: Callable[..., Any], case: OptimizerCase) -> bool:
    """Whether the step of a peer has the arguments of `case`."""
    try:
        inspect.signature(step).bind(None, None, *case.slots, lr=0.0, **{**case.options, **case.at(1)})
    except TypeError:
        return False
    return True


class NamespacePeer(Peer):
    """A peer whose methods have the names and the arguments of `fastnn.functional`.

    A row of the case table runs on it unchanged. It lacks an operation or an activation by not having the method,
    or by `NotImplementedError` for a combination of arguments. `out` is never given.
    """

    def to_native(self, array: np.ndarray[Any, Any]) -> Any:
        """An array of the inputs as the library has it, converted before any timing."""
        return array

    def to_numpy(self, value: Any) -> Any:
        """An output as a NumPy array or float."""
        return value

    def _native(self, inputs: Inputs) -> Inputs:
        def convert(value: Any) -> Any:
            if isinstance(value, list):
                return [self.to_native(item) for item in value]
            return self.to_native(value) if isinstance(value, np.ndarray) else value

        return {name: convert(value) for name, value in inputs.items()}

    def job(self, case: Case, inputs: Inputs, direction: Direction) -> Job | None:
        if not all(hasattr(self, name) for name in needed(case)):
            return None
        if isinstance(case, OptimizerCase) and not takes(getattr(self, case.ops[0]), case):
            return None
        native = self._native(inputs)
        try:
            (results, saved), call = direct(self, lambda peer: case.forward(peer, native))
            if direction == "backward":
                gradients, call = direct(self, lambda peer: case.backward(peer, native, saved))
                results = results | (gradients or {})
        except NotImplementedError:
            return None
        if isinstance(case, OptimizerCase):  # its forward is two steps; from the third on they are all alike
            call = planned(self, lambda peer: case.step(peer, native, 3))
        return Job(_innermost(call), lambda: {name: self.to_numpy(value) for name, value in results.items()})
