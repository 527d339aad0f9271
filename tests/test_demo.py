"""The demo compares findings with the truth honestly, and its worker cannot read that truth."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from tocsin.runners import demo
from tocsin.runners.demo import Answer, DemoError, StoryResult, compare, compare_traps, run_demo, to_frame

TRUTH = {
    "stories": [
        {"kind": "burst", "users": ["ann"], "days": ["2026-06-12"]},
        {"kind": "burst", "users": ["bob"], "days": ["2026-06-14"]},
        {"kind": "spray", "users": ["cem"], "days": ["2026-06-13"]},
        {"kind": "growth", "users": ["dee"], "days": ["2026-06-13"]},
    ],
    "innocents": [{"kind": "newsletter", "users": ["eve", "fay"], "days": ["2026-06-12"]}],
}
ANSWERS = (Answer("burst", "mail.burst", precision_floor=0.5), Answer("spray", "mail.spray"), Answer("growth", None))


def findings(*rows: tuple[str, str, str], **more: object) -> pl.DataFrame:
    times = [datetime.fromisoformat(day).replace(hour=23, minute=59, tzinfo=UTC) for _, _, day in rows]
    schema = {"detection_id": pl.String, "entity": pl.String, "time": pl.Datetime("us", "UTC")}
    frame = pl.DataFrame([(d, e, t) for (d, e, _), t in zip(rows, times, strict=True)], schema=schema, orient="row")
    more.setdefault("suppressed_by", None)
    frame = frame.with_columns(peak_score=pl.int_range(pl.len(), 0, -1).cast(pl.Float64))  # the first is the highest
    return frame.with_columns(**{name: pl.lit(value, pl.String) for name, value in more.items()})


def burst(*rows: tuple[str, str], **more: object) -> StoryResult:
    return compare(TRUTH, findings(*(("mail.burst", user, day) for user, day in rows), **more), ANSWERS)[0]


def test_all_found_and_nothing_else_is_a_perfect_result() -> None:
    result = burst(("ann", "2026-06-12"), ("bob", "2026-06-14"))
    assert (result.planted, result.found, result.wrong, result.recall, result.precision) == (2, 2, 0, 1.0, 1.0)
    assert result.passed


def test_a_missed_user_lowers_recall_and_fails_the_floor() -> None:
    result = burst(("ann", "2026-06-12"))
    assert (result.found, result.recall, result.precision, result.passed) == (1, 0.5, 1.0, False)
    assert result.missed == ("bob",)


def test_the_right_user_on_another_day_is_not_found_but_wrong() -> None:
    result = burst(("ann", "2026-06-11"), ("bob", "2026-06-14"))
    assert (result.found, result.wrong) == (1, 1)


def test_innocents_and_strangers_are_wrong_and_innocents_are_named() -> None:
    result = burst(("ann", "2026-06-12"), ("bob", "2026-06-14"), ("eve", "2026-06-12"), ("zoe", "2026-06-12"))
    assert (result.wrong, result.innocents, result.trapped, result.precision) == (2, 1, ("newsletter",), 0.5)
    assert result.passed, "a precision on its floor passes"
    assert not burst(("ann", "2026-06-12"), ("bob", "2026-06-14"), *((u, "2026-06-12") for u in "xyz")).passed


def test_another_story_on_its_own_day_explains_a_finding() -> None:
    result = burst(("ann", "2026-06-12"), ("bob", "2026-06-14"), ("cem", "2026-06-13"))
    assert (result.flagged, result.wrong, result.precision) == (3, 0, 1.0)
    assert burst(("cem", "2026-06-12")).wrong == 1


def test_each_kind_of_trap_tells_who_fell_for_it() -> None:
    fired = findings(("mail.burst", "eve", "2026-06-12"), ("mail.spray", "eve", "2026-06-13"))
    assert compare_traps(TRUTH, fired).rows() == [("newsletter", 2, 1, "mail.burst, mail.spray")]
    assert compare_traps(TRUTH, findings()).rows() == [("newsletter", 2, 0, "")]


def test_many_findings_of_one_user_count_once() -> None:
    assert burst(*(("zoe", f"2026-06-{day}") for day in range(10, 20))).wrong == 1


def test_sorting_by_score_shows_how_many_planted_users_stand_at_the_top() -> None:
    assert burst(("ann", "2026-06-12"), ("bob", "2026-06-14"), ("zoe", "2026-06-12")).in_top == 2
    assert burst(("zoe", "2026-06-12"), ("ann", "2026-06-12"), ("bob", "2026-06-14")).in_top == 1
    assert burst(("cem", "2026-06-13"), ("ann", "2026-06-12"), ("bob", "2026-06-14")).in_top == 2, "cem is explained"


def test_suppressed_findings_do_not_count() -> None:
    assert burst(("ann", "2026-06-12"), suppressed_by="entry-1").found == 0
    assert burst(("ann", "2026-06-12"), suppressed_by=None).found == 1


def test_only_the_answering_detection_counts() -> None:
    spray = compare(TRUTH, findings(("mail.burst", "cem", "2026-06-13")), ANSWERS)[1]
    assert (spray.found, spray.flagged, spray.passed) == (0, 0, False)


def test_nothing_planted_and_nothing_flagged_fails_instead_of_dividing_by_zero() -> None:
    result = compare({"stories": [], "innocents": []}, findings(), ANSWERS)[0]
    assert (result.recall, result.precision, result.passed) == (None, None, False)


def test_a_story_without_a_rule_is_shown_without_a_verdict() -> None:
    frame = to_frame(compare(TRUTH, findings(), ANSWERS))
    row = frame.row(2, named=True)
    assert (row["story"], row["detection"], row["planted"], row["passed"], row["recall"]) == (
        "growth",
        None,
        1,
        None,
        None,
    )
    assert frame["passed"].to_list() == [False, False, None]


def test_each_answer_is_to_a_kind_of_story_that_exists() -> None:
    from tocsin.sources.simulate import STORY_KINDS

    assert {answer.story for answer in demo.ANSWERS} <= set(STORY_KINDS)


def test_a_demo_too_small_for_its_stories_is_refused() -> None:
    with pytest.raises(DemoError, match="14 days"):
        run_demo(seed=1, folder="never-made", days=5)


def test_the_truth_is_on_disk_only_after_the_backtest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "truth.json").write_text("of an earlier run")
    seen: list[set[str]] = []

    def worker(folder: Path) -> pl.DataFrame:
        seen.append({path.name for path in folder.iterdir()})
        return findings()

    monkeypatch.setattr(demo, "_backtest_blindly", worker)
    report = run_demo(seed=3, folder=tmp_path, users=60, days=14)
    assert seen == [{"events.parquet", "geo.csv.gz", "networks.csv.gz", "threats.csv"}]
    assert json.loads((tmp_path / "truth.json").read_text())["seed"] == 3
    assert not report.passed
    assert report.to_frame().height == len(demo.ANSWERS)


def test_a_worker_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="no-such-folder"):
        demo._backtest_blindly(tmp_path / "no-such-folder")


def test_a_small_demo_finds_every_story_and_passes_its_floors(tmp_path: Path) -> None:
    report = run_demo(seed=1, folder=tmp_path, users=120, days=21)
    frame = report.to_frame().filter(pl.col("detection").is_not_null())
    assert frame["passed"].all(), frame
    assert (frame["found"] == frame["planted"]).all()
    assert report.passed
    assert report.findings == pl.read_parquet(tmp_path / "findings.parquet").height
    sprung = report.traps.filter(pl.col("flagged") > 0)["trap"].to_list()
    assert "newsletter" in sprung, "volume alone cannot tell a newsletter from an outlier, and the demo says so"
    assert not {"beside_listed", "many_recipients_no_exe", "traveller"} & set(sprung)
