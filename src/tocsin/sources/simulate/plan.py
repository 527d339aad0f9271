"""What a plan is: stories with their number, the events they add, and the ordinary events they bend.

Enters: stories, as ``stories.py`` and ``traps.py`` lay them out. Leaves: for each day, the ordinary frame bent and
marked with ``@story``, and a frame of added events. Layer: sources.

Only rows of users with a part are touched, and what stories draw comes from streams of their own: everybody else's
events are the same whatever is planted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from tocsin.sources.simulate.days import (
    COLUMNS,
    DAY_US,
    EPOCH,
    FILE_NAMES,
    HOUR_US,
    SCHEMA,
    event_ids,
    like_an_ordinary_day,
    message_bytes,
    utc_offsets_us,
)
from tocsin.sources.simulate.geography import Network, ipv4
from tocsin.sources.simulate.population import ADDRESSES_PER_USER, Floats, Population, Purpose, stream

if TYPE_CHECKING:
    from collections.abc import Sequence

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US


@dataclass(frozen=True, slots=True)
class Story:
    """One planted happening: its kind, its users (numbers) and the UTC days (numbers) on which it shows.

    ``key`` (number of the kind, number within it) names its streams; ``details`` are the parameters that an answer
    can be compared with.
    """

    kind: str
    key: tuple[int, int]
    users: tuple[int, ...]
    days: tuple[int, ...]
    note: str
    details: dict[str, Any]


class Injected(NamedTuple):
    """One event that a story adds."""

    time_us: int
    kind: str
    user: int
    src_ip: str
    dst_ip: str
    nr_recipients: int | None
    attachments: tuple[str, ...]
    device_id: str
    outcome: str


class Extra(NamedTuple):
    """Mails beside the ordinary ones: each UTC day's mean number, in the user's operating hours or at any hour."""

    story: int
    user: int
    mails_per_day: Sequence[float]
    recipients: int
    at_work: bool


class Trip(NamedTuple):
    """A journey: no events during the two flights, events between them come from ``address``."""

    user: int
    leave_us: int
    arrive_us: int
    back_us: int
    home_us: int
    address: str


class Swap(NamedTuple):
    """From ``from_us`` on, ``new`` stands in ``column`` where the user had ``old``."""

    user: int
    column: str
    old: str
    new: str
    from_us: int


class Silence(NamedTuple):
    """No ordinary events of a user from ``from_us`` to ``until_us``."""

    user: int
    from_us: int
    until_us: int


class Growth(NamedTuple):
    """From ``from_us`` on, each of the user's ordinary mails carries Poisson(``files_per_mail``) more files."""

    story: int
    user: int
    from_us: int
    files_per_mail: float


class Shift(NamedTuple):
    """From the local date of this number on, the user's day lies ``hours`` later (round the clock)."""

    user: int
    from_day: int
    hours: float


class Tag(NamedTuple):
    """Ordinary events that belong to a story, from the local date of this number on."""

    story: int
    condition: pl.Expr
    from_local_day: int


@dataclass(slots=True)
class Plan:
    """All stories of one run, and what they do to its days."""

    people: Population
    seed: int
    start_us: int
    days: int
    stories: list[Story] = field(default_factory=list)
    injected: dict[int, dict[int, list[Injected]]] = field(default_factory=dict)  # UTC day -> story -> events
    extras: list[Extra] = field(default_factory=list)
    trips: list[Trip] = field(default_factory=list)
    swaps: list[Swap] = field(default_factory=list)
    silences: list[Silence] = field(default_factory=list)
    growths: list[Growth] = field(default_factory=list)
    shifts: list[Shift] = field(default_factory=list)
    tags: list[Tag] = field(default_factory=list)
    visited: dict[int, set[int]] = field(default_factory=dict)  # user -> cities beside the own

    @property
    def end_us(self) -> int:
        """The first instant after the run."""
        return self.start_us + self.days * DAY_US

    @property
    def split_us(self) -> int:
        """The middle of the run (a UTC midnight): where what changes for good changes."""
        return self.start_us + self.days // 2 * DAY_US

    def date(self, day: int) -> str:
        """Return the date of this number, as ISO text."""
        return (EPOCH + timedelta(microseconds=self.start_us, days=day)).date().isoformat()

    def add(
        self, kind: str, key: tuple[int, int], users: Sequence[int], days: Sequence[int], note: str, **details: Any
    ) -> int:
        """Record a story and return its number."""
        self.stories.append(Story(kind, key, tuple(users), tuple(days), note, details))
        return len(self.stories) - 1

    def tag(self, story: int, condition: pl.Expr | None = None, from_local_day: int = -1) -> None:
        """Mark the ordinary events of the story's users for which the condition holds."""
        mine = pl.col("@user").is_in(self.stories[story].users)
        self.tags.append(Tag(story, mine if condition is None else mine & condition, from_local_day))

    def moment(self, rng: np.random.Generator, day: int, span_hours: float) -> int:
        """Return a time on this UTC day from which ``span_hours`` more stay inside the day."""
        return self.start_us + day * DAY_US + int(rng.uniform(0.5, 23.5 - span_hours) * HOUR_US)

    def span(self, from_us: int, until_us: int) -> range:
        """Return the numbers of the UTC days of the run that a span of time touches."""
        return range((from_us - self.start_us) // DAY_US, min(self.days, (until_us - self.start_us) // DAY_US + 1))

    def address_in(self, user: int, city: int, network: Network, host: int) -> str:
        """Return an address in a city, and remember that the user was seen there."""
        self.visited.setdefault(user, set()).add(city)
        return ipv4(city, network, host)

    def offset_us(self, user: int) -> int:
        """Return the user's UTC offset on the first day."""
        first = (EPOCH + timedelta(microseconds=self.start_us)).date()
        return int(utc_offsets_us(first)[self.people.city[user]])

    def home_address(self, user: int) -> str:
        """Return the address most of the user's events come from."""
        return self.people.addresses[ADDRESSES_PER_USER * user]

    def event(self, story: int, time_us: int, kind: str, user: int, **given: object) -> None:
        """Add one event of a user; what is not given is as in the user's ordinary life."""
        people = self.people
        values: dict[str, object] = {
            "src_ip": self.home_address(user),
            "dst_ip": people.servers[int(people.city[user]) % len(people.servers)],
            "nr_recipients": 1 if kind == "mail" else None,
            "attachments": (),
            "device_id": people.devices[2 * user],
            "outcome": "success",
        }
        row = Injected(time_us=time_us, kind=kind, user=user, **(values | given))  # type: ignore[arg-type]
        day = (time_us - self.start_us) // DAY_US
        self.injected.setdefault(day, {}).setdefault(story, []).append(row)

    def shift_hours(self, day: int) -> Floats:
        """Return by how many hours each user's day is moved on this local date."""
        hours = np.zeros(len(self.people))
        for one in self.shifts:
            if day >= one.from_day:
                hours[one.user] = one.hours
        return hours

    def bend(self, day: pl.DataFrame, number: int) -> pl.DataFrame:
        """Apply what stories do to a frame of ordinary events of this local date; adds ``@story``."""
        has_part = pl.col("@user").is_in(sorted({user for story in self.stories for user in story.users}))
        others = day.filter(~has_part).with_columns(pl.lit(None, pl.Int32).alias("@story"))
        acting = day.filter(has_part)
        time = pl.col("timestamp").to_physical()
        for quiet in self._silences():
            acting = acting.filter(
                (pl.col("@user") != quiet.user) | ~time.is_between(quiet.from_us, quiet.until_us, closed="left")
            )
        for trip in self.trips:
            away = (pl.col("@user") == trip.user) & time.is_between(trip.arrive_us, trip.back_us)
            acting = acting.with_columns(src_ip=pl.when(away).then(pl.lit(trip.address)).otherwise("src_ip"))
        for swap in self.swaps:
            old = (pl.col("@user") == swap.user) & (time >= swap.from_us) & (pl.col(swap.column) == swap.old)
            new = pl.when(old).then(pl.lit(swap.new)).otherwise(swap.column)
            acting = acting.with_columns(new.alias(swap.column))
        for growth in self.growths:
            acting = self._grown(acting, growth, number)
        mark = pl.lit(None, pl.Int32)
        for tag in self.tags:
            if number >= tag.from_local_day:
                mark = pl.when(tag.condition).then(pl.lit(tag.story, pl.Int32)).otherwise(mark)
        return pl.concat([others, acting.with_columns(mark.alias("@story"))])

    def _silences(self) -> list[Silence]:
        flights = [
            one
            for trip in self.trips
            for one in (
                Silence(trip.user, trip.leave_us, trip.arrive_us),
                Silence(trip.user, trip.back_us, trip.home_us),
            )
        ]
        return self.silences + flights

    def _grown(self, acting: pl.DataFrame, growth: Growth, number: int) -> pl.DataFrame:
        grows = (
            (pl.col("@user") == growth.user)
            & (pl.col("kind") == "mail")
            & (pl.col("timestamp").to_physical() >= growth.from_us)
        )
        mine = acting.filter(grows)
        rng = stream(self.seed, Purpose.ADDED, *self.stories[growth.story].key, number + 1)
        counts = rng.poisson(growth.files_per_mail, mine.height)
        names = [[FILE_NAMES[i] for i in rng.integers(0, len(FILE_NAMES), n)] for n in counts]
        mine = mine.with_columns(
            attachments=pl.col("attachments").list.concat(pl.Series(names, dtype=SCHEMA["attachments"])),
            nr_attachments=pl.col("nr_attachments") + counts,
            size_bytes=pl.col("size_bytes") + message_bytes(rng, counts),
        )
        return pl.concat([acting.filter(~grows), mine])

    def added(self, day: int) -> pl.DataFrame:
        """Return the events that stories add on this UTC day."""
        mails = {one.story: one for one in self.extras}
        planned = self.injected.get(day, {})
        frames = [_no_events()]
        for story in sorted(planned.keys() | mails.keys()):
            rng = stream(self.seed, Purpose.ADDED, *self.stories[story].key, day)
            rows = planned.get(story, [])
            if story in mails:
                rows = rows + self._extra_mails(rng, mails[story], day)
            if rows:
                frames.append(self._frame(rng, story, rows))
        return pl.concat(frames)

    def _extra_mails(self, rng: np.random.Generator, one: Extra, day: int) -> list[Injected]:
        n = int(rng.poisson(one.mails_per_day[day]))
        if one.at_work:
            begin = float(self.people.work_start_hour[one.user]) - self.offset_us(one.user) / HOUR_US
            hours = like_an_ordinary_day(rng, begin, float(self.people.work_hours[one.user]), n)
        else:
            hours = rng.random(n) * 24
        hours = np.sort(hours % 24)
        times = self.start_us + day * DAY_US + (hours * HOUR_US).astype(np.int64)
        recipients = np.maximum(1, rng.poisson(one.recipients, n))
        src, device = self.home_address(one.user), self.people.devices[2 * one.user]
        dst = self.people.servers[0]
        return [
            Injected(t, "mail", one.user, src, dst, r, (), device, "success")
            for t, r in zip(times.tolist(), recipients.tolist(), strict=True)
        ]

    def _frame(self, rng: np.random.Generator, story: int, rows: list[Injected]) -> pl.DataFrame:
        ids = self.people.user_ids
        frame = pl.DataFrame(rows, schema=Injected._fields, orient="row", infer_schema_length=None)
        counts = np.array([len(row.attachments) for row in rows])
        is_mail = pl.col("kind") == "mail"
        return frame.select(
            pl.Series("event_id", event_ids(rng, len(rows))),
            pl.col("time_us").cast(SCHEMA["timestamp"]).alias("timestamp"),
            "kind",
            pl.Series("user_id", [ids[row.user] for row in rows]),
            "src_ip",
            "dst_ip",
            pl.col("nr_recipients").cast(pl.Int64),
            pl.Series("attachments", [list(row.attachments) for row in rows], SCHEMA["attachments"]),
            pl.Series("nr_attachments", counts),
            "device_id",
            "outcome",
            pl.when(is_mail).then(pl.Series(message_bytes(rng, counts))).alias("size_bytes"),
            pl.col("user").cast(pl.Int64).alias("@user"),
            pl.lit(story, pl.Int32).alias("@story"),
        )


def _no_events() -> pl.DataFrame:
    return pl.DataFrame(schema={name: SCHEMA[name] for name in COLUMNS} | {"@user": pl.Int64(), "@story": pl.Int32()})
