"""Calls the JSON-lines kernel on a chunk and dresses what it wrote as a frame, without copying the text.

Enters: the bytes of a chunk and the kinds of its fields. Leaves: `Parsed` records in line order: the kernel's rows, and
where it handed lines over, theirs too, read by `tocsin.sources.jsonl`. Layer: sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from tocsin.schema import TIME
from tocsin.sources import jsonl
from tocsin.sources import jsonl_kernel as kernel
from tocsin.sources.clean import Parsed
from tocsin.sources.files import count_byte

if TYPE_CHECKING:
    from tocsin.sources.records import Shape

LEAST_BYTES: Final = 1 << 18
"""Below this a chunk is read line by line: starting the kernel costs more than it saves."""

KINDS: Final = {"text": kernel.TEXT, "int": kernel.INT, "float": kernel.FLOAT, "bool": kernel.BOOL, "list": kernel.LIST, "time": kernel.TIME}
"""The kinds of column the kernel can write."""


def parse_chunk(data: bytes, first_line: int, shape: Shape) -> list[Parsed]:
    """Return a chunk's records in line order; equal, row for row, to what `jsonl.parse_lines` gives after cleaning."""
    if len(data) < LEAST_BYTES or not shape.fast or len(data) >= 2**31:
        return [jsonl.parse_lines(data, first_line, shape.kinds, shape.strict)]
    try:
        if not data.isascii():
            data.decode("utf-8")
    except UnicodeDecodeError:
        middle = data.find(b"\n", len(data) // 2) + 1
        if not 0 < middle < len(data):
            return [jsonl.parse_lines(data, first_line, shape.kinds, shape.strict)]
        after = first_line + count_byte(data[:middle], b"\n")
        return parse_chunk(data[:middle], first_line, shape) + parse_chunk(data[middle:], after, shape)
    return [_parse(data, first_line, shape)]


def _parse(data: bytes, first_line: int, shape: Shape) -> Parsed:
    names = list(shape.fast)
    kinds = np.array([KINDS[shape.fast[n]] for n in names], np.int64)
    slots, used = _slots(kinds)
    rows = count_byte(data, b"\n") + 1
    items = count_byte(data, b'"') // 2 + 1 if used["list"] else 0
    keys, key_offsets = _keys(names)
    buffers = _Buffers(
        np.empty((used["text"], rows, 4), np.uint32),
        np.empty(len(data) if b"\\" in data else 0, np.uint8),
        np.empty((used["number"], rows), np.int64),
        np.empty((used["float"], rows), np.float64),
        np.zeros((used["list"], rows + 1), np.int32),
        np.empty((used["list"], items, 4), np.uint32),
        np.empty((len(names), rows), np.uint8),
    )
    line_of, slow = np.empty(rows, np.int64), np.empty((rows, 3), np.int64)
    array = np.frombuffer(data, np.uint8)
    found, slow_rows = kernel.scan(array, keys, key_offsets, kinds, slots, *buffers.arrays(), line_of, slow, *shape.times)
    frame = pl.DataFrame([buffers.column(n, int(k), int(s), i, found, data) for i, (n, k, s) in enumerate(zip(names, kinds, slots, strict=True))])
    lines = pl.Series(line_of[:found] + first_line)
    parsed = Parsed(frame, lines)
    if slow_rows:
        parsed.also = _read_slowly(data, slow[:slow_rows], first_line, shape)
    return parsed


def _slots(kinds: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[np.ndarray[Any, np.dtype[np.int64]], dict[str, int]]:
    """Give each column its row in the arrays of its kind (whole numbers, booleans and times share one array)."""
    room = {kernel.TEXT: "text", kernel.FLOAT: "float", kernel.LIST: "list"}
    used = {"text": 0, "number": 0, "float": 0, "list": 0}
    slots = np.zeros(len(kinds), np.int64)
    for i, kind in enumerate(kinds):
        name = room.get(int(kind), "number")
        slots[i] = used[name]
        used[name] += 1
    return slots, used


def _keys(names: list[str]) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], np.ndarray[Any, np.dtype[np.int64]]]:
    encoded = [n.encode("utf-8") for n in names]
    offsets = np.concatenate([[0], np.cumsum([len(e) for e in encoded])]).astype(np.int64)
    return np.frombuffer(b"".join(encoded) or b"\0", np.uint8), offsets


def _read_slowly(data: bytes, slow: np.ndarray[Any, np.dtype[np.int64]], first_line: int, shape: Shape) -> Parsed:
    parsed = jsonl.parse_lines(b"\n".join(data[a:b] for _, a, b in slow), 0, shape.kinds, shape.strict)
    numbers = pl.Series(slow[:, 0] + first_line)
    parsed.lines = numbers.gather(parsed.lines)
    parsed.bad_lines = [(int(numbers[n]), value, reason) for n, value, reason in parsed.bad_lines]
    return parsed


class _Buffers:
    """The arrays the kernel writes, and how a column is made of them."""

    def __init__(self, views: Any, scratch: Any, numbers: Any, floats: Any, list_offsets: Any, list_views: Any, valid: Any) -> None:
        self._views, self._scratch, self._numbers, self._floats = views, scratch, numbers, floats
        self._list_offsets, self._list_views, self._valid = list_offsets, list_views, valid

    def arrays(self) -> tuple[Any, ...]:
        """Return the arrays in the kernel's order."""
        return (self._views, self._scratch, self._numbers, self._floats, self._list_offsets, self._list_views, self._valid)

    def column(self, name: str, kind: int, slot: int, index: int, rows: int, data: bytes) -> pl.Series:
        """Return a column's first `rows` rows."""
        present = self._valid[index, :rows]
        mask = None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little"))
        if kind == kernel.TEXT:
            array = self._text(self._views[slot, :rows], rows, mask, data)
        elif kind == kernel.LIST:
            offsets = self._list_offsets[slot, : rows + 1]
            items = int(offsets[-1]) if rows else 0
            inner = self._text(self._list_views[slot, :items], items, None, data)
            array = pa.Array.from_buffers(pa.list_(pa.string_view()), rows, [mask, pa.py_buffer(offsets)], children=[inner])
        elif kind == kernel.FLOAT:
            array = pa.Array.from_buffers(pa.float64(), rows, [mask, pa.py_buffer(self._floats[slot, :rows])])
        else:
            array = pa.Array.from_buffers(pa.int64(), rows, [mask, pa.py_buffer(self._numbers[slot, :rows])])
        series = pl.Series(name, array)
        if kind == kernel.BOOL:
            return series.cast(pl.Boolean)
        return series.cast(TIME) if kind == kernel.TIME else series

    def _text(self, views: Any, rows: int, mask: Any, data: bytes) -> Any:
        text = [pa.py_buffer(data), pa.py_buffer(self._scratch)]
        return pa.Array.from_buffers(pa.string_view(), rows, [mask, pa.py_buffer(np.ascontiguousarray(views)), *text])
