"""Calendar windows and durations in integer microseconds UTC.

Enters: instants as int64 microseconds since 1970-01-01 UTC, a window length ("1h", "1d", "1w", "1mo") and an
IANA zone. Leaves: dense window numbers and the exact instants at which windows begin. Layer: ground floor.

A window is half-open, ``[begin, next begin)``. Its number is found by ``searchsorted`` on the list of UTC
instants at which each local date (or hour, week, month) first begins, so 23- and 25-hour days, half-hour zones
and dates that a zone skipped altogether come out right without a special case.
"""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tocsin.errors import TocsinError, did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int64s = NDArray[np.int64]

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

UNITS = {"us": 1, "ms": 1_000, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
BLOCK_DAYS = 512
PERIODS = ("1h", "1d", "1w", "1mo")

_EPOCH = dt.datetime(1970, 1, 1)
_EPOCH_UTC = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DURATION = re.compile(r"(\d+)\s*(us|ms|s|m|h|d|w)")


class CalendarError(TocsinError):
    """A zone, period or duration that does not exist."""


def duration_us(text: str | dt.timedelta | int) -> int:
    """Return a duration in microseconds.

    ``text`` is a count with a unit (us, ms, s, m, h, d, w; several may follow each other), a timedelta, or
    microseconds as an integer.

    >>> duration_us("1h30m") // MINUTE
    90
    """
    if isinstance(text, dt.timedelta):
        return text // dt.timedelta(microseconds=1)
    if isinstance(text, int):
        return text
    parts = _DURATION.findall(text)
    if not parts or "".join(n + u for n, u in parts) != text.replace(" ", ""):
        msg = f'"{text}" is not a duration. Write a count and a unit, such as "10m", "1h30m" or "7d".'
        raise CalendarError(msg)
    return sum(int(n) * UNITS[u] for n, u in parts)


def instant_us(moment: dt.datetime) -> int:
    """Return an aware datetime as microseconds since 1970 UTC, exactly.

    >>> instant_us(dt.datetime(1970, 1, 2, tzinfo=dt.UTC)) == DAY
    True
    """
    if moment.tzinfo is None:
        msg = f"{moment.isoformat()} has no time zone. Give it one, for example tzinfo=datetime.UTC."
        raise CalendarError(msg)
    return (moment - _EPOCH_UTC) // dt.timedelta(microseconds=1)


def moment(us: int) -> dt.datetime:
    """Return microseconds since 1970 UTC as an aware datetime.

    >>> moment(DAY).isoformat()
    '1970-01-02T00:00:00+00:00'
    """
    return _EPOCH_UTC + dt.timedelta(microseconds=us)


def load_zone(name: str) -> zoneinfo.ZoneInfo:
    """Return the IANA zone called ``name``; the error names close ones."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        hint = did_you_mean(name, zoneinfo.available_timezones())
        msg = f'"{name}" is not an IANA time zone.{hint}'
        raise CalendarError(msg) from error


@dataclass
class Calendar:
    """The windows of one length in one zone.

    ``rounded`` shifts day boundaries to noon UTC, which is what the workshop notebook's rounding to the nearest
    day does (its afternoons belong to the next day); it exists for ``compat="notebook"`` alone.

    >>> days = Calendar("1d", "America/Denver")
    >>> (days.begin(20_521) - days.begin(20_520)) // HOUR   # 2026-03-08, clocks go forward
    23
    """

    per: str = "1d"
    zone: str = "UTC"
    rounded: bool = False
    _low: int = field(default=0, init=False, repr=False, compare=False)
    _begins: Int64s = field(default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse a period that is not a calendar window."""
        if self.per not in PERIODS:
            hint = did_you_mean(self.per, PERIODS)
            msg = f'"{self.per}" is not a calendar window; there are {", ".join(PERIODS)}.{hint}'
            raise CalendarError(msg)
        self._zone = load_zone(self.zone)

    def number(self, t: Int64s) -> Int64s:
        """Return the window number of each instant (shape kept); numbers grow by one per window."""
        if t.size == 0:
            return np.zeros(0, np.int64)
        if self.zone == "UTC" and self.per in {"1h", "1d"}:
            shift = DAY // 2 if self.rounded else 0
            return (t + shift) // (HOUR if self.per == "1h" else DAY)
        self._cover(int(t.min()), int(t.max()))
        return np.searchsorted(self._begins, t, "right") - 1 + self._low

    def begin(self, number: int) -> int:
        """Return the instant at which window ``number`` begins."""
        if self.zone == "UTC" and self.per in {"1h", "1d"}:
            shift = DAY // 2 if self.rounded else 0
            return number * (HOUR if self.per == "1h" else DAY) - shift
        while not self._low <= number < self._low + self._begins.size:
            centre = self._guess(number)
            self._cover(centre - 3 * DAY, centre + 3 * DAY)
        return int(self._begins[number - self._low])

    def touched(self, start: int, end: int) -> range:
        """Return the numbers of the windows that ``[start, end)`` touches."""
        if end <= start:
            return range(0)
        first, last = self.number(np.array([start, end - 1], np.int64)).tolist()
        return range(first, last + 1)

    def skipped(self, low: int, high: int) -> list[int]:
        """Return the windows in ``low .. high`` that never happened, such as a date that a zone jumped over."""
        if self.zone == "UTC" or self.per != "1d":
            return []
        begins = [self.begin(n) for n in range(low, high + 2)]
        return [low + i for i, (a, b) in enumerate(pairwise(begins)) if a == b]

    def _guess(self, number: int) -> int:
        """Return an instant within some days of the begin of window ``number``."""
        if self.per == "1mo":
            return (dt.datetime(1970 + number // 12, number % 12 + 1, 1, tzinfo=dt.UTC) - _EPOCH_UTC) // dt.timedelta(
                microseconds=1
            )
        return number * {"1h": HOUR, "1d": DAY, "1w": 7 * DAY}[self.per]

    def _cover(self, earliest: int, latest: int) -> None:
        """Extend the list of begins so that it holds both instants, with room to spare."""
        if self._begins.size and self._begins[0] <= earliest and latest < self._begins[-1]:
            return
        room = 400 * DAY
        if self._begins.size:
            earliest, latest = min(earliest, int(self._begins[0])), max(latest, int(self._begins[-1]))
        make = {"1h": self._hours, "1d": self._days, "1w": self._weeks, "1mo": self._months}[self.per]
        self._low, self._begins = make((earliest - room) // DAY, (latest + room) // DAY)

    def _days(self, low: int, high: int) -> tuple[int, Int64s]:
        return low, self._local_midnights(np.arange(low, high + 1))

    def _weeks(self, low: int, high: int) -> tuple[int, Int64s]:
        first = (low + 3) // 7  # 1970-01-01 was a Thursday: week 0 begins on Monday, day -3
        weeks = np.arange(first, (high + 3) // 7 + 1)
        return first, self._local_midnights(weeks * 7 - 3)

    def _months(self, low: int, high: int) -> tuple[int, Int64s]:
        months = np.arange(np.int64(low), np.int64(high)).astype("datetime64[D]").astype("datetime64[M]")
        numbers = np.unique(months).astype(np.int64)
        firsts = numbers.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        return int(numbers[0]), self._local_midnights(firsts)

    def _hours(self, low: int, high: int) -> tuple[int, Int64s]:
        """Every full local hour begins a window, and so does every change of the clock.

        The list always reaches back to 1970, so that extending it never renumbers an hour.
        """
        first, last = min(low, 0) // BLOCK_DAYS, max(high, 1) // BLOCK_DAYS
        low, high = first * BLOCK_DAYS, (last + 1) * BLOCK_DAYS
        changes = [change for block in range(first, last + 1) for change in _clock_changes(self.zone, block)]
        begins = [np.array(changes, np.int64)]
        for start, end in zip([low * DAY, *changes], [*changes, high * DAY], strict=True):
            offset = _offset(self._zone, start)
            first_full = -(-(start + offset) // HOUR) * HOUR - offset
            begins.append(np.arange(first_full, end, HOUR, dtype=np.int64))
        instants = np.sort(np.concatenate(begins))  # NumPy's unique() hashes, and is a hundred times slower here
        instants = instants[np.diff(instants, prepend=instants[0] - 1) > 0]
        return -int(np.searchsorted(instants, 0)), instants

    def _local_midnights(self, days: Int64s) -> Int64s:
        """Return the first instant of each local date. fold=0 takes the offset before a gap or the first of two."""
        shift = dt.timedelta(hours=12) if self.rounded else dt.timedelta(0)
        local = (_EPOCH + dt.timedelta(days=int(d)) - shift for d in days)
        return np.array([instant_us(x.replace(tzinfo=self._zone, fold=0)) for x in local], np.int64)


def _offset(zone: zoneinfo.ZoneInfo, instant: int) -> int:
    offset = moment(instant).astimezone(zone).utcoffset()
    return offset // dt.timedelta(microseconds=1) if offset else 0


@lru_cache(maxsize=1024)
def _clock_changes(zone_name: str, block: int) -> tuple[int, ...]:
    """Return the instants at which a zone's offset changes in a block of days; asked for by every new calendar."""
    zone, changes = load_zone(zone_name), []
    for day in range(block * BLOCK_DAYS, (block + 1) * BLOCK_DAYS):
        start, end = day * DAY, (day + 1) * DAY
        before = _offset(zone, start)
        if before == _offset(zone, end):
            continue
        while end - start > SECOND:
            middle = (start + end) // 2 // SECOND * SECOND
            start, end = (middle, end) if _offset(zone, middle) == before else (start, middle)
        changes.append(end)
    return tuple(changes)


def clock_offsets(zone: str, start: int, end: int) -> tuple[Int64s, Int64s]:
    """Return the stretches of ``[start, end)`` in which a zone keeps one offset: where each begins, and its offset.

    Local time is the instant plus the offset, both in microseconds; the first stretch begins at ``start``.

    >>> march = [instant_us(dt.datetime(2026, 3, d, tzinfo=dt.UTC)) for d in (1, 31)]
    >>> begins, offsets = clock_offsets("America/Denver", *march)
    >>> [moment(t).isoformat() for t in begins.tolist()], (offsets // HOUR).tolist()
    (['2026-03-01T00:00:00+00:00', '2026-03-08T09:00:00+00:00'], [-7, -6])
    """
    blocks = range(start // DAY // BLOCK_DAYS, max(end - 1, start) // DAY // BLOCK_DAYS + 1)
    changes = [c for block in blocks for c in _clock_changes(zone, block) if start < c < end]
    tz = load_zone(zone)
    begins = np.array([start, *changes], np.int64)
    return begins, np.array([_offset(tz, t) for t in begins.tolist()], np.int64)


def local_hour(t: Int64s, hours: Calendar) -> Int64s:
    """Return the local clock hour (0 to 23) of each instant; ``hours`` are the hour windows of the zone.

    >>> local_hour(np.array([0, HOUR], np.int64), Calendar("1h", "America/Denver")).tolist()
    [17, 18]
    """
    number = hours.number(t)
    if not t.size:
        return number
    low = int(number.min())
    zone = load_zone(hours.zone)
    clock = [moment(hours.begin(n)).astimezone(zone).hour for n in range(low, int(number.max()) + 1)]
    return np.array(clock, np.int64)[number - low]
