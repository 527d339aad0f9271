"""What an output is given and what it may answer: alerts as JSON, "not now", "never this one".

Enters: rows of the alert log. Leaves: `Told`, one JSON object an alert, the same bytes whenever it is told; the errors of a
delivery; how long to wait. Layer: runners.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

import polars as pl

from tocsin.errors import TocsinError
from tocsin.lifecycle.frames import ALERT, TIME

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

FORMAT: Final = 1
FIELDS: Final = (
    "alert_id", "created_at", "severity", "title", "rule_id", "rule_version", "tier", "entity_kind", "entity", "score", "threshold",
    "window_start", "window_end", "first_activity_at", "observables", "evidence", "table_digest", "is_test",
)  # fmt: skip
"""What is told of an alert, in this order, after which comes ``format``."""
_JSON: Final = ("observables", "evidence")
_TIMES: Final = tuple(name for name in FIELDS if ALERT.get(name) == TIME)


class NotNowError(TocsinError):
    """An output cannot take anything now; it is tried again. wait_seconds: what it asked for itself."""

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class RefusedError(TocsinError):
    """An output refuses this very alert; it may take others. answer: what it said, of somebody else's making."""

    def __init__(self, message: str, answer: str = "") -> None:
        super().__init__(message)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Told:
    """An alert of the log, its row number, and its JSON object in ASCII."""

    seq: int
    alert_id: str
    severity: str
    body: bytes


class Target(Protocol):
    """Where an output delivers. One thread calls `deliver`; nothing is kept between calls but connections."""

    at_once: int
    """How many alerts it takes at a time."""

    def deliver(self, alerts: Sequence[Told]) -> None:
        """Deliver all, so that they stay delivered.

        Raises:
            NotNowError: Not all were; they are given again.
            RefusedError: The one alert that was given is refused.
        """

    def interrupt(self) -> None:
        """End what is under way, from another thread."""

    def close(self) -> None:
        """Let everything go."""


@dataclass(frozen=True)
class Patience:
    """How often and how long: seconds but for ``tries``, after which an alert that is refused is set aside.

    poll_seconds: how often the log is looked at although nobody said that there is something new.
    """

    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 60.0
    longest_asked_seconds: float = 300.0
    poll_seconds: float = 5.0
    tries: int = 5

    def wait_seconds(self, failed: int, salt: str, asked: float | None = None) -> float:
        """Return how long to wait after so many failures in a row: twice as long each time, less up to a half by the salt.

        What was asked for is waited at least, within bounds: a wrong header must not silence an output for a year.

        >>> [round(Patience().wait_seconds(n, "a"), 1) for n in (1, 2, 3, 99)], Patience().wait_seconds(1, "a", 7.0)
        ([0.4, 0.5, 1.4, 36.2], 7.0)
        """
        longest = min(self.longest_wait_seconds, self.first_wait_seconds * 2.0 ** min(failed - 1, 30))
        own = longest * (1 - zlib.crc32(f"{salt} {failed}".encode()) / 2**33)
        return max(own, min(asked or 0.0, self.longest_asked_seconds))


def told_alerts(rows: pl.DataFrame) -> list[Told]:
    """Return alerts as `Alerts.raised_after` gives them, told."""
    texts = rows.with_columns(pl.col(_TIMES).dt.strftime("%Y-%m-%dT%H:%M:%S.%6fZ"))
    return [
        Told(row["seq"], row["alert_id"], row["severity"], as_json({name: _value(name, row[name]) for name in FIELDS}))
        for row in texts.iter_rows(named=True)
    ]


def as_json(fields: dict[str, Any]) -> bytes:
    """Return one line of ASCII: nothing that an attacker wrote steers the terminal which shows it."""
    return json.dumps(fields | {"format": FORMAT}, separators=(",", ":"), allow_nan=False).encode()


def utc_text(when: datetime) -> str:
    """Return a time as outputs write it.

    >>> from datetime import UTC, datetime
    >>> utc_text(datetime(2026, 1, 5, 9, tzinfo=UTC))
    '2026-01-05T09:00:00.000000Z'
    """
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _value(name: str, value: Any) -> Any:
    """Return a field's value; what the log holds as JSON becomes part of the object, or stays a text where it is none."""
    if name not in _JSON or value is None:
        return value
    try:
        return json.loads(value, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return value


def _no_number(_text: str) -> NoReturn:
    raise ValueError("NaN and infinities are not JSON")
