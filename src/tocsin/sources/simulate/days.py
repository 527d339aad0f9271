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

from tocsin.schema import STANDARD
from tocsin.sources.simulate.cities import CITIES
from tocsin.sources.simulate.population import ADDRESSES_PER_USER, Floats, Ints, Population, Purpose, stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOOD_SHAPE = 50.0  # gamma shape of a user's daily mood: its standard deviation is 14 % of the rate
FILES_SHAPE = 5.0  # the same of a day's attachments per mail: 45 %
SESSION_HOURS = 0.75
LEAST_SESSIONS, MOST_SESSIONS = 2, 6
P_AT_WORK = 0.94

COLUMNS = (
    "event_id",
    "timestamp",
    "kind",
    "user_id",
    "src_ip",
    "dst_ip",
    "nr_recipients",
    "attachments",
    "nr_attachments",
    "device_id",
    "outcome",
    "size_bytes",
)
SCHEMA: dict[str, pl.DataType] = {name: STANDARD[name].dtype for name in COLUMNS}

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
    outcomes: pa.Array

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
            texts(["success", "failure"]),
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


def ordinary_day(
    people: Population,
    words: Vocabulary,
    day: date,
    number: int,
    *,
    seed: int,
    shift_hours: Floats,
    drift_from_us: int,
) -> pl.DataFrame:
    """Return the events of one local date, of all users.

    ``number``, the date's place in the run (-1 is the day before it), keys its randomness. ``shift_hours`` moves
    each user's day round the clock; from ``drift_from_us`` (UTC) on the users' drift in attachments holds.
    No draw depends on either but the numbers of files, and none on any story: so stories change nobody who has no part
    in them.
    """
    rng = stream(seed, Purpose.DAY, number + 1)
    n = len(people)
    factor = people.weekend if day.weekday() >= 5 else np.ones(n)
    # A day's own mood, shared by a user's mails and logins, makes counts overdispersed against Poisson.
    factor = factor * rng.gamma(MOOD_SHAPE, 1 / MOOD_SHAPE, n)
    mails, logins = rng.poisson(people.mails_per_day * factor), rng.poisson(people.logins_per_day * factor)
    user = np.concatenate([np.repeat(np.arange(n), mails), np.repeat(np.arange(n), logins)])
    is_mail = np.arange(len(user)) < mails.sum()
    hour, at_work = _hours(rng, people, user)
    midnight_us = (datetime(day.year, day.month, day.day, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    hour = (hour + shift_hours[user]) % 24
    time_us = midnight_us + (hour * HOUR_US).astype(np.int64) - utc_offsets_us(day)[people.city[user]]

    nr_recipients = 1 + rng.poisson(people.mean_recipients[user] - 1)
    failed = ~is_mail & (rng.random(len(user)) < people.p_failure[user])
    frame = pl.DataFrame(
        {
            "event_id": pl.Series(event_ids(rng, len(user))),
            "timestamp": pl.Series(time_us).cast(SCHEMA["timestamp"]),
            "kind": pl.Series(words.kinds.take(pa.array(1 - is_mail))),
            "user_id": pl.Series(words.users.take(pa.array(user))),
            "src_ip": pl.Series(words.addresses.take(pa.array(_address_index(rng, people, user, at_work)))),
            "dst_ip": pl.Series(words.servers.take(pa.array(_server_index(rng, people, user, len(words.servers))))),
            "nr_recipients": pl.Series(pa.array(nr_recipients, mask=~is_mail)),
            "device_id": pl.Series(words.devices.take(pa.array(2 * user + (rng.random(len(user)) < 0.3)))),
            "outcome": pl.Series(words.outcomes.take(pa.array(failed.astype(np.int64)))),
            "@user": user,
        }
    )
    # Draws whose number depends on a rate come last and from a stream of their own: drift moves nothing else.
    rng = stream(seed, Purpose.FILES, number + 1)
    per_mail = people.attachments_per_mail * rng.gamma(FILES_SHAPE, 1 / FILES_SHAPE, n)
    drift = np.where(time_us >= drift_from_us, people.attachments_drift[user], 1.0)
    nr_attachments = rng.poisson(per_mail[user] * drift * is_mail)
    return frame.with_columns(
        pl.Series("nr_attachments", nr_attachments),
        pl.Series("size_bytes", pa.array(message_bytes(rng, nr_attachments), mask=~is_mail)),
        pl.Series("attachments", _file_lists(rng, words, nr_attachments)),
    ).select(*COLUMNS, "@user")


def message_bytes(rng: np.random.Generator, nr_attachments: Ints) -> Ints:
    """Draw sizes of messages: a text of about 10 kB, and about 200 kB for each file."""
    text, each = rng.lognormal(9.0, 0.8, len(nr_attachments)), rng.lognormal(12.0, 0.7, len(nr_attachments))
    return (text + nr_attachments * each).astype(np.int64)


def _hours(rng: np.random.Generator, people: Population, user: Ints) -> tuple[Floats, Bools]:
    """Draw local hours: 94 % in the user's two to six sessions of this date, the rest at any hour.

    Sessions lie in the user's own operating hours (densest mid-way) and last 45 minutes. So events come in clusters,
    and a test that takes a user's events for independent sees shifts that are none.
    """
    n = len(people)
    sessions = np.minimum(LEAST_SESSIONS + rng.poisson(1.5, n), MOST_SESSIONS)
    begins = (rng.random((n, MOST_SESSIONS)) + rng.random((n, MOST_SESSIONS))) / 2
    at_work = rng.random(len(user)) < P_AT_WORK
    which = (rng.random(len(user)) * sessions[user]).astype(np.int64)
    within = rng.random(len(user))
    begin = people.work_start_hour[user] + begins[user, which] * (people.work_hours[user] - SESSION_HOURS)
    return np.where(at_work, begin + within * SESSION_HOURS, within * 24), at_work


def like_an_ordinary_day(rng: np.random.Generator, begin: float, length: float, n: int) -> Floats:
    """Draw n hours of one user as `ordinary_day` does: in sessions inside the operating hours, the rest at any hour."""
    sessions = min(LEAST_SESSIONS + int(rng.poisson(1.5)), MOST_SESSIONS)
    begins = begin + (rng.random(sessions) + rng.random(sessions)) / 2 * (length - SESSION_HOURS)
    inside = begins[rng.integers(0, sessions, n)] + rng.random(n) * SESSION_HOURS
    return np.where(rng.random(n) < P_AT_WORK, inside, rng.random(n) * 24)


def _address_index(rng: np.random.Generator, people: Population, user: Ints, at_work: Bools) -> Ints:
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
