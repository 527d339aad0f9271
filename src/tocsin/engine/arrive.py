"""Arrive: which events count, which are late, and in which order the others are released.

Enters: prepared batches in arrival order, and control records. Leaves: the fate of each event, the clock that late ones
were late against, and released events in (time, event_id) order.
Layer: engine, first stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tocsin.hashing import ORIGIN, make_room, new_table
from tocsin.kernels import arrival as k
from tocsin.kernels.windows import NEVER
from tocsin.running.state import grow

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALL_ROWS = 20_000
"""Below this a batch is joined with what waited before it; above, both are processed one after the other."""


@dataclass(frozen=True)
class Idle:
    """Control record: a partition is silent; it no longer holds the others back. Its next event ends the silence."""

    partition: str = ""


@dataclass(frozen=True)
class End:
    """Control record: the input has ended; everything that waits is released."""


Control = Idle | End


class Arrival:
    """The clocks of the partitions, the remembered ids, and the events that wait for the frontier."""

    def __init__(self, lateness: int, skew: int, horizon: int) -> None:
        """Durations in microseconds."""
        self.lateness, self.skew, self.horizon = lateness, skew, max(horizon, lateness)
        self.partitions: dict[str, int] = {}
        self.clock, self.idle = np.full(0, NEVER), np.zeros(0, np.bool_)
        self.frontier = int(NEVER)
        self.table, self.used = new_table(), 0
        self.waiting: pl.DataFrame | None = None
        self._spare: Any = None

    def control(self, record: Control) -> list[pl.DataFrame]:
        """Apply a control record and release what it sets free."""
        if isinstance(record, End):
            waiting, self.waiting = self.waiting, None
            return [] if waiting is None or waiting.is_empty() else [waiting]
        if record.partition in self.partitions:
            self.idle[self.partitions[record.partition]] = True
            low = k.lowest_clock(self.clock, self.idle)
            if low != NEVER:
                self.frontier = max(self.frontier, int(low) - self.lateness)
        return self.release(None)

    def judge(self, frame: pl.DataFrame) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        """Return the fate of each event, in arrival order, and the clock that late ones were late against."""
        n = frame.height
        oldest = int(ORIGIN) + self.frontier + self.lateness - self.horizon if self.frontier != NEVER else 0
        before = self.table
        self.table, self.used = make_room(self.table, self.used, n, oldest, pairs=True, spare=self._spare)
        if self.table is not before:
            self._spare = before
        fate, floor = np.zeros(n, np.int8), np.zeros(n, np.int64)
        received = frame["@received"].to_numpy() if "@received" in frame.columns else np.full(n, NEVER)
        ids = np.column_stack([frame["@id1"].to_numpy(), frame["@id2"].to_numpy()])
        frontier, new, _ = k.judge(
            frame["@t"].to_numpy(), self._partition_numbers(frame), received, ids, frame["@content"].to_numpy(), self.lateness, self.skew,
            self.horizon, self.clock, self.idle, self.frontier, self.table, fate, floor,
        )  # fmt: skip
        self.frontier = int(frontier)
        self.used += new
        return fate, floor

    def _partition_numbers(self, frame: pl.DataFrame) -> NDArray[np.int64]:
        if "partition" not in frame.columns:
            self._number("")
            return np.zeros(frame.height, np.int64) + self.partitions[""]
        column = frame["partition"].fill_null("")
        distinct = column.unique(maintain_order=True).to_list()
        for name in distinct:
            self._number(name)
        numbers = column.replace_strict(distinct, [self.partitions[x] for x in distinct], return_dtype=pl.Int64)
        return np.ascontiguousarray(numbers.to_numpy())

    def _number(self, name: str) -> None:
        self.partitions.setdefault(name, len(self.partitions))
        self.clock = grow(self.clock, len(self.partitions), NEVER)
        self.idle = grow(self.idle, len(self.partitions), fill=False)

    def release(self, fresh: pl.DataFrame | None) -> list[pl.DataFrame]:
        """Return the frames that the frontier has passed, each sorted, the earlier first."""
        parts = [p for p in (self.waiting, fresh) if p is not None and not p.is_empty()]
        if len(parts) == 2 and not self._follows(*parts):  # noqa: PLR2004 - waiting and fresh
            parts = [pl.concat(parts, rechunk=True)]
        released, kept = [], []
        for part in (in_order(p) for p in parts):
            cut = int(np.searchsorted(part["@t"].to_numpy(), self.frontier, "left"))
            released.append(part[:cut])
            kept.append(part[cut:])
        kept = [p for p in kept if not p.is_empty()]
        self.waiting = pl.concat(kept, rechunk=True) if kept else None
        return [p for p in released if not p.is_empty()]

    @staticmethod
    def _follows(waiting: pl.DataFrame, fresh: pl.DataFrame) -> bool:
        """Whether all that is fresh comes after all that waits, and is worth its own pass."""
        t: Any = fresh["@t"].to_numpy()
        return fresh.height > SMALL_ROWS and int(waiting["@t"][-1]) < int(t.min())


def in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame in (time, event_id, source) order, untouched where it already is."""
    t = frame["@t"].to_numpy()
    step = np.diff(t)
    by = ["@t", "event_id", *(["source"] if "source" in frame.columns else [])]
    if (step < 0).any():
        return frame.sort(by)
    ties = np.flatnonzero(step == 0)
    if not ties.size:
        return frame
    if len(by) == 2 and (frame["event_id"].gather(ties) <= frame["event_id"].gather(ties + 1)).all():  # noqa: PLR2004
        return frame
    tied = np.zeros(frame.height, np.bool_)
    tied[ties] = tied[ties + 1] = True
    order = np.arange(frame.height)
    places = np.flatnonzero(tied)
    group = frame.select(by).with_columns(pl.Series("@row", order))[places]
    order[places] = group.sort(by)["@row"].to_numpy()
    return frame[order]
