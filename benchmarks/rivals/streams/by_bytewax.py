"""Bytewax: micro-batches of 10,000 events, read and combined by Polars, then its own windows; findings into SQLite.

Enters: a format, the folder of the inputs, a database. Leaves: one JSON line. Layer: none (outside the package).

Its guide advises to hand batches through a flow instead of single events. So an item is a frame of 10,000 events, and what is
keyed is one partial count for each user and day in it, a tenth as many items as events and a fraction of the cost.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bytewax.operators as op
import bytewax.operators.windowing as win
import polars as pl
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH = 10_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SCHEMA = {"event_id": pl.String, "timestamp": pl.String, "kind": pl.String, "user_id": pl.String, "nr_recipients": pl.Int64,
          "attachments": pl.List(pl.String)}  # fmt: skip


class _Partition(StatefulSourcePartition):
    def __init__(self, form: str, folder: Path, resume: int | None, times: list[float]) -> None:
        self._frames, self._at, self._times = _frames(form, folder), resume or 0, times
        for _ in islice(self._frames, self._at):
            pass

    def next_batch(self) -> list[pl.DataFrame]:
        frame, is_rest = next(self._frames)
        if is_rest and not self._times:
            self._times.append(time.monotonic())
        self._at += 1
        return [frame]

    def snapshot(self) -> int:
        return self._at


def _frames(form: str, folder: Path) -> Iterator[tuple[pl.DataFrame, bool]]:
    for path in [*sorted((folder / form / "run-in").iterdir()), *sorted((folder / form / "rest").iterdir())]:
        if form == "parquet":
            parts: Any = pl.read_parquet(path, columns=list(SCHEMA)).iter_slices(BATCH)
        else:
            parts = _parsed(path)
        for frame in parts:
            yield frame.filter(pl.col("kind") == "mail"), path.parent.name == "rest"


def _parsed(path: Path) -> Iterator[pl.DataFrame]:
    with path.open("rb") as file:
        while lines := list(islice(file, BATCH)):
            frame = pl.read_ndjson(b"".join(lines), schema=SCHEMA)
            yield frame.with_columns(pl.col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us"))


class _Source(FixedPartitionedSource):
    def __init__(self, form: str, folder: Path, times: list[float]) -> None:
        self._form, self._folder, self._times = form, folder, times

    def list_parts(self) -> list[str]:
        return ["all"]

    def build_part(self, _step_id: str, _part: str, resume: int | None) -> _Partition:
        return _Partition(self._form, self._folder, resume, self._times)


class _Table(StatelessSinkPartition):
    def __init__(self, database: Path, statement: str) -> None:
        self._log, self._statement = sqlite3.connect(database, timeout=60), statement

    def write_batch(self, items: list[Any]) -> None:
        with self._log:
            self._log.executemany(self._statement, [row for rows in items for row in rows])


class _Sink(DynamicSink):
    def __init__(self, database: Path, statement: str) -> None:
        self._given = database, statement

    def build(self, _step_id: str, _worker: int, _workers: int) -> _Table:
        return _Table(*self._given)


def _partial_counts(frame: pl.DataFrame) -> list[tuple[str, tuple[datetime, int]]]:
    by = frame.group_by("user_id", pl.col("timestamp").dt.date().alias("day")).agg(pl.col("timestamp").max(), pl.len())
    return [(user, (at, n)) for user, _, at, n in by.sort("timestamp").iter_rows()]


def _stateless(frame: pl.DataFrame) -> list[tuple[str]]:
    exe = pl.col("attachments").list.eval(pl.element().str.to_lowercase().str.ends_with(".exe")).list.any()
    return frame.filter((pl.col("nr_recipients") > 10) & exe).select("event_id").rows()


def main(form: str, folder: Path, database: Path) -> dict[str, Any]:
    """Run one flow over the run-in and the rest; the clock starts with the rest."""
    began = time.monotonic()
    with sqlite3.connect(database) as log:
        log.execute("PRAGMA journal_mode = WAL")
        log.execute("CREATE TABLE stateless (event_id TEXT PRIMARY KEY)")
        log.execute("CREATE TABLE daily (user_id TEXT, day INTEGER, n INTEGER, PRIMARY KEY (user_id, day))")
    limits = {user: 3 * mean for user, mean in pl.read_parquet(folder / "baseline.parquet").iter_rows()}

    def above(item: tuple[str, tuple[int, int]]) -> list[tuple[str, int, int]]:
        user, (day, n) = item
        return [(user, day, n)] if n > limits[user] else []

    times: list[float] = []
    flow = Dataflow("subset")
    frames = op.input("read", flow, _Source(form, folder, times))
    op.output(
        "stateless", op.map("exe", frames, _stateless), _Sink(database, "INSERT OR REPLACE INTO stateless VALUES (?)")
    )
    counts = op.flat_map("combine", frames, _partial_counts)
    clock = win.EventClock(ts_getter=lambda value: value[0], wait_for_system_duration=timedelta(hours=1))
    days = win.TumblingWindower(length=timedelta(days=1), align_to=EPOCH)
    windows = win.fold_window(
        "days",
        counts,
        clock,
        days,
        builder=int,
        folder=lambda n, value: n + value[1],
        merger=int.__add__,
        ordered=False,
    )
    op.output(
        "daily", op.map("above", windows.down, above), _Sink(database, "INSERT OR REPLACE INTO daily VALUES (?, ?, ?)")
    )
    with tempfile.TemporaryDirectory(dir=database.parent) as recovery:
        init_db_dir(Path(recovery), 1)
        cli_main(flow, recovery_config=RecoveryConfig(recovery), epoch_interval=timedelta(seconds=10))
    return {"seconds": time.monotonic() - times[0], "start_seconds": times[0] - began}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
