"""Clocks: how long each alert took is what reading its activities one by one says; the notebook's numbers to the digit."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lifecycle import START, history_of, logs, minute

from tocsin.calendars import MINUTE, instant_us
from tocsin.lifecycle import TRANSITIONS, History
from tocsin.metrics.clocks import BACKWARDS, Clock, durations, find, parse_clocks, shipped
from tocsin.metrics.scope import MetricError, Scope
from tocsin.workhours import WorkHours

WORK = WorkHours.of("Mon-Fri 09:00-09:07,09:12-17:00")
SPAN = {"since": START - timedelta(minutes=1), "until": START + timedelta(days=1)}


# ---- the slow reading, an alert at a time


def held_rows(rows: list[dict], alert: dict) -> list[dict]:
    voided = {r["value"] for r in rows if r["type"] == "retracted"}
    mine = (
        r for r in rows if r["alert_id"] == alert["alert_id"] and r["key"] not in voided and r["type"] != "retracted"
    )
    return sorted(mine, key=lambda r: r["at"])


def state_of(mine: list[dict], at: datetime) -> str:
    state = "new"
    for row in mine:
        expired = row["type"] == "suppressed" and row.get("until") is not None and row["until"] <= at
        if row["type"] in TRANSITIONS and not expired:
            state = TRANSITIONS[row["type"]][1]
    return state


def start_of(clock: Clock, alert: dict, mine: list[dict]) -> datetime | None:
    if clock.start == "created":
        return alert["created_at"]
    if clock.start == "first_activity":
        return alert.get("first_activity_at")
    return next((r["at"] for r in mine if r["type"] == clock.start), None)


def end_of(clock: Clock, alert: dict, mine: list[dict], start: datetime | None) -> datetime | None:
    if clock.end == ("created",):
        return alert["created_at"]

    def ends(row: dict) -> bool:
        later = clock.start in ("created", "first_activity") or (start is not None and row["at"] >= start)
        by = not clock.actors or row.get("actor_kind", "human") in clock.actors
        return row["type"] in clock.end and by and later

    found = [(i, r) for i, r in enumerate(mine) if ends(r)]
    if not found:
        return None
    if clock.pick == "earliest":
        return found[0][1]["at"]
    if clock.pick == "last":
        place, row = found[-1]
        return None if any(r["type"] == "reopened" for r in mine[place + 1 :]) else row["at"]
    return next(r["at"] for word in clock.end for _, r in found if r["type"] == word)


def on_hold(mine: list[dict], start: datetime, end: datetime) -> float:
    moving = [r for r in mine if r["type"] in TRANSITIONS]
    total = timedelta()
    for i, row in enumerate(moving):
        if row["type"] == "held":
            until = moving[i + 1]["at"] if i + 1 < len(moving) else end
            total += max(min(until, end) - max(row["at"], start), timedelta())
    return total / timedelta(minutes=1)


def slowly(clock: Clock, alert: dict, rows: list[dict], at: datetime) -> tuple[float | None, bool, str | None] | None:
    """Return minutes, whether it ended, why it does not count; None for what is merged."""
    mine = held_rows(rows, alert)
    state = state_of(mine, at)
    if state == "merged":
        return None
    start = start_of(clock, alert, mine)
    end = end_of(clock, alert, mine, start)
    if state == "suppressed":
        return None, end is not None, "suppressed"
    if start is None:
        return (
            None,
            end is not None,
            "first activity unknown" if clock.start == "first_activity" else f"never {clock.start}",
        )
    if end is None and clock.otherwise == "left out":
        return None, False, "left without it"
    if end is None and state == "closed":
        return None, False, "closed without it"
    until = end or at
    if clock.calendar == "business":
        minutes = float(WORK.minutes_between([instant_us(start)], [instant_us(until)])[0])
    else:
        minutes = (until - start) / timedelta(minutes=1)
        if clock.calendar == "minus hold":
            minutes -= on_hold(mine, start, until)
    return minutes, end is not None, BACKWARDS if until < start and end is not None else None


CLOCKS = [
    *(c for c in shipped().values() if c.arithmetic == "exact"),
    Clock("held", "h", ("closed",), calendar="minus hold"),
    Clock("work", "w", ("assigned", "closed"), calendar="business"),
    Clock("again", "a", ("closed",), start="reopened", actors=()),
    Clock("order", "o", ("verdict", "assigned"), pick="first in this order", actors=()),
]


@pytest.mark.parametrize("clock", CLOCKS, ids=lambda c: c.id)
@settings(deadline=None, max_examples=60)
@given(log=logs(), at=st.integers(10, 45))
def test_durations_are_what_reading_each_alert_by_itself_says(clock: Clock, log: tuple, at: int) -> None:
    alerts, rows = log
    when = minute(at)
    scope = Scope(history_of(alerts, rows).as_of(when), **SPAN)
    past = [r for r in rows if r["at"] <= when]
    expected = [t for a in alerts if (t := slowly(clock, a, past, when)) is not None]
    found = durations(scope, clock, WORK)
    assert found.height == scope.alerts.height == len(expected)
    for row, (minutes, ended, reason) in zip(found.to_dicts(), expected, strict=True):
        assert (row["ended"], row["excluded"]) == (ended, reason)
        assert row["minutes"] is None if minutes is None else math.isclose(row["minutes"], minutes, abs_tol=1e-9)


@settings(deadline=None)
@given(log=logs(), at=st.integers(10, 40), clock=st.sampled_from(CLOCKS))
def test_durations_as_of_a_time_are_those_of_a_log_that_ends_there(log: tuple, at: int, clock: Clock) -> None:
    alerts, rows = log
    when = minute(at)
    cut = history_of(alerts, [r for r in rows if r["at"] <= when])
    cut = History(cut.alerts, cut.activities, cut.findings, cut.journal, at=when)
    whole = history_of(alerts, rows).as_of(when)
    assert durations(Scope(whole, **SPAN), clock, WORK).equals(durations(Scope(cut, **SPAN), clock, WORK))


@settings(deadline=None)
@given(log=logs(), days=st.integers(-400, 400), clock=st.sampled_from([c for c in CLOCKS if c.calendar != "business"]))
def test_durations_do_not_depend_on_when_it_all_happens(log: tuple, days: int, clock: Clock) -> None:
    by = timedelta(days=days, minutes=17)

    def moved(rows: list[dict]) -> list[dict]:
        return [{k: v + by if isinstance(v, datetime) else v for k, v in row.items()} for row in rows]

    alerts, rows = log
    here = durations(Scope(history_of(alerts, rows).as_of(minute(50)), **SPAN), clock)
    there = durations(
        Scope(history_of(moved(alerts), moved(rows)).as_of(minute(50) + by), **{k: v + by for k, v in SPAN.items()}),
        clock,
    )
    assert here.drop("started_at", "ended_at").equals(there.drop("started_at", "ended_at"))


# ---- by hand


def one(*rows: tuple, clock: str | Clock = "first-action", at: int = 600, **alert: object) -> dict:
    """The duration of one alert raised at minute 0, by its activities (minute, type, actor kind)."""
    told = [
        {"alert_id": "a", "at": minute(t), "type": kind, "actor_kind": who[0] if who else "human"}
        for t, kind, *who in rows
    ]
    schema = {"alert_id": pl.String, "at": pl.Datetime("us", "UTC"), "type": pl.String, "actor_kind": pl.String}
    alerts = pl.DataFrame([{"alert_id": "a", "created_at": minute(0), **alert}])
    history = History.of(alerts, pl.DataFrame(told, schema=schema), at=minute(at))
    return durations(Scope(history, **SPAN), clock, WORK).to_dicts()[0]


def test_the_earliest_human_activity_ends_the_clock_and_automation_has_its_own() -> None:
    rows = ((1, "closed", "automation"), (60, "reopened"), (120, "assigned"), (130, "closed"))
    assert one(*rows)["minutes"] == 120
    assert one(*rows, clock="automation")["minutes"] == 1
    assert one(*rows, clock="first-close")["minutes"] == 130


def test_an_untouched_alert_waits_and_is_neither_minus_one_nor_absent() -> None:
    assert (one(at=90)["minutes"], one(at=90)["ended"], one(at=90)["excluded"]) == (90, False, None)


def test_a_reopened_alert_is_not_closed_for_good() -> None:
    rows = ((5, "closed"), (10, "reopened"))
    assert (one(*rows, clock="last-close", at=70)["minutes"], one(*rows, clock="last-close", at=70)["ended"]) == (
        70,
        False,
    )
    assert one(*rows, (30, "closed"), clock="last-close")["minutes"] == 30
    assert one(*rows, clock="first-close")["minutes"] == 5


def test_time_on_hold_can_be_left_out_and_an_open_hold_lasts_until_now() -> None:
    held = Clock("h", "h", ("closed",), calendar="minus hold")
    rows = ((10, "work_started"), (20, "held"), (50, "resumed"), (70, "closed"))
    assert one(*rows, clock=held)["minutes"] == 40
    assert one(*rows[:2], clock=held, at=500)["minutes"] == 20


def test_working_minutes_are_those_in_which_somebody_works() -> None:
    business = Clock("b", "b", ("closed",), calendar="business")
    assert one((15, "closed"), clock=business)["minutes"] == 10, "09:00 to 09:15 without 09:07 to 09:12"
    with pytest.raises(MetricError, match="say when people work"):
        durations(Scope(History.of(pl.DataFrame({"alert_id": ["a"], "created_at": [START]})), **SPAN), business)


def test_times_that_run_backwards_are_counted_and_never_clipped() -> None:
    told = one((-3, "assigned"), (5, "closed"))
    assert (told["minutes"], told["excluded"]) == (-3, BACKWARDS)


def test_a_clock_that_needs_every_activity_refuses_summaries_and_says_why() -> None:
    with pytest.raises(MetricError, match="only first and last times"):
        one((5, "closed"), clock="sentinel-triage", history="summary")
    alerts = pl.DataFrame({"alert_id": ["a", "b"], "created_at": [START, START], "history": ["summary", "full"]})
    told = durations(Scope(History.of(alerts, at=minute(9)), **SPAN), "sentinel-triage")
    assert told["excluded"].to_list() == ["only first and last times known", None]


def test_expels_and_thehives_clocks_measure_between_the_moments_they_name() -> None:
    rows = ((4, "assigned"), (9, "escalated"), (31, "promoted"), (44, "remediated"), (60, "closed"))
    early = {"first_activity_at": minute(-7)}
    expected = {
        "expel-detect": 7, "expel-triage": 4, "expel-decision": 9, "expel-investigate": 22, "expel-acknowledge": 31,
        "expel-respond": 44, "thehive-detect": 7, "thehive-qualify": 60, "sentinel-closure": 60,
    }  # fmt: skip
    assert {name: one(*rows, clock=name, **early)["minutes"] for name in expected} == expected
    assert one((4, "work_started"), (60, "closed"), clock="thehive-resolve")["minutes"] == 56
    assert one((4, "work_started"), clock="thehive-acknowledge", **early)["minutes"] == 11
    assert one((4, "assigned"), clock="expel-acknowledge")["excluded"] == "left without it"
    earlier = ((2, "closed"), (3, "reopened"), (9, "escalated"), (20, "closed"))
    assert one(*earlier, clock="expel-investigate")["minutes"] == 11, (
        "what was closed before it began was something else"
    )
    assert one((4, "work_started"), clock="expel-investigate")["excluded"] == "never escalated"


# ---- the notebook


def as_the_notebook_counts(row: dict) -> float:
    """What the cell does, with its order and its rounding; the dates are parsed already."""
    if row["status"] == "NEW":
        return -1
    act = next(row[k] for k in ("assigned", "investigative_action", "promoted", "closed") if row.get(k) is not None)
    return round((act - row["created"]).total_seconds() / 60, 2)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_the_notebooks_clock_equals_the_notebooks_arithmetic_to_the_last_digit(data: st.DataObject) -> None:
    offset = st.one_of(st.none(), st.integers(-(10**9), 10**12))
    kinds = ("assigned", "investigative_action", "promoted", "closed")
    rows = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(kinds, offset)), min_size=1, max_size=8))
    alerts, activities, expected = [], [], []
    for i, row in enumerate(rows):
        times = {k: START + timedelta(microseconds=v) for k, v in row.items() if v is not None}
        alerts.append({"alert_id": f"a{i}", "created_at": START})
        activities += [
            {"alert_id": f"a{i}", "at": at, "type": kind, "actor_kind": "automation"} for kind, at in times.items()
        ]
        status = "CLOSED" if "closed" in times else "NEW"
        expected.append(as_the_notebook_counts({"status": status, "created": START, **times}))
    schema = {"alert_id": pl.String, "at": pl.Datetime("us", "UTC"), "type": pl.String, "actor_kind": pl.String}
    history = History.of(pl.DataFrame(alerts), pl.DataFrame(activities, schema=schema), at=START + timedelta(days=30))
    assert durations(Scope(history, **SPAN), "notebook")["minutes"].to_list() == expected


@pytest.mark.parametrize("seconds", [7.5, 160.5, 0.3, -7.5, 22.5, 1e7 + 7.5])
def test_the_notebooks_halves_are_rounded_as_python_rounds_them(seconds: float) -> None:
    at = START + timedelta(seconds=seconds)
    history = History.of(
        pl.DataFrame({"alert_id": ["a"], "created_at": [START]}), pl.DataFrame({"alert_id": ["a"], "at": [at], "type": ["closed"]}),
        at=START + timedelta(days=200),
    )  # fmt: skip
    wanted = as_the_notebook_counts({"status": "CLOSED", "created": START, "closed": at})
    assert durations(Scope(history, **SPAN), "notebook")["minutes"].item() == wanted


@pytest.mark.needs("pandas")
def test_the_notebooks_mean_by_severity_is_pandas_mean_with_its_minus_ones() -> None:
    import pandas as pd

    from tocsin.metrics.response import response

    alerts = pl.DataFrame({
        "alert_id": list("abcde"), "created_at": [START] * 5, "severity": ["high", "high", "low", "low", "low"],
    })  # fmt: skip
    activities = pl.DataFrame({
        "alert_id": ["a", "c", "c", "d"], "at": [minute(7), minute(1), minute(121), minute(33)],
        "type": ["closed", "closed", "assigned", "closed"],
    })  # fmt: skip
    history = History.of(alerts, activities, at=minute(999))
    frame = pd.DataFrame({"Severity": alerts["severity"].to_list(), "Minutes": [7.0, -1.0, 121.0, 33.0, -1.0]})
    wanted = frame.groupby("Severity")["Minutes"].agg(["mean", "count"])
    found = response(Scope(history, **SPAN), clock="notebook")
    table = {row["severity"]: row for row in found.table.to_dicts()}
    for severity in ("high", "low"):
        assert table[severity]["naive_mean_minutes"] == wanted.loc[severity, "mean"]
        assert table[severity]["n"] == wanted.loc[severity, "count"]
    assert table["high"]["median_minutes"] is None, "nothing else can be read off numbers with -1 in them"
    honest = {r["severity"]: r for r in response(Scope(history, **SPAN)).table.to_dicts()}
    assert (honest["high"]["naive_mean_minutes"], honest["high"]["waiting"]) == (7, 1)


def test_what_stops_the_notebook_does_not_stop_us() -> None:
    assert one((3, "work_started"), clock="notebook")["excluded"].startswith("no time of action"), (
        "it has UnboundLocalError there"
    )
    assert one((1, "closed", "automation"), clock="notebook")["minutes"] == 1, (
        "it has KeyError: 'First Investigated At' there"
    )
    empty = Scope(History.of(pl.DataFrame(schema={"alert_id": pl.String, "created_at": pl.Datetime("us", "UTC")})))
    assert durations(empty, "notebook").is_empty(), "it has ValueError there"


# ---- clocks as data


def test_every_clock_that_ships_can_be_said_and_has_a_digest_of_its_own() -> None:
    clocks = shipped()
    assert {"first-action", "notebook", "automation"} <= set(clocks)
    assert len([c for c in clocks if c.startswith("expel-")]) == 6
    twins = {"expel-triage": "first-action", "sentinel-closure": "last-close", "thehive-detect": "expel-detect"}
    digests = {c.digest for name, c in clocks.items() if name not in twins}
    assert len(digests) == len(clocks) - len(twins)
    assert all(clocks[a].digest == clocks[b].digest for a, b in twins.items()), "they measure the same, and say so"
    assert all(c.words().endswith(")") and c.id in c.words() for c in clocks.values())


def test_an_own_clock_is_a_few_lines_and_its_mistakes_are_named(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        '[clock.look]\ntitle = "Until somebody looks"\nend = ["viewed", "assigned"]\nonly = { severity = "high" }\n'
    )
    own = find(str(file))
    assert (own.end, dict(own.only)) == (("viewed", "assigned"), {"severity": ("high",)})
    assert find(f"{file}:look") == own
    assert one((3, "viewed"), clock=own, severity="high")["minutes"] == 3
    assert one((3, "viewed"), clock=own, severity="low")["excluded"] == "not of the clock's population"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[clock.x]\nend = ["assignd"]', 'Did you mean "assigned"'),
        ('[clock.x]\nends = ["closed"]', 'Did you mean "end"'),
        ('[clock.x]\nend = "closed"\ncalendar = "busines"', 'Did you mean "business"'),
        ('[clock.x]\nend = "closed"\nactors = "humans"', 'Did you mean "human"'),
        ('[clock.x]\nend = "closed"\nonly = { severty = "low" }', 'Did you mean "severity"'),
        ('[clocks.x]\nend = "closed"', 'Did you mean "clock"'),
        ("[clock.x]\ntitle = 'x'", "needs end"),
        ('[clock.x]\nend = ["created", "closed"]', "ends with activities"),
        ("[clock.x", "own:"),
        ("clock = 3", "write .clock.ID."),
        ("[clock.x]\nend = 3", "a word or a list"),
        ('[clock.x]\nend = "closed"\nonly = 3', "only is a table"),
        ("[clock]\nx = 3", "write .clock.x."),
    ],
)
def test_a_wrong_clock_file_is_refused_with_the_place_and_the_right_word(text: str, words: str) -> None:
    with pytest.raises(MetricError, match=words):
        parse_clocks(text, "own")


def test_a_clock_that_does_not_exist_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match='Did you mean "first-action"'):
        find("first-acton")
    with pytest.raises(MetricError, match="No such file"):
        find("nowhere.toml")
    (tmp_path / "two.toml").write_text('[clock.a]\nend = "closed"\n[clock.b]\nend = "viewed"\n')
    with pytest.raises(MetricError, match="It has: a, b"):
        find(tmp_path / "two.toml")


def test_a_clock_starts_at_microseconds_and_keeps_them() -> None:
    at = START + timedelta(microseconds=1)
    history = History.of(
        pl.DataFrame({"alert_id": ["a"], "created_at": [START]}),
        pl.DataFrame({"alert_id": ["a"], "at": [at], "type": ["closed"]}),
    )
    assert durations(Scope(history, **SPAN))["minutes"].item() == 1 / MINUTE
    assert np.isclose(1 / MINUTE, 1.67e-8, rtol=1e-2)
    assert START.tzinfo is UTC
