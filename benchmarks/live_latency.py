"""How long a stateless alert takes at 2,000 events a second: from the event's being written to the alert's being in the log.

Enters: how long. Leaves: percentiles for a growing file and for HTTP push, all shipped rules running: until the row is committed
to the SQLite log, and until the line is in the file of the JSONL output. Layer: none (outside the package).

One mail in forty goes to twelve recipients with an .exe, each from a sender of its own, so that its alert can be told from the
others. A reader of its own looks into the log, and into the file, each millisecond.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import shutil
import socket
import sqlite3
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.live_process import Process, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.live_process import Settings
    from benchmarks.simulated import Organisation

EVENTS_A_SECOND, TICK_SECONDS = 2_000, 0.01
PROBE_EVERY = 40
FIRST_SECOND = 10_000  # numbers of events that the first second does not reach
USERS = 2_000
LOOK_SECONDS = 0.001
SENDERS = 4
DETECTION = "mail.exe-many-recipients"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Watch:
    """Notes when each probe's alert is to be seen in the log, and in the output's file."""

    def __init__(self, log: Path, lines: Path) -> None:
        self.logged: dict[str, float] = {}
        self.told: dict[str, float] = {}
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._look, args=(look,), daemon=True)
            for look in (lambda: self._in_log(log), lambda: self._in_file(lines))
        ]
        for thread in self._threads:
            thread.start()

    def _look(self, begin: Callable[[], Callable[[], None]]) -> None:
        look = begin()
        while not self._end.wait(LOOK_SECONDS):
            look()

    def _in_log(self, path: Path) -> Callable[[], None]:
        log = sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False)
        seen = [0, -1]

        def look() -> None:
            (changed,) = log.execute("PRAGMA data_version").fetchone()
            if changed == seen[1]:
                return
            rows = log.execute(
                "SELECT seq, entity FROM alert WHERE seq > ? AND rule_id = ?", (seen[0], DETECTION)
            ).fetchall()
            now = time.monotonic()
            for seq, entity in rows:
                seen[0] = max(seen[0], seq)
                self.logged.setdefault(entity, now)
            seen[1] = changed

        return look

    def _in_file(self, path: Path) -> Callable[[], None]:
        file = path.open("rb")
        rest = [b""]

        def look() -> None:
            if not (block := file.read()):
                return
            now = time.monotonic()
            *whole, rest[0] = (rest[0] + block).split(b"\n")
            for line in whole:
                for entity in _probes(line):
                    self.told.setdefault(entity, now)

        return look

    def end(self) -> None:
        """Look no longer."""
        self._end.set()
        for thread in self._threads:
            thread.join()


def _probes(line: bytes) -> list[str]:
    """Return the probe that a line is about, if it is about one and of the rule that is watched."""
    if DETECTION.encode() not in line or (at := line.find(b"probe-")) < 0:
        return []
    return [line[at : at + len("probe-00000000")].decode()]


def _send_all(send: Callable[[list[dict[str, Any]]], None], seconds: float, first: int) -> dict[str, float]:
    """Send events at their pace; return when each probe was handed over."""
    sent: dict[str, float] = {}
    began, number, each = time.monotonic(), first, int(EVENTS_A_SECOND * TICK_SECONDS)
    for tick in range(int(seconds / TICK_SECONDS)):
        time.sleep(max(0.0, began + tick * TICK_SECONDS - time.monotonic()))
        stamp = datetime.now(UTC).isoformat()
        events = [_event(number + i, stamp) for i in range(each)]
        number += each
        now = time.monotonic()
        sent |= {e["user_id"]: now for e in events if e["user_id"].startswith("probe")}
        send(events)
    return sent


def _event(number: int, stamp: str) -> dict[str, Any]:
    probe = number % PROBE_EVERY == 0
    user = number * 7 % USERS
    return {
        "event_id": f"latency-{number}", "timestamp": stamp, "kind": "mail", "outcome": "success", "size_bytes": 5_000,
        "user_id": f"probe-{number:08}" if probe else f"user-{user}", "device_id": f"device-{user}",
        "src_ip": f"240.43.{user % 250}.7", "dst_ip": "241.172.64.12", "nr_recipients": 12 if probe else 2,
        "attachments": ["setup.exe"] if probe else [], "nr_attachments": int(probe),
    }  # fmt: skip


def _to_file(path: Path) -> Callable[[list[dict[str, Any]]], None]:
    file = path.open("ab", buffering=0)
    return lambda events: (file.write(_lines(events)), None)[1]


def _to_door(port: int) -> Callable[[list[dict[str, Any]]], None]:
    """Return what pushes events over several connections, as several senders would: none waits for another's answer."""
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def push() -> None:
        door = http.client.HTTPConnection("127.0.0.1", port)
        door.connect()
        door.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            door.request("POST", "/events", waiting.get(), {"Content-Type": "application/x-ndjson"})
            answer = door.getresponse()
            body = answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"the door answered {answer.status}: {body[:300]!r}")

    for _ in range(SENDERS):
        threading.Thread(target=push, daemon=True).start()
    return lambda events: waiting.put(_lines(events))


def _lines(events: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(e).encode() + b"\n" for e in events)


def _settings(how: str, folder: Path, references: dict[str, Path], port: int) -> Settings:
    source = {
        "file": {"kind": "file", "name": "mail", "path": str(folder / "mail.jsonl")},
        "http": {"kind": "http", "name": "mail"},
    }
    settings = settings_of(
        folder, source[how], http={"listen": f"127.0.0.1:{port}"} if how == "http" else {},
        references={"geo": str(references["geo"]), "networks": str(references["networks"]), "threats": [str(references["threats"])]},
    )  # fmt: skip
    return settings | {"outputs": [{"kind": "jsonl", "name": "jsonl", "path": str(folder / "alerts.jsonl")}]}


def measure(how: str, folder: Path, references: dict[str, Path], seconds: float, run_in: float) -> dict[str, Any]:
    """Send for so many seconds after so many of a run-in; return the percentiles of what was sent after that."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "mail.jsonl").touch()
    (folder / "alerts.jsonl").touch(mode=0o600)
    port = _free_port()
    process = Process(_settings(how, folder, references, port), folder)
    try:
        process.until("live")
        send = _to_file(folder / "mail.jsonl") if how == "file" else _to_door(port)
        _send_all(send, 1.0, first=0)  # the log is made with the first alert
        time.sleep(2)
        with closing(sqlite3.connect(folder / "soc.db")) as log:
            assert log.execute("SELECT count(*) FROM alert").fetchone()[0], "the first second raised no alert"
        watch = Watch(folder / "soc.db", folder / "alerts.jsonl")
        sent = _send_all(send, run_in + seconds, first=FIRST_SECOND)
        time.sleep(3)
        watch.end()
    finally:
        ran = process.stop()
    first = min(sent.values()) + run_in
    counted = {user: at for user, at in sent.items() if at >= first}
    took = max(counted.values()) - first
    result: dict[str, Any] = {"probes": len(counted), "events_per_second": len(counted) * PROBE_EVERY / max(took, 1e-9)}
    for name, seen in (("log", watch.logged), ("jsonl", watch.told)):
        delays = np.array([seen[user] - at for user, at in counted.items() if user in seen]) * 1e3
        result[f"{name} missing"] = len(counted) - len(delays)
        result |= {f"{name} p{p}_ms": float(np.percentile(delays, p)) for p in (50, 95, 99)} if len(delays) else {}
    batches = ran.batches()[0]
    return result | {"events_a_batch": float(np.median(batches[:, 1])), "load": os.getloadavg()[0]}


def run(size: Organisation, folder: Path, quick: bool) -> dict[str, Any]:
    """Measure both ways in."""
    references = {name: path.resolve() for name, path in size.make(folder).references.items()}
    seconds, run_in = (3.0, 2.0) if quick else (30.0, 10.0)
    found = {}
    for how in ("file", "http"):
        found[how] = measure(how, (folder / "live-latency").resolve(), references, seconds, run_in)
        print(f"  latency, {how}: {json.dumps(found[how])}", flush=True)
    return {"rate": EVENTS_A_SECOND, "seconds": seconds} | found
