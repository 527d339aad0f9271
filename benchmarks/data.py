"""Made-up events, geography and threat list of any size, written once and kept.

Enters: a size and a folder. Leaves: paths to `events.parquet` (sorted by time, row groups of 500,000), `geo.parquet`
(the workshop's columns `lo_addr, hi_addr, latitude, longitude, country_iso_code, city_name`) and `threats.txt`.
The same size and seed give the same events. Layer: none (outside the package).

Users differ in volume and in recipients; 2 % of mails carry an .exe; one user-day in 2,000 is a burst of six times the
usual; one event in 2,000 comes from somewhere else on earth; 20,000 addresses are listed, few of them seen.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

CHUNK_EVENTS = 500_000
US_PER_DAY = 86_400_000_000
START_US = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
SCHEMA_VERSION = 3  # raise when the generator changes, so that kept data is made again
N_CITIES = 20_000
N_LISTED = 20_000
EXE_SHARE = 0.02
ATTACHMENT_SHARE = 0.15
AWAY_SHARE = 1 / 2_000
BURST_SHARE = 1 / 2_000
BURST_FACTOR = 6


@dataclass(frozen=True)
class Size:
    """How much is made: `events` over `days` by `users`, with `ranges` geographic address ranges."""

    events: int
    users: int
    days: int
    ranges: int
    seed: int = 11

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"{self.events}-{self.users}-{self.days}-{self.ranges}-{self.seed}"


FULL = Size(events=10_000_000, users=10_000, days=90, ranges=3_000_000)
# Three times the log is three times the history at the same rate: what grows when a log is kept.
LONG = Size(events=30_000_000, users=10_000, days=270, ranges=3_000_000)
QUICK = Size(events=200_000, users=400, days=60, ranges=50_000)
TINY = Size(events=30_000, users=50, days=50, ranges=3_000)


@dataclass(frozen=True)
class Data:
    """Where the made data lies."""

    size: Size
    folder: Path

    @property
    def events(self) -> Path:
        """Events in time order."""
        return self.folder / "events.parquet"

    @property
    def geo(self) -> Path:
        """Geographic ranges."""
        return self.folder / "geo.parquet"

    @property
    def threats(self) -> Path:
        """Listed addresses, one a line."""
        return self.folder / "threats.txt"


def bench_folder() -> Path:
    """Return the folder for data and results: TOCSIN_BENCH_DIR, or build/bench."""
    return Path(os.environ.get("TOCSIN_BENCH_DIR", "build/bench"))


def make(size: Size, folder: Path | None = None) -> Data:
    """Return the data of this size, making it first if it is not there."""
    data = Data(size, (folder or bench_folder()) / size.name)
    done = data.folder / "done.json"
    if done.exists() and json.loads(done.read_text())["version"] == SCHEMA_VERSION:
        return data
    data.folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(size.seed)
    geo = _geo(size, rng)
    geo.write_parquet(data.geo)
    people = _People.draw(size, geo, rng)
    listed = np.unique(np.concatenate([people.away[:: max(1, people.away.size // 50)], _addresses(rng, N_LISTED)]))
    data.threats.write_text("\n".join(["# listed addresses, made up", *_dotted(listed).to_list()]) + "\n")
    _write_events(data, people, rng)
    done.write_text(json.dumps({"version": SCHEMA_VERSION}))
    return data


def _addresses(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw IPv4 addresses as integers from 16.0.0.0 to 99.255.255.255: no private or reserved block lies there."""
    return rng.integers(16 << 24, 100 << 24, n, dtype=np.int64)


def _dotted(addresses: np.ndarray) -> pl.Series:
    a = pl.col("a")
    parts = [(a // 256**power % 256).cast(pl.String) for power in (3, 2, 1, 0)]
    return pl.DataFrame({"a": addresses}).select(pl.concat_str(parts, separator=".")).to_series()


def _geo(size: Size, rng: np.random.Generator) -> pl.DataFrame:
    """Cut the address space into ranges without gaps, each lying in a city drawn at random."""
    lo = np.unique(np.concatenate([[16 << 24], _addresses(rng, size.ranges * 101 // 100)]))
    lo = np.sort(rng.permutation(lo)[: size.ranges])
    lo[0] = 16 << 24
    hi = np.append(lo[1:] - 1, (100 << 24) - 1)
    latitude = np.round(rng.uniform(-55, 68, N_CITIES), 4)
    longitude = np.round(rng.uniform(-179, 179, N_CITIES), 4)
    country = rng.choice(["US", "DE", "FR", "BR", "IN", "JP", "GB", "CA", "ZA", "AU"], N_CITIES)
    city = rng.integers(0, N_CITIES, lo.size)
    return pl.DataFrame(
        {
            "lo_addr": lo,
            "hi_addr": hi,
            "latitude": latitude[city],
            "longitude": longitude[city],
            "country_iso_code": country[city],
            "city_name": pl.Series([f"City {i}" for i in range(N_CITIES)])[city],
        }
    )


@dataclass(frozen=True)
class _People:
    """What each user is like: name, share of the volume, recipients, four home addresses; and where away is."""

    names: pl.Series
    share: np.ndarray
    recipients: np.ndarray
    homes: np.ndarray
    away: np.ndarray
    relays: np.ndarray

    @classmethod
    def draw(cls, size: Size, geo: pl.DataFrame, rng: np.random.Generator) -> _People:
        n = size.users
        share = rng.gamma(4.0, 1.0, n)
        home = rng.integers(0, geo.height, n)
        lo, hi = geo["lo_addr"].to_numpy()[home], geo["hi_addr"].to_numpy()[home]
        homes = np.stack([rng.integers(lo, hi + 1) for _ in range(4)], axis=1)
        words = rng.integers(0, 2**32, (n, 4), dtype=np.int64)
        names = [f"{a:08x}-{b >> 16:04x}-{b & 65535:04x}-{c >> 16:04x}-{c & 65535:04x}{d:08x}" for a, b, c, d in words]
        away = _addresses(rng, max(200, int(size.events * AWAY_SHARE)))
        return cls(pl.Series(names), share / share.sum(), rng.poisson(3, n) + 1, homes, away, _addresses(rng, 2_000))


def _times_and_users(size: Size, people: _People, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw each user-day's volume (bursts included), scale to the wanted number, and lay the events over the days."""
    expected = np.outer(people.share, np.full(size.days, 1.01 * size.events / size.days))
    burst = rng.random(expected.shape) < BURST_SHARE
    volume = rng.poisson(np.where(burst, BURST_FACTOR, 1.0) * expected).ravel()
    cell = np.repeat(np.arange(volume.size, dtype=np.int32), volume)  # a little too many: the surplus is left out
    keep = rng.choice(cell.size, size.events, replace=cell.size < size.events)
    cell = cell[keep]
    user, day = cell // size.days, cell % size.days
    # The hour of the day is a hump around 14:00 UTC, cut at midnight.
    of_day = np.clip(rng.normal(14, 4, size.events) / 24, 0, 0.999_999)
    times = START_US + day.astype(np.int64) * US_PER_DAY + (of_day * US_PER_DAY).astype(np.int64)
    order = np.argsort(times, kind="stable")
    return times[order], user[order]


def _write_events(data: Data, people: _People, rng: np.random.Generator) -> None:
    import pyarrow.parquet as pq

    size = data.size
    times, users = _times_and_users(size, people, rng)
    writer = None
    for start in range(0, size.events, CHUNK_EVENTS):
        stop = min(start + CHUNK_EVENTS, size.events)
        table = _chunk(start, times[start:stop], users[start:stop], people, rng).to_arrow()
        writer = writer or pq.ParquetWriter(data.events, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=CHUNK_EVENTS)
        print(f"\r  making {size.events:,} events: {stop / size.events:4.0%}", end="", flush=True)
    if writer is not None:
        writer.close()
    print()


def _chunk(start: int, times: np.ndarray, users: np.ndarray, people: _People, rng: np.random.Generator) -> pl.DataFrame:
    n = times.size
    mail = rng.random(n) < 0.7
    source = people.homes[users, rng.integers(0, 4, n)]
    source = np.where(rng.random(n) < AWAY_SHARE, rng.choice(people.away, n), source)
    recipients = rng.poisson(people.recipients[users]) + np.where(rng.random(n) < 0.02, rng.integers(5, 60, n), 1)
    # Ids that do not sort as time does: ties in time are broken by id, and that order must be seen to work.
    ids = (np.arange(start, start + n, dtype=np.uint64) * np.uint64(2_654_435_761)) % np.uint64(2**40)
    names = _attachments(rng, n)
    frame = pl.DataFrame(
        {
            "event_id": pl.Series(ids).cast(pl.String).str.zfill(13),
            "timestamp": pl.Series(times).cast(pl.Datetime("us", "UTC")),
            "kind": pl.Series(np.where(mail, "mail", "login")),
            "user_id": people.names[users],
            "src_ip": _dotted(source),
            "dst_ip": _dotted(rng.choice(people.relays, n)),
            "nr_recipients": pl.Series(recipients.astype(np.int64)),
            "attachments": names,
        }
    )
    is_mail = pl.col("kind") == "mail"
    return frame.with_columns(
        dst_ip=pl.when(is_mail).then("dst_ip"),
        nr_recipients=pl.when(is_mail).then("nr_recipients"),
        attachments=pl.when(is_mail).then("attachments"),
    ).with_columns(nr_attachments=pl.col("attachments").list.len().cast(pl.Int64))


def _attachments(rng: np.random.Generator, n: int) -> pl.Series:
    plain = [[], ["report.pdf"], ["notes.docx", "figure.png"], ["invoice.xlsx"]]
    bad = [["setup.exe"], ["photo.jpg", "viewer.EXE"]]
    kinds = pl.Series(plain + bad)
    drawn = rng.random(n)
    pick = np.where(drawn < ATTACHMENT_SHARE, rng.integers(1, len(plain), n), 0)
    pick = np.where(drawn < EXE_SHARE, rng.integers(len(plain), len(plain) + len(bad), n), pick)
    return kinds[pick]
