"""Metrics: the numbers a SOC is run by, each a pure function of the alert log.

Enters: a log, or a history from anywhere, and a wish: from when to when, in which zone, as of when. Leaves: `Answer`s;
each says how it is defined, how many alerts it rests on, and how many were left out and why. Layer: metrics, beside
questions.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tocsin.metrics.scope import MetricError, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date, datetime

    from tocsin.answers import Answer
    from tocsin.lifecycle import History
    from tocsin.workhours import WorkHours


@dataclass(frozen=True, eq=False)
class Metrics:
    """All metrics over one scope: `scope` says which alerts, `work` when people work."""

    scope: Scope
    work: WorkHours

    def overview(self, **wish: Any) -> Answer:
        """How many alerts, investigations, incidents, notifications; how many needed nothing; how many are undecided."""
        return self._ask("overview", "overview", **wish)

    def funnel(self) -> Answer:
        """How many of the events became alerts, were triaged, investigated, became incidents."""
        return self._ask("overview", "funnel")

    def arrivals(self, **wish: Any) -> Answer:
        """When alerts arrive: by weekday and hour, as counts or as rate per hour of exposure."""
        return self._ask("arrivals", "arrivals", work=self.work, **wish)

    def on_off_hours(self) -> Answer:
        """How many arrive in and outside of working hours, beside the share of hours that these are."""
        return self._ask("arrivals", "on_off_hours", work=self.work)

    def response(self, **wish: Any) -> Answer:
        """How long until something happens, waiting alerts counted as waiting: median, p90, p99, by severity or rule."""
        return self._ask("response", "response", work=self.work, **wish)

    def time_to_action(self, **wish: Any) -> Answer:
        """How long until a person first acts on an alert."""
        return self.response(**{"clock": "first-action", **wish})

    def slo(self, **wish: Any) -> Answer:
        """Which share of alerts met its target, with its interval."""
        return self._ask("response", "slo", work=self.work, **wish)

    def top_assets(self, **wish: Any) -> Answer:
        """Which hosts, users, systems and addresses occur in most alerts, and on how many days each came back."""
        return self._ask("assets", "top_assets", **wish)

    def change_points(self, **wish: Any) -> Answer:
        """When the number of alerts a day changed, by how much, and what may be behind it."""
        return self._ask("changes", "change_points", **wish)

    def staffing(self, **wish: Any) -> Answer:
        """How many analysts each hour of the week needs for a target."""
        return self._ask("staffing", "staffing", work=self.work, **wish)

    def rules(self, **wish: Any) -> Answer:
        """What each rule costs and brings: alerts, analyst time, precision, escalations, noise."""
        return self._ask("rules", "rules", **wish)

    def backlog(self, **wish: Any) -> Answer:
        """How many alerts wait, and how old they are, at any time."""
        return self._ask("backlog", "backlog", **wish)

    def reopened(self) -> Answer:
        """How many closed alerts were opened again."""
        return self._ask("backlog", "reopened")

    def coverage(self) -> Answer:
        """When which feed delivered: no data is never zero."""
        return self._ask("coverage", "coverage")

    def all(self) -> dict[str, Answer]:
        """Every metric by its name, computed on all cores; one that the log cannot answer is empty and says why."""
        from tocsin.metrics.together import together

        asked = {
            "overview": self.overview, "funnel": self.funnel, "arrivals": self.arrivals, "on_off_hours": self.on_off_hours,
            "time_to_action": self.time_to_action, "slo": self.slo, "top_assets": self.top_assets,
            "change_points": self.change_points, "staffing": self.staffing, "rules": self.rules, "backlog": self.backlog,
            "reopened": self.reopened, "coverage": self.coverage,
        }  # fmt: skip
        return together([self.scope], asked)

    def _ask(self, module: str, name: str, **wish: Any) -> Answer:
        answer: Answer = getattr(import_module(f"tocsin.metrics.{module}"), name)(self.scope, **wish)
        return answer.in_zone(self.scope.zone)


def of(
    log: Any,
    *,
    since: datetime | date | str | None = None,
    until: datetime | date | str | None = None,
    zone: str = "UTC",
    hours: WorkHours | str | tuple[float, float] | None = None,
    holidays: str | Iterable[date] | None = None,
    as_of: datetime | date | str | None = None,
    tests: bool = False,
) -> Metrics:
    """Return the metrics of an alert log, or of an imported history.

    Args:
        log: `Alerts`, or a `History`.
        since: Alerts created from here on. A date, or text such as "2026-10-01", is the local midnight of ``zone``. Left
            out: from the day of the first alert.
        until: Alerts created before this. Left out: the time the log is looked at.
        zone: IANA zone of days, hours and weeks.
        hours: When people work, see `WorkHours`; (9, 17) is Monday to Friday. Left out: those.
        holidays: Days off, or a country as `WorkHours` takes it.
        as_of: Look at the log as it was then; read as ``since`` is. Left out: at the latest time in it.
        tests: Whether test alerts count.
    """
    from tocsin.workhours import WorkHours

    history = history_of(log)
    if (when := local_instant(as_of, zone, "as_of")) is not None:
        history = history.as_of(when)
    scope = Scope(history, local_instant(since, zone, "since"), local_instant(until, zone, "until"), zone, tests)
    return Metrics(scope, WorkHours.of(hours, zone=zone, holidays=holidays))


def history_of(log: Any) -> History:
    """Return the history of a log, or the history that was given.

    Raises:
        MetricError: It is neither; the message says what to write.
    """
    from tocsin.lifecycle import History

    if isinstance(log, History):
        return log
    found = getattr(log, "history", None)
    found = found() if callable(found) else found
    if not isinstance(found, History):
        raise MetricError(
            f"Metrics are of an alert log or a history, not of {type(log).__name__}. Write tc.metrics.of(tc.Alerts({log!r}))"
            f" or tc.metrics.of(tc.read_history({log!r}))."
            if isinstance(log, str)
            else f"Metrics are of an alert log (tc.Alerts), a history, or what tc.read_history gives; not of {type(log).__name__}."
        )
    # A log is looked at at a time; without one it is the latest that it knows of.
    return found if found.at is not None or found.seen_at is None else found.as_of(found.seen_at)


def local_instant(value: datetime | date | str | None, zone: str, what: str) -> datetime | None:
    """Return a date, a text or a datetime as an instant; what has no zone is local to ``zone``.

    >>> local_instant("2026-07-01", "America/Denver", "since").isoformat()
    '2026-07-01T06:00:00+00:00'
    """
    from datetime import UTC, datetime

    from tocsin.calendars import load_zone

    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise MetricError(f"{what}: {value!r} is not a time; write 2026-01-31 or 2026-01-31T12:00.") from None
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return (value if value.tzinfo else value.replace(tzinfo=load_zone(zone))).astimezone(UTC)


__all__ = ["MetricError", "Metrics", "Scope", "of"]
