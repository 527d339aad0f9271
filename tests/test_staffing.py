"""Staffing: what the plan asks for is what each hour's alerts need, and its optimism is measured, not hidden.

Layer: tests. The slow answers walk through alerts and shifts one by one, and serve simulated alerts one after the other.
"""

from __future__ import annotations

import heapq
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin import metrics
from tocsin.alerts import Alerts
from tocsin.calendars import DAY, MINUTE, instant_us, moment
from tocsin.errors import StatisticsError
from tocsin.lifecycle import History
from tocsin.metrics.handling import busy_us, handling_time
from tocsin.metrics.staffing import dispersion
from tocsin.stats.queueing import queue, servers_needed, servers_needed_each

pytest_plugins = ["cli_fixtures"]

MONDAY = instant_us(datetime(2026, 3, 2, tzinfo=UTC))
TIME = pl.Datetime("us", "UTC")


def log(alerts: list[int], activities: list[tuple] = (), journal: list[tuple] = ()) -> History:
    """Return a history of alerts (minutes after Monday), activities (alert, minute, type, actor, more) and journal rows."""

    def times(frame: pl.DataFrame, *names: str) -> pl.DataFrame:
        return frame.with_columns((pl.col(names) * MINUTE + MONDAY).cast(TIME))

    rows = [
        {"alert_id": f"a{a}", "at": at, "type": kind, "actor": actor, "actor_kind": more.get("actor_kind", "human"),
         "value": more.get("value"), "number": more.get("number")}
        for a, at, kind, actor, more in activities
    ]  # fmt: skip
    schema = {"alert_id": pl.String, "at": pl.Int64, "type": pl.String, "actor": pl.String, "actor_kind": pl.String, "value": pl.String,
              "number": pl.Float64}  # fmt: skip
    journalled = [{"kind": k, "name": n, "at": a, "until": b} for k, n, a, b in journal]
    told = {"kind": pl.String, "name": pl.String, "at": pl.Int64, "until": pl.Int64}
    ids = pl.DataFrame(
        {"alert_id": [f"a{i}" for i in range(len(alerts))], "created_at": pl.Series(alerts, dtype=pl.Int64)}
    )
    return History.of(
        times(ids, "created_at"),
        times(pl.DataFrame(rows, schema=schema), "at"),
        journal=times(pl.DataFrame(journalled, schema=told), "at", "until"),
    )


def asked(history: History, days: int = 14, **more: object) -> metrics.Metrics:
    return metrics.of(history, since=moment(MONDAY), until=moment(MONDAY + days * DAY), **more)


def worked(n: int, minutes: float = 20.0) -> list[tuple]:
    """Every alert worked on for so many minutes, five minutes after it came."""
    return [
        row
        for i in range(n)
        for row in (
            (i, 60 * i + 5, "work_started", "ann", {}),
            (i, 60 * i + 40, "work_ended", "ann", {"number": minutes}),
            (i, 60 * i + 41, "closed", "ann", {}),
        )
    ]


# ---- the formula for many


@settings(deadline=None)
@given(st.lists(st.floats(0, 60), max_size=12), st.floats(0.5, 90), st.floats(0, 120), st.floats(0.5, 0.99))
def test_many_rates_need_the_servers_that_each_of_them_needs(
    rates: list[float], handling: float, target: float, share: float
) -> None:
    found = servers_needed_each(rates, handling, target_minutes=target, in_time=share)
    each = [servers_needed(r, handling, target_minutes=target, in_time=share) for r in rates]
    # The recursion is the same; only where the share is met to the last bit could rounding differ.
    assert all(n == q.servers or abs(q.in_time - share) < 1e-12 for n, q in zip(found.tolist(), each, strict=True))


@pytest.mark.parametrize(
    ("rate", "handling", "target", "share"),
    [(-1, 3, 1, 0.9), (np.nan, 3, 1, 0.9), (1, 0, 1, 0.9), (1, 3, -1, 0.9), (1, 3, 1, 1.0)],
)
def test_what_makes_no_queue_is_refused_for_many_as_for_one(
    rate: float, handling: float, target: float, share: float
) -> None:
    with pytest.raises(StatisticsError):
        servers_needed_each([rate], handling, target_minutes=target, in_time=share)


def served_in_time(arrivals: np.ndarray, handling: np.ndarray, servers: int, target: float) -> float:
    """Serve alerts one after the other, first come first served; return the share begun within the target."""
    free = [0.0] * servers
    in_time = 0
    for at, minutes in zip(arrivals.tolist(), handling.tolist(), strict=True):
        begin = max(at, heapq.heappop(free))
        in_time += begin - at <= target
        heapq.heappush(free, begin + minutes)
    return in_time / arrivals.size


def test_the_plan_holds_for_steady_alerts_and_misses_by_many_points_where_they_come_in_bursts() -> None:
    rng, rate, minutes, target, hours = np.random.default_rng(17), 6.0, 20.0, 30.0, 5_000
    plan = servers_needed(rate, minutes, target_minutes=target, in_time=0.9)
    reached = {}
    for name, hourly in (("steady", np.full(hours, rate)), ("bursts", rng.gamma(1.0, rate, hours))):
        counts = rng.poisson(hourly)
        at = np.sort(60 * (np.repeat(np.arange(hours), counts) + rng.random(counts.sum())))
        reached[name] = served_in_time(at, rng.exponential(minutes, at.size), plan.servers, target)
    assert reached["steady"] == pytest.approx(
        queue(plan.servers, rate, minutes, target_minutes=target).in_time, abs=0.02
    )
    assert reached["bursts"] < plan.in_time - 0.1


# ---- handling time


def test_handling_time_is_measured_work_else_from_assigned_to_closed_else_asked_for() -> None:
    alerts = [60 * i for i in range(20)]
    held = [(i, 60 * i + 5, "assigned", "boss", {"value": f"p{i}"}) for i in range(20)] + [
        (i, 60 * i + 35, "closed", f"p{i}", {}) for i in range(20)
    ]
    measured = handling_time(asked(log(alerts, worked(20))).scope)
    assert (measured.minutes, measured.n, measured.closed) == (20.0, 20, 20)
    from_assigned = handling_time(asked(log(alerts, held)).scope)
    assert (from_assigned.minutes, from_assigned.n) == (30.0, 20)
    assert "waiting" in from_assigned.source
    assert handling_time(asked(log(alerts, held)).scope, 7).minutes == 7
    assert handling_time(asked(log(alerts, held)).scope, cap_minutes=10).minutes == 10
    for too_little in (log(alerts), log(alerts, worked(9)), log(alerts, [r for r in worked(20) if r[2] != "closed"])):
        with pytest.raises(metrics.MetricError, match="handling_minutes=15"):
            handling_time(asked(too_little).scope)


def test_a_stretch_of_work_runs_to_the_same_persons_end_and_machines_do_not_work() -> None:
    alerts = [60 * i for i in range(12)]
    rows = []
    for i in range(12):
        rows += [
            (i, 60 * i, "work_started", "ann", {}),
            (i, 60 * i + 3, "work_started", "bob", {}),
            (i, 60 * i + 10, "work_ended", "ann", {}),  # 10 minutes of ann
            (i, 60 * i + 11, "work_ended", "robot", {"number": 500.0, "actor_kind": "automation"}),
            (i, 60 * i + 23, "work_ended", "bob", {}),  # 20 of bob
            (i, 60 * i + 24, "work_started", "cyd", {}),
            (i, 60 * i + 55, "closed", "cyd", {}),  # nobody said when cyd ended
        ]
    assert handling_time(asked(log(alerts, rows)).scope).minutes == 30.0


spans = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 20)), max_size=12)


@given(spans)
def test_what_one_person_holds_at_the_same_time_is_counted_once(held: list[tuple[int, int, int]]) -> None:
    minutes = {(person, t) for person, begin, n in held for t in range(begin, begin + n)}
    columns = np.array(held, np.int64).reshape(-1, 3)
    assert busy_us(columns[:, 0], columns[:, 1], columns[:, 1] + columns[:, 2]) == len(minutes)


# ---- the plan


@pytest.mark.parametrize("block", [1, 4, 24])
def test_each_block_needs_what_its_rate_and_the_handling_time_ask_for(block: int) -> None:
    rng = np.random.default_rng(23)
    alerts = np.sort(rng.integers(0, 14 * 1440, 3_000)).tolist()
    table = asked(log(alerts)).staffing(handling_minutes=12, productive_share=0.8, block_hours=block).table
    for row in table.to_dicts():
        first = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].index(row["weekday"]) * 24 + row["hour"]
        n = sum(first <= m // 60 % 168 < first + block for m in alerts)
        assert (row["alerts_exposed"], row["exposed_hours"]) == (n, 2 * block)
        assert row["erlangs"] == pytest.approx(n / (2 * block) * 12 / 0.8 / 60)
        for name, times in (("needed_half", 0.5), ("needed", 1), ("needed_double", 2)):
            plan = servers_needed(n / (2 * block), 12 * times / 0.8, target_minutes=30)
            assert row[name] == plan.servers
    assert table.height == 168 // block


def test_analysts_on_shift_are_counted_by_the_hour_and_short_hours_are_said_in_words() -> None:
    alerts = [
        1440 * d + 600 + 5 * i for d in range(14) if d % 7 < 5 for i in range(24)
    ]  # 12 an hour, weekdays 10 to 12
    shifts = [("roster", f"p{p}", 1440 * d + 540, 1440 * d + 1020) for d in range(14) for p in (1, 2)]
    shifts += [("roster", "p3", 1440 * d + 540, 1440 * d + 570) for d in range(14)]  # half an hour
    shifts += [("roster", "p4", 1440 * 20, 1440 * 21)]  # after the span
    found = asked(log(alerts, journal=shifts)).staffing(handling_minutes=20, productive_share=1.0)
    rows = {(r["weekday"], r["hour"]): r for r in found.table.to_dicts()}
    assert (rows["Mon", 9]["rostered"], rows["Mon", 10]["rostered"], rows["Mon", 17]["rostered"]) == (2.5, 2.0, 0.0)
    assert rows["Mon", 10]["needed"] == servers_needed(12, 20, target_minutes=30).servers == 6
    assert rows["Mon", 10]["short"] == 4.0
    assert "Mon-Fri 00:00-09:00,10:00-12:00,17:00-24:00; Sat-Sun 00:00-09:00,17:00-24:00" in " ".join(found.notes)
    assert found.facts["rostered_hours_a_week"] == 7 * 16.5
    working = found.table.filter(pl.col("working_share") > 0)
    assert working.height == 40
    drawn = found.plot()
    assert {t.name for t in drawn.data} >= {"on shift", "too few"}


def test_without_a_roster_nothing_is_said_of_who_is_there() -> None:
    found = asked(log([60 * i for i in range(300)])).staffing(handling_minutes=20)
    assert found.table["rostered"].null_count() == found.table["short"].null_count() == 168
    assert found.facts["rostered_hours_a_week"] is None
    assert "on shift" not in {t.name for t in found.plot().data}


def test_hours_without_exposure_need_nobody_knows_how_many() -> None:
    gaps = [("gap", "mail", 1440 * d, 1440 * d + 60) for d in range(14)]
    table = asked(log([60 * i + 90 for i in range(300)], journal=gaps)).staffing(handling_minutes=20).table
    assert table.filter(pl.col("hour") == 0)["needed"].null_count() == 7
    assert table["needed"].null_count() == 7


def test_steady_hours_have_dispersion_one_and_bursts_are_warned_of() -> None:
    rng, hours = np.random.default_rng(29), 8 * 168
    steady = rng.poisson(3.0, hours)
    bursts = rng.poisson(rng.gamma(1.0, 3.0, hours))
    found = {}
    for name, counts in (("steady", steady), ("bursts", bursts)):
        at = (np.repeat(np.arange(hours), counts) * 60 + rng.integers(0, 60, counts.sum())).tolist()
        plan = asked(log(sorted(at)), days=56)
        found[name] = dispersion(plan.scope), " ".join(plan.staffing(handling_minutes=10).notes)
    assert found["steady"][0] == pytest.approx(1.0, abs=0.1)
    assert "Alerts come in bursts" not in found["steady"][1]
    assert found["bursts"][0] == pytest.approx(4.0, abs=0.5)  # 1 + mean, for gamma hours of shape 1
    assert "It is too low" in found["bursts"][1]
    assert "Optimistic" in found["steady"][1]


@pytest.mark.parametrize(
    "wish",
    [
        {"target_minutes": -1},
        {"target_share": 90},
        {"productive_share": 0},
        {"block_hours": 5},
        {"handling_minutes": 0},
        {"cap_minutes": 0},
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(wish: dict) -> None:
    with pytest.raises(metrics.MetricError, match=f"{next(iter(wish))} (is|lies)"):
        asked(log([60 * i for i in range(20)], worked(20))).staffing(**wish)


def test_without_alerts_there_are_words_an_empty_table_and_no_invented_time() -> None:
    nothing = metrics.of(History.of(log([]).alerts)).staffing()
    assert nothing.empty
    assert (nothing.n, nothing.table.height) == (0, 0)
    assert "times the handling time, which is not known, over" in nothing.definition
    quiet = asked(log([30 * 1440])).staffing()
    assert quiet.empty
    assert quiet.table["needed"].null_count() == 168
    assert quiet.plot().layout.annotations[0].text == quiet.empty


def test_half_the_handling_time_never_needs_more_and_twice_never_less() -> None:
    rng = np.random.default_rng(31)
    alerts = np.sort(rng.integers(0, 14 * 1440, 2_000)).tolist()
    table = asked(log(alerts)).staffing(handling_minutes=25).table
    assert (
        table.select((pl.col("needed_half") <= pl.col("needed")) & (pl.col("needed") <= pl.col("needed_double")))
        .to_series()
        .all()
    )
    assert asked(log(alerts)).staffing(handling_minutes=25).table.equals(table)


# ---- the commands


def test_the_commands_give_what_the_metrics_give(tocsin, tmp_path: Path) -> None:
    alerts = [60 * i for i in range(14 * 24)]
    journal = [("roster", "p1", 1440 * d + 480, 1440 * d + 960) for d in range(14)]
    with Alerts(tmp_path / "soc.db") as store:
        store.import_history(log(alerts, worked(50), journal))
        soc = metrics.of(
            store,
            since="2026-03-02",
            until="2026-03-16",
            zone="America/Denver",
            hours="daily 22:00-06:00",
            holidays="US",
        )
    said = ("--log", tmp_path / "soc.db", "--since", "2026-03-02", "--until", "2026-03-16", "--zone", "America/Denver")
    said = (*said, "--hours", "daily 22:00-06:00", "--holidays", "US", "--json")
    for command, expected in (
        (("arrivals",), soc.arrivals()),
        (("arrivals", "--value", "count"), soc.arrivals(value="count")),
        (("hours",), soc.on_off_hours()),
        (("staffing",), soc.staffing()),
        (
            ("staffing", "--handling-minutes", "7", "--block-hours", "6", "--productive-share", "0.5"),
            soc.staffing(handling_minutes=7, block_hours=6, productive_share=0.5),
        ),
    ):
        done = tocsin("metrics", *command, *said)
        assert done.code == 0, done.err
        assert done.json["answer"] == json.loads(json.dumps(expected.to_dict()))
    wrong = tocsin("metrics", "hours", "--log", tmp_path / "soc.db", "--hours", "Mon-Fri 9-25")
    assert wrong.code != 0
    assert "no time of day" in wrong.err
