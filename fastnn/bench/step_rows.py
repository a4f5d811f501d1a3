"""Rows of whole training steps, against their matrix products and the roofs of everything between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from fastnn.bench import steps
from fastnn.bench.case_rows import CaseRow, product
from fastnn.bench.harness import Bound, Contender, Row, Timing, interleave
from fastnn.bench.lineup import Bench, Lineup
from fastnn.cases import by_name

__all__ = ["StepRow"]


@dataclass(frozen=True)
class StepRow:
    """One training step of a network on a batch."""

    network: steps.Network
    batch: int
    group: str = "step"

    levelled: ClassVar[bool] = True

    @property
    def id(self) -> str:
        """Unique name."""
        return f"{self.network.name}, batch {self.batch}"

    def _check_ours(self) -> steps.StepJob:
        job = steps.fastnn_step(self.network, self.batch)
        steps.check("fastnn", job, self.network, self.batch)
        return job

    def _peers(self, lineup: Lineup) -> Iterator[tuple[str, steps.StepJob | str]]:
        """Label of each peer that has the step, with its job or what is wrong with it."""
        for entry in lineup:
            assert entry.instance is not None
            if self.network.convolutions and not entry.instance.convolves:
                continue
            try:
                job = entry.instance.train_step(self.network, self.batch)
                if job is None:
                    continue
                steps.check(entry.label, job, self.network, self.batch)
            except Exception as error:  # a foreign library's as well
                yield entry.label, f"{entry.label}: {error}"
            else:
                yield entry.label, job

    def check(self, lineup: Lineup) -> None:
        """Compare the first step of fastnn and of the peers with the reference."""
        self._check_ours()
        for _, job in self._peers(lineup):
            assert not isinstance(job, str), f"{self.id}: {job}"

    def between(self) -> Iterator[CaseRow]:
        """What happens beside the products, as rows of the case table, the way fastnn runs it."""
        network, batch = self.network, self.batch

        def both(name: str, shape: tuple[int, ...]) -> Iterator[CaseRow]:
            yield CaseRow(by_name(name), shape, "forward")
            yield CaseRow(by_name(name), shape, "backward")

        for number in network.hidden():
            image, width = network.image(number), network.width(number)
            tail = network.activation + ("+dropout" if network.dropout else "")
            if image:
                inputs = (batch, network.channels[number - 1], *image)
                yield CaseRow(by_name("im2col/nchw/3x3"), inputs, "forward")  # and again for the gradient of the weight
                yield from list(both("im2col/nchw/3x3", inputs))[: 2 if number > 1 else 1]
            layout = ("nchw", "nchw") if image else ("2d", "rows")
            name = f"batch_norm/{layout[0]}/{tail},pre_bias" if network.batch_norm else f"bias_act/{layout[1]}/{tail}"
            yield from both(name, (batch, width, *image))
            if image:
                pool = "max_pool2d/nchw/2x2" if number < network.convolutions else "global_avg_pool2d/nchw"
                yield from both(pool, (batch, width, *image))
        logits = (batch, network.sizes[-1])
        yield CaseRow(by_name("bias_act/rows/plain"), logits, "forward")
        yield CaseRow(by_name("softmax_cross_entropy/rows"), logits, "forward")
        yield CaseRow(by_name("channel_sum/rows"), logits, "forward")
        shapes = tuple(value.shape for value in network.parameters().values())
        yield CaseRow(by_name("adam_step/adam"), shapes, "forward")

    def _products(self) -> Callable[[], Any]:
        calls = [product(*sizes) for sizes in self.network.products(self.batch)]

        def run() -> None:
            for call in calls:
                call()

        return run

    def measure(self, bench: Bench) -> Row:
        """Time fastnn's step, those of the peers and the products alone, all taking turns."""
        settings = bench.settings
        peers, errors, notes = [], [], {}
        with settings.applied():
            ours = Contender("fastnn", self._check_ours().call)
            products = Contender("products", self._products())
            for label, job in self._peers(bench.lineup):
                if isinstance(job, str):
                    errors.append(job)
                    continue
                peers.append(Contender(label, job.call))
                if job.network is not None and (missing := self.network.beyond(job.network)):
                    notes[label] = f"{label}: without {' and '.join(missing)}, so never the best peer"
            rest = sum(row.limit(bench) for row in self.between())
            interleave([ours, products, *peers], settings, 2)
        limit: Timing = products.timing
        return Row(
            group=self.group,
            name=self.id,
            time=ours.timing,
            kind="step",
            elements=math.prod(self.network.input_shape(self.batch)),
            isa=settings.isa,
            threads=settings.threads,
            floor=limit.value,
            roof=limit.value + rest,
            floor_spread=limit.spread,
            peers={peer.name: peer.timing for peer in peers},
            lesser=frozenset(notes),
            bound=Bound("roof", 1.25),
            notes=("floor: the matrix products alone", *notes.values()),
            errors=tuple(errors),
            samples=tuple(ours.samples),
        )
