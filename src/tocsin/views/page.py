"""A page that stands alone: words, charts and tables in one HTML file that fetches nothing.

Enters: sections of words, a figure, frames. Leaves: HTML. plotly.js is copied in once; a content security policy allows that script
and the few lines that start it, by their hashes, and nothing else. Whatever an event says is escaped. Layer: views.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from tocsin.text import escape_terminal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import plotly.graph_objects as go
    import polars as pl

MOST_ROWS = 200
"""Rows of a table that a page shows; it says how many there are."""
LONG_CELL, LONGEST_CELL = 48, 300
"""Longer text is broken into lines, still longer text is cut."""
_START: Final = """
for (const data of document.querySelectorAll("script[data-for]")) {
  const spec = JSON.parse(data.textContent);
  spec.layout.autosize = true;
  delete spec.layout.width;
  delete spec.layout.title; // the section has it as its heading
  const box = document.getElementById(data.dataset.for);
  Plotly.newPlot(box, spec.data, spec.layout, {responsive: true, displaylogo: false, showSendToCloud: false});
}
"""
_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 ui-sans-serif, system-ui, Helvetica, Arial, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
.empty { font-size: 1.1rem; padding: 1.5rem; border: 1px dashed #8a8f98; border-radius: 6px; }
.tables { overflow-x: auto; }
.figure { min-width: 640px; }
section { margin-top: 2.5rem; }
section h2 { font-size: 1.25rem; margin: 0 0 .4rem; }
.lead { font-size: 1.05rem; }
nav ul { columns: 2; padding-left: 1.2rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: .8rem; margin: 1.5rem 0; }
.tiles div { border: 1px solid rgba(128,128,128,.35); border-radius: 8px; padding: .7rem .9rem; }
.tiles dt { font-size: 13px; color: #7b818b; }
.tiles dd { margin: 0; }
.tiles strong { font-size: 1.6rem; display: block; line-height: 1.3; }
.tiles p { margin: .3rem 0 0; font-size: 12px; line-height: 1.35; color: #7b818b; }
details { margin: .8rem 0; }
summary { cursor: pointer; color: #7b818b; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid rgba(128,128,128,.3); text-align: left; vertical-align: top; }
td { white-space: nowrap; }
td.l { white-space: normal; min-width: 24em; }
td.n, th.n { text-align: right; }
footer, .note { color: #7b818b; font-size: 14px; }
"""


def cell(value: Any) -> str:
    r"""Return a value as plain text a person reads; what could act or reorder is spelt out.

    >>> cell(None), cell(1234567.0), cell(0.00012345), cell(1234.5678), cell(["a", "b\u202e"])
    ('-', '1,234,567', '0.0001234', '1,234.57', 'a, b\\u202e')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value == int(value) and abs(value) < 1e15:
            return f"{int(value):,}"
        return f"{value:,.2f}" if abs(value) >= 100 else f"{value:.4g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, date):
        return f"{value:%Y-%m-%d}"
    if isinstance(value, list):
        value = ", ".join("-" if v is None else str(v) for v in value)
    return escape_terminal(str(value), limit=LONGEST_CELL)


def _escaped(text: str) -> str:
    return html.escape(escape_terminal(text))


def table(frame: pl.DataFrame, caption: str, most_rows: int = MOST_ROWS) -> str:
    """Return a frame as an HTML table with a caption and column headers that belong to their columns.

    >>> import polars as pl
    >>> "&lt;b&gt;" in table(pl.DataFrame({"user": ["<b>"]}), "Users")
    True
    """
    numbers = [t.is_numeric() for t in frame.dtypes]
    head = "".join(
        f'<th scope="col"{_right(n)}>{_escaped(name.replace("_", " "))}</th>'
        for name, n in zip(frame.columns, numbers, strict=True)
    )
    rows = "\n".join(
        "<tr>" + "".join(_cell(cell(v), numeric=n) for v, n in zip(row, numbers, strict=True)) + "</tr>"
        for row in frame.head(most_rows).iter_rows()
    )  # fmt: skip
    more = f" (the first {most_rows:,} of {frame.height:,} rows)" if frame.height > most_rows else ""
    return (
        f'<div class="tables" tabindex="0" role="region" aria-label="{_escaped(caption)}"><table>'
        f"<caption>{_escaped(caption)}{more}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def _right(numeric: bool) -> str:
    return ' class="n"' if numeric else ""


def _cell(text: str, *, numeric: bool) -> str:
    kind = _right(numeric) or (' class="l"' if len(text) > LONG_CELL else "")
    return f"<td{kind}>{html.escape(text)}</td>"


@dataclass(frozen=True)
class Section:
    """A part of a page: what it says, why it has nothing to show (or ""), its chart, its tables by caption.

    folded: further tables that a reader opens. small: the definition follows in small print, instead of leading.
    """

    title: str
    definition: str
    notes: Sequence[str] = ()
    empty: str = ""
    figure: go.Figure | None = None
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    folded: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    small: bool = False


@dataclass(frozen=True)
class Tile:
    """One number of a page's head: what it is, the number, what it is compared with, what it means."""

    name: str
    value: str
    beside: str
    meaning: str


def fragment(section: Section, *, heading: str = "h1", chart: str = "") -> str:
    """Return heading, definition, notes, chart and tables, for inside another page."""
    told = [f"<p>{_escaped(section.definition)}</p>"] if not section.small else []
    parts = [f"<{heading}>{_escaped(section.title)}</{heading}>", *told]
    parts += [f'<p class="empty">{_escaped(section.empty)}</p>'] if section.empty else []
    parts += [f'<p class="note">{_escaped(note)}</p>' for note in section.notes]
    parts += [chart] if chart else []
    parts += [table(frame, caption) for caption, frame in section.tables.items() if frame.height]
    parts += [f'<p class="note">{_escaped(section.definition)}</p>'] if section.small else []
    more = [table(frame, caption) for caption, frame in section.folded.items() if frame.height]
    if more:
        words = f"{len(more)} more table{'s' if len(more) > 1 else ''}"
        parts += [f"<details><summary>{words}</summary>", *more, "</details>"]
    return "\n".join(parts)


def _tile(tile: Tile) -> str:
    value, name, beside, meaning = (_escaped(t) for t in (tile.value, tile.name, tile.beside, tile.meaning))
    return f"<div><dt>{name}</dt><dd><strong>{value}</strong> <span>{beside}</span><p>{meaning}</p></dd></div>"


def whole(*sections: Section, title: str = "", lead: Sequence[str] = (), tiles: Sequence[Tile] = ()) -> str:
    """Return a complete page. Without a figure it holds no script at all.

    One section is the page. Several get a heading of their own, ``title`` above them, ``lead`` paragraphs, the numbers of
    ``tiles`` and a list of the sections.
    """
    if len(sections) == 1:
        title = sections[0].title
        body = _section(sections[0], 0, "h1")
    else:
        parts = [f"<h1>{_escaped(title)}</h1>", *(f'<p class="lead">{_escaped(words)}</p>' for words in lead)]
        parts += [f'<dl class="tiles">{"".join(_tile(t) for t in tiles)}</dl>'] if tiles else []
        links = "".join(f'<li><a href="#s{i}">{_escaped(s.title)}</a></li>' for i, s in enumerate(sections))
        parts.append(f'<nav aria-label="Sections"><ul>{links}</ul></nav>')
        parts += [f'<section id="s{i}">\n{_section(s, i, "h2")}\n</section>' for i, s in enumerate(sections)]
        body = "\n".join(parts)
    drawn = [(i, s.figure) for i, s in enumerate(sections) if s.figure is not None]
    scripts, hashes = "", "'none'"
    if drawn:
        plotly_js = _plotly_js()
        hashes = f"{_hash(plotly_js)} {_hash(_START)}"
        data = "\n".join(
            f'<script type="application/json" data-for="figure-{i}">{_inert(figure.to_json())}</script>'
            for i, figure in drawn
        )
        scripts = f"{data}\n<script>{plotly_js}</script>\n<script>{_START}</script>\n"
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escaped(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        f"<footer><p>Made by tocsin. Times are UTC unless a zone is named.</p></footer>\n{scripts}</body>\n</html>\n"
    )


def _section(section: Section, number: int, heading: str) -> str:
    chart = ""
    if section.figure is not None:
        about = f"Chart: {_escaped(section.title)}. Its data is in the tables below."
        chart = (
            f'<div class="tables"><div id="figure-{number}" class="figure" role="img" aria-label="{about}"></div></div>'
        )
    return fragment(section, heading=heading, chart=chart)


def _inert(json_text: str) -> str:
    """Return JSON in which nothing can end the script element that holds it."""
    for character in "<>&\u2028\u2029":
        json_text = json_text.replace(character, f"\\u{ord(character):04x}")
    return json_text


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@cache
def _plotly_js() -> str:
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text.replace("</script", "<\\/script").replace("\r\n", "\n").replace("\r", "\n")
