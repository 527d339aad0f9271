"""Batches in time order, however the rows came and however many there are.

Enters: accepted frames, in the order they were read. Leaves: a `Store` whose `batches` are repeatable, bounded and in
time order (or in arrival order, when asked). Small inputs stay in memory. Large ones are spilled as sorted runs in a
temporary folder and, when the runs overlap in time, merged once, range by range. Layer: sources.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import polars as pl
import pyarrow.parquet as pq

from tocsin.sources.files import ahead

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

MEMORY_BYTES: Final = 192 << 20
RUN_BYTES: Final = 64 << 20
GROUP_ROWS: Final = 16_384
RANGE_ROWS: Final = 400_000
_SAMPLE_EVERY: Final = 512
_MICROSECOND: Final = timedelta(microseconds=1)


class Store(Protocol):
    """Accepted rows at rest."""

    schema: dict[str, pl.DataType]

    @property
    def rows(self) -> int:
        """How many they are."""
        ...

    def batches(
        self, columns: Sequence[str], size: int, since: datetime | None, until: datetime | None
    ) -> Iterator[pl.DataFrame]:
        """Yield the rows with since <= timestamp < until, `size` at a time."""
        ...

    def frame(self) -> pl.LazyFrame:
        """Return all rows as a lazy frame."""
        ...


def rebatch(frames: Iterable[pl.DataFrame], size: int) -> Iterator[pl.DataFrame]:
    """Cut and join frames so that each has `size` rows, the last one fewer.

    >>> [len(f) for f in rebatch([pl.DataFrame({"a": range(5)}), pl.DataFrame({"a": range(2)})], 3)]
    [3, 3, 1]
    """
    held: list[pl.DataFrame] = []
    held_rows = 0
    for frame in frames:
        start = 0
        while held_rows + len(frame) - start >= size:
            take = size - held_rows
            held.append(frame.slice(start, take))
            yield held[0] if len(held) == 1 else pl.concat(held)
            held, held_rows, start = [], 0, start + take
        if start < len(frame):
            held.append(frame.slice(start))
            held_rows += len(frame) - start
    if held:
        yield pl.concat(held)


def between(frame: pl.DataFrame, since: datetime | None, until: datetime | None) -> pl.DataFrame:
    """Keep the rows with since <= timestamp < until."""
    if since is not None:
        frame = frame.filter(pl.col("timestamp") >= since)
    if until is not None:
        frame = frame.filter(pl.col("timestamp") < until)
    return frame


class MemoryStore:
    """Rows in one frame."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame
        self.schema = dict(frame.schema)
        self.rows = len(frame)

    def batches(
        self, columns: Sequence[str], size: int, since: datetime | None, until: datetime | None
    ) -> Iterator[pl.DataFrame]:
        """Yield slices of the frame."""
        frame = between(self._frame.select(columns), since, until)
        yield from (frame.slice(start, size) for start in range(0, len(frame), size))

    def frame(self) -> pl.LazyFrame:
        """Return the frame."""
        return self._frame.lazy()


@dataclass(frozen=True, slots=True)
class Run:
    """A Parquet file of rows in the order they are wanted, with its range of times."""

    path: Path
    rows: int
    low: datetime
    high: datetime


class SpillStore:
    """Rows in Parquet files that follow one another; the folder goes when the store does."""

    def __init__(self, folder: Path, runs: list[Run], schema: dict[str, pl.DataType]) -> None:
        self._runs = runs
        self.schema = schema
        self.rows = sum(run.rows for run in runs)
        self._cleanup = weakref.finalize(self, shutil.rmtree, str(folder), ignore_errors=True)

    def batches(
        self, columns: Sequence[str], size: int, since: datetime | None, until: datetime | None
    ) -> Iterator[pl.DataFrame]:
        """Read row groups ahead in a thread and cut them to size."""

        def groups() -> Iterator[pl.DataFrame]:
            for run in self._runs:
                if (since is None or run.high >= since) and (until is None or run.low < until):
                    for frame in read_groups(run.path, columns, self.schema):
                        yield between(frame, since, until)

        yield from ahead(lambda: rebatch(groups(), size), depth=1)

    def frame(self) -> pl.LazyFrame:
        """Scan the files."""
        empty = pl.LazyFrame(schema=self.schema)
        scans = [pl.scan_parquet(run.path) for run in self._runs]
        lazy = pl.concat([empty, *scans], how="diagonal")
        # The files are deleted with the store, so the lazy frame must keep it alive.
        _KEEP_ALIVE[lazy] = self
        return lazy


_KEEP_ALIVE: weakref.WeakKeyDictionary[pl.LazyFrame, SpillStore] = weakref.WeakKeyDictionary()


def read_groups(
    path: Path, columns: Sequence[str], schema: dict[str, pl.DataType], rows: int = 16 * GROUP_ROWS
) -> Iterator[pl.DataFrame]:
    """Yield a Parquet file some row groups at a time, columns it lacks as nulls."""
    scan = pl.scan_parquet(path)
    present = set(scan.collect_schema().names())
    have = [pl.col(c) if c in present else pl.lit(None, dtype=schema[c]).alias(c) for c in columns]
    total = pq.read_metadata(path).num_rows
    for start in range(0, total, rows):
        yield scan.slice(start, rows).select(have).collect()


class Collector:
    """Takes accepted frames one after another and becomes a `Store`."""

    def __init__(
        self,
        *,
        by_time: bool,
        memory_bytes: int = MEMORY_BYTES,
        run_bytes: int = RUN_BYTES,
        range_rows: int = RANGE_ROWS,
    ) -> None:
        self._by_time = by_time
        self._memory_bytes, self._run_bytes, self._range_rows = memory_bytes, run_bytes, range_rows
        self._frames: list[pl.DataFrame] = []
        self._bytes = 0
        self._folder: Path | None = None
        self._runs: list[Run] = []
        self._schema: dict[str, pl.DataType] = {}
        self._guard: weakref.finalize[..., object] | None = None

    def add(self, frame: pl.DataFrame) -> None:
        """Take a frame of accepted rows."""
        for name, dtype in frame.schema.items():
            self._schema.setdefault(name, dtype)
        if not len(frame):
            return
        self._frames.append(frame)
        self._bytes += int(frame.estimated_size())
        if self._bytes > (self._memory_bytes if self._folder is None else self._run_bytes):
            self._spill()

    def finish(self) -> Store:
        """Return the store; the collector is used up."""
        if self._folder is None:
            frame = self._joined(self._frames)
            return MemoryStore(self._in_order(frame))
        if self._frames:
            self._spill()
        if self._by_time and not _follow(self._runs):
            self._runs = self._merge()
        assert self._guard is not None
        self._guard.detach()
        return SpillStore(self._folder, self._runs, self._schema)

    def _joined(self, frames: list[pl.DataFrame]) -> pl.DataFrame:
        empty = pl.DataFrame(schema=self._schema)
        same = all(f.columns == empty.columns for f in frames)
        return pl.concat([empty, *frames], how="vertical" if same else "diagonal")

    def _in_order(self, frame: pl.DataFrame) -> pl.DataFrame:
        if not self._by_time or frame["timestamp"].is_sorted():
            return frame
        return frame.sort("timestamp", maintain_order=True)

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="tocsin-"))
            self._guard = weakref.finalize(self, shutil.rmtree, str(self._folder), ignore_errors=True)
        self._runs.append(self._write(self._in_order(self._joined(self._frames)), f"run-{len(self._runs):05}"))
        self._frames, self._bytes = [], 0

    def _write(self, frame: pl.DataFrame, name: str) -> Run:
        assert self._folder is not None
        path = self._folder / f"{name}.parquet"
        frame.write_parquet(path, compression="lz4", row_group_size=GROUP_ROWS)
        low, high = frame.select(low=pl.col("timestamp").min(), high=pl.col("timestamp").max()).row(0)
        return Run(path, len(frame), low, high)

    def _merge(self) -> list[Run]:
        """Rewrite overlapping sorted runs as runs that follow one another, one range of times after the other."""
        cursors = [_Cursor(run, self._schema) for run in self._runs]
        merged: list[Run] = []
        cuts = _cuts(self._runs, self._range_rows)
        for low, high in zip([None, *cuts], [*cuts, None], strict=True):
            one_time = low is not None and high == low + _MICROSECOND
            pieces: list[pl.DataFrame] = []
            for cursor in cursors:
                for piece in cursor.take(high):
                    pieces.append(piece)
                    # A single time may have any number of rows; among them any order is right, so write as they come.
                    if one_time and sum(map(len, pieces)) >= self._range_rows:
                        merged.append(self._write(pl.concat(pieces), f"part-{len(merged):05}"))
                        pieces = []
            if pieces:
                merged.append(self._write(self._in_order(pl.concat(pieces)), f"part-{len(merged):05}"))
        for run in self._runs:
            run.path.unlink()
        return merged


def _follow(runs: list[Run]) -> bool:
    return all(a.high <= b.low for a, b in pairwise(runs))


def _cuts(runs: list[Run], range_rows: int) -> list[datetime]:
    """Times that cut all runs together into ranges of about `range_rows` rows; a crowded time has a range to itself."""
    every = max(min(_SAMPLE_EVERY, range_rows // 8), 1)
    samples = [pl.read_parquet(r.path, columns=["timestamp"])["timestamp"].gather_every(every) for r in runs]
    picked = pl.concat(samples).sort().gather_every(max(range_rows // every, 1)).to_list()
    cuts: set[datetime] = set(picked)
    for a, b in pairwise(picked):
        if a == b:
            cuts.add(a + _MICROSECOND)
    return sorted(cuts)


class _Cursor:
    """Reads a sorted run from front to back, a time limit at a time, holding at most one row group."""

    def __init__(self, run: Run, schema: dict[str, pl.DataType]) -> None:
        self._groups = read_groups(run.path, list(schema), schema, rows=GROUP_ROWS)
        self._held: pl.DataFrame | None = next(self._groups, None)

    def take(self, high: datetime | None) -> Iterator[pl.DataFrame]:
        """Yield the rows before `high` that have not been taken yet."""
        while self._held is not None:
            end = len(self._held) if high is None else int(self._held["timestamp"].search_sorted(high, side="left"))
            if end:
                yield self._held.head(end)
            if end < len(self._held):
                self._held = self._held.slice(end)
                return
            self._held = next(self._groups, None)
