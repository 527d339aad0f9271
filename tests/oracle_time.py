"""Slow, plain answers about time: which calendar window an instant lies in, and what becomes of each arriving event.

Enters: UTC instants in integer microseconds, and an arrival log (rows and control records in the order they came).
Leaves: window labels with their first and last instants; for every row its fate and, when late, against which bar.
Layer: tests. Nothing here is shared with the package, on purpose: only the written contract decides.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
import zoneinfo
from dataclasses import dataclass, field
from typing import Any

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
LOOK_BACK_HOURS = 3  # no zone has set its clock back by more in one night
UNITS_US = {"s": 1_000_000, "m": MINUTE_US, "h": HOUR_US, "d": DAY_US, "w": 7 * DAY_US}

Row = dict[str, Any]


def to_us(moment: dt.datetime) -> int:
    """Microseconds since 1970 of an aware datetime, without passing through a float."""
    return (moment - EPOCH) // dt.timedelta(microseconds=1)


def from_us(us: int) -> dt.datetime:
    return EPOCH + dt.timedelta(microseconds=us)


def duration_us(text: str | dt.timedelta | int) -> int:
    """'10m', '36h', '90d' in microseconds; a calendar unit has no fixed length and is not accepted."""
    if isinstance(text, int):
        return text
    if isinstance(text, dt.timedelta):
        return text // dt.timedelta(microseconds=1)
    parts = re.findall(r"(\d+)([smhdw])", text)
    if "".join(a + b for a, b in parts) != text or not parts:
        raise ValueError(text)
    return sum(int(number) * UNITS_US[unit] for number, unit in parts)


# ---------------------------------------------------------------------------------------------------- calendar windows
def _label(local: dt.datetime, per: str) -> int:
    """The number of the window that a wall clock showing `local` would name."""
    day = local.date().toordinal()
    if per == "1d":
        return day
    if per == "1w":
        return (day - 1) // 7  # ordinal 1 was a Monday
    if per == "1mo":
        return local.year * 12 + local.month - 1
    raise ValueError(per)


def _about(label: int, per: str) -> dt.datetime:
    """Where the window with this label begins on a wall clock, as if that were UTC; only a place to start looking."""
    if per == "1d":
        return dt.datetime.combine(dt.date.fromordinal(label), dt.time(), dt.UTC)
    if per == "1w":
        return dt.datetime.combine(dt.date.fromordinal(label * 7 + 1), dt.time(), dt.UTC)
    return dt.datetime(label // 12, label % 12 + 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Calendar:
    """Half-open windows with comparable integer labels.

    Days, weeks and months begin when a local date FIRST begins, and their labels are local calendar numbers. Hours
    begin at each full local hour and at each change of the clock; their labels are the instants they begin at.
    """

    per: str
    zone: str

    def local(self, us: int) -> dt.datetime:
        return from_us(us).astimezone(zoneinfo.ZoneInfo(self.zone))

    @functools.lru_cache(maxsize=200_000)  # noqa: B019  (a handful of calendars in a test run)
    def window(self, us: int) -> int:
        """The latest window that has begun at `us`: a clock set back never returns to an earlier window."""
        if self.per == "1h":
            return self._hour(us)
        here, before = self.local(us), self.local(us - LOOK_BACK_HOURS * HOUR_US)
        if here.utcoffset() == before.utcoffset():
            return _label(here, self.per)
        first = us - us % MINUTE_US
        samples = [us, *(first - i * MINUTE_US for i in range(LOOK_BACK_HOURS * 60))]
        return max(_label(self.local(s), self.per) for s in samples)

    def _hour(self, us: int) -> int:
        """Walk back, minute by minute, to the full local hour or to the last change of the clock."""
        begin = us - us % MINUTE_US
        if self.local(us).utcoffset() == self.local(us - HOUR_US).utcoffset():
            return begin - self.local(us).minute * MINUTE_US
        while self.local(begin).minute and self.local(begin - MINUTE_US).utcoffset() == self.local(begin).utcoffset():
            begin -= MINUTE_US
        return begin

    @functools.lru_cache(maxsize=200_000)  # noqa: B019
    def span(self, label: int) -> tuple[int, int]:
        """First instant of this window (or, if it never happened, of the next), and of the one after it."""
        if self.per != "1h":
            return self._begin(label), self._begin(label + 1)
        end = label + MINUTE_US
        while self.window(end) == label:
            end += MINUTE_US
        return label, end

    def _begin(self, label: int) -> int:
        """First minute at which this window, or one after it, has begun."""
        guess = to_us(_about(label, self.per))
        low, high = (guess - 2 * DAY_US) // MINUTE_US, (guess + 2 * DAY_US) // MINUTE_US
        while low < high:
            middle = (low + high) // 2
            if self.window(middle * MINUTE_US) >= label:
                high = middle
            else:
                low = middle + 1
        return low * MINUTE_US

    def exists(self, label: int) -> bool:
        """False for a date that no clock ever showed (Apia 2011-12-30)."""
        return self.window(self.span(label)[0]) == label

    def before(self, label: int) -> int:
        """The nearest earlier window that happened."""
        return self.window(self.span(label)[0] - 1)

    def previous(self, label: int, count: int) -> list[int]:
        """The `count` windows before this one, oldest first; a date that never happened is left out."""
        if self.per != "1h":
            return [w for w in range(label - count, label) if self.exists(w)]
        found = [label]
        for _ in range(count):
            found.append(self.before(found[-1]))
        return found[:0:-1]

    def same_weekday(self, label: int, count: int) -> list[int]:
        """The dates 7, 14, ... days earlier, oldest first."""
        return [d for d in (label - 7 * k for k in range(count, 0, -1)) if self.exists(d)]

    def touched(self, label: int, gaps: tuple[tuple[int, int], ...]) -> bool:
        begin, end = self.span(label)
        return any(max(begin, a) < min(end, b) for a, b in gaps)


# ------------------------------------------------------------------------------------------------------------- arrival
@dataclass(frozen=True)
class Idle:
    """Control record: this partition says nothing for now and must not hold the others back."""

    partition: str | None


@dataclass(frozen=True)
class End:
    """Control record: the input is over; whatever waits is released."""


Record = Row | Idle | End


@dataclass(frozen=True)
class Judged:
    """A row with its fate. `bar_us` is what it was late against: the larger of its partition's W and the frontier."""

    row: Row
    position: int
    fate: str
    bar_us: int | None = None

    @property
    def us(self) -> int:
        return to_us(self.row["timestamp"])

    @property
    def order(self) -> tuple[int, str, bool, str]:
        source = self.row.get("source")
        return self.us, self.row["event_id"], source is not None, source or ""


@dataclass
class _Clocks:
    lateness: int
    top: dict[str | None, int] = field(default_factory=dict)  # partition -> latest time seen
    idle: set[str | None] = field(default_factory=set)
    frontier: int | None = None

    def bar(self, partition: str | None) -> int | None:
        candidates = [self.frontier] if self.frontier is not None else []
        if partition in self.top:
            candidates.append(self.top[partition] - self.lateness)
        return max(candidates) if candidates else None

    def now(self, partition: str | None) -> int | None:
        """The clock by which ids are forgotten; a partition that is new or lags behind does not remember for longer."""
        candidates = [self.frontier + self.lateness] if self.frontier is not None else []
        return max([*candidates, self.top[partition]] if partition in self.top else candidates, default=None)

    def advance(self) -> None:
        awake = [top - self.lateness for p, top in self.top.items() if p not in self.idle]
        if awake:
            self.frontier = min(awake) if self.frontier is None else max(self.frontier, min(awake))


def _content(row: Row, read: frozenset[str]) -> Row:
    """What a rule could see of the row; a redelivery may differ in anything else."""
    return {k: v for k, v in row.items() if k in read | {"timestamp"} and v is not None}


def judge(
    log: list[Record],
    *,
    lateness: int,
    dedup_horizon: int,
    future_skew: int | None = None,
    read: frozenset[str] = frozenset(),
) -> tuple[list[Judged], list[int | None]]:
    """The fate of every row in arrival order, and the released frontier after every record of the log.

    ``read`` names the columns that detections look at: an id that comes again with others in these is a conflict.
    """
    clocks = _Clocks(lateness)
    remembered: dict[tuple[str | None, str], tuple[int, Row]] = {}
    judged: list[Judged] = []
    frontiers: list[int | None] = []
    for position, record in enumerate(log):
        if isinstance(record, Idle):
            clocks.idle.add(record.partition)
            clocks.advance()
        elif isinstance(record, dict):
            if _from_the_future(record, future_skew):
                fate, bar = "future", None
            else:
                fate, bar = _fate(record, _content(record, read), clocks, remembered, dedup_horizon)
            judged.append(Judged(record, position, fate, bar))
        frontiers.append(clocks.frontier)
    return judged, frontiers


def _from_the_future(row: Row, skew: int | None) -> bool:
    received = row.get("received_at")
    return skew is not None and received is not None and to_us(row["timestamp"]) > to_us(received) + skew


def _fate(
    row: Row,
    content: Row,
    clocks: _Clocks,
    remembered: dict[tuple[str | None, str], tuple[int, Row]],
    dedup_horizon: int,
) -> tuple[str, int | None]:
    us = to_us(row["timestamp"])
    partition = row.get("partition")
    key = (row.get("source"), row["event_id"])
    if key in remembered:
        stamp, content_then = remembered[key]
        now = clocks.now(partition)
        if now is None or now - stamp <= dedup_horizon:
            return ("duplicate" if content == content_then else "conflict"), None
    bar = clocks.bar(partition)
    clocks.top[partition] = max(us, clocks.top.get(partition, us))
    clocks.idle.discard(partition)
    clocks.advance()
    stamp = clocks.now(partition)
    assert stamp is not None
    remembered[key] = (stamp, content)
    return ("late", bar) if bar is not None and us < bar else ("ok", None)
