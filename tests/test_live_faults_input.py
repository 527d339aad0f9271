"""Hostile records, and sources that end, turn and die: nothing that was taken is lost, nothing is scored twice.

Layer: tests.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import tocsin as tc
from tests.live_process import (
    CACHED,
    append,
    assert_same,
    engine,
    few_rules,
    kept_scores,
    letters_of,
    log_of,
    replay,
    settings,
    write_log,
)

GOOD = b'"timestamp": "2025-03-05T00:00:00Z", "kind": "mail", "user_id": "eve", "nr_recipients": 29, "size": 1'
POISON = [
    b"no JSON at all",
    b'{"event_id": "cut", ' + GOOD,
    b"\xff\xfe\x00{}",
    b'{"event_id": "bytes", "subject": "\xc3\x28", ' + GOOD + b"}",
    b'{"event_id": "nan", "score": NaN, ' + GOOD + b"}",
    b'{"event_id": "infinite", "score": -Infinity, ' + GOOD + b"}",
    b'{"event_id": "half", "subject": "\\ud800", ' + GOOD + b"}",
    b'{"event_id": "deep", "x": ' + b"[" * 10_000 + b"]" * 10_000 + b", " + GOOD + b"}",
    b"[1, 2, 3]",
    b"17",
    b"null",
    b'{"event_id": "when", "timestamp": {"a": 1}, "kind": "mail", "user_id": "eve"}',
    b'{"event_id": "never", "kind": "mail", "user_id": "eve"}',
    b'{"event_id": "odd", "timestamp": "yesterday", "kind": "mail", "user_id": "eve"}',
]
ODD = [
    (
        b'{"event_id": "nul", "subject": "a\\u0000b", "user_id": "e\\u0000ve", "timestamp": "2025-03-05T00:00:00Z", "kind": "mail", '
        b'"nr_recipients": 29, "size": 1}'
    ),
    b'{"event_id": "twice", "size": 7, ' + GOOD + b"}",
    b'{"event_id": "huge", "more": 1' + b"0" * 400 + b", " + GOOD + b"}",
    b'{"event_id": "typed", "attachments": 5, ' + GOOD + b"}",
    b'{"event_id": "long", "subject": "' + b"x" * 1_000_000 + b'", ' + GOOD + b"}",
]
"""Records that are strange and may yet be events: the batch reader says which."""


def tocsin(folder: Path, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "tocsin", *arguments, "--json"], cwd=folder, capture_output=True, check=True,
        env=os.environ | CACHED | {"NO_COLOR": "1"},
    )  # fmt: skip
    return json.loads(done.stdout)


def test_poison_becomes_letters_byte_for_byte_and_what_is_mended_and_sent_again_is_scored_once(tmp_path: Path):
    events = log_of(1_000)
    path = write_log(tmp_path / "mail.jsonl", events[:200])
    append(path, b"".join(line + b"\n" for line in [*POISON, *ODD]))
    append(path, events[200:])
    read = tc.read(path)
    asked = settings(tmp_path, more=few_rules(tmp_path))
    with engine(tmp_path, asked) as running:
        status = running.until(lambda s: s["events"]["read"] >= len(events) + len(POISON) + len(ODD), "reading")
        assert status["events"]["rejected"] == read.counts.rejected >= len(POISON)
        letters = letters_of(tmp_path)
        assert [x.record for x in letters][: len(POISON)] == POISON
        assert all(x.record in ODD for x in letters[len(POISON) :])
        assert len(letters) == read.counts.rejected
        bad = next(x for x in letters if b'"odd"' in x.record)
        mended = tmp_path / "mended.json"
        mended.write_bytes(b'{"event_id": "odd", "nr_recipients": 30, "size": 1, "timestamp": "2025-03-05T00:00:00Z", "kind": "mail",'
                           b' "user_id": "eve"}')  # fmt: skip
        sent = ["dead-letters", "resend", bad.key, "--record", str(mended), "--state", "state"]
        assert tocsin(tmp_path, *sent)["sent"] == 1
        running.until(lambda s: s["events"]["read"] > status["events"]["read"], "taking it again")
        running.kill()
    with engine(tmp_path, asked, "--once") as last:
        assert last.wait() == 0, last.tail()
    scores = kept_scores(tmp_path / "state").filter(detection="test.many")
    assert scores.filter(event_id="odd")["score"].to_list() == [30.0]
    past = replay(path, tmp_path / "few.py").scores["test.many"].sort("event_id")
    assert scores.filter(event_id="odd").height + past.height == scores.height
    assert scores.join(past, on="event_id", how="anti")["event_id"].to_list() == ["odd"]


# ---- pushed


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Sender(threading.Thread):
    """Pushes events in order, each part until it is acknowledged."""

    def __init__(self, port: int, events: list[dict[str, Any]], size: int = 40) -> None:
        super().__init__(daemon=True)
        self.parts = [events[i : i + size] for i in range(0, len(events), size)]
        self.port, self.acknowledged, self.again = port, 0, 0
        self.stop = threading.Event()

    def run(self) -> None:
        for part in self.parts:
            while not self.stop.is_set() and not self.push(part):
                self.again += 1
                time.sleep(0.05)
            self.acknowledged += 1

    def push(self, part: list[dict[str, Any]]) -> bool:
        body = b"\n".join(json.dumps(e).encode() for e in part)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/events", body, {"Content-Type": "application/x-ndjson"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def test_what_an_http_sender_was_acknowledged_is_scored_once_though_the_engine_is_killed_again_and_again(
    tmp_path: Path,
):
    events = log_of(3_000)
    port = free_port()
    asked = settings(
        tmp_path, sources='[[sources]]\nkind = "http"\nname = "events"\n', rows=100,
        more=few_rules(tmp_path) + f'[http]\nlisten = "127.0.0.1:{port}"\n',
    )  # fmt: skip
    sender = Sender(port, events)
    try:
        for part in (0.2, 0.6):
            with engine(tmp_path, asked) as running:
                if not sender.ident:
                    sender.start()
                while sender.acknowledged < part * len(sender.parts):
                    assert running.process.poll() is None, running.tail()
                    time.sleep(0.005)
                running.kill()
        with engine(tmp_path, asked) as last:
            last.until(lambda _: not sender.is_alive(), "sending all")
            # The closing one lets go all that waits before it.
            closing = {"event_id": "closing", "timestamp": "2025-06-01T00:00:00Z", "kind": "mail", "user_id": "zoe"}
            assert sender.push([closing])
            last.until(lambda s: (s["watermark"] or "") > "2025-05", "reading all")
            last.stop()
    finally:
        sender.stop.set()
    assert sender.again > 0, "it was never interrupted"
    path = write_log(tmp_path / "mail.jsonl", [*events, closing])
    assert_same(tmp_path, replay(path, tmp_path / "few.py"), without="closing")


# ---- sources that end, turn and die


def test_a_log_that_is_rotated_while_the_engine_is_dead_and_while_it_runs_is_read_without_a_gap(tmp_path: Path):
    events = log_of(2_000)
    path = write_log(tmp_path / "mail.jsonl", events[:500])
    asked = settings(tmp_path, more=few_rules(tmp_path), rows=100)

    def rotate(begin: int, end: int) -> None:
        for number in (2, 1):
            old = tmp_path / f"mail.jsonl.{number}"
            if old.exists():
                old.rename(tmp_path / f"mail.jsonl.{number + 1}")
        path.rename(tmp_path / "mail.jsonl.1")
        write_log(path, events[begin:end])

    with engine(tmp_path, asked) as running:
        running.until(lambda s: s["events"]["read"] >= 300, "reading")
        running.kill()
    append(path, events[500:700])
    rotate(700, 1_100)
    with engine(tmp_path, asked) as running:
        running.until(lambda s: s["events"]["read"] >= 500, "reading on")
        append(path, events[1_100:1_300])
        rotate(1_300, 1_700)
        running.until(lambda s: s["events"]["read"] >= 800, "reading on")
        running.kill()
    append(path, events[1_700:])
    with engine(tmp_path, asked, "--finish") as last:
        assert last.wait() == 0, last.tail()
    assert not [e for e in last.log() if e["event"] == "trouble"]
    whole = write_log(tmp_path / "whole.jsonl", events)
    assert_same(tmp_path, replay(whole, tmp_path / "few.py"))


def test_what_came_by_a_pipe_is_kept_over_a_kill(tmp_path: Path):
    events = log_of(1_500)
    asked = settings(
        tmp_path, sources='[[sources]]\nkind = "stdin"\nname = "mail"\n', more=few_rules(tmp_path), rows=100
    )
    with engine(tmp_path, asked, stdin=subprocess.PIPE) as running:
        running.process.stdin.write(b"".join(json.dumps(e).encode() + b"\n" for e in events[:800]))
        running.process.stdin.flush()
        running.until(lambda s: s["events"]["read"] == 800, "reading")
        running.process.stdin.write(b'{"event_id": "torn by the kill')
        running.process.stdin.flush()
        running.kill()
        with contextlib.suppress(BrokenPipeError):
            running.process.stdin.close()
    rest = write_log(tmp_path / "rest.jsonl", events[800:])
    with rest.open("rb") as stdin, engine(tmp_path, asked, "--finish", stdin=stdin) as last:
        assert last.wait() == 0, last.tail()
    whole = write_log(tmp_path / "whole.jsonl", events)
    assert_same(tmp_path, replay(whole, tmp_path / "few.py"))


def test_files_dropped_into_a_folder_are_each_read_once_though_the_engine_is_killed(tmp_path: Path):
    events = log_of(1_800)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    source = '[[sources]]\nkind = "folder"\nname = "mail"\npath = "inbox"\nsettle_seconds = 0\n'
    asked = settings(tmp_path, sources=source, more=few_rules(tmp_path), rows=100)

    def drop(number: int) -> None:
        part = inbox / f"{number}.jsonl.part"
        write_log(part, events[300 * number : 300 * (number + 1)] + (events[1_800:] if number == 5 else []))
        os.utime(part, (1_740_000_000 + number, 1_740_000_000 + number))
        part.rename(inbox / f"{number}.jsonl")

    drop(0)
    drop(1)
    for number in (2, 3):
        with engine(tmp_path, asked) as running:
            running.until(lambda s: s["events"]["read"] >= 200, "reading")
            drop(number)
            running.kill()
    drop(4)
    drop(5)
    with engine(tmp_path, asked, "--finish") as last:
        assert last.wait() == 0, last.tail()
    whole = write_log(tmp_path / "whole.jsonl", events)
    assert_same(tmp_path, replay(whole, tmp_path / "few.py"))
