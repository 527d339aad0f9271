"""Misses: which alerts were not met in time, and the likeliest reason of each.

Enters: a scope, its durations, targets by severity, working hours. Leaves: a row a missed alert, worst first. Layer: metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from tocsin.calendars import HOUR
from tocsin.lifecycle.frames import TIME
from tocsin.lifecycle.words import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tocsin.metrics.scope import Scope
    from tocsin.workhours import WorkHours

MANY_TIMES, FEWEST = 3, 5
MISS: Final[Mapping[str, Any]] = {
    "alert_id": pl.String, "severity": pl.String, "rule_id": pl.String, "created_at": TIME, "minutes": pl.Float64,
    "target_minutes": pl.Float64, "over_minutes": pl.Float64, "reason": pl.String,
}  # fmt: skip
REASONS: Final[Mapping[str, str]] = {
    "still waiting": "it has not ended",
    "handed over": "two people or more had it before it ended",
    "arrived off hours": "it was raised outside working hours",
    "burst": f"in the hour up to it {MANY_TIMES} times the span's mean of alerts an hour were raised, and at least {FEWEST}",
    "long queue": f"{MANY_TIMES} times the usual number (median) waited when it was raised, and at least {FEWEST}",
    "other": "none of these",
}
"""Why an alert missed its target: the first that holds, and what it means."""


def missed(
    scope: Scope, timed: pl.DataFrame, targets: Mapping[str, float], work: WorkHours | None = None
) -> pl.DataFrame:
    """Return the alerts that took, or have waited, longer than their severity's target; columns as in `MISS`.

    Args:
        scope: Whose alerts ``timed`` are, row by row.
        timed: As `clocks.durations` returns.
        targets: Severity -> minutes.
        work: Working hours; without them nothing arrives off hours.
    """
    if not timed.height:
        return pl.DataFrame(schema=dict(MISS))
    target = scope.alerts["severity"].replace_strict(dict(targets), default=None, return_dtype=pl.Float64)
    rows = timed.with_columns(
        *scope.alerts.select("alert_id", "severity", "rule_id", "created_at"), target_minutes=target
    ).filter(pl.col("excluded").is_null())
    created, waiting = _waiting(rows)
    hour = np.arange(1, created.size + 1) - np.searchsorted(created, created - HOUR, "right")
    usual = created.size * HOUR / max(int(created[-1] - created[0]), HOUR) if created.size else 0.0
    rows = rows.sort("created_at", maintain_order=True).with_columns(
        burst=pl.Series(hour >= max(FEWEST, MANY_TIMES * usual)),
        queue=pl.Series(waiting >= max(FEWEST, MANY_TIMES * float(np.median(waiting)) if waiting.size else 0)),
        off=pl.Series(~work.is_on(created)) if work is not None else pl.lit(value=False),
    )
    late = rows.filter(pl.col("minutes") > pl.col("target_minutes")).with_columns(
        over_minutes=pl.col("minutes") - pl.col("target_minutes")
    )
    late = late.join(_people(scope, late), on="alert", how="left", maintain_order="left")
    holds = {
        "still waiting": ~pl.col("ended"),
        "handed over": pl.col("people") >= 2,
        "arrived off hours": pl.col("off"),
        "burst": pl.col("burst"),
        "long queue": pl.col("queue"),
    }
    reason = pl.lit("other")
    for name, condition in reversed(holds.items()):
        reason = pl.when(condition).then(pl.lit(name)).otherwise(reason)
    severity = pl.col("severity").replace_strict(
        {s: -i for i, s in enumerate(SEVERITIES)}, default=1, return_dtype=pl.Int32
    )
    late = late.with_columns(reason=reason).sort(severity, -pl.col("over_minutes"), "alert_id")
    return late.select(*MISS)


def _waiting(rows: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return when the alerts were raised, in order, and how many others waited just then."""
    created = rows["created_at"].cast(pl.Int64).sort().to_numpy()
    begun = rows["started_at"].cast(pl.Int64).sort().to_numpy()
    over = rows["ended_at"].drop_nulls().cast(pl.Int64).sort().to_numpy()
    return created, np.searchsorted(begun, created, "left") - np.searchsorted(over, created, "right")


def _people(scope: Scope, late: pl.DataFrame) -> pl.DataFrame:
    """Return how many people had each late alert until it ended."""
    given = scope.history.events.filter(pl.col("type") == "assigned").select("alert", "at", "value")
    had = given.join(late.select("alert", "ended_at"), on="alert", how="inner")
    had = had.filter(pl.col("at") <= pl.col("ended_at").fill_null(pl.lit(scope.as_of, TIME)))
    return had.group_by("alert").agg(people=pl.col("value").n_unique())


def reasons_of(misses: pl.DataFrame) -> pl.DataFrame:
    """Return how many missed for each reason, and what the reason means."""
    told = pl.DataFrame({"reason": list(REASONS), "meaning": list(REASONS.values())})
    counts = misses.group_by("reason").agg(alerts=pl.len().cast(pl.Int64))
    return told.join(counts, on="reason", how="left", maintain_order="left").with_columns(pl.col("alerts").fill_null(0))
