"""Handling time: how many minutes of a person's work an alert takes, from what the log says and never from nothing.

Enters: a scope. Leaves: mean minutes an alert, how they were measured, and from how many. Layer: metrics, above scope.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from tocsin.calendars import MINUTE
from tocsin.metrics.deeds import PEOPLE, WORK, stretches
from tocsin.metrics.scope import MetricError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tocsin.metrics.scope import Scope

    Int64s = NDArray[np.int64]

LEAST: Final = 10
"""Fewer measured alerts than this say nothing about the others."""

_KINDS: Final = (*WORK, "assigned", "closed")


@dataclass(frozen=True)
class Handling:
    """Mean minutes of work an alert: ``source`` says in words where from, ``n`` on how many of ``closed`` alerts it rests."""

    minutes: float
    source: str
    n: int = 0
    closed: int = 0

    def __str__(self) -> str:
        """Say it in words."""
        if not self.minutes:
            return self.source
        rests = f"from {self.n:,} of {self.closed:,} closed alerts: " if self.closed else ""
        return f"{self.minutes:.3g} minutes an alert ({rests}{self.source})"


def handling_time(scope: Scope, given: float | None = None, *, cap_minutes: float = 240.0) -> Handling:
    """Return the handling time of a scope's alerts: as given, else as measured while working, else from assigned to closed.

    Args:
        scope: Which alerts.
        given: Minutes an alert, where it is known from elsewhere.
        cap_minutes: No stretch of work counts as longer: whoever forgot to close an alert did not work through the night.

    Raises:
        MetricError: The log has no times of work, or of too few alerts; the message asks for ``handling_minutes=``.
    """
    if cap_minutes <= 0:
        raise MetricError(f"cap_minutes is above zero; not {cap_minutes}.")
    if given is not None:
        if not 0 < given < np.inf:
            raise MetricError(f"handling_minutes is a number above zero, such as 15; not {given}.")
        return Handling(float(given), "as given")
    # Of an alert that still waits, the work is not all done.
    done = scope.alerts.filter(pl.col("state") == "closed").select("alert")
    events = scope.history.events.filter(pl.col("type").is_in(list(_KINDS)) & PEOPLE)
    events = events.join(done, on="alert", how="semi", maintain_order="left")
    for measure in (_worked, _held):
        found = measure(events, cap_minutes)
        if found.n >= LEAST:
            return replace(found, closed=done.height)
    raise MetricError(
        "How long an alert takes is not in this log: it needs work_started and work_ended, or assigned and closed, of at least"
        f" {LEAST} closed alerts. Say it: handling_minutes=15 (the answer shows what half and twice as much would mean)."
    )


def _worked(events: pl.DataFrame, cap_minutes: float) -> Handling:
    """Sum up each alert's stretches of work."""
    each = stretches(events).group_by("alert").agg(pl.col("minutes").clip(upper_bound=cap_minutes).sum())
    source = f"work_started to work_ended, a stretch at most {cap_minutes:g} minutes, summed for each alert that was worked on"
    return Handling(float(each["minutes"].sum()) / max(each.height, 1), source, each.height)


def _held(events: pl.DataFrame, cap_minutes: float) -> Handling:
    """Take the time from the first assignment or start to the next close; while one person holds several, each gets its part."""
    mine = events.filter(pl.col("type").is_in(["assigned", "work_started", "closed"]))
    first = mine.filter(pl.col("type") != "closed").group_by("alert", maintain_order=True).first()
    who = pl.when(pl.col("type") == "assigned").then("value").otherwise("actor")
    begun = first.select("alert", begun="at", person=who.fill_null(""))
    ended = mine.filter(pl.col("type") == "closed").select("alert", ended="at").join(begun, on="alert", how="inner")
    held = ended.filter(pl.col("ended") > pl.col("begun")).group_by("alert", maintain_order=True).first()
    cap = pl.col("begun") + pl.duration(microseconds=int(cap_minutes * MINUTE))
    held = held.with_columns(pl.min_horizontal("ended", cap).alias("ended"))
    person = held["person"].rank("dense").to_numpy().astype(np.int64)
    busy = busy_us(person, *(held[c].dt.epoch("us").to_numpy() for c in ("begun", "ended")))
    source = (
        f"first assigned or started to closed, at most {cap_minutes:g} minutes, what one person holds at the same time counted once;"
        " elapsed, not worked: waiting is in it too"
    )
    return Handling(busy / MINUTE / max(held.height, 1), source, held.height)


def busy_us(person: Int64s, begin: Int64s, end: Int64s) -> int:
    """Return how long persons held at least one of their spans, summed over persons: the union of each one's spans.

    >>> one, other = 1, 2
    >>> busy_us(np.array([one, one, other]), np.array([0, 5, 0]), np.array([10, 20, 3]))
    23
    """
    order = np.lexsort((begin, person))
    person, begin, end = person[order], begin[order], end[order]
    if not person.size:
        return 0
    # Persons laid end to end on one axis: their spans cannot meet, and one running maximum serves all.
    room = int(end.max() - begin.min()) + 1
    shift = np.cumsum(np.diff(person, prepend=person[0]) != 0) * room - begin.min()
    begin, end = begin + shift, end + shift
    reach = np.maximum.accumulate(end)
    fresh = np.append(begin[0], np.maximum(begin[1:], reach[:-1]))
    return int(np.maximum(end - fresh, 0).sum())
