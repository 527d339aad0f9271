"""Changes: on which day the number of alerts a day changed, by how much, and what may be behind it.

Enters: a scope. Leaves: an `Answer`. The search is that of `tocsin.stats.changepoints`, the days those of the span asked for.
Layer: metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.answers import Answer
from tocsin.calendars import DAY
from tocsin.errors import did_you_mean
from tocsin.metrics.causes import causes, happenings
from tocsin.metrics.coverage import BEFORE_UNKNOWN, covered_days, date_of, known_before
from tocsin.metrics.scope import MetricError
from tocsin.stats import changepoints
from tocsin.stats.multiple import benjamini_hochberg
from tocsin.views.regimes import chart_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tocsin.metrics.coverage import Days
    from tocsin.metrics.scope import Scope

    Floats = NDArray[np.float64]

LEAST_DAYS = 14
BY = {"severity": "severity", "rule": "rule_id"}
GROUPS = {
    "group": pl.String, "date": pl.String, "earliest": pl.String, "latest": pl.String, "per_day_before": pl.Float64,
    "per_day_after": pl.Float64, "ratio": pl.Float64, "p": pl.Float64, "q": pl.Float64,
}  # fmt: skip
TITLE = "When did the number of alerts a day change?"


def change_points(scope: Scope, *, by: str | None = None, method: str = "counts", **options: Any) -> Answer:
    """Find the days on which the number of alerts a day changed for good, and rank what may be behind each change.

    Days are local days of the span asked for: a day without alerts is zero, one on which a feed had a gap is missing, and
    days that the span holds in part are left out and named. ``by`` is None (all alerts), "severity" or "rule": then each
    group is a series of its own, and q adjusts for their number. ``method`` and ``options`` are those of
    `tocsin.stats.changepoints.find`; "notebook" counts as the SOC manager's notebook does, its days and defects included.

    Raises:
        MetricError: ``by`` is none of these, or set together with a method: groups are always counts.
        StatisticsError: No such method or option.

    >>> from datetime import UTC, datetime, timedelta
    >>> from tocsin.lifecycle import History
    >>> from tocsin.metrics import Scope
    >>> start, counts = datetime(2026, 1, 5, tzinfo=UTC), np.random.default_rng(1).poisson(np.repeat([10, 30], 30))
    >>> days = np.repeat(np.arange(60), counts)
    >>> alerts = pl.DataFrame({"created_at": [start + timedelta(days=int(d), hours=9) for d in days]})
    >>> alerts = alerts.with_columns(alert_id=pl.int_range(pl.len()).cast(pl.String), rule_id=pl.lit("r"))
    >>> answer = change_points(Scope(History.of(alerts), start, start + timedelta(days=60)))
    >>> answer.table.select("since", pl.col("mean").round(1), pl.col("effect").round(1)).rows()[1]
    (datetime.date(2026, 2, 4), 29.9, 2.9)
    >>> answer.more["Candidate causes"].filter(pl.col("dimension") == "rule").select("group", pl.col("share_of_change").round(3)).rows()
    [('r', 1.0)]
    """
    if by is not None and by not in BY:
        raise MetricError(
            f"There is no grouping {by!r}.{did_you_mean(by, BY)} There are severity and rule, and None for all alerts."
        )
    if by is not None and (method != "counts"):
        raise MetricError(f"by={by!r} looks at many series of counts at once; method={method!r} is for one.")
    if method == "notebook":
        return _as_the_notebook(scope, **options)
    days = covered_days(scope)
    known = int(days.known.sum())
    if known < LEAST_DAYS:
        why = f"{known} whole days with data; change points need {LEAST_DAYS}."
        table = pl.DataFrame(schema=GROUPS) if by else changepoints.counts([]).to_frame()
        return _nothing(scope, table, why if scope.alerts.height else "No alert was raised in this span.")
    if by is not None:
        return _by_group(scope, days, by, options)
    return _whole(scope, days, method, options)


def _nothing(scope: Scope, table: pl.DataFrame, why: str) -> Answer:
    return Answer(TITLE, f"Alerts a day. {scope.words()}", table, empty=why, n=scope.alerts.height, as_of=scope.as_of)


def _whole(scope: Scope, days: Days, method: str, options: dict[str, Any]) -> Answer:
    values = _daily(scope, days)
    found = changepoints.find(values, method=method, start=days.first, **options)
    chance = (
        f" The chance that a steady number wanders as this one does is {found.p_any:.3g}."
        if np.isfinite(found.p_any)
        else ""
    )
    earlier = known_before(scope)
    definition = (
        f"{len(found)} change{'' if len(found) == 1 else 's'} in {days.words()}{chance} A row is a regime: the mean of its days, the "
        "rate as fitted (weekdays and odd "
        "days taken out), the change it begins with as a ratio (of counts) or a difference, p of that change between its neighbours, and "
        "the interval of its first day. Causes are candidates: how much of the difference of daily numbers, weekdays taken out, lies "
        f"in the alerts of one rule, entity, severity or vendor, with its 95 % interval. {scope.words()}"
    )
    odd = pl.DataFrame({"date": found.dates[found.outliers], "alerts": found.values[found.outliers]})
    more = {
        "Candidate causes": causes(scope, days, found),
        "What happened near the changes": happenings(scope, found),
        "Days set apart": odd,
    }
    before = earlier.alerts.height / earlier.days if earlier is not None and earlier.days else None
    facts = {
        "changes": len(found), "days": int(days.known.sum()), "p_any": found.p_any if np.isfinite(found.p_any) else None,
        "outliers": int(found.outliers.size), "per day": float(np.nanmean(values)), "per day before": before,
        "days left out": list(days.partial), "days unknown": list(days.uncovered),
    }  # fmt: skip
    notes = (*found.warnings, *(() if earlier is not None else (BEFORE_UNKNOWN,)))
    table = found.to_frame().with_columns(pl.col(pl.Float64).fill_nan(None))
    chart = chart_of(found, TITLE, f"day ({scope.zone})", "alerts")
    return Answer(TITLE, definition, table, notes, more, chart, "", facts, n=scope.alerts.height, as_of=scope.as_of)


def _daily(scope: Scope, days: Days) -> Floats:
    """Return the number of alerts of each day; NaN where a feed had a gap."""
    place = days.place(scope.alerts)
    inside = place[(place >= 0) & (place < len(days.numbers))]
    counts = np.bincount(inside, minlength=len(days.numbers)).astype(np.float64)
    counts[~days.known] = np.nan
    return counts


def _by_group(scope: Scope, days: Days, by: str, options: dict[str, Any]) -> Answer:
    """Look at each severity or rule as a series of its own; a rule's q is that of its clearest change among all rules."""
    title = f"When did the number of alerts a day of a {by} change?"
    rows = scope.alerts.select(pl.col(BY[by]).fill_null("-").alias("group"))
    names = rows["group"].unique().sort()
    code = rows.join(names.to_frame().with_row_index("code"), on="group", how="left", maintain_order="left")[
        "code"
    ].to_numpy()
    place, width = days.place(scope.alerts), len(days.numbers)
    inside = (place >= 0) & (place < width)
    counts = np.bincount(code[inside].astype(np.int64) * width + place[inside], minlength=len(names) * width)
    matrix = counts.reshape(len(names), width).astype(np.float64)
    matrix[:, ~days.known] = np.nan
    found = changepoints.batch(matrix, **options)
    # A rule's test is its clearest change, multiplied by how many it has; a rule without a change counts as a test with p = 1.
    changes = np.bincount(found.series, minlength=len(names))
    clearest = np.ones(len(names))
    np.minimum.at(clearest, found.series, found.p)
    q = benjamini_hochberg(np.minimum(clearest * np.maximum(changes, 1), 1))
    dates = np.array([date_of(n) for n in days.numbers])
    table = pl.DataFrame(
        {
            "group": names.gather(found.series), "date": dates[found.index], "earliest": dates[found.first], "latest": dates[found.last],
            "per_day_before": found.before, "per_day_after": found.after, "ratio": found.effect, "p": found.p, "q": q[found.series],
        },
        schema=GROUPS,
    )  # fmt: skip
    table = table.with_columns(pl.when(pl.col(pl.Float64).is_finite()).then(pl.col(pl.Float64)))
    apart = (pl.col("per_day_after") - pl.col("per_day_before")).abs()
    table = table.sort([apart, pl.col("group"), pl.col("date")], descending=[True, False, False])
    definition = (
        f"Changes of {len(names):,} {by} series in {days.words()} Rates are a day, weekdays and odd days taken out; the ratio is after "
        "over before, null where nothing came before. q adjusts the clearest change of each series for their number (Benjamini-Hochberg). "
        f"{int(found.screened.sum()):,} series wandered enough to be looked at in full. {scope.words()}"
    )
    facts = {
        "changes": table.height,
        "series": len(names),
        "looked at in full": int(found.screened.sum()),
        "days": int(days.known.sum()),
    }
    return Answer(title, definition, table, facts=facts, n=scope.alerts.height, as_of=scope.as_of)


def _as_the_notebook(scope: Scope, *, seed: int | None = 0, **options: Any) -> Answer:
    """Count and search as the notebook's cell does: UTC days from the first alert to the last, quiet or not covered as zero."""
    alerts = scope.alerts
    if not alerts.height:
        return _nothing(scope, changepoints.counts([]).to_frame(), "No alert was raised in this span.")
    day = alerts["created_at"].dt.epoch("us").to_numpy() // DAY
    first = int(day.min())
    values = np.bincount(day - first).astype(np.float64)
    found = changepoints.notebook(values, seed=seed, start=date_of(first), **options)
    definition = (
        f"{len(found)} changes as the SOC manager's notebook finds them (seed {seed}), to compare with its output: UTC days from the first "
        f"alert to the last, its off-by-one dates and all. Use the default instead. {scope.words()}"
    )
    facts = {"changes": len(found), "days": values.size}
    table = found.to_frame().with_columns(pl.col(pl.Float64).fill_nan(None))
    chart = chart_of(found, TITLE, "day (UTC)", "alerts")
    return Answer(
        TITLE, definition, table, found.warnings, chart=chart, facts=facts, n=alerts.height, as_of=scope.as_of
    )
