"""Questions: each answer beside a few slow lines of plain Python over the same events."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import stats as scipy_stats

import tocsin as tc
from tocsin.questions import binning
from tocsin.questions.changes import CHANGED, UNLIKE

pytest_plugins = ["question_fixtures"]
START = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def rows(sim: tc.Simulation) -> list[dict[str, Any]]:
    return sim.events.to_dicts()


@pytest.fixture(scope="module")
def places(sim: tc.Simulation, refs: tc.References) -> list[dict[str, Any]]:
    return refs.attach(sim.events, ["src_country", "src_latitude", "src_longitude"]).to_dicts()


# ---- columns


def test_a_histogram_counts_every_value_once_and_its_limit_is_the_quantile(events: tc.Events, rows: list) -> None:
    answer = tc.ask.histogram(events, "nr_recipients", limit=0.99)
    values = [r["nr_recipients"] for r in rows if r["nr_recipients"] is not None]
    for low, high, count, share in answer.table.iter_rows():
        assert count == sum(low <= v <= high for v in values)
        assert share == pytest.approx(count / len(values))
    assert answer.table["count"].sum() == len(values)
    assert answer.facts["limit"] == pytest.approx(np.quantile(values, 0.99))
    assert answer.facts["above_limit"] == sum(v > answer.facts["limit"] for v in values)
    assert f"{len(rows) - len(values):,} events have none" in answer.definition


def test_a_histogram_of_floats_has_bins_that_meet_and_hold_everything() -> None:
    numbers = np.random.default_rng(1).lognormal(size=2_000)
    frame = pl.DataFrame({"timestamp": [START] * 2_001, "x": [*numbers, math.nan]})
    answer = tc.ask.histogram(tc.read(frame), "x", limit=None)
    assert answer.table["count"].sum() == 2_000
    assert answer.table["low"].to_list()[1:] == answer.table["high"].to_list()[:-1]
    assert answer.facts.keys() == {"n", "min", "max", "mean"}
    assert answer.facts["mean"] == pytest.approx(numbers.mean())


def test_one_giant_does_not_hide_the_rest() -> None:
    frame = pl.DataFrame({"timestamp": [START] * 5_001, "x": [*([1, 2, 3, 4, 5] * 1_000), 10**9]})
    answer = tc.ask.histogram(tc.read(frame), "x")
    assert answer.table.filter(pl.col("count") == 1_000).height == 5
    assert answer.table.row(-1)[1:3] == (10**9, 1)
    assert "1 of the values lie above" in answer.notes[0]
    assert answer.chart is not None
    assert answer.chart.data["count"].sum() == 5_000


def test_a_whole_number_lies_in_the_middle_of_its_bin() -> None:
    frame = binning.bins(np.array([1.0, 2.0, 4.0]), np.array([5, 3, 1]), whole=True)
    assert frame.rows() == [(0.5, 1.5, 5), (1.5, 2.5, 3), (2.5, 3.5, 0), (3.5, 4.5, 1)]


@pytest.mark.parametrize("seed", range(20))
def test_bins_hold_every_value_whatever_the_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, counts = np.unique(np.round(rng.normal(0, 10 ** rng.integers(0, 9), 50)), return_counts=True)
    for whole in (True, False):
        frame = binning.bins(values, counts, whole=whole)
        assert frame["count"].sum() == counts.sum()
        shown, beyond = binning.drawn(frame)
        assert shown["count"].sum() + beyond == counts.sum()


@pytest.mark.parametrize("column", ["user_id", "attachments", "nr_recipients", "kind"])
def test_top_is_a_counter(events: tc.Events, rows: list, column: str) -> None:
    counted: Counter = Counter()
    for row in rows:
        counted.update(row[column] if isinstance(row[column], list) else [row[column]])
    del counted[None]
    expected = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:7]
    answer = tc.ask.top(events, column, 7)
    assert [row[:2] for row in answer.table.rows()] == expected
    assert answer.facts == {"total": sum(counted.values()), "distinct": len(counted)}


def test_describe_is_what_the_source_says_of_its_columns(events: tc.Events) -> None:
    answer = tc.ask.describe(events)
    assert_frame_equal(answer.table, events.describe().to_frame())
    assert tc.ask.describe(events, "nr_recipients").chart.kind == "histogram"  # type: ignore[union-attr]
    assert tc.ask.describe(events, "kind").chart.kind == "bars"  # type: ignore[union-attr]
    assert tc.ask.describe(events, ["kind", "user_id"]).table["column"].to_list() == ["kind", "user_id"]


# ---- a rule's numbers


def test_a_series_has_the_values_baselines_and_firings_of_a_backtest(sim: tc.Simulation, events: tc.Events) -> None:
    rule = tc.Detection(
        id="test.volume", title="t", severity="low", on=tc.col("kind") == "mail", entity="user_id", measure=tc.Count(per="1d"),
        against=tc.own_history(mean=True, windows=5, at_least=3), score=tc.value / tc.ref.mean, when=tc.score > 1.8,
    )  # fmt: skip
    findings = tc.backtest([rule], events).findings
    user = findings["entity"].mode().sort()[0]
    answer = tc.ask.series(events, user, rule)
    mine = sim.events.filter(pl.col("user_id") == user, pl.col("kind") == "mail")
    a_day = Counter(mine["timestamp"].dt.date().to_list())
    first, last = min(a_day), max(a_day)
    days = [first + timedelta(days=i) for i in range((last - first).days + 1)]
    assert [t.date() for t in answer.table["start"]] == days
    assert answer.table["value"].to_list() == [a_day[d] for d in days]
    for i, row in enumerate(answer.table.iter_rows(named=True)):
        before = [a_day[d] for d in days[max(0, i - 5) : i]]
        if len(before) >= 3 and a_day[days[i]]:
            assert row["baseline"] == pytest.approx(np.mean(before))
            assert row["high"] == pytest.approx(np.mean(before) + 2 * np.std(before, ddof=1))
            assert row["low"] == pytest.approx(max(0.0, np.mean(before) - 2 * np.std(before, ddof=1)))
            assert row["score"] == pytest.approx(a_day[days[i]] / np.mean(before))
            assert row["fires_above"] == pytest.approx(1.8 * np.mean(before))
        else:
            assert row["baseline"] is None
            assert row["score"] is None
    fired = findings.filter(pl.col("entity") == user)
    assert answer.table.filter("fired")["start"].to_list() == fired["window_start"].to_list()
    assert answer.table.filter("fired")["fired_at"].to_list() == fired["time"].to_list()


def test_a_day_in_a_gap_is_missing_from_a_series_and_any_other_empty_day_is_zero() -> None:
    times = [START + timedelta(days=d) for d in (0, 1, 2, 5, 6)]
    events = tc.read(pl.DataFrame({"timestamp": times, "user_id": ["a"] * 5}))
    gap = (START + timedelta(days=3), START + timedelta(days=4))
    assert tc.ask.series(events, "a").table["value"].to_list() == [1, 1, 1, 0, 0, 1, 1]
    assert tc.ask.series(events, "a", gaps=[gap]).table["value"].to_list() == [1, 1, 1, 0, 1, 1]
    assert tc.ask.series(events, "a", since=START + timedelta(days=5)).table.height == 2


def test_an_entity_without_events_is_named_with_the_nearest(events: tc.Events, sim: tc.Simulation) -> None:
    name = sim.events["user_id"][0]
    with pytest.raises(tc.RuleError, match="Did you mean"):
        tc.ask.series(events, name[:-1])
    with pytest.raises(tc.RuleError, match=r'Did you mean "mail.volume-vs-self"'):
        tc.ask.series(events, name, "mail.volume-vs-selves")
    with pytest.raises(tc.RuleError, match="cannot be run"):
        tc.ask.series(events, name, "login.travel-speed")


def test_every_rule_that_ships_can_be_shown_for_an_entity_it_fired_for(events: tc.Events, refs: tc.References) -> None:
    past = tc.backtest(tc.rules.ALL, events, refs)
    rules = {d.id: d for d in tc.rules.ALL}
    for (rule_id,), findings in past.findings.group_by("detection_id"):
        entity = findings.sort("finding_id")["entity"][0]
        answer = tc.ask.series(events, entity, rules[str(rule_id)], refs)
        mine = findings.filter(pl.col("entity") == entity)
        if rules[str(rule_id)].windowed:
            assert answer.table.filter("fired")["start"].sort().to_list() == mine["window_start"].sort().to_list()
        else:
            assert set(mine["event_id"]) == set(answer.table.filter("fired")["event_id"])
        json.dumps(answer.to_dict(), allow_nan=False)
        answer.plot()


def test_a_population_has_everybodys_value_and_the_limit_of_the_day_before(
    sim: tc.Simulation, events: tc.Events
) -> None:
    day = START + timedelta(days=12)
    answer = tc.ask.population(events, "mail.rate-vs-population", at=day + timedelta(hours=5))
    mails = sim.events.filter(pl.col("kind") == "mail").with_columns(day=pl.col("timestamp").dt.date())
    today = Counter(mails.filter(pl.col("day") == day.date())["user_id"])
    yesterday = list(Counter(mails.filter(pl.col("day") == (day - timedelta(days=1)).date())["user_id"]).values())
    assert dict(answer.table.select("entity", "value").iter_rows()) == today
    mean, sd = np.mean(yesterday), np.std(yesterday, ddof=1)
    limit = answer.table["fires_above"].unique().to_list()
    assert limit == pytest.approx([mean + 3 * sd])
    assert set(answer.table.filter("fired")["entity"]) == {u for u, n in today.items() if n > mean + 3 * sd}


def test_the_window_of_a_population_is_the_last_that_was_over() -> None:
    def last_day(hour: int) -> date:
        times = [START, START + timedelta(days=1), START + timedelta(days=2, hours=hour)]
        events = tc.read(pl.DataFrame({"timestamp": times, "user_id": ["a"] * 3, "kind": ["mail"] * 3}))
        return datetime.strptime(
            tc.ask.population(events, "mail.rate-vs-population").question.split()[2], "%Y-%m-%d"
        ).date()

    assert last_day(12) == date(2026, 6, 2)
    assert last_day(23) == date(2026, 6, 3)


# ---- places


def test_who_was_outside_and_who_never_was(events: tc.Events, refs: tc.References, places: list) -> None:
    answer = tc.ask.outside(events, refs, ("us", "CA"))
    by_user = defaultdict(list)
    for row in places:
        by_user[row["user_id"]].append(row)
    for row in answer.table.iter_rows(named=True):
        out = [r for r in by_user[row["entity"]] if r["src_country"] not in {None, "US", "CA"}]
        assert row["outside"] == len(out)
        assert row["countries"] == sorted({r["src_country"] for r in out})
        assert (row["first_outside"], row["last_outside"]) == (out[0]["timestamp"], out[-1]["timestamp"])
    were_out = {u for u, rs in by_user.items() if any(r["src_country"] not in {None, "US", "CA"} for r in rs)}
    assert set(answer.table["entity"]) == were_out
    (never, unknown) = answer.more.values()
    assert set(never["entity"]) == set(by_user) - were_out
    assert unknown.height == 0


def test_an_unknown_address_is_neither_inside_nor_outside() -> None:
    geo = pl.DataFrame({"lo_addr": ["10.0.0.0"], "hi_addr": ["10.255.255.255"], "country_iso_code": ["US"]})
    frame = pl.DataFrame(
        {"timestamp": [START] * 3, "user_id": ["a", "b", None], "src_ip": ["10.1.1.1", "11.1.1.1", "11.1.1.1"]}
    )
    answer = tc.ask.outside(tc.read(frame), tc.reference(geo=geo))
    assert answer.empty == "Nobody was seen outside US."
    assert [f["entity"].to_list() for f in answer.more.values()] == [["a"], ["b"]]
    assert "1 events without user_id are left out" in answer.definition


@pytest.mark.parametrize("uncertainty", [100.0, 0.0])
def test_the_fastest_travellers_are_those_a_loop_finds(
    events: tc.Events, refs: tc.References, places: list, uncertainty: float
) -> None:
    shared = defaultdict(set)
    last: dict[str, dict] = {}
    best: dict[str, float] = {}
    for row in places:
        shared[row["src_ip"]].add(row["user_id"])
    for row in places:
        if row["src_latitude"] is None or len(shared[row["src_ip"]]) >= 4 or row.get("outcome") == "failure":
            continue
        before = last.get(row["user_id"])
        last[row["user_id"]] = row
        if before is None:
            continue
        d_lat = math.radians(row["src_latitude"] - before["src_latitude"])
        d_lon = math.radians((row["src_longitude"] - before["src_longitude"] + 540) % 360 - 180)
        middle = math.radians((row["src_latitude"] + before["src_latitude"]) / 2)
        km = 6371.009 * math.hypot(d_lat, math.cos(middle) * d_lon)
        hours = max((row["timestamp"] - before["timestamp"]).total_seconds(), 1) / 3600
        best[row["user_id"]] = max(best.get(row["user_id"], 0.0), max(km - uncertainty, 0) / hours)
    expected = sorted(((v, u) for u, v in best.items() if v > 0), reverse=True)[:5]
    answer = tc.ask.fastest_travellers(events, refs, never_outside=(), n=5, uncertainty_km=uncertainty)
    assert answer.table["entity"].to_list() == [u for _, u in expected]
    assert answer.table["km_h"].to_list() == pytest.approx([v for v, _ in expected])
    assert answer.facts["entities"] == len(best)


def test_only_who_was_never_outside_is_ranked(events: tc.Events, refs: tc.References, places: list) -> None:
    out = {r["user_id"] for r in places if r["src_country"] != "US"}
    answer = tc.ask.fastest_travellers(events, refs, uncertainty_km=0)
    assert not set(answer.table["entity"]) & out
    assert answer.facts["entities"] == len({r["user_id"] for r in places} - out)


def test_a_traveller_inside_the_country_is_found_with_the_way_taken() -> None:
    geo = pl.DataFrame(
        {
            "lo_addr": ["10.0.0.0", "10.1.0.0"], "hi_addr": ["10.0.255.255", "10.1.255.255"], "country_iso_code": ["US", "US"],
            "latitude": [40.7, 34.1], "longitude": [-74.0, -118.2], "city_name": ["New York", "Los Angeles"],
        }
    )  # fmt: skip
    times = [START, START + timedelta(hours=8), START, START + timedelta(hours=2)]
    frame = pl.DataFrame(
        {
            "timestamp": times,
            "user_id": ["a", "a", "b", "b"],
            "src_ip": ["10.0.0.1", "10.1.0.1", "10.0.0.2", "10.0.0.3"],
        }
    )
    answer = tc.ask.fastest_travellers(tc.read(frame), tc.reference(geo=geo))
    (row,) = answer.table.rows(named=True)
    assert (row["entity"], row["hours"], row["from_ip"], row["to_city"]) == ("a", 8.0, "10.0.0.1", "Los Angeles")
    assert row["km"] == pytest.approx(3_980, abs=30)
    assert row["km_h"] == pytest.approx((row["km"] - 100) / 8)


def test_the_map_counts_events_and_entities_by_place(events: tc.Events, refs: tc.References, places: list) -> None:
    answer = tc.ask.world_map(events, refs, on=tc.col("kind") == "login")
    logins = [r for r in places if r["kind"] == "login" and r["src_latitude"] is not None]
    counted = Counter((r["src_latitude"], r["src_longitude"]) for r in logins)
    assert {row[:2]: row[2] for row in answer.table.select("latitude", "longitude", "events").rows()} == counted
    people = defaultdict(set)
    for r in logins:
        people[r["src_latitude"], r["src_longitude"]].add(r["user_id"])
    for lat, lon, n in answer.table.select("latitude", "longitude", "entities").rows():
        assert n == len(people[lat, lon])


def test_questions_about_places_say_what_they_need(events: tc.Events) -> None:
    with pytest.raises(tc.TableError, match="--geo"):
        tc.ask.outside(events, None)
    geo = pl.DataFrame({"lo_addr": ["10.0.0.0"], "hi_addr": ["10.255.255.255"], "country_iso_code": ["US"]})
    with pytest.raises(tc.TableError, match="countries only"):
        tc.ask.world_map(events, tc.reference(geo=geo))


# ---- changes


def daily(log: pl.DataFrame, zone: str = "UTC") -> dict[str, list[float]]:
    """Everybody's sums of attachments on each day, days without events as zero."""
    local = log.with_columns(day=pl.col("timestamp").dt.convert_time_zone(zone).dt.date())
    days = sorted(set(local["day"]))
    days = [days[0] + timedelta(days=i) for i in range((days[-1] - days[0]).days + 1)]
    sums: dict[str, Counter] = defaultdict(Counter)
    for user, day, n in local.select("user_id", "day", "nr_attachments").iter_rows():
        sums[user][day] += n or 0
    return {user: [by_day[d] for d in days] for user, by_day in sums.items()}


def test_changes_are_those_of_a_welch_test_for_each_user_and_adjusted_by_hand(
    sim: tc.Simulation, events: tc.Events
) -> None:
    answer = tc.ask.largest_changes(events)
    everybody = answer.more["Everybody"]
    series = daily(sim.events)
    half = len(next(iter(series.values()))) // 2
    p = {}
    for row in everybody.iter_rows(named=True):
        days = series[row["entity"]]
        before, after = days[:half], days[half:]
        assert row["change_per_day"] == pytest.approx(np.mean(after) - np.mean(before))
        assert (row["before_per_day"], row["after_per_day"]) == pytest.approx((np.mean(before), np.mean(after)))
        if min(np.var(before, ddof=1), np.var(after, ddof=1)) >= 1 / 12:
            found = scipy_stats.ttest_ind(after, before, equal_var=False)
            assert row["p"] == pytest.approx(found.pvalue)
            interval = found.confidence_interval(0.95)
            assert (row["low_per_day"], row["high_per_day"]) == pytest.approx((interval.low, interval.high))
        p[row["entity"]] = row["p"]
    adjusted = scipy_stats.false_discovery_control(list(p.values()))
    assert everybody["q"].to_list() == pytest.approx(adjusted.tolist())
    assert_frame_equal(answer.table, everybody.head(3))
    assert everybody["change_per_day"].to_list() == sorted(everybody["change_per_day"], reverse=True)


def test_the_planted_growth_is_found_and_a_shift_of_everybody_is_no_news() -> None:
    rng = np.random.default_rng(5)
    users, days = 80, 40
    factor = np.r_[8.0, rng.lognormal(0.6, 0.3, users - 1)]
    rate = np.where(np.arange(days) < 20, 4.0, 4.0 * factor[:, None])
    counts = rng.poisson(rate)
    frame = pl.DataFrame(
        [(START + timedelta(days=d, hours=9), f"u{u:02}", int(counts[u, d])) for u in range(users) for d in range(days)]
        + [(START, "u00", 0), (START + timedelta(days=days, microseconds=-1), "u00", 0)],
        schema=["timestamp", "user_id", "n"], orient="row",
    )  # fmt: skip
    answer = tc.ask.largest_changes(tc.read(frame), "n")
    everybody = answer.more["Everybody"]
    assert answer.table.row(0)[0] == "u00"
    unlike = everybody.filter(verdict=UNLIKE)["entity"].to_list()
    assert unlike[0] == "u00"
    assert len(unlike) <= 2
    assert everybody.filter(verdict=CHANGED).height > users / 2, "everybody changed, which the second test knows"


def test_days_are_local_ends_are_whole_lists_are_counted_and_gaps_left_out() -> None:
    times = [datetime(2026, 3, 5, 20, tzinfo=UTC) + timedelta(hours=h) for h in range(24 * 8)]
    frame = pl.DataFrame({"timestamp": times, "user_id": ["a"] * len(times), "attachments": [["x", "y"]] * len(times)})
    answer = tc.ask.largest_changes(tc.read(frame), "attachments", zone="America/Denver")
    facts = answer.facts
    # In Denver the data runs from 13:00 on the 5th to 13:00 on the 13th; clocks go forward on the 8th.
    assert facts["from"] == datetime(2026, 3, 6, 7, tzinfo=UTC)
    assert facts["to"] == datetime(2026, 3, 13, 6, tzinfo=UTC)
    (row,) = answer.table.rows(named=True)
    assert row["before_per_day"] == pytest.approx((48 + 48 + 46) / 3)
    assert row["after_per_day"] == 48
    assert "Fewer than four entities" in answer.notes[0]
    gap = (datetime(2026, 3, 8, 12, tzinfo=UTC), datetime(2026, 3, 8, 13, tzinfo=UTC))
    (row,) = tc.ask.largest_changes(tc.read(frame), "attachments", zone="America/Denver", gaps=[gap]).table.rows(
        named=True
    )
    assert row["before_per_day"] == 48


def test_changes_refuse_what_cannot_be_compared(events: tc.Events) -> None:
    with pytest.raises(tc.SourceError, match="nothing to sum"):
        tc.ask.largest_changes(events, "kind")
    with pytest.raises(tc.SourceError, match='Did you mean "nr_attachments"'):
        tc.ask.largest_changes(events, "nr_attachment")
    with pytest.raises(tc.SourceError, match="both sides need at least two"):
        tc.ask.largest_changes(events, split=START + timedelta(days=1))
    with pytest.raises(tc.SourceError, match="at least 4"):
        tc.ask.largest_changes(tc.read(pl.DataFrame({"timestamp": [START], "user_id": ["a"], "n": [1]})), "n")


# ---- habits


def test_the_poisson_parameter_is_the_mean_of_the_users_means(events: tc.Events, rows: list) -> None:
    answer = tc.ask.poisson_parameter(events, strangers=True)
    values = defaultdict(list)
    for row in rows:
        if row["nr_recipients"] is not None:
            values[row["user_id"]].append(row["nr_recipients"])
    means = [np.mean(v) for v in values.values() if len(v) >= 10]
    low, high = scipy_stats.t.interval(0.95, len(means) - 1, np.mean(means), scipy_stats.sem(means))
    assert answer.table.row(0)[1:4] == pytest.approx((np.mean(means), low, high))
    assert answer.facts["entities"] == len(means)
    table = tc.poisson_parameter(events)
    assert answer.facts["lambda"] == pytest.approx(table.frame["lambda"][0])
    assert answer.facts["dispersion"] == pytest.approx(table.frame["dispersion"][0])


def test_a_newsletter_among_people_is_left_out_and_named() -> None:
    rng = np.random.default_rng(2)
    own = np.r_[rng.poisson(6.0, 200), 250]
    frame = pl.DataFrame(
        [(START + timedelta(minutes=u), f"u{u:03}", int(n)) for u, m in enumerate(own) for n in rng.poisson(m, 40)],
        schema=["timestamp", "user_id", "nr_recipients"], orient="row",
    )  # fmt: skip
    answer = tc.ask.poisson_parameter(tc.read(frame))
    assert answer.more["Strangers, left out"]["entity"].to_list() == ["u200"]
    assert answer.facts["low"] < 6.0 < answer.facts["high"]
    assert abs(answer.facts["dispersion"] - 1) < 0.35
    assert answer.facts["p"] > 0.01
    with_all = tc.ask.poisson_parameter(tc.read(frame), strangers=True)
    assert with_all.facts["lambda"] > answer.facts["lambda"] + 1
    assert not with_all.more


@pytest.mark.parametrize(("way", "seen"), [("truncated", lambda x: x[x > 0]), ("clamped", lambda x: np.maximum(x, 1))])
def test_what_is_known_of_zeros_is_taken_into_account(way: str, seen: Any) -> None:
    rng = np.random.default_rng(4)
    own = rng.poisson(3.0, 300)
    frame = pl.DataFrame(
        [(START, f"u{u:03}", int(n)) for u, m in enumerate(own) for n in seen(rng.poisson(m, 60))],
        schema=["timestamp", "user_id", "n"], orient="row",
    )  # fmt: skip
    answer = tc.ask.poisson_parameter(tc.read(frame), "n", way=way)
    low, high = answer.table.row(0, named=True)["low"], answer.table.row(0, named=True)["high"]
    assert low < 3.0 < high
    assert tc.ask.poisson_parameter(tc.read(frame), "n").facts["lambda"] > answer.facts["lambda"]


def test_a_poisson_parameter_is_one_of_counts(events: tc.Events) -> None:
    with pytest.raises(tc.SourceError, match="not counts"):
        tc.ask.poisson_parameter(events, "kind")
    with pytest.raises(tc.SourceError, match="whole numbers"):
        tc.ask.poisson_parameter(tc.read(pl.DataFrame({"timestamp": [START], "user_id": ["a"], "n": [1.5]})), "n")
    with pytest.raises(tc.SourceError, match="at least two"):
        tc.ask.poisson_parameter(tc.read(pl.DataFrame({"timestamp": [START], "user_id": ["a"], "n": [1]})), "n")


def shifted(sim: tc.Simulation, users: list[str], day: datetime, hours: int) -> pl.DataFrame:
    moved = pl.col("user_id").is_in(users) & (pl.col("timestamp") >= day)
    return sim.events.with_columns(
        timestamp=pl.when(moved).then(pl.col("timestamp") + pl.duration(hours=hours)).otherwise("timestamp")
    ).sort("timestamp")


def test_a_planted_shift_of_hours_is_found_with_its_day_and_size(sim: tc.Simulation) -> None:
    users = sorted(set(sim.events["user_id"]))[:3]
    day = START + timedelta(days=10)
    answer = tc.ask.shifted_hours(tc.read(shifted(sim, users, day, 5)))
    assert set(users) <= set(answer.table["entity"])
    assert answer.table.height <= 5
    for row in answer.table.filter(pl.col("entity").is_in(users)).iter_rows(named=True):
        assert abs((row["changed_on"] - day.date()).days) <= 2
        assert row["low_hours"] < 5 < row["high_hours"]
    assert answer.chart is not None
    first = answer.chart.data.filter(pl.col("label") == answer.chart.data["label"][0])
    assert first["before"].sum() == pytest.approx(1)
    assert first["after"].sum() == pytest.approx(1)


def test_hours_are_local_and_nobody_shifts_when_the_clocks_do(sim: tc.Simulation) -> None:
    times = [
        datetime(2026, 3, 1, 16, 30, tzinfo=UTC) + timedelta(days=d, minutes=7 * u, hours=-1 if d >= 7 else 0)
        for u in range(10) for d in range(20)
    ]  # fmt: skip
    names = [f"u{u}" for u in range(10) for _ in range(20)]
    events = tc.read(pl.DataFrame({"timestamp": times, "user_id": names}))
    answer = tc.ask.shifted_hours(events, "America/Denver")
    assert answer.empty
    assert tc.ask.shifted_hours(events, "UTC").table.height == 10, "in UTC everybody comes an hour earlier from then on"


# ---- the workshop's challenges, with the truth beside them


def test_the_challenges_of_the_workshop_are_answered_as_the_simulation_knows_them() -> None:
    sim = tc.simulate(users=300, days=60, seed=7)
    events, refs, truth = tc.read(sim.events), tc.reference(geo=sim.geo, threats=sim.threats), sim.truth["challenges"]
    changes = tc.ask.largest_changes(events)
    assert changes.table["entity"].to_list() == truth["3"]["users"]
    assert changes.table["change_per_day"].to_list() == pytest.approx(truth["3"]["increase_per_day"])
    assert set(changes.table["verdict"]) == {UNLIKE}
    assert set(tc.ask.outside(events, refs).more["Never outside US"]["entity"]) == set(sim.truth["never_outside_us"])
    fastest = tc.ask.fastest_travellers(events, refs, uncertainty_km=0).table.row(0, named=True)
    assert fastest["entity"] == truth["4"]["user"]
    assert fastest["km_h"] == pytest.approx(truth["4"]["speed_kmh"], rel=1e-4)
    poisson = tc.ask.poisson_parameter(events).facts
    assert poisson["low"] < truth["B1"] < poisson["high"]
    assert abs(poisson["dispersion"] - 1) < 0.2
    assert set(tc.ask.shifted_hours(events).table["entity"]) == set(truth["B2"])


# ---- all of them


ASKED = {
    "describe": lambda e, _r: tc.ask.describe(e),
    "histogram": lambda e, _r: tc.ask.histogram(e, "nr_recipients"),
    "top": lambda e, _r: tc.ask.top(e, "user_id"),
    "outside": tc.ask.outside,
    "travellers": lambda e, r: tc.ask.fastest_travellers(e, r, never_outside=()),
    "map": tc.ask.world_map,
    "changes": lambda e, _r: tc.ask.largest_changes(e),
    "poisson": lambda e, _r: tc.ask.poisson_parameter(e),
    "hours": lambda e, _r: tc.ask.shifted_hours(e),
    "population": lambda e, r: tc.ask.population(e, "mail.rate-vs-population", r),
}


@pytest.mark.parametrize("name", ASKED)
def test_an_answer_is_the_same_twice_and_in_any_order_of_equal_times(
    name: str, sim: tc.Simulation, refs: tc.References
) -> None:
    first, second = (
        ASKED[name](tc.read(sim.events.sample(fraction=1, shuffle=True, seed=s)), refs).to_dict() for s in (1, 2)
    )
    assert json.dumps(first, allow_nan=False) == json.dumps(second, allow_nan=False)


@pytest.mark.parametrize("name", ASKED)
def test_an_answer_about_nothing_says_so_or_says_why_it_cannot_be_asked(
    name: str, sim: tc.Simulation, refs: tc.References
) -> None:
    nothing = tc.read(sim.events.clear())
    if name in {"changes", "poisson", "population"}:
        with pytest.raises(tc.TocsinError, match=r"0|holds no event"):
            ASKED[name](nothing, refs)
        return
    answer = ASKED[name](nothing, refs)
    assert answer.empty
    assert answer.empty in answer.to_html()
    assert "script" not in answer.to_html().replace("script-src", "")
    json.dumps(answer.to_dict(), allow_nan=False)
