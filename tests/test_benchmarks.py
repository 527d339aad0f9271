"""The contestants find the same, and the page of figures is what was measured. No timing is asserted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from benchmarks import analyses as an
from benchmarks import harness, jsonl, report, rules, simulated
from benchmarks.data import TINY as SIZE
from benchmarks.data import Data, make
from benchmarks.rivals import contestant
from tocsin.rules import ALL

if TYPE_CHECKING:
    from collections.abc import Iterable


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return make(SIZE, tmp_path_factory.mktemp("bench"))


def answers(name: str, data: Data) -> an.Answers:
    mine = contestant(name)
    mine.prepare(data)
    return {k: frame for step in mine.steps().values() for k, frame in step().items()}


@pytest.fixture(scope="module")
def expected(data: Data) -> an.Answers:
    return answers("duckdb", data)


@pytest.mark.parametrize("name", ["polars", "pandas", "tocsin"])
def test_each_contestant_finds_what_the_hand_written_sql_finds(name: str, data: Data, expected: an.Answers) -> None:
    assert an.differences(expected, answers(name, data)) == []


def test_the_first_five_by_themselves_find_what_they_find_among_the_eight(data: Data, expected: an.Answers) -> None:
    assert an.differences({name: expected[name] for name in an.FIVE}, answers("tocsin_five", data)) == []


def test_every_analysis_finds_something_so_that_equality_means_something(expected: an.Answers) -> None:
    assert all(frame.height >= 3 for frame in expected.values())


def test_a_wrong_answer_is_told_apart(expected: an.Answers) -> None:
    less = expected | {"A1": expected["A1"].head(1)}
    other = expected | {"A7": expected["A7"].with_columns(pl.col("score") * 1.001)}
    assert [line[:2] for line in an.differences(expected, less)] == ["A1"]
    assert "scores up to" in an.differences(expected, other)[0]


def test_the_same_size_and_seed_give_the_same_events(data: Data, tmp_path: Path) -> None:
    again = make(SIZE, tmp_path)
    assert pl.read_parquet(again.events).equals(pl.read_parquet(data.events))


def test_made_events_are_unique_in_id_and_sorted_in_time(data: Data) -> None:
    events = pl.read_parquet(data.events)
    assert events.height == SIZE.events
    assert events["event_id"].is_unique().all()
    assert events["timestamp"].is_sorted()
    exe = events["attachments"].list.eval(pl.element().str.to_lowercase().str.ends_with(".exe")).list.any()
    assert 0.01 < exe.sum() / (events["kind"] == "mail").sum() < 0.03


@pytest.mark.parametrize("reader", list(jsonl.READERS))
def test_each_reader_of_json_lines_reads_every_event(reader: str, data: Data) -> None:
    assert jsonl.READERS[reader](jsonl.written(data)) == SIZE.events


def test_medians_are_taken_of_every_number_by_itself() -> None:
    runs = [{"seconds": {"A1": s}, "name": "x"} for s in (3.0, 1.0, 2.0)]
    assert harness.medians(runs) == {"seconds": {"A1": 2.0}, "name": "x"}


def test_the_page_of_figures_is_what_the_measurements_say() -> None:
    page = report.render(report.load(harness.RESULTS), report.EXPLANATIONS.read_text(encoding="utf-8"))
    assert report.PAGE.read_text(encoding="utf-8") == page


def made_analyses(names: Iterable[str], one_pass: float) -> dict[str, Any]:
    """Return a result of the analyses as `compare.run` shapes it: a second each by DuckDB, one pass by tocsin."""

    def took(seconds: dict[str, float]) -> dict[str, Any]:
        return {"seconds": seconds, "cpu_seconds": seconds, "peak_mb": 100.0}

    contestants = {
        "tocsin": took({"one pass": one_pass}),
        "tocsin_five": took({"one pass": one_pass / 2}),
        "duckdb": took(dict.fromkeys(names, 1.0)),
    }
    size = {"events": 10_000_000, "users": 10_000, "days": 90, "ranges": 3_000_000}
    seed = {"A1": {"us_per_event": 0.5, "events": 10}}
    return {"size": size, "runs": 3, "rows": dict.fromkeys(names, 5), "contestants": contestants, "seed": seed}


def test_goals_about_the_five_and_about_the_eight_stand_beside_each_other() -> None:
    rows = {goal.text: goal.row({"analyses": made_analyses(an.KEYS, 10.0)})[2:] for goal in report.GOALS}
    assert rows["That one pass, as a share of DuckDB's five queries one after another"] == ("1 ×", "met")
    assert rows["All eight analyses in one pass, as a share of DuckDB's eight queries one after another"] == (
        "1.25 ×",
        "**missed**",
    )


def test_results_from_before_there_were_eight_say_what_is_not_measured_yet() -> None:
    analyses = made_analyses(an.FIVE, 5.0)
    eight = next(goal for goal in report.GOALS if goal.text.startswith("All eight"))
    assert eight.row({"analyses": analyses})[2] == report.NOT_MEASURED
    assert "Not measured yet: A2, A5, A8." in report.render({"analyses": stamped(analyses)})
    assert "Not measured yet" not in report.render({"analyses": stamped(made_analyses(an.KEYS, 5.0))})


def stamped(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result as `harness.save` writes it."""
    return result | {"taken": "2026-01-01", "machine": harness.machine()}


def test_the_whole_rule_set_is_measured_with_no_rule_skipped_and_shown(tmp_path: Path) -> None:
    data = simulated.TINY.make(tmp_path)
    measured = {"whole": rules.whole(data, data), "step": rules.step(data)}
    assert {part["rules"] for part in measured.values()} == {len(ALL)}
    assert {part["events"] for part in measured.values()} == {data.rows}
    assert measured["whole"]["findings"] == measured["step"]["findings"] > 0
    parts = {name: part | {"peak_mb": 100.0} for name, part in measured.items()}
    result = stamped({"size": {"users": 40, "days": 12}, "runs": 1} | parts)
    assert f"## All {len(ALL)} rules that ship" in report.render({"rules": result})
    texts = {goal.text for goal in report.GOALS if goal.row({"rules": result})[2] != report.NOT_MEASURED}
    assert texts == {
        "All rules that ship, from Parquet to findings written",
        "The step alone with all rules that ship, chunks of 500,000, columns prepared",
    }


def test_a_missed_goal_is_shown_as_missed_and_an_absent_one_as_not_measured() -> None:
    memory = {"short": {"peak_mb": 2_500.0}, "ratio": 1.1}
    rows = {goal.text: goal.row({"memory": memory}) for goal in report.GOALS}
    assert rows["Peak memory of the backtest at 10 M events, references included"][3] == "**missed**"
    assert rows["Peak memory at 30 M events, as a multiple of that at 10 M"][3] == "met"
    assert rows["Address look-ups in 3 M ranges"][2] == report.NOT_MEASURED
