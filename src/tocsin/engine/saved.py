"""Saved state: one Arrow file that holds everything a step carries over.

Enters: a ``State`` and a path. Leaves: an Arrow IPC file, and the state read back, bit for bit. Layer: engine.

Arrays of numbers are their bytes; names, texts and waiting events are Arrow or JSON inside (see ``parts``). The
schema's metadata carries the format version and a hash of the rules and time settings, and each row a checksum, so that
a state of other rules or a damaged one is refused, never used.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tocsin.engine.apply import Tally
from tocsin.engine.parts import Assembled, PartsFile, Row, n_rows, write_rows
from tocsin.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from tocsin.engine.core import Engine, State

FORMAT = "tocsin-state"
FORMAT_VERSION = 4
UNREADABLE = (pa.ArrowException, OSError, ValueError, MemoryError, KeyError, IndexError, TypeError)
"""What reading a damaged file may raise."""
_ADVICE = "Remove it and replay from the source, or go back to an older one."


def save_state(state: State, path: str | Path) -> None:
    """Write a state to ``path``; the file appears whole or not at all."""
    path = Path(path)
    rows = list(_rows(state))
    facts = {"format": FORMAT, "version": str(FORMAT_VERSION), "rules": state.rules, "parts": str(n_rows(rows))}
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            write_rows(file, rows, facts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_state(engine: Engine, path: str | Path) -> State:
    """Read a state back for the engine that wrote it (same rules, same time settings)."""
    path = Path(path)
    try:
        parts = _read(path, engine)
        waiting = [parts["waiting"]] if "waiting" in parts else []
        return state_of(engine, parts, {e: parts[names_of(e)] for e in engine.plan.entities}, waiting)
    except UNREADABLE as error:
        raise StateError(f"{path}: not a readable state file ({error}). {_ADVICE}") from error


def _rows(state: State) -> Iterator[Row]:
    yield Row.other("facts", facts_of(state))
    if state.arrival.waiting is not None:
        yield Row.other("waiting", state.arrival.waiting)
    for entity, slots in state.slots.items():
        yield Row.other(names_of(entity), slots.names.alias("name").to_frame())
    for name, array in arrays_of(state):
        yield Row.other(name, array) if array.dtype == object else Row.array(name, array)


def names_of(entity: str) -> str:
    """Return the name of the part that holds the names of one kind of entity."""
    return f"slots/{entity}/names"


def facts_of(state: State) -> dict[str, Any]:
    """Return what a state knows beside its arrays, names and waiting events."""
    tallies = {k: dict(vars(v)) for k, v in state.tallies.items()}
    arrival = state.arrival
    return {"partitions": arrival.partitions, "frontier": arrival.frontier, "counts": state.counts, "tallies": tallies}


def arrays_of(state: State) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield every array of a state by name; those of texts are object arrays."""
    arrival = state.arrival
    yield from (("clock", arrival.clock), ("idle", arrival.idle), ("ids", arrival.ids.kept))
    for entity, slots in state.slots.items():
        yield f"slots/{entity}/table", slots.table
    for group, parts in (("running", state.running), ("firing", state.firing)):
        for key, part in parts.items():
            for name, array in part.arrays().items():
                yield f"{group}/{key}/{name}", array


def state_of(engine: Engine, parts: Mapping[str, Any], names: Mapping[str, Any], waiting: list[Any]) -> State:
    """Return the state made of parts. Their arrays become the state's own: nobody else may hold them.

    ``names``: the frame of names of each kind of entity. ``waiting``: frames of events that wait.
    """
    state = engine.new_state()
    arrival, facts = state.arrival, parts["facts"]
    arrival.partitions, arrival.frontier = facts["partitions"], facts["frontier"]
    arrival.clock, arrival.idle = parts["clock"], parts["idle"]
    arrival.ids.restore(parts["ids"])
    arrival.wait(waiting)
    state.counts = facts["counts"]
    state.tallies = {k: Tally(**v) for k, v in facts["tallies"].items()}
    for entity, slots in state.slots.items():
        slots.restore(names[entity]["name"], parts[f"slots/{entity}/table"])
    for group, restored in (("running", state.running), ("firing", state.firing)):
        for key, part in restored.items():
            prefix = f"{group}/{key}/"
            part.restore({n.removeprefix(prefix): x for n, x in parts.items() if n.startswith(prefix)})
    return state


def _read(path: Path, engine: Engine) -> dict[str, Any]:
    file = PartsFile(path)
    if file.facts.get("format") != FORMAT or file.facts.get("version") != str(FORMAT_VERSION):
        found = f"state format {file.facts.get('format')} {file.facts.get('version')}"
        raise StateError(f"{path}: {found}, this version reads {FORMAT} {FORMAT_VERSION}. {_ADVICE}")
    if file.facts.get("parts") != str(file.n):
        raise StateError(f"{path}: the state file is damaged (parts are missing). {_ADVICE}")
    if file.facts.get("rules") != engine.rules:
        raise StateError(
            f"{path}: written by other rules, time settings or another key. Load it with those that wrote it, or replay from the source."
        )
    try:
        parts = Assembled([file], check=True)
        return {name: parts.get(name) for name in parts.names()}
    except StateError as error:
        raise StateError(f"{path}: {error}. {_ADVICE}") from error
