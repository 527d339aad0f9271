"""Compiled reading of the commonest spelling of a time: ``2026-03-01T10:00:00.123456Z``, with or without a fraction or offset.

Enters: the views of a text column. Leaves: microseconds UTC, and which rows were read. What is spelled otherwise, or is not
a time, is left to `tocsin.sources.times`: nothing here decides that a value is wrong.
Layer: sources, the inside of `tocsin.sources.times`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from tocsin.text_views import byte_at, text_at

SHORTEST: Final = len("2026-03-01T10:00:00Z")
LONGEST: Final = len("2026-03-01T10:00:00.123456+00:00")
_FRACTION_DIGITS: Final = 6
_DAYS_BEFORE: Final = np.array([0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365], np.int64)
_EPOCH_DAY: Final = 719_162  # days from 0001-01-01 to 1970-01-01
_MICROS: Final = 1_000_000


@njit(nogil=True, cache=True)
def _byte(text: Any, at: Any) -> Any:  # pragma: no cover - compiled
    return np.int64(byte_at(text + np.uint64(at)))


@njit(nogil=True, cache=True)
def _two(text: Any, at: Any) -> Any:  # pragma: no cover - compiled
    """Return the number that two digits write, 100 or more where they are none."""
    tens, ones = _byte(text, at) - 48, _byte(text, at + 1) - 48
    return 10 * tens + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else 100


@njit(nogil=True, cache=True)
def _days(year: Any, month: Any, day: Any) -> Any:  # pragma: no cover - compiled
    """Return the days since 1970-01-01, or a number below all when there is no such day."""
    leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
    if year < 1 or month < 1 or month > 12 or day < 1:
        return np.iinfo(np.int64).min
    length = _DAYS_BEFORE[month] - _DAYS_BEFORE[month - 1] + (1 if leap and month == 2 else 0)
    if day > length:
        return np.iinfo(np.int64).min
    before = year - 1
    in_year = _DAYS_BEFORE[month - 1] + (1 if leap and month > 2 else 0) + day - 1
    return before * 365 + before // 4 - before // 100 + before // 400 + in_year - _EPOCH_DAY


@njit(nogil=True, cache=True)
def _offset_seconds(text: Any, at: Any, size: Any) -> Any:  # pragma: no cover - compiled
    """Return what ``Z``, ``+hh:mm`` or ``-hh:mm`` at the end adds to UTC, a day or more for anything else."""
    sign = _byte(text, at)
    if sign == 90:
        return 0 if size == at + 1 else 86_400
    if sign not in (43, 45) or size != at + 6 or _byte(text, at + 3) != 58:
        return 86_400
    hours, minutes = _two(text, at + 1), _two(text, at + 4)
    if hours > 23 or minutes > 59:
        return 86_400
    return (hours * 3600 + minutes * 60) * (1 if sign == 43 else -1)


@njit(nogil=True, cache=True)
def read_times(
    views: Any, views_address: Any, present: Any, buffers: Any, out: Any, done: Any
) -> None:  # pragma: no cover - compiled
    """Fill ``out`` with microseconds UTC where ``done`` becomes true."""
    low32 = np.uint64(0xFFFFFFFF)
    last_date, last_days = np.int64(-1), np.int64(0)
    for row in range(len(out)):
        size = np.int64(views[row, 0] & low32)
        if size < SHORTEST or size > LONGEST or (len(present) and not present[row]):
            continue
        text = text_at(views, views_address, row, buffers)
        dressed = _byte(text, 4) == 45 and _byte(text, 7) == 45 and _byte(text, 10) == 84
        if not dressed or _byte(text, 13) != 58 or _byte(text, 16) != 58:
            continue
        century, year, month, day = _two(text, 0), _two(text, 2), _two(text, 5), _two(text, 8)
        hour, minute, second = _two(text, 11), _two(text, 14), _two(text, 17)
        if century > 99 or year > 99 or month > 12 or day > 31 or hour > 23 or minute > 59 or second > 59:
            continue
        date = ((century * 100 + year) * 16 + month) * 32 + day
        if date != last_date:
            last_date, last_days = date, _days(century * 100 + year, month, day)
        if last_days < -_EPOCH_DAY:
            continue
        at = 19
        micros = 0
        if _byte(text, at) == 46:
            at += 1
            digits = 0
            while digits <= _FRACTION_DIGITS and 48 <= _byte(text, at) <= 57 and at < size - 1:
                micros = micros * 10 + _byte(text, at) - 48
                digits += 1
                at += 1
            if digits == 0 or digits > _FRACTION_DIGITS:
                continue
            for _ in range(_FRACTION_DIGITS - digits):
                micros *= 10
        offset = _offset_seconds(text, at, size)
        if offset >= 86_400:
            continue
        seconds = last_days * 86_400 + hour * 3600 + minute * 60 + second - offset
        out[row] = seconds * _MICROS + micros
        done[row] = True
