"""Charts over time: a series with its baseline, and the hours of the day before and after a change.

Enters: a `Chart`. Leaves: a figure. Layer: views.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import plotly.graph_objects as go
import polars as pl

from tocsin.views.style import BLUE, GREY, ORANGE, RED, SKY, figure, label

if TYPE_CHECKING:
    from tocsin.views.chart import Chart

HOURS_COLUMNS = 2
LOG_FROM = 200.0
"""From this many times the limit on, the largest value would press the limit onto the axis: a log axis shows both."""


def series(chart: Chart) -> go.Figure:
    """Draw the values, the baseline with its band, the value at which the rule fires, and diamonds where it fired."""
    made = figure(chart.title, chart.x, chart.y)
    words, data = chart.words, chart.data
    time = data["time"].to_list()
    if data["low"].count():
        made.add_scatter(
            x=[*time, *time[::-1]], y=[*data["high"].to_list(), *data["low"].to_list()[::-1]], fill="toself", mode="lines",
            line_width=0, fillcolor="rgba(86,180,233,0.25)", name=label(words.get("band", "band"), 80), hoverinfo="skip",
        )  # fmt: skip
    if data["baseline"].count():
        made.add_scatter(
            x=time, y=data["baseline"].to_list(), mode="lines", connectgaps=True, line={"color": BLUE, "width": 2},
            name=label(words.get("baseline", "baseline"), 80),
        )  # fmt: skip
    if data["limit"].count():
        made.add_scatter(
            x=time, y=data["limit"].to_list(), mode="lines", connectgaps=True, name=label(words.get("limit", "limit"), 80),
            line={"color": ORANGE, "width": 2, "dash": "dash"},
        )  # fmt: skip
    few = data.height <= 200
    made.add_scatter(
        x=time, y=data["value"].to_list(), mode="lines+markers" if few else "lines", name=label(words.get("value", "value"), 80),
        line={"color": GREY, "width": 1.5}, marker={"color": GREY, "size": 6},
    )  # fmt: skip
    fired = data.filter("fired")
    if fired.height:
        made.add_scatter(
            x=fired["time"].to_list(), y=fired["value"].to_list(), mode="markers", name="fired",
            marker={"color": RED, "size": 12, "symbol": "diamond", "line": {"width": 1, "color": "white"}},
        )  # fmt: skip
    limit, top = data["limit"].max(), data["value"].max()
    if isinstance(limit, float) and isinstance(top, float) and 0 < limit * LOG_FROM < top:
        made.update_yaxes(type="log", title_text=f"{label(chart.y)} (log scale, without zeros)")
    else:
        made.update_yaxes(rangemode="tozero")
    return made


def hours(chart: Chart) -> go.Figure:
    """Draw a rose of 24 hours for each label: shares of the events before the change and after it."""
    people = chart.data["label"].unique(maintain_order=True).to_list()
    columns = min(HOURS_COLUMNS, len(people))
    rows = math.ceil(len(people) / columns)
    made = figure(chart.title, height=140 + 380 * rows)
    made.update_xaxes(visible=False)
    made.update_yaxes(visible=False)
    for i, name in enumerate(people):
        mine = chart.data.filter(pl.col("label") == name)
        polar = f"polar{i + 1 if i else ''}"
        row, column = divmod(i, columns)
        left, top = column / columns, 1 - row / rows
        domain = {"x": [left + 0.04, left + 1 / columns - 0.04], "y": [top - 1 / rows + 0.06, top - 0.09]}
        for part, colour in (("before", SKY), ("after", RED)):
            made.add_barpolar(
                r=[100 * share for share in mine[part].to_list()], theta=[15 * h + 7.5 for h in mine["hour"].to_list()],
                width=[13] * mine.height if part == "before" else [6] * mine.height, subplot=polar, name=part, legendgroup=part,
                showlegend=i == 0, marker_color=colour, opacity=0.85, customdata=mine["hour"].to_list(),
                hovertemplate=f"%{{customdata}} h: %{{r:.1f}} % {part}<extra></extra>",
            )  # fmt: skip
        made.layout[polar] = _clock(domain)
        made.add_annotation(
            x=left + 0.5 / columns, y=top - 0.01, xref="paper", yref="paper", xanchor="center", yanchor="top",
            text=label(name, 60), showarrow=False,
        )  # fmt: skip
    return made


def _clock(domain: dict[str, list[float]]) -> dict[str, object]:
    return {
        "domain": domain,
        "barmode": "overlay",
        "bgcolor": "rgba(0,0,0,0)",
        "angularaxis": {
            "direction": "clockwise", "rotation": 90, "tickmode": "array", "tickvals": [0, 45, 90, 135, 180, 225, 270, 315],
            "ticktext": [f"{h} h" for h in range(0, 24, 3)], "gridcolor": "rgba(128,128,128,0.25)", "linecolor": GREY,
        },
        "radialaxis": {
            "ticksuffix": " %", "angle": 22.5, "tickangle": 22.5, "gridcolor": "rgba(128,128,128,0.25)", "showline": False,
            "tickfont": {"size": 10}, "nticks": 4,
        },
    }  # fmt: skip
