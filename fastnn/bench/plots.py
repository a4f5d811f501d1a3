"""The pictures of a report, as PNGs. matplotlib is optional and imported only where it is needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastnn import _plots
from fastnn._plots import DARK as DARK
from fastnn._plots import LIGHT, Theme, small_multiples
from fastnn.bench.digest import BEST, Report, ReportRow, count, families, levels, number, size, speedups, times

DASHES: tuple[Any, ...] = ("-", (0, (6, 1.5)), (0, (2, 1)), (0, (6, 1.5, 1, 1.5)))
MARKERS = "D^vs"


def render(report: Report, theme: Theme = LIGHT) -> dict[str, bytes] | None:
    """The plots of `report` as PNG files.

    Parameters
    ----------
    report : mapping
        Content of ``bench.json``.
    theme : Theme
        Colours.

    Returns
    -------
    dict of str to bytes, or None
        By name: "roofline", "speedup", "scaling_size", "scaling_threads", "scaling_tensors"; without those the report
        has no measurements for. None if matplotlib is not there.
    """
    draws = {name: partial(_draw, draw, report) for name, draw in _PLOTS.items()}
    try:
        return _plots.render(draws, theme)
    except ImportError:
        return None


def _draw(draw: Callable[[Any, Report, Theme], Any], report: Report, matplotlib: Any, theme: Theme) -> Any:
    return draw(matplotlib, report, theme)


def _log_axis(matplotlib: Any, axis: Any, label: Callable[[Any], str], base: int) -> None:
    """Few ticks, in words. A short axis gets the ticks between the powers of ten too."""
    ticker = matplotlib.ticker
    low, high = sorted(axis.get_view_interval())
    if base == 2:
        stride = max(1, math.ceil(math.log2(high / low) / 5))
        ticks = [2.0**k for k in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1, stride)]
    else:
        steps = (1, 2, 5) if high / low < 300 else (1,)
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [step * 10.0**k for k in powers for step in steps if low <= step * 10.0**k <= high]
    axis.set_major_locator(ticker.FixedLocator(ticks))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: label(value)))


def _plain(value: float) -> str:
    return f"{value:g}"


def _ratio(value: float) -> str:
    return f"{value:g} x"


def _limits(values: Iterable[float | None], margin: float = 1.3) -> tuple[float, float]:
    known = [value for value in values if value is not None and value > 0]
    return min(known) / margin, max(known) * margin


# --------------------------------------------------------------------------------------------- the roofline


@dataclass(frozen=True)
class _Dot:
    nbytes: float
    gbps: float
    roof: float | None
    """GB/s at the roof."""


def _dots(rows: Iterable[ReportRow]) -> Iterator[_Dot]:
    for row in rows:
        nbytes, gbps, roof = number(row.get("bytes")), number(row.get("gbps")), number(row.get("roof"))
        if row["kind"] == "case" and nbytes and gbps:
            yield _Dot(nbytes, gbps, nbytes / roof / 1e9 if roof else None)


def _ceiling(report: Report, threads: int, kinds: Sequence[str]) -> tuple[list[float], list[float]]:
    """Working sets, and the best bandwidth of these kinds at each."""
    best: dict[float, float] = {}
    for entry in report["ceilings"].get("bandwidth", []):
        nbytes = number(entry["bytes"])
        speeds = [speed for kind in kinds if (speed := number(entry.get(kind)))]
        if entry["threads"] == threads and nbytes and speeds:
            best[nbytes] = max(speeds)
    return sorted(best), [best[nbytes] for nbytes in sorted(best)]


def roofline(matplotlib: Any, report: Report, theme: Theme) -> Any:
    """GB/s of every row against its working set, under the bandwidths measured in the same run.

    These kernels do a few operations per byte, so the textbook's axis of operations per byte would put all of them on
    one spot of its slanted part. What moves their limit is the cache level that the working set fits.
    """
    first, *others = levels(report) or [""]
    panels = {
        family: ([*_dots(row for row in rows if row["isa"] == first)], rows)
        for family, rows in families(report["rows"]).items()
    }
    panels = {family: panel for family, panel in panels.items() if panel[0]}
    if not panels:
        return None
    threads = report["settings"]["threads"]
    lines = [
        (label, *_ceiling(report, *of), style)
        for label, of, style in (
            (f"copy, {threads} threads", (threads, ("copy", "copy_stream")), {"lw": 1.4, "color": theme.muted}),
            ("triad", (threads, ("triad", "triad_stream")), {"lw": 0.8, "color": theme.muted, "ls": (0, (4, 2))}),
            ("read only", (threads, ("read",)), {"lw": 0.8, "color": theme.muted, "ls": (0, (1, 1.5))}),
        )
    ]
    dots = [dot for panel, _ in panels.values() for dot in panel]
    figure, axes = small_multiples(matplotlib, len(panels), 4, 2.6, sharex=True, sharey=True)
    for index, (ax, (family, (panel, rows))) in enumerate(zip(axes, panels.items(), strict=True)):
        for _, x, y, style in lines:
            ax.plot(x, y, **style, zorder=1.5)
        ax.vlines(*_stems(panel), color=theme.accent, lw=0.9, alpha=0.55)
        roofs = [dot for dot in panel if dot.roof]
        ax.plot([d.nbytes for d in roofs], [d.roof for d in roofs], "_", color=theme.accent, ms=7, mew=1.2, zorder=3)
        ax.plot([d.nbytes for d in panel], [d.gbps for d in panel], "o", color=theme.accent, ms=3.6, mew=0, zorder=4)
        for other, marker in zip(others, MARKERS, strict=False):
            more = [*_dots(row for row in rows if row["isa"] == other)]
            points = [d.nbytes for d in more], [d.gbps for d in more]
            ax.plot(*points, marker, color=theme.rival, mfc="none", ms=3.4, mew=0.8, zorder=3.5)
        ax.set(title=family, xscale="log", yscale="log")
        if index % 4 == 0:
            ax.set_ylabel("GB/s (log scale)")
    every = [value for dot in dots for value in (dot.gbps, dot.roof)] + [speed for line in lines for speed in line[2]]
    low, high = _limits(dot.nbytes for dot in dots)
    for index, ax in enumerate(axes):
        ax.set(xlim=(low, high), ylim=_limits(every))
        ax.tick_params(axis="x", labelbottom=index + 4 >= len(axes))
        _log_axis(matplotlib, ax.xaxis, size, 2)
        _log_axis(matplotlib, ax.yaxis, _plain, 10)
    figure.supxlabel("working set: bytes that must be read and written", color=theme.muted, fontsize=8)
    _key(matplotlib, figure, theme, [(label, style) for label, x, _, style in lines if x], first, others)
    return figure


def _stems(dots: Sequence[_Dot]) -> tuple[list[float], list[float], list[float]]:
    """From each dot to its roof."""
    known = [(dot.nbytes, dot.gbps, dot.roof) for dot in dots if dot.roof]
    return [d[0] for d in known], [d[1] for d in known], [d[2] for d in known]


def _key(
    matplotlib: Any,
    figure: Any,
    theme: Theme,
    lines: Sequence[tuple[str, Mapping[str, Any]]],
    first: str,
    others: Sequence[str],
) -> None:
    line = matplotlib.lines.Line2D
    handles = [
        line([], [], color=theme.accent, marker="o", ms=4, ls="none", label=f"a row at {first}"),
        line([], [], color=theme.accent, marker="_", ms=8, mew=1.2, ls="none", label="its roof, joined by a stem"),
        *(
            line([], [], color=theme.rival, mfc="none", marker=marker, ms=4, ls="none", label=f"the row at {other}")
            for other, marker in zip(others, MARKERS, strict=False)
        ),
        *(line([], [], label=label, **style) for label, style in lines),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), frameon=False, fontsize=8)


# --------------------------------------------------------------------------------------------- the speed-ups


def speedup(matplotlib: Any, report: Report, theme: Theme) -> Any:
    """Geometric mean speed-up over each peer, per family: bars for the first ISA level, diamonds for the others."""
    first, *others = levels(report) or [""]
    rows = [row for row in report["rows"] if row["kind"] in ("case", "step")]
    panels = {
        family: {isa: speedups([row for row in members if row["isa"] == isa]) for isa in (first, *others)}
        for family, members in families(rows).items()
    }
    panels = {family: by_isa for family, by_isa in panels.items() if by_isa[first]}
    if not panels:
        return None
    slots = max(len(by_isa[first]) for by_isa in panels.values())
    figure, axes = small_multiples(matplotlib, len(panels), 3, 0.19 * slots + 0.65, sharex=True)
    means = [mean for by_isa in panels.values() for bars in by_isa.values() for mean, _ in bars.values()]
    low, high = _limits([*means, 1.0], 1.15)
    for ax, (family, by_isa) in zip(axes, panels.items(), strict=True):
        ax.set(title=family, xscale="log", xlim=(low, high * 1.5))
        _bars(ax, by_isa[first], [by_isa[isa] for isa in others], theme)
        _log_axis(matplotlib, ax.xaxis, _ratio, 10)
        ax.tick_params(axis="x", labelbottom=True)
        ax.set_ylim(slots - 0.4, -0.6)
    figure.supxlabel(
        "how many times as long the peer takes as fastnn: geometric mean (log scale)", color=theme.muted, fontsize=8
    )
    line = matplotlib.lines.Line2D
    handles = [matplotlib.patches.Patch(color=theme.accent, label=f"{BEST}, {first}" if others else BEST)]
    handles += [matplotlib.patches.Patch(color=theme.rival, label="strongest single peer")]
    handles += [matplotlib.patches.Patch(color=theme.other, label="other peers (number of rows)")]
    handles += [
        line([], [], color=theme.ink, marker=marker, mfc=theme.paper, ls="none", ms=4, label=f"the same at {isa}")
        for isa, marker in zip(others, MARKERS, strict=False)
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), frameon=False, fontsize=8)
    return figure


def _bars(
    ax: Any,
    bars: Mapping[str, tuple[float, int]],
    other_levels: Sequence[Mapping[str, tuple[float, int]]],
    theme: Theme,
) -> None:
    """One bar per peer from 1x on, strongest peer first."""
    peers = sorted((label for label in bars if label != BEST), key=lambda label: bars[label][0])
    order = [label for label in (BEST, *peers) if label in bars]
    colours = {BEST: theme.accent, peers[0] if peers else "": theme.rival}
    for place, label in enumerate(order):
        mean, _ = bars[label]
        ax.barh(place, mean - 1, left=1, height=0.68, color=colours.get(label, theme.other), lw=0)
        ends = [mean, *(level[label][0] for level in other_levels if label in level)]
        for end, marker in zip(ends[1:], MARKERS, strict=False):
            ax.plot(end, place, marker, color=theme.ink, mfc=theme.paper, ms=3.6, mew=0.8)
        weight = "bold" if place < 2 else "normal"
        xy = (max(1.0, *ends), place)
        ax.annotate(times(mean), xy, (5, 0), textcoords="offset points", va="center", fontsize=7.5, weight=weight)
    ax.axvline(1, color=theme.ink, lw=0.9, zorder=3)
    ax.set_yticks(
        range(len(order)), [f"{label} ({bars[label][1]})" if label != BEST else "best peer" for label in order]
    )
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


# ------------------------------------------------------------------------------------------------ the curves


@dataclass(frozen=True)
class _Sweep:
    """How curves over one quantity are drawn.

    Parameters
    ----------
    over : str
        As in the report.
    x, y : str
        Axis labels.
    per_unit : bool
        Time per element instead of time.
    tick : callable
        Label of a value on the x axis.
    """

    over: str
    x: str
    y: str
    per_unit: bool
    tick: Callable[[Any], str]


_SIZE = _Sweep("elements", "elements (log scale)", "ns per element (log scale)", True, count)
_THREADS = _Sweep("threads", "threads", "time in µs (log scale)", False, _plain)
_TENSORS = _Sweep("tensors", "number of tensors (log scale)", "time in µs (log scale)", False, count)


def _scaling(sweep: _Sweep) -> Callable[[Any, Report, Theme], Any]:
    def draw(matplotlib: Any, report: Report, theme: Theme) -> Any:
        """Time against one quantity, per curve, between floor and roof and beside the peers."""
        curves = [curve for curve in report.get("curves", []) if curve["over"] == sweep.over and curve["points"]]
        curves = [curve for curve in curves if _series(curve, sweep, "seconds")[0]]
        if not curves:
            return None
        columns = 3
        styles = _styles(report, curves, theme)
        several = len({curve["isa"] for curve in curves}) > 1
        figure, axes = small_multiples(matplotlib, len(curves), columns, 2.75)
        for index, (ax, curve) in enumerate(zip(axes, curves, strict=True)):
            title = f"{curve['name']}, {curve['isa']}" if several and curve["isa"] else curve["name"]
            ax.set(title=title, xscale="log", yscale="log")
            if index % columns == 0:
                ax.set_ylabel(sweep.y)
            if index + columns >= len(curves):
                ax.set_xlabel(sweep.x)
            _curve(matplotlib, ax, curve, sweep, styles, theme)
        return figure

    return draw


def _styles(report: Report, curves: Iterable[Mapping[str, Any]], theme: Theme) -> dict[str, dict[str, Any]]:
    """Line styles by peer: a hue for each library, dashes for its variants."""
    libraries = {peer["label"]: peer["name"] for peer in report["peers"]}
    hues = {name: index % len(theme.lines) for index, name in enumerate(dict.fromkeys(libraries.values()))}
    variants: dict[str, int] = {}
    styles = {}
    for label in dict.fromkeys(name for c in curves for point in c["points"] for name in point.get("peers", {})):
        library = libraries.get(label, label)
        variant = variants[library] = variants.get(library, -1) + 1
        styles[label] = {"color": theme.lines[hues.get(library, 0)], "ls": DASHES[variant % len(DASHES)]}
    return styles


def _series(curve: Mapping[str, Any], sweep: _Sweep, key: str, peer: bool = False) -> tuple[list[float], list[float]]:
    """Where measured, and ns per element or µs."""
    x, y = [], []
    for point in curve["points"]:
        at = number(point["at"])
        seconds = number((point.get("peers", {}) if peer else point).get(key))
        if at and seconds and seconds > 0:
            x.append(at)
            y.append(seconds * 1e9 / at if sweep.per_unit else seconds * 1e6)
    return x, y


def _curve(
    matplotlib: Any,
    ax: Any,
    curve: Mapping[str, Any],
    sweep: _Sweep,
    styles: Mapping[str, Mapping[str, Any]],
    theme: Theme,
) -> None:
    """One panel: limits, peers, fastnn, each named at its right end."""
    limits: dict[str, dict[str, Any]] = {
        "floor": {"color": theme.muted, "lw": 0.8, "ls": (0, (1, 1.5))},
        "roof": {"color": theme.muted, "lw": 1.0, "ls": (0, (4, 2))},
    }
    bold = {"color": theme.accent, "lw": 2.2, "marker": "o", "ms": 3}
    drawn = [
        *((name, *_series(curve, sweep, name), style) for name, style in limits.items()),
        *((name, *_series(curve, sweep, name, peer=True), {"lw": 0.9, **style}) for name, style in styles.items()),
        ("fastnn", *_series(curve, sweep, "seconds"), bold),
    ]
    drawn = [item for item in drawn if item[1]]
    for _, x, y, style in drawn:
        ax.plot(x, y, **{"marker": "o", "ms": 1.5, **style} if len(x) == 1 else style)
    ax.set_ylim(*_limits(value for item in drawn for value in item[2]))
    every = sorted({value for item in drawn for value in item[1]})
    ax.set_xlim(every[0] / 1.1, every[-1] * 1.1)
    if sweep.over == "threads":
        ax.xaxis.set_major_locator(matplotlib.ticker.FixedLocator(every))
        ax.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        ax.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: sweep.tick(value)))
    else:
        _log_axis(matplotlib, ax.xaxis, sweep.tick, 2)
    _log_axis(matplotlib, ax.yaxis, _plain, 10)
    _name_lines(ax, [(name, x[-1], y[-1], style) for name, x, y, style in drawn])


def _name_lines(ax: Any, ends: Sequence[tuple[str, float, float, Mapping[str, Any]]]) -> None:
    """Names in the right margin, as near to the ends of their lines as they fit, and joined to them."""
    (left, right), (low, high) = (tuple(map(math.log, limits)) for limits in (ax.get_xlim(), ax.get_ylim()))
    ordered = sorted(ends, key=lambda end: end[2])
    wanted = [(math.log(y) - low) / (high - low) for _, _, y, _ in ordered]
    for (name, x, _, style), end, height in zip(ordered, wanted, _apart(wanted, 0.066), strict=True):
        weight = "bold" if name == "fastnn" else "normal"
        start = (math.log(x) - left) / (right - left)
        leader = {"color": style["color"], "lw": 0.4, "transform": ax.transAxes, "clip_on": False}
        ax.plot([start, 1.01, 1.06, 1.07], [end, end, height, height], **leader)
        place = {"xycoords": "axes fraction", "va": "center", "fontsize": 7}
        ax.annotate(name, (1.08, height), color=style["color"], weight=weight, **place)


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """The heights nearest to the wanted ascending ones that are at least `gap` apart.

    Neighbours that would touch form a block around the mean of their wishes, as in isotonic regression.
    """
    blocks: list[tuple[float, int]] = []  # mean of (wanted - index * gap), and members
    for index, height in enumerate(wanted):
        mean, members = height - index * gap, 1
        while blocks and blocks[-1][0] > mean:
            before, count_before = blocks.pop()
            mean = (mean * members + before * count_before) / (members + count_before)
            members += count_before
        blocks.append((mean, members))
    flat = [mean for mean, members in blocks for _ in range(members)]
    return [mean + index * gap for index, mean in enumerate(flat)]


_PLOTS: dict[str, Callable[[Any, Report, Theme], Any]] = {
    "roofline": roofline,
    "speedup": speedup,
    "scaling_size": _scaling(_SIZE),
    "scaling_threads": _scaling(_THREADS),
    "scaling_tensors": _scaling(_TENSORS),
}
