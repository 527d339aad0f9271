"""The demo compares findings with the truth honestly, and its worker cannot read that truth."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import tocsin as tc
from tocsin.demo import challenges, judging, run
from tocsin.demo.judging import Expected, StoryResult, judge, judge_traps, to_frame
from tocsin.demo.run import DemoError, run_demo, work_blindly
from tocsin.engine.findings import empty as no_findings
from tocsin.questions.changes import UNLIKE
from tocsin.sources.simulate import STORY_KINDS, Truth, simulate
from tocsin.sources.simulate.truth import Label

SOME = Truth.of(simulate(users=60, days=14, seed=1, stories=()).truth)
"""A truth in which nothing happened, to plant things in by hand."""


def label(kind: str, users: str, day: str, **details: Any) -> Label:
    return Label(f"{kind}-1", kind, tuple(users.split()), (date.fromisoformat(day),), None, None, (), details, "")


TRUTH = dataclasses.replace(
    SOME,
    stories=(label("burst", "ann", "2026-06-12"), label("burst", "bob", "2026-06-14"), label("spray", "cem", "2026-06-13"),
             label("password_spray", "dee ed", "2026-06-13", network="192.0.2.32/28")),
    traps=(label("newsletter", "eve fay", "2026-06-12"),),
)  # fmt: skip
EXPECTED = (
    Expected("burst", "mail.burst", precision_floor=0.5), Expected("spray", "mail.spray"),
    Expected("password_spray", "login.spray"),
)  # fmt: skip


def findings(*rows: tuple[str, str, str], **more: object) -> pl.DataFrame:
    times = [datetime.fromisoformat(day).replace(hour=23, minute=59, tzinfo=UTC) for _, _, day in rows]
    schema = {"detection_id": pl.String, "entity": pl.String, "time": pl.Datetime("us", "UTC")}
    frame = pl.DataFrame([(d, e, t) for (d, e, _), t in zip(rows, times, strict=True)], schema=schema, orient="row")
    more = {"suppressed_by": None, "severity": "medium"} | more
    frame = frame.with_columns(peak_score=pl.int_range(pl.len(), 0, -1).cast(pl.Float64))  # the first is the highest
    return frame.with_columns(**{name: pl.lit(value, pl.String) for name, value in more.items()})


def burst(*rows: tuple[str, str], **more: object) -> StoryResult:
    return judge(TRUTH, findings(*(("mail.burst", user, day) for user, day in rows), **more), EXPECTED)[0]


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
    assert judge_traps(TRUTH, fired).rows() == [("newsletter", 2, 1, "mail.burst, mail.spray")]
    assert judge_traps(TRUTH, findings()).rows() == [("newsletter", 2, 0, "")]


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
    spray = judge(TRUTH, findings(("mail.burst", "cem", "2026-06-13")), EXPECTED)[1]
    assert (spray.found, spray.flagged, spray.passed) == (0, 0, False)


def test_a_spray_is_found_by_the_network_it_came_from() -> None:
    found = judge(
        TRUTH,
        findings(("login.spray", "192.0.2.0/24", "2026-06-13"), ("login.spray", "10.0.0.0/24", "2026-06-13")),
        EXPECTED,
    )[2]
    assert (found.planted, found.found, found.wrong) == (1, 1, 1)
    assert judge(TRUTH, findings(("login.spray", "dee", "2026-06-13")), EXPECTED)[2].found == 0


def test_traps_are_counted_for_rules_of_medium_severity_or_above() -> None:
    fired = findings(("login.first", "eve", "2026-06-12"), severity="low")
    assert judge_traps(TRUTH, fired)["flagged"].to_list() == [0]


def test_nothing_planted_and_nothing_flagged_fails_instead_of_dividing_by_zero() -> None:
    result = judge(SOME, findings(), EXPECTED)[0]
    assert (result.recall, result.precision, result.passed) == (None, None, False)
    assert to_frame((result,)).select("recall", "passed").row(0) == (None, False)


def test_every_kind_of_story_has_a_rule_or_a_question_that_answers_it() -> None:
    assert {e.story for e in judging.EXPECTED} | {"hours_shift"} == set(STORY_KINDS)


# ---------------------------------------------------------------------------------------------------------- challenges
def answers(**more: Any) -> dict[str, Any]:
    rows = [{"entity": u, "change_per_day": x, "verdict": UNLIKE} for u, x in (("a", 9.0), ("b", 8.0), ("c", 7.0))]
    return {
        "changes": {"table": rows},
        "travellers": {"table": [{"entity": "t", "km": 4000.0, "hours": 0.5}]},
        "parameter": {"facts": {"lambda": 6.1, "low": 5.9, "high": 6.3}},
        "hours": {"table": [{"entity": "h"}]},
    } | more  # fmt: skip


ASKED = dataclasses.replace(
    SOME,
    challenges={
        "1": ["x"], "2": ["y"], "3": {"users": ["a", "b", "c"], "increase_per_day": [9.0, 8.0, 7.0]},
        "4": {"user": "t", "speed_kmh": 8000.0}, "B1": 6.0, "B2": ["h"],
    },
)  # fmt: skip
RIGHT = findings(("mail.exe-many-recipients", "x", "2026-06-12"), ("network.listed-address", "y", "2026-06-12"))
WRONG: dict[str, dict[str, Any]] = {
    "3": {"changes": {"table": answers()["changes"]["table"][::-1]}},
    "4": {"travellers": {"table": [{"entity": "somebody", "km": 4000.0, "hours": 0.5}]}},
    "B1": {"parameter": {"facts": {"lambda": 6.3, "low": 6.2, "high": 6.4}}},
    "B2": {"hours": {"table": [{"entity": "h"}, {"entity": "i"}, {"entity": "j"}]}},
}


def test_right_answers_are_right() -> None:
    assert [s.challenge for s in challenges.solve(ASKED, RIGHT, answers()) if s.right] == [
        "1",
        "2",
        "3",
        "4",
        "B1",
        "B2",
    ]


@pytest.mark.parametrize("challenge", WRONG)
def test_a_wrong_answer_is_wrong_and_makes_no_other_wrong(challenge: str) -> None:
    solved = challenges.solve(ASKED, RIGHT, answers(**WRONG[challenge]))
    assert [s.challenge for s in solved if not s.right] == [challenge]


def test_a_user_too_many_makes_the_first_challenges_wrong() -> None:
    more = pl.concat([RIGHT, findings(("mail.exe-many-recipients", "z", "2026-06-12"))])
    assert [s.challenge for s in challenges.solve(ASKED, more, answers()) if not s.right] == ["1"]


# ----------------------------------------------------------------------------------------------------------- the whole
def test_a_demo_too_small_for_its_stories_is_refused() -> None:
    with pytest.raises(DemoError, match="40 days"):
        run_demo(seed=1, folder="never-made", days=5)


def test_the_truth_is_on_disk_only_after_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "truth.json").write_text("of an earlier run")
    seen: list[set[str]] = []

    def worker(folder: Path) -> tuple[pl.DataFrame, dict[str, Any]]:
        seen.append({path.name for path in folder.iterdir()})
        pl.DataFrame({"detection": ["mail.x"]}).write_parquet(folder / "rules.parquet")
        return no_findings(), answers()

    monkeypatch.setattr(run, "work_blindly", worker)
    report = run_demo(seed=3, folder=tmp_path, users=120, days=40)
    assert seen == [{"events.parquet", "geo.csv.gz", "networks.csv.gz", "threats.csv"}]
    assert json.loads((tmp_path / "truth.json").read_text())["seed"] == 3
    assert not report.passed
    assert report.to_frame().height == len(judging.EXPECTED)


def test_a_worker_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="no-such-folder"):
        work_blindly(tmp_path / "no-such-folder")


def test_a_small_demo_finds_every_story_and_answers_every_challenge(tmp_path: Path) -> None:
    report = run_demo(seed=1, folder=tmp_path, users=200, days=60)
    frame = report.to_frame()
    assert frame["passed"].all(), frame
    assert all(one.right for one in report.solved), challenges.to_frame(report.solved)
    assert report.passed
    assert report.findings == pl.read_parquet(tmp_path / "findings.parquet").height
    assert {page.stem for page in report.pages} >= {"changes", "hours", "parameter", "travellers"}
    assert report.triaged.alerts > 100
    assert "SOC report of week" in (tmp_path / "report.html").read_text()
    with tc.Alerts(tmp_path / "soc.db", create=False) as log:
        verdicts = log.history().current["verdict"]
    assert {"true_positive", "false_positive"} <= set(verdicts)
    sprung = report.traps.filter(pl.col("flagged") > 0)["trap"].to_list()
    assert "newsletter" in sprung, "volume alone cannot tell a newsletter from an outlier, and the demo says so"
    assert not {"many_recipients_no_exe", "forgotten_password", "new_phone"} & set(sprung)
