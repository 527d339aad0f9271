"""Calendar windows against the clock on the wall, asked instant by instant.

Layer: tests. The naive answer asks `zoneinfo` what the local date is, now and at every minute of the last hours: a date
that has begun stays begun when the clock is put back over midnight.
"""

from __future__ import annotations

import datetime as dt
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.calendars import (
    DAY,
    HOUR,
    MINUTE,
    PERIODS,
    Calendar,
    CalendarError,
    duration_us,
    instant_us,
    load_zone,
    local_hour,
    moment,
)

ZONES = (
    "UTC", "America/Denver", "Australia/Lord_Howe", "Asia/Kathmandu",
    "Pacific/Apia", "America/Havana", "Africa/Monrovia", "America/St_Johns",
)  # fmt: skip
# Instants at which a clock changes, so that both sides of it are met.
CHANGES = (
    "1972-01-07T00:44:30", "1985-12-31T18:30:00", "2010-11-07T02:31:00", "2011-12-30T10:00:00",
    "2026-03-08T05:00:00", "2026-03-08T09:00:00", "2026-04-04T15:00:00",
    "2026-10-03T15:30:00", "2026-11-01T05:00:00", "2026-11-01T08:00:00", "1970-01-01T00:00:00",
)  # fmt: skip
EPOCH = dt.date(1970, 1, 1)

near_changes = st.tuples(st.sampled_from(CHANGES), st.integers(-3 * DAY, 3 * DAY)).map(
    lambda x: instant_us(dt.datetime.fromisoformat(x[0] + "+00:00")) + x[1]
)
STEPS = (-1, 0, 1, -30 * MINUTE, 30 * MINUTE, HOUR - 1, HOUR)
at_changes = st.tuples(st.sampled_from(CHANGES), st.sampled_from(STEPS)).map(
    lambda x: instant_us(dt.datetime.fromisoformat(x[0] + "+00:00")) + x[1]
)
instants = st.one_of(near_changes, at_changes, st.integers(-5 * 365 * DAY, 70 * 365 * DAY))


@cache
def calendar(per: str, zone: str) -> Calendar:
    return Calendar(per, zone)


def number(per: str, zone: str, t: int) -> int:
    return int(calendar(per, zone).number(np.array([t], np.int64))[0])


def naive_date(t: int, zone: str) -> dt.date:
    minutes = [t, *range(t // MINUTE * MINUTE, t - 3 * HOUR, -MINUTE)]
    return max(moment(s).astimezone(ZoneInfo(zone)).date() for s in minutes)


def naive_number(per: str, date: dt.date) -> int:
    if per == "1mo":
        return (date.year - 1970) * 12 + date.month - 1
    if per == "1w":
        return ((date - dt.timedelta(days=date.weekday())) - dt.date(1969, 12, 29)).days // 7
    return (date - EPOCH).days


def wall_hour(t: int, zone: str) -> tuple[dt.date, int, dt.timedelta | None]:
    local = moment(t).astimezone(ZoneInfo(zone))
    return local.date(), local.hour, local.utcoffset()


@settings(max_examples=120, deadline=None)
@given(instants, st.sampled_from(ZONES), st.sampled_from(["1d", "1w", "1mo"]))
def test_the_window_of_an_instant_is_that_of_its_local_date(t: int, zone: str, per: str) -> None:
    assert number(per, zone, t) == naive_number(per, naive_date(t, zone))


@settings(max_examples=120, deadline=None)
@given(instants, st.sampled_from(ZONES), st.sampled_from(PERIODS))
def test_a_window_contains_its_instants_and_its_neighbours_touch_it(t: int, zone: str, per: str) -> None:
    windows, n = calendar(per, zone), number(per, zone, t)
    begin, end = windows.begin(n), windows.begin(n + 1)
    assert begin <= t < end
    assert [number(per, zone, s) for s in (begin, end - 1)] == [n, n]
    assert number(per, zone, begin - 1) < n < number(per, zone, end)


@settings(max_examples=100, deadline=None)
@given(instants, st.sampled_from(ZONES))
def test_an_hour_window_is_one_hour_of_the_wall_clock_and_never_longer(t: int, zone: str) -> None:
    windows, n = calendar("1h", zone), number("1h", zone, t)
    begin, end = windows.begin(n), windows.begin(n + 1)
    assert 0 < end - begin <= HOUR
    assert wall_hour(begin, zone) == wall_hour(t, zone) == wall_hour(end - 1, zone)
    assert wall_hour(begin - 1, zone) != wall_hour(begin, zone) != wall_hour(end, zone)
    assert local_hour(np.array([t], np.int64), windows).tolist() == [wall_hour(t, zone)[1]]


@pytest.mark.parametrize(
    ("zone", "date", "hours"),
    [
        ("America/Denver", "2026-03-08", 23),
        ("America/Denver", "2026-11-01", 25),
        ("America/Denver", "2026-07-01", 24),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
        ("America/Havana", "2026-03-08", 23),
        ("America/Havana", "2026-11-01", 25),
        ("Pacific/Apia", "2011-12-29", 24),
        ("Pacific/Apia", "2011-12-30", 0),
        ("Pacific/Apia", "2011-12-31", 24),
        ("America/St_Johns", "2010-11-06", 24),
        ("Africa/Monrovia", "1972-01-07", 24 - (44 * 60 + 30) / 3600),
    ],
)
def test_a_date_is_as_long_as_its_zone_made_it(zone: str, date: str, hours: float) -> None:
    n = (dt.date.fromisoformat(date) - EPOCH).days
    days = Calendar("1d", zone)
    assert (days.begin(n + 1) - days.begin(n)) / HOUR == pytest.approx(hours)


def test_a_date_that_a_zone_jumped_over_is_skipped_and_holds_no_instant() -> None:
    n = (dt.date(2011, 12, 30) - EPOCH).days
    days = Calendar("1d", "Pacific/Apia")
    assert days.skipped(n - 400, n + 400) == [n]
    eve = days.begin(n)
    assert days.number(np.array([eve - 1, eve], np.int64)).tolist() == [n - 1, n + 1]
    assert Calendar("1d", "UTC").skipped(n - 400, n + 400) == []


@pytest.mark.parametrize("per", PERIODS)
@pytest.mark.parametrize("zone", ["America/Denver", "Pacific/Apia", "Africa/Monrovia"])
def test_the_number_of_a_window_does_not_depend_on_what_was_asked_before(per: str, zone: str) -> None:
    moments = ("2026-11-01T08:00:00", "2011-12-30T10:00:00", "1969-03-01T05:00:00")
    asked = [instant_us(dt.datetime.fromisoformat(c + "+00:00")) for c in moments]
    forwards, backwards = Calendar(per, zone), Calendar(per, zone)
    first = {t: int(forwards.number(np.array([t], np.int64))[0]) for t in asked}
    second = {t: int(backwards.number(np.array([t], np.int64))[0]) for t in reversed(asked)}
    together = Calendar(per, zone).number(np.array(asked, np.int64)).tolist()
    assert first == second == dict(zip(asked, together, strict=True))
    assert [forwards.begin(n) for n in together] == [backwards.begin(n) for n in together]


@pytest.mark.parametrize("per", PERIODS)
def test_a_window_may_be_asked_for_its_begin_before_any_instant_was_seen(per: str) -> None:
    far = int(Calendar(per, "America/Denver").number(np.array([60 * 365 * DAY], np.int64))[0])
    assert Calendar(per, "America/Denver").begin(far) <= 60 * 365 * DAY < Calendar(per, "America/Denver").begin(far + 1)


def test_the_shape_of_the_instants_is_kept_and_none_give_none() -> None:
    t = np.array([[0, DAY], [2 * DAY, 3 * DAY]], np.int64)
    for zone in ("UTC", "America/Denver"):
        days = Calendar("1d", zone)
        assert days.number(t).shape == (2, 2)
        assert days.number(np.zeros(0, np.int64)).size == 0


def test_an_interval_touches_the_windows_it_shares_an_instant_with() -> None:
    days = Calendar("1d")
    touched = {
        (0, DAY): [0],
        (0, DAY + 1): [0, 1],
        (DAY - 1, DAY): [0],
        (DAY, DAY): [],
        (DAY - 1, 2 * DAY + 1): [0, 1, 2],
    }
    assert {span: list(days.touched(*span)) for span in touched} == touched


def test_rounded_days_run_from_noon_to_noon() -> None:
    days = Calendar("1d", rounded=True)
    assert days.number(np.array([DAY // 2 - 1, DAY // 2], np.int64)).tolist() == [0, 1]
    assert days.begin(1) == DAY // 2


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    for per, first in (("1w", dt.date(2026, 11, 2)), ("1mo", dt.date(2026, 11, 1))):
        begin = instant_us(dt.datetime.combine(first, dt.time(), ZoneInfo("America/Denver")))
        assert calendar(per, "America/Denver").begin(number(per, "America/Denver", begin)) == begin


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("10m", 10 * MINUTE),
        ("1h30m", 90 * MINUTE),
        ("1h 30m", 90 * MINUTE),
        ("7d", 7 * DAY),
        ("2w", 14 * DAY),
        ("5ms", 5000),
        ("3us", 3),
        (9, 9),
        (dt.timedelta(days=1, microseconds=1), DAY + 1),
    ],
)
def test_a_duration_is_read(text: str | int | dt.timedelta, us: int) -> None:
    assert duration_us(text) == us


@pytest.mark.parametrize("text", ["", "1", "h", "1x", "1h-", "-1h", "1.5h", "one hour", "1h 3"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(CalendarError, match="is not a duration"):
        duration_us(text)


@pytest.mark.parametrize("zone", ["America/Denvr", "", "../etc/passwd", "/etc/localtime", "Mars"])
def test_a_zone_that_does_not_exist_is_refused(zone: str) -> None:
    with pytest.raises(CalendarError, match="is not an IANA time zone"):
        load_zone(zone)


def test_errors_name_what_was_probably_meant() -> None:
    with pytest.raises(CalendarError, match='Did you mean "America/Denver"'):
        Calendar("1d", "America/Denvr")
    with pytest.raises(CalendarError, match=r'"1day" is not a calendar window.* Did you mean "1d"'):
        Calendar("1day")


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(CalendarError, match="has no time zone"):
        instant_us(dt.datetime(2026, 1, 1))
