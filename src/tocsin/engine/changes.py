"""Changes: what of a state is not as it was when it was last taken.

Enters: a state, again and again. Leaves: rows that hold what changed since the time before, and the digest of every
array, by which whoever puts the rows together again can prove the result. Layer: engine.

Arrays are compared block by block (see ``kernels.blocks``), so no measure has to say what it touched. Names of entities
are only ever added: their tail is taken. Events that wait do not change either: they are taken once, as a group, and the
frontier says later which of a group still wait. Of texts, the addresses of the objects are compared.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_left
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.engine.parts import Row
from tocsin.engine.saved import arrays_of, facts_of, names_of, state_of
from tocsin.engine.workers import beside
from tocsin.kernels.blocks import BLOCK_BYTES, NO_HASHES, as_bytes, compare, gather

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tocsin.engine.arrive import Arrival
    from tocsin.engine.core import Engine, State
    from tocsin.engine.slots import Slots
    from tocsin.kernels.blocks import Hashes

    Parts = dict[str, int | None]

WAITING = "waiting/"


class Changes:
    """What a state was when it was last taken: hashes, texts, how many names, which groups of waiting events."""

    def __init__(self) -> None:
        """Start with nothing taken, so that everything has changed."""
        self._arrays: dict[str, tuple[tuple[str, tuple[int, ...]], Hashes]] = {}
        self._texts: dict[str, NDArray[Any]] = {}
        self._names: dict[str, tuple[Slots, int]] = {}
        self._arrival: Arrival | None = None
        self._groups: dict[str, tuple[int, int]] = {}

    def take(self, state: State, number: int, *, copy: bool) -> tuple[list[Row], Parts]:
        """Return what changed, and all parts of the state with the digests of the arrays.

        ``number`` names what is new among the waiting events. ``copy=False``: rows may share memory with the state, and
        have to be written before it goes on.
        """
        rows = [Row.other("facts", deepcopy(facts_of(state)))]
        parts: Parts = {"facts": None}
        arrays = dict(arrays_of(state))
        numeric = {name: x for name, x in arrays.items() if x.dtype != object}
        largest_first = sorted(numeric, key=lambda name: -numeric[name].nbytes)
        taken = {
            n: beside(numeric[n].nbytes // BLOCK_BYTES, partial(self._array, n, numeric[n], copy))
            for n in largest_first
        }
        for name, x in arrays.items():
            row, parts[name] = taken[name]() if name in taken else (self._text(name, x), None)
            rows += [row] if row is not None else []
        for row in (*self._tails(state), *self._waiting(state.arrival, number)):
            rows.append(row)
            parts[row.name] = None
        self._forget(parts)
        return rows, parts | dict.fromkeys(self._groups) | {names_of(e): None for e in state.slots}

    def _array(self, name: str, x: NDArray[Any], copy: bool) -> tuple[Row | None, int]:
        form, data = (x.dtype.str, x.shape), as_bytes(x)
        before, known = self._arrays.get(name, (None, NO_HASHES))
        hashes, blocks, digest = compare(data, known)
        self._arrays[name] = form, hashes
        if before is None or blocks.size == hashes.size > 0:
            return Row.array(name, x.copy() if copy else x), digest
        if not blocks.size and form == before:
            return None, digest
        return Row.array(name, x, gather(data, blocks), blocks), digest

    def _text(self, name: str, x: NDArray[Any]) -> Row | None:
        before = self._texts.get(name)
        if before is None or before.shape != x.shape:
            self._texts[name] = x.copy()
            return Row.other(name, x)
        places = np.flatnonzero(_addresses(before) != _addresses(x)).astype(np.uint32)
        if not places.size:
            return None
        now = x.reshape(-1)[places]
        before.reshape(-1)[places] = now
        return Row(name, "texts", x.shape, now.tolist(), None, places)

    def _tails(self, state: State) -> list[Row]:
        rows = []
        for entity, slots in state.slots.items():
            known, n = self._names.get(entity, (None, 0))
            start = n if known is slots else 0
            if slots.n > start or known is not slots:
                tail = slots.names_from(start).alias("name").to_frame()
                rows.append(Row(names_of(entity), "tail", (start, slots.n), tail))
            self._names[entity] = slots, slots.n
        return rows

    def _waiting(self, arrival: Arrival, number: int) -> list[Row]:
        if arrival is not self._arrival:
            self._arrival, self._groups = arrival, {}
        serials = [p.serial for p in arrival.pieces]  # in the order they came
        self._groups = {name: (low, high) for name, (low, high) in self._groups.items() if _any_in(serials, low, high)}
        taken = max((high for _, high in self._groups.values()), default=0)
        new = [p for p in arrival.pieces if p.serial > taken]
        if not new:
            return []
        name = f"{WAITING}{number}"
        self._groups[name] = new[0].serial, new[-1].serial
        return [Row(name, "frame", (), pl.concat([p.frame for p in new]))]

    def _forget(self, parts: Parts) -> None:
        """Forget the arrays that the state has no more."""
        self._arrays = {name: x for name, x in self._arrays.items() if name in parts}
        self._texts = {name: x for name, x in self._texts.items() if name in parts}

    @classmethod
    def restored(cls, engine: Engine, parts: Mapping[str, Any], hashes: Mapping[str, Hashes]) -> tuple[State, Changes]:
        """Return the state made of parts that were put together again, and what will have changed after: nothing yet."""
        groups = sorted(
            (name for name in parts if name.startswith(WAITING)), key=lambda n: int(n.removeprefix(WAITING))
        )
        frontier = parts["facts"]["frontier"]
        frames = {name: parts[name].filter(pl.col("@t") >= frontier) for name in groups}
        frames = {name: frame for name, frame in frames.items() if not frame.is_empty()}
        self = cls()
        for name, x in parts.items():
            if name in hashes:
                self._arrays[name] = (x.dtype.str, x.shape), hashes[name]
            elif isinstance(x, np.ndarray):
                self._texts[name] = x.copy()
        state = state_of(engine, parts, {e: parts[names_of(e)] for e in engine.plan.entities}, list(frames.values()))
        self._names = {entity: (slots, slots.n) for entity, slots in state.slots.items()}
        self._arrival = state.arrival
        self._groups = {n: (p.serial, p.serial) for n, p in zip(frames, state.arrival.pieces, strict=True)}
        return state, self


def _addresses(x: NDArray[Any]) -> NDArray[np.uint64]:
    """Return where the objects of an array lie: the same text at the same place is the same text."""
    if not x.size:
        return np.zeros(0, np.uint64)
    return np.ctypeslib.as_array(ctypes.cast(x.ctypes.data, ctypes.POINTER(ctypes.c_uint64)), (x.size,))


def _any_in(ascending: list[int], low: int, high: int) -> bool:
    i = bisect_left(ascending, low)
    return i < len(ascending) and ascending[i] <= high
