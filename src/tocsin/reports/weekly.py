"""The weekly report: five numbers against last week, what changed, what was missed, which rules to tune.

Enters: a history, and which week in which zone. Leaves: a `Report`. Layer: reports.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from tocsin import metrics
from tocsin.answers import Answer
from tocsin.calendars import load_zone
from tocsin.metrics import MetricError
from tocsin.metrics.assets import KINDS
from tocsin.metrics.together import together
from tocsin.reports.digests import digest_of
from tocsin.reports.report import Report
from tocsin.views import Chart
from tocsin.views.page import Tile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tocsin.alerts import Alerts
    from tocsin.lifecycle import History
    from tocsin.workhours import WorkHours

WEEKS_BACK = 12
"""How many weeks of history the search for changes sees before the reported one."""
CHART_ONLY: Final = ("-",)
"""A table of a row an hour says little to a reader: it is folded away."""
READ_FIRST: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "numbers": ("number", "unit", "this_week", "last_week", "change", "definition"),
        "changes": ("since", "until", "mean", "effect", "p", "earliest", "latest"),
        "slo": ("severity", "target_minutes", "n", "waiting", "in_time_share", "low", "high", "missed", "before_in_time_share"),
        "missed": ("severity", "rule_id", "created_at", "minutes", "target_minutes", "reason"),
        "response": ("severity", "n", "waiting", "median_minutes", "p90_minutes", "p99_minutes", "naive_mean_minutes",
                     "before_p90_minutes"),
        "rules": ("rule", "alerts", "trend", "minutes", "precision", "precision_low", "precision_high", "unjudged",
                  "escalated", "waste_minutes_at_least"),
        "arrivals": CHART_ONLY,
        "hours": ("part", "alerts", "share", "share_low", "share_high", "share_of_hours", "alerts_per_hour", "share_before"),
        "staffing": CHART_ONLY,
        "backlog": CHART_ONLY,
        **{f"assets-{kind}": ("asset", "alerts", "share", "days", "first_seen", "last_seen", "alerts_before") for kind in KINDS},
        "funnel": ("stage", "count", "before", "share_of_stage_before", "share_of_alerts", "definition"),
        "coverage": ("feed", "share_covered", "covered_hours", "gap_hours", "gaps", "longest_gap_hours", "days_with_a_gap"),
        "changes-by-rule": ("group", "date", "earliest", "latest", "per_day_before", "per_day_after", "ratio", "q"),
        "reopened": ("rule", "closed", "reopened", "share", "share_low", "share_high", "share_before"),
    }
)  # fmt: skip
"""Of each answer the columns that the page and the Markdown show."""
_WEEK = re.compile(r"(\d{4})-W(\d{2})")


def week_of(text: str | date | None, history: History, zone: str) -> tuple[date, date]:
    """Return Monday and the Monday after it of a week: "2026-W46", a day in it, or None for the last whole one.

    Raises:
        MetricError: The text names no week; or None was given and the log is empty.

    >>> from tocsin.lifecycle import History
    >>> import polars as pl
    >>> nothing = History.of(pl.DataFrame(schema={"alert_id": pl.String, "created_at": pl.Datetime("us", "UTC")}))
    >>> week_of("2026-W46", nothing, "UTC")
    (datetime.date(2026, 11, 9), datetime.date(2026, 11, 16))
    """
    if text is None:
        if history.seen_at is None:
            raise MetricError("The log is empty: name the week, such as 2026-W46.")
        today = history.seen_at.astimezone(load_zone(zone)).date()
        day = today - timedelta(days=today.weekday() + 7)
    else:
        day = _day_of(text)
    monday = day - timedelta(days=day.weekday())
    return monday, monday + timedelta(days=7)


def _day_of(text: str | date) -> date:
    if isinstance(text, date):
        return text
    named = _WEEK.fullmatch(text)
    try:
        return date.fromisocalendar(int(named[1]), int(named[2]), 1) if named else date.fromisoformat(text)
    except ValueError:
        raise MetricError(f"{text!r} is no week; write 2026-W46, or a day in it such as 2026-11-12.") from None


def weekly(
    log: Alerts | History,
    week: str | date | None = None,
    *,
    zone: str = "UTC",
    hours: WorkHours | str | tuple[float, float] | None = None,
    holidays: str | None = None,
    targets: Mapping[str, float] | float | None = None,
) -> Report:
    """Return the report of one week, seen at the history's time: same inputs, same report.

    Args:
        log: The alert log, or its `History`; cut that (`History.as_of`) to see the week as of another time.
        week: As `week_of` takes it.
        zone: Whose weeks and hours.
        hours: When people work, as `metrics.of` takes it.
        holidays: Days off, as `metrics.of` takes them.
        targets: Minutes to the first action by severity, as `slo` takes them.
    """
    history = metrics.history_of(log)
    monday, after = week_of(week, history, zone)
    begins = metrics.local_instant(monday, zone, "week")
    if history.seen_at is not None and begins is not None and begins >= history.seen_at:
        raise MetricError(
            f"The week from {monday} lies after all that the log knows ({history.seen_at:%Y-%m-%d %H:%M} UTC)."
        )
    # Sums of floats depend on the order of the rows in their last bit, and a report's bytes must not.
    history = replace(history, alerts=history.alerts.sort("created_at", "alert_id"))

    began = _began(history, zone)

    def over(back: int) -> metrics.Metrics:
        start = monday - timedelta(weeks=back)
        if back and began is not None:
            start = min(max(start, began), monday)  # what lies before the log is unknown, not quiet
        return metrics.of(history, since=start, until=after, zone=zone, hours=hours, holidays=holidays)

    this, longer = over(0), over(WEEKS_BACK)
    found = together(
        [this.scope, longer.scope],
        {
            "numbers": lambda: _five(this, targets),
            "changes": longer.change_points,
            "changes-by-rule": lambda: longer.change_points(by="rule"),
            "slo": lambda: this.slo(targets=targets),
            "response": this.time_to_action,
            "rules": this.rules,
            "arrivals": longer.arrivals,
            "hours": this.on_off_hours,
            "backlog": lambda: this.backlog(every="1h"),
            **{f"assets-{kind}": partial(this.top_assets, kind=kind) for kind in KINDS},
            "funnel": this.funnel,
            "reopened": this.reopened,
            "coverage": longer.coverage,
            "staffing": longer.staffing,
        },
    )
    named = [f"assets-{kind}" for kind in KINDS if found[f"assets-{kind}"].table.height] or ["assets-host"]
    answers: dict[str, Answer] = {}
    for name, answer in found.items():
        if name in named or not name.startswith("assets-"):
            # The targets' answer draws the same curves above.
            answers[name] = replace(answer, chart=None) if name == "response" else answer
        if name == "slo":
            answers["missed"] = _missed(answer, this)
    year, number, _ = monday.isocalendar()
    return Report(
        f"SOC report of week {year}-W{number:02d}", _lead(this, monday, after), answers, digest_of(history),
        tiles=_tiles(answers["numbers"]), columns=READ_FIRST,
    )  # fmt: skip


def _began(history: History, zone: str) -> date | None:
    """Return the first whole local day of which the log knows anything: the day after its first row."""
    covered = history.journal.filter(pl.col("kind").is_in(["covered", "gap"]))["at"].min()
    first = min((t for t in (covered, history.alerts["created_at"].min()) if isinstance(t, datetime)), default=None)
    if first is None:
        return None
    local = first.astimezone(load_zone(zone))
    return local.date() + timedelta(days=local.time() != time())


def _lead(this: metrics.Metrics, monday: date, after: date) -> tuple[str, ...]:
    scope = this.scope
    seen = f"as the log stood at {scope.as_of:%Y-%m-%d %H:%M} UTC" if scope.as_of else "the log is empty"
    said = [f"Monday {monday} to Sunday {after - timedelta(days=1)}, {scope.zone}; {seen}."]
    end = metrics.local_instant(after, scope.zone, "until")
    if scope.as_of is not None and end is not None and scope.as_of < end:
        said.append("The week is not over: its numbers are those so far.")
    return (*said, *scope.history.caveats)


def _tiles(numbers: Answer) -> tuple[Tile, ...]:
    """Return the five numbers for the head of the page."""
    made = []
    for row in numbers.table.iter_rows(named=True):
        now, then = (_said(row["unit"], row[week]) for week in ("this_week", "last_week"))
        # A quantile that too many waiting alerts keep unknown is later than all that is known.
        nothing = "not reached" if row["unit"] == "minutes" and numbers.n else "not known"
        made.append(Tile(row["number"], now or nothing, f"last week {then}" if then else "", row["definition"]))
    return tuple(made)


def _missed(slo: Answer, this: metrics.Metrics) -> Answer:
    """Return the alerts that missed their target as an answer of their own, the worst first."""
    missed, reasons = slo.more["Missed"], slo.more["Why missed"]
    return Answer(
        "Which alerts missed their target?", f"As above; each with the first reason of this list that holds. {this.scope.words()}", missed,
        more={"Why missed": reasons}, empty="" if missed.height else "None did.",
        chart=Chart("bars", "Alerts that missed their target", reasons.select(label="reason", count="alerts"), x="alerts", y="reason"),
        n=slo.n, as_of=slo.as_of,
    )  # fmt: skip


def _five(this: metrics.Metrics, targets: Mapping[str, float] | float | None) -> Answer:
    """Return the five numbers a week is judged by, each beside last week's and with what it means."""
    overview, backlog = this.overview(), this.backlog(every="1h")
    took, kept = this.time_to_action(by=None), this.slo(by=None, targets=targets)
    counts = {row["measure"]: row for row in overview.table.iter_rows(named=True)}
    nothing = (0 if this.scope.span else None, None)  # an empty week of a log that reaches over it has no alerts
    one, met = (_only(answer.table) for answer in (took, kept))
    waiting = backlog.table["waiting"] if backlog.table.height else pl.Series([], dtype=pl.Int64)
    rows = [
        ("alerts raised", "alerts", *(_pair(counts.get("alerts")) or nothing), "alerts raised in the week"),
        ("first action, 9 of 10 within", "minutes", one.get("p90_minutes"), one.get("before_p90_minutes"),
         "p90 of the time until a person first acts, Kaplan-Meier"),
        ("in time", "share", met.get("in_time_share"), met.get("before_in_time_share"),
         f"alerts on which a person acted in time, by {'the default' if targets is None else 'your'} targets; waiting ones count"),
        ("waiting", "alerts", waiting[-1] if waiting.len() else None, waiting[0] if waiting.len() else None,
         "alerts that are not closed at the end of the week; before: at its beginning"),
        ("incidents", "incidents", *(_pair(counts.get("incidents")) or nothing),
         "distinct incidents that the week's alerts became part of"),
    ]  # fmt: skip
    table = pl.DataFrame(
        [(name, unit, _float(now), _float(then), _minus(now, then), meaning) for name, unit, now, then, meaning in rows],
        schema=dict(zip(READ_FIRST["numbers"], (pl.String, pl.String, pl.Float64, pl.Float64, pl.Float64, pl.String), strict=True)),
        orient="row",
    )  # fmt: skip
    return Answer(
        "Five numbers", f"Each number's definition stands beside it. {this.scope.words()}", table,
        empty="" if this.scope.alerts.height else "No alert was raised in this week.",
        facts={row["number"]: row["this_week"] for row in table.iter_rows(named=True)}, n=this.scope.alerts.height, as_of=this.scope.as_of,
    )  # fmt: skip


def _only(table: pl.DataFrame) -> dict[str, Any]:
    return table.row(0, named=True) if table.height else {}


def _pair(row: dict[str, Any] | None) -> tuple[Any, Any] | None:
    return (row["count"], row["before"]) if row else None


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _minus(now: Any, then: Any) -> float | None:
    return None if now is None or then is None else float(now) - float(then)


def _said(unit: str, value: float | None) -> str:
    """Say a number as a person would; nothing where there is none.

    >>> _said("share", 0.656), _said("minutes", 711.3), _said("alerts", None)
    ('65.6 %', '11.9 h', '')
    """
    if value is None:
        return ""
    if unit == "share":
        return f"{value:.1%}".replace("%", " %")
    if unit == "minutes":
        return f"{value:.0f} min" if value < 120 else f"{value / 60:.1f} h"
    return f"{value:,.0f}"
