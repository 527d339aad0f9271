"""Reading JSON lines under gzip: tocsin, with its checks, beside bare readers that are told the columns.

Enters: the made data, written once as `events.jsonl.gz`. Leaves: events a second by reader.
Layer: none (outside the package).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from benchmarks.data import CHUNK_EVENTS, Data, Size, make
from benchmarks.harness import in_new_process, interleaved, medians, timed

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.harness import Measurement

COLUMNS = {
    "event_id": "VARCHAR",
    "timestamp": "TIMESTAMPTZ",
    "kind": "VARCHAR",
    "user_id": "VARCHAR",
    "src_ip": "VARCHAR",
    "dst_ip": "VARCHAR",
    "nr_recipients": "BIGINT",
    "attachments": "VARCHAR[]",
    "nr_attachments": "BIGINT",
}


def run(size: Size, folder: Path, runs: int) -> dict[str, Any]:
    """Measure the readers side by side."""
    written(make(size, folder))
    measured = interleaved(READERS, runs, lambda name: in_new_process("jsonl", size, folder, reader=name))
    return {"events": size.events, "runs": runs, "readers": {name: medians(each) for name, each in measured.items()}}


def written(data: Data) -> Path:
    """Return the JSONL.gz form of the events, writing it first if it is not there."""
    import gzip

    path = data.folder / "events.jsonl.gz"
    if not path.exists():
        part = path.with_suffix(".part")
        iso = pl.col("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
        with gzip.open(part, "wb", compresslevel=6) as file:
            for batch in pl.scan_parquet(data.events).collect_batches(chunk_size=CHUNK_EVENTS):
                batch.with_columns(timestamp=iso).write_ndjson(file)
        part.rename(path)
    return path


def read(data: Data, reader: str) -> Measurement:
    """Time one reader from the file to frames in memory, batch by batch."""
    path = written(data)
    READERS[reader](written(make(_TINY, data.folder.parent)))
    rows, wall, cpu = timed(lambda: READERS[reader](path))
    if rows != data.size.events:
        raise AssertionError(f"{reader} read {rows} of {data.size.events} events")
    return {"rows": rows, "seconds": {"read": wall}, "cpu_seconds": {"read": cpu}, "events_per_second": rows / wall}


def _tocsin(path: Path) -> int:
    import tocsin as tc

    return sum(batch.height for batch in tc.read(path).batches(list(COLUMNS)))


def _duckdb(path: Path) -> int:
    import duckdb

    connection = duckdb.connect()
    connection.sql("set TimeZone = 'UTC'")
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS.items())
    query = f"from read_json('{path}', format = 'newline_delimited', compression = 'gzip', columns = {{{columns}}})"
    return sum(batch.num_rows for batch in connection.sql(query).to_arrow_reader(CHUNK_EVENTS))


def _polars(path: Path) -> int:
    schema = {name: pl.String if kind in {"VARCHAR", "TIMESTAMPTZ"} else pl.Int64 for name, kind in COLUMNS.items()}
    events = pl.scan_ndjson(path, schema=schema | {"attachments": pl.List(pl.String)})
    time = pl.col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", time_zone="UTC")
    return sum(b.height for b in events.with_columns(time).collect_batches(chunk_size=CHUNK_EVENTS))


READERS = {"tocsin": _tocsin, "duckdb": _duckdb, "polars": _polars}
_TINY = Size(events=2_000, users=20, days=10, ranges=1_000)
