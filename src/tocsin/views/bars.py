"""Distributions and rankings: histogram with limits, bars of counts, changes with intervals, observed beside expected.

Enters: a `Chart`. Leaves: a figure. Layer: views.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from tocsin.views.style import BLUE, GREY, HEIGHT, ORANGE, RED, ROW_HEIGHT, SKY, figure, label, labels, line_at

if TYPE_CHECKING:
    from tocsin.views.chart import Chart

LOG_FROM = 500
"""From this ratio between the fullest bin and the emptiest one that is not empty, counts are drawn on a log axis."""


def histogram(chart: Chart) -> go.Figure:
    """Draw bins, the lines of `marks` (the first in red: the limit), and `points` as named diamonds on the axis."""
    made = figure(chart.title, chart.x, chart.y)
    low, high, count = (chart.data[c].to_list() for c in ("low", "high", "count"))
    made.add_bar(
        x=[(a + b) / 2 for a, b in zip(low, high, strict=True)],
        y=count,
        width=[(b - a) * 0.96 for a, b in zip(low, high, strict=True)],
        marker_color=BLUE,
        customdata=list(zip(low, high, strict=True)),
        hovertemplate="%{customdata[0]:,.6~g} to %{customdata[1]:,.6~g}: %{y:,}<extra></extra>",
    )
    filled = [n for n in count if n]
    if filled and max(filled) / min(filled) > LOG_FROM:
        made.update_yaxes(type="log", title_text=f"{label(chart.y)} (log scale)", dtick=1)
    for i, (words, where) in enumerate(chart.marks.items()):
        line_at(made, where, words, colour=(RED, GREY, ORANGE)[i % 3], level=i)
    if chart.points:
        made.add_scatter(
            x=list(chart.points.values()), y=[0] * len(chart.points), yaxis="y2", mode="markers", cliponaxis=False,
            marker={"symbol": "diamond", "size": 10, "color": RED, "line": {"width": 1, "color": "white"}},
            text=labels(list(chart.points)), hovertemplate="%{text}: %{x:,.6~g}<extra></extra>",
        )  # fmt: skip
        made.update_layout(yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True})
    made.update_layout(showlegend=False)
    return made


def bars(chart: Chart) -> go.Figure:
    """Draw one horizontal bar a row, the first on top, with its number at its end."""
    rows = chart.data.height
    made = figure(chart.title, chart.x, chart.y, height=max(240, 130 + ROW_HEIGHT * rows))
    made.add_bar(
        x=chart.data["count"].to_list(), y=list(range(rows)), orientation="h", marker_color=BLUE,
        text=[f"{n:,.6g}" if isinstance(n, float) else f"{n:,}" for n in chart.data["count"].to_list()],
        textposition="outside", cliponaxis=False, hovertext=labels(chart.data["label"].to_list(), 200),
        hovertemplate="%{hovertext}: %{x:,}<extra></extra>",
    )  # fmt: skip
    _name_rows(made, chart)
    return made


def _name_rows(made: go.Figure, chart: Chart) -> None:
    """Write each row's label beside it. By position, never as categories: two labels that look alike stay two."""
    rows = chart.data.height
    made.update_yaxes(
        tickmode="array", tickvals=list(range(rows)), ticktext=labels(chart.data["label"].to_list()), ticks="",
        range=[rows - 0.4, -0.6], showgrid=False, zeroline=False, tickfont={"size": 12 if rows <= 40 else 9},
    )  # fmt: skip


def changes(chart: Chart) -> go.Figure:
    """Draw each row's change with its interval; rows of one verdict share a colour and a symbol, the first of `verdicts` the loudest."""
    rows = chart.data.with_row_index("row")
    made = figure(chart.title, chart.x, chart.y, height=max(260, 150 + ROW_HEIGHT * rows.height))
    for i, verdict in enumerate(chart.words["verdicts"]):
        mine = rows.filter(rows["verdict"] == verdict)
        colour, symbol = ((RED, "diamond"), (ORANGE, "square"), (GREY, "circle"))[i % 3]
        change = mine["change"].to_list()
        made.add_scatter(
            x=change, y=mine["row"].to_list(), mode="markers", name=label(verdict),
            marker={"color": colour, "size": 9, "symbol": symbol},
            error_x={
                "type": "data", "symmetric": False, "thickness": 1.5, "color": colour,
                "array": [None if b is None else b - a for a, b in zip(change, mine["high"].to_list(), strict=True)],
                "arrayminus": [None if b is None else a - b for a, b in zip(change, mine["low"].to_list(), strict=True)],
            },
            text=labels(mine["label"].to_list(), 200), hovertemplate="%{text}: %{x:+,.4~g}<extra></extra>",
        )  # fmt: skip
    line_at(made, 0.0, "", colour=GREY)
    if chart.words.get("band"):
        low, high = chart.words["band"]
        made.add_vrect(x0=low, x1=high, fillcolor=SKY, opacity=0.18, line_width=0)
        made.add_scatter(
            x=[None], y=[None], mode="markers", marker={"color": SKY, "opacity": 0.4, "symbol": "square", "size": 14},
            name=label(chart.words["band_name"], 60),
        )  # fmt: skip
    _name_rows(made, chart)
    return made


def fitted(chart: Chart) -> go.Figure:
    """Draw what was counted as bars and what a fitted distribution expects as a line with points."""
    made = figure(chart.title, chart.x, chart.y, height=HEIGHT)
    value = chart.data["value"].to_list()
    made.add_bar(
        x=value, y=chart.data["observed"].to_list(), name="observed", marker_color=BLUE, opacity=0.75,
        hovertemplate="%{x:.6~g}: %{y:,} observed<extra></extra>",
    )  # fmt: skip
    made.add_scatter(
        x=value, y=chart.data["expected"].to_list(), name=label(chart.words.get("expected", "expected"), 80),
        mode="lines+markers", line={"color": RED, "width": 2}, marker={"size": 6, "symbol": "diamond"},
        hovertemplate="%{x:.6~g}: %{y:,.1f} expected<extra></extra>",
    )  # fmt: skip
    for words, where in chart.marks.items():
        line_at(made, where, words, colour=GREY)
    made.update_yaxes(rangemode="tozero")
    return made
