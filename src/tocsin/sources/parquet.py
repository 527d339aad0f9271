"""Parquet files in time order: never copied, validated as they are first read, read again for every replay.

Enters: files and a `Plan`. Leaves: a `Store` over the original files. The times alone are read first, to know the order.
Rows are validated by whatever asks first: a reader of batches, which then gets them on the way, or a question for counts
or rejects. Later passes read only the asked columns and convert only those that were not clean as they stood.
Layer: sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from tocsin.sources.clean import Parsed, Rejects, believable_times, clean, convert_only
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
    """One Parquet file: its name in rejects, its prefix for made ids, and what its times are (None: none can be accepted)."""

    path: Path
    name: str
    prefix: str
    rows: int = 0
    low: datetime | None = None
    high: datetime | None = None
    in_order: bool = True

    @classmethod
    def of(cls, path: Path, name: str, prefix: str) -> Part:
        """Return the part for a file, its times not yet read."""
        return cls(path, name, prefix, pq.read_metadata(path).num_rows)

    def read_times(self, plan: Plan) -> None:
        """Find out the range of the times that can be accepted, and whether they are in order."""
        source = next(o.source for o in plan.outputs if o.rule.name == "timestamp")
        for start, frame in ahead(lambda: slices(self.path, [source] if source else []), depth=1):
            times = believable_times(parsed(start, frame), plan)
            if not len(times):
                continue
            self.in_order = self.in_order and times.is_sorted() and (self.high is None or self.high <= times[0])
            low, high = cast("tuple[datetime, datetime]", (times.min(), times.max()))
            self.low = low if self.low is None else min(self.low, low)
            self.high = high if self.high is None else max(self.high, high)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What validating every row found: the rejects, the columns that need converting, and for each part the rows to leave out."""

    rejects: Rejects
    changed: frozenset[str]
    left_out: tuple[np.ndarray, ...]  # row numbers from 0, rising

    def mask(self, part: int, start: int, stop: int) -> pl.Series | None:
        """Return which of a part's rows [start, stop) were accepted, None for all."""
        out = self.left_out[part]
        a, b = np.searchsorted(out, [start, stop])
        if a == b:
            return None
        keep = np.ones(stop - start, np.bool_)
        keep[out[a:b] - start] = False
        return pl.Series(keep)


def slices(
    path: Path, columns: Sequence[str] | None = None, rows: int = READ_ROWS, first: int = 0
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield (first row number, rows) of a Parquet file from row `first` on, columns it lacks left out."""
    scan = pl.scan_parquet(path)
    total = pq.read_metadata(path).num_rows
    present = scan.collect_schema().names()
    wanted = present if columns is None else [c for c in dict.fromkeys(columns) if c in present]
    for start in range(first, total, rows):
        # A frame without columns would forget how many rows it stands for.
        nothing = pl.DataFrame(height=min(rows, total - start))
        yield start, scan.slice(start, rows).select(wanted).collect() if wanted else nothing


def parsed(start: int, frame: pl.DataFrame) -> Parsed:
    """Return a slice of a table as records, numbered from 1."""
    return Parsed(frame, pl.int_range(start + 1, start + 1 + len(frame), eager=True, dtype=pl.Int64))


class ParquetStore:
    """Accepted rows of Parquet files that follow one another in time.

    `after_part` is called with the rejects so far whenever a file has been validated; it may raise to end the reading.
    """

    def __init__(
        self, parts: list[Part], plan: Plan, schema: dict[str, pl.DataType], after_part: Callable[[Rejects], None]
    ) -> None:
        self._parts, self._plan, self._after_part = parts, plan, after_part
        self.schema = schema
        self._verdict: Verdict | None = None

    @property
    def rows(self) -> int:
        """How many rows were accepted."""
        return sum(part.rows for part in self._parts) - sum(map(len, self.verdict().left_out))

    def verdict(self, tick: Callable[[int], None] = lambda _rows: None) -> Verdict:
        """Return what validation found, validating now if nothing has read all rows yet."""
        while self._verdict is None:
            for frame in self._validated([]):
                tick(len(frame))
        return self._verdict

    def _validated(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Validate every row and yield the accepted ones; at the end, and only then, there is a verdict."""
        rejects, changed, left_out = Rejects(), set[str](), list[np.ndarray]()
        sources = [o.source for o in self._plan.outputs if o.source is not None]
        for part in self._parts:
            out = [np.empty(0, np.int64)]
            for start, frame in ahead(partial(slices, part.path, sources), depth=1):
                batch, accepted, touched = clean(
                    parsed(start, frame), self._plan, part.name, rejects, prefix=part.prefix
                )
                changed |= touched
                if len(batch) < len(frame):
                    out.append((~accepted).arg_true().to_numpy().astype(np.int64) + start)
                yield self._typed({c: batch[c] for c in columns if c in batch.columns}, columns, len(batch))
            left_out.append(np.concatenate(out))
            self._after_part(rejects)
        self._verdict = Verdict(rejects, frozenset(changed), tuple(left_out))

    def batches(
        self, columns: Sequence[str], size: int, since: datetime | None, until: datetime | None
    ) -> Iterator[pl.DataFrame]:
        """Read the asked columns ahead in a thread."""

        def frames() -> Iterator[pl.DataFrame]:
            if self._verdict is None:
                yield from self._validated(columns)
                return
            for number, part in enumerate(self._parts):
                apart = (since and part.high and part.high < since) or (until and part.low and part.low >= until)
                if not apart:
                    yield from self._read(number, columns, self._verdict)

        yield from ahead(lambda: rebatch((between(f, since, until) for f in frames()), size), depth=1)

    def _read(self, number: int, columns: Sequence[str], verdict: Verdict) -> Iterator[pl.DataFrame]:
        part, wanted, changed = self._parts[number], set(columns), verdict.changed
        converted = (wanted & changed) | ({"event_id", "timestamp"} & changed)
        plan = self._plan.only(converted)
        as_is = {o.rule.name: o.source for o in self._plan.outputs if o.rule.name in wanted - changed and o.source}
        needed = dict.fromkeys([*as_is.values(), *(o.source for o in plan.outputs if o.source)])
        make_ids = "event_id" not in as_is
        for start, frame in slices(part.path, list(needed)):
            made = {name: frame[source] for name, source in as_is.items() if source in frame.columns}
            if converted or make_ids:
                own = frame.select([c for c in frame.columns if c in plan.known()])
                batch = convert_only(Parsed(own, parsed(start, frame).lines), plan, prefix=part.prefix)
                made |= {name: batch[name] for name in batch.columns if name not in made}
            whole = self._typed(made, columns, len(frame))
            mask = verdict.mask(number, start, start + len(frame))
            yield whole if mask is None else whole.filter(mask)

    def _typed(self, made: dict[str, pl.Series], columns: Sequence[str], height: int) -> pl.DataFrame:
        """Return the asked columns; what a file does not have is null, of the type it has in the others."""
        if not columns:
            return pl.DataFrame(height=height)
        return pl.DataFrame(
            [made[c].alias(c) if self._fits(made, c) else _nulls(c, self.schema[c], height) for c in columns]
        )

    def _fits(self, made: dict[str, pl.Series], column: str) -> bool:
        return column in made and made[column].dtype == self.schema[column]

    def frame(self) -> pl.LazyFrame:
        """Return all rows lazily: the files themselves where nothing had to be changed, else the batches."""
        verdict = self.verdict()
        untouched = not verdict.changed and not any(map(len, verdict.left_out))
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
