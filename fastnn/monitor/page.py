"""The report of a monitor as one page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import _plots
from fastnn._page import Column, Html, document, element, facts, figure, section, table, warnings
from fastnn.monitor import figures

if TYPE_CHECKING:
    from fastnn.monitor.watcher import Monitor

__all__ = ["render"]

_CAPTIONS = {
    "curves": (
        "Loss and metrics",
        "Training: means over the batches of an epoch as they were trained on, with dropout and of weights that "
        "changed meanwhile. So validation may look better at first. Grey: the batches themselves, averaged where there "
        "are many.",
    ),
    "steps": (
        "Steps and gradients",
        "How far a step moves a weight, against its size. Around 1e-3 (dashed) is usual; above the shaded range the "
        "learning rate is probably too large, below it too small.",
    ),
    "activations": (
        "What the layers give",
        "Distribution of each layer's outputs over the steps watched, without exact zeros. Each column is relative to "
        "its largest bin. Lines: mean, and one standard deviation around it (zeros included).",
    ),
    "gradients": (
        "Gradients of the weights",
        "Distribution of their absolute values, as powers of ten. Layers whose gradients are many times smaller than "
        "those of others hardly learn.",
    ),
    "units": (
        "Units out of work",
        "Dead: active for no sample of the batches watched last. Saturated: where the slope is less than 5 % of its "
        "largest.",
    ),
    "weights": ("Weights of the first layer", ""),
}


def render(monitor: Monitor) -> str:
    """The page.

    Raises
    ------
    ImportError
        Without matplotlib.
    """
    draws = figures.draws(monitor)
    light, dark = _plots.render(draws), _plots.render(draws, _plots.DARK)
    steps = len(monitor.losses)
    parts: list[Any] = [
        warnings(f"Step {warned.step}: {warned.text}." for warned in monitor.warnings),
        _summary(monitor),
        *(
            section(title, element("p", _caption(monitor, name, caption)), figure(title, light[name], dark[name]))
            for name, (title, caption) in _CAPTIONS.items()
            if name in light
        ),
        _layers(monitor),
        _weights(monitor),
    ]
    watched = -(-steps // monitor.every)
    subtitle = f"{steps:,} steps, {watched:,} of them watched (every {monitor.every})"
    return document(monitor.title, monitor.title, subtitle, parts)


def _caption(monitor: Monitor, name: str, caption: str) -> str:
    if name != "weights":
        return caption
    found = figures.first_weights(monitor)
    assert found is not None
    shown = min(96, len(found[1]))
    return f"{found[0]}: {shown} of {len(found[1])} units; blue is positive, orange negative, paper zero."


def _summary(monitor: Monitor) -> Html:
    """The last epoch and the best one."""
    rows = {"loss of the last batch": f"{monitor.losses[-1]:.4f}"} if monitor.losses else {}
    for name, trace in monitor.epochs.items():
        best = int(np.argmin(trace.values) if name.endswith("loss") else np.argmax(trace.values))
        rows[name] = f"{trace.values[-1]:.4f} (best {trace.values[best]:.4f}, epoch {best + 1} of {len(trace.values)})"
    return section("At the end", facts(rows))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _columns(monitor: Monitor, kinds: dict[str, tuple[str, Any]]) -> list[Column]:
    """Last values, by kind of record: those that there are."""

    def last(kind: str) -> Any:
        def value(name: str) -> float | None:
            trace = monitor.records[kind].get(name)
            if trace is None:
                return None
            return float(monitor.dead(name)[-1]) if kind == "active" else float(trace.values[-1])

        return value

    def shown(kind: str, form: Any) -> Any:
        return lambda name: form(last(kind)(name))

    known = {kind: words for kind, words in kinds.items() if kind in monitor.records}
    return [Column(heading, "", shown(kind, form), last(kind)) for kind, (heading, form) in known.items()]


def _layers(monitor: Monitor) -> Html:
    kinds = {
        "mean": ("mean", _number),
        "std": ("standard deviation", _number),
        "zeros": ("zeros", _share),
        "active": ("dead units", _share),
        "saturated": ("saturated", _share),
    }
    columns = [Column("layer", "", lambda name: name), *_columns(monitor, kinds)]
    return section("Outputs, when last watched", table(columns, monitor.records.get("mean", {})))


def _weights(monitor: Monitor) -> Html:
    kinds = {"ratio": ("step / weight", _number), "gradient": ("norm of the gradient", _number)}
    columns = [Column("weight", "", lambda name: name), *_columns(monitor, kinds)]
    return section("Weights, when last watched", table(columns, monitor.records.get("ratio", {})))
