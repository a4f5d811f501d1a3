"""The pictures of a monitor's report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn._plots import WIDTH, Draw, Theme, small_multiples
from fastnn.monitor.watcher import BINS, GRADIENT_RANGE, RATIOS, Trace

if TYPE_CHECKING:
    from fastnn.monitor.watcher import Monitor

__all__ = ["draws", "first_weights"]

Array = NDArray[Any]

_COLUMNS = 120  # of a heat map, at most: more watched steps than that share them


def draws(monitor: Monitor) -> dict[str, Draw]:
    """What draws each picture, by name."""
    return {
        name: partial(draw, monitor)
        for name, draw in {
            "curves": _curves,
            "steps": _ratios,
            "activations": _activations,
            "gradients": _gradients,
            "units": _units,
            "weights": _weights,
        }.items()
    }


def _shades(matplotlib: Any, theme: Theme, n: int) -> list[Any]:
    """Colours in the order of the layers, from dark to light."""
    dark_paper = theme.paper < "#8"
    ramp = matplotlib.colormaps["viridis"]
    return [ramp(value) for value in np.linspace(0.25 if dark_paper else 0.0, 1.0 if dark_paper else 0.85, n)]


def _lines(matplotlib: Any, ax: Any, theme: Theme, traces: Mapping[str, Trace | tuple[Any, Any]], title: str) -> None:
    for (name, trace), colour in zip(traces.items(), _shades(matplotlib, theme, len(traces)), strict=True):
        x, y = (trace.steps, trace.values) if isinstance(trace, Trace) else trace
        ax.plot(x, y, color=colour, lw=1.2, marker="o" if len(x) <= _COLUMNS // 2 else "", ms=2, label=name)
    ax.set_title(title)
    ax.set_xlabel("step")
    ax.legend(fontsize=7, frameon=False, labelcolor=theme.ink, ncols=1 + len(traces) // 8)


def _smooth(values: Array, width: int) -> tuple[Array, Array]:
    """Means over at most `width` pieces of equal length, and the middle of each."""
    length = max(1, math.ceil(len(values) / width))
    whole = len(values) - len(values) % length
    middle = np.arange(whole // length) * length + (length - 1) / 2
    return middle, values[:whole].reshape(-1, length).mean(axis=1)


def _curves(monitor: Monitor, matplotlib: Any, theme: Theme) -> Any:
    metrics = [name for name in monitor.epochs if name != "loss" and not name.startswith("val_")]
    figure, axes = small_multiples(matplotlib, 1 + len(metrics), 2, 2.9)
    x, y = _smooth(np.array(monitor.losses), 400)
    axes[0].plot(x, y, color=theme.other, lw=0.8, label="batches")
    for ax, metric in zip(axes, ["loss", *metrics], strict=True):
        for name, label, colour in ((metric, "training", theme.accent), (f"val_{metric}", "validation", theme.rival)):
            if name in monitor.epochs:
                trace = monitor.epochs[name]
                ax.plot(trace.steps, trace.values, color=colour, lw=1.5, marker="o", ms=2.5, label=label)
        ax.set_title(metric)
        ax.set_xlabel("step")
        ax.legend(fontsize=7.5, frameon=False, labelcolor=theme.ink)
    positive = y[np.isfinite(y) & (y > 0)]
    if positive.size and positive.max() > 8 * positive.min():
        axes[0].set_yscale("log")
    return figure


def _ratios(monitor: Monitor, matplotlib: Any, theme: Theme) -> Any:
    if not monitor.records.get("ratio"):
        return None
    figure, axes = small_multiples(matplotlib, 2, 2, 2.9)
    axes[0].axhspan(RATIOS[0], RATIOS[2], color=theme.faint, alpha=0.6, lw=0)
    axes[0].axhline(RATIOS[1], color=theme.muted, lw=0.9, ls=(0, (5, 2)))
    _lines(matplotlib, axes[0], theme, monitor.records["ratio"], "size of a step / size of the weight")
    _lines(matplotlib, axes[1], theme, monitor.records["gradient"], "norm of the gradient")
    for ax in axes:
        ax.set_yscale("log")
    axes[0].set_ylim(bottom=max(axes[0].get_ylim()[0], RATIOS[0] / 100))  # schedules end at 0
    return figure


def _heat(matplotlib: Any, ax: Any, theme: Theme, steps: Sequence[int], edges: Array, density: Array) -> None:
    """One column for each watched step or few of them, each relative to its largest bin; empty bins are paper."""
    starts = np.arange(0, len(steps), math.ceil(len(steps) / _COLUMNS))
    density = np.add.reduceat(density, starts, axis=0)
    share = np.sqrt(density / np.maximum(density.max(axis=1, keepdims=True), 1e-300))
    spacing = steps[1] - steps[0] if len(steps) > 1 else 1
    columns = np.append(np.array(steps)[starts], steps[-1] + spacing)
    ramp = matplotlib.colors.LinearSegmentedColormap.from_list("paper", [theme.paper, theme.accent])
    ax.pcolormesh(columns, edges, share.T, cmap=ramp, vmin=0, vmax=1, rasterized=True)
    ax.grid(False)
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, integer=True))


def _on_common_bins(histograms: Array) -> tuple[Array, Array]:
    """Edges of bins for all times, and the counts of each time shared out over them."""
    low, high, counts = histograms[:, 0], histograms[:, 1], histograms[:, 2:]
    total = np.maximum(counts.sum(axis=1), 1)
    fine = [np.linspace(a, b, BINS + 1) for a, b in zip(low, high, strict=True)]
    below = np.concatenate([np.zeros((len(counts), 1)), counts.cumsum(axis=1) / total[:, None]], axis=1)
    # nearly all values of nearly all times: a few far outside do not flatten the picture
    first = np.percentile([np.interp(0.002, b, e) for b, e in zip(below, fine, strict=True)], 5)
    last = np.percentile([np.interp(0.998, b, e) for b, e in zip(below, fine, strict=True)], 95)
    edges = np.linspace(first, last if last > first else first + 1, 2 * BINS + 1)
    return edges, np.diff([np.interp(edges, e, b) for b, e in zip(below, fine, strict=True)], axis=1)


def _activations(monitor: Monitor, matplotlib: Any, theme: Theme) -> Any:
    traces = monitor.records.get("histogram")
    if not traces:
        return None
    figure, axes = small_multiples(matplotlib, len(traces), 4, 2.1)
    for ax, (name, trace) in zip(axes, traces.items(), strict=True):
        edges, density = _on_common_bins(np.array(trace.values))
        _heat(matplotlib, ax, theme, trace.steps, edges, density)
        mean = np.array(monitor.records["mean"][name].values)
        std = np.array(monitor.records["std"][name].values)
        for line, style in ((mean, "-"), (mean - std, (0, (3, 2))), (mean + std, (0, (3, 2)))):
            ax.plot(trace.steps, line, color=theme.rival, lw=1.0, ls=style)
        ax.set_ylim(edges[0], edges[-1])
        ax.set_title(name)
    return figure


def _gradients(monitor: Monitor, matplotlib: Any, theme: Theme) -> Any:
    traces = monitor.records.get("gradient_histogram")
    if not traces:
        return None
    figure, axes = small_multiples(matplotlib, len(traces), 4, 2.1, sharey=True)
    edges = np.linspace(*GRADIENT_RANGE, BINS + 1)
    counts = {name: np.array(trace.values) for name, trace in traces.items()}
    used = np.flatnonzero(sum(each.sum(axis=0) for each in counts.values()))
    for ax, (name, trace) in zip(axes, traces.items(), strict=True):
        _heat(matplotlib, ax, theme, trace.steps, edges, counts[name])
        ax.set_title(name)
        if used.size:
            ax.set_ylim(edges[used[0]], edges[used[-1] + 1])
        ax.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, integer=True))
        ax.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda power, _: f"$10^{{{power:.0f}}}$"))
    return figure


def _units(monitor: Monitor, matplotlib: Any, theme: Theme) -> Any:
    panels: dict[str, dict[str, Any]] = {}
    if active := monitor.records.get("active"):
        panels["units of ReLU that are dead"] = {
            name: (trace.steps, monitor.dead(name)) for name, trace in active.items()
        }
    if saturated := monitor.records.get("saturated"):
        panels["outputs that are saturated"] = dict(saturated)
    if not panels:
        return None
    figure, axes = small_multiples(matplotlib, len(panels), 2, 2.6)
    for ax, (title, traces) in zip(axes, panels.items(), strict=True):
        _lines(matplotlib, ax, theme, traces, title)
        ax.set_ylim(-0.02, 1.02)
        ax.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
    return figure


def first_weights(monitor: Monitor) -> tuple[str, Array] | None:
    """Name and images (units, height, width), or with three channels last, of the first layer's weights."""
    weights = monitor._weights()
    if not weights:
        return None
    name, data = weights[0][0], weights[0][1].data
    shape = monitor.image_shape or data.shape[1:]
    if len(shape) == 1:
        side = math.isqrt(shape[0])
        shape = (side, side) if side * side == shape[0] else (1, shape[0])
    if math.prod(shape) != data[0].size:
        raise ValueError(f"image_shape: expected {data[0].size} pixels, the inputs of {name}, got {shape}")
    images = data.reshape(-1, *shape)
    if images.ndim == 4:
        images = images.transpose(0, 2, 3, 1) if images.shape[1] == 3 else images[:, 0]
    return name, images


def _weights(monitor: Monitor, matplotlib: Any, theme: Theme) -> Any:
    found = first_weights(monitor)
    if found is None:
        return None
    _, images = found
    images = images[:96]
    columns = 24 if max(images.shape[1:3]) <= 12 else 16
    columns = min(columns, len(images))
    lines = math.ceil(len(images) / columns)
    tile = WIDTH / columns
    figure = matplotlib.figure.Figure(figsize=(WIDTH, max(0.4, lines * tile * images.shape[1] / images.shape[2])))
    axes = figure.subplots(lines, columns, squeeze=False, gridspec_kw={"wspace": 0.12, "hspace": 0.12})
    figure.subplots_adjust(0, 0, 1, 1)
    # zero is the colour of the paper, so that what a unit does not look at is not there
    ramp = matplotlib.colors.LinearSegmentedColormap.from_list("signs", [theme.rival, theme.paper, theme.accent])
    limit = float(np.quantile(np.abs(images), 0.998)) or 1.0
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, image in zip(axes.flat, images, strict=False):
        if image.ndim == 3:
            ax.imshow((0.5 + 0.5 * image / limit).clip(0, 1), interpolation="nearest")
        else:
            ax.imshow(image, cmap=ramp, vmin=-limit, vmax=limit, interpolation="nearest")
        ax.add_patch(
            matplotlib.patches.Rectangle((0, 0), 1, 1, transform=ax.transAxes, fill=False, ec=theme.faint, lw=0.6)
        )
    return figure
