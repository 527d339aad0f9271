"""Working hours, exposure and arrivals: each minute of the span is asked what the clock on the wall shows.

Layer: tests. The slow answer walks through every minute with `zoneinfo`, one at a time; it knows no spans, no offsets and no sums.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin import metrics
from tocsin.calendars import DAY, HOUR, MINUTE, complement, instant_us, moment, union
from tocsin.lifecycle import History
from tocsin.metrics.exposure import cell_hours, exposure, week_cells
from tocsin.workhours import DAYS, WorkHours, WorkHoursError, parse_week

# Half hours, quarters, half-hour summer time, southern summers, changes at midnight, a date skipped, a double summer, none.
AWKWARD = {
    "UTC": "2026-03-08",
    "Asia/Kolkata": "2026-03-08",
    "Asia/Kathmandu": "1986-01-01",
    "Australia/Lord_Howe": "2026-04-05",
    "Australia/Adelaide": "2026-10-04",
    "America/St_Johns": "2010-11-07",
    "America/Santiago": "2026-04-05",
    "Pacific/Apia": "2011-12-30",
    "Pacific/Kiritimati": "1995-01-01",
    "Africa/Casablanca": "2026-03-22",
    "Europe/London": "2026-10-25",
    "America/Phoenix": "2026-03-08",
    "Asia/Tehran": "2022-03-22",
    "Antarctica/Troll": "2026-03-29",
    "America/Asuncion": "2024-03-24",
    "America/Havana": "2026-11-01",
    "Europe/Dublin": "2026-03-29",
}
WEEKS = (
    "Mon-Fri 09:00-17:00",
    "Mon-Fri 09:00-12:00,13:00-17:30; Sat 22:00-06:00",
    "daily 22:00-06:00",
    "daily 00:00-24:00",
    "Sun 23:30-02:45; Fri,Sun 01:15-03:00",
)


def us(text: str) -> int:
    return instant_us(datetime.fromisoformat(text).replace(tzinfo=UTC))


def around(zone: str, days: int = 3) -> tuple[int, int]:
    """A span about the awkward day, not ending on full hours."""
    middle = us(AWKWARD[zone])
    return middle - days * DAY + 13 * MINUTE, middle + days * DAY - 29 * MINUTE


def works(work: WorkHours, local: datetime) -> bool:
    """Say by the clock on the wall alone whether somebody works: today's shifts, and yesterday's after midnight."""
    for back in (0, 1, 2):
        began = local.date() - timedelta(days=back)
        if began in work.holidays:
            continue
        minute = local.hour * 60 + local.minute + 1440 * back
        if any(start <= minute < end for start, end in work.week[began.weekday()]):
            return True
    return False


def walked(low: int, high: int, zone: str) -> list[tuple[int, datetime]]:
    """Return every minute of a span and what the clock of the zone shows."""
    tz = ZoneInfo(zone)
    return [(t, moment(t).astimezone(tz).replace(tzinfo=None)) for t in range(low, high, MINUTE)]


# ---- working hours


@pytest.mark.parametrize("zone", AWKWARD)
@pytest.mark.parametrize("week", WEEKS)
def test_working_time_is_every_minute_whose_clock_lies_in_an_interval(zone: str, week: str) -> None:
    low, high = around(zone)
    off = [date.fromisoformat(AWKWARD[zone]) + timedelta(days=2)]
    work = WorkHours.of(week, zone=zone, holidays=off)
    minutes = walked(low, high, zone)
    expected = np.array([works(work, local) for _, local in minutes])
    at = np.array([t for t, _ in minutes])
    assert (work.is_on(at) == expected).all()
    assert (work.is_on(at + MINUTE - 1) == expected).all()
    spans = work.spans(low, high)
    assert (np.diff(spans.ravel()) > 0).all(), "sorted, disjoint, none touching the next"
    assert work.exposure_us(low, high) == expected.sum() * MINUTE
    begun = np.append(0, np.cumsum(expected))
    i, j = np.random.default_rng(3).integers(0, len(at) - 1, (2, 200))
    assert (work.minutes_between(at[i], at[j]) == begun[j] - begun[i]).all()


@pytest.mark.parametrize(
    ("zone", "noon", "week", "hours"),
    [
        ("Europe/London", "2026-03-27T12:00", "daily 22:00-06:00", [8]),
        ("Europe/London", "2026-03-28T12:00", "daily 22:00-06:00", [7]),  # over the hour that is skipped
        ("Europe/London", "2026-10-24T12:00", "daily 22:00-06:00", [9]),
        (
            "Europe/London",
            "2026-10-24T12:00",
            "daily 22:00-01:30",
            [3.5, 0.5],
        ),  # the clock shows 01:00 to 01:30 once more
        ("Australia/Lord_Howe", "2026-04-04T12:00", "daily 22:00-06:00", [8.5]),
        ("Pacific/Apia", "2011-12-29T12:00", "Thu 22:00-06:00", [2]),  # its morning lay on the date that never was
        (
            "Pacific/Apia",
            "2011-12-29T12:00",
            "daily 22:00-06:00",
            [8],
        ),  # midnight led to Saturday, Friday's shift's morning
    ],
)
def test_a_night_shift_over_a_change_of_the_clock_has_the_hours_that_the_clock_showed(
    zone: str, noon: str, week: str, hours: list[float]
) -> None:
    begin = instant_us(datetime.fromisoformat(noon).replace(tzinfo=ZoneInfo(zone)))
    spans = WorkHours.of(week, zone=zone).spans(begin, begin + DAY)
    assert [(b - a) / HOUR for a, b in spans.tolist()] == hours


def test_a_holiday_takes_away_the_shifts_that_begin_on_it_and_lets_the_evening_before_go_on() -> None:
    night = WorkHours.of("daily 22:00-06:00", holidays=[date(2026, 12, 25)])
    spans = [[moment(t).isoformat()[:16] for t in s] for s in night.spans(us("2026-12-24"), us("2026-12-27")).tolist()]
    assert spans == [
        ["2026-12-24T00:00", "2026-12-24T06:00"],
        ["2026-12-24T22:00", "2026-12-25T06:00"],
        ["2026-12-26T22:00", "2026-12-27T00:00"],
    ]


def test_public_holidays_of_a_country_and_a_part_of_it_are_days_off() -> None:
    day = 24 * HOUR
    epiphany, assumption = us("2026-01-06"), us("2026-08-15")
    bavaria = WorkHours.of("daily 0-24", holidays="DE-BY")
    assert bavaria.exposure_us(epiphany, epiphany + day) == 0
    assert WorkHours.of("daily 0-24", holidays="DE").exposure_us(epiphany, epiphany + day) == day
    assert bavaria.exposure_us(assumption - day, assumption) == day
    independence = us("2027-07-05")  # the 4th is a Sunday: observed on Monday
    assert WorkHours.of(None, holidays="US").exposure_us(independence, independence + day) == 0
    assert "DE-BY" in str(bavaria)


clock = st.integers(0, 24 * 60 - 1)
interval = st.tuples(clock, st.integers(1, 24 * 60)).map(lambda p: (p[0], p[0] + p[1]))
weeks = st.lists(st.lists(interval, max_size=3), min_size=7, max_size=7).map(
    lambda week: tuple(tuple(sorted(set(day))) for day in week)
)


@settings(max_examples=60, deadline=None)
@given(weeks, st.sampled_from(sorted(AWKWARD)), st.integers(-2 * DAY, 2 * DAY), st.integers(1, 3 * DAY))
def test_any_schedule_works_the_minutes_that_its_clock_shows(week: tuple, zone: str, shift: int, length: int) -> None:
    low = (us(AWKWARD[zone]) + shift) // MINUTE * MINUTE
    high = low + -(-length // MINUTE) * MINUTE
    work = WorkHours(week, zone, frozenset({date.fromisoformat(AWKWARD[zone])}))
    assert work.exposure_us(low, high) == MINUTE * sum(works(work, local) for _, local in walked(low, high, zone))


@settings(deadline=None)
@given(weeks)
def test_a_week_as_text_is_read_as_the_same_week(week: tuple) -> None:
    work = WorkHours(week, "Asia/Kathmandu")
    whole = tuple(tuple((a, b) for a, b in day) for day in week)
    assert (
        WorkHours.of(work.text, zone="Asia/Kathmandu").spans(0, 30 * DAY).tolist() == work.spans(0, 30 * DAY).tolist()
    )
    assert work.week == whole


@settings(deadline=None)
@given(weeks, st.lists(st.integers(0, 30 * DAY), min_size=3, max_size=3).map(sorted))
def test_working_minutes_add_up(week: tuple, at: list[int]) -> None:
    work, (a, b, c) = WorkHours(week, "Africa/Casablanca"), at
    parts = work.minutes_between([a, b, a, c], [b, c, c, a])
    assert parts[0] + parts[1] == pytest.approx(parts[2])
    assert parts[3] == -parts[2]
    assert parts[2] == pytest.approx(work.exposure_us(a, c) / MINUTE)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("Mon-Fri 9-17", {0: ((540, 1020),), 4: ((540, 1020),), 5: ()}),
        ("friday-monday 22:00-06:00", {4: ((1320, 1800),), 0: ((1320, 1800),), 1: ()}),
        ("Sat, Sun 10:00 - 14:00", {5: ((600, 840),), 6: ((600, 840),), 0: ()}),
        ("Tue 16-24; Tue 8–12", {1: ((480, 720), (960, 1440))}),
        ("Thu 8-8", {3: ((480, 1920),)}),
        ("daily 22-0", {3: ((1320, 1440),)}),
        ("24/7", {0: ((0, 1440),), 6: ((0, 1440),)}),
        ("never", {0: ()}),
    ],
)  # fmt: skip
def test_hours_are_read_as_people_write_them(text: str, days: dict) -> None:
    week = parse_week(text)
    assert {day: week[day] for day in days} == days


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("9-17", "not days and then times"),
        ("Mon-Fri", "not days and then times"),
        ("Mon-Fri 9", '"9" has no end'),
        ("Mon-Fri 9-25", '"25" is no time of day'),
        ("Mon 9:60-10", '"9:60" is no time'),
        ("Mon 24-6", "when its day is over"),
        ("Mo 9-17", "Days are Mon, Tue"),
        ("Munday 9-17", "Did you mean .*monday"),
        ((9, 25), "between 0 and 24"),
        ((9, 17.001), "full minute"),
        (9, "Write \\(9, 17\\)"),
        ("missing.toml", "missing.toml"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_write(spec: object, words: str) -> None:
    with pytest.raises(WorkHoursError, match=words):
        WorkHours.of(spec)


@pytest.mark.parametrize(
    ("holidays", "words"),
    [
        ("ZZ", "no country"),
        ("DE-ZZ", "Its parts: BB"),
        (["2026-13-01"], "no date"),
        ("missing.txt", "missing.txt"),
        ([7], "no date"),
    ],
)
def test_holidays_that_do_not_exist_are_refused(holidays: object, words: str) -> None:
    with pytest.raises(WorkHoursError, match=words):
        WorkHours.of(None, holidays=holidays)


def test_hours_and_holidays_are_read_from_files(tmp_path: Path) -> None:
    (tmp_path / "off.csv").write_text(
        "\ufeffdate,name\n2026-12-24,Christmas Eve\n\n2026-12-31;x  # half\n", encoding="utf-8"
    )
    (tmp_path / "desk.toml").write_text(
        'zone = "Europe/Berlin"\nholidays = "off.csv"\n[hours]\nmon = ["09:00-12:00", "13:00-17:30"]\nsat = "22:00-06:00"\n',
        encoding="utf-8",
    )
    desk = WorkHours.of(str(tmp_path / "desk.toml"), zone="Asia/Tokyo")
    assert (desk.text, desk.zone) == ("Mon 09:00-12:00,13:00-17:30; Sat 22:00-06:00", "Europe/Berlin")
    assert desk.holidays == {date(2026, 12, 24), date(2026, 12, 31)}
    assert WorkHours.of(desk, zone="UTC", holidays="US") == WorkHours(desk.week, desk.zone, region="US")
    (tmp_path / "bad.csv").write_text("2026-12-24\nsoon\n", encoding="utf-8")
    with pytest.raises(WorkHoursError, match=r"bad\.csv:2"):
        WorkHours.of(None, holidays=tmp_path / "bad.csv")
    for text, words in (
        ("hors = 3", "hors"),
        ("hours = 3", "text or lists"),
        ("hours = [", "desk.toml"),
        ('zone = "x"', "zone"),
    ):
        (tmp_path / "desk.toml").write_text(text, encoding="utf-8")
        with pytest.raises(WorkHoursError, match=words):
            WorkHours.of(tmp_path / "desk.toml")


# ---- spans


spans_of = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda p: (p[0], p[0] + p[1])), max_size=8)


@settings(deadline=None)
@given(spans_of, st.integers(1, 3), st.integers(0, 20), st.integers(0, 20))
def test_union_and_complement_hold_the_points_that_they_should(parts: list, least: int, low: int, length: int) -> None:
    spans = np.array(parts, np.int64).reshape(-1, 2)
    depth = Counter(p for a, b in parts for p in range(a, b))
    held = [p for a, b in union(spans, least).tolist() for p in range(a, b)]
    assert held == sorted(p for p, n in depth.items() if n >= least)
    free = complement(spans, low, low + length)
    assert [p for a, b in free.tolist() for p in range(a, b)] == [p for p in range(low, low + length) if not depth[p]]
    assert (np.diff(free.ravel()) > 0).all()


# ---- exposure and cells


@pytest.mark.parametrize("zone", AWKWARD)
def test_each_hour_of_the_week_has_the_minutes_that_the_clock_showed_it(zone: str) -> None:
    low, high = around(zone, 9)
    holes = np.array([[low + 3 * DAY + 17 * MINUTE, low + 3 * DAY + 5 * HOUR], [low + 9 * DAY, low + 9 * DAY + HOUR]])
    spans = complement(holes, low, high)
    minutes = [(t, local) for t, local in walked(low, high, zone) if not any(a <= t < b for a, b in holes)]
    cells = [24 * local.weekday() + local.hour for _, local in minutes]
    assert (cell_hours(spans, zone) * 60).tolist() == np.bincount(cells, minlength=168).tolist()
    at = np.array([t for t, _ in minutes])
    assert week_cells(at, zone).tolist() == cells
    assert week_cells(at + MINUTE - 1, zone).tolist() == cells


def history(at: list[int] | np.ndarray, journal: list[tuple] = (), **more: object) -> History:
    alerts = pl.DataFrame({"alert_id": [f"a{i}" for i in range(len(at))], "created_at": pl.Series(at, dtype=pl.Int64)})
    rows = pl.DataFrame(
        [(kind, name, a, b) for kind, name, a, b in journal],
        schema={"kind": pl.String, "name": pl.String, "at": pl.Int64, "until": pl.Int64}, orient="row",
    )  # fmt: skip
    time = pl.Datetime("us", "UTC")
    return History.of(
        alerts.with_columns(pl.col("created_at").cast(time)),
        journal=rows.with_columns(pl.col("at", "until").cast(time)),
        **more,
    )


def asked(log: History, since: int, until: int, zone: str = "UTC", **more: object) -> metrics.Metrics:
    return metrics.of(log, since=moment(since), until=moment(until), zone=zone, **more)


feeds = st.lists(
    st.tuples(
        st.sampled_from(["covered", "gap"]),
        st.sampled_from(["mail", "login"]),
        st.integers(-30, 80),
        st.integers(0, 60),
    ),
    max_size=7,
)


@settings(deadline=None)
@given(feeds, st.integers(1, 72))
def test_time_counts_where_every_feed_that_had_begun_delivered(rows: list, hours: int) -> None:
    journal = [(kind, name, a * HOUR, (a + n) * HOUR) for kind, name, a, n in rows]
    found = exposure(asked(history([HOUR], journal), 0, hours * HOUR).scope)
    covered = {
        name: min(a for k, m, a, _ in rows if (k, m) == ("covered", name)) for k, name, *_ in rows if k == "covered"
    }
    begun = {name: covered.get(name, 0) for _, name, *_ in rows}

    def there(hour: int) -> bool:
        told = {kind: {m for k, m, a, n in rows if k == kind and a <= hour < a + n} for kind in ("covered", "gap")}
        expected = {name for name, first in begun.items() if first <= hour}
        away = {name for name in expected if name in told["gap"] or (name in covered and name not in told["covered"])}
        return not away and (bool(expected) or not begun)

    held = [h // HOUR for a, b in found.spans.tolist() for h in range(a, b, HOUR)]
    assert held == [h for h in range(hours) if there(h)]
    assert found.hours == len(held)


@pytest.mark.parametrize("zone", AWKWARD)
def test_arrivals_and_their_rates_are_those_of_a_walk_through_every_minute(zone: str) -> None:
    low, high = around(zone, 8)
    rng = np.random.default_rng(11)
    at = np.sort(rng.integers(low - 16 * DAY, high, 700))
    gap = (low + 2 * DAY + 7 * MINUTE, low + 3 * DAY)
    log = history(at, [("gap", "mail", *gap)])
    answer = asked(log, low, high, zone).arrivals()
    tz = ZoneInfo(zone)

    def cell(t: int) -> int:
        local = moment(t).astimezone(tz)
        return 24 * local.weekday() + local.hour

    inside = [t for t in at.tolist() if low <= t < high]
    total = Counter(cell(t) for t in inside)
    rated = Counter(cell(t) for t in inside if not gap[0] <= t < gap[1])
    minutes = Counter(24 * w.weekday() + w.hour for t, w in walked(low, high, zone) if not gap[0] <= t < gap[1])
    for c, row in enumerate(answer.table.to_dicts()):
        assert (row["weekday"], row["hour"]) == (DAYS[c // 24], c % 24)
        assert (row["alerts"], row["alerts_exposed"], row["exposed_hours"] * 60) == (total[c], rated[c], minutes[c])
        assert row["alerts_per_hour"] == (pytest.approx(60 * rated[c] / minutes[c]) if minutes[c] else None)
    assert answer.n == len(inside) == answer.table["alerts"].sum()
    by_day = answer.more["By day"]
    assert by_day["alerts"].sum() == len(inside)
    assert by_day["exposed_hours"].sum() == pytest.approx(answer.table["exposed_hours"].sum())
    if zone != "Antarctica/Troll":
        dates = Counter(moment(t).astimezone(tz).date() for t in inside)
        assert {d: n for d, n in by_day.select("day", "alerts").iter_rows() if n} == dates


def test_the_notebooks_table_is_ours_when_asked_as_it_asks_and_its_default_hours_are_those_of_nobody() -> None:
    low, high = us("2026-02-01"), us("2026-04-01")
    at = np.random.default_rng(5).integers(low, high, 2_000)
    tz = ZoneInfo("America/New_York")
    cells: dict[tuple[int, int], set[int]] = {}
    off = Counter()
    for i, t in enumerate(at.tolist()):
        local = moment(t).astimezone(tz)
        cells.setdefault((local.weekday(), local.hour), set()).add(i)
        off[not (local.weekday() < 5 and 9 <= local.hour < 17)] += 1
    asked_so = asked(history(at), low, high, "America/New_York", hours=(9, 17))
    table = asked_so.arrivals(value="count").table
    assert table["alerts"].to_list() == [len(cells.get(divmod(c, 24), ())) for c in range(168)]
    assert asked_so.on_off_hours().table["alerts"].to_list() == [off[False], off[True]]
    # Its widget opens with 13 to 21 in UTC, said to be somebody's working day: it is 8 to 16 in winter and 9 to 17 in summer.
    default = WorkHours.of((13, 21))
    for day, hours in (("2026-02-02", (8, 16)), ("2026-03-16", (9, 17))):
        shown = [moment(t).astimezone(tz).hour for t in default.spans(us(day), us(day) + DAY)[0].tolist()]
        assert tuple(shown) == hours


@pytest.mark.parametrize("week", WEEKS)
def test_on_and_off_hours_split_alerts_and_exposure_without_rest(week: str) -> None:
    low, high = around("Europe/London", 12)
    at = np.random.default_rng(2).integers(low, high, 500)
    gap = (low + 30 * HOUR, low + 41 * HOUR)
    found = asked(history(at, [("gap", "mail", *gap)]), low, high, "Europe/London", hours=week).on_off_hours()
    work = WorkHours.of(week, zone="Europe/London")
    minutes = [works(work, local) for t, local in walked(low, high, "Europe/London") if not gap[0] <= t < gap[1]]
    on, off = found.table.to_dicts()
    assert (on["hours"], off["hours"]) == (
        pytest.approx(sum(minutes) / 60),
        pytest.approx((len(minutes) - sum(minutes)) / 60),
    )
    assert on["alerts"] + off["alerts"] == 500
    out = int(((at >= gap[0]) & (at < gap[1])).sum())
    assert on["alerts_exposed"] + off["alerts_exposed"] == 500 - out
    assert on["share"] + off["share"] == pytest.approx(1)
    assert f"{out} alerts were created while a feed did not deliver" in " ".join(found.notes)


def test_an_alert_that_occurs_twice_counts_once() -> None:
    log = history([HOUR, HOUR, 2 * HOUR])
    twice = History.of(log.alerts.with_columns(alert_id=pl.Series(["a", "a", "b"])))
    found = asked(twice, 0, DAY)
    assert found.arrivals().n == found.on_off_hours().n == 2


def test_without_alerts_there_are_words_and_an_empty_table_and_without_coverage_no_rate() -> None:
    nothing = metrics.of(History.of(history([]).alerts))
    for answer in (nothing.arrivals(), nothing.on_off_hours()):
        assert answer.empty
        assert answer.n == answer.table.height == 0
        assert answer.to_dict()["chart"] is None
    blind = asked(history([HOUR], [("gap", "mail", 0, DAY)]), 0, DAY)
    assert blind.arrivals().table["alerts_per_hour"].null_count() == 168
    assert "while a feed delivered" in blind.on_off_hours().empty
    assert blind.on_off_hours().table["share"].null_count() == 2
    quiet = asked(history([HOUR]), DAY, 2 * DAY).arrivals()
    assert quiet.empty
    assert quiet.table["alerts_per_hour"].drop_nulls().unique().to_list() == [0.0]
    assert quiet.plot().layout.annotations[0].text == quiet.empty


def test_a_log_that_did_not_exist_yet_saw_nothing_in_the_span_before() -> None:
    first = asked(history(list(range(7 * DAY, 14 * DAY, HOUR))), 7 * DAY, 14 * DAY).arrivals()
    assert first.facts["alerts_per_hour"] == 1.0
    assert first.facts["alerts_per_hour_before"] is None
    assert first.table["alerts_per_hour_before"].null_count() == 168
    later = asked(history(list(range(0, 14 * DAY, HOUR))), 7 * DAY, 14 * DAY).arrivals()
    assert later.facts["alerts_per_hour_before"] == 1.0


def test_hours_after_the_time_at_which_the_log_is_looked_at_are_no_exposure() -> None:
    log = history(list(range(0, 7 * DAY, HOUR)))
    seen = asked(log, 0, 7 * DAY, as_of=moment(3 * DAY - 1))
    assert seen.arrivals().facts["exposed_hours"] == pytest.approx(72)
    assert seen.arrivals().facts["alerts_per_hour"] == pytest.approx(1.0)


def test_the_chart_outlines_working_hours_a_night_shift_on_both_of_its_days() -> None:
    found = asked(history([HOUR]), 0, 7 * DAY, hours="Mon-Fri 9-17; Sun 22:00-06:00").arrivals()
    outline = found.chart.words["outline"]
    assert (6, 22.0, 24.0) in outline
    assert (0, 0.0, 6.0) in outline
    boxes = [(s.x0, s.x1, s.y0, s.y1) for s in found.plot().layout.shapes]
    assert (8.5, 16.5, -0.5, 4.5) in boxes, "Monday to Friday in one box"
    with pytest.raises(metrics.MetricError, match='Did you mean "count"'):
        asked(history([HOUR]), 0, DAY).arrivals(value="counts")
