"""Expel Workbench as a source of alert history: log in, fetch a range of dates, keep what came.

Enters: an address, credentials, local dates in a named zone. Leaves: a folder of raw files with a manifest, and `Fetched`.
What becomes of the files is the matter of `tocsin.sources.histories`. Layer: sources.

>>> from tocsin.sources.workbench import ApiKey, Secret
>>> ApiKey(Secret("k-1"))
ApiKey(key=Secret(...))
"""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tocsin.calendars import Calendar, moment
from tocsin.errors import WorkbenchAuthError, WorkbenchError
from tocsin.sources.workbench import client
from tocsin.sources.workbench.fetch import Fetching, silent
from tocsin.sources.workbench.fetched import Fetched, FetchError, fetched_of, open_fetched
from tocsin.sources.workbench.kept import Kept
from tocsin.sources.workbench.secrets import (
    ApiKey,
    Credentials,
    Login,
    Secret,
    find_credentials,
    store_api_key,
    stored_api_key,
)
from tocsin.sources.workbench.transport import ATTEMPTS, TIMEOUT_SECONDS, Skew, Transport

if TYPE_CHECKING:
    from tocsin.sources.workbench.fetch import Progress
    from tocsin.sources.workbench.transport import Clock, Sleep

DEFAULT_URL: Final = "https://workbench.expel.io"
CONCURRENCY: Final = 8
_EPOCH: Final = dt.date(1970, 1, 1)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Workbench:
    """A connection to Expel Workbench.

    Args:
        url: Its address; https, or http where the host is this machine.
        credentials: An `ApiKey` or a `Login`; see `find_credentials`.
        clock: Tells the time, for the skew of clocks and the times of asking in the manifest.
        sleep: Waits between attempts; None waits really.
        concurrency: How many requests may be under way at a time.
        timeout_seconds: For connecting, and for each piece of an answer.
        attempts: How often a request is tried when the service is busy (429), fails (5xx) or cannot be reached.

    Nothing is sent before it is needed: the first call logs in.
    """

    def __init__(
        self, url: str = DEFAULT_URL, credentials: Credentials | None = None, *, clock: Clock = _now, sleep: Sleep | None = None,
        concurrency: int = CONCURRENCY, timeout_seconds: float = TIMEOUT_SECONDS, attempts: int = ATTEMPTS,
    ) -> None:  # fmt: skip
        if concurrency < 1 or attempts < 1:
            raise WorkbenchError("concurrency and attempts are at least 1")
        self._transport = Transport(
            url, clock=clock, sleep=sleep, timeout_seconds=timeout_seconds, attempts=attempts, connections=concurrency
        )
        self._credentials, self._clock, self._concurrency = credentials, clock, concurrency
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Workbench({self.url!r})"

    @property
    def url(self) -> str:
        """The address: scheme, host and port."""
        return self._transport.origin

    @property
    def skew(self) -> Skew | None:
        """How far the server's clock is ahead of ours; None before the first answer."""
        return self._transport.skew

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def login(self) -> int | None:
        """Log in and prove it by one call that needs it; return how many alerts may be seen, if the service says.

        Raises:
            WorkbenchAuthError: Nobody was given, or whoever was given is refused.
            WorkbenchError: No answer, or none that a Workbench gives.
        """
        with self._lock:
            if self._transport.token is None:
                if self._credentials is None:
                    raise WorkbenchAuthError(
                        f"nobody is given to log in at {self.url}: pass credentials=find_credentials(...)[0]"
                    )
                client.log_in(self._transport, self._credentials)
        return client.count_alerts(self._transport)

    def fetch(
        self, since: str | dt.date, until: str | dt.date, zone: str, *, into: str | Path, evidence: bool = True,
        progress: Progress | None = None,
    ) -> Fetched:  # fmt: skip
        """Fetch the alerts created in ``[since, until)`` into a folder.

        The same call into the same folder goes on where the last one stopped; a folder that is complete sends nothing.

        Args:
            since: First local date, such as "2026-10-01".
            until: The local date after the last.
            zone: The IANA zone whose dates these are; they are asked for as instants in UTC.
            into: The folder; made if it is not there.
            evidence: Also list the alerts and read evidence and vendor alerts of each: two requests an alert.
            progress: Told the stage, how many are here, and how many there will be.

        Raises:
            WorkbenchAuthError: The credentials are refused, or are no longer accepted.
            WorkbenchError: The export cannot be had, the folder is another fetch's, or the dates are none.
        """
        low, high = span(since, until, zone)
        asked = {
            "url": self.url,
            "since": str(_date(since, "since")),
            "until": str(_date(until, "until")),
            "zone": zone,
            "from": client.utc(low),
            "to": client.utc(high),
        }
        kept = Kept(Path(into), asked)
        if (
            kept.manifest["complete"]
            and kept.manifest["with_evidence"] >= evidence
            and all(map(kept.holds, kept.files))
        ):
            return fetched_of(kept.folder, kept.manifest)
        self.login()
        told = progress or silent
        return Fetching(self._transport, kept, low, high, self._clock, told, self._concurrency).run(evidence=evidence)


def span(since: str | dt.date, until: str | dt.date, zone: str) -> tuple[dt.datetime, dt.datetime]:
    """Return the instants, in UTC, at which two local dates begin.

    Raises:
        WorkbenchError: No dates, or the second is not after the first.
        CalendarError: No such zone.

    >>> [i.isoformat() for i in span("2026-03-08", "2026-03-09", "America/Denver")]  # clocks go forward: 23 hours
    ['2026-03-08T07:00:00+00:00', '2026-03-09T06:00:00+00:00']
    """
    days = Calendar("1d", zone)
    first, last = (_date(value, name) for value, name in ((since, "since"), (until, "until")))
    if first >= last:
        raise WorkbenchError(f"until ({last}) is the day after the last one and must be later than since ({first})")
    low, high = (moment(days.begin((day - _EPOCH).days)) for day in (first, last))
    return low, high


def _date(value: str | dt.date, name: str) -> dt.date:
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    try:
        return dt.date.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise WorkbenchError(f"{name}: {value!r} is no date; write one like 2026-10-01") from None


__all__ = [
    "DEFAULT_URL", "ApiKey", "Credentials", "FetchError", "Fetched", "Login", "Secret", "Skew", "Workbench", "WorkbenchAuthError",
    "WorkbenchError", "find_credentials", "open_fetched", "span", "store_api_key", "stored_api_key",
]  # fmt: skip
