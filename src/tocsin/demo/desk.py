"""The demo's second half: the findings become alerts, simulated analysts triage them, and the week is reported.

Enters: findings, the truth, a folder. Leaves: the alert log ``soc.db`` and the weekly report in it. Layer: demo.

Who did what is known here, so that the analysts' verdicts can be right or wrong about something; the log holds only what
they decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

import polars as pl

from tocsin.alerts import Alerts
from tocsin.demo.judging import subject_days
from tocsin.lifecycle import History
from tocsin.reports import weekly
from tocsin.sources.simulate.analysts import triage

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from tocsin.reports import Report
    from tocsin.sources.simulate import Truth

LOG = "soc.db"
LEARNING_DAYS = 14
"""How long rules only learn before anybody is alerted: at first every device is a first one."""
FEED = "events"
"""The name of the demo's only feed in the journal."""


@dataclass(frozen=True, slots=True)
class Triaged:
    """What became of the findings: how many alerts they made, and the report of the last whole week."""

    alerts: int
    activities: int
    report: Report
    page: Path


def triage_findings(folder: Path, findings: pl.DataFrame, truth: Truth, events: pl.DataFrame, seed: int) -> Triaged:
    """Raise alerts of all findings but informational ones, let a desk triage them, and write the last week's report.

    The log begins when the rules have learnt for two weeks. events: one row a UTC day, ``day`` and ``events``; what the feed
    brought. The log is made anew and looked at a day after the last event, so that the same seed gives the same bytes.
    """
    path = folder / LOG
    for name in (LOG, f"{LOG}-wal", f"{LOG}-shm"):
        (folder / name).unlink(missing_ok=True)
    events = events.sort("day").slice(LEARNING_DAYS)
    days: list[date] = events["day"].to_list()
    begin, end = _midnight(days[0]), _midnight(days[-1]) + timedelta(days=1)
    with Alerts(path, clock=lambda: end) as log:
        log.add(findings.filter(pl.col("severity") != "informational", pl.col("time") >= begin), source="backtest")
        raised = log.history()
        true = _true(raised.alerts, truth)
        made = triage(raised.alerts, seed, until=end, true=true).history if raised.alerts.height else raised
        nothing = raised.alerts.clear()
        journal = pl.concat([made.journal, History.of(nothing, journal=_delivered(events, begin, end)).journal])
        log.import_history(History(nothing, made.activities, journal=journal))
        history = log.history()
    report = weekly(history)
    page = folder / "report.html"
    page.write_text(report.to_html(), encoding="utf-8")
    (folder / "report.md").write_text(report.to_markdown(), encoding="utf-8")
    return Triaged(history.alerts.height, history.activities.height, report, page)


def _true(alerts: pl.DataFrame, truth: Truth) -> pl.Series:
    """Return the ids of the alerts whose entity a planted story has on their day."""
    days = subject_days(truth.stories).select(entity="subject", day="day")
    dated = alerts.select("alert_id", "entity", day=pl.col("created_at").dt.date())
    return dated.join(days, on=["entity", "day"], how="semi")["alert_id"]


def _delivered(events: pl.DataFrame, since: datetime, until: datetime) -> pl.DataFrame:
    """Return the journal of the feed: it delivered throughout, and so many events a day."""
    begins = pl.col("day").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    days = events.select(
        kind=pl.lit("events"),
        name=pl.lit(FEED),
        at=begins,
        until=begins + pl.duration(days=1),
        number=pl.col("events").cast(pl.Float64),
    )
    covered = pl.DataFrame({"kind": ["covered"], "name": [FEED], "at": [since], "until": [until]})
    return pl.concat([days, covered], how="diagonal")


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
