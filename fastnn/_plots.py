"""Pictures of reports, as PNGs. matplotlib is optional and imported only inside `render`."""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["DARK", "DPI", "LIGHT", "WIDTH", "Draw", "Theme", "render", "small_multiples"]

DPI = 160
WIDTH = 11.0
"""Inches."""


@dataclass(frozen=True)
class Theme:
    """Colours of one paper.

    Parameters
    ----------
    paper, ink, muted, faint : str
        Background; text and what matters most; secondary text and limits; grid.
    accent, rival, other : str
        What a picture is about; what it is compared with; the others.
    lines : tuple of str
        One hue per curve. Okabe and Ito's, which the colour-blind tell apart, as dark or light as text needs to be.
    """

    paper: str
    ink: str
    muted: str
    faint: str
    accent: str
    rival: str
    other: str
    lines: tuple[str, ...]

    def settings(self) -> dict[str, Any]:
        """As matplotlib settings."""
        return {
            "figure.facecolor": self.paper,
            "axes.facecolor": self.paper,
            "savefig.facecolor": self.paper,
            "text.color": self.ink,
            "axes.labelcolor": self.muted,
            "axes.edgecolor": self.muted,
            "axes.titlecolor": self.ink,
            "xtick.color": self.muted,
            "ytick.color": self.muted,
            "grid.color": self.faint,
            "grid.linewidth": 0.6,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.6,
            "axes.titlesize": 9.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": 8,
            "xtick.labelsize": 7.5,
            "ytick.labelsize": 7.5,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
            "font.family": "DejaVu Sans",
            "font.size": 8,
        }


LIGHT = Theme(
    paper="#ffffff",
    ink="#1b1f24",
    muted="#59636e",
    faint="#e4e7eb",
    accent="#0b5cad",
    rival="#d55e00",
    other="#b4bcc5",
    lines=("#6b7480", "#007f5c", "#b07400", "#c84e00", "#ad4a86", "#6a4c93", "#1a7fa8"),
)
DARK = Theme(
    paper="#15191e",
    ink="#e8ebee",
    muted="#9aa4af",
    faint="#2b323a",
    accent="#5cb0ff",
    rival="#f0783c",
    other="#56606b",
    lines=("#a3adb8", "#2cc295", "#e6a817", "#f0783c", "#e08fbe", "#b79bdc", "#6fd0ee"),
)

Draw: TypeAlias = Callable[[Any, Theme], Any]
"""Of the module matplotlib and the colours: a figure, or None where there is nothing to show."""


def render(draws: Mapping[str, Draw], theme: Theme = LIGHT) -> dict[str, bytes]:
    """Figures as PNG files, by name.

    Raises
    ------
    ImportError
        If matplotlib is not there.
    """
    matplotlib = importlib.import_module("matplotlib")
    importlib.import_module("matplotlib.figure")
    images = {}
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **theme.settings()}):
        for name, draw in draws.items():
            figure = draw(matplotlib, theme)
            if figure is not None:
                buffer = io.BytesIO()
                figure.savefig(buffer, format="png", dpi=DPI)
                images[name] = buffer.getvalue()
    return images


def small_multiples(matplotlib: Any, n: int, columns: int, height: float, **keywords: Any) -> tuple[Any, list[Any]]:
    """A figure of `n` panels, and their axes; a single one does not take the whole width."""
    columns = min(columns, max(n, 2))
    lines = math.ceil(n / columns)
    figure = matplotlib.figure.Figure(figsize=(WIDTH, height * lines + 0.4), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.02, hspace=0.04)
    axes = figure.subplots(lines, columns, squeeze=False, **keywords)
    for ax in axes.flat[n:]:
        ax.remove()
    return figure, list(axes.flat[:n])
