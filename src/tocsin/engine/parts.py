"""Parts: what a state consists of, as rows of an Arrow file, whole or only the blocks that changed.

Enters: named arrays, texts, frames and facts. Leaves: an Arrow IPC file, and the parts read back, bit for bit, perhaps
from a file and those that changed it after. Layer: engine.

A file has one row for each part, several for a large one: ``name``, ``dtype``, ``shape`` (of the whole part), ``start``
(the byte of an array at which ``data`` belongs; null: it belongs to the blocks numbered in ``blocks``), ``check``,
``data``. The dtype is that of a NumPy array, or one of

- ``json``: facts; the row replaces what was there;
- ``frame``: a frame as an Arrow file inside; it never changes;
- ``tail``: a frame whose rows follow those of the files before; the shape says from which row to which;
- ``texts``: a JSON list, all texts of an object array or those at the places numbered in ``blocks``.
"""

from __future__ import annotations

import io
import json
import mmap
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from tocsin.errors import StateError
from tocsin.kernels.blocks import BLOCK_BYTES, as_bytes, digest_of, n_blocks, scatter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import IO

    from numpy.typing import NDArray

    from tocsin.kernels.blocks import Bytes, Numbers

    Form = tuple[str, tuple[int, ...]]

CHUNK_BLOCKS = 1 << 16
"""Blocks to a row: 4 MiB, so that no more than that is compressed or checked at once."""
SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("dtype", pa.string()),
        ("shape", pa.list_(pa.int64())),
        ("start", pa.int64()),
        ("check", pa.uint64()),
        ("blocks", pa.large_binary()),
        ("data", pa.large_binary()),
    ]
)
_FORM = [SCHEMA.get_field_index(name) for name in ("name", "dtype", "shape", "start")]


@dataclass(frozen=True)
class Row:
    """A part, or some of it. ``data``: bytes of an array; for the other kinds the facts, the frame or the list of texts."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Any
    start: int | None = 0
    blocks: Numbers | None = None

    @classmethod
    def array(cls, name: str, x: NDArray[Any], data: Bytes | None = None, blocks: Numbers | None = None) -> Row:
        """Return an array as a row: all of it, or some gathered blocks."""
        if blocks is None:
            return cls(name, x.dtype.str, x.shape, as_bytes(x))
        return cls(name, x.dtype.str, x.shape, data, None, blocks)

    @classmethod
    def other(cls, name: str, x: Any) -> Row:
        """Return facts, a frame, or an object array of texts as a row."""
        if isinstance(x, pl.DataFrame):
            return cls(name, "frame", (), x)
        return cls(name, "json", (), x) if isinstance(x, dict) else cls(name, "texts", x.shape, x.reshape(-1).tolist())

    def encoded(self) -> Iterator[Row]:
        """Yield the row with its data as bytes, cut so that none is large."""
        if self.dtype in {"frame", "tail"}:
            sink = io.BytesIO()
            self.data.write_ipc(sink)
            yield self._with(np.frombuffer(sink.getbuffer(), np.uint8))
        elif self.dtype in {"json", "texts"}:
            yield self._with(np.frombuffer(json.dumps(self.data).encode(), np.uint8))
        else:
            yield from self._chunks()

    def _with(self, data: Bytes) -> Row:
        return Row(self.name, self.dtype, self.shape, data, self.start, self.blocks)

    def _chunks(self) -> Iterator[Row]:
        step = CHUNK_BLOCKS * BLOCK_BYTES
        for at in range(0, max(self.data.size, 1), step):
            data = self.data[at : at + step]
            if self.blocks is None:
                yield Row(self.name, self.dtype, self.shape, data, at)
            else:
                first = at // BLOCK_BYTES
                yield Row(self.name, self.dtype, self.shape, data, None, self.blocks[first : first + CHUNK_BLOCKS])

    def check(self) -> int:
        """Return a checksum of an encoded row: of its bytes, and of its name and form, which say how they are read."""
        form = repr((self.name, self.dtype, tuple(self.shape), self.start)).encode()
        blocks = digest_of(as_bytes(self.blocks)) if self.blocks is not None else 0
        return digest_of(np.asarray(self.data)) ^ blocks ^ zlib.crc32(form)

    def batch(self, schema: pa.Schema) -> pa.RecordBatch:
        """Return an encoded row as a record batch; its bytes are not copied."""
        small = [[self.name], [self.dtype], [list(self.shape)], [self.start], [self.check()]]
        columns = [pa.array(x, schema.field(i).type) for i, x in enumerate(small)]
        blocks = pa.nulls(1, pa.large_binary()) if self.blocks is None else _one(as_bytes(self.blocks))
        return pa.record_batch([*columns, blocks, _one(self.data)], schema=schema)


def _one(data: Bytes) -> pa.Array:
    ends = pa.py_buffer(np.array([0, data.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(data)])


def write_rows(file: IO[bytes], rows: Iterable[Row], facts: Mapping[str, str]) -> None:
    """Write rows as an Arrow file, one record batch each, compressed. ``facts``: the metadata of its schema."""
    schema = SCHEMA.with_metadata(dict(facts))
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_file(file, schema, options=options) as writer:
        for row in rows:
            for encoded in row.encoded():
                writer.write_batch(encoded.batch(schema))


def n_rows(rows: Iterable[Row]) -> int:
    """Return how many rows ``write_rows`` makes of these."""
    arrays = (r.data.size if isinstance(r.data, np.ndarray) else 1 for r in rows)
    return sum(max(1, -(-size // (CHUNK_BLOCKS * BLOCK_BYTES))) for size in arrays)


class PartsFile:
    """A file of rows, opened. Several threads may read from it, each its own row.

    Raises:
        pa.ArrowException, OSError, ValueError, MemoryError: It is no such file.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._buffer = pa.py_buffer(self.bytes)
        reader = pa.ipc.open_file(self._buffer)
        self._schema = reader.schema
        self.facts = {k.decode(): v.decode() for k, v in (reader.schema.metadata or {}).items()}
        self.n = reader.num_record_batches

    def forms(self) -> list[Row]:
        """Return the rows without their data."""
        if not self._schema.equals(SCHEMA):
            raise ValueError("its columns are not those of saved parts")
        reader = pa.ipc.open_file(self._buffer, options=pa.ipc.IpcReadOptions(included_fields=_FORM))
        table = reader.read_all()
        table.validate(full=True)
        if table.num_rows != self.n or any(c.null_count for c in table.columns[:3]):
            raise ValueError("rows are missing")
        return [
            Row(name, dtype, tuple(shape), None, start)
            for name, dtype, shape, start in zip(*(c.to_pylist() for c in table.columns), strict=True)
        ]

    def row(self, i: int) -> tuple[Row, int]:
        """Return one row, its data as bytes, and the checksum that was written with it."""
        batch = pa.ipc.open_file(self._buffer).get_batch(i)
        batch.validate(full=True)
        name, dtype, shape, start, check = (batch.column(c)[0].as_py() for c in range(5))
        blocks, data = (_bytes(batch.column(c)) for c in (5, 6))
        if data is None or (start is None) != (blocks is not None):
            raise ValueError(f"the row {i} is not whole")
        numbers = None if blocks is None else blocks.view(np.uint32)
        return Row(name, dtype, tuple(shape), data, start, numbers), check


def _bytes(column: pa.Array) -> Bytes | None:
    value = column[0].as_buffer() if column[0].is_valid else None
    return None if value is None else np.frombuffer(value, np.uint8)


class PartsHeld:
    """Rows in memory, to be read like those of a file."""

    def __init__(self, rows: Iterable[Row]) -> None:
        """Encode them."""
        self._rows = [encoded for row in rows for encoded in row.encoded()]

    def forms(self) -> list[Row]:
        """Return the rows."""
        return self._rows

    def row(self, i: int) -> tuple[Row, int]:
        """Return one row, and its checksum."""
        return self._rows[i], self._rows[i].check()


class Assembled:
    """The parts of several files, each of which changes what the ones before hold."""

    def __init__(self, files: Sequence[PartsFile | PartsHeld], *, check: bool = False) -> None:
        """Look which part lies in which rows. ``check``: compare each row's checksum; without, the files were checked."""
        self._files, self._check = files, check
        self._rows: dict[str, list[tuple[int, int]]] = {}
        self._forms: dict[str, Form] = {}
        for f, file in enumerate(files):
            for i, row in enumerate(file.forms()):
                if row.start == 0 and not (row.dtype == "tail" and row.shape[0]):
                    self._rows[row.name] = []  # what was there before is of no matter any more
                self._rows[row.name].append((f, i))
                self._forms[row.name] = row.dtype, row.shape

    def names(self) -> list[str]:
        """The names of the parts, the largest first."""
        return sorted(self._rows, key=lambda name: (-self._size(name), name))

    def n_blocks(self, name: str) -> int:
        """Return how large a part is: the blocks of an array, nothing for other kinds."""
        return n_blocks(self._size(name))

    def _size(self, name: str) -> int:
        dtype, shape = self._forms[name]
        return 0 if dtype in _LOADERS else int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize

    def whole(self, name: str) -> Row:
        """Return a part as one row."""
        x = self.get(name)
        if self._forms[name][0] == "tail":
            return Row(name, "tail", (0, x.height), x)
        return Row.array(name, x) if isinstance(x, np.ndarray) and x.dtype != object else Row.other(name, x)

    def get(self, name: str) -> Any:
        """Return a part: an array that owns its memory, an object array of texts, a frame, or facts.

        Raises:
            StateError: The checksum of a row is not that of its data.
        """
        rows = []
        for f, i in self._rows[name]:
            row, check = self._files[f].row(i)
            if self._check and row.check() != check:
                raise StateError(f"the part {name} is damaged (checksum)")
            rows.append(row)
        dtype, shape = self._forms[name]
        return _LOADERS[dtype](rows) if dtype in _LOADERS else self._array(name, rows, dtype, shape)

    def _array(self, name: str, rows: list[Row], dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        size = self._size(name)
        room = np.empty(n_blocks(size) * BLOCK_BYTES, np.uint8)
        for row in rows:
            if row.blocks is None:
                data = row.data[: max(size - (row.start or 0), 0)]
                room[row.start : (row.start or 0) + data.size] = data
            else:
                scatter(room, row.blocks, row.data)
        return room[:size].view(dtype).reshape(shape)


def _texts(rows: list[Row]) -> NDArray[Any]:
    flat = np.full(int(np.prod(rows[-1].shape)), None, object)
    for row in rows:
        flat[slice(None) if row.blocks is None else row.blocks] = json.loads(row.data.tobytes())
    return flat.reshape(rows[-1].shape)


def _tail(rows: list[Row]) -> pl.DataFrame:
    ends = [0, *(row.shape[1] for row in rows)]
    if [row.shape[0] for row in rows] != ends[:-1]:
        raise ValueError(f"the rows of {rows[0].name} do not follow each other")
    return pl.concat([pl.read_ipc(io.BytesIO(row.data)) for row in rows])


_LOADERS = {
    "json": lambda rows: json.loads(rows[-1].data.tobytes()),
    "frame": lambda rows: pl.read_ipc(io.BytesIO(rows[-1].data)),
    "tail": _tail,
    "texts": _texts,
}
