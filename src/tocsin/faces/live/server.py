"""The server under the HTTP door: how long it waits, and what stands around every request and answer.

Enters: an ASGI application. Leaves: uvicorn's server, which says when it is ready and hangs up on who only trickles; safe
headers, problems as JSON, one line a request in the log. Layer: faces.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from starlette.responses import JSONResponse, Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from tocsin.faces.live.tokens import names_this_machine

if TYPE_CHECKING:
    import asyncio
    from collections import Counter
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOG: Final = logging.getLogger("tocsin.live.http")
HEADER_SECONDS: Final = 10.0
ABANDONED: Final = 499
"""Counted where a request got no answer at all."""
_SAFE_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Server(uvicorn.Server):
    """A server that says when it is ready, or that it will never be."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    def run(self, sockets: list[Any] | None = None) -> None:
        """Serve until told to stop."""
        try:
            super().run(sockets)
        finally:
            self.ready.set()

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        self.ready.set()


class PatientProtocol(H11Protocol):
    """HTTP/1.1 with an end to patience: a connection on which no request comes is closed, however its bytes trickle."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a first request."""
        super().connection_made(transport)
        self._expect(None)

    def on_response_complete(self) -> None:
        """Begin to wait for the next."""
        super().on_response_complete()
        self._expect(self.cycle)

    def _expect(self, last: Any) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self.loop.call_later(HEADER_SECONDS, self._hang_up, last)

    def _hang_up(self, last: Any) -> None:
        idle = last is None or last.response_complete
        if self.cycle is last and idle and not self.transport.is_closing():
            self.transport.close()


class Guard:
    """What stands around every request: safe headers, a line in the log, no answer that shows an error's inside.

    local_only: nobody is asked for a token, so only a client that knows it speaks to this machine is answered: a page in
    a browser that was led here under another name is not.
    """

    def __init__(self, app: ASGIApp, answers: Counter[int], *, local_only: bool) -> None:
        self._app, self._answers, self._local_only = app, answers, local_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        told: dict[str, Any] = {}
        scope["told"] = told
        started = time.perf_counter()

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                told["status"] = message["status"]
                self._answers[message["status"]] += 1
                message["headers"] = [*message.get("headers", ()), *_SAFE_HEADERS]
            await send(message)

        try:
            host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), None)
            if self._local_only and not names_this_machine(host):
                await problem(421, "Without a token, only this machine is answered.")(scope, receive, send_safely)
            else:
                await self._app(scope, receive, send_safely)
        except Exception:  # noqa: BLE001 - it has been answered, without its inside; what it was is for the log
            _LOG.exception("request failed")
        finally:
            if "status" not in told:
                self._answers[ABANDONED] += 1
            self._log(scope, told, time.perf_counter() - started)

    def _log(self, scope: Scope, told: dict[str, Any], seconds: float) -> None:
        status = told.pop("status", ABANDONED)
        quiet = status < 400 and scope["method"] == "GET"
        client = scope["client"][0] if scope.get("client") else None
        facts = {"client": client, "method": scope["method"], "path": scope["path"][:100], "status": status}
        level = logging.DEBUG if quiet else logging.INFO if status < 500 else logging.WARNING
        _LOG.log(level, "request", extra={"fields": facts | told | {"ms": round(1000 * seconds, 1)}})


def problem(status: int, why: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON problem (RFC 9457)."""
    from http import HTTPStatus

    body = {"status": status, "title": HTTPStatus(status).phrase, "detail": why}
    return JSONResponse(body, status, dict(headers or {}), media_type="application/problem+json")
