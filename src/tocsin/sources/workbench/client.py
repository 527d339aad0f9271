"""What the Workbench can be asked: a login, pages of resources, the metrics export.

Enters: credentials, links, a range of time. Leaves: plain values as the service sent them. Layer: sources.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from tocsin.errors import WorkbenchAuthError, WorkbenchError
from tocsin.sources.workbench.secrets import ApiKey, Login, Secret
from tocsin.sources.workbench.transport import FORBIDDEN, NOT_FOUND, UNAUTHORIZED, LinkError, LoginForm, Transport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tocsin.sources.workbench.secrets import Credentials
    from tocsin.sources.workbench.transport import Answer

LOGIN: Final = "/auth/v0/login"
ALERTS: Final = "/api/v2/expel_alerts"
EXPORTS: Final = ("/api/v2/service_metrics/export", "/api/v2/service_metrics/export/beta")
"""Where the export has been documented; the second is where the vendor's later examples ask."""
PAGE_ROWS: Final = 200
MOST_PAGES: Final = 100_000

Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list: its resources as sent, the link to the next (None: this was the last), and the total told."""

    resources: list[Resource]
    next: str | None
    total: int | None


@dataclass(frozen=True, slots=True)
class Export:
    """Which path gave the export, and what was tried in vain before."""

    path: str
    size_bytes: int
    refused: tuple[str, ...]


def log_in(transport: Transport, credentials: Credentials) -> None:
    """Make the transport send what proves who asks; a key is not tested by this (see `count_alerts`).

    A login takes two steps: the service answers the first, without the one-time code, with 401 even when the password
    is right, and takes the code in the second.

    Raises:
        WorkbenchAuthError: User, password or code were refused.
        WorkbenchError: The address answers something else than a login.
    """
    if isinstance(credentials, ApiKey):
        transport.token = credentials.key
        return
    transport.secrets = (credentials.password, credentials.code)
    answer = transport.post_login(LOGIN, LoginForm(lambda: _form(credentials)))
    if answer.status == UNAUTHORIZED:
        answer = transport.post_login(LOGIN, LoginForm(lambda: _form(credentials), credentials.code))
    if answer.status in {UNAUTHORIZED, FORBIDDEN}:
        raise WorkbenchAuthError(
            f"{transport.origin} refused the login: {transport.said(answer)}. Check user and password, and take a fresh one-time code",
            status=answer.status,
        )
    token = _token_of(answer)
    if token is None:
        raise WorkbenchError(
            f"{transport.origin}{LOGIN} answered {answer.status} without a token: {transport.said(answer)}. "
            "Is this the address of a Workbench?",
            status=answer.status,
        )
    transport.token = token


def _form(who: Login) -> bytes:
    return urlencode({"grant_type": "password", "username": who.user, "password": who.password.reveal()}).encode()


def _token_of(answer: Answer) -> Secret | None:
    try:
        token = json.loads(answer.body)["access_token"] if answer.status == 200 else None
    except (ValueError, KeyError, TypeError):
        return None
    return Secret(token) if isinstance(token, str) and token and all("!" <= c <= "~" for c in token) else None


def count_alerts(transport: Transport) -> int | None:
    """Return how many alerts whoever asks may see: one small call that needs a right token."""
    return read_page(transport, ALERTS, (("page[limit]", "0"),)).total


def read_document(transport: Transport, link: str, query: Sequence[tuple[str, str]] = ()) -> Resource:
    """Read one JSON document.

    Raises:
        WorkbenchError: The answer is no JSON object.
    """
    answer = transport.get(link, query)
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = None
    if not isinstance(document, dict) or "data" not in document:
        raise WorkbenchError(
            f"{answer.url}: expected a document with data, and got {transport.said(answer)}. Is this the address of a Workbench?",
            status=answer.status, attempts=answer.attempts,
        )  # fmt: skip
    return document


def read_page(transport: Transport, link: str, query: Sequence[tuple[str, str]] = ()) -> Page:
    """Read one page of a list."""
    document = read_document(transport, link, query)
    data = document["data"]
    resources = [one for one in (data if isinstance(data, list) else [data]) if isinstance(one, dict)]
    following = (document.get("links") or {}).get("next")
    if isinstance(following, dict):  # JSON:API lets a link be an object
        following = following.get("href")
    total = ((document.get("meta") or {}).get("page") or {}).get("total")
    return Page(resources, following or None, total if isinstance(total, int) else None)


def pages(transport: Transport, link: str, query: Sequence[tuple[str, str]] = ()) -> Iterator[Page]:
    """Read a list page by page until no next one is named.

    Raises:
        WorkbenchError: The pages lead in a circle, or to another host.
    """
    asked: set[str] = set()
    known: set[str] = set()
    following: str | None = link
    while following is not None:
        page = read_page(transport, following, query)
        query = ()
        yield page
        asked.add(following)
        following = page.next
        ids = {str(resource.get("id")) for resource in page.resources}
        if following is not None and (following in asked or ids <= known or len(asked) >= MOST_PAGES):
            raise LinkError(
                f"{transport.origin}{link.partition('?')[0]}: the pages lead in a circle: page {len(asked)} brings nothing new "
                "and yet names a next one"
            )
        known |= ids


def between(low: dt.datetime, high: dt.datetime) -> tuple[tuple[str, str], ...]:
    """Return the query for the alerts created in ``[low, high)``, a page at a time.

    The service knows "later than" only, so a millisecond more is asked for; the rows are checked when they are here.
    """
    return (
        ("filter[created_at]", f">{utc(low - dt.timedelta(milliseconds=1))}"),
        ("filter[created_at]", f"<{utc(high)}"),
        ("sort", "+created_at"),
        ("sort", "+id"),
        ("page[limit]", str(PAGE_ROWS)),
    )


def utc(moment: dt.datetime) -> str:
    """Return an instant as the service writes it in queries.

    >>> import datetime as dt
    >>> utc(dt.datetime(2026, 10, 1, 6, tzinfo=dt.UTC))
    '2026-10-01T06:00:00Z'
    """
    text = moment.astimezone(dt.UTC).isoformat(timespec="milliseconds" if moment.microsecond else "seconds")
    return text.replace("+00:00", "Z")


def alert_path(alert_id: str, relation: str = "") -> str:
    """Return where an alert, or what hangs on it, is read; an id cannot lead anywhere else.

    >>> alert_path("../x", "evidence")
    '/api/v2/expel_alerts/..%2Fx/evidence'
    """
    return f"{ALERTS}/{quote(alert_id, safe='')}" + (f"/{relation}" if relation else "")


def related(alert: Resource | None, alert_id: str, relation: str) -> str:
    """Return the link that an alert names for a relation, or the documented path where it names none."""
    link: Any = alert
    for key in ("relationships", relation, "links", "related"):
        link = link.get(key) if isinstance(link, dict) else None
    return link if isinstance(link, str) and link else alert_path(alert_id, relation)


def download_export(transport: Transport, low: dt.datetime, high: dt.datetime, into: IO[bytes]) -> Export:
    """Write the export of ``[low, high)`` into a file, from the first known path that exists.

    Raises:
        WorkbenchError: Neither path exists, or what came is no CSV: a page for browsers, JSON, or nothing at all.
    """
    query = (("filter[from]", utc(low)), ("filter[to]", utc(high)))
    refused: list[str] = []
    missing: WorkbenchError | None = None
    for path in EXPORTS:
        try:
            answer = transport.get(path, query, into=into)
        except WorkbenchError as error:
            if error.status != NOT_FOUND:
                raise
            missing = error
            refused.append(path)
            continue
        _check_csv(transport, path, answer)
        return Export(path, answer.size_bytes, tuple(refused))
    raise WorkbenchError(
        f"{transport.origin} has no metrics export at {' or '.join(EXPORTS)}; ask whether the account may read service metrics",
        status=missing.status if missing else None,
    )


def _check_csv(transport: Transport, path: str, answer: Answer) -> None:
    start = answer.head.lstrip(b"\xef\xbb\xbf \t\r\n")
    what = ""
    if not start:
        what = "an empty body instead of CSV"
    elif start[:1] == b"<" or answer.content_type == "text/html":
        what = "a page for browsers (HTML) instead of CSV"
    elif start[:1] in {b"{", b"["}:
        what = "JSON instead of CSV"
    elif b"," not in start.split(b"\n", 1)[0]:
        what = "a first line without commas instead of CSV"
    if what:
        raise WorkbenchError(
            f"{transport.origin}{path} answered with {what}. Something between here and the Workbench (a sign-in page, a proxy) may "
            "have answered in its place; open the address in a browser to see",
            status=answer.status, attempts=answer.attempts,
        )  # fmt: skip
