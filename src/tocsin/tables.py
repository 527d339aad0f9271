"""Table: the frozen value that history or reference data becomes before a detection may look at it.

Enters: a Polars frame with its key and value columns. Leaves: a `Table` that joins (exactly, by address
range, or as of a time), knows a digest of its contents, and is saved as one self-describing Parquet file.
Layer: ground floor (imports addresses, ranges, errors).
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tocsin.addresses import ParsedAddresses, format_addresses, parse_addresses
from tocsin.errors import TableError, did_you_mean
from tocsin.ranges import RangeIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["RANGE_KEY", "Table", "range_columns", "version_rows"]

#: Key columns of a table of address ranges: both ends, upper and lower 64 bits; IPv4 is v4-mapped.
RANGE_KEY = ("lo_addr_hi64", "lo_addr_lo64", "hi_addr_hi64", "hi_addr_lo64")

_FORMAT = "tocsin-table"
_FORMAT_VERSION = 1
_META_KEY = b"tocsin"
_TIERS = (1, 2, 3, 4)
_ROW = "__tocsin_row"
_ZSTD_LEVEL = 19


@dataclass(frozen=True, eq=False)
class Table:
    """A table a detection may be compared with. Never changed, only replaced by a later version.

    ``key`` names the columns rows are found by (each key at most once), ``values`` the columns a join adds.
    ``valid_from`` is the first instant (UTC) the table may be used for; None means always.
    ``tier`` is the kind of detection it serves: 1 constants, 2 reference, 3 own history, 4 population.
    ``notes`` is free text kept with the file (source, licence, attribution).

    >>> import polars as pl
    >>> owners = Table("owners", pl.DataFrame({"host": ["a", "b"], "owner": ["x", "y"]}), ("host",), ("owner",))
    >>> owners.join(pl.DataFrame({"host": ["b", "c"]}))["owner"].to_list()
    ['y', None]
    """

    name: str
    frame: pl.DataFrame
    key: tuple[str, ...]
    values: tuple[str, ...]
    valid_from: datetime | None = None
    tier: int = 2
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the shape, so that a wrong table fails where it is made and not in a join."""
        for column in (*self.key, *self.values):
            if column not in self.frame.columns:
                hint = did_you_mean(column, self.frame.columns)
                msg = f'Table "{self.name}" has no column "{column}" (it has {", ".join(self.frame.columns)}).{hint}'
                raise TableError(msg)
        if not self.key or set(self.key) & set(self.values):
            msg = f'Table "{self.name}": key {self.key} must not be empty nor share a column with the values.'
            raise TableError(msg)
        if self.tier not in _TIERS:
            msg = f'Table "{self.name}": tier {self.tier} is none of {_TIERS}.'
            raise TableError(msg)
        if self.valid_from is not None and self.valid_from.tzinfo is None:
            msg = f'Table "{self.name}": valid_from {self.valid_from} has no time zone; give it one (UTC).'
            raise TableError(msg)
        object.__setattr__(self, "frame", self.frame.select(*self.key, *self.values))
        if not self.is_range and bool(self.frame.select(pl.struct(self.key).is_duplicated().any()).item()):
            twice = self.frame.filter(pl.struct(self.key).is_duplicated()).select(self.key).row(0)
            msg = f'Table "{self.name}": the key {dict(zip(self.key, twice, strict=True))} is there more than once.'
            raise TableError(msg)

    @property
    def is_range(self) -> bool:
        """True when the rows are address ranges (the key is `RANGE_KEY`)."""
        return self.key == RANGE_KEY

    @cached_property
    def digest(self) -> str:
        """SHA-256 over name, key, times and every cell; the order of the rows does not matter."""
        head = [self.name, list(self.key), sorted(self.values), _iso(self.valid_from), self.tier]
        hasher = hashlib.sha256(json.dumps(head).encode())
        ordered = _in_key_order(self)
        for column in (*self.key, *sorted(self.values)):
            _feed(hasher, column, ordered[column])
        return hasher.hexdigest()

    @cached_property
    def ranges(self) -> RangeIndex:
        """The search index of a range table; overlapping or inverted ranges raise :class:`TableError`."""
        if not self.is_range:
            msg = f'Table "{self.name}" is keyed by {self.key}, not by address ranges ({", ".join(RANGE_KEY)}).'
            raise TableError(msg)
        start, end = _ends(self.frame)
        return RangeIndex.build(start, end, name=f'Table "{self.name}"')

    def join(self, frame: pl.DataFrame, on: Sequence[str] | None = None, prefix: str = "") -> pl.DataFrame:
        """Add the values by exact key (``on``: the frame's names for the key columns), null where absent."""
        names = self._on(frame, on)
        renamed = {value: prefix + value for value in self.values}
        right = self.frame.rename(renamed | dict(zip(self.key, names, strict=True)))
        kept = frame.drop([name for name in renamed.values() if name in frame.columns])
        return kept.join(right, on=list(names), how="left", maintain_order="left")

    def join_range(self, frame: pl.DataFrame, on: str, prefix: str = "") -> pl.DataFrame:
        """Add the values of the range that holds the address in column ``on``, null where there is none.

        >>> import polars as pl
        >>> net = pl.DataFrame({"lo_addr": ["10.0.0.0"], "hi_addr": ["10.255.255.255"], "name": ["office"]})
        >>> table = Table("nets", range_columns(net), RANGE_KEY, ("name",))
        >>> table.join_range(pl.DataFrame({"ip": ["10.1.2.3", "9.9.9.9"]}), on="ip")["name"].to_list()
        ['office', None]
        """
        self._on(frame, (on,) * len(self.key))
        rows = rows_or_null(self.ranges.find(parse_addresses(frame[on])))
        return frame.with_columns(self.frame[value].gather(rows).alias(prefix + value) for value in self.values)

    def _on(self, frame: pl.DataFrame, on: Sequence[str] | None) -> tuple[str, ...]:
        names = tuple(on) if on is not None else self.key
        if len(names) != len(self.key):
            msg = f'Table "{self.name}" has the key {self.key}; {names} names {len(names)} columns.'
            raise TableError(msg)
        for name in names:
            if name not in frame.columns:
                msg = f'Join with table "{self.name}": the frame has no column "{name}".'
                raise TableError(msg + did_you_mean(name, frame.columns))
        return names

    @staticmethod
    def join_asof(
        versions: Iterable[Table],
        frame: pl.DataFrame,
        on: Sequence[str] | None = None,
        time: str = "timestamp",
        prefix: str = "",
    ) -> pl.DataFrame:
        """Join each row with the newest version that was valid at its time (valid_from <= time).

        The version is chosen first: a key that its newest version lost is null, not looked up in an older one.
        """
        tables = sorted(versions, key=lambda table: _iso(table.valid_from))
        chosen = version_rows(tables, frame[time])
        numbered = frame.with_row_index(_ROW).with_columns(pl.Series("__tocsin_version", chosen))
        parts = []
        for number, group in numbered.partition_by("__tocsin_version", as_dict=True).items():
            table = tables[max(int(number[0]), 0)]
            join = (lambda g, t=table: t.join_range(g, (on or t.key)[0], prefix)) if table.is_range else None
            joined = join(group) if join else table.join(group, on, prefix)
            if int(number[0]) < 0:
                added = [prefix + value for value in table.values]
                joined = joined.with_columns(pl.lit(None, joined.schema[name]).alias(name) for name in added)
            parts.append(joined)
        return pl.concat(parts, how="diagonal").sort(_ROW).drop(_ROW, "__tocsin_version") if parts else frame

    def at(self, valid_from: datetime | None) -> Table:
        """Return this table as a version that may be used from ``valid_from`` on."""
        return replace(self, valid_from=valid_from)

    def save(self, path: str | os.PathLike[str], *, level: int = _ZSTD_LEVEL) -> Path:
        """Write one Parquet file with the description in its metadata; whole or not at all. level: how hard it is packed."""
        target = Path(path)
        arrow = self.frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        arrow = arrow.replace_schema_metadata({_META_KEY: json.dumps(self._description()).encode()})
        delta = {name: "DELTA_BINARY_PACKED" for name in RANGE_KEY if name in self.frame.columns}
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with temporary.open("wb") as file:
                pq.write_table(
                    arrow,
                    file,
                    compression="zstd",
                    compression_level=level,
                    use_dictionary=[name for name in self.frame.columns if name not in delta],
                    column_encoding=delta or None,
                    write_page_checksum=True,
                )
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return target

    def _description(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "name": self.name,
            "key": list(self.key),
            "values": list(self.values),
            "valid_from": _iso(self.valid_from) or None,
            "tier": self.tier,
            "digest": self.digest,
            "notes": dict(self.notes),
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Table:
        """Read a saved table; a damaged or foreign file raises :class:`TableError`."""
        try:
            # Not pq.read_table: that loads pandas and the dataset machinery, two seconds of start-up.
            with pq.ParquetFile(Path(path), page_checksum_verification=True) as file:
                arrow = file.read()
            about = json.loads((arrow.schema.metadata or {}).get(_META_KEY, b"null"))
        except FileNotFoundError:
            msg = f"{path}: there is no such table file."
            raise TableError(msg) from None
        except (pa.ArrowException, OSError, ValueError) as error:
            msg = f"{path}: the table file is damaged or is no Parquet file ({_one_line(error)}). {_REBUILD}"
            raise TableError(msg) from error
        if not isinstance(about, dict) or about.get("format") != _FORMAT:
            msg = f"{path}: a Parquet file, but not a saved table (no description). Import it first (geo import)."
            raise TableError(msg)
        if about.get("format_version") != _FORMAT_VERSION:
            msg = f"{path}: table format {about.get('format_version')}, but {_FORMAT_VERSION} is read here. {_REBUILD}"
            raise TableError(msg)
        return cls._from_description(path, about, pl.DataFrame(arrow.replace_schema_metadata(None)))

    @classmethod
    def _from_description(cls, path: str | os.PathLike[str], about: dict[str, Any], frame: pl.DataFrame) -> Table:
        try:
            since = datetime.fromisoformat(about["valid_from"]) if about["valid_from"] else None
            keys, values = tuple(about["key"]), tuple(about["values"])
            table = cls(about["name"], frame, keys, values, since, about["tier"], about["notes"])
            promised = about["digest"]
        except (KeyError, TypeError, ValueError) as error:
            msg = f"{path}: the table's description is damaged ({_one_line(error)}). {_REBUILD}"
            raise TableError(msg) from error
        if table.digest != promised:
            msg = f"{path}: the contents do not match the digest saved with them: the file was changed. {_REBUILD}"
            raise TableError(msg)
        return table


_REBUILD = "Write it again from its source, or restore it from a backup."


def range_columns(frame: pl.DataFrame) -> pl.DataFrame:
    """Replace text columns ``lo_addr``/``hi_addr`` by the four number columns of `RANGE_KEY`."""
    start, end = parse_addresses(frame["lo_addr"]), parse_addresses(frame["hi_addr"])
    for side, parsed in (("lo_addr", start), ("hi_addr", end)):
        if not parsed.valid.all():
            row = int(np.flatnonzero(~parsed.valid)[0])
            msg = f'Row {row}, column "{side}": {frame[side][row]!r} is not an IP address.'
            raise TableError(msg)
    numbers = zip(RANGE_KEY, (start.hi, start.lo, end.hi, end.lo), strict=True)
    return pl.DataFrame(dict(numbers)).hstack(frame.drop("lo_addr", "hi_addr"))


def range_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with readable ``lo_addr`` and ``hi_addr`` in place of the `RANGE_KEY` numbers."""
    start, end = _ends(frame)
    text = [format_addresses(start).alias("lo_addr"), format_addresses(end).alias("hi_addr")]
    return frame.select(*text, pl.exclude(RANGE_KEY))


def rows_or_null(rows: NDArray[np.signedinteger[Any]]) -> pl.Series:
    """Turn found rows into a series to gather by: -1 becomes null."""
    series = pl.Series(rows)
    return series.set(series < 0, None)


def version_rows(tables: Sequence[Table], times: pl.Series) -> NDArray[np.int64]:
    """Return for each time the position of the newest version valid then, -1 before the first."""
    first = [np.iinfo(np.int64).min if t.valid_from is None else _micros(t.valid_from) for t in tables]
    micros = times.cast(pl.Datetime("us", "UTC")).to_physical().fill_null(np.iinfo(np.int64).min).to_numpy()
    return np.searchsorted(np.array(first, np.int64), micros, side="right") - 1


def _ends(frame: pl.DataFrame) -> tuple[ParsedAddresses, ParsedAddresses]:
    arrays = [np.ascontiguousarray(frame[name].to_numpy()) for name in RANGE_KEY]
    valid = np.ones(frame.height, np.bool_)
    return ParsedAddresses(valid, arrays[0], arrays[1]), ParsedAddresses(valid, arrays[2], arrays[3])


def _micros(moment: datetime) -> int:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _iso(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).isoformat(timespec="microseconds")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _in_key_order(table: Table) -> pl.DataFrame:
    """Return the rows in one order whatever order they came in: by key, and by values where keys repeat."""
    if table.is_range and table.frame.height > 1:
        hi, lo = (table.frame[name].to_numpy() for name in RANGE_KEY[:2])
        if ((hi[1:] > hi[:-1]) | ((hi[1:] == hi[:-1]) & (lo[1:] > lo[:-1]))).all():
            return table.frame  # large tables are kept in order: no need to sort millions of rows again
    return table.frame.sort(*table.key, *sorted(table.values), nulls_last=False)


def _feed(hasher: hashlib._Hash, label: str, series: pl.Series) -> None:
    """Feed one column in a form of our own: kind, validity, then fixed-width little-endian cells."""
    kind, cells = _cells(series)
    hasher.update(json.dumps([label, kind, len(series)]).encode())
    hasher.update(series.is_null().to_numpy().astype(np.uint8).tobytes())
    for part in cells:
        hasher.update(part)


def _cells(series: pl.Series) -> tuple[str, list[bytes]]:
    dtype = series.dtype
    if isinstance(dtype, (pl.Categorical, pl.Enum)):
        series, dtype = series.cast(pl.String), pl.String()
    if dtype == pl.String:
        filled = series.fill_null("")
        sizes = filled.str.len_bytes().cast(pl.UInt64).to_numpy().astype("<u8")
        return "text", [sizes.tobytes(), filled.str.join("").item().encode() if len(filled) else b""]
    if dtype == pl.Boolean:
        return "bool", [series.fill_null(value=False).to_numpy().astype(np.uint8).tobytes()]
    if dtype.is_float():
        numbers = series.cast(pl.Float64).fill_null(0.0).to_numpy() + 0.0  # -0.0 and 0.0 are one value
        return "float", [np.where(np.isnan(numbers), np.nan, numbers).astype("<f8").tobytes()]
    if dtype.is_integer():
        unsigned = dtype.is_unsigned_integer()
        numbers = series.cast(pl.UInt64 if unsigned else pl.Int64).fill_null(0).to_numpy()
        return ("uint", [numbers.astype("<u8").tobytes()]) if unsigned else ("int", [numbers.astype("<i8").tobytes()])
    if dtype.is_temporal():
        scaled = series.dt.cast_time_unit("us") if isinstance(dtype, (pl.Datetime, pl.Duration)) else series
        zone = getattr(dtype, "time_zone", None) or ""
        kind = f"{type(dtype).__name__.lower()}:{zone}"
        return kind, [scaled.to_physical().cast(pl.Int64).fill_null(0).to_numpy().astype("<i8").tobytes()]
    if isinstance(dtype, pl.List):
        counts = series.list.len().fill_null(0).cast(pl.UInt64).to_numpy().astype("<u8")
        inner = series.filter(series.list.len().fill_null(0) > 0).explode()
        kind, parts = _cells(inner)
        return f"list<{kind}>", [counts.tobytes(), inner.is_null().to_numpy().astype(np.uint8).tobytes(), *parts]
    msg = f'Column "{series.name}" has type {dtype}, which a table cannot keep; use numbers, text, times or lists.'
    raise TableError(msg)
