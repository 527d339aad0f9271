"""Parquet files that are in time order already: validated once, never copied, read again for every replay.

Enters: files and a `Plan`. Leaves: a `Store` over the original files, or None when their rows are not in time order
(then the caller spills them). The first pass validates and finds the rows to leave out; later passes read only the asked
columns and convert only those that were not clean as they stood. Layer: sources.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from tocsin.sources.clean import Parsed, Rejects, clean, convert_only
from tocsin.sources.files import ahead
from tocsin.sources.order import between, rebatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from tocsin.sources.clean import Plan

READ_ROWS: Final = 500_000


@dataclass(slots=True)
class Part:
    """One Parquet file: its name in rejects, its prefix for made ids, and what the first pass found."""

    path: Path
    name: str
    prefix: str
    rows: int = 0
    low: datetime | None = None
    high: datetime | None = None
    in_order: bool = True
    left_out: list[np.ndarray] = field(default_factory=list)  # row numbers from 0, rising

    def mask(self, start: int, stop: int) -> pl.Series | None:
        """Return which of the rows [start, stop) were accepted, None for all."""
        out = self.left_out[0] if self.left_out else np.empty(0, np.int64)
        a, b = np.searchsorted(out, [start, stop])
        if a == b:
            return None
        keep = np.ones(stop - start, np.bool_)
        keep[out[a:b] - start] = False
        return pl.Series(keep)


def slices(
    path: Path, columns: Sequence[str] | None = None, rows: int = READ_ROWS
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield (first row number, rows) of a Parquet file, columns it lacks left out."""
    scan = pl.scan_parquet(path)
    if columns is not None:
        present = set(scan.collect_schema().names())
        scan = scan.select([c for c in columns if c in present])
    for start in range(0, pq.read_metadata(path).num_rows, rows):
        yield start, scan.slice(start, rows).collect()


def parsed(start: int, frame: pl.DataFrame) -> Parsed:
    """Return a slice of a table as records, numbered from 1."""
    return Parsed(frame, pl.int_range(start + 1, start + 1 + len(frame), eager=True, dtype=pl.Int64))


def inspect(
    part: Part, plan: Plan, rejects: Rejects, tick: Callable[[int], None]
) -> tuple[set[str], dict[str, pl.DataType]]:
    """Validate a file and fill in `part`; return the columns that need converting, and the types after it."""
    changed: set[str] = set()
    schema: dict[str, pl.DataType] = {}
    left_out: list[np.ndarray] = []
    columns = [o.source for o in plan.outputs if o.source is not None]
    for start, frame in ahead(lambda: slices(part.path, columns), depth=1):
        batch, accepted, touched = clean(parsed(start, frame), plan, part.name, rejects, prefix=part.prefix)
        changed |= touched
        part.rows += len(frame)
        if len(batch) < len(frame):
            left_out.append((~accepted).arg_true().to_numpy().astype(np.int64) + start)
        schema = schema or dict(batch.schema)
        _note_times(part, batch["timestamp"])
        tick(len(frame))
    part.left_out = [np.concatenate(left_out)] if left_out else []
    return changed, schema


def _note_times(part: Part, times: pl.Series) -> None:
    if not len(times):
        return
    low, high = times[0], times[-1]
    part.in_order = part.in_order and times.is_sorted() and (part.high is None or part.high <= low)
    part.low = low if part.low is None else min(part.low, low)
    part.high = high if part.high is None else max(part.high, high)


class ParquetStore:
    """Accepted rows of Parquet files that follow one another in time."""

    def __init__(self, parts: list[Part], plan: Plan, changed: set[str], schema: dict[str, pl.DataType]) -> None:
        self._parts, self._plan, self._changed = parts, plan, changed
        self.schema = schema
        self.rows = sum(p.rows - sum(map(len, p.left_out)) for p in parts)

    def batches(
        self, columns: Sequence[str], size: int, since: datetime | None, until: datetime | None
    ) -> Iterator[pl.DataFrame]:
        """Read the asked columns ahead in a thread."""

        def frames() -> Iterator[pl.DataFrame]:
            for part in self._parts:
                if part.low is None or (since and part.high and part.high < since) or (until and part.low >= until):
                    continue
                for frame in self._read(part, columns, size):
                    yield between(frame, since, until)

        yield from ahead(lambda: rebatch(frames(), size), depth=1)

    def _read(self, part: Part, columns: Sequence[str], size: int) -> Iterator[pl.DataFrame]:
        wanted = set(columns)
        converted = (wanted & self._changed) | ({"event_id", "timestamp"} & self._changed)
        plan = self._plan.only(converted)
        as_is = {
            o.rule.name: o.source for o in self._plan.outputs if o.rule.name in wanted - self._changed and o.source
        }
        needed = dict.fromkeys([*as_is.values(), *(o.source for o in plan.outputs if o.source)])
        make_ids = "event_id" not in as_is
        for start, frame in slices(part.path, list(needed), rows=min(max(size, 1), READ_ROWS)):
            made = {name: frame[source] for name, source in as_is.items() if source in frame.columns}
            if converted or make_ids:
                own = frame.select([c for c in frame.columns if c in plan.known()])
                batch = convert_only(Parsed(own, parsed(start, frame).lines), plan, prefix=part.prefix)
                made |= {name: batch[name] for name in batch.columns if name not in made}
            whole = pl.DataFrame(
                [made[c].alias(c) if c in made else _nulls(c, self.schema[c], len(frame)) for c in columns]
            )
            mask = part.mask(start, start + len(frame))
            yield whole if mask is None else whole.filter(mask)

    def frame(self) -> pl.LazyFrame:
        """Return all rows lazily: the files themselves where nothing had to be changed, else the batches."""
        untouched = not self._changed and not any(p.left_out for p in self._parts)
        if untouched and all(o.source == o.rule.name for o in self._plan.outputs):
            scans = [pl.scan_parquet(p.path) for p in self._parts if p.rows]
            return pl.concat([pl.LazyFrame(schema=self.schema), *scans], how="diagonal").select(list(self.schema))
        return lazy_batches(self)


def _nulls(name: str, dtype: pl.DataType, height: int) -> pl.Series:
    return pl.Series(name, [None], dtype=dtype).new_from_index(0, height)


def lazy_batches(store: ParquetStore) -> pl.LazyFrame:
    """Return a lazy frame that reads the store's batches, with the projection pushed into the files."""
    from polars.io.plugins import register_io_source

    def generate(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        columns = with_columns if with_columns is not None else list(store.schema)
        # The predicate may need no column beyond these: Polars lists what it uses among them.
        for batch in store.batches(columns, batch_size or READ_ROWS, None, None):
            frame = batch if predicate is None else batch.filter(predicate)
            if n_rows is not None:
                frame, n_rows = frame.head(n_rows), n_rows - min(n_rows, len(frame))
            yield frame
            if n_rows == 0:
                return

    return register_io_source(generate, schema=pl.Schema(store.schema))
