"""Several fits by name, and measures of another entity of the event: worked out by hand.

Layer: tests. That they hold under any cut is the business of test_parity.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

import tocsin as tc

START = datetime(2026, 3, 2, 6, tzinfo=UTC)
USERS = tc.Context(entity="src_ip", measure=tc.Distinct("user_id", ever=True))


def logins(*who_where: tuple[str, str]) -> tc.Events:
    """One login a minute."""
    rows = [
        {"event_id": f"e{i:03}", "timestamp": START + timedelta(minutes=i), "kind": "login", "user_id": u, "src_ip": a}
        for i, (u, a) in enumerate(who_where)
    ]
    return tc.read(pl.DataFrame(rows))


def rule(**more: Any) -> tc.Detection:
    parts: dict[str, Any] = {
        "id": "test.shared", "title": "By hand", "severity": "low", "on": tc.col("kind") == "login", "entity": "user_id",
        "score": tc.ctx.users, "when": tc.score >= 2, "context": {"users": USERS},
    }  # fmt: skip
    return tc.Detection(**parts | more)


SHARED = logins(("ann", "192.0.2.1"), ("bob", "192.0.2.1"), ("ann", "192.0.2.2"), ("cy", "192.0.2.1"))


def test_a_context_counts_for_another_entity_and_includes_the_event_itself() -> None:
    past = tc.backtest([rule()], SHARED, keep_scores=True)
    assert past.scores["test.shared"]["score"].to_list() == [1, 2, 1, 3]
    assert [json.loads(e)["ctx.users"] for e in past.findings["evidence"]] == [2, 3]
    assert past.findings["entity"].to_list() == ["bob", "cy"]


def test_a_context_may_decide_which_events_take_part() -> None:
    quiet = rule(on=tc.ctx.users < 2, measure=tc.Count(ever=True), score=tc.value, when=tc.score >= 2)
    past = tc.backtest([quiet], SHARED)
    assert past.findings["event_id"].to_list() == ["e002"]  # ann's second event at an address of her own


def test_a_context_with_a_condition_of_its_own_counts_only_where_it_holds() -> None:
    only_bob = tc.Context(entity="src_ip", measure=tc.Count(ever=True), on=tc.col("user_id") == "bob")
    past = tc.backtest([rule(context={"users": only_bob})], SHARED, keep_scores=True)
    assert past.scores["test.shared"]["score"].to_list() == [None, 1, None, None]


def test_rules_that_ask_for_the_same_context_share_one_state() -> None:
    engine = tc.Engine([rule(), rule(id="test.other", when=tc.score >= 3)], SHARED.columns)
    assert len(engine.plan.shared) == 1


def test_one_name_for_two_contexts_is_refused_with_both_places() -> None:
    other = rule(id="test.other", context={"users": tc.Context(entity="src_ip", measure=tc.Count(ever=True))})
    with pytest.raises(tc.RuleError, match=r"test\.other: the context users means something else in test\.shared"):
        tc.backtest([rule(), other], SHARED)


def test_the_version_and_the_columns_read_depend_on_the_context() -> None:
    sliding = tc.Context(entity="src_ip", measure=tc.Distinct("user_id", sliding="1h"))
    assert rule().version != rule(context={"users": sliding}).version
    assert {"src_ip", "user_id"} <= set(rule().reads)
    assert rule().stateful


OWN = {"per": "1d"}
RECENT, BEFORE = tc.own_history(mean=True, windows=2, at_least=2), tc.own_history(mean=True, windows=4, at_least=4)


def change(**more: Any) -> tc.Detection:
    parts: dict[str, Any] = {
        "id": "test.change", "measure": tc.Count(per="1d"), "against": {"recent": RECENT, "long": BEFORE},
        "score": tc.ref.recent_mean - tc.ref.long_mean, "when": tc.score > 1, "context": {},
    }  # fmt: skip
    return rule(**parts | more)


def daily(*counts: int) -> tc.Events:
    rows = [
        {
            "event_id": f"e{d}-{i:02}",
            "timestamp": START + timedelta(days=d, minutes=i),
            "kind": "login",
            "user_id": "ann",
        }
        for d, n in enumerate(counts)
        for i in range(n)
    ]
    return tc.read(pl.DataFrame(rows))


def test_two_fits_are_read_by_their_names() -> None:
    past = tc.backtest([change()], daily(1, 1, 4, 4, 1))
    finding = past.findings.row(0, named=True)
    assert (finding["time"].day, finding["score"]) == (6, 4.0 - 2.5)
    evidence = json.loads(finding["evidence"])
    assert (evidence["ref.recent_mean"], evidence["ref.long_mean"], evidence["ref.recent_n"]) == (4.0, 2.5, 2.0)
    assert past.by_detection()["unscored_why"].item() == "no_history 10"


def test_fit_writes_a_table_for_each_of_several_fits() -> None:
    tables = tc.fit([change()], daily(1, 1, 4, 4))
    assert sorted(tables) == ["test.change.long", "test.change.recent"]
    assert tables["test.change.recent"].frame["mean"].to_list() == [4.0]
    assert tables["test.change.long"].frame["mean"].to_list() == [2.5]


REFUSED = {
    "recent_men is not made by this rule.*recent_mean": {"score": tc.ref.recent_men},
    "exclude_alerted is a matter of the whole rule": {
        "against": {"recent": RECENT, "long": tc.own_history(mean=True, exclude_alerted=True)}
    },
    "name fits and contexts like variables": {"context": {"a b": USERS}},
    "the context users reads what the engine makes": {
        "context": {"users": tc.Context(entity="src_ip", measure=tc.Count(ever=True), on=tc.value > 1)}
    },
    "own_history and population read closed windows": {"measure": tc.Count(sliding="1h")},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_could_mean_two_things_is_refused(message: str) -> None:
    with pytest.raises(tc.RuleError, match=message):
        change(**REFUSED[message])
