"""What a plan is: stories with their number, the events they add, and the ordinary events they bend.

Enters: stories, as ``stories.py`` lays them out. Leaves: for each day, the ordinary frame bent and marked with
``@story`` (trips, shared addresses), and a frame of added events. Layer: sources.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from tocsin.sources.simulate.days import DAY_US, HOUR_US, SCHEMA, Growth, event_ids
from tocsin.sources.simulate.population import ADDRESSES_PER_USER, Population, stream

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Story:
    """One planted happening: its kind, its users (numbers) and the UTC days (numbers) on which it shows."""

    kind: str
    users: tuple[int, ...]
    days: tuple[int, ...]
    note: str


class Injected(NamedTuple):
    """One event that a story adds."""

    story: int
    time_us: int
    kind: str
    user: int
    src_ip: str
    dst_ip: str
    nr_recipients: int | None
    attachments: tuple[str, ...]
    device_id: str


class Steady(NamedTuple):
    """A sender of about ``mails_per_day`` extra mails on every day, at any hour."""

    story: int
    user: int
    mails_per_day: float
    recipients: int


class Trip(NamedTuple):
    """A journey: no events during the two flights, events between them come from ``address``."""

    story: int
    user: int
    leave_us: int
    arrive_us: int
    back_us: int
    home_us: int
    address: str


@dataclass(slots=True)
class Plan:
    """All stories of one run, and what they do to its days."""

    people: Population
    seed: int
    start_us: int
    days: int
    stories: list[Story] = field(default_factory=list)
    injected: dict[int, list[Injected]] = field(default_factory=dict)
    steady: list[Steady] = field(default_factory=list)
    trips: list[Trip] = field(default_factory=list)
    growths: list[Growth] = field(default_factory=list)
    tags: list[tuple[int, pl.Expr]] = field(default_factory=list)

    def add(self, kind: str, users: Sequence[int], days: Sequence[int], note: str) -> int:
        """Record a story and return its number."""
        self.stories.append(Story(kind, tuple(users), tuple(days), note))
        return len(self.stories) - 1

    def moment(self, rng: np.random.Generator, day: int, span_hours: float) -> int:
        """Return a time on this UTC day from which ``span_hours`` more stay inside the day."""
        return self.start_us + day * DAY_US + int(rng.uniform(0.5, 23.5 - span_hours) * HOUR_US)

    def event(self, story: int, time_us: int, kind: str, user: int, **given: object) -> None:
        """Add one event of a user; what is not given is as in the user's ordinary life."""
        people = self.people
        values: dict[str, object] = {
            "src_ip": people.addresses[ADDRESSES_PER_USER * user],
            "dst_ip": people.servers[int(people.city[user]) % len(people.servers)],
            "nr_recipients": 1 if kind == "mail" else None,
            "attachments": (),
            "device_id": people.devices[2 * user],
        }
        row = Injected(story=story, time_us=time_us, kind=kind, user=user, **(values | given))  # type: ignore[arg-type]
        self.injected.setdefault((time_us - self.start_us) // DAY_US, []).append(row)

    def bend(self, day: pl.DataFrame) -> pl.DataFrame:
        """Apply trips and marks to a frame of ordinary events; adds ``@story``."""
        time = pl.col("timestamp").to_physical()
        for trip in self.trips:
            mine = pl.col("@user") == trip.user
            flying = time.is_between(trip.leave_us, trip.arrive_us) | time.is_between(trip.back_us, trip.home_us)
            away = mine & time.is_between(trip.arrive_us, trip.back_us)
            day = day.filter(~(mine & flying)).with_columns(
                src_ip=pl.when(away).then(pl.lit(trip.address)).otherwise("src_ip")
            )
        mark = pl.lit(None, pl.Int32)
        for story, condition in self.tags:
            mark = pl.when(condition).then(pl.lit(story, pl.Int32)).otherwise(mark)
        return day.with_columns(mark.alias("@story"))

    def added(self, day: int) -> pl.DataFrame:
        """Return the events that stories add on this UTC day."""
        rng = stream(self.seed, 3, day)
        rows = self.injected.get(day, []) + [row for one in self.steady for row in self._steady_day(rng, one, day)]
        ids = self.people.user_ids
        frame = pl.DataFrame(
            {
                "timestamp": pl.Series([row.time_us for row in rows], dtype=pl.Int64).cast(SCHEMA["timestamp"]),
                "kind": [row.kind for row in rows],
                "user_id": [ids[row.user] for row in rows],
                "src_ip": [row.src_ip for row in rows],
                "dst_ip": [row.dst_ip for row in rows],
                "nr_recipients": [row.nr_recipients for row in rows],
                "attachments": [list(row.attachments) for row in rows],
                "nr_attachments": [len(row.attachments) for row in rows],
                "device_id": [row.device_id for row in rows],
                "@user": [row.user for row in rows],
                "@story": [row.story for row in rows],
            },
            schema={k: v for k, v in SCHEMA.items() if k != "event_id"} | {"@user": pl.Int64(), "@story": pl.Int32()},
        )
        return frame.insert_column(0, pl.Series("event_id", event_ids(rng, len(rows)), dtype=pl.String))

    def _steady_day(self, rng: np.random.Generator, one: Steady, day: int) -> list[Injected]:
        n = int(rng.poisson(one.mails_per_day))
        times = self.start_us + day * DAY_US + np.sort(rng.integers(0, DAY_US, n))
        recipients = np.maximum(1, rng.poisson(one.recipients, n))
        src, device = self.people.addresses[ADDRESSES_PER_USER * one.user], self.people.devices[2 * one.user]
        dst = self.people.servers[0]
        return [
            Injected(one.story, t, "mail", one.user, src, dst, r, (), device)
            for t, r in zip(times.tolist(), recipients.tolist(), strict=True)
        ]
