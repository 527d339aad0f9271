"""How every chart looks: colours, fonts, axes, and labels in which nothing an attacker wrote can act.

Enters: words and figures. Leaves: the same, laid out. Layer: views.

The colours are those of Okabe and Ito, which people with any colour vision can tell apart. Backgrounds are transparent
and text is a middle grey that can be read on white and on black.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import plotly.graph_objects as go

from tocsin.text import escape_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

BLUE, RED, GREEN, ORANGE, SKY, GREY = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#8a8f98"
TEXT, GRID, LAND = "#7b818b", "rgba(128,128,128,0.22)", "rgba(128,128,128,0.28)"
WIDTH, HEIGHT, ROW_HEIGHT = 960, 460, 24
FONT: Final = "ui-sans-serif, system-ui, Helvetica, Arial, sans-serif"
LONGEST_LABEL = 40


def label(value: Any, limit: int = LONGEST_LABEL) -> str:
    r"""Return a value as text for a figure: plotly reads `<a href>` in it as a link, and some controls reorder it.

    >>> label("<a href='http://x'>invoice\u202egnp.exe</a>", limit=60)
    "&lt;a href='http://x'&gt;invoice\\u202egnp.exe&lt;/a&gt;"
    >>> label(None)
    '-'
    """
    if value is None:
        return "-"
    text = escape_terminal(str(value), limit=limit)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def labels(values: Sequence[Any], limit: int = LONGEST_LABEL) -> list[str]:
    """Return several values as text for a figure."""
    return [label(v, limit) for v in values]


def figure(title: str, x: str = "", y: str = "", *, height: int = HEIGHT) -> go.Figure:
    """Return an empty figure in the house's style."""
    axis = {
        "gridcolor": GRID, "zerolinecolor": GRID, "linecolor": TEXT, "ticks": "outside", "tickcolor": TEXT, "automargin": True,
        "title": {"standoff": 12},
    }  # fmt: skip
    made = go.Figure(
        layout={
            "title": {"text": label(title, 120), "x": 0, "xref": "paper", "xanchor": "left", "font": {"size": 17}},
            "font": {"family": FONT, "size": 13, "color": TEXT},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "width": WIDTH,
            "height": height,
            "margin": {"l": 64, "r": 24, "t": 64, "b": 56},
            "colorway": [BLUE, RED, GREEN, ORANGE, SKY],
            "hoverlabel": {"font": {"family": FONT}},
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
            "xaxis": axis,
            "yaxis": axis,
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": TEXT, "activecolor": BLUE},
            "template": None,
        }
    )
    made.update_xaxes(title_text=label(x, 120))
    made.update_yaxes(title_text=label(y, 120))
    return made


def line_at(made: go.Figure, where: float, words: str, *, colour: str = RED, level: int = 0) -> None:
    """Draw a dashed line across a figure at one value of its x axis, with its name beside its upper end."""
    made.add_shape(
        type="line", x0=where, x1=where, y0=0, y1=1, yref="paper", line={"color": colour, "width": 2, "dash": "dash"}
    )
    made.add_annotation(
        x=where, y=1 - 0.07 * level, yref="paper", text=label(words, 60), showarrow=False, font={"color": colour},
        xanchor="left", yanchor="top", xshift=5,
    )  # fmt: skip


def nothing(title: str, words: str) -> go.Figure:
    """Return a figure that says in words why there is nothing to see."""
    made = figure(title, height=200)
    made.update_xaxes(visible=False)
    made.update_yaxes(visible=False)
    made.add_annotation(x=0, y=0.5, xref="paper", yref="paper", text=label(words, 200), showarrow=False, xanchor="left")
    return made
