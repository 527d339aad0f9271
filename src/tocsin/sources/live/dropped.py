"""One whole file, read in bounded parts from any row on.

Enters: an `Input`. Leaves: `Part` values, in the order of the file, each a run of its records. Layer: sources.

Rows are counted as ids count them: by line, by row of a table. A part ends where it ends whatever was asked for before, so
the parts of a file may be read again cut otherwise, and together they hold the same records and the same damage.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
import pyarrow as pa

from tocsin.errors import SourceError
from tocsin.sources import files, loglines, parquet
from tocsin.sources.clean import Parsed
from tocsin.sources.jsonl_fast import Fields
from tocsin.sources.records import Parser

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from tocsin.sources.files import Input
    from tocsin.sources.mapping import Mapping

Fault = tuple[int, bytes, str]
_CHUNK_BYTES: Final = 1 << 20
_TABLE_ROWS: Final = 100_000
_NEWLINE: Final = 10
_NO_FIELDS: Final = Fields({}, {}, frozenset())
_BROKEN: Final = (OSError, pa.ArrowException, pl.exceptions.PolarsError, SourceError)


class Lying:
    """Files that are left lying, since their names say no format: each is told once, and only so many."""

    def __init__(self, most: int = 20) -> None:
        self._most, self._seen = most, set[str]()
        self._new: list[str] = []

    def note(self, path: Path, name: str) -> None:
        """Note that something in the folder is not read."""
        if name not in self._seen and len(self._seen) < self._most and path.is_file():
            self._seen.add(name)
            self._new.append(name)

    def take(self) -> list[str]:
        """Return what was not told yet."""
        new, self._new = self._new, []
        return [f"{name!r} is not read: its name says no format (.jsonl, .csv, .parquet, .log, ...)" for name in new]


@dataclass(frozen=True, slots=True)
class Part:
    """Records of a file in a row.

    Attributes:
        first: Number of the first line of `data`.
        data: Whole lines, where the file has lines.
        parsed: The records, where their format is not JSON lines.
        faults: Damage found among or after them.
        rows: How many records and faults.
    """

    first: int
    data: bytes = b""
    parsed: tuple[Parsed, ...] | None = None
    faults: tuple[Fault, ...] = ()
    rows: int = 0


@dataclass(slots=True)
class _Lines:
    """Lines that were read and not yet given."""

    data: bytes
    ends: NDArray[np.int64]
    given: int = 0


class Reading:
    """Reads a file on from a row.

    Attributes:
        source: The file.
        at: The number of the last record or fault that was given; 0 at the beginning.
    """

    def __init__(self, source: Input, mapping: Mapping, at: int = 0) -> None:
        self.source, self._mapping = source, mapping
        self.at = at if source.format == "parquet" else 0
        self._items = self._read(at)
        self._held: deque[_Lines | Parsed | Fault] = deque()
        self._look()
        while self.at < at and self.part(at - self.at, 1 << 62, until=at).rows:
            pass

    @property
    def ended(self) -> bool:
        """Whether the file was given to its end."""
        return not self._held

    def part(self, most_rows: int, most_bytes: int, until: int | None = None) -> Part:
        """Return what comes next: at most so many records and bytes, none beyond `until`; one that is larger comes alone.

        Damage that follows comes with it, and counts as a row.
        """
        first, held = self.at + 1, self._held[0] if self._held else None
        part = Part(first)
        if isinstance(held, _Lines):
            part = self._lines(held, most_rows, most_bytes, until)
        elif isinstance(held, Parsed):
            part = self._table(held, most_rows, most_bytes, until)
        self._look()
        faults: list[Fault] = []
        while (
            self._held
            and isinstance(fault := self._held[0], tuple)
            and part.rows + len(faults) < most_rows
            and (until is None or fault[0] <= until)
        ):
            faults.append(fault)
            self.at = max(self.at, fault[0])
            self._held.popleft()
            self._look()
        return Part(first, part.data, part.parsed, tuple(faults), part.rows + len(faults))

    def _look(self) -> None:
        """Read on where nothing is held."""
        if not self._held and (item := next(self._items, None)) is not None:
            self._held.append(item)

    def _lines(self, held: _Lines, most_rows: int, most_bytes: int, until: int | None) -> Part:
        start, given = self._start(held), held.given
        if until is not None:
            most_rows = min(most_rows, until - self.at)
        fitting = int(np.searchsorted(held.ends, start + most_bytes))  # the last of them ends within the bytes
        last = min(max(fitting, given + 1), given + most_rows, int(held.ends.size))
        data = held.data[start : held.ends[last - 1] + 1]
        first = self.at + 1
        held.given, self.at = last, self.at + last - given
        if last == len(held.ends):
            self._held.popleft()
        rows = sum(1 for line in data.split(b"\n") if line.strip()) if _blanks(data) else last - given
        if self.source.format == "lines":
            return Part(first, data, (loglines.parse_log(data, first, self._mapping),), (), rows)
        return Part(first, data, None, (), rows)

    @staticmethod
    def _start(held: _Lines) -> int:
        return int(held.ends[held.given - 1]) + 1 if held.given else 0

    def _table(self, held: Parsed, most_rows: int, most_bytes: int, until: int | None) -> Part:
        """Give the first records of a table, cut where their numbers say."""
        bad = [line for line, _, _ in held.bad_lines]
        numbers = np.sort(np.concatenate([held.lines.to_numpy(), np.array(bad, np.int64)]))
        rows = len(numbers) if until is None else int(np.searchsorted(numbers, until, "right"))
        each = max(int(held.frame.estimated_size()) // max(len(numbers), 1), 1)
        rows = min(rows, most_rows, max(most_bytes // each, 1))
        first = self.at + 1
        self._held.popleft()
        if rows < len(numbers):
            k = int(held.lines.search_sorted(int(numbers[rows]), "left"))
            after = [b for b in held.bad_lines if b[0] >= numbers[rows]]
            before = [b for b in held.bad_lines if b[0] < numbers[rows]]
            self._held.appendleft(Parsed(held.frame.slice(k), held.lines.slice(k), [], after))
            held = Parsed(held.frame.head(k), held.lines.head(k), [], before)
        if rows:
            self.at = int(numbers[rows - 1])
        return Part(first, b"", (held,), (), rows)

    def _read(self, at: int) -> Iterator[_Lines | Parsed | Fault]:
        """Yield what the file holds; whatever breaks ends it with a fault."""
        last = at if self.source.format == "parquet" else 0
        try:
            if self.source.format == "parquet":
                for start, frame in parquet.slices(self.source.path, rows=_TABLE_ROWS, first=at):
                    last = start + len(frame)
                    yield parquet.parsed(start, frame)
            elif self.source.format in {"jsonl", "csv"} or (self.source.format == "lines" and self._mapping.patterns):
                yield from self._text()
            else:
                yield (1, b"", _UNKNOWN)
        except _BROKEN as error:
            yield (last + 1, b"", f"not a readable {self.source.format} file: {str(error)[:200]}")

    def _text(self) -> Iterator[_Lines | Parsed | Fault]:
        parser = Parser(self.source, _NO_FIELDS, self._mapping)
        for item in files.chunked(self.source, _CHUNK_BYTES):
            if isinstance(item, files.Fault):
                yield (parser.place(item), item.value or parser.torn, item.reason)
            elif self.source.format == "csv":
                yield from (p for p in parser.parse(item) if len(p.lines) or p.bad_lines)
            elif data := parser.whole_lines(item):
                data = data if data.endswith(b"\n") else data + b"\n"
                ends = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)
                parser.line += len(ends)
                yield _Lines(data, ends)


def _blanks(data: bytes) -> bool:
    return data[:1] in b" \t\r\n" or any(b in data for b in (b"\n\n", b"\n ", b"\n\t", b"\n\r"))


_UNKNOWN: Final = (
    "its format cannot be told: JSON lines, CSV and Parquet are known, log lines by the patterns of a mapping"
)
