"""Explaining a finding: the sentence says what the finding says, the events are those that made it."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from command_line import HOSTILE, assert_inert

import tocsin as tc
from tocsin.questions.explanation import MOST_EVENTS, find, sentence_of

pytest_plugins = ["cli_fixtures", "question_fixtures"]
START = datetime(2026, 3, 1, 9, tzinfo=UTC)


@pytest.fixture(scope="module")
def findings(events: tc.Events, refs: tc.References) -> pl.DataFrame:
    return tc.backtest(tc.rules.ALL, events, refs).findings


def a_finding_of_each_rule(findings: pl.DataFrame) -> list[pl.DataFrame]:
    return [f.sort("finding_id").head(1) for _, f in findings.group_by("detection_id", maintain_order=True)]


def mails(a_day: list[int]) -> tc.Events:
    times = [START + timedelta(days=d, minutes=m) for d, n in enumerate(a_day) for m in range(n)]
    return tc.read(pl.DataFrame({"timestamp": times, "user_id": ["ada"] * len(times), "kind": ["mail"] * len(times)}))


RULE = tc.Detection(
    id="mail.volume", title="Three times the own mean", severity="medium", on=tc.col("kind") == "mail", entity="user_id",
    measure=tc.Count(per="1d"), against=tc.own_history(mean=True, at_least=7), score=tc.value / tc.ref.mean, when=tc.score > 3,
)  # fmt: skip


def test_the_sentence_has_value_baseline_score_threshold_and_the_date_of_the_table() -> None:
    events = mails([5, 4, 6, 5, 0, 7, 5, 4, 6, 5, 4, 19])
    (row,) = tc.backtest([RULE], events).findings.rows(named=True)
    answer = tc.explain(row, events, rules=[RULE])
    assert answer.definition == (
        "mail.volume (Three times the own mean) fired for user_id ada at 2026-03-12 09:13:00 UTC: the number of events in the calendar "
        "day (UTC) had reached 14, against mean 4.636, n 11 (mean of the entity's own last 28 closed windows, at least 7 of them), so "
        "its score value / ref.mean was 3.02, above the threshold 3, and reached 4.098 within the window; the table was fitted on "
        f"windows before 2026-03-12 00:00:00 UTC, when this one began (digest {row['table_digest'][:12]})."
    )
    (contributing, history) = answer.more.values()
    assert contributing["value"].to_list() == list(range(14, 0, -1)), "newest first, none after the finding"
    assert contributing["fired"].to_list() == [True] + [False] * 13
    assert history["value"].to_list() == [5, 4, 6, 5, 7, 5, 4, 6, 5, 4, 19]
    assert history["score"].to_list()[-1] == pytest.approx(19 / (51 / 11))


def test_a_finding_of_every_rule_that_ships_is_explained(
    findings: pl.DataFrame, events: tc.Events, refs: tc.References
) -> None:
    rules = {d.id: d for d in tc.rules.ALL}
    seen = set()
    for one in a_finding_of_each_rule(findings):
        (row,) = one.rows(named=True)
        rule = rules[row["detection_id"]]
        answer = tc.explain(one, events, refs)
        seen.add(rule.tier)
        assert row["entity"] in answer.definition
        assert f"{row['time']:%Y-%m-%d %H:%M:%S}" in answer.definition
        assert answer.definition.count(". ") <= rule.title.count(". ")
        evidence = dict(answer.table.iter_rows())
        assert evidence["finding_id"] == row["finding_id"]
        for name in json.loads(row["evidence"]):
            assert f"evidence: {name}" in evidence or json.loads(row["evidence"])[name] is None
        (contributing, history) = answer.more.values()
        assert contributing["event_id"][0] == row["event_id"], "the event that fired is the newest"
        assert contributing["timestamp"].is_sorted(descending=True)
        assert contributing["score"][0] == pytest.approx(row["score"])
        if isinstance(rule.measure, tc.Count) and rule.measure.where is None:
            assert answer.facts["events"] == row["value"], "as many events as were counted"
        assert contributing.height == min(answer.facts["events"], MOST_EVENTS)
        assert history["score"].drop_nulls().len() > 0
        json.dumps(answer.to_dict(), allow_nan=False)
        answer.plot()
    assert seen >= {1, 2, 3, 4}


def test_history_is_what_the_engine_saw_also_against_the_population(findings: pl.DataFrame, events: tc.Events) -> None:
    one = findings.filter(pl.col("detection_id") == "mail.rate-vs-population").sort("finding_id").head(1)
    history = list(tc.explain(one, events).more.values())[1]
    evidence = json.loads(one["evidence"][0])
    assert history["baseline"][-1] == pytest.approx(evidence["ref.mean"])
    assert history["fired_at"][-1] == one["time"][0]


def test_a_rule_that_raised_is_explained_by_its_error() -> None:
    broken = dataclasses.replace(
        RULE, id="test.broken", measure=None, against=None, score=tc.col("kind").str.to_integer(), examples=()
    )
    events = mails([3])
    (row,) = tc.backtest([broken], events).findings.rows(named=True)
    answer = tc.explain(row, events, rules=[broken])
    assert "The rule test.broken raised an error on event" in answer.definition


def test_what_does_not_fit_together_is_said(findings: pl.DataFrame, events: tc.Events, refs: tc.References) -> None:
    one = findings.filter(pl.col("detection_id") == "mail.rate-vs-population").head(1)
    with pytest.raises(tc.RuleError, match="takes one finding, not 2"):
        tc.explain(findings.head(2), events)
    near = dataclasses.replace(RULE, id="mail.rate-vs-populations")
    with pytest.raises(tc.RuleError, match="Did you mean"):
        tc.explain(one, events, rules=[near])
    moved = next(d for d in tc.rules.ALL if d.id == "mail.rate-vs-population")
    changed = dataclasses.replace(moved, when=tc.score > 2)
    assert "The rule has changed since" in tc.explain(one, events, rules=[changed]).notes[0]
    other = tc.explain(one.with_columns(entity=pl.lit("nobody")), events)
    assert "is it the source" in other.notes[-1]
    suppressed = tc.explain(one.with_columns(suppressed_by=pl.lit("list servers")), events)
    assert "suppressed by the allow-list: list servers" in suppressed.notes[0]


def test_a_finding_is_found_by_the_beginning_of_its_id(findings: pl.DataFrame) -> None:
    some_id = findings["finding_id"][0]
    assert find(findings, some_id)["finding_id"] == some_id
    assert find(findings, some_id[:12])["finding_id"] == some_id
    with pytest.raises(tc.RuleError, match="findings begin with"):
        find(findings, "")
    with pytest.raises(tc.RuleError, match="Did you mean"):
        find(findings, "zz" + some_id[2:])
    with pytest.raises(tc.RuleError, match="no column finding_id"):
        find(findings.drop("finding_id"), some_id)


def test_the_sentence_needs_no_events(findings: pl.DataFrame) -> None:
    rules = {d.id: d for d in tc.rules.ALL}
    for row in findings.head(200).iter_rows(named=True):
        assert sentence_of(row, rules[row["detection_id"]]).startswith(row["detection_id"])


# ---- on the command line


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_a_written_finding_is_explained_on_the_command_line(
    tocsin: Any, simulated: Path, tmp_path: Path, ending: str
) -> None:
    source, path = simulated / "events.parquet", tmp_path / f"findings{ending}"
    geo = ["--geo", simulated / "geo.csv.gz"]
    tocsin("backtest", source, *geo, "--out", path)
    found = pl.read_parquet(path) if ending == ".parquet" else pl.read_ndjson(path, infer_schema_length=None)
    for rule in ("mail.volume-vs-self", "mail.exe-many-recipients", "login.travel-speed"):
        some_id = found.filter(pl.col("detection_id") == rule)["finding_id"][0]
        done = tocsin("explain", some_id[:14], source, *geo, "--findings", path, "--html", tmp_path / "why.html")
        assert done.code == 0, done.err
        assert f"Why {rule} fired" in done.out
        assert "Contributing events" in done.out
        assert "Nearest history" in done.out
        assert (tmp_path / "why.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
        document = tocsin("explain", some_id, source, *geo, "--findings", path, "--json").json
        assert document["answer"]["facts"]["finding_id"] == some_id


def test_wrong_ids_and_files_are_told(tocsin: Any, simulated: Path, tmp_path: Path) -> None:
    source, path = simulated / "events.parquet", tmp_path / "findings.parquet"
    tocsin("backtest", source, "--out", path)
    assert "There is no finding" in tocsin("explain", "zz", source, "--findings", path).err
    assert tocsin("explain", "zz", source, "--findings", path).code == 3
    done = tocsin("explain", "aa", source, "--findings", tmp_path / "findings.csv")
    assert done.code == 2
    assert "explain reads .parquet or .jsonl" in done.err
    (tmp_path / "no.parquet").write_text("no")
    assert tocsin("explain", "aa", source, "--findings", tmp_path / "no.parquet").code == 3
    assert tocsin("explain", "aa", source, "--findings", tmp_path / "absent.parquet").code == 3


def test_a_hostile_finding_is_explained_without_harm(tocsin: Any, hostile: Path, tmp_path: Path) -> None:
    path = tmp_path / "findings.parquet"
    tocsin("backtest", hostile, "--out", path)
    found = pl.read_parquet(path).filter(pl.col("detection_id") == "mail.exe-many-recipients")
    assert found.height == len(HOSTILE)
    for some_id in found["finding_id"]:
        done = tocsin("explain", some_id, hostile, "--findings", path)
        assert done.code == 0, done.err
        assert_inert(done)
        assert tocsin("explain", some_id, hostile, "--findings", path, "--json").out.isascii()
