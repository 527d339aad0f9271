"""What the tests of the live path share: a source in memory, events as JSON lines, a state folder with its parts.

Layer: tests.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from tocsin.runners.live.folder import StateFolder
from tocsin.runners.live.machine import Machine, Outcome, Preparer
from tocsin.runners.live.settings import make_settings
from tocsin.runners.live.versions import Versions
from tocsin.sources.live import LostError, Piece, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from tocsin.runners.live.settings import Settings
    from tocsin.sources.live import Position

START = datetime(2025, 3, 3, tzinfo=UTC)
NOW = datetime(2025, 12, 1, tzinfo=UTC)


@dataclass
class MemorySource:
    """A source whose partitions are lists of lines; everything can be taken again."""

    name: str
    lines: dict[str, list[bytes]]
    ended: bool = True
    at: dict[str, int] = field(default_factory=dict)
    released: dict[str, Any] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)

    def open(self, positions: Mapping[str, Position]) -> None:
        self.at = {p: int(positions.get(p, {"line": 0})["line"]) for p in self.lines}

    def poll(self, most_rows: int, most_bytes: int) -> list[Piece]:
        del most_bytes
        found = []
        for partition, lines in self.lines.items():
            begin = self.at[partition]
            end = min(len(lines), begin + most_rows)
            if end > begin:
                found.append(self.piece(partition, begin, end))
                self.at[partition] = end
                most_rows -= end - begin
        return found

    def piece(self, partition: str, begin: int, end: int) -> Piece:
        span = Span(self.name, partition, {"line": begin} if begin else None, {"line": end})
        data = b"".join(line + b"\n" for line in self.lines[partition][begin:end])
        prefix = f"{self.name}-{partition}" if partition else self.name
        return Piece(span, data, prefix=prefix, first_line=begin + 1, rows=end - begin)

    def take(self, span: Span) -> Piece:
        if span.partition in self.lost:
            raise LostError(f"{self.name}/{span.partition}: gone")
        begin = 0 if span.start is None else int(span.start["line"])
        return self.piece(span.partition, begin, int(span.stop["line"]))

    def release(self, positions: Mapping[str, Position]) -> None:
        self.released = dict(positions)

    def behind(self) -> dict[str, int]:
        return {p: sum(map(len, lines[self.at.get(p, 0) :])) for p, lines in self.lines.items()}

    def close(self) -> None:
        pass


def mails(
    rng: np.random.Generator, n: int, *, users: int = 8, days: int = 12, jitter_minutes: int = 40
) -> list[dict[str, Any]]:
    """Mails and logins of some users over some days, nearly in order of time, with a few that come again."""
    minutes = rng.uniform(0, days * 24 * 60, n)
    minutes.sort()
    minutes += rng.uniform(0, jitter_minutes, n)
    events = []
    for i in range(n):
        at = START + timedelta(minutes=float(minutes[i]))
        event: dict[str, Any] = {
            "event_id": f"e{i}", "timestamp": at.isoformat(), "user_id": f"u{int(rng.integers(users))}", "src_ip": f"192.0.2.{i % 50}",
        }  # fmt: skip
        if rng.random() < 0.2:
            event |= {"kind": "login", "success": bool(rng.random() < 0.7)}
        else:
            event |= {
                "kind": "mail", "nr_recipients": int(rng.integers(1, 30)), "size": int(rng.integers(100, 10_000)), "subject": "hi",
                "attachments": ["a.exe"] if rng.random() < 0.1 else [],
            }  # fmt: skip
        events.append(event)
        if rng.random() < 0.03:
            events.append(event)
    return events


def as_lines(events: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """Events as JSON lines, without their newlines."""
    return [json.dumps(e).encode() for e in events]


def some_settings(folder: Path, sources: Sequence[str] = ("mail",), **more: Any) -> Settings:
    """Settings with sources of these names (files that are never opened)."""
    document = {
        "state": str(folder / "state"), "log": str(folder / "soc.db"), "keep_scores": True,
        "sources": [{"kind": "file", "name": name, "path": f"{name}.jsonl"} for name in sources],
    }  # fmt: skip
    if "sources_as" in more:
        document["sources"] = more.pop("sources_as")
    return make_settings(document | more, "test", folder)


class Fold:
    """A machine and its preparer over a state folder: entries in, everything they gave kept."""

    def __init__(self, settings: Settings) -> None:
        self.folder = StateFolder(settings.state).lock()
        self.versions = Versions(self.folder.versions)
        self.preparer = Preparer(settings, self.versions, self.folder.decoders, self.folder.key())
        self.machine = Machine()
        self.outcomes: list[Outcome] = []

    def take(self, entry: Any, pieces: Sequence[Piece] = ()) -> Outcome:
        """Apply one entry."""
        outcome = self.machine.apply(self.preparer.ready(self.machine.number + 1, entry, pieces))
        self.outcomes.append(outcome)
        return outcome

    def close(self) -> None:
        self.folder.unlock()


def scores_of(outcomes: Iterable[Outcome]) -> pl.DataFrame:
    """Every score that outcomes gave, in an order that depends on nothing but them."""
    frames = [s.with_columns(detection=pl.lit(name)) for o in outcomes for name, s in o.scores]
    return pl.concat(frames).sort("detection", "event_id", "score", "fired") if frames else pl.DataFrame()


def findings_of(outcomes: Iterable[Outcome]) -> pl.DataFrame:
    """Every finding that outcomes gave, with the last peak of its window."""
    outcomes = list(outcomes)
    found = pl.concat([f for o in outcomes for f in o.findings])
    peaks = {k: v for o in outcomes for p in o.peaks for k, v in p.iter_rows()}
    last = [peaks.get(i, p) for i, p in found.select("finding_id", "peak_score").iter_rows()]
    return found.with_columns(pl.Series("peak_score", last, pl.Float64)).sort("finding_id")


class MemoryLetters:
    """Dead letters in memory."""

    def __init__(self) -> None:
        self.letters: dict[str, Any] = {}
        self.late: list[pl.DataFrame] = []

    def add(self, letters: Iterable[Any]) -> None:
        self.letters |= {x.key: x for x in letters}

    def add_late(self, late: pl.DataFrame) -> None:
        self.late.append(late)

    def open_count(self) -> int:
        return len(self.letters)
