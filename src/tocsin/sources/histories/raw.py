"""The rows of a file of alerts as they stand, with their lines; what is no row is set aside with its reason.

Enters: a path, folder, glob, URL, `-` or table. Leaves: one `Rows` a file. Layer: sources.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from tocsin.errors import SourceError
from tocsin.sources import files, jsonl, parquet, records
from tocsin.sources.clean import Parsed
from tocsin.sources.jsonl_fast import Fields, fast_kind
from tocsin.sources.mapping import Mapping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.sources.files import Input

_DOCUMENT_BYTES: Final = 256 << 20
_SQLITE: Final = b"SQLite format 3\x00"
_INSIDE: Final = ("value", "hits.hits", "data", "alerts", "incidents")
"""Where a JSON document that is one object keeps its list of rows."""


@dataclass(slots=True)
class Rows:
    """The rows of one file.

    Attributes:
        name: The file's name in rejects.
        parsed: The rows with their line numbers, and the lines that are none.
    """

    name: str
    parsed: Parsed
    read: int = field(init=False)

    def __post_init__(self) -> None:
        """Count what was read."""
        self.read = len(self.parsed.lines) + len(self.parsed.bad_lines)


def read_rows(
    source: Any,
    *,
    format: str | None = None,  # noqa: A002
    separator: str = ",",
) -> Iterator[Rows]:
    """Yield the rows of each file of a source.

    Raises:
        SourceError: Nothing there, not readable at all, or no table.
    """
    if isinstance(source, pl.DataFrame):
        yield Rows("table", parquet.parsed(0, source))
        return
    if not hasattr(source, "__fspath__") and not isinstance(source, str):
        if type(source).__module__.split(".")[0] == "pandas":
            yield Rows("table", parquet.parsed(0, pl.from_pandas(source)))
            return
        raise SourceError(
            f"cannot read alerts from a {type(source).__name__}; give a path, folder, glob, URL, or a Polars or pandas table"
        )
    for item in files.resolve(source, format=format):
        if files.first_bytes(item, len(_SQLITE)) == _SQLITE:
            raise SourceError(
                f"{item.name} is a database (SQLite), not a file of alerts. If it is an alert log, name it with --log,"
                " or write its alerts into a file first: tocsin alerts export FILE.jsonl --what ocsf --log LOG"
            )
        yield Rows(item.name, _parsed(item, separator))


def sniff(source: Any) -> tuple[str | None, str]:
    """Return the format to say and the separator of a text file of alerts, judged by its first line; (None, ",") for all else."""
    if not isinstance(source, str) and not hasattr(source, "__fspath__"):
        return None, ","
    text = str(source)
    if text == "-" or "://" in text:  # these can be read once only
        return None, ","
    item = files.resolve(source)[0]
    if item.format not in {"csv", "lines"} or item.separator is not None:
        return None, ","
    first = files.first_bytes(item, 65_536).split(b"\n", 1)[0].decode(errors="replace")
    bare = re.sub(r'"[^"]*"', "", first)
    best = max(",;\t|", key=bare.count)
    if not bare.count(best):
        return None, ","
    return ("csv" if item.format == "lines" else None), best


def _parsed(source: Input, separator: str) -> Parsed:
    if source.format == "parquet":
        try:
            return parquet.parsed(0, pl.read_parquet(source.path))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise SourceError(f"{source.name} is not a readable Parquet file: {error}") from None
    if source.format == "excel":
        return parquet.parsed(0, pl.read_excel(source.path))
    head = files.first_bytes(source, 4_096)
    if not head.removeprefix(b"\xef\xbb\xbf").strip():
        raise SourceError(f"{source.name} is empty: it holds no alerts.")
    if head[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise SourceError(f"{source.name} is UTF-16 text. Save it as UTF-8: iconv -f UTF-16 -t UTF-8 {source.name}")
    if source.format == "jsonl":
        document = _document(source, head)
        if document is not None:
            return document
    elif source.format != "csv":
        raise SourceError(
            f'{source.name}: alerts are read from CSV, JSON lines or Parquet; if it is one of them, say so: format = "csv" under [history]'
        )
    mapping = Mapping(separator=separator)
    _, kinds = records.sample(source, mapping)
    fields = Fields({n: fast_kind(k, "text") for n, k in kinds.items()}, dict.fromkeys(kinds, "text"), frozenset())
    return together([piece for chunk in records.records(source, fields, mapping) for piece in chunk])


def together(pieces: list[Parsed]) -> Parsed:
    """Return pieces of a file as one, in the order of their lines, every column as text."""
    frames = [p.frame.cast(pl.String) for p in pieces if p.frame.width]
    bad = sorted((b for p in pieces for b in p.bad_lines), key=lambda b: b[0])
    if not frames:
        return Parsed(pl.DataFrame(), pl.Series(dtype=pl.Int64), [], bad)
    frame = pl.concat(frames, how="diagonal")
    lines = pl.concat([p.lines for p in pieces if p.frame.width]).cast(pl.Int64)
    if not lines.is_sorted():
        order = lines.arg_sort()
        frame, lines = frame[order], lines.gather(order)
    return Parsed(frame, lines, [], bad)


def _document(source: Input, head: bytes) -> Parsed | None:
    found = document_rows(source, head)
    return None if found is None else jsonl.parse_numbered(found, range(1, len(found) + 1), {}, frozenset())


def document_rows(source: Input, head: bytes | None = None) -> list[bytes] | None:
    """Return the rows of a file that is one JSON document, a list or an object that holds one; None for JSON lines."""
    head = files.first_bytes(source, 4_096) if head is None else head
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    first = start.split(b"\n", 1)[0].strip()
    if start[:1] != b"[" and isinstance(jsonl.parse_line(first), dict) and not _holds_rows(first):
        return None
    data = files.first_bytes(source, _DOCUMENT_BYTES).removeprefix(b"\xef\xbb\xbf")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    found = value if isinstance(value, list) else _inside(value)
    return None if found is None else [json.dumps(item, ensure_ascii=True).encode() for item in found]


def _holds_rows(line: bytes) -> bool:
    try:
        return _inside(json.loads(line)) is not None
    except (ValueError, RecursionError):
        return False


def _inside(value: Any) -> list[Any] | None:
    for path in _INSIDE:
        found = value
        for key in path.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, list) and found and all(isinstance(item, dict) for item in found):
            return found
    return None
