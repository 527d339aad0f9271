"""Rules asked at a close, in what people see: wrong rules, findings, explanations, tables, history before a day."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

import tocsin as tc
from tocsin.errors import RuleError
from tocsin.rules import silence
from tocsin.rules.examples import MONDAY
from tocsin.runners.rulefiles import example_frame

IS_MAIL = tc.col("kind") == "mail"


def rule(**more: Any) -> tc.Detection:
    parts = {
        "id": "mail.silent", "title": "Sent less", "severity": "low", "on": IS_MAIL, "entity": "user_id", "at": "close",
        "measure": tc.Count(per="1d"), "against": tc.own_history(mean=True, at_least=2), "score": tc.value / tc.ref.mean,
        "when": tc.score < 0.5,
    }  # fmt: skip
    return tc.Detection(**parts | more)


def days(user: str, *sent: int) -> list[dict[str, Any]]:
    start = datetime(2025, 3, 3, 9, tzinfo=UTC)
    return [
        {
            "event_id": f"{user}{d}.{i}",
            "timestamp": start + timedelta(days=d, minutes=i),
            "kind": "mail",
            "user_id": user,
        }
        for d, n in enumerate(sent)
        for i in range(n)
    ]


def events(*rows: dict[str, Any]) -> Any:
    return tc.read(pl.DataFrame(sorted(rows, key=lambda r: r["timestamp"])))


def log() -> Any:
    return events(*days("ann", 4, 4, 4, 1, 4, 0, 0, 4), *days("bob", *[1] * 9))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"at": "closed"}, 'at="closed" is not one of event, close. Did you mean'),
        ({"at": "event", "quiet_after": 3}, 'quiet_after goes with at="close"'),
        ({"quiet_after": 0}, "at least 1 window"),
        ({"measure": tc.Count(sliding="1d"), "against": None, "score": tc.value}, "only calendar windows close"),
        ({"score": tc.value / tc.col("nr_recipients")}, "nr_recipients belongs to an event"),
        ({"when": (tc.score < 1) & (tc.col("size_bytes") > 1)}, "size_bytes belongs to an event"),
        ({"evidence": ("src_ip",)}, "src_ip belongs to an event"),
    ],
)
def test_a_rule_that_needs_an_event_at_a_close_is_told(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(RuleError) as raised:
        rule(**wrong)
    assert said in str(raised.value)


def test_an_entity_is_waited_for_as_long_as_its_history_reaches_back() -> None:
    assert rule().patience == 28
    assert rule(against=tc.own_history(mean=True, windows=4, at_least=2, same_weekday=True)).patience == 28
    assert rule(against=tc.population(mean=True)).patience == 28
    assert rule(against=tc.own_history(mean=True, windows=5, at_least=2, skip=2)).patience == 7
    assert rule(quiet_after=3).patience == 3


def test_when_a_rule_is_asked_is_part_of_its_version() -> None:
    assert len({rule().version, rule(quiet_after=3).version, rule(at="event").version}) == 3


def test_a_finding_stands_at_the_end_of_its_window_and_names_it() -> None:
    found = tc.backtest([rule()], log()).findings
    assert found["entity"].unique().to_list() == ["ann"]
    first = found.row(0, named=True)
    assert first["time"] == first["window_end"] == datetime(2025, 3, 7, tzinfo=UTC)
    assert first["window_start"] == datetime(2025, 3, 6, tzinfo=UTC)
    assert first["event_id"] == "close:2025-03-06T00:00:00Z:ann"
    assert (first["value"], first["score"], first["peak_score"], first["threshold"]) == (1.0, 0.25, 0.25, 0.5)
    assert json.loads(first["evidence"]) == {"value": 1.0, "ref.mean": 4.0, "ref.n": 3.0}
    assert found["window_start"].dt.day().to_list() == [6, 8, 9]
    assert found["finding_id"].n_unique() == 3


def test_history_before_a_day_is_learnt_from_and_not_reported() -> None:
    whole = tc.backtest([rule()], log())
    since = tc.backtest([rule()], log(), since=datetime(2025, 3, 9, tzinfo=UTC))
    assert since.findings.equals(whole.findings.filter(pl.col("time") >= datetime(2025, 3, 9, tzinfo=UTC)))
    assert since.findings.height == 2
    assert since.state.tallies["mail.silent"].events < whole.state.tallies["mail.silent"].events


def test_an_explanation_shows_the_silent_windows_before() -> None:
    found = tc.backtest([rule()], log()).findings
    told = tc.explain(found[2], log(), rules=[rule()])
    assert "the number of events in the calendar day (UTC) at its close was 0" in told.definition
    history = next(table for name, table in told.more.items() if "history" in name)
    assert history["value"].to_list() == [4, 4, 1, 4, 0, 0]
    assert history["fired"].to_list()[-2:] == [True, True]


def test_an_allow_listed_entity_is_marked_not_dropped(tmp_path: Any) -> None:
    allow = tmp_path / "allow.csv"
    allow.write_text("indicator,owner,reason,scope,expires\nann,soc,on leave,mail.*,2026-01-01\n", encoding="utf-8")
    past = tc.backtest([rule()], log(), tc.reference(allow=allow))
    assert past.findings["suppressed_by"].null_count() == 0
    assert past.by_detection()["suppressed"].to_list() == [3]


def test_a_fitted_table_compares_closes_as_it_does_events() -> None:
    table = tc.fit([rule()], log())["mail.silent"]
    past = tc.backtest([rule(against=table, score=tc.value / tc.ref.mean, when=tc.score <= 0)], log(), keep_scores=True)
    assert sorted(past.findings["window_start"].dt.day().to_list()) == [8, 9]
    assert past.scores["mail.silent"]["score"].null_count() == 0


def test_a_rule_that_raises_at_a_close_is_an_alert_and_stops_no_other() -> None:
    broken = rule(id="mail.broken", score=tc.value.cast(pl.String).str.to_integer(strict=True))
    past = tc.backtest([broken, rule()], log())
    error = past.findings.filter(pl.col("detection_id") == "tocsin.rule-error")
    assert error["event_id"].to_list() == ["close:2025-03-04T00:00:00Z:ann"]
    assert past.findings.filter(pl.col("detection_id") == "mail.silent").height == 3


def test_the_rules_on_silence_score_the_same_however_the_log_is_fed() -> None:
    rows = example_frame(silence.VOLUME_COLLAPSE.examples[0])
    assert rows["timestamp"].min() == MONDAY
    report = tc.verify(silence.DETECTIONS, tc.read(rows.with_columns(source=pl.lit("mail"))))
    assert report.passed, report.first_difference
    assert report.runs["compared"].min() > 40
