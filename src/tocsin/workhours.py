"""Working hours: when people are there, in a zone, by the clock on their wall.

Enters: hours as text, pair, TOML file; holidays as dates, a file of them, or a country. Leaves: a frozen value that
turns any stretch of time into the spans in which somebody works. Layer: above calendars, ground floor.

One rule covers every change of the clock: at any instant, look at the local clock; whoever's interval holds what it shows
is at work. An hour that a zone skips is nobody's; an hour that it repeats is worked twice. So intervals that tile a
day tile its 23 or 25 hours too, and hours agree with counts by weekday and hour, which read the same clock.

A shift belongs to the day on which it begins. A holiday takes away the shifts that begin on it: the night shift of the
evening before goes on to its end in the morning of the holiday, and the one that would begin on the holiday's evening is
off to its end on the morning after.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from tocsin.calendars import DAY, MINUTE, clock_offsets, load_zone
from tocsin.errors import TocsinError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    Int64s: TypeAlias = NDArray[np.int64]

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_MINUTES: Final = 24 * 60
_LONG: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_EPOCH: Final = date(1970, 1, 1)
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{2}))?")
_HELP = 'Write for example "Mon-Fri 09:00-12:00,13:00-17:30; Sat 22:00-06:00".'

Week: TypeAlias = tuple[tuple[tuple[int, int], ...], ...]


class WorkHoursError(TocsinError):
    """Hours, days or holidays that cannot be read."""


@dataclass(frozen=True)
class WorkHours:
    """When people work.

    week: for each weekday, Monday first, its intervals in minutes since local midnight, the end not included; an end
    above 1,440 lies on the next day. zone: whose clock. holidays: local dates on which no shift begins. region: a country
    or a part of one, "US" or "DE-BY", whose public holidays are days off too.

    >>> work = WorkHours.of("Mon-Fri 09:00-12:00,13:00-17:30; Sat 22:00-06:00", zone="Europe/Berlin")
    >>> work.text
    'Mon-Fri 09:00-12:00,13:00-17:30; Sat 22:00-06:00'
    """

    week: Week = (((540, 1020),),) * 5 + ((),) * 2
    zone: str = "UTC"
    holidays: frozenset[date] = frozenset()
    region: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no week, and a zone or region that does not exist."""
        load_zone(self.zone)
        for start, end in (pair for day in self.week for pair in day):
            if not 0 <= start < min(DAY_MINUTES, end) or end - start > DAY_MINUTES:
                raise WorkHoursError(f"An interval of {start} to {end} minutes is none of at most a day. {_HELP}")
        if len(self.week) != len(DAYS):
            raise WorkHoursError(f"A week has seven days, Monday first; this one has {len(self.week)}.")
        if self.region:
            _public_holidays(self.region, 2026)

    @classmethod
    def of(
        cls,
        spec: WorkHours | str | Path | tuple[float, float] | None = None,
        *,
        zone: str = "UTC",
        holidays: Iterable[date] | str | Path | None = None,
    ) -> WorkHours:
        """Return working hours, however they are said.

        Args:
            spec: None is Monday to Friday 09:00-17:00; (9, 17.5) Monday to Friday in hours of the day; text such as
                "Mon-Fri 09:00-17:00; Sat 22:00-06:00", or "always"; a .toml file with ``hours`` (that text, or a table of
                lists by weekday), ``zone`` and ``holidays``; or `WorkHours`.
            zone: IANA zone, where ``spec`` names none of its own.
            holidays: Dates; a .txt or .csv file with one a line; or "US", "DE-BY". Left out: those of ``spec``, else none.

        Raises:
            WorkHoursError: What is written cannot be read; the message says what to write.

        >>> WorkHours.of((9, 17.5)).text, WorkHours.of((22, 6), zone="Asia/Tokyo").text
        ('Mon-Fri 09:00-17:30', 'Mon-Fri 22:00-06:00')
        """
        if isinstance(spec, WorkHours):
            made = spec
        elif spec is None:
            made = cls(zone=zone)
        elif isinstance(spec, Path) or (isinstance(spec, str) and spec.endswith(".toml")):
            made = _from_toml(Path(spec), zone)
        elif isinstance(spec, str):
            made = cls(parse_week(spec), zone)
        else:
            made = cls(_from_pair(spec), zone)
        return made if holidays is None else replace(made, **_days_off(holidays))

    @classmethod
    def always(cls, zone: str = "UTC") -> WorkHours:
        """Return hours that never end.

        >>> WorkHours.always().exposure_us(0, 7 * DAY) == 7 * DAY
        True
        """
        return cls((((0, DAY_MINUTES),),) * 7, zone)

    @property
    def text(self) -> str:
        """The week as text that `of` reads."""
        days = [",".join(f"{_clock(a)}-{_clock(b)}" for a, b in day) for day in self.week]
        parts, first = [], 0
        for hours, same in groupby(days):
            last = first + len(list(same)) - 1
            if hours:
                parts.append(f"{DAYS[first]}{'' if first == last else '-' + DAYS[last]} {hours}")
            first = last + 1
        return "; ".join(parts) or "never"

    def __str__(self) -> str:
        """Say hours, zone and days off in words."""
        off = [f"the public holidays of {self.region}"] if self.region else []
        off += [f"{len(self.holidays):,} named days off"] if self.holidays else []
        return f"{self.text} ({self.zone})" + (f", without {' and '.join(off)}" if off else "")

    def spans(self, since_us: int, until_us: int) -> Int64s:
        """Return the working time inside ``[since_us, until_us)``: (n, 2) microseconds UTC, half-open, sorted, disjoint.

        Spans that touch are one: nothing ends where something begins.

        >>> work = WorkHours.of((9, 17), zone="Europe/Berlin")
        >>> (work.spans(0, 2 * DAY) // (60 * MINUTE)).tolist()  # 1 January 1970 was a Thursday
        [[8, 16], [32, 40]]
        """
        if until_us <= since_us:
            return np.zeros((0, 2), np.int64)
        begins, offsets = clock_offsets(self.zone, since_us, until_us)
        ends = np.append(begins[1:], until_us)
        # Local time runs backwards where a clock is put back, so one list of local spans serves all stretches.
        local = self._local(int((begins + offsets).min()), int((ends + offsets).max()))
        found = []
        for begin, end, offset in zip(begins.tolist(), ends.tolist(), offsets.tolist(), strict=True):
            low, high = begin + offset, end + offset
            inside = local[np.searchsorted(local[:, 1], low, "right") : np.searchsorted(local[:, 0], high, "left")]
            found.append(np.clip(inside, low, high) - offset)
        return _merged(np.concatenate(found))

    def is_on(self, us: ArrayLike) -> NDArray[np.bool_]:
        """Return whether each instant is working time (shape kept).

        >>> WorkHours.of((9, 17)).is_on([8 * 60 * MINUTE, 9 * 60 * MINUTE, 17 * 60 * MINUTE]).tolist()
        [False, True, False]
        """
        at = np.asarray(us, np.int64)
        if not at.size:
            return np.zeros(at.shape, np.bool_)
        edges = self.spans(int(at.min()), int(at.max()) + 1).ravel()
        return np.asarray(np.searchsorted(edges, at, "right") % 2 == 1)

    def exposure_us(self, since_us: int, until_us: int) -> int:
        """Return how much of ``[since_us, until_us)`` is working time, in microseconds."""
        return int(np.diff(self.spans(since_us, until_us)).sum())

    def minutes_between(self, start_us: ArrayLike, end_us: ArrayLike) -> NDArray[np.float64]:
        """Return the minutes of working time from each start to its end; negative where the end lies before the start.

        >>> WorkHours.of((9, 17)).minutes_between([0, DAY], [DAY, 0]).tolist()
        [480.0, -480.0]
        """
        start, end = np.broadcast_arrays(np.asarray(start_us, np.int64), np.asarray(end_us, np.int64))
        if not start.size:
            return np.zeros(start.shape)
        spans = self.spans(min(int(start.min()), int(end.min())), max(int(start.max()), int(end.max())))
        return (_worked(spans, end) - _worked(spans, start)) / MINUTE

    def _local(self, low: int, high: int) -> Int64s:
        """Return the union of the intervals that may touch ``[low, high)``, all in local microseconds."""
        # A shift may have begun two local days earlier: at most 24 hours long, it began at most a day before `low`.
        days = np.arange(low // DAY - 2, high // DAY + 1, dtype=np.int64)
        days = days[~np.isin(days, self._days_off(int(days[0]), int(days[-1])))]
        weekday = (days + 3) % 7  # 1970-01-01 was a Thursday
        parts = [np.zeros((0, 2), np.int64)]
        for day, intervals in enumerate(self.week):
            mine = days[weekday == day, None] * DAY
            parts += [mine + np.array([[start, end]], np.int64) * MINUTE for start, end in intervals]
        spans = np.concatenate(parts)
        return _merged(spans[np.argsort(spans[:, 0], kind="stable")])

    def _days_off(self, first: int, last: int) -> Int64s:
        """Return the days off as days since 1970, of the years that the days between two span."""
        off = set(self.holidays)
        if self.region:
            years = (_EPOCH + timedelta(days=first)).year, (_EPOCH + timedelta(days=last)).year
            off = off.union(*(_public_holidays(self.region, y) for y in range(years[0], years[1] + 1)))
        return np.array(sorted((d - _EPOCH).days for d in off), np.int64)


def _merged(spans: Int64s) -> Int64s:
    """Return spans sorted by begin with those that overlap or touch made one, and empty ones gone."""
    spans = spans[spans[:, 0] < spans[:, 1]]
    if not len(spans):
        return spans
    reach = np.maximum.accumulate(spans[:, 1])
    new = np.append(True, spans[1:, 0] > reach[:-1])
    last = np.append(np.flatnonzero(new)[1:] - 1, len(spans) - 1)
    return np.column_stack([spans[new, 0], reach[last]])


def _worked(spans: Int64s, at: Int64s) -> Int64s:
    """Return the working time before each instant, by the sums of whole spans and the part of the one it lies in."""
    if not len(spans):
        return np.zeros(at.shape, np.int64)
    before = np.append(0, np.cumsum(spans[:, 1] - spans[:, 0]))
    i = np.searchsorted(spans[:, 0], at, "right")
    begun = np.maximum(i - 1, 0)
    part = np.minimum(at, spans[begun, 1]) - spans[begun, 0]
    return np.where(i == 0, 0, before[begun] + part)


def parse_week(text: str) -> Week:
    """Return a week written as text: parts with ";" between them, each of days and then times.

    Days are "Mon", "Mon-Fri", "Sat,Sun", "daily"; times "09:00-17:30", "9-17", several with a comma between them. An end
    not after its start lies on the next day. "always" is every minute, "never" none.

    Raises:
        WorkHoursError: As `WorkHours.of`.

    >>> parse_week("Mon 9-12,13-17; Fri-Sun 22:00-06:00")[0]
    ((540, 720), (780, 1020))
    >>> parse_week("Mon-Fri 9-25")
    Traceback (most recent call last):
    ...
    tocsin.workhours.WorkHoursError: "25" is no time of day. Write for example "Mon-Fri 09:00-12:00,...
    """
    said = text.strip().lower()
    if said in ("always", "24/7"):
        return WorkHours.always().week
    week: list[list[tuple[int, int]]] = [[] for _ in DAYS]
    for part in said.split(";") if said != "never" else ():
        found = re.fullmatch(r"([a-z][a-z\s,\-–]*?)\s+(\d.*)", part.strip())
        if not found:
            raise WorkHoursError(f'"{part.strip()}" is not days and then times. {_HELP}')
        times = [_interval(t) for t in found[2].split(",")]
        for day in _weekdays(found[1]):
            week[day] += times
    return tuple(tuple(sorted(set(day))) for day in week)


def _weekdays(text: str) -> list[int]:
    if text in ("daily", "every day"):
        return list(range(7))
    days: list[int] = []
    for part in re.split(r"[,\s]+", re.sub(r"\s*[-–]\s*", "-", text.strip())):
        first, _, last = part.partition("-")
        low = _weekday(first)
        high = _weekday(last) if last else low
        days += [d % 7 for d in range(low, high + 1 + 7 * (high < low))]
    return days


def _weekday(name: str) -> int:
    for i, long in enumerate(_LONG):
        if len(name) >= 3 and long.startswith(name):
            return i
    raise WorkHoursError(f'"{name}" is no weekday.{did_you_mean(name, _LONG)} Days are {", ".join(DAYS)}. {_HELP}')


def _interval(text: str) -> tuple[int, int]:
    start, dash, end = re.sub(r"\s*[-–]\s*", "-", text.strip()).partition("-")
    if not dash:
        raise WorkHoursError(f'"{text.strip()}" has no end. {_HELP}')
    return _ordered(_minute(start), _minute(end), text.strip())


def _minute(text: str) -> int:
    found = _CLOCK.fullmatch(text)
    minute = int(found[1]) * 60 + int(found[2] or 0) if found and int(found[2] or 0) < 60 else DAY_MINUTES + 1
    if minute > DAY_MINUTES:
        raise WorkHoursError(f'"{text}" is no time of day. {_HELP}')
    return minute


def _ordered(start: int, end: int, said: str) -> tuple[int, int]:
    if start in (end, DAY_MINUTES):
        raise WorkHoursError(f'"{said}" is no interval; a whole day is "00:00-24:00". {_HELP}')
    return start, end + (DAY_MINUTES if end < start else 0)


def _from_pair(pair: Any) -> Week:
    try:
        start, end = (float(hour) * 60 for hour in pair)
    except (TypeError, ValueError):
        raise WorkHoursError(f"{pair!r} are no working hours. Write (9, 17), or text. {_HELP}") from None
    if not (0 <= start <= DAY_MINUTES and 0 <= end <= DAY_MINUTES and start.is_integer() and end.is_integer()):
        raise WorkHoursError(f"{pair!r}: hours lie between 0 and 24 and end on a full minute, such as (9, 17.5).")
    return ((_ordered(int(start), int(end), str(pair)),),) * 5 + ((),) * 2


def _from_toml(path: Path, zone: str) -> WorkHours:
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise WorkHoursError(f"{path}: {problem}") from None
    known = ("zone", "hours", "holidays")
    for name in told:
        if name not in known:
            raise WorkHoursError(f"{path}: there is no {name!r} here; there are zone, hours, holidays.")
    hours = told.get("hours", "Mon-Fri 09:00-17:00")
    try:
        if isinstance(hours, dict):
            lists = {day: [times] if isinstance(times, str) else times for day, times in hours.items()}
            hours = "; ".join(f"{day} {','.join(times)}" for day, times in lists.items() if times) or "never"
        made = WorkHours(parse_week(hours), told.get("zone", zone))
        off = told.get("holidays", [])
        if isinstance(off, str) and off.endswith((".txt", ".csv")):
            off = path.parent / off
        return replace(made, **_days_off(off))
    except (AttributeError, TypeError) as problem:
        raise WorkHoursError(f"{path}: hours and holidays are text or lists of text ({problem}). {_HELP}") from None
    except TocsinError as problem:
        raise WorkHoursError(f"{path}: {problem}") from None


def _days_off(told: Iterable[Any] | str | Path) -> dict[str, Any]:
    """Return the fields that dates, a file of dates, or a region fill."""
    if isinstance(told, Path) or (isinstance(told, str) and told.endswith((".txt", ".csv"))):
        return {"holidays": _read_dates(Path(told)), "region": ""}
    if isinstance(told, str):
        return {"holidays": frozenset(), "region": told}
    return {"holidays": frozenset(_date(day) for day in told), "region": ""}


def _date(told: Any) -> date:
    try:
        day = told if isinstance(told, date) else date.fromisoformat(told.strip())
    except (AttributeError, ValueError):
        raise WorkHoursError(f"{told!r} is no date; write 2026-12-25.") from None
    return date(day.year, day.month, day.day)  # a datetime is a date too, and would equal none


def _read_dates(path: Path) -> frozenset[date]:
    """Read one date a line; what follows a comma, semicolon or tab is its name, a first line may be a heading."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise WorkHoursError(f"{path}: {problem}") from None
    days = set()
    for number, line in enumerate(lines, 1):
        first = re.split(r"[,;\t]", line.partition("#")[0])[0].strip().strip('"')
        if not first or (number == 1 and not first[0].isdigit()):
            continue
        try:
            days.add(_date(first))
        except WorkHoursError as problem:
            raise WorkHoursError(f"{path}:{number}: {problem}") from None
    return frozenset(days)


@lru_cache(maxsize=1024)
def _public_holidays(region: str, year: int) -> frozenset[date]:
    """Return the public holidays of a country, or of a part of it, in a year."""
    import holidays

    country, _, part = region.partition("-")
    known = holidays.list_supported_countries(include_aliases=False)
    if country not in known:
        hint = did_you_mean(country, known)
        raise WorkHoursError(f'"{region}" is no country that the package holidays knows.{hint} Write "US" or "DE-BY".')
    if part and part not in known[country]:
        raise WorkHoursError(f'"{part}" is no part of {country}. Its parts: {", ".join(known[country])}.')
    return frozenset(holidays.country_holidays(country, subdiv=part or None, years=year))


def _clock(minute: int) -> str:
    """Return a time of day, "24:00" where it ends one."""
    minute -= DAY_MINUTES * (minute > DAY_MINUTES)
    return f"{minute // 60:02}:{minute % 60:02}"
