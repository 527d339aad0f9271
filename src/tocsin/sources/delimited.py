"""CSV, where quotes may hide newlines and a broken line must cost only itself.

Enters: chunks of lines. Leaves: `Parsed` with one text column a field. A chunk that is plainly regular is parsed whole;
any other is read record by record: a record grows by lines only while a quote is open, and when that leads nowhere the
first line alone is rejected and reading goes on at the next. Layer: sources.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from tocsin.errors import SourceError
from tocsin.sources.clean import Parsed
from tocsin.sources.counting import count_byte
from tocsin.sources.jsonl import shown

MAX_RECORD_LINES: Final = 1_000
MAX_RECORD_BYTES: Final = 1 << 20


@dataclass(slots=True)
class DelimitedParser:
    """Reads one CSV file, chunk after chunk; keeps an unfinished record for the next chunk.

    Attributes:
        header: The columns' names.
        separator: One character.
        next_line: Number of the line the next record starts on.
    """

    header: list[str]
    separator: str
    next_line: int = 2
    _held: bytes = field(default=b"")

    def parse(self, data: bytes, *, last: bool) -> Parsed:
        """Return the records that end in this chunk."""
        data = self._held + data
        self._held = b""
        return self._regular(data) or self._by_record(data, last=last)

    def _regular(self, data: bytes) -> Parsed | None:
        """Parse a chunk at once if it has no quotes, blank lines or bytes that are no text, and all lines have all fields."""
        lines = count_byte(data, b"\n") + (not data.endswith(b"\n"))
        if not data or b'"' in data or b"\0" in data or b"\n\n" in data or b"\n\r" in data or _lone_returns(data):
            return None
        if (
            data[:1] in b"\r\n"
            or count_byte(data, self.separator.encode()) != lines * (len(self.header) - 1)
            or len(self.header) == 1
        ):
            return None
        try:
            if not data.isascii():
                data.decode("utf-8")
            frame = pl.read_csv(
                io.BytesIO(data), has_header=False, new_columns=self.header, separator=self.separator, quote_char=None, infer_schema=False,
                truncate_ragged_lines=False,
            )  # fmt: skip
        except (UnicodeDecodeError, pl.exceptions.PolarsError):
            return None
        if frame.height != lines or frame.width != len(self.header):
            return None
        numbers = pl.int_range(self.next_line, self.next_line + lines, eager=True, dtype=pl.Int64)
        self.next_line += lines
        return Parsed(frame, numbers)

    def _by_record(self, data: bytes, *, last: bool) -> Parsed:
        lines = data.split(b"\n")
        if lines and not lines[-1]:
            lines.pop()
        rows: list[list[str | None]] = []
        numbers: list[int] = []
        bad: list[tuple[int, str, str]] = []
        at = 0
        while at < len(lines):
            if not lines[at].strip():
                at += 1
                continue
            used, fields, reason = self._record(lines, at)
            if used == 0 and not last:
                break  # the open quote may close in the next chunk
            if fields is None:
                bad.append((self.next_line + at, shown(lines[at]), reason))
            else:
                rows.append(fields)
                numbers.append(self.next_line + at)
            at += max(used, 1)
        self._held = b"".join(line + b"\n" for line in lines[at:])
        self.next_line += at
        frame = pl.DataFrame(rows, schema=dict.fromkeys(self.header, pl.String), orient="row")
        return Parsed(frame, pl.Series(numbers, dtype=pl.Int64), [], bad)

    def _record(self, lines: list[bytes], at: int) -> tuple[int, list[str | None] | None, str]:
        """Return (lines used, fields, reason); no fields means the first line is bad, zero lines that the input ended in a quote."""
        if b'"' not in lines[at]:
            fields, reason = self._fields(lines[at])
            return 1, fields, reason
        record, reason = b"", ""
        for count in range(1, MAX_RECORD_LINES + 1):
            if at + count > len(lines):
                return 0, None, "a quote is opened and never closed"
            record = record + b"\n" + lines[at + count - 1] if record else lines[at]
            if len(record) > MAX_RECORD_BYTES and count > 1:
                break
            fields, reason = self._fields(record)
            if reason != _OPEN_QUOTE:
                return (count, fields, reason) if fields is not None else (1, None, reason)
        return 1, None, _OPEN_QUOTE

    def _fields(self, record: bytes) -> tuple[list[str | None] | None, str]:
        try:
            text = record.decode("utf-8").removesuffix("\r")
            rows = list(csv.reader([text], delimiter=self.separator, strict=True))
        except UnicodeDecodeError as error:
            return None, f"not UTF-8 at byte {error.start + 1}"
        except csv.Error as error:
            return None, _OPEN_QUOTE if "unexpected end of data" in str(error) else f"not CSV: {error}"
        found = rows[0] if rows else []
        if len(found) != len(self.header):
            return None, f"expected {len(self.header)} fields, found {len(found)}"
        return list(found), ""


def _lone_returns(data: bytes) -> bool:
    return b"\r" in data and count_byte(data, b"\r") != data.count(b"\r\n")


_OPEN_QUOTE: Final = "a quote is opened and never closed"


def read_header(head: bytes, separator: str) -> list[str]:
    r"""Return the column names on the first line, empty and repeated names made unique.

    >>> read_header(b"time,ip,ip,\n1,2,3,4", ",")
    ['time', 'ip', 'ip_2', 'column_4']
    """
    line = head.split(b"\n", 1)[0].removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").strip("\r\n")
    names: list[str] = []
    try:
        fields = next(csv.reader([line], delimiter=separator), [])
    except csv.Error as error:  # carriage returns for newlines, or one endless field
        raise SourceError(f"the first line is no header of a CSV file: {error}") from None
    for number, raw in enumerate(fields, 1):
        name = raw.strip() or f"column_{number}"
        count = sum(n == name or n.startswith(f"{name}_") for n in names)
        names.append(name if name not in names else f"{name}_{count + 1}")
    return names


def text_kind(values: pl.Series) -> str:
    """Return the kind of a column of text nobody declared, from a sample: a code with a leading zero stays text.

    >>> text_kind(pl.Series(["1", "20", None])), text_kind(pl.Series(["007"])), text_kind(pl.Series(["1.5", "2"]))
    ('int', 'text', 'float')
    """
    present = values.drop_nulls().filter(values.drop_nulls() != "")
    if not len(present):
        return "text"
    forms = {
        "int": r"^-?(0|[1-9]\d{0,17})$",
        "float": r"^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$",
        "bool": r"^(?i:true|false)$",
    }
    for kind, form in forms.items():
        if present.str.contains(form).all():
            return kind
    return "text"
