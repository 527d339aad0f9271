"""The chart of waiting: what share still waits after so many minutes, by group, with bands and targets.

Enters: a `Chart`. Leaves: a figure. Layer: views.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from tocsin.views.style import BLUE, GREEN, GREY, ORANGE, RED, SKY, figure, label

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from tocsin.views.chart import Chart

COLOURS: Final = {"critical": RED, "high": ORANGE, "medium": BLUE, "low": SKY, "informational": GREEN}
OTHERS: Final = (BLUE, RED, GREEN, ORANGE, SKY, GREY)
LOG_FROM: Final = 50.0
"""From this ratio between the last and the tenth of the times on, minutes are drawn on a log axis."""


def survival(chart: Chart) -> go.Figure:
    """Draw a falling step a group, its band, and for each target a line down from the curve that it cuts."""
    made = figure(chart.title, chart.x, chart.y)
    data = chart.data.filter(pl.col("minutes") > 0)
    log = bool(data.height) and data["minutes"].max() > LOG_FROM * data["minutes"].quantile(0.1, "nearest")  # type: ignore[operator]
    for i, name in enumerate(chart.data["label"].unique(maintain_order=True)):
        colour = COLOURS.get(name, OTHERS[i % len(OTHERS)])
        mine = (data if log else chart.data).filter(pl.col("label") == name)
        time = mine["minutes"].to_list()
        for bound, fill in (("high", None), ("low", "tonexty")):
            made.add_scatter(
                x=time, y=mine[bound].to_list(), mode="lines", line={"width": 0, "shape": "hv", "color": colour}, fill=fill,
                fillcolor=_faint(colour), legendgroup=str(i), showlegend=False, hoverinfo="skip",
            )  # fmt: skip
        made.add_scatter(
            x=time, y=mine["share"].to_list(), mode="lines", name=label(name), legendgroup=str(i),
            line={"color": colour, "width": 2.5, "shape": "hv"},
            hovertemplate="%{y:.1%} still wait after %{x:,.3~g}<extra></extra>",
        )  # fmt: skip
        target = chart.words.get("targets", {}).get(name)
        if target is not None:
            before = chart.data.filter(pl.col("label") == name, pl.col("minutes") <= target)["share"]
            made.add_scatter(
                x=[target, target], y=[0, before[-1] if before.len() else 1.0], mode="lines+markers", legendgroup=str(i), showlegend=False,
                line={"color": colour, "width": 1.5, "dash": "dot"}, marker={"color": colour, "size": [0, 9], "symbol": "diamond"},
                hovertemplate=f"target {target:,.6g}: %{{y:.1%}} missed it<extra></extra>",
            )  # fmt: skip
    made.update_yaxes(range=[0, 1.02], tickformat=".0%")
    if log:
        made.update_xaxes(type="log", title_text=f"{label(chart.x)} (log scale)", dtick=1)
    return made


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"
