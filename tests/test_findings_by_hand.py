"""Scores and findings of a whole backtest, worked out by hand: what fires, once, with what peak, and why others do not.

Layer: tests.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

import tocsin as tc

START = datetime(2026, 3, 2, tzinfo=UTC)
IS_MAIL = tc.col("kind") == "mail"


def days(*counts: int, user: str | None = "ada") -> list[dict[str, Any]]:
    """So many mails on each day, from 06:00 on, a minute apart."""
    times = [START + timedelta(days=day, hours=6, minutes=i) for day, n in enumerate(counts) for i in range(n)]
    return [{"timestamp": t, "kind": "mail", "user_id": user, "nr_recipients": 1 + i} for i, t in enumerate(times)]


def events(*histories: list[dict[str, Any]]) -> tc.Events:
    rows = [row for history in histories for row in history]
    return tc.read(pl.DataFrame([{"event_id": f"e{i:04}"} | row for i, row in enumerate(rows)]))


def rule(**more: Any) -> tc.Detection:
    own = {
        "measure": tc.Count(per="1d"), "against": tc.own_history(mean=True, at_least=2),
        "score": tc.value / tc.ref.mean, "when": tc.score > 2,
    }  # fmt: skip
    head = {"id": "test.volume", "title": "By hand", "severity": "low", "on": IS_MAIL, "entity": "user_id"}
    return tc.Detection(**head | (own if "score" not in more else {}) | more)


def many(threshold: int = 3, **more: Any) -> tc.Detection:
    options = {"id": "test.many", "score": tc.col("nr_recipients").cast(pl.Float64), "when": tc.score > threshold}
    return rule(**options | more)


def row(past: tc.Backtest, detection_id: str = "test.volume") -> dict[str, Any]:
    return past.by_detection().row(by_predicate=pl.col("detection") == detection_id, named=True)


def test_a_window_fires_once_at_its_first_crossing_event_and_keeps_its_peak() -> None:
    findings = tc.backtest([rule()], events(days(2, 2, 7))).findings
    assert findings.select("score", "peak_score", "value", "threshold").rows() == [(2.5, 3.5, 5.0, 2.0)]
    assert findings["time"].item() == START + timedelta(days=2, hours=6, minutes=4)
    assert findings["event_id"].item() == "e0008"
    assert findings.select("window_start", "window_end").row(0) == (
        START + timedelta(days=2),
        START + timedelta(days=3),
    )


def test_the_peak_is_that_of_the_window_whatever_the_batches() -> None:
    mails = events(days(2, 2, 7, 30))
    whole = tc.backtest([rule()], mails).findings
    assert tc.backtest([rule()], mails, batch_rows=1).findings.equals(whole)
    assert whole["peak_score"].to_list() == [3.5, 30 / (11 / 3)]


def test_each_window_and_each_entity_has_a_finding_of_its_own_with_an_id_of_its_own() -> None:
    findings = tc.backtest([rule()], events(days(2, 2, 7, 30), days(2, 2, 7, user="bob"))).findings
    assert sorted(findings.select("entity").to_series()) == ["ada", "ada", "bob"]
    assert findings["finding_id"].n_unique() == 3


def test_an_id_changes_with_what_the_rule_says_and_not_with_its_neighbours() -> None:
    mails = events(days(2, 2, 7))
    ids = [
        tc.backtest(rules, mails).findings["finding_id"][0]
        for rules in ([rule()], [rule(), many(999)], [rule(when=tc.score > 2.1)])
    ]
    assert ids[0] == ids[1] != ids[2]


def test_the_threshold_itself_does_not_fire() -> None:
    past = tc.backtest([rule()], events(days(2, 2, 4)))
    assert past.findings.is_empty()
    assert past.top("test.volume", 1)["score"].item() == 2.0


def test_a_zero_baseline_is_unscored_and_said_so_and_never_fires() -> None:
    gone = rule(against=tc.own_history(mean=True, at_least=2, windows=2))
    past = tc.backtest([gone], events(days(2, 0, 0, 5)))
    assert past.findings.is_empty()
    assert row(past)["unscored_why"] == "no_history 2, zero_baseline 5"


def test_events_without_history_are_counted_as_unscored_and_not_as_quiet() -> None:
    found = row(tc.backtest([rule()], events(days(2, 2, 3))))
    assert (found["events"], found["scored"], found["unscored"]) == (7, 3, 4)


def test_a_score_that_is_not_a_number_is_undefined() -> None:
    nothing = many(score=tc.col("nr_recipients").cast(pl.Float64) * float("nan"))
    past = tc.backtest([nothing], events(days(2)))
    assert past.findings.is_empty()
    assert row(past, "test.many")["unscored_why"] == "undefined 2"


def test_an_event_without_its_entity_is_counted_and_scored_by_nobody() -> None:
    past = tc.backtest([many(0)], events(days(2, user=None), days(1)))
    assert past.findings.height == 1
    assert row(past, "test.many")["unscored_why"] == "no_entity 2"


def test_a_rule_that_raises_is_reported_and_the_others_go_on() -> None:
    broken = many(0, id="test.broken", score=tc.col("kind").str.to_integer(strict=True).cast(pl.Float64))
    past = tc.backtest([broken, many(0)], events(days(3)))
    assert sorted(past.findings["detection_id"]) == ["test.many", "test.many", "test.many", "tocsin.rule-error"]
    assert row(past, "test.broken")["errors"] == 3
    assert row(past, "test.broken")["note"]


def test_a_rule_without_a_window_fires_at_every_event() -> None:
    assert tc.backtest([many(3)], events(days(6))).findings["score"].to_list() == [4.0, 5.0, 6.0]


def test_only_events_that_the_rule_looks_at_count() -> None:
    logins = [mail | {"kind": "login"} for mail in days(9, 9, 9)]
    assert row(tc.backtest([rule()], events(days(2, 2, 3), logins)))["events"] == 7


def test_equal_measures_share_one_state() -> None:
    rules = [rule(), rule(id="test.other", against=tc.population(mean=True)), rule(id="test.more", when=tc.score > 9)]
    assert len(tc.backtest(rules, events(days(2))).engine.plan.shared) == 1


def test_evidence_holds_the_columns_asked_for_and_what_was_compared() -> None:
    findings = tc.backtest([rule(evidence=("nr_recipients",))], events(days(2, 2, 5))).findings
    assert json.loads(findings["evidence"].item()) == {"nr_recipients": 9, "value": 5.0, "ref.mean": 2.0, "ref.n": 2.0}


def test_events_before_since_are_history_and_not_findings() -> None:
    mails = events(days(2, 2, 7, 2, 9))
    past = tc.backtest([rule()], mails, since=START + timedelta(days=3))
    assert past.findings["window_start"].to_list() == [START + timedelta(days=4)]
    assert row(past)["events"] == 11


def test_equal_measures_over_different_events_do_not_share_their_state() -> None:
    logins = [mail | {"kind": "login"} for mail in days(4, 4, 20)]
    of_logins = rule(id="test.logins", on=tc.col("kind") == "login")
    past = tc.backtest([rule(), of_logins], events(days(2, 2, 7), logins))
    assert past.findings.select("detection_id", "value").rows() == [("test.volume", 5.0), ("test.logins", 9.0)]


def test_the_notebooks_mean_includes_today_and_the_default_does_not() -> None:
    """Seven days of one mail, then six: compared with 13 mails in 8 days, or with 7 mails in 7 days."""
    week = rule(against=tc.own_history(mean=True, at_least=7))
    for compat, score in (("notebook", 6 / (13 / 8)), (None, 6.0)):
        past = tc.backtest([week], events(days(*[1] * 7, 6)), compat=compat, keep_scores=True)
        assert past.scores["test.volume"]["score"].to_list()[-1] == pytest.approx(score)


def _text_bytes(column: pl.Series) -> int:
    """How many bytes a column of text keeps alive."""
    array: Any = column.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    return sum(b.size for b in array.buffers() if b is not None)


def test_findings_and_names_keep_no_more_text_alive_than_their_own() -> None:
    n = 5000
    batch = pl.DataFrame(
        {
            "event_id": [f"an identifier of many letters, {i}" for i in range(n)],
            "timestamp": [datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=i) for i in range(n)],
            "user_id": ["a user whose name is long as well"] * n,
            "size": range(n),
        }
    ).with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")))
    large = rule(id="test.large", on=tc.col("size") >= 0, score=tc.col("size"), when=tc.score >= n - 1)
    engine = tc.Engine([large], batch.schema)
    state, output = engine.step(engine.new_state(), batch)
    assert output.findings.height == 1
    assert _text_bytes(output.findings["event_id"]) < 1000
    assert _text_bytes(state.slots["user_id"].names) < 1000
