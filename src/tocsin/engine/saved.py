"""Saved state: one Arrow file that holds everything a step carries over.

Enters: a ``State`` and a path. Leaves: an Arrow IPC file, and the state read back, bit for bit. Layer: engine.

The file has one row per array: ``name``, ``dtype``, ``shape``, ``data``. Arrays of numbers are their bytes; names,
texts and waiting events are Arrow or JSON inside. The schema's metadata carries the format version and a hash of the rules
and time settings, and each row a checksum, so that a state of other rules or a damaged one is refused, never used.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from tocsin.engine.apply import Tally
from tocsin.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.engine.core import Engine, State

FORMAT = "tocsin-state"
FORMAT_VERSION = 3
_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("dtype", pa.string()),
        ("shape", pa.list_(pa.int64())),
        ("crc", pa.uint32()),
        ("data", pa.large_binary()),
    ]
)


def save_state(state: State, path: str | Path) -> None:
    """Write a state to ``path``; the file appears whole or not at all."""
    path = Path(path)
    rows = [(n, d, s, _checksum(n, d, s, b), b) for n, d, s, b in (_encode(name, x) for name, x in _items(state))]
    columns = [pa.array([r[i] for r in rows], _SCHEMA.field(i).type) for i in range(len(_SCHEMA))]
    facts = {"format": FORMAT, "version": str(FORMAT_VERSION), "rules": state.rules, "parts": str(len(rows))}
    schema = _SCHEMA.with_metadata(facts)
    temporary = path.with_name(path.name + ".part")
    try:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            writer.write_table(pa.table(columns, schema=schema))
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_state(engine: Engine, path: str | Path) -> State:
    """Read a state back for the engine that wrote it (same rules, same time settings)."""
    path = Path(path)
    saved = _read(path, engine)
    state = engine.new_state()
    arrival = state.arrival
    facts = saved["facts"]
    arrival.partitions, arrival.frontier = facts["partitions"], facts["frontier"]
    arrival.clock, arrival.idle = saved["clock"].copy(), saved["idle"].copy()
    arrival.ids.restore(saved["ids"])
    arrival.waiting = saved.get("waiting")
    state.counts = facts["counts"]
    state.tallies = {k: Tally(**v) for k, v in facts["tallies"].items()}
    for entity, slots in state.slots.items():
        slots.restore(saved[f"slots/{entity}/names"]["name"], saved[f"slots/{entity}/table"])
    for group, parts in (("running", state.running), ("firing", state.firing)):
        for key, part in parts.items():
            prefix = f"{group}/{key}/"
            part.restore({n.removeprefix(prefix): x for n, x in saved.items() if n.startswith(prefix)})
    return state


def _items(state: State) -> Iterator[tuple[str, Any]]:
    arrival = state.arrival
    tallies = {k: vars(v) for k, v in state.tallies.items()}
    facts = {
        "partitions": arrival.partitions,
        "frontier": arrival.frontier,
        "counts": state.counts,
        "tallies": tallies,
    }
    yield from (("facts", facts), ("clock", arrival.clock), ("idle", arrival.idle), ("ids", arrival.ids.kept))
    if arrival.waiting is not None:
        yield "waiting", arrival.waiting
    for entity, slots in state.slots.items():
        yield f"slots/{entity}/names", slots.names.alias("name").to_frame()
        yield f"slots/{entity}/table", slots.table
    for group, parts in (("running", state.running), ("firing", state.firing)):
        for key, part in parts.items():
            for name, array in part.arrays().items():
                yield f"{group}/{key}/{name}", array


def _encode(name: str, x: Any) -> tuple[str, str, list[int], bytes]:
    if isinstance(x, pl.DataFrame):
        sink = io.BytesIO()
        x.write_ipc(sink)
        return name, "frame", [], sink.getvalue()
    if isinstance(x, dict) or x.dtype == object:
        return name, "json", [], json.dumps(x if isinstance(x, dict) else x.tolist()).encode()
    return name, x.dtype.str, list(x.shape), np.ascontiguousarray(x).tobytes()


def _decode(dtype: str, shape: list[int], data: bytes) -> Any:
    if dtype == "frame":
        return pl.read_ipc(io.BytesIO(data))
    if dtype == "json":
        value = json.loads(data)
        return np.array(value, object) if isinstance(value, list) else value
    return np.frombuffer(data, np.dtype(dtype)).reshape(shape)


def _checksum(name: str | None, dtype: str | None, shape: list[int] | None, data: bytes | None) -> int:
    """Return a checksum of a part, of its name and form too: they say how its bytes are read."""
    return zlib.crc32(data or b"", zlib.crc32(repr((name, dtype, shape)).encode()))


def _read(path: Path, engine: Engine) -> dict[str, Any]:
    advice = "Remove it and replay from the source, or go back to an older one."
    try:
        with pa.OSFile(str(path), "rb") as source:
            table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)  # offsets that point outside would be followed
        meta = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise StateError(f"{path}: not a readable state file ({error}). {advice}") from error
    if meta.get("format") != FORMAT or meta.get("version") != str(FORMAT_VERSION):
        raise StateError(
            f"{path}: state format {meta.get('format')} {meta.get('version')}, this version reads {FORMAT} {FORMAT_VERSION}. {advice}"
        )
    if table.schema != _SCHEMA or meta.get("parts") != str(table.num_rows):
        raise StateError(f"{path}: the state file is damaged (parts are missing). {advice}")
    if meta.get("rules") != engine.rules:
        raise StateError(
            f"{path}: written by other rules, time settings or another key. Load it with those that wrote it, or replay from the source."
        )
    result = {}
    for name, dtype, shape, crc, data in zip(*(table[c].to_pylist() for c in _SCHEMA.names), strict=True):
        if _checksum(name, dtype, shape, data) != crc:
            raise StateError(f"{path}: the part {name} is damaged (checksum). {advice}")
        result[name] = _decode(dtype, shape, data)
    return result
