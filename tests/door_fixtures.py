"""A spool of one file, and clients of the HTTP door: what its tests share."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tocsin.faces.live.door import Door
from tocsin.runners.live.settings import Door as DoorSettings

NOW = datetime(2025, 3, 1, 9, tzinfo=UTC)
TOKEN = "0123456789abcdef-hunter2"
LINES, JSON = "application/x-ndjson", "application/json"


@dataclass
class FileSpool:
    """Appends lines to a file and syncs it; `error` is raised instead, `hold` is waited for first."""

    path: Path
    error: Exception | None = None
    hold: threading.Event | None = None
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    lock: Any = field(default_factory=threading.Lock)
    stamps: list[datetime] = field(default_factory=list)

    def append(self, records: Sequence[bytes], received_at: datetime) -> None:
        self.arrived.release()
        if self.hold is not None:
            assert self.hold.wait(30)
        if self.error is not None:
            raise self.error
        with self.lock, self.path.open("ab") as file:
            file.writelines(record + b"\n" for record in records)
            file.flush()
            os.fsync(file.fileno())
            self.stamps.append(received_at)

    def records(self) -> list[bytes]:
        return self.path.read_bytes().splitlines() if self.path.exists() else []


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class Client:
    """Speaks to one door."""

    door: Door
    spools: dict[str, FileSpool]
    status: dict[str, Any]

    @property
    def spool(self) -> FileSpool:
        return next(iter(self.spools.values()))

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(*self.door.address, timeout=30)
        try:
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def push(self, body: bytes | str, kind: str = LINES, path: str = "/events", **headers: str) -> Answer:
        return self.ask("POST", path, body.encode() if isinstance(body, str) else body, Content_Type=kind, **headers)

    def raw(self) -> socket.socket:
        return socket.create_connection(self.door.address, timeout=30)


@contextlib.contextmanager
def opened(
    folder: Path, *, names: Sequence[str] = ("push",), environ: dict[str, str] | None = None, body_seconds: float = 30.0, **settings: Any
) -> Iterator[Client]:  # fmt: skip
    """A door on a free port, with a spool for each name."""
    spools = {name: FileSpool(folder / f"{name}.spool") for name in names}
    status = {"mode": "live", "at": NOW.isoformat(), "batches": 3}
    made = DoorSettings(**({"listen": "127.0.0.1:0"} | settings))
    door = Door(made, spools, lambda: status, clock=lambda: NOW, environ=environ or {}, body_seconds=body_seconds)
    try:
        yield Client(door.start(), spools, status)
    finally:
        for spool in spools.values():
            if spool.hold is not None:
                spool.hold.set()
        door.stop()
