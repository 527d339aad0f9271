"""What may happen to a running engine happens to real ones here, and what they wrote equals the replay.

Layer: tests. The long form (``TOCSIN_SOAK=1``, `make soak`) kills an engine a hundred times over a million events.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import tocsin as tc
from tests.live_process import (
    SOAK,
    Engine,
    append,
    assert_same,
    dead_letters,
    engine,
    few_rules,
    letters_of,
    log_of,
    replay,
    replay_arrivals,
    settings,
    write_log,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVENTS, KILLS = (1_000_000, 100) if SOAK else (20_000, 4)
OTHER_EVENTS, OTHER_KILLS = (300_000, 30) if SOAK else (8_000, 2)
PAUSE_SECONDS = 1.5
UNREADABLE = 3


def chance() -> random.Random:
    """Chance with a seed that is printed."""
    seed = random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed}")
    return random.Random(seed)


def run_and_kill(folder: Path, asked: str, events: list[dict[str, Any]], kills: int, dice: random.Random) -> Path:
    """Let a log grow, start an engine and kill it, again and again, and let the last one finish; return the log.

    A kill comes at some moment of reading; one in four at some moment after the start, perhaps while it recovers.
    """
    path = write_log(folder / "mail.jsonl", [])
    size = -(-len(events) // (kills + 1))
    for part in range(kills + 1):
        append(path, events[part * size : (part + 1) * size])
        if part == kills:
            break
        with engine(folder, asked) as running:
            if dice.random() < 0.75:
                running.until(lambda s: s["mode"] == "live", "going on after a kill")
            time.sleep(dice.uniform(0, PAUSE_SECONDS))
            running.kill()
    with engine(folder, asked, "--finish") as last:
        assert last.wait() == 0, last.tail()
    return path


# ---- kill -9


def test_an_engine_killed_at_random_moments_and_started_again_ends_with_every_score_of_the_replay(tmp_path):
    path = run_and_kill(tmp_path, settings(tmp_path, rows=2_000 if SOAK else 500), log_of(EVENTS), KILLS, chance())
    assert_same(tmp_path, replay(path))


def doubled_and_shuffled(events: list[dict[str, Any]], dice: random.Random) -> list[dict[str, Any]]:
    """Every event up to 55 minutes after its time, and one in five again, up to a day later."""
    sent = [(_seconds(e) + dice.uniform(0, 55 * 60), e) for e in events]
    sent += [(at + dice.uniform(0, 86_400), e) for at, e in sent if dice.random() < 0.2]
    return [e for _, e in sorted(sent, key=lambda pair: pair[0])]


def some_too_late(events: list[dict[str, Any]], dice: random.Random) -> list[dict[str, Any]]:
    """One event in fifty 2 to 26 hours after its time."""
    sent = [(_seconds(e) + (dice.uniform(2, 26) * 3600 if dice.random() < 0.02 else 0), e) for e in events]
    return [e for _, e in sorted(sent, key=lambda pair: pair[0])]


def _seconds(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["timestamp"]).timestamp()


@pytest.mark.parametrize("mixed", [doubled_and_shuffled, some_too_late])
def test_input_that_comes_twice_in_disorder_and_too_late_gives_the_replay_of_its_arrivals_whenever_it_is_killed(
    tmp_path, mixed: Callable[..., list[dict[str, Any]]]
):
    dice = chance()
    asked = settings(tmp_path, rows=2_000 if SOAK else 300, more=few_rules(tmp_path))
    path = run_and_kill(tmp_path, asked, mixed(log_of(OTHER_EVENTS), dice), OTHER_KILLS, dice)
    rules = tc.load_rules(tmp_path / "few.py")
    past = replay_arrivals(path, rules)
    assert_same(tmp_path, past)
    with dead_letters(tmp_path) as letters:
        listed = letters.late()["event_id"]
    assert past.counts["duplicate"] > 0
    assert listed.is_unique().all()
    assert len(listed) == past.counts["late"]
    lines = path.read_bytes().count(b"\n")
    assert sum(past.counts.values()) == lines
    if mixed is doubled_and_shuffled:
        assert past.counts["late"] == 0
        assert_same(tmp_path, replay(path, rules))
    else:
        assert 0.01 * lines < past.counts["late"] < 0.03 * lines
        in_time = past.scores["test.own"].filter(pl.col("event_id").is_in(listed.implode()))
        assert in_time.drop_nulls("score").is_empty(), "who comes too late is in no measure"


# ---- one at a time


def test_a_second_engine_is_refused_while_the_first_is_only_paused_and_the_first_goes_on(tmp_path):
    events = log_of(3_000)
    path = write_log(tmp_path / "mail.jsonl", events[:1_500])
    asked = settings(tmp_path, more=few_rules(tmp_path))
    with engine(tmp_path, asked) as first:
        first.until(lambda s: s["events"]["read"] >= 500, "reading")
        os.kill(first.process.pid, signal.SIGSTOP)
        append(path, events[1_500:])
        before = max((tmp_path / "state" / "batches").glob("*.log")).read_bytes()
        with engine(tmp_path, asked) as second:
            assert second.wait() == UNREADABLE
        assert f"the process {first.process.pid} works with this state folder" in second.words()
        assert max((tmp_path / "state" / "batches").glob("*.log")).read_bytes() == before
        os.kill(first.process.pid, signal.SIGCONT)
        first.until(lambda s: s["events"]["read"] == len(events), "going on")
        first.stop()
    with engine(tmp_path, asked, "--finish") as last:
        assert last.wait() == 0
    assert_same(tmp_path, replay(path, tmp_path / "few.py"))


# ---- a clean stop


def stop_in_time(running: Engine) -> None:
    """SIGTERM, and the end within five seconds of the share that we have of this machine."""
    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert running.stop() < 5 * crowd


def test_sigterm_in_the_middle_of_a_backlog_ends_at_once_and_the_next_start_has_nothing_to_do_again(tmp_path):
    events = log_of(8_000)
    path = write_log(tmp_path / "mail.jsonl", events)
    asked = settings(tmp_path, rows=50, more=few_rules(tmp_path))
    with engine(tmp_path, asked) as running:
        status = running.until(lambda s: s["events"]["read"] > 0, "reading")
        stop_in_time(running)
        assert status["events"]["read"] < len(events)
    with engine(tmp_path, asked, "--finish") as last:
        assert last.wait() == 0
    started, recovered = [[e for e in last.log() if e["event"] == word][-1] for word in ("started", "recovered")]
    assert started["ts"] <= recovered["ts"]
    assert 0 < recovered["snapshot"] == recovered["entries"]
    assert_same(tmp_path, replay(path, tmp_path / "few.py"))


def test_sigterm_during_recovery_ends_at_once_and_what_was_done_again_is_kept(tmp_path):
    path = write_log(tmp_path / "mail.jsonl", log_of(3_000))
    asked = settings(tmp_path, rows=10, more=few_rules(tmp_path))
    rarely = asked.replace("soc", "rarely")
    (tmp_path / rarely).write_text((tmp_path / asked).read_text().replace("every_seconds = 0.3", "every_seconds = 999"))
    with engine(tmp_path, rarely) as running:
        running.until(lambda s: s["batches"] >= 200, "reading")
        running.kill()
    with engine(tmp_path, rarely) as again:
        again.until(lambda s: s["mode"] == "recovering" and s["batches"] > 0, "recovering")
        stop_in_time(again)
    with engine(tmp_path, asked, "--finish") as last:
        assert last.wait() == 0
    first, second, third = (e for e in last.log() if e["event"] == "recovered")
    assert first["entries"] == 0 == second["snapshot"]
    assert 0 < second["entries"] == third["snapshot"]
    assert_same(tmp_path, replay(path, tmp_path / "few.py"))


# ---- clocks


TWO = "".join(f'[[sources]]\nkind = "file"\nname = "{n}"\npath = "{n}.jsonl"\n' for n in ("mail", "web"))


def timed(n: int, at: datetime, user: str, **more: Any) -> dict[str, Any]:
    return {
        "event_id": f"{user}{n}",
        "timestamp": at.isoformat(),
        "kind": "mail",
        "user_id": user,
        "nr_recipients": 1,
        "size": 1,
    } | more


def watermark(status: dict[str, Any]) -> str:
    return status["watermark"] or ""


def test_a_source_that_stalls_holds_the_others_back_only_until_it_counts_as_idle_and_then_comes_late(tmp_path):
    start = datetime.fromisoformat("2025-03-03T00:00:00+00:00")
    asked = settings(tmp_path, sources=TWO, more=few_rules(tmp_path) + '[times]\nidle_after = "2s"\n')
    mail, web = tmp_path / "mail.jsonl", tmp_path / "web.jsonl"
    write_log(web, [timed(0, start, "bob")])
    with engine(tmp_path, asked) as running:
        running.until(lambda s: s["events"]["read"] == 1, "hearing of both")
        write_log(mail, [timed(n, start + timedelta(hours=n), "ada") for n in range(10)])
        running.until(lambda s: watermark(s) > "2025-03-03T07", "going on without the one that stalls")
        append(web, [timed(1, start + timedelta(hours=1), "bob"), timed(2, start + timedelta(hours=9), "bob")])
        status = running.until(lambda s: s["events"]["read"] == 13, "hearing it again")
        assert status["events"]["late"] == 1
        running.stop()
    with engine(tmp_path, asked, "--finish") as last:
        assert last.wait() == 0
    with dead_letters(tmp_path) as letters:
        assert letters.late().select("event_id", "partition").rows() == [("bob1", "web/")]


def test_an_event_of_ten_years_hence_closes_no_window_and_is_reported(tmp_path):
    events = log_of(4_000)
    bad = timed(0, datetime.fromisoformat("2036-01-01T00:00:00+00:00"), "eve")
    path = write_log(tmp_path / "mail.jsonl", [*events[:2_000], bad, *events[2_000:]])
    asked = settings(tmp_path, more=few_rules(tmp_path))
    with engine(tmp_path, asked) as running:
        status = running.until(lambda s: s["events"]["read"] == len(events) + 1, "reading all")
        assert watermark(status) < "2026"
        assert status["events"]["future"] + status["events"]["rejected"] == 1
        assert status["dead_letters"] == 1
        running.kill()
    with engine(tmp_path, asked, "--finish") as last:
        assert last.wait() == 0
    (letter,) = letters_of(tmp_path)
    assert letter.record == json.dumps(bad).encode()
    assert "future" in letter.reason
    assert_same(tmp_path, replay(path, tmp_path / "few.py"))
