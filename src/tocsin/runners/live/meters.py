"""What a running engine counts of itself: events, latency, rules, sources, snapshots, outputs, trouble.

Enters: one call a batch, and one whenever something else is known; the time is an argument. Leaves: the status, one dict
that JSON can hold, which `tocsin status` and `/metrics` show. Any thread may call. Layer: runners.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUS_FORMAT: Final = 1
"""Raised when a key of the status changes its meaning or goes away; new keys do not raise it."""
FATES: Final = ("accepted", "late", "duplicate", "conflict", "future", "rejected")
LATENCY_BATCHES, LATENCY_SECONDS = 1000, 60.0
RATE_SECONDS: Final = 10.0
_SLOTS_PER_SECOND: Final = 10
MOST_TROUBLES, LONGEST_TEXT, MOST_SOURCES = 20, 500, 10_000


class Tallied(Protocol):
    """What one rule did so far (`tocsin.engine.apply.Tally`)."""

    events: int
    scored: int
    fired: int
    findings: int
    suppressed: int
    unscored: dict[str, int]
    error: str


def iso(at: datetime) -> str:
    """Return an aware time as ISO text in UTC.

    >>> iso(datetime(2025, 3, 1, 9, 30, tzinfo=UTC))
    '2025-03-01T09:30:00Z'
    """
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def quantile(ordered: list[float], part: float) -> float | None:
    """Return the smallest value that is not below the given part of them (nearest rank); None of none.

    >>> quantile([1.0, 2.0, 3.0, 4.0], 0.5), quantile([], 0.5)
    (2.0, None)
    """
    if not ordered:
        return None
    return ordered[max(0, -(-int(part * 1000) * len(ordered) // 1000) - 1)]


class Meters:
    """The counters of one run of the engine.

    Args:
        version: Of tocsin.
        pid: Of the process.
        started_at: When it started (aware).

    >>> meters = Meters("0.1.0", 7, datetime(2025, 3, 1, tzinfo=UTC))
    >>> noon = datetime(2025, 3, 1, 12, tzinfo=UTC)
    >>> meters.batch(1000, 0.05, {"accepted": 998, "late": 2}, findings=3, at=noon)
    >>> status = meters.status(noon)
    >>> status["events"]["late"], status["latency_ms"]["p50"], status["events"]["per_second"]
    (2, 50.0, 100.0)
    """

    def __init__(self, version: str, pid: int, started_at: datetime) -> None:
        self._lock = threading.Lock()
        self._about = {"pid": pid, "version": version, "started_at": iso(started_at)}
        self._started = started_at.timestamp()
        self._mode = "recovering"
        self._read = self._batches = self._findings = 0
        self._busy_seconds = 0.0
        self._fates: Counter[str] = Counter()
        self._latencies: deque[tuple[float, float]] = deque(maxlen=LATENCY_BATCHES)
        self._rate: deque[list[int]] = deque()
        self._sources: dict[tuple[str, str], dict[str, Any]] = {}
        self._watermark: datetime | None = None
        self._rules: dict[str, dict[str, Any]] = {}
        self._skipped: dict[str, str] = {}
        self._state: dict[str, Any] = {"entities": {}, "ids": 0, "waiting": 0, "bytes": 0}
        self._snapshot: dict[str, Any] | None = None
        self._dead_letters = 0
        self._outputs: dict[str, dict[str, Any]] = {}
        self._trouble: deque[dict[str, Any]] = deque(maxlen=MOST_TROUBLES)

    def mode(self, mode: str) -> None:
        """Say what the engine does now: recovering, live, shadow, waiting, stopping or stopped."""
        with self._lock:
            self._mode = mode

    def batch(self, rows: int, seconds: float, counts: Mapping[str, int], findings: int, at: datetime) -> None:
        """Count a batch.

        Args:
            rows: Records that were read, whatever became of them.
            seconds: From the batch being cut until its findings are there.
            counts: What became of the events, by fate (`FATES`); fates that are not named are zero.
            findings: How many it gave.
            at: When it was done.
        """
        now = at.timestamp()
        slot = int(now * _SLOTS_PER_SECOND)
        with self._lock:
            self._batches += 1
            self._read += rows
            self._findings += findings
            self._busy_seconds += seconds
            self._fates.update(counts)
            self._latencies.append((now, seconds))
            if self._rate and self._rate[-1][0] >= slot:
                self._rate[-1][1] += rows
            else:
                self._rate.append([slot, rows])
            self._forget(now)

    def rules(self, tallies: Mapping[str, Tallied], versions: Mapping[str, int | str]) -> None:
        """Take over what the rules did so far; both by rule id. What is not named is no rule any more."""
        told = {
            name: {
                "id": name, "version": versions.get(name), "events": tally.events, "scored": tally.scored, "fired": tally.fired,
                "findings": tally.findings, "suppressed": tally.suppressed, "unscored": dict(tally.unscored),
                "errors": tally.unscored.get("error", 0), "error": _cut(tally.error) or None,
            }
            for name, tally in tallies.items()
        }  # fmt: skip
        with self._lock:
            self._rules = told

    def skipped(self, why: Mapping[str, str]) -> None:
        """Say which rules do not run at all, and why; by rule id."""
        with self._lock:
            self._skipped = {name: _cut(text) for name, text in why.items()}

    def source(
        self, source: str, partition: str, *, behind: int, unit: str, watermark: datetime | None = None, idle: bool = False
    ) -> None:  # fmt: skip
        """Say how far a partition is: what lies there unread (in bytes or messages), and its watermark."""
        told = {"source": source, "partition": partition, "behind": behind, "unit": unit}
        with self._lock:
            self._sources.pop(
                (source, partition), None
            )  # the one that was heard of longest ago stands first, and goes first
            while len(self._sources) >= MOST_SOURCES:
                del self._sources[next(iter(self._sources))]
            self._sources[source, partition] = told | {"watermark": _iso_or_none(watermark), "idle": idle}

    def watermark(self, watermark: datetime | None) -> None:
        """Say how far the whole is: no event before this is waited for."""
        with self._lock:
            self._watermark = watermark

    def state(self, entities: Mapping[str, int], ids: int, waiting: int, size_bytes: int) -> None:
        """Say what is kept: entities by kind, remembered event ids, events that wait for the watermark, bytes of it all."""
        with self._lock:
            self._state = {"entities": dict(entities), "ids": ids, "waiting": waiting, "bytes": size_bytes}

    def snapshot(self, number: int, kind: str, at: datetime, size_bytes: int, seconds: float) -> None:
        """Say that a snapshot (full or delta) was written, how large it is, and how long that took."""
        told = {"number": number, "kind": kind, "at": iso(at), "bytes": size_bytes, "seconds": seconds}
        with self._lock:
            self._snapshot = told

    def dead_letters(self, waiting: int) -> None:
        """Say how many dead letters there are."""
        with self._lock:
            self._dead_letters = waiting

    def output(
        self, name: str, *, behind: int, delivered: int, failed: int, refused: int = 0, last_error: str | None = None
    ) -> None:
        """Say how an output does: alerts it has not taken yet, totals, and the error it is in (None: in none)."""
        told = {"name": name, "behind": behind, "delivered": delivered, "failed": failed, "refused": refused}
        with self._lock:
            self._outputs[name] = told | {"last_error": _cut(last_error) or None}

    def trouble(self, what: str, at: datetime) -> None:
        """Note something that a person should know; the same again only moves to now, the oldest of many go."""
        what = _cut(what)
        with self._lock:
            again = next((told for told in self._trouble if told["what"] == what), None)
            if again is not None:
                self._trouble.remove(again)
            times = 1 if again is None else again["times"] + 1
            self._trouble.append({"at": iso(at), "what": what, "times": times})

    def status(self, at: datetime) -> dict[str, Any]:
        """Return all of it as seen at a time: plain values that JSON can hold, nothing shared with this object."""
        now = at.timestamp()
        with self._lock:
            self._forget(now)
            ordered = sorted(seconds for _, seconds in self._latencies)
            p50, p99 = (quantile(ordered, part) for part in (0.5, 0.99))
            return {
                "format": STATUS_FORMAT,
                **self._about,
                "at": iso(at),
                "mode": self._mode,
                "events": {
                    "read": self._read,
                    **{fate: self._fates[fate] for fate in FATES},
                    "per_second": self._per_second(now),
                },
                "findings": self._findings,
                "batches": self._batches,
                "busy_seconds": round(self._busy_seconds, 6),
                "latency_ms": {"p50": _ms(p50), "p99": _ms(p99), "batches": len(ordered)},
                "sources": [dict(told) for told in self._sources.values()],
                "watermark": _iso_or_none(self._watermark),
                "watermark_lag_seconds": None
                if self._watermark is None
                else round(now - self._watermark.timestamp(), 3),
                "rules": [told | {"unscored": dict(told["unscored"])} for told in self._rules.values()],
                "skipped": dict(self._skipped),
                "state": self._state | {"entities": dict(self._state["entities"])},
                "snapshot": None if self._snapshot is None else dict(self._snapshot),
                "dead_letters": self._dead_letters,
                "outputs": [dict(told) for told in self._outputs.values()],
                "trouble": [dict(told) for told in self._trouble],
            }

    def _forget(self, now: float) -> None:
        """Let go of what is too old to be shown; the lock is held."""
        while self._latencies and self._latencies[0][0] <= now - LATENCY_SECONDS:
            self._latencies.popleft()
        while self._rate and self._rate[0][0] <= (now - RATE_SECONDS) * _SLOTS_PER_SECOND:
            self._rate.popleft()

    def _per_second(self, now: float) -> float:
        span = min(RATE_SECONDS, max(now - self._started, 1.0))
        return round(sum(rows for _, rows in self._rate) / span, 1)


def _cut(text: str | None) -> str:
    return (text or "")[:LONGEST_TEXT]


def _iso_or_none(at: datetime | None) -> str | None:
    return None if at is None else iso(at)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 3)
