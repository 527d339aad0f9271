"""The contestants find the same, and the page of figures is what was measured. No timing is asserted."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from benchmarks import analyses as an
from benchmarks import harness, jsonl, report
from benchmarks.data import Data, Size, make
from benchmarks.rivals import contestant

SIZE = Size(events=20_000, users=60, days=40, ranges=3_000)


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


def test_a_missed_goal_is_shown_as_missed_and_an_absent_one_as_not_measured() -> None:
    memory = {"short": {"peak_mb": 2_500.0}, "ratio": 1.1}
    rows = {goal.text: goal.row({"memory": memory}) for goal in report.GOALS}
    assert rows["Peak memory of the backtest at 10 M events, references included"][3] == "**missed**"
    assert rows["Peak memory at 30 M events, as a multiple of that at 10 M"][3] == "met"
    assert rows["Address look-ups in 3 M ranges"][2] == report.NOT_MEASURED
