"""The fast reading of JSON lines: Arrow's strict reader on whole chunks, cut in half around whatever it refuses.

Enters: the bytes of a chunk and the kinds of its fields. Leaves: `Parsed` records in line order. Arrow is told every
type, so a value of another one is an error, never a silent null; a chunk with an error is halved until the part around
it is small, and that part is read by `tocsin.sources.jsonl`, line by line. Layer: sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.json as arrow_json

from tocsin.sources import jsonl
from tocsin.sources.clean import Parsed
from tocsin.sources.counting import count_byte

if TYPE_CHECKING:
    from tocsin.sources.records import Shape

SMALL_BYTES: Final = 1 << 14
_NEWLINE, _OPEN, _CLOSE, _RETURN = b"\n{}\r"

ARROW_TYPES: Final = {
    "text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "list": pa.list_(pa.string()),
    "list_empty": pa.list_(pa.string()), "list_int": pa.list_(pa.int64()), "list_float": pa.list_(pa.float64()),
}  # fmt: skip


def fast_kind(sampled: str, wanted: str) -> str | None:
    """Return the kind Arrow should read a field as, None where its values would be spelled otherwise than by the slow reading.

    >>> fast_kind("int", "text"), fast_kind("int", "float"), fast_kind("float", "text")
    ('int', 'float', None)
    """
    if sampled.startswith("list") != wanted.startswith("list"):
        return None
    if sampled == "float":
        return "float" if wanted == "float" else None
    if sampled == "int" and wanted == "float":
        return "float"
    return sampled


def parse_chunk(data: bytes, first_line: int, shape: Shape) -> list[Parsed]:
    """Return a chunk's records in line order; after cleaning they equal, row for row, those of `jsonl.parse_lines`."""
    if len(data) > SMALL_BYTES and shape.fast:
        whole = _read(data, first_line, shape)
        if whole is not None:
            return [whole]
        middle = data.find(b"\n", len(data) // 2) + 1
        if 0 < middle < len(data):
            after = first_line + count_byte(data[:middle], b"\n")
            return parse_chunk(data[:middle], first_line, shape) + parse_chunk(data[middle:], after, shape)
    return [jsonl.parse_lines(data, first_line, shape.kinds, shape.strict)]


def _read(data: bytes, first_line: int, shape: Shape) -> Parsed | None:
    lines = _one_object_a_line(data)
    if lines == 0:
        return None
    schema = pa.schema([(name, ARROW_TYPES[kind]) for name, kind in shape.fast.items()])
    try:
        if not data.isascii():
            data.decode("utf-8")
        table = arrow_json.read_json(
            pa.BufferReader(data),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
        )
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    if table.num_rows != lines:
        return None
    frame = pl.DataFrame(table)
    if any(not frame[n].is_finite().all() for n, kind in shape.fast.items() if kind == "float"):
        return None  # NaN, which is no JSON
    return Parsed(frame, pl.int_range(first_line, first_line + lines, eager=True, dtype=pl.Int64))


def _one_object_a_line(data: bytes) -> int:
    """Return the number of lines if every newline stands between two objects (0 otherwise): Arrow itself does not mind lines."""
    if data[0] != _OPEN or b"\0" in data:
        return 0
    body = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(body == _NEWLINE)
    if not data.endswith(b"\n"):
        if body[-1] != _CLOSE:
            return 0
    else:
        ends, body = ends[:-1], body[:-1]
    if len(ends) and ends[-1] + 1 >= len(body):
        return 0
    before, after = body[ends - 1], body[ends + 1] if len(ends) else body[:0]
    if (after != _OPEN).any() or ((before != _CLOSE) & (before != _RETURN)).any():
        return 0
    return len(ends) + 1
