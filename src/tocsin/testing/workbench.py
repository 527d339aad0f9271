"""A server that answers as Expel Workbench does, on a free port of this machine.

Enters: alerts as plain values (`example_alerts`), and faults to switch on. Leaves: an HTTP server for the two-step
login, the metrics export, and reads of alerts, their evidence and their vendor alerts; and every request it has seen.
Layer: testing (standard library only).

It is as faithful as the real client `pyexclient` can tell, which the tests run against it. Nothing here knows
of our own client.

>>> with StandIn(example_alerts(2, seed=1)) as server:
...     server.url.startswith("http://127.0.0.1:")
True
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import itertools
import json
import threading
from dataclasses import dataclass, field
from email.utils import format_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from tocsin.testing.workbench_data import CSV_COLUMNS, Alert, example_alerts, timestamp
from tocsin.testing.workbench_faults import Fault, Faults
from tocsin.testing.workbench_filters import field_of, inside, moment, passes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXPORTS: Final = ("/api/v2/service_metrics/export", "/api/v2/service_metrics/export/beta")
DEFAULT_PAGE: Final = 50
LARGEST_PAGE: Final = 200
_RELATIONS: Final = {"evidence": "vendor_alert_evidences", "vendor_alerts": "vendor_alerts"}


@dataclass(frozen=True)
class Seen:
    """One request as it arrived; header names are in lower case."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: dict[str, str] = field(repr=False)
    body: str = field(repr=False)

    @property
    def authorization(self) -> str:
        """What the request said to prove who sent it."""
        return self.headers.get("authorization", "")


@dataclass(frozen=True)
class _Reply:
    status: int
    body: bytes
    content_type: str = "application/vnd.api+json; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class StandIn:
    """The server. Start it by `with`, or by `start()` and `close()`.

    Args:
        alerts: What it knows; see `tocsin.testing.workbench_data` for their form.
        user: Who may log in, with `password` and the one-time code `otp`.
        password: See `user`.
        otp: See `user`.
        api_key: A bearer token that needs no login.
        exports: Which of the two paths of the export exist.
        needs_otp: False: the first step of a login answers with the token, as without a second factor.
        page_size: Alerts per page where the request names no limit, and the most it may ask for.
        now: The server's clock, an aware datetime; it is what the header Date says. None is the machine's.
    """

    def __init__(
        self, alerts: Sequence[Alert] = (), *, user: str = "ada@example.org", password: str = "stand-in password",  # noqa: S107
        otp: str = "123456", api_key: str = "stand-in-api-key", exports: Sequence[str] = EXPORTS, needs_otp: bool = True,
        page_size: int | None = None, now: Callable[[], dt.datetime] | None = None,
    ) -> None:  # fmt: skip
        self.alerts = list(alerts)
        self.user, self.password, self.otp, self.api_key = user, password, otp, api_key
        self.exports, self.needs_otp = tuple(exports), needs_otp
        self.page_size, self.largest_page = page_size or DEFAULT_PAGE, page_size or LARGEST_PAGE
        self.now = now or (lambda: dt.datetime.now(dt.UTC))
        self.faults = Faults()
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        self._tokens: set[str] = set()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="stand-in", daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop, and free the port."""
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def fail(self, fault: Fault) -> None:
        """Switch a fault on."""
        self.faults.add(fault)

    def count(self, part: str = "", method: str = "GET") -> int:
        """Return how many requests of this method have come to paths that hold `part`."""
        return sum(one.method == method and part in one.path for one in list(self.seen))

    def end_sessions(self) -> None:
        """Forget all tokens that logins have given: whoever uses one is told 401."""
        with self._lock:
            self._tokens.clear()

    # ---- answers

    def answer(self, seen: Seen) -> _Reply:
        """Return the right answer to a request, faults aside."""
        if seen.path == "/auth/v0/login" and seen.method == "POST":
            return self._login(seen)
        if seen.method != "GET":
            return _error(405, f"{seen.method} is not allowed here")
        if not self._known(seen.authorization):
            return _error(401, "The access token is invalid or has expired")
        if seen.path in self.exports:
            return self._export(seen.query)
        match seen.path.removeprefix("/api/v2/").split("/"):
            case ["expel_alerts"]:
                return self._list(seen)
            case ["expel_alerts", alert_id]:
                found = self._find(alert_id)
                return _error(404, "No such alert") if found is None else _json({"data": self._resource(found)})
            case ["expel_alerts", alert_id, relation] if relation in _RELATIONS:
                found = self._find(alert_id)
                return _error(404, "No such alert") if found is None else self._related(seen, found, relation)
        return _error(404, f"There is nothing at {seen.path}")

    def _known(self, authorization: str) -> bool:
        kind, _, token = authorization.partition(" ")
        with self._lock:
            return kind == "Bearer" and (token == self.api_key or token in self._tokens)

    def _login(self, seen: Seen) -> _Reply:
        form = dict(parse_qsl(seen.body))
        if "application/x-www-form-urlencoded" not in seen.headers.get("content-type", ""):
            return _error(415, "The login takes a form")
        if form.get("grant_type") != "password":
            return _json({"error": "unsupported_grant_type", "error_description": "grant_type must be password"}, 400)
        right = (form.get("username"), form.get("password")) == (self.user, self.password)
        code = seen.headers.get("x-expelinc-otp")
        if not right or (self.needs_otp and code != self.otp):
            # Without a code the right password is told 401 as well: that is how the service asks for the code.
            said = "One-time code required" if right and code is None else "Invalid user, password or code"
            return _json({"error": "invalid_grant", "error_description": said}, 401)
        with self._lock:
            token = f"stand-in-session-{next(self._numbers)}-of-{len(self.user)}"
            self._tokens.add(token)
        return _json({"access_token": token, "token_type": "Bearer", "expires_in": 3600})

    def _export(self, query: tuple[tuple[str, str], ...]) -> _Reply:
        asked = dict(query)
        try:
            low, high = (moment(asked[f"filter[{name}]"]) for name in ("from", "to"))
        except (KeyError, ValueError):
            return _json(
                {"message": "filter[from] and filter[to] must be times", "validation": {"keys": ["filter"]}}, 400
            )
        rows = [a["csv"] for a in self.alerts if inside(a.get("csv", {}).get("Insert At (T3)"), low, high)]
        extra = [c for row in rows for c in row if c not in CSV_COLUMNS]
        out = io.StringIO()
        writer = csv.DictWriter(out, [*CSV_COLUMNS, *dict.fromkeys(extra)], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return _Reply(200, out.getvalue().encode(), "text/csv; charset=utf-8")

    def _find(self, alert_id: str) -> Alert | None:
        return next((a for a in self.alerts if a["id"] == alert_id), None)

    def _resource(self, alert: Alert) -> Alert:
        at = f"/api/v2/expel_alerts/{alert['id']}"
        return {
            "type": "expel_alerts",
            "id": alert["id"],
            "attributes": alert.get("attributes", {}),
            "relationships": {
                name: {
                    "links": {"self": f"{at}/relationships/{name}", "related": f"{at}/{name}"},
                    "meta": {"relation": {"foreign": type_, "total": len(alert.get(name, ()))}},
                }
                for name, type_ in _RELATIONS.items()
            },
        }

    def _related(self, seen: Seen, alert: Alert, relation: str) -> _Reply:
        resources = [
            {
                "type": _RELATIONS[relation],
                "id": f"{alert['id']}-{relation}-{i}",
                "attributes": attributes,
                "relationships": {},
            }
            for i, attributes in enumerate(alert.get(relation, ()))
        ]
        return self._paged(seen, resources)

    def _list(self, seen: Seen) -> _Reply:
        tests = [(name[len("filter[") : -1], value) for name, value in seen.query if name.startswith("filter[")]
        found = [a for a in self.alerts if all(passes(a, name, value) for name, value in tests)]
        # Later keys matter less, and sorting keeps the order of equals: so the last key first.
        for key in reversed([value for name, value in seen.query if name == "sort"] or ["+created_at", "+id"]):
            name = key.lstrip("+- ")  # a plus that nobody encoded arrives as a blank
            found.sort(key=lambda a, name=name: str(field_of(a, name) or ""), reverse=key.startswith("-"))  # type: ignore[misc]
        return self._paged(seen, [self._resource(a) for a in found])

    def _paged(self, seen: Seen, resources: list[Alert]) -> _Reply:
        asked = parse_qs(urlencode(seen.query))
        try:
            limit = min(int(asked.get("page[limit]", [str(self.page_size)])[0]), self.largest_page)
            offset = int(asked.get("page[offset]", ["0"])[0])
        except ValueError:
            return _error(400, "page[limit] and page[offset] must be numbers")
        links = {"self": _link(seen, offset, limit)}
        if limit and offset + limit < len(resources):
            links["next"] = _link(seen, offset + limit, limit)
        page = {"total": len(resources), "limit": limit, "offset": offset}
        return _json(
            {"data": resources[offset : offset + limit] if limit else [], "links": links, "meta": {"page": page}}
        )


def _link(seen: Seen, offset: int, limit: int) -> str:
    kept = [(name, value) for name, value in seen.query if not name.startswith("page[")]
    return f"{seen.path}?{urlencode([*kept, ('page[offset]', offset), ('page[limit]', limit)])}"


def _json(value: Any, status: int = 200) -> _Reply:
    return _Reply(status, json.dumps(value).encode())


def _error(status: int, detail: str) -> _Reply:
    title = HTTPStatus(status).phrase
    return _json({"errors": [{"status": str(status), "title": title, "detail": detail}]}, status)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that have gone away; a mistake of ours is told as usual."""
        import sys

        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _handler_of(stand_in: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        owner = stand_in

    return Handler


class _Handler(BaseHTTPRequestHandler):
    owner: ClassVar[StandIn]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        """Answer a read."""
        self._serve()

    def do_POST(self) -> None:
        """Answer a login."""
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep quiet: `seen` is the log."""

    def date_time_string(self, timestamp: float | None = None) -> str:  # noqa: ARG002
        """Return what the server's clock shows."""
        return format_datetime(self.owner.now().astimezone(dt.UTC), usegmt=True)

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        query = tuple(parse_qsl(parts.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, parts.path, query, headers, body)
        self.owner.seen.append(seen)
        fault = self.owner.faults.meet(parts.path)
        self._send(
            self.owner.answer(seen) if fault is None else self._spoilt(fault, seen),
            cut=fault is not None and fault.kind == "cut",
        )

    def _spoilt(self, fault: Fault, seen: Seen) -> _Reply:
        after = () if fault.retry_after is None else (("Retry-After", fault.retry_after),)
        page = b"<!doctype html><title>Sign in</title><p>This is a page for people."
        match fault.kind:
            case "hang":
                self.owner.closing.wait()
                self.close_connection = True
                return _Reply(503, b"")
            case "redirect":
                return _Reply(302, b"", headers=(("Location", fault.location),))
            case "html":
                return _Reply(200, page, "text/html")
            case "empty":
                return _Reply(200, b"", "text/csv")
            case "not-json":
                return _Reply(fault.status, page, "text/html", after)
            case "odd-json":
                return _Reply(fault.status, b'["no", "error", "anybody", "knows"]', headers=after)
            case "echo":
                plain = _error(
                    fault.status, f"Refused: {seen.authorization} {seen.headers.get('x-expelinc-otp')} {seen.body}"
                )
                return _Reply(plain.status, plain.body, headers=after)
            case "next-elsewhere" | "next-again":
                return self._led_astray(fault, seen)
            case "cut":
                return self.owner.answer(seen)
        plain = _error(fault.status, "The stand-in was told to fail")
        return _Reply(plain.status, plain.body, plain.content_type, after)

    def _led_astray(self, fault: Fault, seen: Seen) -> _Reply:
        right = self.owner.answer(seen)
        if right.status != HTTPStatus.OK:
            return right
        document = json.loads(right.body)
        if fault.kind == "next-again":
            return _json(document | {"links": {"next": self.path}})
        data = document["data"]
        for resource in data if isinstance(data, list) else [data]:
            for relation in resource.get("relationships", {}).values():
                relation["links"]["related"] = fault.location + relation["links"]["related"]
        return _json(document | {"links": {"next": fault.location + self.path}})

    def _send(self, reply: _Reply, *, cut: bool) -> None:
        self.send_response(reply.status)
        for name, value in (
            ("Content-Type", reply.content_type),
            ("Content-Length", str(len(reply.body))),
            *reply.headers,
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body[: len(reply.body) // 2] if cut else reply.body)
        self.wfile.flush()
        if cut:
            self.close_connection = True


__all__ = ["EXPORTS", "Fault", "Seen", "StandIn", "example_alerts", "timestamp"]
