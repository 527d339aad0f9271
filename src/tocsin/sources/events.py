"""`read`: any source of events -> `Events`, an ordered, repeatable, bounded stream of batches.

Enters: a path, glob, folder, URL, `-`, database query, or a Polars, pandas or Arrow table; a mapping; a few options.
Leaves: `Events`. The wall clock is read here, once, and nowhere else in this room. Layer: sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import polars as pl  # noqa: TC002  (the examples in the docstrings use it)

from tocsin.errors import SourceError, did_you_mean
from tocsin.schema import ALWAYS
from tocsin.sources.clean import clip
from tocsin.sources.mapping import Mapping, as_instant, load_mapping
from tocsin.sources.order import MEMORY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import timedelta
    from pathlib import Path

    from tocsin.sources.clean import Rejects
    from tocsin.sources.describe import Description
    from tocsin.sources.order import Store

When = datetime | str


@dataclass(frozen=True, slots=True)
class Counts:
    """How many records a source held, and what became of them: read = accepted + rejected + skipped.

    Attributes:
        read: Records found (lines that are not blank, rows of a table).
        accepted: Rows in the batches.
        rejected: Rows left out.
        cells: Values left out of rows that were accepted.
        skipped: Lines of a log that are no events of this source.
    """

    read: int
    accepted: int
    rejected: int
    cells: int
    skipped: int


@dataclass(frozen=True)
class Options:
    """What the caller of `read` asked for; None means: as the mapping says."""

    mapping: Mapping | None
    name: str | None
    zone: str | None
    year: int | None
    earliest: datetime | None
    latest: datetime | None
    now: datetime
    format: str | None
    by_time: bool
    strict: bool
    progress: bool
    memory_bytes: int
    chunk_bytes: int


class Events:
    """Accepted events of one source, in time order.

    Made by `read`. Nothing is held in memory beyond what is small; `batches` may be called any number of times.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        rejects: Callable[[], Rejects],
        mapping: Mapping,
        *,
        read: int,
        skipped: int,
        recognised: bool,
        lateness: timedelta,
    ) -> None:
        self.name = name
        self.mapping = mapping
        self.recognised = recognised
        self.lateness = lateness
        self._store = store
        self._rejects = rejects
        self._read, self._skipped = read, skipped

    def __repr__(self) -> str:
        """Name, size and columns."""
        c = self.counts
        return f"Events({self.name!r}: {c.accepted:,} of {c.read:,} accepted, {c.rejected:,} rejected; {', '.join(self.columns)})"

    def __len__(self) -> int:
        """Return the number of accepted events."""
        return self.counts.accepted

    @property
    def records(self) -> int:
        """How many records the source has, accepted or not: the most events there can be, known without judging any."""
        return self._read

    @property
    def counts(self) -> Counts:
        """How many records there were, and what became of them; reads the source if nothing has yet read it to its end."""
        rejects = self._rejects()
        return Counts(self._read, self._store.rows, rejects.rows, rejects.cells, self._skipped)

    @property
    def columns(self) -> dict[str, pl.DataType]:
        """The columns of a batch and their types."""
        return dict(self._store.schema)

    @property
    def rejected(self) -> pl.DataFrame:
        """What was left out: file, line, column, value, reason; `kept` is true where only the value went, not its row.

        The first 100,000 are kept; `counts` is exact. Values are as the source has them: escape them before showing.
        """
        return self._rejects().frame()

    @property
    def reject_reasons(self) -> dict[str, int]:
        """How often each reason occurred, commonest first (exact)."""
        return dict(self._rejects().reasons.most_common())

    def batches(
        self,
        columns: Sequence[str] | None = None,
        size: int = 500_000,
        since: When | None = None,
        until: When | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield the events in time order (ties in any order), `size` rows at a time.

        Args:
            columns: The columns wanted; event_id and timestamp, and received_at, partition and source where the source
                has them, come always. None means all. Names the source does not have are left out.
            size: Rows in a batch; the last one may have fewer.
            since: Only events at or after this time (UTC where it names no zone).
            until: Only events before this time.

        >>> events = read(pl.DataFrame({"timestamp": ["2026-01-02T00:00Z", "2026-01-01T00:00Z"], "user_id": ["b", "a"]}))
        >>> [batch["user_id"].to_list() for batch in events.batches(["user_id"], size=1)]
        [['a'], ['b']]
        """
        if size < 1:
            raise SourceError(f"a batch needs at least one row, not {size}")
        have = self._store.schema
        wanted = dict.fromkeys(
            [*(c for c in ALWAYS if c in have), *(c for c in (columns if columns is not None else have) if c in have)]
        )
        start = None if since is None else as_instant(since, "since")
        end = None if until is None else as_instant(until, "until")
        yield from self._store.batches(list(wanted), size, start, end)

    def frame(self) -> pl.LazyFrame:
        """Return the events as a lazy Polars frame, to filter, group, derive and rank.

        >>> read(pl.DataFrame({"timestamp": ["2026-01-01T00:00Z"], "nr_recipients": [3]})).frame().select("nr_recipients").collect().item()
        3
        """
        return self._store.frame()

    def filter(self, *conditions: pl.Expr) -> pl.LazyFrame:
        """Return the events that meet all conditions, as a lazy frame; an unknown column is named with "did you mean"."""
        have = self._store.schema
        for condition in conditions:
            for name in condition.meta.root_names():
                if name not in have:
                    raise SourceError(
                        f"{self.name} has no column {name!r}.{did_you_mean(name, have)} It has: {', '.join(have)}."
                    )
        return self.frame().filter(*conditions)

    def describe(self, columns: Sequence[str] | None = None) -> Description:
        """Return numbers, quantiles, top values, histogram and rate per day for each column, in one bounded pass."""
        from tocsin.sources.describe import describe

        return describe(self, columns)


def read(
    source: str | Path | Any,
    *,
    mapping: str | Path | Mapping | None = None,
    zone: str | None = None,
    year: int | None = None,
    earliest: When | None = None,
    latest: When | None = None,
    strict: bool = False,
    query: str | None = None,
    format: Literal["jsonl", "csv", "parquet", "lines", "excel"] | None = None,  # noqa: A002
    order: Literal["time", "arrival"] = "time",
    name: str | None = None,
    lateness: timedelta | None = None,
    progress: bool = False,
    now: datetime | None = None,
    memory_bytes: int = MEMORY_BYTES,
    chunk_bytes: int | None = None,
) -> Events:
    """Read events from nearly anything; bad rows are set aside with their reasons and the rest goes on.

    Args:
        source: A path, a glob, a folder, ``-`` for stdin, an http(s) or s3 URL; a Polars, pandas or Arrow table; or, with
            `query`, a database URL or connection. JSONL, CSV and Parquet, also .gz and .zst; Excel; log lines by mapping.
        mapping: A TOML file, the name of a shipped mapping, or a `Mapping`. None looks whether a shipped one fits the
            source's fields (``events.recognised`` tells), else names stay as they are.
        zone: IANA zone of times that name none.
        year: Year of times that name none (syslog).
        earliest: Times before are absurd: rejected. By default the mapping's, else 1990.
        latest: Times after are absurd: rejected. By default the mapping's, else a day after now.
        strict: Raise at the first reject instead.
        query: SQL text; then `source` is the database.
        format: Overrides what the name and first bytes say.
        order: "time" sorts (out of core when large); "arrival" keeps the source's order.
        name: The source's name; by default the mapping's or the file's.
        lateness: How late events of this source may arrive; by default the mapping's.
        progress: Show progress on stderr.
        now: The moment of reading, for tests; by default the wall clock.
        memory_bytes: Rows beyond this many bytes go to temporary files.
        chunk_bytes: How much text is parsed at a time (no effect on the result).

    Raises:
        SourceError: Nothing to read, an unknown format, or a reject under `strict`.
        MappingError: No time column, or times that need a zone, unit or year; the message says what to add.

    >>> events = read(pl.DataFrame({"timestamp": ["2026-01-01T00:00:00Z", "soon"], "src_ip": ["::FFFF:1.2.3.4", "1.1.1.1"]}))
    >>> events.counts.accepted, events.rejected["reason"].to_list(), events.frame().collect()["src_ip"].item()
    (1, ['not a time'], '1.2.3.4')
    """
    from tocsin.sources import files, reading

    if order not in {"time", "arrival"}:
        raise SourceError(
            f'order must be "time" or "arrival", not {order!r}.{did_you_mean(order, ("time", "arrival"))}'
        )
    options = Options(
        mapping=None if mapping is None else load_mapping(mapping),
        name=name,
        zone=zone,
        year=year,
        earliest=None if earliest is None else as_instant(earliest, "earliest"),
        latest=None if latest is None else as_instant(latest, "latest"),
        now=now or datetime.now(UTC),
        format=format,
        by_time=order == "time",
        strict=strict,
        progress=progress,
        memory_bytes=memory_bytes,
        chunk_bytes=chunk_bytes or files.CHUNK_BYTES,
    )
    reader = reading.reader_for(source, query, options)
    result = reader.read()
    return Events(
        result.name,
        result.store,
        result.rejects,
        result.mapping,
        read=result.read,
        skipped=result.skipped,
        recognised=result.recognised,
        lateness=lateness if lateness is not None else result.mapping.lateness,
    )


__all__ = ["Counts", "Events", "clip", "read"]
