"""Maps: where events come from, and journeys, on an outline of the land that ships with the package.

Enters: a `Chart`. Leaves: a figure with flat axes in degrees; plotly's own maps would fetch theirs from the network.
Layer: views.
"""

from __future__ import annotations

import json
import math
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from tocsin.views.style import BLUE, LAND, ORANGE, RED, TEXT, figure, label, labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tocsin.views.chart import Chart

SOUTH, NORTH = -60.0, 84.0
HEIGHT, LEGEND_ROW = 476, 20
LEAST_SIZE, MOST_SIZE = 6.0, 34.0
STEPS = 48
"""Straight pieces that a great circle is drawn with."""
Line = list[float | None]


@cache
def land() -> tuple[Line, Line]:
    """Return longitudes and latitudes of the land's rings, None between two of them."""
    text = (resources.files("tocsin") / "data" / "land.json").read_text(encoding="utf-8")
    x: Line = []
    y: Line = []
    for ring in json.loads(text)["rings"]:
        x += [*(n / 100 for n in ring[0::2]), ring[0] / 100, None]
        y += [*(n / 100 for n in ring[1::2]), ring[1] / 100, None]
    return x, y


def _base(chart: Chart) -> go.Figure:
    made = figure(chart.title, height=HEIGHT)
    x, y = land()
    made.add_scatter(
        x=x, y=y, mode="lines", fill="toself", fillcolor=LAND, line={"color": TEXT, "width": 0.5}, hoverinfo="skip",
        showlegend=False,
    )  # fmt: skip
    made.update_xaxes(
        range=[-180, 180],
        tickvals=list(range(-180, 181, 60)),
        ticktext=_degrees(range(-180, 181, 60), "E", "W"),
        zeroline=False,
    )
    made.update_yaxes(
        range=[SOUTH, NORTH], tickvals=list(range(-60, 90, 30)), ticktext=_degrees(range(-60, 90, 30), "N", "S"),
        scaleanchor="x", scaleratio=1, constrain="domain", zeroline=False,
    )  # fmt: skip
    return made


def _degrees(values: Sequence[int], plus: str, minus: str) -> list[str]:
    return [f"{abs(v)}°{plus if v > 0 else minus if v < 0 else ''}" for v in values]


def places(chart: Chart) -> go.Figure:
    """Draw a disc for each place, its area after the count."""
    made, data = _base(chart), chart.data
    count = data["count"].to_list()
    top = max(count, default=1)
    made.add_scatter(
        x=data["longitude"].to_list(), y=data["latitude"].to_list(), mode="markers", showlegend=False,
        marker={
            "size": [max(LEAST_SIZE, MOST_SIZE * math.sqrt(n / top)) for n in count], "color": BLUE, "opacity": 0.6,
            "line": {"width": 1, "color": "white"},
        },
        text=labels(data["label"].to_list(), 80), customdata=count, hovertemplate="%{text}: %{customdata:,}<extra></extra>",
    )  # fmt: skip
    return made


def journeys(chart: Chart) -> go.Figure:
    """Draw each journey as a great circle, with its ends; the first is red."""
    made = _base(chart)
    for i, row in enumerate(chart.data.iter_rows(named=True)):
        x, y = great_circle(
            row["from_latitude"], row["from_longitude"], row["to_latitude"], row["to_longitude"]
        )  # fmt: skip
        colour = RED if i == 0 else BLUE if i < 3 else ORANGE
        words = label(row["label"], 80)
        made.add_scatter(
            x=x, y=y, mode="lines", line={"color": colour, "width": 2.5 if i == 0 else 1.5}, name=words, hovertext=words,
            hoverinfo="text",
        )  # fmt: skip
        made.add_scatter(
            x=[row["from_longitude"], row["to_longitude"]], y=[row["from_latitude"], row["to_latitude"]], mode="markers",
            marker={"color": colour, "size": 8, "symbol": ["circle-open", "circle"]}, showlegend=False, hoverinfo="skip",
        )  # fmt: skip
    made.update_layout(
        legend={"orientation": "v", "x": 0, "y": -0.1, "yanchor": "top"},
        height=HEIGHT + LEGEND_ROW * (chart.data.height + 1),
        margin={"b": 56 + LEGEND_ROW * (chart.data.height + 1)},
    )
    return made


def great_circle(lat_a: float, lon_a: float, lat_b: float, lon_b: float) -> tuple[Line, Line]:
    """Return longitudes and latitudes along the shortest way, with a break where it crosses the date line.

    >>> x, y = great_circle(0.0, 170.0, 0.0, -170.0)
    >>> x[0], x[-1], None in x
    (170.0, -170.0, True)
    """
    a, b = _vector(lat_a, lon_a), _vector(lat_b, lon_b)
    angle = math.acos(max(-1.0, min(1.0, sum(p * q for p, q in zip(a, b, strict=True)))))
    if angle < 1e-6 or math.pi - angle < 1e-6:  # the same place, or opposite ones with no one shortest way
        return [lon_a, lon_b], [lat_a, lat_b]
    x: Line = []
    y: Line = []
    for step in range(STEPS + 1):
        f = step / STEPS
        p, q = math.sin((1 - f) * angle) / math.sin(angle), math.sin(f * angle) / math.sin(angle)
        east, north, up = (p * u + q * v for u, v in zip(a, b, strict=True))
        lon, lat = math.degrees(math.atan2(north, east)), math.degrees(math.asin(max(-1.0, min(1.0, up))))
        if x and x[-1] is not None and abs(lon - x[-1]) > 180:
            x.append(None)
            y.append(None)
        x.append(round(lon, 4))
        y.append(round(lat, 4))
    return x, y


def _vector(lat: float, lon: float) -> tuple[float, float, float]:
    """Return a place as a point on the unit sphere."""
    phi, theta = math.radians(lat), math.radians(lon)
    return math.cos(phi) * math.cos(theta), math.cos(phi) * math.sin(theta), math.sin(phi)
