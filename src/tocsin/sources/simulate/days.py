"""One day of ordinary life: every user's mails and logins of one local date, as one frame.

Enters: a population, a date, the seed. Leaves: a frame of events in the seed's columns plus ``@user`` (user
number); unordered. All draws are whole-array: a day of a hundred thousand events takes about 0.1 s. Layer: sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pyarrow as pa

from tocsin.sources.simulate.cities import CITIES
from tocsin.sources.simulate.population import ADDRESSES_PER_USER, Ints, Population, stream

if TYPE_CHECKING:
    from collections.abc import Sequence

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOOD_SHAPE = 50.0  # gamma shape of a user's daily mood: its standard deviation is 14 % of the rate

SCHEMA: dict[str, pl.DataType] = {
    "event_id": pl.String(),
    "timestamp": pl.Datetime("us", "UTC"),
    "kind": pl.String(),
    "user_id": pl.String(),
    "src_ip": pl.String(),
    "dst_ip": pl.String(),
    "nr_recipients": pl.Int64(),
    "attachments": pl.List(pl.String()),
    "nr_attachments": pl.Int64(),
    "device_id": pl.String(),
}

_STEMS = """
report invoice minutes agenda budget photo scan contract offer draft figures slides notes plan summary timetable letter
quote order ticket receipt list review policy map survey menu flyer form résumé
"""
_EXTENSIONS = "pdf docx xlsx png jpg pptx txt zip csv ics PDF JPG"
# "setup.exe.txt" and "exe.pdf" hold the letters but are no programs: the last extension decides.
FILE_NAMES: tuple[str, ...] = (
    *(f"{stem}-{n}.{ext}" for stem in _STEMS.split() for n in range(1, 6) for ext in _EXTENSIONS.split()),
    "README",
    "exe.pdf",
    "setup.exe.txt",
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The texts that events choose from, as Arrow arrays: taking by index builds a column without a Python loop."""

    users: pa.Array
    addresses: pa.Array
    devices: pa.Array
    servers: pa.Array
    files: pa.Array
    kinds: pa.Array

    @classmethod
    def of(cls, people: Population) -> Vocabulary:
        """Make the vocabulary of a population."""

        def texts(values: Sequence[str]) -> pa.Array:
            return pa.array(values, pa.large_string())

        return cls(
            texts(people.user_ids),
            texts(people.addresses),
            texts(people.devices),
            texts(people.servers),
            texts(FILE_NAMES),
            texts(["mail", "login"]),
        )


def event_ids(rng: np.random.Generator, n: int) -> pa.Array:
    """Return n random UUID texts as one Arrow array, written byte by byte into its buffer.

    >>> event_ids(np.random.default_rng(1), 1)[0].as_py()
    'ffe42279-f3bd-4683-a6a8-52c1bb9651f3'
    """
    raw = rng.integers(0, 256, (n, 16), dtype=np.uint8)
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40  # version 4
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    pairs = np.stack([digits[raw >> 4], digits[raw & 15]], axis=2).reshape(n, 32)
    text = np.full((n, 36), ord("-"), np.uint8)
    for start, stop, at in ((0, 8, 0), (8, 12, 9), (12, 16, 14), (16, 20, 19), (20, 32, 24)):
        text[:, at : at + stop - start] = pairs[:, start:stop]
    offsets = np.arange(n + 1, dtype=np.int64) * 36
    return pa.LargeStringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(text.tobytes()))


def utc_offsets_us(day: date) -> Ints:
    """Return each city's UTC offset at noon of this local date, in microseconds.

    The one of noon is used for the whole date: on the two days a year when clocks change, events of the early
    morning are simulated an hour off their wall time. Nothing depends on it.
    """
    noon = datetime(day.year, day.month, day.day, 12)
    offsets = {zone: noon.replace(tzinfo=ZoneInfo(zone)).utcoffset() for zone in {c.zone for c in CITIES}}
    return np.array([(offsets[c.zone] or timedelta()) // timedelta(microseconds=1) for c in CITIES], np.int64)


@dataclass(frozen=True, slots=True)
class Growth:
    """From ``from_us`` (UTC) on, this user's mails carry ``attachments_per_mail`` files."""

    user: int
    from_us: int
    attachments_per_mail: float


def ordinary_day(
    people: Population, words: Vocabulary, day: date, number: int, *, seed: int, growths: Sequence[Growth] = ()
) -> pl.DataFrame:
    """Return the events of one local date, of all users; ``number`` (its place in the run) keys its randomness."""
    rng = stream(seed, 1, number + 1)
    n = len(people)
    factor = people.weekend if day.weekday() >= 5 else np.ones(n)
    # A day's own mood, shared by a user's mails and logins, makes counts overdispersed against Poisson.
    factor = factor * rng.gamma(MOOD_SHAPE, 1 / MOOD_SHAPE, n)
    mails, logins = rng.poisson(people.mails_per_day * factor), rng.poisson(people.logins_per_day * factor)
    user = np.concatenate([np.repeat(np.arange(n), mails), np.repeat(np.arange(n), logins)])
    is_mail = np.arange(len(user)) < mails.sum()
    time_us, at_work = _times(rng, people, user, day)

    per_mail = people.attachments_per_mail[user] * is_mail
    for growth in growths:
        per_mail[(user == growth.user) & (time_us >= growth.from_us) & is_mail] = growth.attachments_per_mail
    nr_attachments = rng.poisson(per_mail)
    nr_recipients = 1 + rng.poisson(people.mean_recipients[user] - 1)
    return pl.DataFrame(
        {
            "event_id": pl.Series(event_ids(rng, len(user))),
            "timestamp": pl.Series(time_us).cast(SCHEMA["timestamp"]),
            "kind": pl.Series(words.kinds.take(pa.array(1 - is_mail))),
            "user_id": pl.Series(words.users.take(pa.array(user))),
            "src_ip": pl.Series(words.addresses.take(pa.array(_address_index(rng, people, user, at_work)))),
            "dst_ip": pl.Series(words.servers.take(pa.array(_server_index(rng, people, user, len(words.servers))))),
            "nr_recipients": pl.Series(pa.array(nr_recipients, mask=~is_mail)),
            "attachments": pl.Series(_file_lists(rng, words, nr_attachments)),
            "nr_attachments": nr_attachments,
            "device_id": pl.Series(words.devices.take(pa.array(2 * user + (rng.random(len(user)) < 0.3)))),
            "@user": user,
        }
    )


def _times(
    rng: np.random.Generator, people: Population, user: Ints, day: date
) -> tuple[Ints, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Draw UTC times: 94 % inside the user's own operating hours (densest mid-way), the rest at any hour."""
    at_work = rng.random(len(user)) < 0.94
    share = (rng.random(len(user)) + rng.random(len(user))) / 2
    hour = np.where(at_work, people.work_start_hour[user] + share * people.work_hours[user], share * 24)
    midnight_us = (datetime(day.year, day.month, day.day, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    local_us = midnight_us + (hour * HOUR_US).astype(np.int64)
    return local_us - utc_offsets_us(day)[people.city[user]], at_work


def _address_index(
    rng: np.random.Generator, people: Population, user: Ints, at_work: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> Ints:
    draw = rng.random(len(user))
    second = draw < people.p_second[user]
    office = ~second & at_work & (draw < people.p_second[user] + people.p_office[user])
    return ADDRESSES_PER_USER * user + second + 2 * office


def _server_index(rng: np.random.Generator, people: Population, user: Ints, servers: int) -> Ints:
    """Most traffic goes to the server of one's region, a tenth to any."""
    own = people.city[user] % servers
    return np.where(rng.random(len(user)) < 0.1, rng.integers(0, servers, len(user)), own)


def _file_lists(rng: np.random.Generator, words: Vocabulary, counts: Ints) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    names = words.files.take(pa.array(rng.integers(0, len(words.files), offsets[-1])))
    return pa.LargeListArray.from_arrays(pa.array(offsets), names)
