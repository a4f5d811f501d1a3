"""A report as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastnn.bench import report as reports
from fastnn.bench.compare import Change, Comparison
from fastnn.bench.digest import limit, measured, number, seconds, size

__all__ = ["comparison_text", "text"]

Report = Mapping[str, Any]
Row = Mapping[str, Any]


def grid(header: Sequence[str], lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table whose first `left` columns are flush left, the others flush right."""
    widths = [max(len(line[i]) for line in (header, *lines)) for i in range(len(header))]

    def one(line: Sequence[str]) -> str:
        cells = (
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    return "\n".join([one(header), one(["-" * width for width in widths]), *map(one, lines)])


def text(report: Report) -> str:
    """Machine, peers, ceilings, one table per ISA level, summary."""
    return "\n\n".join([_head(report), _peers(report), _ceilings(report), *_rows(report), *_endings(report)]) + "\n"


# ------------------------------------------------------------------------------------------------------ the head


def _head(report: Report) -> str:
    machine, settings = report["machine"], report["settings"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {size(machine['memory_bytes'])}, {machine['platform']}",
        f"L2 {size(machine['l2_bytes'])}, last level {size(machine['llc_bytes'])}",
        f"fastnn {machine['fastnn']['version']}, Python {machine['python']}, NumPy {machine['numpy']}, "
        f"BLAS {machine['blas'] or 'unknown'}",
        f"{settings['threads']} threads, level {', '.join(settings['isa'])}, {report['seconds']:.0f} s, "
        f"{report['started']}",
    ]
    lines += [f"{name}={value}" for name, value in settings.get("environment", {}).items()]
    if not settings.get("blas_held", True):
        lines.append("BLAS and what calls it choose their own number of threads: threadpoolctl is not installed.")
    if not report["complete"]:
        lines.append("INCOMPLETE: the run was interrupted.")
    if settings["quick"]:
        lines.append("A quick run: a smoke test, not a measurement.")
    return "\n".join(lines)


def _peers(report: Report) -> str:
    lines = []
    for peer in report["peers"]:
        open_ended = [isa for isa, capped in peer["capped"].items() if not capped]
        uncapped = f"not held to {', '.join(open_ended)}" if open_ended and peer["state"] == "measured" else ""
        lines.append([peer["label"], peer["version"], peer["state"], peer["reason"] or uncapped])
    return grid(["peer", "version", "state", ""], lines, left=4)


def _ceilings(report: Report) -> str:
    ceilings = report["ceilings"]
    kinds = ("copy", "copy_stream", "triad", "triad_stream", "read")
    bandwidth = grid(
        ["working set", "threads", *(kind.replace("_", " ") for kind in kinds)],
        [
            [size(entry["bytes"]), str(entry["threads"]), *(f"{entry[kind]:.1f}" for kind in kinds)]
            for entry in ceilings["bandwidth"]
        ],
    )
    levels = list(ceilings["cost_ns"])
    operations = list(dict.fromkeys(name for costs in ceilings["cost_ns"].values() for name in costs))
    costs = grid(
        ["ns per element and thread", *levels],
        [[name, *(f"{ceilings['cost_ns'][isa][name]:.3f}" for isa in levels)] for name in operations],
    )
    region = ceilings["region"]
    rest = f"parallel region {seconds(region.get('hot'))} hot, {seconds(region.get('cold'))} after other work; "
    return f"GB/s, read and written\n{bandwidth}\n\n{costs}\n\n{rest}a call {seconds(ceilings['call'])}"


# ------------------------------------------------------------------------------------------------------ the rows


def _ratio(value: Any, digits: int = 2) -> str:
    known = number(value)
    return "" if known is None else f"{known:.{digits}f}"


def _verdict(row: Row) -> str:
    return " ".join(filter(None, [row["verdict"], "(noisy)" if row["noisy"] else ""]))


def _against(row: Row) -> str:
    """The best peer, and how many times as fast fastnn is."""
    if not row["best_peer"]:
        return ""
    return f"{row['best_peer']} {_ratio(row['speedup'])}" + (" tie" if row["tie"] else "")


def _line(row: Row, peers: Sequence[str]) -> list[str]:
    optional = (seconds(row[key]) if row[key] else "" for key in ("floor", "roof"))
    return [
        row["name"],
        measured(row, row["value"]),
        f"{row['gbps']:.1f}" if row["bytes"] else "",
        *optional,
        _ratio(row["over_floor"]),
        _ratio(row["over_roof"]),
        *(_ratio(row["peers"].get(label, {}).get("ratio")) for label in peers),
        _against(row),
        seconds(row["after_matmul"]) if row["after_matmul"] else "",
        size(row["kept"]) if row["kept"] else "",
        f"{row['spread']:.0%}",
        limit(row),
        _verdict(row),
        "; ".join(row["notes"]),
    ]


def _rows(report: Report) -> Iterator[str]:
    """One table per level. Peers: their time over fastnn's. Noisy: the spread is too wide to support the ratio."""
    for isa in dict.fromkeys(row["isa"] for row in report["rows"]):
        rows = [row for row in report["rows"] if row["isa"] == isa]
        peers = list(dict.fromkeys(label for row in rows for label in row["peers"]))
        marks = {peer["label"]: "*" for peer in report["peers"] if isa and not peer["capped"].get(isa, True)}
        header = ["row", "time", "GB/s", "floor", "roof", "/floor", "/roof"]
        header += [label + marks.get(label, "") for label in peers]
        header += ["best peer", "after matmul", "kept", "spread", "bound", "", "notes"]
        title = f"{isa}, {max(row['threads'] for row in rows)} threads; peers: their time over fastnn's"
        if any(marks.get(label) for label in peers):
            title += "; *: not held to this level"
        yield f"{title if isa else 'beyond the case table'}\n{grid(header, [_line(row, peers) for row in rows])}"


# --------------------------------------------------------------------------------------------------- the endings


def _endings(report: Report) -> Iterator[str]:
    if report["errors"]:
        yield "\n".join(["errors:", *report["errors"]])
    for isa, summary in report["summary"].items():
        yield _summary(isa, summary)
    misses = reports.missed(report["rows"])
    if misses:
        yield "\n".join(["bounds missed:", *misses])


def _summary(isa: str, summary: Mapping[str, Any]) -> str:
    lines = [f"summary{f', {isa}' if isa else ''}: {summary['bounds_met']} of {summary['bounds']} bounds met"]
    if summary["rows"]:
        lines += [
            f"  {summary['rows']} rows with peers: faster than every peer in {summary['faster_than_every_peer']}, "
            f"tied in {summary['ties']}, slower in {summary['slower']}",
            f"  times as fast, geometric mean: best peer {_ratio(summary['geomean_best_peer'])}; "
            + ", ".join(f"{label} {_ratio(value)}" for label, value in summary["geomean"].items()),
        ]
    return "\n".join(lines)


def comparison_text(comparison: Comparison) -> str:
    """Rows slower and faster than in the old run, and what else differs."""
    blocks = []
    if comparison.differences:
        blocks.append("\n".join(["the runs differ:", *comparison.differences]))
    blocks += [
        f"{title}\n{_changes(changes)}"
        for title, changes in (("slower than before", comparison.slower), ("faster than before", comparison.faster))
        if changes
    ]
    counts = f"{len(comparison.slower)} rows slower, {len(comparison.faster)} faster, {comparison.same} within noise"
    if comparison.missing:
        counts += f"; {len(comparison.missing)} rows of the old run are not in this one"
    return "\n\n".join([*blocks, counts]) + "\n"


def _changes(changes: Sequence[Change]) -> str:
    header = ["row", "level", "before", "now", "now/before", "quartiles before", "quartiles now"]
    return grid(header, [change.line() for change in changes], left=2)
