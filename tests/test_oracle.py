"""Hand-computed answers that pin the slow reference itself: what it says here was worked out on paper."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import polars as pl
import pytest

from tests.oracle import Spec, answer, mad, median, quantile, sd
from tests.oracle_time import DAY_US, HOUR_US, MINUTE_US, Calendar, End, Idle, Record, Row, from_us, judge, to_us
from tests.strategies import SCHEMA
from tocsin import fits, measures

ANY = pl.col("timestamp").is_not_null()
DAILY = measures.Count(per="1d")


def at(text: str) -> dt.datetime:
    """'2026-03-02T10:00' in UTC."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def row(event_id: str, when: str | dt.datetime, user: str | None = "ann", **columns: Any) -> Row:
    moment = at(when) if isinstance(when, str) else when
    return dict.fromkeys(SCHEMA) | {"event_id": event_id, "timestamp": moment, "user_id": user} | columns


def day(number: int, hour: int = 12) -> dt.datetime:
    """An hour of the `number`-th of March 2026; the 2nd is a Monday."""
    return dt.datetime(2026, 3, number, hour, tzinfo=dt.UTC)


def ask(
    rows: list[Record], measure: measures.Measure | None, against: fits.Fit | None = None, **settings: Any
) -> dict[str, dict[str, Any]]:
    """The oracle's columns by event id."""
    spec = Spec("r", ANY, "user_id", measure, against, pl.col("@value"), settings.pop("above", math.inf))
    defaults = {"lateness": 400 * DAY_US, "dedup_horizon": 400 * DAY_US}
    return dict(answer([*rows, End()], [spec], schema=SCHEMA, **defaults | settings).columns["r"])


def values(rows: list[Record], measure: measures.Measure, column: str = "@value", **settings: Any) -> list[Any]:
    return [cells[column] for cells in ask(rows, measure, **settings).values()]


def fates(log: list[Record], **settings: Any) -> list[str]:
    defaults: dict[str, Any] = {"lateness": HOUR_US, "dedup_horizon": DAY_US, "read": frozenset({"kind"})}
    return [j.fate for j in judge(log, **defaults | settings)[0]]


# ----------------------------------------------------------------------------------------------------------- calendars
@pytest.mark.parametrize(
    ("per", "zone", "inside", "begin", "end"),
    [
        ("1d", "America/Denver", "2026-03-08T12:00", "2026-03-08T07:00", "2026-03-09T06:00"),  # 23 hours
        ("1d", "America/Denver", "2026-11-01T12:00", "2026-11-01T06:00", "2026-11-02T07:00"),  # 25 hours
        ("1h", "America/Denver", "2026-11-01T08:30", "2026-11-01T08:00", "2026-11-01T09:00"),  # the second 1 o'clock
        ("1h", "Australia/Lord_Howe", "2026-04-04T15:10", "2026-04-04T15:00", "2026-04-04T15:30"),  # 01:30 again
        ("1d", "Australia/Lord_Howe", "2026-04-04T15:10", "2026-04-04T13:00", "2026-04-05T13:30"),  # 24.5 hours
        ("1h", "Asia/Kathmandu", "2026-05-31T18:20", "2026-05-31T18:15", "2026-05-31T19:15"),
        ("1d", "Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00", "2011-12-31T10:00"),  # local date 31, after 29
        ("1d", "America/St_Johns", "2010-11-07T02:40", "2010-11-07T02:30", "2010-11-08T03:30"),  # 23:10 again: date 7
        ("1w", "UTC", "2026-03-08T23:59", "2026-03-02T00:00", "2026-03-09T00:00"),  # from Monday
        ("1mo", "Asia/Kathmandu", "2026-05-31T18:20", "2026-05-31T18:15", "2026-06-30T18:15"),
    ],
)
def test_a_window_begins_when_its_local_date_or_hour_begins(per: str, zone: str, inside: str, begin: str, end: str):
    calendar = Calendar(per, zone)
    label = calendar.window(to_us(at(inside)))
    assert [from_us(us) for us in calendar.span(label)] == [at(begin), at(end)]
    assert calendar.window(to_us(at(begin))) == label
    assert calendar.window(to_us(at(begin)) - 1) < label
    assert calendar.window(to_us(at(end)) - 1) == label


def test_a_date_that_never_happened_is_no_window_but_keeps_its_place():
    calendar = Calendar("1d", "Pacific/Apia")
    new_years_eve = dt.date(2011, 12, 31).toordinal()
    assert not calendar.exists(new_years_eve - 1)
    assert calendar.previous(new_years_eve, 2) == [new_years_eve - 2]
    assert calendar.before(new_years_eve) == new_years_eve - 2


# ------------------------------------------------------------------------------------------------------------- arrival
def test_an_event_exactly_at_the_watermark_is_not_late_and_one_microsecond_before_it_is():
    exactly, before = at("2026-03-02T11:00"), at("2026-03-02T11:00") - dt.timedelta(microseconds=1)
    assert fates([row("a", "2026-03-02T12:00"), row("b", exactly), row("c", before)]) == ["ok", "ok", "late"]


def test_the_frontier_is_the_slowest_partition_and_an_idle_one_is_left_out():
    fast = [row("a", day(1), partition="p"), row("b", day(1), partition="q"), row("c", day(5), partition="p")]
    lagging = row("d", day(2), partition="q")
    assert fates([*fast, lagging]) == ["ok"] * 4
    assert fates([*fast, Idle("q"), lagging]) == ["ok", "ok", "ok", "late"]


def test_the_frontier_never_goes_back_when_an_idle_partition_speaks_again():
    log = [row("a", day(1), partition="q"), row("b", day(5), partition="p"), Idle("q")]
    log += [row("c", day(6), partition="q"), row("d", day(4), partition="q"), row("e", day(4), partition="r")]
    assert fates(log) == ["ok", "ok", "ok", "late", "late"]


def test_a_duplicate_moves_no_clock_and_a_changed_repeat_is_a_conflict():
    log = [row("a", day(1), kind="mail"), row("a", day(1), kind="mail"), row("a", day(1), kind="login")]
    log += [row("a", day(9), kind="mail"), row("b", day(1))]
    assert fates(log) == ["ok", "duplicate", "conflict", "conflict", "ok"]


def test_an_id_is_forgotten_once_the_clock_is_beyond_the_horizon():
    kept = [row("a", day(1)), row("b", day(2)), row("a", day(1))]
    gone = [row("a", day(1)), row("b", day(2, 13)), row("a", day(2, 13))]
    assert fates(kept) == ["ok", "ok", "duplicate"]
    assert fates(gone) == ["ok", "ok", "ok"]


def test_a_new_partition_forgets_ids_by_the_clock_of_the_others():
    log = [row("a", day(1), partition="p"), row("b", day(3), partition="p"), row("a", day(1), partition="q")]
    assert fates(log) == ["ok", "ok", "late"]
    assert fates(log, dedup_horizon=2 * DAY_US) == ["ok", "ok", "duplicate"]


def test_the_same_id_from_another_source_is_another_event():
    assert fates([row("a", day(1), source="s"), row("a", day(1), source="t"), row("a", day(1))]) == ["ok"] * 3


def test_an_event_beyond_received_at_and_skew_is_rejected_and_forgotten():
    late_stamp = day(1) - dt.timedelta(minutes=10)
    allowed, beyond = row("a", day(1), received_at=late_stamp), row("b", day(1, 13), received_at=late_stamp)
    again = row("b", day(1, 13), received_at=day(1, 13))
    skew = 10 * MINUTE_US
    assert fates([allowed, beyond, again], future_skew=skew) == ["ok", "future", "ok"]


# ------------------------------------------------------------------------------------------------------------ measures
def test_a_running_count_includes_the_event_being_scored_and_ties_go_by_id():
    rows = [row("b", day(2)), row("a", day(2)), row("c", day(2, 11))]
    assert {k: v["@value"] for k, v in ask(rows, DAILY).items()} == {"c": 1.0, "a": 2.0, "b": 3.0}


def test_a_23_hour_day_ends_an_hour_early():
    last = at("2026-03-09T06:00") - dt.timedelta(microseconds=1)
    rows = [row("a", "2026-03-08T07:00"), row("b", last), row("c", "2026-03-09T06:00")]
    assert values(rows, measures.Count(per="1d", zone="America/Denver")) == [1.0, 2.0, 1.0]


def test_a_sliding_window_is_open_at_its_old_end_and_closed_at_the_event():
    start = at("2026-03-02T12:00")
    edge = start + dt.timedelta(minutes=10)
    rows = [row("a", start), row("b", edge - dt.timedelta(microseconds=1)), row("c", edge), row("d", edge)]
    assert values(rows, measures.Count(sliding="10m")) == [1.0, 2.0, 2.0, 3.0]


def test_an_endless_count_begins_anew_only_after_a_longer_silence():
    rows = [row("a", day(1)), row("b", day(2)), row("c", day(3, 13)), row("d", day(3, 14))]
    assert values(rows, measures.Count(ever=True, forget_after="1d")) == [1.0, 2.0, 1.0, 2.0]
    assert values(rows, measures.Count(ever=True)) == [1.0, 2.0, 3.0, 4.0]


def test_floats_are_stored_as_integers_rounded_half_to_even():
    rows = [row("a", day(2), size=0.25), row("b", day(2), size=0.35), row("c", day(2), size=None)]
    scaled = {"scale": 10, "per": "1d"}
    assert values(rows, measures.Sum("size", **scaled)) == [0.2, 0.6, None]
    assert values(rows, measures.Mean("size", **scaled)) == [0.2, 0.3, None]
    assert values(rows, measures.Max("size", **scaled)) == [0.2, 0.4, None]


def test_a_ratio_is_null_until_its_denominator_has_an_event():
    measure = measures.Ratio(num=pl.col("bounced"), den=pl.col("kind") == "mail", per="1d")
    rows = [row("a", day(2), bounced=True), row("b", day(2), kind="mail"), row("c", day(2), kind="mail", bounced=None)]
    assert values(rows, measure) == [None, 1.0, 0.5]


def test_distinct_counts_values_once_and_stays_at_its_bound():
    rows = [row(i, day(2), src_ip=ip) for i, ip in (("a", "x"), ("b", "x"), ("c", "y"), ("d", "z"))]
    assert values(rows, measures.Distinct("src_ip", per="1d")) == [1.0, 1.0, 2.0, 3.0]
    assert values(rows, measures.Distinct("src_ip", per="1d", bound=2)) == [1.0, 1.0, 2.0, 2.0]


def test_hours_are_those_of_the_local_clock():
    rows = [row("a", "2026-03-07T15:30"), row("b", "2026-03-08T14:30"), row("c", "2026-03-08T15:30")]
    # 08:30 MST, then 08:30 and 09:30 MDT
    assert values(rows, measures.Hours(zone="America/Denver")) == [1.0, 2.0, 1.0]
    assert values(rows, measures.Hours(zone="America/Denver"), "@total") == [1.0, 2.0, 3.0]


def test_previous_gives_the_last_matching_event_unless_it_is_too_old():
    rows = [row("a", day(1), src_ip="x"), row("b", day(2), src_ip=None), row("c", day(3, 13))]
    measure = measures.Previous("timestamp", "src_ip", forget_after="1d")
    assert values(rows, measure, "@prev.src_ip") == [None, "x", None]
    assert values(rows, measure, "@prev.timestamp") == [None, day(1), None]
    assert values(rows, measures.Previous("timestamp"), "@prev.timestamp") == [None, day(1), day(2)]


def test_a_value_forgotten_is_seen_for_the_first_time_again_and_known_counts_it_again():
    rows = [row(i, day(d), src_ip=ip) for i, d, ip in (("a", 1, "x"), ("b", 2, "x"), ("c", 2, "y"), ("d", 4, "x"))]
    once, forgetful = measures.FirstSeen("src_ip"), measures.FirstSeen("src_ip", forget_after="1d")
    assert values(rows, once) == [1.0, 0.0, 1.0, 0.0]
    assert values(rows, forgetful) == [1.0, 0.0, 1.0, 1.0]
    assert values([*rows, row("e", day(4), src_ip="x")], forgetful, "@known") == [0.0, 1.0, 1.0, 2.0, 3.0]


def test_events_without_entity_or_without_the_measured_value_take_no_part():
    rows = [row("a", day(2), None, nr_recipients=1), row("b", day(2), nr_recipients=None)]
    rows += [row("c", day(2), size=math.nan), row("d", day(2), nr_recipients=5, size=1.0)]
    fit = fits.own_history(mean=True, at_least=1)
    found = ask(rows, measures.Sum("nr_recipients", per="1d"), fit)
    assert found["a"] == found["b"] == {"@value": None, "@ref.mean": None, "@ref.n": None}
    assert found["d"]["@value"] == 5.0
    assert values(rows, measures.Sum("size", scale=1, per="1d")) == [None, None, None, 1.0]


# ---------------------------------------------------------------------------------------------------------- statistics
def test_statistics_are_those_of_the_textbook():
    assert sd([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]) == math.sqrt(32 / 7)
    assert sd([3.0]) is None
    assert (median([3.0, 1.0, 2.0]), median([4.0, 1.0, 2.0, 3.0])) == (2.0, 2.5)
    assert mad([1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0]) == 1.0
    assert [quantile([4.0, 2.0, 1.0, 3.0], q) for q in (0.0, 0.25, 0.5, 1.0)] == [1.0, 1.75, 2.5, 4.0]


# --------------------------------------------------------------------------------------------------------- own history
def test_the_three_times_rule_compares_with_the_mean_of_the_days_before_today():
    """The notebook's expanding mean includes today: with 7 twos and a nine it says 9 / 2.875, not 9 / 2."""
    rows = [row(f"{d}{i}", day(d)) for d in range(1, 8) for i in range(2)] + [row(f"8{i}", day(8)) for i in range(9)]
    found = ask(rows, DAILY, fits.own_history(mean=True, at_least=7))
    assert found["71"] == {"@value": 2.0, "@ref.mean": None, "@ref.n": None}
    assert found["88"] == {"@value": 9.0, "@ref.mean": 2.0, "@ref.n": 7.0}


def test_days_without_events_are_zero_from_the_first_day_on_and_missing_in_a_gap():
    rows = [row("a", day(1)), row("b", day(5))]
    fit = fits.own_history(mean=True, at_least=1)
    assert ask(rows, DAILY, fit)["b"] == {"@value": 1.0, "@ref.mean": 0.25, "@ref.n": 4.0}
    one_microsecond = (to_us(day(2)), to_us(day(2)) + 1)
    assert ask(rows, DAILY, fit, gaps=(one_microsecond,))["b"]["@ref.mean"] == 1 / 3
    until_midnight = (to_us(day(1, 13)), to_us(day(2, 0)))  # touches only the day that has an event
    assert ask(rows, DAILY, fit, gaps=(until_midnight,))["b"]["@ref.n"] == 4.0


def test_a_baseline_reaches_back_no_further_than_its_windows():
    rows = [row("a", day(1)), row("b", day(3)), row("c", day(3)), row("d", day(5))]
    found = ask(rows, DAILY, fits.own_history(mean=True, sd=True, windows=2, at_least=1))["d"]
    assert found == {"@value": 1.0, "@ref.mean": 1.0, "@ref.sd": math.sqrt(2), "@ref.n": 2.0}


def test_ratios_means_and_extremes_of_empty_days_are_missing_not_zero():
    rows = [row("a", day(1), nr_recipients=4), row("b", day(4), nr_recipients=2), row("c", day(5), nr_recipients=1)]
    fit = fits.own_history(mean=True, at_least=1)
    assert ask(rows, measures.Mean("nr_recipients", per="1d"), fit)["c"]["@ref.mean"] == 3.0
    assert ask(rows, measures.Min("nr_recipients", per="1d"), fit)["c"]["@ref.n"] == 2.0
    assert ask(rows, measures.Sum("nr_recipients", per="1d"), fit)["c"]["@ref.mean"] == 1.5


def test_same_weekday_reads_every_seventh_day():
    rows = [row("a", day(2)), row("b", day(3)), row("c", day(9)), row("d", day(9)), row("e", day(16))]
    found = ask(rows, DAILY, fits.own_history(mean=True, same_weekday=True, windows=4, at_least=1))
    assert found["d"]["@ref.mean"] == 1.0
    assert found["e"] == {"@value": 1.0, "@ref.mean": 1.5, "@ref.n": 2.0}


def test_alerted_windows_leave_the_baseline_only_when_asked():
    rows = [row("a", day(1)), *(row(f"b{i}", day(2)) for i in range(5)), row("c", day(3))]
    counted = ask(rows, DAILY, fits.own_history(mean=True, at_least=1), above=4)
    excluded = ask(rows, DAILY, fits.own_history(mean=True, at_least=1, exclude_alerted=True), above=4)
    assert (counted["c"]["@ref.mean"], excluded["c"]["@ref.mean"]) == (3.0, 1.0)


def test_a_date_that_never_happened_is_neither_zero_nor_counted():
    zone = "Pacific/Apia"
    rows = [row("a", "2011-12-29T12:00"), row("b", "2011-12-30T12:00"), row("c", "2011-12-31T12:00")]
    # Local dates 29, 31 and 1: all that lies between 29 and 31 never happened.
    found = ask(rows, measures.Count(per="1d", zone=zone), fits.own_history(mean=True, at_least=1))
    assert (found["b"]["@ref.n"], found["c"]["@ref.n"]) == (1.0, 2.0)
    everybody = ask(rows, measures.Count(per="1d", zone=zone), fits.population(mean=True, at_least=1))
    assert everybody["b"]["@ref.n"] == 1.0


# ------------------------------------------------------------------------------------------------- late events in fits
def test_a_late_event_is_seen_from_the_next_boundary_only_and_never_by_the_running_count():
    log = [row("a", day(2)), row("b", day(3)), row("late", day(2)), row("c", day(3)), row("d", day(4))]
    found = ask(log, DAILY, fits.own_history(mean=True, at_least=1), lateness=HOUR_US)
    assert list(found) == ["a", "b", "c", "d"]
    assert found["c"] == {"@value": 2.0, "@ref.mean": 1.0, "@ref.n": 1.0}
    assert found["d"]["@ref.mean"] == 2.0  # (2 + 2) / 2: day 2 has become 2


def test_a_late_event_whose_bar_is_exactly_midnight_waits_for_the_next_midnight():
    log = [row("a", day(2)), row("b", day(4, 1)), row("late", day(2)), row("c", day(4, 2)), row("d", day(5))]
    found = ask(log, DAILY, fits.own_history(mean=True, at_least=1), lateness=HOUR_US)
    assert [found[i]["@ref.mean"] for i in "bcd"] == [0.5, 0.5, 4 / 3]


def test_a_late_event_can_become_the_first_one():
    log = [row("b", day(5), "bob"), row("late", day(2)), row("c", day(5)), row("d", day(6))]
    found = ask(log, DAILY, fits.own_history(mean=True, at_least=1), lateness=HOUR_US)
    assert found["c"]["@ref.n"] is None
    assert found["d"] == {"@value": 1.0, "@ref.mean": 0.5, "@ref.n": 4.0}  # days 2 to 5: 1, 0, 0, 1


# ------------------------------------------------------------------------------------------------ population and limit
def test_a_population_is_one_value_of_each_entity_of_the_day_before_alone():
    rows = [row("old", day(1), "zoe"), row("a", day(2), "ann"), *(row(f"b{i}", day(2), "bob") for i in range(3))]
    rows += [row("null", day(2), None), row("c", day(3), "cy"), row("d", day(4), "cy")]
    fit = fits.population(mean=True, sd=True, median=True, at_least=1)
    found = ask(rows, DAILY, fit)
    assert found["c"] == {"@value": 1.0, "@ref.mean": 2.0, "@ref.sd": math.sqrt(2), "@ref.median": 2.0, "@ref.n": 2.0}
    assert found["d"]["@ref.n"] == 1.0
    assert found["d"]["@ref.sd"] is None
    assert ask(rows, DAILY, fits.population(mean=True, at_least=3))["c"] == dict.fromkeys(("@ref.mean", "@ref.n")) | {
        "@value": 1.0
    }


def test_a_second_level_fit_reads_the_baselines_of_those_active_the_day_before():
    rows = [row("a", day(1), "ann"), row("b", day(1), "bob"), row("c", day(1), "bob"), row("z", day(1), "zoe")]
    rows += [row("d", day(2), "ann"), row("e", day(2), "bob"), row("f", day(3), "cy")]
    own = fits.own_history(mean=True, at_least=2)
    found = ask(rows, DAILY, fits.population(mean=True, at_least=1, of=own))
    assert found["d"]["@ref.mean"] is None  # nobody has two closed days yet
    assert found["f"] == {"@value": 1.0, "@ref.mean": 1.25, "@ref.n": 2.0}  # ann 1, bob 1.5


def test_a_limit_is_a_quantile_of_single_events_of_the_days_before():
    rows = [row(f"a{n}", day(1), None, nr_recipients=n) for n in (1, 2, 3)]
    rows += [row("b", day(2), nr_recipients=9), row("c", day(3), nr_recipients=1)]
    found = ask(rows, None, fits.limit("nr_recipients", quantile=0.5, windows=2, at_least=3))
    assert found["a3"] == {"@ref.limit": None, "@ref.n": None}
    assert found["b"] == {"@ref.limit": 2.0, "@ref.n": 3.0}
    assert found["c"] == {"@ref.limit": 2.5, "@ref.n": 4.0}
