"""Charts over the hours of a week: a heatmap of weekday and hour, and the people needed beside those who are there.

Enters: a `Chart`. Leaves: a figure. Layer: views.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import polars as pl

from tocsin.views.style import BLUE, ORANGE, RED, figure, label, labels

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from tocsin.views.chart import Chart

SCALE = [[0.0, "#00224e"], [0.25, "#434e6c"], [0.5, "#7d7c78"], [0.75, "#bcae6c"], [1.0, "#fee838"]]
"""Cividis: as orderly in grey, and to any colour vision, as in colour."""


def heatmap(chart: Chart) -> go.Figure:
    """Draw a row for each label, the first on top, a column for each hour; a cell without value stays empty."""
    rows = chart.data["label"].unique(maintain_order=True).to_list()
    made = figure(chart.title, chart.x, chart.y, height=150 + 40 * max(len(rows), 2))
    cells: list[list[Any]] = []
    exposed: list[list[Any]] = []
    for name in rows:
        mine = chart.data.filter(pl.col("label").eq_missing(name))
        values = dict(mine.select("hour", "value").iter_rows())
        hours = dict(mine.select("hour", "exposure").iter_rows())
        cells.append([values.get(h) for h in range(24)])
        exposed.append([[hours.get(h), label(name)] for h in range(24)])
    unit = label(chart.words.get("unit", "value"), 60)
    made.add_heatmap(
        z=cells, x=list(range(24)), y=list(range(len(rows))), colorscale=SCALE, zmin=0, xgap=1, ygap=1, customdata=exposed,
        text=[["" if v is None else f"{v:.3g}" for v in row] for row in cells], texttemplate="%{text}", textfont={"size": 11},
        colorbar={"title": {"text": unit, "side": "right"}, "thickness": 14, "outlinewidth": 0}, hoverongaps=False,
        hovertemplate=f"%{{customdata[1]}} %{{x}}:00: %{{z:,.4~g}} {unit}, %{{customdata[0]:,.4~g}} h of exposure<extra></extra>",
    )  # fmt: skip
    _outline(made, chart.words.get("outline", ()))
    if chart.words.get("outline"):
        made.add_scatter(
            x=[None], y=[None], mode="lines", line={"color": RED, "width": 3}, name=label(chart.words.get("outline_name", "outlined"), 60),
        )  # fmt: skip
    made.update_layout(showlegend=bool(chart.words.get("outline")))
    made.update_yaxes(
        tickmode="array", tickvals=list(range(len(rows))), ticktext=labels(rows), range=[len(rows) - 0.5, -0.5],
        showgrid=False, zeroline=False, ticks="",
    )  # fmt: skip
    made.update_xaxes(dtick=1, range=[-0.5, 23.5], showgrid=False, zeroline=False)
    return made


def _outline(made: go.Figure, parts: list[tuple[int, float, float]]) -> None:
    """Draw one box around equal hours of rows that follow each other; the cell of hour h reaches from h - 0.5 to h + 0.5."""
    by_hours = sorted((start, end, row) for row, start, end in parts)
    for (start, end), same in groupby(by_hours, key=lambda part: part[:2]):
        for _, run in groupby(enumerate(p[2] for p in same), key=lambda pair: pair[1] - pair[0]):
            rows = [row for _, row in run]
            made.add_shape(
                type="rect", x0=start - 0.5, x1=end - 0.5, y0=rows[0] - 0.5, y1=rows[-1] + 0.5, line={"color": RED, "width": 3},
            )  # fmt: skip


def staffing(chart: Chart) -> go.Figure:
    """Draw the people needed in each hour of the week as a step line, with a band, those on shift, and where they are too few."""
    made, data = figure(chart.title, chart.x, chart.y), chart.data
    words = chart.words
    # Each hour lasts until the next: the last one needs an end to be seen.
    hours = [*data["hour"].to_list(), 168]
    column = {
        name: [*data[name].to_list(), *data[name].to_list()[-1:]] for name in ("needed", "low", "high", "rostered")
    }
    for name, extra in (("low", {}), ("high", {"fill": "tonexty", "fillcolor": "rgba(86,180,233,0.28)"})):
        made.add_scatter(
            x=hours, y=column[name], mode="lines", line={"width": 0, "shape": "hv"}, hoverinfo="skip",
            showlegend=name == "high", name=label(words.get("band", "band"), 80), **extra,
        )  # fmt: skip
    made.add_scatter(
        x=hours, y=column["needed"], mode="lines", line={"color": BLUE, "width": 2, "shape": "hv"},
        name=label(words.get("needed", "needed"), 80),
    )  # fmt: skip
    if data["rostered"].count():
        made.add_scatter(
            x=hours, y=column["rostered"], mode="lines", line={"color": ORANGE, "width": 2, "shape": "hv", "dash": "dash"},
            name=label(words.get("rostered", "on shift"), 80),
        )  # fmt: skip
        short = data.filter(pl.col("rostered") + 1e-9 < pl.col("needed"))
        if short.height:
            made.add_scatter(
                x=[h + 0.5 for h in short["hour"].to_list()], y=short["needed"].to_list(), mode="markers", name="too few",
                marker={"color": RED, "size": 6, "symbol": "diamond"},
            )  # fmt: skip
    days = labels(words.get("days", ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")))
    made.update_xaxes(
        tickmode="array",
        tickvals=[24 * d for d in range(len(days))],
        ticktext=days,
        range=[0, 168],
        ticklabelposition="outside right",
    )
    made.update_yaxes(rangemode="tozero")
    return made
