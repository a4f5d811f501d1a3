"""Reports as one HTML page that needs no network: markup, tables, pictures.

The page is `_page.html` (its style) filled in. Whatever comes from data is escaped: `Html` marks what is markup
already, and `element` escapes everything else.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any

__all__ = ["Column", "Html", "document", "element", "facts", "figure", "join", "number", "section", "table", "warnings"]


def document(title: str, heading: str, subtitle: str, parts: Iterable[Any], script: str = "") -> str:
    """The whole page; `script` is JavaScript."""
    template = Template(resources.files("fastnn").joinpath("_page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(title),
        heading=html.escape(heading),
        subtitle=html.escape(subtitle),
        content=join(parts, "\n"),
        script=f"<script>\n{script}</script>\n" if script else "",
    )


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def element(name: str, *content: Any, **attributes: Any) -> Html:
    """One element; `content` and attribute values are escaped unless they are `Html`.

    Attributes that are None or False are left out; ``class_`` and ``data_key`` become ``class`` and ``data-key``.
    """
    opening = [name]
    for key, value in attributes.items():
        if value is True:
            opening.append(key)
        elif value not in (None, False):
            opening.append(f'{key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"')
    return Html(f"<{' '.join(opening)}>{join(content)}</{name}>")


def join(content: Iterable[Any], between: str = "") -> Html:
    """Pieces of text and markup, one after the other."""
    return Html(between.join(piece if isinstance(piece, Html) else html.escape(str(piece)) for piece in content))


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    heading, about : str
        Its heading, and what it means.
    cell : callable
        What it shows of an item: text, or markup.
    order : callable, optional
        The number to sort an item by; without it the text is sorted. Such columns are set as numbers.
    tone : callable, optional
        CSS classes of an item's cell.
    """

    heading: str
    about: str
    cell: Callable[[Any], Any]
    order: Callable[[Any], Any] | None = None
    tone: Callable[[Any], str] | None = None


def table(columns: Sequence[Column], items: Iterable[Any], **attributes: Any) -> Html:
    """A table with one line per item, in a box that scrolls sideways where it is too wide."""
    head = [
        element("th", column.heading, scope="col", title=column.about or None, class_="n" if column.order else None)
        for column in columns
    ]
    lines = []
    for item in items:
        cells = []
        for column in columns:
            key = number(column.order(item)) if column.order else None
            tones = [column.tone(item)] if column.tone else []
            classes = " ".join(filter(None, ["n" if column.order else "", *tones]))
            value = f"{key:.6g}" if key is not None else None
            cells.append(element("td", column.cell(item), class_=classes or None, data_key=value))
        lines.append(element("tr", *cells))
    body = element("table", element("thead", element("tr", *head)), element("tbody", join(lines, "\n")), **attributes)
    return element("div", body, class_="scroll")


def section(title: str, *content: Any, **attributes: Any) -> Html:
    """A part of the page under a heading."""
    return element("section", element("h2", title), *content, **attributes)


def warnings(notes: Iterable[str]) -> Html:
    """What a reader should know first, each in a box."""
    return join(element("p", note, class_="warning", role="status") for note in notes)


def facts(items: Mapping[str, Any]) -> Html:
    """Names and values; None is left out."""
    lines = [
        element("div", element("dt", name), element("dd", value)) for name, value in items.items() if value is not None
    ]
    return element("dl", *lines, class_="facts")


def figure(title: str, light: bytes, dark: bytes) -> Html:
    """A picture for light screens and for dark ones, as PNG files."""
    source = f'<source srcset="{_data_uri(dark)}" media="screen and (prefers-color-scheme: dark)">'
    image = f'<img src="{_data_uri(light)}" alt="{html.escape(title)}">'
    return element("figure", element("picture", Html(source), Html(image)), class_="scroll")


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def number(value: Any) -> float | None:
    """A finite float, or None for everything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None
