"""The benchmark: every row of the case table against what the machine's memory and arithmetic allow.

Imported only when asked for (``import fastnn.bench``). Its faces: ``fastnn bench``, and ``pytest bench/`` in the
source tree.

- `ceilings`: what this machine can do: bandwidths, cost of a division, of a random bit, of a parallel region.
- `roof`: what a case must at least cost on such a machine.
- `harness`: interleaved rounds, medians, spread, verdicts; the results are plain dataclasses.
- `rows`: the list of rows: the case table's, and those beyond it (call overhead, import time, threads).
- `table`: results as text and as JSON.
- `run`: the command, and what it shares with ``pytest bench/``.
- `peers`: what is measured beside fastnn.
"""

from __future__ import annotations
