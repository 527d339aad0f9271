"""Charts of triage: a funnel from events to incidents, and amounts stacked over time.

Enters: a `Chart`. Leaves: a figure. Layer: views.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import polars as pl

from tocsin.views.style import BLUE, GREEN, GREY, ORANGE, RED, SKY, figure, label, labels

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from tocsin.views.chart import Chart

COLOURS = (RED, ORANGE, GREEN, BLUE, SKY, GREY)
NOT_RECORDED = "not recorded"


def funnel(chart: Chart) -> go.Figure:
    """Draw one bar a stage on a log axis, the first on top, with its number and its share of the stage before.

    A stage without a number says so. Stages of a funnel differ by factors of millions: on a linear axis the last are invisible.
    """
    counts, names = chart.data["count"].to_list(), chart.data["label"].to_list()
    made = figure(chart.title, chart.x, chart.y, height=150 + 46 * len(counts))
    texts = []
    for before, count in zip([None, *counts], counts, strict=False):
        text = NOT_RECORDED if count is None else f"{count:,}"
        texts.append(text + (f"  ({count / before:.2%} of the stage before)" if count is not None and before else ""))
    made.add_bar(
        x=[count - 0.5 if count else None for count in counts], y=list(range(len(counts))), orientation="h", marker_color=BLUE,
        base=[0.5] * len(counts), hovertext=labels(names, 200), customdata=texts,
        hovertemplate="%{hovertext}: %{customdata}<extra></extra>",
    )  # fmt: skip
    # Bars on a log axis begin at 0.5, so that a stage of one is still seen; words stand at the axis, where they always fit.
    top = max((count for count in counts if count), default=1)
    made.update_xaxes(type="log", range=[math.log10(0.5), math.log10(max(top, 1) * 2)], dtick=1 if top < 1e6 else 2)
    for row, text in enumerate(texts):
        made.add_annotation(
            x=0, xref="paper", y=row, text=label(text, 80), showarrow=False, xanchor="left", xshift=8,
            bgcolor="rgba(255,255,255,0.75)", font={"color": "#333333"},
        )  # fmt: skip
    made.update_yaxes(
        tickmode="array", tickvals=list(range(len(counts))), ticktext=labels(names), ticks="",
        range=[len(counts) - 0.4, -0.6], showgrid=False, zeroline=False,
    )  # fmt: skip
    made.update_layout(showlegend=False)
    return made


def stacked(chart: Chart) -> go.Figure:
    """Draw the amounts of each label over time as areas one upon the other; the first label of `order` lies at the bottom."""
    made = figure(chart.title, chart.x, chart.y)
    order = chart.words.get("order") or chart.data["label"].unique(maintain_order=True).to_list()
    for i, name in enumerate(order):
        mine = chart.data.filter(pl.col("label") == name)
        made.add_scatter(
            x=mine["time"].to_list(), y=mine["value"].to_list(), name=label(name), stackgroup="all", mode="lines",
            line={"width": 0.5, "color": COLOURS[i % len(COLOURS)]}, hovertemplate="%{y:,}",
        )  # fmt: skip
    made.update_yaxes(rangemode="tozero")
    made.update_layout(hovermode="x unified")
    return made
