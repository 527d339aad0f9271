"""Arrivals: when alerts come, by weekday and hour, by day, in and outside of working hours.

Enters: a scope, working hours. Leaves: `Answer`s whose rates are over the hours in which alerts could be seen. Layer:
metrics, above exposure.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from tocsin.answers import Answer
from tocsin.calendars import DAY, HOUR, Calendar, complement, instant_us, union
from tocsin.errors import did_you_mean
from tocsin.metrics.exposure import CELLS, Exposure, cell_hours, exposure, week_cells
from tocsin.metrics.scope import MetricError
from tocsin.stats import rates
from tocsin.views import Chart
from tocsin.workhours import DAYS, WorkHours, time_before

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tocsin.metrics.scope import Scope

    Int64s = NDArray[np.int64]
    Floats = NDArray[np.float64]

VALUES: Final = ("rate", "count")
NOTHING: Final = "No alert was created in this span."
_EPOCH: Final = date(1970, 1, 1)


def weekly(scope: Scope | None, *, before: bool = False) -> tuple[Int64s, Int64s, Floats]:
    """Return alerts, alerts while exposed, and hours of exposure of each hour of the week; 168 numbers each."""
    if scope is None:
        return np.zeros(CELLS, np.int64), np.zeros(CELLS, np.int64), np.zeros(CELLS)
    seen = exposure(scope, since_first_alert=before)
    at = scope.created_us
    cells = week_cells(at, scope.zone)
    exposed = np.bincount(cells[seen.holds(at)], minlength=CELLS)
    return np.bincount(cells, minlength=CELLS), exposed, cell_hours(seen.spans, scope.zone)


def rate_columns(exposed: Any, hours: Any, suffix: str = "") -> dict[str, pl.Series]:
    """Return alerts an hour with Garwood's 95 % interval; null where there was no exposure."""
    found = rates.rate(exposed, hours)
    told = {"alerts_per_hour": found.estimate, "low": found.low, "high": found.high}
    return {name + suffix: pl.Series(np.atleast_1d(v), dtype=pl.Float64).fill_nan(None) for name, v in told.items()}


def arrivals(scope: Scope, *, value: str = "rate", work: WorkHours | None = None) -> Answer:
    """Return how many alerts arrive in each hour of the week, as counts and per hour of exposure.

    Args:
        scope: Which alerts.
        value: What the chart shows: "rate", alerts per hour of exposure, or "count", their number.
        work: Working hours to outline in the chart.

    Raises:
        MetricError: Another ``value``.
    """
    if value not in VALUES:
        raise MetricError(f"value is one of {', '.join(VALUES)}; not {value!r}.{did_you_mean(value, VALUES)}")
    total, exposed, hours = weekly(scope)
    total_before, exposed_before, hours_before = weekly(scope.before, before=True)
    earlier = rate_columns(exposed_before, hours_before, "_before")
    table = pl.DataFrame(
        {
            "weekday": [DAYS[c // 24] for c in range(CELLS)],
            "hour": [c % 24 for c in range(CELLS)],
            "alerts": total,
            "alerts_exposed": exposed,
            "exposed_hours": hours,
            **rate_columns(exposed, hours),
            "alerts_before": total_before,
            "exposed_hours_before": hours_before,
            "alerts_per_hour_before": earlier["alerts_per_hour_before"],
        }
    )
    if scope.span is None:
        table = table.clear()
    seen = exposure(scope)
    n = int(total.sum())
    left = n - int(exposed.sum())
    return Answer(
        "When do alerts arrive?",
        f"Alerts by the weekday and hour that a clock in {scope.zone} showed when they were created, each alert once. Exposure is the"
        " time in which one could have been seen: hours that the zone skips have none, hours that it repeats"
        " twice as much. Rates are alerts while exposed per hour of exposure, with the exact 95 % interval of a Poisson count"
        f" (bursts vary more). _before is the span of the same length just before. {scope.words()}",
        table,
        (*seen.notes(), *_unexposed(left)),
        {"By hour of the day": _by_hour(table), "By day": _by_day(scope, seen)},
        _heatmap(table, value, scope, work),
        empty="" if n else NOTHING,
        facts={
            "alerts": n,
            "exposed_hours": seen.hours,
            "alerts_per_hour": _ratio(n - left, seen.hours),
            "alerts_before": int(total_before.sum()),
            "alerts_per_hour_before": _ratio(int(exposed_before.sum()), float(hours_before.sum())),
        },
        n=n,
        as_of=scope.as_of,
    )


def _unexposed(left: int) -> tuple[str, ...]:
    if not left:
        return ()
    return (
        f"{left:,} alerts were created while a feed did not deliver: counted in alerts, left out of rates and shares.",
    )


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _by_hour(table: pl.DataFrame) -> pl.DataFrame:
    """Return the sums over the weekdays for each hour of the day."""
    sums = pl.col("alerts", "alerts_exposed", "exposed_hours").sum()
    hours = table.group_by("hour").agg(sums).sort("hour")
    return hours.with_columns(**rate_columns(hours["alerts_exposed"], hours["exposed_hours"]))


def _by_day(scope: Scope, seen: Exposure) -> pl.DataFrame:
    """Return the sums of each local day of the span; a date that the zone skipped is none."""
    schema = {
        "day": pl.Date,
        "weekday": pl.String,
        "alerts": pl.Int64,
        "alerts_exposed": pl.Int64,
        "exposed_hours": pl.Float64,
    }
    if scope.span is None:
        return pl.DataFrame(schema=schema)
    days = Calendar("1d", scope.zone)
    touched = days.touched(*(instant_us(t) for t in scope.span))
    begins = np.array([days.begin(d) for d in (*touched, touched.stop)], np.int64)
    at = scope.created_us
    day = days.number(at) - touched.start
    before = time_before(seen.spans, begins)
    dates = [_EPOCH + timedelta(days=d) for d in touched]
    columns = {
        "day": dates,
        "weekday": [DAYS[d.weekday()] for d in dates],
        "alerts": np.bincount(day, minlength=len(touched)),
        "alerts_exposed": np.bincount(day[seen.holds(at)], minlength=len(touched)),
        "exposed_hours": np.diff(before) / HOUR,
    }
    return pl.DataFrame(columns, schema=schema).filter(pl.Series(np.diff(begins) > 0))


def _heatmap(table: pl.DataFrame, value: str, scope: Scope, work: WorkHours | None) -> Chart:
    shown, unit = ("alerts_per_hour", "alerts per hour") if value == "rate" else ("alerts", "alerts")
    data = table.select(label="weekday", hour="hour", value=pl.col(shown).cast(pl.Float64), exposure="exposed_hours")
    outline = [] if work is None or work.zone != scope.zone else _outline(work)
    words = {"unit": unit, "outline": outline, "outline_name": "working hours"}
    return Chart(
        "heatmap",
        f"When do alerts arrive? {unit}, {scope.zone}",
        data,
        x=f"hour of the day ({scope.zone})",
        words=words,
    )


def _outline(work: WorkHours) -> list[tuple[int, float, float]]:
    """Return the working hours of a week as (weekday, from hour, to hour), cut at midnight."""
    monday = 4 * DAY  # 1970-01-05, on whatever clock: the pattern, without zone and holidays
    plain = WorkHours(work.week).spans(monday - 7 * DAY, monday + 14 * DAY)
    cut = [np.clip(plain, monday + d * DAY, monday + (d + 1) * DAY) - (monday + d * DAY) for d in range(7)]
    return [(d, a / HOUR, b / HOUR) for d, spans in enumerate(cut) for a, b in spans.tolist() if a < b]


def on_off_hours(scope: Scope, *, work: WorkHours) -> Answer:
    """Return which share of alerts arrives in working hours and outside of them, beside the share of hours that these are.

    Args:
        scope: Which alerts.
        work: When people work.
    """
    now, before = _split(scope, work), _split(scope.before, work, before=True)
    table = pl.DataFrame(
        {"part": ["working hours", "off hours"], **now, **{f"{k}_before": v for k, v in before.items()}}
    )
    table = table.drop("share_low_before", "share_high_before", "low_before", "high_before", "alerts_exposed_before")
    if scope.span is None:
        table = table.clear()
    n = int(scope.created_us.size)
    left = n - int(now["alerts_exposed"].sum())
    ratio, p = rates.rate_ratio(*(float(now[c][i]) for i in (1, 0) for c in ("alerts_exposed", "hours")))
    seen = exposure(scope)
    bars = [
        (f"{part}: {what}", None if share is None else round(100 * share, 1))
        for part, row in zip(("off hours", "working hours"), (1, 0), strict=True)
        for what, share in (("share of alerts", now["share"][row]), ("share of hours", now["share_of_hours"][row]))
    ]
    return Answer(
        "How much arrives outside of working hours?",
        f"Working hours are {work}; by the clock of that zone, an hour that it skips is nobody's and one that it repeats is"
        " worked twice; a shift belongs to the day on which it begins, and a holiday takes away the shifts that begin on it."
        " Shares are of alerts created while exposed, each alert once, with Wilson's 95 % interval; share_of_hours is what"
        f" one would expect if alerts came evenly. _before is the span of the same length just before. {scope.words()}",
        table,
        (*seen.notes(), *_unexposed(left)),
        chart=Chart(
            "bars",
            "How much arrives outside of working hours?",
            pl.DataFrame(bars, schema={"label": pl.String, "count": pl.Float64}, orient="row").drop_nulls(),
            x="% of all",
        ),
        empty="" if n - left else (NOTHING if not n else "No alert was created while a feed delivered."),
        facts={
            "off_hours_share": now["share"][1],
            "off_hours_share_of_time": now["share_of_hours"][1],
            "off_hours_rate_ratio": _known(ratio.estimate),
            "off_hours_rate_ratio_low": _known(ratio.low),
            "off_hours_rate_ratio_high": _known(ratio.high),
            "p": _known(p),
        },
        n=n,
        as_of=scope.as_of,
    )


def _known(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _split(scope: Scope | None, work: WorkHours, *, before: bool = False) -> dict[str, pl.Series]:
    """Return the columns of a span, two rows: in working hours, and outside."""
    times, seen = np.zeros(0, np.int64), Exposure(np.zeros((0, 2), np.int64))
    if scope is not None:
        times, seen = scope.created_us, exposure(scope, since_first_alert=before)
    worked = work.spans(seen.from_us, seen.to_us)
    off = complement(worked, seen.from_us, seen.to_us)
    on = work.is_on(times)
    exposed = times[seen.holds(times)]
    during = work.is_on(exposed)
    k = np.array([during.sum(), (~during).sum()], np.int64)
    hours = np.array([np.diff(union(np.concatenate([seen.spans, part]), 2)).sum() for part in (worked, off)]) / HOUR
    share = rates.wilson(k, exposed.size)
    floats = {
        "share": share.estimate, "share_low": share.low, "share_high": share.high,
        "hours": hours, "share_of_hours": hours / hours.sum() if hours.sum() else hours * np.nan,
    }  # fmt: skip
    counts = {"alerts": pl.Series([int(on.sum()), int((~on).sum())]), "alerts_exposed": pl.Series(k)}
    told = {name: pl.Series(v, dtype=pl.Float64).fill_nan(None) for name, v in floats.items()}
    return counts | told | rate_columns(k, hours)
