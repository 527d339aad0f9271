"""The weekly report: five numbers against last week, what changed, what was missed, which rules to tune.

Enters: a history, and which week in which zone. Leaves: a `Report`. Layer: reports.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from tocsin import metrics
from tocsin.calendars import load_zone
from tocsin.metrics import MetricError
from tocsin.reports.digests import digest_of
from tocsin.reports.report import Report

if TYPE_CHECKING:
    from tocsin.lifecycle import History
    from tocsin.workhours import WorkHours

WEEKS_BACK = 12
"""How many weeks of history the search for changes sees before the reported one."""
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
