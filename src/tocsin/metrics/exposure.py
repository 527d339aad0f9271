"""Exposure: the time in which an alert could have been seen, so that no data is never zero.

Enters: a scope. Leaves: spans of UTC microseconds; hours and places in the week by the clock of a zone. Layer: metrics,
above coverage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from tocsin.calendars import DAY, HOUR, Calendar, clock_offsets, complement, instant_us
from tocsin.metrics.coverage import feeds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tocsin.metrics.scope import Scope

    Int64s = NDArray[np.int64]

CELLS: Final = 7 * 24
"""Hours of the week, Monday 00:00 first: cell = 24 weekday + hour."""

_WEEK = 7 * DAY
_TO_MONDAY = 3 * DAY  # 1970-01-01 was a Thursday
_NONE: Final[Int64s] = np.zeros((0, 2), np.int64)


@dataclass(frozen=True, eq=False)
class Exposure:
    """When alerts could be seen: (n, 2) ``spans`` in microseconds UTC, half-open, sorted, disjoint.

    missing: hours in which each feed of the journal did not deliver, by its name. from_us, to_us: what was asked about,
    up to the time the log is looked at.
    """

    spans: Int64s
    from_us: int = 0
    to_us: int = 0
    missing: Mapping[str, float] = field(default_factory=dict)

    @property
    def hours(self) -> float:
        """The length of all spans in hours."""
        return float(np.diff(self.spans).sum()) / HOUR

    def holds(self, us: Int64s) -> NDArray[np.bool_]:
        """Return which instants lie in it."""
        return np.asarray(np.searchsorted(self.spans.ravel(), us, "right") % 2 == 1)

    def notes(self) -> tuple[str, ...]:
        """Say what was missing, in words."""
        told = ", ".join(f"{name} {hours:,.1f} h" for name, hours in self.missing.items())
        return (f"Not covered, so not counted as exposure: {told}.",) if told else ()


def exposure(scope: Scope, *, since_first_alert: bool = False) -> Exposure:
    """Return the exposure of a scope.

    Time in which a feed had a gap, as `coverage.feeds` tells, is no exposure, and neither is the time before anything is
    recorded of a feed. A journal without feeds leaves the whole span, up to the time at which the log is looked at.

    Args:
        scope: Which alerts.
        since_first_alert: Whether an unjournalled log begins on the local day of its first alert. For a span that nobody
            asked for, the one before: a log that did not exist yet saw nothing.
    """
    if scope.span is None:
        return Exposure(_NONE)
    since, until = (instant_us(t) for t in scope.span)
    if scope.history.at is not None:
        until = max(min(until, instant_us(scope.history.at)), since)
    told = feeds(scope)
    begun = min((feed.since for feed in told), default=None)
    if begun is None and since_first_alert:
        begun = _first_day(scope)
    away = [] if begun is None else [(since, begun)]
    away += [gap for feed in told for gap in feed.gaps]
    missing = {feed.name: sum(min(b, until) - min(a, until) for a, b in feed.gaps) / HOUR for feed in told}
    spans = complement(np.array(away, np.int64).reshape(-1, 2), since, until)
    return Exposure(spans, since, until, {name: hours for name, hours in missing.items() if hours})


def _first_day(scope: Scope) -> int | None:
    first = scope.history.alerts["created_at"].dt.epoch("us").min()
    if not isinstance(first, int):
        return None
    days = Calendar("1d", scope.zone)
    return days.begin(int(days.number(np.array([first]))[0]))


def week_cells(us: Int64s, zone: str) -> Int64s:
    """Return the hour of the week (24 weekday + hour, Monday 00:00 is 0) that a zone's clock shows at each instant.

    >>> week_cells(np.array([0, HOUR]), "Asia/Kolkata").tolist()  # 05:30 and 06:30 on a Thursday
    [77, 78]
    """
    if not us.size:
        return np.zeros(0, np.int64)
    begins, offsets = clock_offsets(zone, int(us.min()), int(us.max()) + 1)
    local = us + offsets[np.searchsorted(begins, us, "right") - 1]
    return (local + _TO_MONDAY) // HOUR % CELLS


def cell_hours(spans: Int64s, zone: str) -> NDArray[np.float64]:
    """Return how many hours of all spans a zone's clock showed each hour of the week: 168 numbers, exact.

    An hour that the zone repeats counts twice, one that it skips not at all. Spans that overlap count each.

    >>> from datetime import UTC, datetime
    >>> march = np.array([[instant_us(datetime(2026, 3, day, tzinfo=UTC)) for day in (2, 30)]])
    >>> cell_hours(march, "Europe/Berlin")[[24 * 6 + 1, 24 * 6 + 2]].tolist()  # of four Sundays one had no 02:00
    [4.0, 3.0]
    """
    if not len(spans):
        return np.zeros(CELLS)
    low, high = int(spans[:, 0].min()), int(spans[:, 1].max())
    begins, offsets = clock_offsets(zone, low, high)
    total = np.zeros(CELLS, np.int64)
    for begin, end, offset in zip(begins.tolist(), [*begins[1:].tolist(), high], offsets.tolist(), strict=True):
        inside = np.clip(spans, begin, end) + (offset + _TO_MONDAY)
        inside = inside[inside[:, 0] < inside[:, 1]]
        total += _shown_before(inside[:, 1]) - _shown_before(inside[:, 0])
    return total / HOUR


def _shown_before(local: Int64s) -> Int64s:
    """Return how long, summed over the given local times, each hour of the week was shown from a first Monday until then."""
    weeks, rest = np.divmod(local, _WEEK)
    cell, part = np.divmod(rest, HOUR)
    whole = int(weeks.sum()) * HOUR
    # Of the running week, the hours before the one that is on are whole, and that one lasts for its part.
    at = np.bincount(cell, minlength=CELLS)
    later: Int64s = at.sum() - np.cumsum(at)
    running = np.zeros(CELLS, np.int64)
    np.add.at(running, cell, part)
    return whole + later * HOUR + running
