"""Scope: which alerts a metric counts, seen from when, and what was left out and why.

Enters: a history and the wish of the person who asks. Leaves: a frozen value that every metric is a function of.
Layer: metrics, its ground floor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tocsin.calendars import DAY, Calendar, instant_us, load_zone, moment
from tocsin.errors import TocsinError
from tocsin.lifecycle.frames import TIME

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tocsin.lifecycle import History


class MetricError(TocsinError):
    """A metric that cannot be computed from what is there, or a wish that makes no sense."""


@dataclass(frozen=True, eq=False)
class Scope:
    """Alerts created from ``since`` (included) to ``until`` (not), as they stand at the history's time.

    history: already cut at the time asked for. since, until: None is the local day of the first alert, and the time the
    history is looked at. zone: IANA name; days, hours and weeks are its own. tests: whether test alerts count.
    """

    history: History
    since: datetime | None = None
    until: datetime | None = None
    zone: str = "UTC"
    tests: bool = False

    def __post_init__(self) -> None:
        """Refuse a zone that does not exist and a span that ends before it begins."""
        load_zone(self.zone)
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise MetricError(f"since {self.since} is not before until {self.until}.")

    @property
    def as_of(self) -> datetime | None:
        """The time at which the alerts are looked at; None for a history without a row."""
        return self.history.seen_at

    @cached_property
    def span(self) -> tuple[datetime, datetime] | None:
        """From when to when, both known; None for a history without a row, or where there is no alert to take them from."""
        if self.as_of is None:
            return None
        since, until = self.since, self.until
        if since is None:
            first = self.history.alerts["created_at"].min()
            if not isinstance(first, datetime):
                return None
            days = Calendar("1d", self.zone)
            since = moment(days.begin(int(days.number(np.array([instant_us(first)]))[0])))
        seen, last = self.as_of, self.history.alerts["created_at"].max()
        known = moment(instant_us(seen) + 1) if last == seen else seen  # the alert of that very time counts
        if until is None:
            until = known
        elif self.history.at is not None:  # what comes after the time the log is looked at is unknown, not quiet
            until = min(until, known)
        return None if since >= until else (since, until)

    @cached_property
    def alerts(self) -> pl.DataFrame:
        """The rows of ``history.current`` that count."""
        return self._chosen[0]

    @cached_property
    def excluded(self) -> dict[str, int]:
        """How many alerts created in the span do not count, by reason."""
        return self._chosen[1]

    @cached_property
    def _chosen(self) -> tuple[pl.DataFrame, dict[str, int]]:
        rows = self.history.current
        if self.span is None:
            return rows.clear(), {}
        since, until = (pl.lit(t, TIME) for t in self.span)
        rows = rows.filter((pl.col("created_at") >= since) & (pl.col("created_at") < until))
        excluded = {}
        if not self.tests:
            excluded["tests"] = int(rows["is_test"].sum())
            rows = rows.filter(~pl.col("is_test"))
        merged = pl.col("state") == "merged"
        excluded["merged into another alert"] = rows.filter(merged).height
        return rows.filter(~merged), {reason: n for reason, n in excluded.items() if n}

    @cached_property
    def before(self) -> Scope | None:
        """The span just before, seen at the same time; None where there is no span.

        A span of whole local days is preceded by as many. Of one that the log does not reach to the end of, it is the same part of
        the span before: Monday to Wednesday noon is compared with Monday to Wednesday noon.
        """
        if self.span is None:
            return None
        since, until = (instant_us(t) for t in self.span)
        asked = until if self.until is None else instant_us(self.until)
        days = Calendar("1d", self.zone)
        first, last = days.number(np.array([since, asked])).tolist()
        whole = days.begin(first) == since and days.begin(last) == asked
        earlier = days.begin(first - (last - first)) if whole else since - (asked - since)
        ended = since if until == asked else min(earlier + until - since, since)
        return replace(self, since=moment(earlier), until=moment(ended))

    @cached_property
    def created_us(self) -> NDArray[np.int64]:
        """When the alerts were created, each alert once, in microseconds UTC."""
        once = self.alerts.lazy().filter(pl.col("alert_id").is_first_distinct())
        return once.select(pl.col("created_at").dt.epoch("us")).collect()["created_at"].to_numpy()

    @property
    def days(self) -> float:
        """The length of the span in days of 24 hours."""
        return 0.0 if self.span is None else (instant_us(self.span[1]) - instant_us(self.span[0])) / DAY

    def local(self, when: datetime) -> str:
        """Write a time by the zone's clock."""
        return f"{when.astimezone(load_zone(self.zone)):%Y-%m-%d %H:%M}"

    def words(self) -> str:
        """Say what is counted: span, zone, as-of, exclusions. Every definition ends with it."""
        if self.span is None or self.as_of is None:
            return "No alerts."
        since, until = (self.local(t) for t in self.span)
        said = f"Alerts created from {since} to before {until} ({self.zone}), as of {self.as_of:%Y-%m-%d %H:%M} UTC."
        left = ", ".join(f"{n:,} {reason}" for reason, n in self.excluded.items())
        said += f" Left out: {left}." if left else ""
        if replayed := self.alerts.filter(pl.col("source") == "backtest").height:
            said += f" {replayed:,} of them come from a replay: raised at the time of their events, whenever that was found."
        return said + "".join(f" {c}" for c in self.history.caveats)
