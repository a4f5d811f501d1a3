"""The benchmark: every row of the case table beside what people use instead, and against what the machine allows.

Imported only when asked for (``import fastnn.bench``). Its faces: ``fastnn bench``, and ``pytest bench/`` in the
source tree.

- `ceilings`: what this machine can do: bandwidths, cost of a division, of a random bit, of a parallel region.
- `roof`: what a case must at least cost on such a machine.
- `harness`: interleaved rounds, medians, quartiles, verdicts; the results are plain dataclasses.
- `peers`: what is measured beside fastnn; `lineup`: which of them run; `checks`: their answers come first.
- `rows`: the list of rows: those of the case table (`case_rows`, timed through `calls`), whole training steps
  (`step_rows`, of the networks in `steps`), and what no table can hold (`beyond`).
- `optimizer_rows`: what an optimizer does beside its rule.
- `scaling`: curves over size, threads and number of tensors.
- `report`: the content of ``bench.json``, read by `table`, `compare`, `page` and `plots` (with `digest`).
- `run`: the command, and what it shares with ``pytest bench/``; `progress`: how far it is.
"""

from __future__ import annotations
