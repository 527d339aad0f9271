"""`tocsin status` over real state folders and locks, and the log lines of a running engine."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command_line import ESCAPE, HOSTILE, assert_inert

from tocsin.engine.apply import Tally
from tocsin.faces.live.logging import set_up_logging
from tocsin.faces.live.seen import STALE_SECONDS, TROUBLE_SECONDS
from tocsin.runners.live.folder import StateFolder
from tocsin.runners.live.meters import Meters
from tocsin.text import has_unsafe

pytest_plugins = ["cli_fixtures"]
GONE_PID = 2**22 + 1  # above the largest that Linux gives


def ago(seconds: float = 0) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def meters(pid: int | None = None, started: float = 7500) -> Meters:
    made = Meters("0.1.0", os.getpid() if pid is None else pid, ago(started))
    made.mode("live")
    made.batch(10_000, 0.031, {"accepted": 9_950, "late": 40, "rejected": 10}, findings=5, at=ago(2))
    made.rules(
        {
            "mail.volume-vs-self": Tally(9000, 8000, 9, 5, 1, {"no_history": 900, "zero_baseline": 100}),
            "login.impossible-travel": Tally(400, 390, 0, 0, 0, {"error": 10}, "division by zero"),
        },
        {"mail.volume-vs-self": 1, "login.impossible-travel": 3},
    )
    made.skipped({"mail.geo": "no geo table"})
    made.source("mail", "mail.jsonl", behind=81_920, unit="bytes", watermark=ago(3600))
    made.source("bus", "events/0", behind=120, unit="messages", watermark=ago(4000), idle=True)
    made.watermark(ago(3600))
    made.state({"user_id": 1200, "src_ip": 300}, ids=90_000, waiting=12, size_bytes=3_500_000)
    made.snapshot(17, "delta", ago(20), size_bytes=81_920, seconds=0.025)
    made.dead_letters(3)
    made.output("alerts", behind=2, delivered=40, failed=1, last_error="connection refused")
    return made


def write(folder: Path, made: Meters, age_seconds: float = 0) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "status.json").write_text(json.dumps(made.status(ago(age_seconds))))
    return folder


@pytest.fixture
def held(tmp_path: Path):
    folder = StateFolder(tmp_path / "engine").lock()
    yield folder.path
    folder.unlock()


def test_a_live_engine_is_shown_with_all_it_says_and_exits_with_0(tocsin, held: Path) -> None:
    done = tocsin("status", "--state", write(held, meters()))
    assert (done.code, done.err) == (0, "")
    for text in (
        "It is running.", f"mode live, process {os.getpid()}, tocsin 0.1.0, up 2 h 5 min", "10,000 read", "40 late, 10 rejected",
        "p50 31 ms, p99 31 ms", "1 h behind the clock", "1,200 user_id, 300 src_ip, 90,000 event ids", "3.50 MB",
        "delta after batch 17, 20 s old; 81.92 kB in 0.025 s", "dead letters  3", "mail.jsonl", "81.92 kB", "120 messages", "idle",
        "mail.volume-vs-self", "no_history 900", "division by zero", "no geo table", "connection refused",
    ):  # fmt: skip
        assert text in done.out, text
    assert max(len(line) for line in done.out.splitlines()) <= 100


def test_json_is_one_document_with_the_status_as_it_was_written(tocsin, held: Path) -> None:
    write(held, meters())
    done = tocsin("status", "--state", held, "--json")
    assert (done.code, done.json["verdict"], done.json["running"]) == (0, "live", True)
    assert done.json["status"] == json.loads((held / "status.json").read_text())


@pytest.mark.parametrize("mode", ["recovering", "shadow", "waiting"])
def test_an_engine_that_recovers_or_runs_in_the_shadow_is_well(tocsin, held: Path, mode: str) -> None:
    made = meters()
    made.mode(mode)
    assert tocsin("status", "--state", write(held, made), "--json").json["verdict"] == mode
    assert tocsin("status", "--state", held).code == 0


def test_an_engine_that_was_killed_is_told_from_one_that_was_stopped(tocsin, tmp_path: Path) -> None:
    folder = write(tmp_path / "engine", meters(GONE_PID), age_seconds=7500)
    done = tocsin("status", "--state", folder)
    assert done.code == 1
    assert "It is not running: its last status is 2 h 5 min old, and no process holds this folder." in done.out.replace(
        "\n", " "
    )
    stopped = meters(GONE_PID)
    stopped.mode("stopped")
    done = tocsin("status", "--state", write(folder, stopped, age_seconds=61))
    assert (done.code, done.out.splitlines()[0]) == (1, "It is not running: it was stopped 1 min 1 s ago.")


def test_a_process_that_died_a_moment_ago_is_not_taken_for_a_live_one(tocsin, tmp_path: Path) -> None:
    done = tocsin("status", "--state", write(tmp_path / "engine", meters(GONE_PID)), "--json")
    assert (done.code, done.json["verdict"], done.json["running"]) == (1, "gone", False)


def test_a_foreign_process_number_is_no_engine_once_nobody_holds_the_lock(tocsin, tmp_path: Path) -> None:
    folder = write(tmp_path / "engine", meters(os.getpid()), age_seconds=STALE_SECONDS + 1)
    assert tocsin("status", "--state", folder, "--json").json["verdict"] == "gone"


def test_an_engine_in_another_container_is_known_by_its_lock(tocsin, held: Path) -> None:
    assert tocsin("status", "--state", write(held, meters(GONE_PID)), "--json").json["verdict"] == "live"


def test_a_process_that_holds_the_folder_and_says_nothing_is_stuck(tocsin, held: Path) -> None:
    done = tocsin("status", "--state", write(held, meters(), age_seconds=180))
    assert done.code == 1
    assert f"It is stuck: process {os.getpid()} holds this folder, but its last status is 3 min old." in done.out


def test_a_new_process_beside_an_old_status_is_starting(tocsin, held: Path) -> None:
    assert tocsin("status", "--state", held, "--json").json["verdict"] == "starting"
    done = tocsin("status", "--state", write(held, meters(GONE_PID), age_seconds=180), "--json")
    assert (done.code, done.json["verdict"]) == (1, "starting")


def test_recent_trouble_is_told_first_and_fails_while_old_trouble_is_only_listed(tocsin, held: Path) -> None:
    made = meters()
    made.trouble("the clock of mail jumped", ago(TROUBLE_SECONDS + 60))
    done = tocsin("status", "--state", write(held, made))
    assert done.code == 0
    assert "the clock of mail jumped" in done.out
    made.trouble("alerts: no room on the disk", ago(TROUBLE_SECONDS - 60))
    done = tocsin("status", "--state", write(held, made))
    assert (done.code, done.out.splitlines()[0]) == (1, "It is running, with trouble: alerts: no room on the disk")


def test_looking_leaves_the_lock_to_the_engine(tocsin, tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "engine").lock()
    folder.unlock()
    assert tocsin("status", "--state", write(folder.path, meters(GONE_PID))).code == 1
    folder.lock()  # nothing of the look is left behind
    with (folder.path / "lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    folder.unlock()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', "\x00", "[" * 100_000])
def test_a_damaged_status_is_an_error_that_names_the_file(tocsin, tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_text(text)
    done = tocsin("status", "--state", tmp_path)
    assert done.code == 3
    assert "status.json is damaged" in done.err


def test_a_folder_that_is_not_there_or_never_had_an_engine_says_what_to_do(tocsin, tmp_path: Path) -> None:
    done = tocsin("status", "--state", tmp_path / "nowhere")
    assert (done.code, "no state folder" in done.err) == (3, True)
    done = tocsin("status", "--state", tmp_path)
    assert (done.code, "tocsin run --state" in done.out) == (1, True)


@pytest.mark.parametrize("width", [40, 60, 100, 160])
def test_nothing_that_others_wrote_acts_on_the_terminal_at_any_width(tocsin, held: Path, width: int) -> None:
    made = meters()
    for i, text in enumerate((*HOSTILE, "x" * 5000)):
        made.source(text, f"{text}{i}", behind=i, unit="bytes")
        made.output(f"out {text}", behind=0, delivered=0, failed=1, last_error=text)
        made.trouble(text, ago(i))
    made.rules({ESCAPE: Tally(1, 0, 0, 0, 0, {ESCAPE: 1}, HOSTILE[1])}, {ESCAPE: 1})
    made.skipped({ESCAPE: HOSTILE[1]})
    made.state({ESCAPE: 3}, 0, 0, 0)
    made.mode(ESCAPE)
    done = tocsin("status", "--state", write(held, made), width=width)
    assert_inert(done)
    assert "\\x1b[31mred" in done.out
    assert_inert(tocsin("status", "--state", held, "--json"))


def test_a_run_that_knows_nothing_yet_is_shown_without_zeros_for_what_is_unknown(tocsin, held: Path) -> None:
    done = tocsin("status", "--state", write(held, Meters("0.1.0", os.getpid(), ago(1))))
    assert done.code == 0
    assert done.out.count("none yet") == 2


def test_watching_shows_it_until_interrupted_and_gives_its_code(
    tocsin, held: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(held, meters())
    rounds = []

    def sleep(_seconds: float) -> None:
        rounds.append(1)
        if len(rounds) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    done = tocsin("status", "--state", held, "--watch")
    assert (done.code, len(rounds)) == (0, 3)
    assert "It is running." in done.out
    assert tocsin("status", "--state", held, "--watch", "--json").code == 2


def test_the_picture_is_what_was_printed(tocsin, held: Path, tmp_path: Path) -> None:
    assert tocsin("status", "--state", write(held, meters()), "--svg", tmp_path / "status.svg").code == 0
    assert "mail.volume-vs-self" in (tmp_path / "status.svg").read_text()


# ---- structured logs


@pytest.fixture
def logs():
    """A logger of the engine, and where its lines go; the loggers are put back as they were."""
    kept = {
        name: (list((one := logging.getLogger(name)).handlers), one.level, one.propagate)
        for name in ("tocsin", "uvicorn")
    }
    yield lambda **options: set_up_logging(options.pop("stream"), **options)
    for name, (handlers, level, propagate) in kept.items():
        one = logging.getLogger(name)
        one.handlers[:], one.propagate = handlers, propagate
        one.setLevel(level)


def said(logs, event: str, fields: dict | None = None, *, error: bool = False, **options) -> str:
    stream = io.StringIO()
    logs(stream=stream, **options)
    logger = logging.getLogger("tocsin.live.test")
    if error:
        logger.error(event, exc_info=ValueError(fields))
    else:
        logger.info(event, extra={"fields": fields or {}})
    return stream.getvalue()


def test_each_record_is_one_line_of_json_with_its_facts_as_they_are(logs) -> None:
    line = said(
        logs, "snapshot", {"number": 7, "seconds": 0.25, "full": True, "by": None, "bad": float("nan")}, human=False
    )
    found = json.loads(line)
    assert datetime.fromisoformat(found.pop("ts")).tzinfo is not None
    assert found == {
        "level": "info",
        "event": "snapshot",
        "number": 7,
        "seconds": 0.25,
        "full": True,
        "by": None,
        "bad": "nan",
    }


@pytest.mark.parametrize("human", [True, False])
@pytest.mark.parametrize("text", [*HOSTILE, "\x7f\ud800", '" level="error'], ids=repr)
def test_hostile_text_stays_one_inert_line_and_in_json_its_own_value(logs, human: bool, text: str) -> None:
    lines = said(logs, "read", {"path": text, text: 1}, human=human).splitlines()
    assert len(lines) == 1
    assert not has_unsafe(lines[0])
    if not human:
        assert json.loads(lines[0])["path"] == text


def test_secrets_are_blackened_by_name_and_wherever_they_turn_up(logs) -> None:
    for human in (True, False):
        for error in (True, False):
            line = said(
                logs,
                "x hunter22",
                {"password": "p4ss", "url": "http://hunter22@x"},
                human=human,
                error=error,
                secrets=["hunter22"],
            )
            assert "hunter22" not in line
            assert "[secret]" in line
            assert error or "p4ss" not in line


def test_an_error_tells_its_kind_and_in_json_its_traceback(logs) -> None:
    found = json.loads(said(logs, "broken", {"a": 1}, error=True, human=False))
    assert (found["level"], found["error"]) == ("error", "ValueError: {'a': 1}")
    assert "ValueError" in found["traceback"]
    assert said(logs, "broken", {"a": 1}, error=True, human=True).count("\n") == 1


def test_a_pipe_gets_json_and_the_level_is_kept(logs, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(logs, "x").startswith("{")
    assert not said(logs, "x", level="WARNING")
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", stream)
    set_up_logging()
    logging.getLogger("tocsin.live").info("x", extra={"fields": {"file": "a b"}})
    assert stream.getvalue().rstrip().endswith('info    x file="a b"')
