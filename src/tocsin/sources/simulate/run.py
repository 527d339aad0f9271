"""Simulate and write: days of events in time order, in memory or straight into files.

Enters: users, days, seed. Leaves: a ``Simulation``, or the same four files without ever holding more than two
days of events. Layer: sources.
"""

from __future__ import annotations

import gzip
import json
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tocsin.errors import SourceError
from tocsin.sources.simulate import population
from tocsin.sources.simulate.days import DAY_US, EPOCH, SCHEMA, Vocabulary, ordinary_day
from tocsin.sources.simulate.geography import geo_frame, threats_frame
from tocsin.sources.simulate.stories import INNOCENT_KINDS, plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tocsin.sources.simulate.plan import Plan

DEFAULT_START = datetime(2026, 6, 1, tzinfo=UTC)
ROWS_PER_GROUP = 250_000
Truth = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Simulation:
    """A simulated organisation: what happened, where addresses are, who is listed, and what is true.

    ``events`` are in time order. ``truth`` holds ``stories`` and ``innocents``: lists of ``{story_id, kind, users,
    days, event_ids, note}``. ``population`` has each user's own parameters.
    """

    events: pl.DataFrame
    geo: pl.DataFrame
    threats: pl.DataFrame
    truth: Truth
    population: pl.DataFrame

    def write(self, folder: str | Path, *, truth: bool = True, jsonl: bool = False) -> Path:
        """Write ``events.parquet``, ``geo.csv.gz``, ``threats.csv`` (``truth.json``, ``events.jsonl.gz``) to a folder.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = simulate(users=5, days=2).write(folder)
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['events.parquet', 'geo.csv.gz', 'population.parquet', 'threats.csv', 'truth.json']
        """
        target = _folder(folder)
        _write_events([self.events], target, jsonl=jsonl)
        _write_references(target)
        if truth:
            write_truth(target, self.truth, self.population)
        return target


@dataclass(slots=True)
class _Run:
    """One run: its plan, and the event ids of each story as they pass by."""

    users: int
    days: int
    seed: int
    start: datetime
    made: Plan
    event_ids: dict[int, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, users: int, days: int, seed: int, start: datetime, *, stories: bool) -> _Run:
        _check(users, days, seed, start)
        start_us = (start - EPOCH) // timedelta(microseconds=1)
        made = plan(population.draw(users, seed), seed, start_us, days, stories=stories)
        return cls(users, days, seed, start, made)

    def chunks(self) -> Iterator[pl.DataFrame]:
        """Yield each UTC day's events, sorted; a local date reaches into three of them, so two wait here."""
        words, start_us = Vocabulary.of(self.made.people), self.made.start_us
        time = pl.col("timestamp").to_physical()
        waiting = pl.DataFrame()
        for number in range(-1, self.days + 1):
            date = (self.start + timedelta(days=number)).date()
            day = ordinary_day(self.made.people, words, date, number, seed=self.seed, growths=self.made.growths)
            day = self.made.bend(day).filter(time.is_between(start_us, start_us + self.days * DAY_US, closed="left"))
            waiting = pl.concat([waiting, day]) if waiting.width else day
            if number >= 1:
                done = time < start_us + number * DAY_US
                yield self._finish(pl.concat([waiting.filter(done), self.made.added(number - 1)]))
                waiting = waiting.filter(~done)

    def _finish(self, day: pl.DataFrame) -> pl.DataFrame:
        day = day.sort("timestamp", "event_id")
        marked = day.filter(pl.col("@story").is_not_null()).select("@story", "event_id")
        for story, event_id in marked.iter_rows():
            self.event_ids.setdefault(story, []).append(event_id)
        return day.select(*SCHEMA)

    def truth(self) -> Truth:
        """Return the truth; complete once all chunks have passed."""
        ids = self.made.people.user_ids
        told: dict[bool, list[Truth]] = {False: [], True: []}
        for number, story in enumerate(self.made.stories):
            told[story.kind in INNOCENT_KINDS].append(
                {
                    "story_id": f"{story.kind}-{number}",
                    "kind": story.kind,
                    "users": [ids[user] for user in story.users],
                    "days": [(self.start + timedelta(days=day)).date().isoformat() for day in story.days],
                    "event_ids": self.event_ids.get(number, []),
                    "note": story.note,
                }
            )
        return {
            "format": 1,
            "users": self.users,
            "days": self.days,
            "seed": self.seed,
            "start": self.start.isoformat(),
            "mean_recipients_poisson": population.MEAN_RECIPIENTS,
            "stories": told[False],
            "innocents": told[True],
        }


def simulate(
    users: int = 1000, days: int = 90, seed: int = 7, *, start: datetime = DEFAULT_START, stories: bool = True
) -> Simulation:
    """Simulate ``users`` over ``days`` UTC days from ``start`` (a UTC midnight), in memory.

    A user has about 12 events a day; a million events take 4 s (for many millions, see ``simulate_to``).
    Raises ``SourceError`` for sizes that make no sense or a start that is no UTC midnight.

    >>> sim = simulate(users=40, days=3, seed=1)
    >>> sim.events.columns[:4], sim.events["timestamp"].is_sorted()
    (['event_id', 'timestamp', 'kind', 'user_id'], True)
    >>> sorted({story["kind"] for story in sim.truth["stories"]})
    ['exe_spray', 'population_outlier', 'takeover_travel', 'threat_login']
    """
    run = _Run.of(users, days, seed, start, stories=stories)
    events = pl.concat(list(run.chunks()))
    return Simulation(events, geo_frame(), threats_frame(), run.truth(), run.made.people.frame())


def simulate_to(
    folder: str | Path,
    users: int = 1000,
    days: int = 90,
    seed: int = 7,
    *,
    start: datetime = DEFAULT_START,
    stories: bool = True,
    truth: bool = True,
    jsonl: bool = False,
) -> int:
    """Write the same files as ``simulate(...).write(folder)``, byte for byte, in bounded memory.

    Returns the number of events. Ten million take 22 s on one core; memory grows with the users, not with the days.
    """
    run = _Run.of(users, days, seed, start, stories=stories)
    target = _folder(folder)
    written = _write_events(run.chunks(), target, jsonl=jsonl)
    _write_references(target)
    if truth:
        write_truth(target, run.truth(), run.made.people.frame())
    return written


def write_truth(folder: Path, truth: Truth, people: pl.DataFrame) -> None:
    """Write ``truth.json`` and ``population.parquet``: what a detector must not see."""
    (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    people.write_parquet(folder / "population.parquet")


def _check(users: int, days: int, seed: int, start: datetime) -> None:
    for name, value, least in (("users", users, 1), ("days", days, 1), ("seed", seed, 0)):
        if value < least:
            msg = f"simulate: {name} is {value}, it must be at least {least}."
            raise SourceError(msg)
    if start.tzinfo is None or (start - EPOCH) % timedelta(days=1):
        msg = f"simulate: start is {start.isoformat()}, it must be a midnight in UTC, as 2026-06-01T00:00+00:00 is."
        raise SourceError(msg)


def _folder(folder: str | Path) -> Path:
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    return target


def _regroup(chunks: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Cut a stream of frames into frames of ROWS_PER_GROUP rows (the last one shorter), however it came."""
    waiting: list[pl.DataFrame] = []
    rows = 0
    for chunk in chunks:
        waiting.append(chunk)
        rows += chunk.height
        if rows >= ROWS_PER_GROUP:
            joined = pl.concat(waiting)
            whole = rows - rows % ROWS_PER_GROUP
            for at in range(0, whole, ROWS_PER_GROUP):
                yield joined[at : at + ROWS_PER_GROUP]
            waiting, rows = [joined[whole:]], rows - whole
    if rows:
        yield pl.concat(waiting)


def _write_events(chunks: Iterable[pl.DataFrame], folder: Path, *, jsonl: bool) -> int:
    written = 0
    schema = pl.DataFrame(schema=SCHEMA).to_arrow().schema
    with ExitStack() as files:
        parquet = files.enter_context(pq.ParquetWriter(folder / "events.parquet", schema, compression="zstd"))
        lines = files.enter_context(_gzip(folder / "events.jsonl.gz")) if jsonl else None
        for group in _regroup(chunks):
            parquet.write_table(_canonical(group, schema), row_group_size=ROWS_PER_GROUP)
            written += group.height
            if lines:
                lines.write(group.write_ndjson().encode())
    return written


@contextmanager
def _gzip(path: Path) -> Iterator[gzip.GzipFile]:
    """Open a gzip file whose header names no file and no time: same seed, same bytes."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=5, fileobj=raw, mtime=0) as packed:
        yield packed


def _canonical(group: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """One chunk per column: Parquet pages are cut at chunk borders, which must not depend on how the rows came."""
    return group.rechunk().to_arrow().cast(schema).combine_chunks()


def _write_references(folder: Path) -> None:
    with _gzip(folder / "geo.csv.gz") as packed:
        packed.write(geo_frame().write_csv().encode())
    (folder / "threats.csv").write_text(threats_frame().write_csv(), encoding="utf-8")
