"""Times as they stand in logs -> microseconds UTC.

Enters: a Polars series (text, numbers, dates or datetimes). Leaves: a series of Datetime("us", "UTC") that is null where
the value cannot be read, and the reason why. Nothing is guessed: a number needs a unit, a naive time needs a zone.
Layer: sources.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from tocsin.schema import TIME
from tocsin.sources.time_kernel import read_times
from tocsin.text_views import text_views

if TYPE_CHECKING:
    from collections.abc import Callable

# In this order; what one format leaves unread is tried with the next, so the common one costs one pass.
ZONED_FORMATS: Final = (
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M%#z",
    "%a, %d %b %Y %H:%M:%S %z",
    "%d %b %Y %H:%M:%S %z",
    "%d/%b/%Y:%H:%M:%S %z",
)
NAIVE_FORMATS: Final = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y%m%dT%H%M%S")
SYSLOG_FORMAT: Final = "%b %d %H:%M:%S"
_SYSLOG_RE: Final = r"^[A-Z][a-z]{2} +\d{1,2} \d{2}:\d{2}:\d{2}$"
_NUMBER_RE: Final = r"^[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?$"
_INTEGER_RE: Final = r"^[+-]?\d{1,18}$"
_MICROS_PER_UNIT: Final = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
_INT64_SAFE: Final = 9.2e18
# Beyond these a microsecond time leaves the years 1 to 9999, which neither Python nor most formats can write down.
_MIN_US: Final = -62_135_596_800_000_000
_MAX_US: Final = 253_402_300_799_999_999

NOT_A_TIME: Final = "not a time"
NO_ZONE: Final = "time without a zone"
NO_UNIT: Final = "time is a number without a unit"
NO_YEAR: Final = "time without a year"


def parse_times(
    series: pl.Series,
    *,
    zone: str | None = None,
    unit: str | None = None,
    format: str | None = None,  # noqa: A002
    year: int | None = None,
) -> pl.Series:
    """Return `series` as Datetime("us", "UTC"), null where it cannot be read.

    Args:
        series: Text, integers, floats, dates or datetimes.
        zone: IANA zone of values that name none. A local time that occurs twice is taken as the first, one that is
            skipped by the change to summer time is unreadable.
        unit: s, ms, us or ns since 1970-01-01 for numbers and digits.
        format: A strptime pattern tried first.
        year: For syslog times.

    >>> parse_times(pl.Series(["2026-03-01T10:00:00+02:00", "soon"])).dt.strftime("%H:%M %Z").to_list()
    ['08:00 UTC', None]
    """
    dtype = series.dtype
    if dtype == TIME:
        return series
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is None:
            return _localise(series.dt.cast_time_unit("us"), zone)
        return series.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    if dtype == pl.Date:
        return _localise(series.cast(pl.Datetime("us")), zone)
    if dtype.is_numeric():
        return _from_numbers(series, unit)
    if dtype == pl.String:
        return _from_text(series, zone, unit, format, year)
    return pl.Series(series.name, [None] * len(series), dtype=TIME)


def why_unreadable(text: str, *, zone: str | None, unit: str | None, year: int | None) -> str:
    """Return the reason why one value could not be read as a time.

    >>> why_unreadable("2026-03-01 10:00:00", zone=None, unit=None, year=None)
    'time without a zone'
    """
    value = pl.Series([text.strip()])
    if re.fullmatch(_NUMBER_RE, text.strip()):
        return NO_UNIT if unit is None else NOT_A_TIME
    if re.fullmatch(_SYSLOG_RE, text.strip()) and year is None:
        return NO_YEAR
    if zone is None and parse_times(value, zone="UTC", year=year or 2000)[0] is not None:
        return NO_ZONE
    if zone is not None and parse_times(value, zone="UTC", year=year or 2000)[0] is not None:
        return f"local time does not exist in {zone} (skipped by the change to summer time)"
    return NOT_A_TIME


def needs(series: pl.Series) -> str | None:
    """Return what a time column of this look needs to be readable: "zone", "unit", "year" or None; judged on its values.

    >>> needs(pl.Series(["2026-03-01 10:00:00"])), needs(pl.Series([1_767_225_600]))
    ('zone', 'unit')
    """
    present = series.drop_nulls()
    if isinstance(series.dtype, pl.Datetime):
        return "zone" if series.dtype.time_zone is None else None
    if series.dtype == pl.Date:
        return "zone" if len(present) else None
    if series.dtype.is_numeric():
        return "unit"
    if series.dtype != pl.String or not len(present):
        return None
    text = present.str.strip_chars()
    for pattern, missing in ((_SYSLOG_RE, "year"), (_NUMBER_RE, "unit")):
        if text.str.contains(pattern).mean() > 0.5:  # type: ignore[operator]
            return missing
    readable = parse_times(text, zone="UTC").is_not_null()
    naive = readable & parse_times(text).is_null()
    return "zone" if readable.any() and naive.sum() * 2 > readable.sum() else None


def guess_unit(values: pl.Series) -> str | None:
    """Return the unit that puts the median of these numbers between 1990 and 2100, if one does.

    >>> guess_unit(pl.Series([1_767_225_600_000])), guess_unit(pl.Series([7]))
    ('ms', None)
    """
    median = values.cast(pl.Float64, strict=False).drop_nulls().median()
    if not isinstance(median, int | float):
        return None
    for unit, micros in _MICROS_PER_UNIT.items():
        if 631e12 <= median * micros <= 4_102e12:
            return unit
    return None


def _localise(naive: pl.Series, zone: str | None) -> pl.Series:
    if zone is None:
        return pl.Series(naive.name, [None] * len(naive), dtype=TIME)
    local = naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return local.dt.convert_time_zone("UTC").cast(TIME)


def _from_numbers(series: pl.Series, unit: str | None) -> pl.Series:
    if unit is None:
        return pl.Series(series.name, [None] * len(series), dtype=TIME)
    factor = _MICROS_PER_UNIT[unit]
    if series.dtype.is_integer():
        wide = series.cast(pl.Int64, strict=False)
        limit = int(_INT64_SAFE / factor) if factor >= 1 else None
        if limit is not None:
            wide = wide.set(~wide.is_between(-limit, limit), None)
            micros = wide * int(factor)
        else:
            micros = wide // 1000
    else:
        scaled = (series.cast(pl.Float64) * factor).round()
        micros = scaled.set(~scaled.is_between(-_INT64_SAFE, _INT64_SAFE), None).cast(pl.Int64, strict=False)
    in_calendar = micros.is_between(_MIN_US, _MAX_US)
    return micros.set(~in_calendar, None).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _from_text(
    series: pl.Series, zone: str | None, unit: str | None, pattern: str | None, year: int | None
) -> pl.Series:
    # The raw text first, in the common form: that is the only pass over most files.
    found = _strptime(series, pattern, zone=zone) if pattern else _common(series)
    rows = _open_rows(found, series)
    if not len(rows):
        return found
    return _fill(found, rows, _from_plain_text(_normal(series.gather(rows)), zone, unit, year))


def _common(series: pl.Series) -> pl.Series:
    text = text_views(series)
    micros, done = np.zeros(len(series), np.int64), np.zeros(len(series), np.bool_)
    read_times(text.views, text.views.ctypes.data, text.present, text.buffers, micros, done)
    found = pl.Series(series.name, micros).cast(TIME)
    return found if done.all() else found.set(pl.Series(~done), None)


def _from_plain_text(text: pl.Series, zone: str | None, unit: str | None, year: int | None) -> pl.Series:
    readers: list[Callable[[pl.Series], pl.Series]] = [partial(_strptime, pattern=f, zone=zone) for f in ZONED_FORMATS]
    if unit is not None:
        readers.append(partial(_digits, unit=unit))
    if zone is not None:
        readers += [partial(_strptime, pattern=f, zone=zone) for f in NAIVE_FORMATS]
        readers.append(partial(_dates_and_syslog, zone=zone, year=year))
    found = pl.Series(text.name, [None], dtype=TIME).new_from_index(0, len(text))
    for reader in readers:
        rows = _open_rows(found, text)
        if not len(rows):
            break
        found = _fill(found, rows, reader(text.gather(rows)))
    return found


def _open_rows(found: pl.Series, text: pl.Series) -> pl.Series:
    if found.null_count() == text.null_count():
        return pl.Series(dtype=pl.UInt32)
    return (found.is_null() & text.is_not_null()).arg_true()


def _fill(found: pl.Series, rows: pl.Series, values: pl.Series) -> pl.Series:
    if len(rows) == len(found):
        return values.alias(found.name)
    return found.scatter(rows, values) if len(rows) else found


def _normal(text: pl.Series) -> pl.Series:
    """One spelling of what only differs in dress: spaces around, a space for the T, UTC or GMT for Z, a space before the offset."""
    return (
        text.str.strip_chars()
        .str.replace(r"^(\d{4}-\d{2}-\d{2}) +(\d)", "${1}T$2")
        .str.replace(r" ?(?:UTC|GMT|z)$", "Z")
        .str.replace(r"^(\d{4}-\d{2}-\d{2}T[\d:.,]+) ([+-]\d)", "${1}$2")
        .str.replace(r"^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}),(\d)", "${1}.$2")
        .str.replace(r"(, \d{1,2} \w{3} \d{4} \d{2}:\d{2}:\d{2} [+-]\d{4}) \(.*\)$", "$1")
    )


def _strptime(text: pl.Series, pattern: str, zone: str | None) -> pl.Series:
    if re.search("%[#:]*z", pattern):
        return text.str.to_datetime(pattern, time_unit="us", time_zone="UTC", strict=False)
    return _localise(text.str.to_datetime(pattern, time_unit="us", strict=False), zone)


def _digits(text: pl.Series, unit: str) -> pl.Series:
    whole = text.str.contains(_INTEGER_RE).fill_null(value=False)
    exact = _from_numbers(text.set(~whole, None).cast(pl.Int64, strict=False), unit)
    broken = text.str.contains(_NUMBER_RE).fill_null(value=False) & ~whole
    rough = _from_numbers(text.set(~broken, None).cast(pl.Float64, strict=False), unit)
    return exact.zip_with(whole, rough)


def _dates_and_syslog(text: pl.Series, zone: str, year: int | None) -> pl.Series:
    dates = _localise(text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")), zone)
    if year is None:
        return dates
    looks = text.str.contains(_SYSLOG_RE).fill_null(value=False)
    named = pl.Series([f"{year} "]).new_from_index(0, len(text)) + text.str.replace_all(r" +", " ")
    return dates.zip_with(~looks, _strptime(named, f"%Y {SYSLOG_FORMAT}", zone))
