"""The fast reading of JSON lines: one compiled pass over the plain lines, the careful reading for each of the others.

Enters: the bytes of a chunk and the kinds of its fields. Leaves: `Parsed` records: the plain lines with typed columns, and
the lines left over as `tocsin.sources.jsonl` reads them. Layer: sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from tocsin.sources import jsonl
from tocsin.sources import jsonl_kernel as kernel
from tocsin.sources.clean import Parsed
from tocsin.sources.counting import count_byte

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

SMALL_BYTES: Final = 1 << 14
_MOST_BYTES: Final = 1 << 30  # of address space for all columns of a chunk; pages that are not written cost nothing
_NEWLINE: Final = 10
_HIGHS: Final = np.uint64(0x8080808080808080)
_KINDS: Final = {
    "text": kernel.TEXT, "int": kernel.INT, "float": kernel.FLOAT, "bool": kernel.BOOL, "list": kernel.LIST,
    "list_int": kernel.NUMBERS, "list_float": kernel.NUMBERS,
}  # fmt: skip


def fast_kind(sampled: str, wanted: str) -> str:
    """Return the kind the fast reading takes a field as: what it is wanted as, save that whole numbers stay numbers for text.

    >>> fast_kind("int", "text"), fast_kind("int", "float"), fast_kind("float", "text"), fast_kind("list_empty", "list")
    ('int', 'float', 'text', 'list')
    """
    if sampled == "int" and wanted == "text":
        return "int"
    return wanted if wanted in _KINDS else "list" if wanted.startswith("list") else "text"


@dataclass(frozen=True)
class Fields:
    """The fields of a source, laid out for the kernel.

    Attributes:
        kinds: The kind each known field is read as in a plain line.
        wanted: The kind each is read as in any other line.
        strict: Fields in which a list or object is wrong rather than text.
    """

    kinds: dict[str, str]
    wanted: dict[str, str]
    strict: frozenset[str]

    @cached_property
    def names(self) -> list[Bytes]:
        """The names as the kernel compares them, with room behind each."""
        return [np.frombuffer(name.encode() + bytes(kernel.SLACK_BYTES), np.uint8) for name in self.kinds]

    @cached_property
    def prefixes(self) -> NDArray[np.int64]:
        """For each field and depth the number of the object that holds it, -1 where the name of one is a field itself."""
        ids: dict[str, int] = {}
        found = np.full((len(self.kinds), kernel.MAX_DEPTH), -1, np.int64)
        for row, name in enumerate(self.kinds):
            parts = name.split(".")
            for depth in range(min(len(parts) - 1, kernel.MAX_DEPTH)):
                prefix = ".".join(parts[: depth + 1])
                if prefix not in self.kinds:
                    found[row, depth] = ids.setdefault(prefix, len(ids))
        return found


class LineReader:
    """Reads the chunks of one file. Its memory is used again for each, and what a chunk holds is copied out of it.

    Up to `small_bytes` the careful reading alone is quicker, unless many chunks follow.
    """

    def __init__(self, fields: Fields, *, small_bytes: int = SMALL_BYTES) -> None:
        self._fields, self.small_bytes = fields, small_bytes
        self._table = np.zeros((len(fields.kinds), kernel.FIELD_FACTS), np.int64)
        self._memory: list[dict[int, NDArray[Any]]] = []
        self._data = self._scratch = np.empty(0, np.uint8)
        self._lines = 0

    def parse(self, data: bytes, first_line: int) -> list[Parsed]:
        """Return a chunk's records, first the plain lines, then the others.

        Together, cleaned and in the order of their lines, they equal those of `jsonl.parse_lines`.
        """
        fields = self._fields
        if len(data) <= self.small_bytes or not fields.kinds:
            return [jsonl.parse_lines(data, first_line, fields.wanted, fields.strict)]
        if len(data) * len(fields.kinds) > _MOST_BYTES:
            middle = data.find(b"\n", len(data) // 2) + 1
            if 0 < middle < len(data):
                after = first_line + count_byte(data[:middle], b"\n")
                return self.parse(data[:middle], first_line) + self.parse(data[middle:], after)
        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)
        plain, left = self._plain(data, ends, first_line)
        starts = np.concatenate([[0], ends + 1])
        if not data.endswith(b"\n"):
            ends, left = np.append(ends, len(data)), np.append(left, len(ends))
        if not len(left) and len(plain.lines):
            return [plain]
        others = [data[starts[n] : ends[n]] for n in left]
        careful = jsonl.parse_numbered(others, (left + first_line).tolist(), fields.wanted, fields.strict)
        return [p for p in (plain, careful) if len(p.lines) or p.bad_lines] or [careful]

    def _plain(self, data: bytes, ends: NDArray[np.int64], first_line: int) -> tuple[Parsed, NDArray[np.int64]]:
        """Return the plain lines as records, and the lines left over, from 0."""
        if len(data) > len(self._data) - kernel.SLACK_BYTES or len(ends) > self._lines:
            self._reserve(len(data) * 5 // 4, len(ends) * 5 // 4)
        self._data[: len(data)] = np.frombuffer(data, np.uint8)  # the kernel reads a little beyond
        self._table[:, [kernel.USED, kernel.ITEMS, kernel.SEEN]] = 0
        for memory in self._memory:
            memory[kernel.PRESENT][:] = 0
        row_lines, left_lines = np.empty(len(ends), np.int64), np.empty(len(ends), np.int64)
        refused = (
            np.uint64(0) if _is_utf8(data) else _HIGHS
        )  # where a byte is wrong, only lines of ASCII are surely plain
        rows, left = kernel.read_lines(
            _address(self._data), ends, refused, _address(self._scratch), self._table,
            self._fields.prefixes, row_lines, left_lines,
        )  # fmt: skip
        frame = pl.DataFrame([self._series(at, name, rows) for at, name in enumerate(self._fields.kinds)])
        return Parsed(frame, pl.Series(row_lines[:rows] + first_line)), left_lines[:left]

    def _reserve(self, size_bytes: int, lines: int) -> None:
        self._lines = lines
        self._data, self._scratch = (np.empty(size_bytes + kernel.SLACK_BYTES, np.uint8) for _ in range(2))
        self._memory = [self._allot(at, name, size_bytes, lines) for at, name in enumerate(self._fields.kinds)]

    def _allot(self, at: int, name: str, size_bytes: int, lines: int) -> dict[int, NDArray[Any]]:
        """Reserve a field's memory and note it in the table; what is not written costs nothing but addresses."""
        code = _KINDS[self._fields.kinds[name]]
        memory: dict[int, NDArray[Any]] = {
            kernel.NAME: self._fields.names[at],
            kernel.PRESENT: np.zeros(lines + 1, np.uint8),
        }
        if code in {kernel.INT, kernel.BOOL}:
            memory[kernel.NUMBERS_AT] = np.zeros(lines, np.int64)
        else:
            items = size_bytes // 2 + 1 if code >= kernel.LIST else lines
            memory[kernel.VIEWS] = np.empty((items, 2), np.uint64)
            memory[kernel.TEXTS] = np.empty(size_bytes + kernel.SLACK_BYTES, np.uint8)
        if code >= kernel.LIST:
            memory[kernel.MISSING] = np.empty(items, np.uint8)
            memory[kernel.OFFSETS] = np.zeros(lines + 1, np.int64)
        for fact, array in memory.items():
            self._table[at, fact] = array.ctypes.data
        self._table[at, kernel.NAME_SIZE], self._table[at, kernel.KIND] = len(name.encode()), code
        return memory

    def _series(self, at: int, name: str, rows: int) -> pl.Series:
        kind, memory = self._fields.kinds[name], self._memory[at]
        present = memory[kernel.PRESENT][:rows]
        if kernel.NUMBERS_AT in memory:
            buffers = [_bits(present), pa.py_buffer(memory[kernel.NUMBERS_AT][:rows].copy())]
            numbers = pl.Series(name, pa.Array.from_buffers(pa.int64(), rows, buffers))
            return numbers.cast(pl.Boolean) if kind == "bool" else numbers
        text = memory[kernel.TEXTS][: self._table[at, kernel.USED]]
        if kernel.OFFSETS not in memory:
            values = _text(memory[kernel.VIEWS][:rows], present, text)
            return (values.cast(pl.Float64) if kind == "float" else values).alias(name)
        count = int(self._table[at, kernel.ITEMS])
        items = _text(memory[kernel.VIEWS][:count], 1 - memory[kernel.MISSING][:count], text)
        if kind != "list":
            items = items.cast(pl.Int64 if kind == "list_int" else pl.Float64, strict=False)
        child = items.to_arrow(compat_level=pl.CompatLevel.newest())
        buffers = [_bits(present), pa.py_buffer(memory[kernel.OFFSETS][: rows + 1].copy())]
        return pl.Series(name, pa.Array.from_buffers(pa.large_list(child.type), rows, buffers, children=[child]))


def _text(views: NDArray[np.uint64], present: Bytes, text: Bytes) -> pl.Series:
    buffers = [_bits(present), pa.py_buffer(views.copy()), pa.py_buffer(text.copy())]
    return pl.Series(pa.Array.from_buffers(pa.string_view(), len(views), buffers))


def _bits(present: Bytes) -> Any:
    return None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little"))


def _address(array: NDArray[Any]) -> np.uint64:
    return np.uint64(array.ctypes.data)


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
