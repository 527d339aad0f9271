"""The chart of change points: a series, the level of each regime, when it changed, and how sure the date is.

Enters: ``ChangePoints``, or a `Chart` of them. Leaves: a `Chart`; a figure. Layer: views.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tocsin.views.chart import Chart

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from tocsin.stats.changepoints import ChangePoints


def chart_of(found: ChangePoints, title: str = "Change points", x: str = "", y: str = "") -> Chart:
    """Return the chart of a series and its regimes; the mean of a regime is that of all its values.

    >>> from tocsin.stats import changepoints
    >>> found = changepoints.binseg([0.1, 0.2, 0.0, 0.1, 5.1, 5.0, 5.2, 5.1], start="2026-01-01")
    >>> chart_of(found).data["mean"].round(1).to_list()
    [0.1, 0.1, 0.1, 0.1, 5.1, 5.1, 5.1, 5.1]
    """
    regime = np.searchsorted(found.index, np.arange(found.values.size), side="right")
    outlier = np.zeros(found.values.size, np.bool_)
    outlier[found.outliers] = True
    columns = {"time": found.dates, "value": found.values, "mean": found.means[regime], "outlier": outlier}
    frame = pl.DataFrame(columns).with_columns(pl.col("value", "mean").fill_nan(None))
    when = [pl.Series(d).to_list() for d in (found.date, found.first_date, found.last_date)]
    return Chart("regimes", title, frame, x=x, y=y, words={"changes": list(zip(*when, strict=True))})


def regimes(chart: Chart) -> go.Figure:
    """Draw values, the mean of each regime as a step, a line at each change with a band over its interval, and outliers."""
    from tocsin.views.style import BLUE, GREY, ORANGE, RED, figure

    made, data = figure(chart.title, chart.x, chart.y), chart.data
    time = data["time"].to_list()
    for n, (date, first, last) in enumerate(chart.words.get("changes", ())):
        made.add_vrect(x0=first, x1=last, fillcolor="rgba(230,159,0,0.18)", line_width=0)
        made.add_scatter(
            x=[date, date], y=[0, data["value"].max()], mode="lines", line={"color": ORANGE, "width": 1.5, "dash": "dash"},
            name="change, with the interval of its date", legendgroup="change", showlegend=n == 0, hoverinfo="x",
        )  # fmt: skip
    few = data.height <= 400
    made.add_scatter(
        x=time, y=data["value"].to_list(), mode="lines+markers" if few else "lines", name="value",
        line={"color": GREY, "width": 1}, marker={"color": GREY, "size": 4},
    )  # fmt: skip
    made.add_scatter(
        x=time,
        y=data["mean"].to_list(),
        mode="lines",
        name="mean of the regime",
        line={"color": BLUE, "width": 3, "shape": "hv"},
    )
    odd = data.filter("outlier")
    if odd.height:
        made.add_scatter(
            x=odd["time"].to_list(), y=odd["value"].to_list(), mode="markers", name="set apart as an outlier",
            marker={"color": RED, "size": 9, "symbol": "x"},
        )  # fmt: skip
    made.update_yaxes(rangemode="tozero")
    return made
