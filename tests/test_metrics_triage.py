"""Overview, funnel, rules and backlog: each equals what walking through every alert one by one says."""

from __future__ import annotations

import itertools
import math
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics_fixtures import HOUR, START, history_of, hour, logs, of_alert, state_at

from tocsin.errors import StatisticsError
from tocsin.lifecycle.frames import empty_history
from tocsin.lifecycle.history import History
from tocsin.lifecycle.words import WAITING
from tocsin.metrics import MetricError, Scope
from tocsin.metrics.backlog import backlog, reopened
from tocsin.metrics.deeds import ACTED
from tocsin.metrics.overview import funnel, overview
from tocsin.metrics.rules import rules
from tocsin.stats.waiting import NEVER, waiting_at

END = hour(70)
quick = settings(max_examples=60, deadline=None)


def scoped(log: tuple[list[dict], list[dict]], since: float = 0, until: float = 61) -> Scope:
    return Scope(history_of(*log, at=END), hour(since), hour(until))


def counted(log: tuple[list[dict], list[dict]], since: float = 0, until: float = 61) -> list[dict]:
    """The alerts that count: in the span, no tests, not merged."""
    return [
        a
        for a in log[0]
        if hour(since) <= a["created_at"] < hour(until)
        and not a["is_test"]
        and state_at(a["created_at"], of_alert(log[1], a["alert_id"]), END) != "merged"
    ]


def ids(rows: list[dict]) -> set[str]:
    return {r["value"].strip() for r in rows if r["value"] and r["value"].strip()}


@quick
@given(logs())
def test_each_number_of_the_overview_is_what_its_definition_says(log: tuple) -> None:
    alerts, rows = counted(log), log[1]
    answer = overview(scoped(log), notebook=True)
    if not alerts:
        assert answer.empty
        assert not answer.table.height
        return
    found = dict(answer.table.select("measure", "count").iter_rows())
    handed = [a for a in alerts if of_alert(rows, a["alert_id"], "escalated", "promoted", "notified", "remediated")]
    rest = [a for a in alerts if a not in handed]
    states = [state_at(a["created_at"], of_alert(rows, a["alert_id"]), END) for a in rest]
    told = [of_alert(rows, a["alert_id"], "notified") for a in alerts]
    incidents = ids([r for a in alerts for r in of_alert(rows, a["alert_id"], "promoted")])
    assert found == {
        "alerts": len(alerts), "needed no action": states.count("closed"), "undecided": sum(s in WAITING for s in states),
        "suppressed": states.count("suppressed"), "needed action": len(handed),
        "investigations": len(ids([r for a in alerts for r in of_alert(rows, a["alert_id"], "escalated")]) - incidents),
        "incidents": len(incidents), "notifications": sum(map(len, told)), "alerts notified": sum(map(bool, told)),
    }  # fmt: skip
    assert answer.n == len(alerts)
    assert found["alerts"] == sum(found[m] for m in ("needed no action", "undecided", "suppressed", "needed action"))


@quick
@given(logs())
def test_each_stage_of_the_funnel_is_part_of_the_one_before(log: tuple) -> None:
    alerts, rows = counted(log), log[1]
    found = dict(funnel(scoped(log)).table.select("stage", "count").iter_rows())
    if not alerts:
        assert found == {}
        return
    handed = [a for a in alerts if of_alert(rows, a["alert_id"], "escalated", "promoted")]
    acted = [
        a
        for a in alerts
        if any(r["actor_kind"] == "human" and r["type"] in ACTED for r in of_alert(rows, a["alert_id"]))
    ]
    assert found["alerts"] == len(alerts)
    assert found["triaged"] == len({a["alert_id"] for a in [*acted, *handed]})
    assert found["investigated"] == len(handed)
    assert found["incident"] == sum(bool(of_alert(rows, a["alert_id"], "promoted")) for a in alerts)
    assert found["events"] is None, "nobody recorded events: that is not zero"
    assert found["findings"] is None


def test_events_count_where_their_row_lies_inside_the_span() -> None:
    journal = [
        {"kind": "events", "name": "edr", "at": hour(a), "until": hour(b), "number": n}
        for a, b, n in ((0, 5, 10), (5, 9, 7), (9, 99, 1))
    ]
    history = history_of([{"alert_id": "a", "created_at": hour(1)}], [], journal, END)
    assert funnel(Scope(history, hour(0), hour(9))).facts["events"] == 17
    assert "of the stage before" in str(funnel(Scope(history, hour(0), hour(9))).plot().to_dict())


def test_the_span_before_is_compared_only_where_the_history_reaches_back_over_it() -> None:
    alerts = [{"alert_id": f"a{i}", "created_at": hour(i * 12)} for i in range(8)]
    history = history_of(alerts, [], at=hour(96))
    row = overview(Scope(history, hour(48), hour(96))).table.row(0, named=True)
    assert (row["count"], row["before"], row["change"]) == (4, 4, 0)
    late = overview(Scope(history_of(alerts[3:], [], at=hour(96)), hour(48), hour(96)))
    assert late.table["before"].to_list() == [None] * 9, "what nobody recorded is no zero"
    assert "does not reach back" in late.notes[0]


def minutes_of(rows: list[dict]) -> list[float]:
    """Walk through one alert's rows, person by person, and return the minutes of each stretch of work."""
    found: list[float] = []
    for person in ("ann", "bob"):
        before = None
        for row in (r for r in rows if r["actor"] == person and r["actor_kind"] == "human"):
            if row["type"] == "work_ended" and row["number"] is not None:
                found.append(row["number"])
            elif row["type"] != "work_started" and before is not None and before["type"] == "work_started":
                found.append((row["at"] - before["at"]) / timedelta(minutes=1))
            before = row
    return found


@quick
@given(logs())
def test_a_rules_row_is_what_its_alerts_say_one_by_one(log: tuple) -> None:
    alerts, rows = counted(log), log[1]
    table = rules(scoped(log)).table
    assert sorted(table["rule"]) == sorted({a["rule_id"] or "-" for a in alerts})
    for row in table.iter_rows(named=True):
        mine = [a for a in alerts if (a["rule_id"] or "-") == row["rule"]]
        verdicts = [([r["value"] for r in of_alert(rows, a["alert_id"], "verdict")] or ["unjudged"])[-1] for a in mine]
        true, false, open_ = (verdicts.count(v) for v in ("true_positive", "false_positive", "unjudged"))
        assert (row["alerts"], row["unjudged"], row["benign_true_positive"]) == (
            len(mine),
            open_,
            verdicts.count("benign_true_positive"),
        )
        assert row["precision"] == (pytest.approx(true / (true + false)) if true + false else None)
        assert row["escalated"] == sum(bool(of_alert(rows, a["alert_id"], "escalated", "promoted")) for a in mine)
        assert row["incidents"] == len(ids([r for a in mine for r in of_alert(rows, a["alert_id"], "promoted")]))
        worked = [minutes_of(of_alert(rows, a["alert_id"], "work_started", "work_ended")) for a in mine]
        assert row["minutes_known"] == sum(map(bool, worked))
        assert row["minutes"] == (pytest.approx(sum(map(sum, worked))) if any(worked) else None), "unknown is not zero"
        unit = "minutes" if "waste_minutes_at_least" in row else "alerts"
        low, high = row[f"waste_{unit}_at_least"], row[f"waste_{unit}_at_most"]
        if low is not None:
            assert 0 <= low <= high <= (row["minutes"] if unit == "minutes" else row["alerts"]) + 1e-9


def test_waste_that_is_sure_takes_unjudged_alerts_for_true_and_what_is_possible_takes_them_for_false() -> None:
    alerts = [{"alert_id": f"a{i}", "created_at": hour(i), "rule_id": "r"} for i in range(20)]
    judged = [
        {"key": f"k{i}", "alert_id": f"a{i}", "at": hour(30), "type": "verdict", "value": "false_positive"}
        for i in range(10)
    ]
    row = rules(Scope(history_of(alerts, judged, at=END), hour(0))).table.row(0, named=True)
    assert row["precision"] == 0.0
    assert row["unjudged"] == 10
    assert row["waste_alerts_at_least"] < 10 < row["waste_alerts_at_most"]
    assert row["waste_alerts_at_most"] == 20, "each may be false"


def test_minutes_are_those_that_the_end_names_else_those_since_the_same_persons_start() -> None:
    def row(key: str, at: float, kind: str, actor: str, number: float | None = None) -> dict:
        return {"key": key, "alert_id": "a", "at": hour(at), "type": kind, "actor": actor, "number": number}

    rows = [
        row("1", 1, "work_started", "ann"), row("2", 1.25, "work_started", "bob"), row("3", 1.5, "work_ended", "ann"),
        row("4", 2, "work_ended", "bob", 5.0), row("5", 3, "work_ended", "cyd"), row("6", 4, "work_started", "ann"),
        row("7", 4.5, "closed", "bob"), row("8", 5, "held", "ann"),
    ]  # fmt: skip
    history = history_of([{"alert_id": "a", "created_at": hour(0), "rule_id": "r"}], rows, at=END)
    assert rules(Scope(history)).table["minutes"].to_list() == [35.0], "work that nobody ended is not recorded"


def test_the_median_wait_counts_waiting_alerts_as_waiting() -> None:
    alerts = [{"alert_id": f"a{i}", "created_at": hour(0), "rule_id": "r"} for i in range(3)]
    seen = [{"key": "k", "alert_id": "a0", "at": hour(1), "type": "viewed"}]
    assert rules(Scope(history_of(alerts, seen, at=END))).table["median_wait_minutes"].to_list() == [None]
    seen += [{"key": "l", "alert_id": "a1", "at": hour(2), "type": "viewed"}]
    assert rules(Scope(history_of(alerts, seen, at=END))).table["median_wait_minutes"].to_list() == [120.0]


def test_versions_of_a_rule_have_rows_of_their_own_and_a_trend_of_their_own() -> None:
    alerts = [
        {"alert_id": f"a{i}", "created_at": hour(i * 2), "rule_id": "r", "rule_version": "1" if i < 12 else "2"}
        for i in range(48)
    ]
    scope = Scope(history_of(alerts, [], at=hour(96)), hour(48), hour(96))
    table = rules(scope, versions=True).table.sort("version")
    assert table.select("version", "alerts", "alerts_before", "trend").rows() == [("1", 0, 12, 0.0), ("2", 24, 12, 2.0)]


@quick
@given(logs(), st.sampled_from(["UTC", "Asia/Kathmandu", "America/New_York"]))
def test_the_backlog_at_any_time_is_the_alerts_that_wait_then_with_their_ages(log: tuple, zone: str) -> None:
    alerts, rows = log
    table = backlog(Scope(history_of(*log, at=END), hour(3), hour(61), zone), every="1h").table
    kept = [a for a in alerts if not a["is_test"]]
    for row in table.iter_rows(named=True):
        when, ages = row["time"], []
        for a in kept:
            mine = of_alert(rows, a["alert_id"])
            if state_at(a["created_at"], mine, when) in WAITING:
                # The wait began at the earliest minute from which on it waited without a break.
                turns = sorted({a["created_at"], *(t for r in mine for t in (r["at"], r["until"]) if t is not None)})
                turns = [t for t in turns if a["created_at"] <= t <= when]
                waited = [state_at(a["created_at"], mine, t) in WAITING for t in turns]
                first = max((i + 1 for i, w in enumerate(waited) if not w), default=0)
                ages.append((when - turns[first]) / HOUR)
        assert row["waiting"] == len(ages)
        for name, expected in (("median_hours", 0.5), ("p90_hours", 0.9), ("oldest_hours", 1.0)):
            assert row[name] == (pytest.approx(np.quantile(ages, expected)) if ages else None)


def test_waits_ended_and_begun_lead_from_one_time_to_the_next_and_severities_add_up() -> None:
    rng = np.random.default_rng(4)
    alerts = [
        {"alert_id": f"a{i}", "created_at": hour(t), "severity": ["low", "high"][i % 2]}
        for i, t in enumerate(rng.uniform(0, 60, 80))
    ]
    rows = [
        {
            "key": f"k{i}",
            "alert_id": f"a{i}",
            "at": a["created_at"] + HOUR * float(rng.exponential(5)),
            "type": "closed",
        }
        for i, a in enumerate(alerts[:70])
    ]
    answer = backlog(Scope(history_of(alerts, rows, at=END), hour(0), END), every="1h")
    table = answer.table
    change = (table["begun"] - table["ended"])[1:].to_list()
    assert table["waiting"].diff()[1:].to_list() == change
    assert (table["low"] + table["high"]).to_list() == table["waiting"].to_list()
    assert answer.facts["waiting at the end"] == table["waiting"][-1]
    assert {trace.stackgroup for trace in answer.plot().data} == {"all"}
    with pytest.raises(MetricError, match="1h"):
        backlog(Scope(history_of(alerts, rows)), every="5m")


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20) | st.none()), max_size=25),
    st.lists(st.integers(-5, 60), max_size=8),
)
def test_who_waits_at_a_time_and_how_long_equals_asking_everybody(waits: list, times: list[int]) -> None:
    begins = [b for b, _ in waits]
    ends = [NEVER if length is None else b + length for b, length in waits]
    found = waiting_at(begins, ends, sorted(times), (0.0, 0.5, 0.9))
    for i, t in enumerate(sorted(times)):
        ages = [t - b for b, e in zip(begins, ends, strict=True) if b <= t < e]
        assert found.count[i] == len(ages)
        expected = np.quantile(ages, [0.0, 0.5, 0.9]) if ages else [math.nan] * 3
        np.testing.assert_allclose(found.ages[i], expected)
        np.testing.assert_equal(found.oldest[i], max(ages, default=math.nan))
    with pytest.raises(StatisticsError):
        waiting_at([5], [4], [1])


@quick
@given(logs())
def test_a_closed_alert_that_was_opened_again_counts_once_with_its_first_return(log: tuple) -> None:
    alerts, rows = counted(log), log[1]
    expected = {}
    for a in alerts:
        moves = of_alert(rows, a["alert_id"], "closed", "reopened")
        if any(m["type"] == "closed" for m in moves):
            back = [
                (n["at"] - m["at"]) / HOUR
                for m, n in itertools.pairwise(moves)
                if (m["type"], n["type"]) == ("closed", "reopened")
            ]
            expected[a["alert_id"]] = back[:1]
    table = reopened(scoped(log)).table
    if not expected:
        assert not table.height
        return
    whole = table.row(0, named=True)
    assert (whole["closed"], whole["reopened"]) == (len(expected), sum(map(len, expected.values())))
    hours = [h for found in expected.values() for h in found]
    assert whole["median_hours_until"] == (pytest.approx(np.median(hours)) if hours else None)
    assert table["closed"][1:].sum() == whole["closed"]


def test_a_wait_goes_on_through_a_break_of_no_length_and_begins_anew_after_a_suppression() -> None:
    def at(n: float, kind: str, until: float | None = None) -> dict:
        return {
            "key": f"{n}{kind}",
            "alert_id": "a",
            "at": hour(n),
            "type": kind,
            "until": None if until is None else hour(until),
        }

    alerts = [{"alert_id": "a", "created_at": hour(0)}]
    for rows, oldest in (
        ([at(5, "closed"), at(5, "reopened")], 20.0),
        ([at(5, "suppressed", 12)], 8.0),
        ([at(5, "suppressed")], None),
    ):
        answer = backlog(Scope(history_of(alerts, rows, at=END), hour(0), hour(20)))
        assert answer.table["oldest_hours"][-1] == oldest


def test_an_opening_without_a_close_before_it_is_no_return() -> None:
    rows = [{"key": k, "alert_id": "a", "at": hour(n), "type": k} for n, k in ((1, "reopened"), (2, "closed"))]
    rows += [{"key": "x", "alert_id": "b", "at": hour(3), "type": "reopened"}]
    alerts = [{"alert_id": name, "created_at": hour(0), "rule_id": "r"} for name in "ab"]
    row = reopened(Scope(history_of(alerts, rows, at=END))).table.row(0, named=True)
    assert (row["closed"], row["reopened"]) == (1, 0)
    rows.append({"key": "y", "alert_id": "a", "at": hour(9), "type": "reopened"})
    rows.append({"key": "z", "alert_id": "a", "at": hour(9.5), "type": "reopened"})
    row = reopened(Scope(history_of(alerts, rows, at=END))).table.row(0, named=True)
    assert (row["reopened"], row["median_hours_until"]) == (1, 7.0)


METRICS = (overview, funnel, rules, backlog, reopened)


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.__name__)
def test_an_empty_history_has_an_empty_table_with_the_columns_of_a_full_one_and_says_why(metric) -> None:
    nothing = empty_history()
    empty = metric(Scope(History(nothing["alert"])))
    full = metric(
        Scope(
            history_of(
                [{"alert_id": "a", "created_at": START, "rule_id": "r"}],
                [{"key": "k", "alert_id": "a", "at": START + HOUR, "type": "closed"}],
            )
        )
    )
    assert empty.empty
    assert not full.empty
    assert empty.table.height == 0
    assert set(empty.table.columns) <= set(full.table.columns)
    assert set(full.table.columns) - set(empty.table.columns) <= {"low"}, "only severities that occur have a column"
    assert empty.empty in str(empty.plot().to_dict())
    assert "NaN" not in str(full.to_dict())


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.__name__)
@quick
@given(log=logs(), seed=st.integers(0, 99))
def test_the_order_in_which_the_rows_stand_changes_nothing(metric, log: tuple, seed: int) -> None:
    alerts, rows = log
    times = {r["at"] for r in rows}
    rows = [{**r, "at": r["at"] + timedelta(minutes=i)} for i, r in enumerate(rows)] if len(times) < len(rows) else rows
    order = np.random.default_rng(seed)
    mixed = [alerts[i] for i in order.permutation(len(alerts))], [rows[i] for i in order.permutation(len(rows))]
    one, other = (metric(scoped(x)) for x in ((alerts, rows), mixed))
    assert one.table.equals(other.table)
    assert one.definition == other.definition


@quick
@given(logs(), st.integers(1, 60))
def test_the_counts_of_a_span_are_those_of_its_two_parts(log: tuple, cut: int) -> None:
    parts = [overview(scoped(log, *span)).facts for span in ((0, 61), (0, cut), (cut, 61))]
    for name in (
        "alerts",
        "needed no action",
        "undecided",
        "suppressed",
        "needed action",
        "notifications",
        "alerts notified",
    ):
        assert parts[0][name] == parts[1][name] + parts[2][name]


def test_a_table_of_rules_says_how_many_alerts_it_left_out_and_why() -> None:
    alerts = [
        {"alert_id": "a", "created_at": hour(1), "rule_id": "r"},
        {"alert_id": "b", "created_at": hour(1), "is_test": True},
    ]
    answer = rules(Scope(history_of(alerts, [], at=END), hour(0)))
    assert "Left out: 1 tests" in answer.definition
    assert answer.facts["excluded"] == {"tests": 1}
    assert isinstance(answer.table, pl.DataFrame)
