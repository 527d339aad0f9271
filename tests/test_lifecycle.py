"""The life of an alert: its state at any time is what walking through its activities one by one says."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.lifecycle import STATES, TRANSITIONS, VERDICTS, History, LifecycleError, check_transition, fit_frame
from tocsin.lifecycle.frames import FEW, digest

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
unhurried = settings(deadline=None)  # the first example may wait for compilation


def minute(n: int) -> datetime:
    """Return the n-th minute."""
    return START + n * MINUTE


def walked(alert: dict, rows: list[dict], at: datetime) -> dict:
    """Walk through an alert's activities one by one and say how it stands."""
    voided = {r["value"] for r in rows if r["type"] == "retracted"}
    held = sorted(
        (r for r in rows if r["alert_id"] == alert["alert_id"] and r["key"] not in voided), key=lambda r: r["at"]
    )
    stands = {"state": "new", "verdict": "unjudged", "assignee": None, "severity_now": alert["severity"], "reopened": 0}
    for row in held:
        kind = row["type"]
        if kind in TRANSITIONS and not (kind == "suppressed" and row["until"] is not None and row["until"] <= at):
            stands["state"] = TRANSITIONS[kind][1]
            stands["reopened"] += kind == "reopened"
        if kind == "verdict":
            stands["verdict"] = row["value"]
        elif kind == "assigned":
            stands["assignee"] = row["value"]
        elif kind == "unassigned":
            stands["assignee"] = None
        elif kind == "severity_changed":
            stands["severity_now"] = row["value"]
    return stands


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[dict], list[dict]]:
    """Return alerts and activities in the order they were learnt, late ones and corrections among them."""
    count = draw(st.integers(1, 3))
    alerts = [
        {
            "alert_id": f"a{i}",
            "created_at": minute(t),
            "recorded_at": minute(t + draw(st.integers(0, 3))),
            "severity": "low",
        }
        for i, t in enumerate(draw(st.lists(st.integers(0, 10), min_size=count, max_size=count)))
    ]
    rows: list[dict] = []
    kinds = [*TRANSITIONS, "assigned", "unassigned", "verdict", "severity_changed", "commented", "retracted"]
    for n, kind in enumerate(draw(st.lists(st.sampled_from(kinds), max_size=14))):
        alert = draw(st.sampled_from(alerts))
        at = draw(st.integers(0, 30))
        value = {
            "assigned": draw(st.sampled_from(["ann", "bob"])),
            "verdict": draw(st.sampled_from(VERDICTS)),
            "severity_changed": draw(st.sampled_from(["low", "high"])),
        }.get(kind)
        if kind == "retracted":
            earlier = [r for r in rows if r["alert_id"] == alert["alert_id"] and r["type"] != "retracted"]
            if not earlier:
                continue
            wrong = draw(st.sampled_from(earlier))
            value, at = wrong["key"], (wrong["at"] - START) // MINUTE
        until = minute(at + draw(st.integers(1, 9))) if kind == "suppressed" and draw(st.booleans()) else None
        rows.append(
            {"key": f"k{n}", "alert_id": alert["alert_id"], "at": minute(at), "recorded_at": minute(at + draw(st.integers(0, 5))),
             "type": kind, "actor": "ann", "value": value, "until": until}
        )  # fmt: skip
    return alerts, rows


def history_of(alerts: list[dict], rows: list[dict]) -> History:
    """Return a history of plain rows."""
    schema = {"key": pl.String, "alert_id": pl.String, "at": pl.Datetime("us", "UTC"), "recorded_at": pl.Datetime("us", "UTC"),
              "type": pl.String, "actor": pl.String, "value": pl.String, "until": pl.Datetime("us", "UTC")}  # fmt: skip
    return History.of(pl.DataFrame(alerts), pl.DataFrame(rows, schema=schema))


@unhurried
@given(logs(), st.integers(0, 45))
def test_an_alert_stands_at_any_time_as_walking_through_its_activities_says(log: tuple, at: int) -> None:
    alerts, rows = log
    when = minute(at)
    cut = history_of(*log).as_of(when)
    past = [r for r in rows if r["at"] <= when]
    assert cut.alerts["alert_id"].to_list() == [a["alert_id"] for a in alerts if a["created_at"] <= when]
    for alert, row in zip((a for a in alerts if a["created_at"] <= when), cut.current.to_dicts(), strict=True):
        expected = walked(alert, past, when)
        assert {name: row[name] for name in expected} == expected
        assert row["state"] in STATES


@unhurried
@given(logs(), st.integers(0, 45))
def test_a_history_cut_at_a_time_equals_one_whose_log_ended_there(log: tuple, at: int) -> None:
    alerts, rows = log
    when = minute(at)
    known = history_of(*log).as_known_at(when)
    ended = history_of(
        [a for a in alerts if a["recorded_at"] <= when]
        or [{"alert_id": "-", "created_at": minute(99), "severity": "low"}],
        [r for r in rows if r["recorded_at"] <= when],
    ).as_of(when)
    assert known.current.equals(ended.current)
    assert known.as_known_at(when).current.equals(known.current)


def test_a_correction_is_a_retraction_and_a_new_row_and_changes_the_past_as_it_truly_was() -> None:
    def row(key: str, at: int, learnt: int, kind: str, value: str) -> dict:
        when = {"at": minute(at), "recorded_at": minute(learnt), "until": None}
        return {"key": key, "alert_id": "a", "type": kind, "actor": "ann", "value": value, **when}

    rows = [row("k0", 5, 5, "closed", ""), row("k1", 5, 20, "retracted", "k0"), row("k2", 9, 20, "closed", "")]
    history = history_of([{"alert_id": "a", "created_at": minute(0), "severity": "low"}], rows)
    assert history.as_of(minute(7)).current["state"].item() == "new", "it was closed at 9, not at 5"
    assert history.as_of(minute(9)).current["state"].item() == "closed"
    assert history.as_known_at(minute(7)).current["state"].item() == "closed", "that is what was believed then"


def test_an_illegal_transition_is_refused_with_the_allowed_ones_named() -> None:
    for name, (allowed, after) in TRANSITIONS.items():
        for state in STATES:
            if state in allowed:
                assert check_transition("4f", state, name) == after
            else:
                with pytest.raises(LifecycleError, match="4f"):
                    check_transition("4f", state, name)
    with pytest.raises(LifecycleError, match="Possible: reopened, merged"):
        check_transition("4f", "closed", "held")
    with pytest.raises(LifecycleError, match='Did you mean "closed"'):
        check_transition("4f", "new", "close")


def test_saying_the_same_again_has_the_same_key_and_anything_else_another() -> None:
    said = {"alert_id": "a", "at": START, "type": "commented", "payload": "x"}
    others = [
        said,
        {**said},
        {**said, "payload": None},
        {**said, "payload": ""},
        {**said, "at": START + MINUTE},
        {**said, "actor": "x"},
    ]
    schema = dict.fromkeys(("alert_id", "at", "type", "payload", "actor"), pl.String) | {"at": pl.Datetime("us", "UTC")}
    keys = fit_frame(pl.DataFrame(others, schema=schema), "activity")["key"]
    assert keys[0] == keys[1]
    assert keys.n_unique() == 5


def test_a_time_without_a_zone_or_that_is_none_is_refused_in_words() -> None:
    history = History.of(pl.DataFrame({"alert_id": ["a"], "created_at": [START]}))
    for cut in (history.as_of, history.as_known_at):
        for wrong in ("2026-05-01", datetime(2026, 5, 1)):
            with pytest.raises(LifecycleError, match="no time with a zone"):
                cut(wrong)


def test_few_rows_have_the_keys_that_they_have_among_many(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pl.DataFrame({"a": [f"{i}ä\u202e" * (i % 7) if i % 5 else None for i in range(3 * FEW)]})
    many = digest([pl.col("a")], texts)
    monkeypatch.delitem(sys.modules, "tocsin.hashing")  # as where nothing has loaded the compiler
    for start in range(0, 3 * FEW, FEW):
        assert digest([pl.col("a")], texts[start : start + FEW]).equals(many[start : start + FEW])


def test_frames_that_lack_a_column_or_have_a_stranger_are_refused_by_name() -> None:
    with pytest.raises(LifecycleError, match="'at'"):
        fit_frame(pl.DataFrame({"alert_id": ["a"], "type": ["viewed"]}), "activity")
    with pytest.raises(LifecycleError, match='Did you mean "severity"'):
        fit_frame(pl.DataFrame({"alert_id": ["a"], "created_at": [START], "severty": ["low"]}), "alert")
    with pytest.raises(LifecycleError, match="is a time in UTC"):
        fit_frame(pl.DataFrame({"alert_id": ["a"], "created_at": ["2026-01-05"]}), "alert")


def test_observables_found_later_stand_beside_those_of_the_alert_each_once() -> None:
    own = '[{"kind": "host", "role": "victim", "value": "pc1"}, {"kind": "host", "role": "victim", "value": "pc1"}]'
    later = '{"observables": [{"kind": "user", "role": null, "value": "ann"}, {"kind": "host", "role": "victim", "value": "pc1"}]}'
    history = History.of(
        pl.DataFrame({"alert_id": ["a"], "created_at": [START], "observables": [own]}),
        pl.DataFrame({"alert_id": ["a"], "at": [START], "type": ["enriched"], "payload": [later]}),
    )
    assert history.observables.select("kind", "value").rows() == [("host", "pc1"), ("user", "ann")]
