"""Writes README's performance section from the committed runs in ``bench/results``; nobody types a figure by hand.

python bench/readme.py            rewrite the section (and the chart it shows, where matplotlib is installed)
python bench/readme.py --check    exit with 1 if README is not what this script would write
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastnn.bench import plots
from fastnn.bench.digest import BEST, Report, ReportRow, levels, measured, number, seconds, speedups, times

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- performance: begin (bench/readme.py writes this section) -->"
END = "<!-- performance: end -->"
TYPICAL = 1 << 20
"""Elements of the row that stands for an operation."""


def section(reports: dict[str, Report], root: Path = ROOT) -> str:
    """The text between the markers: one part per run, by its name."""
    return "\n\n".join([BEGIN, *(_run(name, report, root) for name, report in reports.items()), END])


def rewritten(readme: str, text: str) -> str:
    """README with `text` as its performance section."""
    pattern = re.compile(r"<!-- performance: begin.*?<!-- performance: end -->", re.DOTALL)
    if len(pattern.findall(readme)) != 1:
        raise SystemExit("README needs one pair of performance markers")
    return pattern.sub(lambda _: text, readme)


def _run(name: str, report: Report, root: Path) -> str:
    isa = (levels(report) or [""])[0]
    parts = [_machine(report), _summary(report), _promises(report, isa), _typical(report, isa)]
    image = chart(name, root)
    if image.exists():
        parts.insert(3, f"![Speed-up of fastnn over each peer, by family]({image.relative_to(root).as_posix()})")
    return "\n\n".join(parts)


def chart(name: str, root: Path = ROOT) -> Path:
    """Where the chart of the run called `name` is kept."""
    return root / "docs" / "images" / f"{name}-speedup.png"


def _machine(report: Report) -> str:
    machine, settings = report["machine"], report["settings"]
    versions = dict.fromkeys(peer["version"] for peer in report["peers"] if peer["state"] == "measured")
    flaws = [flaw for flaw, there in (("quick", settings["quick"]), ("partial", not report["complete"])) if there]
    warning = "".join(f"**A {flaw} run.** " for flaw in flaws)
    return (
        f"{warning}`{report['command']}` on {machine['cpu']}, {settings['threads']} threads, "
        f"Python {machine['python']}, beside {', '.join(versions)}; {len(report['rows'])} rows, medians, float32."
    )


def _summary(report: Report) -> str:
    """One column per ISA level: the geometric means, and how many rows are where they should be."""
    summary = report["summary"]
    lines = [["time of the peer / time of fastnn, geometric mean", *summary]]

    def line(what: str, cell: Callable[[Mapping[str, Any]], str]) -> None:
        lines.append([what, *(cell(level) for level in summary.values())])

    line(BEST, lambda level: f"**{times(level['geomean_best_peer'])}**")
    for label in dict.fromkeys(label for level in summary.values() for label in level["geomean"]):
        line(label, lambda level, label=label: times(level["geomean"].get(label)))
    counts = ("faster_than_every_peer", "ties", "slower")
    line("rows faster than every peer, ties, slower", lambda level: ", ".join(str(level[key]) for key in counts))
    line("promised limits met", lambda level: f"{level['bounds_met']} of {level['bounds']}")
    return _table(lines)


def _promises(report: Report, isa: str) -> str:
    """What became of every promised limit: one line for those of a family, and for those that stand alone."""
    lines = [["promised limit", "met", "least", "median", "most"]]
    families: dict[str, list[ReportRow]] = {}
    for row in report["rows"]:
        if row["bound"] and row["isa"] in (isa, ""):
            of, limit = row["bound"]["of"], row["bound"]["limit"]
            what = f"{row['group']}: {limit:g} x {of}" if of != "value" else f"{row['name']}: {measured(row, limit)}"
            families.setdefault(what, []).append(row)
    for what, rows in families.items():
        alone = rows[0]["bound"]["of"] == "value"
        values = sorted(row["value"] if alone else row[f"over_{row['bound']['of']}"] for row in rows)
        cells = (values[0], statistics.median(values), values[-1])
        met = sum(row["verdict"] == "met" for row in rows)
        shown = [measured(rows[0], value) if alone else f"{value:.2f}" for value in cells]
        lines.append([what, f"{met} of {len(rows)}", *(["", shown[1], ""] if len(rows) == 1 else shown)])
    return _table(lines)


def _typical(report: Report, isa: str) -> str:
    """The row nearest to a million elements of each operation and direction, and every training step."""
    lines = [[f"at {isa}", "time", "GB/s", "over roof", "best peer", "peer / fastnn", "mean over all its rows"]]
    operations: dict[tuple[str, str], list[ReportRow]] = {}
    for row in report["rows"]:
        if row["isa"] == isa and row["kind"] in ("case", "step"):
            operation = row["case"].partition("/")[0] or row["name"]
            operations.setdefault((operation, row["direction"]), []).append(row)
    for rows in operations.values():
        mean = speedups(rows).get(BEST)
        lines.append([*_cells(min(rows, key=_distance)), times(mean[0]) if mean else ""])
    return _table(lines)


def _distance(row: ReportRow) -> float:
    return abs(math.log(max(row["elements"], 1) / TYPICAL))


def _cells(row: ReportRow) -> list[str]:
    gbps, roof = number(row["gbps"]), number(row["over_roof"])
    return [
        row["name"],
        seconds(row["value"]),
        f"{gbps:.0f}" if gbps and row["kind"] == "case" else "",
        times(roof).removesuffix(" x") if roof else "",
        row["best_peer"] or "",
        f"{times(row['speedup'])}{' (tie)' if row['tie'] else ''}" if row["speedup"] else "",
    ]


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *body = [f"| {' | '.join(cell.replace('|', ' ') for cell in line)} |" for line in lines]
    return "\n".join([head, f"|---|{'---:|' * (len(lines[0]) - 1)}", *body])


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="JSON", help="default: bench/results/*.json")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if README is out of date")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    root: Path = options.root
    paths = options.runs or sorted((root / "bench" / "results").glob("*.json"))
    if not paths:
        raise SystemExit("no run in bench/results: fastnn bench --out DIR makes one")
    reports = {path.stem: _read(path) for path in paths}
    readme = root / "README.md"
    before = readme.read_text(encoding="utf-8")
    if options.check:
        return int(before != rewritten(before, section(reports, root)))
    for name, report in reports.items():
        images = plots.render(report)
        if images and "speedup" in images:
            chart(name, root).parent.mkdir(parents=True, exist_ok=True)
            chart(name, root).write_bytes(images["speedup"])
    readme.write_text(rewritten(before, section(reports, root)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
