"""Views: a frame and the name of a chart -> a figure, or a page that stands alone.

Enters: a `Chart`. Leaves: a plotly figure; HTML that fetches nothing. Layer: views, below questions and faces. The only
room that imports plotly, and it does so when a figure is drawn: whoever asks for none does not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tocsin.views.chart import KINDS, MOST_POINTS, Chart, thinned

if TYPE_CHECKING:
    import plotly.graph_objects as go


def draw(chart: Chart) -> go.Figure:
    """Return the figure of a chart.

    >>> import polars as pl
    >>> figure = draw(Chart("bars", "Mails", pl.DataFrame({"label": ["ann"], "count": [3]}), x="mails", y="user"))
    >>> figure.data[0].type
    'bar'
    """
    from tocsin.views import bars, regimes, survival, time, triage, week, world

    painters: dict[str, Any] = {
        "histogram": bars.histogram,
        "bars": bars.bars,
        "changes": bars.changes,
        "fitted": bars.fitted,
        "series": time.series,
        "regimes": regimes.regimes,
        "survival": survival.survival,
        "hours": time.hours,
        "heatmap": week.heatmap,
        "staffing": week.staffing,
        "funnel": triage.funnel,
        "stacked": triage.stacked,
        "map": world.places,
        "travel": world.journeys,
    }
    figure: go.Figure = painters[chart.kind](chart)
    return figure


__all__ = ["KINDS", "MOST_POINTS", "Chart", "draw", "thinned"]
