"""One request to one host: who may be told the token, how long to wait, how often to try.

Enters: a path or link, and the token. Leaves: an `Answer`, or a `WorkbenchError` that says what was asked, what came and
what to try, and in which nothing secret is left. Layer: sources.

The token goes to the address that was configured and to no other: every link is compared by scheme, host and port, with
the parser that also opens the connection, before anything is sent; redirects are followed by hand under the same rule.
"""

from __future__ import annotations

import datetime as dt
import ssl
import threading
import zlib
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus

import httpx2
import stamina

from tocsin.errors import WorkbenchAuthError, WorkbenchError
from tocsin.sources.workbench.addresses import checked_base, origin_of, short, shown_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tocsin.sources.workbench.secrets import Secret

    Clock = Callable[[], dt.datetime]
    """Tells the time as an aware datetime."""
    Sleep = Callable[[float], None]
    """Waits for so many seconds."""

ATTEMPTS: Final = 5
TIMEOUT_SECONDS: Final = 60.0
FIRST_WAIT_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 60.0
LONGEST_ASKED_WAIT_SECONDS: Final = 300.0
MOST_REDIRECTS: Final = 5
LARGEST_DOCUMENT_BYTES: Final = 256 << 20
LARGEST_DOWNLOAD_BYTES: Final = 16 << 30
TOO_MANY: Final = 429
UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 401, 403, 404


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said. `body` is empty where it went into a file; `head` is then its beginning."""

    url: str
    status: int
    content_type: str
    body: bytes = field(repr=False)
    head: bytes = field(repr=False)
    size_bytes: int
    retry_after: str | None
    location: str | None
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Skew:
    """How far the server's clock is ahead of ours, in seconds (negative: behind), give or take `uncertainty_seconds`."""

    seconds: float
    uncertainty_seconds: float


@dataclass(frozen=True, slots=True)
class LoginForm:
    """What the login sends: its form, made when it is sent and kept by nobody, and the one-time code."""

    form: Callable[[], bytes]
    code: Secret | None = None


class LinkError(WorkbenchError):
    """A link of the service leads to another host, or in a circle: it cannot be gone on from."""


class _AgainError(Exception):
    """Worth another attempt; carries what went wrong. It never leaves this module."""

    def __init__(self, trouble: str, answer: Answer | None) -> None:
        super().__init__(trouble)
        self.trouble, self.answer = trouble, answer


class Transport:
    """The connections to one address, shared by threads.

    Args:
        url: Scheme, host and port; https, or http where the host is this machine.
        clock: The time, for the skew of clocks and for waits that a server gives as a date.
        sleep: Waits between attempts; None waits in a way that `halt` ends early.
        timeout_seconds: For connecting, and for each piece of an answer.
        attempts: How often a request is tried at most.
        connections: At most so many at a time.
    """

    def __init__(
        self, url: str, *, clock: Clock, sleep: Sleep | None = None, timeout_seconds: float = TIMEOUT_SECONDS,
        attempts: int = ATTEMPTS, connections: int = 8,
    ) -> None:  # fmt: skip
        self.base = checked_base(url)
        self.token: Secret | None = None
        self.secrets: tuple[Secret, ...] = ()
        self.skew: Skew | None = None
        self._clock, self._attempts, self._timeout_seconds = clock, attempts, timeout_seconds
        self._halted = threading.Event()
        self._sleep: Sleep = sleep if sleep is not None else self._halted.wait  # type: ignore[assignment]
        self._lock = threading.Lock()
        secure = self.base.scheme == "https"
        self._http = httpx2.Client(
            timeout=timeout_seconds,
            follow_redirects=False,
            # A proxy that the environment names sees what goes to http in the clear.
            trust_env=secure,
            # Over http no certificate is ever looked at: one that trusts nobody spares reading all authorities.
            verify=True if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            headers={"User-Agent": "tocsin", "Accept": "application/vnd.api+json, application/json, text/csv"},
        )

    def __repr__(self) -> str:
        return f"Transport({self.origin})"

    @property
    def origin(self) -> str:
        """The address, as text."""
        return str(self.base).rstrip("/")

    def close(self) -> None:
        """Close the connections."""
        self.halt()
        self._http.close()

    def halt(self) -> None:
        """Stop: waits end, and nothing further is sent."""
        self._halted.set()

    def resume(self) -> None:
        """Take back a `halt`."""
        self._halted.clear()

    def own(self, link: str, *, said_by: str) -> httpx2.URL:
        """Return a link as an address of this host.

        Raises:
            WorkbenchError: It leads to another scheme, host or port; nothing was sent there.
        """
        try:
            target = self.base.join(link)
        except (httpx2.InvalidURL, ValueError):
            target = None
        if target is None:
            raise LinkError(f"{said_by} gave a link that nobody can read: {short(link)}")
        if origin_of(target) != origin_of(self.base) or target.userinfo:
            raise LinkError(
                f"{said_by} leads to {target.scheme}://{target.netloc.decode('ascii', 'replace').rpartition('@')[2]}, which is not "
                f"{self.origin}; nothing was sent there. If the Workbench has moved, give its new address as url"
            )
        return target

    def get(self, link: str, query: Sequence[tuple[str, str]] = (), *, into: IO[bytes] | None = None) -> Answer:
        """Read one resource; redirects on the same host are followed.

        Raises:
            WorkbenchError: No usable answer; 401 is a WorkbenchAuthError.
        """
        url = self.own(link, said_by="the request")
        if query:
            url = url.copy_merge_params(list(query))
        for _ in range(MOST_REDIRECTS):
            answer = self._persist("GET", url, into=into)
            if not 300 <= answer.status < 400:
                return self._judged(answer)
            if not answer.location:
                raise WorkbenchError(
                    f"{self.origin}{shown_path(url)}: {answer.status} that leads nowhere", status=answer.status
                )
            url = self.own(answer.location, said_by=f"a redirect ({answer.status}) from {shown_path(url)}")
        raise LinkError(f"{self.origin} redirects {shown_path(url)} without end; try its current address as url")

    def post_login(self, link: str, login: LoginForm) -> Answer:
        """Send a login and return the answer, whatever its status below 500."""
        return self._persist("POST", self.own(link, said_by="the request"), login=login)

    # ---- one request, tried several times

    def _persist(
        self, method: str, url: httpx2.URL, *, login: LoginForm | None = None, into: IO[bytes] | None = None
    ) -> Answer:
        tried, failed = 0, None
        pause_seconds = 0.0
        # Whether and how often is stamina's; the waiting itself is ours, so that it can be injected and ended early.
        attempts = stamina.retry_context(
            on=lambda error: 0.0 if isinstance(error, _AgainError) else False,
            attempts=self._attempts, timeout=None, wait_initial=FIRST_WAIT_SECONDS, wait_max=LONGEST_WAIT_SECONDS,
        )  # fmt: skip
        try:
            for attempt in attempts:
                with attempt:
                    if pause_seconds:
                        self._sleep(pause_seconds)
                    if self._halted.is_set():
                        break
                    tried = attempt.num
                    answer, trouble = self._once(method, url, login, into)
                    if answer is not None and answer.status != TOO_MANY and answer.status < 500:
                        return replace(answer, attempts=tried)
                    pause_seconds = self._pause(answer, attempt.next_wait, f"{url.path} {tried}")
                    again = _AgainError(trouble or f"status {answer.status if answer else '?'}", answer)
                    if pause_seconds > LONGEST_ASKED_WAIT_SECONDS:
                        failed = again
                        break
                    raise again
        except _AgainError as last:
            failed = last
        # Raised out here, where no exception of the HTTP library hangs on ours: those hold the request and its headers.
        raise self._given_up(url, tried, failed, pause_seconds)

    def _once(
        self, method: str, url: httpx2.URL, login: LoginForm | None, into: IO[bytes] | None
    ) -> tuple[Answer | None, str]:
        """Send one request; return the answer, or why there is none."""
        sent = self._clock()
        try:
            with self._http.stream(
                method, url, headers=self._headers(login), content=login.form() if login else None
            ) as response:
                self._measure(response.headers.get("date"), sent, self._clock())
                return self._received(response, into), ""
        except httpx2.TimeoutException:
            return None, f"no answer within {self._timeout_seconds:g} s"
        except httpx2.DecodingError:
            return None, "the answer is packed in a way that cannot be unpacked"
        except httpx2.RemoteProtocolError:
            return None, "the connection was closed in the middle of the answer"
        except httpx2.LocalProtocolError:
            return None, "the request could not be put on the wire"  # its message may quote a header
        except httpx2.TransportError as error:
            return None, f"no connection ({self.redact(str(error)) or type(error).__name__})"

    def _headers(self, login: LoginForm | None) -> dict[str, str]:
        if login is not None:
            code = {"x-expelinc-otp": login.code.reveal()} if login.code else {}
            return {"Content-Type": "application/x-www-form-urlencoded", **code}
        return {"Authorization": f"Bearer {self.token.reveal()}"} if self.token else {}

    def _received(self, response: httpx2.Response, into: IO[bytes] | None) -> Answer:
        if into is not None:
            into.seek(0)
            into.truncate()
            into = into if response.status_code == 200 else None  # what is said about an error goes into no file
        limit = LARGEST_DOCUMENT_BYTES if into is None else LARGEST_DOWNLOAD_BYTES
        kept, size = [], 0
        head = b""
        for block in response.iter_bytes():
            size += len(block)
            if size > limit:
                raise WorkbenchError(
                    f"{shown_path(response.url)} answers with more than {limit >> 20:,} MiB; ask for a shorter range of dates"
                )
            head = head or block[:4096]
            if into is None:
                kept.append(block)
            else:
                into.write(block)
        headers = response.headers
        return Answer(
            str(response.url), response.status_code, headers.get("content-type", "").split(";")[0].strip().lower(),
            b"".join(kept), head, size, headers.get("retry-after"), headers.get("location"),
        )  # fmt: skip

    def _pause(self, answer: Answer | None, backoff_seconds: float, salt: str) -> float:
        """Return how long to wait: what the server asked for, or ever longer, spread so that threads do not march in step."""
        spread = 1 + 0.25 * zlib.crc32(salt.encode()) / 2**32
        asked = asked_wait_seconds(answer.retry_after if answer else None, self._clock())
        return backoff_seconds * spread if asked is None else asked

    def _measure(self, date: str | None, sent: dt.datetime, received: dt.datetime) -> None:
        """Compare the server's clock with ours; the quickest answer tells it best."""
        server = _http_date(date)
        if server is None:
            return
        taken = (received - sent).total_seconds()
        # The header is cut to whole seconds, so on average half a second is missing.
        seconds = (server - sent).total_seconds() + 0.5 - taken / 2
        found = Skew(round(seconds, 3), round(0.5 + taken / 2, 3))
        with self._lock:
            if self.skew is None or found.uncertainty_seconds < self.skew.uncertainty_seconds:
                self.skew = found

    # ---- what went wrong, in words

    def _given_up(
        self, url: httpx2.URL, tried: int, failed: _AgainError | None, pause_seconds: float
    ) -> WorkbenchError:
        asked = f"{self.origin}{shown_path(url)}"
        if failed is None:
            return WorkbenchError(f"{asked}: stopped before it was asked", attempts=tried)
        status = failed.answer.status if failed.answer else None
        said = f": {self.said(failed.answer)}" if failed.answer else ""
        times = f"asked {tried} time{'s' if tried != 1 else ''}"
        if pause_seconds > LONGEST_ASKED_WAIT_SECONDS:
            advice = f"it wants to be asked again in {pause_seconds:,.0f} s: run the same command then, what has come is kept"
        elif status is None:
            advice = "look at the address, the network and a proxy; run the same command again, what has come is kept"
        else:
            advice = "run the same command again later, what has come is kept"
        return WorkbenchError(f"{asked}: {failed.trouble} ({times}){said}; {advice}", status=status, attempts=tried)

    def _judged(self, answer: Answer) -> Answer:
        """Return an answer that can be used; others become errors."""
        if answer.status == 200:
            return answer
        asked = f"{self.origin}{shown_path(httpx2.URL(answer.url))}"
        said = f"{asked}: {answer.status} {self.said(answer)}"
        if answer.status == UNAUTHORIZED:
            raise WorkbenchAuthError(
                f"{said}. The key or session is not (or no longer) accepted: log in again; what has come is kept",
                status=answer.status, attempts=answer.attempts,
            )  # fmt: skip
        advice = {FORBIDDEN: "ask for the right to read it", NOT_FOUND: "is the address right?"}.get(answer.status)
        raise WorkbenchError(f"{said}{f'; {advice}' if advice else ''}", status=answer.status, attempts=answer.attempts)

    def said(self, answer: Answer) -> str:
        """Return what an answer says about itself, in one short line without secrets."""
        return self.redact(short(_message(answer)))

    def redact(self, text: str) -> str:
        """Return a text of somebody else's without our secrets in it."""
        for secret in (*self.secrets, *((self.token,) if self.token else ())):
            for written in {secret.reveal(), quote_plus(secret.reveal())} - {""}:
                text = text.replace(written, "[secret]")
        return text


def _http_date(text: str | None) -> dt.datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def asked_wait_seconds(retry_after: str | None, now: dt.datetime) -> float | None:
    """Return the seconds that Retry-After names, as a number or a date.

    >>> now = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
    >>> [asked_wait_seconds(t, now) for t in ("3", "Thu, 01 Oct 2026 00:00:09 GMT", "soon", None)]
    [3.0, 9.0, None, None]
    """
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    until = _http_date(retry_after)
    return None if until is None else max(0.0, (until - now).total_seconds())


def _message(answer: Answer) -> str:
    """Return what the service wrote about an error, in any of its known shapes."""
    import json

    try:
        document: Any = json.loads(answer.body)
    except ValueError:
        what = "a page for browsers" if answer.head.lstrip()[:1] == b"<" else "no JSON"
        return f"({what}, {answer.content_type or 'no content type'}, {answer.size_bytes:,} bytes)"
    if isinstance(document, dict):
        errors = document.get("errors")
        if isinstance(errors, list) and errors and isinstance(errors[0], dict):
            document = errors[0]
        for key in ("detail", "title", "message", "error_description", "error", "status"):
            if document.get(key):
                return str(document[key])
    return f"(an error of unknown shape, {answer.size_bytes:,} bytes)"
