"""All rows: every benchmark shape of the case table in both directions, whole steps, and what no table can hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

from fastnn.bench.beyond import beyond_the_table
from fastnn.bench.case_rows import LARGE, CaseRow, elements
from fastnn.bench.checks import FUSED
from fastnn.bench.harness import Row
from fastnn.bench.lineup import Bench, Lineup
from fastnn.bench.optimizer_rows import optimizer_rows
from fastnn.bench.step_rows import StepRow
from fastnn.bench.steps import NETWORKS
from fastnn.cases import CASES, BatchNormCase, Case, OptimizerCase

__all__ = ["RowSpec", "all_rows", "heads", "usual"]


class RowSpec(Protocol):
    """What a runner needs of a row."""

    @property
    def id(self) -> str:
        """Unique name."""

    @property
    def group(self) -> str:
        """Kernel family, or what else it is about."""

    @property
    def levelled(self) -> bool:
        """Whether the ISA level matters to it."""

    def check(self, lineup: Lineup) -> None:
        """AssertionError if an answer is wrong; times nothing."""

    def measure(self, bench: Bench) -> Row:
        """Check and time."""


def usual(case: Case) -> bool:
    """Whether a default run includes the case: of the fused tails those that networks are made of."""
    if not isinstance(case, FUSED):
        return True
    tail = case.epilogue
    parts = (bool(tail.residual), tail.name, bool(tail.dropout))
    common = [(False, "", False), (False, "relu", False), (False, "relu", True)]
    if isinstance(case, BatchNormCase):
        common = common[: None if case.training else 2] + [(True, "relu", False)] * case.training
    return parts in common


def representative(case: Case) -> bool:
    """Whether it stands for the others of its op: of the fused tails, relu."""
    return not isinstance(case, FUSED) or case.epilogue.label == "relu"


@cache
def heads() -> dict[str, Case]:
    """The ops that stand for a family, one for each kind of arithmetic in it, by the case that stands for the op."""
    found: dict[tuple[str, tuple[str, ...]], Case] = {}
    for case in CASES:
        if case.bench and usual(case) and representative(case):
            work = case.work(case.bench[0], "forward")
            kind = tuple(name for name, count in vars(work).items() if count)
            found.setdefault((case.family, kind), case)
    return {case.ops[0]: case for case in found.values()}


def _shapes(case: Case, quick: bool, everything: bool) -> Sequence[Any]:
    """The smallest; all; or, of ops for which another one stands, the smallest and what is nearest to a million."""
    smallest = min(case.bench, key=elements)
    if quick:
        return (smallest,)
    if everything or isinstance(case, OptimizerCase) or case.ops[0] in heads():
        return case.bench
    typical = min(case.bench, key=lambda shape: abs(math.log(elements(shape) / LARGE)))
    return tuple(dict.fromkeys((smallest, typical)))


def _case_rows(quick: bool, everything: bool) -> list[RowSpec]:
    rows: list[RowSpec] = []
    for case in CASES:
        if case.bench and (everything or usual(case)) and (representative(case) or not quick):
            for shape in _shapes(case, quick, everything):
                rows.append(CaseRow(case, shape, "forward"))
                if len(case.ops) == 2:
                    rows.append(CaseRow(case, shape, "backward"))
    return rows


def all_rows(*, only: str = "", quick: bool = False, everything: bool = False) -> list[RowSpec]:
    """Every row, in the order of the case table.

    Parameters
    ----------
    only : str
        Keep the rows of this group or, if there is no such group, those with this in their name.
    quick : bool
        Only the smallest shape of each case, at which answers are checked, of the fused tails only relu, and of
        each network only one batch size.
    everything : bool
        Include the other fused tails (other activations, residual, dropout alone), and all shapes of the ops for
        which another of their family stands.
    """
    rows = [*_case_rows(quick, everything), *optimizer_rows()]
    for network in NETWORKS:
        rows.extend(StepRow(network, batch) for batch in network.batches[: 1 if quick else None])
    rows.extend(beyond_the_table(quick))
    if any(only == row.group for row in rows):
        return [row for row in rows if only == row.group]
    return [row for row in rows if only in row.id]
