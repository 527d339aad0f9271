"""Verify with the live process: what it leaves behind is compared with the replay, and what is wrong with it is told.

Layer: tests. Processes are few here and their logs short; `make soak` kills them over long ones.
"""

from __future__ import annotations

import math
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import tocsin as tc
from tocsin.engine import Engine
from tocsin.engine.findings import empty
from tocsin.runners import verify_live
from tocsin.runners.live.settings import load_settings
from tocsin.runners.verify import KILLS, Run, _run, verify
from tocsin.runners.verify_live import Driver, LiveFiles, carried
from tocsin.runners.verify_process import LiveFailedError, LiveProcess
from tocsin.runners.verify_results import Book, Result, difference

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Done

pytest_plugins = ["cli_fixtures"]

START = datetime(2025, 3, 3, tzinfo=UTC)
RULES = """
import tocsin as tc

is_mail = tc.col("kind") == "mail"
said = {"severity": "low", "on": is_mail, "entity": "user_id"}
VOLUME = tc.Detection(id="t.volume", title="Volume", measure=tc.Count(per="1d"), against=tc.own_history(mean=True, at_least=3),
                      score=tc.value / tc.ref.mean, when=tc.score > 1.3, **said)
LISTED = tc.Detection(id="t.listed", title="Listed", score=tc.col("src_listed").cast(int), when=tc.score > 0, **said)
FIELDS = tc.Detection(id="t.fields", title="Fields", score=tc.col("weight") * tc.col("odd").cast(int) + tc.col("words").list.len(),
                      when=tc.score > 4, evidence=("words", "odd", "weight"), **said)
ABSENT = tc.Detection(id="t.absent", title="Absent", score=tc.col("size_bytes") * 1.0, when=tc.score > 1, **said)
DETECTIONS = [VOLUME, LISTED, FIELDS, ABSENT]
"""
DEPENDENT = """
import tocsin as tc

DETECTIONS = [tc.Detection(id="t.batch", title="Batch", severity="low", on=tc.col("kind") == "mail", entity="user_id",
                           score=tc.col("weight") - tc.col("weight").mean(), when=tc.score > 3)]
"""
PLAIN = DEPENDENT.replace(' - tc.col("weight").mean()', "").replace("t.batch", "t.plain")


def some_events(n: int, seed: int = 5) -> pl.DataFrame:
    """Events with values of every kind, and nulls among them."""
    rng = np.random.default_rng(seed)
    times = sorted(START + timedelta(microseconds=int(us)) for us in rng.uniform(0, 12 * 86_400e6, n))
    words = [None, [], ["a.exe"], ["a", "b", "é\u2028\x00\n"], ["x", None]]
    return pl.DataFrame(
        {
            "event_id": [f"{i:05}" for i in range(n)],
            "timestamp": times,
            "kind": rng.choice(["mail", "mail", "login"], n),
            "user_id": [None if u == 9 else f"user{u}" for u in rng.integers(0, 10, n)],
            "src_ip": [f"192.0.2.{k}" for k in rng.integers(0, 30, n)],
            "weight": [None if k % 7 == 0 else float(x) for k, x in enumerate(rng.lognormal(0, 2, n))],
            "odd": [None if k == 2 else bool(k) for k in rng.integers(0, 3, n)],
            "words": [words[k] for k in rng.integers(0, len(words), n)],
        },
        schema_overrides={"timestamp": pl.Datetime("us", "UTC"), "words": pl.List(pl.String)},
    )


@pytest.fixture(autouse=True)
def modules_compiled_once(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes share what Python compiles, also where it is told not to keep it: it is half of a start."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.getbasetemp() / "compiled"))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with events, rules and a list."""
    some_events(2000).write_parquet(tmp_path / "events.parquet")
    (tmp_path / "rules.py").write_text(RULES)
    (tmp_path / "listed.txt").write_text("192.0.2.7\n")
    return tmp_path


def driver_of(folder: Path, rules: str, frame: pl.DataFrame, seed: int = 1) -> tuple[Driver, Book, Result]:
    """What drives these rules over these events, and what the replay gave."""
    path = folder / "mine.py"
    path.write_text(rules)
    detections = tc.load_rules(path)
    engine = Engine(detections, dict(frame.schema), lateness="1h", keep_scores=True)
    log = frame.select("event_id", "timestamp", *engine.columns)
    driver = Driver(engine, LiveFiles.of(detections, None, [path], None), 1, seed, lambda _: None)
    return driver, Book(log), _run(engine, Run("one batch", log, []))


# ------------------------------------------------------------------------------------------------ the processes themselves
def test_a_killed_engine_gives_the_scores_and_findings_of_the_replay_in_order_out_of_order_and_late(
    tocsin,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tocsin.runners.verify.SINGLE_EVENTS", 10)
    asked = ("--threats", files / "listed.txt", "--live", "--kills", 1, "--json")
    done: Done = tocsin("verify", files / "rules.py", files / "events.parquet", *asked)
    report = done.json
    assert done.code == 0, report
    assert report["first_difference"] == ""
    assert "size_bytes" in report["not_run"]["t.absent"]
    runs = {r["run"]: r for r in report["runs"]}
    named = ["live, killed once", "live, shuffled and repeated, killed once", "live, late events, killed"]
    assert list(runs)[-3:] == named
    first, shuffled, late = (runs[name] for name in named)
    yardstick = runs["one batch"]["compared"]
    assert yardstick > 3000
    assert (first["compared"], shuffled["compared"]) == (yardstick, yardstick)
    assert late["compared"] == runs["late events, one batch"]["compared"]
    assert late["late"] == runs["late events, one batch"]["late"] > 0
    assert min(r["batches"] for r in (first, shuffled, late)) >= 40
    assert "also stopped once" in first["note"]
    assert " events sent twice" in shuffled["note"]
    for row in (first, shuffled, late):
        assert row["differences"] == 0
        assert "not compared: t.absent" in row["note"]


def test_a_rule_that_depends_on_its_batch_is_caught_live(tmp_path: Path) -> None:
    driver, book, plain = driver_of(tmp_path, DEPENDENT, some_events(600))
    driver.drive(book, "live", book.log, plain, kills=0)
    assert book.rows[0]["differences"] > 100
    assert book.first.startswith("live: t.batch gives event ")
    assert "; in one batch it was " in book.first


def test_a_restart_that_forgot_its_state_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver, book, plain = driver_of(tmp_path, PLAIN, some_events(600))
    stop = LiveProcess.stop

    def forgetful(self: LiveProcess) -> None:
        """The engine stops, and its state is lost; it begins anew, with larger batches, beside the scores of before."""
        self._until(lambda: self._status()["batches"] > 5, "read some batches")
        stop(self)
        for name in ("snapshots", "batches"):
            shutil.rmtree(self._state / name)
        settings = self._state.parent / "live.toml"
        settings.write_text(settings.read_text().replace("rows = 20", "rows = 600"))

    monkeypatch.setattr(LiveProcess, "stop", forgetful)
    monkeypatch.setattr(np.random, "default_rng", lambda _seed: Halfway())
    driver.drive(book, "live", book.log, plain, kills=0, stopped=True)
    assert book.rows[0]["differences"] > 0
    assert "scores more than in one batch: some events counted again" in book.first


class Halfway:
    """Chance that always says: in the middle."""

    def integers(self, low: int, high: int, size: int) -> Any:
        return np.full(size, (low + high) // 2)

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


def test_a_process_that_fails_is_told_with_its_exit_code_and_last_words(tmp_path: Path) -> None:
    driver, book, plain = driver_of(tmp_path, PLAIN, some_events(50))
    (tmp_path / "mine.py").unlink()
    driver.drive(book, "live", book.log, plain)
    assert book.first.startswith(
        "live: the live process did not begin to follow the events: it ended with exit code 3."
    )
    assert "mine.py: cannot be read (No such file or directory)" in book.first
    assert book.rows[0]["note"] == "did not come to its end"
    assert book.rows[0]["differences"] is None


def test_a_process_without_progress_is_ended_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.runners.verify_process.PATIENCE_SECONDS", 0.1)
    process = LiveProcess(["--help"], tmp_path, tmp_path / "said")
    process._said.write_text('{"level": "info"}\n{"level": "warning", "what": "no room"}\n')
    with (
        pytest.raises(LiveFailedError, match=r"did not begin .*: for 0.1 seconds it showed no progress. .* no room"),
        process,
    ):
        process.until_following()
    assert process._process.poll() is not None


# --------------------------------------------------------------------------------------------------- what is fed to them
def test_the_file_holds_the_events_as_they_were_accepted_bit_for_bit(tmp_path: Path) -> None:
    frame = some_events(300).with_columns(
        weight=pl.Series([(-0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2)[i % 4] for i in range(300)]),
        big=pl.lit((1 << 63) - 1), received_at=pl.col("timestamp") + pl.duration(microseconds=1), partition=pl.lit("p"),
    )  # fmt: skip
    path, mapping = tmp_path / "log.jsonl", verify_live._mapping(frame)
    path.write_bytes(verify_live._json_lines(frame))
    verify_live._check_read(path, mapping, frame)
    back = tc.read(path, mapping=mapping, order="arrival").frame().collect().select(frame.columns)
    assert_frame_equal(back, frame, check_exact=True)
    assert [math.copysign(1, x) for x in back["weight"]] == [math.copysign(1, x) for x in frame["weight"]]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("weight", math.nan, "its 'weight' is nan, but read back"),
        ("src_ip", "nonsense", "cannot be carried .*not an IP address"),
    ],
)
def test_what_json_lines_cannot_hold_is_told_before_anything_is_started(
    tmp_path: Path, column: str, value: Any, said: str
) -> None:
    frame = some_events(20).with_columns(pl.lit(value).alias(column))
    path = tmp_path / "log.jsonl"
    path.write_bytes(verify_live._json_lines(frame))
    with pytest.raises(tc.SourceError, match=said):
        verify_live._check_read(path, verify_live._mapping(frame), frame)


def test_narrow_types_become_wide_and_others_are_refused() -> None:
    narrow = pl.DataFrame(
        {"a": [1, None], "b": [0.5, None], "c": ["x", None]},
        schema={"a": pl.UInt8, "b": pl.Float32, "c": pl.Categorical},
    )
    assert carried(narrow).rows() == narrow.rows()
    assert [str(t) for t in carried(narrow).dtypes] == ["Int64", "Float64", "String"]
    with pytest.raises(tc.SourceError, match="'d' is Duration"):
        carried(pl.DataFrame({"d": [timedelta(1)]}))


def test_the_settings_are_those_of_the_replay(tmp_path: Path) -> None:
    driver, book, _ = driver_of(tmp_path / "", PLAIN, some_events(1000))
    folder = tmp_path / 'a "strange" földer'
    folder.mkdir()
    course = verify_live._Course(folder, driver, "live")
    course.prepare(book.log)
    settings = load_settings(folder / "live.toml")
    assert settings.rules.files == (tmp_path / "mine.py",)
    assert (settings.times.lateness, settings.times.dedup_horizon) == ("3600000000us", f"{7 * 86400}000000us")
    assert (settings.batches.rows, settings.keep_scores, settings.sources[0].path) == (25, True, folder / "log.jsonl")
    assert (folder / "state" / "key").read_bytes() == driver.engine.key
    assert (folder / "log.jsonl").read_bytes() == b""


# ------------------------------------------------------------------------------------------------------ what is compared
def test_findings_that_differ_are_told_where_all_scores_agree(tmp_path: Path) -> None:
    _, book, plain = driver_of(tmp_path, PLAIN, some_events(300))
    fewer = Result(plain.scores, plain.findings[1:], plain.counts)
    assert plain.findings.height > 3
    assert difference(plain, fewer, book.log) == (1, "all scores agree, but 1 findings are on one side only.")
    for changed in ({"evidence": pl.lit("other")}, {"peak_score": pl.col("peak_score") + 1}):
        other = Result(plain.scores, plain.findings.with_columns(**changed), plain.counts)
        assert "differ in their evidence or peak" in difference(plain, other, book.log).words


def test_the_peak_of_a_finding_is_the_farthest_that_was_told_and_none_where_it_is_suppressed() -> None:
    rows = [
        {"finding_id": i, "detection_id": "a", "score": 2.0, "peak_score": 2.0, "suppressed_by": s}
        for i, s in (("x", None), ("y", "z"))
    ]
    findings = pl.concat([empty(), pl.DataFrame(rows, schema_overrides={"suppressed_by": pl.String})], how="diagonal")
    told = pl.DataFrame({"type": ["peak"] * 3, "value": ["x", "x", "y"], "number": [9.0, 5.0, 8.0]})
    history = type("History", (), {"findings": findings, "events": told})
    got = verify_live._result([], history, {"a"}, 0)
    assert got.findings["peak_score"].to_list() == [9.0, None]


# ----------------------------------------------------------------------------------------------- what may be asked at all
def test_rules_and_references_that_no_file_holds_are_refused(files: Path) -> None:
    events = tc.read(files / "events.parquet")
    detections = tc.load_rules(files / "rules.py")
    with pytest.raises(tc.RuleError, match=r"t\.volume is not among the rules that ship"):
        verify(detections, events, live=True, rows=10, kills=1)
    (files / "rules.py").write_text(RULES.replace("score > 1.3", "score > 1.4"))
    with pytest.raises(tc.RuleError, match=r"t.volume is not in .*rules.py, or not in this version"):
        verify(detections, events, live=True, rows=10, kills=1, rule_files=[files / "rules.py"])
    refs = tc.reference(threats=files / "listed.txt")
    with pytest.raises(tc.SourceError, match="reference_files do not hold what refs holds"):
        verify(tc.rules.ALL, events, refs, live=True, rows=10, kills=1)
    found = LiveFiles.of(tc.rules.ALL, refs, (), {"threats": str(files / "listed.txt"), "geo": None})
    assert found.references.threats == (files / "listed.txt",)


def test_kills_without_live_are_refused(tocsin) -> None:
    for asked in (("--kills", 2), ("--live", "--kills", 0)):
        done = tocsin("verify", "shipped", "x", *asked)
        assert done.code == 2
        assert "--kills goes with --live, and must be at least 1." in done.err


def test_the_command_and_the_function_kill_as_often_where_nothing_is_said() -> None:
    from tocsin.faces.commands import verify as command

    assert command.KILLS == KILLS
