"""Slots: one dictionary per kind of entity, from its name to a dense integer.

Enters: the keyed hashes of an entity column and the column itself. Leaves: slot numbers, -1 where the entity is
null; the list of names in slot order. Layer: engine, second stage.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from tocsin.expressions import own_text
from tocsin.hashing import make_room, new_table
from tocsin.kernels.streams import look_up_slots
from tocsin.text_views import present

ROOM = 10_000


class Slots:
    """Entities of one kind; a number, once given, stays."""

    def __init__(self) -> None:
        """Start knowing nobody."""
        self.table, self.n = new_table(), 0
        self._names: list[pl.Series] = []

    def number(self, frame: pl.DataFrame, entity: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the slot of each row's entity."""
        column = frame[entity]
        slot = np.full(frame.height, -1, np.int64)
        fresh = np.empty(frame.height, np.int64)
        known = present(column)
        h1, h2 = frame[f"@h.{entity}1"].to_numpy(), frame[f"@h.{entity}2"].to_numpy()
        row = 0
        while row < frame.height:  # room for a few at a time: most events are of entities known already
            self.table, _ = make_room(self.table, self.n, ROOM)
            before = self.n
            row, self.n = look_up_slots(h1, h2, known, self.table, row, before, before + ROOM, slot, fresh)
            if self.n > before:
                self._names.append(own_text(column.gather(fresh[: self.n - before])))
        return slot

    @property
    def names(self) -> pl.Series:
        """The entities in slot order."""
        if len(self._names) > 1:
            self._names = [pl.concat(self._names)]
        return self._names[0] if self._names else pl.Series([], dtype=pl.String)

    def names_from(self, start: int) -> pl.Series:
        """The entities from slot ``start`` on."""
        pieces, first = [], self.n
        for piece in reversed(self._names):
            if first <= start:
                break
            first -= len(piece)
            pieces.append(piece[max(start - first, 0) :])
        return pl.concat(pieces[::-1]) if pieces else pl.Series([], dtype=pl.String)

    def restore(self, names: pl.Series, table: Any) -> None:
        """Take over a saved dictionary."""
        self.table, self.n, self._names = table, len(names), [names]
