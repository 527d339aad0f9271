"""Lines of a list file, whatever its form: plain text, CSV or JSONL, compressed or not.

Enters: a path. Leaves: (file, line, fields) for each entry under the house's field names, and the lines
that could not be read. Never raises for what is in the file. Layer: ground floor, the inside of `tocsin.lists`.
"""

from __future__ import annotations

import csv
import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from tocsin.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Line: TypeAlias = tuple[str, int, dict[str, Any]]
Rejects: TypeAlias = list[tuple[str, int, str, str, str]]

#: The longest text kept of any field (characters).
MAX_TEXT = 1000

#: The house's fields of a list entry, and the other names they go by in published lists.
FIELDS: dict[str, tuple[str, ...]] = {
    "indicator": (
        "indicator", "ioc", "ip", "ip_address", "address", "src_ip", "dst_ip", "cidr", "network", "range",
        "domain", "email", "host", "hostname", "user", "user_id", "entity", "value",
    ),
    "reason": ("reason", "reasons", "threat", "category", "threat_type", "malware", "description", "comment", "tags"),
    "source": ("source", "feed", "provider", "list"),
    "first_seen": ("first_seen", "firstseen", "first_seen_utc", "valid_from", "added", "date"),
    "expires": ("expires", "expiry", "expires_at", "valid_until", "valid_to", "end"),
    "id": ("id", "entry_id"),
    "asset": ("asset", "asset_name", "name"),
    "owner": ("owner", "contact", "team"),
    "criticality": ("criticality", "importance"),
    "scope": ("scope", "detection", "detection_id", "rule"),
}  # fmt: skip
_JOINED = ("reason",)
_LINE_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20


def read_lines(path: Path) -> tuple[list[Line], Rejects]:
    """Read a list file by its suffix: ``.csv``/``.tsv``, ``.jsonl``/``.ndjson``/``.json``, else plain text."""
    rejects: Rejects = []
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in (".gz", ".zst")]
    form = suffixes[-1] if suffixes else ""
    numbered = _text_lines(path, rejects)
    if form in (".csv", ".tsv"):
        return list(_csv(path, numbered, rejects, "\t" if form == ".tsv" else ",")), rejects
    if form in (".jsonl", ".ndjson", ".json"):
        return list(_jsonl(path, numbered, rejects)), rejects
    return list(_plain(path, numbered)), rejects


def parse_moment(value: Any) -> datetime | None:
    """Read an ISO date or date-time as UTC (no zone: UTC; a date alone: its first instant).

    >>> parse_moment("2026-03-01"), parse_moment("")
    (datetime.datetime(2026, 3, 1, 0, 0, tzinfo=datetime.timezone.utc), None)
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        msg = "not a date (write 2026-03-01 or 2026-03-01T12:00:00+00:00)"
        raise ValueError(msg) from None


def _text_lines(path: Path, rejects: Rejects) -> Iterator[tuple[int, str]]:
    """Yield (number, text); an over-long line or an early end of the file is rejected, not raised."""
    rest, number, skipping = b"", 0, False
    for chunk in _chunks(path, rejects):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            number += 1
            if skipping or len(line) > _LINE_BYTES:
                _reject_long(path, number, line, rejects)
                skipping = False
            else:
                yield number, _decode(line, number)
        if len(rest) > _LINE_BYTES:  # do not let one line without an end fill the memory
            rest, skipping = rest[:MAX_TEXT], True
    if skipping:
        _reject_long(path, number + 1, rest, rejects)
    elif rest:
        yield number + 1, _decode(rest, number + 1)
    _number_early_end(rejects, number + 1)


def _chunks(path: Path, rejects: Rejects) -> Iterator[bytes]:
    try:
        with pa.input_stream(str(path)) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
    except FileNotFoundError:
        msg = f"{path}: there is no such list."
        raise TableError(msg) from None
    except (OSError, pa.ArrowException) as error:
        rejects.append((path.name, 0, "", "", f"the file ends early: {' '.join(str(error).split())[:200]}"))


def _number_early_end(rejects: Rejects, number: int) -> None:
    for at, (file, line, column, value, reason) in enumerate(rejects):
        if line == 0:
            rejects[at] = (file, number, column, value, reason)


def _reject_long(path: Path, number: int, line: bytes, rejects: Rejects) -> None:
    shown = line[:MAX_TEXT].decode(errors="replace")
    rejects.append((path.name, number, "", shown, f"line longer than {_LINE_BYTES:,} bytes"))


def _decode(line: bytes, number: int) -> str:
    text = line.decode(errors="replace").rstrip("\r")
    return text.removeprefix("\ufeff") if number == 1 else text


def _plain(path: Path, numbered: Iterator[tuple[int, str]]) -> Iterator[Line]:
    """One indicator a line. What follows ``#``, ``;`` or a tab is kept as its reason."""
    for number, text in numbered:
        cut = min((at for at in map(text.find, "#;\t") if at >= 0), default=len(text))
        indicator = text[:cut].strip()
        if indicator:
            yield path.name, number, {"indicator": indicator, "reason": text[cut:].strip("#;\t \r")}


def _csv(path: Path, numbered: Iterator[tuple[int, str]], rejects: Rejects, delimiter: str) -> Iterator[Line]:
    header: dict[str, list[int]] | None = None
    for number, text in numbered:
        if not text.strip() or text.startswith("#"):
            continue
        try:
            cells = next(csv.reader([text], delimiter=delimiter, skipinitialspace=True))
        except csv.Error as error:
            rejects.append((path.name, number, "", text[:MAX_TEXT], f"not CSV: {error}"))
            continue
        if header is None:
            header = _header([cell.strip().lower() for cell in cells])
            if header.pop("is header", None) is not None:
                continue
        found = {name: [cells[at] for at in ats if at < len(cells)] for name, ats in header.items()}
        yield path.name, number, _fields(found)


def _header(cells: list[str]) -> dict[str, list[int]]:
    """Return where each field stands; a file whose first row names no indicator column has no header."""
    found = {
        name: sorted((cells.index(other) for other in others if other in cells), key=lambda at: others.index(cells[at]))
        for name, others in FIELDS.items()
    }
    if found["indicator"]:
        return {name: ats if name in _JOINED else ats[:1] for name, ats in found.items()} | {"is header": [0]}
    return {name: [at] for at, name in enumerate(("indicator", "reason", "source", "first_seen", "expires"))}


def _jsonl(path: Path, numbered: Iterator[tuple[int, str]], rejects: Rejects) -> Iterator[Line]:
    for number, text in numbered:
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            rejects.append((path.name, number, "", text[:MAX_TEXT], f"not JSON: {str(error)[:100]}"))
            continue
        if isinstance(record, str):
            record = {"indicator": record}
        if not isinstance(record, dict):
            rejects.append((path.name, number, "", text[:MAX_TEXT], "not a JSON object"))
            continue
        lower = {str(key).strip().lower(): value for key, value in record.items()}
        yield (
            path.name,
            number,
            _fields({name: [lower[other] for other in others if other in lower] for name, others in FIELDS.items()}),
        )


def _fields(found: dict[str, list[Any]]) -> dict[str, Any]:
    """Take the first filled cell of each field; several reason columns are joined."""
    fields: dict[str, Any] = {}
    for name, values in found.items():
        filled = [value for value in (_flat(value) for value in values) if value not in (None, "")]
        if filled:
            fields[name] = "; ".join(map(str, filled)) if name in _JOINED else filled[0]
    return fields


def _flat(value: Any) -> Any:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return value.strip() if isinstance(value, str) else value
