"""Rules that fail and rules that change under a running engine: the others go on, and every finding says which version it is of.

Layer: tests.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import polars as pl

import tocsin as tc
from tests.live_process import (
    append,
    assert_same,
    engine,
    few_rules,
    kept_scores,
    log_of,
    replay,
    settings,
    write_log,
)
from tocsin.alerts import Alerts

if TYPE_CHECKING:
    from pathlib import Path

FAILING = """
    tc.Detection(
        id="test.raises", title="Raises", severity="low", score=tc.col("subject").str.to_integer(strict=True), when=tc.score > 90,
        **ABOUT,
    ),
    tc.Detection(
        id="test.nan", title="NaN", severity="low", score=(tc.col("size") * 0.0) / (tc.col("size") * 0.0), when=tc.score > 1,
        **ABOUT,
    ),
    tc.Detection(id="test.inf", title="Inf", severity="low", score=tc.col("size") / 0.0, when=tc.score > 1, **ABOUT),
"""


def findings(folder: Path) -> pl.DataFrame:
    with Alerts(folder / "soc.db") as log:
        return log.history().findings


def test_rules_that_raise_or_give_no_number_leave_the_others_alone_and_one_finding_also_over_a_kill(tmp_path: Path):
    dice = random.Random(5)
    events: list[dict[str, Any]] = [e | {"subject": str(dice.randrange(100))} for e in log_of(2_500)]
    for at in dice.sample(range(len(events)), 30):
        events[at] = events[at] | {"subject": "hi"}
    path = write_log(tmp_path / "mail.jsonl", events[:1_200])
    asked = settings(tmp_path, more=few_rules(tmp_path, more=FAILING), rows=100)
    with engine(tmp_path, asked) as running:
        running.until(lambda s: s["events"]["read"] >= 1_000, "reading")
        running.kill()
    append(path, events[1_200:])
    with engine(tmp_path, asked) as running:
        status = running.until(lambda s: sum(s["events"][f] for f in ("accepted", "duplicate")) > 1_300, "reading on")
        running.kill()
    with engine(tmp_path, asked, "--finish") as last:
        assert last.wait() == 0, last.tail()
        status = last.status()
    past = replay(path, tmp_path / "few.py")
    assert_same(tmp_path, past)
    told = {r["id"]: r for r in status["rules"]}
    assert told["test.raises"]["errors"] == past.state.tallies["test.raises"].unscored["error"] > 10
    assert told["test.raises"]["error"]
    for rule in ("test.nan", "test.inf"):
        assert told[rule]["scored"] == 0 < told[rule]["events"] == told[rule]["unscored"]["undefined"]
    assert told["test.many"]["errors"] == 0 < told["test.many"]["findings"]
    found = findings(tmp_path)
    assert Counter(found["detection_id"])["tocsin.rule-error"] == 1
    assert not found["detection_id"].is_in(["test.nan", "test.inf"]).any()


MANY = """import tocsin as tc

DETECTIONS = (
    tc.Detection(
        id="test.many", title="Many", severity="low", on=tc.col("kind") == "mail", entity="user_id",
        score=tc.col("nr_recipients") + 0 * tc.col("size"), when=tc.score > {above},
        examples=(
            tc.Example(True, [{{"kind": "mail", "user_id": "ada", "nr_recipients": 99, "size": 1}}]),
            tc.Example(False, [{{"kind": "mail", "user_id": "ada", "nr_recipients": 1, "size": 1}}]),
        ),
    ),
)
"""


def many(folder: Path, above: float) -> str:
    """Write the rule with this threshold; return the version of it."""
    part = folder / "few.part"
    part.write_text(MANY.format(above=above))
    part.replace(folder / "few.py")
    return version_of(folder)


def version_of(folder: Path) -> str:
    return {d.id: d.version for d in tc.load_rules(folder / "few.py")}["test.many"]


def running_version(status: dict[str, Any]) -> str | None:
    return {r["id"]: r["version"] for r in status["rules"]}.get("test.many")


def test_rules_that_change_break_and_are_mended_while_the_engine_runs_and_is_killed(tmp_path: Path):
    """Each finding is of the version that held when its event was read, whatever happened to the engine in between."""
    events = log_of(2_000)
    parts = [events[i : i + 400] for i in range(0, 2_000, 400)]
    path = write_log(tmp_path / "mail.jsonl", parts[0])
    asked = settings(tmp_path, more=few_rules(tmp_path), rows=100)
    first = many(tmp_path, above=25)
    with engine(tmp_path, asked) as running:
        running.until(lambda s: s["events"]["read"] == 400, "reading")
        second = many(tmp_path, above=20)
        running.until(lambda s: running_version(s) == second, "taking over the change")
        append(path, parts[1])
        running.until(lambda s: s["events"]["read"] == 800, "reading")
        (tmp_path / "few.py").write_text("import tocsin as tc\nDETECTIONS = (tc.Detection(id=,)\n")
        running.until(lambda s: any("few.py is broken" in t["what"] for t in s["trouble"]), "saying that it is broken")
        append(path, parts[2])
        status = running.until(lambda s: s["events"]["read"] == 1_200, "reading")
        assert running_version(status) == second
        third = many(tmp_path, above=22)
        running.until(lambda s: running_version(s) == third, "taking over what is mended")
        append(path, parts[3])
        running.until(lambda s: s["events"]["read"] >= 1_300, "reading")
        fourth = many(tmp_path, above=28)
        running.kill()  # perhaps before it saw that, perhaps after
    append(path, parts[4])
    with engine(tmp_path, asked) as again:
        again.until(
            lambda s: running_version(s) == fourth and not s["sources"][0]["behind"] and s["events"]["read"], "going on"
        )
        again.kill()
    with engine(tmp_path, asked, "--finish") as last:
        assert last.wait() == 0, last.tail()
    scores = kept_scores(tmp_path / "state").filter(detection="test.many")
    past = replay(path, tmp_path / "few.py").scores["test.many"]
    assert scores.select("event_id", "score").equals(past.select("event_id", "score").sort("event_id")), "each once"
    place = {e["event_id"]: n for n, e in reversed(list(enumerate(events)))}
    found = findings(tmp_path)
    assert found.filter(detection_id="tocsin.reload-error").height == 1
    of_it = found.filter(detection_id="test.many")
    versions = {place[e]: v for e, v in of_it.select("event_id", "version").iter_rows()}
    assert {v for n, v in versions.items() if n < 400} == {first}
    assert {v for n, v in versions.items() if 400 <= n < 1_200} == {second}
    assert {v for n, v in versions.items() if 1_200 <= n < 1_300} == {third}
    assert {v for n, v in versions.items() if n >= 1_600} == {fourth}
    limits = {first: 25, second: 20, third: 22, fourth: 28}
    assert set(versions.values()) == set(limits)
    sent = {n: events[n].get("nr_recipients", 0) for n in place.values()}
    assert {n for n, v in versions.items() if v != fourth} >= {n for n, x in sent.items() if n < 400 and x > 25}
    assert all(sent[n] > limits[v] for n, v in versions.items())
    assert {n for n in versions if 400 <= n < 1_200} == {n for n, x in sent.items() if 400 <= n < 1_200 and x > 20}
