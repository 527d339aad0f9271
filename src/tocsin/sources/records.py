"""The records of a text file, chunk after chunk, whatever its format.

Enters: an `Input`, the kinds of its fields and its mapping. Leaves: `Parsed` chunks that together hold every line exactly
once: as a row, as a bad line, or as skipped. Layer: sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from tocsin.errors import SourceError
from tocsin.schema import STANDARD
from tocsin.sources import delimited, files, jsonl, jsonl_fast, loglines
from tocsin.sources.clean import Parsed
from tocsin.sources.counting import count_byte
from tocsin.sources.jsonl_fast import Fields, LineReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.sources.clean import Plan
    from tocsin.sources.files import Input
    from tocsin.sources.mapping import Mapping

SAMPLE_BYTES: Final = 1 << 20
_BOM: Final = b"\xef\xbb\xbf"


def separator_of(source: Input, mapping: Mapping) -> str:
    """Return the CSV separator: the mapping's, unless the file's name says otherwise."""
    return source.separator or mapping.separator


def sample(source: Input, mapping: Mapping) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return the first rows of a text file, as text, and the kinds its fields seem to have.

    Raises:
        SourceError: The file is not of a text format, or needs patterns that the mapping does not give.
    """
    head = files.first_bytes(source, SAMPLE_BYTES).removeprefix(_BOM)
    if len(head) == SAMPLE_BYTES:
        head = head[: head.rfind(b"\n") + 1] or head
    if source.format == "jsonl":
        return sample_lines(head)
    if source.format == "csv":
        separator = separator_of(source, mapping)
        header = delimited.read_header(head, separator)
        parser = delimited.DelimitedParser(header, separator)
        frame = parser.parse(head.split(b"\n", 1)[1] if b"\n" in head else b"", last=True).frame
        return frame, {name: delimited.text_kind(frame[name]) for name in header}
    if source.format == "lines" and mapping.patterns:
        frame = loglines.parse_log(head, 1, mapping).frame
        return frame, dict.fromkeys(loglines.fields_of(mapping), "text")
    raise SourceError(
        f"{source.name}: its format cannot be told. Say it with format= (jsonl, csv, parquet), or give a mapping with [[patterns]]"
        ' for log lines, such as mapping="postfix".'
    )


def sample_lines(head: bytes) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return the JSON lines in the beginning of a source as text, and the kinds its fields seem to have."""
    found = [r for line in head.split(b"\n") if line.strip() and isinstance(r := jsonl.parse_line(line.strip()), dict)]
    names = dict.fromkeys(name for record in found for name in record)
    kinds = {name: jsonl.kind_of(record.get(name) for record in found) for name in names}
    frame, _ = jsonl.columns_of(found, kinds, frozenset())
    return frame, kinds


def records(
    source: Input, fields: Fields, mapping: Mapping, *, chunk_bytes: int = files.CHUNK_BYTES
) -> Iterator[list[Parsed]]:
    """Yield a file's records chunk by chunk, parsed in a thread; damage ends the file with a bad line that says where and why.

    The records of a chunk may come in several pieces whose lines alternate.
    """
    parser = Parser(source, fields, mapping)

    def parse() -> Iterator[list[Parsed]]:
        for item in files.chunks(source, chunk_bytes):
            yield [parser.fault(item)] if isinstance(item, files.Fault) else parser.parse(item)

    return files.ahead(parse, depth=2)


class Parser:
    """Keeps the line number through a file and hands each chunk to its format's reader.

    Attributes:
        line: The number of the next line.
        torn: The beginning of a last line that was cut short by damage.
    """

    def __init__(self, source: Input, fields: Fields, mapping: Mapping) -> None:
        self._source, self._mapping = source, mapping
        self._lines = LineReader(fields)
        self.line = 1
        self.torn: bytes = b""
        self._csv: delimited.DelimitedParser | None = None

    def whole_lines(self, chunk: files.Chunk) -> bytes:
        """Return what of a chunk is surely whole."""
        data = chunk.data
        if self.line == 1:
            data = data.removeprefix(_BOM)
        if chunk.torn and not data.endswith(b"\n"):
            data = self._set_torn_line_aside(data)
        return data

    def parse(self, chunk: files.Chunk) -> list[Parsed]:
        """Return a chunk's records."""
        data = self.whole_lines(chunk)
        if self._source.format == "csv":
            return [self._parse_csv(data, last=chunk.last)]
        first = self.line
        self.line += count_byte(data, b"\n")
        if self._source.format == "lines":
            return [loglines.parse_log(data, first, self._mapping)]
        return self._lines.parse(data, first)

    def fault(self, fault: files.Fault) -> Parsed:
        """Return the bad line that stands for damage at this point."""
        return Parsed(
            pl.DataFrame(),
            pl.Series(dtype=pl.Int64),
            [],
            [(self.place(fault), jsonl.shown(fault.value or self.torn), fault.reason)],
        )

    def place(self, fault: files.Fault) -> int:
        """Return the number of the line at which there is damage, and go on after it."""
        line = self._csv.next_line if self._csv else self.line
        if fault.line_lost:
            self.line += 1
            if self._csv:
                self._csv.next_line += 1
        return line

    def _set_torn_line_aside(self, data: bytes) -> bytes:
        """A line cut short by damage counts only if it is whole beyond doubt: a closed JSON object is, a CSV line never."""
        cut = data.rfind(b"\n") + 1
        tail = data[cut:]
        if self._source.format == "jsonl" and isinstance(jsonl.parse_line(tail.strip()), dict):
            return data + b"\n"
        self.torn = tail
        return data[:cut]

    def _parse_csv(self, data: bytes, *, last: bool) -> Parsed:
        if self._csv is None:
            separator = separator_of(self._source, self._mapping)
            header, _, data = data.partition(b"\n")
            self._csv = delimited.DelimitedParser(delimited.read_header(header, separator), separator)
        return self._csv.parse(data, last=last)


def fields_of(kinds: dict[str, str], sampled: dict[str, str], plan: Plan) -> Fields:
    """Return the fields of a text source from the kinds they are wanted as, those a sample shows, and the plan."""
    declared = {o.source for o in plan.outputs if o.declared and o.source is not None}
    scalars = {c.name for c in STANDARD.values() if c.kind != "list"}
    strict = frozenset(n for n in declared | scalars if not kinds.get(n, "").startswith("list"))
    loose = {o.source for o in plan.outputs if o.kind == "list" and o.rule.split}
    fast = {name: jsonl_fast.fast_kind(kind, kinds[name]) for name, kind in sampled.items()}
    return Fields(fast, kinds, strict - loose)
