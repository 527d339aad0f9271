"""Address look-ups: random addresses in a large table of ranges, ours beside what else people use.

Enters: how many ranges, how many runs. Leaves: addresses a second of each contestant, and the time `attach`
takes for a batch as events have them. Layer: none (outside the package).

Every contestant starts from what it likes best, loaded and warm: numbers in memory for the joins, text for the
readers of text; the contestants that read numbers are also given ours with the parsing of text inside. Runs are
interleaved in one process, because the tables are large and the look-ups are short; figures are medians. maxminddb
joins in when `TOCSIN_BENCH_MMDB` names a city database; its table is that file.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import duckdb
import numpy as np
import polars as pl

from tocsin.addresses import ParsedAddresses, format_addresses, parse_addresses
from tocsin.references import reference
from tocsin.tables import RANGE_KEY, Table

MAPPED = np.uint64(0xFFFF << 32)
LAST = np.uint64(2**32 - 1)
ADDRESSES = 10_000_000
TEXT_ADDRESSES = 1_000_000
BATCH_ROWS, BATCH_ADDRESSES = 500_000, 50_000
Contestants = dict[str, tuple[int, Callable[[], Any]]]


def run(ranges: int = 3_000_000, runs: int = 3) -> dict[str, Any]:
    """Measure everything and return plain numbers; answers are compared before anything is timed."""
    rng = np.random.default_rng(3)
    starts = _starts(rng, ranges)
    asked = rng.integers(0, 2**32, ADDRESSES if ranges >= 1_000_000 else ADDRESSES // 20, dtype=np.uint64)
    table = _table(starts)
    contestants = _numbers(table, starts, asked) | _text(table, asked) | _maxmind(asked) | _attach(table, rng)
    seconds = {name: statistics.median(times) for name, times in _interleaved(contestants, runs).items()}
    per_second = {name: contestants[name][0] / taken for name, taken in seconds.items()}
    result: dict[str, Any] = {"ranges": ranges, "addresses": len(asked), "runs": runs}
    result["addresses_per_second"] = per_second.pop("tocsin")
    return result | {f"{name} per second": value for name, value in per_second.items()}


def _starts(rng: np.random.Generator, ranges: int) -> np.ndarray:
    drawn = np.unique(rng.integers(1, 2**32, ranges + ranges // 100 + 100, dtype=np.uint64))
    return np.sort(np.append(np.uint64(0), rng.permutation(drawn)[: ranges - 1]))


def _table(starts: np.ndarray) -> Table:
    ends = np.append(starts[1:] - np.uint64(1), LAST)
    zero = np.zeros(len(starts), np.uint64)
    rows = np.arange(len(starts))
    frame = pl.DataFrame(dict(zip(RANGE_KEY, (zero, starts | MAPPED, zero, ends | MAPPED), strict=True)))
    frame = frame.with_columns(
        latitude=pl.Series(rows % 180 - 90.0),
        longitude=pl.Series(rows % 360 - 180.0),
        country_iso_code=pl.Series(np.array(["AU", "DE", "NZ", "US"])[rows % 4]),
        city_name=pl.Series(rows % 20_000).cast(pl.String),
    )
    return Table("bench", frame, RANGE_KEY, tuple(frame.columns[4:]))


def _parsed(asked: np.ndarray) -> ParsedAddresses:
    return ParsedAddresses(np.ones(len(asked), np.bool_), np.zeros(len(asked), np.uint64), asked | MAPPED)


def _numbers(table: Table, starts: np.ndarray, asked: np.ndarray) -> Contestants:
    """Those that take numbers: ours, NumPy on sorted and on unsorted addresses, Polars, DuckDB."""
    parsed, size = _parsed(asked), len(asked)
    left = pl.DataFrame({"address": asked})
    right = pl.DataFrame({"address": starts, "row": np.arange(len(starts), dtype=np.int32)}).set_sorted("address")
    database = duckdb.connect()
    database.execute("SET threads TO 1")
    database.execute("SET enable_progress_bar TO false")
    for name, frame in (("asked", left), ("ranges", right)):
        database.register("frame", frame.to_arrow())
        database.execute(f"CREATE TABLE {name} AS SELECT * FROM frame")
    asof = "SELECT sum(r.row) FROM asked a ASOF JOIN ranges r ON a.address >= r.address"
    expected = np.searchsorted(starts, asked, side="right") - 1
    assert (table.ranges.find(parsed) == expected).all()
    assert (_polars(left, right).to_numpy() == expected).all()
    assert database.sql(asof).fetchall() == [(int(expected.sum()),)]
    return {
        "tocsin": (size, lambda: table.ranges.find(parsed)),
        "NumPy searchsorted": (size, lambda: np.searchsorted(starts, asked, side="right")),
        "Polars join_asof, sorted there and back": (size, lambda: _polars(left, right)),
        "DuckDB ASOF join, one thread": (size, lambda: database.sql(asof).fetchall()),
    }


def _polars(left: pl.DataFrame, right: pl.DataFrame) -> pl.Series:
    ordered = left.with_row_index("at").sort("address").join_asof(right, on="address")
    return ordered.sort("at").get_column("row")


def _text(table: Table, asked: np.ndarray) -> Contestants:
    text = format_addresses(_parsed(asked[:TEXT_ADDRESSES]))
    size = len(text)
    return {
        "tocsin, from text": (size, lambda: table.ranges.find(parse_addresses(text))),
        "tocsin, reading text only": (size, lambda: parse_addresses(text)),
    }


def _maxmind(asked: np.ndarray) -> Contestants:
    path = os.environ.get("TOCSIN_BENCH_MMDB")
    if not path:
        return {}
    import maxminddb

    reader = maxminddb.open_database(path, maxminddb.MODE_MMAP_EXT)
    text = format_addresses(_parsed(asked[: TEXT_ADDRESSES // 10])).to_list()
    return {"maxminddb C reader": (len(text), lambda: [reader.get(address) for address in text])}


def _attach(table: Table, rng: np.random.Generator) -> Contestants:
    """Attach five columns to a batch: 500,000 events, 50,000 distinct addresses on each side."""
    pool = rng.integers(0, 2**32, BATCH_ADDRESSES, dtype=np.uint64)
    text = format_addresses(_parsed(pool))
    threats = text[: BATCH_ADDRESSES // 10].to_frame("indicator")
    refs = reference(geo=table, threats=threats)
    sides = {name: text.gather(rng.integers(0, BATCH_ADDRESSES, BATCH_ROWS)) for name in ("src_ip", "dst_ip")}
    batch = pl.DataFrame(sides)
    columns = ["src_country", "src_latitude", "src_longitude", "src_listed", "dst_listed"]
    return {
        "events, five columns attached": (BATCH_ROWS, lambda: refs.attach(batch, columns)),
        "events, five columns attached by distinct address": (BATCH_ROWS, lambda: _by_distinct(refs, batch, columns)),
    }


def _by_distinct(refs: Any, batch: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    """The other way to do it: look up each distinct address once and join the answers back."""
    for column, side in (("src_ip", "src_"), ("dst_ip", "dst_")):
        wanted = [name for name in columns if name.startswith(side)]
        distinct = refs.attach(batch.select(pl.col(column).unique()), wanted)
        batch = batch.join(distinct, on=column, how="left", maintain_order="left")
    return batch


def _interleaved(contestants: Contestants, runs: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for work in contestants.values():
        work[1]()
    for _ in range(runs):
        for name, (_size, work) in contestants.items():
            started = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - started)
    return times
