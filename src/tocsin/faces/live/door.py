"""The HTTP door: events are pushed through it into the spool, and the engine shows how it is.

Enters: requests. Leaves: records in a spool, and answers: an event is acknowledged once it is on disk, never before.
Layer: faces. `POST /events` (or `/events/NAME`), `GET /health`, `GET /metrics`. It runs in a thread of the engine's
process; one event loop reads bodies, a few threads unpack and spool them, so who is slow delays nobody else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tocsin.errors import SettingsError, TocsinError
from tocsin.faces.live.bodies import RefusedError, Taken, check_headers, take, unpack
from tocsin.faces.live.server import Guard, PatientProtocol, Server, problem
from tocsin.faces.live.tokens import Gate, listening_socket, read_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from starlette.types import ASGIApp

    from tocsin.runners.live.settings import Door as DoorSettings

_LOG: Final = logging.getLogger("tocsin.live.http")
ALIVE_MODES: Final = frozenset({"recovering", "live", "shadow", "waiting"})
STUCK_SECONDS: Final = 30.0
"""A status that is older than this comes from an engine that has stopped turning."""
MOST_BODIES_HELD: Final = 4
"""So many times the largest body is held in memory at once, of all senders together; whoever is next tries again."""
MOST_CONNECTIONS: Final = 256
SMALL_BYTES: Final = 64 << 10
"""A body so small is read at once: a thread of its own would take it up later than it is done."""
UNPACKERS, WRITERS = 2, 16
FULL_SECONDS, BUSY_SECONDS = 10, 1
STOP_SECONDS: Final = 2
DRAIN_SECONDS, _STRANGERS_BYTES = 2.0, 1 << 20


class Spool(Protocol):
    """Where pushed records go (`tocsin.sources.live.spool`)."""

    def append(self, records: Sequence[bytes], received_at: datetime) -> object:
        """Return once the records are on disk for good; threads that append at once share the cost.

        Raises:
            OSError, TocsinError: They could not be kept; none of them counts as received.
        """


class Door:
    """The door of one engine.

    Args:
        settings: Where it listens, whose token it wants, how much it takes (`listen` may not be None).
        spools: The spool of each http source, by the source's name.
        status: Returns the status that the engine wrote last, or None before the first.
        clock: The time that events are received at, and that the status is held against.
        environ: Where `token_env` is looked up; None: the environment of the process.
        body_seconds: How long a body may take to arrive.

    Raises:
        SettingsError: The token cannot be read, or other machines could push events without one.
    """

    def __init__(
        self,
        settings: DoorSettings,
        spools: Mapping[str, Spool],
        status: Callable[[], Mapping[str, Any] | None],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        environ: Mapping[str, str] | None = None,
        body_seconds: float = 60.0,
    ) -> None:
        if settings.listen is None:
            raise SettingsError("http.listen: say where to listen, such as 127.0.0.1:8080.")
        self._settings, self._spools, self._status, self._clock = settings, dict(spools), status, clock
        self._body_seconds = body_seconds
        self._gate = Gate(read_token(settings, os.environ if environ is None else environ), time.monotonic)
        self._socket = listening_socket(settings.listen, guarded=not self._gate.open)
        self._answers: Counter[int] = Counter()
        self._events: Counter[str] = Counter()
        self._bytes = self._spool_refusals = self._held = 0
        self._stopping = False
        self._unpackers = ThreadPoolExecutor(UNPACKERS, "tocsin-unpack")
        self._writers = ThreadPoolExecutor(WRITERS, "tocsin-spool")
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on; the real port where 0 was asked for."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    @property
    def url(self) -> str:
        """Where it is reached."""
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def counted(self) -> dict[str, Any]:
        """Return what the door counted: answers by code, events by outcome, bytes received, bodies that found no room."""
        return {
            "answers": dict(self._answers),
            "events": dict(self._events),
            "bytes": self._bytes,
            "spool_refusals": self._spool_refusals,
        }

    def start(self) -> Self:
        """Listen; return once requests are answered."""
        config = uvicorn.Config(
            self.app(), http=PatientProtocol, ws="none", lifespan="off", loop="asyncio",
            log_config=None, access_log=False, server_header=False, proxy_headers=False,
            limit_concurrency=MOST_CONNECTIONS, timeout_graceful_shutdown=STOP_SECONDS,
        )  # fmt: skip
        self._server = Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="tocsin-door", daemon=True
        )
        self._thread.start()
        self._server.ready.wait()
        if not self._server.started:
            raise SettingsError(f"http.listen: {self._settings.listen!r}: the door could not be opened.")
        _LOG.info("door open", extra={"fields": {"url": self.url, "guarded": not self._gate.open}})
        return self

    def stop(self) -> None:
        """Take nothing more, answer what is being written, and close; within a few seconds, whatever clients do."""
        self._stopping = True
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(2 * STOP_SECONDS)
            if self._thread.is_alive():
                self._server.force_exit = True
                self._thread.join(STOP_SECONDS)
        self._socket.close()
        for pool in (self._unpackers, self._writers):
            pool.shutdown(wait=False, cancel_futures=True)

    def app(self) -> ASGIApp:
        """Return the application as ASGI, for a server of one's own."""
        routes = [
            Route("/events", self._post_events, methods=["POST"]),
            Route("/events/{name}", self._post_events, methods=["POST"]),
        ]
        if self._settings.metrics:
            routes += [Route("/health", self._health), Route("/metrics", self._metrics)]
        made = Starlette(routes=routes, exception_handlers={HTTPException: _no_route, Exception: _broken})
        made.router.redirect_slashes = False
        return Guard(made, self._answers, local_only=self._gate.open)

    async def _post_events(self, request: Request) -> Response:
        told: dict[str, Any] = request.scope["told"]
        try:
            spool = self._admit(request)
            lines, encoding = check_headers(
                request.headers.get("content-type"), request.headers.get("content-encoding")
            )
            taken = await self._receive(request, spool, lines=lines, encoding=encoding)
        except RefusedError as refused:
            await _drain(request, _STRANGERS_BYTES if refused.status == 401 else 2 * self._settings.max_body_bytes)
            told["why"] = refused.why
            return problem(refused.status, refused.why, refused.headers)
        except ClientDisconnect:
            told["why"] = "the sender went away"
            return problem(400, "The body ended too early.")
        answer = taken.answer()
        told |= {"accepted": answer["accepted"], "review": answer["accepted_for_review"]}
        self._events.update(
            accepted=answer["accepted"] - answer["accepted_for_review"],
            review=answer["accepted_for_review"],
            rejected=answer["rejected_count"],
        )
        return JSONResponse(answer, 413 if taken.rejected and not taken.records else 200)

    def _admit(self, request: Request) -> Spool:
        """Return the spool that is meant, if this sender may push now; nothing of the body has been read."""
        code = self._gate.check(request.headers.get("authorization"), request.client.host if request.client else "")
        if code == 401:
            raise RefusedError(401, "Send the token: Authorization: Bearer ...", {"WWW-Authenticate": "Bearer"})
        if code == 429:
            raise RefusedError(429, "Too many wrong tokens.", {"Retry-After": "60"})
        if self._stopping:
            raise RefusedError(503, "The engine is stopping.", {"Retry-After": str(FULL_SECONDS)})
        name = request.path_params.get("name")
        if name is None and len(self._spools) == 1:
            return next(iter(self._spools.values()))
        if name not in self._spools:
            raise RefusedError(
                404, "No http source of this name is configured: POST /events, or /events/NAME where there are several."
            )
        return self._spools[name]

    async def _receive(self, request: Request, spool: Spool, *, lines: bool, encoding: str) -> Taken:
        """Read, unpack and spool a body."""
        told: dict[str, Any] = request.scope["told"]
        limits, loop = self._settings, asyncio.get_running_loop()
        held = _Held(self)
        try:
            body = await self._read(request, held)
            told["bytes"] = len(body)
            self._bytes += len(body)
            cut = partial(take, lines=lines, most_event_bytes=limits.max_event_bytes)
            if encoding == "identity" and len(body) <= SMALL_BYTES:
                taken = cut(body)
            else:
                unpacked = await loop.run_in_executor(self._unpackers, unpack, body, encoding, limits.max_body_bytes)
                held.more(len(unpacked) if encoding != "identity" else 0)
                del body
                taken = await loop.run_in_executor(self._unpackers, cut, unpacked)
            if taken.records:
                await loop.run_in_executor(self._writers, spool.append, taken.records, self._clock())
        except (OSError, TocsinError) as error:
            self._spool_refusals += 1
            _LOG.error("spool refused", extra={"fields": {"error": str(error)}})
            raise RefusedError(
                503, "The events could not be kept; send them again later.", {"Retry-After": str(FULL_SECONDS)}
            ) from None
        finally:
            held.release()
        return taken

    async def _read(self, request: Request, held: _Held) -> bytes:
        most = self._settings.max_body_bytes
        told_size = request.headers.get("content-length", "0")
        if not told_size.isdecimal() or int(told_size) > most:
            raise _too_large(most)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._body_seconds):
                async for part in request.stream():
                    size += len(part)
                    if size > most:
                        raise _too_large(most)
                    held.more(len(part))
                    parts.append(part)
                    if self._held > MOST_BODIES_HELD * most:
                        raise RefusedError(429, "Too many bodies at once.", {"Retry-After": str(BUSY_SECONDS)})
        except TimeoutError:
            raise RefusedError(408, "The body took too long to arrive.", {"Connection": "close"}) from None
        return b"".join(parts)

    def hold(self, size: int) -> None:
        """Count bytes of bodies that are in memory; they are let go of with a negative number."""
        self._held += size

    async def _health(self, _request: Request) -> Response:
        """Say 200 while the engine turns or recovers, 503 while it stops or is stuck."""
        status = self._status() or {}
        mode = str(status.get("mode", "starting"))
        alive = mode in ALIVE_MODES and not self._stopping
        stuck = alive and (self._clock() - datetime.fromisoformat(status["at"])).total_seconds() > STUCK_SECONDS
        return JSONResponse({"mode": "stuck" if stuck else mode}, 200 if alive and not stuck else 503)

    async def _metrics(self, request: Request) -> Response:
        from tocsin.faces.live.prometheus import exposition

        page, content_type = exposition(self._status(), self.counted(), request.headers.get("accept", ""))
        return Response(page, headers={"Content-Type": content_type})


class _Held:
    """The bytes that one request keeps in memory, counted at the door."""

    def __init__(self, door: Door) -> None:
        self._door, self._size = door, 0

    def more(self, size: int) -> None:
        self._size += size
        self._door.hold(size)

    def release(self) -> None:
        self._door.hold(-self._size)
        self._size = 0


def _too_large(most: int) -> RefusedError:
    return RefusedError(
        413, f"The body is larger than {most:,} bytes. Send fewer events at once.", {"Connection": "close"}
    )


async def _no_route(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    why = (
        "Use the method that Allow names." if status == 405 else "There are POST /events, GET /health and GET /metrics."
    )
    return problem(status, why, headers)


async def _broken(_request: Request, _error: Exception) -> Response:
    return problem(500, "This is an error of the engine; its log says more.")


async def _drain(request: Request, most_bytes: int) -> None:
    """Read on for a while and keep nothing: a client that is still sending would otherwise never see why it was refused."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            async for part in request.stream():
                most_bytes -= len(part)
                if most_bytes < 0:
                    return
    except (TimeoutError, ClientDisconnect, RuntimeError):  # RuntimeError: all of it was read before
        return
