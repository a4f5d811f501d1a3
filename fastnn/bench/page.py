"""A report as one HTML page that needs no network, with the plots beside it as PNGs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from fastnn._page import Column, Html, document, element, facts, figure, join, section, table, warnings
from fastnn.bench import plots
from fastnn.bench.digest import (
    MISSING,
    Report,
    ReportRow,
    levels,
    limit,
    measured,
    number,
    over_limit,
    seconds,
    size,
    slower,
    times,
)

__all__ = ["write"]


def write(report: Report, directory: Path) -> list[Path]:
    """Write ``report.html`` and, where matplotlib is installed, the plots.

    Parameters
    ----------
    report : mapping
        Content of ``bench.json``; may be partial.
    directory : Path
        Where to; made if missing.

    Returns
    -------
    list of Path
        The files written, the page first.
    """
    directory.mkdir(parents=True, exist_ok=True)
    light, dark = plots.render(report), plots.render(report, plots.DARK)
    files = [directory / "report.html"]
    files[0].write_text(_page(report, light, dark), encoding="utf-8")
    for name, png in (light or {}).items():
        files.append(directory / f"{name}.png")
        files[-1].write_bytes(png)
    return files


# ------------------------------------------------------------------------------------------------ the parts


def _page(report: Report, light: Mapping[str, bytes] | None, dark: Mapping[str, bytes] | None) -> str:
    cpu = report["machine"].get("cpu") or report["machine"].get("platform", "")
    parts = [
        _warnings(report),
        _headline(report),
        _missed(report),
        _alternatives(report),
        _figures(light, dark),
        _machine(report),
        _ceilings(report),
        _rows(report),
    ]
    script = resources.files("fastnn.bench").joinpath("page.js").read_text(encoding="utf-8")
    return document(f"fastnn benchmark: {cpu}", "fastnn benchmark", _subtitle(report, cpu), parts, script)


def _subtitle(report: Report, cpu: str) -> str:
    threads = report["settings"]["threads"]
    pieces = [cpu, f"{threads} thread{'s' * (threads != 1)}", str(report.get("started", ""))[:10]]
    return " · ".join(piece for piece in pieces if piece)


def _warnings(report: Report) -> Html:
    """What keeps this run from being the whole truth."""
    notes = []
    if not report.get("complete"):
        notes.append("This run was interrupted: what had been measured by then is here, the rest is missing.")
    if report["settings"].get("quick"):
        notes.append("A quick run: small shapes and few rounds. It shows that everything works, not how fast it is.")
    errors = report.get("errors") or []
    if errors:
        notes.append(f"{len(errors)} rows or peers failed and are missing: {'; '.join(errors)}")
    return warnings(notes)


_LEVELS = {"v4": "x86-64-v4 (AVX-512)", "v3": "x86-64-v3 (AVX2)", "baseline": "x86-64 (SSE2)"}


def _headline(report: Report) -> Html:
    """One card per ISA level."""
    cards = []
    for isa, summary in report.get("summary", {}).items():
        figures = [
            (times(summary.get("geomean_best_peer")), "as fast as the best peer of each row, geometric mean"),
            (_of(summary, "faster_than_every_peer", "rows"), "rows faster than every peer"),
            (_count(summary, "ties"), "ties within noise"),
            (_count(summary, "slower"), "rows slower than a peer"),
            (_of(summary, "bounds_met", "bounds"), "promised limits met"),
        ]
        facts = [element("div", element("dd", figure), element("dt", meaning)) for figure, meaning in figures]
        cards.append(
            element("div", element("h2", _LEVELS.get(isa, isa) or "all rows"), element("dl", *facts), class_="card")
        )
    return element("div", *cards, class_="cards") if cards else Html()


def _count(summary: Mapping[str, Any], key: str) -> str:
    value = number(summary.get(key))
    return MISSING if value is None else f"{value:.0f}"


def _of(summary: Mapping[str, Any], part: str, whole: str) -> str:
    return f"{_count(summary, part)} of {_count(summary, whole)}"


def _level(row: ReportRow) -> str:
    return f"{row['name']} ({row['isa']})" if row["isa"] else str(row["name"])


def _missed(report: Report) -> Html:
    """Rows above their limit and rows slower than a peer, worst first."""
    over = [row for row in report["rows"] if row.get("verdict") == "missed"]
    over.sort(key=lambda row: -(over_limit(row) or 0))
    behind = sorted(filter(slower, report["rows"]), key=lambda row: row["speedup"])
    if not over and not behind:
        return section("Misses", element("p", "None: no row is above its limit or slower than a peer."))
    above = (
        Column("above its limit", "", _named),
        Column("over by", "", lambda row: _percent((over_limit(row) or 1) - 1), over_limit),
        Column("measured", "Against what the limit is on", _against, over_limit),
        Column("limit", "", limit, lambda row: row["bound"]["limit"]),
    )
    lost = (
        Column("slower than a peer", "", _named),
        Column("slower by", "", lambda row: _percent(1 / row["speedup"] - 1), lambda row: 1 / row["speedup"]),
        Column("fastnn", "Median", lambda row: measured(row, row["value"]), lambda row: row["value"]),
        Column("peer", "", lambda row: row["best_peer"]),
        Column("its time", "Median", _best_time, lambda row: row["speedup"]),
    )
    tables = [
        element("details", element("summary", f"{len(rows)} rows {what}"), table(columns, rows), open=True)
        for what, columns, rows in (("above their limit", above, over), ("slower than a peer", lost, behind))
        if rows
    ]
    return section("Misses", element("div", *tables, class_="pair"))


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _named(row: ReportRow) -> Html:
    return join([_level(row), _noise(row)])


def _noise(row: ReportRow) -> Html:
    """The mark of rows whose spread is too wide to lean on their ratios."""
    return join([" ", element("small", "noisy")]) if row.get("noisy") else Html()


def _against(row: ReportRow) -> str:
    of = row["bound"]["of"]
    return measured(row, row["value"]) if of == "value" else f"{times(row.get(f'over_{of}'))} {of}"


def _best_time(row: ReportRow) -> str:
    return seconds(row["peers"].get(row["best_peer"], {}).get("value"))


def _alternatives(report: Report) -> Html:
    """Every peer: how much faster fastnn is than it, or why it is not there."""
    isas = levels(report)

    def speed(isa: str) -> Callable[[Mapping[str, Any]], Any]:
        return lambda peer: report.get("summary", {}).get(isa, {}).get("geomean", {}).get(peer["label"])

    def cell(isa: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda peer: times(speed(isa)(peer))

    columns = [
        Column("peer", "", lambda peer: peer["label"]),
        Column("version", "", lambda peer: peer.get("version") or MISSING),
        *(Column(f"peer / fastnn, {isa}", "", cell(isa), speed(isa)) for isa in isas),
        Column("note", "", _state),
    ]
    text = "Time of the peer over time of fastnn: geometric mean over the rows that the peer has."
    return section("Against the alternatives", element("p", text), table(columns, report.get("peers", [])))


def _state(peer: Mapping[str, Any]) -> str:
    """Why a peer is absent, or which table it could not be held to."""
    if peer["state"] != "measured":
        return ": ".join(filter(None, [peer["state"], peer.get("reason", "")]))
    uncapped = [isa for isa, capped in peer.get("capped", {}).items() if not capped]
    return f"not held to {', '.join(uncapped)}: it uses whatever this CPU has" if uncapped else ""


_CAPTIONS = {
    "speedup": (
        "Speed-up by family",
        "Bars start at 1 x, where a peer is as fast as fastnn; the further right, the slower the peer.",
    ),
    "roofline": (
        "Bandwidth reached, and the machine's limits",
        "Each dot is a row: the bytes it must move over the time it takes. The lines are what copying, a triad and "
        "reading reach on this machine, measured in the same run. A short bar marks the row's own roof, which is lower "
        "where data must be read twice or arithmetic takes longer than memory. Small rows are below it for the cost of "
        "the call.",
    ),
    "scaling_size": (
        "Time against size",
        "Time per element: a line is flat where time grows with size. Small arrays pay for the call, large ones for "
        "memory. Floor and roof are dotted and dashed.",
    ),
    "scaling_threads": ("Time against threads", ""),
    "scaling_tensors": ("Optimizer step against the number of tensors", ""),
}


def _figures(light: Mapping[str, bytes] | None, dark: Mapping[str, bytes] | None) -> Html:
    if light is None or dark is None:
        install = element("code", "pip install 'fastnn-kernels[bench]'")
        return section(
            "Plots",
            element("p", "The plots and their PNG files need the extra ", element("code", "bench"), ": ", install),
        )
    return join(
        section(title, element("p", caption) if caption else Html(), figure(title, light[name], dark[name]))
        for name, (title, caption) in _CAPTIONS.items()
        if name in light
    )


def _machine(report: Report) -> Html:
    machine, settings = report["machine"], report["settings"]
    items = {
        "CPU": machine.get("cpu"),
        "platform": machine.get("platform"),
        "cores": machine.get("cores"),
        "memory": size(machine.get("memory_bytes")),
        "L2, last-level cache": f"{size(machine.get('l2_bytes'))}, {size(machine.get('llc_bytes'))}",
        "Python, NumPy, BLAS": ", ".join(str(machine.get(key) or MISSING) for key in ("python", "numpy", "blas")),
        "fastnn": ", ".join(f"{key} {_plain(value)}" for key, value in machine.get("fastnn", {}).items()),
        "threads, levels": f"{settings['threads']}, {_plain(settings['isa'])}",
        "environment": " ".join(f"{name}={value}" for name, value in settings.get("environment", {}).items()) or None,
        "command": report.get("command"),
        "started, took": f"{report.get('started') or MISSING}, {seconds(report.get('seconds'))}",
    }
    return section("Machine and versions", facts(items))


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


_BANDWIDTHS = {
    "copy": "copy",
    "copy_stream": "copy, streaming",
    "triad": "triad",
    "triad_stream": "triad, streaming",
    "read": "read",
}


def _ceilings(report: Report) -> Html:
    ceilings = report["ceilings"]

    def speed(kind: str) -> Callable[[Mapping[str, Any]], Any]:
        return lambda entry: number(entry.get(kind))

    def cell(kind: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda entry: MISSING if (value := speed(kind)(entry)) is None else f"{value:.1f}"

    columns = [
        Column(
            "working set", "Bytes read and written", lambda entry: size(entry["bytes"]), lambda entry: entry["bytes"]
        ),
        Column("threads", "", lambda entry: entry["threads"], lambda entry: entry["threads"]),
        *(Column(name, "GB/s", cell(kind), speed(kind)) for kind, name in _BANDWIDTHS.items()),
    ]
    costs = ceilings.get("cost_ns", {})
    operations = dict.fromkeys(operation for level in costs.values() for operation in level)

    def cost(isa: str) -> Callable[[str], Any]:
        return lambda operation: costs[isa].get(operation)

    def nanoseconds(isa: str) -> Callable[[str], str]:
        return lambda operation: MISSING if number(cost(isa)(operation)) is None else f"{cost(isa)(operation):.3f}"

    arithmetic = [
        Column("ns per element and thread", "", lambda operation: operation.replace("_", " ")),
        *(Column(isa, "", nanoseconds(isa), cost(isa)) for isa in costs),
    ]
    region = ceilings.get("region", {})
    overhead = (
        f"A parallel region takes {seconds(region.get('hot'))} back to back and {seconds(region.get('cold'))} after "
        f"other work; a call takes {seconds(ceilings.get('call'))}."
    )
    tables = [table(columns, ceilings.get("bandwidth", [])), table(arithmetic, operations)]
    return section(
        "What the machine can do",
        element("p", "Bandwidths in GB/s, bytes read and written, with plain or cache-bypassing stores. ", overhead),
        element("div", *tables, class_="pair"),
    )


# --------------------------------------------------------------------------------------------- the full table


def _rows(report: Report) -> Html:
    rows = report["rows"]
    labels = dict.fromkeys(label for row in rows for label in row["peers"])
    columns = [
        Column("row", "", lambda row: join([row["name"], _noise(row)])),
        Column("family", "", lambda row: row["group"]),
        Column("level", "Instruction set", lambda row: row["isa"]),
        Column("time", "Median; hover for quartiles", _time, lambda row: row["value"]),
        Column("spread", "Interquartile range over median", _spread, lambda row: row.get("spread")),
        Column("GB/s", "Bytes that must move over time", _gbps, lambda row: row.get("gbps") or None),
        Column("over floor", "Time over that of one copy of as many bytes", *_ratio("over_floor")),
        Column("over roof", "Time over what this layout and arithmetic force", *_ratio("over_roof")),
        Column("best peer / fastnn", "How much longer the best peer takes", _best, _key("speedup"), _tone),
        *(Column(label, f"Time of {label} over time of fastnn", *_peer(label)) for label in labels),
        Column("after matmul", "Single calls, each after a matrix product", *_after()),
        Column("kept", "Bytes kept for backward", lambda row: size(row["kept"]) if row["kept"] else "", _key("kept")),
        Column("limit", "What is promised", limit),
        Column(
            "verdict", "", lambda row: row["verdict"], None, lambda row: "bad" if row["verdict"] == "missed" else ""
        ),
        Column("notes", "", lambda row: "; ".join(row.get("notes") or [])),
    ]
    legend = (
        "Times are medians. A noisy row's spread is too wide to support its ratios. Under a peer's name: how many "
        "times as long as fastnn it takes; below 1 it is faster. The best peer of a row is bold, and a cell is empty "
        "where a peer has no such operation."
    )
    return section("All rows", element("p", legend), _filters(rows), table(columns, rows, id="rows"), class_="wide")


def _key(name: str) -> Callable[[ReportRow], Any]:
    return lambda row: row.get(name)


def _time(row: ReportRow) -> Html:
    quartiles = f"{measured(row, row.get('low'))} to {measured(row, row.get('high'))}"
    limits = f"; floor {seconds(row['floor'])}, roof {seconds(row['roof'])}" if number(row.get("floor")) else ""
    return element("span", measured(row, row["value"]), title=quartiles + limits)


def _spread(row: ReportRow) -> str:
    value = number(row.get("spread"))
    return MISSING if value is None else _percent(value)


def _gbps(row: ReportRow) -> str:
    value = number(row.get("gbps"))
    return f"{value:.1f}" if value else ""


def _bare(value: Any) -> str:
    """A ratio without its sign, for columns full of them."""
    return "" if number(value) is None else times(value).removesuffix(" x")


def _ratio(name: str) -> tuple[Callable[[ReportRow], str], Callable[[ReportRow], Any]]:
    return lambda row: _bare(row.get(name)), _key(name)


def _best(row: ReportRow) -> str:
    if number(row.get("speedup")) is None:
        return ""
    return f"{_bare(row['speedup'])} {row['best_peer']}{', tie' if row.get('tie') else ''}"


def _tone(row: ReportRow) -> str:
    return "bad" if slower(row) else ""


def _peer(label: str) -> tuple[Callable[[ReportRow], Any], Callable[[ReportRow], Any], Callable[[ReportRow], str]]:
    def cell(row: ReportRow) -> Any:
        peer = row["peers"].get(label)
        return element("span", _bare(peer.get("ratio")), title=seconds(peer.get("value"))) if peer else ""

    def order(row: ReportRow) -> Any:
        return row["peers"].get(label, {}).get("ratio")

    return cell, order, lambda row: "best" if label == row.get("best_peer") else ""


def _after() -> tuple[Callable[[ReportRow], str], Callable[[ReportRow], Any]]:
    return lambda row: seconds(row["after_matmul"]) if row.get("after_matmul") else "", _key("after_matmul")


def _filters(rows: Sequence[ReportRow]) -> Html:
    """Shown by the script, as nothing works without it."""

    def choice(name: str, column: int, values: Iterable[str]) -> Html:
        options = [element("option", f"every {name}", value=""), *(element("option", value) for value in values)]
        return element("select", *options, data_column=column, aria_label=name)

    return element(
        "form",
        Html('<input type="search" placeholder="part of a row\'s name" aria-label="part of a row\'s name">'),
        choice("family", 1, dict.fromkeys(row["group"] for row in rows)),
        choice("level", 2, dict.fromkeys(row["isa"] for row in rows if row["isa"])),
        element("label", Html('<input type="checkbox">'), " misses only"),
        element("output", ""),
        id="filters",
        hidden=True,
    )
