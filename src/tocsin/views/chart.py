"""Chart: what is to be drawn, as data.

Enters: a kind, a frame with that kind's columns, and words. Leaves: a frozen value that `draw` turns into a figure and
a page into a table; it computes nothing. Layer: views, its ground floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from tocsin.errors import TocsinError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_POINTS = 5_000
"""A figure holds no more points of one kind than about this: browsers grow slow above."""

KINDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "histogram": ("low", "high", "count"),
        "bars": ("label", "count"),
        "changes": ("label", "change", "low", "high", "verdict"),
        "fitted": ("value", "observed", "expected"),
        "series": ("time", "value", "baseline", "low", "high", "limit", "fired"),
        "regimes": ("time", "value", "mean", "outlier"),
        "survival": ("label", "minutes", "share", "low", "high"),
        "hours": ("label", "hour", "before", "after"),
        "heatmap": ("label", "hour", "value", "exposure"),
        "staffing": ("hour", "needed", "low", "high", "rostered"),
        "map": ("latitude", "longitude", "count", "label"),
        "funnel": ("label", "count"),
        "stacked": ("time", "label", "value"),
        "travel": ("label", "from_latitude", "from_longitude", "to_latitude", "to_longitude"),
    }
)
"""Each kind of chart and the columns its frame must have."""


@dataclass(frozen=True)
class Chart:
    """One chart.

    kind: one of `KINDS`. title: its heading. data: a frame with the columns of its kind. x, y: what the axes show, with
    units. marks: vertical lines, name -> where on the x axis. points: named points on the x axis that stand out.
    words: names for what a kind's columns mean here (`value`, `baseline`, `band` of a series).
    """

    kind: str
    title: str
    data: pl.DataFrame
    x: str = ""
    y: str = ""
    marks: Mapping[str, float] = field(default_factory=dict)
    points: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a kind that does not exist and a frame that cannot be drawn as this kind."""
        if self.kind not in KINDS:
            raise TocsinError(f"There is no chart {self.kind!r}.{did_you_mean(self.kind, KINDS)}")
        missing = [name for name in KINDS[self.kind] if name not in self.data.columns]
        if missing:
            raise TocsinError(
                f"A chart of kind {self.kind} needs the column {missing[0]!r}; it has {self.data.columns}."
            )


def thinned(data: pl.DataFrame) -> pl.DataFrame:
    """Return a series short enough to draw: of each run of rows the one with the largest value, and all that fired.

    >>> long = pl.DataFrame({"value": list(range(20_000)), "fired": [True] + [False] * 19_999})
    >>> thinned(long).height, thinned(long)["value"].max()
    (5001, 19999)
    """
    if data.height <= MOST_POINTS:
        return data
    run = math.ceil(data.height / MOST_POINTS)
    numbered = data.with_row_index("@row")
    # A null largest value (no value at all in the run) keeps the run's first row.
    best = numbered.group_by(pl.col("@row") // run, maintain_order=True).agg(
        pl.col("@row").gather(pl.col("value").arg_max().fill_null(0)).first().alias("keep")
    )["keep"]
    kept = pl.col("@row").is_in(best.implode()) | pl.col("fired")
    return numbered.filter(kept).drop("@row")
