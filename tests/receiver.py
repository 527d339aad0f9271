"""What tests of outputs work with: a receiver of webhooks that behaves as badly as it is told, alerts, settings."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from log_rows import findings

from tocsin.alerts import Alerts
from tocsin.runners.live.delivery import Patience
from tocsin.runners.live.settings import JsonlOutput, WebhookOutput

QUICK = Patience(first_wait_seconds=0.005, longest_wait_seconds=0.02, longest_asked_seconds=0.3, poll_seconds=0.02)
DEADLINE_SECONDS = 30.0


def eventually(holds: Callable[[], object]) -> None:
    """Wait until something holds, and fail if it never does."""
    until = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(0.005)


def add_alerts(log: Alerts, first: int, count: int = 1, **about: object) -> list[str]:
    """Raise alerts about users with these numbers; return their ids, in order."""
    rows = [{"finding_id": f"{n:032x}", "entity": f"u{n:04}"} for n in range(first, first + count)]
    for row in rows:
        log.add(findings(row, **about))
    known = dict(log.history().alerts.select("entity", "alert_id").iter_rows())
    return [known[row["entity"]] for row in rows]


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float  # monotonic

    @property
    def alert_id(self) -> str:
        return json.loads(self.body)["alert_id"]


@dataclass
class Receiver:
    """A real server. `plan`: what it does with the first requests, then always 200."""

    plan: list[object] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    url: str = ""
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def got(self) -> list[str]:
        return [r.alert_id for r in self.requests]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    receiver: Receiver

    def setup(self) -> None:
        super().setup()
        self.receiver.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = Request(self.path, {k.lower(): v for k, v in self.headers.items()}, body, time.monotonic())
        step = self.receiver.plan.pop(0) if self.receiver.plan else 200
        if step == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.receiver.requests.append(request)
        if step == "reset":
            self.connection.close()
            self.close_connection = True
        elif step == "hang":
            self.receiver.released.wait(DEADLINE_SECONDS)
            self.close_connection = True
        elif step == "endless":
            self._drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n")
        elif step == "flood":
            self._drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, pause_seconds=0)
        elif step == "endless headers":
            self._drip(b"HTTP/1.1 200 OK\r\n", b"X")
        elif step == "nonsense":
            self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            self.close_connection = True
        else:
            status, headers, text = step if isinstance(step, tuple) else (step, {}, b"")
            self.send_response(status)
            for name, value in {"Content-Length": str(len(text)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

    def _drip(self, head: bytes, drop: bytes, pause_seconds: float = 0.01) -> None:
        self.close_connection = True
        try:
            self.wfile.write(head)
            while not self.receiver.released.wait(pause_seconds):
                self.wfile.write(drop)
        except OSError:
            return  # it was left

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        pass  # a client that leaves in the middle is what is tested


def webhook(receiver: Receiver, **more: object) -> WebhookOutput:
    return WebhookOutput(kind="webhook", url=receiver.url, allow_private=True, **more)


def jsonl(path: Path, **more: object) -> JsonlOutput:
    return JsonlOutput(kind="jsonl", path=path, **more)
