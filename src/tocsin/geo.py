"""Geo tables: where an address is, from CSV, Parquet or MMDB, and the country table that ships.

Enters: a path (CSV with the columns of `CSV_COLUMNS`, Parquet, MMDB) or a frame. Leaves: a `Table` of
address ranges with the value columns of `GEO_VALUES`. Layer: ground floor (above addresses and tables).
"""

from __future__ import annotations

from array import array
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import maxminddb
import numpy as np
import polars as pl

from tocsin.addresses import ParsedAddresses, parse_addresses, parse_numbers
from tocsin.errors import TableError, did_you_mean
from tocsin.tables import RANGE_KEY, Table

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from datetime import datetime

__all__ = ["CSV_COLUMNS", "GEO_VALUES", "Progress", "country_table", "geo_from_frame", "geo_import", "read_geo"]

#: The columns of a geo CSV, as in the workshop notebook; addresses as text or as whole numbers, ends inclusive.
CSV_COLUMNS = ("lo_addr", "hi_addr", "latitude", "longitude", "country_iso_code", "city_name")
#: The value columns every geo table has (degrees, ISO 3166 alpha-2, free text); null where not known.
GEO_VALUES = ("latitude", "longitude", "country_iso_code", "city_name")

_VALUE_TYPES = {
    "latitude": pl.Float64,
    "longitude": pl.Float64,
    "country_iso_code": pl.String,
    "city_name": pl.String,
}
_MAX_LATITUDE, _MAX_LONGITUDE = 90.0, 180.0
_REPORT_EVERY = 100_000
_LOW64 = (1 << 64) - 1
_LAST_V4 = 0xFFFFFFFFFFFF
_NEVER = -2
_COUNTRY_FILE = "country.parquet"


class Progress(Protocol):
    """Called now and then with the ranges done so far and the most there can be (None: not known)."""

    def __call__(self, done: int, total: int | None, /) -> None:
        """Show it."""


def read_geo(
    source: str | os.PathLike[str] | pl.DataFrame | Table,
    *,
    valid_from: datetime | None = None,
    progress: Progress | None = None,
) -> Table:
    """Read a geo table from a file or frame; ``"country"`` is the table that ships with the package.

    Files: ``.csv``, ``.csv.gz``, ``.csv.zst`` or ``.parquet`` with `CSV_COLUMNS` (only the first two are
    required), a table saved by `geo_import`, or ``.mmdb``. ``valid_from`` makes it one version of several.
    Raises :class:`TableError` for missing columns, unreadable addresses, overlapping or inverted ranges.

    >>> import polars as pl
    >>> frame = pl.DataFrame({"lo_addr": ["10.0.0.0"], "hi_addr": ["10.0.0.255"], "country_iso_code": ["NZ"]})
    >>> read_geo(frame).join_range(pl.DataFrame({"ip": ["10.0.0.7"]}), on="ip")["country_iso_code"].item()
    'NZ'
    """
    if isinstance(source, Table):
        table = source
    elif isinstance(source, pl.DataFrame):
        table = geo_from_frame(source, name="geo")
    elif str(source) == "country":
        table = country_table()
    else:
        table = _read_file(Path(source), progress)
    if not table.is_range or not set(GEO_VALUES) <= set(table.values):
        msg = f'Table "{table.name}" is no geo table: it needs address ranges and the columns {", ".join(GEO_VALUES)}.'
        raise TableError(msg)
    _ = table.ranges  # overlapping ranges are reported here, not at the first look-up
    return table if valid_from is None else table.at(valid_from)


def geo_import(
    source: str | os.PathLike[str] | pl.DataFrame,
    target: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    valid_from: datetime | None = None,
) -> Table:
    """Convert any geo source once into the Parquet file that loads fastest; return the table written.

    Neighbouring ranges with the same values are merged. The file is written whole or not at all.
    """
    table = read_geo(source, valid_from=valid_from, progress=progress)
    merged = Table(
        table.name, merge_neighbours(table.frame), RANGE_KEY, table.values, table.valid_from, table.tier, table.notes
    )
    merged.save(target)
    if progress is not None:
        progress(merged.frame.height, merged.frame.height)
    return merged


def country_table() -> Table:
    """Return the country table that ships with the package: "IP Geolocation by DB-IP", https://db-ip.com, CC BY 4.0.

    It knows countries only: latitude, longitude and city are null.
    """
    with resources.as_file(resources.files("tocsin") / "data" / _COUNTRY_FILE) as path:
        return Table.load(path)


def geo_from_frame(frame: pl.DataFrame, *, name: str, notes: dict[str, str] | None = None) -> Table:
    """Make a geo table of a frame with `CSV_COLUMNS`; missing value columns become null."""
    bounds = range_bounds(frame, name)
    values = pl.DataFrame([_value(frame, column, name) for column in GEO_VALUES])
    ordered = pl.DataFrame(bounds).hstack(values).sort(RANGE_KEY)
    return Table(name, ordered, RANGE_KEY, GEO_VALUES, notes=notes or {})


def range_bounds(frame: pl.DataFrame, name: str) -> dict[str, Any]:
    """Return the key columns of a range table from ``lo_addr`` and ``hi_addr``, written as text or whole numbers."""
    bounds: dict[str, Any] = {}
    for column, keys in (("lo_addr", RANGE_KEY[:2]), ("hi_addr", RANGE_KEY[2:])):
        if column not in frame.columns:
            msg = f'{name}: no column "{column}"; a table of ranges needs lo_addr and hi_addr.'
            raise TableError(msg + did_you_mean(column, frame.columns))
        parsed = _addresses(frame[column], name)
        bounds |= {keys[0]: parsed.hi, keys[1]: parsed.lo}
    return bounds


def _addresses(series: pl.Series, name: str) -> ParsedAddresses:
    """Read addresses written as text or as numbers (a column may mix them)."""
    numbers = parse_numbers(series)
    if not numbers.valid.all():
        text = parse_addresses(series.cast(pl.String).str.strip_chars())
        numbers = ParsedAddresses(
            numbers.valid | text.valid,
            np.where(numbers.valid, numbers.hi, text.hi),
            np.where(numbers.valid, numbers.lo, text.lo),
        )
    if not numbers.valid.all():
        wrong = np.flatnonzero(~numbers.valid)
        shown = ", ".join(f"row {row} ({series[int(row)]!r})" for row in wrong[:5])
        msg = f'{name}: {len(wrong):,} values in column "{series.name}" are no addresses: {shown}.'
        raise TableError(msg)
    return numbers


def _value(frame: pl.DataFrame, column: str, name: str) -> pl.Series:
    dtype = _VALUE_TYPES[column]
    if column not in frame.columns:
        return pl.Series(column, [None], dtype=dtype).new_from_index(0, frame.height)
    series = frame[column].cast(pl.String) if dtype == pl.String else frame[column].cast(dtype, strict=False)
    if dtype == pl.String:
        return series.set(series == "", None)
    limit = _MAX_LATITUDE if column == "latitude" else _MAX_LONGITUDE
    given = frame[column].is_not_null()
    if frame[column].dtype == pl.String:
        given &= frame[column].str.strip_chars() != ""
    wrong = given & ~(series.abs() <= limit).fill_null(value=False)
    if wrong.any():
        row = int(wrong.arg_true()[0])
        msg = f'{name}: row {row}, column "{column}": {frame[column][row]!r} is not within ±{limit:g} degrees.'
        raise TableError(msg)
    return series


def _read_file(path: Path, progress: Progress | None) -> Table:
    if not path.is_file():
        msg = f'{path}: there is no such geo file (or say geo="country" for the table that ships).'
        raise TableError(msg)
    suffixes = "".join(path.suffixes).lower()
    if suffixes.endswith(".mmdb"):
        return _read_mmdb(path, progress)
    if suffixes.endswith(".parquet"):
        if "tocsin" in (pl.read_parquet_metadata(path) if _is_parquet(path) else {"tocsin": ""}):
            return Table.load(path)
        return geo_from_frame(pl.read_parquet(path), name=path.name)
    if suffixes.endswith((".csv", ".csv.gz", ".csv.zst")):
        return geo_from_frame(read_range_csv(path), name=path.name)
    msg = f"{path}: a geo table is .csv, .csv.gz, .csv.zst, .parquet or .mmdb."
    raise TableError(msg)


def _is_parquet(path: Path) -> bool:
    try:
        pl.read_parquet_metadata(path)
    except (pl.exceptions.PolarsError, OSError):
        return False
    return True


def read_range_csv(path: Path) -> pl.DataFrame:
    """Read a CSV of ranges, every column as text."""
    text = dict.fromkeys(("lo_addr", "hi_addr", "country_iso_code", "city_name"), pl.String)
    try:
        # "NA" is Namibia: only an empty cell is null here.
        return pl.read_csv(path, schema_overrides=text, null_values=[""], infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        msg = f"{path}: the file cannot be read as CSV ({' '.join(str(error).split())[:200]})."
        raise TableError(msg) from error


def _read_mmdb(path: Path, progress: Progress | None) -> Table:
    try:
        with maxminddb.open_database(path) as reader:
            about = reader.metadata()
            columns = _collect(_entries(reader), about.node_count + 1, progress)
    except (maxminddb.InvalidDatabaseError, ValueError, OSError) as error:
        msg = f"{path}: the MMDB file is damaged or is none ({' '.join(str(error).split())[:200]}). Fetch it again."
        raise TableError(msg) from error
    notes = {"source": f"{about.database_type}", "built_epoch_seconds": str(about.build_epoch)}
    return Table(path.name, pl.DataFrame(columns).sort(RANGE_KEY), RANGE_KEY, GEO_VALUES, notes=notes)


def _entries(reader: maxminddb.Reader) -> Iterator[tuple[int, int, Any]]:
    for network, record in reader:
        first, last = int(network.network_address), int(network.broadcast_address)
        tag = 0xFFFF << 32 if network.version == 4 else 0
        yield first | tag, last | tag, record


def _collect(entries: Iterator[tuple[int, int, Any]], most: int, progress: Progress | None) -> dict[str, pl.Series]:
    """Gather the ranges as columns; equal neighbours are joined on the way, and packed, to keep memory small."""
    ends = tuple(array("Q") for _ in RANGE_KEY)
    places = array("q")
    known: dict[tuple[Any, ...], int] = {}
    previous = _NEVER
    for count, (first, last, record) in enumerate(entries):
        place = known.setdefault(_place(record), len(known))
        if previous + 1 == first and places[-1] == place:
            ends[2][-1], ends[3][-1] = last >> 64, last & _LOW64
        else:
            for column, value in zip(ends, (first >> 64, first & _LOW64, last >> 64, last & _LOW64), strict=True):
                column.append(value)
            places.append(place)
        previous = _NEVER if last == _LAST_V4 else last  # the families never join
        if progress is not None and count % _REPORT_EVERY == 0:
            progress(count, most)
    columns = {name: pl.Series(np.array(side, np.uint64)) for name, side in zip(RANGE_KEY, ends, strict=True)}
    rows = np.array(places, np.int64)
    found = list(known)
    for at, (name, dtype) in enumerate(_VALUE_TYPES.items()):
        columns[name] = pl.Series([place[at] for place in found], dtype=dtype, strict=False).gather(rows)
    return columns


def _place(record: Any) -> tuple[Any, ...]:
    """Return (latitude, longitude, country, city) of a GeoIP2-shaped (nested) or flat record."""
    if not isinstance(record, dict):
        return (None, None, None, None)
    location, country, city = record.get("location"), record.get("country"), record.get("city")
    at = location if isinstance(location, dict) else record
    code = country.get("iso_code") if isinstance(country, dict) else record.get("country_code", country)
    if isinstance(city, dict):
        names = city.get("names") or {}
        city = names.get("en") or next(iter(names.values()), None)
    return (at.get("latitude"), at.get("longitude"), code or None, city or None)


def merge_neighbours(frame: pl.DataFrame) -> pl.DataFrame:
    """Join ranges that touch and have equal values; the frame comes back in order of its ranges."""
    values = [name for name in frame.columns if name not in RANGE_KEY]
    lo_hi, lo_lo, hi_hi, hi_lo = (pl.col(name) for name in RANGE_KEY)
    frame = frame.sort(RANGE_KEY)
    most = np.uint64(0xFFFFFFFFFFFFFFFF)
    previous_hi, previous_lo = hi_hi.shift(1), hi_lo.shift(1)
    touches = ((lo_hi == previous_hi) & (lo_lo > 0) & (lo_lo - 1 == previous_lo)) | (
        (lo_lo == 0) & (previous_lo == most) & (lo_hi > 0) & (lo_hi - 1 == previous_hi)
    )
    # IPv4 and IPv6 never join: the first address of either family always starts a range.
    v4_edge = (lo_hi == 0) & ((lo_lo == 0xFFFF << 32) | (lo_lo == 0x10000 << 32))
    same = pl.all_horizontal([pl.col(name).eq_missing(pl.col(name).shift(1)) for name in values])
    run = (~(touches & same & ~v4_edge)).fill_null(value=True).cast(pl.UInt32).cum_sum()
    merged = frame.with_columns(run.alias("__tocsin_run")).group_by("__tocsin_run", maintain_order=True)
    firsts = [pl.col(name).first() for name in (*RANGE_KEY[:2], *values)]
    return merged.agg(*firsts, *(pl.col(name).last() for name in RANGE_KEY[2:])).select(frame.columns)
