"""Verify, compare and fit: a rule that depends on its batches is found out, and written tables hold what they should.

Layer: tests.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import tocsin as tc
from tocsin.runners.compare import compare
from tocsin.runners.verify import verify

DAY = timedelta(days=1)
IS_MAIL = tc.col("kind") == "mail"


@pytest.fixture(scope="module")
def simulation() -> tc.Simulation:
    return tc.simulate(60, 15)


@pytest.fixture(scope="module")
def events(simulation: tc.Simulation) -> tc.Events:
    return tc.read(simulation.events)


@pytest.fixture(scope="module")
def small(simulation: tc.Simulation) -> tc.Events:
    return tc.read(simulation.events.head(1200))


@pytest.fixture(autouse=True)
def few_single_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step for each event is what takes time here."""
    monkeypatch.setattr("tocsin.runners.verify.SINGLE_EVENTS", 50)


def rule(**more: Any) -> tc.Detection:
    parts = {
        "id": "test.volume", "title": "Volume", "severity": "low", "on": IS_MAIL, "entity": "user_id", "measure": tc.Count(per="1d"),
        "against": tc.own_history(mean=True, at_least=3), "score": tc.value / tc.ref.mean, "when": tc.score > 2,
    }  # fmt: skip
    return tc.Detection(**parts | more)


def plain(score: pl.Expr, **more: Any) -> tc.Detection:
    return rule(**{"id": "test.plain", "measure": None, "against": None, "score": score, "when": tc.score > 3} | more)


# --------------------------------------------------------------------------------------------------------------- verify
def test_the_rules_that_ship_score_the_same_however_the_events_are_fed(simulation: tc.Simulation) -> None:
    refs = tc.reference(geo=simulation.geo, threats=simulation.threats)
    said: list[str] = []
    report = verify(tc.rules.ALL, tc.read(simulation.events), refs, rows=1500, progress=said.append)
    assert report.passed, report.first_difference
    assert report.skipped == {}
    runs = report.runs
    assert {"one batch", "random batches", "shuffled within lateness", "repeated events", "saved and loaded"} <= set(
        runs["run"]
    )
    assert runs["differences"].to_list() == [0] * runs.height
    assert (runs["compared"] > 500).all()
    assert set(said) <= set(runs["run"])


def test_the_runs_do_what_their_names_say(small: tc.Events) -> None:
    runs = {r["run"]: r for r in verify([rule()], small).runs.to_dicts()}
    assert runs["batches of 1,000"]["batches"] == 2
    assert runs["single events, the first 50"]["batches"] == 50
    assert "duplicates set aside" in runs["repeated events"]["note"]
    assert runs["repeated events"]["events"] > 1200
    assert runs["shuffled within lateness"]["late"] == 0
    assert runs["late events, one batch"]["late"] > 0
    assert "scores differ from the sorted replay" in runs["late events, one batch"]["note"]


def test_the_same_seed_gives_the_same_report(small: tc.Events) -> None:
    assert_frame_equal(*(verify([rule()], small, seed=3, rows=200).runs for _ in range(2)))


RECIPIENTS = tc.col("nr_recipients")
DEPENDENT = {
    "the mean of the batch": plain(RECIPIENTS - RECIPIENTS.mean()),
    "a number within the batch": plain(RECIPIENTS.fill_null(0).cum_count()),
    "the row after": plain(RECIPIENTS - RECIPIENTS.shift(-1)),
    "a condition on the batch": plain(RECIPIENTS, when=(tc.score > 3) & (RECIPIENTS.mean() < RECIPIENTS)),
    "events that the batch chooses": rule(on=IS_MAIL & (RECIPIENTS.mean() >= RECIPIENTS)),
}


@pytest.mark.parametrize("detection", DEPENDENT.values(), ids=DEPENDENT.keys())
def test_a_rule_that_depends_on_its_batch_fails_by_name_and_the_one_beside_it_is_not_blamed(
    small: tc.Events, detection: tc.Detection
) -> None:
    report = verify([rule(id="test.sound"), detection], small)
    assert not report.passed
    assert report.runs["differences"].sum() > 0
    run, _, text = report.first_difference.partition(": ")
    assert run in report.runs["run"].to_list()
    assert text.startswith(f"{detection.id} gives event ")
    assert " UTC) the score " in text
    assert "; in one batch it was " in text


def test_the_first_difference_names_the_earliest_event_that_differs(simulation: tc.Simulation) -> None:
    frame = simulation.events.filter(pl.col("kind") == "mail").head(1500)
    report = verify([plain(RECIPIENTS.fill_null(0) * 0 + tc.col("user_id").cum_count())], tc.read(frame))
    first = frame.sort("timestamp")[1000]  # the first event of the second batch of 1,000
    who = f"event {first['event_id'].item()} ({first['timestamp'].item():%Y-%m-%d %H:%M:%S} UTC)"
    said = f"batches of 1,000: test.plain gives {who} the score 1.0; in one batch it was 1001.0, fired."
    assert report.first_difference == said


def test_a_rule_that_cannot_run_is_listed_and_the_others_are_verified(small: tc.Events) -> None:
    report = verify([rule(), plain(tc.col("no_such_column"))], small, rows=300)
    assert report.passed
    assert "no_such_column" in report.skipped["test.plain"]
    assert report.runs["events"][0] == 300


def test_a_log_of_one_event_and_one_of_none_pass(simulation: tc.Simulation) -> None:
    assert verify([rule()], tc.read(simulation.events.head(1))).passed
    late = datetime(1999, 1, 1, tzinfo=UTC)
    assert verify([rule()], tc.read(simulation.events.head(1), latest=late)).passed  # all of it is rejected


def test_events_that_the_source_itself_repeats_are_taken_once(simulation: tc.Simulation) -> None:
    twice = pl.concat([simulation.events.head(400)] * 2).with_columns(nr_recipients=pl.int_range(pl.len()))
    report = verify([rule(), plain(RECIPIENTS)], tc.read(twice))
    assert report.passed, report.first_difference
    assert report.runs["events"][0] == 400


# -------------------------------------------------------------------------------------------------------------- compare
def test_findings_gained_and_lost_are_those_of_one_side_only(events: tc.Events) -> None:
    old = tc.backtest([rule(), rule(id="test.gone", when=tc.score > 3), plain(RECIPIENTS, when=tc.score > 5)], events)
    new = tc.backtest([rule(when=tc.score > 3), rule(id="test.new"), plain(RECIPIENTS, when=tc.score > 4)], events)
    result = compare(old, new)
    table = {r["detection"]: r for r in result.by_detection.to_dicts()}
    for name in ("test.volume", "test.gone", "test.new", "test.plain"):
        a, b = (_about(x.findings, name) for x in (old, new))
        assert (table[name]["gained"], table[name]["lost"]) == (len(b - a), len(a - b))
        assert _about(result.gained, name) == b - a
        assert _about(result.lost, name) == a - b
    assert table["test.volume"]["lost"] > 0 == table["test.volume"]["gained"]
    assert table["test.plain"]["gained"] > 0 == table["test.plain"]["lost"]
    assert table["test.gone"]["fired_new"] is None is table["test.new"]["fired_old"]
    assert table["test.volume"]["alerts_a_day_new"] < table["test.volume"]["alerts_a_day_old"]


def _about(findings: pl.DataFrame, detection_id: str) -> set[tuple[Any, ...]]:
    mine = findings.filter(pl.col("detection_id") == detection_id)
    return {(f["entity"], f["window_start"] or f["event_id"]) for f in mine.to_dicts()}


def test_a_rule_that_only_says_it_differently_gains_and_loses_nothing(events: tc.Events) -> None:
    old, new = (tc.backtest([rule(score=s)], events) for s in (tc.value / tc.ref.mean, tc.value * 1.0 / tc.ref.mean))
    assert set(old.findings["finding_id"]).isdisjoint(new.findings["finding_id"])  # another version
    result = compare(old, new)
    assert result.gained.is_empty()
    assert result.lost.is_empty()
    assert result.by_detection["fired_old"].item() == old.findings.height > 0


# ------------------------------------------------------------------------------------------------------------------ fit
def counts(frame: pl.DataFrame) -> dict[str, dict[datetime, int]]:
    """Each user's mails by UTC day."""
    found: dict[str, dict[datetime, int]] = defaultdict(lambda: defaultdict(int))
    for user, time in frame.filter(pl.col("kind") == "mail").select("user_id", "timestamp").iter_rows():
        found[user][time.replace(hour=0, minute=0, second=0, microsecond=0)] += 1
    return found


def test_an_own_history_table_holds_every_users_baseline_for_the_day_after(
    simulation: tc.Simulation, events: tc.Events
) -> None:
    own = tc.own_history(mean=True, sd=True, median=True, at_least=5, windows=9)
    table = tc.fit([rule(against=own)], events)["test.volume"]
    by_user = counts(simulation.events)
    end = max(d for days in by_user.values() for d in days) + DAY
    expected = {}
    for user, days in by_user.items():
        history = [min(days) + i * DAY for i in range((end - min(days)).days)][-9:]
        values = [float(days.get(d, 0)) for d in history]
        if len(values) >= 5:
            expected[user] = (
                statistics.fmean(values),
                statistics.stdev(values),
                statistics.median(values),
                len(values),
            )
    assert table.frame["user_id"].to_list() == sorted(expected)
    for row in table.frame.iter_rows(named=True):
        assert (row["mean"], row["sd"], row["median"], row["n"]) == pytest.approx(expected[row["user_id"]])
    assert (table.valid_from, table.tier, table.key, table.values) == (
        end,
        3,
        ("user_id",),
        ("mean", "sd", "median", "n"),
    )


def test_a_population_table_holds_one_value_for_each_user_of_the_last_day(
    simulation: tc.Simulation, events: tc.Events
) -> None:
    crowd = tc.population(mean=True, sd=True, median=True, mad=True, quantiles=(0.9,), at_least=3)
    table = tc.fit([rule(against=crowd, score=tc.value - tc.ref.mean)], events)["test.volume"]
    by_user = counts(simulation.events)
    last = max(d for days in by_user.values() for d in days)
    values = sorted(float(days[last]) for days in by_user.values() if last in days)
    median = statistics.median(values)
    row = table.frame.row(0, named=True)
    assert table.frame.height == 1
    assert row["n"] == len(values) > 10
    assert row["mean"] == pytest.approx(statistics.fmean(values))
    assert row["sd"] == pytest.approx(statistics.stdev(values))
    assert (row["median"], row["mad"]) == (median, statistics.median(abs(x - median) for x in values))
    assert row["q90"] == pytest.approx(statistics.quantiles(values, n=10, method="inclusive")[8])
    assert (table.valid_from, table.tier) == (last + DAY, 4)


def test_a_limit_table_holds_the_quantile_of_the_last_days(simulation: tc.Simulation, events: tc.Events) -> None:
    limit = tc.limit("nr_recipients", quantile=0.95, windows=6, at_least=10)
    table = tc.fit([plain(RECIPIENTS - tc.ref.limit, against=limit)], events)["test.plain"]
    end = (simulation.events["timestamp"].max() + DAY).replace(hour=0, minute=0, second=0, microsecond=0)
    mails = simulation.events.filter(pl.col("kind") == "mail", pl.col("timestamp") >= end - 6 * DAY)
    values = mails["nr_recipients"].drop_nulls().to_list()
    assert table.frame["n"].item() == len(values)
    assert table.frame["limit"].item() == pytest.approx(statistics.quantiles(values, n=20, method="inclusive")[18])
    assert (table.valid_from, table.tier) == (end, 4)


def test_a_fit_of_what_happened_until_a_day_is_what_that_days_events_are_compared_with(events: tc.Events) -> None:
    frame = events.frame().collect()
    end = frame["timestamp"].min().replace(hour=0, minute=0, second=0, microsecond=0) + 12 * DAY
    table = tc.fit([rule()], events, until=end)["test.volume"]
    past = tc.backtest([rule(when=tc.score > 0)], events, since=end, until=end + DAY, keep_scores=True)
    frozen = tc.backtest([rule(against=table, when=tc.score > 0)], events, since=end, until=end + DAY, keep_scores=True)
    assert table.valid_from == end
    assert past.scores["test.volume"]["score"].drop_nulls().len() > 100
    assert_frame_equal(frozen.scores["test.volume"], past.scores["test.volume"], check_exact=True)


def test_a_fitted_table_survives_saving(events: tc.Events, tmp_path: Path) -> None:
    table = tc.fit([rule()], events)["test.volume"]
    table.save(tmp_path / "fit.parquet")
    again = tc.Table.load(tmp_path / "fit.parquet")
    assert again.digest == table.digest
    assert_frame_equal(again.frame, table.frame, check_exact=True)
    assert (again.valid_from, again.tier, again.key, again.values) == (
        table.valid_from,
        table.tier,
        table.key,
        table.values,
    )
    assert rule(against=again).version == rule(against=table).version


def test_detections_without_a_fit_have_nothing_to_be_fitted(events: tc.Events) -> None:
    with pytest.raises(tc.RuleError, match="None of these detections has a fit"):
        tc.fit([plain(RECIPIENTS)], events)
