"""Answers before times: what a peer gives is compared with `fastnn.reference`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import reference
from fastnn.bench.peers import Peer
from fastnn.bench.peers.base import Direction
from fastnn.cases import BatchNormCase, BiasActCase, Case, DropoutCase, Inputs, NoiseCase, SampleNormCase

__all__ = ["check_ours", "check_peer"]

FUSED = (BiasActCase, BatchNormCase, SampleNormCase)
"""Producers with an epilogue."""

SIGMAS = 5
"""Allowed distance of the share of kept elements from its expectation, in standard deviations."""


def matches(got: Any, want: Any) -> bool:
    """Equal to about float32 accuracy, relative to the largest magnitude.

    One element in ten thousand may differ: rounding can move a value across the kink of an activation.
    """
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        return False
    if want.size == 0:
        return True
    wrong = ~(np.abs(got - want) <= 1e-4 * max(float(np.max(np.abs(want))), 1e-30))
    return bool(np.count_nonzero(wrong) <= want.size // 10_000)


def compare(who: str, got: Mapping[str, Any], want: Mapping[str, Any]) -> None:
    """AssertionError if one of the outputs in `want` is wrong."""
    for name, expected in want.items():
        if expected is not None and not matches(got[name], expected):
            raise AssertionError(f"{who}: {name} differs from the reference")


def run(namespace: Any, case: Case, inputs: Inputs, direction: Direction) -> dict[str, Any]:
    """Outputs of a case in one direction."""
    outputs, saved = case.forward(namespace, inputs)
    return outputs if direction == "forward" else case.backward(namespace, inputs, saved) or {}


def check_ours(namespace: Any, case: Case, shape: Any, direction: Direction) -> None:
    """AssertionError if `namespace`, with fastnn's random masks, differs from the reference."""
    got, want = (run(ns, case, case.inputs(shape, np.float32), direction) for ns in (namespace, reference))
    compare("fastnn", got, want)


def check_peer(peer: Peer, case: Case, shape: Any, direction: Direction) -> bool:
    """Whether the peer has the operation.

    Raises
    ------
    AssertionError
        If its answer is wrong.
    """
    with _reference_masks(peer):
        job = peer.job(case, case.inputs(shape, np.float32), direction)
        if job is None:
            return False
        got = job.outputs()
    p = _dropout(case)
    if isinstance(case, NoiseCase):
        _check_noise(peer.label, got["y"] - case.inputs(shape, np.float32)["x"], case)
    elif peer.own_masks and p:
        _compare_own_masks(peer.label, got, case, case.inputs(shape, np.float32), direction, p)
    else:
        compare(peer.label, got, run(reference, case, case.inputs(shape, np.float32), direction))
    return True


@contextmanager
def _reference_masks(peer: Any) -> Iterator[None]:
    """Let a peer that draws masks in Python draw the reference's."""
    if not hasattr(peer, "draw_mask"):
        yield
        return
    peer.draw_mask = lambda rng, shape, p, dtype: reference.dropout(np.ones(shape, dtype), p, rng=rng)[0] != 0
    try:
        yield
    finally:
        del peer.draw_mask


# ------------------------------------------------------------------------------- masks from inside compiled code


def _dropout(case: Case) -> float:
    """Probability to drop."""
    if isinstance(case, DropoutCase):
        return case.p
    return case.epilogue.dropout if isinstance(case, FUSED) and case.training else 0.0


def _without_dropout(case: Case) -> Case:
    if isinstance(case, FUSED):
        return replace(case, epilogue=replace(case.epilogue, dropout=0.0))
    assert isinstance(case, DropoutCase)
    return replace(case, p=0.0)


def _compare_own_masks(
    who: str, got: Mapping[str, Any], case: Case, inputs: Inputs, direction: Direction, p: float
) -> None:
    """The same, with the mask told from the output: what is not zero, or what else is put in its place, was kept."""
    plain = _without_dropout(case)
    factors = case.factors() if isinstance(case, DropoutCase) else (1 / (1 - p), 0.0, 0.0)
    scale, shift, dropped = map(np.float32, factors)
    kept = np.abs(np.asarray(got["y"]) - dropped) > 1e-6 * np.abs(dropped)
    outputs, saved = plain.forward(reference, inputs)
    _check_share(who, kept, outputs["y"], p, case)
    if direction == "forward":
        compare(who, got, {**outputs, "y": np.where(kept, outputs["y"] * scale + shift, dropped)})
        return
    masked = {**inputs, "dy": np.where(kept, inputs["dy"] * scale, np.float32(0))}
    compare(who, got, plain.backward(reference, masked, saved) or {})


def _check_share(who: str, kept: NDArray[np.bool_], y: NDArray[Any], p: float, case: Case) -> None:
    """AssertionError unless about 1 - p of the elements that are not zero anyway were kept."""
    candidates = int(np.count_nonzero(y))
    share = np.count_nonzero(kept & (y != 0)) / candidates
    decisions = case.decisions(y.shape) if isinstance(case, DropoutCase) else candidates
    if abs(share - (1 - p)) > SIGMAS * np.sqrt(p * (1 - p) / decisions):
        raise AssertionError(f"{who}: {share:.1%} of the elements were kept, expected {1 - p:.1%}")


def _check_noise(who: str, noise: NDArray[Any], case: NoiseCase) -> None:
    """AssertionError unless mean and standard deviation are those of the case: everybody draws noise of their own."""
    error = SIGMAS * case.std / np.sqrt(noise.size)
    if abs(noise.mean() - case.mean) > error or abs(noise.std() - case.std) > error:
        raise AssertionError(f"{who}: noise of mean {noise.mean():.3g} and standard deviation {noise.std():.3g}")
