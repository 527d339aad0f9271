"""Simulate and write: days of events in time order, in memory or straight into files.

Enters: users, days, seed. Leaves: a ``Simulation``, or the same files without ever holding more than a few days of
events. Layer: sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite
from pathlib import Path  # noqa: TC003 - doctests use it
from typing import TYPE_CHECKING

import polars as pl

from tocsin.errors import SourceError
from tocsin.sources.simulate import population
from tocsin.sources.simulate.casting import ALL_KINDS, KINDS, check_kinds, plan
from tocsin.sources.simulate.days import DAY_US, EPOCH, SCHEMA, Vocabulary, ordinary_day
from tocsin.sources.simulate.files import (
    FILES,
    TRUTH_FILES,
    folder_for,
    write_events,
    write_references,
    write_truth,
)
from tocsin.sources.simulate.geography import geo_frame, networks_frame, threats_frame
from tocsin.sources.simulate.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from tocsin.sources.simulate.plan import Plan
    from tocsin.sources.simulate.truth import Document

__all__ = ["DEFAULT_START", "Simulation", "Written", "simulate", "simulate_to", "write_truth"]

DEFAULT_START = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Simulation:
    """A simulated organisation: what happened, where and whose addresses are, who is listed, and what is true.

    ``events`` are in time order. ``truth`` is the document that ``truth.json`` holds; ``Truth.of`` reads it.
    ``population`` has each user's own parameters, and what became of them.
    """

    events: pl.DataFrame
    geo: pl.DataFrame
    networks: pl.DataFrame
    threats: pl.DataFrame
    truth: Document
    population: pl.DataFrame

    def write(self, folder: str | Path, *, truth: bool = True, jsonl: bool = False) -> Path:
        """Write events and references (``events.jsonl.gz`` too, if asked; ``truth.json`` unless not) to a folder.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = simulate(users=5, days=2).write(folder, truth=False)
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['events.parquet', 'geo.csv.gz', 'networks.csv.gz', 'threats.csv']
        """
        target = folder_for(folder)
        write_events([self.events], target, jsonl=jsonl)
        write_references(target)
        if truth:
            write_truth(target, self.truth, self.population)
        return target


@dataclass(frozen=True, slots=True)
class Written:
    """What ``simulate_to`` wrote: files, the number of events, and of stories and their users by kind."""

    files: tuple[str, ...]
    events: int
    planted: dict[str, int]
    users_of: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Run:
    """One run: its plan, and the tally of what passes by."""

    made: Plan
    tally: Tally
    seed: int
    drift: float

    @classmethod
    def of(cls, users: int, days: int, seed: int, start: datetime, kinds: Collection[str], drift: float) -> _Run:
        _check(users, days, seed, start, drift)
        start_us = (start - EPOCH) // timedelta(microseconds=1)
        made = plan(population.draw(users, seed, drift), seed, start_us, days, check_kinds(kinds))
        return cls(made, Tally(made), seed, drift)

    def chunks(self, progress: Callable[[int], None] | None = None) -> Iterator[pl.DataFrame]:
        """Yield each UTC day's events, sorted; a local date reaches into three of them, so two wait here."""
        made, start_us, days = self.made, self.made.start_us, self.made.days
        words, start = Vocabulary.of(made.people), EPOCH + timedelta(microseconds=self.made.start_us)
        time = pl.col("timestamp").to_physical()
        waiting = pl.DataFrame()
        for number in range(-1, days + 1):
            date, hours = (start + timedelta(days=number)).date(), made.shift_hours(number)
            day = ordinary_day(
                made.people, words, date, number, seed=self.seed, shift_hours=hours, drift_from_us=made.split_us
            )
            day = made.bend(day, number).filter(time.is_between(start_us, made.end_us, closed="left"))
            waiting = pl.concat([waiting, day]) if waiting.width else day
            if number >= 1:
                done = time < start_us + number * DAY_US
                finished = pl.concat([waiting.filter(done), made.added(number - 1)]).sort("timestamp", "event_id")
                waiting = waiting.filter(~done)
                self.tally.add(finished, number - 1)
                yield finished.select(*SCHEMA)
                if progress:
                    progress(number)

    def truth(self) -> Document:
        """Return the truth; complete once all chunks have passed."""
        return self.tally.document(seed=self.seed, drift=self.drift)


def simulate(
    users: int = 1000,
    days: int = 90,
    seed: int = 7,
    *,
    start: datetime = DEFAULT_START,
    stories: Collection[str] = ALL_KINDS,
    drift: float = 0.0,
) -> Simulation:
    """Simulate ``users`` over ``days`` UTC days from ``start`` (a UTC midnight), in memory.

    A user has about 12 events a day; a million events take 4 s (for many millions, see ``simulate_to``).
    ``stories`` are the kinds to plant (of ``STORY_KINDS`` and ``INNOCENT_KINDS``; ``()`` plants nothing).
    With ``drift``, from the middle of the run on each user's attachments per mail are multiplied by a lognormal factor
    of median 1 whose logarithm has this standard deviation.
    Raises ``SourceError`` for sizes that make no sense, an unknown kind, or a start that is no UTC midnight.

    >>> sim = simulate(users=40, days=3, seed=1, stories=["exe_spray", "threat_login"])
    >>> sim.events.columns[:4], sim.events["timestamp"].is_sorted()
    (['event_id', 'timestamp', 'kind', 'user_id'], True)
    >>> [story["story_id"] for story in sim.truth["stories"]]
    ['exe_spray-1', 'threat_login-1']
    """
    run = _Run.of(users, days, seed, start, stories, drift)
    events = pl.concat(list(run.chunks()))
    return Simulation(events, geo_frame(), networks_frame(), threats_frame(), run.truth(), run.tally.population())


def simulate_to(
    folder: str | Path,
    users: int = 1000,
    days: int = 90,
    seed: int = 7,
    *,
    start: datetime = DEFAULT_START,
    stories: Collection[str] = ALL_KINDS,
    drift: float = 0.0,
    truth: bool = True,
    jsonl: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Written:
    """Write the same files as ``simulate(...).write(folder)``, byte for byte, in bounded memory.

    Memory grows with the users, not with the days. ``progress`` is called with the number of days done.
    """
    run = _Run.of(users, days, seed, start, stories, drift)
    target = folder_for(folder)
    events = write_events(run.chunks(progress), target, jsonl=jsonl)
    write_references(target)
    if truth:
        write_truth(target, run.truth(), run.tally.population())
    left_out = (() if jsonl else ("events.jsonl.gz",)) + (() if truth else TRUTH_FILES)
    planted = {kind: [s for s in run.made.stories if s.kind == kind] for kind in KINDS}
    return Written(
        tuple(name for name in FILES if name not in left_out),
        events,
        {kind: len(some) for kind, some in planted.items() if some},
        {kind: sum(len(one.users) for one in some) for kind, some in planted.items() if some},
    )


def _check(users: int, days: int, seed: int, start: datetime, drift: float) -> None:
    for name, value, least in (("users", users, 1), ("days", days, 1), ("seed", seed, 0)):
        if value < least:
            msg = f"simulate: {name} is {value}, it must be at least {least}."
            raise SourceError(msg)
    if not (isfinite(drift) and 0 <= drift <= 2):
        msg = f"simulate: drift is {drift}, it must be from 0 to 2 (0.25 is a lot)."
        raise SourceError(msg)
    if start.tzinfo is None or (start - EPOCH) % timedelta(days=1):
        msg = f"simulate: start is {start.isoformat()}, it must be a midnight in UTC, as 2026-06-01T00:00+00:00 is."
        raise SourceError(msg)
