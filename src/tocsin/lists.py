"""Indicator lists: threat lists, asset lists and allow-lists, read from text, CSV or JSONL.

Enters: paths or frames holding single addresses, CIDR blocks, ranges, domains, e-mail addresses (and, in
asset and allow-lists, any other name). Leaves: `Indicators`: clean entries, and the lines that were not
usable with file, line and reason. Layer: ground floor (above addresses, tables).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from tocsin.addresses import parse_ranges
from tocsin.errors import TableError, did_you_mean
from tocsin.list_files import FIELDS, MAX_TEXT, Line, parse_moment, read_lines
from tocsin.tables import RANGE_KEY, Table

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from typing import TypeAlias

    ListSource: TypeAlias = str | os.PathLike[str] | pl.DataFrame | "Indicators"

__all__ = ["ALLOW_NEEDS", "Indicators", "read_allow", "read_assets", "read_threats"]

#: What every allow-list entry must say beside its indicator.
ALLOW_NEEDS = ("owner", "reason", "scope", "expires")

_MOMENT = pl.Datetime("us", "UTC")
_TEXT_FIELDS = tuple(name for name in FIELDS if name not in ("first_seen", "expires"))
_SCHEMA: dict[str, Any] = (
    dict.fromkeys(_TEXT_FIELDS, pl.String)
    | {"first_seen": _MOMENT, "expires": _MOMENT, "kind": pl.String}
    | dict.fromkeys(RANGE_KEY, pl.UInt64)
    | {"file": pl.String, "line": pl.Int64}
)
_REJECTED: dict[str, Any] = {
    "file": pl.String,
    "line": pl.Int64,
    "column": pl.String,
    "value": pl.String,
    "reason": pl.String,
}
_DOMAIN = r"^([\p{L}\p{N}_]([\p{L}\p{N}_-]{0,61}[\p{L}\p{N}_])?\.)+[\p{L}\p{N}_-]*[\p{L}][\p{L}\p{N}_-]*$"
_EMAIL = r"^[^\s@]{1,128}@[^\s@]+$"
_LONGEST_DOMAIN = 253
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Indicators:
    """A list ready to match: ``entries`` (one row each, in an order of their own) and ``rejected`` lines.

    ``kind`` of an entry is address, email, domain or name; address entries carry their range in `RANGE_KEY`.
    An entry holds for first_seen <= t < expires; a null end is open.
    """

    name: str
    entries: pl.DataFrame
    rejected: pl.DataFrame

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the entries' content; neither their order nor the file they came from matters."""
        content = self.entries.drop("file", "line").unique(maintain_order=True)  # in order of content already
        return Table(self.name, content.with_row_index("row"), ("row",), tuple(content.columns)).digest

    @property
    def dated(self) -> bool:
        """True when any entry has a first-seen or an expiry time."""
        return bool((self.entries["first_seen"].is_not_null() | self.entries["expires"].is_not_null()).any())


def read_threats(source: ListSource | Sequence[ListSource]) -> Indicators:
    """Read one or more threat lists; lines that are no indicator are kept in ``.rejected``.

    >>> import polars as pl
    >>> listed = read_threats(pl.DataFrame({"indicator": ["1.2.3.0/24", "bad.example", "1.2.3.999"]}))
    >>> listed.entries["kind"].sort().to_list(), listed.rejected["value"].to_list()
    (['address', 'domain'], ['1.2.3.999'])
    """
    return _read(source, "threats", names=False)


def read_assets(source: ListSource | Sequence[ListSource]) -> Indicators:
    """Read one or more asset lists: address, CIDR block, host or user -> asset name, owner, criticality.

    A line that names no asset is known by its own indicator.
    """
    found = _read(source, "assets", names=True)
    named = found.entries.with_columns(asset=pl.coalesce("asset", "reason", "indicator"))
    return Indicators(found.name, named, found.rejected)


def read_allow(source: ListSource | Sequence[ListSource]) -> Indicators:
    """Read one or more allow-lists. An entry without owner, reason, scope and expiry raises :class:`TableError`.

    Strict on purpose: an exception nobody owns, or that never ends, hides attacks. ``scope`` is a glob over
    detection ids, such as ``mail.*``.
    """
    found = _read(source, "allow", names=True)
    problems = [
        f"{row['file']}:{row['line']}: {row['reason']} ({row['value']!r})"
        for row in found.rejected.head(_SHOWN).iter_rows(named=True)
    ]
    missing = found.entries.filter(pl.any_horizontal(pl.col(name).is_null() for name in ALLOW_NEEDS))
    for row in missing.sort("file", "line").head(_SHOWN).iter_rows(named=True):
        absent = [name for name in ALLOW_NEEDS if row[name] is None]
        problems.append(f"{row['file']}:{row['line']}: {row['indicator']!r} has no {', '.join(absent)}")
    if problems:
        count = found.rejected.height + missing.height
        noun = "entry" if count == 1 else "entries"
        msg = "\n".join([f"Allow-list: {count:,} {noun} cannot be used.", *problems])
        raise TableError(msg + "\nEvery entry needs indicator, owner, reason, scope (a detection id or glob), expires.")
    content = pl.struct(pl.exclude("file", "line", *RANGE_KEY))
    ids = [_entry_id(row) for row in found.entries.select(content.alias("row"))["row"]]
    return Indicators(found.name, found.entries.with_columns(id=pl.coalesce("id", pl.Series(ids))), found.rejected)


def _entry_id(row: dict[str, Any]) -> str:
    one = pl.DataFrame([row], schema={name: _SCHEMA[name] for name in row})
    return "allow-" + Table("allow", one.with_row_index("row"), ("row",), tuple(row)).digest[:12]


def _read(source: ListSource | Sequence[ListSource], name: str, *, names: bool) -> Indicators:
    several: Sequence[ListSource] = source if isinstance(source, (list, tuple)) else (source,)
    lists = [_read_one(one, name, names=names) for one in several]
    entries = pl.concat([one.entries for one in lists]) if lists else pl.DataFrame(schema=_SCHEMA)
    rejected = pl.concat([one.rejected for one in lists]) if lists else pl.DataFrame(schema=_REJECTED)
    # Ties between equally specific entries are broken by content, never by the order of lines or files.
    order = ["first_seen", "reason", "source", "expires", "indicator", *_TEXT_FIELDS[1:], "file", "line"]
    order = list(dict.fromkeys(order))
    entries = entries.sort(order, descending=[c == "first_seen" for c in order], nulls_last=True)
    return Indicators(name, entries, rejected)


def _read_one(source: ListSource, name: str, *, names: bool) -> Indicators:
    if isinstance(source, Indicators):
        return source
    if isinstance(source, pl.DataFrame):
        return _classify(*_frame_lines(source, name), names=names)
    path = Path(source)
    if not path.is_file():
        near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        msg = f"{path}: there is no such list ({name}).{did_you_mean(path.name, near)}"
        raise TableError(msg)
    return _classify(*read_lines(path), names=names)


def _frame_lines(frame: pl.DataFrame, name: str) -> tuple[list[Line], list[tuple[Any, ...]]]:
    known = [column for column in FIELDS if column in frame.columns]
    if "indicator" not in known:
        hint = did_you_mean("indicator", frame.columns)
        msg = f'The {name} frame has no column "indicator" (it has {", ".join(frame.columns)}).{hint}'
        raise TableError(msg)
    rows = frame.select(known).iter_rows(named=True)
    return [(f"<{name}>", at, dict(row)) for at, row in enumerate(rows, 1)], []


def _classify(lines: list[Line], rejected: list[tuple[Any, ...]], *, names: bool) -> Indicators:
    """Sort lines into entries by kind; what is nothing known, or has a bad date, is rejected."""
    rejected = list(rejected)
    good: list[dict[str, Any]] = []
    for file, number, fields in lines:
        entry = _entry(file, number, fields, rejected)
        if entry is not None:
            good.append(entry)
    frame = pl.DataFrame(good, schema={key: _SCHEMA[key] for key in (*FIELDS, "file", "line")}, orient="row")
    frame = _with_kind(frame, names=names)
    usable = pl.col("problem").is_null()
    for row in frame.filter(~usable).iter_rows(named=True):
        rejected.append((row["file"], row["line"], "indicator", row["indicator"], row["problem"]))
    entries = frame.filter(usable).select(pl.col(key).cast(dtype) for key, dtype in _SCHEMA.items())
    unused = pl.DataFrame(rejected, schema=_REJECTED, orient="row").sort("file", "line", maintain_order=True)
    return Indicators("", entries, unused)


def _entry(file: str, number: int, fields: dict[str, Any], rejected: list[tuple[Any, ...]]) -> dict[str, Any] | None:
    entry: dict[str, Any] = {"file": file, "line": number}
    for name in FIELDS:
        value = fields.get(name)
        if name in ("first_seen", "expires"):
            try:
                entry[name] = parse_moment(value)
            except ValueError as error:
                rejected.append((file, number, name, str(value)[:MAX_TEXT], str(error)))
                return None
        else:
            text = "" if value is None else str(value).strip()
            entry[name] = text[:MAX_TEXT] or None
    if not entry["indicator"] or len(str(fields.get("indicator"))) > MAX_TEXT:
        why = "no indicator" if not entry["indicator"] else f"longer than {MAX_TEXT} characters"
        rejected.append((file, number, "indicator", entry["indicator"] or "", why))
        return None
    since, until = entry["first_seen"], entry["expires"]
    if since is not None and until is not None and since >= until:
        rejected.append((file, number, "expires", until.isoformat(), "expires before it is first seen"))
        return None
    return entry


def _with_kind(frame: pl.DataFrame, *, names: bool) -> pl.DataFrame:
    """Add kind, the range of addresses, and ``problem`` (null where the entry is usable)."""
    plain = pl.col("indicator").str.replace_all(r"[\[(]\.[\])]", ".").str.replace_all(r"[\[(](@|at)[\])]", "@")
    frame = frame.with_columns(indicator=plain)
    ranges = parse_ranges(frame["indicator"])
    start, end = ranges.start, ranges.end
    inverted = (start.hi > end.hi) | ((start.hi == end.hi) & (start.lo > end.lo))
    numbers = {
        name: pl.Series(values) for name, values in zip(RANGE_KEY, (start.hi, start.lo, end.hi, end.lo), strict=True)
    }
    lower = pl.col("indicator").str.to_lowercase()
    host = lower.str.strip_prefix("@").str.strip_prefix("*.").str.strip_prefix(".").str.strip_suffix(".")
    is_domain = host.str.contains(_DOMAIN) & (host.str.len_chars() <= _LONGEST_DOMAIN)
    is_email = lower.str.contains(_EMAIL) & lower.str.split("@").list.last().str.contains(_DOMAIN)
    kind = (
        pl.when("valid").then(pl.lit("address"))
        .when(is_email).then(pl.lit("email"))
        .when(is_domain).then(pl.lit("domain"))
        .when(pl.lit(names)).then(pl.lit("name"))
    )  # fmt: skip
    key = pl.when(kind == "domain").then(host).when(kind == "email").then(lower).otherwise("indicator")
    problem = (
        pl.when(pl.col("valid") & pl.col("inverted")).then(pl.lit("the range's first address is after its last"))
        .when(kind.is_null()).then(pl.lit("no address, block, range, domain or e-mail address"))
    )  # fmt: skip
    frame = frame.with_columns(valid=pl.Series(ranges.valid), inverted=pl.Series(inverted), **numbers)
    frame = frame.with_columns(kind=kind, indicator=key, problem=problem)
    absent = pl.col("kind") != "address"
    return frame.with_columns(pl.when(absent).then(None).otherwise(pl.col(name)).alias(name) for name in RANGE_KEY)


def rejected_of(lists: Iterable[Indicators | None]) -> pl.DataFrame:
    """Return the unusable lines of several lists as one frame with the list's name."""
    frames = [one.rejected.select(pl.lit(one.name).alias("list"), *_REJECTED) for one in lists if one is not None]
    return pl.concat(frames) if frames else pl.DataFrame(schema={"list": pl.String, **_REJECTED})
