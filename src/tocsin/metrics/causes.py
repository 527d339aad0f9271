"""Causes: what may be behind a change of the number of alerts a day.

Enters: a scope, its days and the changes found in them. Leaves: candidate causes ranked by how much of the change they hold,
and what the journal and the alerts say happened near it. Layer: metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.calendars import DAY, HOUR, Calendar
from tocsin.metrics.coverage import date_of, feeds
from tocsin.stats.welch import INTEGER_VARIANCE, welch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tocsin.metrics.coverage import Days
    from tocsin.metrics.scope import Scope
    from tocsin.stats.changepoints import ChangePoints

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

DIMENSIONS = {"rule": "rule_id", "entity": "entity", "severity": "severity", "vendor": "vendor"}
"""What alerts are grouped by, and the column that says it; severity is that of creation, which no later deed changes."""
CAUSES: dict[str, Any] = {
    "change": pl.String, "dimension": pl.String, "group": pl.String, "share_of_change": pl.Float64, "share_low": pl.Float64,
    "share_high": pl.Float64, "per_day_before": pl.Float64, "per_day_after": pl.Float64, "difference": pl.Float64, "low": pl.Float64,
    "high": pl.Float64,
}  # fmt: skip
HAPPENED: dict[str, Any] = {
    "change": pl.String, "what": pl.String, "name": pl.String, "value": pl.String, "at": pl.Datetime("us", "UTC"),
    "days_after_change": pl.Float64,
}  # fmt: skip
MOST = 5
"""Groups of each dimension that are named for a change."""
NEAR_DAYS = 3


def causes(scope: Scope, days: Days, found: ChangePoints) -> pl.DataFrame:
    """Return for each change the groups that hold most of it: their daily numbers before and after, and their share.

    Compared are the regimes on either side, days set apart or unknown left out, numbers over their weekday's factor. The share
    is the group's difference over that of all alerts; its interval is Welch's on the days' departures from that share.
    """
    if not len(found):
        return pl.DataFrame(schema=CAUSES)
    place, width = days.place(scope.alerts), len(days.numbers)
    inside = (place >= 0) & (place < width)
    place = place[inside]
    usable = days.known.copy()
    usable[found.outliers] = False
    factor = found.factors[np.arange(width) % max(found.factors.size, 1)] if found.factors.size else np.ones(width)
    weight = np.where(usable, 1 / np.maximum(factor, 1e-9), 0.0)
    total = np.bincount(place, minlength=width).astype(np.float64) * weight
    codes: dict[str, tuple[pl.Series, Ints]] = {}
    for dimension, column in DIMENSIONS.items():
        texts = scope.alerts[column].filter(pl.Series(inside)).fill_null("-")
        names = texts.unique().sort()
        number = texts.to_frame("t").join(
            names.to_frame("t").with_row_index("n"), on="t", how="left", maintain_order="left"
        )["n"]
        codes[dimension] = names, number.cast(pl.Int64).to_numpy()
    edges = [0, *found.index.tolist(), width]
    parts = []
    for begin, at, end in zip(edges[:-2], edges[1:-1], edges[2:], strict=True):
        use = usable[begin:end]
        if min(use[: at - begin].sum(), use[at - begin :].sum()) < 2:
            continue
        for dimension, (names, whose) in codes.items():
            rows = _shares(place, whose, len(names), weight, total, usable, (begin, at, end))
            if rows is not None:
                chosen, table = rows
                parts.append(
                    pl.DataFrame(
                        {"change": date_of(days.numbers[at]), "dimension": dimension, "group": names.gather(chosen), **table}
                    )
                )  # fmt: skip
    if not parts:
        return pl.DataFrame(schema=CAUSES)
    made = pl.concat(parts).select(pl.col(name).cast(dtype) for name, dtype in CAUSES.items())
    return made.with_columns(pl.col(pl.Float64).fill_nan(None)).sort(
        ["change", "share_of_change", "dimension", "group"], descending=[False, True, False, False], nulls_last=True
    )


def _shares(
    place: Ints, number: Ints, groups: int, weight: Floats, total: Floats, usable: NDArray[np.bool_], span: tuple[int, int, int]
) -> tuple[Ints, dict[str, Floats]] | None:  # fmt: skip
    """Return the groups with the largest differences between two regimes, and their numbers."""
    begin, at, end = span
    near = (place >= begin) & (place < end) & (weight[place] > 0)
    where, who = place[near], number[near]
    after = where >= at
    n0, n1 = usable[begin:at].sum(), usable[at:end].sum()
    gain = np.bincount(who, np.where(after, weight[where] / n1, -weight[where] / n0), minlength=groups)
    chosen = np.argsort(-np.abs(gain), kind="stable")[:MOST]
    chosen = chosen[gain[chosen] != 0]
    if not chosen.size:
        return None
    row = np.full(groups, -1)
    row[chosen] = np.arange(chosen.size)
    mine = row[who] >= 0
    width = end - begin
    matrix = np.bincount(
        row[who[mine]] * width + where[mine] - begin, weight[where[mine]], minlength=chosen.size * width
    )
    matrix = matrix.reshape(chosen.size, width)
    unknown = ~usable[begin:end]
    whole = np.where(unknown, np.nan, total[begin:end])
    matrix[:, unknown] = np.nan
    found = welch(matrix, at - begin, variance_at_least=INTEGER_VARIANCE)
    difference = np.nanmean(whole[at - begin :]) - np.nanmean(whole[: at - begin])
    share = found.change / difference
    apart = welch(matrix - share[:, None] * whole, at - begin)
    half = np.nan_to_num((apart.high - apart.low) / 2) / abs(difference)
    return chosen, {
        "share_of_change": share, "share_low": share - half, "share_high": share + half, "per_day_before": found.before,
        "per_day_after": found.after, "difference": found.change, "low": found.low, "high": found.high,
    }  # fmt: skip


def happenings(scope: Scope, found: ChangePoints) -> pl.DataFrame:
    """Return what happened within `NEAR_DAYS` of the interval of each change: releases, lists, notes, feeds, new versions."""
    if not len(found) or scope.span is None:
        return pl.DataFrame(schema=HAPPENED)
    told = scope.history.journal.filter(pl.col("kind").is_in(["release", "list_update", "note"]))
    words = {"release": "rule released", "list_update": "list updated", "note": "note"}
    rows = told.select(
        pl.col("kind").replace_strict(words, return_dtype=pl.String).alias("what"), "name", "value", "at"
    )
    began = scope.history.journal.filter(pl.col("kind") == "covered").group_by("name").agg(pl.col("at").min())
    feed_began = began.select(what=pl.lit("feed recorded first"), name="name", value=pl.lit(None, pl.String), at="at")
    gaps = [("feed gap", feed.name, f"{(b - a) / HOUR:.3g} hours", a) for feed in feeds(scope) for a, b in feed.gaps]
    gap = pl.DataFrame(
        gaps, schema={"what": pl.String, "name": pl.String, "value": pl.String, "at": pl.Int64}, orient="row"
    )
    raised = scope.history.alerts.filter(pl.col("rule_id").is_not_null(), ~pl.col("is_test"))
    first = raised.group_by("rule_id", "rule_version").agg(pl.col("created_at").min().alias("at"))
    version = first.select(
        what=pl.lit("first alert of a rule's version"), name="rule_id", value="rule_version", at="at"
    )
    happened = pl.concat([rows, feed_began, gap.with_columns(pl.col("at").cast(pl.Datetime("us", "UTC"))), version])
    times = happened["at"].dt.epoch("us").to_numpy()
    calendar = Calendar("1d", scope.zone)
    parts = []
    for date, early, late in zip(found.date, found.first_date, found.last_date, strict=True):
        begin, low, high = (calendar.begin(int(np.datetime64(d, "D").astype(np.int64))) for d in (date, early, late))
        near = (times >= low - NEAR_DAYS * DAY) & (times < high + (NEAR_DAYS + 1) * DAY)
        after = pl.Series("days_after_change", (times[near] - begin) / DAY)
        parts.append(happened.filter(pl.Series(near)).with_columns(after, change=pl.lit(str(date))))
    made = pl.concat(parts).select(pl.col(name).cast(dtype) for name, dtype in HAPPENED.items())
    return made.sort("change", pl.col("days_after_change").abs(), "what", "name", "value")
